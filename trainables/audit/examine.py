"""The audit as a whole: which checks, in which order, and what each needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trainables.audit.causality import CAUSALITY, causality, trace_all, until_check
from trainables.audit.copies import Source
from trainables.audit.entrance import Entrance, study_panel
from trainables.audit.null import null_market, null_results
from trainables.audit.report import AuditReport, Finding
from trainables.audit.stages import AuditError, FromPanel, trace
from trainables.audit.statistics import alarm, batch, determinism, first_difference
from trainables.contract import Prepared, Trainable
from trainables.market import MarketError, Panel

_UNUSABLE = "unusable"
CHECKS = ("determinism", "entrance", "batch", *CAUSALITY, "null market", "alarm")


def audit(
    trainable: Trainable,
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    configs: Sequence[Mapping[str, Any]],
    *,
    cuts: int = 8,
    seed: int = 0,
    checks: Sequence[str] = CHECKS,
    null_seeds: int = 8,
    null_bars: int | None = None,
    return_metric: str = "total_return",
    until: str | None = None,
) -> AuditReport:
    """Looks for look-ahead in a trainable: changes the future and requires the past to stay, bit for bit.

    Checks, in this order:
        determinism: the same seed twice.
        entrance: `prepare` and `prepare_panel` agree (if not, markets go in through files, so that a leak of loading shows); without
            `prepare_panel`, an unchanged copy of the files, in their own format, gives what they give.
        batch: configurations alone, together, in another order.
        future: all bars after random times are scaled, permuted, cut off, or partly missing.
        next bar: single bars reach every limit, or none; needs a `trace` that shows orders or fills.
        other symbol: the same for one symbol; what the others did in that bar must stay; needs such a `trace`.
        null market: no mean return where nothing can be foreseen, without costs if they can be turned off; see `null`.
        alarm: no Sortino above 10, no 1 % a day there.

    Args:
        trainable: Keeps `trainables.contract.Trainable`. With `trace` (or `equity`) the audit sees inside, see `stages`; with
            `prepare_panel` it is faster.
        data: A study's data section, as for `load_market`.
        settings: A study's settings.
        configs: Configurations, complete or not; at least one, better several different ones that trade.
        cuts: Random times for `future`; six times as many single bars.
        seed: Of times, perturbations and markets, and of the evaluation.
        checks: Which of `CHECKS`.
        null_seeds: Markets without a signal; at least 3.
        null_bars: Their length; the study's own, from 4,320 to 20,000, if not given.
        return_metric: Metric that is the return, a fraction of the initial cash.
        until: For a trainable without stages: the setting (an ISO time, exclusive) that ends its evaluation.

    Returns:
        One finding per check, and notes on what could not be seen.

    Raises:
        AuditError: Arguments that cannot be used.
        TrainableError, MarketError: The study's own data, settings or configurations cannot be used.
    """
    for check in checks:
        if check not in CHECKS:
            raise AuditError(f"checks: {check!r} is unknown; give some of {', '.join(CHECKS)}")
    if not configs or cuts < 1 or null_seeds < 3:
        raise AuditError(f"audit needs a configuration, a cut and three null seeds; got {len(configs)}, {cuts}, {null_seeds}")
    findings: dict[str, Finding] = {}
    notes: list[str] = []
    entrance = Entrance(trainable, settings, tuple(configs), seed, isinstance(trainable, FromPanel))
    prepared = trainable.prepare(data, settings)
    try:
        panel = study_panel(data, own_loading=not entrance.in_memory)
    except MarketError as error:
        notes.append(f"its data is no market that can be changed ({error}); only packs were checked")
        blind = "the data is no market that can be changed"
        findings = {check: batch(entrance, prepared, seed) if check == "batch" else Finding(check, None, detail=blind) for check in checks}
        return AuditReport(trainable.name, tuple(findings[x] for x in CHECKS if x in findings), tuple(notes))
    if panel.n_bars < 3:
        raise AuditError(f"data: {panel.n_bars} rows are too few to cut")
    if "batch" in checks:
        findings["batch"] = batch(entrance, prepared, seed)
    findings["entrance"], entrance = _entrance(entrance, panel, data, prepared)
    if not entrance.in_memory:
        notes.append(f"changed markets were written to files and read by `prepare`: {entrance.describe()}")
    if findings["entrance"].stage == _UNUSABLE:
        why = "it could not run on a copy of the data, see entrance"
        rest = {check: Finding(check, None, detail=why) for check in CHECKS if check not in ("entrance", "batch")}
        findings |= {"entrance": replace(findings["entrance"], stage="")} | rest
        if "entrance" not in checks:
            notes.append(findings["entrance"].detail)
        return AuditReport(trainable.name, tuple(findings[check] for check in CHECKS if check in checks), tuple(notes))
    findings["determinism"] = determinism(entrance, panel)
    blind = trace(trainable, entrance.complete(prepared)[0], entrance.context(prepared)).blind
    wanted = [check for check in CAUSALITY if check in checks]
    if blind:
        notes.append(f"{blind}; {'its metrics, too, say something from outside' if not until else f'and metrics up to settings.{until}'}")
    if findings["determinism"].passed is False:
        findings |= {check: Finding(check, None, detail="two equal runs differ already") for check in wanted}
    elif wanted:
        found, more = causality(entrance, panel, trace_all(entrance, panel), cuts, seed, wanted)
        findings |= {one.check: one for one in found}
        notes += more
        if until is not None and "future" in wanted and findings["future"].passed is not False:
            findings["future"] = until_check(entrance, panel, until, cuts, seed)
    if {"null market", "alarm"} & set(checks):
        findings |= _null(entrance, panel, null_seeds, null_bars, seed, return_metric)
    return AuditReport(trainable.name, tuple(findings[check] for check in CHECKS if check in checks), tuple(notes))


def _null(entrance: Entrance, panel: Panel, seeds: int, bars: int | None, seed: int, metric: str) -> dict[str, Finding]:
    """Makes both findings on markets without a signal."""
    try:
        results = null_results(entrance, panel, seeds, bars, seed)
    except Exception as error:  # somebody else's trainable may not take other bars than its own
        why = f"on the sample market it {entrance.failure(error)}"
        return {check: Finding(check, None, detail=why) for check in ("null market", "alarm")}
    return {"null market": null_market(results, metric), "alarm": alarm(results.frames, metric, results.days)}


def _entrance(entrance: Entrance, panel: Panel, data: Mapping[str, Any], prepared: Prepared) -> tuple[Finding, Entrance]:
    """Compares the two ways in; returns the finding and the way that shows more."""
    metrics = entrance.metrics(prepared)
    through_files = entrance if entrance.in_memory else replace(entrance, source=Source.read(data, panel))
    try:
        with through_files.open(panel) as copy:
            other = entrance.metrics(copy)
    except Exception as error:  # somebody else's loading may expect anything
        return Finding("entrance", None, _UNUSABLE, detail=through_files.failure(error)), through_files
    found = first_difference(metrics, other)
    if entrance.in_memory and found is None:
        return Finding("entrance", True, detail="`prepare` and `prepare_panel` give the same metrics"), entrance
    if entrance.in_memory:
        row, column, a, b = found or (0, "", 0.0, 0.0)
        why = f"configuration {row} gives {a!r} through `prepare` and {b!r} through `prepare_panel`: what does loading add?"
        other_way = replace(entrance, in_memory=False, source=Source.read(data, panel))
        return Finding("entrance", False, "metrics", column, detail=why), other_way
    # A copy's numbers may be read with another last digit.
    if found is not None and not (metrics.shape == other.shape and np.allclose(metrics, other, rtol=1e-9, equal_nan=True)):
        row, column, a, b = found
        why = f"configuration {row} gives {a!r} with the data and {b!r} with an unchanged copy: what but its bars does `prepare` read?"
        return Finding("entrance", None, "metrics", column, detail=why), through_files
    return Finding("entrance", True, detail="only `prepare`; an unchanged copy of the data gives the same metrics"), through_files

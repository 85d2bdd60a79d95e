"""The perturbation checks: another future, the same past (SPEC J, generic test)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from trainables.audit.entrance import Entrance
from trainables.audit.moves import Comparison, Move, compare
from trainables.audit.perturb import FIELDS, FUTURE, perturb, reach
from trainables.audit.report import Finding
from trainables.audit.stages import Stage, trace
from trainables.market import Panel

CAUSALITY = ("future", "next bar", "other symbol")
_QUESTION = {
    "future": "all bars after random times replaced, permuted, cut off or partly removed",
    "next bar": "single bars widened until every limit is reached, or held still",
    "other symbol": "one symbol's bar widened or held still, the others untouched",
}
_DONE = {"scaled": "replaced", "permuted": "permuted", "removed": "cut off", "missing": "partly removed"}
Traces = Sequence[Sequence[Stage]]


@dataclass(frozen=True)
class Case:
    """One perturbation: what was changed from which row on, and only for which symbol (None: all)."""

    check: str
    kind: str
    row: int
    symbol: int | None = None


def trace_all(entrance: Entrance, panel: Panel) -> Traces:
    """Prepares a panel and traces every configuration."""
    with entrance.open(panel) as prepared:
        ctx = entrance.context(prepared)
        return [trace(entrance.trainable, config, ctx).stages for config in entrance.complete(prepared)]


def causality(
    entrance: Entrance, panel: Panel, base: Traces, cuts: int, seed: int, checks: Sequence[str], first: int = 1
) -> tuple[list[Finding], list[str]]:
    """Perturbs the panel in many ways and compares every stage.

    Args:
        entrance: Prepares panels.
        panel: The study's market.
        base: Its traces, one per configuration.
        cuts: Random times; single bars are tried at six times as many, where something was traded if possible.
        seed: Of the times and of the perturbations.
        checks: Which of `CAUSALITY`.
        first: First row that may be changed; before it, nothing is decided.

    Returns:
        (one finding per check, notes).
    """
    outcomes: dict[str, list[tuple[Case, Comparison]]] = {check: [] for check in checks}
    notes: dict[str, None] = {}
    failed: dict[str, list[str]] = {check: [] for check in checks}
    tried = dict.fromkeys(checks, 0)
    for case in _cases(panel, base, cuts, seed, checks, first):
        tried[case.check] += 1
        try:
            outcomes[case.check] += [(case, found) for found in _run(entrance, panel, base, case, seed)]
        except Exception as error:  # fewer rows than the settings ask for; and somebody else's code may fail in any way
            failed[case.check].append(f"{case.kind} from {_stamp(panel.times[case.row])}: {entrance.failure(error)}")
    findings = [
        _finding(check, found, panel, entrance, base, seed) if found else Finding(check, None, detail=failed[check][0])
        for check, found in outcomes.items()
    ]
    for check, why in failed.items():
        if why and outcomes[check]:
            notes[f"{check}: {len(why)} of {tried[check]} changed markets could not be evaluated; the first, {why[0]}"] = None
    for check, found in outcomes.items():
        for name in dict.fromkeys(name for _, one in found for name in one.uncomparable):
            notes[f"{check}: stage {name} sometimes began at another time and was not compared then"] = None
    return findings, list(notes)


def _cases(panel: Panel, base: Traces, cuts: int, seed: int, checks: Sequence[str], first: int = 1) -> Iterable[Case]:
    rng = np.random.default_rng([seed, 1])
    last = panel.n_bars - 1
    if "future" in checks:
        # One time per stratum: leaks of the first rows (warm-up) and of the last are looked for as well.
        edges = np.linspace(first, last, cuts + 1)
        for i, (low, high) in enumerate(itertools.pairwise(edges)):
            row = min(max(int(rng.uniform(low, high)), first), last)
            if i % 2:  # within a session if there are any: most of the clock's hours are nights and weekends
                rows = np.arange(max(int(low), first), max(int(high), int(low) + 1) + 1)
                there = (panel.exists[rows] & panel.exists[rows - 1]).sum(axis=1)
                row = int(rng.choice(rows[there == there.max()]))
            yield from (Case("future", kind, row) for kind in FUTURE)
    traded, crowded = _traded(panel, base)
    for check in (x for x in ("next bar", "other symbol") if x in checks):
        for i in range(6 * cuts):
            # Half where several symbols traded at once (one may have made room for the other), the rest where one did, or,
            # every fourth time, anywhere: another symbol of such a row, or any row.
            cells = crowded if i % 2 and len(crowded) else traded
            row, symbol = map(int, cells[rng.integers(len(cells))]) if len(cells) else (0, 0)
            if i % 4 == 0 or not len(cells):
                symbol = int(rng.integers(len(panel.symbols)))
                row = row if check == "other symbol" and len(cells) else int(rng.integers(first, last + 1))
            kind = "wide" if i % 3 == 2 else "still"
            yield Case(check, kind, max(row, first), symbol if check == "other symbol" else None)


def _traded(panel: Panel, base: Traces) -> tuple[np.ndarray, np.ndarray]:
    """Returns cells (row, symbol), int (n, 2), in which orders filled, and those of them in whose row several symbols' did.

    Fills are what an `own` stage other than the bars says, where it is not zero.
    """
    traded, crowded = np.zeros((2, *panel.close.shape), bool)
    for stages in base:
        for stage in stages:
            if stage.known != "own" or stage.name == "bars" or not set(stage.symbols) <= set(panel.symbols):
                continue
            rows = np.searchsorted(panel.times, stage.times)
            columns = np.array([panel.symbols.index(s) for s in stage.symbols], dtype=np.int64)
            here = np.zeros_like(traded)
            for values in stage.columns.values():
                if np.ndim(values) == 2:
                    here[np.ix_(rows, columns)] |= np.nan_to_num(np.asarray(values, float)) != 0.0
            traded |= here
            crowded |= here & (here.sum(axis=1, keepdims=True) > 1)
    return np.argwhere(traded), np.argwhere(crowded)


def _run(entrance: Entrance, panel: Panel, base: Traces, case: Case, seed: int, fields: Sequence[str] = FIELDS) -> list[Comparison]:
    """Evaluates one perturbed market and compares every configuration's trace.

    What is earned after the change is not judged, and in a permuted market may be more than a float holds: no warnings of that.
    """
    other = perturb(panel, case.kind, case.row, np.random.default_rng([seed, 2, case.row]), case.symbol, fields)
    limit = reach(panel, other)
    with np.errstate(all="ignore"):
        traces = trace_all(entrance, other)
    return [
        replace(found, moves=tuple(replace(move, kind=case.kind, config=i) for move in found.moves))
        for i, found in enumerate(compare(here, there, limit) for here, there in zip(base, traces, strict=True))
    ]


def _finding(check: str, outcomes: Sequence[tuple[Case, Comparison]], panel: Panel, entrance: Entrance, base: Traces, seed: int) -> Finding:
    held = sum(found.held for _, found in outcomes)
    if not any(len(stages) for stages in base):
        return Finding(check, None, detail="no stage can be seen")
    moved = [(case, move) for case, found in outcomes for move in found.moves]
    times = len({(case.row, case.kind) for case, _ in outcomes})
    if not moved and (not held or not any(found.reacted for _, found in outcomes)):
        why = "nothing moved even after the change: does it read the bars it is given, and do these configurations trade?"
        return Finding(check, None, detail=why)
    if not moved:
        stayed = f"{_QUESTION[check]} ({times} times): {held:,} values that were settled before stayed bit for bit"
        inside = _sees_orders(base)
        if check != "future" and not inside:
            why = "no orders or fills are shown, so what the very bar decided cannot be seen; `trace` can show them"
            return Finding(check, None, detail=f"{why} (the equity before stayed bit for bit, {times} times)")
        never = [kind for kind in FUTURE if check == "future" and kind not in {case.kind for case, _ in outcomes}]
        if never:  # what it does there nobody knows: it may read where the data end, or what is missing
            why = f"no market whose future was {', '.join(_DONE[kind] for kind in never)} could be evaluated, so that is not audited"
            return Finding(check, None, detail=f"{why}; after the other changes {held:,} values stayed bit for bit")
        unseen = "" if inside else "; a decision that knows the very bar it earns is not seen here (see null market)"
        return Finding(check, True, detail=stayed + unseen)
    # First in causal order; there the column that moved earliest before the change.
    first_stage = min(move.order for _, move in moved)
    here = [(case, move) for case, move in moved if move.order == first_stage]
    case, first = max(here, key=lambda pair: (pair[1].ahead, pair[1].rows))
    return Finding(
        check,
        False,
        first.stage,
        first.column,
        first.symbol,
        pd.Timestamp(first.time, tz="UTC"),
        first.rows,
        _evidence(here, moved, case, first, panel, len({(c.row, c.kind) for c, _ in moved}), times)
        + _sources(entrance, panel, base, case, first, seed),
    )


def _sees_orders(base: Traces) -> bool:
    """Whether anything that is settled before a row's bars end, as orders and fills are, can be seen."""
    return any(stage.known != "end" and stage.name not in ("bars", "costs") for stages in base for stage in stages)


def _evidence(
    here: Sequence[tuple[Case, Move]], moved: Sequence[tuple[Case, Move]], case: Case, first: Move, panel: Panel, hits: int, times: int
) -> str:
    kinds = ", ".join(dict.fromkeys(c.kind for c, _ in moved))
    change = f"{panel.symbols[case.symbol]} " if case.symbol is not None else ""
    change += f"{_stamp(panel.times[case.row])}, {case.kind}"
    bars = f"{first.rows} bar{'s' if first.rows > 1 else ''} moved, the earliest"
    if first.ahead:
        text = f"{bars} {first.ahead} bar{'s' if first.ahead > 1 else ''} before the first that was changed ({change})"
    else:
        text = f"{bars} the very bar that was changed ({change})"
    columns = [c for c in dict.fromkeys(move.column for _, move in here) if c != first.column]
    later = [s for s in dict.fromkeys(move.stage for _, move in sorted(moved, key=lambda x: x[1].order)) if s != first.stage]
    text += f"; also {', '.join(columns)}" if columns else ""
    text += f"; then {', '.join(later)}" if later else ""
    return text + f"; {hits} of {times} perturbations ({kinds}), configuration {first.config}"


def _sources(entrance: Entrance, panel: Panel, base: Traces, case: Case, first: Move, seed: int) -> str:
    """Names the raw columns of the future that move the leaking stage when they alone are changed."""
    if not entrance.in_memory or case.kind in ("removed", "missing"):
        return ""
    one = replace(entrance, configs=(entrance.configs[first.config],))
    guilty = []
    for name in FIELDS:
        try:
            found = _run(one, panel, [base[first.config]], case, seed, (name,))
        except Exception:  # as in `causality`; then there is no more to say
            continue
        if any(move.stage == first.stage for comparison in found for move in comparison.moves):
            guilty.append(name)
    return f"; it reads the future's {', '.join(guilty)}" if guilty else ""


def _stamp(time: Any) -> str:
    return f"{pd.Timestamp(time):%Y-%m-%d %H:%M}"


def until_check(entrance: Entrance, panel: Panel, key: str, cuts: int, seed: int) -> Finding:
    """For a trainable without stages: metrics up to a time must not depend on bars after it.

    Args:
        entrance: Prepares panels.
        panel: The study's market.
        key: Setting that ends the evaluation: ISO time, exclusive.
        cuts: Random times.
        seed: Of times and perturbations.
    """
    rng = np.random.default_rng([seed, 3])
    compared = 0
    for row in sorted({int(x) for x in rng.integers(panel.n_bars // 2, panel.n_bars, cuts)}):
        settings: Mapping[str, Any] = {**entrance.settings, key: f"{_stamp(panel.times[row])}Z"}
        with entrance.open(panel, settings) as prepared:
            true = entrance.metrics(prepared)
        for kind in FUTURE:
            with entrance.open(perturb(panel, kind, row, np.random.default_rng([seed, 2, row])), settings) as prepared:
                other = entrance.metrics(prepared)
            compared += true.size
            differs = ~((true == other) | (true.isna() & other.isna()))
            if differs.to_numpy().any():
                column = str(differs.any().idxmax())
                names = ", ".join(differs.columns[differs.any()])
                what = f"metrics up to {settings[key]} moved when later bars were changed ({kind}): {names}"
                return Finding("future", False, "metrics", column, "", pd.Timestamp(panel.times[row], tz="UTC"), 0, what)
    return Finding("future", True, detail=f"{compared:,} metrics up to a time stayed bit for bit when later bars were changed")

"""Trainables that report as they go: trained again on a market with another future, they must decide as before until it begins.

A training is as long as its first report, and time is cut once, in the first fold only: with shares of the data, as protocols have
them, another end would be another train window. What is compared are the daily returns of the first report, and what `trace` shows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainables.audit.causality import CAUSALITY, Traces, causality, trace_all
from trainables.audit.copies import Source
from trainables.audit.entrance import Entrance, study_panel
from trainables.audit.moves import compare
from trainables.audit.perturb import NEVER, Reach
from trainables.audit.report import AuditReport, Finding
from trainables.audit.stages import AuditError, FromPanel, Stage, Traceable
from trainables.contract import Context, Evaluation, Prepared, TrainableError
from trainables.market import Panel
from trainables.stepping import StepContext, Stepping
from trainables.timeline import Fold, Protocol, Timeline, Window

STEP_CHECKS = ("determinism", *CAUSALITY)


def audit_steps(
    trainable: Stepping,
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    configs: Sequence[Mapping[str, Any]],
    protocol: Protocol,
    *,
    cuts: int = 2,
    seed: int = 0,
    checks: Sequence[str] = ("determinism", "future"),
) -> AuditReport:
    """Looks for look-ahead in a trainable that reports as it goes; see `audit` for those that evaluate packs.

    Args:
        trainable: Gives daily returns with its reports, or shows its stages (`trace`, called with the `StepContext` whose folder holds the
            first report's checkpoint); with neither nothing can be told. With `prepare_panel(panel, settings, protocol)` it is faster.
        data: A study's data section, as for `load_market`.
        settings: A study's settings.
        configs: Configurations, complete or not; each is trained to its first report four times per cut, and twice besides.
        protocol: How the study cuts time; its first fold is audited.
        cuts: Random times in the first tune window for `future`; six times as many single bars for the other two.
        seed: Of times, perturbations and trainings.
        checks: Which of `STEP_CHECKS`; `next bar` and `other symbol` need a `trace` that shows orders or fills.

    Returns:
        One finding per check, and notes on what could not be seen.

    Raises:
        AuditError: Arguments that cannot be used.
        TrainableError, MarketError: The study's own data, settings or configurations cannot be used.
    """
    for check in checks:
        if check not in STEP_CHECKS:
            raise AuditError(f"checks: {check!r} is unknown; give some of {', '.join(STEP_CHECKS)}")
    if not configs or cuts < 1:
        raise AuditError(f"audit needs a configuration and a cut; got {len(configs)} and {cuts}")
    timeline = trainable.prepare(data, settings, protocol).timeline
    if timeline is None:
        why = "it gives no `Prepared.timeline`, so nobody knows what it learns from and where it is judged"
        return AuditReport(trainable.name, tuple(Finding(check, None, detail=why) for check in checks))
    in_memory = isinstance(trainable, FromPanel)
    whole = study_panel(data, own_loading=not in_memory)
    fixed = FixedCuts.of(timeline)
    panel = whole.rows((0, int(np.searchsorted(whole.times, fixed.stamps[3]))))
    stepped: Any = Stepped(trainable, fixed)
    entrance = Entrance(stepped, settings, tuple(configs), seed, in_memory, None if in_memory else Source.read(data, whole))
    try:
        base = trace_all(entrance, panel)
    except _UnseenError as unseen:
        return AuditReport(trainable.name, tuple(Finding(check, None, detail=str(unseen)) for check in checks))
    again = _repeated(base, trace_all(entrance, panel), panel)
    findings = {"determinism": again}
    notes = ["trained to the first report of each configuration, in the first fold"]
    if not isinstance(trainable, Traceable):
        notes.append("cannot see inside: only its daily returns (a `trace` method would name the stage that leaks)")
    elif stepped.failed:
        notes.append(f"its `trace` failed, so only daily returns were compared: {stepped.failed}")
    wanted = [check for check in CAUSALITY if check in checks]
    if again.passed is False:
        findings |= {check: Finding(check, None, detail="two equal trainings differ already") for check in wanted}
    elif wanted:
        first = int(np.searchsorted(panel.times, fixed.stamps[2])) + 1
        found, more = causality(entrance, panel, base, cuts, seed, wanted, first)
        findings |= {one.check: one for one in found}
        notes += more
    return AuditReport(trainable.name, tuple(findings[check] for check in STEP_CHECKS if check in checks), tuple(notes))


class _UnseenError(AuditError):
    """Nothing of a trainable can be compared."""


@dataclass(frozen=True)
class FixedCuts(Protocol):
    """A protocol that cuts every market at the same times.

    Attributes:
        stamps: datetime64[ns] (4,): start of train, its end, start of tune, its end.
    """

    stamps: tuple[np.datetime64, ...] = ()

    @classmethod
    def of(cls, timeline: Timeline) -> FixedCuts:
        """Takes the first fold's times."""
        fold, times = timeline.folds[0], timeline.times
        after = times[-1:] + np.timedelta64(round(timeline.bar_hours * 3.6e12), "ns")
        rows = np.concatenate([times, after]).astype("datetime64[ns]")
        return cls(folds=1, holdout="0%", stamps=tuple(rows[row] for row in (*fold.train, *fold.tune)))

    def cut(self, times: np.ndarray, bar_hours: float) -> Timeline:
        """Cuts a time axis, see `Protocol.cut`.

        Raises:
            TrainableError: The market ends before the tune window.
        """
        train_start, train_stop, start, stop = (int(row) for row in np.searchsorted(times, np.array(self.stamps)))
        if start >= stop:
            raise TrainableError("protocol: this market ends before the tune window")
        fold = Fold(Window(train_start, train_stop), Window(start, stop))
        return Timeline(times, bar_hours, (fold,), Window(len(times), len(times)), 0.0)


@dataclass(frozen=True, eq=False)
class _Dated:
    """A trainable's inputs, and the days its returns are of."""

    inputs: Any
    days: np.ndarray


class Stepped:
    """A trainable that reports as it goes, as one whose whole evaluation is its first report.

    Attributes:
        failed: What its `trace` last raised, "" if nothing: daily returns are compared all the same.
    """

    def __init__(self, trainable: Stepping, protocol: Protocol) -> None:
        """Takes over what a trainable says of itself.

        Args:
            trainable: Under audit.
            protocol: Of every market.
        """
        self._trainable, self._protocol = trainable, protocol
        self.name, self.version, self.objective = trainable.name, trainable.version, trainable.objective
        self.parameters, self.metrics = trainable.parameters, trainable.metrics
        self.failed = ""

    def prepare(self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Protocol | None = None, part: str = "") -> Prepared:
        """Prepares data, cut as always."""
        return _dated(self._trainable.prepare(data, settings, protocol or self._protocol))

    def prepare_panel(self, panel: Panel, settings: Mapping[str, Any]) -> Prepared:
        """Prepares a market in memory, cut as always."""
        made: Any = self._trainable
        return _dated(made.prepare_panel(panel, settings, self._protocol))

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], ctx: Context) -> Evaluation:
        """Gives the metrics of every configuration's first report."""
        names = [metric.name for metric in self.metrics]
        rows = [self._first(config, ctx)[0] for config in configs]
        return Evaluation(pd.DataFrame([[row.get(name, np.nan) for name in names] for row in rows], columns=names, dtype=float))

    def trace(self, config: Mapping[str, Any], ctx: Context) -> Sequence[Stage]:
        """Trains to the first report; its daily returns come last, as they follow from all the rest."""
        stages = self._first(config, ctx)[1]
        if not stages:
            unseen = f"its `trace` failed ({self.failed})" if self.failed else "it has no `trace`"
            raise _UnseenError(f"its first report has no daily returns, and {unseen}")
        return stages

    def _first(self, config: Mapping[str, Any], ctx: Context) -> tuple[Mapping[str, float], list[Stage]]:
        dated: _Dated = ctx.inputs
        with tempfile.TemporaryDirectory(prefix="audit-") as folder:
            step = StepContext(dated.inputs, Path(folder), seed=ctx.seed, device=ctx.device)
            reports = self._trainable.evaluate(config, step)
            report = next(iter(reports))
            closes: Any = reports
            closes.close()
            stages: list[Stage] = []
            if isinstance(self._trainable, Traceable):
                shown: Any = self._trainable
                try:
                    stages = list(shown.trace(config, replace(step, reached=report.step)))
                except Exception as error:  # somebody else's code may fail in any way, as where `evaluate` is its own and `trace` is not
                    self.failed = f"{type(error).__name__}: {error}"
        if report.returns is not None:
            # A day's return is known when the day has ended.
            ends = dated.days.astype("datetime64[ns]") + np.timedelta64(86_400_000_000_000 - 1, "ns")
            stages.append(Stage("daily returns", ends, {"return": np.asarray(report.returns, np.float64)}))
        return report.metrics, stages


def _dated(prepared: Prepared) -> Prepared:
    return replace(prepared, inputs=_Dated(prepared.inputs, prepared.days))


def _repeated(base: Traces, again: Traces, panel: Panel) -> Finding:
    """Whether two equal trainings gave the same."""
    everything = Reach(panel.symbols, np.full(len(panel.symbols), NEVER), NEVER, NEVER)
    moves = [move for here, there in zip(base, again, strict=True) for move in compare(here, there, everything).moves]
    if not moves:
        return Finding("determinism", True, detail=f"{len(base)} trainings, each repeated with the same seed, bit for bit")
    first = min(moves, key=lambda move: (move.order, move.time))
    why = "differs between two trainings with the same seed; a global random generator, or state kept from one to the next?"
    return Finding("determinism", False, first.stage, first.column, first.symbol, pd.Timestamp(first.time, tz="UTC"), first.rows, why)

"""A study's ledger as an Optuna study: real values, states, reports; what Optuna's figures and importances are fed from.

The ledger stays the truth (DESIGN 3.1): a projection is made when it is asked for, held in memory, and thrown away. Of a large study
it has a sample, drawn by configuration id, which is a hash and so as good as a lot; how it was drawn is part of it, for captions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from results.constraints import Constraint, constraints_of
from results.leaderboard import pareto
from results.metrics import Metric
from results.records import Header
from search_spaces.adaptive import ADAPTIVE
from search_spaces.adaptive.bayesian import quiet
from sweeps.plots.axes import Axes, axes_of

if TYPE_CHECKING:
    import optuna

    from results.reader import LedgerReader

MOST: Final = 20_000  # trials; with more, Optuna's figures take minutes and nobody sees more
BEST: Final = 1_000
_TAKEN: Final = ("trial", "config_id", "status", "attempt", "seconds", "error", "source")
_CHUNK: Final = 10_000


class ProjectionError(ValueError):
    """A figure or table cannot be made of a study; the message says why."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Trials of a study as Optuna has them.

    Attributes:
        study: In memory; `number` of its trials is that of the ledger.
        header: The ledger's.
        metrics: The objectives, in order.
        axes: The parameters.
        completed: Completed trials in the ledger.
        missing: Of these, without one of the metrics.
        used: Completed trials with all metrics that are here.
        best: Of these, taken because they are the best, or not dominated; 0 where all are here or all by lot.
        learnt: Samplers that learn from results, where such suggested trials of the study.
        blank: Numbers of trials that are completed without one of the metrics, which Optuna can only call failed.
    """

    study: optuna.Study
    header: Header
    metrics: tuple[Metric, ...]
    axes: Axes
    completed: int
    missing: int
    used: int
    best: int
    learnt: tuple[str, ...] = ()
    blank: frozenset[int] = frozenset()

    @property
    def whole(self) -> bool:
        """Whether no completed trial with these metrics was left out."""
        return self.used == self.completed - self.missing

    def words(self) -> str:
        """Returns which trials these are, such as "all 54 completed trials"."""
        names = " or ".join(metric.name for metric in self.metrics)
        without = f"; {self.missing:,} without {names} left out" if self.missing else ""
        if self.whole:
            return f"{'all ' if self.used > 1 and not self.missing else ''}{_trials(self.used)}{without}"
        rest = self.used - self.best
        first = f"the best {self.best:,} by {names}" if len(self.metrics) == 1 else f"the {self.best:,} that no other dominates"
        drawn = f"{first} and {rest:,} others by lot" if self.best else f"{self.used:,} by lot"
        return f"of {_trials(self.completed)} {drawn}{without}"

    def numbered(self) -> optuna.Study:
        """Returns the study with its trials numbered from 0; Optuna's history takes a number for a place in the list."""
        trials = [copy(trial) for trial in self.study.get_trials(deepcopy=False)]
        for place, trial in enumerate(trials):
            trial.number = place
        return self._with(trials)

    def best_last(self) -> optuna.Study:
        """Returns the study with its completed trials from worst to best, so that of those drawn at one point the best is on top."""
        sign = -1.0 if self.metrics[0].direction == "min" else 1.0
        trials = [trial for trial in self.study.get_trials(deepcopy=False) if trial.values]
        return self._with(sorted(trials, key=lambda trial: sign * trial.values[0]))

    def told_apart(self) -> optuna.Study:
        """Returns the study with trials that are completed without a metric as WAITING, a state no trial of a ledger has."""
        import optuna

        trials = [copy(trial) for trial in self.study.get_trials(deepcopy=False)]
        for trial in trials:
            if trial.number in self.blank:
                trial.state = optuna.trial.TrialState.WAITING
        return self._with(trials)

    def _with(self, trials: list[optuna.trial.FrozenTrial]) -> optuna.Study:
        import optuna

        with quiet():
            return optuna.create_study(storage=_holding(trials), study_name=self.study.study_name, directions=self.study.directions)


def _trials(n: int) -> str:
    return f"{n:,} completed {'trial' if n == 1 else 'trials'}"


def objectives(header: Header) -> list[str]:
    """Returns the metrics a study ranks by: one, or those its file lists."""
    asked = header.spec.get("objective")
    several = [str(name) for name in asked] if isinstance(asked, (list, tuple)) else []
    return several if several and set(several) <= set(header.metric_names) else [header.objective]


def project(
    ledger: LedgerReader,
    metrics: Sequence[str] | None = None,
    *,
    most: int = MOST,
    best: int = BEST,
    ended: bool = False,
    reports: bool = False,
    attributes: bool = False,
    few: int = 0,
) -> Projection:
    """Makes an Optuna study of a ledger.

    Args:
        ledger: The study.
        metrics: Names of the objectives; default the study's own.
        most: Trials to take; of more, `best` and a sample of the others.
        best: How many of the best by the metric a sample has, or with several metrics of those that no other dominates; 0 for a sample
            that stands for the study.
        ended: Also trials that failed, were stopped early, or lack a metric.
        reports: With what trials said of the first metric on the way.
        attributes: With all metrics, number, id and seconds as attributes of a trial.
        few: Parameters with no more different numbers than this are categories.

    Returns:
        Completed trials are COMPLETE, stopped ones PRUNED, failed ones and those without a metric FAIL. Times are UTC without a zone.

    Raises:
        LedgerError: No such metric. ProjectionError: Nothing to show.
    """
    import optuna

    header = ledger.header
    chosen = tuple(header.metric(name) for name in dict.fromkeys(metrics or objectives(header)))
    completed, usable, everything = _counts(ledger, chosen)
    numbers, taken = _numbers(ledger, chosen, everything if ended else usable, most, best, ended)
    if not numbers:
        why = "no trial has ended yet" if ended or not completed else f"no completed trial has {' and '.join(m.name for m in chosen)}"
        raise ProjectionError(f"{header.name}: {why}; there is nothing to show")
    rows, plans = list(_rows(ledger, numbers)), ledger.plans()
    axes = axes_of(plans, header.defaults, [(row["plan_id"], row["config"]) for row in rows], few)
    said = _reports(ledger, set(numbers), chosen[0]) if reports else {}
    limits = constraints_of(header)
    made = [_trial(row, axes, chosen, limits, header, said.get(row["trial"], {}), attributes) for row in rows]
    with quiet():
        study = optuna.create_study(
            storage=_holding(made),
            study_name=header.name,
            directions=["minimize" if metric.direction == "min" else "maximize" for metric in chosen],
        )
    used = sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in made)
    learnt = tuple(dict.fromkeys(name for plan in plans if (name := str(plan.sampler.get("sampler"))) in ADAPTIVE))
    fail = optuna.trial.TrialState.FAIL
    blank = frozenset(t.number for t, row in zip(made, rows, strict=True) if t.state == fail and row["status"] == "completed")
    return Projection(study, header, chosen, axes, completed, completed - usable, used, min(taken, used), learnt, blank)


def _counts(ledger: LedgerReader, metrics: Sequence[Metric]) -> tuple[int, int, int]:
    """Returns how many trials are completed, of these have all metrics, and have ended."""
    t = ledger.tables
    has = sa.and_(*(t.metric(metric.name).is_not(None) for metric in metrics), t.trials.c.status == "completed")
    counts = ledger.counts()
    usable = ledger.rows(sa.select(sa.func.count().label("n")).select_from(t.trials).where(has))[0]["n"]
    return counts["completed"], int(usable), counts["trials"]


def _numbers(ledger: LedgerReader, metrics: Sequence[Metric], there: int, most: int, best: int, ended: bool) -> tuple[list[int], int]:
    """Returns the trials to take, ascending, and how many of them because they are the best."""
    t = ledger.tables
    has = sa.and_(*(t.metric(metric.name).is_not(None) for metric in metrics), t.trials.c.status == "completed")
    wanted = sa.select(t.trials.c.trial).where(sa.true() if ended else has)
    if there <= most:
        return [row["trial"] for row in ledger.rows(wanted.order_by(t.trials.c.trial))], 0
    top: Sequence[int] = ()
    if best and len(metrics) > 1:
        top = pareto(ledger, [metric.name for metric in metrics], top=min(best, most))["trial"].tolist()
    elif best:
        value = t.metric(metrics[0].name)
        order = value.asc() if metrics[0].direction == "min" else value.desc()
        first = sa.select(t.trials.c.trial).where(has).order_by(order, t.trials.c.trial).limit(min(best, most))
        top = [row["trial"] for row in ledger.rows(first)]
    taken = set(top)
    lot = [row["trial"] for row in ledger.rows(wanted.order_by(t.trials.c.config_id).limit(most))]
    others = [number for number in lot if number not in taken][: most - len(top)]
    return sorted([*top, *others]), len(top)


def _rows(ledger: LedgerReader, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yields trials with their configuration parsed, and when and for which plan they ran."""
    t = ledger.tables
    also = (t.attempts.c.plan_id, t.attempts.c.started, t.attempts.c.ended)
    for at in range(0, len(numbers), _CHUNK):
        some = numbers[at : at + _CHUNK]
        query = sa.select(t.trials, *also).join(t.attempts).where(t.trials.c.trial.in_(some)).order_by(t.trials.c.trial)
        for row in ledger.rows(query):
            yield row | {"config": json.loads(row["config"])}


def _reports(ledger: LedgerReader, numbers: set[int], metric: Metric) -> dict[int, dict[int, float]]:
    from results.reports import read

    place = ledger.header.metric_names.index(metric.name)
    found: dict[int, dict[int, float]] = {}
    for report in read(ledger):
        if report.trial in numbers:
            found.setdefault(report.trial, {})[report.step] = float(report.metrics[place])
    return found


def _holding(trials: list[optuna.trial.FrozenTrial]) -> optuna.storages.BaseStorage:
    """Returns a storage that has these trials as they are.

    Optuna's own would number them anew, and copy each of their distributions, which takes a minute for what takes a second.
    """
    from optuna.storages import BaseStorage, InMemoryStorage

    class Held(InMemoryStorage):
        def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[optuna.trial.FrozenTrial]:
            return [trial for trial in trials if states is None or trial.state in states]

        get_best_trial = BaseStorage.get_best_trial

    return Held()


def _trial(
    row: Mapping[str, Any],
    axes: Axes,
    metrics: Sequence[Metric],
    limits: Sequence[Constraint],
    header: Header,
    said: Mapping[int, float],
    attributes: bool,
) -> optuna.trial.FrozenTrial:
    from optuna.trial import FrozenTrial, TrialState

    found: list[float | None] = [row[f"m_{metric.name}"] for metric in metrics]
    values = [value for value in found if value is not None]
    known = len(values) == len(found)
    state = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED}.get(row["status"], TrialState.FAIL)
    if not known and state == TrialState.COMPLETE:
        state = TrialState.FAIL  # Optuna has no n/a
    params = axes.values(row["plan_id"], row["config"])
    started = _utc(row["started"])
    trial = FrozenTrial(
        number=row["trial"],
        trial_id=row["trial"],
        state=state,
        value=None,
        values=values if known and state != TrialState.FAIL else None,
        datetime_start=started,
        datetime_complete=_utc(row["ended"]) if row["ended"] else started + timedelta(seconds=row["seconds"] or 0.0),
        params=params,
        distributions={name: axes.distributions[name] for name in params},
        user_attrs=_attributes(row, header, axes) if attributes else {},
        system_attrs={},
        intermediate_values=dict(said),
    )
    if limits and row["status"] == "completed":
        for name, lack in _lacks(row, limits).items():
            trial.set_constraint(name, lack)
    return trial


def _lacks(row: Mapping[str, Any], limits: Sequence[Constraint]) -> dict[str, float]:
    """Returns by how much a trial misses each bound; above 0 is what Optuna calls infeasible. n/a meets no bound."""
    found = {}
    for limit in limits:
        value = row[f"m_{limit.metric}"]
        met = value is not None and bool(limit.compare(value))
        found[str(limit)] = 0.0 if met else 1.0 if value is None else max(float(limit.shortfall(value)), 1e-12)
    return found


def _attributes(row: Mapping[str, Any], header: Header, axes: Axes) -> dict[str, Any]:
    """Returns all that is known of a trial beside its parameters, by the names it has in an export of the leaderboard."""
    told = {"trial": row["trial"], "config_id": bytes(row["config_id"]).hex(), "status": row["status"], "seconds": row["seconds"]}
    told |= {name: row[name] for name in ("error", "source") if row[name]}
    told |= {f"metric.{name}" if name in _TAKEN else name: row[f"m_{name}"] for name in header.metric_names}
    rest = {name: value for name, value in row["config"].items() if name not in axes.distributions}
    return told | {f"config.{name}" if name in told else name: value for name, value in rest.items()}


def _utc(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp).astimezone(UTC).replace(tzinfo=None)

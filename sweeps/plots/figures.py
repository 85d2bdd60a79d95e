"""Optuna's figures of a study: which there are, what each is drawn from, and how it is named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from results.constraints import constraints_of
from results.leaderboard import LEGACY_LABEL, UNVERIFIED, imported, profile
from results.metrics import Metric
from sweeps.plots.importance import LEAST, Ranking, importances, sample_of
from sweeps.plots.projection import BEST, MOST, Projection, ProjectionError, objectives, project

if TYPE_CHECKING:
    from results.reader import LedgerReader
    from results.records import Header

IN_SAMPLE: Final = "In-sample figures: they say what won, not what will."
# As `Projection.told_apart` has them.
STATES: Final = {
    "COMPLETE": "completed",
    "INFEASIBLE": "constraints not met",
    "WAITING": "completed, metric n/a",
    "PRUNED": "stopped early",
    "FAIL": "failed",
}
_FEW: Final = 8  # values that get a tick each


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes:
        what: What it shows, with {metric} and {other} for metrics.
        most: Trials to draw; of more, a sample.
        best: How many of the best such a sample has; 0 where it is to stand for the study.
        ended: Whether trials that failed or were stopped are drawn too.
        params: How many parameters are drawn unless named, the most important; 0 for a figure that has none.
        aims: Whether it takes one side of the metric to be better.
    """

    what: str
    most: int = MOST
    best: int = BEST
    ended: bool = False
    params: int = 0
    aims: bool = True


KINDS: Final[Mapping[str, Kind]] = {
    "history": Kind("{metric} by trial, and the best so far"),
    "parallel": Kind("{metric} across parameters", most=5_000, best=500, params=8, aims=False),
    "slice": Kind("{metric} by parameter", most=5_000, best=500, params=6, aims=False),
    "contour": Kind("{metric} over pairs of parameters", most=5_000, best=500, params=3, aims=False),
    "edf": Kind("how {metric} is distributed", best=0, aims=False),
    "rank": Kind("ranks by {metric} over pairs of parameters", most=1_000, best=200, params=3),
    "timeline": Kind("when trials ran", most=5_000, best=0, ended=True, aims=False),
    "pareto": Kind("{metric} against {other}", most=5_000),
    "importance": Kind("what {metric} has to do with parameters"),
    "intermediate": Kind("{metric} on the way", most=200, best=50, ended=True, aims=False),
}


@dataclass(frozen=True, eq=False)
class Drawing:
    """What a figure is drawn from.

    Attributes:
        kind: One of `KINDS`.
        projection: Its trials.
        params: Its parameters, None for a figure without.
        ranking: Importances, where they are what is drawn.
        title: Names the study.
        notes: Lines below the figure: what it is of, and what it cannot say.
        unit: What a trial that reports counts by.
    """

    kind: str
    projection: Projection
    params: list[str] | None
    ranking: Ranking | None
    title: str
    notes: tuple[str, ...]
    unit: str = "step"


def label_of(metric: Metric) -> str:
    """Returns a metric as an axis names it: with its unit, unless ticks show it, and which side is better."""
    unit = "" if metric.unit in ("", "fraction", "ratio", "count", "probability") else f" ({metric.unit})"
    better = {"max": ", higher is better", "min": ", lower is better"}.get(metric.direction or "", "")
    return f"{metric.name}{unit}{better}"


def drawing(
    ledger: LedgerReader, kind: str, metrics: Sequence[str] | None = None, params: Sequence[str] | None = None, unit: str = "step"
) -> Drawing:
    """Gathers what a figure is drawn from.

    Args:
        ledger: The study.
        kind: One of `KINDS`.
        metrics: One, or for `pareto` two; default the study's own.
        params: Which parameters; default the most important ones.
        unit: What a trial that reports counts by.

    Raises:
        ProjectionError: The study has nothing of that kind to draw; says why. LedgerError: No such metric.
    """
    name, how = ledger.header.name, KINDS.get(kind)
    if how is None:
        raise ProjectionError(f"{kind}: no such figure; there are {', '.join(KINDS)}")
    if params and not how.params:
        raise ProjectionError(f"--params: {kind} has no parameters to choose; {', '.join(k for k in KINDS if KINDS[k].params)} have")
    goals = objectives(ledger.header)
    metrics = list(metrics or ()) or (goals if kind == "pareto" else goals[:1])
    _check_metrics(ledger.header, kind, metrics)
    if kind == "importance":
        found = sample_of(ledger, metrics[0])
    else:
        found = project(ledger, metrics, most=how.most, best=how.best, ended=how.ended, reports=kind == "intermediate")
    _check_trials(kind, found)
    ranking = importances(found) if kind == "importance" else None
    said: tuple[str, ...] = ()
    chosen: list[str] | None = None
    if how.params:
        chosen, said = _parameters(ledger, kind, found, params)
    names = [metric.name for metric in found.metrics]
    title = f"{name}: {how.what.format(metric=names[0], other=' and '.join(names[1:]))}"
    return Drawing(kind, found, chosen, ranking, title, (*_notes(kind, found, ranking), *said), unit)


def _check_metrics(header: Header, kind: str, names: Sequence[str]) -> None:
    metrics = [header.metric(name) for name in dict.fromkeys(names)]
    if kind == "pareto" and len(metrics) not in (2, 3):
        wanted = ", ".join(metric.name for metric in header.metrics if metric.direction)
        raise ProjectionError(f"{header.name}: pareto needs two metrics, --metric A --metric B; metrics with a direction are {wanted}")
    if kind != "pareto" and len(metrics) > 1:
        raise ProjectionError(f"{header.name}: {kind} is drawn for one metric, not for {', '.join(metric.name for metric in metrics)}")
    aimless = [metric.name for metric in metrics if metric.direction is None]
    if KINDS[kind].aims and aimless:
        raise ProjectionError(f"{', '.join(aimless)}: more is neither better nor worse, and {kind} needs to know; name another metric")


def _check_trials(kind: str, found: Projection) -> None:
    from optuna.trial import TrialState

    name, trials = found.header.name, found.study.get_trials(deepcopy=False)
    if kind == "intermediate" and not any(trial.intermediate_values for trial in trials):
        raise ProjectionError(f"{name}: its trials are evaluated whole and report nothing on the way; studies of lora or policy do")
    if not KINDS[kind].ended and not any(trial.state == TrialState.COMPLETE for trial in trials):
        raise ProjectionError(f"{name}: no trial is completed yet; there is nothing to show")


def _parameters(ledger: LedgerReader, kind: str, found: Projection, asked: Sequence[str] | None) -> tuple[list[str], tuple[str, ...]]:
    """Returns the parameters to draw, and what to say of the choice."""
    name, axes = found.header.name, found.axes
    varied = [p for p in axes.distributions if len({str(t.params[p]) for t in found.study.trials if p in t.params}) > 1]
    least = 2 if kind in ("contour", "rank") else 1
    if asked is not None:
        chosen = list(dict.fromkeys(asked))
        for parameter in chosen:
            if parameter in axes.derived:
                raise ProjectionError(f"--params: {parameter} is derived from other parameters and is no axis of its own")
            if parameter not in varied:
                raise ProjectionError(f"--params: {name} has not varied {parameter!r}; it varies {', '.join(varied) or 'none'}")
    else:
        chosen = varied
    if len(chosen) < least:
        raise ProjectionError(f"{name}: {kind} needs {'two parameters' if least == 2 else 'a parameter'} or more with different values")
    most = KINDS[kind].params
    if asked is not None or len(varied) <= most:
        return chosen, ()
    return _most_important(ledger, found, varied)[:most], (
        f"The {most} most important of {len(varied)} parameters (alphasweep importance); --params names others.",
    )


def _most_important(ledger: LedgerReader, found: Projection, varied: list[str]) -> list[str]:
    """Returns parameters by importance; as the study file has them where that cannot be told."""
    if found.metrics[0].direction is None or found.used < LEAST:
        return varied
    try:
        ranked = [row.parameter for row in importances(sample_of(ledger, found.metrics[0].name), deals=0).rows]
    except ProjectionError:
        return varied
    return [*(p for p in ranked if p in varied), *(p for p in varied if p not in ranked)]


def _notes(kind: str, found: Projection, ranking: Ranking | None) -> list[str]:
    from optuna.trial import TrialState

    notes = []
    trials = found.study.get_trials(deepcopy=False)
    if KINDS[kind].ended:
        counts = {state: sum(trial.state == state for trial in trials) for state in (TrialState.COMPLETE, TrialState.PRUNED)}
        blank = len(found.blank)
        rest = len(trials) - sum(counts.values()) - blank
        without = f"completed without {' or '.join(metric.name for metric in found.metrics)}"
        parts = [
            (counts[TrialState.COMPLETE], "completed"),
            (blank, without),
            (counts[TrialState.PRUNED], "stopped early"),
            (rest, "failed"),
        ]
        told = ", ".join(f"{n:,} {word}" for n, word in parts if n)
        notes.append(f"{len(trials):,} trials: {told}." + ("" if found.whole else f" A sample: {found.words()}."))
    else:
        words = found.words()
        notes.append(f"{words[0].upper()}{words[1:]}.")
    if kind in ("contour", "rank") and found.metrics[0].direction:
        notes.append("Where trials differ only in parameters not drawn, the best is on top.")
    if kind == "history" and not found.whole:
        notes.append("The line is the best of these; the trials between them are not drawn.")
    if kind == "timeline":
        notes.append("Times are UTC. Trials of a pack are evaluated together, and each is drawn as long as its pack.")
    if kind == "intermediate":
        notes.append("Lines that end early are of trials that were stopped, or failed.")
    if ranking is not None:
        notes += importance_notes(ranking)
    limits = constraints_of(found.header)
    if limits and kind not in ("edf", "importance", "parallel"):
        notes.append(f"Grey: does not meet {' and '.join(map(str, limits))}.")
    if profile(found.header) == "legacy":
        notes.append(f"{LEGACY_LABEL}.")
    if imported(found.header):
        notes.append(f"{UNVERIFIED}.")
    return notes if kind in ("timeline", "importance") else [*notes, IN_SAMPLE]


def importance_notes(ranking: Ranking) -> list[str]:
    """Returns what importances are, and what they are not."""
    from sweeps.plots.importance import EVALUATORS

    best = f" (the best {ranking.top:,})" if ranking.top else ""
    notes = [f"{ranking.evaluator}: {EVALUATORS[ranking.evaluator]}{best}. Shares add up to 1, whatever they are of."]
    if ranking.deals:
        below = "is not told from noise in these trials" if ranking.learnt else "is noise"
        notes.append(
            f"By chance: the largest share in {ranking.deals} deals of the same values to other trials. Below it, a parameter {below}."
        )
    else:
        notes.append("What chance would give is not measured for this evaluator, which takes too long; ped-anova and mdi do.")
    if ranking.same:
        notes.append(f"One value only, so not ranked: {', '.join(ranking.same)}.")
    if ranking.learnt:
        notes.append(
            f"Suggested by {' and '.join(ranking.learnt)}, which gathers trials where results are good: a parameter settled early hardly "
            "varies after that, and can seem unimportant although it decides. Trials of grid, random or qmc show it."
        )
    conditional = [row for row in ranking.rows if row.conditional]
    if ranking.apart:
        notes.append(
            f"Not in all trials: {', '.join(ranking.apart)}; each ranked among the trials that have it ({LEAST} or more), "
            "so its share is of another whole."
        )
    elif conditional:
        told = ", ".join(f"{row.parameter} ({row.trials:,})" for row in conditional)
        notes.append(f"Not in all trials: {told}; ranked by the trials that have it, weighted by how many these are.")
    notes.append("Importance is of these trials in this space, in-sample. It is no evidence of an edge.")
    return notes


def percent(metric: Metric) -> bool:
    """Whether an axis of a metric has its ticks in percent."""
    return metric.unit == "fraction"


def few_values(drawing: Drawing, parameter: str) -> list[float]:
    """Returns the values of a numeric parameter, ascending, if they are so few that each can have its tick; else none."""
    from optuna.distributions import CategoricalDistribution

    distribution = drawing.projection.axes.distributions.get(parameter)
    if distribution is None or isinstance(distribution, CategoricalDistribution):
        return []
    trials = drawing.projection.study.get_trials(deepcopy=False)
    values = sorted({float(trial.params[parameter]) for trial in trials if parameter in trial.params})
    return values if len(values) <= _FEW else []


def bounds(drawing: Drawing, parameter: str) -> tuple[float, float] | None:
    """Returns where the axis of a numeric parameter begins and ends; None for categories, and for values with a tick each."""
    from optuna.distributions import FloatDistribution, IntDistribution

    distribution = drawing.projection.axes.distributions.get(parameter)
    if not isinstance(distribution, (FloatDistribution, IntDistribution)) or few_values(drawing, parameter):
        return None
    return (float(distribution.low), float(distribution.high)) if distribution.low < distribution.high else None


def in_percent(text: str) -> str:
    """Returns the label of a rank, such as "75% (0.6403)", with its value in percent."""
    return re.sub(r"\((-?[\d.]+(?:e[-+]?\d+)?)\)", lambda found: f"({float(found[1]):.2%})", text)

"""What the objective has to do with each parameter: points to draw, medians by value, and importances beside chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from results.reader import LedgerReader
from results.secrets import redacted
from sweeps.plots.figures import importance_notes
from sweeps.plots.importance import Ranking, importances, sample_of
from sweeps.plots.projection import Projection, project
from sweeps.report.part import Missing, tried

POINTS: Final = 1_000  # trials drawn, with the best among them
BEST: Final = 200
LINES: Final = 240  # of parallel coordinates
MOST: Final = 8  # parameters drawn
FEW: Final = 16  # values that get a median each


@dataclass(frozen=True, eq=False)
class Axis:
    """A parameter as an axis.

    Attributes:
        name: Of the parameter.
        labels: Of categories, in their order; empty where it is a number.
        log: Whether the numbers were spaced by their logarithm.
        values: Of the trials drawn: numbers, or places among the categories; NaN where a trial does not have it.
        medians: Of the objective by value, as (value, median, trials), where there are few values; of trials by lot.
    """

    name: str
    labels: tuple[str, ...]
    log: bool
    values: NDArray[np.float64]
    medians: tuple[tuple[float, float, int], ...] = ()

    def label(self, value: float) -> str:
        """Returns a value as text."""
        return self.labels[int(value)] if self.labels else f"{value:.6g}"


@dataclass(frozen=True, eq=False)
class Parameters:
    """Trials by their parameters.

    Attributes:
        axes: The parameters drawn, most important first.
        others: Names of parameters that are not drawn.
        trials: Numbers of the trials drawn.
        scores: Their objective, float64 (n,).
        words: Which trials these are.
        sample: Which trials medians and importances are of.
        ranking: Importances, or why there are none.
        notes: What importances are, and what they are not.
    """

    axes: tuple[Axis, ...]
    others: tuple[str, ...]
    trials: NDArray[np.int64]
    scores: NDArray[np.float64]
    words: str
    sample: str
    ranking: Ranking | Missing
    notes: tuple[str, ...] = ()


def parameters_of(ledger: LedgerReader) -> Parameters | Missing:
    """Gathers points, medians and importances; what is drawn of a large study has its best trials in it, medians and importances do not."""
    lot = sample_of(ledger, None)
    drawn = project(ledger, [lot.metrics[0].name], most=POINTS, best=BEST)
    ranking = tried(lambda: importances(lot))
    varied = [name for name in drawn.axes.distributions if len({repr(t.params.get(name)) for t in _done(lot)} - {"None"}) > 1]
    if not varied:
        return Missing("no parameter has two values or more in these trials")
    if isinstance(ranking, Ranking):
        ranked = [row.parameter for row in ranking.rows]
        varied = [*(name for name in ranked if name in varied), *(name for name in varied if name not in ranked)]
    trials = _done(drawn)
    axes = tuple(_axis(name, drawn, lot) for name in varied[:MOST])
    notes = tuple(importance_notes(ranking)) if isinstance(ranking, Ranking) else ()
    return Parameters(
        axes,
        tuple(varied[MOST:]),
        np.array([trial.number for trial in trials], np.int64),
        np.array([trial.values[0] for trial in trials], np.float64),
        drawn.words(),
        lot.words(),
        ranking,
        notes,
    )


def lines_of(found: Parameters, direction: str) -> NDArray[np.int64]:
    """Returns which of the trials drawn are lines of the parallel coordinates: the best fifth, others evenly through the ranks."""
    order = np.argsort(found.scores if direction == "min" else -found.scores, kind="stable")
    if len(order) <= LINES:
        return order
    best = LINES // 5
    rest = np.unique(np.linspace(best, len(order) - 1, LINES - best).round().astype(np.int64))
    return np.concatenate([order[:best], order[rest]])


def _done(found: Projection) -> list[Any]:
    from optuna.trial import TrialState

    return list(found.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def _axis(name: str, drawn: Projection, lot: Projection) -> Axis:
    from optuna.distributions import CategoricalDistribution

    distribution = drawn.axes.distributions[name]
    if isinstance(distribution, CategoricalDistribution):
        choices = [*dict.fromkeys([*distribution.choices, *(t.params[name] for t in _done(lot) if name in t.params)])]
        numeric = all(isinstance(choice, (int, float)) and not isinstance(choice, bool) for choice in choices)
        place: Mapping[Any, float] = {(type(choice), choice): float(choice if numeric else i) for i, choice in enumerate(choices)}
        labels = () if numeric else tuple(redacted(str(choice)) for choice in choices)  # before a drawing cuts them short

        def read(value: Any) -> float:
            return math.nan if value is None and (type(None), None) not in place else place.get((type(value), value), math.nan)

        log = False
    else:
        labels, log = (), bool(getattr(distribution, "log", False))

        def read(value: Any) -> float:
            return math.nan if value is None else float(value)

    values = np.array([read(trial.params.get(name)) for trial in _done(drawn)], np.float64)
    sampled = np.array([read(trial.params.get(name)) for trial in _done(lot)], np.float64)
    scores = np.array([trial.values[0] for trial in _done(lot)], np.float64)
    if not labels and not log:
        log = _spread(values)
    return Axis(name, labels, log, values, _medians(sampled, scores))


def _spread(values: NDArray[np.float64]) -> bool:
    """Whether listed numbers are spaced by factors rather than by steps, such as 0.0001, 0.001, 0.01."""
    known = np.unique(values[np.isfinite(values)])
    return len(known) > 2 and bool(known[0] > 0.0) and bool(known[-1] / known[0] >= 20.0) and _even(np.log(known))


def _even(places: NDArray[np.float64]) -> bool:
    gaps = np.diff(places)
    return bool(gaps.max() <= 4.0 * gaps.min())


def _medians(values: NDArray[np.float64], scores: Sequence[float] | NDArray[np.float64]) -> tuple[tuple[float, float, int], ...]:
    known = np.isfinite(values)
    distinct = np.unique(values[known])
    if len(distinct) > FEW:
        return ()
    scores = np.asarray(scores)
    return tuple((float(v), float(np.median(scores[values == v])), int((values == v).sum())) for v in distinct)

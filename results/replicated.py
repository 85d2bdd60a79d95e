"""Configurations ranked by the mean over replicates: over a seed, over a fold of luck, over anything that is not to be chosen."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.metrics import Metric
from results.validity.paired import student
from results.varied import Sweep, cells_of


class ReplicateError(ValueError):
    """A study cannot be ranked over these parameters; the message says why."""


@dataclass(frozen=True)
class Replicated:
    """A configuration without its replicates.

    Attributes:
        values: Its parameters that vary, those averaged over left out.
        n: Completed trials of it.
        mean: Of the metric.
        low: Lower end of Student's 95 % interval of the mean; NaN of a single trial.
        high: Upper end.
        worst: Of the metric, in its own direction.
    """

    values: Mapping[str, Any]
    n: int
    mean: float
    low: float
    high: float
    worst: float


@dataclass(frozen=True)
class Ranking:
    """Configurations, the best mean first.

    Attributes:
        metric: By which.
        over: Parameters averaged over.
        most: Replicates a configuration has at most.
        rows: The configurations.
        left_out: How many trials are not among them, by reason.
    """

    metric: Metric
    over: tuple[str, ...]
    most: int
    rows: tuple[Replicated, ...]
    left_out: Mapping[str, int]


def rank(sweep: Sweep, over: Sequence[str]) -> Ranking:
    """Ranks configurations by the mean over parameters; those with fewer replicates than others come after them.

    A mean of few is more often far off, so the best of many such would be the luckiest.

    Args:
        sweep: Completed trials with the metric.
        over: Parameters to average over.

    Raises:
        ReplicateError: A parameter that does not vary, or a metric of which more is neither better nor worse.
    """
    for name in over:
        if name not in sweep.axes:
            near = difflib.get_close_matches(name, sweep.axes, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" These do: {', '.join(sweep.axes) or 'none'}."
            raise ReplicateError(f"{sweep.study}: {name!r} does not vary between its completed trials.{hint}")
    if sweep.metric.direction is None:
        raise ReplicateError(f"{sweep.study}: more of {sweep.metric.name} is neither better nor worse, so it ranks nothing")
    kept = {name: axis for name, axis in sweep.axes.items() if name not in over}
    cells = cells_of(kept.values(), len(sweep.scores))
    n = np.bincount(cells)
    mean = np.bincount(cells, sweep.scores) / n
    spread = np.bincount(cells, (sweep.scores - mean[cells]) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        half, _ = student(mean, np.sqrt(spread / (n - 1)), n)
    sign = -1.0 if sweep.metric.direction == "min" else 1.0
    worst = np.full(len(n), np.inf)
    np.minimum.at(worst, cells, sign * sweep.scores)
    first: NDArray[np.int64] = np.unique(cells, return_index=True)[1]
    order = np.lexsort((-sign * mean, -n))
    rows = tuple(
        Replicated(
            {name: axis.values[axis.codes[first[i]]] for name, axis in kept.items()},
            int(n[i]),
            float(mean[i]),
            float(mean[i] - half[i]),
            float(mean[i] + half[i]),
            float(sign * worst[i]),
        )
        for i in order.tolist()
    )
    return Ranking(sweep.metric, tuple(over), int(n.max(initial=0)), rows, sweep.left_out)

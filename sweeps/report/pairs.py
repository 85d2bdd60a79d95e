"""Two studies held against each other: their winners on the same days, and the configurations both tried."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.metrics import DAYS_PER_YEAR, Metric
from results.validity.paired import LEAST_DAYS, daily_gap, student
from sweeps.report.part import Missing
from sweeps.report.sides import Side

Configurations = tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True)
class Paired:
    """The difference of two winners, day by day: the first's return minus the second's.

    Attributes:
        first: Study.
        second: Study.
        days: Both kept.
        mean: Mean difference of a day times 365, fraction.
        low: Lower limit of its 95 % block-bootstrap interval.
        high: Upper limit.
        ahead: Share of the days on which they differ that the first won.
        why: Why there is no difference to be told; empty where there is one.
    """

    first: str
    second: str
    days: int = 0
    mean: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    ahead: float = float("nan")
    why: str = ""

    @property
    def better(self) -> str:
        """The study whose winner did better beyond chance; "" where that is not shown."""
        return self.first if self.low > 0.0 else self.second if self.high < 0.0 else ""


@dataclass(frozen=True)
class Overlap:
    """Configurations that two studies share, whatever data they were evaluated on.

    Attributes:
        first: Study.
        second: Study.
        shared: Configurations both completed.
        sizes: Completed configurations of each.
        metric: Both measure and the first ranks by; None where there is none.
        mean: Of the first's value minus the second's over shared configurations; NaN where there is none.
        low: Lower limit of Student's 95 % interval.
        high: Upper limit.
        equal: Shared configurations with exactly the same value.
    """

    first: str
    second: str
    shared: int
    sizes: tuple[int, int]
    metric: Metric | None
    mean: float
    low: float
    high: float
    equal: int


def paired(a: Side, b: Side) -> Paired:
    """Subtracts one winner's daily returns from the other's, where both kept those of the same days."""
    if not _alike(a, b):
        return Paired(a.name, b.name, why="they are not comparable")
    one, other = a.winner, b.winner
    for side, found in ((a, one), (b, other)):
        if found is None:
            away = "" if isinstance(side.judged, Missing) else side.judged.elsewhere
            return Paired(a.name, b.name, why=f"{side.name}: {away}" if away else f"no daily returns are kept of the winner of {side.name}")
    assert one is not None and other is not None
    if len(a.days) != len(b.days) or (a.days != b.days).any() or (a.folds != b.folds).any():
        return Paired(a.name, b.name, why="their returns are of different days")
    if len(one) < LEAST_DAYS:
        return Paired(a.name, b.name, why=f"{len(one)} days, {LEAST_DAYS} are needed")
    gap = one - other
    if not gap.any():
        return Paired(a.name, b.name, len(gap), 0.0, 0.0, 0.0)
    mean, low, high = (value * DAYS_PER_YEAR for value in daily_gap(one, other))
    return Paired(a.name, b.name, len(gap), mean, low, high, float((gap > 0.0).sum() / (gap != 0.0).sum()))


def overlap(a: Side, one: Configurations, b: Side, other: Configurations) -> Overlap:
    """Finds the configurations two studies share.

    Args:
        a: The first.
        one: Hashes of its configurations and their values (`sweeps.report.sides.configurations`).
        b: The second.
        other: Of its.
    """
    _, i, j = np.intersect1d(one[0], other[0], return_indices=True)
    x, y = one[1][i], other[1][j]
    both = np.isfinite(x) & np.isfinite(y)
    gap = (x - y)[both]
    metric = a.objective if both.any() and _alike(a, b) else None
    mean = low = high = float("nan")
    if len(gap):
        mean = float(gap.mean())
        half, _ = student([mean], [float(gap.std(ddof=1)) if len(gap) > 1 else np.nan], [len(gap)])
        low, high = mean - float(half[0]), mean + float(half[0])
    return Overlap(a.name, b.name, len(i), (len(one[0]), len(other[0])), metric, mean, low, high, int((gap == 0.0).sum()))


def _alike(a: Side, b: Side) -> bool:
    """Whether a difference between figures of two studies means anything: both evaluated here, by no legacy rules, on the same data."""
    return not (a.label or b.label) and a.header.context["data_fingerprint"] == b.header.context["data_fingerprint"]

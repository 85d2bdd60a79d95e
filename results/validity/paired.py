"""Paired differences: intervals of their mean, by Student's t or by block bootstrap of days, and p-values corrected for their number."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from results.metrics import DAYS_PER_YEAR
from results.validity.resampling import confidence_intervals

LEVEL = 0.95
LEAST_DAYS = 20  # below that a bootstrap of days says nothing


def daily_gap(one: ArrayLike, other: ArrayLike) -> tuple[float, float, float]:
    """Returns the mean of one account's daily returns minus another's, and the limits of its 95 % block-bootstrap interval.

    Args:
        one: (days,), at least `LEAST_DAYS`.
        other: (days,), the same days.
    """
    gap = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    if not np.ptp(gap):
        return float(gap[0]), float(gap[0]), float(gap[0])
    interval = confidence_intervals(gap, periods_per_year=DAYS_PER_YEAR, level=LEVEL)["mean_return"]
    return float(gap.mean()), float(interval.low[0]), float(interval.high[0])


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Returns p-values corrected for their number: Holm, S. (1979), "A simple sequentially rejective multiple test procedure".

    Args:
        p_values: (m,); NaN is no test, is not counted and stays.

    Returns:
        float64 (m,): at or below α where the family's chance of any false rejection is at most α.
    """
    p = np.array(p_values, np.float64)
    order = np.argsort(p, kind="stable")[: int(np.isfinite(p).sum())]  # NaN sorts last
    steps = p[order] * np.arange(len(order), 0, -1)
    p[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return p


def student(mean: ArrayLike, deviation: ArrayLike, n: ArrayLike, level: float = LEVEL) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns half the width of Student's t interval of a mean, and the two-sided p-value that it is 0.

    Args:
        mean: (k,).
        deviation: (k,), with n − 1 in the denominator.
        n: (k,), how many values each is of; below 2 gives NaN.
        level: Of the interval.
    """
    from scipy.special import stdtr, stdtrit

    n = np.asarray(n, np.float64)
    freedom = np.where(n >= 2, n - 1.0, np.nan)
    error = np.asarray(deviation, np.float64) / np.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2.0 * stdtr(freedom, -np.abs(np.asarray(mean, np.float64)) / error)
    return stdtrit(freedom, 0.5 + level / 2.0) * error, p

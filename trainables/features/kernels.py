"""Rolling sums and their kin over one symbol's bars, with the same bits wherever the series begins.

Every window is summed anew, in one fixed order, and not by adding the bar that enters and subtracting the one that leaves: such a
running sum carries the rounding of everything before it, so a row would depend on where its history starts. Eight partial sums
keep the processor busy; their order is part of the result.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

FLAT = 1e-12  # a standard deviation below this share of the mean is rounding


@njit(cache=True)
def total(x, start, stop):
    """Sum of x[start:stop] in the order of this module."""
    a = b = c = d = e = f = g = h = 0.0
    i = start
    while i + 8 <= stop:
        a += x[i]
        b += x[i + 1]
        c += x[i + 2]
        d += x[i + 3]
        e += x[i + 4]
        f += x[i + 5]
        g += x[i + 6]
        h += x[i + 7]
        i += 8
    while i < stop:
        a += x[i]
        i += 1
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@njit(cache=True)
def total_squares(x, mean, start, stop):
    """Sum of (x − mean)² over x[start:stop] in the order of this module."""
    a = b = c = d = 0.0
    i = start
    while i + 4 <= stop:
        a += (x[i] - mean) * (x[i] - mean)
        b += (x[i + 1] - mean) * (x[i + 1] - mean)
        c += (x[i + 2] - mean) * (x[i + 2] - mean)
        d += (x[i + 3] - mean) * (x[i + 3] - mean)
        i += 4
    while i < stop:
        a += (x[i] - mean) * (x[i] - mean)
        i += 1
    return (a + b) + (c + d)


@njit(cache=True)
def rolling_mean(x, window):
    """Mean of the last `window` values, float64 (n,); NaN where one is missing."""
    out = np.full(x.shape[0], np.nan)
    for i in range(window - 1, x.shape[0]):
        out[i] = total(x, i + 1 - window, i + 1) / window
    return out


@njit(cache=True)
def rolling_sd(x, window):
    """Standard deviation (n − 1) of the last `window` values, float64 (n,); NaN where one is missing, 0 where all are equal."""
    out = np.full(x.shape[0], np.nan)
    for i in range(window - 1, x.shape[0]):
        mean = total(x, i + 1 - window, i + 1) / window
        sd = math.sqrt(total_squares(x, mean, i + 1 - window, i + 1) / (window - 1))
        out[i] = 0.0 if sd <= FLAT * abs(mean) else sd
    return out


@njit(cache=True)
def rolling_max(x, window):
    """Largest of the last `window` values, float64 (n,), NaN before; x has no NaN."""
    n = x.shape[0]
    out = np.full(n, np.nan)
    queue = np.empty(n, np.int64)  # positions of falling values
    head = 0
    tail = 0
    for i in range(n):
        while tail > head and x[queue[tail - 1]] <= x[i]:
            tail -= 1
        queue[tail] = i
        tail += 1
        if queue[head] <= i - window:
            head += 1
        if i >= window - 1:
            out[i] = x[queue[head]]
    return out


@njit(cache=True)
def ema(x, span):
    """Exponential mean, α = 2/(span + 1), started at the first value; float64 (n,)."""
    out = np.empty(x.shape[0])
    alpha = 2.0 / (span + 1.0)
    for i in range(x.shape[0]):
        out[i] = x[i] if i == 0 else alpha * x[i] + (1.0 - alpha) * out[i - 1]
    return out


@njit(cache=True)
def logarithm(x):
    """Natural logarithm, float64 (n,), one value after the other: a vector library may round a remainder differently."""
    out = np.empty(x.shape[0])
    for i in range(x.shape[0]):
        out[i] = math.log(x[i]) if x[i] > 0.0 else np.nan
    return out


@njit(cache=True)
def rolling_pair(x, y, window, least):
    """Correlation of x and y, and slope of x on y, over those of the last `window` rows that have both.

    Args:
        x, y: float64 (n,), NaN where missing.
        window: Rows, cut off at the first.
        least: Fewest pairs for an answer.

    Returns:
        float64 (2, n), NaN with too few pairs or where one does not move.
    """
    n = x.shape[0]
    out = np.full((2, n), np.nan)
    for i in range(n):
        start = max(0, i + 1 - window)
        count = 0
        sum_x = 0.0
        sum_y = 0.0
        for j in range(start, i + 1):
            if math.isfinite(x[j]) and math.isfinite(y[j]):
                count += 1
                sum_x += x[j]
                sum_y += y[j]
        if count < least:
            continue
        mean_x = sum_x / count
        mean_y = sum_y / count
        xx = 0.0
        yy = 0.0
        xy = 0.0
        for j in range(start, i + 1):
            if math.isfinite(x[j]) and math.isfinite(y[j]):
                xx += (x[j] - mean_x) * (x[j] - mean_x)
                yy += (y[j] - mean_y) * (y[j] - mean_y)
                xy += (x[j] - mean_x) * (y[j] - mean_y)
        moves_y = math.sqrt(yy / count) > FLAT * abs(mean_y)
        if moves_y:
            out[1, i] = xy / yy
        if moves_y and math.sqrt(xx / count) > FLAT * abs(mean_x):
            out[0, i] = min(1.0, max(-1.0, xy / math.sqrt(xx * yy)))
    return out


@njit(cache=True)
def basket(logs, own, window):
    """Where a symbol's return over `window` rows stands among a basket's.

    Args:
        logs: float64 (M, n), ln of each member's price as of every row; NaN where it has none.
        own: float64 (n,), the symbol's, itself a member.
        window: Rows.

    Returns:
        float64 (2, n): return minus the members' mean, and the share of the other members it beats, half for equals; NaN where
        fewer than two members have a return.
    """
    members, n = logs.shape
    out = np.full((2, n), np.nan)
    for i in range(window, n):
        mine = own[i] - own[i - window]
        count = 0
        summed = 0.0
        below = 0.0
        for m in range(members):
            gained = logs[m, i] - logs[m, i - window]
            if math.isfinite(gained):
                count += 1
                summed += gained
                below += 1.0 if gained < mine else (0.5 if gained == mine else 0.0)
        if count >= 2:
            out[0, i] = mine - summed / count
            out[1, i] = (below - 0.5) / (count - 1)  # it is as good as itself
    return out

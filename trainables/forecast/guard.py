"""The plausibility guard: what a model says that no market does is replaced by a rule of thumb, and marked (SPEC D, J17)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from trainables.forecast.table import FIELDS, QUANTILES

VERSION: Final = 1  # part of what guarded tables depend on
RETURNS: Final = 8  # past returns that the rule of thumb carries on
REACH: Final = RETURNS + 1  # bars
RATIOS: Final = (0.01, 100.0)  # of a forecast to the last close


def guarded(values: np.ndarray, bars: np.ndarray, horizons: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Replaces implausible forecasts of a symbol and puts the rest in order.

    Implausible is a forecast of a horizon with a value that is not finite, not positive or beyond `RATIOS` of the last close, or
    whose median low lies above its median high. In order: p10 ≤ p50 ≤ p90, and at every level high the highest and low the lowest of
    the four, which makes high ≥ max(low, p50) and low ≤ min(high, p50).

    Args:
        values: float64 (H·4·3, n), as in `Piece.values`.
        bars: float64 (4, m + n), open, high, low, close up to each forecast's last bar; m bars come before, `RETURNS` or all there are.
        horizons: The H.

    Returns:
        Values like those given, and where they were replaced, float64 (H, n) of 0 and 1.
    """
    n = values.shape[1]
    cells = values.reshape(len(horizons), len(FIELDS), len(QUANTILES), n)
    close = bars[3, bars.shape[1] - n :]
    with np.errstate(invalid="ignore"):
        inside = (cells > 0) & (cells >= RATIOS[0] * close) & (cells <= RATIOS[1] * close)  # a NaN is not
        bad = ~inside.all(axis=(1, 2)) | (cells[:, 2, 1] > cells[:, 1, 1])
    cells = np.where(bad[:, None, None], rule_of_thumb(bars, n, horizons), cells) if bad.any() else cells
    ordered = np.sort(cells, axis=2)
    out = ordered.copy()
    out[:, 1] = ordered.max(axis=1)
    out[:, 2] = ordered.min(axis=1)
    return out.reshape(values.shape), bad.astype(np.float64)


def rule_of_thumb(bars: np.ndarray, n: int, horizons: Sequence[int]) -> np.ndarray:
    """Carries on the mean of the last returns: close·(1 + mean)^h, reaching to the last bar's low and high, float64 (H, 4, 3, n).

    Args:
        bars: As in `guarded`.
        n: Forecasts.
        horizons: The H.
    """
    _, high, low, close = bars
    before = np.concatenate([np.full(RETURNS + 1, np.nan), close])
    total, count = np.zeros(n), np.zeros(n)
    for lag in range(RETURNS):  # one lag at a time: the sum's order does not depend on how many rows there are
        stop = len(before) - lag
        moved = before[stop - n : stop] / before[stop - 1 - n : stop - 1] - 1
        total += np.where(np.isfinite(moved), moved, 0.0)
        count += np.isfinite(moved)
    high, low, close = (x[len(x) - n :] for x in (high, low, close))
    out = np.empty((len(horizons), len(FIELDS), len(QUANTILES), n))
    growth = 1 + total / np.maximum(count, 1)
    for i, h in enumerate(horizons):
        middle = close * np.clip(growth**h, *RATIOS)
        bottom, top = np.minimum(middle, low), np.maximum(middle, high)
        out[i, 0] = out[i, 3] = bottom, middle, top
        out[i, 1] = middle, top, top
        out[i, 2] = bottom, bottom, middle
    return out

"""The `empirical` forecaster: rolling quantiles of what the last bars did, carried forward from the last close.

The honest baseline: on a random walk nothing does better. Information up to and including bar t only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from trainables.contract import TrainableError
from trainables.forecast.table import FIELDS, QUANTILES, Forecasts
from trainables.market import Panel

MINIMUM = 24  # past values


@njit(cache=True)
def _rolling_quantiles(x, window, minimum, levels, out):
    """Quantiles (linear interpolation) of the last `window` finite values at each position.

    Args:
        x: float64 (n,). window: values kept. minimum: fewest values for an answer. levels: (Q,). out: float64 (Q, n), NaN where short.
    """
    ordered = np.empty(window)
    ring = np.empty(window)
    count = 0
    head = 0
    for i in range(x.shape[0]):
        if np.isfinite(x[i]):
            if count == window:
                j = np.searchsorted(ordered[:count], ring[head])
                for k in range(j, count - 1):
                    ordered[k] = ordered[k + 1]
                count -= 1
            j = np.searchsorted(ordered[:count], x[i])
            for k in range(count, j, -1):
                ordered[k] = ordered[k - 1]
            ordered[j] = x[i]
            ring[head] = x[i]
            head = (head + 1) % window
            count += 1
        for q in range(levels.shape[0]):
            if count < minimum:
                out[q, i] = np.nan
                continue
            place = levels[q] * (count - 1)
            low = int(place)
            high = min(low + 1, count - 1)
            out[q, i] = ordered[low] + (place - low) * (ordered[high] - ordered[low])


def empirical(panel: Panel, horizons: Sequence[int] = (1,), window: int = 168, minimum: int = MINIMUM) -> Forecasts:
    """Forecasts each field's quantiles from rolling quantiles of past h-bar log returns and ranges.

    For field x and horizon h the sample at t is ln(x_i / c_{i−h}) over the symbol's last `window` bars i ≤ t; its quantiles
    times c_t are the forecast of bar t+h.

    Args:
        panel: Bars, T rows × A symbols.
        horizons: Steps ahead in the symbol's own bars (session bars for stocks).
        window: Past values used.
        minimum: Fewest past values for a forecast; NaN before.

    Returns:
        Forecasts with values (H, 4, 3, T, A).

    Raises:
        TrainableError: No horizon, one below 1 or twice, or a window shorter than `minimum`.
    """
    if not horizons or min(horizons) < 1 or len(set(horizons)) != len(horizons):
        raise TrainableError(f"horizons: {list(horizons)}; give distinct whole numbers of bars, at least 1")
    if not 1 <= minimum <= window:
        raise TrainableError(f"window: {window} bars never hold the {minimum} past values a forecast needs; give at least {minimum}")
    shape = (len(horizons), len(FIELDS), len(QUANTILES), *panel.close.shape)
    values = np.full(shape, np.nan)
    levels = np.array(QUANTILES)
    fields = (panel.open, panel.high, panel.low, panel.close)
    for a in range(len(panel.symbols)):
        rows = np.flatnonzero(np.isfinite(panel.close[:, a]))
        close = panel.close[rows, a]
        for i, horizon in enumerate(horizons):
            if len(rows) <= horizon:
                continue
            out = np.full((len(QUANTILES), len(rows)), np.nan)
            for f, field in enumerate(fields):
                ratio = np.full(len(rows), np.nan)
                ratio[horizon:] = np.log(field[rows[horizon:], a] / close[:-horizon])
                _rolling_quantiles(ratio, window, minimum, levels, out)
                values[i, f, :, rows, a] = (close * np.exp(out)).T
    source = f"empirical(window={window})" if minimum == MINIMUM else f"empirical(window={window}, minimum={minimum})"
    return Forecasts(panel.times, panel.symbols, tuple(int(h) for h in horizons), values, panel.bar_seconds, source)

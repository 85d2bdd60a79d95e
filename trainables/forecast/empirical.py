"""The `empirical` forecaster: rolling quantiles of what the last bars did, carried forward from the last close.

The honest baseline: on a random walk nothing does better. Information up to and including bar t only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numba import njit

from trainables.contract import Parameter, TrainableError
from trainables.forecast.forecaster import HORIZONS, Done, Forecaster, checked_horizons
from trainables.forecast.table import FIELDS, QUANTILES, Forecasts, Piece
from trainables.market import Panel
from trainables.market.panel import PRICES

MINIMUM: Final = 24  # past values
VERSION: Final = 1
WINDOW: Final = 168
PARAMETERS: Final = (
    Parameter("window", WINDOW, "int", 1, 1_000_000, unit="bars", doc="past values the quantiles are of"),
    Parameter("minimum", MINIMUM, "int", 1, 1_000_000, doc="fewest past values for a forecast"),
)


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


class Empirical(Forecaster):
    """Rolling quantiles behind the interface of forecasters; see `empirical`."""

    name = "empirical"

    def __init__(self, window: int = WINDOW, minimum: int = MINIMUM, horizons: Sequence[int] = HORIZONS) -> None:
        self.horizons = checked_horizons(horizons)
        if not 1 <= minimum <= window:
            raise TrainableError(f"window: {window} bars never hold the {minimum} past values a forecast needs; give at least {minimum}")
        self.window, self.minimum = int(window), int(minimum)
        self.reach = self.window + max(self.horizons)

    @property
    def spec(self) -> Mapping[str, Any]:
        """Window and fewest values."""
        return {
            "forecaster": self.name,
            "version": VERSION,
            "window": self.window,
            "minimum": self.minimum,
            "horizons": list(self.horizons),
        }

    @property
    def source(self) -> str:
        """As in tables of the function `empirical`."""
        return f"empirical(window={self.window})" if self.minimum == MINIMUM else f"empirical(window={self.window}, minimum={self.minimum})"

    def build(self, panel: Panel, columns: tuple[int, ...], rows: np.ndarray, first: int, stop: int, done: Done) -> np.ndarray:
        """Takes quantiles of the bars within reach."""
        start = max(0, first + 1 - self.reach)
        at, a = rows[start:stop], columns[0]
        return self.of(np.stack([getattr(panel, name)[at, a] for name in PRICES]))[:, first - start :]

    def of(self, bars: np.ndarray) -> np.ndarray:
        """Forecasts at the end of each bar, float64 (H·4·3, n) of open, high, low, close (4, n)."""
        close, n, levels = bars[3], bars.shape[1], np.array(QUANTILES)
        values = np.full((len(self.horizons) * len(FIELDS) * len(QUANTILES), n), np.nan)
        for i, horizon in enumerate(self.horizons):
            if n <= horizon:
                continue
            out = np.full((len(QUANTILES), n), np.nan)
            for f, field in enumerate(bars):
                ratio = np.full(n, np.nan)
                ratio[horizon:] = np.log(field[horizon:] / close[:-horizon])
                _rolling_quantiles(ratio, self.window, self.minimum, levels, out)
                place = (i * len(FIELDS) + f) * len(QUANTILES)
                values[place : place + len(QUANTILES)] = close * np.exp(out)
        return values


def empirical(panel: Panel, horizons: Sequence[int] = (1,), window: int = WINDOW, minimum: int = MINIMUM) -> Forecasts:
    """Forecasts each field's quantiles from rolling quantiles of past h-bar log returns and ranges.

    For field x and horizon h the sample at t is ln(x_i / c_{i−h}) over the symbol's last `window` bars i ≤ t; its quantiles
    times c_t are the forecast of bar t+h.

    Args:
        panel: Bars, T rows × A symbols.
        horizons: Steps ahead in the symbol's own bars (session bars for stocks).
        window: Past values used.
        minimum: Fewest past values for a forecast; NaN before.

    Returns:
        Forecasts at every bar, computed here and now; `issue` of an `Empirical` reads the same from whoever keeps tables.

    Raises:
        TrainableError: No horizon, one below 1 or twice, or a window shorter than `minimum`.
    """
    forecaster = Empirical(window, minimum, horizons)
    pieces = []
    for columns in forecaster.groups(panel):
        rows, bars = forecaster.bars(panel, columns)
        pieces.append(Piece(columns[0], rows, forecaster.of(bars)))
    return Forecasts(panel.times, panel.symbols, forecaster.horizons, tuple(pieces), panel.bar_seconds, forecaster.source)

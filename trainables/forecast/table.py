"""The forecast table: quantiles of open, high, low and close of the bar h steps ahead (SPEC D, [C] alignment).

Row t holds what was issued at the end of bar t, from bars up to t. A missing forecast is NaN, never a neutral number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trainables.contract import TrainableError

FIELDS = ("open", "high", "low", "close")
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True, eq=False)
class Forecasts:
    """Forecasts on a panel's axes.

    Attributes:
        times: datetime64[ns] (T,), start of the last bar the forecast has seen (`issued_at`).
        symbols: (A,).
        horizons: Steps ahead, counted in the symbol's own bars.
        values: float64 (H, 4, 3, T, A): horizon, field (`FIELDS`), quantile (`QUANTILES`), row, symbol.
        bar_seconds: Length of a bar.
        source: Forecaster and its parameters; part of what identifies results built on it.
    """

    times: np.ndarray
    symbols: tuple[str, ...]
    horizons: tuple[int, ...]
    values: np.ndarray
    bar_seconds: float
    source: str

    def p50(self, field: str, horizon: int = 1) -> np.ndarray:
        """Median forecast of a field, float64 (T, A).

        Raises:
            TrainableError: A field or horizon the table does not hold.
        """
        if field not in FIELDS or horizon not in self.horizons:
            raise TrainableError(
                f"forecast: no {field!r} at horizon {horizon}; it has {', '.join(FIELDS)} at {', '.join(map(str, self.horizons))}"
            )
        return self.values[self.horizons.index(horizon), FIELDS.index(field), QUANTILES.index(0.5)]

    def table(self) -> pd.DataFrame:
        """Tidy rows in the schema of SPEC D: one per (issued_at, symbol, horizon) that has a forecast.

        `timestamp` and `target_timestamp` are bar lengths after `issued_at`: where the symbol's next bars come later (a closed
        market, a gap), so does the bar that is meant.
        """
        frames = []
        for i, horizon in enumerate(self.horizons):
            t, a = np.nonzero(np.isfinite(self.values[i]).all(axis=(0, 1)))
            issued = pd.DatetimeIndex(self.times[t], tz="UTC")
            step = pd.Timedelta(seconds=self.bar_seconds)
            columns = {
                "timestamp": issued + step,
                "symbol": np.array(self.symbols)[a],
                "issued_at": issued,
                "target_timestamp": issued + step * horizon,
                "horizon_hours": horizon * self.bar_seconds / 3600.0,
                "source": self.source,
            }
            for f, field in enumerate(FIELDS):
                for q, level in enumerate(QUANTILES):
                    columns[f"predicted_{field}_p{round(level * 100)}"] = self.values[i, f, q, t, a]
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)

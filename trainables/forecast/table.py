"""The forecast table: quantiles of open, high, low and close of the bar h steps ahead (SPEC D, [C] alignment).

Row t holds what was issued at the end of bar t, from bars up to t. A missing forecast is NaN, never a neutral number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from trainables.contract import TrainableError

FIELDS: Final = ("open", "high", "low", "close")
QUANTILES: Final = (0.1, 0.5, 0.9)


def column_names(horizons: Sequence[int], symbol: str = "") -> tuple[str, ...]:
    """Names what a symbol has in a table: `close_p50_h4` of every horizon, field and quantile, then `heuristic_h4` of every horizon."""
    before = f"{symbol}." if symbol else ""
    predicted = [f"{before}{field}_p{round(100 * q)}_h{h}" for h in horizons for field in FIELDS for q in QUANTILES]
    return (*predicted, *(f"{before}heuristic_h{h}" for h in horizons))


@dataclass(frozen=True, eq=False)
class Piece:
    """Forecasts of one symbol on some rows, as they lie in a table.

    Attributes:
        column: Which of the panel's symbols.
        rows: int64 (n,), panel rows they were issued at, ascending.
        values: float64 (H·4·3, n), in the order of `column_names`; not copied.
        heuristic: float64 (H, n), 1 where the plausibility guard replaced a forecast; None is nowhere.
    """

    column: int
    rows: np.ndarray
    values: np.ndarray
    heuristic: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Forecasts:
    """Forecasts on a panel's axes. They stay where they were read from; (T, A) arrays are made when asked for.

    Attributes:
        times: datetime64[ns] (T,), start of the last bar the forecast has seen (`issued_at`).
        symbols: (A,).
        horizons: Steps ahead, counted in the symbol's own bars.
        pieces: What was issued; rows without are missing. A float64 array (H, 4, 3, T, A) may be given instead: horizon, field
            (`FIELDS`), quantile (`QUANTILES`), row, symbol.
        bar_seconds: Length of a bar.
        source: Forecaster and its parameters; part of what identifies results built on it.
    """

    times: np.ndarray
    symbols: tuple[str, ...]
    horizons: tuple[int, ...]
    pieces: Sequence[Piece] | np.ndarray
    bar_seconds: float
    source: str

    def __post_init__(self) -> None:
        if isinstance(self.pieces, np.ndarray):
            shape = (len(self.horizons), len(FIELDS), len(QUANTILES), len(self.times), len(self.symbols))
            if self.pieces.shape != shape:
                raise TrainableError(f"forecast: values of shape {self.pieces.shape}; for these axes {shape} is needed")
            rows = np.arange(len(self.times))
            cells = np.asarray(self.pieces, np.float64)
            pieces = [Piece(a, rows, cells[..., a].reshape(int(np.prod(shape[:3])), len(rows))) for a in range(len(self.symbols))]
            object.__setattr__(self, "pieces", tuple(pieces))

    def quantile(self, field: str, level: float = 0.5, horizon: int = 1) -> np.ndarray:
        """Forecasts of one quantile of a field, float64 (T, A), NaN where there is none.

        Raises:
            TrainableError: A field, quantile or horizon the table does not hold.
        """
        if field not in FIELDS or horizon not in self.horizons or level not in QUANTILES:
            asked = f"{field!r} at horizon {horizon}" if level in QUANTILES else f"quantile {level:g}"
            has = f"{', '.join(FIELDS)} at {', '.join(map(str, self.horizons))}, quantiles {', '.join(map(str, QUANTILES))}"
            raise TrainableError(f"forecast: no {asked}; it has {has}")
        place = (self.horizons.index(horizon) * len(FIELDS) + FIELDS.index(field)) * len(QUANTILES) + QUANTILES.index(level)
        out = np.full((len(self.times), len(self.symbols)), np.nan)
        for piece in self.pieces:
            out[piece.rows, piece.column] = piece.values[place]
        return out

    def p50(self, field: str, horizon: int = 1) -> np.ndarray:
        """Median forecast of a field, as in `quantile`."""
        return self.quantile(field, 0.5, horizon)

    def heuristic(self, horizon: int = 1) -> np.ndarray:
        """Says, bool (T, A), where the plausibility guard replaced what the model forecast (SPEC J17)."""
        out = np.zeros((len(self.times), len(self.symbols)), bool)
        for piece in self.pieces:
            if piece.heuristic is not None:
                out[piece.rows, piece.column] = piece.heuristic[self.horizons.index(horizon)] > 0
        return out

    @property
    def values(self) -> np.ndarray:
        """All of them in a new float64 array (H, 4, 3, T, A)."""
        shape = (len(self.horizons), len(FIELDS), len(QUANTILES), len(self.times), len(self.symbols))
        out = np.full(shape, np.nan)
        flat = out.reshape(int(np.prod(shape[:3])), *shape[3:])
        for piece in self.pieces:
            flat[:, piece.rows, piece.column] = piece.values
        return out

    def table(self) -> pd.DataFrame:
        """Tidy rows in the schema of SPEC D: one per (issued_at, symbol, horizon) that has a forecast.

        `timestamp` and `target_timestamp` are bar lengths after `issued_at`: where the symbol's next bars come later (a closed
        market, a gap), so does the bar that is meant. `source` is `model` or `heuristic`.
        """
        frames = []
        step = pd.Timedelta(seconds=self.bar_seconds)
        levels = [f"predicted_{field}_p{round(level * 100)}" for field in FIELDS for level in QUANTILES]
        for i, horizon in enumerate(self.horizons):
            for piece in self.pieces:
                own = piece.values[i * len(levels) : (i + 1) * len(levels)]
                have = np.isfinite(own).all(axis=0)
                issued = pd.DatetimeIndex(self.times[piece.rows[have]], tz="UTC")
                replaced = np.zeros(len(issued), bool) if piece.heuristic is None else piece.heuristic[i, have] > 0
                columns = {
                    "timestamp": issued + step,
                    "symbol": np.full(len(issued), self.symbols[piece.column], object),
                    "issued_at": issued,
                    "target_timestamp": issued + step * horizon,
                    "horizon_hours": np.full(len(issued), horizon * self.bar_seconds / 3600.0),
                    "source": np.where(replaced, "heuristic", "model").astype(object),
                    "forecaster": np.full(len(issued), self.source, object),
                }
                frames.append(pd.DataFrame(columns | dict(zip(levels, own[:, have], strict=True))))
        if not frames:
            return pd.DataFrame(
                columns=["timestamp", "symbol", "issued_at", "target_timestamp", "horizon_hours", "source", "forecaster", *levels]
            )
        table = pd.concat(frames, ignore_index=True)
        return table.sort_values(["horizon_hours", "issued_at", "symbol"], kind="stable", ignore_index=True)

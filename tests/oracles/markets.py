"""Random markets and decisions, as the tidy tables `simulate` takes and the arrays an oracle wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from trainables.selector import simulate

FIELDS = ("open", "high", "low", "close", "volume")
DECISIONS = ("buy_price", "sell_price", "buy_amount", "sell_amount")
FORECASTS = ("predicted_high_p50_h1", "predicted_low_p50_h1", "predicted_close_p50_h1")
CASH = 10_000.0


@dataclass(frozen=True, eq=False)
class RandomMarket:
    """A market that is always open, with prices that gap between bars.

    Attributes:
        times: Bar starts, UTC.
        symbols: Alphabetical.
        bars: (T, A) arrays by field.
        orders: (T, A) arrays by decision and forecast; NaN rows are decisions that are missing.
        costs: As `simulate` takes them.
    """

    times: pd.DatetimeIndex
    symbols: tuple[str, ...]
    bars: dict[str, np.ndarray]
    orders: dict[str, np.ndarray]
    costs: dict[str, dict[str, Any]]

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Returns (bars with forecasts, actions)."""
        tidy = pd.DataFrame(
            {
                "timestamp": np.repeat(self.times, len(self.symbols)),
                "symbol": np.tile(np.array(self.symbols, object), len(self.times)),
                **{name: values.ravel() for name, values in (self.bars | self.orders).items()},
            }
        )
        return tidy[["timestamp", "symbol", *FIELDS, *FORECASTS]], tidy[["timestamp", "symbol", *DECISIONS]].dropna()

    def simulate(self, *configs: dict[str, Any]) -> Any:
        """Runs our simulator with everything it can report."""
        return simulate(*self.tables(), list(configs), costs=self.costs, initial_cash=CASH, equity=True, fills=True)


def random_market(seed: int, rows: int, symbols: tuple[str, ...], *, missing_hours: float = 0.0, **costs: Any) -> RandomMarket:
    """Draws a market of `rows` hourly bars; `missing_hours` is the share of hours in which no symbol has a bar."""
    rng = np.random.default_rng(seed)
    hours = pd.date_range("2024-03-01", periods=2 * rows, freq="h", tz="UTC")
    times = hours[rng.random(len(hours)) >= missing_hours][:rows]
    shape = (rows, len(symbols))
    open_ = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.006, shape), axis=0))
    close = open_ * np.exp(rng.normal(0.0, 0.005, shape))
    high = np.maximum(open_, close) * (1.0 + rng.exponential(0.003, shape))
    low = np.minimum(open_, close) * (1.0 - rng.exponential(0.003, shape))
    orders = {
        "buy_price": close * (1.0 - rng.exponential(0.003, shape)),
        "sell_price": close * (1.0 + rng.exponential(0.004, shape)),
        "buy_amount": rng.choice([0.0, 0.4, 0.8, 1.0], shape),
        "sell_amount": rng.choice([0.0, 0.5, 1.0], shape),
        "predicted_high_p50_h1": close * (1.0 + np.abs(rng.normal(0.006, 0.006, shape))),
        "predicted_low_p50_h1": close * (1.0 - np.abs(rng.normal(0.004, 0.005, shape))),
        "predicted_close_p50_h1": close * (1.0 + rng.normal(0.002, 0.006, shape)),
    }
    silent = rng.random(shape) < 0.05
    orders = {name: np.where(silent, np.nan, values) for name, values in orders.items()}
    bars = {"open": open_, "high": high, "low": low, "close": close, "volume": np.full(shape, 1e6)}
    fees = {"maker_fee_bps": 15.0, "taker_fee_bps": 25.0, "half_spread_bps": 3.0, "min_notional": 0.0}
    return RandomMarket(times, symbols, bars, orders, {"crypto": fees | costs})

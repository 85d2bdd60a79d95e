"""From a policy's four numbers per bar to limit prices and amounts (SPEC F.4, amounts in [0, 1])."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trainables.contract import TrainableError
from trainables.forecast.table import Forecasts
from trainables.market import Panel

# Prices must differ by at least this share of the close, or 1e-8, whichever is larger.
_MIN_GAP = 3e-4


@dataclass(frozen=True, eq=False)
class Actions:
    """Decisions at the end of each row's bar, for the next bar.

    Attributes:
        times: datetime64[ns] (T,). symbols: (A,).
        buy_price, sell_price: float64 (T, A), NaN where there is no decision.
        buy_amount, sell_amount: float64 (T, A) in [0, 1].
    """

    times: np.ndarray
    symbols: tuple[str, ...]
    buy_price: np.ndarray
    sell_price: np.ndarray
    buy_amount: np.ndarray
    sell_amount: np.ndarray

    def table(self) -> pd.DataFrame:
        """Tidy rows `timestamp, symbol, buy_price, sell_price, buy_amount, sell_amount`."""
        t, a = np.nonzero(np.isfinite(self.buy_price))
        return pd.DataFrame(
            {
                "timestamp": pd.DatetimeIndex(self.times[t], tz="UTC"),
                "symbol": np.array(self.symbols)[a],
                "buy_price": self.buy_price[t, a],
                "sell_price": self.sell_price[t, a],
                "buy_amount": self.buy_amount[t, a],
                "sell_amount": self.sell_amount[t, a],
            }
        )


def decode(panel: Panel, forecasts: Forecasts, logits: Sequence[float] | np.ndarray = (0.0, 0.0, 2.0, 2.0), horizon: int = 1) -> Actions:
    """Decodes (buy price, sell price, buy amount, sell amount) logits in midpoint mode.

    buy = Lo + σ(b)(ref − Lo) with Lo = min(predicted low, ref); sell = ref + σ(s)(Hi − ref) with Hi = max(predicted high, ref),
    then sell ≥ buy + max(3 bps of ref, 1e-8); amounts σ(a). ref is the close of the deciding bar.

    Args:
        panel: Bars (T, A).
        forecasts: On the panel's rows and symbols.
        logits: Four numbers for every row (the fixed baseline), or float64 (4, T, A).
        horizon: Whose low and high bound the prices (SPEC G.1); `forecasts` must hold it.

    Returns:
        Actions on the panel's axes; where the close, a forecast or a logit is missing, all four are NaN.

    Raises:
        TrainableError: Logits or forecasts of another shape than the panel's.
    """
    shape = panel.close.shape
    given = np.asarray(logits, dtype=float)
    if given.shape not in ((4,), (4, *shape)):
        raise TrainableError(f"logits: shape {given.shape}; give four numbers, or (4, rows, symbols) = {(4, *shape)}")
    if forecasts.symbols != panel.symbols or not np.array_equal(forecasts.times, panel.times):
        raise TrainableError("decode: the forecasts are not on the panel's rows and symbols; forecast and decode the same panel")
    b, s, buy_amount, sell_amount = (np.broadcast_to(_sigmoid(x), shape) for x in given)
    ref = panel.close
    low = np.minimum(forecasts.p50("low", horizon), ref)
    high = np.maximum(forecasts.p50("high", horizon), ref)
    buy = low + b * (ref - low)
    sell = np.maximum(ref + s * (high - ref), buy + np.maximum(ref * _MIN_GAP, 1e-8))
    orders = np.stack([buy, sell, buy_amount, sell_amount])
    orders[:, ~np.isfinite(orders).all(axis=0)] = np.nan
    return Actions(panel.times, panel.symbols, *orders)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # exp(−x) = ∞ gives the right 0
        return 1.0 / (1.0 + np.exp(-x))

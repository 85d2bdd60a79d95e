"""From a policy's four numbers per bar to limit prices and amounts (SPEC F.4, amounts in [0, 1])."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

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


def decode(panel: Panel, forecasts: Forecasts, logits: tuple[float, float, float, float] | np.ndarray = (0.0, 0.0, 2.0, 2.0)) -> Actions:
    """Decodes (buy price, sell price, buy amount, sell amount) logits in midpoint mode.

    buy = Lo + σ(b)(ref − Lo) with Lo = min(predicted low, ref); sell = ref + σ(s)(Hi − ref) with Hi = max(predicted high, ref),
    then sell ≥ buy + max(3 bps of ref, 1e-8); amounts σ(a). ref is the close of the deciding bar.

    Args:
        panel: Bars (T, A).
        forecasts: Must hold horizon 1.
        logits: Four numbers for every row (the fixed baseline), or float64 (4, T, A).
    """
    shape = panel.close.shape
    b, s, buy_logit, sell_logit = (_sigmoid(np.broadcast_to(np.asarray(x, dtype=float), shape)) for x in logits)
    ref = panel.close
    low = np.minimum(forecasts.p50("low"), ref)
    high = np.maximum(forecasts.p50("high"), ref)
    buy = low + b * (ref - low)
    sell = np.maximum(ref + s * (high - ref), buy + np.maximum(ref * _MIN_GAP, 1e-8))
    known = np.isfinite(buy) & np.isfinite(sell)
    pick = lambda x: np.where(known, x, np.nan)  # noqa: E731
    return Actions(panel.times, panel.symbols, pick(buy), pick(sell), pick(buy_logit), pick(sell_logit))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))

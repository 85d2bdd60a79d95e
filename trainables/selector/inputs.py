"""The selector's inputs as aligned arrays, and what an order of each row knows at a given lag."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainables.market import Panel
from trainables.selector.candidates import BUY, BUY_AMOUNT, CLOSE, LOW, PRED_CLOSE, PRED_HIGH, PRED_LOW, SELL, SELL_AMOUNT

_HOUR = np.timedelta64(3_600_000_000_000, "ns")
_EPS = 1e-9  # hours


@dataclass(frozen=True, eq=False)
class Aligned:
    """What the kernels see at one lag.

    Attributes:
        lagged: float64 (9, T, A), the order known in each row (see `candidates`), NaN where none.
        tradable: bool (T, A).
        last: bool (T, A), the stock's last bar of the day.
        present: bool (T, A), the symbol has a row.
    """

    lagged: np.ndarray
    tradable: np.ndarray
    last: np.ndarray
    present: np.ndarray


@dataclass(frozen=True, eq=False)
class SelectorInputs:
    """Bars, actions and forecasts on one time axis, symbols in alphabetical order.

    Attributes:
        panel: Bars, sessions, costs (T rows, A symbols).
        orders: float64 (7, T, A): buy price, sell price, buy amount, sell amount, forecast p50 of high, low, close for the
            next bar, decided at the end of each row's bar.
    """

    panel: Panel
    orders: np.ndarray

    @cached_property
    def hours(self) -> np.ndarray:
        """Row starts in hours since the epoch, float64 (T,)."""
        return self.panel.times.astype("datetime64[ns]").astype(np.int64) / 3.6e12

    @cached_property
    def bar_hours(self) -> float:
        """Length of a bar in hours."""
        return self.panel.bar_seconds / 3600.0

    @cached_property
    def calendar_bars(self) -> int:
        """Bars that fit between the first row and the end of the last, closed markets included."""
        return max(self.panel.n_bars, round((self.hours[-1] - self.hours[0]) / self.bar_hours) + 1)

    @cached_property
    def exists(self) -> np.ndarray:
        """Where a symbol has a bar, bool (T, A)."""
        return np.isfinite(self.panel.close)

    @cached_property
    def held_mark(self) -> np.ndarray:
        """Last close including the row's own, float64 (T, A); for marking only, never tradable."""
        filled = self.panel.close.copy()
        for t in range(1, len(filled)):
            hole = np.isnan(filled[t])
            filled[t, hole] = filled[t - 1, hole]
        return filled

    @cached_property
    def settle(self) -> np.ndarray:
        """First row that starts when row t's bars have ended, int64 (T,)."""
        return np.searchsorted(self.hours, self.hours + self.bar_hours - _EPS).astype(np.int64)

    @cached_property
    def overlap(self) -> bool:
        """Whether some row starts before an earlier row's bars have ended (rule R11)."""
        return bool((self.settle > np.arange(len(self.hours)) + 1).any())

    @cached_property
    def known_mark(self) -> np.ndarray:
        """Last close of bars that ended by the row's start, float64 (T, A), NaN before the first."""
        row = np.searchsorted(self.hours, self.hours - self.bar_hours + _EPS, side="right") - 1
        known = np.full_like(self.held_mark, np.nan)
        known[row >= 0] = self.held_mark[row[row >= 0]]
        return known

    @cached_property
    def _new_york(self) -> tuple[np.ndarray, np.ndarray]:
        """New York (day number, hour of day) of each row's start; legacy rules only."""
        import pandas as pd

        local = pd.DatetimeIndex(self.panel.times).tz_localize("UTC").tz_convert("America/New_York")
        day = local.normalize().tz_localize(None).to_numpy().astype("datetime64[D]").astype(np.int64)
        return day, np.asarray(local.hour + local.minute / 60.0)

    def aligned(self, lag: int, market_hours: bool, legacy: bool) -> Aligned:
        """Shifts orders down by `lag` of each symbol's own bars (rule A3) and says what is tradable.

        Args:
            lag: Bars between an order's information and the bar it is live in.
            market_hours: Keep stocks to regular sessions.
            legacy: Use the legacy definitions of tradable and last row of the day.
        """
        bars = self.panel
        lagged = np.full((9, *bars.close.shape), np.nan)
        for a in range(len(bars.symbols)):
            rows = np.flatnonzero(self.exists[:, a])
            live, known = (rows[lag:], rows[:-lag]) if lag else (rows, rows)
            for column, source in zip((BUY, SELL, BUY_AMOUNT, SELL_AMOUNT, PRED_HIGH, PRED_LOW, PRED_CLOSE), self.orders, strict=True):
                lagged[column, live, a] = source[known, a]
            lagged[LOW, live, a] = bars.low[known, a]
            lagged[CLOSE, live, a] = bars.close[known, a]
        stock = np.array([x.asset_class == "stock" for x in bars.assets])
        if not legacy:
            return Aligned(lagged, self.exists & (bars.tradable | (not market_hours)), bars.session_last & stock, self.exists)
        present = self.exists & np.isfinite(lagged[:7]).all(axis=0)
        day, hour = self._new_york
        tradable = present.copy()
        if market_hours:
            session_days = np.unique(day[bars.tradable[:, stock].any(axis=1)]) if stock.any() else np.array([], dtype=np.int64)
            open_row = np.isin(day, session_days) & (hour >= 9.5) & (hour <= 16.0)
            tradable[:, stock] &= open_row[:, None]
        last = np.zeros_like(present)
        for a in np.flatnonzero(stock):
            rows = np.flatnonzero(present[:, a])
            if len(rows):
                last[rows[np.append(day[rows][1:] != day[rows][:-1], True)], a] = True
        return Aligned(lagged, tradable, last, present)

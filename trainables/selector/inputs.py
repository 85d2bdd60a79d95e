"""The selector's inputs as aligned arrays, made from tidy tables or not, and what an order of each row knows at a given lag."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from trainables.contract import TrainableError, nearest
from trainables.market import Panel
from trainables.selector.candidates import (
    BUY,
    BUY_AMOUNT,
    CELL,
    CLOSE,
    ENDED,
    EXPECTED,
    FLAGS,
    HELD_MARK,
    HIGH,
    KNOWN_MARK,
    LAST,
    LOW,
    OPEN,
    ORDER_CLOSE,
    ORDER_LOW,
    PRESENT,
    SELL,
    SELL_AMOUNT,
    TRADABLE,
    VOLUME,
)

ACTION_COLUMNS = ("buy_price", "sell_price", "buy_amount", "sell_amount")
FORECAST_COLUMNS = ("predicted_high_p50_h1", "predicted_low_p50_h1", "predicted_close_p50_h1")
_KEYS = ["timestamp", "symbol"]
_EPS = 1e-9  # hours
ENDED_HOURS = 168.0  # rule R12
KEPT_ALIGNMENTS = 8  # 300 bytes per bar each


@dataclass(frozen=True)
class Start:
    """How a simulation begins (SPEC H.3).

    Attributes:
        row: First row of the window; it ends with the part.
        held: Column of the symbol that holds all the money from its first close in the window on; -1 starts flat.
    """

    row: int = 0
    held: int = -1


@dataclass(frozen=True, eq=False)
class Aligned:
    """What the kernels see at one lag.

    Attributes:
        cells: float64 (A, T, CELL), the bar and the order each row knows (see `candidates`).
        forecasts: float64 (3, T, A), p50 of high, low, close the order knows.
        any_present: bool (T,), some symbol has a row.
        competes: bool (T, A), a symbol can be a candidate: `realistic` expects a bar (rule R7), `legacy` knows a tradable one.
        orders, exits: The same facts in the narrow arrays `candidates.build` and `candidates.shortcuts` stream through.
    """

    cells: np.ndarray
    forecasts: np.ndarray
    any_present: np.ndarray
    competes: np.ndarray
    orders: np.ndarray
    exits: np.ndarray


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
        return read_only(self.panel.times.astype("datetime64[ns]").astype(np.int64) / 3.6e12)

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
        return _carried(self.panel.close)

    @cached_property
    def marks(self) -> np.ndarray:
        """`held_mark` by symbol, float64 (A, T): a position is followed through time."""
        return read_only(self.held_mark.T)

    @cached_property
    def settle(self) -> np.ndarray:
        """First row that starts when row t's bars have ended, int64 (T,)."""
        return read_only(np.searchsorted(self.hours, self.hours + self.bar_hours - _EPS).astype(np.int64))

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

    def first_close(self, row: int, held: int) -> int:
        """Returns the first row from `row` on in which symbol number `held` has a bar: where a seeded start buys.

        Raises:
            TrainableError: There is no such row, or no bar after that one has ended, so the start is impossible.
        """
        self._check_start(Start(row, held))
        rows = np.flatnonzero(self.exists[row:, held]) + row
        if len(rows) == 0 or rows[-1] < self.settle[rows[0]]:
            what = "no bar" if len(rows) == 0 else "no second bar"
            stamp = f"{np.datetime_as_string(self.panel.times[row], unit='m')}Z"
            raise TrainableError(f"start: {self.panel.symbols[held]} has {what} from {stamp} (row {row}) on, so nothing can start in it")
        return int(rows[0])

    def first_row(self, start: Start) -> int:
        """Returns the first row a start simulates: its own, or the first when the close it is seeded at is known.

        Raises:
            TrainableError: The start is impossible, see `first_close`.
        """
        self._check_start(start)
        return start.row if start.held < 0 else int(self.settle[self.first_close(start.row, start.held)])

    def _check_start(self, start: Start) -> None:
        for name, value, least, size in (("row", start.row, 0, self.panel.n_bars), ("held", start.held, -1, len(self.panel.symbols))):
            if not least <= value < size:
                raise TrainableError(f"start: {name} {value} is not there; give a number from {least} to {size - 1}")

    @cached_property
    def costs(self) -> np.ndarray:
        """Costs and limits of the assets, float64 (A, 6), columns as in `candidates`."""
        rows = [
            (x.maker_fee_bps / 1e4, x.taker_fee_bps / 1e4, x.half_spread_bps / 1e4, x.min_notional, x.can_long, x.can_short)
            for x in self.panel.assets
        ]
        return read_only(np.array(rows, dtype=float))

    @cached_property
    def _new_york(self) -> tuple[np.ndarray, np.ndarray]:
        """New York (day number, hour of day) of each row's start; legacy rules only."""
        local = pd.DatetimeIndex(self.panel.times).tz_localize("UTC").tz_convert("America/New_York")
        day = local.normalize().tz_localize(None).to_numpy().astype("datetime64[D]").astype(np.int64)
        return day, np.asarray(local.hour + local.minute / 60.0)

    @cached_property
    def _alignments(self) -> dict[tuple[int, bool, bool], Aligned]:
        return {}

    def aligned(self, lag: int, market_hours: bool, legacy: bool) -> Aligned:
        """Returns what the kernels see; the last few are kept, because every pack asks again. See `_align`."""
        key = (lag, market_hours, legacy)
        if key not in self._alignments:
            if len(self._alignments) >= KEPT_ALIGNMENTS:
                del self._alignments[next(iter(self._alignments))]
            self._alignments[key] = self._align(*key)
        return self._alignments[key]

    def _align(self, lag: int, market_hours: bool, legacy: bool) -> Aligned:
        """Shifts orders down by `lag` of each symbol's own bars (rule A3) and says what is tradable, expected, ended.

        Args:
            lag: Bars between an order's information and the bar it is live in.
            market_hours: Keep stocks to regular sessions.
            legacy: Use the legacy definitions of tradable and last row of the day.
        """
        bars = self.panel
        cells = np.full((*bars.close.T.shape, CELL), np.nan)
        for field, values in ((OPEN, bars.open), (HIGH, bars.high), (LOW, bars.low), (CLOSE, bars.close), (VOLUME, bars.volume)):
            cells[:, :, field] = values.T
        cells[:, :, HELD_MARK] = self.held_mark.T
        cells[:, :, KNOWN_MARK] = self.known_mark.T
        stock = np.array([x.asset_class == "stock" for x in bars.assets])
        present, last = self.exists, bars.session_last & stock
        tradable = self.exists & (bars.tradable | (not market_hours))
        expected = np.zeros_like(tradable) if legacy else self._expected(tradable)
        forecasts = np.full((3, *bars.close.shape), np.nan)
        for a in range(len(bars.symbols)):
            rows = np.flatnonzero(self.exists[:, a])
            live = np.flatnonzero(self.exists[:, a] | expected[:, a])
            before = np.searchsorted(rows, live)  # own bars before each
            live, known = live[before >= lag], rows[before[before >= lag] - lag]
            for field, source in zip((BUY, SELL, BUY_AMOUNT, SELL_AMOUNT), self.orders[:4], strict=True):
                cells[a, live, field] = source[known, a]
            cells[a, live, ORDER_LOW] = bars.low[known, a]
            cells[a, live, ORDER_CLOSE] = bars.close[known, a]
            forecasts[:, live, a] = self.orders[4:, known, a]
        if legacy:
            present, tradable, last = self._legacy_masks(cells, forecasts, stock, market_hours)
            cells[:, :, HELD_MARK] = _carried(np.where(present, bars.close, np.nan)).T
        else:  # a session ends for all stocks, whichever of them then have a bar
            last = last | (stock & expected & ~self.exists & last.any(axis=1, keepdims=True))
        ended = np.zeros_like(tradable) if legacy else self.ended
        cells[:, :, FLAGS] = (TRADABLE * tradable + LAST * last + PRESENT * present + EXPECTED * expected + ENDED * ended).T
        orders = np.stack([cells[:, :, field].T for field in (BUY, SELL, BUY_AMOUNT, SELL_AMOUNT, ORDER_LOW, ORDER_CLOSE)])
        highest = np.where(ended | (tradable & last), np.inf, np.where(tradable, bars.high, -np.inf)).T
        exits = np.stack([cells[:, :, BUY], cells[:, :, SELL], highest])
        competes = tradable if legacy else expected
        return Aligned(*(read_only(x) for x in (cells, forecasts, np.asarray(present.any(axis=1)), competes, orders, exits)))

    def _expected(self, tradable: np.ndarray) -> np.ndarray:
        """Rule R7, bool (T, A): the symbol's group trades in the row, and its own feed was alive when the group last did.

        A group is an asset class and a clock: rows of one phase modulo the length of a bar. Equal phases are whole bars apart,
        so a group's last bar has always ended.
        """
        bar = max(1, round(self.panel.bar_seconds))
        phase = np.rint(self.hours * 3600.0).astype(np.int64) % bar
        classes = np.array([x.asset_class for x in self.panel.assets])
        expected = np.zeros_like(tradable)
        for name in np.unique(classes):
            members = np.flatnonzero(classes == name)
            rows = np.flatnonzero(tradable[:, members].any(axis=1))
            rows = rows[np.argsort(phase[rows], kind="stable")]
            same = phase[rows[1:]] == phase[rows[:-1]]
            expected[np.ix_(rows[1:][same], members)] = self.exists[np.ix_(rows[:-1][same], members)]
        return expected

    @cached_property
    def ended(self) -> np.ndarray:
        """Where rule R12 closes a position, bool (T, A): no bar, and the last one started `ENDED_HOURS` ago or more."""
        rows = np.arange(len(self.hours))[:, None]
        latest = np.maximum.accumulate(np.where(self.exists, rows, -1), axis=0)
        return (latest >= 0) & (latest < rows) & (self.hours[:, None] - self.hours[latest] >= ENDED_HOURS - _EPS)

    def _legacy_masks(
        self, cells: np.ndarray, forecasts: np.ndarray, stock: np.ndarray, market_hours: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns (present, tradable, last row of the day) as the original defined them."""
        present = self.exists & np.isfinite(cells[:, :, BUY : SELL_AMOUNT + 1]).all(axis=2).T & np.isfinite(forecasts).all(axis=0)
        day, hour = self._new_york
        tradable = present.copy()
        if market_hours and stock.any():
            session_days = np.unique(day[self.panel.tradable[:, stock].any(axis=1)])
            tradable[:, stock] &= (np.isin(day, session_days) & (hour >= 9.5) & (hour <= 16.0))[:, None]
        last = np.zeros_like(present)
        for a in np.flatnonzero(stock):
            rows = np.flatnonzero(present[:, a])
            if len(rows):
                last[rows[np.append(day[rows][1:] != day[rows][:-1], True)], a] = True
        return present, tradable, last


def _carried(values: np.ndarray) -> np.ndarray:
    """Returns (T, A) with each hole filled from the row before."""
    filled = values.copy()
    for t in range(1, len(filled)):
        hole = np.isnan(filled[t])
        filled[t, hole] = filled[t - 1, hole]
    return filled


def read_only(array: np.ndarray) -> np.ndarray:
    """Returns a read-only view: kernels are compiled once, for the kind of array shared memory gives."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def from_frames(
    bars: pd.DataFrame, actions: pd.DataFrame, *, costs: Mapping[str, Any] | None = None, profile: str = "realistic"
) -> SelectorInputs:
    """Aligns tidy tables; arguments and errors as in `simulate`."""
    is_legacy = profile == "legacy"
    prices = ("high", "low", "close") if is_legacy else ("open", "high", "low", "close")
    table = _read("bars", bars, (*prices, *FORECAST_COLUMNS), ("open", "volume"))
    orders = _read("actions", actions, ACTION_COLUMNS)
    if table.empty:
        raise TrainableError("bars: the table has no rows")
    _check_symbols(orders["symbol"].unique(), set(table["symbol"]))
    for column in FORECAST_COLUMNS:
        _check_range("bars", table, column, table[column] > 0.0, "a price is above 0 and finite; NaN is no forecast")
    for column in ACTION_COLUMNS[:2]:
        _check_range("actions", orders, column, orders[column] > 0.0, "a price is above 0 and finite; NaN is no order")
    most, meaning = (np.inf, "amounts are percentages of at least 0") if is_legacy else (1.0, "amounts are fractions in [0, 1]")
    for column in ACTION_COLUMNS[2:]:
        hint = meaning if is_legacy else meaning + "; divide percentages by 100"
        _check_range("actions", orders, column, orders[column].between(0.0, most), hint)

    merged = table.merge(orders, on=_KEYS, how="left", indicator="found")
    acted = merged["found"] == "both"
    if not acted.any() and (is_legacy or len(orders)):
        first, last = table["timestamp"].min(), table["timestamp"].max()
        raise TrainableError(f"actions: none is at the time of a bar of its symbol; bars start from {first} to {last}")
    if is_legacy:
        # The original joined its tables: a bar without an action does not exist. It never looks at the open.
        merged = merged[acted].assign(open=lambda rows: rows["open"].fillna(rows["close"]))
    panel = Panel.from_frame(merged, assets=costs, source="bars")
    panel = panel.select(sorted(panel.symbols))
    row = np.searchsorted(panel.times, merged["timestamp"].dt.tz_localize(None).to_numpy())
    column_of = pd.Index(panel.symbols, dtype=object).get_indexer(pd.Index(merged["symbol"], dtype=object))
    arrays = np.full((7, panel.n_bars, len(panel.symbols)), np.nan)
    for k, name in enumerate((*ACTION_COLUMNS, *FORECAST_COLUMNS)):
        arrays[k, row, column_of] = merged[name].to_numpy()
    return SelectorInputs(panel, arrays)


def _read(name: str, frame: pd.DataFrame, needed: Sequence[str], optional: Iterable[str] = ()) -> pd.DataFrame:
    """Returns timestamp (UTC, ns), symbol and float64 columns of a table sorted by them; an absent open is NaN, an absent volume 0."""
    missing = [column for column in (*_KEYS, *needed) if column not in frame.columns]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise TrainableError(f"{name}: column{plural} {', '.join(missing)} missing; it has {', '.join(map(str, frame.columns))}")
    stamps = frame["timestamp"]
    if not isinstance(stamps.dtype, pd.DatetimeTZDtype):
        what = "have no time zone" if pd.api.types.is_datetime64_dtype(stamps.dtype) else f"are {stamps.dtype}, not times"
        raise TrainableError(f"{name}: timestamps {what}; if they are UTC, `pd.to_datetime({name}['timestamp'], utc=True)`")
    if stamps.isna().any():
        raise TrainableError(f"{name}: row {int(stamps.isna().to_numpy().argmax())} has no timestamp")
    for symbol in frame["symbol"].unique():
        if not isinstance(symbol, str):
            raise TrainableError(f"{name}: symbol {symbol!r} is not a name")
    columns = {"timestamp": stamps.dt.tz_convert("UTC").dt.as_unit("ns").array, "symbol": frame["symbol"].to_numpy(object)}
    for column in dict.fromkeys((*needed, *optional)):
        if column not in frame.columns:
            columns[column] = np.full(len(frame), 0.0 if column == "volume" else np.nan)
            continue
        try:
            columns[column] = frame[column].to_numpy(np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise TrainableError(f"{name}: column {column} holds something that is not a number ({error})") from error
    table = pd.DataFrame(columns).sort_values(_KEYS, ignore_index=True)
    twice = table.duplicated(_KEYS).to_numpy()
    if twice.any():
        symbol, time = table.loc[int(twice.argmax()), ["symbol", "timestamp"]]
        raise TrainableError(f"{name}: {symbol} has two {name} at {time}")
    return table


def _check_symbols(acted: Iterable[str], known: set[str]) -> None:
    for symbol in acted:
        if symbol not in known:
            hint = nearest(symbol, known) or "bars has " + ", ".join(sorted(known)[:20])
            raise TrainableError(f"actions: no bars for symbol {symbol!r}; {hint}")


def _check_range(name: str, table: pd.DataFrame, column: str, inside: pd.Series, allowed: str) -> None:
    wrong = (table[column].notna() & ~(inside & np.isfinite(table[column]))).to_numpy()
    if wrong.any():
        bad = table.loc[int(wrong.argmax())]
        raise TrainableError(f"{name}: {bad['symbol']} at {bad['timestamp']}: {column} is {bad[column]:g}; {allowed}")

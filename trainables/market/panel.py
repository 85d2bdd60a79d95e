"""The panel: aligned bars of several symbols on one UTC time axis, with what may be traded and at what cost.

Nothing is ever filled: where a symbol has no bar there is NaN and it cannot be traded (SPEC A.3, J19). A panel is immutable
and has a fingerprint, which is the data part of a configuration's identity.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.typing import NaTType

from trainables.market.assets import Asset, make_assets
from trainables.market.errors import MarketError, unknown
from trainables.market.sessions import session_masks

PRICES = ("open", "high", "low", "close")
BAR = (*PRICES, "volume")
_MASKS = ("tradable", "session_last")


@dataclass(frozen=True, eq=False)
class Panel:
    """Bars of A symbols on T rows.

    Attributes:
        times: datetime64[ns] (T,) UTC bar starts, strictly ascending; a row's close is known one bar later.
        symbols: A names.
        open, high, low, close, volume: float64 (T, A), C order; NaN where the symbol has no bar.
        tradable: bool (T, A): the bar exists and its market is open.
        session_last: bool (T, A): the session's last bar, by calendar; always False for crypto.
        assets: A assets with their costs, in the order of `symbols`.
        source: Where the bars came from, for people.
        bar_seconds: Length of a bar. 0, the default, means what the rows say: the usual step of a symbol's own bars, the
            smallest over symbols (steps of the common axis would be too short where stocks at 13:30 UTC and crypto at 14:00
            share it). Windows and selections keep their parent's, for a few rows say it wrongly or not at all.
    """

    times: np.ndarray
    symbols: tuple[str, ...]
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    tradable: np.ndarray
    session_last: np.ndarray
    assets: tuple[Asset, ...]
    source: str = ""
    bar_seconds: float = 0.0

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "symbols", tuple(self.symbols))
        set_(self, "assets", tuple(self.assets))
        times = np.asarray(self.times)
        if not np.issubdtype(times.dtype, np.datetime64) or times.ndim != 1 or len(times) == 0:
            raise MarketError(f"panel: times must be datetime64 of shape (T,) with at least one row, not {times.dtype} {times.shape}")
        set_(self, "times", _frozen(times, "datetime64[ns]"))
        steps = np.diff(self.times)
        if np.isnat(self.times).any() or (steps <= np.timedelta64(0)).any():
            row = int(np.argmax(steps <= np.timedelta64(0))) + 1
            raise MarketError(f"panel: times must ascend strictly; row {row} ({self.times[row]}) does not come after row {row - 1}")
        if tuple(asset.symbol for asset in self.assets) != self.symbols:
            raise MarketError("panel: `assets` must name the same symbols as `symbols`, in the same order")
        if len(set(self.symbols)) != len(self.symbols) or not self.symbols:
            raise MarketError("panel: symbols must be there, and distinct")
        shape = (len(times), len(self.symbols))
        for name in (*BAR, *_MASKS):
            array = _frozen(getattr(self, name), bool if name in _MASKS else np.float64)
            if array.shape != shape:
                raise MarketError(f"panel: {name} has shape {array.shape}; {shape} is needed (rows, symbols)")
            set_(self, name, array)
        if not 0.0 <= self.bar_seconds < math.inf:
            raise MarketError(f"panel: bar_seconds is {self.bar_seconds!r}; give a positive number, or 0 for the usual step")
        set_(self, "bar_seconds", float(self.bar_seconds) or step_seconds(self.times, ~np.isnan(self.close)))
        self._check_bars()

    def _check_bars(self) -> None:
        """Raises unless every bar is whole, its prices and volume are possible, and only bars can be traded."""
        missing = np.isnan(self.close)
        for name in BAR:
            wrong = np.isnan(getattr(self, name)) != missing
            if wrong.any():
                where, (value, close) = self._first(wrong, name, "close")
                raise MarketError(f"{where}: {name} is {value} although close is {close}; a bar is there whole or not at all")
        for name in BAR:
            values = getattr(self, name)
            wrong = np.isinf(values) | (values < 0.0 if name == "volume" else values <= 0.0)
            if wrong.any():
                where, (value,) = self._first(wrong, name)
                allowed = "a volume is at least 0" if name == "volume" else "a price is above 0"
                raise MarketError(f"{where}: {name} is {value}; {allowed} and finite")
        if (self.high < self.low).any():
            where, (high, low) = self._first(self.high < self.low, "high", "low")
            raise MarketError(f"{where}: high is {high}, below its low {low}")
        if (self.tradable & missing).any():
            raise MarketError(f"{self._first(self.tradable & missing)[0]} is tradable but has no bar")

    def _first(self, flags: np.ndarray, *names: str) -> tuple[str, list[float]]:
        """Returns where the first flagged cell is, and what the named arrays hold there."""
        row, column = np.argwhere(flags)[0]
        where = f"{self.source or 'panel'}: {self.symbols[column]} at {_iso(self.times[row])}"
        return where, [float(getattr(self, name)[row, column]) for name in names]

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Unpickled arrays come back writable; a changed price under a cached fingerprint would be a lie.
        self.__dict__.update(state)
        for name in ("times", *BAR, *_MASKS):
            self.__dict__[name].setflags(write=False)

    def __repr__(self) -> str:
        size = f"{len(self.symbols)} symbols × {self.n_bars} bars of {self.bar_seconds:g} s"
        return f"Panel({size}, {_iso(self.times[0])} to {_iso(self.times[-1])}, {self.source!r}, {self.fingerprint[:8]})"

    @property
    def n_bars(self) -> int:
        """Number of rows T."""
        return len(self.times)

    @cached_property
    def exists(self) -> np.ndarray:
        """Says, bool (T, A), where the symbol has a bar."""
        return _frozen(~np.isnan(self.close), bool)

    @property
    def always_last(self) -> tuple[str, ...]:
        """The stocks whose every bar is its session's last, as daily bars are."""
        every = self.tradable.any(axis=0) & (self.session_last | ~self.tradable).all(axis=0)
        return tuple(symbol for symbol, only in zip(self.symbols, every, strict=True) if only)

    @cached_property
    def fingerprint(self) -> str:
        """Hex blake2b-16 of times, symbols, bars, masks and assets with their costs; not of `source`.

        The length of a bar is in it only where the rows do not say it: equal fingerprints are equal markets, and one market
        read in two ways has one fingerprint.
        """
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps([list(self.symbols), self.n_bars, [asdict(asset) for asset in self.assets]], sort_keys=True).encode())
        digest.update(self.times.astype("<i8").tobytes())
        for name in BAR:
            values = getattr(self, name)
            # One bit pattern for every NaN and for zero, so that equal panels have equal bytes.
            digest.update(np.where(np.isnan(values), np.nan, values + 0.0).astype("<f8").tobytes())
        for name in _MASKS:
            digest.update(np.packbits(getattr(self, name)).tobytes())
        if self.bar_seconds != step_seconds(self.times, self.exists):
            digest.update(np.array(self.bar_seconds, "<f8").tobytes())
        return digest.hexdigest()

    def rows(self, window: tuple[int, int]) -> Panel:
        """Returns rows [start, stop).

        Raises:
            MarketError: No row left.
        """
        if not 0 <= window[0] < window[1] <= self.n_bars:
            raise MarketError(f"panel: rows {window[0]} to {window[1]} of {self.n_bars} keep no bar")
        return self._rows(slice(*window))

    def tail(self, bars: int) -> Panel:
        """Returns the last `bars` rows (all, if there are fewer)."""
        if bars < 1:
            raise MarketError(f"panel: tail({bars}) keeps no bar; give at least 1")
        return self._rows(slice(max(0, self.n_bars - bars), None))

    def between(self, start: Any = None, end: Any = None) -> Panel:
        """Returns rows with start ≤ time < end; stamps without an offset are UTC, None is open.

        Raises:
            MarketError: No row left.
        """
        low = 0 if start is None else int(np.searchsorted(self.times, utc(start, "start")))
        high = self.n_bars if end is None else int(np.searchsorted(self.times, utc(end, "end")))
        if high <= low:
            raise MarketError(f"no bars from {start} to {end}: the data runs from {_iso(self.times[0])} to {_iso(self.times[-1])}")
        return self._rows(slice(low, high))

    def select(self, symbols: Sequence[str]) -> Panel:
        """Returns the given symbols, in that order, on the same rows."""
        for symbol in symbols:
            if symbol not in self.symbols:
                raise MarketError(f"no symbol {symbol!r} in {self.source or 'the panel'}; {unknown(symbol, self.symbols)}")
        columns = [self.symbols.index(symbol) for symbol in symbols]
        arrays = {name: getattr(self, name)[:, columns] for name in (*BAR, *_MASKS)}
        assets = tuple(self.assets[i] for i in columns)
        return replace(self, symbols=tuple(symbols), assets=assets, **arrays)

    def frame(self) -> pd.DataFrame:
        """Returns existing bars as a tidy table: timestamp (UTC), symbol, open, high, low, close, volume; symbol by symbol."""
        column, row = np.nonzero(self.exists.T)
        stamps = pd.DatetimeIndex(self.times[row]).tz_localize("UTC")
        data: dict[str, Any] = {"timestamp": stamps, "symbol": np.array(self.symbols, object)[column]}
        return pd.DataFrame({**data, **{name: getattr(self, name)[row, column] for name in BAR}})

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        assets: Sequence[Asset] | Mapping[str, Any] | None = None,
        *,
        source: str = "frame",
        bar_length: float | None = None,
    ) -> Panel:
        """Builds a panel from a tidy table.

        Args:
            frame: Columns timestamp (with a time zone), symbol, open, high, low, close, volume; any row order.
            assets: The assets (their order becomes the panel's), or overrides for `make_assets`.
            source: Where the bars came from.
            bar_length: Seconds of a bar; the usual step if not given.

        Raises:
            MarketError: Column missing, stamps without a time zone, or two bars of one symbol at one time.
        """
        for name in ("timestamp", "symbol", *BAR):
            if name not in frame.columns:
                raise MarketError(f"{source}: no column {name!r}; it has {', '.join(map(str, frame.columns))}")
        if not isinstance(frame["timestamp"].dtype, pd.DatetimeTZDtype):
            raise MarketError(f"{source}: timestamps have no time zone; `frame['timestamp'].dt.tz_localize('UTC')` if they are UTC")
        names = pd.Index(frame["symbol"].astype(object))
        owned = make_assets(tuple(names.unique()), assets) if assets is None or isinstance(assets, Mapping) else tuple(assets)
        symbols = tuple(asset.symbol for asset in owned)
        column = pd.Index(symbols, dtype=object).get_indexer(names)
        if (column < 0).any():
            raise MarketError(f"{source}: no asset for symbol {frame['symbol'].iloc[int(np.argmin(column))]!r}; {unknown('', symbols)}")
        stamps = frame["timestamp"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[ns]")
        times, row = np.unique(stamps, return_inverse=True)
        cells = row.astype(np.int64) * len(symbols) + column
        if len(np.unique(cells)) != len(cells):
            first = frame[pd.Series(cells, index=frame.index).duplicated()].iloc[0]
            raise MarketError(f"{source}: {first['symbol']} has two bars at {first['timestamp']}")
        arrays = {}
        for name in BAR:
            values = np.full((len(times), len(symbols)), np.nan)
            values[row, column] = frame[name].to_numpy(np.float64)
            arrays[name] = values
        exists = ~np.isnan(arrays["close"])
        seconds = bar_length or step_seconds(times, exists)
        tradable, last = session_masks(times, seconds, owned)
        masks = {"tradable": tradable & exists, "session_last": last & exists}
        return cls(times=times, symbols=symbols, assets=owned, source=source, bar_seconds=seconds, **arrays, **masks)

    def _rows(self, rows: slice) -> Panel:
        return replace(self, **{name: getattr(self, name)[rows] for name in ("times", *BAR, *_MASKS)})


def step_seconds(times: np.ndarray, exists: np.ndarray) -> float:
    """Returns the smallest, over symbols, of the usual step between a symbol's bars; 3600 if no symbol has two bars.

    Args:
        times: datetime64[ns] (T,).
        exists: bool (T, A).
    """
    nanoseconds = times.astype("datetime64[ns]").astype(np.int64)
    return min((usual_step(nanoseconds[column]) for column in exists.T if np.count_nonzero(column) > 1), default=3600.0)


def usual_step(nanoseconds: np.ndarray) -> float:
    """Returns the most frequent step in seconds, of several the smallest: two 4-hour bars a session are 4 hours apart as often as 20."""
    steps = np.diff(np.sort(nanoseconds))
    values, counts = np.unique(steps[steps > 0], return_counts=True)
    return float(values[counts.argmax()]) / 1e9 if len(values) else 3600.0


def utc(stamp: Any, key: str = "") -> np.datetime64:
    """Reads a date or time as datetime64[ns] UTC; without an offset it is UTC.

    Args:
        stamp: Text that begins with the year, a date, datetime, pandas or numpy stamp.
        key: Where it was given, for the message.

    Raises:
        MarketError: Not a date or time, or outside the years 1678 to 2261.
    """
    # Of what pandas also reads, a number is nanoseconds since 1970, `now` is another market every day, 01/02 is two dates.
    known = re.match(r"\s*\d{4}", stamp) if isinstance(stamp, str) else isinstance(stamp, (date, np.datetime64))
    try:
        value = pd.Timestamp(stamp).as_unit("ns") if known else pd.NaT
    except (ValueError, TypeError, OverflowError):
        value = pd.NaT
    if isinstance(value, NaTType):
        where = f"{key}: " if key else ""
        raise MarketError(f"{where}{stamp!r} is not a date or time from 1678 to 2261; write it like 2024-01-31 or 2024-01-31T15:00Z")
    return (value.tz_convert("UTC").tz_localize(None) if value.tzinfo is not None else value).to_datetime64().astype("datetime64[ns]")


def _frozen(array: Any, dtype: Any) -> np.ndarray:
    """Returns a read-only C-contiguous array; what the caller could still write is copied."""
    given = np.asarray(array)
    out = np.ascontiguousarray(given, dtype=dtype)
    if out.flags.writeable and (out is given or out.base is not None):
        out = out.copy()
    out.setflags(write=False)
    return out


def _iso(stamp: np.datetime64) -> str:
    return str(stamp.astype("datetime64[m]")) + "Z"

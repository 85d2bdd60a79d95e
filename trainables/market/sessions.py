"""When a bar can be traded: always for crypto, in NYSE regular sessions for stocks (SPEC A.4 [C]).

The published rule compared labels with 09:30 and 16:00 and so dropped the half hour after the open and kept an after-hours
bar. Here a bar counts by how much of the session it covers, and a session ends where the calendar says, not where the
frame happens to end.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from trainables.market.assets import Asset

HALF_HOUR = 1800
DAY = 86400


@lru_cache(maxsize=32)
def _years(first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import exchange_calendars  # half a second of import that crypto-only work does not need

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its own use of pandas
        calendar = exchange_calendars.get_calendar("XNYS", start=f"{first}-01-01", end=f"{last}-12-31")
    table = calendar.schedule
    arrays = (
        table.index.to_numpy().astype("datetime64[D]"),
        table["open"].dt.tz_convert(None).to_numpy().astype("datetime64[ns]"),
        table["close"].dt.tz_convert(None).to_numpy().astype("datetime64[ns]"),
    )
    for array in arrays:
        array.setflags(write=False)
    return arrays


def sessions(start: np.datetime64, end: np.datetime64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns NYSE sessions of the years from `start` to `end`.

    Returns:
        (dates datetime64[D], opens datetime64[ns] UTC, closes datetime64[ns] UTC), each (S,), ascending; early closes
        included.
    """
    # A year each side, so that the session after the last bar and the one before the first are there.
    first = int(start.astype("datetime64[Y]").astype(int)) + 1970
    last = int(end.astype("datetime64[Y]").astype(int)) + 1970
    return _years(first - 1, last + 1)


def needed_overlap(bar_seconds: float) -> np.timedelta64:
    """How much of a session an intraday bar must cover: 30 minutes, or half a bar where bars are shorter than an hour."""
    return np.timedelta64(int(min(HALF_HOUR, bar_seconds / 2) * 1e9), "ns")


def session_masks(times: np.ndarray, bar_seconds: float, assets: Sequence[Asset]) -> tuple[np.ndarray, np.ndarray]:
    """Says for every bar and asset whether the market is open, and whether it is the session's last bar.

    Args:
        times: datetime64[ns] (T,) UTC bar starts, ascending.
        bar_seconds: Length of a bar.
        assets: A assets.

    Returns:
        (tradable_hours, session_last), bool (T, A). Crypto is always tradable and never last. A stock bar is tradable iff
        it covers enough of a session (`needed_overlap`); a daily bar, iff its date is a session. `session_last` marks a
        tradable bar whose successor, one bar later, is not: with bars of two offsets on one time axis, both offsets have
        their last bar, and only the one in which the symbol has a bar counts.
    """
    shape = (len(times), len(assets))
    tradable = np.ones(shape, bool)
    last = np.zeros(shape, bool)
    stocks = [i for i, asset in enumerate(assets) if asset.asset_class == "stock"]
    if stocks and len(times):
        is_open, is_last = _stock_masks(np.asarray(times, "datetime64[ns]"), bar_seconds)
        tradable[:, stocks] = is_open[:, None]
        last[:, stocks] = is_last[:, None]
    return tradable, last


def _stock_masks(times: np.ndarray, bar_seconds: float) -> tuple[np.ndarray, np.ndarray]:
    dates, opens, closes = sessions(times[0], times[-1])
    if bar_seconds > DAY * 1.5:  # weeks, months: open as long as any session begins in the bar
        bar = np.timedelta64(int(bar_seconds * 1e9), "ns")
        is_open = np.searchsorted(opens, times + bar) > np.searchsorted(opens, times)
        return is_open, is_open.copy()
    if bar_seconds >= DAY:
        # Midnight UTC, midnight New York and the opening bell all fall on the session's date in UTC.
        is_open = np.isin(times.astype("datetime64[D]"), dates)
        return is_open, is_open.copy()
    bar, need = np.timedelta64(int(bar_seconds * 1e9), "ns"), needed_overlap(bar_seconds)
    session = np.searchsorted(closes, times, side="right")  # the first that closes after the bar starts
    opened, closed = opens[session], closes[session]
    is_open = np.minimum(times + bar, closed) - np.maximum(times, opened) >= need
    follows = np.minimum(times + 2 * bar, closed) - np.maximum(times + bar, opened) >= need
    return is_open, is_open & ~follows

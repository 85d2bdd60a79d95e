"""Where bars must lie in time: on one grid, and in every hour or session between the first and the last."""

from __future__ import annotations

import numpy as np
import pandas as pd

from trainables.market.assets import Asset, AssetClass
from trainables.market.problems import Rows
from trainables.market.sessions import DAY, needed_overlap, session_masks, sessions


def check_grid(rows: Rows, times: np.ndarray, order: np.ndarray, bar: float, kind: AssetClass) -> None:
    """Flags bars that are not where bars of this length lie, and bars that are missing.

    Args:
        rows: Takes the problems.
        times: datetime64[ns] UTC of all rows of the file.
        order: Positions in `times`, ascending in time, each time once.
        bar: Seconds of a bar.
        kind: Crypto misses any bar of the clock, a stock only those of NYSE sessions.
    """
    stamps = times[order].astype(np.int64)
    step = int(bar * 1e9)
    if bar > 7 * DAY:
        return  # months have no fixed length
    if kind == "stock" and bar >= DAY:
        dates = times[order].astype("datetime64[D]")
        expected = sessions(times[order[0]], times[order[-1]])[0]
        if bar < 1.5 * DAY:
            _add_gaps(rows, order, dates, expected[(expected >= dates[0]) & (expected <= dates[-1])])
        return
    # Bars keep their place in UTC, or, of stocks, in New York, where the bell does not move with the season.
    in_new_york = False
    phase, on_grid = _phase(stamps, step)
    if kind == "stock":
        local_phase, local_on = _phase(stamps + _new_york_offset(times[order]), step)
        if local_on.sum() > on_grid.sum():
            in_new_york, phase, on_grid = True, local_phase, local_on
    # Some sources add a stub at an early close; out of hours it cannot be traded, so it may stay.
    open_for_trade = session_masks(times[order], bar, [Asset("", kind, 0.0, 0.0, 0.0)])[0][:, 0]
    for i, tradable in zip(order[~on_grid], open_for_trade[~on_grid], strict=True):
        where = f"not on the grid of {bar:g}-second bars that the others lie on"
        rows.at(int(i), "error" if tradable else "warning", "off-grid", where if tradable else where + "; out of hours, not tradable")
    order, stamps = order[on_grid], stamps[on_grid]
    if kind == "crypto":
        for i in np.flatnonzero(np.diff(stamps) > step):
            first_missing = np.datetime64(int(stamps[i]) + step, "ns")
            _add_gap(rows, int(order[i + 1]), int((stamps[i + 1] - stamps[i]) // step) - 1, first_missing)
        return
    _, opens, closes = sessions(times[order[0]], times[order[-1]])
    offset = _new_york_offset(opens) if in_new_york else np.zeros(len(opens), np.int64)
    local_open = opens.astype(np.int64) + offset
    first = local_open - (local_open - phase) % step - offset
    width = int((closes - opens).astype(np.int64).max() // step) + 2
    grid = first[:, None] + step * np.arange(width)
    overlap = np.minimum(grid + step, closes.astype(np.int64)[:, None]) - np.maximum(grid, opens.astype(np.int64)[:, None])
    expected = grid[overlap >= needed_overlap(bar).astype(np.int64)]
    _add_gaps(rows, order, stamps, expected[(expected >= stamps[0]) & (expected <= stamps[-1])])


def _phase(stamps: np.ndarray, step: int) -> tuple[int, np.ndarray]:
    phases, counts = np.unique(stamps % step, return_counts=True)
    phase = int(phases[np.argmax(counts)])
    return phase, stamps % step == phase


def _new_york_offset(times: np.ndarray) -> np.ndarray:
    local = pd.DatetimeIndex(times).tz_localize("UTC").tz_convert("America/New_York").tz_localize(None)
    return local.to_numpy().astype("datetime64[ns]").astype(np.int64) - times.astype("datetime64[ns]").astype(np.int64)


def _add_gaps(rows: Rows, order: np.ndarray, present: np.ndarray, expected: np.ndarray) -> None:
    absent = np.flatnonzero(~np.isin(expected, present))
    if not len(absent):
        return
    for run in np.split(absent, np.flatnonzero(np.diff(absent) > 1) + 1):
        following = order[min(int(np.searchsorted(present, expected[run[0]])), len(order) - 1)]
        _add_gap(rows, int(following), len(run), expected[run[:1]].astype("datetime64[ns]")[0])


def _add_gap(rows: Rows, following: int, count: int, first: np.datetime64) -> None:
    rows.at(following, "warning", "gap", f"{count} bar{'s' if count > 1 else ''} missing from this time to this row", first)

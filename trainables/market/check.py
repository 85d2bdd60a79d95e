"""What is wrong with a symbol's bars, row by row; nothing is repaired here.

Errors are rows that cannot be right (a high below its low); warnings are rows that may be (a gap, a jump the size of a
split). The dangerous ones are those a back-test would profit from silently (SPEC A.3, J19).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from trainables.market.assets import AssetClass, classify
from trainables.market.errors import MarketError
from trainables.market.files import COLUMNS
from trainables.market.grid import check_grid
from trainables.market.panel import usual_step
from trainables.market.problems import Problem, Rows, raise_on_errors, summarise

__all__ = ["Problem", "check_frame", "raise_on_errors", "summarise"]

SPLITS = (2, 3, 4, 5, 10, 15, 20, 25)
SPLIT_TOLERANCE = 0.04
ROUNDING = 1e-6  # relative; adjusted prices are off by less


def check_frame(symbol: str, frame: pd.DataFrame, bar_seconds: float | None = None, asset_class: AssetClass | None = None) -> list[Problem]:
    """Lists what is wrong with one symbol's bars.

    Args:
        symbol: Name, for the report.
        frame: As `read_directory` returns it: rows in file order, the index is the file's row.
        bar_seconds: Length of a bar; the usual step if not given.
        asset_class: "crypto" (gaps around the clock) or "stock" (only bars of NYSE sessions can be missing); by the symbol
            if not given.

    Returns:
        Problems in row order. Reasons, errors: timezone-less, unreadable timestamp, duplicate (all but the last row of a
        time), off-grid, NaN, high<low, outside range, price<=0, negative volume. Warnings: unsorted, zero volume, jump, gap.

    Raises:
        MarketError: A column is missing, or the symbol cannot be classified.
    """
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise MarketError(f"{symbol}: no column {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}")
    stamps = frame["timestamp"]
    if not pd.api.types.is_datetime64_any_dtype(stamps.dtype):
        raise MarketError(f"{symbol}: timestamps are {stamps.dtype}, not times; read the file with `read_directory`")
    aware = isinstance(stamps.dtype, pd.DatetimeTZDtype)
    times = (stamps.dt.tz_convert("UTC").dt.tz_localize(None) if aware else stamps).to_numpy().astype("datetime64[ns]")
    rows = Rows(symbol, frame.index.to_numpy(), times)
    kind = asset_class or classify(symbol)
    if not aware:
        rows.whole("error", "timezone-less", "stamps have no UTC offset; say what they are: assume_tz, for example UTC or America/New_York")
    rows.add(np.isnat(times), "error", "unreadable timestamp", "not an ISO 8601 time, or without the offset that other rows have")
    _check_order(rows, times)
    _check_values(rows, frame)
    # One row per time, in order, for what concerns neighbours.
    order = np.argsort(times, kind="stable")
    order = order[~np.isnat(times[order])]
    order = order[np.append(times[order][1:] != times[order][:-1], True)] if len(order) else order
    _check_jumps(rows, frame, order, kind)
    if aware and len(order) > 1:
        bar = bar_seconds or usual_step(times[order].astype(np.int64))
        check_grid(rows, times, order, bar, kind)
    return sorted(rows.problems, key=lambda problem: -1 if problem.row is None else problem.row)


def _check_order(rows: Rows, times: np.ndarray) -> None:
    known = np.flatnonzero(~np.isnat(times))
    stamps = times[known].astype(np.int64)
    if len(known) < 2:
        return
    later = pd.Series(stamps).duplicated(keep="last").to_numpy()
    rows.add(_at(known[later], times), "error", "duplicate", "the same time comes again further down; the last one counts")
    if (np.diff(stamps) <= 0).all() and stamps[0] > stamps[-1]:
        rows.whole("warning", "unsorted", "newest first; sorted on loading")
        return
    early = known[stamps < np.maximum.accumulate(stamps)]
    rows.add(_at(early, times), "warning", "unsorted", "earlier than a row above it; sorted on loading")


def _at(indices: np.ndarray, like: np.ndarray) -> np.ndarray:
    flags = np.zeros(len(like), bool)
    flags[indices] = True
    return flags


def _check_values(rows: Rows, frame: pd.DataFrame) -> None:
    o, h, l, c, volume = (frame[column].to_numpy(np.float64) for column in COLUMNS[1:])
    values = np.stack([o, h, l, c, volume])
    names = np.array(COLUMNS[1:])
    no_number, no_price = ~np.isfinite(values), values[:4] <= 0
    for i in np.flatnonzero(no_number.any(axis=0)):
        rows.at(int(i), "error", "NaN", "no number in " + ", ".join(names[no_number[:, i]]))
    for i in np.flatnonzero(no_price.any(axis=0)):
        found = ", ".join(f"{names[k]} {values[k, i]:g}" for k in np.flatnonzero(no_price[:, i]))
        rows.at(int(i), "error", "price<=0", found)
    for i in np.flatnonzero(h < l):
        rows.at(int(i), "error", "high<low", f"high {h[i]:g}, low {l[i]:g}")
    slack = ROUNDING * np.abs(h)
    outside = (np.maximum(o, c) > h + slack) | (np.minimum(o, c) < l - slack)
    for i in np.flatnonzero(outside & ~(h < l)):
        rows.at(int(i), "error", "outside range", f"open {o[i]:g}, close {c[i]:g}, but low {l[i]:g} and high {h[i]:g}")
    for i in np.flatnonzero(volume < 0):
        rows.at(int(i), "error", "negative volume", f"volume {volume[i]:g}")
    silent = volume == 0
    if silent.sum() * 2 > len(volume):
        found = f"no volume in {silent.sum()} of {len(volume)} bars; volume features and volume caps mean nothing here"
        rows.whole("warning", "zero volume", found)
    else:
        rows.add(silent, "warning", "zero volume", "nothing was traded in this bar")


def _check_jumps(rows: Rows, frame: pd.DataFrame, order: np.ndarray, kind: AssetClass) -> None:
    """Flags price ratios of a split; the open shows it first, unless the source copied the open from the previous close."""
    if len(order) < 2:
        return
    opened, close = frame["open"].to_numpy(np.float64)[order], frame["close"].to_numpy(np.float64)[order]
    wanted = np.array([n for n in SPLITS if kind == "stock" or n >= 3], float)
    wanted = np.concatenate([wanted, 1 / wanted])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.stack([opened[1:] / close[:-1], close[1:] / close[:-1]])
    ratios[~np.isfinite(ratios)] = 1.0
    candidates = np.flatnonzero((np.abs(np.log(np.clip(ratios, 1e-9, 1e9))) > 0.6).any(axis=0))
    for i in candidates:
        for ratio in ratios[:, i]:
            near = np.abs(ratio / wanted - 1) <= SPLIT_TOLERANCE
            if near.any():
                factor = wanted[near][0]
                name = f"{factor:.0f}:1 reverse split" if factor > 1 else f"{1 / factor:.0f}:1 split"
                detail = f"price times {ratio:.4g} from one bar to the next, like an unadjusted {name}"
                rows.at(int(order[i + 1]), "warning", "jump", detail)
                break

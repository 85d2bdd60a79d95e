"""Times, written as a column of a file has them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

_DIGIT = re.compile(r"\d")
_ENDINGS = ("", "Z", "+00:00", "+0000", " UTC", " GMT")
_CLOCKS = ("%H:%M:%S", "%H:%M", "%H:%M:%S.000", "%H:%M:%S.000000")


def speller(column: pd.Series, zone: str) -> Callable[[pd.DatetimeIndex], Any]:
    """Returns what writes UTC times as a column has them; times that its spelling cannot tell apart are written in full.

    Args:
        column: Stamps as a file has them, none missing.
        zone: Time zone of stamps that have none.
    """
    kind: Any = column.dtype
    if isinstance(kind, pd.DatetimeTZDtype):
        return lambda times: times.tz_convert(kind.tz).as_unit(kind.unit)
    if pd.api.types.is_datetime64_dtype(kind):
        dates = bool((column == column.dt.normalize()).all())
        return lambda times: _naive(times, "UTC" if dates else zone, dates)
    if pd.api.types.is_numeric_dtype(kind):
        size = abs(float(column.iloc[0])) if len(column) else 0.0
        unit = 10**9 if size < 1e11 else 10**6 if size < 1e14 else 10**3 if size < 1e17 else 1
        return lambda times: (times.as_unit("ns").asi8 // unit).astype(kind if pd.api.types.is_integer_dtype(kind) else np.int64)
    text = str(column.iloc[0]).strip() if len(column) else ""
    shape = re.sub(r"-(00:?00)$", r"+\1", _DIGIT.sub("0", text))
    if shape == "0000-00-00":
        return lambda times: times.strftime("%Y-%m-%d") if (times == times.normalize()).all() else _in_full(times)
    for sep in (" ", "T"):
        for clock in _CLOCKS:
            for ending in _ENDINGS:
                pattern = f"%Y-%m-%d{sep}{clock}"
                if _DIGIT.sub("0", pd.Timestamp(0).strftime(pattern)) + ending == shape:
                    return partial(_text, pattern=pattern, ending=ending, zone=zone)
    return _in_full


def _text(times: pd.DatetimeIndex, pattern: str, ending: str, zone: str) -> Any:
    if ending:
        return times.strftime(pattern) + ending
    local = _naive(times, zone, False)
    return local.strftime(pattern) if local.tz is None else _in_full(times)


def _naive(times: pd.DatetimeIndex, zone: str, dates: bool) -> pd.DatetimeIndex:
    """Times without a zone; with it where the clock shows one hour twice, or a date would not do."""
    local = times.tz_convert(zone).tz_localize(None)
    if dates:
        return local if (local == local.normalize()).all() else times
    return times if local.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").hasnans else local


def _in_full(times: pd.DatetimeIndex) -> Any:
    return times.strftime("%Y-%m-%d %H:%M:%S+00:00")

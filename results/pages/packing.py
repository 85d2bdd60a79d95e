"""A table in few bytes: columns, each in the way that suits it, gzip, base64; unpack.js is the other side.

Whole numbers are stored as bytes by place (all low bytes, then all next ones), which gzip shortens far better than numbers in a row,
and as differences where these are shorter, as in a sorted column. Numbers keep two decimals more than are shown; those of few different
values, parameters above all, keep every bit.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results.pages.columns import Column, check
from results.pages.escaping import PageError

MOST_EXACT: Final = 4096  # different numbers that are listed in full
SPARE_DIGITS: Final = 2
_SIGNIFICANT: Final = {"seconds": 6}
_GENERAL: Final = 8
_LARGEST: Final = 2**31 - 2

Packed = tuple[dict[str, Any], list[bytes]]


def packed(columns: Sequence[Column], frame: pd.DataFrame) -> str:
    """Return a table as base64 of gzip: length of the head (4 bytes, little-endian), head (JSON), columns.

    Raises:
        PageError: A column that the frame lacks, or text in a column of numbers.
    """
    check(columns)
    heads, blobs = [], []
    for column in columns:
        if column.name not in frame.columns:
            raise PageError(f"the table has no column {column.name!r}; it has {', '.join(map(str, frame.columns))}")
        values = frame[column.name]
        head, parts = _numbers(column, numbers(values, column)) if column.numeric else _texts(values)
        heads.append(head)
        blobs += parts
    written = json.dumps({"rows": len(frame), "columns": heads}, separators=(",", ":")).encode()
    raw = struct.pack("<I", len(written)) + written + b"".join(blobs)
    return base64.b64encode(gzip.compress(raw, 6, mtime=0)).decode()


def numbers(values: pd.Series, column: Column) -> NDArray[np.float64]:
    """Return a column's numbers, NaN where there is none.

    Raises:
        PageError: Something that is no number.
    """
    try:
        return np.asarray(pd.to_numeric(values).to_numpy(dtype=float, na_value=np.nan))
    except (TypeError, ValueError):
        wrong = next((value for value in values if not pd.isna(value) and not _is_number(value)), None)
        raise PageError(f"column {column.name!r} is of kind {column.kind}, but holds {wrong!r}: make it text, or leave that out") from None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _texts(values: pd.Series) -> Packed:
    codes, found = pd.factorize(values)
    head, parts = _whole(codes.astype(np.int64) + 1)
    return {"as": "text", "values": [_text(value) for value in found], **head}, parts


def _text(value: Any) -> str:
    # A text is written as UTF-8 in the end, which has no half of a pair of surrogates.
    return str(value).encode("utf-8", "replace").decode()


def _numbers(column: Column, values: NDArray[np.float64]) -> Packed:
    codes, found = pd.factorize(values)
    if len(found) <= MOST_EXACT and np.isfinite(found).all():
        head, parts = _whole(codes.astype(np.int64) + 1)
        return {"as": "listed", "values": [_number(value) for value in found], **head}, parts
    known = np.isfinite(values[~np.isnan(values)]).all()
    if known and column.shown_digits is not None:
        decimals = 0 if column.kind == "integer" else column.shown_digits + SPARE_DIGITS + (2 if column.kind == "percent" else 0)
        if np.nanmax(np.abs(values)) * 10.0**decimals < _LARGEST and (column.kind != "integer" or _are_whole(values)):
            return _scaled(column, values, decimals)
    elif known:
        return _significant(values, _SIGNIFICANT.get(column.kind, _GENERAL))
    return {"as": "float"}, [_planes(values.astype("<f8").view(np.uint8).reshape(-1, 8))]


def _are_whole(values: NDArray[np.float64]) -> bool:
    return bool((np.isnan(values) | (values == np.rint(values))).all())


def _number(value: float) -> float | int:
    return int(value) if value == int(value) and abs(value) < 2**53 else float(value)


def _scaled(column: Column, values: NDArray[np.float64], decimals: int) -> Packed:
    exact = values * 10.0**decimals
    rounded = _off_ties(np.rint(exact), exact)
    if column.rounding != "nearest":
        # To the same side as it is shown: a value just short of a threshold must not reach it on the way.
        sided = {"down": np.floor, "up": np.ceil}[column.rounding](exact)
        rounded = np.where(np.abs(exact - np.rint(exact)) < 1e-6, np.rint(exact), sided)
    least = np.nanmin(rounded)
    head, parts = _whole(np.where(np.isnan(rounded), 0, np.nan_to_num(rounded) - least + 1).astype(np.int64))
    return {"as": "scaled", "least": int(least), "decimals": decimals, **head}, parts


def _significant(values: NDArray[np.float64], digits: int) -> Packed:
    size = np.abs(np.nan_to_num(values))
    exponents = np.where(size > 0, np.floor(np.log10(np.where(size > 0, size, 1.0))) - (digits - 1), 0).astype(np.int64)
    if exponents.min(initial=0) < -22 or exponents.max(initial=0) > 22:
        # Beyond these, powers of ten are not exact.
        return {"as": "float"}, [_planes(values.astype("<f8").view(np.uint8).reshape(-1, 8))]
    powers = 10.0 ** np.abs(exponents)
    exact = np.where(exponents < 0, values * powers, values / powers)
    mantissas = _off_ties(np.rint(exact), exact)
    whole = np.nan_to_num(mantissas).astype(np.int64)
    codes = np.where(np.isnan(mantissas), 0, _zigzag(whole) + 1)
    head, parts = _whole(codes)
    return {"as": "significant", **head}, [*parts, (exponents + 128).astype(np.uint8).tobytes()]


def _off_ties(rounded: NDArray[np.float64], exact: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rounded numbers that round once more, for show, as the exact ones do: 14.6499 must not be 14.7 by way of 14.65."""
    size = np.abs(rounded)
    tie = np.zeros(len(rounded), dtype=bool)
    for digits in range(SPARE_DIGITS, _GENERAL):
        tie |= size % 10.0**digits == 5.0 * 10.0 ** (digits - 1)
    beside = tie & (np.abs(exact - rounded) > 1e-15 * np.maximum(size, 1.0))
    return np.where(beside, rounded + np.sign(exact - rounded), rounded)


def _zigzag(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return (values << 1) ^ (values >> 63)


def _whole(codes: NDArray[np.int64]) -> Packed:
    """Return whole numbers from 0 to 2³², as they are or as differences, whichever gzip makes shorter."""
    plain = _bytes(codes)
    steps = _zigzag(np.diff(codes, prepend=0))
    if len(codes) and steps.max() < 2**32:
        different = _bytes(steps)
        if len(zlib.compress(different[1], 1)) < len(zlib.compress(plain[1], 1)):
            return {"width": different[0], "steps": True}, [different[1]]
    return {"width": plain[0], "steps": False}, [plain[1]]


def _bytes(codes: NDArray[np.int64]) -> tuple[int, bytes]:
    width = max(1, (int(codes.max(initial=0)).bit_length() + 7) // 8)
    return width, _planes(codes.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :width])


def _planes(rows: NDArray[np.uint8]) -> bytes:
    return np.ascontiguousarray(rows.T).tobytes()

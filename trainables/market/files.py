"""Bars from files, in the spellings that exchanges and download tools write (SPEC A.1).

Reading changes names, types and the time zone, and nothing else: rows stay as they are, in file order, with the file's row
numbers as index, so that `check` can say which row is bad.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from trainables.market.errors import MarketError, quoted, unknown_symbols

COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")
SUFFIXES = (".parquet", ".csv", ".csv.gz")
FOLDERS = ("", "stocks", "crypto")

# Lower case, without spaces, underscores and dots; best first. `unix` comes before `date`, which beside it is only its text.
_SPELLINGS = {
    "timestamp": ("timestamp", "opentime", "unix", "ts", "t", "datetime", "time", "date"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "v", "vol"),
}
_OFFSET = re.compile(r".*\d(?:Z|[+-]\d\d(?::?\d\d)?)", re.IGNORECASE)
_ZULU = re.compile(r"\s*(UTC|GMT)$", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def read_directory(path: str | Path, symbols: Sequence[str] | None = None, assume_tz: str | None = None) -> dict[str, pd.DataFrame]:
    """Reads one file per symbol from a folder, or a single file.

    Args:
        path: Folder with SYMBOL.parquet, SYMBOL.csv or SYMBOL.csv.gz, there or in its `stocks` and `crypto` folders; or one
            such file, which may hold several symbols if it has a symbol column.
        symbols: Which to read, in this order; None for all there are.
        assume_tz: Time zone of stamps without one, for example "UTC" or "America/New_York".

    Returns:
        Symbol → table with timestamp, open, high, low, close, volume; the index is the file's data row, from 0. Stamps are
        datetime64[ns, UTC], or without time zone if the file gave none.

    Raises:
        MarketError: Nothing there, a symbol or column missing, or a file that cannot be read.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise MarketError(f"{root}: no such file or folder")
    if root.is_file():
        return _read_single(root, symbols, assume_tz)
    if symbols is None:
        found = _scan(root)
        if not found:
            raise MarketError(f"{root}: no bars there; expected one file per symbol, such as BTCUSD.csv or stocks/NVDA.parquet")
        return {symbol: read_file(file, assume_tz) for symbol, file in found.items()}
    files = {symbol: _file(root, symbol) for symbol in symbols}
    if absent := [symbol for symbol, file in files.items() if file is None]:
        raise MarketError(f"symbols: no file for {quoted(absent)} in {root}; {unknown_symbols(absent, _scan(root))}")
    return {symbol: read_file(file, assume_tz) for symbol, file in files.items() if file is not None}


def available(path: str | Path) -> tuple[str, ...]:
    """Returns the symbols that a folder has files for, sorted."""
    root = Path(path).expanduser()
    return tuple(_scan(root)) if root.is_dir() else ()


def find_file(root: Path, symbol: str) -> Path:
    """Returns a symbol's file: root, then root/stocks, then root/crypto; upper case before lower (SPEC A.1).

    Raises:
        MarketError: No file, or two that differ only in their format.
    """
    if (found := _file(root, symbol)) is None:
        raise MarketError(f"symbols: no file for {symbol!r} in {root}; {unknown_symbols([symbol], _scan(root))}")
    return found


def _file(root: Path, symbol: str) -> Path | None:
    stem = symbol.replace("/", "")
    for folder in FOLDERS:
        for name in dict.fromkeys((stem.upper(), stem.lower(), stem)):
            hits = [file for suffix in SUFFIXES if (file := root / folder / f"{name}{suffix}").is_file()]
            if len(hits) > 1:
                raise MarketError(f"{symbol}: both {hits[0]} and {hits[1]} exist; remove the one that should not be used")
            if hits:
                return hits[0]
    return None


def read_file(path: Path, assume_tz: str | None = None) -> pd.DataFrame:
    """Reads one symbol's file into the columns of `read_directory`; a symbol column is ignored (SPEC A.1)."""
    return _canonical(_table(path), path, assume_tz)


def _scan(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for file in sorted((root / folder).glob("*")):
            suffix = next((suffix for suffix in SUFFIXES if file.name.lower().endswith(suffix)), None)
            if suffix and file.is_file():
                symbol = file.name[: -len(suffix)].upper()
                found.setdefault(symbol, file)
    return {symbol: find_file(root, symbol) for symbol in sorted(found)}


def _read_single(path: Path, symbols: Sequence[str] | None, assume_tz: str | None) -> dict[str, pd.DataFrame]:
    table = _table(path)
    frame = _canonical(table, path, assume_tz)
    own = next((path.name[: -len(suffix)] for suffix in SUFFIXES if path.name.lower().endswith(suffix)), path.stem).upper()
    column = {_plain(name): name for name in table.columns}.get("symbol")
    names = table[column].astype(str).str.upper() if column is not None else pd.Series(own, index=frame.index)
    if names.nunique() < 2 or own in set(names):
        # One symbol per file: its name is the file's, whatever the column says, unless that is the only one asked for.
        name = symbols[0] if symbols is not None and len(symbols) == 1 and names.nunique() == 1 and symbols[0] == names.iloc[0] else own
        frames = {name: frame}
    else:
        frames = {str(name): frame[names == name] for name in names.unique()}
    if absent := [symbol for symbol in symbols or () if symbol not in frames]:
        raise MarketError(f"symbols: no {quoted(absent)} in {path}; {unknown_symbols(absent, frames)}")
    return {symbol: frames[symbol] for symbol in symbols} if symbols is not None else frames


def _table(path: Path) -> pd.DataFrame:
    """Reads a file as it is, rows numbered from 0 whatever index was stored with them."""
    try:
        if path.name.lower().endswith(".parquet"):
            table = pd.read_parquet(path)
            # A row number, or a copy of columns that are there, says nothing new.
            return table.reset_index(drop=isinstance(table.index, pd.RangeIndex) or set(table.index.names) <= set(table.columns))
        table = pd.read_csv(path)
        if not isinstance(table.index, pd.RangeIndex):
            raise MarketError(
                f"{path}: rows have more fields than the header has names; correct the header, or the commas that end the rows"
            )
        names = [str(name) for name in table.columns]
        if len(names) >= 6 and all(_numeric(name) for name in names) and names != [str(i) for i in range(len(names))]:
            table = pd.read_csv(path, header=None)  # exchange dumps have no header
        return table
    except MarketError:
        raise
    except (OSError, ValueError) as error:  # pandas' and Arrow's parser errors are ValueErrors
        raise MarketError(f"{path}: cannot be read ({error})") from error


def _canonical(table: pd.DataFrame, path: Path, assume_tz: str | None) -> pd.DataFrame:
    names = {_plain(name): name for name in reversed(list(table.columns))}
    if len(names) >= 6 and all(_numeric(name) for name in names):
        # Lists as ccxt and the Binance archive give them: time, open, high, low, close, volume, …
        chosen = dict(zip(COLUMNS, list(table.columns)[:6], strict=True))
    else:
        found = {column: [names[spelling] for spelling in spellings if spelling in names] for column, spellings in _SPELLINGS.items()}
        chosen = {column: hits[0] for column, hits in found.items() if hits}
        for unnamed in ("unnamed:0", "index", "level0"):
            if "timestamp" not in chosen and unnamed in names and not pd.api.types.is_integer_dtype(table[names[unnamed]]):
                chosen["timestamp"] = names[unnamed]
    missing = [column for column in COLUMNS if column not in chosen]
    if missing:
        raise MarketError(f"{path}: no column for {', '.join(missing)}; it has {', '.join(map(str, table.columns)) or 'none'}")
    out = {"timestamp": _stamps(table[chosen["timestamp"]], assume_tz)}
    for column in COLUMNS[1:]:
        out[column] = pd.to_numeric(table[chosen[column]], errors="coerce").astype(np.float64)
    for column, values in out.items():
        if len(values) and values.isna().all():
            what = "no time (ISO 8601, or seconds or smaller units since 1970)" if column == "timestamp" else "no number"
            given = table[chosen[column]]
            raise MarketError(f"{path}: {what} in any row of column {chosen[column]!r}; the first is {given.iloc[0]!r}")
    return pd.DataFrame(out)


def _stamps(column: pd.Series, assume_tz: str | None) -> pd.Series:
    """Reads stamps: numbers are UTC epochs, text must be ISO 8601; what cannot be read is NaT."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.dt.tz_convert("UTC").dt.as_unit("ns")
    if pd.api.types.is_datetime64_dtype(column.dtype):
        naive = column.dt.as_unit("ns")
    elif pd.api.types.is_numeric_dtype(column.dtype):
        return _epochs(column)
    else:
        text = column.astype("str").str.strip().str.replace(_ZULU, "+00:00", regex=True)
        if len(text) and text.str.fullmatch(r"\d{9,19}(\.0*)?").all():
            return _epochs(pd.to_numeric(text))
        aware = text.str.fullmatch(_OFFSET) & ~text.str.fullmatch(_DATE)
        if aware.any():
            # Text without an offset among text with one has no meaning that could be guessed: it becomes NaT.
            return pd.to_datetime(text.where(aware), utc=True, format="ISO8601", errors="coerce").dt.as_unit("ns")
        naive = pd.to_datetime(text, format="ISO8601", errors="coerce").dt.as_unit("ns")
    known = naive.dropna()
    if len(known) and (known == known.dt.normalize()).all():
        return naive.dt.tz_localize("UTC")  # dates of daily bars, not times
    if assume_tz is None:
        return naive
    return naive.dt.tz_localize(time_zone(assume_tz), ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")


def time_zone(name: Any) -> ZoneInfo:
    """Returns a time zone by its IANA name.

    Raises:
        MarketError: No such time zone.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError) as error:  # what zoneinfo raises for names, paths and folders
        raise MarketError(f"assume_tz: {name!r} is not a time zone; give for example UTC or America/New_York") from error


def _epochs(numbers: pd.Series) -> pd.Series:
    """Reads seconds, milliseconds, microseconds or nanoseconds since 1970, row by row: archives changed their unit over the years."""
    values = numbers.to_numpy(np.float64, na_value=np.nan)
    factor = np.select([np.abs(values) < 1e11, np.abs(values) < 1e14, np.abs(values) < 1e17], [10**9, 10**6, 10**3], 1)
    valid = np.isfinite(values)
    # Whole numbers, not floats: a microsecond stamp times 1000 has more digits than a float holds.
    whole = numbers.where(pd.Series(valid, index=numbers.index), 0).to_numpy().astype(np.int64)
    stamps = np.where(valid, whole * factor.astype(np.int64), np.iinfo(np.int64).min).view("datetime64[ns]")
    return pd.Series(stamps, index=numbers.index).dt.tz_localize("UTC")


def _plain(name: object) -> str:
    return re.sub(r"[\s_.]", "", str(name)).lower()


def _numeric(name: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?(\.\d+)?", name, re.IGNORECASE) is not None

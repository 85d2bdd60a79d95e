"""A changed market in the user's own files: as many, of the same kind, with the same names, columns and stamps.

A trainable that reads files itself may expect any of that. What did not change is copied as it stands, line by line; what did is
written in the same spelling. Columns that are not a bar's have no changed value, so they are empty there.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainables.audit.spelling import speller
from trainables.market import Asset, Panel
from trainables.market.files import _SPELLINGS, COLUMNS, _numeric, _plain, _read_single, _table, find_file, read_file
from trainables.market.load import _paths
from trainables.market.panel import BAR

_FEES = ("maker_fee_bps", "taker_fee_bps", "half_spread_bps")


@dataclass(frozen=True, eq=False)
class Layout:
    """One file of bars, and how to write another like it.

    Attributes:
        name: Path below the source.
        raw: Its rows as they are.
        bars: By symbol, the rows in the columns of `read_directory`; the index is the row of `raw`.
        own: Canonical column → the file's column.
        stamps: The columns that hold the time.
        zone: Time zone of stamps that have none.
        path: Where it is.
    """

    name: str
    raw: pd.DataFrame
    bars: Mapping[str, pd.DataFrame]
    own: Mapping[str, Hashable]
    stamps: tuple[Hashable, ...]
    zone: str
    path: Path

    @classmethod
    def read(cls, path: Path, name: str, symbols: Sequence[str], single: bool, zone: str) -> Layout:
        """Reads a file; `single`: it is the whole source and may hold several symbols."""
        raw = _table(path)
        bars = _read_single(path, symbols or None, zone) if single else {symbols[0]: read_file(path, zone)}
        names = {_plain(column): column for column in reversed(list(raw.columns))}
        if len(names) >= 6 and all(map(_numeric, names)):  # no header, or numbers for one
            own: dict[str, Hashable] = dict(zip(COLUMNS, list(raw.columns)[:6], strict=True))
        else:
            own = {column: next((names[x] for x in known if x in names), "") for column, known in _SPELLINGS.items()}
            own["timestamp"] = own["timestamp"] or next((names[x] for x in ("unnamed:0", "index", "level0") if x in names), "")
        times = [own["timestamp"]]
        for spelling in _SPELLINGS["timestamp"]:  # `date` beside `unix` says the same once more
            if spelling in names and names[spelling] not in times:
                times.append(names[spelling])
        return cls(name, raw, bars, own, tuple(times), zone, path)

    @property
    def kind(self) -> str:
        """CSV or Parquet."""
        return "Parquet" if self.name.lower().endswith(".parquet") else "CSV"

    @property
    def symbol_column(self) -> Hashable | None:
        """The column that names the symbol, if there is one."""
        return next((column for column in self.raw.columns if _plain(column) == "symbol"), None)

    @cached_property
    def lines(self) -> tuple[str, np.ndarray]:
        """A CSV's header ("" if it has none) and its rows, object (n,)."""
        opened = gzip.open if self.name.lower().endswith(".gz") else open
        with opened(self.path, "rt", encoding="utf-8-sig", newline="") as file:
            text = [line for line in file.read().splitlines() if line]
        header = text.pop(0) if len(text) == len(self.raw) + 1 else ""
        if len(text) != len(self.raw):  # a line break within a field, say
            header, *text = self.raw.to_csv(index=False, lineterminator="\n").split("\n")[:-1]
        return header, np.array(text, dtype=object)

    @cached_property
    def writers(self) -> dict[Hashable, Callable[[pd.DatetimeIndex], Any]]:
        """For each column of `stamps`, what spells times as it does."""
        return {column: speller(self.raw[column].dropna(), self.zone) for column in self.stamps}

    def write(self, frame: pd.DataFrame, path: Path) -> None:
        """Writes bars: timestamp (UTC), symbol, open, high, low, close, volume, in any order of rows."""
        path.parent.mkdir(parents=True, exist_ok=True)
        row = np.full(len(frame), -1)
        for symbol, old in self.bars.items():
            mine = np.flatnonzero((frame["symbol"] == symbol).to_numpy())
            first = old[~old["timestamp"].duplicated()]
            at = pd.Index(first["timestamp"]).get_indexer(pd.Index(frame["timestamp"].iloc[mine]))
            same = at >= 0
            for name in BAR:
                same &= first[name].to_numpy()[at] == frame[name].to_numpy()[mine]
            row[mine[same]] = first.index.to_numpy()[at[same]]
        made, order = self._made(frame[row < 0]), self._order(frame)
        if self.kind == "Parquet":
            kept = self.raw.iloc[row[row >= 0]]
            table = pd.concat([kept, made], ignore_index=True) if len(kept) and len(made) else (kept if len(kept) else made)
            place = np.argsort(np.concatenate([np.flatnonzero(row >= 0), np.flatnonzero(row < 0)]), kind="stable")
            self._indexed(table.iloc[place[order]].reset_index(drop=True)).to_parquet(path)
            return
        header, lines = self.lines
        out = np.empty(len(frame), dtype=object)
        out[row >= 0] = lines[row[row >= 0]]
        out[row < 0] = made.to_csv(index=False, header=False, lineterminator="\n").split("\n")[:-1] if len(made) else []
        opened = gzip.open if path.name.lower().endswith(".gz") else open
        with opened(path, "wt", encoding="utf-8", newline="") as file:
            file.write("\n".join([*([header] if header else []), *out[order], ""]))

    def _made(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The table of rows that are not in the file, in its columns."""
        times = pd.DatetimeIndex(frame["timestamp"])
        column_of_symbols = self.symbol_column
        said = {} if column_of_symbols is None else {s: self.raw[column_of_symbols].iloc[int(x.index[0])] for s, x in self.bars.items()}
        columns: dict[Hashable, Any] = {}
        for column in self.raw.columns:
            canonical = next((name for name, mine in self.own.items() if mine == column and name in BAR), None)
            if column in self.stamps:
                columns[column] = self.writers[column](times)
            elif column == column_of_symbols:
                columns[column] = [said[symbol] for symbol in frame["symbol"]]
            elif canonical is None:
                columns[column] = np.full(len(frame), np.nan)
            else:
                values = frame[canonical].to_numpy()
                whole = pd.api.types.is_integer_dtype(self.raw[column]) and bool((values == np.round(values)).all())
                columns[column] = values.astype(np.int64) if whole else values
        return pd.DataFrame(columns, columns=self.raw.columns)

    def _order(self, frame: pd.DataFrame) -> np.ndarray:
        """Row numbers of the frame in the order the file has: by time or by symbol, newest first if it is so."""
        all_ = pd.concat(list(self.bars.values())).sort_index()["timestamp"]
        times = pd.DatetimeIndex(frame["timestamp"]).asi8
        rank = pd.Index(list(self.bars)).get_indexer(pd.Index(frame["symbol"]))
        newest_first = all(old["timestamp"].is_monotonic_decreasing for old in self.bars.values()) and len(all_) > len(self.bars)
        times = -times if newest_first else times
        by_time = all_.is_monotonic_decreasing if newest_first else all_.is_monotonic_increasing
        return np.lexsort((rank, times) if by_time else (times, rank))

    def _indexed(self, table: pd.DataFrame) -> pd.DataFrame:
        """Gives a Parquet table the index it had."""
        index = pd.read_parquet(self.path, columns=[]).index
        names = [name if name is not None else "index" for name in index.names]
        if isinstance(index, pd.RangeIndex) or not set(names) <= set(table.columns):
            return table
        return table.set_index(names).rename_axis(list(index.names))


@dataclass(frozen=True, eq=False)
class Source:
    """The files of a study's `data.source`, and the rest of its data section.

    Attributes:
        data: The data section.
        parts: For each path of the source: (name, whether it is a folder, its files).
        panel: The market in them.
    """

    data: Mapping[str, Any]
    parts: tuple[tuple[str, bool, tuple[Layout, ...]], ...]
    panel: Panel

    @classmethod
    def read(cls, data: Mapping[str, Any], panel: Panel) -> Source | None:
        """Reads what a market was loaded from; None for the sample market, which has no files."""
        if data.get("source", "sample") == "sample":
            return None
        zone = data.get("assume_tz") or "UTC"
        parts = []
        for path in _paths(data["source"], None):
            if path.is_dir():
                files = {}
                for symbol in panel.symbols:
                    try:
                        files[symbol] = find_file(path, symbol)
                    except ValueError:  # another source has it
                        continue
                layouts = tuple(Layout.read(f, str(f.relative_to(path)), [s], False, zone) for s, f in files.items())
            else:
                inside = [] if len(_paths(data["source"], None)) > 1 or data.get("symbols") is None else list(panel.symbols)
                layouts = (Layout.read(path, path.name, inside, True, zone),)
            parts.append((path.resolve().name or "data", path.is_dir(), layouts))
        return cls(data, tuple(parts), panel)

    def write(self, panel: Panel, folder: Path) -> dict[str, Any]:
        """Writes a market and returns the data section that reads it: the study's own keys, fitted to it."""
        frame = panel.frame()
        paths = []
        for i, (name, is_folder, layouts) in enumerate(self.parts):
            base = folder / str(i) / name if len(self.parts) > 1 else folder / name
            for layout in layouts:
                rows = frame[frame["symbol"].isin(list(layout.bars))]
                if len(rows):
                    layout.write(rows, base / layout.name if is_folder else base)
            paths += [str(base)] if base.exists() else []
        present = set(frame["symbol"])
        assets = [asset for asset in panel.assets if asset.symbol in present]
        given = self.data["source"]
        data = {**self.data, "source": paths if isinstance(given, (list, tuple)) else ",".join(paths)}
        names = [symbol for symbol in panel.symbols if symbol in present]
        if data.get("symbols") is not None:
            data["symbols"] = ",".join(names) if isinstance(data["symbols"], str) else names
        elif len(names) == 1 < len(panel.symbols) and not self.parts[0][1]:
            data["symbols"] = names  # a file in which one symbol is left is named by its symbol, not by its name
        if data.get("assets") is not None or _priced(panel) != _priced(self.panel):
            data["assets"] = asset_section(assets)
        if isinstance(data.get("bars"), int):
            data["bars"] = max(int(data["bars"]), panel.n_bars)
        bar = np.timedelta64(round(panel.bar_seconds * 1e9), "ns")
        for key, needed, moved in (("start", panel.times[0], np.less), ("end", panel.times[-1] + bar, np.greater)):
            if data.get(key) is not None and moved(needed, _stamp(data[key])):
                data[key] = f"{needed.astype('datetime64[s]')}Z"
        return data

    def describe(self) -> str:
        """The files in words."""
        words = []
        for name, is_folder, layouts in self.parts:
            columns = ", ".join(map(str, layouts[0].raw.columns)) if layouts else ""
            if not is_folder:
                words.append(f"a {layouts[0].kind} file, {name} (columns {columns})")
                continue
            kinds = " and ".join(dict.fromkeys(x.kind for x in layouts))
            names = ", ".join(x.name for x in layouts[:3]) + (", …" if len(layouts) > 3 else "")
            words.append(f"a folder of {len(layouts)} {kinds} file{'s' if len(layouts) != 1 else ''} ({names}; columns {columns})")
        return " and ".join(words)


def asset_section(assets: Sequence[Asset]) -> dict[str, dict[str, Any]]:
    """Returns the `data.assets` that `make_assets` turns into these assets."""
    return {x.symbol: {f.name: getattr(x, f.name) for f in fields(x) if f.name != "symbol"} for x in assets}


def _priced(panel: Panel) -> dict[str, tuple[float, ...]]:
    return {asset.symbol: tuple(getattr(asset, fee) for fee in _FEES) for asset in panel.assets}


def _stamp(value: Any) -> np.datetime64:
    stamp = pd.Timestamp(value)
    return (stamp.tz_convert("UTC").tz_localize(None) if stamp.tzinfo else stamp).to_datetime64().astype("datetime64[ns]")

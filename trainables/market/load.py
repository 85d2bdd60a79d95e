"""The `data:` section of a study file, made into a panel."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainables.market.assets import make_assets
from trainables.market.check import Problem, check_frame, raise_on_errors
from trainables.market.errors import MarketError, quoted, unknown, unknown_symbols
from trainables.market.files import available, read_directory, time_zone
from trainables.market.panel import Panel, usual_step, utc
from trainables.market.sample import near_misses, sample_panel

SAMPLE_KEYS = frozenset({"source", "symbols", "bars", "seed", "signal", "start", "costs", "assets"})
FILE_KEYS = frozenset({"source", "symbols", "bars", "start", "end", "assets", "assume_tz", "drop_bad_rows"})

FEW = 24  # rows from which the bars' length can be told


def load_market(data: Mapping[str, Any], base: str | Path | None = None) -> tuple[Panel, list[Problem]]:
    """Loads the market a study names.

    Args:
        data: `source: sample` with symbols, bars, seed, signal, start, assets (or costs); or `source: PATH` (several: a list,
            or separated by commas) with symbols, bars (the last N rows of the common time axis), start (inclusive), end
            (exclusive), assets, assume_tz, drop_bad_rows.
        base: Folder that relative paths start from; the working directory if not given.

    Returns:
        (panel, problems): the problems are warnings; with `drop_bad_rows` also the rows that were dropped. Nothing is ever
        filled: a gap is NaN and cannot be traded.

    Raises:
        MarketError: Unknown key, missing file or symbol, or bad rows that were not to be dropped; begins with the key.
    """
    if not isinstance(data, Mapping):
        raise MarketError(f"data: {data!r}; give a mapping, for example {{source: sample}}")
    source = data.get("source", "sample")
    allowed = SAMPLE_KEYS if isinstance(source, str) and source == "sample" else FILE_KEYS
    for key in data:
        if key not in allowed:
            raise MarketError(f"data.{key}: no such key for source {source!r}; {unknown(key, allowed)}")
    try:
        symbols = _names(data.get("symbols"))
        return _load_sample(symbols, data) if allowed is SAMPLE_KEYS else _load_files(_paths(source, base), symbols, data)
    except MarketError as error:
        # What is wrong with an argument begins with its name; anything else is about the files.
        text = str(error)
        if data.get("costs") is not None:
            text = re.sub(r"^assets(?=[.:])", "costs", text)
        named = re.match(r"(\w+): |(assets|costs)\.", text)
        known = named is not None and (named[1] or named[2]) in allowed
        raise MarketError(f"data.{text}" if known else f"data.source: {text}") from error


def _load_sample(symbols: tuple[str, ...] | None, data: Mapping[str, Any]) -> tuple[Panel, list[Problem]]:
    if data.get("costs") is not None and data.get("assets") is not None:
        raise MarketError("costs: says the same thing as data.assets for the sample market; give one of them")
    options = {key: data[key] for key in ("bars", "seed", "signal", "start") if data.get(key) is not None}
    costs = data["costs"] if data.get("costs") is not None else data.get("assets")
    try:
        panel = sample_panel(symbols, costs=costs, **options)
    except MemoryError as error:
        raise MarketError(f"bars: {options.get('bars')!r} rows of so many symbols do not fit into memory; give fewer") from error
    return panel, [
        Problem(symbol, None, None, "warning", f"made-up symbol {symbol} (did you mean {near}?)", f"the sample market's own is {near}")
        for symbol, near in near_misses(panel.symbols, costs or ()).items()
    ]


def check_directory(path: str | Path, assume_tz: str | None = None) -> tuple[list[Problem], dict[str, int]]:
    """Lists what is wrong with the bars of a folder or file; changes nothing.

    Args:
        path: As for `load_market`.
        assume_tz: Time zone of stamps that have none.

    Returns:
        (problems by symbol in row order, rows by symbol).

    Raises:
        MarketError: Nothing there, or a file that cannot be read at all.
    """
    frames = read_directory(path, None, assume_tz)
    return [problem for symbol, frame in frames.items() for problem in check_frame(symbol, frame)], {s: len(f) for s, f in frames.items()}


def _load_files(paths: Sequence[Path], symbols: tuple[str, ...] | None, data: Mapping[str, Any]) -> tuple[Panel, list[Problem]]:
    drop, bars = data.get("drop_bad_rows", False), data.get("bars")
    if not isinstance(drop, bool):
        raise MarketError(f"drop_bad_rows: {drop!r}; give true or false")
    if bars is not None and (isinstance(bars, bool) or not isinstance(bars, int) or bars < 1):
        raise MarketError(f"bars: {bars!r}; give a whole number of rows, at least 1")
    start, end = (None if data.get(key) is None else utc(data[key], key) for key in ("start", "end"))
    if start is not None and end is not None and start >= end:
        raise MarketError(f"start: {data['start']} does not come before data.end, {data['end']}")
    if data.get("assume_tz") is not None:
        time_zone(data["assume_tz"])
    frames = _read(paths, symbols, data.get("assume_tz"))
    assets = make_assets(tuple(frames), data.get("assets"))
    shown = " ".join(map(str, paths))
    problems: list[Problem] = []
    kept: dict[str, pd.DataFrame] = {}
    lengths: dict[str, float | None] = {}
    for asset in assets:
        frame = _window(asset.symbol, frames[asset.symbol], start, end)
        lengths[asset.symbol] = _bar_length(frame if len(frame) >= FEW else frames[asset.symbol])
        found = check_frame(asset.symbol, frame, lengths[asset.symbol], asset.asset_class)
        bad = {problem.row for problem in found if problem.severity == "error"}
        if drop and None not in bad:
            found = [replace(problem, detail="dropped: " + problem.detail) if problem.severity == "error" else problem for problem in found]
            frame = frame[~frame.index.isin(list(bad))]
        problems += found
        kept[asset.symbol] = frame.assign(symbol=asset.symbol)
    raise_on_errors([p for p in problems if not (drop and p.row is not None)], shown)
    for symbol, frame in kept.items():
        if frame.empty:
            raise MarketError(f"{symbol}: no bars left; all rows were bad")
    known = {symbol: seconds for symbol, seconds in lengths.items() if seconds}
    if len(set(known.values())) > 1:
        each = ", ".join(f"{symbol} {seconds:g} s" for symbol, seconds in known.items())
        raise MarketError(f"bars of different length cannot share a time axis: {each}")
    length = next(iter(known.values()), None)
    panel = Panel.from_frame(pd.concat(kept.values(), ignore_index=True), assets, source=shown, bar_length=length)
    if bars is not None:
        panel = panel.tail(bars)
        for column, symbol in enumerate(panel.symbols):
            if not panel.exists[:, column].any():
                ends = f"{kept[symbol]['timestamp'].max():%Y-%m-%d %H:%M}Z"
                raise MarketError(
                    f"bars: {symbol}: no bar in the last {bars} rows; its data ends {ends}. Set data.end, or leave the symbol out"
                )
        first = pd.Timestamp(panel.times[0], tz="UTC")
        problems = [problem for problem in problems if problem.timestamp is None or problem.timestamp >= first]
    return panel, problems


def _read(paths: Sequence[Path], symbols: tuple[str, ...] | None, assume_tz: str | None) -> dict[str, pd.DataFrame]:
    """Reads symbols, in the order asked for, each from the only source that has it."""
    if len(paths) == 1:
        return read_directory(paths[0], symbols, assume_tz)
    where: dict[str, Path] = {}
    there: set[str] = set()
    loaded: dict[str, pd.DataFrame] = {}
    for path in paths:
        single = read_directory(path, None, assume_tz) if not path.is_dir() else {}
        names = available(path) or tuple(single)
        there.update(names)
        for symbol in names:
            if symbols is not None and symbol not in symbols:
                continue
            if symbol in where:
                raise MarketError(f"{symbol} is in both {where[symbol]} and {path}; name the symbols to use, or the one source that has it")
            where[symbol] = path
            loaded[symbol] = single[symbol] if symbol in single else read_directory(path, [symbol], assume_tz)[symbol]
    if absent := [symbol for symbol in symbols or () if symbol not in loaded]:
        raise MarketError(f"symbols: no file for {quoted(absent)} in {', '.join(map(str, paths))}; {unknown_symbols(absent, there)}")
    if not where:
        raise MarketError(f"no bars in {', '.join(map(str, paths))}; expected one file per symbol, such as BTCUSD.csv or NVDA.parquet")
    return {symbol: loaded[symbol] for symbol in symbols or loaded}


def _window(symbol: str, frame: pd.DataFrame, start: np.datetime64 | None, end: np.datetime64 | None) -> pd.DataFrame:
    """Cuts to start ≤ time < end before anything is checked: a bad row outside the study is none of its business."""
    if frame.empty:
        raise MarketError(f"{symbol}: the file has no rows")
    stamps = frame["timestamp"]
    aware = isinstance(stamps.dtype, pd.DatetimeTZDtype)
    times = (stamps.dt.tz_localize(None) if aware else stamps).to_numpy().astype("datetime64[ns]")
    inside = np.ones(len(frame), bool)
    if start is not None:
        inside &= ~(times < start)
    if end is not None:
        inside &= ~(times >= end)
    if not inside.any():
        has = f"{stamps.min():%Y-%m-%d %H:%M} to {stamps.max():%Y-%m-%d %H:%M}"
        asked = " and ".join(
            f"{word} {np.datetime_as_string(stamp, 'm')}" for word, stamp in (("from", start), ("before", end)) if stamp is not None
        )
        raise MarketError(f"{'end' if start is None else 'start'}: {symbol}: no bars {asked}; the file has {has}")
    return frame[inside]


def _bar_length(frame: pd.DataFrame) -> float | None:
    """Returns the usual step in seconds, None with fewer than two times."""
    times = frame["timestamp"].dropna().drop_duplicates()
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        times = times.dt.tz_localize(None)
    return usual_step(times.to_numpy().astype("datetime64[ns]").astype(np.int64)) if len(times) > 1 else None


def _names(symbols: Any) -> tuple[str, ...] | None:
    if symbols is None:
        return None
    names = [name.strip() for name in symbols.split(",")] if isinstance(symbols, str) else symbols
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) and name for name in names):
        raise MarketError(f"symbols: {symbols!r}; give names, such as [BTCUSD, NVDA]")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MarketError(f"symbols: listed twice: {', '.join(twice)}")
    return tuple(names)


def _paths(source: Any, base: str | Path | None) -> list[Path]:
    parts = [part.strip() for part in source.split(",")] if isinstance(source, str) else source
    if not isinstance(parts, (list, tuple, Path)) or not parts:
        raise MarketError(f"source: {source!r}; give sample, a path, or a list of paths")
    paths = []
    for part in [parts] if isinstance(parts, Path) else parts:
        if not isinstance(part, (str, Path)) or not str(part):
            raise MarketError(f"source: {source!r}; give sample, a path, or a list of paths")
        try:
            path = Path(base or ".") / Path(part).expanduser()
            found = path.exists()
        except (OSError, RuntimeError, ValueError) as error:  # too long, no such user, a null character
            raise MarketError(f"source: {part!r} is not a path that can be opened ({error})") from error
        if not found:
            raise MarketError(f"source: {path} does not exist; give sample, or a folder or file with bars")
        paths.append(path)
    return paths

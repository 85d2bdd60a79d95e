"""Derived tables: forecasts and features, worth keeping because many trials read what one of them computed (DESIGN §3.6).

A table has a row for each bar of a series, settled when that bar has ended, and the same columns for all. It says itself what its
rows depend on, so that whoever keeps it can tell which rows it has already: same key, same bars. This module knows no cache; a host
offers one (`offered`), and where none does, as in a notebook or an audit, `read` computes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from trainables.contract import TrainableError

# (first, stop, done) -> float64 (W, stop − first); calls done(n) now and then with the rows finished so far.
Build = Callable[[int, int, Callable[[int], None]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Table:
    """What a table holds, and of what.

    Attributes:
        kind: "forecasts" or "features", say; for people.
        spec: What the values depend on besides the bars (forecaster, its weights' hash, version, parameters), as JSON takes it.
        columns: W names.
        symbols: Whose bars.
        times: datetime64[ns] (N,) starts of the series' bars, ascending.
        bars: float64 (K, N), everything of a bar that may enter the values.
        reach: Bars a row may depend on, its own included, counted back in the series; 0 is all of them.
        where: What to call it in messages, "chronos2 small, BTCUSD" say.
    """

    kind: str
    spec: Mapping[str, Any]
    columns: tuple[str, ...]
    symbols: tuple[str, ...]
    times: np.ndarray
    bars: np.ndarray
    reach: int = 0
    where: str = ""

    def __post_init__(self) -> None:
        times = np.ascontiguousarray(self.times, "datetime64[ns]")
        if times.ndim != 1 or (np.diff(times) <= np.timedelta64(0)).any() or np.isnat(times).any():
            raise TrainableError(f"{self.where or self.kind}: times must be one ascending axis")
        if self.bars.ndim != 2 or self.bars.shape[1] != len(times):
            raise TrainableError(
                f"{self.where or self.kind}: bars of shape {self.bars.shape} for {len(times)} times; give (K, {len(times)})"
            )
        if self.reach < 0 or len(set(self.columns)) != len(self.columns) or not self.columns:
            raise TrainableError(f"{self.where or self.kind}: give distinct columns and a reach of at least 0")
        object.__setattr__(self, "times", times)

    @cached_property
    def key(self) -> str:
        """Names kind, spec, columns and symbols, not the bars: 32 hexadecimal digits."""
        body = [self.kind, self.spec, self.columns, self.symbols, self.reach]
        return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()

    @cached_property
    def marks(self) -> np.ndarray:
        """Digest of each bar and its time, uint64 (N,)."""
        rows = np.vstack([self.times.view(np.int64)[None], np.ascontiguousarray(self.bars, np.float64).view(np.int64)]).T.copy()
        digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
        return np.frombuffer(digests, np.uint64)

    def depends(self, first: int, stop: int) -> str:
        """Names the bars that rows [first, stop) may depend on: rows of equal key and name are equal bit for bit."""
        start = max(0, first - self.reach + 1) if self.reach else 0
        body = np.array([first - start, stop - start], np.int64).tobytes() + self.marks[start:stop].tobytes()
        return hashlib.blake2b(body, digest_size=16).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the bars out, once they are marked: to ask for rows, marks are enough."""
        return {**self.__dict__, "marks": self.marks, "key": self.key, "bars": np.empty((0, len(self.times)))}


class Tables(Protocol):
    """Who keeps tables."""

    def read(self, table: Table, first: int, stop: int, build: Build) -> np.ndarray:
        """Returns rows [first, stop) of a table, calling `build` for what is not there; see `read`."""
        ...


class _Unkept:
    def read(self, table: Table, first: int, stop: int, build: Build) -> np.ndarray:
        return checked(table, first, stop, build(first, stop, lambda _: None))


_host: Tables = _Unkept()


@contextmanager
def offered(tables: Tables | None) -> Iterator[None]:
    """Lets `read` in this process take what a host keeps; None is nobody."""
    global _host
    before, _host = _host, tables or _Unkept()
    try:
        yield
    finally:
        _host = before


def read(table: Table, first: int, stop: int, build: Build) -> np.ndarray:
    """Returns rows of a table, from whoever keeps it or by building them.

    Args:
        table: Which.
        first, stop: Rows, as positions in `table.times`.
        build: Computes rows; a row must have the same bits whichever rows are built with it.

    Returns:
        float64 (W, stop − first), read-only, perhaps shared with other processes: one line for each column.

    Raises:
        TrainableError: Rows that are not there, or whatever `build` raises.
    """
    if not 0 <= first <= stop <= len(table.times):
        raise TrainableError(f"{table.where or table.kind}: rows {first} to {stop} of {len(table.times)}")
    return _host.read(table, first, stop, build)


def checked(table: Table, first: int, stop: int, values: np.ndarray) -> np.ndarray:
    """Returns what was built, float64, C order, read-only, or says that it is not the rows it should be."""
    built = np.ascontiguousarray(values, np.float64)
    if built.shape != (len(table.columns), stop - first):
        raise TrainableError(f"{table.where or table.kind}: built {built.shape}; expected {(len(table.columns), stop - first)}")
    built.flags.writeable = False
    return built


def runs(missing: Sequence[bool] | np.ndarray) -> list[tuple[int, int]]:
    """Returns the runs [first, stop) of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.asarray(missing, bool), [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]

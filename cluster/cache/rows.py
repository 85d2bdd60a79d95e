"""Rows of a table in one build: how they are called, checked, counted and split into pieces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cluster.cache.records import Build, CacheError, TableLike

FIRST_ROWS: Final = 256  # of a build, to learn how fast it goes
PIECE_SECONDS: Final = 30.0  # a build that ends early costs this much at most
_LEFT_ROWS: Final = 256  # fewer are not a piece of their own, and files are joined with those that are no longer


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows [first, first + n) as built, float64 (W, n), and the seconds it took."""

    first: int
    values: np.ndarray
    seconds: float

    @property
    def stop(self) -> int:
        """Behind the last row."""
        return self.first + self.values.shape[1]


def pieces(
    table: TableLike,
    missing: Sequence[tuple[int, int]],
    build: Build,
    told: Callable[[int], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Piece]:
    """Builds runs of rows in pieces that take about half a minute each, so that what was built can be kept meanwhile.

    Args:
        table: Which.
        missing: Runs [first, stop) to build.
        build: Computes rows, which have the same bits whichever are built together.
        told: Called with the rows finished so far, of all runs.
        clock: Seconds.

    Yields:
        Pieces in the order of their rows; together they are the runs.

    Raises:
        CacheError: `build` gave something else than the rows it was asked for.
    """
    size, done, before = FIRST_ROWS, 0, 0.0
    for first, stop in missing:
        at = first
        while at < stop:
            end = stop if stop - at < size + _LEFT_ROWS else at + size
            began = clock()
            values = checked(table, at, end, build(at, end, _counter(told, done)))
            seconds = clock() - began
            done += end - at
            told(done)
            yield Piece(at, values, seconds)
            pace = (end - at) / max(seconds, 1e-6)
            # Where every call costs long whatever its rows, as when all of a history is gone through, larger pieces cost less.
            size = 2 * size if seconds > PIECE_SECONDS and pace > 1.3 * before else int(pace * PIECE_SECONDS)
            size, before, at = max(FIRST_ROWS, size // FIRST_ROWS * FIRST_ROWS), pace, end


class Seen:
    """Which rows of which tables were built or taken in this session, so that none counts twice."""

    def __init__(self) -> None:
        self._times: dict[str, np.ndarray] = {}

    def add(self, table: TableLike, rows: Sequence[tuple[int, int]]) -> int:
        """Marks disjoint runs [first, stop) of rows; returns how many of them are new."""
        asked = np.concatenate([np.empty(0, "datetime64[ns]"), *(table.times[a:b] for a, b in rows)])
        before = self._times.get(table.key, asked[:0])
        at = np.minimum(np.searchsorted(before, asked), len(before) - 1)
        new = asked[before[at] != asked] if len(before) else asked
        if len(new):
            self._times[table.key] = np.union1d(before, new)
        return len(new)


def named(table: TableLike) -> str:
    """Returns what to call a table in messages."""
    return table.where or f"{table.kind} of {', '.join(table.symbols)}"


def checked(table: TableLike, first: int, stop: int, values: np.ndarray) -> np.ndarray:
    """Returns what was built as rows [first, stop): float64, C order, read-only.

    Raises:
        CacheError: It is not these rows.
    """
    rows = np.ascontiguousarray(values, np.float64)
    if rows.shape != (len(table.columns), stop - first) or stop > len(table.times) or first < 0:
        wanted = (len(table.columns), stop - first)
        raise CacheError(f"{named(table)}: built {np.shape(values)} for rows {first} to {stop} of {len(table.times)}; expected {wanted}")
    if rows.flags.writeable:
        rows = rows.view()  # the builder's own array stays as it is
        rows.flags.writeable = False
    return rows


def runs(wanted: np.ndarray) -> list[tuple[int, int]]:
    """Returns the runs [first, stop) of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _counter(told: Callable[[int], None], before: int) -> Callable[[int], None]:
    return lambda rows: told(before + rows)

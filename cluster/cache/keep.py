"""How the files of a key grow: a run of rows is joined with its shorter neighbours, and what that leaves without use goes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from cluster.cache.folder import Folder
from cluster.cache.records import TableLike
from cluster.cache.segment import Segment, stamp, write_segment

MOST_SEGMENTS: Final = 64  # in a folder, before those of bars that have changed since go: each must be read once to see that

# Opens a file, or returns None if it cannot be used.
Opened = Callable[[Path, TableLike], Segment | None]


def keep(folder: Folder, table: TableLike, first: int, values: np.ndarray, seconds: float, opened: Opened) -> None:
    """Writes rows [first, first + n) into a folder where nobody else writes.

    Args:
        folder: The key's, existing.
        table: Which.
        first: Position of the first row.
        values: float64 (W, n), C order, n ≥ 1.
        seconds: What building took.
        opened: Opens the folder's other files.

    Raises:
        OSError: They could not be written; what was there is there still.
    """
    if _covered(folder, table, first, first + values.shape[1], opened):  # another process may have built the same
        return
    start, joined, spent = _joined(folder, table, first, values, seconds, opened)
    try:
        path = write_segment(folder.path, table, start, joined, spent)
    except OSError:
        if joined is values:
            raise
        start, joined = first, values  # perhaps there is room for less
        path = write_segment(folder.path, table, first, values, seconds)
    _replace(folder, table, path, start, start + joined.shape[1], opened)
    shed(folder, table, opened, lambda: len(folder.names()) > MOST_SEGMENTS)


def shed(folder: Folder, table: TableLike, opened: Opened, excess: Callable[[], bool]) -> None:
    """Removes files of which a table can use nothing, its bars having changed, the oldest first, while there is an excess."""
    if not excess():
        return
    with suppress(OSError):
        for path in sorted((p for p, _ in folder.names()), key=lambda p: p.stat().st_mtime):
            if not excess():
                return
            segment = opened(path, table)
            if segment is not None and not segment.valid(table):
                path.unlink(missing_ok=True)


def _covered(folder: Folder, table: TableLike, first: int, stop: int, opened: Opened) -> bool:
    for path, name in folder.names():
        around = name.first <= stamp(table.times[first]) and stamp(table.times[stop - 1]) <= name.last
        if around and (segment := opened(path, table)) is not None:
            at = segment.position(table)
            if at is not None and at <= first and stop <= at + segment.rows:
                return True
    return False


def _joined(
    folder: Folder, table: TableLike, first: int, values: np.ndarray, seconds: float, opened: Opened
) -> tuple[int, np.ndarray, float]:
    # Files double as they are joined, so that daily appends leave a handful of them and each row is rewritten a few times only.
    parts, stop, names, grown = [values], first + values.shape[1], folder.names(), True
    while grown:
        grown = False
        for path, name in names:
            before = first > 0 and name.last == stamp(table.times[first - 1])
            after = stop < len(table.times) and name.first == stamp(table.times[stop])
            if name.rows > stop - first or not (before or after) or (segment := opened(path, table)) is None:
                continue
            at = segment.position(table)
            if at is None or (at + segment.rows != first and at != stop):
                continue
            lines = np.stack([segment.column(i) for i in range(len(values))])
            parts, first, stop = ([lines, *parts], at, stop) if at < first else ([*parts, lines], first, at + segment.rows)
            seconds, grown = seconds + segment.seconds, True
    return first, values if len(parts) == 1 else np.concatenate(parts, axis=1), seconds


def _replace(folder: Folder, table: TableLike, written: Path, first: int, stop: int, opened: Opened) -> None:
    # Removes files that hold nothing but rows of the one just written, those it was joined from among them.
    for path, name in folder.names():
        inside = stamp(table.times[first]) <= name.first and name.last <= stamp(table.times[stop - 1])
        if path == written or not inside or (segment := opened(path, table)) is None:
            continue
        at = segment.position(table)
        if at is not None and first <= at and at + segment.rows <= stop:
            path.unlink(missing_ok=True)

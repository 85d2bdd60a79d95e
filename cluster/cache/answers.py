"""What the keeper of a run's tables says to its workers and to people, and when rows of one table are rows of another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cluster.cache.records import TableLike, Use


@dataclass(frozen=True)
class Ready:
    """Rows [first, stop) of the asked table, those asked for among them, are columns [at, at + stop − first) of an object.

    Attributes:
        number: Of the object, to report it lost.
        ref: Of the object in Ray's object store: float64 (W, n).
        at, first, stop: Where the rows lie.
    """

    number: str
    ref: Any
    at: int
    first: int
    stop: int


@dataclass(frozen=True)
class Build:
    """The asker is to build the missing runs of rows, under a lease that ends without signs of life."""

    lease: str
    missing: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Wait:
    """Somebody else builds; the text says how far."""

    text: str


@dataclass(frozen=True)
class Failed:
    """Somebody's build has lately raised this, or killed those who tried."""

    error: Exception


@dataclass(frozen=True)
class Refused:
    """The lease has ended and somebody else builds: the rows were kept if they could be, and are to be claimed."""


@dataclass(frozen=True)
class Building:
    """A build in progress, for people.

    Attributes:
        where: What is built.
        done, total: Rows built, and rows that were missing; 0 and 0 where another study builds.
        seconds: Since it began, or since another study's was met.
    """

    where: str
    done: int
    total: int
    seconds: float


@dataclass(frozen=True)
class Usage:
    """What a run had of its keeper.

    Attributes:
        use: Tables shared; rows taken from disk, and what it had taken to build them; rows built by workers of this run.
        readers: Processes that were given rows.
        failed, lost: Builds that raised, and that ended without a word.
        shared_bytes: The most that lay in the driver's node's object store at once.
        apart_bytes: What the readers would have held, each for itself.
    """

    use: Use = field(default_factory=Use)
    readers: int = 0
    failed: int = 0
    lost: int = 0
    shared_bytes: int = 0
    apart_bytes: int = 0


def place(have: TableLike, begin: int, end: int, table: TableLike, first: int, stop: int) -> int | None:
    """Finds rows of a table among those of another of its key.

    Args:
        have: A table of which rows [begin, end) are there.
        begin, end: Rows, as positions in `have.times`.
        table: The table that is asked for.
        first, stop: Rows of it, at least one.

    Returns:
        Position in `have` of row `first`, or None if the rows are not all there or follow from other bars.
    """
    if have is table:
        return first if begin <= first and stop <= end else None
    at = int(np.searchsorted(have.times, table.times[first]))
    after = at + stop - first
    if not (begin <= at and after <= end):
        return None
    return at if have.depends(at, after) == table.depends(first, stop) else None

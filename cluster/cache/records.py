"""What the cache of derived tables is asked for and what it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Protocol

import numpy as np

# (first, stop, done) -> float64 (W, stop − first), as in `trainables.tables`, which this room does not import.
Build = Callable[[int, int, Callable[[int], None]], np.ndarray]


class CacheError(ValueError):
    """Something the cache was asked or told makes no sense."""


class TableLike(Protocol):
    """What the cache needs to know of a table; `trainables.tables.Table` has it, also after its bars were left behind."""

    @property
    def key(self) -> str:
        """Hash of what values depend on besides the bars."""

    @property
    def kind(self) -> str:
        """For people, "forecasts" say."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """What the key is the hash of."""

    @property
    def columns(self) -> tuple[str, ...]:
        """W names."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Whose bars."""

    @property
    def times(self) -> np.ndarray:
        """datetime64[ns] (N,), ascending."""

    @property
    def reach(self) -> int:
        """Bars a row may depend on; 0 is all of them."""

    @property
    def where(self) -> str:
        """What to call it in messages."""

    def depends(self, first: int, stop: int) -> str:
        """Hash of the bars that rows [first, stop) may depend on."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """Rows as found.

    Attributes:
        values: float64 (W, n), C order, the caller's own; NaN in rows that are missing.
        missing: Runs [first, stop) that were not found, as positions in the table.
        seconds: What building the rows found once took.
        nbytes: Size of the rows found.
    """

    values: np.ndarray
    missing: list[tuple[int, int]]
    seconds: float
    nbytes: int


@dataclass
class Use:
    """What a cache did in a session, each row once; of several caches, add them up.

    What a sum cannot know: a table that the driver asks its store for and the workers their keeper counts for both.

    Attributes:
        tables: Different tables asked for.
        rows_found, seconds_saved, bytes_found: What did not have to be built and was not built in this session.
        rows_built, seconds_built, bytes_built: What had to be.
        notes: What went wrong without stopping anything, in sentences, each once.
    """

    tables: int = 0
    rows_found: int = 0
    rows_built: int = 0
    seconds_saved: float = 0.0
    seconds_built: float = 0.0
    bytes_found: int = 0
    bytes_built: int = 0
    notes: list[str] = field(default_factory=list)

    def __add__(self, other: Use) -> Use:
        """Returns the sum, with each note once."""
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "notes"}
        return Use(**sums, notes=list(dict.fromkeys(self.notes + other.notes)))


@dataclass(frozen=True)
class Entry:
    """A table on disk.

    Attributes:
        key, kind, spec, symbols, columns: As of the table; empty where its `about.json` is lost.
        rows: Rows in its files, those of bars that have changed since included.
        first, last: Start of the first and the last bar, UTC; None without rows.
        bytes: Size of its folder.
        segments: Number of files with rows.
        seconds: What building took.
        created, used: When it was first written and last read, UTC.
        held: Whether a running study holds it or somebody builds it.
    """

    key: str
    kind: str
    spec: Mapping[str, Any]
    symbols: tuple[str, ...]
    columns: tuple[str, ...]
    rows: int
    first: datetime | None
    last: datetime | None
    bytes: int
    segments: int
    seconds: float
    created: datetime
    used: datetime
    held: bool

"""A table that was found in a file, wherever it came from."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

Row = tuple[int, Sequence[str]]  # line in the file, cells as they were written

SAMPLE: Final = 1_000  # rows by which columns are judged


@dataclass(frozen=True)
class Problem:
    """Something in a file that could not be read.

    Attributes:
        file: As it was named.
        line: Where, from 1.
        words: What is wrong.
    """

    file: str
    line: int
    words: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.words}"


Told = Callable[[Problem], None]


@dataclass(frozen=True, eq=False)
class Table:
    """Rows under headings.

    Attributes:
        file: As it was named.
        line: Of its headings.
        section: What its rows are filed under: the headings above it, of a CSV file its name.
        columns: Headings as they were written.
        rows: Yields its rows anew, however large it is; what is no row is told as a problem.
        count: Number of rows.
        markup: Whether cells are markdown.
        decimal_comma: Whether `0,5` is a half.
        caption: Line above it that names it.
        useless: Why nothing in it can be a result; empty otherwise.
    """

    file: str
    line: int
    section: str
    columns: tuple[str, ...]
    rows: Callable[[Told], Iterator[Row]]
    count: int
    markup: bool = True
    decimal_comma: bool = False
    caption: str = ""
    useless: str = ""
    sample: tuple[Row, ...] = field(default=(), repr=False)


def in_memory(rows: Sequence[Row]) -> Callable[[Told], Iterator[Row]]:
    """Returns what yields rows that are there already."""
    return lambda told: iter(rows)


def encoding_of(path: Path) -> str:
    """Returns how a text file is encoded: UTF-8, unless its first bytes say UTF-16 as spreadsheets write it."""
    with path.open("rb") as file:
        start = file.read(2)
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"

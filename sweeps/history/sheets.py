"""CSV files of sweeps, however long: read as a stream, twice."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Final

from sweeps.history import HistoryError
from sweeps.history.cells import LONGEST, clean
from sweeps.history.tables import SAMPLE, Problem, Row, Table, Told, encoding_of

_DELIMITERS: Final = (",", ";", "\t", "|")
_MOST_COLUMNS: Final = 1_000


def read_csv(path: Path, section: str = "") -> Table:
    """Returns a file as a table; its rows are read when they are asked for.

    Args:
        path: With one line of headings; fields are parted by commas, semicolons, tabs or bars.
        section: What its rows are filed under; the file's name by default.

    Raises:
        HistoryError: It is empty, or has no headings.
    """
    with _open(path) as file:
        first = file.readline(1 << 20)
    delimiter = max(_DELIMITERS, key=first.count)
    if not first.strip():
        raise HistoryError(f"{path}: the first line is empty; it should name the columns")
    columns = tuple(next(csv.reader([first], delimiter=delimiter)))
    if len(columns) > _MOST_COLUMNS:
        raise HistoryError(f"{path}: {len(columns):,} columns; at most {_MOST_COLUMNS:,} are read")
    comma = delimiter == ";"

    def rows(told: Told) -> Iterator[Row]:
        return _rows(path, delimiter, len(columns), told)

    sample = tuple(islice(rows(lambda problem: None), SAMPLE))
    count = len(sample) if len(sample) < SAMPLE else sum(1 for _ in rows(lambda problem: None))
    name = clean(section or path.stem)
    return Table(str(path), 1, name, columns, rows, count, False, comma, useless="" if count else "no rows", sample=sample)


def _open(path: Path) -> IO[str]:
    return path.open(encoding=encoding_of(path), errors="replace", newline="")


def _rows(path: Path, delimiter: str, width: int, told: Told) -> Iterator[Row]:
    bad, longest = False, 0

    def lines(file: IO[str]) -> Iterator[str]:
        nonlocal bad, longest
        # In pieces, because a file may have no end of line at all.
        for number, text in enumerate(iter(lambda: file.readline(1 << 20), ""), 1):
            longest += len(text)  # of the row, which may have several lines
            if not bad and "\ufffd" in text:
                bad = True
                told(Problem(str(path), number, "not UTF-8; unreadable bytes are shown as \ufffd, here and below. Save the file as UTF-8"))
            yield text

    with _open(path) as file:
        reader = csv.reader(lines(file), delimiter=delimiter)
        next(reader, None)
        line = reader.line_num + 1
        while True:
            try:
                for cells in reader:
                    at, line, size = line, reader.line_num + 1, longest
                    longest = 0
                    if len(cells) != width:
                        if not any(cells):
                            continue
                        if len(cells) < width or any(cells[width:]):
                            told(Problem(str(path), at, f"{len(cells)} fields under {width} headings; the row is left out"))
                            continue
                        cells = cells[:width]  # fields that are empty, after a last comma
                    if size > LONGEST and max(map(len, cells), default=0) > LONGEST:
                        told(Problem(str(path), at, f"a field has more than {LONGEST:,} characters; the row is left out"))
                        continue
                    yield at, cells
                return
            except csv.Error as error:
                # The reader begins anew at the next line, as if a quote had been closed.
                told(Problem(str(path), line, f"{error}; left out (a quotation mark that is never closed?)"))
                line, longest = reader.line_num + 1, 0

"""Rows of a table as trials: what was tried, what came out, and what somebody wrote beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sweeps.history.cells import CellError, Figure, clean, figure, is_nothing, parameter, plain
from sweeps.history.columns import Column
from sweeps.history.tables import Problem, Table, Told

SECTION: Final = "section"
ROW: Final = "row"
_SHIFT: Final = {0.01: -2, 1e-4: -4, 100.0: 2}
_CACHED: Final = 50_000  # different texts of one column: sweeps repeat their values


@dataclass(frozen=True)
class Record:
    """A result that somebody wrote down.

    Attributes:
        file: Where.
        line: In it.
        config: Its parameters; absent ones are not there.
        metrics: By name, of the table's metrics; None is n/a.
        note: Commentary.
        seconds: It took, or None.
    """

    file: str
    line: int
    config: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    note: str = ""
    seconds: float | None = None


def records(table: Table, columns: Sequence[Column], told: Told) -> Iterator[Record | None]:
    """Yields the rows of a table; None for one that has no result (yet).

    Args:
        table: To read.
        columns: What becomes of its columns.
        told: Takes what cannot be read; the rest of its row is kept.
    """
    read = plain if table.markup else clean
    metrics = [column for column in columns if column.role == "metric"]
    parameters = [(column, _Values(read)) for column in columns if column.role == "parameter"]
    notes = [column for column in columns if column.role == "note"]
    clocks = [column for column in columns if column.role == "seconds"]
    section = {SECTION: table.section} if table.section else {}
    for number, (line, cells) in enumerate(table.rows(told), 1):
        values: dict[str, float | None] = {}
        for column in metrics:
            try:
                values[column.name] = _value(cells[column.place], column, table.decimal_comma, read)
            except CellError as error:
                values[column.name] = None
                shown = clean(cells[column.place])[:60]
                told(Problem(table.file, line, f"{column.text} is {shown!r}: {error}; taken as n/a"))
        if all(value is None for value in values.values()):
            yield None
            continue
        config: dict[str, Any] = dict(section)
        for column, texts in parameters:
            if (value := texts[cells[column.place]]) is not None:
                config[column.name] = value
        if not parameters:
            config[ROW] = number  # nothing else tells its rows apart
        seconds = next((found for column in clocks if (found := _seconds(read(cells[column.place]), column)) is not None), None)
        yield Record(table.file, line, config, values, _note(table, notes, cells, read), seconds)


class _Values(dict[str, Any]):
    """Values of a parameter by their text."""

    def __init__(self, read: Any):
        self._read = read

    def __missing__(self, text: str) -> Any:
        if len(self) >= _CACHED:
            self.clear()
        value = parameter(self._read(text))
        self[text] = value
        return value


def _value(cell: str, column: Column, comma: bool, read: Callable[[str], str]) -> float | None:
    """Reads a metric's cell in the metric's own unit."""
    known = column.known
    assert known is not None
    unit = known.metric.unit
    found = _quick(cell) or figure(read(cell), comma)
    if found is None:
        return None
    value = found.value
    if unit == "fraction":
        if found.kind in ("x", "money", "time"):
            raise CellError(f"{'a multiple' if found.kind == 'x' else 'an amount'} where a share is expected")
        value = value if found.kind == "%" else _scaled(value, column.scale)
    elif unit == "%":
        value = value if found.kind != "%" else _scaled(value, 100.0)
    elif found.kind == "%" and unit in ("USD", "count"):
        raise CellError("a share where an amount is expected")
    if known.most is not None and abs(value) > known.most:
        raise CellError(f"more than all of it; if the column is in percent say --metric '{column.key}::%'")
    return -abs(value) + 0.0 if known.depth else value


def _quick(cell: str) -> Figure | None:
    """Reads what most cells are, for there may be millions: a plain number, or one in percent. None for anything else."""
    if not cell.isascii() or "_" in cell:  # which Python allows in a number
        return None
    try:
        found = Figure(float(f"{cell[:-1]}e-2"), "%") if cell[-1:] == "%" and "e" not in cell else Figure(float(cell), "")
    except ValueError:
        return None
    return found if abs(found.value) < math.inf else None


def _scaled(value: float, scale: float) -> float:
    if scale == 1.0 or "e" in (text := repr(value)):
        return value * scale
    return float(f"{text}e{_SHIFT[scale]}")  # in its text, as in cells: 0.7 in percent is 0.007


def _seconds(text: str, column: Column) -> float | None:
    try:
        found = figure(text)
    except CellError:
        return None
    return None if found is None or found.value < 0 else found.value * column.scale


def _note(table: Table, notes: Sequence[Column], cells: Sequence[str], read: Any) -> str:
    texts = [(column.text, text) for column in notes if cells[column.place] and not is_nothing(text := read(cells[column.place]))]
    parts = [text if len(notes) == 1 else f"{name}: {text}" for name, text in texts]
    return "; ".join([*([table.caption] if table.caption else []), *parts])

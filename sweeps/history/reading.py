"""What is in the files that are to be imported, before anything is written: their tables, and what becomes of each column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from results.metrics import Metric
from sweeps.history import HistoryError
from sweeps.history.aliases import named
from sweeps.history.cells import plain
from sweeps.history.columns import MOST_METRICS, Choices, Column, columns_of
from sweeps.history.markdown import pairs_in, read_markdown
from sweeps.history.records import Record, records
from sweeps.history.sheets import read_csv
from sweeps.history.tables import Problem, Row, Table, Told, in_memory

_SHEETS: Final = frozenset({".csv", ".tsv"})
# What a study ranks by where nobody says: the first of these among the metrics that most rows have.
_FIRST: Final = ("selection_score", "total_return", "sharpe", "sortino", "pnl", "skill", "val_loss", "eval_loss", "test_loss", "loss")


@dataclass(frozen=True)
class Part:
    """A table and what becomes of it.

    Attributes:
        table: As it was found.
        columns: What becomes of its columns.
        why: Why nothing of it is imported; empty if it is.
        pairs: Names that its notes have as `name=value`, where these were not read.
    """

    table: Table
    columns: tuple[Column, ...]
    why: str = ""
    pairs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What was found in files.

    Attributes:
        files: As they were named.
        parts: Their tables, in order.
        metrics: Of all tables that are imported; the one that ranks first.
        objective: The one that ranks; "" where there is none.
        problems: Told while tables were looked for.
    """

    files: tuple[str, ...]
    parts: tuple[Part, ...]
    metrics: tuple[Metric, ...]
    objective: str
    problems: tuple[Problem, ...] = ()

    @property
    def used(self) -> list[Part]:
        """Tables that are imported."""
        return [part for part in self.parts if not part.why]

    @property
    def rows(self) -> int:
        """Rows of the tables that are imported."""
        return sum(part.table.count for part in self.used)

    def records(self, told: Told) -> Iterator[Record | None]:
        """Yields the rows of all tables that are imported, None for one without a result."""
        for part in self.used:
            yield from records(part.table, part.columns, told)


def look(
    paths: Sequence[Path],
    choices: Choices,
    *,
    asked: Choices | None = None,
    objective: str = "",
    section: str = "",
    from_notes: bool = False,
    declared: Mapping[str, Metric] | None = None,
) -> Found:
    """Reads files and decides what becomes of their columns.

    Args:
        paths: CSV files by their ending; all others are read as markdown.
        choices: What a person said about columns, at earlier imports too.
        asked: Of these, what was said this time: such a column there must be.
        objective: Metric that ranks, by its name or that of its column.
        section: What rows of CSV files are filed under.
        from_notes: Whether `name=value` in notes of markdown tables are columns too.
        declared: Metrics of the study the rows are added to.

    Raises:
        HistoryError: A file that cannot be read, a column that is in no table, no such objective.
    """
    problems: list[Problem] = []
    tables = [table for path in paths for table in _tables(path, section, problems.append)]
    parts = [_part(table, choices, from_notes) for table in tables]
    (asked or choices).check(column.key for part in parts for column in part.columns if column.key)
    metrics: dict[str, Metric] = dict(declared or {})
    weight: Counter[str] = Counter()
    for i, part in enumerate(parts):
        parts[i] = part = _agreeing(part, metrics)
        weight.update({column.name: part.table.count for column in part.columns if column.role == "metric" and not part.why})
    if len(metrics) > MOST_METRICS:
        raise HistoryError(f"{len(metrics)} different metrics; a study has {MOST_METRICS} at most. Import the tables into several studies")
    best = _objective(objective, parts, metrics, weight, declared is not None)
    used = [name for name in metrics if name in weight or name in (declared or {})]
    order = used if declared is not None else sorted(used, key=lambda name: (name != best, -weight[name]))
    return Found(tuple(map(str, paths)), tuple(parts), tuple(metrics[name] for name in order), best, tuple(problems))


def _tables(path: Path, section: str, told: Told) -> Iterable[Table]:
    if not path.is_file():
        raise HistoryError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    if not str(path).isprintable():
        raise HistoryError(f"{str(path)!a}: a name with characters that cannot be shown; give the file another one")
    return [read_csv(path, section)] if path.suffix.lower() in _SHEETS else list(read_markdown(path, told))


def _part(table: Table, choices: Choices, from_notes: bool) -> Part:
    if table.useless:
        return Part(table, columns_of(table, choices), table.useless)
    columns = columns_of(table, choices)
    notes = [column.place for column in columns if column.role == "note"] if table.markup else []
    pairs = [pairs_in("; ".join(plain(row[place]) for place in notes)) for _, row in table.sample]
    names = tuple(dict.fromkeys(name for row in pairs for name in row if named(name) not in {column.key for column in columns}))
    if from_notes and names:
        rows: list[Row] = [(at, [*row, *(given.get(n, "") for n in names)]) for (at, row), given in zip(table.sample, pairs, strict=True)]
        table = replace(table, columns=(*table.columns, *names), rows=in_memory(rows), sample=tuple(rows))
        return _part(table, choices, False)
    if not any(column.role == "metric" for column in columns):
        listed = ", ".join(column.text or "–" for column in columns[:8]) + (", …" if len(columns) > 8 else "")
        return Part(table, columns, f"no metric among its columns ({listed}); --metric NAME says that one is", names)
    return Part(table, columns, "", names)


def _agreeing(part: Part, metrics: dict[str, Metric]) -> Part:
    """Returns a part whose metrics have the units they have elsewhere, and adds what is new; another unit is left out."""
    if part.why:
        return part
    columns = list(part.columns)
    for i, column in enumerate(columns):
        if column.metric is not None:
            there = metrics.setdefault(column.name, column.metric)
            if there.unit != column.metric.unit:
                why = f"{column.name} is in {column.metric.unit or 'no unit'} here, in {there.unit or 'no unit'} elsewhere"
                columns[i] = replace(column, role="left out", known=None, why=why)
    gone = not any(column.role == "metric" for column in columns)
    return replace(part, columns=tuple(columns), why="its metrics have other units than elsewhere" if gone else "")


def _objective(wanted: str, parts: Sequence[Part], metrics: dict[str, Metric], weight: Counter[str], kept: bool) -> str:
    """Returns the metric that ranks."""
    ranking = [name for name, metric in metrics.items() if metric.direction]
    if wanted:
        columns = {column.key: column.name for part in parts for column in part.columns if column.role == "metric"}
        name = wanted if wanted in metrics else columns.get(named(wanted), wanted)
        if name not in ranking:
            why = f"it has no direction; say --metric {wanted}:max or :min" if name in metrics else "no table has such a metric"
            raise HistoryError(f"--objective {wanted}: {why}. Metrics that rank are {', '.join(ranking) or 'none'}")
        return name
    if kept:
        return ""
    most = max((weight[name] for name in ranking), default=0)
    full = [name for name in ranking if weight[name] == most]
    return min(full, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST), default="")

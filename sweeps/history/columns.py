"""What becomes of each column of a table: a metric, a parameter, a note, or nothing; decided by its heading, so that it stays the same."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from results.metrics import Direction, Metric
from sweeps.history import HistoryError
from sweeps.history.aliases import METRICS, Known, Label, label, named, recognise
from sweeps.history.cells import CellError, VagueError, clean, figure, plain, words
from sweeps.history.tables import Table

Role = Literal["metric", "parameter", "note", "seconds", "left out"]

NOTES: Final = words(
    "note notes comment comments remark remarks commentary description status state what why observation observations conclusion "
    "conclusions takeaway takeaways details verdict finding findings key_finding key_findings summary error"
)
COUNTERS: Final = words("rank place no nr idx index row unnamed_0 config_id attempt")
_SECONDS: Final = {"s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}
_TIMES: Final = words("seconds secs elapsed duration runtime time wall_time wall_seconds elapsed_seconds duration_seconds")
_SCALE: Final = {"%": 0.01, "bps": 1e-4}
_METRIC_PREFIX: Final = re.compile(r"^(?:metrics?|results?)[./]", re.I)
_PARAMETER_PREFIX: Final = re.compile(r"^(?:config|params?|hparams?|parameters?)(?:[./]|_(?=[a-z]))", re.I)
UNITS: Final = ("fraction", "%", "ratio", "count", "USD", "s", "bps")
MOST_METRICS: Final = 200


@dataclass(frozen=True)
class Choices:
    """What a person said about columns, by their names in snake case.

    Attributes:
        metrics: Direction and unit of those that are metrics; None where it was not said.
        parameters: Those that are parameters.
        notes: Those that are commentary.
        settled: What an earlier import of the study made of columns that their headings alone do not decide.
    """

    metrics: Mapping[str, tuple[Direction | None, str | None]] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()
    notes: frozenset[str] = frozenset()
    settled: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, metrics: Iterable[str] = (), parameters: Iterable[str] = (), notes: Iterable[str] = ()) -> Choices:
        """Reads options: metrics as `NAME[:max|min][:unit]`, the others as names.

        Raises:
            HistoryError: Such a thing is no option, or a column is said to be two things.
        """
        made = dict(_metric_option(text) for text in metrics)
        chosen = cls(made, frozenset(map(named, parameters)), frozenset(map(named, notes)))
        if both := (set(made) & chosen.parameters) | (set(made) & chosen.notes) | (chosen.parameters & chosen.notes):
            raise HistoryError(f"{', '.join(sorted(both))}: said to be two things; keep one of --metric, --param and --note")
        return chosen

    @property
    def names(self) -> set[str]:
        """Columns that were named."""
        return {*self.metrics, *self.parameters, *self.notes}

    def check(self, found: Iterable[str]) -> None:
        """Refuses names that no table has.

        Raises:
            HistoryError: With the nearest spelling.
        """
        known = sorted(set(found))
        for name in sorted(self.names - set(known)):
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Columns are {', '.join(known[:30])}." if known else ""
            raise HistoryError(f"{name}: no table has a column of that name.{hint}")


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        place: In a row, from 0.
        text: Its heading.
        key: What its heading is in snake case, by which options name it.
        role: What becomes of it.
        name: Of the parameter or metric.
        known: The metric, and how its cells are read.
        scale: What a bare number is multiplied by.
        why: Why it is left out, or not what its heading says.
        values: Different values in the sample.
    """

    place: int
    text: str
    key: str
    role: Role
    name: str = ""
    known: Known | None = None
    scale: float = 1.0
    why: str = ""
    values: int = 0

    @property
    def metric(self) -> Metric | None:
        """The metric, under the name it is kept by."""
        return None if self.known is None else replace(self.known.metric, name=self.name)


def columns_of(table: Table, choices: Choices) -> tuple[Column, ...]:
    """Returns what becomes of the columns of a table."""
    made: list[Column] = []
    taken: set[str] = set()
    read = plain if table.markup else clean
    for place, heading in enumerate(table.columns):
        cells = [read(row[place]) for _, row in table.sample]
        column = _column(place, heading, cells, choices, table)
        column = replace(column, values=len({cell for cell in cells if cell}))
        if column.role == "metric" and (column.name in taken or sum(c.role == "metric" for c in made) >= MOST_METRICS):
            column = replace(column, role="left out", known=None, why=f"{column.name} is there already")
        while column.role == "parameter" and column.name in taken:
            column = replace(column, name=f"{column.name}_2")
        taken.add(column.name)
        made.append(column)
    return tuple(made)


def settled(table: Table, columns: Iterable[Column]) -> dict[str, str]:
    """Returns what was made of the columns whose cells had a say, for `Choices.settled` of later imports."""
    kept = {}
    for column in columns:
        found = recognise(label(_bare(column.text)))
        if found is not None and column.values and (column.role == "parameter" or found[0].percent or found[0].money):
            kept[_place(table, column.key)] = column.name if column.role == "metric" else column.role
    return kept


def _place(table: Table, key: str) -> str:
    return f"{table.section} / {key}"


def _bare(heading: str) -> str:
    return _PARAMETER_PREFIX.sub("", _METRIC_PREFIX.sub("", heading))


def _column(place: int, heading: str, cells: Sequence[str], choices: Choices, table: Table) -> Column:
    said = label(_bare(heading))
    key = said.name
    if key in choices.parameters:
        return Column(place, said.text, key, "parameter", key)
    if key in choices.notes:
        return Column(place, said.text, key, "note")
    if key in choices.metrics:
        return _chosen(place, said, *choices.metrics[key])
    if not key or key in COUNTERS:
        if not key and any(re.search(r"[^\W\d_]", cell) for cell in cells):
            return Column(place, said.text, key, "parameter", f"column_{place + 1}")  # a first column without a heading names its rows
        return Column(place, said.text, key, "left out", why="numbers the rows" if key or said.text else "no heading")
    if key in NOTES:
        return Column(place, said.text, key, "note")
    if (key in _TIMES or "_".join(said.words) in _TIMES) and (said.unit in _SECONDS or key.endswith(("seconds", "secs"))):
        return Column(place, said.text, key, "seconds", scale=_SECONDS.get(said.unit, 1.0))
    found = None if _PARAMETER_PREFIX.match(heading) else recognise(said)
    if found is not None:
        return _metric(place, said, *found, cells, choices.settled.get(_place(table, key), ""), table.decimal_comma)
    if _METRIC_PREFIX.match(heading):
        return _chosen(place, said, None, None)
    return Column(place, said.text, key, "parameter", key)


def _metric(place: int, said: Label, known: Known, name: str, cells: Sequence[str], before: str, comma: bool) -> Column:
    """Returns a column whose heading is a metric's, as that metric if its cells do not speak against it."""
    kinds, worded = set[str](), False
    for cell in cells:
        try:
            kinds |= set() if (found := figure(cell, comma)) is None else {found.kind or "plain"}
        except VagueError:
            kinds.add("vague")
        except CellError:
            worded = True
    if before == "parameter" or (worded and not kinds and not before):
        return Column(place, said.text, said.name, "parameter", said.name, why="words, no figures")
    unit = said.unit or ("%" if "%" in kinds else "USD" if "money" in kinds else "")
    for kind, other in (("%", known.percent), ("USD", known.money)):
        if other and (before.startswith(other) if before else unit == kind):
            name = name.replace(known.metric.name, other, 1)
            known = METRICS[other]
    if said.direction and not known.depth:
        known = replace(known, metric=replace(known.metric, direction=said.direction))
    return Column(place, said.text, said.name, "metric", name, known, _scale(known.metric.unit, said.unit))


def _chosen(place: int, said: Label, direction: Direction | None, unit: str | None) -> Column:
    """Returns a column that somebody said is a metric."""
    found = recognise(said)
    known, name = found if found is not None else (Known(Metric("metric")), _metric_name(said.name))
    written = unit if unit is not None else said.unit
    kept = known.metric.unit
    if unit is not None or found is None:
        kept = "fraction" if written in _SCALE and kept != "%" else (written if unit is not None else kept)
    way = direction or said.direction or known.metric.direction
    known = replace(known, metric=replace(known.metric, direction="max" if known.depth else way, unit=kept))
    return Column(place, said.text, said.name, "metric", name, known, _scale(kept, written))


def _scale(kept: str, written: str) -> float:
    return _SCALE.get(written, 1.0) if kept == "fraction" else 1.0


def _metric_name(name: str) -> str:
    ascii_ = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_")[:60]
    return ascii_ if ascii_[:1].isalpha() else f"metric_{ascii_}"[:60]


def _metric_option(text: str) -> tuple[str, tuple[Direction | None, str | None]]:
    name, *rest = text.split(":")
    direction: Direction | None = None
    unit: str | None = None
    for part in map(str.strip, rest):
        if part in ("max", "min"):
            direction = "max" if part == "max" else "min"
        elif part in UNITS:
            unit = part
        elif part:
            raise HistoryError(f"--metric {text!r}: {part!r} is neither max, min nor a unit ({', '.join(UNITS)})")
    if not named(name) or len(rest) > 2:
        raise HistoryError(f"--metric {text!r}: write NAME, NAME:max or NAME:min:%")
    return named(name), (direction, unit)

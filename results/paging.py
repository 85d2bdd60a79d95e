"""A page of trials at a time: sorted, filtered and counted in the database, so that a million rows are never held at once.

What a study has as columns is worked out from its header, the names its plans give, and a few hundred of its configurations. Sorting by the
objective follows its index; any other column costs one pass over the table (about 0.2 s per million trials, 0.6 s for a parameter, which
is taken out of the configuration's JSON). Only far down an order does a page need all of it: `order` gives the numbers as an array to keep.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from results.engine import guard
from results.leaderboard import parameter_label, shown_unit
from results.metrics import Metric
from results.pages.columns import Column, Kind
from results.reader import LedgerReader
from results.schema import metric_column

SAMPLED: Final = 200  # configurations looked at for names and types, at each end of the table
FIRST: Final = 4  # metrics before the parameters
SHOWN: Final = 8  # metrics shown at all, unless the reader asks for more
CHUNK: Final = 500  # trials fetched at once
_EXACT: Final = 2**53  # whole numbers beyond are not the same in a browser
_BOOKKEEPING: Final = ("trial", "status", "seconds", "source", "error")
_TONES: Final = {"completed": "good", "stopped": "warn", "failed": "bad"}

Path = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Grid:
    """A study's trials as a table.

    Attributes:
        columns: What there is, in order.
        expressions: Column names to what they are in SQL.
        paths: Names of parameters to where they are in a configuration.
        objective: Name of the objective's column.
    """

    columns: tuple[Column, ...]
    expressions: Mapping[str, sa.ColumnElement[Any]]
    paths: Mapping[str, Path]
    objective: str


def grid_of(ledger: LedgerReader, names: Iterable[str] = ()) -> Grid:
    """Return the columns of a study.

    Args:
        ledger: The study.
        names: Parameters known to exist, such as those of its plans; others are found in the first and last configurations.
    """
    header, trials = ledger.header, ledger.tables.trials
    metrics = header.metric_names
    ranked = header.metric(header.objective)
    others = [metric for metric in header.metrics if metric.name != ranked.name]
    sampled = _sampled(ledger)
    paths: dict[Path, set[type]] = {(name,): set() for name in names if (name,) in sampled or not any(path[0] == name for path in sampled)}
    paths |= sampled
    blank = dict(_flat(header.defaults))
    varied = frozenset(names)
    columns = [
        Column("trial", kind="integer"),
        Column("status", tones=_TONES),
        *(_metric_column(metric, place >= SHOWN) for place, metric in enumerate([ranked, *others])),
        Column("seconds", kind="seconds", hidden=True, help="Time the trial took."),
        Column("source", hidden=True, help="The study its result was taken over from."),
        Column("error", hidden=True, help="Why it failed."),
    ]
    # Without their table: a grid outlives the ledger that was opened for it.
    expressions: dict[str, sa.ColumnElement[Any]] = {name: sa.column(name, trials.c[name].type) for name in _BOOKKEEPING}
    expressions |= {metric_label(name): sa.column(metric_column(name), sa.Float()) for name in metrics}
    parameters, places = [], {}
    for path, types in paths.items():
        name = parameter_label(".".join(path), metrics)
        if name in expressions or any('"' in key for key in path):
            continue  # a name that cannot be asked for
        column = Column(name, kind=_kind(types | {type(blank[path])} if path in blank else types), hidden=path[0] not in varied)
        parameters.append(column)
        places[name] = path
        expressions[name] = _extracted(sa.column("config"), path, blank.get(path), column, types <= {str})
    at = 2 + FIRST
    return Grid((*columns[:at], *parameters, *columns[at:]), expressions, places, metric_label(ranked.name))


def metric_label(name: str) -> str:
    """Return what the table calls a metric: `metric.<name>` where a column of its own has the name."""
    return f"metric.{name}" if name in (*_BOOKKEEPING, "config_id", "attempt") else name


@dataclass(frozen=True, eq=False)
class Pages:
    """Pages of a study's table.

    Attributes:
        ledger: The study; one transaction for each call.
        grid: Its columns.
    """

    ledger: LedgerReader
    grid: Grid

    def count(self, where: sa.ColumnElement[bool] | None = None) -> int:
        """Return how many trials pass."""
        trials = self.ledger.tables.trials
        query = sa.select(sa.func.count()).select_from(trials)
        with guard(self.ledger.where), self.ledger.connect() as connection:
            return int(connection.execute(query if where is None else query.where(where)).scalar_one())

    def numbers(self, sort: str | None, descending: bool, start: int, n: int, where: sa.ColumnElement[bool] | None = None) -> list[int]:
        """Return the numbers of trials `start` to `start + n` of an order: those without a value last, equal ones by number.

        Args:
            sort: Column; default by number.
            descending: The greatest first.
            start: From 0, of those that pass.
            n: How many.
            where: Which trials; default all.
        """
        trials = self.ledger.tables.trials
        passing = sa.true() if where is None else where
        if sort is None or sort == "trial":
            last = sort is not None and descending
            query = sa.select(trials.c.trial).where(passing).order_by(trials.c.trial.desc() if last else trials.c.trial)
            return self._scalars(query.limit(n).offset(start))
        value = self.grid.expressions[sort]
        if sort != self.grid.objective:
            order = (value.desc() if descending else value.asc()).nulls_last()
            return self._scalars(sa.select(trials.c.trial).where(passing).order_by(order, trials.c.trial).limit(n).offset(start))
        known = sa.select(trials.c.trial).where(value.is_not(None), passing)
        # One after the other, because NULLS LAST in one query would keep the index from being used.
        found = self._scalars(known.order_by(value.desc() if descending else value.asc(), trials.c.trial).limit(n).offset(start))
        if len(found) < n:
            before = 0 if found else self.count(sa.and_(value.is_not(None), passing))
            blank = sa.select(trials.c.trial).where(value.is_(None), passing).order_by(trials.c.trial)
            found += self._scalars(blank.limit(n - len(found)).offset(0 if found else max(0, start - before)))
        return found

    def order(self, sort: str, descending: bool, where: sa.ColumnElement[bool] | None = None) -> NDArray[np.int64]:
        """Return the numbers of all trials that pass, in order (8 bytes each, about a second per million)."""
        trials = self.ledger.tables.trials
        passing = sa.true() if where is None else where
        value = self.grid.expressions[sort]
        known = sa.select(trials.c.trial, value).where(value.is_not(None), passing)
        blank = sa.select(trials.c.trial).where(value.is_(None), passing).order_by(trials.c.trial)
        with guard(self.ledger.where), self.ledger.connect() as connection:
            rest = np.fromiter(connection.execute(blank).scalars(), dtype=np.int64)
            try:
                rows = connection.execute(known)
                assert rows.cursor is not None
                pairs = np.fromiter(iter(rows.cursor), dtype=[("trial", np.int64), ("value", np.float64)])  # type: ignore[call-overload]
            except (TypeError, ValueError):  # text, or a mixture: SQLite's own order
                sorted_ = known.with_only_columns(trials.c.trial).order_by(value.desc() if descending else value.asc(), trials.c.trial)
                return np.concatenate([np.fromiter(connection.execute(sorted_).scalars(), dtype=np.int64), rest])
        keys = -pairs["value"] if descending else pairs["value"]
        return np.concatenate([pairs["trial"][np.lexsort((pairs["trial"], keys))], rest])

    def rows(self, numbers: Sequence[int]) -> list[list[Any]]:
        """Return trials by number, a value for each column; numbers that are gone are left out."""
        trials = self.ledger.tables.trials
        plain = [column.name for column in self.grid.columns if column.name not in self.grid.paths]
        query = sa.select(trials.c.trial, trials.c.config, *(self.grid.expressions[name] for name in plain))
        blank = dict(_flat(self.ledger.header.defaults))
        found = {}
        with guard(self.ledger.where), self.ledger.connect() as connection:
            for chunk in (numbers[at : at + CHUNK] for at in range(0, len(numbers), CHUNK)):
                for number, text, *values in connection.execute(query.where(trials.c.trial.in_(chunk))):
                    cells = dict(zip(plain, values, strict=True))
                    config = dict(_flat(json.loads(text)))
                    cells |= {name: config.get(path, blank.get(path)) for name, path in self.grid.paths.items()}
                    found[number] = [_cell(cells[column.name], column) for column in self.grid.columns]
        return [found[number] for number in numbers if number in found]

    def _scalars(self, query: sa.Select[Any]) -> list[int]:
        with guard(self.ledger.where), self.ledger.connect() as connection:
            return [int(number) for number in connection.execute(query).scalars()]


def _metric_column(metric: Metric, hidden: bool) -> Column:
    unit = shown_unit(metric)
    kind: Kind = {"fraction": "percent", "count": "integer", "s": "seconds"}.get(unit, "number")  # type: ignore[assignment]
    digits = 3 if unit in ("ratio", "probability", "p") else None
    shown = unit if unit not in ("fraction", "count", "s", "ratio", "probability", "p") else ""
    return Column(
        metric_label(metric.name),
        kind=kind,
        unit=shown,
        digits=digits,
        help=metric.doc,
        direction=metric.direction,
        hidden=hidden,
        rounding={"probability": "down", "p": "up"}.get(unit, "nearest"),  # type: ignore[arg-type]
    )


def _sampled(ledger: LedgerReader) -> dict[Path, set[type]]:
    """Return where the first and last configurations have parameters, and of which types."""
    trials = ledger.tables.trials
    found: dict[Path, set[type]] = {}
    with guard(ledger.where), ledger.connect() as connection:
        for order in (trials.c.trial, trials.c.trial.desc()):
            for text in connection.execute(sa.select(trials.c.config).order_by(order).limit(SAMPLED)).scalars():
                for path, value in _flat(json.loads(text)):
                    large = isinstance(value, int) and abs(value) >= _EXACT
                    found.setdefault(path, set()).add(str if large else type(value))
    return found


def _flat(config: Mapping[str, Any], before: Path = ()) -> Iterable[tuple[Path, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, (*before, key))
        else:
            yield (*before, key), value


def _kind(types: set[type]) -> Kind:
    return "number" if types and types <= {int, float, type(None)} and types != {type(None)} else "text"


def _extracted(config: sa.ColumnElement[Any], path: Path, blank: Any, column: Column, texts: bool) -> sa.ColumnElement[Any]:
    where = sa.literal("$" + "".join(f'."{key}"' for key in path))
    value: sa.ColumnElement[Any] = sa.func.json_extract(config, where)
    if not column.numeric and not texts:
        # SQLite has 1 and 0 for what JSON calls true and false.
        kinds = sa.func.json_type(config, where)
        value = sa.case((kinds == "true", "true"), (kinds == "false", "false"), else_=value)
    written = _cell(blank, column)
    return value if written is None else sa.func.coalesce(value, written)


def _cell(value: Any, column: Column) -> Any:
    if value is None or (isinstance(value, float) and value != value):
        return None
    if column.numeric:
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

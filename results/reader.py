"""Reading a ledger: counts, rankings, tables, single trials."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from results import export as exporting
from results.constraints import Constraint, constraints_of
from results.engine import guard
from results.records import Header, LedgerError, Plan, Verification
from results.schema import Tables, not_completed

if TYPE_CHECKING:
    import pandas as pd

    from results.metrics import Direction

ID_CHUNK = 10_000


class LedgerReader:
    """What can be asked of a ledger. Every call sees one consistent state, also while a writer is at work.

    Attributes:
        header: What the study is about.
        where: File or URL, for messages.
        tables: The tables, for queries of one's own with `rows` or `connect`.
    """

    def __init__(self, engine: sa.Engine, tables: Tables, header: Header, where: str) -> None:
        self._reads = engine
        self.tables = tables
        self.header = header
        self.where = where

    @property
    def engine(self) -> sa.Engine:
        """The engine reads go through."""
        return self._reads

    def connect(self) -> sa.Connection:
        """Return a read connection; use it as a context manager."""
        return self._reads.connect()

    def rows(self, statement: sa.Select[Any]) -> list[dict[str, Any]]:
        """Run a query and return its rows as mappings."""
        with guard(self.where), self.connect() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    def counts(self) -> dict[str, int]:
        """Return how many there are: trials, completed, stopped, failed, plans, sessions, and attempts_<status>."""
        t = self.tables
        with guard(self.where), self.connect() as connection:
            trials = int(connection.execute(sa.select(sa.func.count(t.trials.c.config_id))).scalar_one())
            # Completed ones are what is left: counting them would scan a million rows.
            rest = sa.select(t.trials.c.status, sa.func.count()).where(not_completed(t.trials))
            ended = {str(status): int(n) for status, n in connection.execute(rest.group_by(t.trials.c.status)).all()}
            by_status = connection.execute(sa.select(t.attempts.c.status, sa.func.count()).group_by(t.attempts.c.status)).all()
            sessions = int(connection.execute(sa.select(sa.func.count()).select_from(t.sessions)).scalar_one())
            plans = int(connection.execute(sa.select(sa.func.count()).select_from(t.plans)).scalar_one())
        attempts = {"open": 0, "accepted": 0, "lost": 0, "rejected": 0} | {status: int(n) for status, n in by_status}
        stopped, failed = ended.get("stopped", 0), ended.get("failed", 0)
        found = {"trials": trials, "completed": trials - stopped - failed, "stopped": stopped, "failed": failed}
        found |= {"plans": plans, "sessions": sessions}
        return found | {f"attempts_{status}": n for status, n in attempts.items()}

    def known(self, config_ids: Iterable[bytes]) -> set[bytes]:
        """Return those of the given identities that have a trial (completed or failed). Costs memory only per call."""
        wanted = list(config_ids)
        mark = "?" if self._reads.dialect.paramstyle == "qmark" else "%s"
        found: set[bytes] = set()
        with guard(self.where), self.connect() as connection:
            for start in range(0, len(wanted), ID_CHUNK):
                chunk = tuple(wanted[start : start + ID_CHUNK])
                query = f"SELECT config_id FROM trials WHERE config_id IN ({','.join([mark] * len(chunk))})"
                found.update(bytes(row[0]) for row in connection.exec_driver_sql(query, chunk))
        return found

    def numbers(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the trial numbers in [start, stop) that have a result, ascending, int64."""
        column = self.tables.trials.c.trial
        query = sa.select(column).where(column >= start, column < stop).order_by(column)
        with guard(self.where), self.connect() as connection:
            return np.fromiter(connection.execute(query).scalars(), dtype=np.int64)

    def failures(self, n: int = 10) -> list[dict[str, Any]]:
        """Return the first failed trials: trial, config, error."""
        t = self.tables.trials
        return self.rows(sa.select(t.c.trial, t.c.config, t.c.error).where(t.c.status == "failed").order_by(t.c.trial).limit(n))

    def top(
        self,
        metric: str,
        direction: Direction | None = None,
        n: int = 20,
        where_completed: bool = True,
        constraints: Sequence[Constraint] | None = None,
    ) -> pd.DataFrame:
        """Return the best trials by one metric, best first; n/a after every number, ties by trial number.

        Trials that do not meet all constraints follow those that do, the nearest first: by the sum of what they lack,
        relative to each bound, and last where that is n/a.

        Args:
            metric: A declared metric; the objective is indexed, others are scanned.
            direction: "max" or "min"; default the metric's own.
            n: How many.
            where_completed: Leave out trials that failed or were stopped early, whose values are of another step; otherwise they follow.
            constraints: To meet; default the study's own.

        Returns:
            Columns as in `frame`.
        """
        declared = self.header.metric(metric)
        direction = direction or declared.direction
        if direction not in ("max", "min"):
            raise LedgerError(f"cannot rank by {metric}: more is neither better nor worse; say 'max' or 'min', or name another metric")
        constraints = constraints_of(self.header) if constraints is None else constraints
        trials = self.tables.trials
        value: sa.ColumnElement[Any] = self.tables.metric(metric)
        if constraints:
            value = value + 0.0  # not by the index: where few trials meet them it would visit most of the table in random order
        order = value.desc() if direction == "max" else value.asc()
        met, lack = self._met(constraints), self._lack(constraints)
        early = trials.c.status == "stopped"
        ranked = sa.select(trials.c.trial).where(value.is_not(None), met, sa.not_(early)).order_by(order, trials.c.trial)
        blank = sa.select(trials.c.trial).where(value.is_(None), met).order_by(trials.c.trial)
        unmet = sa.select(trials.c.trial).where(sa.not_(met))
        unmet = unmet.order_by(lack.is_(None), lack, trials.c.status, value.is_(None), order, trials.c.trial)
        if where_completed:
            blank, unmet = (query.where(trials.c.status == "completed") for query in (blank, unmet))
        numbers: list[int] = []
        with guard(self.where), self.connect() as connection:
            # One after the other, because NULLS LAST in one query would keep the index from being used.
            queries = [ranked, blank, *([unmet] if constraints else [])]
            if not where_completed:
                queries.insert(1, sa.select(trials.c.trial).where(value.is_not(None), met, early).order_by(order, trials.c.trial))
            for query in queries:
                if len(numbers) < n:
                    numbers += map(int, connection.execute(query.limit(n - len(numbers))).scalars())
            return self._pick(connection, numbers)

    def pick(self, numbers: Sequence[int]) -> pd.DataFrame:
        """Return the trials of these numbers, in this order; columns as in `frame`."""
        with guard(self.where), self.connect() as connection:
            return self._pick(connection, numbers)

    def _pick(self, connection: sa.Connection, numbers: Sequence[int]) -> pd.DataFrame:
        trials = self.tables.trials
        rows = connection.execute(sa.select(trials).where(trials.c.trial.in_(numbers))).all()
        place = {number: i for i, number in enumerate(numbers)}
        rows = sorted(rows, key=lambda row: place[row.trial])
        names = trials.c.keys()
        return exporting.to_frame(dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}, self)

    def found(self, config_ids: Sequence[bytes], metric: str | None = None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the trial number of each identity, −1 where there is none, and its value of a metric, NaN where that is n/a."""
        t = self.tables
        value = sa.null() if metric is None else t.metric(metric)
        place = {key: i for i, key in enumerate(config_ids)}
        numbers, values = np.full(len(config_ids), -1, np.int64), np.full(len(config_ids), np.nan)
        with guard(self.where), self.connect() as connection:
            for start in range(0, len(config_ids), ID_CHUNK):
                chunk = config_ids[start : start + ID_CHUNK]
                query = sa.select(t.trials.c.config_id, t.trials.c.trial, value).where(t.trials.c.config_id.in_(chunk))
                for key, number, known in connection.execute(query):
                    numbers[place[bytes(key)]] = number
                    values[place[bytes(key)]] = np.nan if known is None else known
        return numbers, values

    def count_meeting(self, constraints: Sequence[Constraint]) -> int:
        """Return how many completed trials meet all constraints."""
        trials = self.tables.trials
        query = sa.select(sa.func.count().label("n")).select_from(trials).where(self._met(constraints), trials.c.status == "completed")
        found = self.rows(query)
        return int(found[0]["n"])

    def count_blank(self, metric: str) -> int:
        """Return how many completed trials have no value of a metric."""
        trials, column = self.tables.trials, self.tables.metric(metric)
        query = sa.select(sa.func.count().label("n")).select_from(trials).where(column.is_(None), trials.c.status == "completed")
        return int(self.rows(query)[0]["n"])

    def _met(self, constraints: Sequence[Constraint]) -> sa.ColumnElement[bool]:
        """True or false, never NULL: n/a does not meet."""
        columns = [(item, self.tables.metric(item.metric)) for item in constraints]
        return sa.and_(sa.true(), *(sa.and_(column.is_not(None), item.compare(column)) for item, column in columns))

    def _lack(self, constraints: Sequence[Constraint]) -> sa.ColumnElement[Any]:
        """The total relative violation, NULL if a metric is."""
        total: sa.ColumnElement[Any] = sa.literal(0.0)
        for item in constraints:
            column = self.tables.metric(item.metric)
            lack = item.shortfall(column)
            total = total + sa.case((column.is_(None), sa.null()), (lack > 0.0, lack), else_=0.0)
        return total

    def stream(
        self, columns: Sequence[str] | None = None, chunk: int = exporting.CHUNK, constraints: Sequence[Constraint] = ()
    ) -> Iterator[exporting.Batch]:
        """Yield all trials in number order, a batch of `chunk` at a time, from one snapshot.

        Args:
            columns: Column names of the trials table; default all.
            chunk: Trials per batch.
            constraints: Only trials that meet these.

        Yields:
            Column name to values.
        """
        trials = self.tables.trials
        names = list(trials.c.keys()) if columns is None else list(columns)
        statement = sa.select(*(trials.c[name] for name in names)).where(self._met(constraints)).order_by(trials.c.trial)
        statement = statement.execution_options(yield_per=chunk)
        with guard(self.where), self.connect() as connection:
            for rows in connection.execute(statement).partitions(chunk):
                yield dict(zip(names, zip(*rows, strict=True), strict=True))

    def frame(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return all trials: trial, config_id, status, attempt, seconds, error, source, metrics, configuration.

        Args:
            columns: Keep only these (metric and configuration names are plain; one that is taken becomes `config.<name>`).
        """
        return exporting.frame(self, columns)

    def export(self, path: str | Path, fmt: str | None = None, evidence: pd.DataFrame | None = None) -> int:
        """Write all trials to a CSV, JSON or Parquet file in bounded memory; the file appears only when it is whole.

        Args:
            path: Target file.
            fmt: "csv", "json" or "parquet"; default from the file's ending.
            evidence: What is known about some trials, one row each, trial numbers as index and a column "verdict"; written beside
                them (in JSON as an object), null for the others.

        Returns:
            Number of trials written.
        """
        return exporting.export(self, Path(path), fmt, evidence)

    def trial(self, which: int | str) -> dict[str, Any]:
        """Return one trial with its configuration, metrics, attempt, session, and "failures": the errors of earlier tries.

        Args:
            which: Trial number, or the first hexadecimal digits (4 or more) of its config_id.

        Raises:
            LedgerError: If there is none, or several.
        """
        return exporting.one_trial(self, which)

    def events(self, kind: str | None = None, limit: int | None = 1000) -> list[dict[str, Any]]:
        """Return the latest `limit` events, all with None, oldest first, details parsed."""
        events = self.tables.events
        statement = sa.select(events).order_by(events.c.seq.desc()).limit(limit)
        found = self.rows(statement if kind is None else statement.where(events.c.kind == kind))
        return [row | {"detail": json.loads(row["detail"])} for row in reversed(found)]

    def sessions(self) -> list[dict[str, Any]]:
        """Return all sessions, oldest first, provenance parsed."""
        sessions = self.tables.sessions
        found = self.rows(sa.select(sessions).order_by(sessions.c.session_id))
        return [row | {"provenance": json.loads(row["provenance"])} for row in found]

    def accepted_attempts(self) -> set[int]:
        """Return the fencing numbers of attempts whose results were taken."""
        attempts = self.tables.attempts
        return {row["attempt"] for row in self.rows(sa.select(attempts.c.attempt).where(attempts.c.status == "accepted"))}

    def plans(self) -> list[Plan]:
        """Return every search asked for, oldest first."""
        plans = self.tables.plans
        return [plan_of(row) for row in self.rows(sa.select(plans).order_by(plans.c.plan_id))]

    def verify(self, expected: Iterable[list[bytes]]) -> Verification:
        """Compare the ledger with the points it should hold (see `results.verification`).

        Args:
            expected: Identities of all points of all plans, in chunks.
        """
        from results.verification import verify

        return verify(self, expected)


def plan_of(row: Any) -> Plan:
    """Return a plan from its table row."""
    return Plan(**(dict(row) | {"space": json.loads(row["space"]), "sampler": json.loads(row["sampler"])}))

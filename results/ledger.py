"""The ledger: one append-only store per study, one writer, the truth every other view is rebuilt from (DESIGN 3.1).

A result counts once `accept` has returned: its rows are in one transaction that was synced to disk. Every attempt at
work carries a fencing number; when a session begins, the attempts an earlier one left open are *lost*, and whatever
they still deliver is refused and recorded. So a kill at any moment loses only work in flight, and nothing counts twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, Self

import sqlalchemy as sa

from results import creation
from results.acceptance import insert_rows
from results.engine import guard
from results.lock import ServerLock, WriterLock
from results.reader import LedgerReader, plan_of
from results.records import Accepted, AttemptStatus, Header, LedgerError, Plan, ResultRow, checked_json
from results.reports import ReportRow
from results.reports import insert as insert_report
from results.reuse import reusable_rows
from results.rows import prepare
from results.schema import Tables
from results.secrets import redacted

# Trial numbers set aside for a search without a count, so that another can follow it.
OPEN_ENDED: Final = 1_000_000_000

# Details of events that quote what a trainable or a person said.
_SAID: Final = ("error", "why", "reason", "words")


class Ledger(LedgerReader):
    """A study's ledger. Open one with `create` or `open`, and close it (it is a context manager)."""

    def __init__(
        self, reads: sa.Engine, writes: sa.Engine | None, tables: Tables, header: Header, where: str, lock: WriterLock | ServerLock | None
    ) -> None:
        super().__init__(reads, tables, header, where)
        self._writes = writes
        self._lock = lock
        self._session: int | None = None

    @classmethod
    def create(cls, path_or_url: str | os.PathLike[str], header: Header) -> Self:
        """Create a study's ledger and open it for writing.

        Raises:
            LedgerError: If there is one already.
            LedgerLocked: If another process is creating it.
        """
        creation.create(path_or_url, header)
        return cls.open(path_or_url)

    @classmethod
    def open(cls, path_or_url: str | os.PathLike[str], readonly: bool = False) -> Self:
        """Open an existing ledger.

        Args:
            path_or_url: SQLite file, or an SQLAlchemy URL.
            readonly: Many may read, also beside the one writer.

        Raises:
            LedgerError: If it is missing, damaged or not a ledger.
            LedgerLocked: If another process writes to it.
        """
        return cls(*creation.connect(path_or_url, readonly))

    def begin_session(self, provenance: Mapping[str, Any]) -> int:
        """Start writing: from here on, attempts of earlier sessions are lost.

        Args:
            provenance: From `results.provenance.collect`.

        Returns:
            The session's number.
        """
        if self._session is not None:
            raise LedgerError(f"session {self._session} of {self.where} is still open; end it first")
        sessions, attempts = self.tables.sessions, self.tables.attempts
        text = checked_json(provenance, "the session's provenance")
        with self._transaction() as connection:
            connection.execute(sa.update(sessions).where(sessions.c.reason.is_(None)).values(reason="interrupted"))
            lost_rows = sa.update(attempts).where(attempts.c.status == "open").values(status="lost", ended=now())
            lost = connection.execute(lost_rows).rowcount
            session = _inserted(connection.execute(sa.insert(sessions).values(started=now(), provenance=text)))
            self._event(connection, "session_started", {"lost_attempts": lost}, session)
        self._session = session
        return session

    def end_session(self, reason: str) -> None:
        """Close the session; attempts still open are lost.

        Args:
            reason: Why it ended: "finished", "stopped", "failed", …
        """
        session = self._current_session()
        sessions, attempts = self.tables.sessions, self.tables.attempts
        with self._transaction() as connection:
            lost_rows = sa.update(attempts).where(attempts.c.status == "open").values(status="lost", ended=now())
            lost = connection.execute(lost_rows).rowcount
            connection.execute(sa.update(sessions).where(sessions.c.session_id == session).values(ended=now(), reason=reason))
            self._event(connection, "session_ended", {"reason": reason, "lost_attempts": lost})
        self._session = None

    def add_plan(self, space: Mapping[str, Any], sampler: Mapping[str, Any], count: int | None) -> Plan:
        """Register a search; asked for again, the same one is returned.

        Args:
            space: The search space.
            sampler: The sampler and its settings.
            count: How many trials it has, None when open-ended.
        """
        parts = {"space": checked_json(space, "the search space"), "sampler": checked_json(sampler, "the sampler")}
        digest = blake2b(json.dumps([parts["space"], parts["sampler"], count]).encode(), digest_size=16).hexdigest()
        plans = self.tables.plans
        with self._transaction() as connection:
            found = connection.execute(sa.select(plans).where(plans.c.digest == digest)).mappings().first()
            if found is None:
                last = connection.execute(sa.select(plans).order_by(plans.c.offset.desc()).limit(1)).mappings().first()
                offset = 0 if last is None else last["offset"] + (OPEN_ENDED if last["count"] is None else last["count"])
                plan = sa.insert(plans).values(offset=offset, count=count, digest=digest, created=now(), **parts)
                plan_id = _inserted(connection.execute(plan))
                self._event(connection, "plan_added", {"plan": plan_id, "offset": offset, "count": count, "digest": digest})
                found = connection.execute(sa.select(plans).where(plans.c.plan_id == plan_id)).mappings().one()
        return plan_of(found)

    def open_attempt(self, plan_id: int, n: int, worker: str = "") -> int:
        """Announce work on `n` trials and return its fencing number.

        Args:
            plan_id: From `add_plan`.
            n: How many rows it will deliver; the attempt closes by itself when they are in.
            worker: Who does it, for people.
        """
        values = {"session_id": self._current_session(), "plan_id": plan_id, "started": now(), "n": n, "delivered": 0, "worker": worker}
        with self._transaction() as connection:
            return _inserted(connection.execute(sa.insert(self.tables.attempts).values(status="open", **values)))

    def accept(self, attempt: int, rows: Sequence[ResultRow]) -> Accepted:
        """Take results, all in one transaction and one sync; when this returns they are safe.

        Nothing is taken from an attempt that is not open any more. A configuration or trial number that has a result
        keeps the first one. Both are recorded as an event of kind "rejected".

        Args:
            attempt: From `open_attempt`.
            rows: Some or all of its results.

        Returns:
            How many rows were taken and how many refused.

        Raises:
            LedgerError: If a row is malformed; then none is taken and the attempt stays open.
        """
        prepared = prepare(rows, self.header)
        with self._transaction() as connection:
            return self._take(connection, attempt, rows, prepared)

    def _take(self, connection: sa.Connection, attempt: int, rows: Sequence[ResultRow], prepared: Sequence[tuple[Any, ...]]) -> Accepted:
        attempts = self.tables.attempts
        state = self._attempt(connection, attempt)
        this = sa.update(attempts).where(attempts.c.attempt == attempt)
        if state["status"] != "open":
            detail = {"attempt": attempt, "reason": f"attempt is {state['status']}", "rows": len(rows)}
            self._event(connection, "rejected", detail | {"trials": [int(row.trial) for row in rows[:100]]})
            if state["status"] == "lost":
                connection.execute(this.values(status="rejected"))
            return Accepted(0, len(rows))
        refused = insert_rows(connection, self.tables, attempt, prepared)
        if refused:
            detail = {"attempt": attempt, "reason": "already has a result", "rows": len(refused), "trials": refused[:100]}
            self._event(connection, "rejected", detail)
        delivered = state["delivered"] + len(rows)
        values: dict[str, Any] = {"delivered": delivered}
        if delivered >= state["n"]:
            values |= {"status": "accepted", "ended": now()}
        connection.execute(this.values(**values))
        return Accepted(len(rows) - len(refused), len(refused))

    def _attempt(self, connection: sa.Connection, attempt: int) -> sa.RowMapping:
        attempts = self.tables.attempts
        state = connection.execute(sa.select(attempts).where(attempts.c.attempt == attempt)).mappings().first()
        if state is None:
            raise LedgerError(f"{self.where} has no attempt {attempt}; results need a number from open_attempt")
        return state

    def report(self, attempt: int, row: ReportRow, ended: ResultRow | None = None, why: Mapping[str, Any] | None = None) -> bool:
        """Take a report of a trial at work and, if it ends the trial, the trial's result: all in one transaction.

        Args:
            attempt: From `open_attempt`; nothing is taken from one that is not open any more.
            row: The report; one that is there already, from before a kill, stays.
            ended: The result of a trial that was stopped.
            why: The decision that stopped it, recorded as an event of kind "stopped".

        Returns:
            Whether the attempt was open.
        """
        prepared = [] if ended is None else prepare([ended], self.header)
        with self._transaction() as connection:
            if self._attempt(connection, attempt)["status"] != "open":
                self._event(connection, "rejected", {"attempt": attempt, "reason": "a report of an attempt given up", "rows": 0})
                return False
            insert_report(connection, self.tables, attempt, row)
            if ended is not None:
                self._event(connection, "stopped", why or {}, trial=ended.trial)
                self._take(connection, attempt, [ended], prepared)
        return True

    def close_attempt(self, attempt: int, status: AttemptStatus) -> bool:
        """Close an open attempt, e.g. as "lost" when its worker died; later deliveries are refused.

        Returns:
            False if it was not open any more (it keeps its status).
        """
        if status not in ("accepted", "lost", "rejected"):
            raise LedgerError(f"an attempt is closed as 'accepted', 'lost' or 'rejected', not {status!r}")
        attempts = self.tables.attempts
        wanted = sa.update(attempts).where(attempts.c.attempt == attempt, attempts.c.status == "open").values(status=status, ended=now())
        with self._transaction() as connection:
            return bool(connection.execute(wanted).rowcount)

    def record(self, kind: str, trial: int | None = None, **detail: Any) -> None:
        """Record one event in a transaction of its own."""
        self.record_all(kind, [(trial, detail)])

    def record_all(self, kind: str, items: Iterable[tuple[int | None, Mapping[str, Any]]]) -> None:
        """Record many events of one kind in one transaction.

        Args:
            kind: Such as "stopped" or "reported".
            items: (trial number or None, details) pairs.
        """
        stamp = now()
        rows = [
            {
                "time": stamp,
                "session": self._session,
                "kind": kind,
                "trial": trial,
                "detail": checked_json(_kept(detail), f"event {kind!r}"),
            }
            for trial, detail in items
        ]
        if rows:
            with self._transaction() as connection:
                connection.execute(sa.insert(self.tables.events), rows)

    def reopen_failed(self, only: Iterable[int] | None = None) -> list[int]:
        """Move failed trials into events of kind "reopened" so that they run again.

        Args:
            only: Numbers of those that are meant; all by default. One that has not failed stays as it is.

        Returns:
            Their numbers.
        """
        trials, events = self.tables.trials, self.tables.events
        with self._transaction() as connection:
            query = sa.select(trials).where(trials.c.status == "failed").order_by(trials.c.trial)
            wanted = None if only is None else set(only)
            failed = [row for row in connection.execute(query).mappings() if wanted is None or row["trial"] in wanted]
            common = {"time": now(), "session": self._session, "kind": "reopened"}
            rows = [common | {"trial": row["trial"], "detail": _failure(row)} for row in failed]
            if rows:
                connection.execute(sa.insert(events), rows)
                gone = sa.delete(trials).where(trials.c.status == "failed", trials.c.trial == sa.bindparam("number"))
                connection.execute(gone, [{"number": row["trial"]} for row in rows])
        return [row["trial"] for row in failed]

    def reuse_from(self, other: str | os.PathLike[str], numbered: Mapping[bytes, int]) -> list[ResultRow]:
        """Find results a sibling study already has, ready for `accept` (see `results.reuse`).

        Args:
            other: The other study's ledger: same context, same metrics.
            numbered: Identities wanted, with the trial numbers they have in this study.

        Returns:
            Completed, intact results, `source` naming the other study.
        """
        with Ledger.open(other, readonly=True) as sibling:
            return reusable_rows(sibling, self.header, numbered)

    def close(self) -> None:
        """Close the database and give the lock back; a session left open counts as ended."""
        try:
            if self._session is not None:
                self.end_session("closed")
        finally:  # whatever happened to the file, the next writer must not find it locked
            self._reads.dispose()
            if self._writes is not None:
                creation.fold(self._writes)
                self._writes.dispose()
                self._writes = None
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            if kind is not None and self._session is not None:
                self.end_session(f"stopped by {kind.__name__}")
        finally:
            self.close()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        if self._writes is None:
            raise LedgerError(f"{self.where} is open for reading only; open it with readonly=False to write")
        with guard(self.where), self._writes.begin() as connection:
            yield connection

    def _current_session(self) -> int:
        if self._session is None:
            raise LedgerError("no session is open; call begin_session first")
        return self._session

    def _event(
        self, connection: sa.Connection, kind: str, detail: Mapping[str, Any], session: int | None = None, trial: int | None = None
    ) -> None:
        values = {"time": now(), "session": session or self._session, "kind": kind, "trial": trial, "detail": json.dumps(_kept(detail))}
        connection.execute(sa.insert(self.tables.events).values(**values))


def now() -> str:
    """Return the current time, UTC, ISO with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _inserted(result: sa.CursorResult[Any]) -> int:
    key = result.inserted_primary_key
    assert key is not None  # every table here has an integer key
    return int(key[0])


def _kept(detail: Mapping[str, Any]) -> Mapping[str, Any]:
    said = {key: redacted(text) for key in _SAID if isinstance(text := detail.get(key), str)}
    return {**detail, **said} if said else detail


def _failure(row: sa.RowMapping) -> str:
    kept = {"attempt": row["attempt"], "config_id": bytes(row["config_id"]).hex(), "config": json.loads(row["config"])}
    return json.dumps(kept | {"error": row["error"], "seconds": row["seconds"]})

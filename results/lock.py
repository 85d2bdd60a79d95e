"""One writer per study: a lock that is taken back when its process dies, by the kernel or by the database server."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import weakref
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa

from results import pointer
from results.records import LedgerError, LedgerLocked

_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()


class WriterLock:
    """An exclusive `flock` on `<ledger>.lock`, held until `release` or the end of the process.

    The file stays behind and says who had it; only the kernel's lock counts, so there is never a stale one to remove.
    """

    def __init__(self, ledger: Path) -> None:
        self.path = ledger.with_name(ledger.name + ".lock")
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        for patience in (0.05, 0.1, 0.2, 0.0):  # `is_written` holds it for an instant
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if patience:
                    time.sleep(patience)
                    continue
                owner = os.pread(descriptor, 4096, 0)
                os.close(descriptor)
                raise LedgerLocked(_busy(ledger, owner)) from error
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode(), 0)
        self._descriptor: int | None = descriptor
        _held.add(self)

    def release(self) -> None:
        """Give the lock back; harmless when repeated."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_written(ledger: Path) -> bool:
    """Return whether a session holds the writer's lock of a ledger file, or of the database it points to."""
    if (url := pointer.followed(ledger)) is not None:
        return _is_written_on_server(url)
    try:
        descriptor = os.open(ledger.with_name(ledger.name + ".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


_SCHEMA_KEY = "hashtextextended('alphasweep ' || current_schema(), 0)"


def _is_written_on_server(url: str) -> bool:
    engine = _asking(pointer.base_of(url))
    held = f"SELECT pg_try_advisory_xact_lock_shared({_SCHEMA_KEY.replace('current_schema()', ':schema')})"
    try:
        with engine.begin() as connection:  # a shared lock, given back with the transaction
            return not connection.execute(sa.text(held), {"schema": pointer.schema_of(url)}).scalar_one()
    except sa.exc.SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise LedgerError(f"the database of this study cannot be asked who writes to it: {cause}") from error


@lru_cache(maxsize=4)
def _asking(base: str) -> sa.Engine:
    """Return the engine for questions about the locks of a database: asked four times a second, so one connection for all its studies."""
    return pointer.server_engine(base)


class ServerLock:
    """PostgreSQL's advisory lock on the schema of a ledger, held by a connection of its own until `release`."""

    def __init__(self, engine: sa.Engine, where: str) -> None:
        self._connection: sa.Connection | None = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if not self._taken():
            self._connection.close()
            raise LedgerLocked(f"{where} is being written by another session. A study has one writer: wait for it, or stop that process.")

    def _taken(self) -> bool:
        assert self._connection is not None
        for patience in (0.05, 0.1, 0.2, 0.0):  # `is_written` holds it for an instant
            if self._connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_SCHEMA_KEY})").scalar_one():
                return True
            time.sleep(patience)
        return False

    def release(self) -> None:
        """Give the lock back; harmless when repeated."""
        if self._connection is not None:
            self._connection.invalidate()  # really disconnects; the pool would keep the lock
            self._connection.close()
            self._connection = None


def _busy(ledger: Path, owner: bytes) -> str:
    try:
        note = json.loads(owner)
        who = f"process {note['pid']} on {note['host']} (since {note['since']})"
    except (ValueError, KeyError, TypeError):
        who = "another process"
    return (
        f"{ledger} is being written by {who}. A study has one writer: wait for it, or stop that process (its lock goes with it). "
        "Reading is always possible: status, leaderboard and export open it read-only."
    )


def _forget_in_child() -> None:
    # A forked child shares the descriptor: without this the lock would outlive its owner in some worker.
    for lock in list(_held):
        lock.release()
    _asking.cache_clear()  # a connection that two processes write to is of use to neither


os.register_at_fork(after_in_child=_forget_in_child)

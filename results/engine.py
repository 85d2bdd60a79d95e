"""Opening the database under a ledger, and turning its errors into messages."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from results.records import LedgerError

BUSY_SECONDS = 30.0
_SQLITE_MAGIC = b"SQLite format 3\x00"


def sqlite_path(path_or_url: str | os.PathLike[str]) -> Path | None:
    """Return the file of a SQLite ledger, None for another database's URL."""
    text = os.fspath(path_or_url)
    if text.startswith("sqlite:///"):
        return Path(text.removeprefix("sqlite:///"))
    return None if "://" in text else Path(text)


def sqlite_engine(path: Path, readonly: bool) -> sa.Engine:
    """Return an engine on an existing SQLite file.

    Args:
        path: The file; it is never created here, so that a wrong path is an error and not an empty study.
        readonly: Open with `mode=ro`. Works beside a live writer and after one was killed (the WAL is read in place).
    """
    mode = "mode=ro" if readonly else "mode=rw"
    wal = path.with_name(path.name + "-wal")
    if readonly and not os.access(path.parent, os.W_OK) and not (wal.exists() and wal.stat().st_size):
        mode += "&immutable=1"  # WAL needs a shared-memory file, which a read-only folder cannot take
    uri = f"file:{quote(str(path.absolute()))}?{mode}"

    def connect() -> sqlite3.Connection:
        # isolation_level None: transactions begin where we say, not where the driver guesses.
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA foreign_keys=ON")
        if not readonly:
            connection.execute("PRAGMA synchronous=FULL")
            # New identities fall all over their index: keep it in memory, or a large study slows down.
            connection.execute("PRAGMA cache_size=-131072")
            connection.execute("PRAGMA wal_autocheckpoint=8000")
        return connection

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.QueuePool)
    begin = "BEGIN" if readonly else "BEGIN IMMEDIATE"

    @sa.event.listens_for(engine, "begin")
    def _(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def check_file(path: Path) -> None:
    """Refuse a file that cannot be a whole ledger, before SQLite could take it for a new database.

    Raises:
        LedgerError: Missing, empty, of another kind, or shorter than its own header says.
    """
    if not path.is_file():
        raise LedgerError(f"there is no ledger at {path}. Check the path, or create the study first.")
    with path.open("rb") as file:
        head = file.read(100)
    size = path.stat().st_size
    if len(head) < 100 or not head.startswith(_SQLITE_MAGIC):
        raise LedgerError(damaged(str(path), "empty" if not size else "its first bytes are not those of a SQLite database"))
    page = int.from_bytes(head[16:18], "big")
    page = 65536 if page == 1 else page
    pages = int.from_bytes(head[28:32], "big")
    wal = path.with_name(path.name + "-wal")
    if not (wal.exists() and wal.stat().st_size) and size < page * pages:
        raise LedgerError(damaged(str(path), f"it should have {page * pages} bytes and has {size}"))


def quick_check(engine: sa.Engine, where: str) -> None:
    """Let SQLite walk its pages (about a second per million trials); other databases look after themselves."""
    if engine.dialect.name != "sqlite":
        return
    with guard(where), engine.connect() as connection:
        verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if verdict != "ok":
        raise LedgerError(damaged(where, str(verdict).splitlines()[0]))


def damaged(where: str, why: str) -> str:
    """Return the message for a damaged file."""
    return (
        f"the ledger {where} is damaged: {why}. Nothing was changed and nothing will start over by itself. Keep a copy of the file "
        f"(and of its -wal file), then restore a backup or salvage what is readable with: sqlite3 {where} .recover | sqlite3 salvaged.db"
    )


@contextmanager
def guard(where: str) -> Iterator[None]:
    """Turn database errors into `LedgerError` messages that name the file."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        low = cause.lower()
        if any(sign in low for sign in ("malformed", "not a database", "disk i/o", "corrupt")):
            message = damaged(where, cause)
        elif "full" in low:
            message = f"no space left for the ledger {where} ({cause}). Free some and run the command again; what was accepted is safe."
        elif "locked" in low:
            message = f"the ledger {where} is locked by another program ({cause}). Close other tools that have it open, then try again."
        elif "readonly" in low:
            message = f"the ledger {where} cannot be written ({cause}). Check the permissions of the file and its folder."
        elif "no such table" in low or "no such column" in low or "does not exist" in low:
            message = f"{where} is not laid out as a ledger ({cause}). Check the path; another program's database cannot be opened."
        else:
            message = f"the ledger {where} refused: {cause}"
        raise LedgerError(message) from error

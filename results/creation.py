"""How a ledger comes into being, and how its database is opened."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from results import pointer
from results.engine import check_file, guard, quick_check, sqlite_engine, sqlite_path
from results.lock import ServerLock, WriterLock
from results.records import Header, LedgerError
from results.schema import Tables, build_tables, header_row, read_header

Opened = tuple[sa.Engine, sa.Engine | None, Tables, Header, str, WriterLock | ServerLock | None]


def create(path_or_url: str | os.PathLike[str], header: Header) -> None:
    """Create an empty ledger; a crash in the middle leaves none.

    Raises:
        LedgerError: If there is one already.
    """
    path = sqlite_path(path_or_url)
    if path is None:
        _create_on_server(os.fspath(path_or_url), header)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(path)
    try:
        if path.exists():
            raise LedgerError(f"there is a ledger at {path} already; open it to continue that study, or choose another study folder")
        # Built beside its place and moved in whole: a half-made file would look like a damaged study.
        draft = path.with_name(path.name + ".new")
        draft.unlink(missing_ok=True)
        draft.touch()
        engine = sqlite_engine(draft, readonly=False)
        with guard(str(path)):
            with engine.connect() as connection:
                _fill(connection, header)
            engine.dispose()
            with closing(sqlite3.connect(draft)) as plain:
                plain.execute("PRAGMA journal_mode=WAL")  # kept in the file
        _sync(draft)
        os.replace(draft, path)
        _sync(path.parent)
    finally:
        lock.release()


def connect(path_or_url: str | os.PathLike[str], readonly: bool) -> Opened:
    """Open a ledger's database and read its header.

    Returns:
        Read engine, write engine (None when read-only), tables, header, name for messages, lock (None when read-only).
    """
    path = sqlite_path(path_or_url)
    if path is not None and (pointed := pointer.followed(path)) is not None:
        path, path_or_url = None, pointed
    if path is None:
        engine, where = _server(os.fspath(path_or_url))
        try:
            header = _header(engine, where)
            with guard(where):
                held = None if readonly else ServerLock(engine, where)
        except BaseException:
            engine.dispose()
            raise
        return engine, None if readonly else engine, build_tables(header), header, where, held
    check_file(path)
    lock = None if readonly else WriterLock(path)
    try:
        writes = None if readonly else sqlite_engine(path, readonly=False)
        reads = sqlite_engine(path, readonly=True)
        header = _header(reads, str(path))
        if writes is not None:
            quick_check(reads, str(path))
    except BaseException:
        if lock is not None:
            lock.release()
        raise
    return reads, writes, build_tables(header), header, str(path), lock


def fold(engine: sa.Engine) -> None:
    """Write the WAL back into the file, so that a closed SQLite ledger is one file (readers still there make it wait)."""
    if engine.dialect.name == "sqlite":
        with closing(engine.raw_connection()) as connection, suppress(sqlite3.Error):
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _header(engine: sa.Engine, where: str) -> Header:
    with guard(where), engine.connect() as connection:
        return read_header(connection, where)


def _fill(connection: sa.Connection, header: Header) -> None:
    tables = build_tables(header)
    tables.metadata.create_all(connection)
    connection.execute(sa.insert(tables.study).values(header_row(header, datetime.now(UTC).isoformat(timespec="milliseconds"))))
    connection.commit()


def _server(url: str) -> tuple[sa.Engine, str]:
    if not url.startswith("postgresql"):
        raise LedgerError(f"a ledger lives in a SQLite file or a postgresql:// database; {url.partition(':')[0]!r} is neither")
    engine = pointer.server_engine(url)
    schema = pointer.schema_of(url)
    shown = sa.make_url(pointer.base_of(url) if schema else url).render_as_string(hide_password=True)
    return engine, f"{shown} (study {schema})" if schema else shown


def _create_on_server(url: str, header: Header) -> None:
    engine, where = _server(url)
    try:
        with guard(where), engine.connect() as connection:
            if sa.inspect(connection).has_table("study"):
                raise LedgerError(f"there is a ledger at {where} already; open it, or give the new study a database or schema of its own")
            _fill(connection, header)
    finally:
        engine.dispose()


def _sync(path: Path) -> None:
    descriptor: Any = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

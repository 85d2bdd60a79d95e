"""A ledger that is elsewhere: where a study's SQLite file would be lies a line of text that names a PostgreSQL schema.

Everything that reads a study finds its ledger by that file, whichever of the two it is. The line never has a password in it: libpq takes
that from PGPASSWORD, ~/.pgpass or a service.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import quote

import sqlalchemy as sa

from results.records import LedgerError

_KIND: Final = "postgresql"
_MOST: Final = 4096  # bytes of a pointer
_LONGEST: Final = 63  # bytes of a name, of which PostgreSQL silently cuts off the rest
_CONNECT_SECONDS: Final = 10  # libpq's own patience with a host that drops packets is minutes
_SCHEMA: Final = re.compile(r"-csearch_path=\"([^\"]+)\"")


def read(path: Path) -> str | None:
    """Return the URL a file points to; None if it is none of ours, or does not exist."""
    try:
        with path.open("rb") as file:
            head = file.read(_MOST)
    except OSError:
        return None
    if not head.startswith(_KIND.encode()):
        return None
    return head.decode().strip()


def followed(path: Path) -> str | None:
    """Return the URL a file points to, if it is a database this account was told to use; None if the file is no pointer.

    A folder may come from anybody, and whoever connects may give a password away.

    Raises:
        LedgerError: It points elsewhere.
    """
    url = read(path)
    if url is not None and base_of(url) not in _trusted():
        where = sa.make_url(base_of(url)).render_as_string(hide_password=True)
        raise LedgerError(
            f"{path.parent}: its ledger is in {where}, a database this account has not used yet. "
            "If you trust it, name it once: alphasweep attach URL"
        )
    return url


def trust(url: str) -> None:
    """Remember a database, because a person has named it."""
    base = checked(base_of(url))
    if base not in (known := _trusted()):
        place = _databases()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("".join(f"{each}\n" for each in [*known, base]))


def _trusted() -> list[str]:
    try:
        return _databases().read_text().split()
    except OSError:
        return []


def _databases() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "alphasweep" / "databases"


def write(path: Path, url: str) -> None:
    """Let a file point to a ledger; it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.write_text(url + "\n")
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(draft, path)


def in_schema(url: str, schema: str) -> str:
    """Return the URL of one schema of a database: the ledger of one study.

    Raises:
        LedgerError: It is no PostgreSQL URL, or has a password in it, or PostgreSQL has no schema of that name.
    """
    base = checked(url)
    if '"' in schema or schema in ("", "public", "information_schema") or schema.startswith("pg_"):
        raise LedgerError(f"a study in a database is not called {schema!r}: give it another name, such as --set name=my_{schema}")
    if len(schema.encode()) > _LONGEST:
        raise LedgerError(f"a study in a database has a name of at most {_LONGEST} characters; give {schema!r} a shorter one")
    option = quote(f'-csearch_path="{schema}"', safe="")
    return f"{base}{'&' if '?' in base else '?'}options={option}"


def schema_of(url: str) -> str:
    """Return the schema a URL of `in_schema` names; empty for none."""
    options = sa.make_url(url).query.get("options", "")
    found = _SCHEMA.search(options if isinstance(options, str) else " ".join(options))
    return found[1] if found else ""


def checked(url: str) -> str:
    """Return a database's URL with the driver that is used.

    Raises:
        LedgerError: It is no PostgreSQL URL, or has a password in it.
    """
    try:
        made = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise LedgerError("the ledger's URL is not one; write postgresql://USER@HOST:PORT/DATABASE") from None
    if made.get_backend_name() != _KIND:
        raise LedgerError(f"a ledger lives in a SQLite file or a postgresql:// database; {made.get_backend_name()!r} is neither")
    if made.password is not None or {"password", "sslpassword"} & made.query.keys():
        raise LedgerError(
            "leave the password out of the ledger's URL, which is kept in the study's folder: put it into PGPASSWORD or ~/.pgpass"
        )
    return made.set(drivername=f"{_KIND}+psycopg").render_as_string()


def create_schema(url: str, schema: str) -> None:
    """Make a schema of a database, if it is not there.

    Raises:
        LedgerError: The database cannot be reached, or refuses.
    """
    with _connected(url) as connection:
        connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')


def check(url: str, schema: str) -> None:
    """Find out whether a schema could be made in a database, and make nothing.

    Raises:
        LedgerError: It is no PostgreSQL URL, the database cannot be reached, or lets this account make none.
    """
    in_schema(url, schema)
    with _connected(url) as connection:
        if not connection.exec_driver_sql("SELECT has_database_privilege(current_database(), 'CREATE')").scalar_one():
            who = connection.exec_driver_sql("SELECT current_user").scalar_one()
            database = sa.make_url(base_of(url)).database
            raise LedgerError(
                f"the database {database} lets {who} make no ledger in it; its owner can: GRANT CREATE ON DATABASE {database} TO {who}"
            )


def rename_schema(url: str, old: str, new: str) -> None:
    """Give a schema another name."""
    with _connected(url) as connection:
        connection.exec_driver_sql(f'ALTER SCHEMA "{old}" RENAME TO "{new}"')


def schemas(url: str) -> list[str]:
    """Return the schemas of a database that hold a ledger, by name."""
    query = "SELECT table_schema FROM information_schema.tables WHERE table_name = 'study' AND table_schema <> 'public' ORDER BY 1"
    with _connected(url) as connection:
        return [row[0] for row in connection.exec_driver_sql(query)]


def aside(schema: str, n: int) -> str:
    """Return what a schema that is set aside is called."""
    end = f".aside{n}"
    return f"{schema[: _LONGEST - len(end)]}{end}"


def is_aside(schema: str) -> bool:
    """Return whether a schema has been set aside."""
    return re.search(r"\.aside\d+$", schema) is not None


def base_of(url: str) -> str:
    """Return a URL without the schema it names."""
    made = sa.make_url(url)
    return made.difference_update_query(["options"]).render_as_string()


def server_engine(url: str) -> sa.Engine:
    """Return an engine on a database server.

    Raises:
        LedgerError: Its driver is not installed.
    """
    made = sa.make_url(url)
    ours = made.drivername == f"{_KIND}+psycopg" and "connect_timeout" not in made.query
    patience = {"connect_timeout": _CONNECT_SECONDS} if ours else {}
    try:
        return sa.create_engine(made, pool_pre_ping=True, connect_args=patience)
    except ImportError as error:
        raise LedgerError(f"the PostgreSQL driver is missing ({error}); install it with: pip install 'psycopg[binary]'") from error


class _connected:  # noqa: N801 (used as a function)
    """A connection in a transaction, errors as messages."""

    def __init__(self, url: str) -> None:
        self._engine = server_engine(checked(base_of(url)))

    def __enter__(self) -> sa.Connection:
        try:
            self._transaction = self._engine.begin()
            return self._transaction.__enter__()
        except sa.exc.SQLAlchemyError as error:
            raise self._message(error) from error

    def __exit__(self, *error: object) -> None:
        try:
            self._transaction.__exit__(*error)  # type: ignore[arg-type]
        except sa.exc.SQLAlchemyError as problem:
            raise self._message(problem) from problem
        finally:
            self._engine.dispose()
        if isinstance(error[1], sa.exc.SQLAlchemyError):
            raise self._message(error[1]) from error[1]

    def _message(self, error: sa.exc.SQLAlchemyError) -> LedgerError:
        where = self._engine.url.render_as_string(hide_password=True)
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        return LedgerError(f"the database {where} cannot be used: {cause}")

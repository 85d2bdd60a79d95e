"""Putting result rows into the trials table, each configuration once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from results.schema import TRIAL_COLUMNS, Tables

_LOOKUP = 5_000


def insert_rows(connection: sa.Connection, tables: Tables, attempt: int, prepared: Sequence[tuple[Any, ...]]) -> list[int]:
    """Insert prepared rows that have no result yet.

    Args:
        connection: In a transaction.
        tables: The study's tables.
        attempt: Fencing number to write with them.
        prepared: From `rows.prepare`.

    Returns:
        Numbers of the trials that were refused, because their configuration or number is in the table already.
    """
    if not prepared:
        return []
    # The whole pack at once, straight to the driver; only if a row was skipped is the slow way taken to find out which.
    attempted = connection.begin_nested()
    if _insert(connection, tables, attempt, prepared) == len(prepared):
        attempted.commit()
        return []
    attempted.rollback()
    fresh, refused = _split(connection, tables, prepared)
    if fresh:
        _insert(connection, tables, attempt, fresh)
    return refused


def _insert(connection: sa.Connection, tables: Tables, attempt: int, rows: Sequence[tuple[Any, ...]]) -> int:
    names = [*(name for name in TRIAL_COLUMNS if name != "attempt"), *tables.metric_columns, "attempt"]
    quote = connection.dialect.identifier_preparer.quote
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    statement = (
        f"INSERT INTO trials ({', '.join(quote(name) for name in names)}) VALUES ({', '.join([mark] * len(names))}) ON CONFLICT DO NOTHING"
    )
    return connection.exec_driver_sql(statement, [(*row, attempt) for row in rows]).rowcount


def _split(connection: sa.Connection, tables: Tables, rows: Sequence[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], list[int]]:
    trials = tables.trials
    numbers: set[int] = set()
    ids: set[bytes] = set()
    for start in range(0, len(rows), _LOOKUP):
        part = rows[start : start + _LOOKUP]
        numbers.update(row[0] for row in connection.execute(sa.select(trials.c.trial).where(trials.c.trial.in_([r[0] for r in part]))))
        by_id = sa.select(trials.c.config_id).where(trials.c.config_id.in_([r[1] for r in part]))
        ids.update(bytes(row[0]) for row in connection.execute(by_id))
    fresh, refused = [], []
    for row in rows:
        if row[0] in numbers or row[1] in ids:
            refused.append(row[0])
        else:
            fresh.append(row)
            numbers.add(row[0])
            ids.add(row[1])
    return fresh, refused

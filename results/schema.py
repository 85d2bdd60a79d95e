"""The tables of a ledger, as SQLAlchemy Core."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from results.metrics import Metric
from results.records import SCHEMA_VERSION, Header, LedgerError, checked_json

# SQLite autoincrements only INTEGER keys, and calls its 8-byte float REAL, which elsewhere is 4 bytes.
_WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_REAL: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
_BYTES = sa.LargeBinary()

TRIAL_COLUMNS = ("trial", "config_id", "status", "attempt", "config", "seconds", "error", "source", "checksum")


@dataclass(frozen=True)
class Tables:
    """The tables of one study; `trials` has a column per declared metric."""

    metadata: sa.MetaData
    study: sa.Table
    plans: sa.Table
    sessions: sa.Table
    attempts: sa.Table
    trials: sa.Table
    events: sa.Table
    reports: sa.Table
    metric_names: tuple[str, ...]

    def metric(self, name: str) -> sa.Column[Any]:
        """Return the column of one metric."""
        return self.trials.c[metric_column(name)]

    @property
    def metric_columns(self) -> tuple[str, ...]:
        """Names of the metric columns, in declared order."""
        return tuple(metric_column(name) for name in self.metric_names)


def metric_column(name: str) -> str:
    """Return the column name of a metric."""
    return f"m_{name}"


def not_completed(trials: sa.Table) -> sa.ColumnElement[bool]:
    """Trials stopped early or failed; spelt out, because SQLite uses a partial index only where it sees the same words."""
    return trials.c.status != sa.literal_column("'completed'")


def study_table(metadata: sa.MetaData) -> sa.Table:
    """Return the one table whose shape never changes: it says how to read the others."""
    return sa.Table(
        "study",
        metadata,
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("schema_version", sa.Integer, nullable=False),
        sa.Column("created", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("context", sa.Text, nullable=False),
        sa.Column("context_id", sa.Text, nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("objective", sa.Text, nullable=False),
        sqlite_strict=True,
    )


def build_tables(header: Header) -> Tables:
    """Return the tables for a study with the header's metrics; creates nothing in a database."""
    metadata = sa.MetaData()
    study = study_table(metadata)
    plans = sa.Table(
        "plans",
        metadata,
        sa.Column("plan_id", _WHOLE, primary_key=True),
        sa.Column("offset", _WHOLE, nullable=False),
        sa.Column("count", _WHOLE),
        sa.Column("space", sa.Text, nullable=False),
        sa.Column("sampler", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False, unique=True),
        sa.Column("created", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    sessions = sa.Table(
        "sessions",
        metadata,
        sa.Column("session_id", _WHOLE, primary_key=True),
        sa.Column("started", sa.Text, nullable=False),
        sa.Column("ended", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("provenance", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    attempts = sa.Table(
        "attempts",
        metadata,
        sa.Column("attempt", _WHOLE, primary_key=True),
        sa.Column("session_id", sa.ForeignKey(sessions.c.session_id), nullable=False),
        sa.Column("plan_id", sa.ForeignKey(plans.c.plan_id), nullable=False),
        sa.Column("started", sa.Text, nullable=False),
        sa.Column("ended", sa.Text),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("delivered", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.CheckConstraint("status IN ('open', 'accepted', 'lost', 'rejected')"),
        # A fencing number must never be given out twice, even after rows were deleted.
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    sa.Index("attempts_open", attempts.c.status, sqlite_where=attempts.c.status == "open", postgresql_where=attempts.c.status == "open")
    trials = sa.Table(
        "trials",
        metadata,
        # Not the key SQLite would sort the rows by: packs come in any order, and each would rewrite pages all over the table.
        sa.Column("trial", _WHOLE, nullable=False, unique=True),
        sa.Column("config_id", _BYTES, nullable=False, unique=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempt", sa.ForeignKey(attempts.c.attempt), nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("seconds", _REAL),
        sa.Column("error", sa.Text),
        sa.Column("source", sa.Text),
        sa.Column("checksum", _BYTES, nullable=False),
        *[sa.Column(metric_column(name), _REAL) for name in header.metric_names],
        sa.CheckConstraint("status IN ('completed', 'stopped', 'failed')"),
        sqlite_strict=True,
    )
    sa.Index("trials_objective", trials.c[metric_column(header.objective)], trials.c.trial)
    # What an attempt brought, for those who follow a study: numbers come in any order.
    sa.Index("trials_attempt", trials.c.attempt, trials.c.trial)
    # Counting what is not completed must not scan a million rows that are.
    sa.Index("trials_other", trials.c.status, trials.c.trial, sqlite_where=not_completed(trials), postgresql_where=not_completed(trials))
    events = sa.Table(
        "events",
        metadata,
        sa.Column("seq", _WHOLE, primary_key=True),
        sa.Column("time", sa.Text, nullable=False),
        sa.Column("session", sa.ForeignKey(sessions.c.session_id)),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("trial", _WHOLE),
        sa.Column("detail", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    sa.Index("events_kind", events.c.kind)
    reports = sa.Table(
        "reports",
        metadata,
        sa.Column("seq", _WHOLE, primary_key=True),
        sa.Column("config_id", _BYTES, nullable=False),
        sa.Column("trial", _WHOLE, nullable=False),
        sa.Column("attempt", sa.ForeignKey(attempts.c.attempt), nullable=False),
        sa.Column("step", _WHOLE, nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("seconds", _REAL),
        sa.Column("note", sa.Text),
        sa.UniqueConstraint("config_id", "step"),
        sqlite_strict=True,
    )
    return Tables(metadata, study, plans, sessions, attempts, trials, events, reports, header.metric_names)


def header_row(header: Header, created: str) -> dict[str, Any]:
    """Return the header as the row of the study table."""
    return {
        "name": header.name,
        "schema_version": SCHEMA_VERSION,
        "created": created,
        "spec": checked_json(header.spec, "the study's spec"),
        "context": checked_json(header.context, "the study's context"),
        "context_id": header.context_id,
        "metrics": header.metrics_json(),
        "objective": header.objective,
    }


def read_header(connection: sa.Connection, where: str) -> Header:
    """Read the header back.

    Args:
        connection: On the ledger's database.
        where: Name of the file or URL, for messages.

    Raises:
        LedgerError: If there is none, it is from a newer version, or it contradicts itself.
    """
    rows = connection.execute(sa.select(study_table(sa.MetaData()))).mappings().all()
    if len(rows) != 1:
        raise LedgerError(f"{where} has no study header: it is not a ledger, or it was damaged. Move it away and create the study again.")
    row = rows[0]
    if row["schema_version"] > SCHEMA_VERSION:
        raise LedgerError(
            f"{where} was written by a newer version (schema {row['schema_version']}, this one reads {SCHEMA_VERSION}). Upgrade alphasweep."
        )
    header = Header(
        name=row["name"],
        spec=json.loads(row["spec"]),
        context=json.loads(row["context"]),
        metrics=tuple(Metric(**item) for item in json.loads(row["metrics"])),
        objective=row["objective"],
        created=row["created"],
        schema_version=row["schema_version"],
    )
    if header.context_id != row["context_id"]:
        raise LedgerError(f"{where}: the stored context does not match its identity; the header was changed. Restore the file from a copy.")
    return header

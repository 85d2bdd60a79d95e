"""What trials that take time said on the way: one row per report, in the order they were judged.

A scheduler's state is a fold over these rows, so a study that was killed is rebuilt from them (DESIGN 3.1).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import sqlalchemy as sa

from results.engine import guard
from results.records import LedgerError
from results.schema import Tables

if TYPE_CHECKING:
    from results.reader import LedgerReader


class ReportRow(NamedTuple):
    """One report.

    Attributes:
        trial: Number in the study.
        config_id: 16 bytes.
        step: On the trainable's own axis.
        metrics: Values in the header's order; NaN is n/a.
        seconds: Work since the report before.
        note: For people.
    """

    trial: int
    config_id: bytes
    step: int
    metrics: Sequence[float]
    seconds: float | None = None
    note: str = ""


def insert(connection: sa.Connection, tables: Tables, attempt: int, row: ReportRow) -> bool:
    """Insert a report; False if the configuration has one at this step already, which then stays."""
    reports = tables.reports
    found = connection.execute(sa.select(reports.c.seq).where(reports.c.config_id == row.config_id, reports.c.step == row.step)).first()
    if found is not None:
        return False
    if len(row.metrics) != len(tables.metric_names):
        raise LedgerError(f"trial {row.trial}, step {row.step}: {len(tables.metric_names)} metrics are declared, {len(row.metrics)} came")
    values = json.dumps([float(v) if np.isfinite(v) else None for v in row.metrics])
    connection.execute(
        sa.insert(reports).values(
            config_id=row.config_id,
            trial=row.trial,
            attempt=attempt,
            step=row.step,
            metrics=values,
            seconds=row.seconds,
            note=row.note or None,
        )
    )
    return True


def read(ledger: LedgerReader, config_id: bytes | None = None) -> Iterator[ReportRow]:
    """Yield reports in the order they were judged, of one configuration or of all; none in a study of an older schema."""
    if ledger.header.schema_version < 2:
        return
    reports = ledger.tables.reports
    query = sa.select(reports).order_by(reports.c.seq)
    if config_id is not None:
        query = query.where(reports.c.config_id == config_id)
    with guard(ledger.where), ledger.connect() as connection:
        for row in connection.execute(query.execution_options(yield_per=10_000)).mappings():
            metrics = [np.nan if value is None else float(value) for value in json.loads(row["metrics"])]
            yield ReportRow(row["trial"], bytes(row["config_id"]), row["step"], metrics, row["seconds"], row["note"] or "")

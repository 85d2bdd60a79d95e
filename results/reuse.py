"""Results of one study read into another: a point is evaluated once, in any study (DESIGN 3.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import sqlalchemy as sa

from results.engine import guard
from results.records import Header, LedgerError, ResultRow
from results.rows import checksums, metric_matrix
from results.schema import metric_column

if TYPE_CHECKING:
    from results.reader import LedgerReader

_LOOKUP = 5_000


def reusable_rows(sibling: LedgerReader, header: Header, numbered: Mapping[bytes, int]) -> list[ResultRow]:
    """Return the sibling's completed results for the wanted identities.

    Args:
        sibling: The other study's ledger.
        header: Of the study that wants them.
        numbered: Identities wanted, with their trial numbers in the wanting study.

    Returns:
        Rows ready for `Ledger.accept`, ordered by trial number. A row whose checksum is wrong is left out, so it runs again.

    Raises:
        LedgerError: If the two studies' contexts or metrics differ.
    """
    if sibling.header.context_id != header.context_id:
        differing = [key for key in header.context if header.context[key] != sibling.header.context.get(key)]
        raise LedgerError(f"results of {sibling.where} cannot be reused: its {', '.join(differing) or 'context'} differs from this study's")
    if set(sibling.header.metric_names) != set(header.metric_names):
        others = ", ".join(sibling.header.metric_names)
        raise LedgerError(f"results of {sibling.where} cannot be reused: it declares other metrics ({others})")
    trials, wanted, rows = sibling.tables.trials, list(numbered), []
    with guard(sibling.where), sibling.connect() as connection:
        for start in range(0, len(wanted), _LOOKUP):
            chosen = trials.c.config_id.in_(wanted[start : start + _LOOKUP])
            found = connection.execute(sa.select(trials).where(chosen, trials.c.status == "completed")).mappings().all()
            rows += _checked(list(found), sibling, header, numbered)
    return sorted(rows, key=lambda row: row.trial)


def _checked(found: list[sa.RowMapping], sibling: LedgerReader, header: Header, numbered: Mapping[bytes, int]) -> list[ResultRow]:
    names = sibling.tables.metric_names  # the order the checksum was made in
    ids = [bytes(row["config_id"]) for row in found]
    values = metric_matrix([[row[metric_column(name)] for row in found] for name in names])
    sums = checksums(ids, [row["status"] for row in found], values)
    return [
        ResultRow(
            trial=numbered[identity],
            config_id=identity,
            config=json.loads(row["config"]),
            metrics=[row[metric_column(name)] for name in header.metric_names],
            seconds=row["seconds"],
            source=row["source"] or sibling.header.name,
        )
        for row, identity, checksum in zip(found, ids, sums, strict=True)
        if checksum == bytes(row["checksum"])
    ]

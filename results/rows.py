"""Result rows on their way into the table: checked, in canonical form, with their checksum."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import isfinite
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from results.identity import Identified, IdentityError, identified
from results.records import Header, LedgerError, ResultRow
from results.secrets import redacted

CHECKSUM_BYTES = 8
STATUSES = ("completed", "stopped", "failed")
MAX_ERROR_CHARS = 20_000


def checksums(ids: Sequence[bytes], statuses: Sequence[str], values: NDArray[np.float64]) -> list[bytes]:
    """Return blake2b-8 over config_id, status and metrics of each trial.

    Timing, attempt and trial number stay out, so a deterministic study run again gives the same checksums.

    Args:
        ids: 16-byte identities.
        statuses: "completed", "stopped" or "failed".
        values: float64, shape (trials, metrics); NaN is "n/a". Every NaN counts as the same value, and −0.0 as 0.0,
            because a database keeps neither apart.

    Returns:
        8 bytes per trial.
    """
    plain = np.where(np.isnan(values), np.nan, values + 0.0).astype("<f8", copy=False)
    raw = plain.tobytes()
    width = plain.shape[1] * 8
    sums = []
    for i, (identity, status) in enumerate(zip(ids, statuses, strict=True)):
        digest = blake2b(identity, digest_size=CHECKSUM_BYTES, person=b"alphasweep-row")
        digest.update(status.encode())
        digest.update(raw[i * width : (i + 1) * width])
        sums.append(digest.digest())
    return sums


def metric_matrix(columns: Sequence[Sequence[Any]]) -> NDArray[np.float64]:
    """Return metric columns as float64, shape (trials, metrics); None and non-finite values become NaN."""
    return _finite(np.array(columns, dtype=np.float64).T)


def prepare(rows: Sequence[ResultRow], header: Header) -> list[tuple[Any, ...]]:
    """Check rows and return them as plain tuples for the trials table.

    Args:
        rows: As handed to `Ledger.accept`.
        header: Of the study: context, declared metrics.

    Returns:
        Per row: the values of `schema.TRIAL_COLUMNS` except the attempt, then the metrics (None for n/a).

    Raises:
        LedgerError: For the first row that is wrong; nothing has been written then.
    """
    texts = _texts(rows, header)
    names = header.metric_names
    for row in rows:
        _check(row, names)
    try:
        blank = (None,) * len(names)
        raw = [blank if row.metrics is None else row.metrics for row in rows]
        values = _finite(np.array(raw, dtype=np.float64).reshape(len(rows), len(names)))
    except (TypeError, ValueError) as error:
        raise LedgerError(f"a metric of trials {rows[0].trial}…{rows[-1].trial} is not a number: {error}") from error
    sums = checksums([row.config_id for row in rows], [row.status for row in rows], values)
    cells = values.tolist()
    for i, j in np.argwhere(np.isnan(values)).tolist():
        cells[i][j] = None
    return [
        (int(row.trial), row.config_id, row.status, text, _seconds(row.seconds), _clip(row.error), row.source, checksum, *metrics)
        for row, text, checksum, metrics in zip(rows, texts, sums, cells, strict=True)
    ]


def _texts(rows: Sequence[ResultRow], header: Header) -> list[str]:
    """Returns the configurations' canonical texts, and makes sure that identities are theirs in this study."""
    context = header.context_id
    known = [row.known if row.known is not None and row.known.context == context else None for row in rows]
    unknown = [i for i, each in enumerate(known) if each is None]
    try:
        for i, made in zip(unknown, identified(context, (rows[i].config for i in unknown), header.defaults), strict=True):
            known[i] = made
    except IdentityError as error:
        raise LedgerError(f"a result's configuration cannot be stored: {error}") from error
    texts = []
    for row, made in zip(rows, cast("list[Identified]", known), strict=True):
        if row.config_id != made.config_id:
            raise LedgerError(
                f"trial {row.trial}: its config_id {row.config_id.hex()} is not that of its configuration in this study "
                f"({made.config_id.hex()}). Compute it with results.config_ids(header.context_id, configs, header.defaults)."
            )
        texts.append(made.text)
    return texts


def _check(row: ResultRow, names: Sequence[str]) -> None:
    if row.trial < 0:
        raise LedgerError(f"trial number {row.trial} is negative; it is the plan's offset plus the index")
    if row.status not in STATUSES:
        raise LedgerError(f"trial {row.trial}: status is {row.status!r}; it must be one of {', '.join(STATUSES)}")
    if row.status == "failed":
        if row.metrics is not None:
            raise LedgerError(f"trial {row.trial} failed but brings metrics; a failed trial has none (metrics=None)")
    elif row.metrics is None or len(row.metrics) != len(names):
        got = "none" if row.metrics is None else str(len(row.metrics))
        raise LedgerError(f"trial {row.trial}: {len(names)} metrics are declared ({', '.join(names)}), got {got}")


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(values), values, np.nan)


def _seconds(seconds: float | None) -> float | None:
    return None if seconds is None or not isfinite(seconds) else float(seconds)


def _clip(error: str | None) -> str | None:
    if error is None:
        return None
    text = redacted(error)  # before it is cut: half a secret is not recognised
    return text if len(text) <= MAX_ERROR_CHARS else text[:MAX_ERROR_CHARS] + " …"

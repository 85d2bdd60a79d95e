"""Does a ledger hold exactly the results it should, each as it was accepted?"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from results.engine import quick_check
from results.identity import CONFIG_ID_BYTES, config_ids, id_array
from results.records import Verification
from results.rows import CHECKSUM_BYTES, STATUSES, checksums, metric_matrix

if TYPE_CHECKING:
    from results.export import Batch
    from results.reader import LedgerReader

_SHOWN: Final = 20
_HAS_RESULT: Final = "already has a result"  # the reason `Ledger.accept` records
_RECORD: Final = CONFIG_ID_BYTES + CHECKSUM_BYTES


def verify(ledger: LedgerReader, expected: Iterable[list[bytes]]) -> Verification:
    """Check every trial against its checksum, its configuration and the points expected.

    The checksum and the config_id are computed again from the stored values, so changing a metric, a status or a
    configuration in the file shows. Memory: about 100 bytes per trial, whatever the metrics.

    Args:
        ledger: To check.
        expected: Identities of all points, in chunks; repeats count once.

    Raises:
        LedgerError: If the file itself is damaged.
    """
    quick_check(ledger.engine, ledger.where)
    accepted = _accepted(ledger)  # before the trials: a run at work may add some meanwhile
    points = _distinct([part for part in (id_array(chunk) for chunk in expected) if part.size])
    records: list[bytes] = []
    ended: dict[str, list[bytes]] = {"stopped": [], "failed": []}
    problems: list[str] = []
    corrupt = 0
    for batch in ledger.stream(["trial", "config_id", "status", "config", "checksum", *ledger.tables.metric_columns]):
        ids = [identity.ljust(CONFIG_ID_BYTES, b"\0")[:CONFIG_ID_BYTES] for identity in batch["config_id"]]
        faults, sums = _examine(ledger, batch)
        records += [identity + checksum for identity, checksum in zip(ids, sums, strict=True)]
        for identity, status in zip(ids, batch["status"], strict=True):
            if status != "completed":
                ended.setdefault(status, []).append(identity)
        found = [f"trial {trial}: {fault}" for trial, fault in zip(batch["trial"], faults, strict=True) if fault]
        corrupt += len(found)
        problems += found[:_SHOWN]
    vanished = max(0, accepted - _refused(ledger) - len(records))
    records.sort()
    held_all = id_array([record[:CONFIG_ID_BYTES] for record in records])
    held = _distinct([held_all])
    missing = np.setdiff1d(points, held, assume_unique=True)
    unexpected = np.setdiff1d(held, points, assume_unique=True)
    stopped, failed = (int(np.intersect1d(_distinct([id_array(ended[s])]), points, assume_unique=True).size) for s in ("stopped", "failed"))
    if vanished:
        problems.append(f"{vanished:,} results were accepted and are gone")
    problems += [f"no result for configuration {_hex(value)}" for value in missing[:_SHOWN]]
    problems += [f"result for a configuration outside the plans: {_hex(value)}" for value in unexpected[:_SHOWN]]
    return Verification(
        points=int(points.size),
        completed=int(points.size - missing.size) - stopped - failed,
        failed=failed,
        stopped=stopped,
        missing=int(missing.size),
        duplicated=int(held_all.size - held.size),
        corrupt=corrupt,
        unexpected=int(unexpected.size),
        certificate=blake2b(b"".join(records), digest_size=16, person=b"alphasweep-cert").hexdigest(),
        problems=tuple(problems[:_SHOWN]),
        vanished=vanished,
    )


def _accepted(ledger: LedgerReader) -> int:
    """Return how many results have been delivered to attempts that were open."""
    attempts = ledger.tables.attempts
    return int(ledger.rows(sa.select(sa.func.sum(attempts.c.delivered).label("n")).select_from(attempts))[0]["n"] or 0)


def _refused(ledger: LedgerReader) -> int:
    """Return how many of these the ledger did not keep: refused beside an earlier result, or failures that were tried again."""
    refused = (event["detail"] for event in ledger.events("rejected", limit=None))
    return sum(detail["rows"] for detail in refused if detail["reason"] == _HAS_RESULT) + len(ledger.events("reopened", limit=None))


def _examine(ledger: LedgerReader, batch: Batch) -> tuple[list[str], list[bytes]]:
    """Return each trial's fault ("" if none) and its checksum computed again."""
    values = metric_matrix([batch[column] for column in ledger.tables.metric_columns])
    sums = checksums(batch["config_id"], batch["status"], values)
    derived = config_ids(ledger.header.context_id, map(_parsed, batch["config"]), ledger.header.defaults)
    faults = [""] * len(sums)
    rows = zip(batch["config_id"], derived, sums, batch["checksum"], batch["status"], strict=True)
    for i, (identity, own, checksum, stored, status) in enumerate(rows):
        if identity != own:
            faults[i] = "its configuration is not the one its identity was made from"
        elif checksum != stored:
            faults[i] = "a metric, its status or its checksum was changed after it was accepted"
        elif status not in STATUSES:
            faults[i] = f"unknown status {status!r}"
    return faults, sums


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {"": text}  # no configuration has this key, so its identity cannot match
    return value if isinstance(value, dict) else {"": text}


def _distinct(parts: list[NDArray[np.bytes_]]) -> NDArray[np.bytes_]:
    return np.unique(np.concatenate(parts)) if parts else id_array([])


def _hex(value: bytes) -> str:
    return bytes(value).ljust(CONFIG_ID_BYTES, b"\0").hex()  # numpy drops trailing zero bytes

"""Daily returns of trials, beside the ledger: one Parquet file per pack, named in the ledger with its checksum.

Significance needs returns, not metrics, and a million trials would need gigabytes. So of a study with more than `KEPT` trials a
subset is kept, chosen by configuration id, that is without looking at outcomes; the best trials are added at the end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

if TYPE_CHECKING:
    from results.ledger import Ledger
    from results.reader import LedgerReader

KEPT: Final = 10_000
FOLDER: Final = "returns"
EVENT: Final = "returns"


def is_kept(config_id: bytes, count: int | None) -> bool:
    """Return whether a configuration's returns are kept in a study of `count` trials (None: open-ended, every one)."""
    return count is None or count <= KEPT or int.from_bytes(config_id[:8], "big") < (KEPT << 64) // count


def write(ledger: Ledger, home: Path, attempt: int, config_ids: Sequence[bytes], returns: NDArray[np.float32]) -> None:
    """Write returns of an attempt's trials; call it before `Ledger.accept`, so that no accepted trial lacks what it should have.

    Args:
        ledger: Takes the file's name and checksum.
        home: The study's folder.
        attempt: Fencing number; the file counts only if the attempt is accepted.
        config_ids: Whose, 16 bytes each.
        returns: float32 (n, days).
    """
    if not len(config_ids):
        return
    folder = home / FOLDER
    folder.mkdir(exist_ok=True)
    values = pa.FixedSizeListArray.from_arrays(pa.array(returns.astype(np.float32).ravel()), returns.shape[1])
    table = pa.table({"config_id": pa.array(list(config_ids), pa.binary(16)), "returns": values})
    path = folder / f"{attempt}.parquet"
    partial = path.with_suffix(".partial")
    pq.write_table(table, partial, compression="zstd")
    os.replace(partial, path)
    ledger.record(
        EVENT, attempt=attempt, file=path.name, checksum=blake2b(path.read_bytes(), digest_size=16).hexdigest(), rows=len(config_ids)
    )


def write_days(home: Path, days: NDArray[np.datetime64], folds: NDArray[np.int64], benchmarks: Mapping[str, NDArray[np.float64]]) -> None:
    """Write what the columns of the returns are: the day, its fold, and what the benchmarks earned on it."""
    (home / FOLDER).mkdir(exist_ok=True)
    columns = {"day": pa.array(days.astype("datetime64[D]")), "fold": pa.array(folds)}
    table = pa.table(columns | {f"benchmark {name}": pa.array(values) for name, values in benchmarks.items()})
    partial = home / FOLDER / "days.partial"
    pq.write_table(table, partial)
    os.replace(partial, home / FOLDER / "days.parquet")


def read_days(home: Path) -> tuple[NDArray[np.datetime64], NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Return (days, folds, benchmarks) as written, all empty if there are none."""
    path = home / FOLDER / "days.parquet"
    if not path.is_file():
        return np.empty(0, "datetime64[D]"), np.empty(0, np.int64), {}
    table = pq.read_table(path)
    benchmarks = {n.removeprefix("benchmark "): table[n].to_numpy() for n in table.column_names if n.startswith("benchmark ")}
    return table["day"].to_numpy().astype("datetime64[D]"), table["fold"].to_numpy(), benchmarks


def read(ledger: LedgerReader, home: Path) -> tuple[list[bytes], NDArray[np.float32]]:
    """Return what is kept: configuration ids and float32 (n, days), the latest if a configuration was written twice.

    A file that is missing or does not match its checksum is left out: it costs evidence, not results.
    """
    accepted = ledger.accepted_attempts()
    found: dict[bytes, NDArray[np.float32]] = {}
    for event in ledger.events(EVENT, limit=None):
        detail = event["detail"]
        path = home / FOLDER / detail["file"]
        if detail["attempt"] not in accepted or not path.is_file():
            continue
        raw = path.read_bytes()
        if blake2b(raw, digest_size=16).hexdigest() != detail["checksum"]:
            continue
        table = pq.read_table(pa.BufferReader(raw))
        matrix = table["returns"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
        found |= dict(zip(table["config_id"].to_pylist(), matrix, strict=True))
    if not found:
        return [], np.empty((0, 0), np.float32)
    return list(found), np.stack(list(found.values()))

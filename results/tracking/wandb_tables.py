"""What goes into W&B tables: rows of plain values, their digest, and which increments of a table are whole."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pandas as pd

BOARD: Final = "leaderboard"
BOARD_DIGEST: Final = "leaderboard_digest"  # in the summary
TRIALS: Final = "trials"
COUNTS: Final = "trials_increments"  # in the summary: rows of each increment, in order
X_AXIS: Final = "trials_done"

EMPTY: Final[Mapping[str, Any]] = MappingProxyType(
    {"next": 0, "done": [], "paths": [], "counts": [], "kept": [], "board": "", "trials": {}}
)

Row = list[Any]


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers, texts, truth, None; n/a and infinities are None, what is none of these its text."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple, Mapping)):
        return json.dumps(value, default=str)
    if isinstance(value, (str, bool, int)):
        return value
    return None if value != value or str(value) == "<NA>" else str(value)


def table_of(frame: pd.DataFrame) -> tuple[list[str], list[Row]]:
    """Return a frame's column names and rows of plain values."""
    columns = [[plain(value) for value in frame[name].tolist()] for name in frame.columns]
    return [str(name) for name in frame.columns], [list(row) for row in zip(*columns, strict=True)]


def column_type(values: Iterable[Any]) -> type | None:
    """Return what a column of plain values holds: bool, float, str; None if it is mixed or has nothing in it."""
    kinds = {bool if isinstance(v, bool) else float if isinstance(v, (int, float)) else str for v in values if v is not None}
    return kinds.pop() if len(kinds) == 1 else None


def digest(rows: Iterable[Sequence[Any]]) -> str:
    """Return a hash of rows that is the same before and after they were JSON."""
    found = hashlib.sha256()
    for row in rows:
        found.update(json.dumps([_number(value) for value in row], separators=(",", ":")).encode())
    return found.hexdigest()[:32]


def _number(value: Any) -> Any:
    # A server may give 1 for 1.0.
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else value


def entry_of(path: str) -> str:
    """Return the name of an artifact's entry from `wandb-client-artifact://ID/NAME`."""
    return path.rpartition("/")[2]


def paths_of(summary: Mapping[str, Any]) -> list[str]:
    """Return the addresses of a table's increments, in order, from the summary of its run."""
    table = summary.get(TRIALS)
    if not isinstance(table, Mapping) or table.get("_type") != "incremental-table-file":
        return []
    return [*table.get("previous_increments_paths", ()), *([table["artifact_path"]] if table.get("artifact_path") else ())]


def board_of(summary: Mapping[str, Any], files: Iterable[str]) -> str:
    """Return the digest of the leaderboard, "" if there is none among the files."""
    return str(summary.get(BOARD_DIGEST, "")) if (summary.get(BOARD) or {}).get("path") in set(files) else ""


def whole(summary: Mapping[str, Any], entries: Iterable[str]) -> tuple[list[str], list[int]]:
    """Return addresses and sizes of the first increments of the table of all trials that are there.

    Args:
        summary: Of the run.
        entries: Names of those that were taken in.
    """
    counts, there = summary.get(COUNTS), set(entries)
    if not isinstance(counts, list):
        return [], []
    paths = paths_of(summary)[: len(counts)]
    upto = next((n for n, path in enumerate(paths) if entry_of(path) not in there), len(paths))
    return paths[:upto], [int(count) for count in counts[:upto]]


def nothing(run: str, trials: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is held of a study whose run is not there."""
    empty: dict[str, Any] = {"history": [], "summary": {}, "config": {}, "increments": [], "files": [], "kept": []}
    return {"run": run, "found": False, "state": "", "trials": dict(trials), **empty}

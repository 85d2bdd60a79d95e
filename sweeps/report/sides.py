"""One of several studies that are put side by side: its header, whether to believe its winner, its best trials, its configurations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from results import series
from results.identity import canonical_json
from results.metrics import Metric
from results.reader import LedgerReader
from results.records import Header
from sweeps.evidence import Judgement, judge
from sweeps.report.board import Board, board_of
from sweeps.report.gather import label_of
from sweeps.report.part import Missing, tried

ROWS: Final = 20_000  # of each study in the union leaderboard


@dataclass(frozen=True, eq=False)
class Side:
    """One of the studies.

    Attributes:
        name: Of the study.
        header: Of its ledger.
        counts: As `LedgerReader.counts`.
        label: "legacy", "imported" or "".
        judged: Whether to believe its winner.
        board: Its best trials.
        days: Of kept returns, with the fold of each; empty where none are kept.
        folds: int64 (days,).
    """

    name: str
    header: Header
    counts: Mapping[str, int]
    label: str
    judged: Judgement | Missing
    board: Board | Missing
    days: NDArray[np.datetime64]
    folds: NDArray[np.int64]

    @property
    def objective(self) -> Metric:
        """The metric that ranks."""
        return self.header.metric(self.header.objective)

    @property
    def winner(self) -> NDArray[np.float64] | None:
        """Daily returns of the winner; None where they are not kept."""
        if isinstance(self.judged, Missing) or self.judged.returns is None or self.judged.assessment is None:
            return None
        return self.judged.returns.daily[:, self.judged.assessment.winner].astype(np.float64)


def side_of(ledger: LedgerReader, home: Path) -> Side:
    """Gathers one of the studies."""
    judged = tried(lambda: judge(home))
    board: Board | Missing = Missing("no trial was completed")
    counts = ledger.counts()
    if counts["completed"]:
        board = tried(lambda: board_of(ledger, None if isinstance(judged, Missing) else judged, counts["completed"], ROWS))
    kept = tried(lambda: series.read_days(home))
    days, folds = (np.empty(0, "datetime64[D]"), np.empty(0, np.int64)) if isinstance(kept, Missing) else kept[:2]
    return Side(home.name, ledger.header, counts, label_of(ledger.header), judged, board, days, folds)


def configurations(ledger: LedgerReader, metric: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns a hash of every completed configuration, defaults filled in, and its value of a metric, NaN where it has none."""
    has, defaults = metric in ledger.header.metric_names, dict(ledger.header.defaults)
    hashes, values = list[NDArray[np.int64]](), list[NDArray[np.float64]]()
    for batch in ledger.stream(["status", "config", *([f"m_{metric}"] if has else [])]):
        done = np.array(batch["status"]) == "completed"
        texts = (canonical_json({**defaults, **json.loads(text)}) for text, ok in zip(batch["config"], done, strict=True) if ok)
        found = [int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True) for text in texts]
        hashes.append(np.array(found, np.int64))
        values.append(np.array(batch[f"m_{metric}"], np.float64)[done] if has else np.full(len(found), np.nan))
    return (np.concatenate(hashes), np.concatenate(values)) if hashes else (np.empty(0, np.int64), np.empty(0))

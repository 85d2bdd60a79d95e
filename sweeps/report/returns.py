"""What the best trials earned day by day, beside the benchmarks: equity, drawdown, and each fold by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from results import series
from results.leaderboard import imported
from results.metrics import DAYS_PER_YEAR, max_drawdown, sharpe
from results.reader import LedgerReader
from results.validity.verdict import FLAT
from sweeps.evidence import Judgement
from sweeps.report.part import Missing

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Line:
    """An account that began with 1.

    Attributes:
        name: For people: "trial 26", or a benchmark's.
        rank: On the leaderboard; None of a benchmark.
        equity: At the end of each day, float64 (days,).
        drawdown: Equity / its highest so far − 1, float64 (days,).
        sharpe: Annualised, of daily returns, a fold each; float64 (F,).
        gain: Of each fold, fraction; float64 (F,).
    """

    name: str
    rank: int | None
    equity: Floats
    drawdown: Floats
    sharpe: Floats
    gain: Floats

    @property
    def total(self) -> float:
        """Gain of all days, fraction."""
        return float(self.equity[-1]) - 1.0

    @property
    def deepest(self) -> float:
        """Deepest drawdown at the end of a day, ≤ 0."""
        return max_drawdown(np.concatenate(([1.0], self.equity)))


@dataclass(frozen=True, eq=False)
class Curves:
    """Daily accounts of the best trials and the benchmarks.

    Attributes:
        days: datetime64[D] (days,), the tune windows one after the other.
        folds: First and last day of each.
        lines: Of trials, best first, then of benchmarks.
        asked: Rows of the leaderboard that were to be drawn.
        lost: Files of returns that are missing or damaged.
    """

    days: NDArray[np.datetime64]
    folds: tuple[tuple[np.datetime64, np.datetime64], ...]
    lines: tuple[Line, ...]
    asked: int
    lost: int = 0

    @property
    def trials(self) -> tuple[Line, ...]:
        """Lines of trials."""
        return tuple(line for line in self.lines if line.rank is not None)

    @property
    def benchmarks(self) -> tuple[Line, ...]:
        """Lines of benchmarks."""
        return tuple(line for line in self.lines if line.rank is None)


def curves_of(ledger: LedgerReader, home: Path, judged: Judgement, top: int) -> Curves | Missing:
    """Gathers the accounts of the leaderboard's first rows, of those whose daily returns are kept."""
    if not len(judged.board):
        return Missing("no trial was completed")
    lost = lost_files(ledger, home)
    if judged.returns is None:
        if judged.elsewhere:
            return Missing(judged.elsewhere)
        if lost:
            return Missing(f"daily returns were kept, but {lost:,} of their files are missing or damaged")
        if series.read_days(home)[0].size:
            return Missing("daily returns are kept of none of these trials")
        if imported(ledger.header):
            return Missing("the records have no daily returns")
        return Missing(f"{ledger.header.context['trainable']} measures no daily returns")
    kept, days = judged.returns, series.read_days(home)[0]
    numbers = judged.board["trial"].tolist()[:top]
    order = np.unique(kept.folds)
    lines = []
    for rank, (number, column) in enumerate(zip(numbers, kept.columns(numbers), strict=True), 1):
        if column is not None:
            lines.append(account(f"trial {number}", rank, kept.daily[:, column].astype(np.float64), kept.folds))
    if not lines:
        return Missing("daily returns are kept of none of the best trials")
    lines += [account(name, None, np.asarray(r, np.float64), kept.folds) for name, r in kept.benchmarks.items() if name != FLAT]
    spans = tuple((days[kept.folds == fold][0], days[kept.folds == fold][-1]) for fold in order)
    return Curves(days, spans, tuple(lines), len(numbers), lost)


def account(name: str, rank: int | None, returns: Floats, folds: NDArray[np.int64]) -> Line:
    """Returns the account of daily returns.

    Args:
        name: For people.
        rank: On the leaderboard; None of a benchmark.
        returns: float64 (days,).
        folds: int64 (days,), the fold of each day.
    """
    equity = np.cumprod(1.0 + returns)
    peak = np.maximum.accumulate(np.concatenate(([1.0], equity)))[1:]
    parts = [returns[folds == fold] for fold in np.unique(folds)]
    ratios = np.array([sharpe(part, DAYS_PER_YEAR, len(part)) for part in parts])
    with np.errstate(divide="ignore", invalid="ignore"):
        drawdown: Floats = np.where(peak > 0.0, equity / peak - 1.0, np.nan).astype(np.float64)
    return Line(
        name, rank, np.asarray(equity, np.float64), drawdown, ratios, np.array([np.prod(1.0 + part) - 1.0 for part in parts], np.float64)
    )


def lost_files(ledger: LedgerReader, home: Path) -> int:
    """Returns how many files of returns the ledger names that are not there, or are not what was written."""
    from hashlib import blake2b

    accepted, lost = ledger.accepted_attempts(), 0
    for event in ledger.events(series.EVENT, limit=None):
        detail = event["detail"]
        if detail["attempt"] in accepted:
            path = home / series.FOLDER / detail["file"]
            lost += not path.is_file() or blake2b(path.read_bytes(), digest_size=16).hexdigest() != detail["checksum"]
    return lost

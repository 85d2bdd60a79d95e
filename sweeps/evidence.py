"""Whether to believe a study's winner: the ledger, the kept returns and every other look at the same data, judged together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from results import Ledger, LedgerError, series
from results.constraints import Constraint
from results.leaderboard import leaderboard, profile
from results.metrics import DAYS_PER_YEAR
from results.reader import LedgerReader
from results.validity import (
    Assessment,
    Evidence,
    GridPosition,
    RankStability,
    Verdict,
    assess,
    confidence_intervals,
    duplicate_groups,
    folds_won,
    grid_position,
    rank_stability,
    verdict,
)
from search_spaces import Space
from sweeps.runner import LEDGER

OPENED = "holdout_opened"
MOST_GRID = 20_000  # trials among which the winner's neighbours are looked for
LEVEL = 0.95


@dataclass(frozen=True)
class Looks:
    """How often the same data were looked at in a folder of studies.

    Attributes:
        trials: Configurations evaluated on them, failed ones and those of studies set aside included; reused results count once.
        studies: Studies they belong to.
        openings: Openings of their holdout.
    """

    trials: int
    studies: int
    openings: int


@dataclass(frozen=True)
class Judgement:
    """What a study shows; None where too little was kept to say.

    Attributes:
        board: The leaderboard; identical behaviour is one row, with how many share it.
        looks: At the same data.
        assessment: Of the winner.
        stability: Of ranks between folds.
        position: Of the winner on its grid.
        kept: Trials whose returns were judged.
        holdout: Total return on the holdout of the trials it was opened for, (trial, fraction).
    """

    board: pd.DataFrame
    looks: Looks
    assessment: Assessment | None = None
    stability: RankStability | None = None
    position: GridPosition | None = None
    kept: int = 0
    holdout: tuple[tuple[int, float], ...] = ()

    @property
    def has_winner(self) -> bool:
        """Whether a trial meets the constraints, if there are any."""
        return not self.board.attrs["constraints"] or self.board.attrs["meeting"] > 0


def judge(home: Path, sort: str | None = None, top: int = 20, constraints: Sequence[Constraint] | None = None) -> Judgement:
    """Judges a study: its best trial of those that meet the constraints.

    Args:
        home: Its folder; its neighbours are asked for their looks at the same data.
        sort: Metric that ranks; default the objective.
        top: Rows of the leaderboard.
        constraints: Bounds on metrics; default the study's own. Where no trial meets them there is no winner to judge.

    Raises:
        LedgerError: No ledger, or no such metric.
    """
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        results = ledger.events("holdout_result")
        opened = tuple((e["trial"], e["detail"]["metrics"]["total_return"]) for e in results if "total_return" in e["detail"]["metrics"])
        looks = count_looks(home.parent, str(ledger.header.context["data_fingerprint"]))
        board = leaderboard(ledger, sort, 4 * top, constraints=constraints)
        if board.attrs["constraints"] and not board.attrs["meeting"]:
            return Judgement(board.head(top), looks, holdout=opened)
        ids, matrix = series.read(ledger, home)
        _, folds, benchmarks = series.read_days(home)
        numbers = {key: i for i, key in enumerate(ids)}
        column = [numbers.get(bytes.fromhex(ledger.trial(int(t))["config_id"])) for t in board["trial"]]
        position = _position(ledger, board)
        if not len(board) or matrix.shape[1] != len(folds) or column[0] is None:
            return Judgement(board.head(top), looks, position=position, holdout=opened)
        daily = matrix.T
        trades = board["trades"] if "trades" in board else pd.Series(np.nan, index=board.index)
        found = assess(
            daily,
            periods_per_year=DAYS_PER_YEAR,
            winner=column[0],
            trades=float(trades.iloc[0]),
            looks=max(looks.trials, len(ids)),
            benchmarks={name: values for name, values in benchmarks.items() if name != "flat"},
        )
        scores = np.stack([_sharpe(daily[folds == fold]) for fold in np.unique(folds)])
        stability = rank_stability(scores) if len(scores) > 1 and len(ids) > 1 else None
        board = _with_evidence(board, column, found, daily, trades, len(scores))
    return Judgement(board.head(top), looks, found, stability, position, len(ids), opened)


def count_looks(folder: Path, fingerprint: str) -> Looks:
    """Counts every look at some data in a folder of studies, those set aside included."""
    trials = studies = openings = 0
    for path in (*folder.glob(f"*/{LEDGER}"), *folder.glob(f".aside/*/{LEDGER}")):
        try:
            with Ledger.open(path, readonly=True) as ledger:
                if ledger.header.context["data_fingerprint"] != fingerprint:
                    continue
                table = ledger.tables.trials
                evaluated = ledger.rows(sa.select(sa.func.count().label("n")).select_from(table).where(table.c.source.is_(None)))
                trials += evaluated[0]["n"] + len(ledger.events("reopened", limit=1_000_000))
                openings += len(ledger.events(OPENED, limit=1_000_000))
                studies += 1
        except LedgerError:
            continue  # a damaged neighbour cannot be counted, and must not hide the rest
    return Looks(trials, studies, openings)


def _with_evidence(
    board: pd.DataFrame, column: list[int | None], found: Assessment, daily: np.ndarray, trades: pd.Series[Any], folds: int
) -> pd.DataFrame:
    """Folds rows of identical behaviour into one and adds what is known about each."""
    group = duplicate_groups(daily)
    size = np.bincount(group)
    attrs, seen, keep = board.attrs, set(), []
    for i, j in enumerate(column):
        if j is None or group[j] not in seen:
            keep.append(i)
        if j is not None:
            seen.add(group[j])
    board, known = board.iloc[keep].reset_index(drop=True), [column[i] for i in keep]
    present = [j for j in known if j is not None]
    # One interval per row shown, from one bootstrap.
    intervals = confidence_intervals(daily[:, present], periods_per_year=DAYS_PER_YEAR, level=LEVEL)["sharpe"]
    limits = {j: (float(low), float(high)) for j, low, high in zip(present, intervals.low, intervals.high, strict=True)}
    rows = []
    for i, j in enumerate(known):
        if j is None or found.deflation is None:
            rows.append({"verdict": "n/a", "psr": np.nan, "dsr": np.nan, "sharpe_low": np.nan, "sharpe_high": np.nan, "alike": 0})
            continue
        judged = _row_verdict(found, j, float(trades.iloc[keep[i]]), limits[j][0], daily)
        low, high = limits[j]
        rows.append(
            {
                "verdict": judged.code,
                "psr": float(found.deflation.psr[j]),
                "dsr": float(found.deflation.dsr[j]),
                "sharpe_low": low,
                "sharpe_high": high,
                "alike": int(size[group[j]]),
            }
        )
    extra = pd.DataFrame(rows)
    for at, name in enumerate(("verdict", "dsr"), start=3):
        board.insert(at, name, extra.pop(name))
    board = pd.concat([board, extra], axis=1)
    board["rank"] = range(1, len(board) + 1)
    board.attrs = attrs | {"units": attrs["units"] | {"dsr": "ratio", "psr": "ratio", "sharpe_low": "ratio", "sharpe_high": "ratio"}}
    return board


def _row_verdict(found: Assessment, j: int, trades: float, low: float, daily: np.ndarray) -> Verdict:
    evidence = found.evidence
    assert found.deflation is not None
    return verdict(
        Evidence(
            trades=trades,
            periods=evidence.periods,
            days=evidence.days,
            total_return=float(np.prod(1.0 + daily[:, j].astype(float)) - 1.0),
            dsr=float(found.deflation.dsr[j]),
            sharpe_low=low,
            spa_p={name: float(result.trial_p_values[j]) for name, result in found.superiority.items()},
            pbo=evidence.pbo,
            looks=evidence.looks,
            openings=evidence.openings,
        )
    )


def _position(ledger: LedgerReader, board: pd.DataFrame) -> GridPosition | None:
    """Where the winner sits on the grid of the latest search; None if it is no grid, or too large to look."""
    plans = ledger.plans()
    if not plans or not len(board) or ledger.counts()["completed"] > MOST_GRID:
        return None
    space = Space.parse(dict(plans[-1].space))
    axes: Mapping[str, Any] = {p.name: list(p.values) for p in space.parameters if p.values is not None and len(p.values) > 1}
    frame = ledger.frame()
    frame = frame[frame["status"] == "completed"]
    metric = board.attrs["metric"]
    if not space.is_grid or not axes or not set(axes) <= set(frame.columns):
        return None
    on_grid = np.logical_and.reduce([frame[name].isin(values) for name, values in axes.items()])
    frame = frame[on_grid].reset_index(drop=True)
    winner = frame.index[frame["trial"] == board["trial"].iloc[0]]
    if not len(winner):
        return None
    return grid_position(
        {name: frame[name].tolist() for name in axes}, frame[metric], axes, direction=board.attrs["direction"], winner=int(winner[0])
    )


def _sharpe(returns: np.ndarray) -> np.ndarray:
    """Per-period Sharpe ratios of columns; 0 where nothing moves."""
    sd = returns.std(axis=0)
    return np.where(sd > 0.0, returns.mean(axis=0) / np.where(sd > 0.0, sd, 1.0), 0.0)


__all__ = ["OPENED", "Judgement", "Looks", "count_looks", "folds_won", "judge", "profile"]

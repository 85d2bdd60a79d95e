"""What each stage of a campaign has found, and by how much it differs from the baseline: paired days, block bootstrap."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from results import Ledger, series
from results.leaderboard import leaderboard
from results.metrics import Metric
from results.validity.paired import LEAST_DAYS, daily_gap
from sweeps.campaign.spec import Campaign
from sweeps.home import LEDGER
from sweeps.kept import elsewhere


@dataclass(frozen=True)
class Found:
    """What a stage has found.

    Attributes:
        stage: Its name.
        study: Its study; empty where it has not run.
        trials: With a result.
        metric: What ranks; None where nothing has run.
        best: The winner's value.
        winner: Its number; -1 for none.
        gain: Mean daily return of the winner minus that of the baseline's, over the days both were judged on; NaN where there are none.
        low: Lower end of its 95 % interval.
        high: Upper end.
        days: How many days that is of.
        why: Why there is no comparison, in words; empty where there is one.
    """

    stage: str
    study: str = ""
    trials: int = 0
    metric: Metric | None = None
    best: float = math.nan
    winner: int = -1
    gain: float = math.nan
    low: float = math.nan
    high: float = math.nan
    days: int = 0
    why: str = ""


@dataclass(frozen=True, eq=False)
class _Daily:
    days: NDArray[np.datetime64]
    returns: NDArray[np.float64]


def compare(campaign: Campaign, folder: Path) -> list[Found]:
    """Returns what every stage has found so far, in order.

    Args:
        campaign: Which.
        folder: Where studies live.

    Raises:
        LedgerError: A ledger cannot be read.
    """
    found = [_found(campaign, name, folder) for name in campaign.stages]
    base = next((each for each in found if each.stage == campaign.baseline), None)
    if base is None:
        return found
    reference = _daily(folder, base)
    return [each if each is base else _against(each, reference, folder) for each in found]


def _found(campaign: Campaign, stage: str, folder: Path) -> Found:
    name = campaign.study_name(stage)
    home = folder / name
    if not (home / LEDGER).exists():
        return Found(stage, why="not run yet")
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        counts, header = ledger.counts(), ledger.header
        board = leaderboard(ledger, None, 1) if counts["completed"] else None
        metric = header.metric(header.objective)
        if board is None or not len(board):
            return Found(stage, name, counts["trials"], metric, why="no trial was completed")
        return Found(stage, name, counts["trials"], metric, float(board[header.objective].iloc[0]), int(board["trial"].iloc[0]))


def _daily(folder: Path, found: Found) -> _Daily | str:
    """Returns the daily returns of a stage's winner, or why there are none."""
    if found.winner < 0:
        return found.why
    home = folder / found.study
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        days, _, _ = series.read_days(home)
        ids, matrix = series.read(ledger, home) if len(days) else ([], np.empty((0, 0), np.float32))
        key, away = bytes.fromhex(ledger.trial(found.winner)["config_id"]), elsewhere(ledger, home)
    if key not in ids:
        return away or "no daily returns" if not len(days) else "the winner's daily returns were not kept"
    return _Daily(days, matrix[ids.index(key)].astype(np.float64))


def _against(found: Found, reference: _Daily | str, folder: Path) -> Found:
    if found.winner < 0:
        return found
    own = _daily(folder, found)
    if isinstance(own, str) or isinstance(reference, str):
        return replace(found, why=own if isinstance(own, str) else f"the baseline has none: {reference}")
    _, mine, theirs = np.intersect1d(own.days, reference.days, return_indices=True)
    if len(mine) < LEAST_DAYS:
        return replace(found, why=f"{len(mine)} days in common with the baseline, too few", days=len(mine))
    gain, low, high = daily_gap(own.returns[mine], reference.returns[theirs])
    return replace(found, gain=gain, low=low, high=high, days=len(mine))

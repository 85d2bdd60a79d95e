"""Every test of this package on one study, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from results.metrics import DAYS_PER_YEAR, total_return
from results.validity.deflation import Deflation, deflate
from results.validity.duplicates import duplicate_groups
from results.validity.overfitting import SPLITS, Overfitting, probability_of_overfitting
from results.validity.panel import Ints, ValidityError, returns_matrix
from results.validity.resampling import REPS, Interval, Statistic, confidence_intervals, optimal_block, resample_counts
from results.validity.superiority import SpaResult, superior_predictive_ability
from results.validity.verdict import FLAT, MIN_BEHAVIOURS, Evidence, Verdict, verdict

LEAST_PERIODS = 20
"""Below it not even a number is given: every statistic is None."""


@dataclass(frozen=True)
class Assessment:
    """What a study shows about its winner; None where the data are too short for a test.

    Attributes:
        winner: Column.
        verdict: In words.
        evidence: What it rests on.
        deflation: Deflated Sharpe ratios of all trials.
        intervals: Confidence intervals of the winner, arrays of one entry.
        superiority: SPA test against each benchmark.
        overfitting: CSCV over the trials.
        groups: (N,) label of each trial's behaviour; trials with equal returns share one (`duplicate_groups`).
        block: Mean block length of every bootstrap here, periods; 0 if there was none.
        no_choice: Why trials cannot be told apart, in words, so that neither PBO nor an order of them means anything; empty if they can.
    """

    winner: int
    verdict: Verdict
    evidence: Evidence
    deflation: Deflation | None
    intervals: Mapping[Statistic, Interval]
    superiority: Mapping[str, SpaResult]
    overfitting: Overfitting | None
    groups: Ints
    block: int = 0
    no_choice: str = ""


def assess(
    returns: ArrayLike,
    *,
    periods_per_year: float,
    winner: int | None = None,
    trades: float | None = None,
    looks: int | None = None,
    openings: int = 0,
    benchmarks: Mapping[str, ArrayLike] | None = None,
    reps: int = REPS,
    splits: int = SPLITS,
    seed: int = 0,
) -> Assessment:
    """Judge the winner of a study.

    Args:
        returns: (T, N) simple returns of all trials at hand, daily rather than intraday (`compound`).
        periods_per_year: P of these returns, 365 for days of a calendar; no default on purpose.
        winner: Column chosen; default the largest Sharpe ratio.
        trades: The winner's.
        looks: All looks at these data, at least N (see `deflate`).
        openings: Of the holdout the returns come from, if they do.
        benchmarks: (T,) returns by name, such as "buy-and-hold"; being flat is always tested.
        reps: Bootstrap resamples.
        splits: Blocks of CSCV.
        seed: Of everything random here.
    """
    matrix = returns_matrix(returns)
    periods, trials = matrix.shape
    days = periods / periods_per_year * DAYS_PER_YEAR
    groups = duplicate_groups(matrix)
    no_choice = _no_choice(int(groups.max()) + 1, trials, bool(matrix.any()))
    if periods < LEAST_PERIODS:
        evidence = Evidence(trades=trades, periods=periods, days=days, looks=looks or trials, openings=openings)
        best = _chosen(winner, trials, np.asarray(matrix.mean(axis=0)))
        return Assessment(best, verdict(evidence), evidence, None, {}, {}, None, groups, no_choice=no_choice)
    deflation = deflate(matrix, looks, seed=seed)
    best = _chosen(winner, trials, deflation.sharpe)
    # One block length for all, so that a trial's interval does not depend on which others are shown beside it.
    block = optimal_block(matrix)
    intervals = confidence_intervals(matrix[:, best], periods_per_year=periods_per_year, reps=reps, block=block, seed=seed)
    superiority = {}
    if np.ptp(matrix, axis=0).any():
        counts = resample_counts(periods, block, reps, seed)
        for name, benchmark in ({FLAT: 0.0} | dict(benchmarks or {})).items():
            superiority[name] = superior_predictive_ability(matrix, benchmark, block=block, counts=counts)
    overfitting = probability_of_overfitting(matrix, splits=splits) if not no_choice and periods >= 2 * splits else None
    evidence = Evidence(
        trades=trades,
        periods=periods,
        days=days,
        total_return=total_return(matrix[:, best]),
        dsr=float(deflation.dsr[best]),
        sharpe_low=float(intervals["sharpe"].low[0]),
        spa_p={name: float(result.trial_p_values[best]) for name, result in superiority.items()},
        pbo=None if overfitting is None else overfitting.pbo,
        looks=deflation.looks,
        openings=openings,
    )
    return Assessment(best, verdict(evidence), evidence, deflation, intervals, superiority, overfitting, groups, block, no_choice)


def _no_choice(behaviours: int, trials: int, traded: bool) -> str:
    if behaviours >= MIN_BEHAVIOURS:
        return ""
    if trials == 1:
        return "there is only one trial"
    if behaviours == 1:
        return f"all {trials:,} trials behave identically" if traded else f"none of the {trials:,} trials ever trades"
    return f"the {trials:,} trials show only {behaviours} different behaviours"


def _chosen(winner: int | None, trials: int, scores: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> int:
    if winner is None:
        return int(scores.argmax())
    if not 0 <= winner < trials:
        raise ValidityError(f"winner is column {winner} of {trials}")
    return winner

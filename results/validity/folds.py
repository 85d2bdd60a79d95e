"""Do the folds agree about which trials are good?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from results.validity.panel import Ints, ValidityError


@dataclass(frozen=True)
class RankStability:
    """Agreement of F folds about the ranks of N trials.

    Attributes:
        spearman: Mean rank correlation over all pairs of folds, −1/(F−1)..1; about 0 if folds disagree at random.
        kendall_w: Coefficient of concordance, 0..1 (Kendall & Babington Smith 1939), corrected for ties.
        folds: F.
        trials: Trials with a score in every fold.
    """

    spearman: float
    kendall_w: float
    folds: int
    trials: int


def rank_stability(scores: ArrayLike) -> RankStability:
    """Return how well the folds agree.

    W = 12·Σᵢ(Rᵢ − R̄)² / (F²(N³−N) − F·Σ_f Σ_ties(t³−t)), Rᵢ the sum of a trial's ranks over folds; without ties the mean
    Spearman correlation is (F·W − 1)/(F − 1).

    Args:
        scores: (F, N), one score a fold and trial, larger is better or smaller is better throughout. Trials with a missing
            (NaN) score are left out.

    Returns:
        NaN with fewer than 2 folds, fewer than 3 trials, or a fold in which all trials score the same.
    """
    from scipy.stats import rankdata

    table = _scores(scores)
    table = table[:, np.isfinite(table).all(axis=0)]
    folds, trials = table.shape
    nothing = RankStability(float("nan"), float("nan"), folds, trials)
    if folds < 2 or trials < 3:
        return nothing
    ranks = rankdata(table, axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("fn,fn->f", centred, centred))
    if not np.all(length > 0.0):
        return nothing
    unit = centred / length[:, None]
    spearman = (float((unit.sum(axis=0) ** 2).sum()) - folds) / (folds * (folds - 1))
    # Σ(rank − mean)² is (N³−N−Σ(t³−t))/12 in a fold with ties, so the correction needs no counting of ties.
    kendall = float((centred.sum(axis=0) ** 2).sum()) / (folds * float((length**2).sum()))
    return RankStability(spearman, kendall, folds, trials)


def folds_won(scores: ArrayLike, benchmark: ArrayLike = 0.0) -> Ints:
    """Return (N,) in how many folds each trial's score is above the benchmark's; a missing score wins nothing.

    Args:
        scores: (F, N), larger is better.
        benchmark: A number, or (F,) the benchmark's score in each fold.
    """
    table = _scores(scores)
    against = np.asarray(benchmark, np.float64)
    if against.shape not in ((), (len(table),)):
        raise ValidityError(f"benchmark has shape {against.shape} for {len(table)} folds; give one score for each, or a number")
    return np.asarray(np.count_nonzero(table > against.reshape(-1, 1), axis=0), np.int64)


def _scores(scores: ArrayLike) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    table = np.asarray(scores, np.float64)
    if table.ndim != 2:
        raise ValidityError(f"fold scores have {table.ndim} dimensions; give a matrix of folds × trials")
    return table

"""Trials that did the same thing under different parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from results.validity.panel import Ints, column_chunks, returns_matrix

TOLERANCE = 1e-12


def duplicate_groups(returns: ArrayLike, tolerance: float = TOLERANCE) -> Ints:
    """Return a group label for each trial: those whose returns equal those of the group's first trial within `tolerance`.

    Each trial is projected on one fixed random direction; only trials whose projections are close enough to be equal are
    compared in full, so N trials cost O(T·N + N·log N) and not N². Rounding and hashing would part equal trials that
    straddle a rounding boundary.

    Args:
        returns: (T, N) simple returns.
        tolerance: Largest difference of any return, absolute. 0 asks for equality.

    Returns:
        (N,) labels 0, 1, 2, ... in order of first appearance; `numpy.unique(labels, return_index=True)` has the trials to keep.
    """
    matrix = returns_matrix(returns, least_periods=1, least_trials=0)
    periods, trials = matrix.shape
    weights = np.asarray(np.random.default_rng(0).uniform(0.5, 1.5, periods))
    position = np.empty(trials)
    largest = 0.0
    for start, part in column_chunks(matrix):
        position[start : start + part.shape[1]] = weights @ part
        largest = max(largest, float(np.abs(part).max(initial=0.0)))
    # What equal trials may differ by: the tolerance, and the rounding of the product itself.
    reach = tolerance * float(weights.sum()) + 8.0 * np.finfo(np.float64).eps * periods * 1.5 * largest
    order = np.argsort(position, kind="stable")
    first = np.full(trials, -1, np.int64)
    leaders: list[int] = []
    for trial in order.tolist():
        leaders = [leader for leader in leaders if position[trial] - position[leader] <= 2.0 * reach]
        for leader in leaders:
            if np.abs(matrix[:, trial].astype(np.float64) - matrix[:, leader]).max() <= tolerance:
                first[trial] = leader
                break
        else:
            first[trial] = trial
            leaders.append(trial)
    _, seen, groups = np.unique(first, return_index=True, return_inverse=True)
    rank = np.empty(len(seen), np.int64)
    rank[np.argsort(seen)] = np.arange(len(seen))
    return rank[groups.reshape(-1)] if trials else np.empty(0, np.int64)

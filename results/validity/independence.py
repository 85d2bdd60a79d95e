"""How many independent trials a sweep really made: three answers, for three questions.

- `effective_trials`: how many independent trials would make the same largest Sharpe ratio by luck. What deflation needs.
- `participation_ratio`: over how many directions the returns spread. A cross-check that costs one T×T product.
- `trial_families`: which trials are the same idea, by clustering. For people to read; the number of families is *not* a
  safe N, since the best of one family is still the best of many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from results.validity.panel import Ints, centred_unit, returns_matrix

MAX_CLUSTERED: Final = 2000
"""Trials that enter the hierarchical clustering; the others join the nearest family (time and memory are quadratic)."""

MIN_SILHOUETTE: Final = 0.1
"""Below this mean silhouette the trials do not fall into families."""

_GRID = np.linspace(-10.0, 12.0, 4401)


def expected_max_normal(n: float) -> float:
    """Return E[max of n independent standard normals] = b − ∫₋∞ᵇ Φ(x)ⁿ dx for large b, exact to 1e-6; n need not be whole."""
    return float(_GRID[-1] - np.trapezoid(ndtr(_GRID) ** n, _GRID))


def effective_trials(returns: ArrayLike, *, draws: int = 2000, seed: int = 0) -> float:
    """Return the number of independent trials whose best, without skill, is as good as the best of these.

    Without skill the trials' standardised Sharpe ratios are about N(0, C), C their correlation matrix. With g ~ N(0, I_T)
    and Z the centred returns scaled to length 1, gᵀZ is N(0, ZᵀZ = C): the mean of its maximum over `draws` draws comes
    from one matrix product and C is never formed. The number returned is the n with `expected_max_normal`(n) equal to it.
    (The permutation "effective number of tests" of genetics, e.g. Moskvina & Schmidt 2008, applied to the expected maximum
    of Bailey & López de Prado 2014.) 10,000 trials × 365 days: under a second.

    Args:
        returns: (T, N) simple returns.
        draws: Simulated draws; the error of the expected maximum is about 0.4/√draws.
        seed: Of the draws.

    Returns:
        Between 1 and N. Trials that never vary (no trade) count nothing.
    """
    unit, _ = centred_unit(returns_matrix(returns))
    trials = unit.shape[1]
    if trials < 2:
        return 1.0
    rng = np.random.default_rng(seed)
    step = max(1, (1 << 23) // trials)
    total = 0.0
    for start in range(0, draws, step):
        normal = rng.standard_normal((min(step, draws - start), unit.shape[0]), dtype=np.float32)
        total += float((normal @ unit).max(axis=1).sum(dtype=np.float64))
    return _count_for(total / draws, float(trials))


def participation_ratio(returns: ArrayLike) -> float:
    """Return (Σλ)² / Σλ² of the correlation matrix, corrected for what chance correlations add with few periods.

    Σλ = M and Σλ² = Σρ². Independent trials show E[ρ²] = 1/(T−1), so the mean squared correlation is corrected as
    (ρ² − 1/(T−1)) / (1 − 1/(T−1)), not below 0. It measures spread, not luck: 100 trials with ρ = 0.5 give 3.9 although
    the best of them is as lucky as the best of 14 independent ones; do not deflate by it.

    Args:
        returns: (T, N) simple returns, T ≥ 3.
    """
    unit, _ = centred_unit(returns_matrix(returns, least_periods=3))
    periods, trials = unit.shape
    if trials < 2:
        return float(max(trials, 1))
    # ‖ZᵀZ‖² = ‖ZZᵀ‖²: take the smaller Gram matrix.
    gram = unit @ unit.T if periods <= trials else unit.T @ unit
    squares = (float(np.einsum("ij,ij->", gram, gram, dtype=np.float64)) - trials) / (trials * (trials - 1))
    chance = 1.0 / (periods - 1)
    corrected = min(max((squares - chance) / (1.0 - chance), 0.0), 1.0)
    return trials / (1.0 + (trials - 1) * corrected)


@dataclass(frozen=True)
class Families:
    """Trials grouped by how alike their returns are.

    Attributes:
        labels: (N,) family of each trial, 0..count−1 by size, largest first; −1 for trials that never vary.
        count: Families.
        silhouette: Mean silhouette of the clustering, −1..1; NaN where there was nothing to choose.
    """

    labels: Ints
    count: int
    silhouette: float


def trial_families(returns: ArrayLike, *, seed: int = 0) -> Families:
    """Cluster trials by the correlation of their returns.

    Average-linkage hierarchical clustering on d = √((1−ρ)/2), cut where the mean silhouette (Rousseeuw 1987) is largest:
    the distance and the criterion of López de Prado & Lewis (2019), "Detection of False Investment Strategies Using
    Unsupervised Learning Methods", Quantitative Finance 19(9), with a hierarchy in place of repeated k-means, so it is
    deterministic. If no cut reaches `MIN_SILHOUETTE`, trials with mean correlation above 0.5 are one family and others
    are each their own. Beyond `MAX_CLUSTERED` trials a random sample is clustered and the rest join the nearest family.

    Args:
        returns: (T, N) simple returns.
        seed: Of the sample.
    """
    unit, varies = centred_unit(returns_matrix(returns))
    trials = unit.shape[1]
    labels = np.full(len(varies), -1, np.int64)
    if trials == 0:
        return Families(labels, 0, float("nan"))
    chosen = np.arange(trials)
    if trials > MAX_CLUSTERED:
        chosen = np.sort(np.random.default_rng(seed).choice(trials, MAX_CLUSTERED, replace=False))
    sample = unit[:, chosen]
    correlation = np.clip(sample.T @ sample, -1.0, 1.0)
    found, quality = _cut(correlation)
    if quality < MIN_SILHOUETTE or not np.isfinite(quality):
        alike = len(chosen) == 1 or (correlation.sum() - len(chosen)) / (len(chosen) * (len(chosen) - 1)) > 0.5
        found = np.zeros(trials, np.int64) if alike else np.arange(trials)
    elif trials > MAX_CLUSTERED:
        centre = np.zeros((unit.shape[0], found.max() + 1), np.float32)
        np.add.at(centre.T, found, sample.T)
        found = np.asarray((unit.T @ (centre / np.linalg.norm(centre, axis=0))).argmax(axis=1), np.int64)
    order = np.argsort(-np.bincount(found), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    labels[varies] = rank[found]
    return Families(labels, len(np.unique(found)), quality)


def _cut(correlation: NDArray[np.float32]) -> tuple[Ints, float]:
    """Labels of the cut with the largest mean silhouette over a geometric list of family counts, and that silhouette."""
    from scipy.cluster.hierarchy import cut_tree, linkage

    n = len(correlation)
    none = np.zeros(n, np.int64), float("nan")
    if n < 3:
        return none
    distance = np.sqrt((1.0 - correlation) / 2.0)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(distance[np.triu_indices(n, 1)], "average")
    counts = np.unique(np.append(np.arange(2, min(n, 31)), np.geomspace(2, max(2, n // 2), 20).astype(int)))
    best = none
    for column in cut_tree(tree, counts[counts < n]).T:
        labels = np.asarray(column, np.int64)
        quality = _silhouette(distance, labels)
        if not best[1] >= quality:
            best = labels, quality
    return best


def _silhouette(distance: NDArray[np.float32], labels: Ints) -> float:
    """Mean of (b−a)/max(a,b); a: mean distance within the own family, b: to the nearest other. Lone trials score 0."""
    n = len(labels)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(labels[order]) > 0))
    sizes = np.diff(np.append(starts, n))
    sums = np.add.reduceat(distance[:, order], starts, axis=1, dtype=np.float64)  # (n, families)
    own = np.arange(n), labels
    within = sums[own] / np.maximum(sizes[labels] - 1, 1)
    means = sums / sizes
    means[own] = np.inf
    other = means.min(axis=1)
    score = (other - within) / np.maximum(np.maximum(within, other), 1e-300)
    return float(np.where(sizes[labels] > 1, score, 0.0).mean())


def _count_for(maximum: float, most: float) -> float:
    """Return n in [1, most] with `expected_max_normal`(n) = `maximum`, by bisection in log n."""
    low, high = 0.0, np.log(most)
    for _ in range(40):
        middle = (low + high) / 2.0
        if expected_max_normal(float(np.exp(middle))) < maximum:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2.0))

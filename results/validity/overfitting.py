"""Probability of backtest overfitting: does the best in one half of the data stay above the median in the other?

Source: Bailey, Borwein, López de Prado & Zhu (2015), "The Probability of Backtest Overfitting", Journal of Computational
Finance 20(4) [BBLZ]: combinatorially symmetric cross-validation (CSCV).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from results.validity.panel import Floats, Ints, ValidityError, column_chunks, returns_matrix

SPLITS: Final = 16
MAX_SPLITS: Final = 20
"""20 blocks make 184,756 combinations; beyond it the count explodes and nothing is learned."""

_CELLS: Final = 1 << 21
"""Numbers in a batch of combinations; smaller batches cost more in waking BLAS threads than they save in cache."""

Performance = Literal["sharpe", "mean"]


@dataclass(frozen=True)
class Overfitting:
    """Outcome of CSCV over C combinations; performances are per period.

    Attributes:
        pbo: Share of combinations whose in-sample best lies at or below the median out of sample (λ ≤ 0).
        logits: (C,) λ = ln(ω/(1−ω)), ω the relative out-of-sample rank of the in-sample best.
        slope: Performance degradation: slope of out-of-sample on in-sample performance of the in-sample best.
        intercept: Of that regression.
        r_squared: Of that regression.
        probability_of_loss: Share of combinations whose in-sample best performs below 0 out of sample.
        selected: (C,) the in-sample best.
        in_sample: (C,) its performance in sample.
        out_of_sample: (C,) and out of sample.
        splits: Blocks the periods were cut into.
    """

    pbo: float
    logits: Floats
    slope: float
    intercept: float
    r_squared: float
    probability_of_loss: float
    selected: Ints
    in_sample: Floats
    out_of_sample: Floats
    splits: int


def probability_of_overfitting(returns: ArrayLike, *, splits: int = SPLITS, performance: Performance = "sharpe") -> Overfitting:
    """Run CSCV (BBLZ section 3).

    The periods are cut into S blocks; each of the C(S, S/2) halves is once the in-sample set. Both performances follow from
    block sums of r and r², so a batch of combinations is two matrix products; a half and its complement are handled
    together, each being the other's out-of-sample set. float32 inside: 10,000 trials, S = 16 take half a second of one core.

    Args:
        returns: (T, N) simple returns, N ≥ 2, T ≥ 2·splits. Blocks differ by one period where S does not divide T.
        splits: S, even, at most `MAX_SPLITS`.
        performance: "sharpe" (per period; 0 where nothing varies) or "mean".

    Returns:
        See `Overfitting`. Equal performances share their mean rank.
    """
    if splits < 2 or splits % 2 or splits > MAX_SPLITS:
        raise ValidityError(f"splits is {splits}; CSCV needs an even number between 2 and {MAX_SPLITS}")
    matrix = returns_matrix(returns, least_periods=2 * splits, least_trials=2)
    sums, squares, sizes = _block_sums(matrix, splits)
    halves = np.array([half for half in combinations(range(splits), splits // 2) if half[0] == 0])
    trials = matrix.shape[1]
    # Two results a row: the half in sample, then its complement in sample.
    selected = np.empty((len(halves), 2), np.int64)
    inside, outside, rank = (np.empty((len(halves), 2)) for _ in range(3))
    step = max(1, _CELLS // trials)
    for start in range(0, len(halves), step):
        picked = halves[start : start + step]
        members = np.zeros((len(picked), splits), np.float32)
        np.put_along_axis(members, picked, 1.0, axis=1)
        sides = (members, 1.0 - members)
        orders = [_order(side, sums, squares, performance) for side in sides]
        rows = slice(start, start + len(picked))
        for this, other in ((0, 1), (1, 0)):
            best = orders[this].argmax(axis=1)
            reached = np.take_along_axis(orders[other], best[:, None], axis=1)
            below = np.count_nonzero(orders[other] < reached, axis=1)
            upto = np.count_nonzero(orders[other] <= reached, axis=1)
            rank[rows, this] = (below + upto + 1) / 2.0
            selected[rows, this] = best
            inside[rows, this] = _performance(sides[this], sums[:, best], squares[:, best], sizes, performance)
            outside[rows, this] = _performance(sides[other], sums[:, best], squares[:, best], sizes, performance)
    omega = rank.reshape(-1) / (trials + 1.0)
    logits = np.log(omega / (1.0 - omega))
    x, y = inside.reshape(-1), outside.reshape(-1)
    slope, intercept, r_squared = _line(x, y)
    return Overfitting(
        pbo=float((logits <= 1e-12).mean()),
        logits=logits,
        slope=slope,
        intercept=intercept,
        r_squared=r_squared,
        probability_of_loss=float((y < 0.0).mean()),
        selected=selected.reshape(-1),
        in_sample=x,
        out_of_sample=y,
        splits=splits,
    )


def _block_sums(matrix: NDArray[Any], splits: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Sums and sums of squares of returns in each block, (S, N) each, and block sizes (S,).

    A trial whose returns never vary has no Sharpe ratio and gets zeros, as if it had not traded.
    """
    edges = np.linspace(0, len(matrix), splits + 1).astype(int)
    sums, squares = (np.empty((splits, matrix.shape[1]), np.float32) for _ in range(2))
    for start, part in column_chunks(matrix):
        where = slice(start, start + part.shape[1])
        part[:, np.ptp(part, axis=0) == 0.0] = 0.0
        sums[:, where] = np.add.reduceat(part, edges[:-1], axis=0)
        squares[:, where] = np.add.reduceat(part * part, edges[:-1], axis=0)
    return sums, squares, np.diff(edges).astype(np.float32)


def _order(
    members: NDArray[np.float32], sums: NDArray[np.float32], squares: NDArray[np.float32], performance: Performance
) -> NDArray[np.float32]:
    """(B, N) numbers that order the trials as their performance over the blocks of each row of `members` does.

    The Sharpe ratio m/√(q−m²) grows with m/√q (m the mean, q the mean square), which is cheaper and loses no digits.
    """
    order = members @ sums
    if performance == "sharpe":
        scale = members @ squares
        np.maximum(scale, np.finfo(np.float32).tiny, out=scale)
        np.sqrt(scale, out=scale)
        order /= scale
    return order


def _performance(
    members: NDArray[np.float32],
    sums: NDArray[np.float32],
    squares: NDArray[np.float32],
    sizes: NDArray[np.float32],
    performance: Performance,
) -> Floats:
    """(B,) performance per period of one trial a row: row b of `members` over column b of the block sums."""
    chosen = members.astype(np.float64)
    n = chosen @ sizes
    mean = np.einsum("bs,sb->b", chosen, sums) / n
    if performance == "mean":
        return mean
    second = np.einsum("bs,sb->b", chosen, squares) / n
    variance = (second - mean * mean) * n / (n - 1.0)
    varies = variance > 1e-6 * second  # float32 sums leave that much noise
    return np.where(varies, mean / np.sqrt(np.where(varies, variance, 1.0)), 0.0)


def _line(x: Floats, y: Floats) -> tuple[float, float, float]:
    """Slope, intercept and R² of least squares; NaN where x does not vary."""
    dx, dy = x - x.mean(), y - y.mean()
    spread = float(dx @ dx)
    if spread <= 0.0:
        return float("nan"), float("nan"), float("nan")
    slope = float(dx @ dy) / spread
    total = float(dy @ dy)
    return slope, float(y.mean() - slope * x.mean()), slope * slope * spread / total if total > 0.0 else float("nan")

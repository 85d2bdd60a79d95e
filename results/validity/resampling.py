"""Block bootstrap: resampled time as a matrix of counts, so every statistic of every trial is one matrix product.

A resample of T periods is a vector of how often each period occurs. Mean, total return and Sharpe ratio depend on a
resample only through weighted sums of r, ln(1+r) and r², so R resamples of N trials are a (R, T) @ (T, N) product. The
resamples come from `arch.bootstrap.StationaryBootstrap` (Politis & Romano 1994), the block length from
`arch.bootstrap.optimal_block_length` (Politis & White 2004, corrected by Patton, Politis & White 2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from results.validity.panel import LOG_FLOOR, Floats, ValidityError, column_chunks, returns_matrix

REPS: Final = 1000
BLOCK_SAMPLE: Final = 50
"""Trials whose optimal block lengths are computed; their median serves all, so that all trials share the resamples."""

Kind = Literal["stationary", "circular"]
Statistic = Literal["mean_return", "total_return", "sharpe"]


@dataclass(frozen=True)
class Interval:
    """A statistic of each trial with its confidence limits, (N,) each."""

    value: Floats
    low: Floats
    high: Floats


def optimal_block(returns: ArrayLike, kind: Kind = "stationary") -> int:
    """Return the block length for `returns` in periods: the median of the trials' optimal lengths, rounded up, 1 to T/3.

    Args:
        returns: (T, N) simple returns; `BLOCK_SAMPLE` trials evenly spread over the columns are used.
        kind: Of bootstrap: mean block length of the stationary one, fixed length of the circular one.
    """
    from arch.bootstrap import optimal_block_length

    matrix = returns_matrix(returns)
    varying = np.flatnonzero(np.ptp(matrix, axis=0) > 0.0)
    if len(varying) == 0 or len(matrix) < 8:
        return 1
    columns = varying[np.unique(np.linspace(0, len(varying) - 1, BLOCK_SAMPLE).astype(int))]
    lengths = optimal_block_length(matrix[:, columns].astype(np.float64))[kind].to_numpy(np.float64)
    lengths = lengths[np.isfinite(lengths)]
    best = float(np.median(lengths)) if len(lengths) else 1.0
    return int(min(max(np.ceil(best - 1e-9), 1), len(matrix) // 3))


def resample_counts(periods: int, block: int, reps: int = REPS, seed: int = 0, kind: Kind = "stationary") -> Floats:
    """Return (reps, periods) counts of each period in each resample; rows sum to `periods`.

    Same seed, same resamples as arch's bootstraps of that length.
    """
    from arch.bootstrap import CircularBlockBootstrap, StationaryBootstrap

    if not 1 <= block <= periods:
        raise ValidityError(f"block is {block} periods of {periods}; it must lie between 1 and all of them")
    bootstrap = (StationaryBootstrap if kind == "stationary" else CircularBlockBootstrap)(int(block), np.arange(periods), seed=seed)
    counts = np.empty((reps, periods))
    for row, (data, _) in enumerate(bootstrap.bootstrap(reps)):
        counts[row] = np.bincount(data[0], minlength=periods)
    return counts


def confidence_intervals(
    returns: ArrayLike,
    *,
    periods_per_year: float,
    level: float = 0.95,
    reps: int = REPS,
    block: int | None = None,
    seed: int = 0,
    kind: Kind = "stationary",
) -> dict[Statistic, Interval]:
    """Return block-bootstrap percentile intervals (Efron & Tibshirani 1993, ch. 13) of three statistics of every trial.

    Args:
        returns: (T, N) or (T,) simple returns.
        periods_per_year: P, for the Sharpe ratio; no default on purpose.
        level: Two-sided coverage, 0.95 leaves 2.5 % on each side.
        reps: Resamples.
        block: Block length in periods; default `optimal_block`.
        seed: Of the resamples, which all trials share.
        kind: Of bootstrap.

    Returns:
        "mean_return" (per period), "total_return" (Π(1+r)−1), "sharpe" (annualised, mean·√P/sd with n−1; 0 if nothing varies).
    """
    if not 0.0 < level < 1.0:
        raise ValidityError(f"level is {level}; give a coverage between 0 and 1, such as 0.95")
    matrix = returns_matrix(returns)
    counts = resample_counts(len(matrix), block or optimal_block(matrix, kind), reps, seed, kind)
    tails = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    names: tuple[Statistic, ...] = ("mean_return", "total_return", "sharpe")
    out = {name: np.empty((3, matrix.shape[1])) for name in names}
    for start, part in column_chunks(matrix, 4 * reps):
        where = slice(start, start + part.shape[1])
        point = _statistics(np.ones((1, len(part))), part, periods_per_year)
        drawn = _statistics(counts, part, periods_per_year)
        for name in names:
            out[name][0, where] = point[name][0]
            out[name][1:, where] = np.quantile(drawn[name], tails, axis=0, overwrite_input=True)
    return {name: Interval(*out[name]) for name in names}


def _statistics(counts: Floats, part: Floats, periods_per_year: float) -> dict[Statistic, NDArray[Any]]:
    n = part.shape[0]
    # Sums of squares are taken about the full sample's mean: about zero they would cancel digits.
    centre = part.mean(axis=0)
    offset = counts @ (part - centre) / n
    square = counts @ (part - centre) ** 2 / n - offset * offset
    mean = centre + offset
    deviation = np.sqrt(np.maximum(square, 0.0) * n / (n - 1))
    flat = deviation <= 1e-9 * np.abs(mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        sharpe = np.where(flat, 0.0, mean / deviation) * np.sqrt(periods_per_year)
    total = np.expm1(counts @ np.log(np.maximum(1.0 + part, LOG_FLOOR)))
    return {"mean_return": mean, "total_return": total, "sharpe": sharpe}

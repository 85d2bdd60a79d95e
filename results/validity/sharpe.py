"""The Sharpe ratio of a track record and what its length, skewness and tails let one say about it.

Everything here is *per period* (per day for daily returns); `annualised` is the only place where a year enters, and it
is always told how long one is. Sources: Bailey & López de Prado (2012), "The Sharpe Ratio Efficient Frontier", Journal
of Risk 15(2) [BL12]; Lo (2002), "The Statistics of Sharpe Ratios"; Mertens (2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from results.validity.panel import Floats, column_chunks, returns_matrix


@dataclass(frozen=True)
class SharpeStatistics:
    """Per-period Sharpe ratio and the moments its standard error needs.

    Attributes:
        sharpe: (N,) mean / sd (n−1), per period, risk-free rate 0; 0 for a trial whose returns never vary.
        skew: (N,) γ₃, third standardised moment (n in the denominator).
        kurtosis: (N,) γ₄, fourth standardised moment; 3 for a normal distribution.
        n: Periods.
    """

    sharpe: Floats
    skew: Floats
    kurtosis: Floats
    n: int


def sharpe_statistics(returns: ArrayLike) -> SharpeStatistics:
    """Return the per-period Sharpe ratio, skewness and kurtosis of each trial; NaN where a return is not finite.

    Args:
        returns: (T, N) or (T,) simple returns, T ≥ 2.
    """
    matrix = returns_matrix(returns, finite=False)
    n, trials = matrix.shape
    sharpe, skew, kurtosis = (np.full(trials, np.nan) for _ in range(3))
    for start, part in column_chunks(matrix):
        where = slice(start, start + part.shape[1])
        with np.errstate(all="ignore"):
            mean = part.mean(axis=0)
            part -= mean
            square = part * part
            variance = square.mean(axis=0)
            constant = np.sqrt(variance) <= 1e-12 * np.abs(mean)  # rounding noise of a constant series
            sd = np.sqrt(variance * n / (n - 1))
            sharpe[where] = np.where(constant, 0.0, mean / sd)
            skew[where] = np.where(constant, 0.0, (square * part).mean(axis=0) / variance**1.5)
            kurtosis[where] = np.where(constant, 3.0, (square * square).mean(axis=0) / variance**2)
    return SharpeStatistics(sharpe, skew, kurtosis, n)


def annualised(sharpe: ArrayLike, periods_per_year: float) -> Floats:
    """Return SR·√P. P is the calendar's: 365 for daily returns of a market that never closes, 8760 for hourly ones.

    Args:
        sharpe: Per-period Sharpe ratios.
        periods_per_year: P, see `results.metrics.periods_per_year`; there is no default on purpose.
    """
    return np.asarray(sharpe, np.float64) * np.sqrt(float(periods_per_year))


def sharpe_standard_error(sharpe: ArrayLike, n: ArrayLike, skew: ArrayLike = 0.0, kurtosis: ArrayLike = 3.0) -> Floats:
    """Return √[(1 − γ₃·SR + (γ₄−1)/4·SR²) / (n−1)], the standard error of a per-period Sharpe ratio (BL12 section 2; Mertens).

    It assumes returns without serial correlation: aggregate intraday returns to days first (`compound`).

    Args:
        sharpe: SR, per period; all arguments broadcast.
        n: Periods.
        skew: γ₃.
        kurtosis: γ₄, 3 for a normal distribution.

    Returns:
        Per-period standard error; NaN for n < 2 or moments no distribution has.
    """
    sr, g3, g4, periods = (np.asarray(value, np.float64) for value in (sharpe, skew, kurtosis, n))
    shape = 1.0 - g3 * sr + (g4 - 1.0) / 4.0 * sr * sr
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(np.where((shape > 0.0) & (periods > 1), shape / (periods - 1.0), np.nan))


def probabilistic_sharpe(
    sharpe: ArrayLike, n: ArrayLike, skew: ArrayLike = 0.0, kurtosis: ArrayLike = 3.0, benchmark: ArrayLike = 0.0
) -> Floats:
    """Return PSR(SR*) = Φ[(SR − SR*) / se(SR)], the probability that the true Sharpe ratio exceeds SR* (BL12 section 3).

    Args:
        sharpe: Estimated SR, per period; all arguments broadcast.
        n: Periods.
        skew: γ₃.
        kurtosis: γ₄, 3 for a normal distribution.
        benchmark: SR*, per period.

    Returns:
        Probabilities in 0..1; NaN where an input is.
    """
    error = sharpe_standard_error(sharpe, n, skew, kurtosis)
    return np.asarray(ndtr((np.asarray(sharpe, np.float64) - np.asarray(benchmark, np.float64)) / error), np.float64)


def min_track_record_length(
    sharpe: ArrayLike, skew: ArrayLike = 0.0, kurtosis: ArrayLike = 3.0, benchmark: ArrayLike = 0.0, confidence: float = 0.95
) -> Floats:
    """Return MinTRL = 1 + (1 − γ₃·SR + (γ₄−1)/4·SR²)·(z / (SR − SR*))², in periods (BL12 section 4).

    Args:
        sharpe: SR, per period; arrays broadcast.
        skew: γ₃.
        kurtosis: γ₄.
        benchmark: SR*, per period.
        confidence: 1 − α; z is its normal quantile.

    Returns:
        Periods needed before PSR(SR*) exceeds `confidence`; infinite where SR ≤ SR*.
    """
    sr, g3, g4, star = (np.asarray(value, np.float64) for value in (sharpe, skew, kurtosis, benchmark))
    with np.errstate(divide="ignore", invalid="ignore"):
        length = 1.0 + (1.0 - g3 * sr + (g4 - 1.0) / 4.0 * sr * sr) * (ndtri(confidence) / (sr - star)) ** 2
    return np.where(sr > star, length, np.where(np.isnan(sr - star), np.nan, np.inf))

"""The deflated Sharpe ratio: the best of many looks compared with the best that luck alone would show.

Source: Bailey & López de Prado (2014), "The Deflated Sharpe Ratio", Journal of Portfolio Management 40(5) [BL14].

Which N and which V? BL14 speaks of N *independent* trials and of V, the variance of the Sharpe ratio between them. A
sweep's trials are neither independent nor evenly spread, and V between all of them tells of the sampler as much as of luck:

- a sampler that gathers around a lucky trial shrinks V (20 strategies without skill and 980 near copies of the best of
  them: 7 % survive with N = 1000 and that V, 0.5 % with `deflate`);
- trials that lose heavily, such as those that trade too often, blow V up until nothing can survive;
- the number of clusters for N with V between all trials takes off correlation twice.

`deflate` therefore takes the effective number of independent trials from the largest Sharpe ratio the trials' own
correlations allow (`effective_trials`), adds every look whose returns are not at hand as an independent one, and takes
V = 1/(n−1), what the Sharpe ratio of independent trials without skill varies by. The published reading is reported beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from results.validity.independence import effective_trials
from results.validity.panel import Floats, ValidityError, returns_matrix
from results.validity.sharpe import probabilistic_sharpe, sharpe_statistics

EULER_GAMMA: Final = 0.5772156649015329


def expected_max_sharpe(n_trials: ArrayLike, variance: ArrayLike = 1.0) -> Floats:
    """Return SR₀ = √V·[(1−γ)·Φ⁻¹(1 − 1/N) + γ·Φ⁻¹(1 − 1/(N·e))], γ Euler's constant (BL14 eq. 1; "False Strategy theorem").

    Args:
        n_trials: N independent trials, need not be whole; up to about 1.3 the formula is negative and 0 is given.
        variance: V, variance of the trials' Sharpe ratios, per period² (annualised V/P).

    Returns:
        The Sharpe ratio, per period, to expect from the best of N trials without skill.
    """
    n = np.asarray(n_trials, np.float64)
    if np.any(n < 1.0):
        raise ValidityError(f"number of trials is {n.min():g}; at least the trial itself was looked at, so give 1 or more")
    with np.errstate(divide="ignore", invalid="ignore"):
        score = (1.0 - EULER_GAMMA) * ndtri(1.0 - 1.0 / n) + EULER_GAMMA * ndtri(1.0 - 1.0 / (n * np.e))
    return np.sqrt(np.asarray(variance, np.float64)) * np.maximum(np.where(n > 1.0, score, 0.0), 0.0)


def deflated_sharpe(
    sharpe: ArrayLike, n: ArrayLike, n_trials: ArrayLike, variance: ArrayLike, skew: ArrayLike = 0.0, kurtosis: ArrayLike = 3.0
) -> Floats:
    """Return DSR = PSR(SR₀), the probability that the Sharpe ratio exceeds what the best of N lucky trials shows (BL14 eq. 2).

    Args:
        sharpe: SR of the chosen trial, **per period**; all arguments broadcast. Annualised input is the unit error that
            turns 0.72 into 1.00.
        n: Periods.
        n_trials: N.
        variance: V, of per-period Sharpe ratios.
        skew: γ₃.
        kurtosis: γ₄, 3 for a normal distribution.
    """
    return probabilistic_sharpe(sharpe, n, skew, kurtosis, expected_max_sharpe(n_trials, variance))


@dataclass(frozen=True)
class Deflation:
    """What `deflate` found; arrays have one entry a trial, Sharpe ratios are per period.

    Attributes:
        sharpe: (N,) Sharpe ratios.
        psr: (N,) probability that the true Sharpe ratio is above 0, as if this trial were the only look.
        dsr: (N,) deflated Sharpe ratio with `independent` trials and V = 1/(n−1).
        dsr_published: (N,) deflated Sharpe ratio with N = `looks` and V between the trials; NaN for one trial.
        looks: Looks at the data, those without returns too.
        effective: Effective number of independent trials among those with returns.
        independent: `effective` plus the looks whose returns are not at hand.
        benchmark: SR₀ of `dsr`.
        variance: V between the trials; NaN for one trial.
    """

    sharpe: Floats
    psr: Floats
    dsr: Floats
    dsr_published: Floats
    looks: int
    effective: float
    independent: float
    benchmark: float
    variance: float


def deflate(returns: ArrayLike, looks: int | None = None, *, effective: float | None = None, seed: int = 0) -> Deflation:
    """Deflate every trial of a study.

    Args:
        returns: (T, N) simple returns of the trials at hand, serially uncorrelated (daily).
        looks: All looks at these data: failed, stopped, extended, earlier studies; at least N, which is the default.
            Those beyond N count as independent; put earlier trials into `returns` to have their correlation counted.
        effective: Effective number of independent trials of `returns`, if known already.
        seed: Of the simulation in `effective_trials`.
    """
    matrix = returns_matrix(returns)
    n, trials = matrix.shape
    looks = trials if looks is None else int(looks)
    if looks < trials:
        raise ValidityError(f"looks is {looks} but there are returns of {trials} trials; every one of them is a look")
    stats = sharpe_statistics(matrix)
    if effective is None:
        effective = effective_trials(matrix, seed=seed)
    independent = effective + (looks - trials)
    benchmark = float(expected_max_sharpe(independent, 1.0 / (n - 1)))
    variance = float(stats.sharpe.var(ddof=1)) if trials > 1 else float("nan")
    return Deflation(
        sharpe=stats.sharpe,
        psr=probabilistic_sharpe(stats.sharpe, n, stats.skew, stats.kurtosis),
        dsr=probabilistic_sharpe(stats.sharpe, n, stats.skew, stats.kurtosis, benchmark),
        dsr_published=deflated_sharpe(stats.sharpe, n, looks, variance, stats.skew, stats.kurtosis),
        looks=looks,
        effective=effective,
        independent=independent,
        benchmark=benchmark,
        variance=variance,
    )

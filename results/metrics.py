"""Performance metrics of one equity curve, each with its assumptions in its signature (SPEC G.7, J9, J10, J20).

Returns are simple, per period, and the first one is measured from the initial cash, not from the equity after the
first bar's trades (J20). `n_periods` counts *calendar* periods: an hour without a row earned nothing, so it counts as
a zero return; leaving it out would annualise a 59-bar window as if it were ten days (J10). NaN means "n/a": too
little evidence for a number. A NaN or infinite return makes a metric NaN, never silently zero.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Direction = Literal["max", "min"]

SECONDS_PER_YEAR: Final = 365 * 24 * 3600
DAYS_PER_YEAR: Final = 365.0
MIN_DAYS: Final = 60.0
MIN_NEGATIVE: Final = 30
_LOG_CLAMP: Final = 50.0
_LOG_FLOOR: Final = 1e-8
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")

NAN: Final = float("nan")


@dataclass(frozen=True)
class Metric:
    """What a trainable declares about one of its numbers.

    Attributes:
        name: Letters, digits, underscores; it becomes a column name.
        direction: "max" or "min" is better; None when it only informs.
        unit: "fraction" (shown as percent), "ratio", "count", "s", "USD", ... or "".
        doc: One line for people.
    """

    name: str
    direction: Direction | None = None
    unit: str = ""
    doc: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"metric name {self.name!r}: use a letter, then letters, digits or underscores, 60 at most")
        if self.direction not in ("max", "min", None):
            raise ValueError(f"metric {self.name}: direction is {self.direction!r}; it must be 'max', 'min' or None")


def periods_per_year(bar_seconds: float) -> float:
    """Return calendar periods per year, 365·24·3600 / `bar_seconds`: 8760 for hourly bars, whatever the market's hours."""
    if not bar_seconds > 0:
        raise ValueError(f"bar_seconds is {bar_seconds!r}; it must be positive")
    return SECONDS_PER_YEAR / bar_seconds


def returns_from_equity(equity: ArrayLike, initial_cash: float) -> NDArray[np.float64]:
    """Return per-period simple returns, the first one from `initial_cash` (SPEC G.7 [C], J20)."""
    curve = np.concatenate(([float(initial_cash)], np.asarray(equity, dtype=np.float64)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return curve[1:] / curve[:-1] - 1.0


def total_return(returns: ArrayLike) -> float:
    """Return Π(1+r)−1; 0.0 for no rows."""
    return _number(float(np.prod(1.0 + _array(returns))) - 1.0)


def sharpe(returns: ArrayLike, periods_per_year: float, n_periods: int) -> float:
    """Return the annualised Sharpe ratio, mean·√P / sd(n−1), risk-free rate 0; 0 if nothing varies (SPEC G.7).

    Args:
        returns: Simple returns of the periods that have a row.
        periods_per_year: P, see `periods_per_year`.
        n_periods: Calendar periods in the window, at least `len(returns)`.
    """
    mean, sd = _moments(returns, n_periods)
    if sd <= 1e-12 * abs(mean):  # constant returns leave rounding noise in sd
        return 0.0
    return _number(mean * np.sqrt(periods_per_year) / sd)


def sortino(returns: ArrayLike, periods_per_year: float, n_periods: int, min_negative: int = MIN_NEGATIVE) -> float:
    """Return the annualised Sortino ratio, mean / √(Σmin(r,0)²/n) · √P (SPEC G.7 [C], J9).

    Args:
        returns: Simple returns of the periods that have a row.
        periods_per_year: P.
        n_periods: Calendar periods in the window.
        min_negative: NaN with fewer negative returns than this. With 0 and no negative return at all, the Sharpe
            ratio is given ([L]), never a large constant.
    """
    values = _array(returns)
    mean, _ = _moments(values, n_periods)
    negative = np.minimum(values, 0.0)
    count = int(np.count_nonzero(negative < 0.0))
    if count < min_negative:
        return NAN
    if count == 0:
        return sharpe(values, periods_per_year, n_periods)
    downside = float(np.sqrt(float(negative @ negative) / n_periods))
    return _number(mean / downside * np.sqrt(periods_per_year)) if downside > 0.0 else NAN  # tiny losses can square to zero


def sortino_legacy(returns: ArrayLike, periods_per_year: float) -> float:
    """Return the published systems' Sortino (SPEC G.7 [S]); for reproducing their numbers only, not comparable.

    mean·P / (sd of the negative returns only, n−1, ·√P), over rows; without negative returns mean·P·100. It explains
    the published 510, 839 and 291 (J9). One negative return has no deviation: NaN.
    """
    values = _array(returns)
    if values.size == 0:
        return NAN
    negative = values[values < 0.0]
    annual = float(values.mean()) * periods_per_year
    if negative.size == 0:
        return _number(annual * 100.0)
    if negative.size == 1:
        return NAN
    sd = float(negative.std(ddof=1)) * np.sqrt(periods_per_year)
    return _number(annual / sd) if sd > 0.0 else NAN


def max_drawdown(equity: ArrayLike) -> float:
    """Return min(E / running peak − 1), ≤ 0. Put the initial cash first; NaN for no rows or a peak that is not positive."""
    curve = _array(equity)
    if curve.size == 0 or not np.isfinite(curve).all():
        return NAN
    peak = np.maximum.accumulate(curve)
    return float(np.min(curve / peak) - 1.0) if peak[0] > 0.0 else NAN


def annualised_return(returns: ArrayLike, periods_per_year: float, n_periods: int, min_days: float = MIN_DAYS) -> float:
    """Return exp(Σ ln max(1+r, 1e-8) · P/n) − 1 with the exponent clamped to ±50 (SPEC G.7).

    Args:
        returns: Simple returns of the periods that have a row.
        periods_per_year: P.
        n_periods: Calendar periods in the window: elapsed time, not the nominal one.
        min_days: NaN for shorter windows; compounding 10 days to a year gave 1e15 (J10).
    """
    values = _array(returns)
    _check_periods(values, n_periods)
    if n_periods == 0 or not np.isfinite(values).all() or n_periods / periods_per_year * DAYS_PER_YEAR < min_days:
        return NAN
    exponent = float(np.log(np.maximum(1.0 + values, _LOG_FLOOR)).sum()) * periods_per_year / n_periods
    return _number(float(np.expm1(np.clip(exponent, -_LOG_CLAMP, _LOG_CLAMP))))


def calmar(returns: ArrayLike, periods_per_year: float, n_periods: int, min_days: float = MIN_DAYS) -> float:
    """Return annualised return / |maximum drawdown|; NaN without a drawdown or below `min_days`."""
    values = _array(returns)
    drawdown = max_drawdown(np.concatenate(([1.0], np.cumprod(1.0 + values))))
    annual = annualised_return(values, periods_per_year, n_periods, min_days)
    return _number(annual / -drawdown) if drawdown < 0.0 else NAN


def profit_factor(returns: ArrayLike) -> float:
    """Return Σ gains / |Σ losses|, NaN without losses. Give it round-trip results for the trade-level factor (J20)."""
    values = _array(returns)
    losses = float(values[values < 0.0].sum())
    return _number(float(values[values > 0.0].sum()) / -losses) if losses < 0.0 and np.isfinite(values).all() else NAN


def volatility(returns: ArrayLike, periods_per_year: float, n_periods: int) -> float:
    """Return sd(n−1)·√P; P = 1 gives the per-period deviation of SPEC G.7."""
    return _number(_moments(returns, n_periods)[1] * np.sqrt(periods_per_year))


def pnl_smoothness(returns: ArrayLike) -> float:
    """Return sd(Δr), n in the denominator; smaller is smoother, 1/(1+250·that) is its score (SPEC G.7)."""
    values = _array(returns)
    return _number(float(np.diff(values).std())) if values.size >= 2 else NAN


def annualise_nominal(total_return: float, days: float, basis: float) -> float:
    """Return (1+total)^(basis/days)−1 on *nominal* days, as the progress logs did (SPEC O.2). For reproducing them only."""
    if not days > 0:
        raise ValueError(f"days is {days!r}; it must be positive")
    return float((1.0 + total_return) ** (basis / days) - 1.0)


def _array(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(-1)


def _check_periods(values: NDArray[np.float64], n_periods: int) -> None:
    if n_periods < values.size:
        raise ValueError(f"n_periods is {n_periods} but there are {values.size} returns; it counts all calendar periods of the window")


def _moments(returns: ArrayLike, n_periods: int) -> tuple[float, float]:
    """Mean and sd(n−1) over `n_periods`, the periods without a row being zeros that are never materialised."""
    values = _array(returns)
    _check_periods(values, n_periods)
    if n_periods < 2:
        return NAN, NAN
    mean = float(values.sum()) / n_periods
    with np.errstate(invalid="ignore", over="ignore"):
        centred = values - mean
        square = float(centred @ centred) + (n_periods - values.size) * mean * mean
    return mean, float(np.sqrt(square / (n_periods - 1)))


def _number(value: float) -> float:
    return float(value) if np.isfinite(value) else NAN

"""Robust scores: one number for how a configuration fares over many scenarios (SPEC H.3).

A scenario is a window of time with a state it starts in, perhaps at another lag or at other costs. The published formulas count
returns and drawdowns in percent; everything here takes fractions, as the rest of the product does, and converts inside. A scenario
is short, so its Sortino ratio has no smallest number of losing bars: it is clipped to ±10 instead, and only ever aggregated.

Arrays are (S, n): one row per scenario, one column per configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from results.metrics import Metric
from trainables.selector import tally

SORTINO_LIMIT = 10.0
MIN_TRADES = 6.0  # mean round trips per scenario below which the selection score takes off
_DAY = 24.0  # bars: shorter scenarios count for less, and are not said to trade often

ROBUST_METRICS: tuple[Metric, ...] = (
    Metric("selection_score", "max", "", "scenario score less what too few trades cost, and losing scenarios if all must gain"),
    Metric("return_worst", "max", "fraction", "return of the worst scenario"),
    Metric("losing_share", "min", "fraction", "share of scenarios with a return of 0 or less"),
    Metric("drawdown_worst", "max", "fraction", "deepest fall from a peak in any scenario (negative)"),
    Metric("trades_mean", None, "count", "finished round trips per scenario"),
    Metric("return_p25", "max", "fraction", "return a quarter of the scenarios stay below"),
    Metric("return_mean", "max", "fraction", "mean return of the scenarios"),
    Metric("sortino_p25", "max", "ratio", "Sortino ratio, clipped to ±10, a quarter of the scenarios stay below"),
    Metric("sortino_worst", "max", "ratio", "Sortino ratio, clipped to ±10, of the worst scenario"),
    Metric("drawdown_mean", "max", "fraction", "mean over scenarios of the deepest fall from a peak (negative)"),
    Metric("smoothness_mean", "min", "fraction", "mean standard deviation of the change of bar returns (lower is smoother)"),
    Metric("robust_score", "max", "", "scenario score S: worst, quarter and mean returns and Sortinos less drawdowns, roughness, losses"),
    Metric("lag_score", "max", "", "how well later execution is borne; n/a below two lags"),
    Metric("goodness", "max", "", "mean goodness of the scenarios"),
    Metric("scenarios", None, "count", "scenarios evaluated"),
)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What came of every scenario.

    Attributes:
        returns: Final over initial equity, minus 1, float64 (S, n).
        drawdown: Depth of the deepest fall from a peak, fraction ≥ 0, float64 (S, n).
        sortino: Annualised, clipped to ±10, float64 (S, n).
        smoothness: Standard deviation of the change of bar returns, fraction, float64 (S, n).
        trades: Finished round trips, float64 (S, n).
        bars: Calendar bars of each scenario's window, float64 (S,).
    """

    returns: np.ndarray
    drawdown: np.ndarray
    sortino: np.ndarray
    smoothness: np.ndarray
    trades: np.ndarray
    bars: np.ndarray

    def __len__(self) -> int:
        return len(self.returns)

    @classmethod
    def concatenate(cls, several: Sequence[Outcomes]) -> Outcomes:
        """Returns the scenarios of all of them, in order; at least one."""
        return cls(*(np.concatenate([getattr(o, name) for o in several]) for name in cls.__dataclass_fields__))


def outcomes(sums: np.ndarray, bars: np.ndarray, periods_per_year: float, initial_cash: float) -> Outcomes:
    """Reads scenarios off their running sums.

    Args:
        sums: float64 (S, n, tally.WIDTH), each scenario started with `initial_cash`, in cash or in a position worth it.
        bars: Calendar bars of each scenario's window, (S,); those without a row earned nothing (J10).
        periods_per_year: Of the bars.
        initial_cash: Equity every scenario starts with.

    Returns:
        Finite numbers throughout. The Sortino ratio is 0 where nothing moved, and ±10 where only gains, or only losses too small
        to square, were made.
    """
    count = np.asarray(bars, float)
    s = np.moveaxis(sums, -1, 0)
    mean, downside = s[tally.SUM_R] / count[:, None], np.sqrt(s[tally.SUM_NEG2] / count[:, None])
    lost = downside > 0.0
    ratio = np.where(lost, mean / np.where(lost, downside, 1.0) * np.sqrt(periods_per_year), np.sign(mean) * SORTINO_LIMIT)
    steps = np.maximum(s[tally.N_R] - 1.0, 1.0)
    rough = np.sqrt(np.maximum(s[tally.SUM_DR2] / steps - ((s[tally.PREV_R] - s[tally.FIRST_R]) / steps) ** 2, 0.0))
    return Outcomes(
        returns=s[tally.FINAL] / initial_cash - 1.0,
        drawdown=0.0 - s[tally.DRAWDOWN],
        sortino=np.clip(ratio, -SORTINO_LIMIT, SORTINO_LIMIT),
        smoothness=rough,
        trades=s[tally.TRADES].copy(),
        bars=count,
    )


def robust_metrics(by_lag: Sequence[Outcomes], n: int, require_all_positive: bool = False) -> dict[str, np.ndarray]:
    """Returns every metric of `ROBUST_METRICS`, float64 (n,); n/a without a scenario.

    Args:
        by_lag: The scenarios of each extra lag.
        n: Configurations.
        require_all_positive: See `selection_score`.
    """
    o = Outcomes.concatenate(by_lag)
    columns = {metric.name: np.full(n, np.nan) for metric in ROBUST_METRICS}
    columns["scenarios"] = np.full(n, float(len(o)))
    if not len(o):
        return columns
    return columns | {
        "selection_score": selection_score(o, require_all_positive),
        "return_worst": o.returns.min(axis=0),
        "losing_share": losing_share(o.returns),
        "drawdown_worst": 0.0 - o.drawdown.max(axis=0),
        "trades_mean": mean(o.trades),
        "return_p25": np.percentile(o.returns, 25, axis=0),
        "return_mean": mean(o.returns),
        "sortino_p25": np.percentile(o.sortino, 25, axis=0),
        "sortino_worst": o.sortino.min(axis=0),
        "drawdown_mean": 0.0 - mean(o.drawdown),
        "smoothness_mean": mean(o.smoothness),
        "robust_score": scenario_score(o),
        "lag_score": lag_score(by_lag) if len(by_lag) > 1 else columns["lag_score"],
        "goodness": mean(goodness(o)),
    }


def mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean over scenarios, (n,), added one scenario after the other.

    NumPy's own mean adds one column in another order than many, and a pack must give the bits of its configurations alone.
    """
    total = np.zeros(values.shape[1:])
    for row in values:
        total += row
    return total / len(values)


def losing_share(returns: np.ndarray) -> np.ndarray:
    """Returns the share of scenarios that gained nothing, (n,)."""
    return mean((returns <= 0.0).astype(float))


def scenario_score(o: Outcomes) -> np.ndarray:
    """Returns the scenario score S, (n,); higher is better (SPEC H.3).

    S = 1.5·worst + 0.75·p25 + 0.35·mean return + 2·p25 + 0.5·worst Sortino − 0.8·worst − 0.25·mean drawdown
    − 175·mean smoothness − 50·share of scenarios with a return ≤ 0; returns and drawdowns in percent, linear percentiles.
    """
    gain, fall = 100.0 * o.returns, 100.0 * o.drawdown
    return np.asarray(
        1.5 * gain.min(axis=0)
        + 0.75 * np.percentile(gain, 25, axis=0)
        + 0.35 * mean(gain)
        + 2.0 * np.percentile(o.sortino, 25, axis=0)
        + 0.5 * o.sortino.min(axis=0)
        - 0.8 * fall.max(axis=0)
        - 0.25 * mean(fall)
        - 175.0 * mean(o.smoothness)
        - 50.0 * losing_share(o.returns)
    )


def selection_score(o: Outcomes, require_all_positive: bool = False) -> np.ndarray:
    """Returns S less what too few trades and, on request, a losing scenario cost, (n,) (SPEC H.3).

    S − 0.75·max(0, 6 − mean trades) − [require_all_positive and worst return ≤ 0]·(100 + 10·|worst return in percent|).
    """
    worst = 100.0 * o.returns.min(axis=0)
    idle = 0.75 * np.maximum(0.0, MIN_TRADES - mean(o.trades))
    failed = np.where(worst <= 0.0, 100.0 + 10.0 * np.abs(worst), 0.0) if require_all_positive else 0.0
    return np.asarray(scenario_score(o) - idle - failed)


def lag_score(by_lag: Sequence[Outcomes]) -> np.ndarray:
    """Returns how well a configuration bears later execution, (n,) (SPEC H.3 without its ulcer term).

    p10 − 0.75·sd Sortino + 0.03·mean return − 0.08·mean drawdown − 120·mean smoothness − 1.5·mean trade rate over lags, where each
    lag counts once, with the mean of its scenarios; returns and drawdowns in percent, trade rate = trades / max(bars, 24), sd over
    lags with n in the denominator.

    Args:
        by_lag: The scenarios of each lag; two lags or more, of the same scenarios.
    """
    each = [(o.sortino, o.returns, o.drawdown, o.smoothness, _trade_rate(o)) for o in by_lag]
    sortino, gain, fall, rough, rate = (np.stack([mean(values) for values in column]) for column in zip(*each, strict=True))
    spread = np.sqrt(mean((sortino - mean(sortino)) ** 2))
    return np.asarray(
        np.percentile(sortino, 10, axis=0)
        - 0.75 * spread
        + 0.03 * 100.0 * mean(gain)
        - 0.08 * 100.0 * mean(fall)
        - 120.0 * mean(rough)
        - 1.5 * mean(rate)
    )


def goodness(o: Outcomes) -> np.ndarray:
    """Returns the goodness of each scenario, (S, n) (SPEC H.3 without its ulcer term).

    coverage·(100·return + 0.8·Sortino + 0.5/(1 + 250·smoothness) − 12·drawdown − 2·max(0, trade rate − 1/24)), return and drawdown as
    fractions, coverage = min(bars/24, 1), trade rate = trades / max(bars, 24).
    """
    coverage = np.minimum(o.bars / _DAY, 1.0)[:, None]
    often = np.maximum(0.0, _trade_rate(o) - 1.0 / _DAY)
    return np.asarray(
        coverage * (100.0 * o.returns + 0.8 * o.sortino + 0.5 / (1.0 + 250.0 * o.smoothness) - 12.0 * o.drawdown - 2.0 * often)
    )


def _trade_rate(o: Outcomes) -> np.ndarray:
    """Round trips per bar; at least a day's bars."""
    return np.asarray(o.trades / np.maximum(o.bars, _DAY)[:, None])

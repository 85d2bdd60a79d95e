"""Metrics of many configurations from their running sums (SPEC G.7), the same numbers `results.metrics` gives for a curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from results.metrics import MIN_DAYS, MIN_NEGATIVE, Metric, periods_per_year
from trainables.selector import tally
from trainables.selector.inputs import SelectorInputs

METRICS: tuple[Metric, ...] = (
    Metric("total_return", "max", "fraction", "final equity over initial cash, minus 1"),
    Metric("sortino", "max", "ratio", "annualised mean over downside deviation; n/a below 30 losing bars"),
    Metric("max_drawdown", "max", "fraction", "deepest fall from a peak (negative); between folds measured at their ends"),
    Metric("trades", None, "count", "finished round trips"),
    Metric("win_rate", "max", "fraction", "share of round trips that gained after costs"),
    Metric("exposure", None, "fraction", "share of bars with a position"),
    Metric("fees", "min", "fraction", "fees paid over initial cash"),
    Metric("folds_won", "max", "count", "folds with a gain"),
    Metric("worst_fold", "max", "fraction", "return of the worst fold"),
    Metric("sharpe", "max", "ratio", "annualised mean over standard deviation of bar returns"),
    Metric("calmar", "max", "ratio", "annualised return over the depth of the maximum drawdown; n/a below 60 days"),
    Metric("annualised_return", "max", "fraction", "compounded to a year of real elapsed time; n/a below 60 days"),
    Metric("volatility", "min", "fraction", "standard deviation of bar returns, per bar"),
    Metric("profit_factor", "max", "ratio", "sum of gaining over sum of losing bar returns"),
    Metric("smoothness", "min", "fraction", "standard deviation of the change of bar returns (lower is smoother)"),
    Metric("expectancy", "max", "fraction", "mean gain of a round trip, as a share of initial cash"),
    Metric("payoff", "max", "ratio", "mean gain of winners over mean loss of losers"),
    Metric("hold_hours", None, "h", "mean hours a round trip lasted"),
    Metric("turnover", None, "×", "value traded over initial cash"),
    Metric("financing", "min", "fraction", "interest and borrow cost paid over initial cash"),
    Metric("entries", None, "count", "entry orders that filled"),
    Metric("orders", None, "count", "entry orders sent"),
    Metric("forced", None, "count", "closes by time, session end, stealing, liquidation or delisting"),
    Metric("losing_bars", None, "count", "bars with a negative return"),
    Metric("bars", None, "count", "rows of the panel seen"),
)
METRIC_NAMES = tuple(m.name for m in METRICS)


def metric_table(each: Sequence[np.ndarray], parts: Sequence[SelectorInputs], profile: str, initial_cash: float) -> dict[str, np.ndarray]:
    """Turns running sums into metrics.

    Args:
        each: Running sums float64 (n, tally.WIDTH) of each part, every one started flat.
        parts: The stretches of time simulated, for real elapsed time and the bar's length; hours in which markets were closed
            count as zero returns.
        profile: `legacy` starts from the first row's equity and uses the original Sortino.
        initial_cash: Cash before the first row.

    Returns:
        Columns (n,) by metric name; NaN where the evidence is too short for a number.
    """
    legacy = profile == "legacy"
    s, growths = _joined(each, legacy, initial_cash)
    n = s[tally.ROWS] - len(parts) if legacy else np.full(s.shape[1], float(sum(part.calendar_bars for part in parts)))
    per_year = _legacy_periods(parts[0]) if legacy else periods_per_year(parts[0].panel.bar_seconds)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = s[tally.SUM_R] / n
        volatility = np.sqrt(np.maximum(s[tally.SUM_R2] - n * mean**2, 0.0) / (n - 1))
        volatility = np.where((s[tally.SUM_R2] == 0.0) & (n > 1), 0.0, volatility)
        total = np.prod(growths, axis=0)
        growth = np.log(np.maximum(total, 1e-300))
        annualised = np.expm1(np.clip(growth * per_year / n, -50, 50))
        if not legacy:
            annualised = np.where(n * parts[0].bar_hours / 24.0 >= MIN_DAYS, annualised, np.nan)
        downside = np.sqrt(s[tally.SUM_NEG2] / n)
        sortino = np.where(s[tally.N_NEG] >= MIN_NEGATIVE, mean / downside * np.sqrt(per_year), np.nan)
        if legacy:
            sortino = _legacy_sortino(s, mean, per_year)
        drawdown = s[tally.DRAWDOWN]
        steps = np.where(s[tally.N_R] > len(parts), s[tally.N_R] - len(parts), np.nan)
        trades, wins = s[tally.TRADES], s[tally.WINS]
        columns = {
            "total_return": total - 1.0,
            "sortino": sortino,
            "sharpe": np.where(volatility == 0.0, 0.0, mean / volatility * np.sqrt(per_year)),
            "max_drawdown": drawdown,
            "calmar": np.where(drawdown < 0, annualised / -drawdown, np.nan),
            "annualised_return": annualised,
            "volatility": volatility,
            "profit_factor": np.where(s[tally.SUM_NEG] < 0, s[tally.SUM_POS] / -s[tally.SUM_NEG], np.nan),
            "smoothness": np.sqrt(np.maximum(s[tally.SUM_DR2] / steps - ((s[tally.PREV_R] - s[tally.FIRST_R]) / steps) ** 2, 0.0)),
            "trades": trades,
            "win_rate": np.where(trades > 0, wins / trades, np.nan),
            "expectancy": np.where(trades > 0, (s[tally.GROSS_PROFIT] - s[tally.GROSS_LOSS]) / trades / initial_cash, np.nan),
            "payoff": np.where(
                (wins > 0) & (wins < trades), s[tally.GROSS_PROFIT] / wins / (s[tally.GROSS_LOSS] / (trades - wins)), np.nan
            ),
            "hold_hours": np.where(trades > 0, s[tally.HOLD_HOURS] / trades, np.nan),
            "exposure": s[tally.EXPOSED] / np.maximum(s[tally.ROWS], 1),
            "turnover": s[tally.TURNOVER] / initial_cash,
            "fees": s[tally.FEES] / initial_cash,
            "financing": s[tally.FINANCING] / initial_cash,
            "entries": s[tally.ENTRIES],
            "orders": s[tally.ORDERS],
            "forced": s[tally.FORCED],
            "losing_bars": s[tally.N_NEG],
            "bars": s[tally.ROWS],
            "folds_won": (growths > 1.0).sum(axis=0).astype(float),
            "worst_fold": growths.min(axis=0) - 1.0,
        }
    return {name: np.where(np.isfinite(column), column, np.nan) for name, column in columns.items()}


def _joined(each: Sequence[np.ndarray], legacy: bool, initial_cash: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sums of all parts, (tally.WIDTH, n), and each part's final over initial equity, (parts, n)."""
    growths = np.array([s[:, tally.FINAL] / (s[:, tally.FIRST] if legacy else initial_cash) for s in each])
    joined = np.sum(each, axis=0)
    joined[:, tally.FIRST_R], joined[:, tally.PREV_R] = each[0][:, tally.FIRST_R], each[-1][:, tally.PREV_R]
    # From the highest point of all folds so far to a fold's end, or within a fold: never less than what was lost in all.
    deepest = np.min([s[:, tally.DRAWDOWN] for s in each], axis=0)
    level = highest = np.ones(len(joined))
    for s, growth in zip(each, growths, strict=True):
        highest = np.maximum(highest, level * s[:, tally.PEAK] / (s[:, tally.FIRST] if legacy else initial_cash))
        level = level * growth
        if len(each) > 1:
            deepest = np.minimum(deepest, level / highest - 1.0)
    joined[:, tally.DRAWDOWN] = deepest
    return joined.T, growths


def _legacy_sortino(s: np.ndarray, mean: np.ndarray, per_year: float) -> np.ndarray:
    """The original's Sortino: deviation of the losing returns alone, and a hundredfold without losses (SPEC G.7 [S], J9)."""
    count = s[tally.N_NEG]
    variance = np.maximum(s[tally.SUM_NEG2] - s[tally.SUM_NEG] ** 2 / np.maximum(count, 1), 0.0) / np.maximum(count - 1, 1)
    deviation = np.sqrt(variance)
    ratio = np.where((count > 1) & (deviation > 0), mean * np.sqrt(per_year) / np.where(deviation > 0, deviation, 1.0), 0.0)
    return np.where(count == 0, mean * per_year * 100.0, ratio)


def _legacy_periods(inputs: SelectorInputs) -> float:
    """The original's row-count-weighted periods per year (SPEC A.5 [S])."""
    rows = inputs.exists.sum(axis=0)
    per_symbol = []
    for a, asset in enumerate(inputs.panel.assets):
        if asset.asset_class == "crypto":
            per_symbol.append(8760.0)
            continue
        days = len(np.unique(inputs.panel.times[inputs.exists[:, a]].astype("datetime64[D]")))
        per_symbol.append(float(np.clip(rows[a] / max(days, 1), 1, 24)) * 252.0 if rows[a] else 7 * 252.0)
    return float(np.average(per_symbol, weights=np.maximum(rows, 1)))

"""Return metrics of an equity curve, by their plain formulas (SPEC G.7)."""

from __future__ import annotations

import math
from itertools import pairwise


def sample_sd(values: list[float]) -> float:
    """Standard deviation with n − 1; 0 where it is undefined."""
    if len(values) < 2:
        return 0.0
    mean = sum(values) / len(values)
    return math.sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - 1))


def returns_of(equity: list[float]) -> list[float]:
    """E_i/E_{i−1} − 1; a return from nothing is 0."""
    return [after / before - 1 if before != 0 else 0.0 for before, after in pairwise(equity)]


def max_drawdown(equity: list[float]) -> float:
    """Smallest E/peak − 1, at most 0."""
    return min(value / max(equity[: i + 1]) - 1 for i, value in enumerate(equity))


def metrics_from(equity: list[float], initial_cash: float, times: list[float], bar_hours: float, profile: str) -> dict[str, float]:
    """Metrics of a curve; `times` in hours are those of the equity values."""
    per_year = 8760 / bar_hours
    if profile == "realistic":
        curve = [initial_cash, *equity]
        returns = returns_of(curve)
        periods = max(len(returns), round((times[-1] - times[0]) / bar_hours) + 1)
        returns += [0.0] * (periods - len(returns))
    else:
        curve = list(equity)
        returns = returns_of(curve)
    negative = [r for r in returns if r < 0]
    mean = sum(returns) / len(returns) if returns else 0.0
    volatility = sample_sd(returns)
    if profile == "realistic":
        downside = math.sqrt(sum(r * r for r in negative) / len(returns))
        sortino = mean / downside * math.sqrt(per_year) if len(negative) >= 30 else math.nan
    elif not negative:
        sortino = mean * per_year * 100
    else:
        spread = sample_sd(negative)
        sortino = mean * per_year / (spread * math.sqrt(per_year)) if spread > 0 else 0.0
    return {
        "total_return": curve[-1] / curve[0] - 1,
        "max_drawdown": max_drawdown(curve),
        "volatility": volatility,
        "sharpe": mean * math.sqrt(per_year) / volatility if volatility > 0 else 0.0,
        "sortino": sortino,
    }

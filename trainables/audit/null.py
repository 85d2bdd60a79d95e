"""A market in which nothing can be foreseen, traded free of charge: who earns there knows what he cannot know.

Costs hide leaks: a strategy that pays 15 basis points a trade loses with a small one as well. So they are turned off where the
trainable lets them be: the fees of the market's assets, and parameters and settings whose names say cost. Without costs the mean
is zero whatever is done, so every gain counts, bar by bar or day by day, and not only the market's total.

Measured with the defaults (8 markets of 4,320 hours, 7 symbols, 10 audits each): of strategies that are long half the time and know
the direction of the very bar they earn in a share of all bars, those with 4 % were found always, with 3 % in 8 of 10 audits, with 2 %
in 5, with 1 % never, and the honest one was never accused. With a fixed fee of 15 basis points even 20 % stay hidden after costs,
so where costs cannot be turned off the check is not made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from trainables.audit.copies import asset_section
from trainables.audit.entrance import Entrance
from trainables.audit.report import Finding
from trainables.audit.stages import trace
from trainables.contract import Prepared
from trainables.market import Panel, sample_panel

LEVEL = 1e-3  # of the null test, over all configurations
LEAST_BARS, MOST_BARS = 4_320, 20_000
LOSES = 1e-2  # level at which a loss is said to be no chance
_DEAR = 100.0  # basis points on top, to see whether the assets' fees are charged at all
_COST = re.compile(r"(^|_)(costs?|fees?|slippage|commissions?|fill_buffer|margin_rate|borrow_rate)(_|$)", re.IGNORECASE)


@dataclass(frozen=True)
class NullResults:
    """Every configuration on several markets without a signal.

    Attributes:
        frames: Metrics, one table per market.
        gains: Simple returns of bars or days by configuration, float64 (n,) over all markets; empty if not shown.
        days: Of one market.
        free: Costs were off, and it made a difference.
        off: What was set to zero.
    """

    frames: Sequence[pd.DataFrame]
    gains: Sequence[np.ndarray]
    days: float
    free: bool
    off: Sequence[str] = ()


def null_results(entrance: Entrance, panel: Panel, seeds: int, bars: int | None, seed: int) -> NullResults:
    """Evaluates every configuration on markets without a signal: the study's symbols, hourly bars, no costs if it can be.

    Args:
        entrance: Prepares panels.
        panel: The study's market.
        seeds: Markets.
        bars: Their length; the study's, from 4,320 to 20,000, if not given.
        seed: Of the markets.
    """
    size = bars or min(max(panel.n_bars, LEAST_BARS), MOST_BARS)
    cheap, off = _charging(entrance, 0.0)
    try:
        first, _ = _evaluate(cheap, _market(panel, size, 1000 * seed + 1, 0.0))
        dear, _ = _evaluate(_charging(entrance, _DEAR / 1e4)[0], _market(panel, size, 1000 * seed + 1, _DEAR))
        free = not first.equals(dear)
    except Exception:  # somebody else's trainable may not take a fee of zero, or a key it was not given before
        free = False
    chosen = cheap if free else entrance
    results = [_evaluate(chosen, _market(panel, size, 1000 * seed + k + 1, 0.0 if free else None)) for k in range(seeds)]
    shown = all(gains for _, gains in results)
    gains = [np.concatenate([market[i] for _, market in results]) for i in range(len(entrance.configs))] if shown else []
    return NullResults([frame for frame, _ in results], gains, size / 24.0, free, ("fees of the assets", *off) if free else ())


def _market(panel: Panel, size: int, seed: int, extra: float | None) -> Panel:
    """A market of the panel's symbols; `extra`: None for its costs, 0 for none, else so much on top, in basis points."""
    assets = panel.assets
    if extra is not None:
        assets = tuple(
            replace(
                asset,
                maker_fee_bps=asset.maker_fee_bps + extra if extra else 0.0,
                taker_fee_bps=asset.taker_fee_bps + extra if extra else 0.0,
                half_spread_bps=asset.half_spread_bps + extra if extra else 0.0,
            )
            for asset in assets
        )
    return sample_panel(panel.symbols, size, seed, start=panel.times[0].astype("datetime64[D]"), costs=asset_section(assets))


def _charging(entrance: Entrance, cost: float) -> tuple[Entrance, list[str]]:
    """Sets every parameter and setting that is named like a cost, and may be zero, to `cost` (1 if it is a whole number above 0)."""
    numeric = [p for p in entrance.trainable.parameters if p.kind in ("float", "int") and p.low <= 0.0 <= p.high and _COST.search(p.name)]
    values = {p.name: min(cost if p.kind == "float" else float(cost > 0.0), p.high) for p in numeric}
    numbers = {key: value for key, value in entrance.settings.items() if isinstance(value, (int, float)) and not isinstance(value, bool)}
    settings = [key for key in numbers if _COST.search(key)]
    changed = replace(
        entrance,
        configs=tuple({**config, **values} for config in entrance.configs),
        settings={**entrance.settings, **dict.fromkeys(settings, cost)},
    )
    return changed, [*values, *(f"settings.{key}" for key in settings)]


def _evaluate(entrance: Entrance, market: Panel) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Returns metrics, and the returns of days (or of bars, if only equity is shown) by configuration."""
    with entrance.open(market) as prepared:
        found = entrance.evaluate(prepared)
        frame = found.metrics.reset_index(drop=True)
        if found.returns is not None and np.ndim(found.returns) == 2 and found.returns.shape[1] > 1:
            return frame, [row[np.isfinite(row)] for row in np.asarray(found.returns, np.float64)]
        return frame, _moves(entrance, prepared)


def _moves(entrance: Entrance, prepared: Prepared) -> list[np.ndarray]:
    gains = []
    for config in entrance.complete(prepared):
        stages = {stage.name: stage for stage in trace(entrance.trainable, config, entrance.context(prepared)).stages}
        if "equity" not in stages or "equity" not in stages["equity"].columns:
            return []
        curve = np.asarray(stages["equity"].columns["equity"], np.float64)
        curve = curve[np.isfinite(curve)]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            moves = np.diff(curve) / curve[:-1]
        gains.append(moves[np.isfinite(moves)])
    return gains


def null_market(results: NullResults, metric: str) -> Finding:
    """Nothing can be earned on average where no step of the price can be foreseen.

    Two one-sided tests per configuration, at a level of 0.1 % shared by all (Bonferroni): the t-test of the metric's mean over
    markets, and, where daily returns or equity are shown, that of the mean gain over all days or bars of all markets, which sees
    leaks several times smaller. It is corrected for skewness (Johnson 1978): who wins often and loses rarely but much is no leak.
    """
    frames = results.frames
    n, n_markets = len(frames[0]), len(frames)
    totals = [np.array([frame[metric].iloc[i] for frame in frames], np.float64) if metric in frames[0] else np.empty(0) for i in range(n)]
    samples = [
        [(x, len(x) / d) for x, d in ((total, results.days * len(total)), (gain, results.days * n_markets)) if len(x) > 2]
        for total, gain in zip(totals, results.gains or [np.empty(0)] * n, strict=True)
    ]
    if not any(samples):
        return Finding("null market", None, detail=f"it reports no {metric!r} and shows neither daily returns nor equity")
    traded = [i for i, one in enumerate(samples) if one and any(x.any() for x, _ in one) and all(np.isfinite(x).all() for x, _ in one)]
    if not traded:
        return Finding("null market", None, "metrics", metric, detail=f"no configuration traded on {n_markets} markets")
    tests = sum(len(samples[i]) for i in traded)
    p = {i: min(p_positive(x) for x, _ in samples[i]) for i in traded}
    worst = min(p, key=lambda i: p[i])
    seen = max(min(_detectable(x, per_day, LEVEL / tests) for x, per_day in samples[i]) for i in traded)
    per_day = {i: float(np.mean(samples[i][-1][0])) * samples[i][-1][1] for i in traded}
    costs = "without the costs that can be set to zero" if results.free else "after costs"
    text = (
        f"on {n_markets} markets of {results.days:.0f} days without a signal the mean return"
        f" {costs} is {per_day[worst]:+.3%} a day (p = {p[worst]:.2g}) for configuration {worst}"
    )
    text += f" (set to zero: {', '.join(results.off)})" if results.free else ""
    if p[worst] * tests < LEVEL:
        return Finding("null market", False, "metrics", metric if metric in frames[0] else "returns", detail=text)
    if not results.free:
        why = (
            "costs could not be turned off, and a leak that earns less than they take is hidden: charge the fees of data.assets,"
            f" or name a parameter or setting `fee` or `cost`; {text}"
        )
        return Finding("null market", None, "metrics", metric, detail=why)
    text += f"; a leak worth {seen:.3%} a day would have shown"
    loses = [i for i in traded if min(p_positive(-x) for x, _ in samples[i]) * tests < LOSES]
    text += f", or more where rules of the fills, say, take up to {max(-per_day[i] for i in loses):.3%} a day even so" if loses else ""
    return Finding("null market", True, "", metric, detail=text)


def p_positive(values: np.ndarray) -> float:
    """P-value of the one-sided t-test that the mean is not positive, of several values corrected for negative skewness."""
    from scipy import stats

    spread = float(np.std(values, ddof=1))
    scale = float(np.abs(values).max())
    if not spread > 1e-12 * scale:
        return float(values[0] <= 0.0)
    t = float(values.mean()) / spread * len(values) ** 0.5
    skew = float(np.mean(((values - values.mean()) / spread) ** 3))
    corrected = t + skew * (1.0 + 2.0 * t * t) / (6.0 * len(values) ** 0.5)
    return float(stats.t.sf(min(t, corrected) if len(values) > 30 else t, len(values) - 1))


def _detectable(values: np.ndarray, per_day: float, level: float) -> float:
    """The mean per day that is found in four of five cases."""
    from scipy import stats

    df = len(values) - 1
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(stats.t.isf(level, df) + stats.norm.ppf(0.8)) * error * per_day

"""Random markets: coins on the hour with gaps, stocks on the half hour in sessions; and forecasts that are sometimes missing."""

from __future__ import annotations

import numpy as np

from trainables.forecast import FIELDS, QUANTILES, Forecasts
from trainables.market import Panel, make_assets

COINS, STOCKS = ("ETHUSD", "BTCUSD", "SOLUSD"), ("NVDA", "MSFT")


def market(seed: int = 0, hours: int = 1200, missing: float = 0.06, stocks: tuple[str, ...] = STOCKS) -> Panel:
    rng = np.random.default_rng(seed)
    start = np.datetime64("2024-01-01T00:00", "ns")
    on_hour = start + np.arange(hours) * np.timedelta64(1, "h")
    half = on_hour + np.timedelta64(30, "m")
    clock = (half - half.astype("datetime64[D]")).astype("timedelta64[m]").astype(int)
    weekday = (half.astype("datetime64[D]").astype(int) + 3) % 7 < 5
    session = half[weekday & (clock >= 14 * 60 + 30) & (clock <= 20 * 60 + 30)]
    times = np.union1d(on_hour, session) if stocks else on_hour
    symbols = (*COINS, *stocks)
    shape = (len(times), len(symbols))
    close = 100.0 * np.exp(np.cumsum(rng.standard_t(4, shape) * 0.006, axis=0))
    opened = close * np.exp(rng.normal(0.0, 0.003, shape))
    high = np.maximum(opened, close) * (1.0 + rng.exponential(0.002, shape))
    low = np.minimum(opened, close) * (1.0 - rng.exponential(0.002, shape))
    volume = np.where(rng.random(shape) < 0.03, 0.0, np.round(rng.lognormal(5.0, 1.0, shape)))
    exists = np.stack([np.isin(times, session if symbol in stocks else on_hour) for symbol in symbols], axis=1)
    exists &= rng.random(shape) >= missing
    bars = (np.where(exists, x, np.nan) for x in (opened, high, low, close, volume))
    return Panel(times, symbols, *bars, exists, np.zeros(shape, bool), make_assets(symbols), "random")


def forecasts(panel: Panel, horizons: tuple[int, ...] = (1, 4, 24), seed: int = 0, missing: float = 0.05) -> Forecasts:
    """Each row's forecasts follow from that row and its bar alone."""
    shape = (len(horizons), len(FIELDS), len(QUANTILES), *panel.close.shape)
    rng = np.random.default_rng(seed)
    centre = panel.close * (1.0 + rng.normal(0.0, 0.01, shape))
    values = centre * (1.0 + np.array([-0.01, 0.0, 0.01])[:, None, None])
    gone = rng.random((len(horizons), *panel.close.shape)) < missing
    values = np.where(gone[:, None, None], np.nan, values)
    return Forecasts(panel.times, panel.symbols, horizons, values, panel.bar_seconds, "random")

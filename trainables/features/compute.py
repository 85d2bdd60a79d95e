"""The formulas of SPEC E: from one symbol's own bars, and what was known beside them, to its features.

A pure function of the arrays it is given. They are also all that a kept table of features is marked with, so nothing can enter a
value unseen. Row t reads rows up to t.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations

import numpy as np

from trainables.features import kernels
from trainables.features.spec import BASKET_WINDOW, BTC_WINDOW, RETURNS, STRENGTH_WINDOW, FeatureSpec

Rows = Mapping[str, np.ndarray]
Named = Iterator[tuple[str, np.ndarray]]

SPIKE = 2.0  # volume_z above which volume is a spike
LEAST_WIDTH = 1e-6  # of a forecast's p10 to p90, quote currency
NO_VOLUME = 1e-12  # mean volume that is none
BETA_LIMIT = 5.0
EXCESS_LIMIT = 1.0
HOUR, DAY = 3_600_000_000_000, 86_400_000_000_000  # ns
MONDAY = 3  # 1970-01-01 was a Thursday
# Tables, so that an hour has the same bits in every row.
_HOURS = 2.0 * np.pi * np.arange(24) / 24.0
_DAYS = 2.0 * np.pi * np.arange(7) / 7.0
CLOCK = (np.sin(_HOURS), np.cos(_HOURS), np.sin(_DAYS), np.cos(_DAYS))


def compute(spec: FeatureSpec, times: np.ndarray, rows: Rows) -> np.ndarray:
    """Computes every feature of one symbol.

    Args:
        spec: Which.
        times: datetime64[ns] (n,) starts of the symbol's bars.
        rows: float64 (n,) by name, those `inputs.gather` gives.

    Returns:
        float64 (F, n), a line for each of `spec.columns`; NaN where a value is not defined, never ±∞.
    """
    place = {name: i for i, name in enumerate(spec.columns)}
    out = np.empty((len(place), len(times)))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for block in spec.blocks:
            for name, values in _BLOCKS[block](spec, times, rows):
                out[place[name]] = values
    out[~np.isfinite(out)] = np.nan
    return out


def change(x: np.ndarray, bars: int) -> np.ndarray:
    """x_t / x_{t−bars} − 1, float64 (n,), NaN before."""
    out = np.full(len(x), np.nan)
    if bars < len(x):
        out[bars:] = x[bars:] / x[:-bars] - 1.0
    return out


def difference(x: np.ndarray) -> np.ndarray:
    """x_t − x_{t−1}, float64 (n,), NaN in the first row."""
    out = np.full(len(x), np.nan)
    out[1:] = x[1:] - x[:-1]
    return out


def _price(spec: FeatureSpec, times: np.ndarray, rows: Rows) -> Named:
    opened, high, low, close = (rows[name] for name in ("open", "high", "low", "close"))
    for bars in RETURNS:
        yield f"return_{bars}h", change(close, bars)
    yield "log_return_1h", difference(kernels.logarithm(close))
    yield "range_pct", np.abs(high - low) / close
    yield "close_open_pct", (close - opened) / opened
    yield "high_close_pct", (high - close) / close
    yield "low_close_pct", (close - low) / close


def _volume(spec: FeatureSpec, times: np.ndarray, rows: Rows) -> Named:
    volume = rows["volume"]
    sd = kernels.rolling_sd(volume, spec.volume_z)
    z = np.where(sd == 0.0, 0.0, (volume - kernels.rolling_mean(volume, spec.volume_z)) / sd)
    yield "volume_z", z
    yield "volume_spike", np.where(np.isnan(z), np.nan, (z > SPIKE).astype(float))
    step = change(volume, 1)
    step[1:][~np.isfinite(step[1:])] = 0.0  # no volume before; in the first row there is no bar before, which is not the same
    yield "volume_change_1h", step
    for w in spec.volume_shock:
        mean = kernels.rolling_mean(volume, w)
        yield f"volume_shock_{w}h", np.where(mean <= NO_VOLUME, 0.0, volume / mean - 1.0)


def _calendar(spec: FeatureSpec, times: np.ndarray, rows: Rows) -> Named:
    stamps = times.astype("datetime64[ns]").astype(np.int64)
    hour, day = stamps // HOUR % 24, (stamps // DAY + MONDAY) % 7
    for name, table, index in zip(("hour_sin", "hour_cos", "dow_sin", "dow_cos"), CLOCK, (hour, hour, day, day), strict=True):
        yield name, table[index]


def _trend(spec: FeatureSpec, times: np.ndarray, rows: Rows) -> Named:
    close = rows["close"]
    for w in spec.trend:
        yield f"trend_{w}h", change(close, w)
    for w in spec.drawdown:
        yield f"drawdown_{w}h", close / kernels.rolling_max(close, w) - 1.0
    for w in spec.ma:
        mean = kernels.rolling_mean(close, w)
        yield f"ma_delta_{w}h", (close - mean) / mean
    for w in spec.ema:
        mean = kernels.ema(close, w)
        yield f"ema_delta_{w}h", (close - mean) / mean
    step = difference(close)
    for w in spec.rsi:
        gain, loss = (kernels.rolling_mean(np.maximum(x, 0.0), w) for x in (step, -step))
        yield f"rsi_{w}h", np.where(loss == 0.0, 100.0, 100.0 - 100.0 / (1.0 + gain / loss))


def _volatility(spec: FeatureSpec, times: np.ndarray, rows: Rows) -> Named:
    high, low, close = (rows[name] for name in ("high", "low", "close"))
    returns = change(close, 1)
    sd = {w: kernels.rolling_sd(returns, w) for w in sorted({*spec.volatility, *(w for pair in spec.vol_regime for w in pair)})}
    for w in spec.volatility:
        yield f"volatility_{w}h", sd[w]
    for short, long in spec.vol_regime:
        yield f"vol_regime_{short}_{long}", sd[short] / sd[long]
    before = np.concatenate([[np.nan], close[:-1]])
    true_range = np.maximum(high - low, np.maximum(np.abs(high - before), np.abs(low - before)))
    for w in spec.atr:
        yield f"atr_pct_{w}h", kernels.rolling_mean(true_range, w) / close


def _deltas(spec: FeatureSpec, rows: Rows, field: str) -> list[np.ndarray]:
    return [(rows[f"{field}_p50_h{h}"] - rows["close"]) / rows["close"] for h in spec.horizons]


def _confidences(spec: FeatureSpec, rows: Rows) -> list[np.ndarray]:
    """Close over max(|p90 − p10|, 1e-6), by horizon: always above 0."""
    widths = [np.abs(rows[f"close_p90_h{h}"] - rows[f"close_p10_h{h}"]) for h in spec.horizons]
    return [rows["close"] / np.where(width < LEAST_WIDTH, LEAST_WIDTH, width) for width in widths]


def _forecast(spec: FeatureSpec, times: np.ndarray, rows: Rows) -> Named:
    for field in ("close", "high", "low"):
        for h, delta in zip(spec.horizons, _deltas(spec, rows, field), strict=True):
            yield f"chronos_{field}_delta_h{h}", delta
    for h, confidence in zip(spec.horizons, _confidences(spec, rows), strict=True):
        yield f"forecast_confidence_h{h}", kernels.logarithm(confidence)
    if len(spec.horizons) > 1:
        yield "forecast_agreement", np.abs(_mean([np.sign(x) for x in _deltas(spec, rows, "close")]))


def _interactions(spec: FeatureSpec, times: np.ndarray, rows: Rows) -> Named:
    h, ref = spec.horizons, rows["close"]
    ranges = [np.abs(rows[f"high_p50_h{x}"] - rows[f"low_p50_h{x}"]) / ref for x in h]
    for x, values in zip(h, ranges, strict=True):
        yield f"forecast_range_pct_h{x}", values
    if len(h) < 2:
        return
    deltas, weights = _deltas(spec, rows, "close"), _confidences(spec, rows)
    logs = [kernels.logarithm(x) for x in weights]
    for a, b in combinations(range(len(h)), 2):
        for what, by_horizon in (("delta", deltas), ("confidence", logs), ("range", ranges)):
            yield f"forecast_{what}_spread_h{h[a]}_h{h[b]}", by_horizon[b] - by_horizon[a]
    yield "forecast_delta_mean", _mean(deltas)
    yield "forecast_delta_abs_mean", _mean([np.abs(x) for x in deltas])
    yield "forecast_confidence_mean", _mean(logs)
    yield "forecast_range_mean", _mean(ranges)
    # ln of the confidence can be negative, which no weight may be.
    yield "forecast_delta_weighted", _mean([w * x for w, x in zip(weights, deltas, strict=True)]) / _mean(weights)
    yield "forecast_sign_weighted", _mean([w * np.sign(x) for w, x in zip(weights, deltas, strict=True)]) / _mean(weights)
    place = np.log1p(np.array(h, float))
    place -= place.mean()
    slope = _mean([p * x for p, x in zip(place, deltas, strict=True)]) / float((place**2).mean())
    yield "forecast_delta_slope", slope
    if len(h) > 2:
        centre = _mean(deltas)
        yield "forecast_delta_residual", _mean([(x - centre - slope * p) ** 2 for p, x in zip(place, deltas, strict=True)])


def _mean(arrays: list[np.ndarray]) -> np.ndarray:
    """Mean over a list, one after the other: elementwise, so a row's bits do not depend on how many rows there are."""
    summed = arrays[0].copy()
    for values in arrays[1:]:
        summed += values
    return summed / len(arrays)


def _paired(step: np.ndarray, live: np.ndarray) -> np.ndarray:
    """Keeps the anchor's steps over the symbol's own: those at both ends of which the anchor has a bar (`live`, see `inputs`)."""
    out = np.full(len(step), np.nan)
    out[1:] = np.where((live[1:] > 0.0) & (live[:-1] > 0.0), step[1:], np.nan)
    return out


def _btc(spec: FeatureSpec, times: np.ndarray, rows: Rows) -> Named:
    close, anchor, live = rows["close"], rows["btc_close"], rows["btc_live"]
    yield "btc_return_1h", anchor / rows["btc_before"] - 1.0
    theirs = _paired(change(anchor, 1), live)
    yield f"btc_correlation_{BTC_WINDOW}h", kernels.rolling_pair(change(close, 1), theirs, BTC_WINDOW, BTC_WINDOW // 2)[0]
    yield f"relative_strength_btc_{STRENGTH_WINDOW}h", change(close, STRENGTH_WINDOW) - change(anchor, STRENGTH_WINDOW)


def _basket(spec: FeatureSpec, times: np.ndarray, rows: Rows) -> Named:
    own, anchor = kernels.logarithm(rows["close"]), kernels.logarithm(rows["anchor_close"])
    theirs = _paired(difference(anchor), rows["anchor_live"])
    corr, beta = kernels.rolling_pair(difference(own), theirs, BASKET_WINDOW, BASKET_WINDOW // 2)
    yield f"basket_corr_{BASKET_WINDOW}h", corr
    yield f"basket_beta_{BASKET_WINDOW}h", np.clip(beta, -BETA_LIMIT, BETA_LIMIT) / BETA_LIMIT
    logs = np.stack([kernels.logarithm(rows[name]) for name in rows if name.startswith("member ")])
    excess, rank = kernels.basket(logs, own, BASKET_WINDOW)
    yield f"basket_excess_{BASKET_WINDOW}h", np.clip(excess, -EXCESS_LIMIT, EXCESS_LIMIT)
    yield f"basket_rank_{BASKET_WINDOW}h", rank


_BLOCKS: dict[str, Callable[[FeatureSpec, np.ndarray, Rows], Named]] = {
    "price": _price,
    "volume": _volume,
    "calendar": _calendar,
    "trend": _trend,
    "volatility": _volatility,
    "forecast": _forecast,
    "interactions": _interactions,
    "btc": _btc,
    "basket": _basket,
}

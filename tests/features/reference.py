"""SPEC E written down once more, slowly, in pandas: one frame of a symbol's own bars, other symbols joined by the end of their bars."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from trainables.features import FeatureSpec
from trainables.forecast import Forecasts
from trainables.market import Panel


def own_bars(panel: Panel, symbol: str) -> pd.DataFrame:
    a = panel.symbols.index(symbol)
    columns = {name: getattr(panel, name)[:, a] for name in ("open", "high", "low", "close", "volume")}
    return pd.DataFrame(columns, pd.DatetimeIndex(panel.times)).dropna()


def as_of(bars: pd.DataFrame, panel: Panel, symbol: str) -> pd.DataFrame:
    """The last bar of `symbol` that ended by the end of each bar: its close, the close before it, and when it ended."""
    length = pd.Timedelta(seconds=panel.bar_seconds)
    other = own_bars(panel, symbol)
    right = pd.DataFrame({"ended": other.index + length, "last": other["close"].to_numpy(), "before": other["close"].shift().to_numpy()})
    left = pd.DataFrame({"end": bars.index + length})
    joined = pd.merge_asof(left, right, left_on="end", right_on="ended").set_index(bars.index)
    dead = joined["end"] - joined["ended"] >= pd.Timedelta(hours=168)
    joined.loc[dead, ["last", "before"]] = np.nan
    joined["live"] = (joined["end"] - joined["ended"] < length) & ~dead
    return joined


def reference(panel: Panel, symbol: str, spec: FeatureSpec, forecasts: Forecasts | None = None, anchor: str = "BTCUSD") -> pd.DataFrame:
    bars = own_bars(panel, symbol)
    o, h, l, c, v = (bars[name] for name in ("open", "high", "low", "close", "volume"))
    r1 = c / c.shift(1) - 1
    out: dict[str, pd.Series] = {}
    for k in (1, 4, 24):
        out[f"return_{k}h"] = c / c.shift(k) - 1
    out["log_return_1h"] = np.log(c) - np.log(c.shift(1))
    out["range_pct"] = (h - l).abs() / c
    out["close_open_pct"], out["high_close_pct"], out["low_close_pct"] = (c - o) / o, (h - c) / c, (c - l) / c
    if spec.volume_z:
        sd = v.rolling(spec.volume_z).std()
        z = (v - v.rolling(spec.volume_z).mean()) / sd
        out["volume_z"] = z.where(sd > 1e-9, 0.0).where(sd.notna())
        out["volume_spike"] = (out["volume_z"] > 2).astype(float).where(sd.notna())
    step = v / v.shift(1) - 1
    out["volume_change_1h"] = step.replace([np.inf, -np.inf], np.nan).fillna(0.0).where(v.shift(1).notna())
    for w in spec.volume_shock:
        mean = v.rolling(w).mean()
        out[f"volume_shock_{w}h"] = (v / mean - 1).where(~(mean < 1e-9), 0.0)
    index = pd.DatetimeIndex(bars.index)
    for name, values, period in (("hour", index.hour, 24), ("dow", index.day_of_week, 7)):
        out[f"{name}_sin"] = pd.Series(np.sin(2 * np.pi * values / period), index)
        out[f"{name}_cos"] = pd.Series(np.cos(2 * np.pi * values / period), index)
    for w in spec.trend:
        out[f"trend_{w}h"] = c / c.shift(w) - 1
    for w in spec.drawdown:
        out[f"drawdown_{w}h"] = c / c.rolling(w).max() - 1
    for w in spec.ma:
        out[f"ma_delta_{w}h"] = (c - c.rolling(w).mean()) / c.rolling(w).mean()
    for w in spec.ema:
        mean = c.ewm(span=w, adjust=False).mean()
        out[f"ema_delta_{w}h"] = (c - mean) / mean
    for w in spec.rsi:
        move = c - c.shift(1)
        gain, loss = move.clip(lower=0).rolling(w).mean(), (-move).clip(lower=0).rolling(w).mean()
        out[f"rsi_{w}h"] = (100 - 100 / (1 + gain / loss)).where(~(loss.abs() < 1e-12), 100.0)
    for w in spec.volatility:
        out[f"volatility_{w}h"] = r1.rolling(w).std()
    for short, long in spec.vol_regime:
        out[f"vol_regime_{short}_{long}"] = r1.rolling(short).std() / r1.rolling(long).std()
    ranges = pd.concat([h - l, (h - c.shift()).abs(), (l - c.shift()).abs()], axis=1)
    true_range = ranges.max(axis=1, skipna=False)
    for w in spec.atr:
        out[f"atr_pct_{w}h"] = true_range.rolling(w).mean() / c
    if forecasts is not None and spec.horizons:
        out |= _forecast(panel, symbol, spec, forecasts, c)
    if "btc" in spec.blocks:
        btc = as_of(bars, panel, anchor)
        out["btc_return_1h"] = btc["last"] / btc["before"] - 1
        theirs = (btc["last"] / btc["last"].shift() - 1).where(btc["live"] & btc["live"].shift(fill_value=False))
        out["btc_correlation_72h"] = r1.where(theirs.notna()).rolling(72, min_periods=36).corr(theirs)
        out["relative_strength_btc_24h"] = (c / c.shift(24) - 1) - (btc["last"] / btc["last"].shift(24) - 1)
    if "basket" in spec.blocks:
        out |= _basket(panel, bars, anchor)
    return pd.DataFrame(out).replace([np.inf, -np.inf], np.nan)[list(spec.columns)]


def _basket(panel: Panel, bars: pd.DataFrame, anchor: str) -> dict[str, pd.Series]:
    own = np.log(bars["close"])
    leader = as_of(bars, panel, anchor)
    theirs = np.log(leader["last"]).diff().where(leader["live"] & leader["live"].shift(fill_value=False))
    mine = own.diff().where(theirs.notna())
    out = {"basket_corr_24h": mine.rolling(24, min_periods=12).corr(theirs)}
    beta = mine.rolling(24, min_periods=12).cov(theirs) / theirs.where(mine.notna()).rolling(24, min_periods=12).var()
    out["basket_beta_24h"] = beta.clip(-5, 5) / 5
    gains = pd.DataFrame({s: np.log(as_of(bars, panel, s)["last"]).diff(24) for s in panel.symbols})
    gained = own.diff(24)
    enough = (gains.count(axis=1) >= 2) & gained.notna()
    out["basket_excess_24h"] = (gained - gains.mean(axis=1)).clip(-1, 1).where(enough)
    below, same = gains.lt(gained, axis=0).sum(axis=1), gains.eq(gained, axis=0).sum(axis=1)
    out["basket_rank_24h"] = ((below + (same - 1) / 2) / (gains.count(axis=1) - 1)).where(enough)
    return out


def _forecast(panel: Panel, symbol: str, spec: FeatureSpec, forecasts: Forecasts, c: pd.Series) -> dict[str, pd.Series]:
    out: dict[str, pd.Series] = {}
    a, t = forecasts.symbols.index(symbol), np.isin(forecasts.times, c.index.to_numpy())

    def told(field: str, q: float, horizon: int) -> pd.Series:
        found = pd.Series(forecasts.quantile(field, q, horizon)[t, a], pd.DatetimeIndex(forecasts.times[t]))
        return found.reindex(c.index)

    delta, width, span = {}, {}, {}
    for x in spec.horizons:
        for field in ("close", "high", "low"):
            out[f"chronos_{field}_delta_h{x}"] = (told(field, 0.5, x) - c) / c
        delta[x] = out[f"chronos_close_delta_h{x}"]
        width[x] = c / (told("close", 0.9, x) - told("close", 0.1, x)).abs().clip(lower=1e-6)
        span[x] = (told("high", 0.5, x) - told("low", 0.5, x)).abs() / c
        out[f"forecast_confidence_h{x}"] = np.log(width[x])
        out[f"forecast_range_pct_h{x}"] = span[x]
    deltas, widths, spans = pd.DataFrame(delta), pd.DataFrame(width), pd.DataFrame(span)
    whole = deltas.notna().all(axis=1)
    out["forecast_agreement"] = np.sign(deltas).mean(axis=1).abs().where(whole)
    for i, j in combinations(spec.horizons, 2):
        for name, table in (("delta", deltas), ("confidence", np.log(widths)), ("range", spans)):
            out[f"forecast_{name}_spread_h{i}_h{j}"] = table[j] - table[i]
    out["forecast_delta_mean"], out["forecast_delta_abs_mean"] = deltas.mean(axis=1), deltas.abs().mean(axis=1)
    out["forecast_confidence_mean"], out["forecast_range_mean"] = np.log(widths).mean(axis=1), spans.mean(axis=1)
    out["forecast_delta_weighted"] = (widths * deltas).sum(axis=1) / widths.sum(axis=1)
    out["forecast_sign_weighted"] = (widths * np.sign(deltas)).sum(axis=1) / widths.sum(axis=1)
    if len(spec.horizons) < 2:
        return out
    x = np.log(1 + np.array(spec.horizons, float))
    fits = [np.polyfit(x, row, 1) if ok else (np.nan, np.nan) for row, ok in zip(deltas.to_numpy(), whole, strict=True)]
    out["forecast_delta_slope"] = pd.Series([slope for slope, _ in fits], c.index)
    left = [np.mean((row - np.polyval(fit, x)) ** 2) for row, fit in zip(deltas.to_numpy(), fits, strict=True)]
    out["forecast_delta_residual"] = pd.Series(left, c.index)
    for name in out:
        if "_h" not in name:
            out[name] = out[name].where(whole)
    return out

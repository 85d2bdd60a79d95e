"""How good quantile forecasts are, in raw price space and beside forecasts that need no model (SPEC C.7).

Shapes: N rolling origins × V variates of a symbol (open, high, low, close; the last is the close) × Q quantile levels × H
horizons, with symbols A in front where they are pooled. NaN is missing. Everything `score` averages is in units of the origin's last
close, so that a coin at 65,000 does not outvote one at 1e-5; skills and signs do not notice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from results.metrics import Metric
from trainables.contract import TrainableError
from trainables.forecast.empirical import MINIMUM
from trainables.forecast.table import QUANTILES

Array = NDArray[np.float64]

SEASON = 24  # bars
_CHUNK = 1024  # windows whose differences are sorted at a time

SCORES: tuple[Metric, ...] = (
    Metric("skill", "max", "fraction", "1 − pinball loss at .1, .5, .9 ÷ that of the last close with empirical quantiles"),
    Metric("dm_p", "min", "probability", "Diebold–Mariano p-value of a pinball loss no lower than the reference's of `skill`"),
    Metric("skill_drift", "max", "fraction", "The same against the drift of the context"),
    Metric("skill_seasonal", "max", "fraction", "The same against the value a season ago"),
    Metric("skill_mae", "max", "fraction", "1 − mean absolute error of the median ÷ that of the last close"),
    Metric("pinball_10", "min", "fraction", "Mean pinball loss of p10, of the last close"),
    Metric("pinball_50", "min", "fraction", "Mean pinball loss of p50, of the last close"),
    Metric("pinball_90", "min", "fraction", "Mean pinball loss of p90, of the last close"),
    Metric("wql", "min", "fraction", "Weighted quantile loss, mean of all levels"),
    Metric("crps", "min", "fraction", "Twice the mean pinball loss of all levels, of the last close"),
    Metric("mae_percent", "min", "%", "Mean absolute error of the median in percent of the value"),
    Metric("sign_accuracy", "max", "fraction", "How often the median close is on the right side of the last close"),
    Metric("sign_low", None, "fraction", "Lower end of its 95 % interval"),
    Metric("sign_high", None, "fraction", "Upper end of its 95 % interval"),
    Metric("coverage_80", None, "fraction", "Share of values from p10 to p90; .8 is right"),
    Metric("calibration_error", "min", "fraction", "Mean distance of the share of values below a quantile from its level"),
    Metric("scored", None, "count", "Values scored: those with a forecast and an actual"),
)


def pinball(actual: ArrayLike, forecast: ArrayLike, levels: ArrayLike) -> Array:
    """Pinball loss of each quantile, max(τ·(y − q), (τ − 1)·(y − q)).

    Args:
        actual: (..., H).
        forecast: (..., Q, H).
        levels: τ of each of the Q.

    Returns:
        float64 (..., Q, H).
    """
    miss = np.asarray(actual, np.float64)[..., None, :] - np.asarray(forecast, np.float64)
    level = np.asarray(levels, np.float64)[:, None]
    return np.maximum(level * miss, (level - 1) * miss)


def wql(actual: ArrayLike, forecast: ArrayLike, levels: ArrayLike) -> float:
    """Weighted quantile loss: 2·Σ pinball / Σ |y|, mean of the levels. Shapes of `pinball`; cells with a NaN are left out."""
    y, q = _both(actual, forecast)
    total = float(np.nansum(np.abs(y)))
    return float(2 * np.nansum(pinball(y, q, levels)) / (q.shape[-2] * total)) if total > 0 else math.nan


def crps(actual: ArrayLike, forecast: ArrayLike, levels: ArrayLike) -> float:
    """Twice the mean pinball loss: the continuous ranked probability score as evenly spaced levels become dense."""
    return 2 * _mean(pinball(*_both(actual, forecast), levels))


def mae(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Mean absolute error of equal shapes."""
    return _mean(np.abs(np.subtract(forecast, actual)))


def mae_percent(actual: ArrayLike, forecast: ArrayLike) -> float:
    """100·mean(|ŷ − y| / max(|y|, 1e-8)) (SPEC B)."""
    return 100 * _mean(np.abs(np.subtract(forecast, actual)) / np.maximum(np.abs(actual), 1e-8))


def skill(loss: float, reference: float) -> float:
    """1 − loss / loss of the reference: 0 no better, 1 perfect; NaN beside a reference without loss."""
    return 1 - loss / reference if reference > 0 else math.nan


def coverage(actual: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """Share of values in [low, high], of equal shapes."""
    y, below, above = (np.asarray(x, np.float64) for x in (actual, low, high))
    inside = ((below <= y) & (y <= above)).astype(np.float64)
    return _mean(np.where(np.isfinite(y + below + above), inside, np.nan))


def calibration_error(actual: ArrayLike, forecast: ArrayLike, levels: ArrayLike) -> float:
    """Mean over levels of |share of values ≤ the quantile − level|. Shapes of `pinball`."""
    y, q = _both(actual, forecast)
    below = np.where(np.isnan(q), np.nan, y[..., None, :] <= q)
    return _mean(np.array([abs(_mean(below[..., i, :]) - level) for i, level in enumerate(np.asarray(levels))]))


def sign_hits(actual: ArrayLike, forecast: ArrayLike, last: ArrayLike) -> Array:
    """1 where forecast and actual are on the same side of the last value, else 0; NaN where either is on neither."""
    moved, said = np.sign(np.subtract(actual, last)), np.sign(np.subtract(forecast, last))
    return np.where((moved * said == 0) | np.isnan(moved * said), np.nan, (moved == said).astype(np.float64))


def wilson(rate: float, count: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share; NaN without a count, which need not be whole (an effective one)."""
    if not count > 0:
        return math.nan, math.nan
    z = float(stats.norm.ppf((1 + confidence) / 2))
    centre = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def effective_count(hits: ArrayLike, overlap: int = 1) -> float:
    """How many independent trials a mean of dependent ones is worth, p(1 − p)/Var(p̂), at most their number.

    Symbols and horizons of one origin err together, and so do origins closer than their horizon: the variance is that of origins'
    sums (clusters), with Newey–West weights over `overlap` − 1 neighbours.

    Args:
        hits: (N, ...) 1, 0 or NaN, origins first and in order.
        overlap: Origins that share a part of their future.
    """
    x = np.asarray(hits, np.float64)
    have = np.isfinite(x)
    count = int(have.sum())
    rows = int(have.reshape(len(x), -1).any(axis=1).sum())
    if rows < 2 * overlap + 1:
        return rows / overlap
    rate = float(x[have].mean())
    sums = np.where(have, x - rate, 0.0).reshape(len(x), -1).sum(axis=1) / count
    variance = _long_run(sums, overlap) * rows / (rows - 1)
    if not variance > 1e-12 / count:  # every forecast right, or every one wrong
        return rows / overlap
    return min(rate * (1 - rate) / variance, float(count))


def diebold_mariano(loss: ArrayLike, reference: ArrayLike, overlap: int = 1, alternative: str = "less") -> tuple[float, float]:
    """Tests equal expected loss of two forecasters on the same origins.

    Diebold & Mariano (1995) with a Newey–West variance of `overlap` − 1 lags, and the correction of Harvey, Leybourne & Newbold (1997):
    statistic · √((n + 1 − 2h + h(h − 1)/n)/n), Student's t with n − 1 degrees of freedom, h = `overlap`.

    Args:
        loss: (N,) per origin, in order; pairs with a NaN are left out.
        reference: (N,).
        overlap: Origins that share a part of their future: horizon ÷ stride, rounded up.
        alternative: "less": p is small when the forecaster's loss is lower than the reference's; "greater"; "two-sided".

    Returns:
        Statistic (negative where the forecaster is better) and p-value; NaN of fewer origins than 2·overlap + 1 or equal losses.
    """
    if alternative not in ("less", "greater", "two-sided"):
        raise TrainableError(f"alternative: {alternative!r} is not known; give less, greater or two-sided")
    d = np.subtract(loss, reference, dtype=np.float64)
    d = d[np.isfinite(d)]
    n = len(d)
    if n < 2 * overlap + 1:
        return math.nan, math.nan
    variance = _long_run(d - d.mean(), overlap)
    if not variance > 0:
        return math.nan, math.nan
    harvey = (n + 1 - 2 * overlap + overlap * (overlap - 1) / n) / n
    t = float(d.sum() / math.sqrt(variance) * math.sqrt(harvey))
    tail = {"less": stats.t.cdf(t, n - 1), "greater": stats.t.sf(t, n - 1), "two-sided": 2 * stats.t.sf(abs(t), n - 1)}
    return t, float(tail[alternative])


def references(
    contexts: ArrayLike, horizons: Sequence[int], levels: Sequence[float] = QUANTILES, close: int = -1, season: int = SEASON
) -> dict[str, Array]:
    """Forecasts that need no model, from the context alone; to be made once for a set of origins.

    Quantiles are those of log ratios in the context, x_i to what the forecast would have been carried forward from:

    * naive: last close · quantiles of x_i / c_{i−h}. What `empirical` makes of a panel, here of windows.
    * drift: the same, moved so that the close's median lies on the line through the context's first and last close. (Quantiles of the
      drift forecast's own misses would give naive again: the line adds what its misses lack.)
    * seasonal: value L bars before · quantiles of x_i / x_{i−L}, L the whole seasons that h reaches into.

    Args:
        contexts: Positive prices (..., V, T), time last.
        horizons: Bars ahead.
        levels: Quantile levels.
        close: Which of V is the close, which all fields are carried forward from; the last.
        season: Bars.

    Returns:
        "naive", "drift" and "seasonal", each float64 (..., V, Q, H); NaN of fewer than `MINIMUM` ratios.

    Raises:
        TrainableError: A horizon or season below 1.
    """
    if not horizons or min(horizons) < 1 or season < 1:
        raise TrainableError(f"horizons: {list(horizons)}, season {season}; give whole numbers of bars, at least 1")
    raw = np.asarray(contexts, np.float64)
    windows = np.where(np.isfinite(raw) & (raw > 0), raw, np.nan).reshape(-1, *raw.shape[-2:])
    made = {name: np.empty((*windows.shape[:2], len(levels), len(horizons))) for name in ("naive", "drift", "seasonal")}
    at = np.asarray(levels, np.float64)
    for start in range(0, len(windows), _CHUNK):
        rows = slice(start, start + _CHUNK)
        x = np.log(windows[rows])
        c = x[:, close]
        slope = _slope(c)[:, None, None]
        # Carried forward as they are: an open that always is the last close has an interval without width, and has to be in it.
        last = windows[rows, close, -1][:, None, None]
        for i, h in enumerate(horizons):
            seasons = -(-h // season) * season
            carried = _quantiles(x[..., h:] - c[:, None, :-h], at)
            centre = _quantiles(c[:, h:] - c[:, :-h], np.array([0.5]))[:, None]
            before = windows[rows, :, h - 1 - seasons, None] if seasons < x.shape[-1] else np.nan
            made["naive"][rows, ..., i] = last * np.exp(carried)
            made["drift"][rows, ..., i] = last * np.exp(carried - centre + h * slope)
            made["seasonal"][rows, ..., i] = before * np.exp(_quantiles(x[..., seasons:] - x[..., :-seasons], at))
    return {name: values.reshape(*raw.shape[:-1], *values.shape[-2:]) for name, values in made.items()}


def score(
    forecasts: ArrayLike,
    actual: ArrayLike,
    last_close: ArrayLike,
    levels: Sequence[float],
    horizons: Sequence[int],
    reference: Mapping[str, ArrayLike],
    stride: int = 1,
    close: int = -1,
) -> dict[str, float]:
    """All of `SCORES` for one symbol, or for several pooled.

    Args:
        forecasts: (N, V, Q, H) or (A, N, V, Q, H), raw prices; origins in order, at the same times for all symbols.
        actual: (N, V, H) or (A, N, V, H).
        last_close: (N,) or (A, N): close of the context's last bar.
        levels: Of the Q; .1, .5 and .9 must be among them.
        horizons: Of the H, in bars.
        reference: What `references` returns for these origins, at its default levels.
        stride: Bars between origins; the test and the interval allow for futures that overlap.
        close: Which of V is the close.

    Raises:
        TrainableError: A level is missing, a horizon or the stride is below 1, or shapes do not belong together.
    """
    level = np.asarray(levels, np.float64)
    if not horizons or min(*horizons, stride) < 1:
        raise TrainableError(f"horizons: {list(horizons)}, stride {stride}; give whole numbers of bars, at least 1")
    three = [int(np.argmin(np.abs(level - wanted))) for wanted in QUANTILES] if level.size else []
    if not three or not np.allclose(level[three], QUANTILES):
        raise TrainableError(f"levels: {list(levels)} lack one of {', '.join(map(str, QUANTILES))}")
    q, y, last = (np.asarray(x, np.float64) for x in (forecasts, actual, last_close))
    others = {name: np.asarray(x, np.float64) for name, x in reference.items()}
    if q.ndim == 4:
        q, y, last, others = q[None], y[None], last[None], {name: x[None] for name, x in others.items()}
    small = (*y.shape[:3], 3, y.shape[-1])
    fits = q.ndim == 5 and q.shape == (*y.shape[:3], len(level), len(horizons)) and last.shape == y.shape[:2]
    if not fits or any(others.get(name, q[..., 0]).shape != small for name in ("naive", "drift", "seasonal")):
        shapes = {"forecasts": q.shape, "actual": y.shape, "last_close": last.shape} | {name: x.shape for name, x in others.items()}
        raise TrainableError(f"shapes do not belong together for {len(level)} levels and {len(horizons)} horizons: {shapes}")
    q, y = q / last[..., None, None, None], y / last[..., None, None]
    others = {name: x / last[..., None, None, None] for name, x in others.items()}
    y, q = _both(y, q)
    overlap = -(-max(horizons) // stride)
    ours = pinball(y, q[..., three, :], QUANTILES)
    theirs = {name: pinball(y, x, QUANTILES) for name, x in others.items()}
    p10, p50, p90 = (q[..., i, :] for i in three)
    hits = np.moveaxis(sign_hits(y[..., close, :], p50[..., close, :], 1.0), 1, 0)
    rate = _mean(hits)
    low, high = wilson(rate, effective_count(hits, overlap))
    mine, naive = (_mean_rows(np.where(np.isnan(theirs["naive"] + ours), np.nan, x)) for x in (ours, theirs["naive"]))
    return {
        "skill": _skill(ours, theirs["naive"]),
        "skill_drift": _skill(ours, theirs["drift"]),
        "skill_seasonal": _skill(ours, theirs["seasonal"]),
        "skill_mae": skill(mae(y, p50), mae(y, np.where(np.isnan(p50), np.nan, 1.0))),
        "dm_p": diebold_mariano(mine, naive, overlap)[1],
        **{f"pinball_{round(100 * tau)}": _mean(ours[..., i, :]) for i, tau in enumerate(QUANTILES)},
        "wql": wql(y, q, level),
        "crps": crps(y, q, level),
        "mae_percent": mae_percent(y, p50),
        "sign_accuracy": rate,
        "sign_low": low,
        "sign_high": high,
        "coverage_80": coverage(y, p10, p90),
        "calibration_error": calibration_error(y, q, level),
        "scored": float(np.isfinite(p50).sum()),
    }


def score_symbols(
    symbols: Sequence[str],
    forecasts: ArrayLike,
    actual: ArrayLike,
    last_close: ArrayLike,
    levels: Sequence[float],
    horizons: Sequence[int],
    reference: Mapping[str, ArrayLike],
    stride: int = 1,
    close: int = -1,
) -> dict[str, dict[str, float]]:
    """`score` of each symbol and of all under "pooled"; arrays with symbols (A) in front."""
    q, y, last = (np.asarray(x, np.float64) for x in (forecasts, actual, last_close))
    others = {name: np.asarray(x, np.float64) for name, x in reference.items()}
    found = {
        symbol: score(q[a], y[a], last[a], levels, horizons, {name: x[a] for name, x in others.items()}, stride, close)
        for a, symbol in enumerate(symbols)
    }
    return found | {"pooled": score(q, y, last, levels, horizons, others, stride, close)}


def _both(actual: ArrayLike, forecast: ArrayLike) -> tuple[Array, Array]:
    """Actual (..., H) and forecast (..., Q, H), NaN in both wherever the actual or any quantile is missing."""
    y, q = np.asarray(actual, np.float64), np.asarray(forecast, np.float64)
    have = np.isfinite(y) & np.isfinite(q).all(axis=-2)
    return np.where(have, y, np.nan), np.where(have[..., None, :], q, np.nan)


def _skill(ours: Array, theirs: Array) -> float:
    have = np.isfinite(ours + theirs)
    return skill(_mean(ours[have]), _mean(theirs[have]))


def _mean(x: ArrayLike) -> float:
    """Mean of what is finite; NaN of nothing."""
    values = np.asarray(x, np.float64)
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def _mean_rows(loss: Array) -> Array:
    """Mean loss of each origin, (A, N, ...) → (N,)."""
    flat = np.moveaxis(loss, 1, 0).reshape(loss.shape[1], -1)
    count = np.isfinite(flat).sum(axis=1)
    return np.where(count > 0, np.nansum(flat, axis=1) / np.maximum(count, 1), np.nan)


def _long_run(d: Array, overlap: int) -> float:
    """Newey–West: Σ d² + 2 Σ_{k < overlap} (1 − k/overlap) Σ d_t d_{t−k}; n times the variance of a centred series' sum ÷ n."""
    total = float(d @ d)
    for k in range(1, min(overlap, len(d))):
        total += 2 * (1 - k / overlap) * float(d[k:] @ d[:-k])
    return total


def _slope(c: Array) -> Array:
    """Change per bar from the first finite value to the last, (..., T) → (...)."""
    have = np.isfinite(c)
    first, back = np.argmax(have, axis=-1), np.argmax(have[..., ::-1], axis=-1)
    bars = c.shape[-1] - 1 - back - first
    ends = [np.take_along_axis(c, at[..., None], axis=-1)[..., 0] for at in (first, c.shape[-1] - 1 - back)]
    return np.where(bars > 0, (ends[1] - ends[0]) / np.maximum(bars, 1), np.nan)


def _quantiles(x: Array, levels: Array) -> Array:
    """Quantiles (linear interpolation) of the finite values along the last axis, (..., Q); NaN of fewer than `MINIMUM`."""
    if x.shape[-1] < MINIMUM:
        return np.full((*x.shape[:-1], len(levels)), np.nan)
    ordered = np.sort(x, axis=-1)  # NaN last
    count = np.isfinite(x).sum(axis=-1, keepdims=True)
    place = np.maximum(count - 1, 0) * levels
    low = np.floor(place).astype(np.int64)
    below, above = (np.take_along_axis(ordered, at, axis=-1) for at in (low, np.ceil(place).astype(np.int64)))
    return np.where(count >= MINIMUM, below + (place - low) * (above - below), np.nan)

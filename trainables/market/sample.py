"""The embedded `sample` market: hourly bars that behave like bars, and in which the truth is known.

Without a signal it is a null market: every step of the price, within the bar too, has mean zero given the past, so no
strategy can earn anything before costs and whatever looks like skill is luck or a leak. With a signal, a slow drift is
planted and can be compared with what a model found. Returns share factors, have fat tails and clustered volatility. A bar
is made of twelve five-minute steps, and the extremes between two of them are drawn from the Brownian bridge: a limit is
touched as by a continuous price. (With the steps alone the price jumps across a limit, and a touched buy order would lose
a sixth of a bar's volatility on average, a cost that nobody asked for.)

All randomness comes from streams keyed by (seed, what for): a symbol's bars do not depend on which other symbols are
asked for, nor do the first bars depend on how many follow. Steps are rounded to `GRAIN` and prices to a tick, which hides
the last-bit differences between processors and mathematics libraries, so a fingerprint is the same everywhere.
"""

from __future__ import annotations

import difflib
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from trainables.market.assets import Asset, classify, make_assets
from trainables.market.errors import MarketError, UnclassifiedError
from trainables.market.panel import Panel, utc
from trainables.market.sessions import session_masks, sessions

STEPS = 12  # five-minute steps of an hourly bar
HOUR = np.timedelta64(3600 * 10**9, "ns")
MOST_BARS = 2_000_000  # 228 years; about 2 GB while one symbol is made
FIRST_HOUR, END = np.datetime64("1700-01-01T00", "h"), np.datetime64("2260-01-01T00", "h")
CLOSED = 0.25  # volatility of a stock while its market is closed, as a multiple: gaps overnight, wider ones over a weekend
DRIFT_HALF_LIFE = 48.0  # bars
VOLATILITY_HALF_LIFE = 60.0  # bars
VOLATILITY_SPREAD = 0.5  # stationary sd of log volatility
TAIL = 5.0  # degrees of freedom of the shocks
LARGEST_STEP = 0.25  # a five-minute step is cut here, both ways alike, so that prices stay positive and means zero
GRAIN = 2.0**-24  # of a step's return: from here on the walk is exact arithmetic, and an error in the last bit cannot add up


class Traits(NamedTuple):
    """How a symbol moves: first price, digits of its tick, volatility per bar, loadings on market and class factor, volume in units."""

    price: float
    digits: int
    volatility: float
    market: float
    sector: float
    volume: float


_TRAITS = {
    "BTCUSD": Traits(42_000.0, 2, 0.0050, 0.25, 0.80, 900.0),
    "ETHUSD": Traits(2_300.0, 2, 0.0062, 0.25, 0.78, 9_000.0),
    "SOLUSD": Traits(100.0, 2, 0.0085, 0.22, 0.66, 120_000.0),
    "LINKUSD": Traits(15.0, 4, 0.0082, 0.20, 0.66, 150_000.0),
    "UNIUSD": Traits(7.0, 4, 0.0090, 0.18, 0.60, 160_000.0),
    "NVDA": Traits(49.5, 2, 0.0105, 0.30, 0.60, 45_000_000.0),
    "MSFT": Traits(375.0, 2, 0.0055, 0.30, 0.60, 3_000_000.0),
}
_OTHERS = {"crypto": Traits(10.0, 4, 0.0090, 0.18, 0.60, 200_000.0), "stock": Traits(100.0, 2, 0.0070, 0.30, 0.50, 2_000_000.0)}
SYMBOLS = tuple(_TRAITS)


def sample_panel(
    symbols: Sequence[str] | None = None,
    bars: int = 2160,
    seed: int = 7,
    signal: float = 0.0,
    start: Any = "2024-01-01",
    costs: Mapping[str, Any] | None = None,
) -> Panel:
    """Makes the sample market.

    Args:
        symbols: Coins or US tickers; default BTCUSD, ETHUSD, SOLUSD, LINKUSD, UNIUSD, NVDA, MSFT.
        bars: Hours of the round-the-clock axis; stocks have bars in NYSE sessions only.
        seed: Seed of all randomness.
        signal: Information ratio per bar of someone who knows the planted drift exactly: the drift's stationary sd is
            `signal` times the current volatility, with a half-life of 48 bars. 0 is the null market.
        start: First hour, UTC.
        costs: Overrides for `make_assets`.

    Returns:
        The panel; the same arguments give the same fingerprint on every machine.

    Raises:
        MarketError: An argument out of range, or a symbol that cannot be classified.
    """
    return _sample(symbols, bars, seed, signal, start, costs)[0]


def sample_drift(
    symbols: Sequence[str] | None = None,
    bars: int = 2160,
    seed: int = 7,
    signal: float = 0.0,
    start: Any = "2024-01-01",
    costs: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """Returns what was planted: float64 (T, A), the expected simple return of each bar from its open to its close, NaN without a bar.

    Arguments as in `sample_panel`. Perfect knowledge: no trader has it, a test may.
    """
    return _sample(symbols, bars, seed, signal, start, costs)[1]


def near_misses(symbols: Sequence[str], declared: Iterable[str] = ()) -> dict[str, str]:
    """Returns the symbols that look like misspellings of the market's own, with what was probably meant.

    Any coin or ticker can be asked for, so BTCUS is a stock that happens to have no other fame; more likely it is BTCUSD.

    Args:
        symbols: Names asked for.
        declared: Names whose costs or class the user gave: those are meant.
    """
    found = {}
    for symbol in sorted(set(symbols) - set(SYMBOLS) - set(declared)):
        plain = symbol.upper().replace("/", "").replace("-", "")
        # Known coins are what they say; only a ticker is known by its shape alone.
        near = [plain] if plain in SYMBOLS else difflib.get_close_matches(plain, SYMBOLS, n=1, cutoff=0.8)
        if near and (plain in SYMBOLS or classify(symbol) == "stock"):
            found[symbol] = near[0]
    return found


def _sample(symbols: Any, bars: int, seed: int, signal: float, start: Any, costs: Mapping[str, Any] | None) -> tuple[Panel, np.ndarray]:
    names = SYMBOLS if symbols is None else tuple(symbols)
    for key, value, low, high in (("bars", bars, 1, MOST_BARS), ("seed", seed, 0, 2**64)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
            raise MarketError(f"{key}: {value!r} is not allowed; give a whole number from {low} to {high:,}")
    if isinstance(signal, bool) or not isinstance(signal, (int, float)) or not 0.0 <= signal <= 1.0:
        raise MarketError(f"signal: {signal!r} is not allowed; give an information ratio per bar from 0 to 1 (0.05 is a strong signal)")
    if not names or isinstance(symbols, str):
        raise MarketError("symbols: give a list with at least one name, or leave it out for " + ", ".join(SYMBOLS))
    try:
        assets = _with_ticks(make_assets(names, costs))
    except UnclassifiedError as error:
        raise UnclassifiedError(
            f"{error}. The sample market's own are {', '.join(SYMBOLS)}; of other known coins and US tickers it makes up bars"
        ) from None
    first = utc(start, "start").astype("datetime64[h]")
    if not FIRST_HOUR <= first <= END - bars:
        raise MarketError(f"start: {start!r} with {bars:,} hours leaves the years 1700 to 2259 that the calendar of sessions covers")
    times = first.astype("datetime64[ns]") + HOUR * np.arange(bars)
    factors = {name: _factor(seed, name, bars) for name in {"market", *(asset.asset_class for asset in assets)}}
    out = np.full((6, bars, len(assets)), np.nan)
    for column, asset in enumerate(assets):
        traits = _TRAITS.get(asset.symbol, _OTHERS[asset.asset_class])
        activity = _activity(times, asset.asset_class)
        rate = (activity**2).mean(axis=1)  # business time: a closed hour moves little, so slow states move little too
        level = VOLATILITY_SPREAD * (
            0.8 * _slow(seed, asset.asset_class, rate, VOLATILITY_HALF_LIFE) + 0.6 * _slow(seed, asset.symbol, rate, VOLATILITY_HALF_LIFE)
        )
        volatility = traits.volatility * np.exp(level - VOLATILITY_SPREAD**2)
        own = math.sqrt(1.0 - traits.market**2 - traits.sector**2)
        parts = ((traits.market, factors["market"]), (traits.sector, factors[asset.asset_class]), (own, _factor(seed, asset.symbol, bars)))
        unit = volatility / math.sqrt(STEPS)
        shock = sum(loading * scale[:, None] * normal for loading, (scale, normal) in parts) * unit[:, None]
        spread = np.sqrt(sum((loading * scale) ** 2 for loading, (scale, _) in parts)) * unit
        planted = signal * volatility * _slow(seed, "drift " + asset.symbol, rate, DRIFT_HALF_LIFE)
        chance = _stream(seed, "extremes " + asset.symbol).random((bars, STEPS, 2))
        steps = np.clip(shock, -LARGEST_STEP, LARGEST_STEP) * activity + planted[:, None] * activity**2 / STEPS
        _bars(np.round(steps / GRAIN) * GRAIN, spread, chance, planted, activity, traits.price, out[:, :, column])
        out[:4, :, column] = np.maximum(np.round(out[:4, :, column], traits.digits), 10.0**-traits.digits)
        size = np.abs(np.log(out[3, :, column] / out[0, :, column])) / traits.volatility
        noise = _stream(seed, "volume " + asset.symbol).standard_normal(bars)
        traded = traits.volume * np.exp(0.4 * noise + 0.5 * level + 0.3 * np.minimum(size, 6.0) - 0.25)
        out[4, :, column] = np.round(traded) + 1.0 + 0.0 * size
    hours, last = session_masks(times, 3600.0, assets)
    exists = ~np.isnan(out[3])
    keys = ("open", "high", "low", "close", "volume")
    panel = Panel(
        times=times,
        symbols=names,
        tradable=hours & exists,
        session_last=last & exists,
        assets=assets,
        source="sample",
        **dict(zip(keys, out[:5], strict=True)),
    )
    return panel, out[5]


def _with_ticks(assets: Sequence[Asset]) -> tuple[Asset, ...]:
    def tick(asset: Asset) -> float:
        return asset.tick or 10.0 ** -_TRAITS.get(asset.symbol, _OTHERS[asset.asset_class]).digits

    return tuple(replace(asset, tick=tick(asset)) for asset in assets)


def _stream(seed: int, purpose: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([int(seed), zlib.crc32(purpose.encode())])))


def _factor(seed: int, name: str, bars: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (scale (T,), normal steps (T, 12)); their product has unit variance and is Student-t in the sum of a bar."""
    scale = np.sqrt((TAIL - 2.0) / (2.0 * _stream(seed, "scale " + name).standard_gamma(TAIL / 2.0, bars)))
    return scale, _stream(seed, "steps " + name).standard_normal((bars, STEPS))


def _slow(seed: int, name: str, rate: np.ndarray, half_life: float) -> np.ndarray:
    """A stationary AR(1) (T,) of unit variance in business time; `rate` (T,) is how much of an hour passes in each row."""
    return _autoregress(_stream(seed, f"slow {half_life:g} {name}").standard_normal(len(rate)), 0.5 ** (rate / half_life))


@njit(cache=True)
def _autoregress(noise, decay):
    out = np.empty_like(noise)
    out[0] = noise[0]
    for t in range(1, noise.shape[0]):
        out[t] = decay[t] * out[t - 1] + math.sqrt(1.0 - decay[t] * decay[t]) * noise[t]
    return out


def _activity(times: np.ndarray, asset_class: str) -> np.ndarray:
    """Volatility multiple of each step, (T, 12): 1 while the market is open, `CLOSED` while not."""
    if asset_class == "crypto":
        return np.ones((len(times), STEPS))
    _, opens, closes = sessions(times[0], times[-1])
    steps = times[:, None] + (HOUR // STEPS) * np.arange(STEPS)
    session = np.searchsorted(closes, steps, side="right")
    return np.where(steps >= opens[session], 1.0, CLOSED)


@njit(cache=True)
def _bars(steps, spread, chance, planted, activity, price, out):
    """Walks the price and writes open, high, low, close of the open steps, and the drift planted in them (rows 0–3 and 5 of `out`).

    Args:
        steps: (T, 12) simple return of each step.
        spread: (T,) standard deviation of a step, given the bar's scales; for the extremes between steps.
        chance: (T, 12, 2) uniforms in [0, 1) for the maximum and the minimum of each step.
        planted: (T,) drift per bar.
        activity: (T, 12) 1 while open.
        price: First price.
        out: (6, T), written where the market is open.
    """
    n_rows, n_steps = steps.shape
    for t in range(n_rows):
        opened = False
        drift = 0.0
        high = 0.0
        low = 0.0
        for j in range(n_steps):
            before = price
            price *= 1.0 + steps[t, j]
            if activity[t, j] < 1.0:
                continue
            if not opened:
                opened = True
                out[0, t] = before
                high = before
                low = before
            drift += planted[t] / n_steps
            # Maximum of a Brownian bridge: ((x+y) + √((y−x)² − 2σ² ln U)) / 2; U in (0, 1].
            step = price - before
            variance = 2.0 * (spread[t] * before) ** 2
            high = max(high, 0.5 * (before + price + math.sqrt(step * step - variance * math.log(1.0 - chance[t, j, 0]))))
            low = min(low, 0.5 * (before + price - math.sqrt(step * step - variance * math.log(1.0 - chance[t, j, 1]))))
            out[3, t] = price
        if opened:
            out[1, t] = high
            out[2, t] = max(low, 0.5 * min(out[0, t], out[3, t]))  # a price stays positive
            out[5, t] = drift

"""Synthetic series to pretrain the embedded model on, and held-out sets to judge it by.

A family makes groups of series that may inform each other (Chronos-2 attends within a group): mixtures of periods, trend and
noise in the manner of KernelSynth (Chronos, arXiv:2403.07815, appendix A), daily and weekly profiles, several views of shared
sources, and the sample market's own process. Everything follows from the Generator given; nothing here reads or sets a global one.
Markets take seeds from 2⁶² up, which no study uses by accident: those of the training set end where those held out begin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from trainables.market.sample import sample_panel

PERIODS = np.array([4, 5, 6, 7, 8, 12, 14, 16, 24, 30, 36, 48, 52, 60, 90, 96, 120, 168], float)
LONGEST_LAG = 24  # between views of one source
TRAINING_MARKETS = 2**63  # first seed; 2⁶² of them
HELD_OUT_MARKETS = 2**62
MARKET_SIGNALS = (0.0, 0.0, 0.1, 0.25)  # half of the markets hold nothing but their volatility
SHARES = {"profiles": 0.35, "mixtures": 0.28, "views": 0.17, "markets": 0.20}  # of groups; a market's groups are the largest

Family = Callable[[np.random.Generator, np.ndarray, int], np.ndarray]


class Batch(NamedTuple):
    """Series with the groups they belong to.

    Attributes:
        values: float32 (R, length).
        groups: int64 (R,), ascending; rows of one number are one group.
    """

    values: np.ndarray
    groups: np.ndarray


def autoregressive(decay: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Returns y_t = decay · y_{t−1} + noise_t row by row; decay (n, 1), noise and result (n, T)."""
    out = np.empty(noise.T.shape)
    state = np.zeros(len(noise))
    for t, step in enumerate(noise.T):
        state = decay[:, 0] * state + step
        out[t] = state
    return out.T


def mixtures(rng: np.random.Generator, sizes: np.ndarray, length: int) -> np.ndarray:
    """Makes independent series: up to three periodic parts, a trend, AR(1) or a random walk, white noise, now and then a level shift.

    Args:
        rng: Source of all randomness.
        sizes: int (G,), series in each group.
        length: Steps.

    Returns:
        float64 (sizes.sum(), length).
    """
    n = int(sizes.sum())
    t = np.arange(length)[None]

    def chance(p: float) -> np.ndarray:
        return rng.random((n, 1)) < p

    y = np.zeros((n, length))
    for share in (0.85, 0.5, 0.25):
        period = np.where(chance(0.7), rng.choice(PERIODS, (n, 1)), rng.uniform(4, 200, (n, 1)))
        wave = np.zeros((n, length))
        for harmonic in (1, 2, 3):
            phase = rng.uniform(0, 2 * np.pi, (n, 1))
            wave += rng.normal(size=(n, 1)) / harmonic * np.sin(2 * np.pi * harmonic * t / period + phase)
        swell = np.sin(2 * np.pi * t / rng.uniform(200, 1000, (n, 1)) + rng.uniform(0, 2 * np.pi, (n, 1)))
        y += chance(share) * np.exp(rng.normal(0, 0.6, (n, 1))) * wave * (1 + 0.5 * chance(0.25) * swell)
    y += chance(0.5) * rng.normal(0, 2, (n, 1)) * t / length
    kind = rng.random((n, 1))  # below 0.35 a random walk, below 0.7 AR(1), else neither
    decay = np.where(kind < 0.35, 1.0, rng.uniform(0.3, 0.99, (n, 1)))
    scale = np.where(kind < 0.35, np.exp(rng.normal(-2, 0.9, (n, 1))), np.exp(rng.normal(-1, 0.8, (n, 1)))) * (kind < 0.7)
    y += scale * autoregressive(decay, rng.normal(size=(n, length)))
    y += rng.normal(size=(n, length)) * np.exp(rng.normal(-2, 1, (n, 1)))
    y += chance(0.1) * rng.normal(size=(n, 1)) * (t > rng.integers(0, length, (n, 1)))
    return _placed(rng, y)


def profiles(rng: np.random.Generator, sizes: np.ndarray, length: int) -> np.ndarray:
    """Makes hourly-like series that repeat a daily or weekly profile with trend, a slow walk and noise; a group shares its profile.

    Arguments and result as in `mixtures`.
    """
    groups = len(sizes)
    period = np.where(rng.random(groups) < 0.7, 24, rng.choice([12, 24, 48, 168], groups))
    shape = rng.normal(size=(groups, 168))
    weekly = (period == 168) & (rng.random(groups) < 0.7)  # most weeks are seven days that resemble each other
    shape = np.where(weekly[:, None], 0.5 * shape + np.tile(rng.normal(size=(groups, 24)), 7), shape)
    around = (np.arange(168)[None, :, None] + np.arange(-2, 3)) % period[:, None, None]
    smooth = np.take_along_axis(shape, around.reshape(groups, 168 * 5), axis=1).reshape(groups, 168, 5).mean(axis=2)
    shape = np.where(rng.random((groups, 1)) < 0.7, smooth, shape)
    hours = rng.integers(0, 1000, (groups, 1)) + np.arange(length)
    wave = np.take_along_axis(shape, hours % period[:, None], axis=1)
    wave = np.repeat(wave / (wave.std(axis=1, keepdims=True) + 1e-6), sizes, axis=0)
    n = len(wave)
    sign = np.where(rng.random((n, 1)) < 0.2, -1.0, 1.0)
    y = sign * rng.uniform(0.3, 3, (n, 1)) * wave
    y += (rng.random((n, 1)) < 0.4) * rng.normal(0, 2, (n, 1)) * np.arange(length) / length
    y += 0.05 * rng.uniform(0, 2, (n, 1)) * np.cumsum(rng.normal(size=(n, length)), axis=1)
    y += rng.uniform(0.05, 0.8, (n, 1)) * rng.normal(size=(n, length))
    return _placed(rng, y)


def views(rng: np.random.Generator, sizes: np.ndarray, length: int) -> np.ndarray:
    """Makes groups whose series are noisy mixes of three shared sources, half of them late by up to `LONGEST_LAG` steps.

    Arguments and result as in `mixtures`.
    """
    whole = length + LONGEST_LAG
    sources = mixtures(rng, np.full(len(sizes), 3), whole)
    sources -= sources.mean(axis=1, keepdims=True)
    sources /= sources.std(axis=1, keepdims=True) + 1e-6
    group = np.repeat(np.arange(len(sizes)), sizes)
    n = len(group)
    weights = rng.normal(size=(n, 3)) * (rng.random((n, 3)) < 0.6)
    lags = rng.integers(0, LONGEST_LAG + 1, n) * (rng.random(n) < 0.5)
    mixed = np.einsum("nk,nkt->nt", weights, sources.reshape(len(sizes), 3, whole)[group])
    late = np.take_along_axis(mixed, LONGEST_LAG - lags[:, None] + np.arange(length), axis=1)
    return _placed(rng, late + 0.05 * rng.normal(size=late.shape))


def markets(first_seed: int, count: int, bars: int, signals: tuple[float, ...] = MARKET_SIGNALS) -> list[list[np.ndarray]]:
    """Makes sample markets, symbol by symbol in its own bars.

    Args:
        first_seed: Seed of the first market; the next ones follow.
        count: Markets.
        bars: Hours of each; stocks have about a fifth as many bars.
        signals: Strength of the planted drift, taken in turn.

    Returns:
        Per market and symbol float32 (9, T): open, high, low, close and, from the raw bars, volume, its logarithm, return, range and
        body (SPEC C.1).
    """
    made = []
    for i in range(count):
        panel = sample_panel(bars=bars, seed=first_seed + i, signal=signals[i % len(signals)])
        fields = np.stack([panel.open, panel.high, panel.low, panel.close, panel.volume])
        made.append([_bars(*fields[:, :, k]) for k in range(len(panel.symbols))])
    return made


def market_windows(made: list[list[np.ndarray]]) -> Family:
    """Returns the family of windows into `markets`: groups of 4 are a symbol's prices, of 9 with covariates, of 8 two symbols' prices."""

    def family(rng: np.random.Generator, sizes: np.ndarray, length: int) -> np.ndarray:
        rows = []
        for size in sizes:
            market = made[rng.integers(len(made))]
            long_enough = [k for k, symbol in enumerate(market) if symbol.shape[1] >= length]
            if size == 8:  # the same hours of two coins, whose rows are the same
                shared = [k for k in long_enough if market[k].shape == market[0].shape]
                chosen = [market[k][:4] for k in rng.choice(shared, 2, replace=False)]
            else:
                chosen = [market[rng.choice(long_enough)][:size]]
            start = rng.integers(chosen[0].shape[1] - length + 1)
            rows += [symbol[:, start : start + length] for symbol in chosen]
        return np.concatenate(rows) if rows else np.empty((0, length))

    return family


def draw(rng: np.random.Generator, market: Family, rows: int, length: int) -> Batch:
    """Draws a training batch of the families in `SHARES`.

    Args:
        rng: Source of all randomness.
        market: From `market_windows`.
        rows: Series wanted; whole groups only, so up to 8 more.
        length: Steps, context and horizon together.
    """
    kinds = rng.choice(len(SHARES), size=rows, p=list(SHARES.values()))
    sizes = np.stack(
        [rng.integers(1, 4, rows), np.ones(rows, int), rng.integers(2, 5, rows), rng.choice([4, 8, 9], rows, p=[0.7, 0.15, 0.15])]
    )[kinds, np.arange(rows)]
    taken = int(np.searchsorted(np.cumsum(sizes), rows)) + 1
    kinds, sizes = kinds[:taken], sizes[:taken]
    families: tuple[Family, ...] = (profiles, mixtures, views, market)
    values = np.concatenate([family(rng, sizes[kinds == k], length) for k, family in enumerate(families)])
    ordered = np.concatenate([sizes[kinds == k] for k in range(len(families))])
    return Batch(values.astype(np.float32), np.repeat(np.arange(taken), ordered))


def daily_seasons(rng: np.random.Generator, count: int, length: int) -> np.ndarray:
    """Makes held-out hourly series with a smooth daily season (three harmonics), a trend and white noise; float64 (count, length)."""
    t = np.arange(length)[None]
    y = np.zeros((count, length))
    for harmonic in (1, 2, 3):
        phase = rng.uniform(0, 2 * np.pi, (count, 1))
        y += rng.normal(size=(count, 1)) / harmonic * np.sin(2 * np.pi * harmonic * t / 24 + phase)
    y += rng.normal(0, 1, (count, 1)) * t / length
    return _placed(rng, y + rng.uniform(0.05, 0.4, (count, 1)) * rng.normal(size=(count, length)))


def gaussian_processes(rng: np.random.Generator, count: int, length: int, most_kernels: int = 5) -> np.ndarray:
    """Draws held-out series from random sums and products of kernels (KernelSynth proper), a generator no training series came from.

    Args:
        rng: Source of all randomness.
        count: Series.
        length: Steps.
        most_kernels: Kernels of one series, at most.

    Returns:
        float64 (count, length).
    """
    x = np.arange(length) / length
    apart = x[:, None] - x[None]

    def kernel() -> np.ndarray:
        kind = rng.integers(5)
        if kind == 0:
            return np.exp(-2 * np.sin(np.pi * apart * length / rng.choice(PERIODS)) ** 2)
        if kind == 1:
            return np.exp(-0.5 * (apart / rng.choice([0.02, 0.1, 1.0])) ** 2)
        if kind == 2:
            return x[:, None] * x[None] + rng.choice([0.0, 1.0])
        if kind == 3:
            return (1 + apart**2 / (0.2 * rng.choice([0.1, 1.0]))) ** -rng.choice([0.1, 1.0])
        return np.eye(length) * rng.choice([0.1, 1.0])

    out = np.empty((count, length))
    for i in range(count):
        covariance = kernel()
        for _ in range(rng.integers(most_kernels)):
            covariance = covariance + kernel() if rng.random() < 0.5 else covariance * kernel()
        jitter = 1e-6 * np.trace(covariance) / length
        out[i] = np.linalg.cholesky(covariance + jitter * np.eye(length)) @ rng.normal(size=length)
    return out


def _placed(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """Gives each row a scale and a level of its own."""
    return y * np.exp(rng.normal(size=(len(y), 1))) + rng.normal(0, 3, (len(y), 1))


def _bars(*columns: np.ndarray) -> np.ndarray:
    have = np.isfinite(columns[3])
    opens, high, low, close, volume = (column[have] for column in columns)
    before = np.concatenate([close[:1], close[:-1]])
    covariates = (volume, np.log1p(volume), close / before - 1, (high - low) / close, close / opens - 1)
    return np.stack([opens, high, low, close, *covariates]).astype(np.float32)

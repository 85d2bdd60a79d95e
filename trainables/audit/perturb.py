"""Other futures: a market that is the same up to a row and different after it.

Each kind finds leaks the others miss: scaled bars move any number that reads them; a permutation keeps the sample's
distribution and moves only what depends on order; removed and missing bars move what guesses the calendar or the universe
from the data; a single bar that reaches every limit, or none, moves what knows a fill before it happens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainables.market import Panel
from trainables.market.panel import BAR

FIELDS = BAR
Bars = dict[str, np.ndarray]
REACH = 0.05  # how far a `wide` bar goes beyond its prices, as a fraction; limits of hourly bars are nearer


@dataclass(frozen=True)
class Reach:
    """From when on each part of a perturbed panel may differ from the original.

    Attributes:
        symbols: The original's A symbols.
        first: datetime64[ns] (A,) start of the first changed bar of each symbol; the far future if none.
        settled: datetime64[ns], when the first changed bar of all has ended, hence could be known.
        existence: datetime64[ns], start of the first row in which a bar was added or taken away.
    """

    symbols: tuple[str, ...]
    first: np.ndarray
    settled: np.datetime64
    existence: np.datetime64


NEVER = np.datetime64("2262-01-01", "ns")


def reach(panel: Panel, other: Panel) -> Reach:
    """Compares two panels of the same symbols; `other` may have lost rows at its end."""
    rows = other.n_bars
    changed = np.ones(panel.close.shape, bool)
    changed[:rows] = False
    for name in FIELDS:
        here, there = getattr(panel, name)[:rows], getattr(other, name)
        changed[:rows] |= ~((here == there) | (np.isnan(here) & np.isnan(there)))
    gone = np.ones(panel.n_bars, bool)
    gone[:rows] = (panel.exists[:rows] != other.exists).any(axis=1)
    first = np.array([panel.times[column.argmax()] if column.any() else NEVER for column in changed.T], dtype="datetime64[ns]")
    bar = np.timedelta64(round(panel.bar_seconds * 1e9), "ns")
    settled = min(first.min() + bar, NEVER)
    return Reach(panel.symbols, first, settled, panel.times[gone.argmax()] if gone.any() else NEVER)


def _scaled(panel: Panel, where: np.ndarray, rng: np.random.Generator) -> Bars:
    # A random walk from another level. With noise around the old prices, whoever buys low would be rich beyond all numbers.
    shape = panel.close.shape
    steps = rng.normal(0.0, min(0.02, 2.0 / shape[0] ** 0.5), shape) * where
    walk = np.cumsum(steps, axis=0) + rng.normal(0.0, 0.2, shape[1])
    start = np.array([column[~np.isnan(column)][0] if (~np.isnan(column)).any() else np.nan for column in panel.close.T])
    for a in range(shape[1]):
        before = np.flatnonzero(panel.exists[:, a] & ~where[:, a])
        start[a] = panel.close[before[-1], a] if len(before) else start[a]
    opened, close = start * np.exp(walk - steps), start * np.exp(walk)
    return {
        "open": opened,
        "close": close,
        "high": np.maximum(opened, close) * (1.0 + rng.exponential(0.01, shape)),
        "low": np.minimum(opened, close) * (1.0 - np.minimum(rng.exponential(0.01, shape), 0.5)),
        "volume": np.round(panel.volume * np.exp(rng.normal(0.0, 1.0, shape))) + 1.0,
    }


def _permuted(panel: Panel, where: np.ndarray, rng: np.random.Generator) -> Bars:
    bars = {name: getattr(panel, name).copy() for name in FIELDS}
    for a in range(len(panel.symbols)):
        rows = np.flatnonzero(where[:, a] & panel.exists[:, a])
        shuffled = rng.permutation(rows)
        for values in bars.values():
            values[rows, a] = values[shuffled, a]
    return bars


def _missing(panel: Panel, where: np.ndarray, rng: np.random.Generator) -> Bars:
    gone = rng.random(panel.close.shape) < 0.3
    return {name: np.where(gone, np.nan, getattr(panel, name)) for name in FIELDS}


def _wide(panel: Panel, where: np.ndarray, rng: np.random.Generator) -> Bars:
    return {"high": panel.high * (1.0 + REACH), "low": panel.low * (1.0 - REACH)}


def _still(panel: Panel, where: np.ndarray, rng: np.random.Generator) -> Bars:
    # At the last close no limit away from it is reached; a bar's own open would do where none came before.
    last = panel.open.copy()
    for a in range(len(panel.symbols)):
        rows = np.flatnonzero(panel.exists[:, a])
        last[rows[1:], a] = panel.close[rows[:-1], a]
    return dict.fromkeys(("open", "high", "low", "close"), last)


_KINDS: dict[str, Callable[[Panel, np.ndarray, np.random.Generator], Bars]] = {
    "scaled": _scaled,
    "permuted": _permuted,
    "missing": _missing,
    "wide": _wide,
    "still": _still,
}
FUTURE = ("scaled", "permuted", "removed", "missing")
ONE_BAR = ("still", "wide")


def perturb(
    panel: Panel,
    kind: str,
    row: int,
    rng: np.random.Generator,
    symbol: int | None = None,
    fields: Sequence[str] = FIELDS,
) -> Panel:
    """Returns a panel with another future.

    Args:
        panel: T rows, A symbols.
        kind: One of `FUTURE`, which change all bars from `row` on ("removed": cut off there), or of `ONE_BAR`, which change
            that row only ("wide": its extremes reach every limit; "still": it stays at the last close).
        row: First changed row, at least 1.
        rng: Randomness.
        symbol: Column of the only symbol to change; all if None.
        fields: The raw columns to change; high and low give way so that the bar stays possible.
    """
    if kind == "removed":
        return panel.between(end=panel.times[row])
    index = np.arange(panel.n_bars)[:, None]
    where = np.broadcast_to(index >= row if kind in FUTURE else index == row, panel.close.shape)
    if symbol is not None:
        where = where & (np.arange(len(panel.symbols)) == symbol)
    made = _KINDS[kind](panel, where, rng)
    bars = {name: np.where(where & panel.exists, made.get(name, getattr(panel, name)), getattr(panel, name)) for name in FIELDS}
    if len(fields) < len(FIELDS):
        bars = {name: bars[name] if name in fields else getattr(panel, name) for name in FIELDS}
        keep = "high" if "high" in fields else "low"
        bars[keep] = (np.maximum if keep == "high" else np.minimum)(bars[keep], bars["low" if keep == "high" else "high"])
    exists = ~np.isnan(bars["close"])
    return replace(panel, tradable=panel.tradable & exists, session_last=panel.session_last & exists, **bars)

"""What every engine of the benchmark gets: one market, one list of configurations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from trainables.selector.inputs import SelectorInputs
from trainables.selector.options import profile_defaults
from trainables.selector.trainable import SelectorTrainable

# Twenty markets that never close: every asset has a bar in every row, so assets × bars × configurations counts real work.
COINS = ("AAVE", "ADA", "ALGO", "APT", "ATOM", "AVAX", "BCH", "BNB", "BTC", "DOGE")
MORE_COINS = ("DOT", "ETH", "LINK", "LTC", "SOL", "TRX", "UNI", "VET", "XLM", "XRP")
SYMBOLS = tuple(f"{coin}USD" for coin in (*COINS, *MORE_COINS))
BARS = 8760
INITIAL_CASH = 10_000.0

# The plain grid: what a strategy sweep varies first. 5 · 5 · 4 · 3 · 4 = 1,200 configurations.
GRID: dict[str, Sequence[Any]] = {
    "max_positions": (1, 2, 3, 4, 5),
    "min_edge": (0.0, 0.0005, 0.001, 0.002, 0.004),
    "offset": (-0.0005, 0.0, 0.0005, 0.001),
    "intensity": (0.6, 0.8, 1.0),
    "max_hold": (0, 4, 8, 24),
}
# The same with patience: exits 5 % away, positions held for hours or days. 5 · 5 · 4 · 3 · 4 = 1,200 configurations.
SWING_GRID = GRID | {"max_hold": (8, 24, 48, 72)}
LIBRARY = Path(__file__).parents[1] / "sweeps" / "library" / "selector_wide.yaml"


def market(bars: int = BARS) -> SelectorInputs:
    """Prepares the sample market as a study would: 20 assets, forecasts by `empirical`, fixed-logit actions.

    There is no smallest order: an account that fees have eaten would stop trading, and a kernel that skips idle rows would
    be timed on dead accounts.
    """
    free = {"crypto": {"min_notional": 0.0}}
    data = {"source": "sample", "symbols": list(SYMBOLS), "bars": bars, "signal": 0.05, "seed": 7, "assets": free}
    inputs: SelectorInputs = SelectorTrainable().prepare(data, {}).inputs.parts[0]
    return inputs


def swing(inputs: SelectorInputs) -> SelectorInputs:
    """Returns the market with sell orders 5 % above the close: a few trades a week instead of one an hour."""
    orders = np.array(inputs.orders)
    orders[1] = inputs.panel.close * 1.05
    return SelectorInputs(inputs.panel, orders)


def slice_of(inputs: SelectorInputs, rows: int) -> SelectorInputs:
    """Returns the last `rows` rows."""
    return SelectorInputs(inputs.panel.tail(rows), np.ascontiguousarray(inputs.orders[:, -rows:]))


def grid(n: int | None = None, seed: int = 0, axes: Mapping[str, Sequence[Any]] = GRID) -> list[dict[str, Any]]:
    """Returns the points of a grid in its order.

    Args:
        n: How many points to draw without replacement (kept in grid order); more than the grid has: `min_edge` gets finer steps.
        seed: Of the draw.
        axes: The grid.
    """
    axes = dict(axes)
    size = math.prod(len(values) for values in axes.values())
    if n is not None and n > size:
        axes["min_edge"] = np.linspace(0.0, 0.004, 5 * math.ceil(n / size)).tolist()
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if n is not None:
        points = [points[i] for i in np.sort(np.random.default_rng(seed).permutation(len(points))[:n])]
    return [profile_defaults("realistic") | point for point in points]


def library_sample(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Draws `n` configurations from the ranges of the library's `selector_wide` study, every axis at random."""
    space: Mapping[str, Sequence[Any]] = yaml.safe_load(LIBRARY.read_text(encoding="utf-8"))["space"]
    rng = np.random.default_rng(seed)
    return [
        profile_defaults("realistic") | {name: values[int(rng.integers(len(values)))] for name, values in space.items()} for _ in range(n)
    ]


def costs(inputs: SelectorInputs) -> pd.DataFrame:
    """Returns maker, taker, half_spread (fractions) and min_notional by symbol."""
    rows = [(a.maker_fee_bps / 1e4, a.taker_fee_bps / 1e4, a.half_spread_bps / 1e4, a.min_notional) for a in inputs.panel.assets]
    return pd.DataFrame(rows, index=list(inputs.panel.symbols), columns=["maker", "taker", "half_spread", "min_notional"])

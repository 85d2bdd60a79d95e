"""Random small markets, orders and configurations for comparing the kernels with the reference simulator."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainables.market import Asset, Panel, session_masks
from trainables.selector.candidates import FLAGS, LAST, TRADABLE
from trainables.selector.inputs import SelectorInputs
from trainables.selector.options import PARAMETERS, profile_defaults

SYMBOLS = ("AAA", "BBB", "CCC", "DDD")


def random_inputs(seed: int, overlap: bool = False, bars: int | None = None) -> SelectorInputs:
    """A market of 1–4 symbols over 20–90 rows: gaps, sessions, odd costs, missing orders, late listings, ends; on request two clocks.

    Half of them stand still for about a week, so that what has no bar afterwards has ended (rule R12).
    """
    rng = np.random.default_rng(seed)
    n, n_rows = (4, bars) if bars else (int(rng.integers(1, 5)), int(rng.integers(20, 90)))
    stock = rng.random(n) < 0.5
    start = np.datetime64("2024-03-07T12:00", "ns")
    pause = int(rng.choice([0, 0, 0, 150, 166, 167, 200])) * (np.arange(n_rows) >= rng.integers(n_rows // 4, n_rows))
    hours = start + (np.arange(n_rows) + pause) * np.timedelta64(1, "h")
    times = hours
    if overlap and n > 1:
        stock[0], stock[-1] = True, False
        times = np.sort(np.concatenate([hours, hours + np.timedelta64(30, "m")]))
    assets = tuple(
        Asset(
            symbol=s,
            asset_class="stock" if is_stock else "crypto",
            maker_fee_bps=float(rng.choice([0.0, 2.0, 15.0])),
            taker_fee_bps=float(rng.choice([1.0, 25.0])),
            half_spread_bps=float(rng.choice([0.0, 3.0])),
            can_long=bool(rng.random() < 0.9),
            can_short=bool(rng.random() < 0.5),
            min_notional=float(rng.choice([0.0, 10.0, 2000.0])),
        )
        for s, is_stock in zip(SYMBOLS[:n], stock, strict=True)
    )
    shape = (len(times), n)
    # Prices move on a coarse grid, so that touches, equal scores and exact boundaries happen.
    close = np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.01, shape), axis=0)), 1)
    open_ = np.round(close * (1 + rng.normal(0, 0.004, shape)), 1)
    high = np.round(np.maximum(open_, close) * (1 + rng.exponential(0.004, shape)), 1) + 0.1
    low = np.round(np.minimum(open_, close) * (1 - rng.exponential(0.004, shape)), 1) - 0.1
    volume = np.round(rng.lognormal(3, 1.5, shape), 1)
    gone = rng.random(shape) < 0.08
    row = np.arange(shape[0])[:, None] / shape[0]
    gone |= row < np.where(rng.random(n) < 0.25, rng.uniform(0.0, 0.4, n), 0.0)  # listed late
    gone |= row >= np.where(rng.random(n) < 0.35, rng.uniform(0.3, 1.0, n), 1.0)  # ended
    gone |= np.abs(row - rng.uniform(0.3, 0.9, n)) < np.where(rng.random(n) < 0.25, 0.05, 0.0)  # halted
    if overlap and n > 1:
        half = (times.astype("datetime64[m]").astype(int) % 60) == 30
        gone |= np.where(stock[None, :], ~half[:, None], half[:, None])
    keep = ~gone.all(axis=1)
    times, gone = times[keep], gone[keep]
    bars = [np.where(gone, np.nan, x[keep]) for x in (open_, high, low, close, volume)]
    tradable, last = session_masks(times, 3600.0, assets)
    exists = ~gone
    panel = Panel(times, SYMBOLS[:n], *bars, tradable & exists, last & exists, assets, "random")
    close = bars[3]
    buy = np.round(close * (1 - rng.exponential(0.004, close.shape)), 1)
    sell = np.round(close * (1 + rng.exponential(0.004, close.shape)), 1)
    buy_amount = rng.choice([0.0, 0.3, 0.5, 0.9, 1.0], close.shape)
    sell_amount = rng.choice([0.0, 0.4, 1.0], close.shape)
    ph = np.round(close * (1 + np.abs(rng.normal(0.004, 0.008, close.shape))), 1)
    pl = np.round(close * (1 - np.abs(rng.normal(0.003, 0.008, close.shape))), 1)
    pc = np.round(close * (1 + rng.normal(0.001, 0.008, close.shape)), 1)
    orders = np.stack([buy, sell, buy_amount, sell_amount, ph, pl, pc])
    orders[:, rng.random(close.shape) < 0.07] = np.nan
    orders[rng.integers(0, 7), rng.random(close.shape) < 0.03] = np.nan
    return SelectorInputs(panel, orders)


def random_config(seed: int, profile: str) -> dict[str, Any]:
    """A complete configuration that uses any option."""
    rng = np.random.default_rng(seed)
    chance = {
        "intensity": [0.5, 1.0, 2.0, 150.0],
        "offset": [0.0, -0.001, 0.001, 0.003],
        "min_edge": [-0.02, 0.0, 0.001, 0.004],
        "risk_weight": [0.0, 0.25, 1.0],
        "edge_mode": ["high_low", "high", "close"],
        "dip_threshold": [0.0, 0.002, 0.006],
        "max_hold": [0.0, 1.0, 3.0, 7.0],
        "max_positions": [1, 1, 2, 3],
        "lag": [1, 1, 2, 3] if profile == "realistic" else [0, 0, 1, 2],
        "fill_buffer": [0.0, 0.0005, 0.002],
        "fill": ["binary", "penetration"],
        "touch_fraction": [0.0, 0.2],
        "max_volume_fraction": [0.0, 0.0, 0.3],
        "allow_short": [False, True],
        "leverage": [0.7, 1.0, 2.0, 5.0],
        "margin_rate": [0.0, 0.0625, 5.0],
        "borrow_rate": [0.0, 0.0625, 5.0],
        "close_at_eod": [True, False],
        "market_hours": [True, False],
        "work_steal": [False, True],
        "steal_min_profit": [-0.02, 0.001],
        "steal_min_edge": [-0.01, 0.002],
        "steal_margin": [0.0, -0.05, 0.001],
        "slippage": [0.0, 0.0005],
        "cost_multiplier": [0.0, 1.0, 2.0],
        "cash_buffer": [0.0, 0.01],
        "maintenance_margin": [0.0, 0.25, 0.6],
        "fillable_only": [True, False],
        "reentry": [False, True],
    }
    config = profile_defaults(profile)
    assert set(chance) == {p.name for p in PARAMETERS}, "every option of the selector must be drawn"
    config.update({name: values[rng.integers(len(values))] for name, values in chance.items() if rng.random() < 0.7})
    return config


def reference_inputs(inputs: SelectorInputs, reference: Any, market_hours: bool, lag: int) -> Any:
    """The same market in the reference simulator's own types."""
    panel = inputs.panel
    assets = [
        reference.RefAsset(
            x.symbol,
            x.asset_class == "stock",
            x.maker_fee_bps / 1e4,
            x.taker_fee_bps / 1e4,
            x.half_spread_bps / 1e4,
            x.can_long,
            x.can_short,
            x.min_notional,
        )
        for x in panel.assets
    ]
    legacy_flags = inputs.aligned(lag, market_hours, True).cells[:, :, FLAGS].T.astype(int)
    orders = [x.tolist() for x in inputs.orders]
    return reference.RefInputs(
        inputs.hours.tolist(),
        inputs.bar_hours,
        assets,
        *[getattr(panel, f).tolist() for f in ("open", "high", "low", "close", "volume")],
        *orders,
        panel.tradable.tolist(),
        panel.session_last.tolist(),
        ((legacy_flags & TRADABLE) > 0).tolist(),
        ((legacy_flags & LAST) > 0).tolist(),
    )

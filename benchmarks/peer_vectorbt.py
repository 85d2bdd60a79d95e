"""The K-position selector on vectorbt's shared-cash engine: `Portfolio.from_order_func` with an order function that decides for itself.

Rules A1–A5, R3–R5 and R7 of docs/fills.md, long only, binary fills, leverage 1, markets that never close; it shares no code
with our kernel. vectorbt keeps the account: cash shared by a group of columns, positions, fees and order
records. One group of columns is one configuration, so many configurations run in one call of the engine.

Limits, amounts and scores are made ahead with NumPy, once for all configurations that share them, as a user of vectorbt
would; the flexible engine then asks for orders only where there are any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import vectorbt as vbt
from numba import njit
from vectorbt.portfolio import nb
from vectorbt.portfolio.enums import Direction

_LONG = int(Direction.LongOnly)
HANDLED = {
    "allow_short": False,
    "fill": "binary",
    "max_volume_fraction": 0.0,
    "leverage": 1.0,
    "work_steal": False,
    "edge_mode": "high_low",
}


@dataclass(frozen=True, eq=False)
class Market:
    """What the peer sees.

    Attributes:
        hours: Row starts in hours, float64 (T,).
        open, high, low, close: float64 (T, A), no gaps.
        orders: float64 (6, T, A): buy price, sell price, buy amount, sell amount, forecast p50 of high and low, known at the
            end of each row.
        maker, taker, half_spread, min_notional: float64 (A,), fees and spread as fractions.
    """

    hours: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    orders: np.ndarray
    maker: np.ndarray
    taker: np.ndarray
    half_spread: np.ndarray
    min_notional: np.ndarray


def signals(market: Market, config: Mapping[str, Any]) -> np.ndarray:
    """Returns what a configuration orders in each row (A1–A4).

    Returns:
        float64 (4, T, A): buy limit, sell limit (NaN where nothing may be sold), buy amount, score (-inf where nothing may be bought).
    """
    lag = int(config["lag"])
    known = np.full_like(market.orders, np.nan)
    known[:, lag:] = market.orders[:, :-lag]
    low, close = np.full_like(market.low, np.nan), np.full_like(market.close, np.nan)
    low[lag:], close[lag:] = market.low[:-lag], market.close[:-lag]
    buy_price, sell_price, buy_amount, sell_amount, forecast_high, forecast_low = known
    buy = buy_price * (1.0 - config["offset"])
    sell = np.maximum(sell_price * (1.0 + config["offset"]), buy)
    beta = np.clip(buy_amount * config["intensity"], 0.0, 1.0)
    beta = np.where(low > close * (1.0 - config["dip_threshold"]), 0.0, beta)
    gamma = np.clip(sell_amount * config["intensity"], 0.0, 1.0)
    fee = market.maker * config["cost_multiplier"]
    edge = (forecast_high - buy) / buy - config["risk_weight"] * np.maximum(0.0, (buy - forecast_low) / buy) - 2.0 * fee
    score = edge * beta
    return np.stack([buy, np.where(gamma > 0.0, sell, np.nan), beta, np.where((beta > 0.0) & np.isfinite(score), score, -np.inf)])


@njit
def _decide(c, hours, open_, high, low, close, signal, which, params, maker, taker, half_spread, min_notional, entered, book):
    """Writes the orders of one row of one configuration into `book` (column, signed size, price, fee); returns how many."""
    i, base, n_assets = c.i, c.from_col, c.to_col - c.from_col
    p = params[c.group]
    min_edge, slots, max_hold, buffer, cost, slippage, reserve = p[0], int(p[1]), p[2], p[3], p[4], p[5], p[6]
    table = signal[which[c.group], i]
    n = 0
    held = 0
    value = c.last_cash[c.group]
    gross = 0.0
    for a in range(n_assets):
        q = c.last_position[base + a]
        if q == 0.0:
            continue
        held += 1
        value += q * close[i - 1, a]
        gross += q * close[i - 1, a]
        price = 0.0
        fee = maker[a] * cost
        if max_hold > 0.0 and hours[i] - entered[base + a] >= max_hold:
            price = open_[i, a] * (1.0 - (half_spread[a] + slippage) * cost)
            fee = taker[a] * cost
        else:
            limit = table[1, a]
            if open_[i, a] >= limit * (1.0 + buffer):
                price = max(open_[i, a] * (1.0 - half_spread[a] * cost), limit)
                fee = taker[a] * cost
            elif high[i, a] >= limit * (1.0 + buffer):
                price = limit
        if price > 0.0:
            book[n, 0], book[n, 1], book[n, 2], book[n, 3] = base + a, -q, price, fee
            n += 1
    free = slots - held
    if free > 0:
        budget = (1.0 - reserve) * max(0.0, value - gross) / free
        # The `free` best of those not held, by score and then by name, both descending; NaN and -inf never qualify.
        last_score, last_a = np.inf, n_assets
        for _ in range(free):
            best, pick = -np.inf, -1
            for a in range(n_assets):
                s = table[3, a]
                if (
                    s >= min_edge
                    and s >= best
                    and (s < last_score or (s == last_score and a < last_a))
                    and c.last_position[base + a] == 0.0
                ):
                    best, pick = s, a
            if pick < 0:
                break
            last_score, last_a = best, pick
            limit = table[0, pick]
            notional = table[2, pick] * budget
            if notional < min_notional[pick] or not notional > 0.0:
                continue
            size = notional / (limit * (1.0 + max(maker[pick], taker[pick]) * cost))
            price = 0.0
            fee = maker[pick] * cost
            if open_[i, pick] <= limit * (1.0 - buffer):
                price = min(open_[i, pick] * (1.0 + half_spread[pick] * cost), limit)
                fee = taker[pick] * cost
            elif low[i, pick] <= limit * (1.0 - buffer):
                price = limit
            if price > 0.0:
                book[n, 0], book[n, 1], book[n, 2], book[n, 3] = base + pick, size, price, fee
                entered[base + pick] = hours[i]
                n += 1
    return n, book


@njit
def _next_order(c, n, book):
    """Hands vectorbt the row's orders one by one."""
    k = c.call_idx
    if k >= n:
        return -1, nb.order_nothing_nb()
    order = nb.order_nb(size=book[k, 1], price=book[k, 2], fees=book[k, 3], direction=_LONG, allow_partial=False, raise_reject=True)
    return int(book[k, 0]), order


def columns(market: Market, n_configs: int) -> pd.DataFrame:
    """Returns the closes once per configuration, the shape vectorbt simulates: (T, n_configs·A), grouped by level 0."""
    names = pd.MultiIndex.from_product([range(n_configs), range(market.close.shape[1])], names=["config", "asset"])
    index = pd.DatetimeIndex(np.round(market.hours * 3600).astype("datetime64[s]"))
    return pd.DataFrame(np.tile(market.close, n_configs), index=index, columns=names)


def simulate(
    market: Market, configs: Sequence[Mapping[str, Any]], initial_cash: float, closes: pd.DataFrame | None = None
) -> vbt.Portfolio:
    """Runs all configurations in one call of vectorbt's engine.

    Args:
        market: Bars, orders, costs.
        configs: Complete selector configurations (realistic profile).
        initial_cash: Cash of each configuration.
        closes: `columns(market, len(configs))`, if already made.

    Returns:
        A portfolio grouped by configuration.

    Raises:
        ValueError: A configuration uses what this peer does not implement.
    """
    for config in configs:
        for key, value in HANDLED.items():
            if config[key] != value:
                raise ValueError(f"the vectorbt peer handles {key}={value!r} only, not {config[key]!r}")
    keys = [tuple(c[k] for k in ("lag", "offset", "intensity", "dip_threshold", "cost_multiplier", "risk_weight")) for c in configs]
    distinct = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    first = {key: config for key, config in zip(reversed(keys), reversed(configs), strict=True)}
    # (signal, T, 4, A): a row's numbers side by side.
    signal = np.stack([np.ascontiguousarray(signals(market, first[key]).transpose(1, 0, 2)) for key in distinct])
    which = np.array([distinct[key] for key in keys])
    names = ("min_edge", "max_positions", "max_hold", "fill_buffer", "cost_multiplier", "slippage", "cash_buffer")
    params = np.array([[float(c[k]) for k in names] for c in configs])
    n_rows, n_assets = market.close.shape
    mask = np.ones((n_rows, len(configs)), bool)
    mask[0] = False  # nothing is known before the first row ends
    return vbt.Portfolio.from_order_func(
        columns(market, len(configs)) if closes is None else closes,
        _next_order,
        flexible=True,
        init_cash=initial_cash,
        cash_sharing=True,
        group_by="config",
        segment_mask=mask,
        pre_segment_func_nb=_decide,
        pre_segment_args=(
            market.hours,
            market.open,
            market.high,
            market.low,
            market.close,
            signal,
            which,
            params,
            market.maker,
            market.taker,
            market.half_spread,
            market.min_notional,
            np.zeros(n_assets * len(configs)),
            np.empty((2 * n_assets, 4)),
        ),
        update_value=False,
        fill_pos_record=False,
        ffill_val_price=True,
        max_orders=2 * n_rows * sum(int(c["max_positions"]) for c in configs),  # every slot empties and fills in every row
        max_logs=1,
        freq="1h",
    )

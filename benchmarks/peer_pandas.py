"""The K-position selector as a researcher would first write it: DataFrames, and one Python loop over the rows.

Rules A1–A5, R3–R5 and R7 of docs/fills.md, long only, binary fills, leverage 1, markets that never close; it shares
no code with our kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class Frames:
    """Wide tables, rows by time stamp and columns by symbol (alphabetical); `costs` has a row per symbol.

    `buy_price` to `forecast_low` are decided at the end of each row's bar. `costs`: maker, taker, half_spread (fractions), min_notional.
    """

    open: pd.DataFrame
    high: pd.DataFrame
    low: pd.DataFrame
    close: pd.DataFrame
    buy_price: pd.DataFrame
    sell_price: pd.DataFrame
    buy_amount: pd.DataFrame
    sell_amount: pd.DataFrame
    forecast_high: pd.DataFrame
    forecast_low: pd.DataFrame
    costs: pd.DataFrame


def simulate(frames: Frames, config: Mapping[str, Any], initial_cash: float) -> pd.Series:
    """Returns equity at the end of each row."""
    lag, offset, buffer = int(config["lag"]), config["offset"], config["fill_buffer"]
    costs = frames.costs
    maker, taker = costs["maker"] * config["cost_multiplier"], costs["taker"] * config["cost_multiplier"]
    half_spread = costs["half_spread"] * config["cost_multiplier"]
    impact = (costs["half_spread"] + config["slippage"]) * config["cost_multiplier"]

    buy_limits = frames.buy_price * (1 - offset)
    sell_limits = (frames.sell_price * (1 + offset)).where(lambda sell: sell >= buy_limits, buy_limits)
    beta = (frames.buy_amount * config["intensity"]).clip(0, 1)
    beta = beta.mask(frames.low > frames.close * (1 - config["dip_threshold"]), 0.0)
    gamma = (frames.sell_amount * config["intensity"]).clip(0, 1)
    risk = ((buy_limits - frames.forecast_low) / buy_limits).clip(lower=0)
    scores = ((frames.forecast_high - buy_limits) / buy_limits - config["risk_weight"] * risk - 2 * maker) * beta
    scores = scores.where(beta > 0)
    buy_limits, sell_limits, beta, gamma, scores = (x.shift(lag) for x in (buy_limits, sell_limits, beta, gamma, scores))

    cash = initial_cash
    positions: dict[str, tuple[float, pd.Timestamp]] = {}  # symbol → quantity, start of the entry's bar
    marks = pd.Series(np.nan, index=frames.close.columns)
    equity = []
    for i, now in enumerate(frames.close.index):
        opens, highs, lows = frames.open.iloc[i], frames.high.iloc[i], frames.low.iloc[i]
        value = cash + sum(quantity * marks[symbol] for symbol, (quantity, _) in positions.items())
        gross = sum(quantity * marks[symbol] for symbol, (quantity, _) in positions.items())
        held = set(positions)
        for symbol in sorted(held):
            quantity, since = positions[symbol]
            limit = sell_limits.iloc[i][symbol]
            hours = (now - since) / pd.Timedelta(hours=1)
            if config["max_hold"] > 0 and hours >= config["max_hold"]:
                price, fee = opens[symbol] * (1 - impact[symbol]), taker[symbol]
            elif not gamma.iloc[i][symbol] > 0:
                continue
            elif opens[symbol] >= limit * (1 + buffer):
                price, fee = max(opens[symbol] * (1 - half_spread[symbol]), limit), taker[symbol]
            elif highs[symbol] >= limit * (1 + buffer):
                price, fee = limit, maker[symbol]
            else:
                continue
            cash += quantity * price * (1 - fee)
            del positions[symbol]
        free = config["max_positions"] - len(held)
        if free > 0:
            row = scores.iloc[i].drop(list(held)).dropna()
            row = row[row >= config["min_edge"]]
            ranked = sorted(row.index, key=lambda symbol: (row[symbol], symbol), reverse=True)
            budget = (1 - config["cash_buffer"]) * max(0.0, value - gross) / free
            for symbol in ranked[:free]:
                limit = buy_limits.iloc[i][symbol]
                notional = beta.iloc[i][symbol] * budget
                if notional < costs["min_notional"][symbol] or not notional > 0:
                    continue
                quantity = notional / (limit * (1 + max(maker[symbol], taker[symbol])))
                if opens[symbol] <= limit * (1 - buffer):
                    price, fee = min(opens[symbol] * (1 + half_spread[symbol]), limit), taker[symbol]
                elif lows[symbol] <= limit * (1 - buffer):
                    price, fee = limit, maker[symbol]
                else:
                    continue
                cash -= quantity * price * (1 + fee)
                positions[symbol] = (quantity, now)
        marks = frames.close.iloc[i]
        equity.append(cash + sum(quantity * marks[symbol] for symbol, (quantity, _) in positions.items()))
    return pd.Series(equity, index=frames.close.index, name="equity")

"""Ranked candidates per row, shared by all configurations that differ only in what they do with them.

Scoring every symbol in every row is most of a back-test's arithmetic, and a grid repeats it: configurations with the
same limits, amounts, forecasts and costs see the same ranked list. So configurations are grouped by those parameters and
the list is built once per group, in compressed rows (`start[t]:start[t+1]`), best first.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Order of the execution-aligned arrays in the (9, T, A) block `lagged`: what an order of row t knows.
BUY, SELL, BUY_AMOUNT, SELL_AMOUNT, PRED_HIGH, PRED_LOW, PRED_CLOSE, LOW, CLOSE = range(9)


@njit(cache=True, error_model="numpy")
def _score(mode, risk, limit, ph, pl, pc, cost, amount, is_short):
    """Rule A4 for one order; `cost` is twice the maker fee."""
    if is_short:
        if mode == 2:
            return ((limit - pc) / limit - cost) * amount
        edge = (limit - pl) / limit
        if mode == 0:
            edge -= risk * max(0.0, (ph - limit) / limit)
    else:
        if mode == 2:
            return ((pc - limit) / limit - cost) * amount
        edge = (ph - limit) / limit
        if mode == 0:
            edge -= risk * max(0.0, (limit - pl) / limit)
    return (edge - cost) * amount


@njit(cache=True, error_model="numpy")
def order_amounts(lagged, t, a, intensity, dip, percent):
    """Rules A1 and A2: (buy amount, sell amount) in [0, 1] of the order for row t."""
    buy = lagged[BUY_AMOUNT, t, a] * intensity
    sell = lagged[SELL_AMOUNT, t, a] * intensity
    if percent:
        buy = min(max(buy, 0.0), 100.0)
        sell = min(max(sell, 0.0), 100.0)
        if buy > 1.0 or sell > 1.0:
            buy /= 100.0
            sell /= 100.0
    else:
        buy = min(max(buy, 0.0), 1.0)
        sell = min(max(sell, 0.0), 1.0)
    if lagged[LOW, t, a] > lagged[CLOSE, t, a] * (1.0 - dip):
        buy = 0.0
    return buy, sell


@njit(cache=True, error_model="numpy")
def order_limits(lagged, t, a, offset):
    """Rule A1: (buy limit, sell limit) of the order for row t."""
    buy = lagged[BUY, t, a] * (1.0 - offset)
    sell = max(lagged[SELL, t, a] * (1.0 + offset), buy)
    return buy, sell


@njit(cache=True, error_model="numpy")
def build(
    lagged,
    tradable,
    maker,
    can_long,
    can_short,
    intensity,
    offset,
    risk,
    mode,
    dip,
    cost_multiplier,
    allow_short,
    threshold,
    percent,
    start,
    symbol,
    short,
    score,
    limit,
    amount,
):
    """Fills the compressed candidate lists of one group.

    Args:
        lagged: float64 (9, T, A), see the order constants above; NaN where there is no order.
        tradable: bool (T, A).
        maker: float64 (A,) maker fee, fraction.
        can_long: bool (A,).
        can_short: bool (A,).
        intensity, offset, risk, mode, dip, cost_multiplier, allow_short: the group's parameters.
        threshold: Smallest score any configuration of the group accepts.
        percent: True reads amounts as `legacy` does.
        start: int64 (T+1,) out. symbol: int16, short: bool, score, limit, amount: float64, out, capacity T·A·2.

    Returns:
        Number of candidates.
    """
    n_rows, n_assets = tradable.shape
    n = 0
    for t in range(n_rows):
        start[t] = n
        first = n
        for a in range(n_assets):
            if not tradable[t, a]:
                continue
            cost = 2.0 * maker[a] * cost_multiplier
            beta, gamma = order_amounts(lagged, t, a, intensity, dip, percent)
            buy, sell = order_limits(lagged, t, a, offset)
            for side in range(2):
                if side == 0:
                    if not can_long[a] or not beta > 0.0:
                        continue
                    price, size = buy, beta
                else:
                    if not allow_short or not can_short[a] or not gamma > 0.0:
                        continue
                    price, size = sell, gamma
                value = _score(
                    mode, risk, price, lagged[PRED_HIGH, t, a], lagged[PRED_LOW, t, a], lagged[PRED_CLOSE, t, a], cost, size, side == 1
                )
                if not (value >= threshold) or not np.isfinite(value):
                    continue
                # Insertion from the back; symbols arrive ascending, so on equal scores the later symbol goes first (rule A5),
                # and within a symbol the long, which arrives first, stays first.
                i = n
                while i > first and (score[i - 1] < value or (score[i - 1] == value and symbol[i - 1] != a)):
                    symbol[i] = symbol[i - 1]
                    short[i] = short[i - 1]
                    score[i] = score[i - 1]
                    limit[i] = limit[i - 1]
                    amount[i] = amount[i - 1]
                    i -= 1
                symbol[i] = a
                short[i] = side == 1
                score[i] = value
                limit[i] = price
                amount[i] = size
                n += 1
    start[n_rows] = n
    return n


@njit(cache=True)
def next_nonempty(start, out):
    """out[t] = first row ≥ t with a candidate, T if none; int64 (T+1,)."""
    n_rows = start.shape[0] - 1
    out[n_rows] = n_rows
    for t in range(n_rows - 1, -1, -1):
        out[t] = t if start[t + 1] > start[t] else out[t + 1]

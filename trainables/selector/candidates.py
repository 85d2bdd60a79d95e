"""Ranked candidates per row, shared by all configurations that differ only in what they do with them.

Scoring every symbol in every row is most of a back-test's arithmetic, and a grid repeats it: configurations with the
same limits, amounts, forecasts and costs see the same ranked list. So configurations are grouped by those parameters and
the list is built once per group, in compressed rows (`start[t]:start[t+1]`), best first.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# A cell is everything a row holds about a symbol: the bar, the marks, the order it knows. What a held position needs in most
# rows comes first, one cache line; a symbol's cells are contiguous in time, because a position is followed through time.
HIGH, LOW, HELD_MARK, FLAGS, BUY, SELL, BUY_AMOUNT, SELL_AMOUNT, OPEN, CLOSE, VOLUME, KNOWN_MARK, ORDER_LOW, ORDER_CLOSE = range(14)
CELL = 16
TRADABLE, LAST, PRESENT = 1, 2, 4  # bits of FLAGS
# Columns of the costs of an asset: fees and half spread as fractions, smallest order in cash, allowed sides as 0 or 1.
MAKER, TAKER, HALF_SPREAD, MIN_NOTIONAL, CAN_LONG, CAN_SHORT = range(6)


@njit(cache=True, error_model="numpy")
def _score(mode, risk, limit, ph, pl, pc, cost, amount, is_short):
    """Rule A4 for one order; `cost` is twice the maker fee."""
    if is_short:
        if mode == 2:
            return ((limit - pc) / limit - cost) * amount
        edge = (limit - pl) / limit
        if mode == 0:
            against = (ph - limit) / limit
            if not against <= 0.0:  # a missing forecast stays missing
                edge -= risk * against
    else:
        if mode == 2:
            return ((pc - limit) / limit - cost) * amount
        edge = (ph - limit) / limit
        if mode == 0:
            against = (limit - pl) / limit
            if not against <= 0.0:
                edge -= risk * against
    return (edge - cost) * amount


@njit(cache=True, error_model="numpy")
def order_amounts(cells, t, a, intensity, dip, percent):
    """Rules A1 and A2: (buy amount, sell amount) in [0, 1] of the order row t knows of symbol a."""
    buy = cells[a, t, BUY_AMOUNT] * intensity
    sell = cells[a, t, SELL_AMOUNT] * intensity
    if percent:
        buy = min(max(buy, 0.0), 100.0)
        sell = min(max(sell, 0.0), 100.0)
        if buy > 1.0 or sell > 1.0:
            buy /= 100.0
            sell /= 100.0
    else:
        buy = min(max(buy, 0.0), 1.0)
        sell = min(max(sell, 0.0), 1.0)
    if cells[a, t, ORDER_LOW] > cells[a, t, ORDER_CLOSE] * (1.0 - dip):
        buy = 0.0
    return buy, sell


@njit(cache=True, error_model="numpy")
def order_limits(cells, t, a, offset):
    """Rule A1: (buy limit, sell limit) of the order row t knows of symbol a."""
    buy = cells[a, t, BUY] * (1.0 - offset)
    sell = max(cells[a, t, SELL] * (1.0 + offset), buy)
    return buy, sell


@njit(cache=True, error_model="numpy")
def build(
    cells,
    forecasts,
    costs,
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
        cells: float64 (A, T, CELL); NaN where there is no order.
        forecasts: float64 (3, T, A): p50 of high, low, close the order knows.
        costs: float64 (A, 6), see the constants above.
        intensity, offset, risk, mode, dip, cost_multiplier, allow_short: the group's parameters.
        threshold: Smallest score any configuration of the group accepts.
        percent: True reads amounts as `legacy` does.
        start: int64 (T+1,) out. symbol: int16, short: bool, score, limit, amount: float64, out, capacity T·A·2.

    Returns:
        Number of candidates.
    """
    n_assets, n_rows = cells.shape[:2]
    n = 0
    for t in range(n_rows):
        start[t] = n
        first = n
        for a in range(n_assets):
            if int(cells[a, t, FLAGS]) & TRADABLE == 0:
                continue
            cost = 2.0 * costs[a, MAKER] * cost_multiplier
            beta, gamma = order_amounts(cells, t, a, intensity, dip, percent)
            buy, sell = order_limits(cells, t, a, offset)
            for side in range(2):
                if side == 0:
                    if costs[a, CAN_LONG] == 0.0 or not beta > 0.0:
                        continue
                    price, size = buy, beta
                else:
                    if not allow_short or costs[a, CAN_SHORT] == 0.0 or not gamma > 0.0:
                        continue
                    price, size = sell, gamma
                value = _score(mode, risk, price, forecasts[0, t, a], forecasts[1, t, a], forecasts[2, t, a], cost, size, side == 1)
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


@njit(cache=True, error_model="numpy")
def shortcuts(cells, start, score, offset, nonempty, top, reach):
    """Fills what lets a kernel pass over rows in which nothing can happen.

    Args:
        cells, start, score: The group's, see `build`.
        offset: The group's parameter.
        nonempty: int64 (T+1,) out: first row ≥ t with a candidate, T if none.
        top: float64 (T,) out: best score in a row, -inf if none.
        reach: float64 (A, T) out: how far the high goes beyond a long's exit limit, as a fraction of it; inf on a session's last
            bar, -inf where nothing can trade.
    """
    n_assets, n_rows = cells.shape[:2]
    nonempty[n_rows] = n_rows
    for t in range(n_rows - 1, -1, -1):
        some = start[t + 1] > start[t]
        nonempty[t] = t if some else nonempty[t + 1]
        top[t] = score[start[t]] if some else -np.inf
    for a in range(n_assets):
        for t in range(n_rows):
            flags = int(cells[a, t, FLAGS])
            limit = order_limits(cells, t, a, offset)[1]
            if flags & TRADABLE == 0:
                reach[a, t] = -np.inf
            elif flags & LAST:
                reach[a, t] = np.inf
            else:
                reach[a, t] = cells[a, t, HIGH] / limit - 1.0 if limit > 0.0 else -np.inf

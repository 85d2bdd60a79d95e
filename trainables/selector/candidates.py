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
# Bits of FLAGS. EXPECTED: an order can be sent, whether or not the symbol then has a bar (rule R7). ENDED: rule R12 applies.
TRADABLE, LAST, PRESENT, EXPECTED, ENDED = 1, 2, 4, 8, 16
# Columns of the costs of an asset: fees and half spread as fractions, smallest order in cash, allowed sides as 0 or 1.
MAKER, TAKER, HALF_SPREAD, MIN_NOTIONAL, CAN_LONG, CAN_SHORT = range(6)


@njit(cache=True, error_model="numpy")
def amounts(buy, sell, low, close, intensity, dip, percent):
    """Rules A1 and A2: (buy amount, sell amount) in [0, 1]; NaN stays NaN."""
    top = 100.0 if percent else 1.0
    buy *= intensity
    sell *= intensity
    buy = 0.0 if buy < 0.0 else (top if buy > top else buy)
    sell = 0.0 if sell < 0.0 else (top if sell > top else sell)
    if percent and (buy > 1.0 or sell > 1.0):
        buy /= 100.0
        sell /= 100.0
    return 0.0 if low > close * (1.0 - dip) else buy, sell


@njit(cache=True, error_model="numpy")
def limits(buy, sell, offset):
    """Rule A1: (buy limit, sell limit)."""
    low = buy * (1.0 - offset)
    high = sell * (1.0 + offset)
    return low, low if high < low else high


@njit(cache=True, error_model="numpy")
def order_amounts(cells, t, a, intensity, dip, percent):
    """(buy amount, sell amount) of the order row t knows of symbol a."""
    return amounts(
        cells[a, t, BUY_AMOUNT], cells[a, t, SELL_AMOUNT], cells[a, t, ORDER_LOW], cells[a, t, ORDER_CLOSE], intensity, dip, percent
    )


@njit(cache=True, error_model="numpy")
def order_limits(cells, t, a, offset):
    """(buy limit, sell limit) of the order row t knows of symbol a."""
    return limits(cells[a, t, BUY], cells[a, t, SELL], offset)


@njit(cache=True, error_model="numpy")
def build(
    orders,
    forecasts,
    competes,
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
        orders: float64 (6, T, A): buy, sell, buy amount, sell amount, order's low, order's close; NaN where there is no order.
        forecasts: float64 (3, T, A): p50 of high, low, close the order knows.
        competes: bool (T, A), where a symbol can be a candidate.
        costs: float64 (A, 6), see the constants above.
        intensity, offset, risk, mode, dip, cost_multiplier, allow_short: the group's parameters.
        threshold: Smallest score any configuration of the group accepts.
        percent: True reads amounts as `legacy` does.
        start: int64 (T+1,) out. symbol: int16, short: bool, score, limit, amount: float64, out, capacity T·A·2.

    Returns:
        Number of candidates.
    """
    n_rows, n_assets = competes.shape
    # Rule A4: `close` aims at one price and fears none, `high` aims at the far one, `high_low` also fears the near one.
    aim_long = 2 if mode == 2 else 0
    aim_short = 2 if mode == 2 else 1
    fear_long, fear_short, fear = (1, 0, risk) if mode == 0 else (aim_long, aim_short, 0.0)
    bid, ask, beta, gamma, long_score, short_score = np.empty((6, n_assets))
    n = 0
    for t in range(n_rows):
        for a in range(n_assets):  # without branches, for the vector unit
            b, s = limits(orders[0, t, a], orders[1, t, a], offset)
            beta[a], gamma[a] = amounts(orders[2, t, a], orders[3, t, a], orders[4, t, a], orders[5, t, a], intensity, dip, percent)
            against = (b - forecasts[fear_long, t, a]) / b
            against = 0.0 if against <= 0.0 else against  # a missing forecast stays missing
            cost = 2.0 * costs[a, MAKER] * cost_multiplier
            bid[a], ask[a] = b, s
            long_score[a] = ((forecasts[aim_long, t, a] - b) / b - fear * against - cost) * beta[a]
        if allow_short:
            for a in range(n_assets):
                s = ask[a]
                against = (forecasts[fear_short, t, a] - s) / s
                against = 0.0 if against <= 0.0 else against
                cost = 2.0 * costs[a, MAKER] * cost_multiplier
                short_score[a] = ((s - forecasts[aim_short, t, a]) / s - fear * against - cost) * gamma[a]
        start[t] = n
        first = n
        for a in range(n_assets):
            if not competes[t, a]:
                continue
            for side in range(2 if allow_short else 1):
                value = short_score[a] if side else long_score[a]
                size = gamma[a] if side else beta[a]
                if not (value >= threshold and value < np.inf and size > 0.0 and costs[a, CAN_SHORT if side else CAN_LONG] != 0.0):
                    continue
                # Insertion from the back; symbols arrive ascending, so on equal scores the later symbol goes first (rule A5),
                # and within a symbol the long, which arrives first, stays first.
                i = n
                while i > first and (score[i - 1] < value or (score[i - 1] == value and symbol[i - 1] != a)):
                    symbol[i] = symbol[i - 1]
                    short[i] = short[i - 1]
                    score[i] = score[i - 1]
                    i -= 1
                symbol[i] = a
                short[i] = side == 1
                score[i] = value
                n += 1
        for i in range(first, n):
            a = symbol[i]
            limit[i] = ask[a] if short[i] else bid[a]
            amount[i] = gamma[a] if short[i] else beta[a]
    start[n_rows] = n
    return n


@njit(cache=True, error_model="numpy")
def shortcuts(exits, start, score, offset, nonempty, top, reach):
    """Fills what lets a kernel pass over rows in which nothing can happen.

    Args:
        exits: float64 (3, A, T): buy, sell, and the high (inf where a position leaves by R6 or R12, -inf where it cannot leave).
        start, score: The group's, see `build`.
        offset: The group's parameter.
        nonempty: int64 (T+1,) out: first row ≥ t with a candidate, T if none.
        top: float64 (T,) out: best score in a row, -inf if none.
        reach: float64 (A, T) out: how far the high goes beyond a long's exit limit, as a fraction of it; -inf without a limit.
    """
    n_assets, n_rows = reach.shape
    nonempty[n_rows] = n_rows
    for t in range(n_rows - 1, -1, -1):
        some = start[t + 1] > start[t]
        nonempty[t] = t if some else nonempty[t + 1]
        top[t] = score[start[t]] if some else -np.inf
    for a in range(n_assets):
        for t in range(n_rows):
            ask = limits(exits[0, a, t], exits[1, a, t], offset)[1]
            high = exits[2, a, t]
            reach[a, t] = high / ask - 1.0 if ask > 0.0 else (high if high == np.inf else -np.inf)

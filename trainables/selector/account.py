"""Steps of the kernels: does an order fill, what a loan costs, which position gives way, what a row adds to the sums."""

from __future__ import annotations

from numba import njit

from trainables.selector import options as opt
from trainables.selector.candidates import EXPECTED, FLAGS, KNOWN_MARK, LAST

HOURS_PER_YEAR = 8760.0


@njit(cache=True, error_model="numpy")
def buy_fill(limit, o, h, l, buffer, penetration, touch):
    """Does a buy fill, as in rule R3: (fraction filled, the open or the limit)."""
    level = limit * (1.0 - buffer)
    if o <= level:
        return 1.0, o
    if l <= level:
        if penetration:
            return min(max(touch, (level - l) / max(h - l, 1e-12)), 1.0), limit
        return 1.0, limit
    return 0.0, limit


@njit(cache=True, error_model="numpy")
def sell_fill(limit, o, h, l, buffer, penetration, touch):
    """Does a sell fill, as in rule R3: (fraction filled, the open or the limit)."""
    level = limit * (1.0 + buffer)
    if o >= level:
        return 1.0, o
    if h >= level:
        if penetration:
            return min(max(touch, (h - level) / max(h - l, 1e-12)), 1.0), limit
        return 1.0, limit
    return 0.0, limit


@njit(cache=True, error_model="numpy", inline="always")
def limit_fill(sells, limit, o, h, l, buffer, penetration, touch, half_spread, maker, taker):
    """Rule R3: (fraction filled, price, fee rate); where there is no bar nothing fills."""
    if sells:
        fraction, price = sell_fill(limit, o, h, l, buffer, penetration, touch)
        if o >= limit * (1.0 + buffer):  # it crosses the spread
            return fraction, max(o * (1.0 - half_spread), limit), taker
        return fraction, price, maker
    fraction, price = buy_fill(limit, o, h, l, buffer, penetration, touch)
    if o <= limit * (1.0 - buffer):
        return fraction, min(o * (1.0 + half_spread), limit), taker
    return fraction, price, maker


@njit(cache=True, error_model="numpy")
def interest(p, hours, cash, used, symbol, quantity, cells, s):
    """Rule R1: what negative cash and shorts cost for some hours."""
    due = max(0.0, -cash) * p[opt.P_MARGIN] / HOURS_PER_YEAR * hours
    for j in range(used):
        if quantity[j] < 0.0:
            due += -quantity[j] * cells[symbol[j], s, KNOWN_MARK] * p[opt.P_BORROW] / HOURS_PER_YEAR * hours
    return due


@njit(cache=True, error_model="numpy")
def stolen(p, s, cells, used, symbol, quantity, entry_price, free_row, taken_at, start, cand_symbol, cand_short, cand_score):
    """Rule R8: the slot that gives way to a better candidate, -1 if none; asked when no slot is free."""
    steal = -1
    profit = 0.0
    for j in range(used):
        a = symbol[j]
        if quantity[j] > 0.0 and int(cells[a, s, FLAGS]) & EXPECTED and free_row[j] <= s:
            u = cells[a, s, KNOWN_MARK] / entry_price[j] - 1.0
            if u >= p[opt.P_STEAL_PROFIT] and (steal < 0 or u < profit or (u == profit and a < symbol[steal])):
                steal = j
                profit = u
    if steal < 0:
        return -1
    for k in range(start[s], start[s + 1]):
        a = cand_symbol[k]
        barred = p[opt.P_EOD] != 0.0 and int(cells[a, s, FLAGS]) & LAST  # it could not be entered now (R6)
        if taken_at[a] == s or barred:
            continue
        taken_at[a] = s  # a symbol competes once, with its better side (A5); without a free slot nothing else asks
        if not cand_short[k]:
            needed = max(p[opt.P_MIN_EDGE], p[opt.P_STEAL_EDGE], profit + p[opt.P_STEAL_MARGIN])
            return steal if cand_score[k] >= needed else -1
    return -1


@njit(cache=True, error_model="numpy", inline="always")
def mark(equity, rows, first_r, prev_r, prev, peak, floor, drawdown, sum_r, sum_r2, sum_dr2, sum_pos, sum_neg, sum_neg2, n_neg):
    """Adds a row's equity to the running sums, which it returns."""
    r = equity / prev - 1.0
    if rows == 0:
        first_r = prev_r = r
    loss = min(r, 0.0)
    if equity > peak:
        peak = equity
        floor = peak * (1.0 + drawdown)
    elif equity < floor:
        drawdown = equity / peak - 1.0
        floor = peak * (1.0 + drawdown)
    return (
        first_r,
        r,
        equity,
        peak,
        floor,
        drawdown,
        sum_r + r,
        sum_r2 + r * r,
        sum_dr2 + (r - prev_r) * (r - prev_r),
        sum_pos + (r - loss),
        sum_neg + loss,
        sum_neg2 + loss * loss,
        n_neg + (r < 0.0),
    )


@njit(cache=True, error_model="numpy")
def settle_orders(s, settled, used, symbol, quantity, entry_price, entry_hour, cash_flow, free_row, locked, due, known):
    """Rule R11: books what ended bars have made known, and frees slots; returns (settled cash, slots used)."""
    j = 0
    while j < used:
        if free_row[j] <= s:
            settled += due[j]
            due[j] = locked[j] = 0.0
            known[j] = quantity[j]
            if quantity[j] == 0.0:
                used -= 1
                move(symbol, quantity, entry_price, entry_hour, cash_flow, free_row, locked, due, known, used, j)
                continue
        j += 1
    return (0.0 if -1e-9 < settled < 0.0 else settled), used


@njit(cache=True, inline="always")
def move(symbol, quantity, entry_price, entry_hour, cash_flow, free_row, locked, due, known, source, target):
    """Copies one slot to another."""
    symbol[target], quantity[target], entry_price[target] = symbol[source], quantity[source], entry_price[source]
    entry_hour[target], cash_flow[target] = entry_hour[source], cash_flow[source]
    free_row[target], locked[target] = free_row[source], locked[source]
    due[target], known[target] = due[source], known[source]


@njit(cache=True, inline="always")
def put(state, which, j, symbol, quantity, entry_price, entry_hour, cash_flow, free_row, locked, due, known):
    """Keeps slot j of a configuration between blocks of rows."""
    state[which, j, 0], state[which, j, 1] = symbol[j], free_row[j]
    state[which, j, 2], state[which, j, 3], state[which, j, 4] = quantity[j], entry_price[j], entry_hour[j]
    state[which, j, 5], state[which, j, 6], state[which, j, 7], state[which, j, 8] = cash_flow[j], locked[j], due[j], known[j]


@njit(cache=True, inline="always")
def take(state, which, j, symbol, quantity, entry_price, entry_hour, cash_flow, free_row, locked, due, known):
    """Takes slot j of a configuration back, see `put`."""
    symbol[j], free_row[j] = int(state[which, j, 0]), int(state[which, j, 1])
    quantity[j], entry_price[j], entry_hour[j] = state[which, j, 2], state[which, j, 3], state[which, j, 4]
    cash_flow[j], locked[j], due[j], known[j] = state[which, j, 5], state[which, j, 6], state[which, j, 7], state[which, j, 8]

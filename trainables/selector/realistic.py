"""The `realistic` kernel: docs/fills.md rules R1–R11 for many configurations over one panel.

While no position is held and no candidate is good enough, equity cannot move, so the kernel jumps to the next row that has
one; results are identical to walking every row (a test compares them).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from trainables.selector import tally
from trainables.selector.candidates import order_amounts, order_limits
from trainables.selector.options import COLUMN, MAX_SLOTS

P_INTENSITY, P_OFFSET, P_MIN_EDGE, P_DIP = COLUMN["intensity"], COLUMN["offset"], COLUMN["min_edge"], COLUMN["dip_threshold"]
P_HOLD, P_SLOTS, P_BUFFER, P_FILL = COLUMN["max_hold"], COLUMN["max_positions"], COLUMN["fill_buffer"], COLUMN["fill"]
P_TOUCH, P_VOLUME, P_LEVERAGE = COLUMN["touch_fraction"], COLUMN["max_volume_fraction"], COLUMN["leverage"]
P_MARGIN, P_BORROW, P_EOD, P_STEAL = COLUMN["margin_rate"], COLUMN["borrow_rate"], COLUMN["close_at_eod"], COLUMN["work_steal"]
P_STEAL_PROFIT, P_STEAL_EDGE, P_STEAL_MARGIN = COLUMN["steal_min_profit"], COLUMN["steal_min_edge"], COLUMN["steal_margin"]
P_SLIP, P_COST, P_CASH_BUFFER, P_MAINTENANCE = (
    COLUMN["slippage"],
    COLUMN["cost_multiplier"],
    COLUMN["cash_buffer"],
    COLUMN["maintenance_margin"],
)
HOURS_PER_YEAR = 8760.0


@njit(cache=True, error_model="numpy")
def buy_fill(limit, o, h, l, buffer, penetration, touch):
    """Rule R3 for a buy: (fraction filled, price)."""
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
    """Rule R3 for a sell: (fraction filled, price)."""
    level = limit * (1.0 + buffer)
    if o >= level:
        return 1.0, o
    if h >= level:
        if penetration:
            return min(max(touch, (h - level) / max(h - l, 1e-12)), 1.0), limit
        return 1.0, limit
    return 0.0, limit


@njit(cache=True, error_model="numpy")
def run(
    params,
    order,
    hours,
    settle,
    overlap,
    o,
    h,
    l,
    c,
    v,
    held_mark,
    known_mark,
    tradable,
    last,
    lagged,
    maker,
    taker,
    half_spread,
    min_notional,
    start,
    cand_symbol,
    cand_short,
    cand_score,
    cand_limit,
    cand_amount,
    nonempty,
    cash0,
    acc_all,
    equity_all,
    log,
):
    """Simulates the configurations `params[order]`, which share one candidate list.

    Args:
        params: float64 (n, P), see `options.encode`.
        order: int64, the configurations of this group.
        hours: float64 (T,) row starts in hours.
        settle: int64 (T,) first row that starts at or after the end of row t's bars.
        overlap: True if any settle[t] > t + 1.
        o, h, l, c, v: float64 (T, A) bars of the row, NaN where a symbol has none.
        held_mark: float64 (T, A) last close, the row's own included.
        known_mark: float64 (T, A) last close known at the row's start.
        tradable, last: bool (T, A).
        lagged: float64 (9, T, A) what orders of row t know.
        maker, taker, half_spread: float64 (A,) fractions. min_notional: float64 (A,) in cash units.
        start, cand_*: the group's candidates, `candidates.build`. nonempty: int64 (T+1,).
        cash0: Initial cash.
        acc_all: float64 (n, tally.WIDTH) out.
        equity_all: float64 (n, T) out, or (0, 0) to keep none.
        log: float64 (rows, 7) fill records of the (single) configuration, or (0, 7).

    Returns:
        Number of fills of the last configuration.
    """
    n_rows, n_assets = o.shape
    symbol = np.empty(MAX_SLOTS, np.int64)
    quantity = np.empty(MAX_SLOTS)
    entry_price = np.empty(MAX_SLOTS)
    entry_hour = np.empty(MAX_SLOTS)
    cash_flow = np.empty(MAX_SLOTS)
    free_row = np.empty(MAX_SLOTS, np.int64)  # rule R11: the row from which the slot's outcome is known
    locked = np.empty(MAX_SLOTS)
    taken_at = np.full(n_assets, -1, np.int64)  # last row at whose start the symbol held a slot
    keep = equity_all.shape[0] > 0
    n_fills = 0
    for which in range(order.shape[0]):
        p = params[order[which]]
        acc = acc_all[order[which]]
        tally.begin(acc, cash0)
        taken_at[:] = -1
        n_fills = 0
        min_edge, slots, max_hold, buffer = p[P_MIN_EDGE], int(p[P_SLOTS]), p[P_HOLD], p[P_BUFFER]
        penetration, touch, volume_cap = p[P_FILL] == 1.0, p[P_TOUCH], p[P_VOLUME]
        leverage, eod, cost = p[P_LEVERAGE], p[P_EOD] != 0.0, p[P_COST]
        cash = cash0
        used = 0
        shorts = 0
        s = 0
        while s < n_rows:
            if used == 0 and cash >= 0.0:
                t = nonempty[s]
                while t < n_rows and cand_score[start[t]] < min_edge:
                    t = nonempty[t + 1]
                if t > s:
                    tally.skip(acc, t - s)
                    if keep:
                        equity_all[order[which], s:t] = cash
                    s = t
                    if s >= n_rows:
                        break
            # R1 financing
            if s > 0 and (cash < 0.0 or shorts > 0):
                dh = hours[s] - hours[s - 1]
                due = max(0.0, -cash) * p[P_MARGIN] / HOURS_PER_YEAR * dh
                for j in range(used):
                    if quantity[j] < 0.0:
                        due += -quantity[j] * known_mark[s, symbol[j]] * p[P_BORROW] / HOURS_PER_YEAR * dh
                cash -= due
                acc[tally.FINANCING] += due
            if overlap:  # R11: outcomes that became known free their slots
                j = 0
                while j < used:
                    if free_row[j] <= s:
                        locked[j] = 0.0
                        if quantity[j] == 0.0:
                            used -= 1
                            symbol[j], quantity[j], entry_price[j], entry_hour[j] = (
                                symbol[used],
                                quantity[used],
                                entry_price[used],
                                entry_hour[used],
                            )
                            cash_flow[j], free_row[j], locked[j] = cash_flow[used], free_row[used], locked[used]
                            continue
                    j += 1
            # R2 account at the moment of decision
            free = slots - used
            liquidation = False
            power = 0.0
            has_candidates = start[s + 1] > start[s]
            if leverage > 1.0 or shorts > 0 or cash < 0.0 or (free > 0 and has_candidates):
                net = cash
                gross = 0.0
                lock = 0.0
                for j in range(used):
                    if quantity[j] != 0.0:
                        value = quantity[j] * known_mark[s, symbol[j]]
                        net += value
                        gross += abs(value)
                    lock += locked[j]
                liquidation = gross > 0.0 and net < p[P_MAINTENANCE] * gross
                power = max(0.0, leverage * net - gross - lock) * (1.0 - p[P_CASH_BUFFER])
            for j in range(used):
                taken_at[symbol[j]] = s
            # R8 work stealing
            steal = -1
            if p[P_STEAL] != 0.0 and free == 0 and not liquidation and has_candidates:
                profit = 0.0
                for j in range(used):
                    a = symbol[j]
                    if quantity[j] > 0.0 and tradable[s, a]:
                        u = known_mark[s, a] / entry_price[j] - 1.0
                        if u >= p[P_STEAL_PROFIT] and (steal < 0 or u < profit or (u == profit and a < symbol[steal])):
                            steal = j
                            profit = u
                if steal >= 0:
                    best = -np.inf
                    for k in range(start[s], start[s + 1]):
                        if not cand_short[k] and taken_at[cand_symbol[k]] != s:
                            best = cand_score[k]
                            break
                    if not (best >= min_edge and best >= p[P_STEAL_EDGE] and best >= profit + p[P_STEAL_MARGIN]):
                        steal = -1
            # R4–R6 exits, only from positions held at the decision
            j = 0
            at_decision = used
            while j < at_decision:
                a = symbol[j]
                q = quantity[j]
                if q == 0.0 or not tradable[s, a]:
                    j += 1
                    continue
                room = np.inf
                if volume_cap > 0.0:
                    room = volume_cap * v[s, a]
                    if not room > 0.0:
                        room = 0.0
                impact = (half_spread[a] + p[P_SLIP]) * cost
                rest = abs(q)
                reason = -1
                if liquidation:
                    reason = tally.LIQUIDATION
                elif max_hold > 0.0 and hours[s] - entry_hour[j] >= max_hold:
                    reason = tally.MAX_HOLD
                elif j == steal:
                    reason = tally.STEAL
                filled_notional = 0.0
                for phase in range(2):
                    part = 0.0
                    price = 0.0
                    fee = 0.0
                    why = reason
                    if phase == 0 and reason >= 0:
                        part = rest
                        price = o[s, a] * (1.0 - impact) if q > 0.0 else o[s, a] * (1.0 + impact)
                        fee = taker[a] * cost
                    elif phase == 0:
                        beta, gamma = order_amounts(lagged, s, a, p[P_INTENSITY], p[P_DIP], False)
                        buy, sell = order_limits(lagged, s, a, p[P_OFFSET])
                        fraction = 0.0
                        if q > 0.0:
                            if gamma > 0.0:
                                fraction, price = sell_fill(sell, o[s, a], h[s, a], l[s, a], buffer, penetration, touch)
                        elif beta > 0.0:
                            fraction, price = buy_fill(buy, o[s, a], h[s, a], l[s, a], buffer, penetration, touch)
                        part = rest * fraction
                        if fraction > 0.0 and (rest - part) * price < min_notional[a]:
                            part = rest
                        fee = maker[a] * cost
                        why = tally.LIMIT
                    elif reason < 0 and eod and last[s, a]:
                        part = rest
                        price = c[s, a] * (1.0 - impact) if q > 0.0 else c[s, a] * (1.0 + impact)
                        fee = taker[a] * cost
                        why = tally.EOD
                    part = min(part, room)
                    if part > 0.0:
                        room -= part
                        rest -= part
                        flow = part * price * (1.0 - fee) if q > 0.0 else -part * price * (1.0 + fee)
                        cash += flow
                        cash_flow[j] += flow
                        filled_notional += part * price
                        acc[tally.FEES] += part * price * fee
                        acc[tally.TURNOVER] += part * price
                        if why != tally.LIMIT:
                            acc[tally.FORCED] += 1.0
                        n_fills = tally.record(log, n_fills, s, a, -1.0 if q > 0.0 else 1.0, price, part, fee * part * price, why)
                if filled_notional == 0.0:
                    j += 1
                    continue
                if overlap:
                    locked[j] = filled_notional
                    free_row[j] = settle[s]
                quantity[j] = rest if q > 0.0 else -rest
                if rest == 0.0:
                    quantity[j] = 0.0
                    if q < 0.0:
                        shorts -= 1
                    acc[tally.TRADES] += 1.0
                    acc[tally.HOLD_HOURS] += hours[s] - entry_hour[j]
                    if cash_flow[j] > 0.0:
                        acc[tally.WINS] += 1.0
                        acc[tally.GROSS_PROFIT] += cash_flow[j]
                    else:
                        acc[tally.GROSS_LOSS] -= cash_flow[j]
                    if not (overlap and settle[s] > s + 1):
                        used -= 1
                        at_decision -= 1
                        symbol[j], quantity[j], entry_price[j], entry_hour[j] = (
                            symbol[used],
                            quantity[used],
                            entry_price[used],
                            entry_hour[used],
                        )
                        cash_flow[j], free_row[j], locked[j] = cash_flow[used], free_row[used], locked[used]
                        if steal == used:
                            steal = j
                        continue
                j += 1
            # R7 entries, with the money and the slots of the decision
            if free > 0 and has_candidates and not liquidation:
                budget = power / free
                places = free
                for k in range(start[s], start[s + 1]):
                    if places == 0 or cand_score[k] < min_edge:
                        break
                    a = cand_symbol[k]
                    if taken_at[a] == s or (eod and last[s, a]):
                        continue
                    taken_at[a] = s
                    places -= 1
                    limit = cand_limit[k]
                    fee = maker[a] * cost
                    notional = cand_amount[k] * budget
                    wanted = notional / (limit * (1.0 + fee))
                    if wanted * limit < min_notional[a] or not wanted > 0.0:
                        continue
                    acc[tally.ORDERS] += 1.0
                    if cand_short[k]:
                        fraction, price = sell_fill(limit, o[s, a], h[s, a], l[s, a], buffer, penetration, touch)
                    else:
                        fraction, price = buy_fill(limit, o[s, a], h[s, a], l[s, a], buffer, penetration, touch)
                    part = wanted * fraction
                    if volume_cap > 0.0:
                        room = volume_cap * v[s, a]
                        part = min(part, room) if room > 0.0 else 0.0
                    if part > 0.0 or (overlap and settle[s] > s + 1):
                        flow = part * price * (1.0 - fee) if cand_short[k] else -part * price * (1.0 + fee)
                        symbol[used] = a
                        quantity[used] = -part if cand_short[k] else part
                        entry_price[used] = price
                        entry_hour[used] = hours[s]
                        cash_flow[used] = flow
                        locked[used] = notional * (1.0 - part / wanted) if overlap else 0.0
                        free_row[used] = settle[s]
                        used += 1
                        cash += flow
                    if part > 0.0:
                        acc[tally.ENTRIES] += 1.0
                        acc[tally.FEES] += part * price * fee
                        acc[tally.TURNOVER] += part * price
                        if cand_short[k]:
                            shorts += 1
                        n_fills = tally.record(
                            log, n_fills, s, a, -1.0 if cand_short[k] else 1.0, price, part, fee * part * price, tally.ENTRY
                        )
            # R10 marking
            equity = cash
            exposed = False
            for j in range(used):
                if quantity[j] != 0.0:
                    equity += quantity[j] * held_mark[s, symbol[j]]
                    exposed = True
            if exposed:
                acc[tally.EXPOSED] += 1.0
            ruined = equity <= 0.0
            if ruined:
                equity = 0.0
            tally.mark(acc, equity)
            if keep:
                equity_all[order[which], s] = equity
            s += 1
            if ruined:
                tally.skip(acc, n_rows - s)
                if keep:
                    equity_all[order[which], s:] = 0.0
                cash = 0.0
                break
        acc[tally.FINAL] = acc[tally.PREV_EQUITY]
    return n_fills

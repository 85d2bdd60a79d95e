"""The `realistic` kernel: docs/fills.md rules R1–R11 for many configurations over one panel.

While no position is held and no candidate is good enough, equity cannot move, so the kernel jumps to the next row that has
one; in a *quiet* row, where no order of a held position can fill and no candidate can enter, it only marks. Both give what
applying every rule to every row gives.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from trainables.selector import options as opt
from trainables.selector import tally
from trainables.selector.account import buy_fill, interest, mark, move, put, sell_fill, stolen, take
from trainables.selector.candidates import (
    CLOSE,
    FLAGS,
    HALF_SPREAD,
    HIGH,
    KNOWN_MARK,
    LAST,
    LOW,
    MAKER,
    MIN_NOTIONAL,
    OPEN,
    TAKER,
    TRADABLE,
    VOLUME,
    order_amounts,
    order_limits,
)

BLOCK_CELLS = 2048  # cells of a block: 256 KB, half of a small second-level cache


@njit(cache=True, error_model="numpy")
def run(
    params,
    order,
    hours,
    settle,
    overlap,
    cells,
    costs,
    marks,
    start,
    cand_symbol,
    cand_short,
    cand_score,
    cand_limit,
    cand_amount,
    nonempty,
    top,
    reach,
    cash0,
    acc_all,
    equity_all,
    column,
    log,
):
    """Simulates the configurations `params[order]`, which share one candidate list.

    Args:
        params: float64 (n, P), see `options.encode`.
        order: int64, the configurations of this group.
        hours: float64 (T,) row starts in hours.
        settle: int64 (T,) first row that starts at or after the end of row t's bars.
        overlap: True if any settle[t] > t + 1.
        cells, costs: float64 (A, T, CELL) and (A, 6), see `candidates`.
        marks: float64 (A, T) last closes, the row's own included.
        start, cand_*: the group's candidates, `candidates.build`.
        nonempty, top, reach: the group's short cuts, `candidates.shortcuts`.
        cash0: Initial cash.
        acc_all: float64 (n, tally.WIDTH) out.
        equity_all: float64 (n, C) out, or (0, 0) to keep none; `column`, int64 (T,): where a row's equity goes, the last stays.
        log: float64 (rows, 7) fill records of the (single) configuration, or (0, 7).

    Returns:
        Number of fills of the last configuration.
    """
    n_assets, n_rows = cells.shape[:2]
    symbol = np.empty(opt.MAX_SLOTS, np.int64)
    quantity = np.empty(opt.MAX_SLOTS)
    entry_price = np.empty(opt.MAX_SLOTS)
    entry_hour = np.empty(opt.MAX_SLOTS)
    cash_flow = np.empty(opt.MAX_SLOTS)
    free_row = np.empty(opt.MAX_SLOTS, np.int64)  # rule R11: the row from which the slot's outcome is known
    locked = np.empty(opt.MAX_SLOTS)
    taken_at = np.full(n_assets, -1, np.int64)  # last row at whose start the symbol held a slot
    keep = equity_all.shape[0] > 0
    n_fills = 0
    # Money and slots of each configuration between blocks of rows; a block's cells stay in the cache for all configurations.
    purse = np.empty((order.shape[0], 2))
    state = np.empty((order.shape[0], opt.MAX_SLOTS, 7))
    for which in range(order.shape[0]):
        tally.begin(acc_all[order[which]], cash0)
        purse[which, 0], purse[which, 1] = cash0, 0.0
    block = max(64, BLOCK_CELLS // n_assets)
    for chunk in range(order.shape[0] * ((n_rows + block - 1) // block)):
        which = chunk % order.shape[0]
        s = chunk // order.shape[0] * block
        stop = min(s + block, n_rows)
        p = params[order[which]]
        acc = acc_all[order[which]]
        prev = acc[tally.PREV_EQUITY]
        if not prev > 0.0:
            continue  # ruined in an earlier block
        min_edge, slots, max_hold, buffer = p[opt.P_MIN_EDGE], int(p[opt.P_SLOTS]), p[opt.P_HOLD], p[opt.P_BUFFER]
        penetration, touch, volume_cap = p[opt.P_FILL] == 1.0, p[opt.P_TOUCH], p[opt.P_VOLUME]
        leverage, eod, cost, offset = p[opt.P_LEVERAGE], p[opt.P_EOD] != 0.0, p[opt.P_COST], p[opt.P_OFFSET]
        quiet_rules = leverage <= 1.0 and p[opt.P_STEAL] == 0.0 and not overlap
        early = buffer - 1e-9  # sooner than the exact test of R3, which then decides
        taken_at[:] = -1
        cash, used = purse[which, 0], int(purse[which, 1])
        shorts = 0
        deadline = np.inf
        for j in range(used):
            take(state, which, j, symbol, quantity, entry_price, entry_hour, cash_flow, free_row, locked)
            shorts += quantity[j] < 0.0
            if max_hold > 0.0:
                deadline = min(deadline, entry_hour[j] + max_hold - 1e-6)
        # Every row adds to these; they live in registers, not in `acc`.
        peak, drawdown, rows, exposed_rows = acc[tally.PEAK], acc[tally.DRAWDOWN], acc[tally.ROWS], acc[tally.EXPOSED]
        first_r, prev_r, sum_dr2, n_neg = acc[tally.FIRST_R], acc[tally.PREV_R], acc[tally.SUM_DR2], acc[tally.N_NEG]
        sum_r, sum_r2 = acc[tally.SUM_R], acc[tally.SUM_R2]
        sum_pos, sum_neg, sum_neg2 = acc[tally.SUM_POS], acc[tally.SUM_NEG], acc[tally.SUM_NEG2]
        floor = peak * (1.0 + drawdown)
        while s < stop:
            if used == 0 and cash >= 0.0:
                t = nonempty[s]
                while t < stop and top[t] < min_edge:
                    t = nonempty[t + 1]
                t = min(t, stop)
                if t > s:
                    sum_dr2 += prev_r * prev_r
                    prev_r = 0.0
                    rows += t - s
                    if keep:
                        equity_all[order[which], column[s] : column[t - 1] + 1] = cash
                    s = t
                    if s >= stop:
                        break
            if quiet_rules and used > 0 and shorts == 0 and cash >= 0.0:
                full = used == slots
                while s < stop and hours[s] < deadline and (full or top[s] < min_edge):
                    equity = cash
                    highest = -np.inf
                    for j in range(used):
                        a = symbol[j]
                        highest = max(highest, reach[a, s])
                        equity += quantity[j] * marks[a, s]
                    if highest >= early:
                        break
                    first_r, prev_r, prev, peak, floor, drawdown, sum_r, sum_r2, sum_dr2, sum_pos, sum_neg, sum_neg2, n_neg = mark(
                        equity,
                        rows,
                        first_r,
                        prev_r,
                        prev,
                        peak,
                        floor,
                        drawdown,
                        sum_r,
                        sum_r2,
                        sum_dr2,
                        sum_pos,
                        sum_neg,
                        sum_neg2,
                        n_neg,
                    )
                    rows += 1
                    exposed_rows += 1
                    if keep:
                        equity_all[order[which], column[s]] = equity
                    s += 1
                if s >= stop:
                    break
            # R1 financing
            if s > 0 and (cash < 0.0 or shorts > 0):
                due = interest(p, hours[s] - hours[s - 1], cash, used, symbol, quantity, cells, s)
                cash -= due
                acc[tally.FINANCING] += due
            if overlap:  # R11: outcomes that became known free their slots
                j = 0
                while j < used:
                    if free_row[j] <= s:
                        locked[j] = 0.0
                        if quantity[j] == 0.0:
                            used -= 1
                            move(symbol, quantity, entry_price, entry_hour, cash_flow, free_row, locked, used, j)
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
                        value = quantity[j] * cells[symbol[j], s, KNOWN_MARK]
                        net += value
                        gross += abs(value)
                    lock += locked[j]
                liquidation = gross > 0.0 and net < p[opt.P_MAINTENANCE] * gross
                power = max(0.0, leverage * net - gross - lock) * (1.0 - p[opt.P_CASH_BUFFER])
            for j in range(used):
                taken_at[symbol[j]] = s
            steal = -1
            if p[opt.P_STEAL] != 0.0 and free == 0 and not liquidation and has_candidates:
                steal = stolen(p, s, cells, used, symbol, quantity, entry_price, taken_at, start, cand_symbol, cand_short, cand_score)
            # R4–R6 exits, only from positions held at the decision
            j = 0
            at_decision = used
            while j < at_decision:
                a = symbol[j]
                q = quantity[j]
                flags = int(cells[a, s, FLAGS])
                if q == 0.0 or flags & TRADABLE == 0:
                    j += 1
                    continue
                reason = -1
                if liquidation:
                    reason = tally.LIQUIDATION
                elif max_hold > 0.0 and hours[s] - entry_hour[j] >= max_hold:
                    reason = tally.MAX_HOLD
                elif j == steal:
                    reason = tally.STEAL
                if reason < 0 and not (eod and flags & LAST):
                    # Most rows end here: nothing forces the position out and its limit is not reached.
                    buy, sell = order_limits(cells, s, a, offset)
                    if q > 0.0:
                        if not cells[a, s, HIGH] >= sell * (1.0 + buffer):
                            j += 1
                            continue
                    elif not cells[a, s, LOW] <= buy * (1.0 - buffer):
                        j += 1
                        continue
                room = volume_cap * cells[a, s, VOLUME] if volume_cap > 0.0 else np.inf
                impact = (costs[a, HALF_SPREAD] + p[opt.P_SLIP]) * cost
                rest = abs(q)
                filled_notional = 0.0
                for phase in range(2):
                    part = 0.0
                    price = 0.0
                    fee = 0.0
                    why = reason
                    if phase == 0 and reason >= 0:
                        part = rest
                        price = cells[a, s, OPEN] * (1.0 - impact) if q > 0.0 else cells[a, s, OPEN] * (1.0 + impact)
                        fee = costs[a, TAKER] * cost
                    elif phase == 0:
                        beta, gamma = order_amounts(cells, s, a, p[opt.P_INTENSITY], p[opt.P_DIP], False)
                        buy, sell = order_limits(cells, s, a, offset)
                        fraction = 0.0
                        if q > 0.0:
                            if gamma > 0.0:
                                fraction, price = sell_fill(
                                    sell, cells[a, s, OPEN], cells[a, s, HIGH], cells[a, s, LOW], buffer, penetration, touch
                                )
                        elif beta > 0.0:
                            fraction, price = buy_fill(
                                buy, cells[a, s, OPEN], cells[a, s, HIGH], cells[a, s, LOW], buffer, penetration, touch
                            )
                        part = rest * fraction
                        if fraction > 0.0 and (rest - part) * price < costs[a, MIN_NOTIONAL]:
                            part = rest
                        fee = costs[a, MAKER] * cost
                        why = tally.LIMIT
                    elif reason < 0 and eod and flags & LAST:
                        part = rest
                        price = cells[a, s, CLOSE] * (1.0 - impact) if q > 0.0 else cells[a, s, CLOSE] * (1.0 + impact)
                        fee = costs[a, TAKER] * cost
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
                    tally.close(acc, cash_flow[j], hours[s] - entry_hour[j])
                    if not (overlap and settle[s] > s + 1):
                        used -= 1
                        at_decision -= 1
                        move(symbol, quantity, entry_price, entry_hour, cash_flow, free_row, locked, used, j)
                        if steal == used:
                            steal = j
                        elif steal == j:
                            steal = -1
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
                    if taken_at[a] == s or (eod and int(cells[a, s, FLAGS]) & LAST):
                        continue
                    taken_at[a] = s
                    places -= 1
                    limit = cand_limit[k]
                    fee = costs[a, MAKER] * cost
                    notional = cand_amount[k] * budget
                    wanted = notional / (limit * (1.0 + fee))
                    if notional < costs[a, MIN_NOTIONAL] or not wanted > 0.0:
                        continue
                    acc[tally.ORDERS] += 1.0
                    if cand_short[k]:
                        fraction, price = sell_fill(
                            limit, cells[a, s, OPEN], cells[a, s, HIGH], cells[a, s, LOW], buffer, penetration, touch
                        )
                    else:
                        fraction, price = buy_fill(
                            limit, cells[a, s, OPEN], cells[a, s, HIGH], cells[a, s, LOW], buffer, penetration, touch
                        )
                    part = wanted * fraction
                    if volume_cap > 0.0:
                        part = min(part, volume_cap * cells[a, s, VOLUME])
                    if part > 0.0 or (overlap and settle[s] > s + 1):
                        flow = part * price * (1.0 - fee) if cand_short[k] else -part * price * (1.0 + fee)
                        symbol[used], entry_price[used], entry_hour[used] = a, price, hours[s]
                        quantity[used] = -part if cand_short[k] else part
                        cash_flow[used], free_row[used] = flow, settle[s]
                        locked[used] = notional * (1.0 - part / wanted) if overlap else 0.0
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
            if -1e-9 < cash < 0.0:
                cash = 0.0  # the rounding of a fully spent account is not a loan
            equity = cash
            exposed = False
            deadline = np.inf
            for j in range(used):
                if quantity[j] != 0.0:
                    equity += quantity[j] * marks[symbol[j], s]
                    exposed = True
                    if max_hold > 0.0:
                        deadline = min(deadline, entry_hour[j] + max_hold - 1e-6)  # R4 decides exactly
            # R10 marking
            ruined = equity <= 0.0
            if ruined:
                equity = 0.0
            first_r, prev_r, prev, peak, floor, drawdown, sum_r, sum_r2, sum_dr2, sum_pos, sum_neg, sum_neg2, n_neg = mark(
                equity, rows, first_r, prev_r, prev, peak, floor, drawdown, sum_r, sum_r2, sum_dr2, sum_pos, sum_neg, sum_neg2, n_neg
            )
            rows += 1
            exposed_rows += exposed
            if keep:
                equity_all[order[which], column[s]] = equity
            s += 1
            if ruined:
                if s < n_rows:
                    sum_dr2 += prev_r * prev_r
                    prev_r = 0.0
                    rows += n_rows - s
                if keep and s < n_rows:
                    equity_all[order[which], column[s] :] = 0.0
                break
        purse[which, 0], purse[which, 1] = cash, used
        for j in range(used):
            put(state, which, j, symbol, quantity, entry_price, entry_hour, cash_flow, free_row, locked)
        acc[tally.FINAL], acc[tally.FIRST], acc[tally.PREV_EQUITY], acc[tally.PEAK] = prev, cash0, prev, peak
        acc[tally.DRAWDOWN], acc[tally.ROWS], acc[tally.N_R], acc[tally.EXPOSED] = drawdown, rows, rows, exposed_rows
        acc[tally.FIRST_R], acc[tally.PREV_R], acc[tally.SUM_DR2], acc[tally.N_NEG] = first_r, prev_r, sum_dr2, n_neg
        acc[tally.SUM_R], acc[tally.SUM_R2] = sum_r, sum_r2
        acc[tally.SUM_POS], acc[tally.SUM_NEG], acc[tally.SUM_NEG2] = sum_pos, sum_neg, sum_neg2
    return n_fills

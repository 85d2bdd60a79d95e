"""The `realistic` kernel: docs/fills.md rules R1–R12 for many configurations over one panel.

While no position is held and no candidate is good enough, equity cannot move, so the kernel jumps to the next row that has
one; in a *quiet* row, where no order of a held position can fill and no candidate can enter, it only marks. Both give what
applying every rule to every row gives.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from trainables.selector import options as opt
from trainables.selector import tally
from trainables.selector.account import interest, limit_fill, mark, move, put, settle_orders, stolen, take
from trainables.selector.candidates import (
    CLOSE,
    ENDED,
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

FLAT = 1e-12  # a position of at most this many units is none: what the rounding of partial exits leaves
BLOCK_CELLS = 2048  # cells of a block: 256 KB, half of a small second-level cache


@njit(cache=True, error_model="numpy")
def run(
    params,
    order,
    hours,
    settle,
    clocks,
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
    first,
    held,
    bought,
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
        clocks: True if any settle[t] > t + 1; otherwise None, and a kernel without rule R11 is compiled.
        cells, costs: float64 (A, T, CELL) and (A, 6), see `candidates`.
        marks: float64 (A, T) last closes, the row's own included.
        start, cand_*: the group's candidates, `candidates.build`.
        nonempty, top, reach: the group's short cuts, `candidates.shortcuts`.
        cash0: Initial cash.
        first: First row simulated; rows before it leave no trace.
        held, bought: Symbol that holds all the cash from its close in row `bought`; held = -1 starts flat.
        acc_all: float64 (n, tally.WIDTH) out.
        equity_all: float64 (n, C) out, or (0, 0) to keep none; `column`, int64 (T,): where a row's equity goes, the last stays.
        log: float64 (rows, 7) fill records of the (single) configuration, or (0, 7).

    Returns:
        Number of fills of the last configuration.
    """
    n_assets, n_rows = cells.shape[:2]
    overlap = clocks is not None
    symbol = np.empty(opt.MAX_SLOTS, np.int64)
    quantity = np.empty(opt.MAX_SLOTS)
    entry_price = np.empty(opt.MAX_SLOTS)
    entry_hour = np.empty(opt.MAX_SLOTS)
    cash_flow = np.empty(opt.MAX_SLOTS)
    free_row = np.empty(opt.MAX_SLOTS, np.int64)  # rule R11: the row from which the slot's outcome is known
    locked, due, known = np.empty((3, opt.MAX_SLOTS))  # R11: budget of an entry, cash flow and position that are (not) settled
    taken_at = np.full(n_assets, -1, np.int64)  # last row at whose start the symbol held a slot
    keep = equity_all.shape[0] > 0
    n_fills = 0
    # Money and slots of each configuration between blocks of rows; a block's cells stay in the cache for all configurations.
    purse = np.empty((order.shape[0], 3))
    state = np.empty((order.shape[0], opt.MAX_SLOTS, 9))
    sure = known if overlap else quantity  # what decisions may count on
    for which in range(order.shape[0]):
        tally.begin(acc_all[order[which]], cash0)
        purse[which] = np.array([cash0, 0.0, cash0])
        if held >= 0:
            symbol[0], entry_price[0], entry_hour[0] = held, marks[held, bought], hours[bought]
            quantity[0], cash_flow[0], free_row[0], locked[0], due[0] = cash0 / marks[held, bought], -cash0, first, 0.0, 0.0
            known[0] = quantity[0]
            put(state, which, 0, symbol, quantity, entry_price, entry_hour, cash_flow, free_row, locked, due, known)
            purse[which] = np.array([0.0, 1.0, 0.0])
    block = max(64, BLOCK_CELLS // n_assets)
    for chunk in range(order.shape[0] * ((n_rows - first + block - 1) // block)):
        which = chunk % order.shape[0]
        s = first + chunk // order.shape[0] * block
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
        cash, used, settled = purse[which, 0], int(purse[which, 1]), purse[which, 2]
        shorts = 0
        deadline = np.inf
        for j in range(used):
            take(state, which, j, symbol, quantity, entry_price, entry_hour, cash_flow, free_row, locked, due, known)
            shorts += quantity[j] < 0.0
            if max_hold > 0.0:
                deadline = min(deadline, entry_hour[j] + max_hold - 1e-6)
        # Every row adds to these; they live in registers, not in `acc`.
        peak, deepest, rows, exposed_rows = acc[tally.PEAK], acc[tally.DRAWDOWN], acc[tally.ROWS], acc[tally.EXPOSED]
        first_r, prev_r, sum_dr2, n_neg = acc[tally.FIRST_R], acc[tally.PREV_R], acc[tally.SUM_DR2], acc[tally.N_NEG]
        sum_r, sum_r2 = acc[tally.SUM_R], acc[tally.SUM_R2]
        sum_pos, sum_neg, sum_neg2 = acc[tally.SUM_POS], acc[tally.SUM_NEG], acc[tally.SUM_NEG2]
        floor = peak * (1.0 + deepest)
        while s < stop:
            if used == 0 and cash >= 0.0 and (settled >= 0.0 or not overlap):
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
                    first_r, prev_r, prev, peak, floor, deepest, sum_r, sum_r2, sum_dr2, sum_pos, sum_neg, sum_neg2, n_neg = mark(
                        equity, rows, first_r, prev_r, prev, peak, floor, deepest, sum_r, sum_r2, sum_dr2, sum_pos, sum_neg, sum_neg2, n_neg
                    )
                    rows += 1
                    exposed_rows += 1
                    if keep:
                        equity_all[order[which], column[s]] = equity
                    s += 1
                if s >= stop:
                    break
            if overlap:  # R11: outcomes that became known
                settled, used = settle_orders(
                    s, settled, used, symbol, quantity, entry_price, entry_hour, cash_flow, free_row, locked, due, known
                )
            # R1 financing
            if s > first and (cash < 0.0 or shorts > 0 or overlap):
                owed = interest(p, hours[s] - hours[s - 1], settled if overlap else cash, used, symbol, sure, cells, s)
                cash -= owed
                settled -= owed
                acc[tally.FINANCING] += owed
            # R2 account at the moment of decision
            free = slots - used
            liquidation = False
            power = 0.0
            has_candidates = start[s + 1] > start[s]
            if leverage > 1.0 or shorts > 0 or cash < 0.0 or overlap or (free > 0 and has_candidates):
                net = settled if overlap else cash
                gross = 0.0
                lock = 0.0
                for j in range(used):
                    if sure[j] != 0.0:
                        value = sure[j] * cells[symbol[j], s, KNOWN_MARK]
                        net += value
                        gross += abs(value)
                    if overlap:
                        lock += locked[j]
                liquidation = gross > 0.0 and net < p[opt.P_MAINTENANCE] * gross
                power = max(0.0, leverage * net - gross - lock) * (1.0 - p[opt.P_CASH_BUFFER])
            for j in range(used):
                taken_at[symbol[j]] = s
            steal = -1
            if p[opt.P_STEAL] != 0.0 and free == 0 and not liquidation and has_candidates:
                steal = stolen(p, s, cells, used, symbol, sure, entry_price, free_row, taken_at, start, cand_symbol, cand_short, cand_score)
            # R4–R6 and R12 exits, only from positions held at the decision
            j = 0
            at_decision = used
            while j < at_decision:
                a = symbol[j]
                q = quantity[j]
                flags = int(cells[a, s, FLAGS])
                if q == 0.0 or flags & (TRADABLE | ENDED) == 0:
                    j += 1
                    continue
                reason = -1
                if flags & ENDED:
                    reason = tally.DELISTED
                elif liquidation:
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
                if overlap and free_row[j] > s:  # R11: no second order before the first is settled
                    j += 1
                    continue
                ended = reason == tally.DELISTED
                room = volume_cap * cells[a, s, VOLUME] if volume_cap > 0.0 and not ended else np.inf
                half_spread, taker = costs[a, HALF_SPREAD] * cost, costs[a, TAKER] * cost
                impact = half_spread + p[opt.P_SLIP] * cost
                worse = 1.0 - impact if q > 0.0 else 1.0 + impact
                rest = abs(q)
                total = 0.0
                moved = False
                for phase in range(2):
                    part, price, fee, why = 0.0, 0.0, taker, reason
                    if phase == 0 and reason >= 0:
                        part = rest
                        price = (marks[a, s] if ended else cells[a, s, OPEN]) * worse
                    elif phase == 0:
                        beta, gamma = order_amounts(cells, s, a, p[opt.P_INTENSITY], p[opt.P_DIP], False)
                        buy, sell = order_limits(cells, s, a, offset)
                        o, high, low = cells[a, s, OPEN], cells[a, s, HIGH], cells[a, s, LOW]
                        limit = sell if q > 0.0 else buy
                        fraction, price, fee = limit_fill(
                            q > 0.0, limit, o, high, low, buffer, penetration, touch, half_spread, costs[a, MAKER] * cost, taker
                        )
                        if (gamma if q > 0.0 else beta) > 0.0 and fraction > 0.0:
                            part = rest * fraction
                            if (rest - part) * price < costs[a, MIN_NOTIONAL]:
                                part = rest
                        why = tally.LIMIT
                    elif reason < 0 and eod and flags & LAST:
                        part = rest
                        price = cells[a, s, CLOSE] * worse
                        why = tally.EOD
                    part = min(part, room)
                    if part > 0.0:
                        room -= part
                        rest -= part
                        flow = part * price * (1.0 - fee) if q > 0.0 else -part * price * (1.0 + fee)
                        cash += flow
                        total += flow
                        moved = True
                        acc[tally.FEES] += part * price * fee
                        acc[tally.TURNOVER] += part * price
                        if why != tally.LIMIT:
                            acc[tally.FORCED] += 1.0
                        n_fills = tally.record(log, n_fills, s, a, -1.0 if q > 0.0 else 1.0, price, part, fee * part * price, why)
                if not moved:
                    j += 1
                    continue
                cash_flow[j] += total
                rest = 0.0 if rest <= FLAT else rest
                quantity[j] = rest if q > 0.0 else -rest
                if overlap:
                    due[j] += total
                    free_row[j] = settle[s]
                if rest == 0.0:
                    if q < 0.0:
                        shorts -= 1
                    tally.close(acc, cash_flow[j], hours[s] - entry_hour[j])
                    if not overlap:
                        used -= 1
                        at_decision -= 1
                        move(symbol, quantity, entry_price, entry_hour, cash_flow, free_row, locked, due, known, used, j)
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
                    notional = cand_amount[k] * budget
                    wanted = notional / (limit * (1.0 + max(costs[a, MAKER], costs[a, TAKER]) * cost))
                    if notional < costs[a, MIN_NOTIONAL] or not wanted > FLAT:
                        continue
                    acc[tally.ORDERS] += 1.0
                    o, high, low = cells[a, s, OPEN], cells[a, s, HIGH], cells[a, s, LOW]
                    half_spread, maker, taker = costs[a, HALF_SPREAD] * cost, costs[a, MAKER] * cost, costs[a, TAKER] * cost
                    fraction, price, fee = limit_fill(
                        cand_short[k], limit, o, high, low, buffer, penetration, touch, half_spread, maker, taker
                    )
                    part = wanted * fraction
                    if volume_cap > 0.0 and fraction > 0.0:
                        part = min(part, volume_cap * cells[a, s, VOLUME])
                    if part > 0.0 or overlap:
                        flow = part * price * (1.0 - fee) if cand_short[k] else -part * price * (1.0 + fee)
                        symbol[used], entry_price[used], entry_hour[used] = a, price, hours[s]
                        quantity[used] = -part if cand_short[k] else part
                        cash_flow[used], free_row[used] = flow, settle[s]
                        locked[used], due[used], known[used] = notional, flow, 0.0
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
            first_r, prev_r, prev, peak, floor, deepest, sum_r, sum_r2, sum_dr2, sum_pos, sum_neg, sum_neg2, n_neg = mark(
                equity, rows, first_r, prev_r, prev, peak, floor, deepest, sum_r, sum_r2, sum_dr2, sum_pos, sum_neg, sum_neg2, n_neg
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
        purse[which, 0], purse[which, 1], purse[which, 2] = cash, used, settled
        for j in range(used):
            put(state, which, j, symbol, quantity, entry_price, entry_hour, cash_flow, free_row, locked, due, known)
        acc[tally.FINAL], acc[tally.FIRST], acc[tally.PREV_EQUITY], acc[tally.PEAK] = prev, cash0, prev, peak
        acc[tally.DRAWDOWN], acc[tally.ROWS], acc[tally.N_R], acc[tally.EXPOSED] = deepest, rows, rows, exposed_rows
        acc[tally.FIRST_R], acc[tally.PREV_R], acc[tally.SUM_DR2], acc[tally.N_NEG] = first_r, prev_r, sum_dr2, n_neg
        acc[tally.SUM_R], acc[tally.SUM_R2] = sum_r, sum_r2
        acc[tally.SUM_POS], acc[tally.SUM_NEG], acc[tally.SUM_NEG2] = sum_pos, sum_neg, sum_neg2
    return n_fills

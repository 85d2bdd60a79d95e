"""The `legacy` kernel: docs/fills.md rules L1–L7, the published simulators with their quirks, for reproduction only."""

from __future__ import annotations

import numpy as np
from numba import njit

from trainables.selector import options as opt
from trainables.selector import tally
from trainables.selector.account import HOURS_PER_YEAR, buy_fill, sell_fill
from trainables.selector.candidates import (
    CLOSE,
    FLAGS,
    HELD_MARK,
    HIGH,
    LAST,
    LOW,
    MAKER,
    PRESENT,
    TRADABLE,
    VOLUME,
    order_amounts,
    order_limits,
)

FLAT = 1e-12


@njit(cache=True, error_model="numpy")
def _fraction(short_side, limit, h, l, buffer, penetration, touch):
    """The fill fraction of a limit without the open rule; the price is always the limit."""
    if short_side:
        return sell_fill(limit, -np.inf, h, l, buffer, penetration, touch)[0]
    return buy_fill(limit, np.inf, h, l, buffer, penetration, touch)[0]


@njit(cache=True)
def _order(keys, n):
    """Stable insertion sort of slot indices by symbol."""
    out = np.arange(n)
    for i in range(1, n):
        j = i
        while j > 0 and keys[out[j - 1]] > keys[out[j]]:
            out[j - 1], out[j] = out[j], out[j - 1]
            j -= 1
    return out


@njit(cache=True, error_model="numpy")
def run(
    params,
    order,
    hours,
    any_present,
    cells,
    costs,
    start,
    cand_symbol,
    cand_short,
    cand_score,
    cand_limit,
    cand_amount,
    cash0,
    acc_all,
    equity_all,
    column,
    log,
):
    """Simulates the configurations `params[order]`, which share one candidate list; see `realistic.run` for the arguments.

    `any_present` (T,): the row exists. Equity of rows that do not exist is NaN.
    """
    n_rows = cells.shape[1]
    symbol = np.empty(opt.MAX_SLOTS, np.int64)
    quantity = np.empty(opt.MAX_SLOTS)
    entry_price = np.empty(opt.MAX_SLOTS)
    entry_hour = np.empty(opt.MAX_SLOTS)
    cash_flow = np.empty(opt.MAX_SLOTS)
    keep = equity_all.shape[0] > 0
    seen = np.empty(cells.shape[0], np.int64)
    n_fills = 0
    for which in range(order.shape[0]):
        p = params[order[which]]
        acc = acc_all[order[which]]
        tally.begin(acc, cash0)
        n_fills = 0
        min_edge, slots, max_hold, buffer = p[opt.P_MIN_EDGE], int(p[opt.P_SLOTS]), p[opt.P_HOLD], p[opt.P_BUFFER]
        penetration, touch, leverage, eod = p[opt.P_FILL] == 1.0, p[opt.P_TOUCH], p[opt.P_LEVERAGE], p[opt.P_EOD] != 0.0
        fillable, single = p[opt.P_FILLABLE] != 0.0, slots == 1
        volume_cap = p[opt.P_VOLUME] if single else 0.0
        cash = cash0
        used = 0
        previous = -1
        for s in range(n_rows):
            if not any_present[s]:
                continue
            if previous >= 0:  # L1
                dh = hours[s] - hours[previous]
                due = max(0.0, -cash) * p[opt.P_MARGIN] / HOURS_PER_YEAR * dh
                for j in range(used):
                    if quantity[j] < 0.0:
                        due += -quantity[j] * cells[symbol[j], s, HELD_MARK] * p[opt.P_BORROW] / HOURS_PER_YEAR * dh
                cash -= due
                acc[tally.FINANCING] += due
            previous = s
            forced = False
            closed = False
            stole = False
            seen[:] = -1  # A5: a symbol competes once, with its better side
            spent = np.zeros(cells.shape[0])  # volume taken per symbol in this row
            turn = _order(symbol, used)
            for step in range(used):
                j = turn[step]
                a = symbol[j]
                flags = int(cells[a, s, FLAGS])
                if flags & PRESENT == 0:
                    continue
                q = quantity[j]
                fee = costs[a, MAKER] * p[opt.P_COST]
                part = 0.0
                price = cells[a, s, CLOSE]
                reason = -1
                if max_hold > 0.0 and hours[s] - entry_hour[j] >= max_hold:  # L2
                    part = abs(q)
                    reason = tally.MAX_HOLD
                    forced = single
                elif not single and eod and flags & LAST:
                    part = abs(q)
                    reason = tally.EOD
                elif single and p[opt.P_STEAL] != 0.0 and q > FLAT:  # L3
                    u = cells[a, s, CLOSE] / entry_price[j] - 1.0
                    if u >= p[opt.P_STEAL_PROFIT]:
                        for k in range(start[s], start[s + 1]):
                            b = cand_symbol[k]
                            if cand_short[k] or b == a or int(cells[b, s, FLAGS]) & TRADABLE == 0:
                                continue
                            if (
                                fillable
                                and not _fraction(False, cand_limit[k], cells[b, s, HIGH], cells[b, s, LOW], buffer, penetration, touch)
                                > 0.0
                            ):
                                continue
                            if cand_score[k] >= p[opt.P_STEAL_EDGE] and cand_score[k] >= u + p[opt.P_STEAL_MARGIN]:
                                part = abs(q)
                                reason = tally.STEAL
                                stole = True
                            break
                if reason < 0 and flags & TRADABLE:  # L4
                    beta, gamma = order_amounts(cells, s, a, p[opt.P_INTENSITY], p[opt.P_DIP], True)
                    buy, sell = order_limits(cells, s, a, p[opt.P_OFFSET])
                    reason = tally.LIMIT
                    if q > 0.0 and gamma > 0.0:
                        price = sell
                        part = gamma * q * _fraction(True, sell, cells[a, s, HIGH], cells[a, s, LOW], buffer, penetration, touch)
                    elif q < 0.0 and beta > 0.0:
                        price = buy
                        part = beta * -q * _fraction(False, buy, cells[a, s, HIGH], cells[a, s, LOW], buffer, penetration, touch)
                if volume_cap > 0.0:
                    room = volume_cap * cells[a, s, VOLUME] - spent[a]
                    part = min(part, room) if room > 0.0 else 0.0
                if part > 0.0:
                    spent[a] += part
                    flow = part * price * (1.0 - fee) if q > 0.0 else -part * price * (1.0 + fee)
                    cash += flow
                    cash_flow[j] += flow
                    quantity[j] = q - part if q > 0.0 else q + part
                    closed = True
                    acc[tally.FEES] += part * price * fee
                    acc[tally.TURNOVER] += part * price
                    if reason != tally.LIMIT:
                        acc[tally.FORCED] += 1.0
                    n_fills = tally.record(log, n_fills, s, a, -1.0 if q > 0.0 else 1.0, price, part, fee * part * price, reason)
            # Drop what is flat, keeping order.
            kept = 0
            for j in range(used):
                if abs(quantity[j]) > FLAT:
                    symbol[kept], quantity[kept], entry_price[kept] = symbol[j], quantity[j], entry_price[j]
                    entry_hour[kept], cash_flow[kept] = entry_hour[j], cash_flow[j]
                    kept += 1
                else:
                    tally.close(acc, cash_flow[j], hours[s] - entry_hour[j])
            used = kept
            # The stealing candidate's purchase (L3), then entries (L5)
            stolen_from = symbol[0] if stole else -1
            for turn_of_thief in range(2):
                stealing = turn_of_thief == 0
                if stealing and not stole:
                    continue
                places = slots - used
                if single and not stealing and (forced or (closed and p[opt.P_REENTRY] == 0.0)):
                    places = 0
                for k in range(start[s], start[s + 1]):
                    if places <= 0:
                        break
                    a = cand_symbol[k]
                    short = cand_short[k]
                    if int(cells[a, s, FLAGS]) & TRADABLE == 0:
                        continue
                    if stealing:
                        if short or a == stolen_from or cand_score[k] < p[opt.P_STEAL_EDGE]:
                            continue
                    elif cand_score[k] < min_edge:
                        break
                    held = False
                    for j in range(used):
                        held = held or symbol[j] == a
                    if held or (seen[a] == s and not stealing):
                        continue
                    fraction = _fraction(short, cand_limit[k], cells[a, s, HIGH], cells[a, s, LOW], buffer, penetration, touch)
                    if fillable and not fraction > 0.0:
                        continue
                    places -= 1
                    if not stealing:
                        seen[a] = s
                    if not fraction > 0.0:
                        continue
                    fee = costs[a, MAKER] * p[opt.P_COST]
                    money = max(0.0, cash) if single else max(0.0, cash) / (slots - used)
                    part = cand_amount[k] * money * leverage / (cand_limit[k] * (1.0 + fee)) * fraction
                    if volume_cap > 0.0:
                        room = volume_cap * cells[a, s, VOLUME] - spent[a]
                        part = min(part, room) if room > 0.0 else 0.0
                    if not part > 0.0:
                        continue
                    spent[a] += part
                    flow = part * cand_limit[k] * (1.0 - fee) if short else -part * cand_limit[k] * (1.0 + fee)
                    cash += flow
                    symbol[used], quantity[used], entry_price[used] = a, -part if short else part, cand_limit[k]
                    entry_hour[used], cash_flow[used] = hours[s], flow
                    used += 1
                    acc[tally.ENTRIES] += 1.0
                    acc[tally.ORDERS] += 1.0
                    acc[tally.FEES] += part * cand_limit[k] * fee
                    acc[tally.TURNOVER] += part * cand_limit[k]
                    n_fills = tally.record(
                        log,
                        n_fills,
                        s,
                        a,
                        -1.0 if short else 1.0,
                        cand_limit[k],
                        part,
                        fee * part * cand_limit[k],
                        tally.STEAL if stealing else tally.ENTRY,
                    )
            # L6 end of day, a position entered in this very row included
            if single and used == 1 and eod and int(cells[symbol[0], s, FLAGS]) & PRESENT and int(cells[symbol[0], s, FLAGS]) & LAST:
                a = symbol[0]
                q = quantity[0]
                fee = costs[a, MAKER] * p[opt.P_COST]
                part = abs(q)
                if volume_cap > 0.0:
                    room = volume_cap * cells[a, s, VOLUME] - spent[a]
                    part = min(part, room) if room > 0.0 else 0.0
                if part > 0.0:
                    flow = part * cells[a, s, CLOSE] * (1.0 - fee) if q > 0.0 else -part * cells[a, s, CLOSE] * (1.0 + fee)
                    cash += flow
                    cash_flow[0] += flow
                    quantity[0] = q - part if q > 0.0 else q + part
                    acc[tally.FEES] += part * cells[a, s, CLOSE] * fee
                    acc[tally.TURNOVER] += part * cells[a, s, CLOSE]
                    acc[tally.FORCED] += 1.0
                    n_fills = tally.record(
                        log, n_fills, s, a, -1.0 if q > 0.0 else 1.0, cells[a, s, CLOSE], part, fee * part * cells[a, s, CLOSE], tally.EOD
                    )
                    if abs(quantity[0]) <= FLAT:
                        tally.close(acc, cash_flow[0], hours[s] - entry_hour[0])
                        used = 0
            equity = cash  # L7
            for j in range(used):
                equity += quantity[j] * cells[symbol[j], s, HELD_MARK]
            if used > 0:
                acc[tally.EXPOSED] += 1.0
            if acc[tally.ROWS] == 0.0:
                # The original's return starts from the first row's equity, after its trades (SPEC G.7, J20).
                acc[tally.FIRST] = equity
                acc[tally.PREV_EQUITY] = equity
                acc[tally.PEAK] = equity
                acc[tally.ROWS] = 1.0
            else:
                tally.mark(acc, equity)
            if keep:
                equity_all[order[which], column[s]] = equity
        acc[tally.FINAL] = acc[tally.PREV_EQUITY]
    return n_fills

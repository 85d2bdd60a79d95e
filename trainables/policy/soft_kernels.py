"""Forward and backward of the differentiable simulator (SPEC F.5), bar after bar, in float64 whatever the arrays hold.

The backward pass is derived by hand: it walks the bars in reverse with the adjoints of cash and inventory. At a kink it takes the
side an account can be on: max(x, 0) has slope 1 at 0, because cash and a long position that are spent come to 0 from above; only the
debt of a short, max(−inventory, 0), has slope 0 there. `soft_torch._loop` makes the same choices.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# Columns of a window's terms.
FEE, LEVERAGE, CAN_LONG, CAN_SHORT = range(4)
# Columns of the tape: the account before the bar, how much of each order filled, units bought and sold, last close known, financing owed.
CASH, HELD, P_BUY, P_SELL, BOUGHT, SOLD, MARK, OWED = range(8)
TAPE = 8  # one cache line a bar


@njit(cache=True, error_model="numpy", nogil=True)
def filled(distance, scale, temperature):
    """Filled share of an order: σ(distance/(scale·T)), or whether the price traded through it (T = 0)."""
    if temperature == 0.0:
        return 1.0 if distance >= 0.0 else 0.0
    return 1.0 / (1.0 + math.exp(-distance / (scale * temperature)))


@njit(cache=True, error_model="numpy", nogil=True)
def is_price(x):
    """Whether x is above 0 and finite."""
    return x > 0.0 and x < np.inf


@njit(cache=True, error_model="numpy", nogil=True)
def forward(
    close, high, low, mask, buy, sell, buy_amount, sell_amount, terms, carry, fill_buffer, temperature, lag, returns, present, tape
):
    """Simulates every window.

    Args:
        close, high, low: (B, T); NaN is a missing bar.
        mask: bool (B, T), False is a missing bar; or (0, 0).
        buy, sell, buy_amount, sell_amount: (B, T) decided at the end of each bar; NaN is no order.
        terms: float64 (B, 4), see the constants above.
        carry: float64 (B, T) financing of borrowed value since the row before, a fraction; or (0, 0).
        fill_buffer, temperature, lag: See `soft.simulate`.
        returns: (B, T − lag) out.
        present: bool (B, T − lag) out.
        tape: float64 (B, T − lag, TAPE) out.

    Returns:
        Flat index in (B, T) of the first amount outside [0, 1], −1 if none.
    """
    windows, bars = close.shape
    for w in range(windows):
        fee, leverage = terms[w, FEE], terms[w, LEVERAGE]
        can_long, can_short = terms[w, CAN_LONG] != 0.0, terms[w, CAN_SHORT] != 0.0
        cash, held, mark, owed = 1.0, 0.0, 0.0, 0.0
        for k in range(bars - lag):
            t = k + lag
            beta, gamma = np.float64(buy_amount[w, k]), np.float64(sell_amount[w, k])
            if beta < 0.0 or beta > 1.0 or gamma < 0.0 or gamma > 1.0:
                return w * bars + k
            c, h, l = np.float64(close[w, t]), np.float64(high[w, t]), np.float64(low[w, t])
            here = is_price(c) and is_price(h) and is_price(l) and (mask.shape[0] == 0 or mask[w, t])
            if carry.shape[0] > 0:
                owed += carry[w, t]
            row = tape[w, k]
            row[CASH], row[HELD], row[MARK], row[OWED] = cash, held, mark, owed
            row[P_BUY], row[P_SELL], row[BOUGHT], row[SOLD] = 0.0, 0.0, 0.0, 0.0
            present[w, k] = here
            before = cash + held * mark
            if not here or before <= 0.0:
                returns[w, k] = 0.0
                continue
            cost = owed * max(abs(held * mark) - before, 0.0)
            owed = 0.0
            equity = before - cost
            cash -= cost
            debt = max(-held, 0.0)
            gain = held * (c - mark) - cost
            spend, bought, sold, income = 0.0, 0.0, 0.0, 0.0
            b, s = np.float64(buy[w, k]), np.float64(sell[w, k])
            if is_price(b) and beta >= 0.0:
                paid = b * (1.0 + fee)
                budget = beta * max(leverage * equity - held * b if leverage > 1.0 else cash, 0.0)
                if not can_long:
                    budget = min(budget, debt * paid)
                row[P_BUY] = filled(b * (1.0 - fill_buffer) - l, c, temperature)
                spend = budget * row[P_BUY]
                bought = spend / paid
                gain += bought * (c - paid)
            if is_price(s) and gamma >= 0.0:
                room = max(leverage * equity / (s * (1.0 + fee)) - debt, 0.0) if can_short else 0.0
                row[P_SELL] = filled(h - s * (1.0 + fill_buffer), c, temperature)
                sold = gamma * (max(held, 0.0) + room) * row[P_SELL]
                got = s * (1.0 - fee)
                income = sold * got
                gain += sold * (got - c)
            row[BOUGHT], row[SOLD] = bought, sold
            cash += income - spend
            held += bought - sold
            mark = c
            returns[w, k] = gain / before
    return -1


@njit(cache=True, error_model="numpy", nogil=True)
def backward(
    close, present, buy, sell, buy_amount, sell_amount, terms, fill_buffer, temperature, lag, tape, grad, d_buy, d_sell, d_beta, d_gamma
):
    """Turns the gradient of the returns into those of the orders.

    Args:
        close, buy, sell, buy_amount, sell_amount, terms, fill_buffer, temperature, lag: As `forward` got them.
        present, tape: What `forward` made.
        grad: (B, T − lag).
        d_buy, d_sell, d_beta, d_gamma: (B, T) out, zeros given.
    """
    windows, bars = close.shape
    for w in range(windows):
        fee, leverage = terms[w, FEE], terms[w, LEVERAGE]
        can_long, can_short = terms[w, CAN_LONG] != 0.0, terms[w, CAN_SHORT] != 0.0
        a_cash, a_held = 0.0, 0.0  # adjoints of the account after bar k
        for k in range(bars - lag - 1, -1, -1):
            row = tape[w, k]
            cash, held, mark, owed = row[CASH], row[HELD], row[MARK], row[OWED]
            before = cash + held * mark
            if not present[w, k] or before <= 0.0:
                continue
            c = np.float64(close[w, k + lag])
            b, s = np.float64(buy[w, k]), np.float64(sell[w, k])
            beta, gamma = np.float64(buy_amount[w, k]), np.float64(sell_amount[w, k])
            over = max(abs(held * mark) - before, 0.0)
            cost = owed * over
            equity, cash = before - cost, cash - cost
            debt = max(-held, 0.0)
            gain = held * (c - mark) - cost
            g = np.float64(grad[w, k]) / before
            a_equity, a_debt = 0.0, 0.0
            a_cost = -g
            a_cash_now, a_held_now = a_cash, a_held + g * (c - mark)
            if is_price(b) and beta >= 0.0:
                p, bought = row[P_BUY], row[BOUGHT]
                paid = b * (1.0 + fee)
                gain += bought * (c - paid)
                # Cash falls by what is spent, inventory grows by spend/paid, the gain by spend·(c/paid − 1).
                a_spend = (g * c + a_held) / paid - (g + a_cash)
                a_paid = -(g * c + a_held) * bought / paid
                power = leverage * equity - held * b if leverage > 1.0 else cash
                budget = beta * max(power, 0.0)
                d_b = 0.0
                if not can_long and debt * paid <= budget:
                    budget = debt * paid
                    a_debt += a_spend * p * paid
                    a_paid += a_spend * p * debt
                else:
                    d_beta[w, k] = a_spend * p * max(power, 0.0)
                    if power >= 0.0:
                        a_power = a_spend * p * beta
                        if leverage > 1.0:
                            a_equity += a_power * leverage
                            a_held_now -= a_power * b
                            d_b -= a_power * held
                        else:
                            a_cash_now += a_power
                if temperature > 0.0:
                    d_b += a_spend * budget * p * (1.0 - p) * (1.0 - fill_buffer) / (c * temperature)
                d_buy[w, k] = d_b + a_paid * (1.0 + fee)
            if is_price(s) and gamma >= 0.0:
                p, sold = row[P_SELL], row[SOLD]
                got = s * (1.0 - fee)
                gain += sold * (got - c)
                a_sold = g * (got - c) + a_cash * got - a_held
                d_s = (g + a_cash) * sold * (1.0 - fee)
                per = s * (1.0 + fee)
                spare = leverage * equity / per - debt
                size = max(held, 0.0) + (max(spare, 0.0) if can_short else 0.0)
                d_gamma[w, k] = a_sold * size * p
                a_size = a_sold * gamma * p
                if held >= 0.0:
                    a_held_now += a_size
                if can_short and spare >= 0.0:
                    a_equity += a_size * leverage / per
                    a_debt -= a_size
                    d_s -= a_size * leverage * equity / (per * s)
                if temperature > 0.0:
                    d_s -= a_sold * gamma * size * p * (1.0 - p) * (1.0 + fill_buffer) / (c * temperature)
                d_sell[w, k] = d_s
            if held < 0.0:
                a_held_now -= a_debt
            a_before = a_equity - g * gain / before
            a_cost -= a_equity + a_cash_now
            if over > 0.0:
                a_held_now += a_cost * owed * (mark if held > 0.0 else -mark)
                a_before -= a_cost * owed
            a_cash = a_cash_now + a_before
            a_held = a_held_now + a_before * mark

"""What a simulation keeps while it runs: a row of running sums per configuration instead of an equity curve.

Metrics for 10,000 configurations cost 10,000 × 28 numbers, not 10,000 × T (SPEC G.7 computed as it goes).
"""

from __future__ import annotations

from numba import njit

(
    FINAL,
    FIRST,
    ROWS,
    SUM_R,
    SUM_R2,
    SUM_POS,
    SUM_NEG,
    SUM_NEG2,
    N_NEG,
    SUM_DR2,
    PEAK,
    DRAWDOWN,
    PREV_EQUITY,
    PREV_R,
    ENTRIES,
    TRADES,
    WINS,
    GROSS_PROFIT,
    GROSS_LOSS,
    HOLD_HOURS,
    FORCED,
    EXPOSED,
    TURNOVER,
    FEES,
    FINANCING,
    ORDERS,
    N_R,
    FIRST_R,
) = range(28)
WIDTH = 28

# Columns of a fill record.
F_ROW, F_SYMBOL, F_SIDE, F_PRICE, F_QUANTITY, F_FEE, F_REASON = range(7)
REASONS = ("entry", "limit", "max_hold", "eod", "work_steal", "liquidation", "delisted")
ENTRY, LIMIT, MAX_HOLD, EOD, STEAL, LIQUIDATION, DELISTED = range(7)


@njit(cache=True)
def begin(acc, cash):
    """Resets a configuration's sums."""
    acc[:] = 0.0
    acc[FINAL] = cash
    acc[FIRST] = cash
    acc[PREV_EQUITY] = cash
    acc[PEAK] = cash


@njit(cache=True, error_model="numpy")
def mark(acc, equity):
    """Adds one row's equity."""
    prev = acc[PREV_EQUITY]
    r = 0.0
    if equity != prev:
        r = equity / prev - 1.0 if prev > 0.0 else 0.0
        acc[SUM_R] += r
        r2 = r * r
        acc[SUM_R2] += r2
        if r < 0.0:
            acc[SUM_NEG] += r
            acc[SUM_NEG2] += r2
            acc[N_NEG] += 1.0
        else:
            acc[SUM_POS] += r
        if equity > acc[PEAK]:
            acc[PEAK] = equity
        else:
            down = equity / acc[PEAK] - 1.0
            if down < acc[DRAWDOWN]:
                acc[DRAWDOWN] = down
        acc[PREV_EQUITY] = equity
    if acc[N_R] == 0.0:
        acc[FIRST_R] = r
    else:
        dr = r - acc[PREV_R]
        acc[SUM_DR2] += dr * dr
    acc[PREV_R] = r
    acc[N_R] += 1.0
    acc[ROWS] += 1.0


@njit(cache=True)
def skip(acc, rows):
    """Adds `rows` rows in which equity did not move."""
    if rows > 0:
        acc[SUM_DR2] += acc[PREV_R] * acc[PREV_R]
        acc[PREV_R] = 0.0
        acc[N_R] += rows
        acc[ROWS] += rows


@njit(cache=True)
def close(acc, flow, held_hours):
    """Counts a finished round trip."""
    acc[TRADES] += 1.0
    acc[HOLD_HOURS] += held_hours
    if flow > 0.0:
        acc[WINS] += 1.0
        acc[GROSS_PROFIT] += flow
    else:
        acc[GROSS_LOSS] -= flow


@njit(cache=True)
def record(log, n, row, symbol, side, price, quantity, fee, reason):
    """Writes one fill to the log if there is room (a log of no rows only counts); returns the new count."""
    if n < log.shape[0]:
        log[n, F_ROW] = row
        log[n, F_SYMBOL] = symbol
        log[n, F_SIDE] = side
        log[n, F_PRICE] = price
        log[n, F_QUANTITY] = quantity
        log[n, F_FEE] = fee
        log[n, F_REASON] = reason
    return n + 1

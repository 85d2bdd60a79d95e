"""Profile `realistic` of docs/fills.md, rules R1 to R12, slow and obvious."""

from __future__ import annotations

import math

from tests.selector.reference_rules import (
    CLOCK_TOLERANCE,
    FLAT,
    Account,
    Action,
    Bar,
    Candidate,
    Config,
    Pending,
    Position,
    RefAsset,
    RefInputs,
    RefResult,
    a5_rank,
    action_of,
    bar_exists,
    bar_of,
    candidate_of,
    close_side,
    equity_of,
    execute,
    r1_charge,
    r3_limit_fraction,
    r9_room,
)


def r11_has_ended(inputs: RefInputs, bar_row: int, row: int) -> bool:
    """R11: the bar of `bar_row` has ended when `row` starts."""
    return inputs.times[bar_row] + inputs.bar_hours <= inputs.times[row] + CLOCK_TOLERANCE


def marks_at_start(inputs: RefInputs, row: int) -> dict[int, float]:
    """The last close of each symbol known at τ: of bars that have ended (R11)."""
    marks = {}
    for a in range(len(inputs.assets)):
        for earlier in range(row - 1, -1, -1):
            if bar_exists(inputs, earlier, a) and r11_has_ended(inputs, earlier, row):
                marks[a] = float(inputs.close[earlier][a])
                break
    return marks


def closes_before(inputs: RefInputs, row: int) -> dict[int, float]:
    """The last close of each symbol in the rows before `row`, whether its bar has ended or not."""
    return {a: float(inputs.close[t][a]) for t in range(row) for a in range(len(inputs.assets)) if bar_exists(inputs, t, a)}


def r3_fill(side: str, limit: float, bar: Bar | None, asset: RefAsset, config: Config) -> tuple[float, float, float]:
    """R3: (price, fraction, fee rate) of a limit order; through the open it is a taker's, at the limit a maker's."""
    m, cost = config["fill_buffer"], config["cost_multiplier"]
    x = asset.half_spread * cost
    if bar is None:
        return limit, 0.0, 0.0
    if side == "buy" and bar.open <= limit * (1 - m):
        return min(bar.open * (1 + x), limit), 1.0, asset.taker * cost
    if side == "sell" and bar.open >= limit * (1 + m):
        return max(bar.open * (1 - x), limit), 1.0, asset.taker * cost
    return limit, r3_limit_fraction(side, limit, bar, config), asset.maker * cost


def r7_group_trades(inputs: RefInputs, config: Config, row: int, a: int) -> bool:
    """R7 (i): some symbol of the same asset class has a tradable bar in the row."""
    alike = [b for b, asset in enumerate(inputs.assets) if asset.is_stock == inputs.assets[a].is_stock]
    bars = [bar_of(inputs, config, "realistic", row, b) for b in alike]
    return any(bar is not None and bar.tradable for bar in bars)


def r7_same_clock(inputs: RefInputs, row: int, other: int) -> bool:
    """R7: two rows lie whole bars apart."""
    bars = (inputs.times[row] - inputs.times[other]) / inputs.bar_hours
    return abs(bars - round(bars)) * inputs.bar_hours < CLOCK_TOLERANCE


def r7_expected(inputs: RefInputs, config: Config, row: int, a: int) -> bool:
    """R7 (i) and (ii): the group trades in the row, and the symbol had a bar when the group last did."""
    if not r7_group_trades(inputs, config, row, a):
        return False
    for earlier in range(row - 1, -1, -1):
        if r7_same_clock(inputs, row, earlier) and r7_group_trades(inputs, config, earlier, a):
            return bar_exists(inputs, earlier, a)
    return False


def r7_action(inputs: RefInputs, config: Config, row: int, a: int) -> Action | None:
    """R7 (iii): the action of the lag-th previous own bar, counted as if the row had one."""
    own = [t for t in range(row) if bar_exists(inputs, t, a)]
    if len(own) < config["lag"]:
        return None
    return action_of(inputs, {**config, "lag": config["lag"] - 1}, "realistic", own[-1], a)


def r6_session_ends(inputs: RefInputs, config: Config, row: int, a: int) -> bool:
    """R6: the row is the last bar of the symbol's session, whether the symbol itself has that bar or not."""
    own = bar_of(inputs, config, "realistic", row, a)
    if own is not None:
        return own.last_of_day
    bars = [bar_of(inputs, config, "realistic", row, b) for b in range(len(inputs.assets))]
    return inputs.assets[a].is_stock and any(bar is not None and bar.last_of_day for bar in bars)


def r7_candidates(inputs: RefInputs, config: Config, row: int, expected: list[int], taken: list[int]) -> list[Candidate]:
    """R7: who competes for a free slot, best first; a stock does not on its session's last bar (R6)."""
    found = []
    for a in expected:
        action = r7_action(inputs, config, row, a)
        if a in taken or action is None or (config["close_at_eod"] and r6_session_ends(inputs, config, row, a)):
            continue
        for side in ("buy", "sell"):
            found.append(candidate_of(inputs.assets[a], a, action, side, config, config["min_edge"]))
    return a5_rank([c for c in found if c is not None])


def r8_stolen(
    account: Account, config: Config, expected: list[int], busy: set[int], marks: dict[int, float], ranked: list[Candidate]
) -> int | None:
    """R8: the held long that gives way to a better candidate, known when no slot is free."""
    longs_held = {a: q for a, q in account.settled.items() if q > 0 and a in expected and a not in busy}
    gains = {a: marks[a] / account.positions[a].open_price - 1 for a in longs_held}
    worth = [(gain, a) for a, gain in gains.items() if gain >= config["steal_min_profit"]]
    longs = [c for c in ranked if c.side == "buy"]
    if not worth or not longs:
        return None
    gain, a = min(worth)
    return a if longs[0].score >= config["steal_min_edge"] and longs[0].score >= gain + config["steal_margin"] else None


def r4_force_reason(inputs: RefInputs, config: Config, row: int, position: Position, liquidation: bool, stolen: bool) -> str | None:
    """R4: why the position must go at the open, if it must."""
    if liquidation:
        return "liquidation"
    if config["max_hold"] > 0 and inputs.times[row] - inputs.times[position.entry_row] >= config["max_hold"]:
        return "max_hold"
    return "work_steal" if stolen else None


def market_price(side: str, price: float, asset: RefAsset, config: Config) -> float:
    """R4 and R6: the price of an order that must go, worse by half spread and slippage."""
    x = (asset.half_spread + config["slippage"]) * config["cost_multiplier"]
    return price * (1 + x) if side == "buy" else price * (1 - x)


def r12_has_ended(inputs: RefInputs, row: int, a: int) -> bool:
    """R12: no bar in the row, and none that started less than a week ago."""
    if bar_exists(inputs, row, a):
        return False
    last = max(t for t in range(row) if bar_exists(inputs, t, a))
    return inputs.times[row] - inputs.times[last] >= 168 - CLOCK_TOLERANCE


def r5_quantity(position: Position, fraction: float, price: float, min_notional: float) -> float:
    """R5: the quantity of a limit exit; a remainder too small to trade goes with it."""
    whole = abs(position.quantity)
    wanted = whole * fraction
    return whole if wanted > 0 and (whole - wanted) * price < min_notional else wanted


def r11_settle(inputs: RefInputs, account: Account, row: int) -> None:
    """R11: orders whose bar has ended move the settled account."""
    still = []
    for order in account.pending:
        if not r11_has_ended(inputs, order.row, row):
            still.append(order)
            continue
        account.settled_cash += order.cash
        quantity = account.settled.pop(order.asset, 0.0) + order.quantity
        if abs(quantity) > FLAT:
            account.settled[order.asset] = quantity
    account.pending = still


def trade(
    account: Account,
    row: int,
    a: int,
    asset: RefAsset,
    side: str,
    quantity: float,
    price: float,
    fee: float,
    reason: str,
    budget: float = 0.0,
) -> None:
    """Book a fill as `execute`, and note it for the settled account (R11)."""
    before = account.cash
    filled = execute(account, row, a, asset, side, quantity, price, fee, reason)
    account.pending.append(Pending(a, row, account.cash - before, filled if side == "buy" else -filled, budget))


def realistic_row(inputs: RefInputs, config: Config, account: Account, row: int, hours: float) -> None:
    """R1 to R9, R11 and R12 of one row."""
    marks = marks_at_start(inputs, row)
    r11_settle(inputs, account, row)
    charge = r1_charge(account.settled_cash, account.settled, marks, hours, config)
    account.cash -= charge
    account.settled_cash -= charge
    account.financing_paid += charge
    equity = account.settled_cash + sum(q * marks[a] for a, q in account.settled.items())
    gross = sum(abs(q) * marks[a] for a, q in account.settled.items())
    liquidation = gross > 0 and equity < config["maintenance_margin"] * gross  # R2

    maybe_bars = {a: bar_of(inputs, config, "realistic", row, a) for a in range(len(inputs.assets))}
    bars = {a: bar for a, bar in maybe_bars.items() if bar is not None}
    account.room = {**dict.fromkeys(maybe_bars, 0.0), **r9_room(bars, config)}
    busy = {p.asset for p in account.pending}
    locked = sum(p.budget for p in account.pending)
    taken = sorted({*account.positions, *busy})
    slots = 0 if liquidation else max(0, config["max_positions"] - len(taken))
    expected = [a for a in maybe_bars if r7_expected(inputs, config, row, a)]
    ranked = r7_candidates(inputs, config, row, expected, taken)
    stealing = config["work_steal"] and not slots and not liquidation
    stolen = r8_stolen(account, config, expected, busy, marks, ranked) if stealing else None

    for a in sorted(set(account.positions) - busy):
        asset, position = inputs.assets[a], account.positions[a]
        side, taker = close_side(position), asset.taker * config["cost_multiplier"]
        if r12_has_ended(inputs, row, a):  # R12
            account.room[a] = math.inf
            price = market_price(side, marks[a], asset, config)
            trade(account, row, a, asset, side, abs(position.quantity), price, taker, "delisted")
        if a not in bars or not bars[a].tradable:
            continue
        bar, action = bars[a], action_of(inputs, config, "realistic", row, a)
        reason = r4_force_reason(inputs, config, row, position, liquidation, a == stolen)
        if reason is not None:  # R4
            price = market_price(side, bar.open, asset, config)
            trade(account, row, a, asset, side, abs(position.quantity), price, taker, reason)
        elif action is not None and action.amount(side) > 0:  # R5
            price, fraction, fee = r3_fill(side, action.limit(side), bar, asset, config)
            quantity = r5_quantity(position, fraction, price, asset.min_notional)
            trade(account, row, a, asset, side, quantity, price, fee, "limit")
        if config["close_at_eod"] and bar.last_of_day and a in account.positions:  # R6
            price = market_price(side, bar.close, asset, config)
            trade(account, row, a, asset, side, abs(position.quantity), price, taker, "eod")

    for candidate in ranked[:slots]:  # R7
        a, asset, action = candidate.asset, inputs.assets[candidate.asset], r7_action(inputs, config, row, candidate.asset)
        budget = (1 - config["cash_buffer"]) * max(0.0, config["leverage"] * equity - gross - locked) / slots
        notional = action.amount(candidate.side) * budget
        limit = action.limit(candidate.side)
        quantity = notional / (limit * (1 + max(asset.maker, asset.taker) * config["cost_multiplier"]))
        if notional < asset.min_notional or quantity <= FLAT:
            continue
        account.orders_sent += 1
        price, fraction, fee = r3_fill(candidate.side, limit, bars.get(a), asset, config)
        trade(account, row, a, asset, candidate.side, quantity * fraction, price, fee, "entry", notional)


def seeded_account(inputs: RefInputs, cash: float, row: int, held: int) -> tuple[Account, int]:
    """SPEC H.3: everything in one symbol at its first close from `row` on; and the first row in which that close is known."""
    bought = next(t for t in range(row, len(inputs.times)) if bar_exists(inputs, t, held))
    price = float(inputs.close[bought][held])
    account = Account(0.0, {held: Position(cash / price, price, bought)}, settled={held: cash / price})
    return account, next(t for t in range(bought + 1, len(inputs.times)) if r11_has_ended(inputs, bought, t))


def run_realistic(inputs: RefInputs, config: Config, initial_cash: float, start_row: int = 0, held: int | None = None) -> RefResult:
    if config["lag"] < 1:
        raise ValueError("realistic demands lag >= 1")
    account, curve, ruined = Account(initial_cash, settled_cash=initial_cash), [], False
    if held is not None:
        account, start_row = seeded_account(inputs, initial_cash, start_row, held)
    last_close = closes_before(inputs, start_row)
    rows = list(range(start_row, len(inputs.times)))
    for row in rows:
        if not ruined:
            realistic_row(inputs, config, account, row, inputs.times[row] - inputs.times[row - 1] if row > start_row else 0.0)
            last_close.update({a: float(inputs.close[row][a]) for a in range(len(inputs.assets)) if bar_exists(inputs, row, a)})
            ruined = equity_of(account, last_close) <= 0
        curve.append(0.0 if ruined else equity_of(account, last_close))  # R10
    return RefResult(curve, rows, account.fills, account.cash, account.financing_paid, account.orders_sent)

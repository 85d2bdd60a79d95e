"""Profile `realistic` of docs/fills.md, rules R1 to R11, slow and obvious."""

from __future__ import annotations

from tests.selector.reference_rules import (
    CLOCK_TOLERANCE,
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
    r1_financing,
    r3_fill,
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


def r7_candidates(inputs: RefInputs, config: Config, bars: dict[int, Bar], actions: dict[int, Action], held: list[int]) -> list[Candidate]:
    """R7: who competes for a free slot, best first; a stock does not on its session's last bar (R6)."""
    found = []
    for a, action in actions.items():
        if a in held or not bars[a].tradable or (config["close_at_eod"] and bars[a].last_of_day):
            continue
        for side in ("buy", "sell"):
            found.append(candidate_of(inputs.assets[a], a, action, side, config, config["min_edge"]))
    return a5_rank([c for c in found if c is not None])


def r8_stolen(account: Account, config: Config, bars: dict[int, Bar], marks: dict[int, float], ranked: list[Candidate]) -> int | None:
    """R8: the held long that gives way to a better candidate, known when no slot is free."""
    gains = {a: marks[a] / p.open_price - 1 for a, p in account.positions.items() if p.quantity > 0 and a in bars and bars[a].tradable}
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


def r5_quantity(position: Position, fraction: float, price: float, min_notional: float) -> float:
    """R5: the quantity of a limit exit; a remainder too small to trade goes with it."""
    whole = abs(position.quantity)
    wanted = whole * fraction
    return whole if wanted > 0 and (whole - wanted) * price < min_notional else wanted


def realistic_row(inputs: RefInputs, config: Config, account: Account, row: int) -> None:
    """R1 to R9 of one row."""
    marks = marks_at_start(inputs, row)
    r1_financing(account, marks, inputs.times[row] - inputs.times[row - 1] if row else 0.0, config)
    equity = equity_of(account, marks)
    gross = sum(abs(p.quantity) * marks[a] for a, p in account.positions.items())
    liquidation = gross > 0 and equity < config["maintenance_margin"] * gross  # R2

    maybe_bars = {a: bar_of(inputs, config, "realistic", row, a) for a in range(len(inputs.assets))}
    bars = {a: bar for a, bar in maybe_bars.items() if bar is not None}
    maybe_actions = {a: action_of(inputs, config, "realistic", row, a) for a in bars}
    actions = {a: action for a, action in maybe_actions.items() if action is not None}
    account.room = r9_room(bars, config)
    account.pending = [p for p in account.pending if not r11_has_ended(inputs, p.row, row)]
    locked = sum(p.lock for p in account.pending)
    held = sorted(account.positions)
    slots = 0 if liquidation else max(0, config["max_positions"] - len({*held, *(p.asset for p in account.pending)}))
    ranked = r7_candidates(inputs, config, bars, actions, held)
    stolen = r8_stolen(account, config, bars, marks, ranked) if config["work_steal"] and not slots and not liquidation else None

    for a in held:
        if a not in bars or not bars[a].tradable:
            continue
        asset, bar, position = inputs.assets[a], bars[a], account.positions[a]
        side = close_side(position)
        maker, taker = asset.maker * config["cost_multiplier"], asset.taker * config["cost_multiplier"]
        reason = r4_force_reason(inputs, config, row, position, liquidation, a == stolen)
        if reason is not None:  # R4
            price = market_price(side, bar.open, asset, config)
            filled = execute(account, row, a, asset, side, abs(position.quantity), price, taker, reason)
            account.pending.append(Pending(a, row, filled * price))
        elif a in actions and actions[a].amount(side) > 0:  # R5
            price, fraction = r3_fill(side, actions[a].limit(side), bar, config)
            quantity = r5_quantity(position, fraction, price, asset.min_notional)
            filled = execute(account, row, a, asset, side, quantity, price, maker, "limit")
            account.pending.append(Pending(a, row, filled * price))
        if config["close_at_eod"] and bar.last_of_day and a in account.positions:  # R6
            price = market_price(side, bar.close, asset, config)
            filled = execute(account, row, a, asset, side, abs(position.quantity), price, taker, "eod")
            account.pending.append(Pending(a, row, filled * price))

    for candidate in ranked[:slots]:  # R7
        a, asset, action = candidate.asset, inputs.assets[candidate.asset], actions[candidate.asset]
        budget = (1 - config["cash_buffer"]) * max(0.0, config["leverage"] * equity - gross - locked) / slots
        notional = action.amount(candidate.side) * budget
        if notional < asset.min_notional or notional <= 0:
            continue
        maker, limit = asset.maker * config["cost_multiplier"], action.limit(candidate.side)
        quantity = notional / (limit * (1 + maker))
        price, fraction = r3_fill(candidate.side, limit, bars[a], config)
        filled = execute(account, row, a, asset, candidate.side, quantity * fraction, price, maker, "entry")
        account.pending.append(Pending(a, row, notional * (1 - filled / quantity)))


def run_realistic(inputs: RefInputs, config: Config, initial_cash: float) -> RefResult:
    if config["lag"] < 1:
        raise ValueError("realistic demands lag >= 1")
    account, last_close, curve, ruined = Account(initial_cash), {}, [], False
    for row in range(len(inputs.times)):
        if not ruined:
            realistic_row(inputs, config, account, row)
            last_close.update({a: float(inputs.close[row][a]) for a in range(len(inputs.assets)) if bar_exists(inputs, row, a)})
            ruined = equity_of(account, last_close) <= 0
        curve.append(0.0 if ruined else equity_of(account, last_close))  # R10
    return RefResult(curve, list(range(len(curve))), account.fills, account.cash, account.financing_paid)

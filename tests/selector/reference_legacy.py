"""Profile `legacy` of docs/fills.md, rules L1 to L7 and the loop of two and more positions, slow and obvious."""

from __future__ import annotations

from tests.selector.reference_rules import (
    Account,
    Action,
    Bar,
    Candidate,
    Config,
    RefAsset,
    RefInputs,
    RefResult,
    a5_rank,
    action_of,
    bar_of,
    candidate_of,
    close_side,
    equity_of,
    execute,
    r1_financing,
    r3_limit_fraction,
    r9_room,
)


class Row:
    """One existing row: the symbols that have bar and complete action, and the orders on them."""

    def __init__(self, inputs: RefInputs, config: Config, row: int) -> None:
        self.index, self.time, self.config = row, inputs.times[row], config
        self.assets: list[RefAsset] = inputs.assets
        self.bars: dict[int, Bar] = {}
        self.actions: dict[int, Action] = {}
        for a in range(len(inputs.assets)):
            bar = bar_of(inputs, config, "legacy", row, a)
            action = action_of(inputs, config, "legacy", row, a) if bar else None
            if bar and action:
                self.bars[a], self.actions[a] = bar, action

    def fill(self, a: int, side: str) -> float:
        """*fill*: the fraction of R3 without the open rule."""
        return r3_limit_fraction(side, self.actions[a].limit(side), self.bars[a], self.config)

    def maker(self, a: int) -> float:
        return self.assets[a].maker * self.config["cost_multiplier"]

    def close_at_close(self, account: Account, a: int, reason: str) -> bool:
        """Close the whole position at the bar's close; True if anything traded (the volume cap may forbid it)."""
        position = account.positions[a]
        price = self.bars[a].close
        quantity = abs(position.quantity)
        return execute(account, self.index, a, self.assets[a], close_side(position), quantity, price, self.maker(a), reason) > 0

    def open_at_limit(self, account: Account, a: int, side: str, money: float, reason: str) -> None:
        """Buy (or sell short) `amount`·money at the limit, as far as it fills."""
        amount, limit = self.actions[a].amount(side), self.actions[a].limit(side)
        quantity = amount * money * self.config["leverage"] / (limit * (1 + self.maker(a))) * self.fill(a, side)
        execute(account, self.index, a, self.assets[a], side, quantity, limit, self.maker(a), reason)


def l2_max_hold_reached(row: Row, entry_time: float) -> bool:
    """L2."""
    return row.config["max_hold"] > 0 and row.time - entry_time >= row.config["max_hold"]


def l3_steal_candidate(row: Row, account: Account, held: int) -> Candidate | None:
    """L3: the candidate that is worth giving up the held long for."""
    config, position = row.config, account.positions[held]
    gain = row.bars[held].close / position.open_price - 1
    if position.quantity <= 0 or gain < config["steal_min_profit"]:
        return None
    found = []
    for a, action in row.actions.items():
        if a == held or not row.bars[a].tradable or (config["fillable_only"] and row.fill(a, "buy") <= 0):
            continue
        found.append(candidate_of(row.assets[a], a, action, "buy", config, config["steal_min_edge"]))
    ranked = a5_rank([c for c in found if c is not None])
    return ranked[0] if ranked and ranked[0].score >= gain + config["steal_margin"] else None


def l4_limit_exit(row: Row, account: Account, a: int) -> bool:
    """L4: exit γ (β) of the position at the limit; True if anything traded."""
    position = account.positions[a]
    side = close_side(position)
    if not row.bars[a].tradable:
        return False
    quantity = row.actions[a].amount(side) * abs(position.quantity) * row.fill(a, side)
    limit = row.actions[a].limit(side)
    return execute(account, row.index, a, row.assets[a], side, quantity, limit, row.maker(a), "limit") > 0


def l5_candidates(row: Row, held: list[int]) -> list[Candidate]:
    """L5: who may be entered, best first."""
    found = []
    for a, action in row.actions.items():
        if a in held or not row.bars[a].tradable:
            continue
        for side in ("buy", "sell"):
            if not row.config["fillable_only"] or row.fill(a, side) > 0:
                found.append(candidate_of(row.assets[a], a, action, side, row.config, row.config["min_edge"]))
    return a5_rank([c for c in found if c is not None])


def single_position_row(inputs: RefInputs, row: Row, account: Account) -> None:
    """L2 to L6 of one row, `max_positions` = 1."""
    config = row.config
    held = next(iter(account.positions), None)
    forced = stolen = closed = False
    if held is not None and held in row.bars:
        if l2_max_hold_reached(row, inputs.times[account.positions[held].entry_row]):  # L2
            forced = True
            closed = row.close_at_close(account, held, "max_hold")
        elif config["work_steal"]:  # L3
            candidate = l3_steal_candidate(row, account, held)
            if candidate is not None:
                stolen = True
                closed = row.close_at_close(account, held, "work_steal")
                if not account.positions:
                    row.open_at_limit(account, candidate.asset, "buy", max(0.0, account.cash), "work_steal")
        if not forced and not stolen:  # L4
            closed = l4_limit_exit(row, account, held)
    if not account.positions and not forced and (config["reentry"] or not closed):  # L5
        ranked = l5_candidates(row, [])
        if ranked:
            row.open_at_limit(account, ranked[0].asset, ranked[0].side, max(0.0, account.cash), "entry")
    held = next(iter(account.positions), None)
    if held is not None and config["close_at_eod"] and held in row.bars and row.bars[held].last_of_day:  # L6
        row.close_at_close(account, held, "eod")


def multi_position_row(inputs: RefInputs, row: Row, account: Account) -> None:
    """The loop of `max_positions` ≥ 2: exits, then entries; no volume cap, no work stealing."""
    config = row.config
    for a in sorted(account.positions):
        if a not in row.bars:
            continue
        if l2_max_hold_reached(row, inputs.times[account.positions[a].entry_row]):
            row.close_at_close(account, a, "max_hold")
        elif config["close_at_eod"] and row.bars[a].last_of_day:
            row.close_at_close(account, a, "eod")
        else:
            l4_limit_exit(row, account, a)
    slots = config["max_positions"] - len(account.positions)
    for candidate in l5_candidates(row, list(account.positions))[:slots]:
        money = max(0.0, account.cash) / (config["max_positions"] - len(account.positions))
        row.open_at_limit(account, candidate.asset, candidate.side, money, "entry")


def run_legacy(inputs: RefInputs, config: Config, initial_cash: float) -> RefResult:
    account, last_close = Account(initial_cash), {}
    curve: list[float] = []
    rows: list[int] = []
    single = config["max_positions"] == 1
    for t in range(len(inputs.times)):
        row = Row(inputs, config, t)
        if not row.bars:
            continue
        last_close.update({a: bar.close for a, bar in row.bars.items()})  # L1
        r1_financing(account, last_close, row.time - inputs.times[rows[-1]] if rows else 0.0, config)
        account.room = r9_room(row.bars, config if single else {**config, "max_volume_fraction": 0.0})
        (single_position_row if single else multi_position_row)(inputs, row, account)
        curve.append(equity_of(account, last_close))  # L7
        rows.append(t)
    return RefResult(curve, rows, account.fills, account.cash, account.financing_paid)

"""What both profiles of the reference simulator share: its types and the rules A1 to A5, R1, R3 and R9 of docs/fills.md."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

Grid = list[list[float]]  # (T, A), NaN = absent
Flags = list[list[bool]]  # (T, A)
Config = dict[str, Any]
FLAT = 1e-12  # a position of at most this many units is no position
CLOCK_TOLERANCE = 1e-6  # hours; sums of 1/12 h must not look like overlapping bars


@dataclass(frozen=True)
class RefAsset:
    symbol: str
    is_stock: bool
    maker: float
    taker: float
    half_spread: float
    can_long: bool = True
    can_short: bool = False
    min_notional: float = 0.0


@dataclass
class RefInputs:
    times: list[float]  # hours since epoch, (T,), strictly increasing, row starts
    bar_hours: float
    assets: list[RefAsset]  # alphabetical by symbol
    open: Grid
    high: Grid
    low: Grid
    close: Grid
    volume: Grid
    buy: Grid
    sell: Grid
    buy_amount: Grid
    sell_amount: Grid
    pred_high: Grid
    pred_low: Grid
    pred_close: Grid
    tradable: Flags
    session_last: Flags
    legacy_tradable: Flags
    legacy_last: Flags


@dataclass(frozen=True)
class Fill:
    row: int
    symbol: str
    side: str  # 'buy' | 'sell'
    price: float
    quantity: float  # > 0
    fee: float  # money
    reason: str  # entry | limit | max_hold | eod | work_steal | liquidation | delisted


@dataclass
class RefResult:
    equity: list[float]
    rows: list[int]  # the row of each equity value
    fills: list[Fill]
    cash: float
    financing_paid: float
    orders_sent: int = 0  # entries, filled or not; realistic only


@dataclass(frozen=True)
class Bar:
    open: float
    high: float
    low: float
    close: float
    volume: float
    tradable: bool
    last_of_day: bool  # the session's last bar (realistic), the stock's last row of the day (legacy)


@dataclass(frozen=True)
class Action:
    """What is ordered on a symbol's bar: amounts in [0, 1] (0 = no order), limits and the forecasts of the same decision."""

    beta: float
    gamma: float
    buy: float
    sell: float
    pred_high: float
    pred_low: float
    pred_close: float

    def limit(self, side: str) -> float:
        return self.buy if side == "buy" else self.sell

    def amount(self, side: str) -> float:
        return self.beta if side == "buy" else self.gamma


@dataclass(frozen=True)
class Candidate:
    score: float
    symbol: str
    side: str  # 'buy' opens a long, 'sell' a short
    asset: int


@dataclass
class Position:
    quantity: float  # signed
    open_price: float
    entry_row: int


@dataclass(frozen=True)
class Pending:
    """R11: an order whose bar may not have ended when the next rows start."""

    asset: int
    row: int
    cash: float  # what it moved
    quantity: float
    budget: float  # of an entry; nothing is set aside for an exit


@dataclass
class Account:
    cash: float
    positions: dict[int, Position] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    financing_paid: float = 0.0
    pending: list[Pending] = field(default_factory=list)
    settled_cash: float = 0.0  # R11: realistic only
    settled: dict[int, float] = field(default_factory=dict)  # R11: quantity by asset
    orders_sent: int = 0
    room: dict[int, float] = field(default_factory=dict)  # R9: what may still fill in this row, per asset


# ---------------------------------------------------------------- both profiles: actions, scores, ranks


def clip(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


def bar_exists(inputs: RefInputs, row: int, a: int) -> bool:
    return not any(math.isnan(grid[row][a]) for grid in (inputs.open, inputs.high, inputs.low, inputs.close))


def bar_of(inputs: RefInputs, config: Config, profile: str, row: int, a: int) -> Bar | None:
    if not bar_exists(inputs, row, a):
        return None
    tradable, last = (inputs.tradable, inputs.session_last) if profile == "realistic" else (inputs.legacy_tradable, inputs.legacy_last)
    open_to_trade = tradable[row][a] or not config["market_hours"]
    last_of_day = inputs.assets[a].is_stock and last[row][a]
    o, h, l, c, v = (float(grid[row][a]) for grid in (inputs.open, inputs.high, inputs.low, inputs.close, inputs.volume))
    return Bar(o, h, l, c, v, open_to_trade, last_of_day)


def a1_amounts(buy_amount: float, sell_amount: float, config: Config, profile: str) -> tuple[float, float]:
    """A1: β and γ in [0, 1]; NaN stays NaN."""
    if profile == "realistic":
        if buy_amount > 1 or sell_amount > 1:
            raise ValueError("realistic amounts are fractions in [0, 1]")
        return clip(buy_amount * config["intensity"], 0, 1), clip(sell_amount * config["intensity"], 0, 1)
    beta, gamma = clip(buy_amount * config["intensity"], 0, 100), clip(sell_amount * config["intensity"], 0, 100)
    divisor = 100 if beta > 1 or gamma > 1 else 1
    return beta / divisor, gamma / divisor


def a1_limits(buy: float, sell: float, config: Config) -> tuple[float, float]:
    """A1: the buy and the sell limit; a missing buy price does not lift the sell limit."""
    buy_limit = buy * (1 - config["offset"])
    sell_limit = sell * (1 + config["offset"])
    if sell_limit < buy_limit:
        sell_limit = buy_limit
    return buy_limit, sell_limit


def a2_is_filtered(low: float, close: float, config: Config) -> bool:
    """A2: the bar did not dip enough below its close."""
    return low > close * (1 - config["dip_threshold"])


def a3_source_row(inputs: RefInputs, row: int, a: int, lag: int) -> int | None:
    """A3: the row of the symbol's own lag-th previous bar."""
    while True:
        if bar_exists(inputs, row, a):
            if lag == 0:
                return row
            lag -= 1
        row -= 1
        if row < 0:
            return None


def action_of(inputs: RefInputs, config: Config, profile: str, row: int, a: int) -> Action | None:
    """A1 to A3 together: the action in force on the bar at `row`; None if there is none (or legacy misses a field)."""
    source = a3_source_row(inputs, row, a, config["lag"])
    if source is None:
        return None
    buy, sell, buy_amount, sell_amount = (float(g[source][a]) for g in (inputs.buy, inputs.sell, inputs.buy_amount, inputs.sell_amount))
    forecasts = [float(g[source][a]) for g in (inputs.pred_high, inputs.pred_low, inputs.pred_close)]
    if profile == "legacy" and any(math.isnan(x) for x in (buy, sell, buy_amount, sell_amount, *forecasts)):
        return None
    beta, gamma = a1_amounts(buy_amount, sell_amount, config, profile)
    buy_limit, sell_limit = a1_limits(buy, sell, config)
    if a2_is_filtered(inputs.low[source][a], inputs.close[source][a], config):
        beta = 0.0
    if math.isnan(beta) or not buy_limit > 0:  # a missing price or amount is no order
        beta = 0.0
    if math.isnan(gamma) or not sell_limit > 0:
        gamma = 0.0
    return Action(beta, gamma, buy_limit, sell_limit, *forecasts)


def a4_score(action: Action, side: str, maker: float, config: Config) -> float:
    """A4: the edge of the entry order; NaN where a forecast it needs is missing."""
    if side == "buy":
        b = action.buy
        gain = (action.pred_close - b) / b if config["edge_mode"] == "close" else (action.pred_high - b) / b
        adverse = (b - action.pred_low) / b
    else:
        s = action.sell
        gain = (s - action.pred_close) / s if config["edge_mode"] == "close" else (s - action.pred_low) / s
        adverse = (action.pred_high - s) / s
    risk = 0.0
    if config["edge_mode"] == "high_low":
        risk = config["risk_weight"] * (adverse if adverse > 0 or math.isnan(adverse) else 0.0)
    return (gain - risk - 2 * maker) * action.amount(side)


def a5_rank(candidates: list[Candidate]) -> list[Candidate]:
    """A5: best first, and a symbol competes once, with its better side."""
    ordered = sorted(candidates, key=lambda c: (c.score, c.symbol, c.side == "buy"), reverse=True)
    return [c for i, c in enumerate(ordered) if c.symbol not in [d.symbol for d in ordered[:i]]]


def candidate_of(asset: RefAsset, a: int, action: Action, side: str, config: Config, least_score: float) -> Candidate | None:
    allowed = asset.can_long if side == "buy" else config["allow_short"] and asset.can_short
    if not allowed or not action.amount(side) > 0:
        return None
    score = a4_score(action, side, asset.maker * config["cost_multiplier"], config)
    return Candidate(score, asset.symbol, side, a) if math.isfinite(score) and score >= least_score else None


# ---------------------------------------------------------------- both profiles: fills and money


def r3_limit_fraction(side: str, limit: float, bar: Bar, config: Config) -> float:
    """R3 without the open: the fraction that fills at the limit, 0 if it was not reached."""
    m = config["fill_buffer"]
    depth = limit * (1 - m) - bar.low if side == "buy" else bar.high - limit * (1 + m)
    reached = bar.low <= limit * (1 - m) if side == "buy" else bar.high >= limit * (1 + m)
    if not reached:
        return 0.0
    if config["fill"] == "binary":
        return 1.0
    return clip(max(config["touch_fraction"], depth / max(bar.high - bar.low, 1e-12)), 0, 1)


def r9_room(bars: dict[int, Bar], config: Config) -> dict[int, float]:
    """R9: the quantity each symbol may trade in this row."""
    share = config["max_volume_fraction"]
    if share <= 0:
        return dict.fromkeys(bars, math.inf)
    return {a: 0.0 if math.isnan(bar.volume) else share * bar.volume for a, bar in bars.items()}


def execute(
    account: Account, row: int, a: int, asset: RefAsset, side: str, quantity: float, price: float, fee_rate: float, reason: str
) -> float:
    """Book a fill of at most `quantity`, within the symbol's room (R9); returns what filled."""
    filled = min(quantity, account.room[a])
    if not filled > 0:
        return 0.0
    account.room[a] -= filled
    signed = filled if side == "buy" else -filled
    fee = filled * price * fee_rate
    account.cash -= signed * price + fee
    account.fills.append(Fill(row, asset.symbol, side, price, filled, fee, reason))
    position = account.positions.setdefault(a, Position(0.0, price, row))
    position.quantity += signed
    if abs(position.quantity) <= FLAT:
        del account.positions[a]
    return filled


def close_side(position: Position) -> str:
    return "sell" if position.quantity > 0 else "buy"


def r1_charge(cash: float, quantities: dict[int, float], marks: dict[int, float], hours: float, config: Config) -> float:
    """R1: interest on borrowed cash and on borrowed stock."""
    charge = max(0.0, -cash) * config["margin_rate"] / 8760 * hours
    for a, quantity in quantities.items():
        if quantity < 0:
            charge += -quantity * marks[a] * config["borrow_rate"] / 8760 * hours
    return charge


def r1_financing(account: Account, marks: dict[int, float], hours: float, config: Config) -> None:
    """R1 on everything that is held."""
    charge = r1_charge(account.cash, {a: p.quantity for a, p in account.positions.items()}, marks, hours, config)
    account.cash -= charge
    account.financing_paid += charge


def equity_of(account: Account, marks: dict[int, float]) -> float:
    return account.cash + sum(position.quantity * marks[a] for a, position in account.positions.items())

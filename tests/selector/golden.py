"""Golden tables of docs/fills.md: the fenced blocks marked `yaml golden`, parsed into simulator inputs.

A block's keys: rule, title, profile (default: `legacy` for rules L and K, else `realistic`), why (the result derived by hand),
config (what differs from `BASE_CONFIG`), assets (optional: {symbol: {maker_bps, taker_bps, half_spread_bps, class, can_long,
can_short, min_notional}}), initial_cash, bar_hours, hours (time index to hours, default 0, 1, 2, …), rows ([time index, symbol,
o, h, l, c, v, buy, sell, buy amount, sell amount, predicted high, low, close], null or left out at the end = absent),
session_last and untradable ([[time index, symbol], …], for both profiles) and expect: {equity: [...], fills: [[time index,
symbol, side, price, quantity, reason], …]}.
"""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.selector.reference_rules import RefAsset, RefInputs

FILLS = Path(__file__).parents[2] / "docs" / "fills.md"
BLOCK = re.compile(r"^(?P<indent> *)```yaml golden\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
BARS = ("open", "high", "low", "close", "volume")
COLUMNS = (*BARS, "buy", "sell", "buy_amount", "sell_amount", "pred_high", "pred_low", "pred_close")

# What a golden block means by a key it leaves out; `legacy` differs in the lag only.
BASE_CONFIG: dict[str, Any] = {
    "intensity": 1.0,
    "offset": 0.0,
    "min_edge": 0.0,
    "risk_weight": 0.5,
    "edge_mode": "high_low",
    "dip_threshold": 0.0,
    "max_hold": 0.0,
    "max_positions": 1,
    "lag": 1,
    "fill_buffer": 0.0,
    "fill": "binary",
    "touch_fraction": 0.0,
    "max_volume_fraction": 0.0,
    "allow_short": False,
    "leverage": 1.0,
    "margin_rate": 0.0,
    "borrow_rate": 0.0,
    "close_at_eod": True,
    "market_hours": True,
    "work_steal": False,
    "steal_min_profit": 0.001,
    "steal_min_edge": 0.005,
    "steal_margin": 0.0,
    "slippage": 0.0,
    "cost_multiplier": 1.0,
    "cash_buffer": 0.0,
    "maintenance_margin": 0.0,
    "fillable_only": True,
    "reentry": False,
}


@dataclass(frozen=True)
class Case:
    rule: str
    title: str
    profile: str
    why: str
    config: dict[str, Any]  # complete
    assets: dict[str, dict[str, Any]]
    initial_cash: float
    bar_hours: float
    hours: list[float]
    rows: list[list[Any]]
    session_last: list[list[Any]]
    untradable: list[list[Any]]
    equity: list[float]
    fills: list[tuple[int, str, str, float, float, str]]

    @property
    def name(self) -> str:
        return f"{self.rule} {self.title}"


def parse_case(body: str) -> Case:
    """Read one block; an unknown key or configuration key is an error."""
    block = yaml.safe_load(body)
    overrides, rows, expect = block.pop("config", {}), block.pop("rows"), block.pop("expect")
    profile = block.pop("profile", "legacy" if block["rule"][0] in "LK" else "realistic")
    if unknown := set(overrides) - set(BASE_CONFIG):
        raise ValueError(f"golden block {block['title']!r}: unknown config keys {sorted(unknown)}")
    lag = {"lag": 0} if profile == "legacy" else {}
    return Case(
        profile=profile,
        config={**BASE_CONFIG, **lag, **overrides},
        rows=rows,
        hours=[float(h) for h in block.pop("hours", range(1 + max(row[0] for row in rows)))],
        assets=block.pop("assets", None) or {symbol: {} for symbol in sorted({row[1] for row in rows})},
        initial_cash=float(block.pop("initial_cash", 10_000.0)),
        bar_hours=float(block.pop("bar_hours", 1.0)),
        session_last=block.pop("session_last", []),
        untradable=block.pop("untradable", []),
        equity=[float(x) for x in expect["equity"]],
        fills=[(int(t), s, side, float(price), float(quantity), reason) for t, s, side, price, quantity, reason in expect["fills"]],
        **block,
    )


def golden_cases(path: Path = FILLS) -> list[Case]:
    """Every golden block of the fill specification, in its order."""
    return [parse_case(textwrap.dedent(match["body"])) for match in BLOCK.finditer(path.read_text())]


def asset_of(symbol: str, terms: dict[str, Any]) -> RefAsset:
    bps = {key: terms.get(f"{key}_bps", 0.0) * 1e-4 for key in ("maker", "taker", "half_spread")}
    directions = {"can_long": terms.get("can_long", True), "can_short": terms.get("can_short", False)}
    is_stock = terms.get("class", "crypto") == "stock"
    return RefAsset(symbol, is_stock, **bps, **directions, min_notional=float(terms.get("min_notional", 0.0)))


def case_inputs(case: Case) -> RefInputs:
    """The (T, A) panel of a case; symbols a block's rows use but its assets leave out are free of cost."""
    symbols = sorted({row[1] for row in case.rows} | set(case.assets))
    shape = range(len(case.hours)), range(len(symbols))
    grids = {name: [[math.nan for _ in shape[1]] for _ in shape[0]] for name in COLUMNS}
    tradable, last = ([[False for _ in shape[1]] for _ in shape[0]] for _ in range(2))
    for t, symbol, *given in case.rows:
        values = given + [None] * (len(COLUMNS) - len(given))
        a = symbols.index(symbol)
        tradable[t][a] = values[COLUMNS.index("close")] is not None
        for name, value in zip(COLUMNS, values, strict=True):
            grids[name][t][a] = math.nan if value is None else float(value)
    for t, symbol in case.untradable:
        tradable[t][symbols.index(symbol)] = False
    for t, symbol in case.session_last:
        last[t][symbols.index(symbol)] = True
    assets = [asset_of(symbol, case.assets.get(symbol, {})) for symbol in symbols]
    flags = {"tradable": tradable, "legacy_tradable": tradable, "session_last": last, "legacy_last": last}
    return RefInputs(times=case.hours, bar_hours=case.bar_hours, assets=assets, **grids, **flags)

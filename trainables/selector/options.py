"""The selector's parameters and its two profiles.

`realistic` is the default and the only one a leaderboard ranks. `legacy` reproduces the published numbers with their
look-ahead and optimism (SPEC G.4, G.5, J) and is labelled wherever it appears.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainables.contract import Parameter, TrainableError

FILL_RULES_VERSION = 2
EDGE_MODES = ("high_low", "high", "close")
FILL_MODELS = ("binary", "penetration")
MAX_SLOTS = 16

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("intensity", 1.0, "float", 0.0, 1e6, unit="×", doc="multiplies buy and sell amounts, then clipped to 1"),
    Parameter("offset", 0.0, "float", -0.5, 0.5, unit="fraction", doc="moves limits away from the close: buy·(1−offset), sell·(1+offset)"),
    Parameter("min_edge", 0.0, "float", -1.0, 10.0, unit="fraction", doc="smallest score (forecast edge after costs) worth an order"),
    Parameter("risk_weight", 0.5, "float", 0.0, 100.0, doc="weight of the forecast downside in the score (edge_mode high_low)"),
    Parameter("edge_mode", "high_low", "choice", choices=EDGE_MODES, doc="which forecast the score uses"),
    Parameter("dip_threshold", 0.0, "float", 0.0, 1.0, unit="fraction", doc="buy only after the bar's low fell this far below its close"),
    Parameter("max_hold", 0, "float", 0.0, 1e6, unit="hours", doc="close a position after this long; 0 = never"),
    Parameter("max_positions", 1, "int", 1, MAX_SLOTS, unit="slots", doc="positions held at once (K)"),
    Parameter("lag", 1, "int", 0, 1000, unit="bars", doc="bars between the information an order uses and the bar it can fill in"),
    Parameter("fill_buffer", 0.0005, "float", 0.0, 0.5, unit="fraction", doc="how far price must trade through a limit to fill it"),
    Parameter("fill", "binary", "choice", choices=FILL_MODELS, doc="touched limits fill whole, or in part by penetration"),
    Parameter("touch_fraction", 0.0, "float", 0.0, 1.0, unit="fraction", doc="least fraction filled on a touch (fill penetration)"),
    Parameter("max_volume_fraction", 0.0, "float", 0.0, 1.0, unit="fraction", doc="cap on our share of a bar's volume; 0 = no cap"),
    Parameter("allow_short", False, "bool", doc="short assets whose metadata allow it"),
    Parameter("leverage", 1.0, "float", 0.0, 20.0, unit="×", doc="gross exposure allowed per unit of equity"),
    Parameter("margin_rate", 0.0625, "float", 0.0, 10.0, unit="per year", doc="interest on borrowed cash"),
    Parameter("borrow_rate", 0.0625, "float", 0.0, 10.0, unit="per year", doc="cost of borrowed stock"),
    Parameter("close_at_eod", True, "bool", doc="close stock positions on the session's last bar"),
    Parameter("market_hours", True, "bool", doc="trade stocks only in regular sessions"),
    Parameter("work_steal", False, "bool", doc="give up a winning position for a better candidate"),
    Parameter("steal_min_profit", 0.001, "float", -1.0, 10.0, unit="fraction", doc="unrealised profit a position needs to be given up"),
    Parameter("steal_min_edge", 0.005, "float", -1.0, 10.0, unit="fraction", doc="score a candidate needs to steal"),
    Parameter("steal_margin", 0.0, "float", -1.0, 10.0, unit="fraction", doc="by how much its score must beat the position's profit"),
    Parameter("slippage", 0.0005, "float", 0.0, 0.5, unit="fraction", doc="price paid beyond the half spread on forced closes"),
    Parameter("cost_multiplier", 1.0, "float", 0.0, 100.0, unit="×", doc="multiplies fees, spread and slippage"),
    Parameter("cash_buffer", 0.0, "float", 0.0, 1.0, unit="fraction", doc="share of buying power never used"),
    Parameter("maintenance_margin", 0.25, "float", 0.0, 0.9, unit="fraction", doc="equity per gross exposure below which all is closed"),
    Parameter("fillable_only", True, "bool", doc="legacy only: rank only orders this very bar fills (look-ahead)"),
    Parameter("reentry", False, "bool", doc="legacy only: enter again in the bar of an exit"),
)
NAMES = tuple(p.name for p in PARAMETERS)
COLUMN = {name: i for i, name in enumerate(NAMES)}
_CODES = {"edge_mode": EDGE_MODES, "fill": FILL_MODELS}

PROFILES: dict[str, dict[str, Any]] = {
    "realistic": {},
    "legacy": {"lag": 0, "fill_buffer": 0.0, "slippage": 0.0, "margin_rate": 0.0, "borrow_rate": 0.0},
}


def profile_defaults(profile: str) -> dict[str, Any]:
    """Returns the defaults of a profile for every parameter.

    Raises:
        TrainableError: Unknown profile.
    """
    if profile not in PROFILES:
        near = difflib.get_close_matches(str(profile), PROFILES, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise TrainableError(f"profile: {profile!r} is unknown; give one of {', '.join(PROFILES)}.{hint}")
    return {p.name: PROFILES[profile].get(p.name, p.default) for p in PARAMETERS}


def encode(configs: Sequence[Mapping[str, Any]], profile: str) -> np.ndarray:
    """Encodes complete configurations as numbers for the kernels.

    Args:
        configs: Complete configurations (every parameter present).
        profile: "realistic" or "legacy".

    Returns:
        float64 (n, number of parameters), columns in the order of `NAMES`.

    Raises:
        TrainableError: `realistic` with lag 0.
    """
    table = np.empty((len(configs), len(NAMES)))
    for j, name in enumerate(NAMES):
        codes = _CODES.get(name)
        column = [c[name] for c in configs]
        table[:, j] = [codes.index(v) for v in column] if codes else column
    if profile == "realistic" and (table[:, COLUMN["lag"]] < 1).any():
        raise TrainableError(
            "lag: the realistic profile needs lag of at least 1: a decision at the end of a bar cannot fill in that bar. "
            "Only `profile: legacy` (labelled, never ranked) allows 0."
        )
    return table


# Columns by name, for the kernels.
P_INTENSITY, P_OFFSET, P_MIN_EDGE, P_DIP = COLUMN["intensity"], COLUMN["offset"], COLUMN["min_edge"], COLUMN["dip_threshold"]
P_HOLD, P_SLOTS, P_BUFFER, P_FILL = COLUMN["max_hold"], COLUMN["max_positions"], COLUMN["fill_buffer"], COLUMN["fill"]
P_TOUCH, P_VOLUME, P_LEVERAGE = COLUMN["touch_fraction"], COLUMN["max_volume_fraction"], COLUMN["leverage"]
P_MARGIN, P_BORROW, P_EOD, P_STEAL = COLUMN["margin_rate"], COLUMN["borrow_rate"], COLUMN["close_at_eod"], COLUMN["work_steal"]
P_STEAL_PROFIT, P_STEAL_EDGE, P_STEAL_MARGIN = COLUMN["steal_min_profit"], COLUMN["steal_min_edge"], COLUMN["steal_margin"]
P_SLIP, P_COST, P_CASH_BUFFER, P_MAINTENANCE = (
    COLUMN["slippage"],
    COLUMN["cost_multiplier"],
    COLUMN["cash_buffer"],
    COLUMN["maintenance_margin"],
)
P_FILLABLE, P_REENTRY = COLUMN["fillable_only"], COLUMN["reentry"]

"""The stages of the selector: what it saw, wanted, sent and got, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from trainables.audit.stages import Stage
from trainables.market.panel import BAR
from trainables.selector import tally
from trainables.selector.candidates import FLAGS, LAST, TRADABLE
from trainables.selector.inputs import ACTION_COLUMNS, FORECAST_COLUMNS, SelectorInputs
from trainables.selector.options import encode
from trainables.selector.simulate import _build, _scratch, evaluate

_COSTS = ("maker", "taker", "half_spread", "min_notional", "can_long", "can_short")
_FILLS = ("bought", "sold", "value", "fee", "reason")


def selector_stages(inputs: SelectorInputs, config: Mapping[str, Any], profile: str, initial_cash: float) -> list[Stage]:
    """Traces one complete configuration.

    Args:
        inputs: Prepared arrays.
        config: Every parameter.
        profile: "realistic" or "legacy".
        initial_cash: Cash before the first row.

    Returns:
        bars, costs, forecasts, actions, calendar, candidates, fills, equity. A candidate's row is the one its order is live in,
        so nothing of that row's bars may be in it.
    """
    panel = inputs.panel
    axes = (panel.times, panel.symbols)
    table = encode([config], profile)
    aligned = inputs.aligned(int(config["lag"]), bool(config["market_hours"]), profile == "legacy")
    flags = aligned.cells[:, :, FLAGS].T.astype(np.int64)
    costs = {name: np.broadcast_to(inputs.costs[:, i], panel.close.shape) for i, name in enumerate(_COSTS)}
    calendar = {"tradable": flags & TRADABLE > 0, "session_last": flags & LAST > 0}
    result = evaluate(inputs, table, profile=profile, initial_cash=initial_cash, equity=True, fills=True)
    assert result.fills is not None and result.equity is not None
    curve = result.equity[0].tz_localize(None).reindex(panel.times)  # legacy has no rows without orders
    return [
        _stage("bars", axes, {name: getattr(panel, name) for name in BAR}, "own"),
        _stage("costs", axes, costs, "start"),
        _stage("forecasts", axes, dict(zip(FORECAST_COLUMNS, inputs.orders[4:], strict=True)), "end"),
        _stage("actions", axes, dict(zip(ACTION_COLUMNS, inputs.orders[:4], strict=True)), "end"),
        _stage("calendar", axes, calendar, "start"),
        _stage("candidates", axes, _candidates(inputs, aligned, table, profile), "start"),
        _stage("fills", axes, _fills(inputs, result.fills), "own"),
        Stage("equity", panel.times, {"equity": curve.to_numpy()}),
    ]


def _stage(name: str, axes: tuple[np.ndarray, tuple[str, ...]], columns: Mapping[str, np.ndarray], known: Any) -> Stage:
    return Stage(name, axes[0], columns, axes[1], known)


def _candidates(inputs: SelectorInputs, aligned: Any, table: np.ndarray, profile: str) -> dict[str, np.ndarray]:
    """Score, limit and amount of every candidate, float64 (T, A) by side; NaN where there is none."""
    shape = inputs.panel.close.shape
    lists, _ = _scratch(shape[0], shape[1], both_sides=True)
    _build(inputs, aligned, table, profile, lists)
    start, symbol, short, *values = lists
    count = start[-1]
    rows = np.repeat(np.arange(shape[0]), np.diff(start))
    out = {f"{side}_{name}": np.full(shape, np.nan) for side in ("long", "short") for name in ("score", "limit", "amount")}
    for is_short, side in enumerate(("long", "short")):
        chosen = short[:count] == bool(is_short)
        for name, value in zip(("score", "limit", "amount"), values, strict=True):
            out[f"{side}_{name}"][rows[chosen], symbol[:count][chosen]] = value[:count][chosen]
    return out


def _fills(inputs: SelectorInputs, fills: Any) -> dict[str, np.ndarray]:
    """What was bought and sold of each symbol in each row, float64 (T, A): units, value, fee, and a bit per reason; 0 where nothing."""
    out = {name: np.zeros(inputs.panel.close.shape) for name in _FILLS}
    row = np.searchsorted(inputs.panel.times, fills["timestamp"].dt.tz_localize(None).to_numpy())
    cells = (row, pd.Index(inputs.panel.symbols, dtype=object).get_indexer(fills["symbol"].to_numpy(object)))
    quantity, bought = fills["quantity"].to_numpy(), (fills["side"] == "buy").to_numpy()
    reasons = 2.0 ** pd.Index(tally.REASONS, dtype=object).get_indexer(fills["reason"].to_numpy(object))
    with np.errstate(over="ignore"):  # a permuted market makes some rich beyond what a float holds
        value = quantity * fills["price"].to_numpy()
    amounts = (np.where(bought, quantity, 0.0), np.where(bought, 0.0, quantity), value, fills["fee"].to_numpy(), reasons)
    for name, amount in zip(_FILLS, amounts, strict=True):
        np.add.at(out[name], cells, amount)
    return out

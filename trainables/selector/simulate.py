"""`simulate`: the selector back-test for notebooks, and `evaluate`, the same over prepared arrays.

The fill rules are docs/fills.md; the metrics are SPEC G.7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from trainables.contract import TrainableError, check_config
from trainables.market import Panel
from trainables.selector import candidates, legacy, realistic, tally
from trainables.selector.inputs import Aligned, SelectorInputs
from trainables.selector.options import COLUMN, encode, profile_defaults
from trainables.selector.summary import METRIC_NAMES, metric_table

ACTION_COLUMNS = ("buy_price", "sell_price", "buy_amount", "sell_amount")
FORECAST_COLUMNS = ("predicted_high_p50_h1", "predicted_low_p50_h1", "predicted_close_p50_h1")
# Configurations with equal values here share one candidate list.
_SIGNAL = [COLUMN[n] for n in ("intensity", "offset", "risk_weight", "edge_mode", "dip_threshold", "cost_multiplier", "allow_short")]
_ALIGN = [COLUMN[n] for n in ("lag", "market_hours")]


@dataclass(frozen=True)
class SelectorResult:
    """Outcome of `simulate`.

    Attributes:
        metrics: One row per configuration, one column per metric of `summary.METRICS`.
        equity: Equity at the end of each row, one column per configuration, or None. Under `legacy` only rows that exist.
        fills: Every fill (config, timestamp, symbol, side, price, quantity, fee, reason), or None.
        profile: "realistic", or "legacy" (not comparable with realistic results).
    """

    metrics: pd.DataFrame
    equity: pd.DataFrame | None
    fills: pd.DataFrame | None
    profile: str


def simulate(
    bars: pd.DataFrame,
    actions: pd.DataFrame,
    configs: Sequence[Mapping[str, Any]] | pd.DataFrame,
    *,
    profile: str = "realistic",
    costs: Mapping[str, Any] | None = None,
    initial_cash: float = 10_000.0,
    equity: bool = False,
    fills: bool = False,
) -> SelectorResult:
    """Back-tests selector configurations over one table of bars and actions.

    Args:
        bars: Tidy rows `timestamp` (UTC, bar start), `symbol`, `open, high, low, close, volume` and the next bar's forecasts
            `predicted_{high,low,close}_p50_h1`, issued at the end of the row's bar (SPEC G.1).
        actions: Tidy rows `timestamp, symbol, buy_price, sell_price, buy_amount, sell_amount`, decided at the end of the row's
            bar; amounts in [0, 1] (`legacy`: percent, as the original read them).
        configs: Parameters per configuration; what is absent takes the profile's default.
        profile: "realistic" or "legacy".
        costs: Asset metadata by class or symbol, as in a study's `data.assets`; defaults per class otherwise.
        initial_cash: Cash before the first row.
        equity: Also return equity curves (8 bytes per row and configuration).
        fills: Also return every fill.

    Returns:
        Metrics, and on request equity and fills.

    Raises:
        TrainableError: Missing columns, amounts out of range, unknown or disallowed parameters.
        MarketError: Symbols whose class or fees are unknown, or bad bars.
    """
    inputs = from_frames(bars, actions, costs=costs, profile=profile)
    rows = configs.to_dict("records") if isinstance(configs, pd.DataFrame) else list(configs)
    defaults = profile_defaults(profile)
    from trainables.selector.trainable import SelectorTrainable

    table = encode([defaults | check_config(SelectorTrainable(), row, f"configs[{i}]") for i, row in enumerate(rows)], profile)
    return evaluate(inputs, table, profile=profile, initial_cash=initial_cash, equity=equity, fills=fills)


def from_frames(
    bars: pd.DataFrame, actions: pd.DataFrame, *, costs: Mapping[str, Any] | None = None, profile: str = "realistic"
) -> SelectorInputs:
    """Aligns tidy tables; see `simulate`."""
    legacy_profile = profile == "legacy"
    needed = ("timestamp", "symbol", *(() if legacy_profile else ("open",)), "high", "low", "close", *FORECAST_COLUMNS)
    for name, frame, columns in (("bars", bars, needed), ("actions", actions, ("timestamp", "symbol", *ACTION_COLUMNS))):
        missing = [c for c in columns if c not in frame.columns]
        if missing:
            raise TrainableError(
                f"{name}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing; it has {', '.join(frame.columns)}"
            )
    if not legacy_profile and (actions[["buy_amount", "sell_amount"]].to_numpy(float) > 1.0).any():
        raise TrainableError("actions: buy_amount and sell_amount are fractions in [0, 1]; divide percentages by 100")
    merged = bars.merge(
        actions[["timestamp", "symbol", *ACTION_COLUMNS]], on=["timestamp", "symbol"], how="inner" if legacy_profile else "left"
    )
    merged = merged.assign(**{c: fill for c, fill in (("open", np.nan), ("volume", 0.0)) if c not in merged.columns})
    if legacy_profile:
        # Legacy never looks at the open; a mid price keeps the panel's own checks meaningful.
        merged = merged.assign(open=merged["open"].fillna(merged["close"]))
    merged = merged.sort_values(["timestamp", "symbol"])
    panel = Panel.from_frame(merged, assets=costs, source="frames")
    panel = panel.select(sorted(panel.symbols))
    stamps = pd.to_datetime(merged["timestamp"], utc=True).dt.tz_localize(None).to_numpy().astype("datetime64[ns]")
    row = np.searchsorted(panel.times, stamps)
    column = np.searchsorted(np.array(panel.symbols), merged["symbol"].to_numpy(str))
    orders = np.full((7, panel.n_bars, len(panel.symbols)), np.nan)
    for k, name in enumerate((*ACTION_COLUMNS, *FORECAST_COLUMNS)):
        orders[k, row, column] = merged[name].to_numpy(float)
    return SelectorInputs(panel, orders)


def evaluate(
    inputs: SelectorInputs,
    table: np.ndarray,
    *,
    profile: str,
    initial_cash: float = 10_000.0,
    equity: bool = False,
    fills: bool = False,
) -> SelectorResult:
    """Runs encoded configurations (`options.encode`) over prepared inputs; see `simulate`."""
    n = len(table)
    n_rows, n_assets = inputs.panel.close.shape
    sums = np.zeros((n, tally.WIDTH))
    curves = np.empty((n, n_rows)) if equity else np.empty((0, 0))
    logs: list[pd.DataFrame] = []
    capacity = n_rows * n_assets * (2 if table[:, COLUMN["allow_short"]].any() else 1)
    buffers = (
        np.empty(n_rows + 1, np.int64),
        np.empty(capacity, np.int16),
        np.empty(capacity, np.bool_),
        np.empty(capacity),
        np.empty(capacity),
        np.empty(capacity),
    )
    shortcuts = (np.empty(n_rows + 1, np.int64), np.empty(n_rows), np.empty((n_assets, n_rows)))
    alignments, where = np.unique(table[:, _ALIGN], axis=0, return_inverse=True)
    for i, (lag, market_hours) in enumerate(alignments):
        aligned = inputs.aligned(int(lag), bool(market_hours), profile == "legacy")
        members = np.flatnonzero(where == i)
        _, signal = np.unique(table[np.ix_(members, _SIGNAL)], axis=0, return_inverse=True)
        by_signal = np.argsort(signal, kind="stable")
        for group in np.split(members[by_signal], np.flatnonzero(np.diff(signal[by_signal])) + 1):
            _build(inputs, aligned, table[group], profile, buffers)
            candidates.shortcuts(aligned.exits, buffers[0], buffers[3], table[group[0], COLUMN["offset"]], *shortcuts)
            run = _runner(inputs, aligned, table, profile, buffers, shortcuts, initial_cash, sums, curves)
            if not fills:
                run(group, np.empty((0, 7)))
                continue
            for one in group:
                count = run(np.array([one]), np.empty((0, 7)))
                log = np.empty((count, 7))
                run(np.array([one]), log)
                logs.append(_fill_frame(inputs, int(one), log))
    metrics = metric_table(sums, inputs, profile, initial_cash)
    frame = None
    if equity:
        frame = pd.DataFrame(curves.T, index=pd.DatetimeIndex(inputs.panel.times, tz="UTC", name="timestamp")).dropna(how="all")
    return SelectorResult(
        pd.DataFrame(metrics, columns=list(METRIC_NAMES)), frame, pd.concat(logs, ignore_index=True) if logs else None, profile
    )


def _build(inputs: SelectorInputs, aligned: Aligned, rows: np.ndarray, profile: str, buffers: tuple) -> None:
    """Builds the candidate list of one group of configurations."""
    legacy_profile = profile == "legacy"
    intensity, offset, risk, mode, dip, cost, short = rows[0, _SIGNAL]
    threshold = rows[:, COLUMN["min_edge"]].min()
    if legacy_profile and rows[:, COLUMN["work_steal"]].any():
        threshold = min(threshold, rows[:, COLUMN["steal_min_edge"]].min())
    candidates.build(
        aligned.orders,
        aligned.forecasts,
        aligned.tradable,
        inputs.costs,
        intensity,
        offset,
        risk,
        int(mode),
        dip,
        cost,
        bool(short),
        threshold,
        legacy_profile,
        *buffers,
    )


def _runner(
    inputs: SelectorInputs,
    aligned: Aligned,
    table: np.ndarray,
    profile: str,
    buffers: tuple,
    shortcuts: tuple,
    cash: float,
    sums: np.ndarray,
    curves: np.ndarray,
) -> Callable[[np.ndarray, np.ndarray], int]:
    """Binds the profile's kernel to everything but (group, log)."""
    out = (cash, sums, curves)
    if profile == "legacy":
        return lambda group, log: legacy.run(
            table, group, inputs.hours, aligned.any_present, aligned.cells, inputs.costs, *buffers, *out, log
        )
    return lambda group, log: realistic.run(
        table,
        group,
        inputs.hours,
        inputs.settle,
        inputs.overlap,
        aligned.cells,
        inputs.costs,
        inputs.marks,
        *buffers,
        *shortcuts,
        *out,
        log,
    )


def _fill_frame(inputs: SelectorInputs, config: int, log: np.ndarray) -> pd.DataFrame:
    """Turns a kernel's fill records into a table."""
    return pd.DataFrame(
        {
            "config": config,
            "timestamp": pd.DatetimeIndex(inputs.panel.times[log[:, tally.F_ROW].astype(int)], tz="UTC"),
            "symbol": [inputs.panel.symbols[int(a)] for a in log[:, tally.F_SYMBOL]],
            "side": np.where(log[:, tally.F_SIDE] > 0, "buy", "sell"),
            "price": log[:, tally.F_PRICE],
            "quantity": log[:, tally.F_QUANTITY],
            "fee": log[:, tally.F_FEE],
            "reason": [tally.REASONS[int(r)] for r in log[:, tally.F_REASON]],
        }
    )

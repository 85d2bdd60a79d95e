"""`simulate`: the selector back-test for notebooks, and `evaluate`, the same over prepared arrays.

The fill rules are docs/fills.md; the metrics are SPEC G.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_scalar

from trainables.contract import Parameter, TrainableError, check_config
from trainables.selector import candidates, legacy, realistic, tally
from trainables.selector.inputs import Aligned, SelectorInputs, Start, from_frames
from trainables.selector.options import COLUMN, encode, profile_defaults
from trainables.selector.summary import METRIC_NAMES, metric_table

# Configurations with equal values here share an alignment and a candidate list.
_ALIGN = [COLUMN[n] for n in ("lag", "market_hours")]
_SIGNAL = [COLUMN[n] for n in ("intensity", "offset", "risk_weight", "edge_mode", "dip_threshold", "cost_multiplier", "allow_short")]
_KERNELS: dict[str, Callable[..., int]] = {"realistic": realistic.run, "legacy": legacy.run}
_CASH = Parameter("initial_cash", 10_000.0, "float", 0.01, 1e15)
_NO_LOG = np.empty((0, 7))
Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class SelectorResult:
    """Outcome of `simulate`.

    Attributes:
        metrics: One row per configuration, one column per metric of `summary.METRICS`.
        equity: Equity at the end of each row, one column per configuration, or None. Under `legacy` only rows that exist.
        fills: Every fill (config, timestamp, symbol, side, price, quantity, fee, reason) by config, then time; or None.
        profile: "realistic", or "legacy" (not comparable with realistic results).
    """

    metrics: pd.DataFrame
    equity: pd.DataFrame | None
    fills: pd.DataFrame | None
    profile: str


def simulate(
    bars: pd.DataFrame,
    actions: pd.DataFrame,
    configs: Mapping[str, Any] | Iterable[Mapping[str, Any]] | pd.DataFrame,
    *,
    profile: str = "realistic",
    costs: Mapping[str, Any] | None = None,
    initial_cash: float = 10_000.0,
    equity: bool = False,
    fills: bool = False,
) -> SelectorResult:
    """Back-tests selector configurations over one table of bars and actions.

    Args:
        bars: Tidy rows `timestamp` (with a time zone, bar start), `symbol`, `open, high, low, close, volume` and the next bar's
            forecasts `predicted_{high,low,close}_p50_h1`, issued at the end of the row's bar (SPEC G.1). `legacy` needs no open.
        actions: Tidy rows `timestamp, symbol, buy_price, sell_price, buy_amount, sell_amount`, decided at the end of the row's
            bar; amounts in [0, 1] (`legacy`: percent, as the original read them); NaN is no order. An action at a time without
            a bar of its symbol is ignored, because nothing can be traded then.
        configs: Parameters per configuration, or of a single one; what is absent, or a NaN cell of a table, takes the profile's
            default.
        profile: "realistic" or "legacy".
        costs: Asset metadata by class or symbol, as in a study's `data.assets`; defaults per class otherwise.
        initial_cash: Cash before the first row.
        equity: Also return equity curves (8 bytes per row and configuration).
        fills: Also return every fill.

    Returns:
        Metrics, and on request equity and fills.

    Raises:
        TrainableError: Tables that cannot be read as bars and actions, amounts or prices out of range, unknown or disallowed
            parameters.
        MarketError: Symbols whose class or fees are unknown, or impossible bars.
    """
    from trainables.selector.trainable import SelectorTrainable

    defaults = profile_defaults(profile)
    given = enumerate(_records(configs))
    table = encode([defaults | check_config(SelectorTrainable(), row, f"configs[{i}]") for i, row in given], profile)
    inputs = from_frames(bars, actions, costs=costs, profile=profile)
    return evaluate(inputs, table, profile=profile, initial_cash=initial_cash, equity=equity, fills=fills)


def _records(configs: Any) -> list[Mapping[str, Any]]:
    """Returns one mapping per configuration, whatever form they were given in."""
    if isinstance(configs, pd.DataFrame):
        return [{str(k): v for k, v in row.items() if not (is_scalar(v) and pd.isna(v))} for row in configs.to_dict("records")]
    rows = [configs] if isinstance(configs, Mapping) else list(configs) if isinstance(configs, Iterable) else [configs]
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TrainableError(f"configs[{i}]: {row!r} is not a configuration; give parameters, for example {{'min_edge': 0.01}}")
    return rows


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
    cash = float(_CASH.check(initial_cash, "initial_cash"))
    column = np.arange(inputs.panel.n_bars) if equity else None
    sums, curves, logs = simulate_sums(inputs, table, profile, cash, column=column, fills=fills)
    metrics = metric_table([sums], [inputs], profile, cash)
    frame = None
    if equity:
        frame = pd.DataFrame(curves.T, index=pd.DatetimeIndex(inputs.panel.times, tz="UTC", name="timestamp")).dropna(how="all")
    return SelectorResult(pd.DataFrame(metrics, columns=list(METRIC_NAMES)), frame, _fill_table(inputs, logs) if fills else None, profile)


def simulate_sums(
    inputs: SelectorInputs,
    table: np.ndarray,
    profile: str,
    cash: float,
    *,
    column: np.ndarray | None = None,
    fills: bool = False,
    starts: Sequence[Start] | None = None,
) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
    """Runs the kernel.

    Args:
        inputs: One stretch of time.
        table: Encoded configurations, float64 (n, P).
        profile: "realistic" or "legacy".
        cash: Cash before the first row.
        column: int64 (T,) ascending: keep equity curves, a row's equity in this column (of rows that share one, the last stays).
        fills: Keep fill records.
        starts: Simulate from each of these to the end (`realistic` only, without curves and fills), instead of once, flat from row 0.
            All of them share the candidate lists.

    Returns:
        Running sums float64 (n, tally.WIDTH), with `starts` (len(starts), n, tally.WIDTH); curves float64 (n, columns) or (0, 0);
        fill records by configuration.

    Raises:
        TrainableError: A start that is impossible (`SelectorInputs.first_close` tells beforehand), or not with this profile.
    """
    if starts is not None and (profile == "legacy" or column is not None or fills):
        raise TrainableError("starts: start states are for the realistic profile, without equity curves and fills")
    begins = [_begin(inputs, start) for start in (starts if starts is not None else [Start()])]
    sums = np.zeros((len(begins), len(table), tally.WIDTH))
    curves = np.empty((0, 0)) if column is None else np.full((len(table), int(column[-1]) + 1), np.nan)
    where = np.zeros(1, np.int64) if column is None else column.astype(np.int64)
    logs: dict[int, np.ndarray] = {}
    lists, shortcuts = _scratch(inputs.panel.n_bars, len(inputs.panel.symbols), bool(table[:, COLUMN["allow_short"]].any()))
    for group in _groups(table):
        lag, market_hours = table[group[0], _ALIGN]
        aligned = inputs.aligned(int(lag), bool(market_hours), profile == "legacy")
        _build(inputs, aligned, table[group], profile, lists)
        candidates.shortcuts(aligned.exits, lists[0], lists[3], table[group[0], COLUMN["offset"]], *shortcuts)
        for k, begin in enumerate(begins):
            run = _runner(inputs, aligned, table, profile, lists, shortcuts, (cash, *begin, sums[k], curves, where))
            if not fills:
                run(group, _NO_LOG)
                continue
            for one in group:
                logs[int(one)] = np.empty((run(np.array([one]), _NO_LOG), 7))  # counts first
                run(np.array([one]), logs[int(one)])
    return sums if starts is not None else sums[0], curves, logs


def _begin(inputs: SelectorInputs, start: Start) -> tuple[int, int, int]:
    """Returns (first row, symbol held, row of the close it was bought at) as the kernel takes them."""
    bought = inputs.first_close(start.row, start.held) if start.held >= 0 else 0
    return inputs.first_row(start), start.held, bought


def _groups(table: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the rows of configurations that share an alignment and a candidate list."""
    _, group = np.unique(table[:, _ALIGN + _SIGNAL], axis=0, return_inverse=True)
    order = np.argsort(group, kind="stable")
    if len(order):
        yield from np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def _scratch(n_rows: int, n_assets: int, both_sides: bool) -> tuple[Arrays, Arrays]:
    """Returns memory for candidate lists (`candidates.build`) and for `candidates.shortcuts`, used by every group in turn."""
    capacity = n_rows * n_assets * (2 if both_sides else 1)
    kinds = (np.int16, np.bool_, np.float64, np.float64, np.float64)
    lists = (np.empty(n_rows + 1, np.int64), *(np.empty(capacity, kind) for kind in kinds))
    return lists, (np.empty(n_rows + 1, np.int64), np.empty(n_rows), np.empty((n_assets, n_rows)))


def _build(inputs: SelectorInputs, aligned: Aligned, rows: np.ndarray, profile: str, lists: Arrays) -> None:
    """Builds the candidate list of one group of configurations."""
    legacy_profile = profile == "legacy"
    intensity, offset, risk, mode, dip, cost, short = rows[0, _SIGNAL]
    threshold = rows[:, COLUMN["min_edge"]].min()
    if legacy_profile and rows[:, COLUMN["work_steal"]].any():
        threshold = min(threshold, rows[:, COLUMN["steal_min_edge"]].min())
    candidates.build(
        aligned.orders,
        aligned.forecasts,
        aligned.competes,
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
        *lists,
    )


def _runner(
    inputs: SelectorInputs, aligned: Aligned, table: np.ndarray, profile: str, lists: Arrays, shortcuts: Arrays, out: tuple
) -> Callable[[np.ndarray, np.ndarray], int]:
    """Binds the profile's kernel to everything but (group, log); `out` is (cash, `_begin`, sums, curves, columns)."""
    cash, first, held, bought, *kept = out
    market: tuple[Any, ...] = (inputs.hours, aligned.any_present, aligned.cells, inputs.costs, *lists, cash)
    if profile != "legacy":
        bars = (inputs.hours, inputs.settle, True if inputs.overlap else None, aligned.cells, inputs.costs, inputs.marks)
        market = (*bars, *lists, *shortcuts, cash, first, held, bought)
    return lambda group, log: _KERNELS[profile](table, group, *market, *kept, log)


def _fill_table(inputs: SelectorInputs, logs: Mapping[int, np.ndarray]) -> pd.DataFrame:
    """Turns the kernel's fill records by configuration into one table, by configuration and then time."""
    configs = sorted(logs)
    log = np.concatenate([_NO_LOG, *(logs[one] for one in configs)])
    owner = np.repeat(np.array(configs, np.int64), [len(logs[one]) for one in configs])
    order = np.lexsort((log[:, tally.F_ROW], owner))
    log, owner = log[order], owner[order]
    return pd.DataFrame(
        {
            "config": owner,
            "timestamp": pd.DatetimeIndex(inputs.panel.times[log[:, tally.F_ROW].astype(int)], tz="UTC"),
            "symbol": np.array(inputs.panel.symbols, object)[log[:, tally.F_SYMBOL].astype(int)],
            "side": np.where(log[:, tally.F_SIDE] > 0, "buy", "sell"),
            "price": log[:, tally.F_PRICE],
            "quantity": log[:, tally.F_QUANTITY],
            "fee": log[:, tally.F_FEE],
            "reason": np.array(tally.REASONS, object)[log[:, tally.F_REASON].astype(int)],
        }
    )

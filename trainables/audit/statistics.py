"""Checks from outside, on metrics alone: packs, repetition, and results too good to be true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from trainables.audit.entrance import Entrance
from trainables.audit.moves import compare
from trainables.audit.null import p_positive
from trainables.audit.perturb import NEVER, Reach
from trainables.audit.report import Finding
from trainables.audit.stages import trace
from trainables.contract import Prepared
from trainables.market import Panel

MOST_SORTINO, MOST_PER_DAY = 10.0, 0.01  # SPEC J, oracle test
ALARM_LEVEL = 1e-2


def first_difference(here: pd.DataFrame, there: pd.DataFrame) -> tuple[int, str, float, float] | None:
    """Returns (row, column, value here, value there) of the first cell that is not bit-identical, None if all are."""
    if list(here.columns) != list(there.columns) or len(here) != len(there):
        return 0, "columns", float(here.shape[1]), float(there.shape[1])
    a, b = here.to_numpy(np.float64), there.to_numpy(np.float64)
    cells = np.argwhere(~((a == b) | (np.isnan(a) & np.isnan(b))))
    if not len(cells):
        return None
    i, j = cells[0]
    return int(i), str(here.columns[j]), float(a[i, j]), float(b[i, j])


def batch(entrance: Entrance, prepared: Prepared, seed: int) -> Finding:
    """One at a time = all at once = in another order (J3)."""
    configs = entrance.complete(prepared)
    if len(configs) < 2:
        return Finding("batch", None, detail="needs at least two configurations")
    together = entrance.metrics(prepared, configs)
    order = np.random.default_rng([seed, 4]).permutation(len(configs))
    if (order == np.arange(len(configs))).all():
        order = order[::-1]
    shuffled = entrance.metrics(prepared, [configs[i] for i in order]).iloc[np.argsort(order)].reset_index(drop=True)
    single = pd.concat([entrance.metrics(prepared, [config]) for config in configs], ignore_index=True)
    for name, other in (("alone", single), ("in another order", shuffled)):
        found = first_difference(together, other)
        if found:
            row, column, a, b = found
            return Finding("batch", False, "metrics", column, detail=f"configuration {row} gives {a!r} in a pack and {b!r} {name}")
    return Finding("batch", True, detail=f"{len(configs)} configurations: alone, together and in another order bit for bit")


def determinism(entrance: Entrance, panel: Panel) -> Finding:
    """The same seed twice gives the same numbers, stages included."""
    runs = []
    for _ in range(2):
        with entrance.open(panel) as prepared:
            configs = entrance.complete(prepared)
            ctx = entrance.context(prepared)
            stages = [trace(entrance.trainable, config, ctx).stages for config in configs]
            runs.append((entrance.metrics(prepared, configs), stages))
    everything = Reach(panel.symbols, np.full(len(panel.symbols), NEVER), NEVER, NEVER)
    moves = [move for here, there in zip(runs[0][1], runs[1][1], strict=True) for move in compare(here, there, everything).moves]
    how = "differs between two runs with the same seed; a global random generator, or state kept from one run to the next?"
    if moves:
        first = min(moves, key=lambda move: (move.order, move.time))
        time = pd.Timestamp(first.time, tz="UTC")
        return Finding("determinism", False, first.stage, first.column, first.symbol, time, first.rows, how)
    found = first_difference(runs[0][0], runs[1][0])
    if found:
        return Finding(
            "determinism", False, "metrics", found[1], detail=f"configuration {found[0]}: {found[2]!r}, then {found[3]!r}; {how}"
        )
    return Finding("determinism", True, detail="two runs with the same seed bit for bit")


def alarm(frames: Sequence[pd.DataFrame], metric: str, days: float) -> Finding:
    """Results too good to be true on markets without a signal: Sortino above 10, or more than 1 % a day (SPEC J, oracle test).

    The middle market counts, not the best: a short window's Sortino is above 10 by luck now and then.
    """
    middle = pd.concat(frames).groupby(level=0).median()
    for i in range(len(middle)):
        why = implausible({str(name): value for name, value in middle.iloc[i].items()}, days, metric)
        if not why:
            continue
        # A leveraged account strays far by chance; the alarm is for what does so again and again.
        if metric in middle and p_positive(np.array([frame[metric].iloc[i] for frame in frames], np.float64)) > ALARM_LEVEL:
            continue
        text = f"configuration {i} on {len(frames)} markets without a signal: {why}; it knows what it cannot know"
        return Finding("alarm", False, "metrics", "sortino" if "sortino" in why else metric, detail=text)
    if metric not in middle and "sortino" not in middle:
        return Finding("alarm", None, detail=f"it reports neither {metric!r} nor 'sortino'")
    return Finding(
        "alarm", True, detail=f"nothing above a Sortino of {MOST_SORTINO:g} or {MOST_PER_DAY:.0%} a day on markets without a signal"
    )


def implausible(metrics: Mapping[str, Any], days: float, metric: str = "total_return") -> str:
    """Says why a result cannot be honest, "" if it can (SPEC J: Sortino > 10 or > 1 % a day).

    Args:
        metrics: Metrics of one configuration; `sortino` and the return are read, either may be missing or NaN.
        days: Real elapsed days.
        metric: Name of the total return, a fraction.
    """
    reasons = []
    sortino = float(metrics.get("sortino", np.nan))
    if sortino > MOST_SORTINO:
        reasons.append(f"sortino {sortino:.1f} (above {MOST_SORTINO:g})")
    total = float(metrics.get(metric, np.nan))
    per_day = (1.0 + total) ** (1.0 / days) - 1.0 if total > -1.0 and days > 0 else np.nan
    if per_day > MOST_PER_DAY:
        reasons.append(f"{per_day:+.1%} a day (above {MOST_PER_DAY:.0%})")
    return ", ".join(reasons)

"""From a panel to what Chronos-2 is trained on and asked: windows of open, high, low, close and past covariates (SPEC C.1, C.2).

A task is one attention group: one symbol on its own bars, or several on their common bars. One function, `encode`, makes the
model's input for training and for forecasting, so both see the same covariates, groups and pre-augmentation (SPEC C.1, [C]);
it fits the pre-augmentation on the context alone (SPEC J18), and nothing outside the window a `Tasks` was made for is in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import pandas as pd

from trainables.contract import TrainableError, nearest
from trainables.market.assets import QUOTES
from trainables.market.panel import PRICES, Panel
from trainables.timeline import Window

COVARIATES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "none": (),
        "returns": ("return_1h", "range_pct", "body_pct"),
        "all": ("volume", "log_volume", "return_1h", "range_pct", "body_pct"),
    }
)
NAMED: Final = ("none", "majors", "all")  # groupings that follow from what symbols are, and not from their bars
GROUPINGS: Final = (*NAMED, "correlation")
MAJORS: Final = (("BTC", "ETH"), ("SOL", "LINK", "UNI", "AVAX", "DOT", "AAVE"))  # SPEC C.2
PATCH: Final = 16  # bars of a patch of the published model
LEAST_CONTEXT: Final = PATCH  # bars; less says nothing about scale


class Preaug(Protocol):
    """What is done to target windows before the model sees them (SPEC B); arrays may have leading batch dimensions."""

    def fit(self, context: np.ndarray) -> Any:
        """Takes from raw contexts (…, V, T) whatever `transform` and `inverse` need."""
        ...

    def transform(self, x: np.ndarray, state: Any) -> np.ndarray:
        """Transforms the context, or the context followed by its future, (…, V, T)."""
        ...

    def inverse(self, forecast: np.ndarray, state: Any, median: int | None = None) -> np.ndarray:
        """Brings quantiles (…, V, Q, H) of the bars after the context back to raw space, ascending in Q; `median` is its index."""
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """One attention group of k symbols.

    Attributes:
        columns: Panel columns of the symbols, (k,).
        rows: int64 (N,) panel rows of the group's bars: where every symbol has one.
        targets: float64 (4k, N), raw open, high, low, close of the first symbol, then of the second, and so on.
        covariates: float32 (c·k, N), symbol by symbol; known for the past only.
    """

    columns: tuple[int, ...]
    rows: np.ndarray
    targets: np.ndarray
    covariates: np.ndarray

    @property
    def n_rows(self) -> int:
        """Rows it has in a batch: targets and covariates."""
        return len(self.targets) + len(self.covariates)


class Pick(NamedTuple):
    """A window of a task: its context ends with bar `end`, counted in the task's bars."""

    task: Task
    end: int


@dataclass(frozen=True, eq=False)
class Tasks:
    """The tasks of a panel.

    Attributes:
        times: datetime64[ns] (T,) of the whole panel.
        symbols: Of the panel; `Task.columns` point here.
        tasks: Every symbol with a bar in the window is in exactly one.
        window: Panel rows that are in the tasks at all.
        train: Panel rows that training may touch; groups were chosen on them alone.
        covariates: Key of `COVARIATES`.
        grouping: Of `GROUPINGS`.
        data_hash: Fingerprint of the panel's rows in `window`.
        notes: What the user should know: groups that fell apart, symbols without bars.
    """

    times: np.ndarray
    symbols: tuple[str, ...]
    tasks: tuple[Task, ...]
    window: Window
    train: Window
    covariates: str
    grouping: str
    data_hash: str
    notes: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Symbols that attend to each other."""
        return tuple(tuple(self.symbols[c] for c in task.columns) for task in self.tasks)

    @property
    def train_end(self) -> np.datetime64:
        """Start of the last bar that training may see, datetime64[ns]."""
        ends = [task.rows[stop - 1] for task in self.tasks for first, stop in [self.trained(task)] if stop > first]
        if not ends:
            raise TrainableError("chronos2: no symbol has a bar in the train window")
        return np.datetime64(self.times[max(ends)], "ns")

    @cached_property
    def digest(self) -> str:
        """Names data, windows, covariates and groups: equal digests train alike."""
        parts = [self.data_hash, self.window, self.train, self.covariates, self.groups]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def trained(self, task: Task) -> tuple[int, int]:
        """Positions [first, stop) of a task's bars that lie in the train window."""
        first, stop = np.searchsorted(task.rows, self.train)
        return int(first), int(stop)

    def cuts(self, task: Task, horizon: int) -> tuple[int, int]:
        """Range [low, high) of positions where a training context may end, its horizon still inside the train window."""
        first, stop = self.trained(task)
        return first + max(LEAST_CONTEXT, horizon) - 1, stop - horizon


class Batch(NamedTuple):
    """Windows as the model takes them.

    Attributes:
        context: float32 (B, C), NaN to the left of shorter contexts; per window targets first, then covariates.
        future: float32 (B, H), NaN for covariates.
        group_ids: int64 (B,): rows of one window share one.
        offsets: int64, first row of each window.
        states: Windows that were transformed together, by index, with the state to undo it.
    """

    context: np.ndarray
    future: np.ndarray
    group_ids: np.ndarray
    offsets: np.ndarray
    states: tuple[tuple[tuple[int, ...], Any], ...]


def make_tasks(
    panel: Panel, window: Window, train: Window, covariates: str = "none", grouping: str = "none", clusters: int = 3, patch: int = PATCH
) -> Tasks:
    """Makes the tasks of a window.

    Args:
        panel: Bars.
        window: Panel rows that may be seen: history, training and what is forecast.
        train: Panel rows, inside `window`, for training and for choosing groups.
        covariates: `none`, `returns` or `all` (SPEC C.1).
        grouping: `none`: every symbol alone. `majors`: the groups of SPEC C.2, by base symbol. `all`: one group of each asset class.
            `correlation`: clusters of close returns in the train window, never across asset classes: stocks and coins share few bars.
        clusters: Most clusters of `correlation`, per asset class.
        patch: Patch length of the model; a group with fewer than 8 patches of common training bars falls apart (SPEC C.2).

    Raises:
        TrainableError: Unknown name, or windows that do not fit.
    """
    for key, value, allowed in (("covariates", covariates, tuple(COVARIATES)), ("grouping", grouping, GROUPINGS)):
        if value not in allowed:
            raise TrainableError(f"{key}: {value!r} is not allowed; {nearest(value, allowed) or 'give one of ' + ', '.join(allowed)}")
    window, train = Window(*window), Window(*train)
    if not 0 <= window.start <= train.start <= train.stop <= window.stop <= panel.n_bars or window.start == window.stop:
        raise TrainableError(f"chronos2: train rows {tuple(train)} must lie in the window {tuple(window)} of {panel.n_bars} rows")
    exists = np.zeros_like(panel.exists)
    exists[window.start : window.stop] = panel.exists[window.start : window.stop]
    found: list[Task] = []
    notes: list[str] = []
    for group in _groups(panel, train, grouping, clusters):
        shared = int(np.count_nonzero(np.all(exists[train.start : train.stop, group], axis=1)))
        whole = len(group) == 1 or shared >= 8 * patch
        if not whole:
            names = ", ".join(panel.symbols[c] for c in group)
            notes.append(f"{names}: only {shared} common bars to train on, {8 * patch} are needed for a group; taken one by one")
        for columns in [group] if whole else [[c] for c in group]:
            task = make_task(panel, columns, np.flatnonzero(np.all(exists[:, columns], axis=1)), covariates)
            if len(task.rows):
                found.append(task)
            else:
                notes.append(f"{panel.symbols[columns[0]]}: no bar in the window; left out")
    if not found:
        raise TrainableError("chronos2: no symbol has a bar in the window")
    data_hash = panel.rows(window).fingerprint
    return Tasks(panel.times, panel.symbols, tuple(found), window, train, covariates, grouping, data_hash, tuple(notes))


def sample(tasks: Tasks, rng: np.random.Generator, batch_rows: int, context: int, horizon: int, preaug: Preaug | None = None) -> Batch:
    """Draws a training batch: uniform task, uniform end of the context, until there are `batch_rows` rows (whole windows).

    Args:
        tasks: Of which nothing after the train window is touched, and before it only the close its first return is from.
        rng: The only randomness.
        batch_rows: Targets and covariates count; exceeded by less than one window.
        context: Longest context in bars.
        horizon: Bars to predict, inside the train window.
        preaug: Applied to every window by itself.

    Raises:
        TrainableError: No symbol has enough bars in the train window.
    """
    able = [(task, *tasks.cuts(task, horizon)) for task in tasks.tasks]
    able = [(task, low, high) for task, low, high in able if high > low]
    if not able:
        needed = max(LEAST_CONTEXT, horizon) + horizon
        raise TrainableError(f"chronos2: a symbol needs {needed} bars in the train window to train {horizon} steps ahead; none has them")
    picks: list[Pick] = []
    rows = 0
    while rows < batch_rows:
        task, low, high = able[int(rng.integers(len(able)))]
        picks.append(Pick(task, int(rng.integers(low, high))))
        rows += task.n_rows
    return encode(picks, [tasks.trained(pick.task)[0] for pick in picks], context, horizon, preaug)


def encode(
    picks: Sequence[Pick], firsts: Sequence[int], context: int, horizon: int = 0, preaug: Preaug | None = None, width: int = 0
) -> Batch:
    """Makes the model's input from windows.

    Args:
        picks: Windows.
        firsts: Per window, first position a context may reach back to.
        context: Longest context in bars.
        horizon: Bars after the context that become `Batch.future`; with 0 they are not read.
        preaug: Fitted on each context; covariates stay as they are.
        width: Columns of `Batch.context`; 0 is the longest context here.
    """
    lengths = [min(context, pick.end + 1 - first) for pick, first in zip(picks, firsts, strict=True)]
    width = width or max(lengths)
    offsets = np.concatenate([[0], np.cumsum([pick.task.n_rows for pick in picks])])
    past = np.full((int(offsets[-1]), width), np.nan, np.float32)
    future = np.full((len(past), horizon), np.nan, np.float32)
    alike: dict[tuple[int, int], list[int]] = {}
    for i, (pick, length) in enumerate(zip(picks, lengths, strict=True)):
        alike.setdefault((len(pick.task.targets), length), []).append(i)
    states = []
    for (height, length), members in alike.items():
        ends = [picks[i].end + 1 for i in members]
        raw = np.stack([picks[i].task.targets[:, end - length : end + horizon] for i, end in zip(members, ends, strict=True)])
        state = None
        if preaug is not None:
            state = preaug.fit(raw[..., :length])
            raw = preaug.transform(raw, state)
        # The model forecasts NaN where it meets an infinity, and takes NaN for a missing bar.
        values = np.where(np.isfinite(raw), raw, np.nan).astype(np.float32)
        for i, end, value in zip(members, ends, values, strict=True):
            top, middle, bottom = offsets[i], offsets[i] + height, offsets[i + 1]
            past[top:middle, width - length :] = value[:, :length]
            future[top:middle] = value[:, length:]
            past[middle:bottom, width - length :] = picks[i].task.covariates[:, end - length : end]
        states.append((tuple(members), state))
    group_ids = np.repeat(np.arange(len(picks)), np.diff(offsets))
    return Batch(past, future, group_ids, offsets[:-1], tuple(states))


def make_task(panel: Panel, columns: Sequence[int], rows: np.ndarray, covariates: str) -> Task:
    """Makes the task of a group from some of its bars, covariates included; those of the first bar may be missing."""
    targets = np.stack([getattr(panel, name)[rows, c] for c in columns for name in PRICES])
    series = [_covariates(panel, c, rows)[name] for c in columns for name in COVARIATES[covariates]]
    known = np.stack(series) if series else np.empty((0, len(rows)))
    return Task(tuple(columns), rows, targets, np.where(np.isfinite(known), known, 0.0).astype(np.float32))


def _covariates(panel: Panel, column: int, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Covariates of SPEC C.1 from raw prices, float64 (N,) each; a return is from the bar before among the given rows."""
    opened, high, low, close, volume = (getattr(panel, name)[rows, column] for name in (*PRICES, "volume"))
    before = np.concatenate([close[:1], close[:-1]])
    return {
        "volume": volume,
        "log_volume": np.log1p(np.maximum(volume, 0.0)),
        "return_1h": (close - before) / before,
        "range_pct": (high - low) / close,
        "body_pct": (close - opened) / opened,
    }


def _groups(panel: Panel, train: Window, grouping: str, clusters: int) -> list[list[int]]:
    """Panel columns of each group, in the order of their first symbol."""
    return sorted(_clusters(panel, train, clusters)) if grouping == "correlation" else named_groups(panel, grouping)


def named_groups(panel: Panel, grouping: str) -> list[list[int]]:
    """Returns the groups of one of `NAMED`: columns of each, in the order of their first symbol. No bar is looked at."""
    named: list[list[int]] = []
    if grouping == "majors":
        bases = [base_symbol(symbol) for symbol in panel.symbols]
        named = [[c for c, base in enumerate(bases) if base in group] for group in MAJORS]
    elif grouping == "all":
        kinds = [asset.asset_class for asset in panel.assets]
        named = [[c for c, kind in enumerate(kinds) if kind == each] for each in sorted(set(kinds))]
    taken = {c for group in named for c in group}
    return sorted([group for group in named if group] + [[c] for c in range(len(panel.symbols)) if c not in taken])


def base_symbol(symbol: str) -> str:
    """Returns the coin of a pair, for example "BTC" of "BTC/USDT"; a stock's ticker is its own base."""
    name = symbol.upper().replace("/", "").replace("-", "")
    ends = [quote for quote in sorted(QUOTES, key=len, reverse=True) if name.endswith(quote) and len(name) > len(quote)]
    bases = [name[: -len(quote)] for quote in ends]
    return next((base for base in bases if any(base in group for group in MAJORS)), name)


def _clusters(panel: Panel, train: Window, clusters: int) -> list[list[int]]:
    """Average-linkage clusters of bar-to-bar close returns in the train window, within each asset class."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    close = pd.DataFrame(panel.close[train.start : train.stop])
    moves = pd.DataFrame({c: np.log(close[c].dropna()).diff() for c in close})
    found = []
    for kind in sorted({asset.asset_class for asset in panel.assets}):
        columns = [c for c, asset in enumerate(panel.assets) if asset.asset_class == kind]
        if len(columns) == 1:
            found.append(columns)
            continue
        # A pair that cannot be measured, or a price that never moves, counts as unrelated.
        rho = np.nan_to_num(moves[columns].corr(min_periods=LEAST_CONTEXT).to_numpy(), nan=0.0)
        distance = np.sqrt(np.clip(0.5 * (1.0 - rho), 0.0, 1.0))
        np.fill_diagonal(distance, 0.0)
        labels = fcluster(linkage(squareform(distance, checks=False), "average"), clusters, "maxclust")
        found.extend([columns[i] for i in np.flatnonzero(labels == label)] for label in np.unique(labels))
    return found

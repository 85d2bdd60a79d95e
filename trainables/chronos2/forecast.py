"""Rolling-origin forecasts: many issue times of a window, each from the bars up to it, back in raw prices (SPEC C.6, C.7, [C]).

Rows of different issue times never share a group id: in one attention group a forecast would read the bars it has to predict from
its neighbours' contexts (SPEC J3). So results do not depend on how issue times are put into batches: with `forecast` up to the rounding
of float32, which follows the shape of a batch, and with `forecast_alike` not in a single bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from trainables.chronos2.tasks import LEAST_CONTEXT, Pick, Preaug, Task, Tasks, encode
from trainables.contract import TrainableError
from trainables.timeline import Window

LEAST_ORIGINS: Final = 200  # per symbol (SPEC C.6)


@dataclass(frozen=True, eq=False)
class Origins:
    """Issue times.

    Attributes:
        rows: int64 (O, A), panel row of the last bar a forecast may see; -1 where a symbol has fewer than O. Symbols of one task
            have the same.
        strides: float64 (A,), usual distance of a symbol's origins in its bars; below the horizon, targets overlap.
        notes: Which symbols have fewer than asked for, and how many.
    """

    rows: np.ndarray
    strides: np.ndarray
    notes: tuple[str, ...] = ()


def spread_origins(tasks: Tasks, window: Window, horizon: int, count: int = LEAST_ORIGINS) -> Origins:
    """Spreads issue times evenly over a window: contexts may reach back before it, all bars to predict lie in it.

    Args:
        tasks: Whose bars; horizons count a task's own bars.
        window: Panel rows, inside `tasks.window`.
        horizon: Bars to predict; 0 issues at the window's own bars whether or not others follow, as in a forecast cache.
        count: Most per symbol.

    Raises:
        TrainableError: Outside the tasks' window, or no symbol has an issue time.
    """
    if not tasks.window.start <= window[0] <= window[1] <= tasks.window.stop:
        raise TrainableError(f"chronos2: rows {tuple(window)} to forecast lie outside the tasks' window {tuple(tasks.window)}")
    found: dict[int, np.ndarray] = {}
    strides, notes = np.full(len(tasks.symbols), np.nan), []
    for task in tasks.tasks:
        first, stop = np.searchsorted(task.rows, window)
        # The bar after the issue time is the first to predict.
        low = max(int(first) - (1 if horizon else 0), LEAST_CONTEXT - 1)
        possible = max(0, int(stop) - horizon - low)
        ends = low + np.unique(np.round(np.linspace(0, possible - 1, min(count, possible))).astype(np.int64))
        for column in task.columns:
            found[column] = task.rows[ends]
            strides[column] = float(np.median(np.diff(ends))) if len(ends) > 1 else np.nan
            if len(ends) < count and horizon:
                notes.append(f"{tasks.symbols[column]}: {len(ends)} issue times, {count} were asked for; the window has no more")
    longest = max((len(rows) for rows in found.values()), default=0)
    if not longest:
        raise TrainableError(f"chronos2: no symbol has {LEAST_CONTEXT} bars of context and {horizon} to predict in rows {tuple(window)}")
    rows = np.full((longest, len(tasks.symbols)), -1, np.int64)
    for column, own in found.items():
        rows[: len(own), column] = own
    return Origins(rows, strides, tuple(notes))


def forecast(
    model: Any,
    tasks: Tasks,
    origins: Origins,
    horizon: int,
    levels: Sequence[float],
    batch_rows: int = 64,
    *,
    context: int = 0,
    preaug: Preaug | None = None,
) -> np.ndarray:
    """Forecasts open, high, low and close.

    Args:
        model: Chronos2Model or a peft model of one, in float32; comes back in the mode it was in.
        tasks: Bars, covariates and groups, as in training.
        origins: Issue times.
        horizon: Bars ahead, counted in the task's bars.
        levels: Quantile levels, between the model's lowest and highest; those between its levels are interpolated.
        batch_rows: Rows of the model's batches (targets and covariates); changes speed and nothing else.
        context: Longest context in bars; 0 is all the model can take.
        preaug: As in training.

    Returns:
        float64 (O, A, 4, Q, H), ascending along Q, NaN where there is no issue time.

    Raises:
        TrainableError: A level, a horizon or a context the model does not have, an issue time at which a symbol has no bar, or out
            of memory with a single window.
    """
    limits = model.chronos_config
    patches, context = _sizes(limits, horizon, context)
    blend = _Blend.between(np.asarray(limits.quantiles, np.float64), np.asarray(levels, np.float64))
    values = np.full((*origins.rows.shape, 4, len(levels), horizon), np.nan)
    with _evaluating(model):
        for task in tasks.tasks:
            which, ends = _ends(tasks, task, origins)
            # One width for all, so that a window is padded alike in whatever batch it is.
            width = min(context, int(ends.max(initial=0)) + 1)
            each = max(1, batch_rows // task.n_rows)
            start = 0
            while start < len(ends):
                part = slice(start, start + each)
                try:
                    found = _batch(model, task, ends[part], context, width, horizon, patches, blend, preaug)
                except torch.OutOfMemoryError as error:
                    if each == 1:
                        raise TrainableError(f"chronos2: out of memory with one window of {task.n_rows} rows × {width} bars") from error
                    each = max(1, each // 2)
                    continue
                for k, column in enumerate(task.columns):
                    values[which[part], column] = found[:, 4 * k : 4 * k + 4]
                start += each
    return values


def forecast_alike(
    model: Any,
    task: Task,
    ends: np.ndarray,
    horizons: Sequence[int],
    levels: Sequence[float],
    batch_rows: int,
    *,
    context: int = 0,
    preaug: Preaug | None = None,
    done: Callable[[int], None] = lambda _: None,
) -> np.ndarray:
    """Forecasts one task so that an issue time's values have the same bits whichever others are asked for with it.

    Kernels round differently for another shape of batch, and sums over a batch (attention of a group) for another place in it. So
    every batch has one shape (contexts padded to `context`, the last batch filled up with its last window), and a window takes up a
    power of two of rows, of which those it does not need are empty and a group of their own: wherever it is, its numbers then meet in
    the same order. Holds for one device and, on a CPU, one thread, which is seen to here.

    Args:
        model: As in `forecast`.
        task: Bars and covariates.
        ends: int (n,), positions in the task's bars of the last bar each forecast may see.
        horizons: Bars ahead that are wanted; one pass gives all.
        levels: As in `forecast`.
        batch_rows: Rows of the model's batches, at most; another number is another rounding.
        context: As in `forecast`.
        preaug: As in training.
        done: Called with the issue times finished so far.

    Returns:
        float64 (n, 4k, Q, H), for the k symbols' open, high, low, close; ascending along Q.

    Raises:
        TrainableError: As in `forecast`; out of memory with a batch of that size.
    """
    limits, furthest = model.chronos_config, max(horizons)
    patches, context = _sizes(limits, furthest, context)
    blend = _Blend.between(np.asarray(limits.quantiles, np.float64), np.asarray(levels, np.float64))
    height = 1 << (task.n_rows - 1).bit_length()
    each = 1 << (max(1, batch_rows // height).bit_length() - 1)
    steps = [h - 1 for h in horizons]
    values = np.empty((len(ends), len(task.targets), len(levels), len(steps)))
    with _evaluating(model), _one_thread(model):
        for start in range(0, len(ends), each):
            part = ends[start : start + each]
            filled = np.concatenate([part, np.repeat(part[-1:], each - len(part))])
            try:
                found = _batch(model, task, filled, context, context, furthest, patches, blend, preaug, height)
            except torch.OutOfMemoryError as error:
                raise TrainableError(
                    f"chronos2: out of memory with batches of {each * height} rows × {context} bars; give a smaller batch_rows"
                ) from error
            values[start : start + each] = found[: len(part)][..., steps]
            done(start + len(part))
    return values


def actuals(tasks: Tasks, origins: Origins, horizon: int) -> np.ndarray:
    """What was to be forecast: raw open, high, low, close, float64 (O, A, 4, H); NaN where no bar has followed yet."""
    return _bars(tasks, origins, np.arange(1, horizon + 1))


def history(tasks: Tasks, origins: Origins, length: int) -> np.ndarray:
    """Last raw bars up to the issue time, float64 (O, A, 4, length), NaN before a task's first bar."""
    return _bars(tasks, origins, np.arange(1 - length, 1))


def _bars(tasks: Tasks, origins: Origins, steps: np.ndarray) -> np.ndarray:
    values = np.full((*origins.rows.shape, 4, len(steps)), np.nan)
    for task in tasks.tasks:
        which, ends = _ends(tasks, task, origins)
        at = ends[:, None] + steps
        there = (at >= 0) & (at < len(task.rows))
        bars = np.where(there, task.targets[:, np.clip(at, 0, len(task.rows) - 1)], np.nan)
        for k, column in enumerate(task.columns):
            values[which, column] = bars[4 * k : 4 * k + 4].transpose(1, 0, 2)
    return values


def _ends(tasks: Tasks, task: Task, origins: Origins) -> tuple[np.ndarray, np.ndarray]:
    """Which origins a task has, and the positions of its bars at them."""
    rows = origins.rows[:, task.columns[0]]
    which = np.flatnonzero(rows >= 0)
    ends = np.searchsorted(task.rows, rows[which])
    if (origins.rows[:, list(task.columns)] != rows[:, None]).any() or (task.rows.take(ends, mode="clip") != rows[which]).any():
        names = ", ".join(tasks.symbols[c] for c in task.columns)
        raise TrainableError(f"chronos2: an issue time of {names} is no bar of this group; make the origins from the same tasks")
    return which, ends


def _sizes(limits: Any, horizon: int, context: int) -> tuple[int, int]:
    """Output patches for a horizon, and the longest context in bars, as far as the model has them."""
    patches = math.ceil(horizon / limits.output_patch_size)
    if not 1 <= patches <= limits.max_output_patches:
        raise TrainableError(
            f"horizon: {horizon} is not allowed; this model forecasts 1 to {limits.max_output_patches * limits.output_patch_size}"
        )
    if not 0 <= context <= limits.context_length:
        raise TrainableError(f"context: {context} is more than the {limits.context_length} bars of this model")
    return patches, context or int(limits.context_length)


def _batch(
    model: Any,
    task: Task,
    ends: np.ndarray,
    context: int,
    width: int,
    horizon: int,
    patches: int,
    blend: _Blend,
    preaug: Preaug | None,
    height: int = 0,
) -> np.ndarray:
    """Raw-space quantiles of one batch, float64 (n, 4k, Q, H); a window takes up `height` rows if that is more than it has."""
    batch = encode([Pick(task, int(end)) for end in ends], [0] * len(ends), context, 0, preaug, width)
    rows, group_ids = batch.context, batch.group_ids
    if height > task.n_rows:
        rows = np.full((len(ends), height, width), np.nan, np.float32)
        rows[:, : task.n_rows] = batch.context.reshape(len(ends), task.n_rows, width)
        rows = rows.reshape(-1, width)
        group_ids = (2 * np.arange(len(ends))[:, None] + (np.arange(height) >= task.n_rows)).reshape(-1)
    device = next(model.parameters()).device
    out = model(
        context=torch.from_numpy(rows).to(device),
        group_ids=torch.from_numpy(group_ids).to(device),
        num_output_patches=patches,
    )
    predicted = out.quantile_preds[..., :horizon].float().cpu().numpy().astype(np.float64)
    predicted = predicted.reshape(len(ends), -1, *predicted.shape[1:])[:, : len(task.targets)]
    # Quantiles of the model can cross; those needed are taken once they are in order.
    kept = np.sort(predicted, axis=-2)[..., blend.needed, :]
    raw = np.empty_like(kept)
    for members, state in batch.states:
        chosen = list(members)
        raw[chosen] = kept[chosen] if preaug is None else preaug.inverse(kept[chosen], state, median=blend.median)
    return blend.apply(raw)


@dataclass(frozen=True, eq=False)
class _Blend:
    """How asked levels follow from the model's: `needed` of its quantiles, then a weighted mean of two of them each."""

    needed: np.ndarray
    median: int
    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray

    @classmethod
    def between(cls, known: np.ndarray, asked: np.ndarray) -> _Blend:
        wrong = (asked < known[0] - 1e-9) | (asked > known[-1] + 1e-9) | ~np.isfinite(asked)
        if wrong.any() or not len(asked):
            first = f"{asked[wrong][0]:g}" if wrong.any() else "none"
            raise TrainableError(
                f"quantile level {first}: give levels from {known[0]:g} to {known[-1]:g}, between which this model forecasts"
            )
        high = np.searchsorted(known, asked - 1e-9).clip(max=len(known) - 1)
        low = np.where(np.abs(known[high] - asked) < 1e-6, high, high - 1)
        gap = np.where(high > low, known[high] - known[low], 1.0)
        weight = np.where(high > low, (asked - known[low]) / gap, 0.0)
        middle = int(np.abs(known - 0.5).argmin())  # a pre-augmentation that adds steps up needs the median path
        needed = np.unique(np.concatenate([low, high, [middle]]))
        at = np.searchsorted(needed, np.concatenate([[middle], low, high]))
        return cls(needed, int(at[0]), at[1 : 1 + len(asked)], at[1 + len(asked) :], weight)

    def apply(self, quantiles: np.ndarray) -> np.ndarray:
        """Takes (…, needed, H) to (…, Q, H)."""
        low, high = quantiles[..., self.low, :], quantiles[..., self.high, :]
        return low + (high - low) * self.weight[:, None]


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Without gradients and dropout, so without random numbers; every module gets its mode back."""
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _one_thread(model: torch.nn.Module) -> Iterator[None]:
    """On a CPU one thread: how work is divided among several changes how sums are rounded."""
    if next(model.parameters()).device.type != "cpu":
        yield
        return
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)

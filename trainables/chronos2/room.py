"""Whether a market has bars enough for a horizon: said in the driver before anything is trained, so without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from trainables.chronos2.tasks import LEAST_CONTEXT, make_tasks
from trainables.contract import TrainableError
from trainables.market import Panel
from trainables.timeline import Fold, Window

if TYPE_CHECKING:
    from trainables.chronos2.trainable import TuneInputs

Room = tuple[tuple[int, int], ...]
# Of inputs as long as they live: by grouping and clusters, for each fold the most bars to train on and to be forecast.
_ROOM: WeakKeyDictionary[TuneInputs, dict[tuple[str, int], Room]] = WeakKeyDictionary()


def bars_needed(horizon: int) -> int:
    """Returns the bars a symbol needs in a train window to be trained for a horizon: as many to see as to predict, at least a patch."""
    return max(LEAST_CONTEXT, horizon) + horizon


def longest_horizon(bars: int) -> int:
    """Returns the longest horizon so many bars of a train window are enough for, 0 for none: `bars_needed` the other way round."""
    return bars // 2 if bars >= 2 * LEAST_CONTEXT else max(0, bars - LEAST_CONTEXT)


def check_windows(panel: Panel, folds: Sequence[Fold], scored: int) -> None:
    """Refuses folds in which no symbol has bars enough for the farthest horizon that is scored, whatever is swept.

    Raises:
        TrainableError: Names the window, what is needed and what there is.
    """
    for k, fold in enumerate(folds, 1):
        for name, window, needed in (("train", fold.train, bars_needed(scored)), ("tune", fold.tune, scored)):
            most = most_bars(panel, window)
            if most < needed:
                raise TrainableError(
                    f"protocol.{name}: a symbol needs {needed} bars in {_window(name, k, folds)} for a horizon of {scored}; the most a "
                    f"symbol has there is {most}. Give more data, a longer {name} window, or nearer horizons in settings.score."
                )


def most_bars(panel: Panel, window: Window) -> int:
    """Returns the most bars a symbol has in a window."""
    return int(np.max(np.count_nonzero(panel.exists[window.start : window.stop], axis=0), initial=0))


def check_reach(horizon: int, scored: int) -> None:
    """Refuses a horizon nearer than what is scored.

    Raises:
        TrainableError: Says how far it has to reach.
    """
    if horizon < scored:
        raise TrainableError(
            f"space.horizon: {horizon} does not reach the {scored} bars that are scored, and trials scored on different horizons cannot be "
            f"ranked; give at least {scored}, or set settings.score, for example [{horizon}]"
        )


def check_room(config: Mapping[str, Any], inputs: TuneInputs) -> None:
    """Refuses a complete configuration whose horizon is nearer than what is scored, or too far for the bars there are.

    Symbols, or groups of them, one by one are the trial's business: one that has bars enough is enough.

    Raises:
        TrainableError: Names the window, what is needed and what there is, and what to give instead.
    """
    horizon, scored = int(config["horizon"]), max(inputs.score)
    check_reach(horizon, scored)
    grouping = str(config["grouping"])
    whose = "a symbol" if grouping == "none" else f"a symbol, or a group of grouping {grouping} as a whole,"
    room = _room(inputs, grouping, int(config["clusters"]))
    for k, (trained, ahead) in enumerate(room, 1):
        train, tune = (_window(name, k, inputs.folds) for name in ("train", "tune"))
        if trained < bars_needed(horizon):
            most = min(longest_horizon(fold) for fold, _ in room)
            remedy = f"a horizon of at most {most}" if most >= scored else "other groups, nearer horizons"
            raise TrainableError(
                f"space.horizon: {whose} needs {bars_needed(horizon)} bars in {train} to be trained {horizon} bars "
                f"ahead; the most there is {trained}. Give {remedy}, more data, or a longer protocol.train."
            )
        if ahead < scored:
            raise TrainableError(
                f"protocol.tune: {whose} needs {scored} bars in {tune} to be scored {scored} bars ahead; the most "
                f"there is {ahead}. Give other groups, more data, a longer tune window, or nearer horizons in settings.score."
            )


def _room(inputs: TuneInputs, grouping: str, clusters: int) -> Room:
    known = _ROOM.setdefault(inputs, {})
    key = grouping, clusters if grouping == "correlation" else 0
    if key not in known:
        known[key] = tuple(_most(inputs.panel, fold, grouping, clusters) for fold in inputs.folds)
    return known[key]


def _most(panel: Panel, fold: Fold, grouping: str, clusters: int) -> tuple[int, int]:
    """Returns the most bars a task has in the train window, and the farthest a task can be scored ahead in the tune window."""
    tasks = make_tasks(panel, Window(fold.train.start, fold.tune.stop), fold.train, "none", grouping, clusters)
    most = ahead = 0
    for task in tasks.tasks:
        first, stop = tasks.trained(task)
        most = max(most, stop - first)
        begin, end = np.searchsorted(task.rows, fold.tune)
        ahead = max(ahead, int(end) - max(int(begin), LEAST_CONTEXT))  # as `forecast.spread_origins` places them
    return most, ahead


def _window(name: str, k: int, folds: Sequence[Fold]) -> str:
    return f"the {name} window of fold {k}" if len(folds) > 1 else f"the {name} window"

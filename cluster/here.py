"""Packs in the driver's own process: for searches that are over before a worker has started, such as the windows of a walk-forward.

A worker takes seconds to start, whether Ray is running or not. What is evaluated here shares the driver's fate, so a configuration that
kills its process kills the driver; who calls this does so once, and leaves what is left to workers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from cluster.packs import Evaluate, PackFeed, PackResult, isolate, timed


def run_here(feed: PackFeed, evaluate: Evaluate, inputs: Any, width: int, seconds: float) -> bool:
    """Runs packs one after another until the feed is exhausted or the time is up, which is looked at between packs.

    Args:
        feed: Source of packs and sink of results.
        evaluate: Called as evaluate(points, inputs).
        inputs: Of every evaluation.
        width: Number of metrics, as in `run_packs`.
        seconds: How long at most, but for the pack that is under way.

    Returns:
        Whether the feed is exhausted.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end and (task := feed.next()) is not None:
        (metrics, errors), took = timed(partial(isolate, partial(_evaluated, evaluate, inputs), task.points, width))
        feed.deliver(PackResult(task.attempt, metrics, errors, took))
    return feed.exhausted


def _evaluated(evaluate: Evaluate, inputs: Any, points: Sequence[Any]) -> np.ndarray:
    return evaluate(points, inputs)

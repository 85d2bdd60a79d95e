"""A study played on learning curves that are already known: what a scheduler would have spent, and what it would have missed."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_spaces.stopping import Decision, Scheduler


@dataclass(frozen=True)
class Rehearsal:
    """What came of it.

    Attributes:
        reached: Last step of each trial, int64 (n,).
        stops: Decisions that ended a trial early, by trial.
        winner: The best of those that reached the last step; of all at their last report if none did. -1 without any value.
        spent: Steps in all.
        full: Steps without stopping.
        regret: Best last value of all trials minus the winner's, in the metric's own unit, never negative.
    """

    reached: NDArray[np.int64]
    stops: dict[int, Decision]
    winner: int
    spent: int
    full: int
    regret: float


def rehearse(
    scheduler: Scheduler,
    curves: NDArray[np.float64],
    steps: Sequence[int],
    *,
    slots: int = 4,
    seconds: NDArray[np.float64] | None = None,
    direction: str = "max",
) -> Rehearsal:
    """Runs trials in the order of their number on `slots` workers and stops those the scheduler stops.

    Args:
        scheduler: Fresh; it gets reports in the order of simulated time.
        curves: Values, float64 (n, len(steps)); NaN is a trial that diverged.
        steps: Ascending steps of the reports.
        slots: Workers.
        seconds: Time of one step of each trial, float64 (n,); default 1.
        direction: "max" or "min".
    """
    n = len(curves)
    pace = np.ones(n) if seconds is None else seconds
    reached = np.zeros(n, np.int64)
    stops: dict[int, Decision] = {}
    # (time, trial, index of the report that is due then); trial numbers break ties, so that a rehearsal repeats exactly.
    due: list[tuple[float, int, int]] = [(float(steps[0] * pace[i]), i, 0) for i in range(min(slots, n))]
    heapq.heapify(due)
    following = len(due)
    while due:
        now, trial, k = heapq.heappop(due)
        reached[trial] = steps[k]
        decision = scheduler.report(trial, int(steps[k]), float(curves[trial, k]))
        if decision.ends(int(steps[k]), int(steps[-1])):
            stops[trial] = decision
        elif k + 1 < len(steps):
            heapq.heappush(due, (now + float((steps[k + 1] - steps[k]) * pace[trial]), trial, k + 1))
            continue
        if following < n:
            heapq.heappush(due, (now + float(steps[0] * pace[following]), following, 0))
            following += 1
    sign = 1.0 if direction == "max" else -1.0
    last = sign * curves[:, -1]
    at_stop = sign * curves[np.arange(n), np.searchsorted(steps, reached)]
    finished = (reached == steps[-1]) & np.isfinite(last)
    candidates = np.where(finished, last, -np.inf) if finished.any() else np.where(np.isfinite(at_stop), at_stop, -np.inf)
    winner = int(np.argmax(candidates)) if np.isfinite(candidates).any() else -1
    best = float(np.nanmax(last)) if np.isfinite(last).any() else math.nan
    own = float(last[winner]) if winner >= 0 and np.isfinite(last[winner]) else -math.inf
    return Rehearsal(reached, stops, winner, int(reached.sum()), int(steps[-1]) * n, max(0.0, best - own) if winner >= 0 else math.nan)

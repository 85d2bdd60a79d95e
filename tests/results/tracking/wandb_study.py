"""A small study for tests of the W&B tracker: what it is, its points, rows and trials, all following from their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from results import Header, Metric
from results.tracking.projection import done_at
from results.tracking.tracker import About, Board, Place, Point, Rows, TrialRun
from results.tracking.wandb_run import WandbTracker

RUN = "0123456789abcdef"
METRICS = (Metric("sharpe", "max", "ratio", "annualised"), Metric("loss", "min"))


def about(home: Path, name: str = "grid", **spec: Any) -> About:
    context = {"trainable": "toy", "version": "1", "data_fingerprint": "abc", "protocol": {"profile": "realistic"}, "seed": 7}
    header = Header(name, {"space": {"x": [1, 2]}, **spec}, context, METRICS, "sharpe", "2026-01-01T00:00:00")
    return About(header, RUN, 1000, False, ("x", "mode"), home)


def point(index: int) -> Point:
    done = done_at(index)
    return Point(index, done, {"best/sharpe": 1.0 + done / 7, "trials/completed": float(done)})


def points(count: int) -> list[Point]:
    return [point(index) for index in range(count)]


def frame(start: int, stop: int) -> pd.DataFrame:
    numbers = range(start, stop)
    values = {"x": list(numbers), "mode": ["high" if n % 3 else None for n in numbers], "mixed": [n if n % 2 else str(n) for n in numbers]}
    metrics = {"sharpe": [n / 7 for n in numbers], "loss": [float("nan") if n % 5 == 0 else 1.0 / n for n in numbers]}
    return pd.DataFrame({"trial": list(numbers), "status": "completed", "seconds": 0.25, **values, **metrics})


def rows(count: int, size: int = 20, start: int = 0) -> list[Rows]:
    return [Rows(at, frame(at, min(at + size, count))) for at in range(start, count, size)]


def board(done: int) -> Board:
    return Board(done, pd.DataFrame({"rank": [1, 2], "trial": [done, done - 1], "sharpe": [done / 7, (done - 1) / 7]}))


def trial(number: int, reports: int = 0, status: str = "completed") -> TrialRun:
    said = [((n + 1) * 100, {"loss": 1.0 / (n + 1), "sharpe": number + n / 3}) for n in range(reports)]
    return TrialRun(number, f"{number:032x}", {"x": number, "mode": "high"}, status, {"sharpe": number / 7}, 0.5, said, None)


def write(tracker: WandbTracker, count: int, trials: int = 0, stop: bool = False, reports: int = 0) -> Place:
    """Opens a tracker and gives it what it does not hold of the first results, as the writer beside a run does."""
    place = tracker.open()
    for one in points(count)[place.points :]:
        tracker.point(one)
    for batch in rows(count, start=place.rows):
        tracker.rows(batch)
    for number in range(trials):
        if number not in place.trials:
            tracker.trial(trial(number, reports))
    tracker.board(board(count))
    if not stop:
        tracker.close("finished", {"winner": 3, "best": 1.5, "verdict": "weak"})
    return place

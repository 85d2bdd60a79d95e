"""Trials that report on a real local Ray."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.packs import WorkerError
from cluster.steps import TrialReport, TrialTask, run_trials

LAST = 6


def work(point: int, folder: Path, reached: int, device: str, inputs: Any) -> Iterator[Any]:
    """Counts to six, with a checkpoint before each report."""
    place = folder / "step.json"
    done = json.loads(place.read_text()) if place.exists() else 0
    assert reached == done
    for step in range(done + 1, LAST + 1):
        if point == inputs["raise_at"] and step == 3:
            raise ZeroDivisionError("at three")
        if point == inputs["die_at"] and step == 3 and not (folder / "died").exists():
            (folder / "died").touch()
            os._exit(1)
        place.write_text(json.dumps(step))
        yield SimpleNamespace(step=step, metrics={"value": point * step}, note=device)


@dataclass
class Feed:
    folder: Path
    todo: deque[int]
    worst: int = -1
    reports: list[tuple[int, int, float]] = field(default_factory=list)
    ended: dict[int, str] = field(default_factory=dict)
    running: dict[int, int] = field(default_factory=dict)
    attempts: int = 0

    def next(self) -> TrialTask | None:
        if not self.todo:
            return None
        self.attempts += 1
        point = self.running[self.attempts] = self.todo.popleft()
        home = self.folder / str(point)
        home.mkdir(exist_ok=True)
        return TrialTask(self.attempts, point, str(home), max([s for p, s, _ in self.reports if p == point], default=0))

    @property
    def exhausted(self) -> bool:
        return not self.todo and not self.running

    def report(self, report: TrialReport) -> bool:
        point = self.running[report.attempt]
        assert report.seconds >= 0 and report.note == "cpu"
        self.reports.append((point, report.step, report.metrics["value"]))
        if point == self.worst and report.step == 2:
            self.ended[self.running.pop(report.attempt)] = "stopped"
            return True
        return False

    def finished(self, attempt: int) -> None:
        self.ended[self.running.pop(attempt)] = "finished"

    def failed(self, attempt: int, error: str) -> None:
        self.ended[self.running.pop(attempt)] = error

    def crashed(self, attempt: int, error: str) -> None:
        assert "died" in error
        self.todo.append(self.running.pop(attempt))


@pytest.mark.ray
def test_trials_report_are_stopped_fail_and_come_back_after_their_worker_died(ray_cpus: int, tmp_path: Path) -> None:
    feed = Feed(tmp_path, deque(range(5)), worst=1)
    run_trials(feed, work, {"raise_at": 2, "die_at": 3}, slots=2, resources={"cpu": 1}, scratch=tmp_path / "tune", name="steps")
    assert feed.ended == {0: "finished", 1: "stopped", 2: "ZeroDivisionError: at three", 3: "finished", 4: "finished"}
    by_point = {p: [(s, v) for q, s, v in feed.reports if q == p] for p in range(5)}
    whole = [1, 2, 3, 4, 5, 6]
    assert [s for s, _ in by_point[0]] == whole and by_point[4] == [(s, 4 * s) for s in whole]
    assert [s for s, _ in by_point[1]] == [1, 2]  # not a step after it was stopped
    assert [s for s, _ in by_point[2]] == [1, 2]
    assert [s for s, _ in by_point[3]] == whole  # went on from its checkpoint, nothing twice
    assert feed.attempts == 6


@pytest.mark.ray
def test_an_error_of_the_study_ends_the_run_and_is_raised(ray_cpus: int, tmp_path: Path) -> None:
    class Full(Feed):
        def report(self, report: TrialReport) -> bool:
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        run_trials(
            Full(tmp_path, deque(range(50))),
            work,
            {"raise_at": -1, "die_at": -1},
            slots=2,
            resources={"cpu": 1},
            scratch=tmp_path / "tune",
            name="full",
        )


class OnlyHere:
    def __reduce__(self) -> Any:
        return (_refuse, ())


def _refuse() -> None:
    raise RuntimeError("only here")


@pytest.mark.ray
def test_workers_that_cannot_start_are_said_once(ray_cpus: int, tmp_path: Path) -> None:
    class Lenient(Feed):
        def crashed(self, attempt: int, error: str) -> None:
            self.running.pop(attempt)

    with pytest.raises(WorkerError, match="workers cannot start"):
        feed = Lenient(tmp_path, deque(range(3)))
        run_trials(feed, work, OnlyHere(), slots=1, resources={"cpu": 1}, scratch=tmp_path / "tune", name="cannot")

"""What a tracker is: something that is told what a ledger holds, in an order that follows from the ledger alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import pandas as pd

from results.records import Header

# How a study stands, as trackers show it.
RUNNING: Final = "running"
FINISHED: Final = "finished"
STOPPED: Final = "stopped"
FAILED: Final = "failed"


class TrackerError(ValueError):
    """A tracker could not be written to; the message says why. The study goes on, `alphasweep track sync` writes it later."""


@dataclass(frozen=True)
class About:
    """A study, as a tracker is told of it.

    Attributes:
        header: The ledger's: name, spec, context, metrics, objective.
        run_id: 16 hexadecimal digits that follow from name, creation and context: the same whenever and however often it is written.
        total: Trials asked for; None where open-ended.
        stepping: Whether trials report as they go.
        parameters: Names of the parameters, in the order of the space.
        home: The study's folder; a tracker keeps what it needs under `home / "tracking"`, nowhere else.
    """

    header: Header
    run_id: str
    total: int | None
    stepping: bool
    parameters: tuple[str, ...]
    home: Path


@dataclass(frozen=True)
class Place:
    """How much of a study a tracker holds already.

    Attributes:
        points: History points: those with a smaller `index` are there.
        rows: Rows of the table of all trials.
        trials: Numbers of trials that have a run of their own, whole.
    """

    points: int = 0
    rows: int = 0
    trials: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Point:
    """A point of the study's curves.

    Attributes:
        index: Its place among all points, from 0. Which trials are in it follows from the index alone.
        done: Results accepted, the x-axis: completed, stopped and failed; a failure that was tried again is one, its new result another.
        values: Curve to value; n/a is left out. The names are in `results.tracking.projection`.
    """

    index: int
    done: int
    values: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Rows:
    """Trials in the order in which their results were accepted, to be added to the table of all trials.

    Attributes:
        start: Rows before these.
        frame: Columns trial, status, seconds, parameters, metrics; at least one row, at most 10,000. A trial that failed and was tried
            again has two rows.
    """

    start: int
    frame: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Board:
    """The leaderboard at a moment, best first (`results.leaderboard`)."""

    done: int
    frame: pd.DataFrame


@dataclass(frozen=True)
class TrialRun:
    """One trial, for trackers that give each a run of its own.

    Attributes:
        trial: Its number.
        config_id: Its identity, hexadecimal.
        config: Its parameters, defaults included.
        status: completed, stopped or failed.
        metrics: Of its result; n/a is left out.
        seconds: It took; None if not known.
        reports: Step and metrics of each report, in order; empty for trials that do not report.
        rank: On the leaderboard, from 1; None if not among the first.
    """

    trial: int
    config_id: str
    config: Mapping[str, Any]
    status: str
    metrics: Mapping[str, float]
    seconds: float | None = None
    reports: Sequence[tuple[int, Mapping[str, float]]] = field(default_factory=tuple)
    rank: int | None = None


class Tracker(Protocol):
    """Takes what a ledger holds; made as `Tracker(about, settings)` with the mapping from the study file.

    Every call may raise TrackerError; whoever calls tries later, with a new one from `open` on, and the study never waits. One that is
    told nothing after `open` is not closed.
    """

    name: str

    def open(self) -> Place:
        """Begins, or goes on where an earlier process ended; returns what is there, asked of the tracker itself, not remembered."""
        ...

    def point(self, point: Point) -> None:
        """Takes the next point of the curves."""
        ...

    def rows(self, rows: Rows) -> None:
        """Takes the next rows of the table of all trials."""
        ...

    def board(self, board: Board) -> None:
        """Takes the leaderboard as it is now."""
        ...

    def trial(self, run: TrialRun) -> None:
        """Takes a trial that has ended."""
        ...

    def close(self, state: str, summary: Mapping[str, Any], files: Sequence[Path] = ()) -> None:
        """Ends: how the study stands, its summary (best, winner, verdict, counts), and files to keep with it (the results as Parquet)."""
        ...


@runtime_checkable
class Verifies(Protocol):
    """A tracker that can be asked whether it really holds what it was given."""

    def check(self, points: int, rows: int, trials: Collection[int]) -> list[str]:
        """Compares what the tracker holds, asked of itself, with what it should hold; called after `close`, or after `open` alone.

        Args:
            points: Of the curves.
            rows: Of the table of all trials.
            trials: Numbers of those with a run of their own; it may hold more.

        Returns:
            What is missing or too much, in words; empty if nothing is.
        """
        ...

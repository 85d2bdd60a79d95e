"""Telling one tracker what one study's ledger holds, until the study is at rest and all is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from results import Ledger
from results.leaderboard import leaderboard
from results.lock import is_written
from results.tracking.projection import Projection
from results.tracking.select import BOARD, chosen, runs
from results.tracking.tail import Stretch, Tail
from results.tracking.tracker import RUNNING, About, Board, Point, Tracker, TrackerError, Verifies
from sweeps.home import LEDGER
from sweeps.tracking import closing
from sweeps.tracking.registry import make, read_about
from sweeps.tracking.state import WRITING, WRITTEN, State

INTERVAL: Final = 2.0  # seconds between looks at the ledger, at least
BOARD_EVERY: Final = 30.0  # seconds between leaderboards, at least
BOARD_SHARE: Final = 20.0  # and a twentieth of the time since the first: a long study has no more of them than a short one


class GoneError(TrackerError):
    """The study was set aside, or its folder removed: there is nothing to write any more."""

    def __init__(self, home: Path):
        super().__init__(f"{home}: the study was set aside or removed")


@dataclass
class Follower:
    """Follows one study for one tracker.

    Attributes:
        home: The study's folder.
        name: The tracker's.
        options: Its options.
        resting: Returns whether nobody works on the study now.
        wait: Waits for so many seconds, or until something has changed.
        afford: Waits until more of the processor may be used; called between any two things that take some.
        tell: Is told how far the tracker is.
        run_id: Of the study, where another one may have taken its place.
        polls, wrote: Looks at the ledger, and calls that told the tracker something.
        problems: From the tracker's own check.
        tracker: The tracker, once it was made.
    """

    home: Path
    name: str
    options: Mapping[str, Any]
    resting: Callable[[], bool]
    wait: Callable[[float], object]
    afford: Callable[[], object] = lambda: None
    tell: Callable[[State], object] = lambda state: None
    run_id: str = ""
    polls: int = 0
    wrote: int = 0
    problems: list[str] = field(default_factory=list)
    tracker: Tracker | None = None
    _boards: tuple[float, float, int] = (0.0, 0.0, -1)  # when the first and the latest leaderboard was told, and of how many results

    def run(self) -> State:
        """Writes what is missing, follows while the study runs, and closes when it is at rest.

        Returns:
            How far the tracker is.

        Raises:
            GoneError: The study is not there any more.
            Exception: Whatever the tracker raised; call again later.
        """
        if not (self.home / LEDGER).exists():
            raise GoneError(self.home)
        about, count = read_about(self.home)
        if self.run_id not in ("", about.run_id):
            raise GoneError(self.home)
        tracker = self.tracker = make(self.name, about, self.options)
        before = State.read(self.home, self.name)
        place = tracker.open()
        self._own = chosen(self.options.get("trials", "auto"), about.total, about.stepping)
        self._held = set(place.trials)
        if before is not None and before.state == WRITTEN and self.resting():
            if self._whole(tracker, about, count, before):
                self.tell(before)
                return before
            place = tracker.open()  # which a check may have ended
            self._held = set(place.trials)
        tail = Tail(self.home / LEDGER)
        done = Projection(about.header, about.parameters, count, place)
        state = State(self.name, run_id=about.run_id)
        while True:
            resting = self.resting()
            self._look(tail, done, tracker, resting)
            state = replace(state, done=done.done, points=done.points, rows=done.rows, trials=len(self._held))
            self.tell(state)
            if resting and self.resting():
                break
            if not resting:
                self._show(tracker, done)
                self.wait(INTERVAL)
            self.afford()
        if tail.late:
            self.problems.append(f"a clock was set back: {tail.late:,} results were told after later ones; told anew, the order differs")
        return self._finish(tracker, done, state, before)

    def _whole(self, tracker: Tracker, about: About, count: int | None, before: State) -> bool:
        """Returns whether everything is written, by the tracker's own word: some write anew whatever is asked of them after `open`."""
        done, ended = Projection(about.header, about.parameters, count), set[int]()
        for new in Tail(self.home / LEDGER, configs=False).poll(settled=True):
            done.count(new)
            ended.update(trial for trial, status in zip(new.trial.tolist(), new.status, strict=True) if status != "failed")
        with Ledger.open(self.home / LEDGER, readonly=True) as ledger:
            held = self._held | (ended if self._own.each else set(self._best(ledger)))
            state = self._stands(State(self.name, run_id=about.run_id), ledger, done)
        if not replace(state, trials=len(held)).same(before) or not isinstance(tracker, Verifies):
            return False
        return not tracker.check(done.points, done.rows, frozenset(held))

    def _look(self, tail: Tail, done: Projection, tracker: Tracker, resting: bool) -> None:
        """Reads what is new and tells it."""
        for new in tail.poll(settled=resting and not is_written(self.home / LEDGER)):
            for item in done.feed(new):
                tracker.point(item) if isinstance(item, Point) else tracker.rows(item)
                self.wrote += 1
                self.afford()
            self._trials(tracker, new)
        if tail.gone:
            raise GoneError(self.home)
        self.polls += 1

    def _trials(self, tracker: Tracker, new: Stretch) -> None:
        """Tells of trials that have ended, where each has a run."""
        if self._own.each:
            ended = zip(new.trial.tolist(), new.status, strict=True)
            self._runs(tracker, [trial for trial, status in ended if status != "failed" and trial not in self._held])

    def _runs(self, tracker: Tracker, numbers: list[int], ranked: Mapping[int, int] | None = None) -> None:
        if not numbers:
            return
        with Ledger.open(self.home / LEDGER, readonly=True) as ledger:
            for run in runs(ledger, numbers):
                tracker.trial(replace(run, rank=(ranked or {}).get(run.trial)))
                self._held.add(run.trial)
                self.wrote += 1
                self.afford()

    def _show(self, tracker: Tracker, done: Projection) -> None:
        """Tells the leaderboard if it may have changed, and some time has passed."""
        first, latest, had = self._boards
        now = time.monotonic()
        if done.completed == had or not done.completed or (had >= 0 and now - latest < max(BOARD_EVERY, (now - first) / BOARD_SHARE)):
            return
        self._board(tracker, done)
        self._boards = (first if had >= 0 else now, now, done.completed)

    def _board(self, tracker: Tracker, done: Projection) -> None:
        with Ledger.open(self.home / LEDGER, readonly=True) as ledger:
            board = leaderboard(ledger, top=BOARD)
        tracker.board(Board(done.done, board))
        self.wrote += 1

    def _finish(self, tracker: Tracker, done: Projection, state: State, before: State | None) -> State:
        """Closes what was written; where nothing was missing nothing is written."""
        for rows in done.rest():
            tracker.rows(rows)
            self.wrote += 1
        with Ledger.open(self.home / LEDGER, readonly=True) as ledger:
            ranked = {trial: rank for rank, trial in enumerate(self._best(ledger), 1)}
            self._runs(tracker, [trial for trial in ranked if trial not in self._held], ranked)
            state = replace(self._stands(state, ledger, done), trials=len(self._held))
            if self.wrote or not state.same(before):
                if done.completed:
                    self._board(tracker, done)
                files = closing.results_file(self.home, ledger)
                tracker.close(state.outcome, closing.summary(self.home, ledger, done, state.outcome), files)
                self.wrote += 1
        if isinstance(tracker, Verifies):
            self.problems += tracker.check(done.points, done.rows, frozenset(self._held))
        self.tell(state)
        return state

    def _best(self, ledger: Ledger) -> list[int]:
        """Returns the trials that have a run for being among the best."""
        return ledger.top(ledger.header.objective, n=self._own.best)["trial"].tolist() if self._own.best else []

    def _stands(self, state: State, ledger: Ledger, done: Projection) -> State:
        """Returns the state of a tracker that has been told everything."""
        sessions, outcome = ledger.sessions(), closing.outcome(ledger, is_written(self.home / LEDGER))
        told = replace(state, state=WRITING if outcome == RUNNING else WRITTEN, outcome=outcome, done=done.done)
        return replace(told, points=done.points, rows=done.rows, session=sessions[-1]["session_id"] if sessions else 0)

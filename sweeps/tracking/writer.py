"""The process that writes to a study's trackers while it runs: `python -m sweeps.tracking.writer HOME`.

A thread per tracker follows the ledger; one that raises begins anew after a pause, one that hangs keeps nobody waiting. While a session
is at work all of them together use a small share of the processors (`sweeps.tracking.budget`), so what they have written may be behind.
The process ends when the study is at rest and all is written, or some minutes later.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sweeps.tracking import budget
from sweeps.tracking.budget import Budget
from sweeps.tracking.priority import LOWEST, NORMAL, lowest, share
from sweeps.tracking.settings import NEEDS, Wanted
from sweeps.tracking.state import FAILING, GIVEN_UP, WRITTEN, State, WriterLock

if TYPE_CHECKING:
    from sweeps.tracking.follow import Follower

GRACE: Final = 600.0  # seconds after a study's end, or after trackers were last told something, when those that fail or hang are given up
LONGEST: Final = 6.0  # times as long after the end, whatever they were told
PAUSES: Final = (2.0, 5.0, 15.0, 30.0, 60.0)  # seconds before it is tried again, the last one from then on
_GLANCE: Final = 0.25  # seconds between looks at whether the study is at rest
_GLANCE_SERVER: Final = 2.0  # where its ledger is in a database


@dataclass
class _Work:
    """One tracker's thread."""

    name: str
    options: dict[str, object]
    state: State
    ended: bool = False
    follower: Follower | None = None  # of the latest try
    wake: threading.Event = field(default_factory=threading.Event)


class Writer:
    """Follows one study with all its trackers.

    Args:
        home: The study's folder.
        wanted: The trackers.
        grace: `GRACE`, or less.
        budget: What may be used of the processors while a session is at work.
    """

    def __init__(self, home: Path, wanted: Wanted, grace: float = GRACE, budget: Budget | None = None):
        self._home, self._grace, self._budget = home, grace, budget or Budget()
        self._place, self._run_id, self._identity = _place(home), "", threading.Lock()
        self._written, self._asked = True, 0.0
        self._work = [_Work(name, dict(options), State(name)) for name, options in wanted.trackers.items()]
        self._over = False  # nothing is tried again

    def run(self) -> bool:
        """Works until all is written or given up; returns whether all is written."""
        for work in self._work:
            threading.Thread(target=self._follow, args=(work,), name=work.name, daemon=True).start()
        rested, moved, most = 0.0, 0.0, 0
        while not all(work.ended for work in self._work):
            time.sleep(_GLANCE)
            if self._busy():
                if rested:  # another session has begun
                    self._budget.restart()
                    rested = 0.0
                share(LOWEST)
                continue
            now = time.monotonic()
            if not rested:
                rested = moved = now
                share(NORMAL)  # nobody is kept waiting any more but whoever waits for this
                for work in self._work:
                    work.wake.set()
            # More than in any try before: who fails at the same place again and again gets no further.
            if (told := sum(work.follower.wrote for work in self._work if work.follower)) > most:
                moved, most = now, told
            if now - moved > self._grace or now - rested > LONGEST * self._grace:
                self._over = True
                break
        for work in self._work:
            if work.state.state != WRITTEN:
                error = work.state.error or "it did not answer in time"
                self._keep(work, replace(work.state, state=GIVEN_UP, error=error))
                log(f"{work.name}: given up: {error}")
        return all(work.state.state == WRITTEN for work in self._work)

    def _follow(self, work: _Work) -> None:
        begins = budget.TELLS + (budget.CLIENT if work.name in NEEDS else 0.0)
        self._afford(work, begins)
        from results.secrets import redacted
        from sweeps.tracking.follow import Follower, GoneError
        from sweeps.tracking.registry import NotInstalledError

        failures = 0
        while not self._over:
            began = time.monotonic()
            try:
                follower = work.follower = Follower(
                    self._home,
                    work.name,
                    work.options,
                    resting=lambda: not self._busy(),
                    wait=lambda seconds: self._wait(work, seconds),
                    afford=lambda: self._afford(work),
                    tell=lambda state: self._keep(work, state),
                    run_id=self._study(),
                )
                follower.run()
                told = f"{work.state.points:,} points, {work.state.rows:,} rows, {work.state.trials:,} trials"
                log(f"{work.name}: written: {told}; {follower.polls:,} looks at the ledger")
                for problem in follower.problems:
                    log(f"{work.name}: {problem}")
                break
            except GoneError as error:
                log(f"{work.name}: {error}")
                os._exit(0)  # what is in this folder now belongs to another study
            except Exception as error:
                words = redacted(f"{type(error).__name__}: {error}" if not str(error) else str(error))
                self._keep(work, replace(work.state, state=FAILING, error=words))
                log(f"{work.name}: {words}")
                if isinstance(error, NotInstalledError):
                    break
            # One that had been at work for long is not the one that failed before.
            failures = 0 if time.monotonic() - began > 2 * PAUSES[-1] else failures
            pause = PAUSES[min(failures, len(PAUSES) - 1)]
            failures += 1
            self._pause(pause)
            self._afford(work, begins)
        work.ended = True

    def _busy(self) -> bool:
        """Returns whether a session is at work on the study; a database that does not answer is asked again, and given up in the end."""
        from results import LedgerError, pointer
        from results.lock import is_written
        from sweeps.home import LEDGER

        now = time.monotonic()
        if pointer.read(self._home / LEDGER) is not None and now - self._asked < _GLANCE_SERVER:
            return self._written
        try:
            self._written, self._asked = is_written(self._home / LEDGER), now
        except LedgerError:
            return self._written and now - self._asked < self._grace
        return self._written

    def _study(self) -> str:
        """Returns which study it is that this process was started for.

        Raises:
            GoneError: What is in the folder now came later.
        """
        from sweeps.tracking.follow import GoneError
        from sweeps.tracking.registry import read_about

        with self._identity:
            if not self._run_id:
                found = read_about(self._home)[0].run_id if self._home.is_dir() else ""
                if _place(self._home) != self._place or not found:
                    raise GoneError(self._home)
                self._run_id = found
        return self._run_id

    def _afford(self, work: _Work, seconds: float = 0.0) -> None:
        """Waits until so much processor time may be used, or nobody is at work on the study."""
        while not self._over and not self._budget.allows(seconds) and self._busy():
            self._wait(work, _GLANCE)

    def _wait(self, work: _Work, seconds: float) -> None:
        """Waits, but not once the study is at rest."""
        work.wake.wait(seconds)
        work.wake.clear()

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._over:
            time.sleep(_GLANCE)

    def _keep(self, work: _Work, state: State) -> None:
        same, work.state = state == work.state, state
        if not same and self._home.is_dir():
            state.write(self._home)


def _place(home: Path) -> tuple[int, int] | None:
    """Returns what tells a folder from another one of its name; None where there is none."""
    try:
        found = home.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _until_needed(allowed: Budget) -> None:
    """Waits until a first look may be had, or whoever started this process says by closing its input that there is no more to wait for."""
    while not allowed.allows(budget.READS) and not select.select([sys.stdin], [], [], _GLANCE)[0]:
        pass


def log(line: str) -> None:
    """Writes a line of the log."""
    print(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}", flush=True)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the process."""
    parser = argparse.ArgumentParser(description="Writes to the trackers of a study while it runs.")
    parser.add_argument("home", type=Path)
    parser.add_argument("--grace", type=float, default=GRACE)
    parser.add_argument("--share", type=float, default=budget.SHARE)
    given = parser.parse_args(args)
    lowest()
    allowed, place = Budget(given.share), _place(given.home)
    lock = WriterLock(given.home)
    while not lock.take():  # the writer of an earlier session; it may go on with this one
        time.sleep(_GLANCE)
        if not given.home.is_dir():
            return 0
    wanted = Wanted.read(given.home)
    log(f"process {os.getpid()} writes to {', '.join(wanted.trackers) if wanted else 'nothing'}")
    _until_needed(allowed)
    if _place(given.home) != place:  # what is in this folder now has a writer of its own
        return 0
    ok = wanted is None or Writer(given.home, wanted, given.grace, allowed).run()
    log(f"process {os.getpid()} ends: {budget.used():.1f} s of processor time")
    return 0 if ok else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a tracker that hangs keeps no process alive

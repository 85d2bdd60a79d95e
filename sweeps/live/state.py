"""How a study stands at a moment: everything that is shown of it while it runs, gathered with small queries from its ledger."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from results import Ledger
from results.metrics import Metric
from results.reader import LedgerReader
from results.records import Header, Plan
from search_spaces.budget import Used
from sweeps.home import LEDGER
from sweeps.live.budget_left import budget_lines, budget_of, new_results, used_so_far
from sweeps.live.curve import Curve, curve_of
from sweeps.live.gathering import best_trial, ended_counts, latest_failure, overlap, rate_of, time_left, why_ended
from sweeps.live.pace import Paced
from sweeps.live.pulse import IMPORTED, Pulse, Stamp, pulse_of, stamp_of, unchanged
from sweeps.live.working import Work, Working
from sweeps.suggestions import family_of

READING: Final = 0.005  # of the time that reading the curve anew may cost; between two readings it goes on from look to look
PATIENCE: Final = 10.0  # seconds after which a study at work is looked at though nothing was written


@dataclass(frozen=True)
class Now:
    """A study at a moment.

    Attributes:
        home: Its folder.
        header: What it is about.
        pulse: What it was read at.
        counts: Of trials: completed, stopped, failed.
        have: Trials of the latest search with a result.
        total: Trials it was asked for; None where open-ended or never asked.
        searches: Searches it was asked for.
        curve: Best so far.
        best_trial: The trial with the best value; None before there is one.
        rate: Results a second, of late; NaN where it has no meaning.
        left: Seconds until all trials have a result at that rate; NaN where that cannot be said.
        workers: Attempts that are open: packs, or trials that report.
        stepping: Whether trials report.
        working: Trials at work that have reported.
        rule: Kind of their scheduler.
        budget: What is used of the budget, a line for each rule.
        failure: Number and error of the latest failed trial; None if there is none.
        ended_by: What ended the latest session, if it was its budget.
        sessions: Sessions so far.
        whole: Whether the curve is there from the first result on; otherwise it begins at the first look.
        changed: ISO time at which a result was last accepted, or the session began or ended; "" if never.
    """

    home: Path
    header: Header
    pulse: Pulse
    counts: dict[str, int]
    have: int
    total: int | None
    searches: int
    curve: Curve
    best_trial: int | None
    rate: float
    left: float
    workers: int
    stepping: bool
    working: tuple[Working, ...] = ()
    rule: str = ""
    budget: tuple[str, ...] = ()
    failure: tuple[int, str] | None = None
    ended_by: str = ""
    sessions: int = 0
    changed: str = ""
    whole: bool = False

    @property
    def metric(self) -> Metric:
        """The objective."""
        return self.header.metric(self.header.objective)

    @property
    def alive(self) -> bool:
        """Whether a session is at work, or about to be."""
        return self.pulse.alive


@dataclass
class Follower:
    """Follows one study. What it costs to look depends on what has changed: nothing, and it reads no ledger.

    Attributes:
        home: The study's folder.
    """

    home: Path
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _stamp: Stamp | None = None
    _now: Now | None = None
    _curve: Curve | None = None
    _looked: float = 0.0

    def __post_init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._work = Work()
        self._curve = None
        self._whole = False
        self._read: Curve | None = None
        self._exact: Paced[Curve] = Paced(curve_of, READING)
        self._best: Paced[tuple[float, int | None]] = Paced(best_trial)
        self._lines: Paced[tuple[str, ...]] = Paced(self._budget_lines)
        self._overlap: Paced[int | None] = Paced(overlap)

    def look(self, whole: bool = True) -> Now:
        """Returns how the study stands.

        Args:
            whole: With all of the curve, which takes one pass over the trials once; otherwise it may begin with the best value there is.

        Raises:
            LedgerError: There is no ledger any more, or it cannot be read.
        """
        with self._lock:
            stamp = stamp_of(self.home)
            # A rate falls also while nothing comes.
            old = self._now is None or (self._now.alive and time.monotonic() - self._looked > PATIENCE) or (whole and not self._whole)
            if old or not unchanged(stamp, self._stamp):
                with Ledger.open(self.home / LEDGER, readonly=True) as ledger:
                    pulse = pulse_of(self.home, ledger)
                    if old or self._now is None or pulse.version != self._now.pulse.version:
                        if self._now is not None and _another(pulse, self._now.pulse):
                            self._forget()
                        self._now = self._gather(ledger, pulse, whole)
                self._stamp, self._looked = stamp, time.monotonic()
            assert self._now is not None
            return self._now

    def adopt(self, curve: Curve, seconds: float) -> None:
        """Takes the whole curve, which was read elsewhere in so many seconds; what has been seen since goes on from it."""
        with self._lock:
            if self._now is None or curve.done > self._now.pulse.trials:
                return
            self._exact.take(curve.done, curve, seconds)
            self._read, later = curve, self._now.curve
            for done, best in later.steps:
                curve = curve.followed(done, best) if done > curve.done else curve
            self._curve, self._whole = curve.followed(self._now.pulse.trials, later.best), True
            self._now = replace(self._now, curve=self._curve, whole=True)

    def _gather(self, ledger: LedgerReader, pulse: Pulse, whole: bool) -> Now:
        t, header = ledger.tables, ledger.header
        ended = ended_counts(ledger)
        completed = pulse.trials - ended["stopped"] - ended["failed"]
        plans = ledger.plans()
        searches = len({family_of(plan) for plan in plans})
        have, total = self._progress(ledger, pulse, plans, searches)
        best, trial = self._best(pulse.trials, ledger, force=not pulse.alive)
        if whole or self._whole:
            read = self._exact(pulse.trials, ledger, force=not (self._whole and pulse.alive))
            if read is not self._read:
                self._curve = self._read = read
            self._whole = True
        if self._curve is None:
            self._curve = Curve(least=header.metric(header.objective).direction == "min")
        self._curve = self._curve.followed(pulse.trials, best)
        numbers = sa.select(t.attempts.c.attempt).where(t.attempts.c.status == sa.literal_column("'open'"), t.attempts.c.n > 0)
        at_work = [row["attempt"] for row in ledger.rows(numbers)] if pulse.state == "running" else []
        if header.schema_version >= 2:
            self._work.look(ledger, at_work, pulse.reports)
        rate, changed = rate_of(ledger, pulse)
        left = time_left(have, total, rate, self._work, len(at_work)) if pulse.state == "running" else math.nan
        return Now(
            self.home,
            header,
            pulse,
            {"completed": completed, **ended},
            have,
            total,
            searches,
            self._curve,
            trial,
            rate,
            left,
            len(at_work),
            bool(self._work.rule),
            tuple(self._work.trials),
            self._work.rule,
            self._lines(pulse.version, ledger, pulse, force=not pulse.alive),
            latest_failure(ledger) if ended["failed"] else None,
            why_ended(ledger, pulse),
            int(pulse.session.get("session_id") or 0),
            max(changed, str(pulse.session.get("started") or ""), str(pulse.session.get("ended") or "")),
            self._whole,
        )

    def _progress(self, ledger: LedgerReader, pulse: Pulse, plans: Sequence[Plan], searches: int) -> tuple[int, int | None]:
        """Returns how many trials of the latest search have a result, and how many it has; searches may share points."""
        if not plans or pulse.state == IMPORTED:
            return pulse.trials, None
        latest = plans[-1]
        if searches == 1 or latest.count is None:
            return pulse.trials, latest.count
        trials = ledger.tables.trials
        own = sa.select(sa.func.count().label("n")).where(trials.c.trial >= latest.offset, trials.c.trial < latest.offset + latest.count)
        shared = self._overlap(latest.plan_id, ledger, latest)
        if shared is None:
            return pulse.trials, None
        return int(ledger.rows(own)[0]["n"]) + shared, latest.count

    def _budget_lines(self, ledger: LedgerReader, pulse: Pulse) -> tuple[str, ...]:
        budget = budget_of(ledger)
        if not budget:
            return ()
        timed = any(getattr(budget, key) is not None for key in ("hours", "worker_hours", "accelerator_hours", "cost"))
        used = used_so_far(ledger, pulse.alive) if timed else Used()
        results = new_results(ledger) if budget.trials is not None else 0
        return tuple(budget_lines(ledger, budget, used, results, self._curve or Curve()))


def _another(pulse: Pulse, before: Pulse) -> bool:
    """Returns whether a study was begun anew in the same place, or lost results: what was seen of it is of no use then."""
    return pulse.version.partition("-")[0] != before.version.partition("-")[0] or pulse.trials < before.trials

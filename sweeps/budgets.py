"""A study's `stop` section at work: stands between a backlog and whoever takes from it, and ends the study when its budget is used up.

What has been used is read from the ledger when a session begins and added up from then on, so a kill changes nothing. Only the end itself
is recorded, for people: whether a budget is used up is worked out anew by each session, from results and its own `stop` section.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import sqlalchemy as sa

from results import Ledger, Plan, ResultRow
from results.constraints import constraints_of
from results.engine import guard
from results.leaderboard import format_value, shown_unit
from results.reader import LedgerReader
from search_spaces.adaptive.remaining import Remaining, Sample
from search_spaces.budget import Met, Spending, Used
from sweeps.budget_words import ENDED, words
from sweeps.feed import Point, Source, Tally
from trainables.stepping import Stepping

if TYPE_CHECKING:
    from sweeps.search import Search

BOUND: Final = "regret_bound"  # of one that keeps a bound, which takes seconds to make
CARDS: Final = "cards"  # of one that keeps how many cards a trial took in a session
REOPENED: Final = "reopened"  # of a failure that is tried again


class Stoppable(Protocol):
    """What hands out work until told to stop."""

    stopping: bool


class _Taken(NamedTuple):
    """A result as the budget sees it; `value` is None where it does not count."""

    trial: int
    value: float | None
    config: Mapping[str, Any]
    new: bool


class Budgeted:
    """A backlog with an end.

    Attributes:
        met: What ended the study, None as long as nothing has.
    """

    def __init__(self, inner: Source, search: Search, ledger: Ledger, plan: Plan, tally: Tally, objective: str):
        self._inner, self._search, self._ledger, self._plan, self._tally, self._objective = inner, search, ledger, plan, tally, objective
        self._budget = search.budget
        self._bounded = bool(self._budget)
        self._spending = Spending(self._budget)
        self._remaining = Remaining(search.space, self._budget.direction, search.study.seed) if self._budget.regret else None
        self._bounds = dict(_bounds(ledger, plan, objective)) if self._remaining else {}
        names = ledger.header.metric_names
        self._value = names.index(objective)
        self._limits = [(names.index(each.metric), each) for each in constraints_of(ledger.header)]
        self._waits = search.learns and search.study.search.deterministic
        self._out: set[bytes] = set()
        self._unsettled: list[_Taken] = []
        self._feed: Stoppable | None = None
        self._cards, self._began = 0.0, time.monotonic()
        self._over = False
        self._known, self._seen = tally.known, self._latest()
        if self._bounded:
            self._before = spent_before(ledger, isinstance(search.trainable, Stepping))
            self._replay()
        self.check()

    @property
    def met(self) -> Met | None:
        """What ended the study."""
        return self._spending.met if self._over else None

    @property
    def rule(self) -> str:
        """The rule that ended the study, "" as long as none has."""
        return "" if self.met is None else self.met.kind

    @property
    def drained(self) -> bool:
        """Whether no point will come again."""
        return self._over or self._inner.drained

    @property
    def settled(self) -> bool:
        """Whether nothing suggested awaits its result."""
        return self._inner.settled

    @property
    def ahead(self) -> bool:
        """Whether what comes next does not depend on results."""
        return self._inner.ahead

    def take(self, n: int) -> list[Point]:
        """Returns up to n points; none once the budget is used up, and not more than results it has left."""
        self.check()
        if self._over:
            return []
        points = self._inner.take(min(n, self._room()))
        if self._bounded and self._tally.known != self._known:
            self._reused()
        self._out.update(point.config_id for point in points)
        return points

    def put_back(self, points: list[Point]) -> None:
        """Returns points to the front."""
        self._out.difference_update(point.config_id for point in points)
        self._inner.put_back(points)

    def task(self, point: Point) -> int | Mapping[str, Any]:
        """Returns what a worker makes the configuration from."""
        return self._inner.task(point)

    def told(self, row: ResultRow, step: int | None = None) -> None:
        """Takes a result."""
        self._inner.told(row, step)
        self._out.discard(row.config_id)
        if self._bounded:
            self._unsettled.append(_Taken(row.trial, self._counts(row.status, row.metrics), row.config, True))
            self._judge()

    def attach(self, feed: Stoppable, cards: float = 0.0) -> None:
        """Learns whom to stop, and how many cards each trial of this session takes."""
        self._feed, self._cards = feed, cards
        feed.stopping = feed.stopping or self._over
        if cards:
            self._ledger.record(CARDS, each=cards)

    def watching(self, show: Callable[[Tally], None]) -> Callable[[Tally], None]:
        """Returns a way to show progress that looks at the clock each time."""

        def watched(tally: Tally) -> None:
            self.check()
            show(tally)

        return watched

    def check(self) -> None:
        """Ends the study if its budget is used up."""
        if self._bounded:
            self._settle()
            self._spending.spent(self._used())
            self._judge()

    def _judge(self) -> None:
        """Ends the study if its results are enough."""
        self._settle()
        if self._spending.met is not None and not self._over:
            self._over = True
            if self._feed is not None:
                self._feed.stopping = True

    def left(self) -> bool:
        """Returns whether there would be more to do, were it not for the budget."""
        if not self._search.learns and (points := self._inner.take(1)):
            self._inner.put_back(points)
        return self._tally.known + self._tally.done < self._tally.total

    def ended(self) -> str:
        """Returns what the budget ended, in words, and records it; "" if it ended nothing."""
        if self.met is None or not self.left():
            return ""
        told = words(self.met, self._budget, self._ledger.header.metric(self._objective))
        numbers = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in vars(self.met).items()}
        self._ledger.record(ENDED, **numbers | {"rule": numbers.pop("kind")}, words=told)
        return told

    def _room(self) -> int:
        new = self._spending.new + sum(each.new for each in self._unsettled)
        return sys.maxsize if self._budget.trials is None else max(0, self._budget.trials - new - len(self._out))

    def _settle(self) -> None:
        """Folds results as they come; where a run must repeat exactly, in the order of their numbers, when all of a batch are in."""
        if self._waits and not (self._inner.settled or (not self._out and not self._room())):
            return
        settled = sorted(self._unsettled, key=lambda each: each.trial) if self._waits else self._unsettled
        self._unsettled = []
        for each in settled:
            if (sample := self._fold(each)) is not None:
                self._bound(sample)

    def _fold(self, each: _Taken) -> Sample | None:
        self._spending.result(each.value, each.new)
        if self._remaining is None or each.value is None or self._spending.met is not None:
            return None
        return self._remaining.result(each.config, each.value)

    def _bound(self, sample: Sample) -> None:
        assert self._remaining is not None
        if (bound := self._bounds.get(sample.count)) is None:
            bound = self._remaining.bound(sample)
            known = bound if math.isfinite(bound) else None
            self._ledger.record(BOUND, plan=self._plan.plan_id, objective=self._objective, count=sample.count, bound=known)
        self._spending.bound(bound)
        if math.isfinite(bound):
            metric = self._ledger.header.metric(self._objective)
            self._tally.note = f"at most {format_value(bound, shown_unit(metric))} left to gain"

    def _replay(self) -> None:
        """Takes the results there are. Of bounds that nobody has made yet only the last is made: those before are of the past."""
        if self._waits or self._budget.judges:
            rows = [*self._past()]
            if self._waits:
                self._unsettled = rows
                return
            due: Sample | None = None
            for row in rows:
                if (sample := self._fold(row)) is not None:
                    due = sample
                    if sample.count in self._bounds:
                        self._bound(sample)
                        due = None
            if due is not None and self._spending.met is None:
                self._bound(due)
        else:
            own = self._ledger.tables.trials.c.source.is_(None)
            for new, count in sorted(_pairs(self._ledger, sa.select(own, sa.func.count()).group_by(own))):
                for _ in range(count):
                    self._spending.result(None, bool(new))

    def _reused(self) -> None:
        """Takes the results that were taken over from other studies on the way."""
        self._unsettled += self._past(self._seen, own=False)
        self._known, self._seen = self._tally.known, self._latest()

    def _latest(self) -> int:
        attempts = self._ledger.tables.attempts
        return int(self._ledger.rows(sa.select(sa.func.max(attempts.c.attempt).label("latest")))[0]["latest"] or 0)

    def _past(self, since: int = 0, own: bool = True) -> Iterator[_Taken]:
        """Yields results in the order in which they were accepted: attempts by their end, their trials by number.

        Args:
            since: Attempt after which they were accepted.
            own: Whether also those that were worked out for this study.
        """
        tables = self._ledger.tables
        trials, attempts = tables.trials, tables.attempts
        columns = [tables.metric(name) for name in tables.metric_names]
        query = sa.select(trials.c.trial, trials.c.status, trials.c.config, trials.c.source, *columns)
        query = query.join(attempts, trials.c.attempt == attempts.c.attempt).where(trials.c.attempt > since)
        query = query if own else query.where(trials.c.source.is_not(None))
        query = query.order_by(trials.c.trial) if self._waits else query.order_by(attempts.c.ended, attempts.c.attempt, trials.c.trial)
        with guard(self._ledger.where), self._ledger.connect() as connection:
            for trial, status, text, source, *metrics in connection.execute(query.execution_options(yield_per=10_000)):
                config = json.loads(text) if self._remaining else {}
                yield _Taken(trial, self._counts(status, metrics), config, source is None)

    def _counts(self, status: str, metrics: Sequence[float | None] | None) -> float | None:
        """Returns the objective of a result that counts."""
        if status != "completed" or metrics is None or (value := metrics[self._value]) is None or not math.isfinite(value):
            return None
        met = all(metrics[i] is not None and bool(limit.compare(metrics[i])) for i, limit in self._limits)
        return float(value) if met else None

    def _used(self) -> Used:
        busy, before = self._tally.busy / 3600.0, self._before
        return Used(
            before.hours + (time.monotonic() - self._began) / 3600.0,
            before.worker_hours + busy,
            before.accelerator_hours + busy * self._cards,
            before.paid_hours + busy * (self._cards or 1.0),
        )


def spent_before(ledger: LedgerReader, stepping: bool) -> Used:
    """Returns what the sessions before the one that is open have used; one that was killed lasted until the last that is heard of it.

    Args:
        ledger: The study's.
        stepping: Whether its trials report, so that their seconds are in the reports.
    """
    tables = ledger.tables
    attempts, events, trials, reports = tables.attempts, tables.events, tables.trials, tables.reports
    last: dict[int, str] = {}
    # Not of attempts that were given up: the next session did that, when it began.
    accepted = sa.select(attempts.c.session_id, sa.func.max(attempts.c.ended)).where(attempts.c.status == "accepted")
    told = sa.select(events.c.session, sa.func.max(events.c.time))
    for session, when in (*_pairs(ledger, accepted.group_by(attempts.c.session_id)), *_pairs(ledger, told.group_by(events.c.session))):
        last[session] = max(last.get(session, ""), when or "")
    work = reports if stepping else trials
    if stepping and ledger.header.schema_version < 2:
        seconds: dict[int, float] = {}
    else:
        query = sa.select(attempts.c.session_id, sa.func.sum(work.c.seconds)).join(attempts, work.c.attempt == attempts.c.attempt)
        query = query if stepping else query.where(trials.c.source.is_(None))
        seconds = dict(_pairs(ledger, query.group_by(attempts.c.session_id)))
    # A failure that is tried again is no trial any more; what it took is in the event. Of trials that report it is in the reports.
    again = [] if stepping else [event["detail"] for event in ledger.events(REOPENED, limit=None)]
    whose = dict(_pairs(ledger, sa.select(attempts.c.attempt, attempts.c.session_id))) if again else {}
    for failure in again:
        session = whose[failure["attempt"]]
        seconds[session] = (seconds.get(session) or 0.0) + (failure["seconds"] or 0.0)
    cards = {event["session"]: float(event["detail"]["each"]) for event in ledger.events(CARDS, limit=None)}
    wall = busy = held = paid = 0.0
    for session in ledger.sessions()[:-1]:
        number = session["session_id"]
        ended = session["ended"] or last.get(number) or session["started"]
        wall += max(0.0, (datetime.fromisoformat(ended) - datetime.fromisoformat(session["started"])).total_seconds())
        worked, each = seconds.get(number) or 0.0, cards.get(number, 0.0)
        busy, held, paid = busy + worked, held + worked * each, paid + worked * (each or 1.0)
    return Used(wall / 3600.0, busy / 3600.0, held / 3600.0, paid / 3600.0)


def _bounds(ledger: LedgerReader, plan: Plan, objective: str) -> Iterator[tuple[int, float]]:
    for event in ledger.events(BOUND, limit=None):
        detail = event["detail"]
        if detail["plan"] == plan.plan_id and detail["objective"] == objective:
            yield int(detail["count"]), math.nan if detail["bound"] is None else float(detail["bound"])


def _pairs(ledger: LedgerReader, query: Any) -> list[tuple[Any, Any]]:
    with guard(ledger.where), ledger.connect() as connection:
        return [(key, value) for key, value in connection.execute(query)]

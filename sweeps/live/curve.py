"""The best value so far, from a study's first result to its latest: steps, because only improvements are kept.

Results come in the order in which they were accepted: attempts by their end, their trials by number. Of large studies an attempt is one
step: its trials were accepted together. While a study runs the curve goes on from the best value at each look, which costs nothing, and is
read anew now and then.

Trackers get the same order from `results.tracking.tail`, which reads every row: 17 s of a core per million trials, here half a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from results.constraints import constraints_of
from results.engine import guard
from results.reader import LedgerReader

SINGLY: Final = 20_000  # trials up to which each is a step of its own


@dataclass(frozen=True)
class Curve:
    """Best so far.

    Attributes:
        steps: Results there were and the value that was best from then on, ascending in the first.
        done: Results there are.
        least: Whether less is better.
    """

    steps: tuple[tuple[int, float], ...] = ()
    done: int = 0
    least: bool = False

    @property
    def best(self) -> float:
        """The latest value; NaN before there is one."""
        return self.steps[-1][1] if self.steps else math.nan

    @property
    def since(self) -> int:
        """Results since the latest improvement."""
        return self.done - self.steps[-1][0] if self.steps else self.done

    def followed(self, done: int, best: float) -> Curve:
        """Returns the curve as it goes on: `done` results, of which `best` is the best value."""
        better = not self.steps or (best < self.best if self.least else best > self.best)
        return Curve((*self.steps, (done, best)) if better and math.isfinite(best) else self.steps, done, self.least)

    def sampled(self, n: int) -> list[float]:
        """Returns the best value at n places, evenly spread over the results; NaN before the first."""
        out, at, value = [], 0, math.nan
        for i in range(1, n + 1):
            reached = self.done * i / n
            while at < len(self.steps) and self.steps[at][0] <= reached:
                value = self.steps[at][1]
                at += 1
            out.append(value)
        return out


def curve_of(ledger: LedgerReader) -> Curve:
    """Returns the whole curve; one pass over the trials, about half a second per million."""
    direction = ledger.header.metric(ledger.header.objective).direction
    trials = ledger.tables.trials
    with guard(ledger.where), ledger.connect() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(trials)).scalar_one()
        rows = connection.execute(_singly(ledger) if count <= SINGLY else _by_attempt(ledger, direction == "min"))
        return _folded(((int(n), value) for n, value in rows), direction == "min")


def _folded(rows: Iterable[tuple[int, float | None]], least: bool) -> Curve:
    steps: list[tuple[int, float]] = []
    done = 0
    for n, value in rows:
        done += n
        if value is not None and (not steps or (value < steps[-1][1] if least else value > steps[-1][1])):
            steps.append((done, float(value)))
    return Curve(tuple(steps), done, least)


def _counted(ledger: LedgerReader) -> sa.ColumnElement[Any]:
    """The objective of trials that can be best, NULL of others: as on the leaderboard."""
    t = ledger.tables
    counts = [t.trials.c.status == "completed"]
    counts += [item.compare(t.metric(item.metric)) for item in constraints_of(ledger.header)]
    return sa.case((sa.and_(*counts), t.metric(ledger.header.objective)))


def _singly(ledger: LedgerReader) -> sa.Select[Any]:
    trials, attempts = ledger.tables.trials, ledger.tables.attempts
    query = sa.select(sa.literal(1), _counted(ledger)).join(attempts, trials.c.attempt == attempts.c.attempt)
    return query.order_by(attempts.c.ended.nulls_last(), attempts.c.attempt, trials.c.trial)


def _by_attempt(ledger: LedgerReader, least: bool) -> sa.Select[Any]:
    trials, attempts = ledger.tables.trials, ledger.tables.attempts
    best = sa.func.min if least else sa.func.max
    columns = trials.c.attempt, sa.func.count().label("n"), best(_counted(ledger)).label("value")
    each = sa.select(*columns).group_by(trials.c.attempt).subquery()
    query = sa.select(each.c.n, each.c.value).join(attempts, each.c.attempt == attempts.c.attempt)
    return query.order_by(attempts.c.ended.nulls_last(), attempts.c.attempt)

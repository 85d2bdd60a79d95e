"""From accepted results to what trackers show: points of curves, and rows of the table of all trials.

Everything here is a fold over results in the order of acceptance (`results.tracking.tail`), so a ledger read again gives the
same points and rows, in whatever pieces it is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results.constraints import constraints_of
from results.export import BASE
from results.leaderboard import parameter_label
from results.records import Header
from results.tracking.tail import Stretch
from results.tracking.tracker import Place, Point, Rows

# Curves. `best/` is followed by an objective, `lanes/` by the name of a worker where attempts have one.
BEST: Final = "best/"
COMPLETED: Final = "trials/completed"
STOPPED: Final = "trials/stopped"
FAILED: Final = "trials/failed"
REUSED: Final = "trials/taken_over"  # of those completed, from another study
SECONDS: Final = "time/seconds"  # since the study began, without the time between its sessions
RATE: Final = "speed/trials_per_second"  # evaluated, since the point before that has it
BUSY: Final = "workers/busy"  # on average since the session began
LANES: Final = "lanes/"  # the same, of one worker
CACHE: Final = "cache/"  # of the sessions before: rows_found, rows_built, seconds_saved, …
MOST_LANES: Final = 16

# Points: every result up to a thousand, each 10th to ten thousand, each 100th to a hundred thousand, each 1,000th beyond.
_SPANS: Final = ((1_000, 1), (10_000, 10), (100_000, 100), (None, 1_000))

MOST_ROWS: Final = 10_000  # at once; what some trackers cut tables at
LARGEST_TABLE: Final = 200_000  # trials beyond which a study has no table of all of them


def done_at(index: int) -> int:
    """Return how many results are in the point of an index."""
    begin = first = 0
    for end, step in _SPANS:
        here = index - first
        if end is None or here < (end - begin) // step:
            return begin + step * (here + 1)
        first, begin = first + (end - begin) // step, end
    raise AssertionError("the last span has no end")


def points_of(done: int) -> int:
    """Return how many points a study has after so many results."""
    begin = count = 0
    for end, step in _SPANS:
        if end is None or done < end:
            return count + (done - begin) // step
        count, begin = count + (end - begin) // step, end
    raise AssertionError("the last span has no end")


def batch_end(start: int, count: int | None) -> int:
    """Return where the batch of rows ends that begins at a row: fifty for the trials first asked for, larger ones beyond.

    Some trackers show the latest hundred batches only: sizes double after the first fifty and each ten more, up to `MOST_ROWS`.

    Args:
        start: Rows before it, wherever the batch before was cut.
        count: Trials of the first plan; None where open-ended.
    """
    size = min(max(math.ceil((count or 0) / 50), 20), MOST_ROWS)
    end = number = 0
    while end <= start:
        if number >= 50 and number % 10 == 0:
            size = min(2 * size, MOST_ROWS)
        end, number = end + size, number + 1
    return end


def table_rows(done: int, count: int | None) -> int:
    """Return how many rows the table of all trials has after so many results; none in a very large study."""
    return min(done, LARGEST_TABLE) if (count or 0) <= LARGEST_TABLE else 0


@dataclass
class Projection:
    """Folds results into points and rows; those a tracker holds already are not given again.

    Attributes:
        header: The ledger's.
        parameters: Names for the columns of the rows.
        first_count: Trials of the first plan; None where open-ended.
        place: What the tracker holds.
        done: Results so far.
        completed, stopped, failed, reused: Trials that are; a failure that was tried again counts as what came of it.
        best: Objective to its best value among completed trials that meet the constraints; only those that have one.
        seconds: Since the study began, without the time between its sessions.
    """

    header: Header
    parameters: Sequence[str]
    first_count: int | None
    place: Place = field(default_factory=Place)
    done: int = 0
    completed: int = 0
    stopped: int = 0
    failed: int = 0
    reused: int = 0
    best: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    _failures: set[bytes] = field(default_factory=set)
    _evaluated: int = 0
    _busy: float = 0.0
    _lanes: dict[str, float] = field(default_factory=dict)
    _session: int = 0
    _base: float = 0.0  # seconds before the session
    _busy_base: float = 0.0
    _mark: tuple[float, int] = (0.0, 0)  # seconds and evaluated trials from which the next rate is taken
    _rows: list[tuple[Stretch, slice]] = field(default_factory=list)
    _first: int = -1  # row the first of these is

    def __post_init__(self) -> None:
        given = self.header.spec.get("objective")
        names = given if isinstance(given, (list, tuple)) else []
        self._goals = [self.header.metric(name) for name in dict.fromkeys((self.header.objective, *names))]
        self._limits = constraints_of(self.header)
        self._next = points_of(0)

    @property
    def points(self) -> int:
        """How many points there are so far."""
        return self._next

    @property
    def rows(self) -> int:
        """How many rows the table of all trials has so far."""
        return table_rows(self.done, self.first_count)

    def feed(self, new: Stretch) -> Iterator[Point | Rows]:
        """Takes the next results; yields what they complete."""
        completed = np.array([status == "completed" for status in new.status], np.bool_)
        fails = self._failing(new)
        counts = {
            COMPLETED: self.completed + np.cumsum(completed),
            STOPPED: self.stopped + np.cumsum([status == "stopped" for status in new.status]),
            FAILED: self.failed + np.cumsum(fails),
            REUSED: self.reused + np.cumsum(new.reused),
        }
        best = {metric.name: self._best(metric, completed, new.metrics) for metric in self._goals}
        evaluated = self._evaluated + np.cumsum(~new.reused)
        busy = np.where(new.reused, 0.0, np.nan_to_num(new.seconds))
        begins = np.flatnonzero(np.diff(new.attempt, prepend=-1))
        for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(new)], strict=True):
            self._enter(new, begin, float(busy[begin:end].sum()))
            while (done := done_at(self._next)) <= new.start + end:
                if point := self._point(new, done - new.start - 1, counts, best, int(evaluated[done - new.start - 1])):
                    yield point
            self._evaluated = int(evaluated[end - 1])
        self.done = new.start + len(new)
        self.completed, self.stopped, self.failed, self.reused = (int(values[-1]) for values in counts.values())
        self.best = {name: float(values[-1]) for name, values in best.items() if math.isfinite(values[-1])}
        yield from self._table(new)

    def count(self, new: Stretch) -> None:
        """Takes the next results without what they complete; configurations are not needed."""
        self.place = Place(points=points_of(new.start + len(new)), rows=new.start + len(new))
        for _ in self.feed(new):
            pass

    def rest(self) -> Iterator[Rows]:
        """Yields the rows of a batch that is not full: the study has ended."""
        if self._rows:
            yield self._cut()

    def _failing(self, new: Stretch) -> list[int]:
        """Returns +1 for a trial that failed, −1 for one that had failed before and has not now."""
        if not self._failures and "failed" not in new.status:
            return [0] * len(new)
        steps = []
        for key, status in zip(new.config_id, new.status, strict=True):
            before, now = key in self._failures, status == "failed"
            if before != now:
                self._failures ^= {key}
            steps.append(int(now) - int(before))
        return steps

    def _best(self, metric: Any, completed: NDArray[np.bool_], metrics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the best value so far of a metric at each result; infinite before there is one."""
        names, worst = self.header.metric_names, math.inf if metric.direction == "min" else -math.inf
        values = metrics[:, names.index(metric.name)]
        meets = completed & np.isfinite(values)
        for limit in self._limits:
            meets &= limit.compare(metrics[:, names.index(limit.metric)])
        better = np.minimum if metric.direction == "min" else np.maximum
        found: NDArray[np.float64] = better.accumulate(np.append(self.best.get(metric.name, worst), np.where(meets, values, worst)))
        return found[1:]

    def _enter(self, new: Stretch, at: int, busy: float) -> None:
        """Moves the clock to the end of an attempt, and counts the seconds it worked."""
        if new.session[at] != self._session:
            self._session, self._base, self._busy_base = int(new.session[at]), self.seconds, self._busy
            self._mark, self._lanes = (self.seconds, self._evaluated), dict.fromkeys(self._lanes, 0.0)
        if new.delivered[at]:  # the end of one that was given up may be that of the time between sessions
            self.seconds = max(self.seconds, self._base + float(new.ended[at] - new.began[at]))
        self._busy += busy
        worker = new.worker[at]
        if worker and busy and (worker in self._lanes or len(self._lanes) < MOST_LANES):
            self._lanes[worker] = self._lanes.get(worker, 0.0) + busy

    def _point(
        self, new: Stretch, i: int, counts: Mapping[str, Any], best: Mapping[str, NDArray[np.float64]], evaluated: int
    ) -> Point | None:
        index, done = self._next, new.start + i + 1
        self._next += 1
        values = {BEST + name: float(found[i]) for name, found in best.items() if math.isfinite(found[i])}
        values |= {name: float(found[i]) for name, found in counts.items()} | {SECONDS: self.seconds}
        # Results of a pack come at one moment: the rate is that of them all, so the last of its points has it.
        if done_at(self._next) - done > new.left[i] and self.seconds > self._mark[0]:
            values[RATE] = (evaluated - self._mark[1]) / (self.seconds - self._mark[0])
            self._mark = self.seconds, evaluated
            passed = self.seconds - self._base
            values[BUSY] = (self._busy - self._busy_base) / passed
            values |= {LANES + name: spent / passed for name, spent in self._lanes.items()}
        for moment, used in new.cache:
            if moment <= new.ended[i]:
                for name, amount in used.items():
                    values[CACHE + name] = values.get(CACHE + name, 0.0) + float(amount)
        return Point(index, done, values) if index >= self.place.points else None

    def _table(self, new: Stretch) -> Iterator[Rows]:
        """Keeps what is not held yet, and yields batches that are full."""
        at = max(new.start, self.place.rows)
        stop = table_rows(new.start + len(new), self.first_count)
        while at < stop:
            if not self._rows:
                self._first = at
            end = min(batch_end(self._first, self.first_count), LARGEST_TABLE)
            upto = min(end, stop)
            self._rows.append((new, slice(at - new.start, upto - new.start)))
            at = upto
            if upto == end:
                yield self._cut()

    def _cut(self) -> Rows:
        parts = [self._frame(stretch, chosen) for stretch, chosen in self._rows]
        self._rows = []
        return Rows(self._first, pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0].reset_index(drop=True))

    def _frame(self, new: Stretch, chosen: slice) -> pd.DataFrame:
        names, defaults = self.header.metric_names, self.header.defaults
        configs = [{**defaults, **config} for config in json.loads("[" + ",".join(new.config[chosen]) + "]")]
        columns: dict[str, Any] = {"trial": new.trial[chosen], "status": new.status[chosen], "seconds": new.seconds[chosen]}
        columns |= {parameter_label(name, names): [value_of(config, name) for config in configs] for name in self.parameters}
        columns |= {metric_label(name): new.metrics[chosen, k] for k, name in enumerate(names)}
        return pd.DataFrame(columns)


def metric_label(name: str) -> str:
    """Return what a metric is called in a table, where some names are those of a trial's own columns."""
    return f"metric.{name}" if name in BASE else name


def value_of(config: dict[str, Any], name: str) -> Any:
    """Return a parameter's value; `outer.inner` is one in a mapping, lists and mappings are JSON, None if it is not there."""
    value: Any = config
    for part in (name,) if name in config else name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return json.dumps(value) if isinstance(value, (list, dict)) else value

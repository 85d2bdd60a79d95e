"""What is still to do in a study, cut into packs, and where results go: the study's side of `cluster.packs`."""

from __future__ import annotations

import gc
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cluster.cache.answers import Usage
from cluster.packs import PackResult, PackTask
from results import Ledger, Plan, ResultRow, series
from results.identity import Identified, identified
from results.records import TrialStatus
from search_spaces import Sampler
from sweeps.study import StudyError

if TYPE_CHECKING:
    from cluster.cache.answers import Building
    from sweeps.inbox import Inbox
    from sweeps.steps import Running

CHUNK = 4096  # configurations looked up in the ledger at once
ALIKE = 8  # packs whose configurations are arranged together; more would make what comes first a corner of the space
LARGEST_WINDOW = 65_536  # configurations arranged together
FIRST_PACK = 16
LEAST_SECONDS = 0.1  # of work in a last pack; what it costs besides is some tens of milliseconds
HOPELESS = 64  # failures without a success after which a run is stopped
HOPELESS_DEATHS = 12
LARGEST_PACK = 20_000
PACK_COST = 0.04  # seconds of a driver's time, with something to spare; measured 0.015 to 0.026 (benchmarks/README.md)
MOST_FLYING = 1_000_000  # configurations at work at once: the driver holds about 1 kB of each
LARGEST_BLOCK = 32_000_000  # bytes of one pack's metrics and daily returns


@dataclass(frozen=True)
class Point:
    """One configuration to evaluate.

    Attributes:
        index: Its number in the plan.
        config: Its parameters.
        config_id: Its identity.
        known: With what that was made, if it was made together with others.
    """

    index: int
    config: Mapping[str, Any]
    config_id: bytes
    known: Identified | None = None


@dataclass
class Tally:
    """Progress for people, kept by the feed.

    Attributes:
        total: Points of the plan.
        known: Points that had a result when the session began (or were read from another study).
        done: Points accepted in this session.
        failed: Of these, failed.
        stopped: Of these, stopped early.
        best: Best objective of this study so far.
        packs: Packs delivered.
        busy: Seconds of evaluation, summed over workers.
        steps: Steps made in this session, of trials that report.
        steps_left: Steps that would be left if no trial were stopped any more.
        running: Trials at work that report; None where packs are evaluated.
        reused: Results taken over from other studies in this session, by study.
        news: How a trial has just ended, in words; empty but for the one call that tells it.
        note: What a budget has to say, in words.
        building: Derived tables that are being built.
        cache: What the session had of its cache of tables, once it has ended.
    """

    total: int
    known: int = 0
    done: int = 0
    failed: int = 0
    stopped: int = 0
    best: float = math.nan
    packs: int = 0
    busy: float = 0.0
    steps: int = 0
    steps_left: int = 0
    running: tuple[Running, ...] | None = None
    reused: Counter[str] = field(default_factory=Counter)
    news: str = ""
    note: str = ""
    building: Sequence[Building] = ()
    cache: Usage = field(default_factory=Usage)


class Source(Protocol):
    """Where points come from that have no result yet."""

    @property
    def drained(self) -> bool:
        """Whether no point will come again."""
        ...

    @property
    def settled(self) -> bool:
        """Whether nothing that was suggested awaits its result."""
        ...

    @property
    def ahead(self) -> bool:
        """Whether what comes next does not depend on results, and may be taken before the last are told."""
        ...

    def take(self, n: int) -> list[Point]:
        """Returns up to n points; fewer also while results are awaited."""
        ...

    def put_back(self, points: list[Point]) -> None:
        """Returns points to the front."""
        ...

    def task(self, point: Point) -> int | Mapping[str, Any]:
        """Returns what a worker makes the configuration from."""
        ...

    def told(self, row: ResultRow, step: int | None = None) -> None:
        """Takes a result; `step` is where a trial was stopped early."""
        ...


class Backlog:
    """The plan's points that have no result yet, generated a chunk at a time: the set difference on identity.

    They come by number, so that a study that may end early ends alike however often it was interrupted; or, where `any_order` says
    that nothing depends on it, those of the next few packs arranged so that a pack's configurations share more of their work.
    """

    def __init__(
        self,
        sampler: Sampler,
        make: Callable[[Mapping[str, Any]], dict[str, Any]],
        ledger: Ledger,
        plan: Plan,
        reuse: Callable[[list[Point]], set[bytes]],
        tally: Tally,
        any_order: bool = False,
    ):
        self._sampler, self._make, self._ledger, self._plan, self._reuse, self._tally = sampler, make, ledger, plan, reuse, tally
        self._asked = 1
        self._points = self._generate()
        self._held: deque[Point] = deque()
        self._ended, self.settled, self.ahead = False, True, any_order

    @property
    def drained(self) -> bool:
        """Whether no point will come again."""
        return self._ended and not self._held

    def take(self, n: int) -> list[Point]:
        """Returns up to n points; fewer only at the end."""
        self._asked = n
        while len(self._held) < n:
            point = next(self._points, None)
            if point is None:
                self._ended = True
                break
            self._held.append(point)
        return [self._held.popleft() for _ in range(min(n, len(self._held)))]

    def put_back(self, points: list[Point]) -> None:
        """Returns points to the front."""
        self._held.extendleft(reversed(points))

    def task(self, point: Point) -> int | Mapping[str, Any]:
        """Returns what a worker makes the configuration from: its number."""
        return point.index

    def told(self, row: ResultRow, step: int | None = None) -> None:
        """Learns nothing from a result."""

    def _missing(self) -> Iterator[NDArray[np.int64]]:
        """Yields the numbers that have no result, some thousands at a time."""
        size, offset = self._sampler.size, self._plan.offset
        for start in range(0, size, CHUNK):
            stop = min(start + CHUNK, size)
            numbered = self._ledger.numbers(offset + start, offset + stop) - offset
            missing = np.setdiff1d(np.arange(start, stop), numbered, assume_unique=True)
            self._tally.known += stop - start - len(missing)
            yield missing

    def _arranged(self) -> Iterator[NDArray[np.int64]]:
        """Yields the same in the order in which they are evaluated."""
        if not self.ahead:
            yield from self._missing()
            return
        left = np.empty(0, np.int64)
        for missing in self._missing():
            # Small packs are of slow configurations, or the first: what they find is to be of the whole space, not of a corner.
            if self._asked <= FIRST_PACK:
                yield np.concatenate([left, missing])
                left = left[:0]
                continue
            left = np.concatenate([left, missing])
            while len(left) >= (enough := max(self._window, CHUNK)):
                here, left = np.split(left, [enough])
                yield from self._alike(here)
        yield from self._alike(left)

    @property
    def _window(self) -> int:
        return min(ALIKE * self._asked, LARGEST_WINDOW)

    def _alike(self, numbers: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        window = self._window
        starts = range(0, len(numbers), window)
        arranged = np.concatenate([self._sampler.alike(numbers[start : start + window]) for start in starts] or [numbers])
        return (arranged[start : start + CHUNK] for start in range(0, len(arranged), CHUNK))

    def _generate(self) -> Iterator[Point]:
        context, defaults = self._ledger.header.context_id, self._ledger.header.defaults
        seen: set[bytes] = set()
        for numbers in self._arranged():
            with _uncollected():
                configs = list(map(self._make, self._sampler.at(numbers)))
                known = identified(context, configs, defaults)
                fresh = [Point(i, c, k.config_id, k) for i, c, k in zip(numbers.tolist(), configs, known, strict=True)]
            have = self._ledger.known([p.config_id for p in fresh])
            have |= self._reuse([p for p in fresh if p.config_id not in have])
            for point in fresh:
                # A configuration can have several numbers (a grid with equal values); it is evaluated under the first that comes.
                if point.config_id in have or point.config_id in seen:
                    self._tally.known += 1
                    continue
                seen.add(point.config_id)
                yield point
            seen = seen if len(seen) < 50 * CHUNK else set()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keeps Python from looking for cycles while a pack's many objects are made, none of which is in a cycle."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


class StudyFeed:
    """Cuts the backlog into packs of about a second, writes results to the ledger, isolates what kills its worker."""

    def __init__(
        self,
        backlog: Source,
        ledger: Ledger,
        plan: Plan,
        tally: Tally,
        objective: str,
        slots: int,
        report: Callable[[Tally], None],
        home: Path,
        days: int = 0,
        inbox: Inbox | None = None,
    ):
        self._backlog, self._ledger, self._plan, self._slots, self._report = backlog, ledger, plan, slots, report
        width = 8 * (len(ledger.header.metrics) + days)
        self._home, self._largest = home, max(1, min(LARGEST_PACK, LARGEST_BLOCK // width, MOST_FLYING // slots))
        self.tally, self._inbox = tally, inbox
        self.stopping = False
        self._again: deque[list[Point]] = deque()
        self._flying: dict[int, list[Point]] = {}
        self._crashes: dict[bytes, int] = {}
        self._size, self._least = FIRST_PACK, 1
        self._began = time.monotonic()
        self._objective = ledger.header.metric_names.index(objective)
        self._sign = -1.0 if ledger.header.metric(objective).direction == "min" else 1.0
        self._deaths = 0

    def next(self) -> PackTask | None:
        """Returns the next pack, None if there is none now."""
        if self._inbox is not None:
            self._inbox.look()
        if self.stopping:
            return None
        points = self._again.popleft() if self._again else self._draw()
        if not points:
            return None
        attempt = self._ledger.open_attempt(self._plan.plan_id, len(points))
        self._flying[attempt] = points
        return PackTask(attempt, tuple(self._backlog.task(p) for p in points))

    def _draw(self) -> list[Point]:
        # Towards the end the rest is shared, so that no worker waits for another's last pack, but not in ever smaller packs.
        left = self.tally.total - self.tally.known - self.tally.done - sum(map(len, self._flying.values()))
        return self._backlog.take(max(1, min(self._size, max(math.ceil(left / self._slots), self._least))))

    @property
    def exhausted(self) -> bool:
        """Whether no pack will come again."""
        return self.stopping or (self._backlog.drained and not self._again and not self._flying)

    @property
    def ahead(self) -> bool:
        """Whether the next pack may be asked for before the results of the last are delivered."""
        return self._backlog.ahead

    def deliver(self, result: PackResult) -> None:
        """Accepts a pack's results in one transaction."""
        points = self._flying.pop(result.attempt)
        metrics, returns = np.hsplit(result.metrics, [len(self._ledger.header.metrics)])
        if returns.shape[1]:
            kept = [i for i, p in enumerate(points) if i not in result.errors and series.is_kept(p.config_id, self._plan.count)]
            series.write(self._ledger, self._home, result.attempt, [points[i].config_id for i in kept], returns[kept].astype(np.float32))
        with _uncollected():
            rows = self._rows(points, result, metrics)
            taken = self._ledger.accept(result.attempt, rows)
        for row in rows:
            self._backlog.told(row)
        tally = self.tally
        tally.done += taken.accepted
        tally.failed += len(result.errors)
        tally.packs += 1
        tally.busy += result.seconds
        scores = self._sign * metrics[:, self._objective]
        if np.isfinite(scores).any():
            tally.best = float(self._sign * np.nanmax([np.nanmax(scores), self._sign * tally.best]))
        self._resize(len(points), result.seconds)
        if self.ahead and not self.stopping:
            self._backlog.put_back(self._draw())  # made now, while every worker is at work
        self._report(tally)
        if tally.failed == tally.done >= HOPELESS:
            why = next(iter(result.errors.values()))
            raise StudyError(
                f"all of the first {tally.done} configurations failed, so the run was stopped. The last error: {why}. "
                "When the cause is put right, run with --retry-failed"
            )

    def _rows(self, points: list[Point], result: PackResult, metrics: NDArray[np.float64]) -> list[ResultRow]:
        each, offset, values = result.seconds / len(points), self._plan.offset, metrics.tolist()
        rows = []
        for i, point in enumerate(points):
            error = result.errors.get(i)
            status: TrialStatus = "failed" if error else "completed"
            found = None if error else values[i]
            rows.append(ResultRow(offset + point.index, point.config_id, point.config, status, found, each, error, known=point.known))
        return rows

    def _resize(self, n: int, seconds: float) -> None:
        """Aims at a second of work, slowly more in long studies: Tune pays per pack and remembers each.

        With many workers at more at once: a driver hands round some tens of packs a second, and no worker is to wait for it.
        """
        target = max(min(max(1.0, 0.02 * (time.monotonic() - self._began)), 5.0), PACK_COST * self._slots)
        each = max(seconds, 1e-6) / n
        self._size = max(1, min(int(target / each), 4 * max(n, self._size), self._largest))
        # Where results decide what comes next, the sooner the better.
        self._least = min(int(LEAST_SECONDS / each), self._size) if self.ahead else 1

    def crashed(self, attempt: int, error: str) -> None:
        """Halves a pack whose worker died; a configuration that killed two workers alone has failed."""
        points = self._flying.pop(attempt)
        self._ledger.close_attempt(attempt, "lost")
        self._ledger.record("worker_died", attempt=attempt, points=len(points), error=error)
        self._deaths += 1
        if self._deaths >= HOPELESS_DEATHS and not self.tally.done:
            raise StudyError(
                f"{self._deaths} workers died and none came back with a result, so the run was stopped. The last error: {error}"
            )
        if self.stopping:
            return
        if len(points) > 1:
            half = len(points) // 2
            self._again.extend([points[:half], points[half:]])
            return
        point = points[0]
        self._crashes[point.config_id] = self._crashes.get(point.config_id, 0) + 1
        if self._crashes[point.config_id] < 2:
            self._again.append(points)
            return
        attempt = self._ledger.open_attempt(self._plan.plan_id, 1)
        row = ResultRow(self._plan.offset + point.index, point.config_id, point.config, "failed", None, None, f"{error} (twice, alone)")
        self.tally.done += self._ledger.accept(attempt, [row]).accepted
        self._backlog.told(row)
        self.tally.failed += 1
        self._report(self.tally)

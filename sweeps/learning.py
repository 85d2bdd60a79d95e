"""A search that learns from its results: what it suggested is in the ledger before anything is evaluated.

The ledger has an event per batch, with every configuration in it, and that is all the state there is. A search belongs to a *family*: all
plans with the same space and sampler, however many trials they asked for. A longer one goes on where the shorter one ended.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from results import Ledger, LedgerError, Plan, ResultRow
from results.constraints import parse
from results.engine import guard
from results.identity import config_ids
from results.reader import LedgerReader
from search_spaces.adaptive import FAILED, FILLED, Outcome, Seen
from search_spaces.adaptive.axes import Axes
from search_spaces.adaptive.bayesian import REMEMBERED
from sweeps.feed import Point, Tally
from sweeps.requests import REQUEST
from sweeps.study import StudyError

if TYPE_CHECKING:
    from sweeps.search import Search

SUGGESTED: Final = "suggested"
LEARNT: Final = "learnt_from"
BARREN: Final = 4  # batches in a row without a new point, after which new ones are drawn at random
EVERYTHING: Final = 10_000_000


@dataclass(frozen=True)
class Suggested:
    """A suggestion of a family: its parameters, fixed ones included, its identity, and what the sampler gave along with it."""

    point: Mapping[str, Any]
    config: Mapping[str, Any]
    config_id: bytes
    attrs: Mapping[str, Any]


def family_of(plan: Plan) -> str:
    """Returns the name of the plans that are one search, however many trials they ask for."""
    spec = {key: value for key, value in plan.sampler.items() if key != "trials"}
    return blake2b(json.dumps([plan.space, spec]).encode(), digest_size=8, person=b"alphasweep-fam").hexdigest()


def suggested(ledger: LedgerReader, plan: Plan) -> list[Suggested]:
    """Returns every suggestion of a plan's family, in order; some may come twice."""
    return [entry for _, batch in _batches(ledger, plan) for entry in batch]


def distinct(ledger: LedgerReader, plan: Plan) -> list[Suggested]:
    """Returns the configurations of a plan, in the order of their numbers."""
    first: dict[bytes, Suggested] = {}
    for entry in suggested(ledger, plan):
        first.setdefault(entry.config_id, entry)
    return list(islice(first.values(), plan.count))


def _batches(ledger: LedgerReader, plan: Plan) -> list[tuple[dict[str, Any], list[Suggested]]]:
    family, fixed, made = family_of(plan), plan.sampler["fixed"], []
    for event in ledger.events(SUGGESTED, limit=EVERYTHING):
        if (detail := event["detail"])["family"] == family:
            configs = [{**fixed, **point} for point in detail["points"]]
            ids = config_ids(ledger.header.context_id, configs, ledger.header.defaults)
            rows = zip(detail["points"], configs, ids, detail["attrs"], strict=True)
            made.append((detail, [Suggested(*row) for row in rows]))
    return made


class LearningBacklog:
    """Hands out suggestions that have no result yet, and asks for more: the counterpart of `Backlog` for samplers that learn."""

    def __init__(
        self,
        search: Search,
        ledger: Ledger,
        plan: Plan,
        reuse: Callable[[list[Point]], set[bytes]],
        tally: Tally,
        folder: Path,
    ):
        self._search, self._ledger, self._plan, self._reuse, self._tally = search, ledger, plan, reuse, tally
        self._family, self._total = family_of(plan), search.sampler.size
        names = ledger.header.metric_names
        self._objectives = [names.index(name) for name in search.objectives]
        self._bounds = [(names.index(bound.metric), bound) for bound in parse(search.study.constraints, names)]
        self._index: dict[bytes, int] = {}  # number of each different suggestion
        self._places: dict[bytes, list[int]] = {}  # where in the history it stands
        self._history: list[Seen] = []
        self._held: deque[Point] = deque()
        self._waiting: set[bytes] = set()  # suggested, numbered below the total, without an outcome
        self._barren = 0
        self._fill = 0
        self.drained = False
        past = _batches(ledger, plan)
        self._batch = past[0][0]["size"] if past else search.batch
        self._suggester = search.suggester(self._batch)
        self._asked = sum(REQUEST not in detail for detail, _ in past)
        self._elsewhere = self._learnt(folder, begun=bool(past))
        for _, batch in past:
            self._note(batch)
        self.seconds = 0.0

    def take(self, n: int) -> list[Point]:
        """Returns up to n points; none while outcomes are awaited, or at the end (`drained`)."""
        while len(self._held) < n and not self.drained and self._ready():
            self._ask(n - len(self._held))
        return [self._held.popleft() for _ in range(min(n, len(self._held)))]

    @property
    def settled(self) -> bool:
        """Whether nothing that was suggested awaits its result."""
        return not self._waiting

    def put_back(self, points: list[Point]) -> None:
        """Returns points to the front."""
        self._held.extendleft(reversed(points))

    def task(self, point: Point) -> int | Mapping[str, Any]:
        """Returns what a worker makes the configuration from: itself, as no number does."""
        return point.config

    def told(self, row: ResultRow, step: int | None = None) -> None:
        """Learns a result; `step` is where a trial was stopped early."""
        self._waiting.discard(row.config_id)
        self._learn(row.config_id, self._outcome(row.status, row.metrics, step))

    def enqueue(self, given: Mapping[str, Any], request: str) -> bool:
        """Puts a point before all others: it takes the place of a suggestion, so there are no more trials than were asked for.

        Args:
            given: A value for each parameter.
            request: Its id, kept with it.

        Returns:
            False if everything that may be suggested has been.

        Raises:
            StudyError, TrainableError: Not a point of the space, or one that is there already.
        """
        point = self._search.point_of(given, "point")
        config = self._search.config(point)
        self._search.accept(config)
        [key] = config_ids(self._ledger.header.context_id, [config], self._ledger.header.defaults)
        if (number := self._index.get(key)) is not None:
            raise StudyError(f"trial {self._plan.offset + number} is this configuration already")
        if len(self._index) >= self._total:
            return False
        before = len(self._held)
        self._record([(point, {FILLED: True})], request)
        self._held.rotate(len(self._held) - before)
        return True

    def _ready(self) -> bool:
        """Whether to ask now; finds out if there is nothing more to ask for."""
        if len(self._index) >= self._total:
            self.drained = True
        whole = self._suggester.generation is not None or self._search.study.search.deterministic
        return not self.drained and not (whole and self._waiting)

    def _ask(self, wanted: int) -> None:
        room = self._total - len(self._index)
        if self._barren >= BARREN:
            points, attrs = self._unseen(min(self._batch, room)), {FILLED: True}
            if not points:
                self.drained = True
                self._tally.total = len(self._index)
                return
            made = [(point, attrs) for point in points]
        elif not self._asked and self._search.study.search.enqueue:
            made = [(dict(point), {FILLED: True}) for point in self._search.enqueued]
        else:
            n = self._suggester.generation or min(self._batch, room)
            n = n if self._suggester.generation or self._search.study.search.deterministic else min(n, wanted)
            answers = self._suggester.suggest(self._elsewhere, self._history, n, self._asked)
            made = [(answer.point, dict(answer.attrs)) for answer in answers]
        self._record(made)

    def _record(self, made: Sequence[tuple[dict[str, Any], dict[str, Any]]], request: str = "") -> None:
        points, attrs = [point for point, _ in made], [given for _, given in made]
        wish: dict[str, Any] = {REQUEST: request} if request else {}
        self._ledger.record(SUGGESTED, family=self._family, batch=self._asked, size=self._batch, points=points, attrs=attrs, **wish)
        configs = [self._search.config(point) for point in points]
        ids = config_ids(self._ledger.header.context_id, configs, self._ledger.header.defaults)
        before = len(self._index)
        self._note([Suggested(*row) for row in zip(points, configs, ids, attrs, strict=True)])
        if request:  # nothing the sampler did
            return
        self._barren = 0 if len(self._index) > before else self._barren + 1
        self._asked += 1

    def _note(self, batch: Sequence[Suggested]) -> None:
        """Enters suggestions into the history, and holds those that are new and have no result anywhere."""
        fresh: list[Point] = []
        for entry in batch:
            known = self._places.get(entry.config_id)
            outcome = self._history[known[0]].outcome if known else None
            self._places.setdefault(entry.config_id, []).append(len(self._history))
            self._history.append(Seen(entry.point, outcome, entry.attrs))
            if known is None:
                number = self._index[entry.config_id] = len(self._index)
                if number < self._total:
                    fresh.append(Point(number, entry.config, entry.config_id))
        found = self._results([point.config_id for point in fresh])
        if reused := self._reuse([point for point in fresh if point.config_id not in found]):
            found |= self._results(list(reused))
        for point in fresh:
            if point.config_id in found:
                self._tally.known += 1
                self._learn(point.config_id, found[point.config_id])
            else:
                self._waiting.add(point.config_id)
                self._held.append(point)

    def _learn(self, key: bytes, outcome: Outcome) -> None:
        for place in self._places.get(key, ()):
            seen = self._history[place]
            self._history[place] = Seen(seen.point, outcome, seen.attrs)

    def _unseen(self, n: int) -> list[dict[str, Any]]:
        """Draws points nobody has suggested, a window of the random sampler at a time."""
        made: list[dict[str, Any]] = []
        sampler = self._search.strangers
        while len(made) < n and self._fill < sampler.size:
            stop = min(self._fill + max(64, n), sampler.size)
            points = sampler.configs(self._fill, stop)
            ids = config_ids(self._ledger.header.context_id, map(self._search.config, points), self._ledger.header.defaults)
            made += [point for point, key in zip(points, ids, strict=True) if key not in self._index]
            self._fill = stop
        return made[:n]

    def _results(self, ids: list[bytes]) -> dict[bytes, Outcome]:
        """Returns the outcomes the ledger has."""
        if not ids:
            return {}
        tables, made = self._ledger.tables, {}
        steps = _last_steps(self._ledger)
        columns = [tables.metric(name) for name in tables.metric_names]
        for start in range(0, len(ids), 500):
            query = sa.select(tables.trials.c.config_id, tables.trials.c.status, *columns)
            for key, status, *metrics in _tuples(self._ledger, query.where(tables.trials.c.config_id.in_(ids[start : start + 500]))):
                made[bytes(key)] = self._outcome(status, metrics, steps.get(bytes(key)))
        return made

    def _outcome(self, status: str, metrics: Sequence[float | None] | None, step: int | None) -> Outcome:
        if status == "failed" or metrics is None:
            return FAILED
        values = [math.nan if value is None else float(value) for value in metrics]
        goals, lacks = [values[i] for i in self._objectives], [float(bound.shortfall(values[i])) for i, bound in self._bounds]
        if not np.isfinite([*goals, *lacks]).all():
            return FAILED
        return Outcome(tuple(goals), tuple(lacks), step if status == "stopped" else None)

    def _learnt(self, folder: Path, begun: bool) -> list[Seen]:
        """Returns results of other searches over these parameters: those there were when this one began, which it keeps."""
        for event in self._ledger.events(LEARNT, limit=EVERYTHING):
            if (detail := event["detail"])["family"] == self._family:
                rows = zip(detail["points"], detail["values"], detail["violations"], strict=True)
                return [Seen(point, Outcome(tuple(values), tuple(lacks))) for point, values, lacks in rows]
        if begun:
            return []
        axes, found = Axes(self._search.space), list[Seen]()
        for name in self._search.study.search.warm_start:
            found += self._mapped(axes, name, Path(name) if Path(name).is_dir() else folder / name)
        found += self._taken(axes, self._ledger)
        found = found[-REMEMBERED:]
        if found:
            told = [(dict(s.point), list(s.outcome.values), list(s.outcome.violations)) for s in found if s.outcome]
            points, values, violations = (list(column) for column in zip(*told, strict=True))
            self._ledger.record(LEARNT, family=self._family, points=points, values=values, violations=violations)
        return found

    def _mapped(self, axes: Axes, name: str, home: Path) -> Iterable[Seen]:
        """Yields the results of another study."""
        try:
            with Ledger.open(home / "ledger.sqlite", readonly=True) as other:
                if lacking := [metric for metric in self._search.objectives if metric not in other.header.metric_names]:
                    raise StudyError(f"search.warm_start: {name} has no {', '.join(lacking)}, by which this study ranks")
                yield from self._taken(axes, other)
        except LedgerError as error:
            raise StudyError(f"search.warm_start: {name}: {error}") from None

    def _taken(self, axes: Axes, ledger: LedgerReader) -> Iterable[Seen]:
        """Yields the completed results of a ledger that are points of this space, in the order of their numbers."""
        names, own = ledger.tables.metric_names, self._ledger.header.metric_names
        wanted = [*self._search.objectives, *(bound.metric for _, bound in self._bounds)]
        if any(name not in names for name in wanted):
            return
        trials = ledger.tables.trials
        query = sa.select(trials.c.config, *(ledger.tables.metric(name) for name in own if name in names)).where(
            trials.c.status == "completed"
        )
        shared = [name for name in own if name in names]
        for text, *metrics in _tuples(ledger, query.order_by(trials.c.trial)):
            point = {**ledger.header.defaults, **self._search.study.fixed, **json.loads(text)}
            known = dict(zip(shared, metrics, strict=True))
            outcome = self._outcome("completed", [known.get(name) for name in own], None)
            if outcome.values and axes.drawn(point) is not None:
                yield Seen({name: point[name] for name in axes.space.names if name in point}, outcome)


def _last_steps(ledger: LedgerReader) -> dict[bytes, int]:
    """Returns the last step each configuration reported at."""
    if ledger.header.schema_version < 2:
        return {}
    reports = ledger.tables.reports
    query = sa.select(reports.c.config_id, sa.func.max(reports.c.step)).group_by(reports.c.config_id)
    return {bytes(key): int(step) for key, step in _tuples(ledger, query)}


def _tuples(ledger: LedgerReader, query: sa.Select[Any]) -> Sequence[Any]:
    with guard(ledger.where), ledger.connect() as connection:
        return connection.execute(query).all()

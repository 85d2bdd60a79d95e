"""The backlog of a search that learns from its results; `sweeps.suggestions` has what it keeps in the ledger."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from results import Ledger, Plan, ResultRow
from results.constraints import parse
from search_spaces.adaptive import FAILED, FILLED, Outcome, Seen
from search_spaces.adaptive.bayesian import REMEMBERED
from sweeps.feed import Point, Tally
from sweeps.requests import REQUEST
from sweeps.study import StudyError
from sweeps.suggestions import LEARNT, SUGGESTED, Expander, Result, Suggested, batches, elsewhere, family_of, results_of

if TYPE_CHECKING:
    from sweeps.search import Search

BARREN: Final = 4  # batches in a row without a new point, after which new ones are drawn at random


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
        self._names = ledger.header.metric_names
        self._bounds = parse(search.study.constraints, self._names)
        self._expand = Expander(ledger, search.config({}), search.study.search.replicates)
        self._index: dict[bytes, int] = {}  # number of each different configuration
        self._of: dict[bytes, Suggested] = {}  # the suggestion it is a member of
        self._results: dict[bytes, Outcome] = {}
        self._places: dict[bytes, list[int]] = {}  # of a suggestion, by its key: where in the history it stands
        self._history: list[Seen] = []
        self._held: deque[Point] = deque()
        self._waiting: set[bytes] = set()  # numbered below the total, without a result
        self._fill = 0
        self._wished = 0  # points at the front that somebody enqueued
        self.drained = False
        past = batches(ledger, plan)
        self._batch = past[0].size if past else search.batch
        self._suggester = search.suggester(self._batch)
        own = [batch for batch in past if not batch.request]
        self._asked, self._barren = len(own), _barren(own)
        self._elsewhere = self._learnt(folder, begun=bool(past))
        self._note([entry for batch in past for entry in batch.entries])

    @property
    def ahead(self) -> bool:
        """Whether what comes next does not depend on results; it does."""
        return False

    def take(self, n: int) -> list[Point]:
        """Returns up to n points; none while outcomes are awaited, or at the end (`drained`)."""
        while len(self._held) < n and not self.drained and self._ready():
            self._ask(n - len(self._held))
        taken = [self._held.popleft() for _ in range(min(n, len(self._held)))]
        self._wished = max(0, self._wished - len(taken))
        return taken

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
        metrics = [None] * len(self._names) if row.metrics is None else row.metrics
        self._learn(row.config_id, Result(row.status, dict(zip(self._names, metrics, strict=True)), step))

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
        try:
            self._search.accept(self._search.config(point))
        except Exception as error:  # anybody's check: a wish must not end a session
            raise StudyError(f"{type(error).__name__}: {error}") from error
        [entry] = self._expand([point], [{}])
        if (number := self._index.get(entry.key)) is not None:
            raise StudyError(f"trial {self._plan.offset + number} is this configuration already")
        if len(self._index) >= self._total:
            return False
        before = len(self._held)
        self._record([(point, {FILLED: True})], request)
        for wished in [self._held.pop() for _ in range(len(self._held) - before)][::-1]:
            self._held.insert(self._wished, wished)  # behind those wished for earlier
            self._wished += 1
        return True

    def _ready(self) -> bool:
        """Whether to ask now; finds out if there is nothing more to ask for."""
        if len(self._index) >= self._total:
            self.drained = True
        whole = self._suggester.generation is not None or self._search.study.search.deterministic
        return not self.drained and not (whole and self._waiting)

    def _ask(self, wanted: int) -> None:
        each = self._search.members
        room = -(-(self._total - len(self._index)) // each)
        if self._barren >= BARREN:
            points = self._unseen(self._batch)
            if not points:
                self.drained = True
                self._tally.total = len(self._index)
                return
            made = [(point, {FILLED: True}) for point in points]
        elif not self._asked and self._search.study.search.enqueue:
            made = [(dict(point), {FILLED: True}) for point in self._search.enqueued]
        else:
            # Where batches are whole, the last one is too: what is beyond the trials asked for waits until more are.
            whole = self._suggester.generation or (self._batch if self._search.study.search.deterministic else 0)
            n = whole or min(self._batch, room, -(-wanted // each))
            answers = self._suggester.suggest(self._elsewhere, self._history, n, self._asked)
            made = [(answer.point, dict(answer.attrs)) for answer in answers]
        self._record(made)

    def _record(self, made: Sequence[tuple[dict[str, Any], dict[str, Any]]], request: str = "") -> None:
        points, attrs = [point for point, _ in made], [given for _, given in made]
        wish: dict[str, Any] = {REQUEST: request} if request else {}
        self._ledger.record(SUGGESTED, family=self._family, batch=self._asked, size=self._batch, points=points, attrs=attrs, **wish)
        before = len(self._index)
        self._note(self._expand(points, attrs))
        if request:  # nothing the sampler did
            return
        self._barren = 0 if len(self._index) > before else self._barren + 1
        self._asked += 1

    def _note(self, entries: Sequence[Suggested]) -> None:
        """Enters suggestions into the history, and holds those that are new and have no result anywhere."""
        fresh: list[Point] = []
        for entry in entries:
            places = self._places.setdefault(entry.key, [])
            self._history.append(Seen(entry.point, self._history[places[0]].outcome if places else None, entry.attrs))
            places.append(len(self._history) - 1)
            for member in entry.members if len(places) == 1 else ():
                number = self._index[member.config_id] = len(self._index)
                self._of[member.config_id] = entry
                if number < self._total:
                    fresh.append(Point(number, member.config, member.config_id))
        found = results_of(self._ledger, [point.config_id for point in fresh])
        if reused := self._reuse([point for point in fresh if point.config_id not in found]):
            found |= results_of(self._ledger, list(reused))
        self._waiting.update(point.config_id for point in fresh if point.config_id not in found)
        for point in fresh:
            if point.config_id in found:
                self._tally.known += 1
                self._learn(point.config_id, found[point.config_id])
            else:
                self._held.append(point)

    def _learn(self, key: bytes, result: Result) -> None:
        """Takes a result; a suggestion's outcome is known when all its members' are."""
        self._waiting.discard(key)
        entry = self._of.get(key)
        if entry is None:
            return
        self._results[key] = self._outcome(result)
        outcomes = [self._results.get(member.config_id) for member in entry.members]
        if None in outcomes:
            return
        outcome = _mean([each for each in outcomes if each is not None])
        for place in self._places[entry.key]:
            seen = self._history[place]
            self._history[place] = Seen(seen.point, outcome, seen.attrs)

    def _unseen(self, n: int) -> list[dict[str, Any]]:
        """Draws points nobody has suggested; what was passed over stays passed over, so that another session draws the same."""
        made: list[dict[str, Any]] = []
        sampler = self._search.reserve
        while len(made) < n and self._fill < sampler.size:
            points = sampler.configs(self._fill, min(self._fill + max(64, n), sampler.size))
            for entry in self._expand(points, [{}] * len(points)):
                if len(made) == n:
                    break
                self._fill += 1
                if entry.key not in self._index:
                    made.append(dict(entry.point))
        return made

    def _outcome(self, result: Result) -> Outcome:
        def value(name: str) -> float:
            found = result.metrics.get(name)
            return math.nan if found is None else float(found)

        goals = [value(name) for name in self._search.objectives]
        lacks = [float(bound.shortfall(value(bound.metric))) for bound in self._bounds]
        if result.status == "failed" or not all(map(math.isfinite, [*goals, *lacks])):
            return FAILED
        return Outcome(tuple(goals), tuple(lacks), result.step if result.status == "stopped" else None)

    def _learnt(self, folder: Path, begun: bool) -> list[Seen]:
        """Returns results of other searches over these parameters: those there were when this one began, which it keeps."""
        for event in self._ledger.events(LEARNT, limit=None):
            if (detail := event["detail"])["family"] == self._family:
                rows = zip(detail["points"], detail["values"], detail["violations"], strict=True)
                return [Seen(point, Outcome(tuple(values), tuple(lacks))) for point, values, lacks in rows]
        if begun:
            return []
        told = [(point, self._outcome(result)) for point, result in elsewhere(self._search, self._ledger, folder)]
        told = [(point, outcome) for point, outcome in told if outcome.values][-REMEMBERED:]
        if told:
            values, violations = ([list(getattr(outcome, name)) for _, outcome in told] for name in ("values", "violations"))
            points = [point for point, _ in told]
            self._ledger.record(LEARNT, family=self._family, points=points, values=values, violations=violations)
        return [Seen(point, outcome) for point, outcome in told]


def _barren(own: Sequence[Any]) -> int:
    """Returns how many of the latest batches brought nothing new."""
    seen: set[bytes] = set()
    barren = 0
    for batch in own:
        keys = {entry.key for entry in batch.entries}
        barren = 0 if keys - seen else barren + 1
        seen |= keys
    return barren


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    """Returns the outcome of a suggestion from those of its members: their means, failed if one is, stopped if one was."""
    if len(outcomes) == 1:
        return outcomes[0]
    if not all(outcome.values for outcome in outcomes):
        return FAILED
    steps = [outcome.step for outcome in outcomes if outcome.step is not None]
    values, lacks = (np.mean([getattr(outcome, name) for outcome in outcomes], axis=0).tolist() for name in ("values", "violations"))
    return Outcome(tuple(values), tuple(lacks), min(steps, default=None))

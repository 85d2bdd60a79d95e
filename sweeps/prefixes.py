"""Packs of configurations that share work: a backlog that hands out together what begins alike, and first what nobody is at."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from results import ResultRow
from sweeps.feed import CHUNK, Point, Source

Prefixes = tuple[Hashable, ...]


class ByPrefix:
    """A backlog whose points are taken by what they share (`trainables.pipeline.Shares`).

    A pack begins with points whose shared work nobody has done or is doing, so that workers do different pieces side by side. Then come
    points whose work is done, and last those whose work is being done by another pack, which would wait for it.
    """

    def __init__(self, inner: Source, prefixes: Callable[[Mapping[str, Any]], Prefixes]):
        """Begins with nothing handed out.

        Args:
            inner: Knows its points beforehand; up to a chunk of them is looked at together.
            prefixes: Of a point's configuration.
        """
        self._inner, self._prefixes = inner, prefixes
        self._groups: dict[Prefixes, deque[Point]] = {}
        self._held = 0
        self._out: dict[bytes, Prefixes] = {}
        self._doing: Counter[Prefixes] = Counter()  # beginnings, by packs at work
        self._done: set[Prefixes] = set()

    @property
    def drained(self) -> bool:
        """Whether no point will come again."""
        return self._inner.drained and not self._held

    @property
    def settled(self) -> bool:
        """Whether nothing that was suggested awaits its result."""
        return self._inner.settled

    @property
    def ahead(self) -> bool:
        """Whether what comes next does not depend on results: what is done already decides the order."""
        return False

    def take(self, n: int) -> list[Point]:
        """Returns up to n points, of as few groups as there can be."""
        for point in self._inner.take(max(CHUNK, n) - self._held) if self._held < max(n, CHUNK // 2) else []:
            self._groups.setdefault(self._prefixes(point.config), deque()).append(point)
            self._held += 1
        taken: list[Point] = []
        for shared in self._order():
            group = self._groups[shared]
            while group and len(taken) < n:
                taken.append(group.popleft())
                self._out[taken[-1].config_id] = shared
                self._doing.update(_beginnings(shared))
            if not group:
                del self._groups[shared]
            if len(taken) == n:
                break
        self._held -= len(taken)
        return taken

    def put_back(self, points: list[Point]) -> None:
        """Returns points to the front of their groups."""
        for point in reversed(points):
            shared = self._out.pop(point.config_id)
            self._doing.subtract(_beginnings(shared))
            self._groups.setdefault(shared, deque()).appendleft(point)
            self._held += 1

    def task(self, point: Point) -> int | Mapping[str, Any]:
        """Returns what a worker makes the configuration from."""
        return self._inner.task(point)

    def told(self, row: ResultRow, step: int | None = None) -> None:
        """Takes a result: what its configuration shares is done."""
        if (shared := self._out.pop(row.config_id, None)) is not None:
            self._doing.subtract(_beginnings(shared))
            self._done.update(_beginnings(shared))
        self._inner.told(row, step)

    def _order(self) -> list[Prefixes]:
        """Returns the groups in the order they are to be taken; beside the first those that share most with it."""
        states = {shared: self._state(shared) for shared in self._groups}
        if not states:
            return []
        first = min(states, key=states.__getitem__)
        return sorted(states, key=lambda shared: (states[shared], -_common(shared, first)))

    def _state(self, shared: Prefixes) -> int:
        missing = [begin for begin in _beginnings(shared) if begin not in self._done]
        return 2 if any(self._doing[begin] > 0 for begin in missing) else 0 if missing else 1


def _beginnings(shared: Prefixes) -> list[Prefixes]:
    return [shared[: i + 1] for i in range(len(shared))]


def _common(one: Prefixes, other: Prefixes) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))

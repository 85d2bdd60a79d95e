"""Where a driver's time goes: wall and processor seconds by part, without counting a part's time for the one that called it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

LEDGER = ("open_attempt", "accept", "report", "known", "numbers", "record", "record_all", "close_attempt")
OTHER = "Tune"  # what is in none of the parts


class Clocks:
    """Adds up by part what the main thread does; the parts nest."""

    def __init__(self) -> None:
        self._wall: dict[str, float] = defaultdict(float)
        self._cpu: dict[str, float] = defaultdict(float)
        self._inside: list[str] = [OTHER]
        self._last = (time.monotonic(), time.thread_time())

    def _turn(self) -> None:
        now = (time.monotonic(), time.thread_time())
        part = self._inside[-1]
        self._wall[part] += now[0] - self._last[0]
        self._cpu[part] += now[1] - self._last[1]
        self._last = now

    def reading(self) -> dict[str, tuple[float, float]]:
        """Returns wall and processor seconds so far, by part."""
        self._turn()
        return {part: (self._wall[part], self._cpu[part]) for part in self._wall}

    def around(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a call whose time is the part's."""

        @wraps(call)
        def timed(*given: Any, **named: Any) -> Any:
            self._turn()
            self._inside.append(part)
            try:
                return call(*given, **named)
            finally:
                self._turn()
                self._inside.pop()

        return timed

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Times the parts of a driver while inside."""
        import ray
        from ray.air.execution._internal.actor_manager import RayActorManager

        from cluster._tune import FeedSearch
        from cluster._tune_steps import TrialSearch
        from results import Ledger
        from sweeps.feed import StudyFeed
        from sweeps.steps import StepFeed

        parts: Mapping[str, Sequence[tuple[Any, Sequence[str]]]] = {
            "ledger": [(Ledger, LEDGER)],
            "proposing": [(FeedSearch, ("suggest",)), (TrialSearch, ("suggest",))],
            "taking results": [(StudyFeed, ("deliver",)), (StepFeed, ("report", "finished"))],
            "Ray: waiting": [(ray, ("wait",))],
            "Ray: fetching": [(ray, ("get",))],
            "Ray: calling": [(RayActorManager, ("_schedule_tracked_actor_task",))],
        }
        with ExitStack() as stack:
            for part, owners in parts.items():
                for owner, names in owners:
                    for name in names:
                        stack.enter_context(patch.object(owner, name, self.around(part, getattr(owner, name))))
            yield


def between(before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Returns the difference of two readings, the largest first."""
    none = (0.0, 0.0)
    found = {part: tuple(b - a for a, b in zip(before.get(part, none), now, strict=True)) for part, now in after.items()}
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))  # type: ignore[arg-type]

"""How often something may be looked at: what costs much seldom, so that looking never costs more than a share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

SHARE: Final = 0.05  # of the time that one thing may cost

T = TypeVar("T")


class Paced(Generic[T]):
    """Keeps what a function last returned and asks it again once that has paid off.

    Attributes:
        cost: Seconds that the last call took.
    """

    def __init__(self, ask: Callable[..., T], share: float = SHARE, clock: Callable[[], float] = time.perf_counter):
        self._ask, self._share, self._clock = ask, share, clock
        self._key: Any = object()
        self._due = float("-inf")
        self._value: T | None = None
        self.cost = 0.0

    def __call__(self, key: Any, *args: Any, force: bool = False) -> T:
        """Returns what the function says of `args`; of another `key` than before only when it is due.

        Args:
            key: What the answer depends on; the same one again is answered from memory.
            args: For the function.
            force: Ask now, because it is the last time.
        """
        now = self._clock()
        if key != self._key and (force or now >= self._due):
            self._value = self._ask(*args)
            self._key = key
            self.cost = self._clock() - now
            self._due = self._clock() + self.cost / self._share
        return self._value  # type: ignore[return-value]

    def take(self, key: Any, value: T, cost: float) -> None:
        """Takes an answer that was worked out elsewhere."""
        self._key, self._value, self.cost = key, value, cost
        self._due = self._clock() + cost / self._share

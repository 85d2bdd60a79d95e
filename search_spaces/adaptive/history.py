"""What a sampler that learns is told, and what it answers.

Such a sampler keeps no state either: a batch of suggestions is a function of the space, the seed, the number of the batch and
the history. So nothing is pickled, and after a kill the history, read from the ledger, is all it takes to go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from search_spaces.errors import SpaceError

FILLED: Final = "filled"  # attribute of a point that was drawn at random because the sampler had no new one


@dataclass(frozen=True)
class Outcome:
    """How a configuration did.

    Attributes:
        values: One per objective, each finite; empty if it failed or has none.
        violations: One per constraint, positive where it is not met, by how much.
        step: Where it was stopped early; None if it ran to its end.
    """

    values: tuple[float, ...] = ()
    violations: tuple[float, ...] = ()
    step: int | None = None


FAILED: Final = Outcome()


@dataclass(frozen=True)
class Seen:
    """A suggestion of an earlier batch, or a result from elsewhere.

    Attributes:
        point: Its parameters.
        outcome: None while it is still at work.
        attrs: What the sampler gave along with it.
    """

    point: Mapping[str, Any]
    outcome: Outcome | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suggestion:
    """A configuration to try.

    Attributes:
        point: Its parameters.
        attrs: Of JSON's types; comes back in `Seen`.
    """

    point: dict[str, Any]
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """What is better.

    Attributes:
        directions: "max" or "min", one per objective.
        constraints: Number of violations each outcome comes with.
    """

    directions: tuple[str, ...] = ("max",)
    constraints: int = 0

    def __post_init__(self) -> None:
        if not self.directions or any(direction not in ("max", "min") for direction in self.directions):
            raise SpaceError(f"objective: directions are max or min, not {self.directions}")


class Suggester(Protocol):
    """A sampler that learns."""

    @property
    def generation(self) -> int | None:
        """How many suggestions are asked for at once, all outcomes before them known; None if any number will do."""
        ...

    def suggest(self, elsewhere: Sequence[Seen], history: Sequence[Seen], n: int, batch: int) -> list[Suggestion]:
        """Suggests configurations, possibly such as were suggested before.

        Args:
            elsewhere: Results of other searches over the same parameters.
            history: Every earlier suggestion of this search, in order.
            n: How many.
            batch: Number of the batch, from 0; it seeds the batch.
        """
        ...

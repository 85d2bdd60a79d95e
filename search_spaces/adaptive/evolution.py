"""CMA-ES in whole generations: its distribution is made again from the history, which costs less than to keep it.

Hansen and Ostermeier 2001, with a margin for axes of few values (Hamano et al. 2022), both by the `cmaes` package. It works in the
unit cube of the space, where logarithmic axes are even and conditions are respected; a coordinate of a parameter that does not
exist is ignored. Only ranks of outcomes count: feasible ones by value, then others by how far they are from it, failed ones last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from search_spaces.adaptive.axes import Axes
from search_spaces.adaptive.history import FAILED, FILLED, Goal, Outcome, Seen, Suggestion
from search_spaces.space import Space

SIGMA: Final = 0.3  # of the unit cube, to begin with
FEW: Final = 1000  # values up to which an axis is one of steps


@dataclass(eq=False)
class _State:
    """The distribution after some generations."""

    optimizer: Any
    generations: int = 0
    restarts: int = 0


@dataclass(frozen=True, eq=False)
class Evolution:
    """CMA-ES with restarts.

    Attributes:
        space: To draw from.
        goal: What is better; one objective.
        seed: Any integer.
        generation: Suggestions of a generation.
    """

    space: Space
    goal: Goal = field(default_factory=Goal)
    seed: int = 0
    generation: int = 16

    @cached_property
    def _steps(self) -> NDArray[np.float64]:
        """Distance between the values of each axis in the unit cube; 0 for a continuous one."""
        counts = [None if p.values is None else len(p.values) for p in self.space.parameters if p.sampled]
        steps = [0.0 if n is None or n > FEW else 1.0 / max(n - 1, 1) for n in counts]
        return np.array([*steps, *[0.0] * (max(2, len(steps)) - len(steps))])  # the package needs two axes

    @cached_property
    def _axes(self) -> Axes:
        return Axes(self.space)

    @cached_property
    def _memo(self) -> dict[int, _State]:
        return {}

    def suggest(self, elsewhere: Sequence[Seen], history: Sequence[Seen], n: int, batch: int) -> list[Suggestion]:
        """Suggests a generation; `n` is its size."""
        history = [seen for seen in history if FILLED not in seen.attrs]
        state = self._memo.get(0)
        if state is None or state.generations * self.generation > len(history):
            state = self._memo[0] = _State(self._begin(elsewhere, 0))
        while (state.generations + 1) * self.generation <= len(history):
            start = state.generations * self.generation
            self._learn(state, history[start : start + self.generation])
        return [Suggestion(point) for point in self.space.from_unit(self._units([x for x, _ in self._ask(state)]))][:n]

    def _begin(self, elsewhere: Sequence[Seen], restart: int) -> Any:
        from cmaes import CMAwM

        rng = np.random.default_rng(self._number("begin", restart))
        d = len(self._steps)
        mean = np.full(d, 0.5) if restart == 0 else rng.uniform(0.1, 0.9, d)
        if (known := self._best(elsewhere)) is not None:
            mean[: self.space.dimension] = known
        bounds = np.tile([0.0, 1.0], (d, 1))
        return CMAwM(mean, SIGMA, bounds, self._steps, population_size=self.generation, seed=self._number("seed", restart))

    def _best(self, elsewhere: Sequence[Seen]) -> NDArray[np.float64] | None:
        """Returns where in the cube the best result from elsewhere lies."""
        sign = -1.0 if self.goal.directions[0] == "max" else 1.0
        drawn = [(_key(seen.outcome, sign), self._axes.drawn(seen.point)) for seen in elsewhere if seen.outcome and seen.outcome.values]
        mapped = [(key, made) for key, made in drawn if made is not None]
        return self._axes.units(min(mapped, key=lambda pair: pair[0])[1]) if mapped else None

    def _ask(self, state: _State) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Draws the generation that follows: the same one every time."""
        state.optimizer.reseed_rng(self._number("ask", state.generations))
        return [state.optimizer.ask() for _ in range(self.generation)]

    def _learn(self, state: _State, generation: Sequence[Seen]) -> None:
        drawn = self._ask(state)
        sign = -1.0 if self.goal.directions[0] == "max" else 1.0
        keys = [_key(seen.outcome or FAILED, sign) for seen in generation]
        places = {key: float(i) for i, key in enumerate(sorted(set(keys)))}
        state.optimizer.tell([(x, places[key]) for (_, x), key in zip(drawn, keys, strict=True)])
        state.generations += 1
        flat = len(places) == 1
        if flat or state.optimizer.should_stop():
            state.restarts += 1
            state.optimizer = self._begin((), state.restarts)

    def _units(self, drawn: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Returns the middle of the bin of each value of a stepped axis, as `Space.from_unit` cuts the cube."""
        x = np.clip(np.array(drawn), 0.0, 1.0)[:, : self.space.dimension]
        steps = self._steps[: self.space.dimension]
        counts = np.where(steps > 0, np.rint(1.0 / np.where(steps > 0, steps, 1.0)) + 1, 1)
        return np.where(steps > 0, (np.rint(x * (counts - 1)) + 0.5) / counts, x)

    def _number(self, purpose: str, i: int) -> int:
        return int.from_bytes(
            blake2b(f"cmaes:{self.seed}:{purpose}:{i}".encode(), digest_size=4, person=b"alphasweep-cma").digest(), "little"
        )


def _key(outcome: Outcome, sign: float) -> tuple[bool, bool, float, float]:
    """Returns what sorts outcomes, the best first."""
    if not outcome.values:
        return True, True, 0.0, 0.0
    return False, outcome.step is not None, sum(max(0.0, v) for v in outcome.violations), sign * outcome.values[0]

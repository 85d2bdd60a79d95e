"""Which configurations come, in what order.

A sampler has no state: its n-th configuration is a function of the space, the seed and n, so a study resumes at any
number, on any machine, in any order, and a longer run of the same sampler begins with the shorter one (but a whole
grid comes in order, a part of it shuffled).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import SpaceError, did_you_mean
from search_spaces.permutation import Permutation
from search_spaces.space import Space

SAMPLERS: Final[dict[str, str]] = {
    "grid": "every point of a grid in order; with fewer trials than points, a shuffled subset without repetition",
    "random": "independent draws; on a grid a shuffle without repetition",
    "qmc": "scrambled Sobol points, which cover the space more evenly than random ones; needs trials",
}

_GAP: Final = 16  # numbers that are left out of a window, at most, between two that are wanted


class Sampler(Protocol):
    """A sequence of configurations with random access."""

    @property
    def size(self) -> int:
        """Number of configurations."""

    def configs(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Returns configurations [start, stop)."""

    def at(self, numbers: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Returns the configurations with these numbers, in their order."""

    def alike(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the numbers, ascending, in an order in which neighbours have as much in common as the sampler can tell."""


def make_sampler(name: str, space: Space, *, trials: int | None = None, seed: int = 0) -> Sampler:
    """Makes a sampler.

    Args:
        name: One of `SAMPLERS`.
        space: What it draws from.
        trials: Number of configurations; None is all of a grid. A grid never gives more than it has.
        seed: Any integer.

    Raises:
        SpaceError: Unknown name, a grid asked of a space with continuous axes, trials missing or not positive.
    """
    if name not in _MAKERS:
        raise SpaceError(f"sampler: {name!r} is unknown; use one of {', '.join(SAMPLERS)}.{did_you_mean(name, SAMPLERS)}")
    if trials is not None and (isinstance(trials, bool) or not isinstance(trials, (int, np.integer)) or trials < 1):
        raise SpaceError(f"trials: {trials!r} is not allowed; write a whole number from 1, or leave it out")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise SpaceError(f"seed: {seed!r} is not allowed; write a whole number")
    return _MAKERS[name](space, None if trials is None else int(trials), int(seed))


@dataclass(frozen=True)
class InOrder:
    """All points of a grid, in order."""

    space: Space
    size: int

    def configs(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Returns points [start, stop)."""
        _check_window(start, stop, self.size)
        return list(self.space.points(start, stop))

    def at(self, numbers: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Returns the points with these numbers."""
        return self.space.points_at(numbers)

    def alike(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the numbers as they are: neighbours in a grid differ in one parameter."""
        return numbers


@dataclass(frozen=True)
class Shuffled:
    """Points of a grid in a seeded order, each once."""

    space: Space
    size: int
    order: Permutation

    def configs(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Returns the points at places [start, stop) of the order."""
        _check_window(start, stop, self.size)
        return self.at(np.arange(start, stop))

    def at(self, numbers: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Returns the points at these places of the order."""
        return self.space.points_at(self.order(numbers))

    def alike(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the places by their points' place in the grid."""
        return numbers[np.argsort(self.order(numbers), kind="stable")]


@dataclass(frozen=True)
class Independent:
    """Independent draws: configuration i owns a fixed stretch of one Philox stream (Salmon et al. 2011)."""

    space: Space
    size: int
    seed: int

    def configs(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Returns draws [start, stop)."""
        _check_window(start, stop, self.size)
        blocks = -(-self.space.dimension // 4)  # a counter gives four 64-bit words
        stream = np.random.Philox(key=_seed_of("random", self.seed), counter=start * blocks)
        words = stream.random_raw((stop - start) * blocks * 4).reshape(stop - start, blocks * 4)[:, : self.space.dimension]
        return self.space.from_unit((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)

    def at(self, numbers: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Returns the draws with these numbers."""
        return _picked(numbers, self.configs)

    def alike(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the numbers as they are: no draw is like another."""
        return numbers


@dataclass(frozen=True)
class Sobol:
    """Scrambled Sobol points (Owen 1998, as in scipy)."""

    space: Space
    size: int
    seed: int

    def configs(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Returns points [start, stop) of the sequence."""
        _check_window(start, stop, self.size)
        return self.space.from_unit(self._units(start, stop))

    def at(self, numbers: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Returns the points with these numbers."""
        return _picked(numbers, self.configs)

    def alike(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the numbers as they are: neighbours are far apart, which is what the sequence is for."""
        return numbers

    def _units(self, start: int, stop: int) -> NDArray[np.float64]:
        from scipy.stats import qmc  # half a second to import, for those who ask for it

        n, d = stop - start, self.space.dimension
        if n == 0 or d == 0:
            return np.zeros((n, d))
        engine = qmc.Sobol(d, scramble=True, rng=np.random.Generator(np.random.PCG64(_seed_of("qmc", self.seed))))
        if start:
            engine.fast_forward(start)
            return np.asarray(engine.random(n))
        # scipy warns when the first request is not a power of two; one is.
        first = engine.random(1)
        return np.vstack([first, engine.random(n - 1)]) if n > 1 else np.asarray(first)


def _make_grid(space: Space, trials: int | None, seed: int) -> Sampler:
    if space.not_a_grid is not None:
        raise SpaceError(f"sampler: grid cannot enumerate this space. {space.not_a_grid}")
    size = space.size
    assert size is not None
    return InOrder(space, size) if trials is None or trials >= size else Shuffled(space, trials, Permutation(size, seed))


def _make_random(space: Space, trials: int | None, seed: int) -> Sampler:
    size = space.size
    if size is not None:
        return Shuffled(space, size if trials is None else min(trials, size), Permutation(size, seed))
    if trials is None:
        raise SpaceError(f"trials: random draws from this space have no end, say how many. {space.not_a_grid}")
    return Independent(space, trials, seed)


def _make_qmc(space: Space, trials: int | None, seed: int) -> Sampler:
    if trials is None:
        raise SpaceError("trials: qmc has no end, say how many (a power of two covers the space best), or use the sampler grid or random")
    if trials > 2**30:
        raise SpaceError(f"trials: qmc has at most 2**30 points, {trials} asked for; use the sampler random")
    return Sobol(space, trials, seed)


_MAKERS: Final[dict[str, Callable[[Space, int | None, int], Sampler]]] = {"grid": _make_grid, "random": _make_random, "qmc": _make_qmc}


def _seed_of(purpose: str, seed: int) -> int:
    return int.from_bytes(blake2b(f"{purpose}:{seed}".encode(), digest_size=16, person=b"alphasweep-smp").digest(), "little")


def _picked(numbers: NDArray[np.int64], configs: Callable[[int, int], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Returns configurations by number, from windows that end at wide gaps: a window costs more than a few too many."""
    made: list[dict[str, Any]] = []
    for near in np.split(numbers, np.flatnonzero(abs(np.diff(numbers)) > _GAP) + 1):
        if len(near):
            start = int(near.min())
            window = configs(start, int(near.max()) + 1)
            made += [window[i] for i in (near - start).tolist()]
    return made


def _check_window(start: int, stop: int, size: int) -> None:
    if not 0 <= start <= stop <= size:
        raise IndexError(f"configurations [{start}, {stop}) asked for, the sampler has {size:,}")

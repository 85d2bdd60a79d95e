"""The search space: which configurations exist."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_spaces.columns import Column, evaluate, holds, to_rows, truth
from search_spaces.errors import SpaceError, did_you_mean
from search_spaces.grid import MOST_STRATA, Grid, Strata, combine
from search_spaces.parameters import Constant, Derived, Integers, Interval, Parameter
from search_spaces.parsing import parse_parameter

_CHUNK: Final = 4096
_CHECKED_COMBINATIONS: Final = 10_000


class Row(NamedTuple):
    """A parameter for display."""

    name: str
    kind: str
    values: str
    when: str


@dataclass(frozen=True, eq=False)
class Space:
    """Parameters and the conditions under which they exist; equal to another if the digests are.

    Attributes:
        parameters: In topological order (what others depend on comes first), otherwise as the user wrote them.
        path: Where it stands in the study file, for messages.
    """

    parameters: tuple[Parameter, ...]
    path: str = "space"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @classmethod
    def parse(cls, mapping: Mapping[str, Any], path: str = "space") -> Space:
        """Reads a space.

        Args:
            mapping: Parameter name to a list (axis), a scalar (constant) or a mapping with a kind.
            path: Where it stands, for messages.

        Raises:
            SpaceError: Anything that is not allowed; names the key, what is allowed and the nearest spelling.
        """
        if not isinstance(mapping, Mapping):
            raise SpaceError(f"{path}: a space is a mapping of parameters, such as `rank: [8, 16]`; this is {mapping!r}")
        written = [parse_parameter(name, spec, path) for name, spec in mapping.items()]
        _check_references(written, path)
        space = cls(tuple(_sorted(written, path)), path)
        space._check_conditions()
        space._check_derived()
        return space

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in order."""
        return tuple(p.name for p in self.parameters)

    @property
    def dimension(self) -> int:
        """Number of sampled axes: all parameters but constants and derived ones."""
        return sum(p.sampled for p in self.parameters)

    @property
    def is_grid(self) -> bool:
        """Whether its points can be enumerated."""
        return self.not_a_grid is None

    @cached_property
    def not_a_grid(self) -> str | None:
        """Why its points cannot be enumerated and what to do about it; None if they can."""
        continuous = [p for p in self.parameters if p.sampled and p.values is None]
        if continuous:
            axes = ", ".join(f"{self.path}.{p.name} ({p.kind} {p.text})" for p in continuous)
            verb = "is" if len(continuous) == 1 else "are"
            return f"{axes} {verb} continuous: add `points: N`, list the values, or use the sampler random or qmc"
        if self._strata.overflow:
            name, count = next(iter(self._strata.overflow.items()))
            return (
                f"{self.path}.{name}: the parameters that conditions depend on make at least {count:,} combinations, "
                f"the limit is {MOST_STRATA:,}: use a larger `step`, fewer values, or the sampler random or qmc with trials"
            )
        return None

    @property
    def size(self) -> int | None:
        """Exact number of points, None if they cannot be enumerated."""
        return self._grid.size if self.is_grid else None

    def extremes(self) -> Iterator[tuple[str, Any]]:
        """Yields (parameter, value) for what must be allowed if all is: each listed value, the ends of ranges and intervals."""
        for p in self.parameters:
            ends = (p.low, p.high) if isinstance(p, (Interval, Integers)) else p.values or ()
            yield from ((p.name, value) for value in ends)

    def describe(self) -> list[Row]:
        """Returns a row of text per parameter: name, kind, values, when."""
        return [Row(p.name, p.kind, p.text, p.when.text if p.when else "") for p in self.parameters]

    def to_dict(self) -> dict[str, Any]:
        """Returns the canonical mapping, of plain lists and scalars; `Space.parse` reads it back.

        The order of its keys numbers the points: whoever stores it sorted must store `names` as well.
        """
        return {p.name: p.to_spec() for p in self.parameters}

    @cached_property
    def digest(self) -> str:
        """Name of this space with its numbering: 32 hexadecimal digits.

        The parameters' order counts, because it numbers the points; expressions count as written; 1 and 1.0 are the same.
        """
        text = json.dumps([[name, _integral(spec)] for name, spec in self.to_dict().items()], separators=(",", ":"))
        return blake2b(text.encode(), digest_size=16, person=b"alphasweep-spc").hexdigest()

    def point(self, i: int) -> dict[str, Any]:
        """Returns point i of the grid, without visiting the others.

        Points are numbered like nested loops, the first parameter slowest; in a conditional space the parameters that
        conditions depend on come before all others.

        Args:
            i: In [0, size).

        Raises:
            SpaceError: The space is not a grid.
            IndexError: No such point.
        """
        return self.points_at(np.array([i], dtype=object))[0]

    def points(self, start: int = 0, stop: int | None = None) -> Iterator[dict[str, Any]]:
        """Yields points [start, stop) of the grid."""
        size = self._grid.size
        stop = size if stop is None else stop
        if not 0 <= start <= stop <= size:
            raise IndexError(f"{self.path}: points [{start}, {stop}) asked for, there are {size:,}")
        chunks = (np.arange(at, min(at + _CHUNK, stop), dtype=object) for at in range(start, stop, _CHUNK))
        return (point for chunk in chunks for point in self.points_at(chunk))

    def points_at(self, indices: NDArray[Any]) -> list[dict[str, Any]]:
        """Returns the points of the given numbers: int64 (n,), or object (n,) of integers for sizes beyond 2**62.

        Raises:
            SpaceError: The space is not a grid.
            IndexError: A number outside [0, size).
        """
        size = self._grid.size
        if len(indices) and not (indices.min() >= 0 and indices.max() < size):
            raise IndexError(f"{self.path}: points {indices.min()} to {indices.max()} asked for, there are {size:,}")
        return to_rows(self._grid.columns(indices), len(indices))

    def from_unit(self, u: NDArray[np.float64]) -> list[dict[str, Any]]:
        """Maps points of the unit cube to configurations.

        Finite axes have equal bins, `points` included; logarithmic ones are even in the logarithm. The coordinate of a
        parameter that does not exist in a configuration is ignored.

        Args:
            u: In [0, 1], shape (n, dimension), in the order of the sampled parameters.
        """
        u = np.asarray(u, dtype=float)
        if u.ndim != 2 or u.shape[1] != self.dimension or not ((u >= 0) & (u <= 1)).all():
            raise SpaceError(f"{self.path}: from_unit needs numbers in [0, 1] of shape (n, {self.dimension}), not {u.shape}")
        n, axis, columns = len(u), 0, dict[str, Column]()
        for p in self.parameters:
            mask = holds(p.when, columns, n)
            if isinstance(p, Derived):
                column = evaluate(p.expression, columns, n, mask)
            elif isinstance(p, Constant):
                column = Column.constant(p.value, n)
            else:
                column = p.from_unit(u[:, axis])
                axis += 1
            columns[p.name] = column.where(mask)
        return to_rows(columns, n)

    @cached_property
    def _strata(self) -> Strata:
        return combine(self.parameters, {name for p in self.parameters if p.when for name in p.when.names})

    @cached_property
    def _grid(self) -> Grid:
        if self.not_a_grid is not None:
            raise SpaceError(self.not_a_grid)
        return Grid(self.parameters, self._strata)

    def _check_conditions(self) -> None:
        """Refuses conditions that no combination of their parents meets."""
        by_name = {p.name: p for p in self.parameters}
        for p in self.parameters:
            if p.when is None or any(mask.any() for mask in truth(p.when, self._strata.columns, self._strata.n)):
                continue
            reasons = []
            for name in p.when.names:
                parent = by_name[name]
                only = f" and exists only when {parent.when.text!r}" if parent.when else ""
                reasons.append(f"; {self.path}.{name} is {parent.text}{only}")
            known = [v for name in p.when.names for v in (by_name[name].values or ())[:1000] if isinstance(v, str)]
            hint = next((h for text in _texts(p.when.text) if text not in known and (h := did_you_mean(text, known))), "")
            raise SpaceError(f"{p.when.path}: {p.when.text!r} can never hold, so {p.name} would never exist{''.join(reasons)}.{hint}")

    def _check_derived(self) -> None:
        """Finds a derived parameter that has no value somewhere now, not in the middle of a sweep (if it is quick to see)."""
        for p in self.parameters:
            if isinstance(p, Derived):
                combine(self.parameters, {p.name}, limit=_CHECKED_COMBINATIONS)


def _check_references(parameters: Sequence[Parameter], path: str) -> None:
    names = [p.name for p in parameters]
    for p in parameters:
        for expression in p.expressions:
            for name in expression.names:
                if name == p.name:
                    raise SpaceError(f"{expression.path}: {expression.text!r} refers to {name!r} itself")
                if name not in names:
                    others = [n for n in names if n != p.name]
                    hint = did_you_mean(name, [*others, "True", "False", "None"])
                    at = expression.column_of(name)
                    raise SpaceError(
                        f"{expression.path}: {expression.text!r} refers to {name!r} (column {at}), which is not a parameter of {path}; "
                        f"they are {', '.join(others) or 'none'}. Text needs quotes.{hint}"
                    )


def _sorted(parameters: Sequence[Parameter], path: str) -> list[Parameter]:
    """Topological order, the user's where it is free."""
    left, done = list(parameters), list[Parameter]()
    placed: set[str] = set()
    while left:
        ready = next((p for p in left if placed.issuperset(p.parents)), None)
        if ready is None:
            raise SpaceError(_cycle_message(left, path))
        left.remove(ready)
        done.append(ready)
        placed.add(ready.name)
    return done


def _cycle_message(left: Sequence[Parameter], path: str) -> str:
    parents = {p.name: [n for n in p.parents if any(n == q.name for q in left)] for p in left}
    chain = [left[0].name]
    while chain[-1] not in chain[:-1]:
        chain.append(parents[chain[-1]][0])
    chain = chain[chain.index(chain[-1]) :]
    return f"{path}.{chain[0]}: depends on itself: {' → '.join(chain)}; break the circle"


def _texts(expression: str) -> list[str]:
    """Returns the text literals of an expression."""
    return [piece for quote in "'\"" for piece in expression.split(quote)[1::2]]


def _integral(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_integral(v) for v in value]
    return {k: _integral(v) for k, v in value.items()} if isinstance(value, dict) else value

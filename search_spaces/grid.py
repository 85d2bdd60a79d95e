"""A grid of any size with random access: only the parameters that conditions depend on are ever combined.

Let C be the parameters that conditions refer to, directly or through other conditions and derived parameters. Each
combination of C that exists is a *stratum*: within it every other parameter either exists or does not, so its points
are a plain product, numbered in mixed radix. Point i lies in the stratum found by bisection of the cumulative counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from search_spaces.columns import Column, Mask, evaluate, holds, truth
from search_spaces.expressions import UNKNOWN
from search_spaces.parameters import Derived, Parameter

MOST_STRATA: Final = 100_000
_INT64_SAFE: Final = 2**62


@dataclass(frozen=True, eq=False)
class Strata:
    """The combinations of some parameters that exist, the first slowest.

    Attributes:
        n: How many.
        columns: Their parameters; one that is not decided (continuous, or too many values) is UNKNOWN throughout.
        overflow: The undecided ones that have too many values, and how many combinations they would have made.
    """

    n: int
    columns: Mapping[str, Column]
    overflow: Mapping[str, int]


def closure(parameters: Sequence[Parameter], names: Iterable[str]) -> set[str]:
    """Returns the names and everything their existence and values depend on.

    Args:
        parameters: In topological order.
        names: Some of their names.
    """
    wanted = set(names)
    for parameter in reversed(parameters):
        if parameter.name in wanted:
            wanted.update(parameter.parents)
    return wanted


def combine(parameters: Sequence[Parameter], names: Iterable[str], limit: int = MOST_STRATA) -> Strata:
    """Combines the named parameters and their parents, conditions respected.

    Args:
        parameters: All, in topological order.
        names: The parameters to combine.
        limit: Most combinations; a parameter that would exceed it stays undecided.
    """
    wanted = closure(parameters, names)
    n, columns, overflow = 1, dict[str, Column](), dict[str, int]()
    for parameter in parameters:
        if parameter.name not in wanted:
            continue
        # Where it is not known whether a parameter exists, its value is not known either.
        exists, open_ = (np.ones(n, bool), np.zeros(n, bool)) if parameter.when is None else truth(parameter.when, columns, n)
        if isinstance(parameter, Derived):
            columns[parameter.name] = evaluate(parameter.expression, columns, n, exists).unknown_where(open_)
            continue
        values = parameter.values
        if values is not None:
            count = n + int(exists.sum()) * (len(values) - 1)
            if count > limit:
                overflow[parameter.name] = count
                values = None
        if values is None:
            columns[parameter.name] = Column.constant(UNKNOWN, n).where(exists | open_)
            continue
        counts = np.where(exists, len(values), 1)
        rows = np.repeat(np.arange(n), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        columns = {name: column.take(rows) for name, column in columns.items()}
        columns[parameter.name] = Column(within, values).where(exists[rows]).unknown_where(open_[rows])
        n = len(rows)
    return Strata(n, columns, overflow)


@dataclass(frozen=True, eq=False)
class Grid:
    """The points of a space whose axes are all finite.

    Attributes:
        parameters: In topological order.
        strata: The combinations of the parameters that conditions depend on, none undecided.
    """

    parameters: tuple[Parameter, ...]
    strata: Strata

    @cached_property
    def _free(self) -> list[tuple[str, Sequence[Any], Mask | None]]:
        """The axes outside the strata, with the strata each exists in."""
        axes = []
        for p in self.parameters:
            if p.name in self.strata.columns or p.values is None:
                continue
            axes.append((p.name, p.values, holds(p.when, self.strata.columns, self.strata.n)))
        return axes

    @cached_property
    def _ends(self) -> NDArray[Any]:
        """Cumulative number of points, by stratum; Python integers where int64 would overflow."""
        bound = self.strata.n * prod(len(values) for _, values, _ in self._free)
        counts = np.ones(self.strata.n, np.int64 if bound < _INT64_SAFE else object)
        for _, values, mask in self._free:
            counts = counts * (len(values) if mask is None else np.where(mask, len(values), 1).astype(counts.dtype))
        return np.asarray(np.cumsum(counts))

    @cached_property
    def size(self) -> int:
        """Exact number of points."""
        return int(self._ends[-1])

    def columns(self, indices: NDArray[Any]) -> dict[str, Column]:
        """Returns the points of the given numbers.

        Args:
            indices: In [0, size); int64 (n,), or object (n,) of Python integers for larger sizes.

        Returns:
            A column per parameter, in the parameters' order.
        """
        indices = indices.astype(self._ends.dtype)
        if self.strata.n == 1:
            stratum, rest = np.zeros(len(indices), np.int64), indices
        else:
            stratum = np.searchsorted(self._ends, indices, side="right")
            rest = indices - np.where(stratum > 0, self._ends[stratum - 1], 0)
        found = {name: column.take(stratum) for name, column in self.strata.columns.items()}
        for name, values, mask in reversed(self._free):
            here = None if mask is None else mask[stratum]
            if len(values) == 1:
                found[name] = Column.constant(values[0], len(indices)).where(here)
                continue
            radix = len(values) if here is None else np.where(here, len(values), 1).astype(self._ends.dtype)
            rest, codes = np.floor_divide(rest, radix), np.remainder(rest, radix)
            found[name] = Column(codes.astype(np.int64), values).where(here)
        n = len(indices)
        for p in self.parameters:
            if isinstance(p, Derived) and p.name not in found:
                found[p.name] = evaluate(p.expression, found, n, holds(p.when, found, n))
        return {p.name: found[p.name] for p in self.parameters}

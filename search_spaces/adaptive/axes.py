"""A space as Optuna's distributions: what is ordered stays ordered, what is finite stays finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.columns import Column, evaluate, holds, to_rows
from search_spaces.parameters import Constant, Derived, Integers, Interval, Listed, Parameter, key_of, significant
from search_spaces.space import Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class Axes:
    """The sampled parameters of a space, each with a distribution, and the way from a draw to a point and back.

    A listed or spaced axis is drawn by its place in the list: a whole number where the list is sorted, a category otherwise.

    Args:
        space: To draw from.
    """

    def __init__(self, space: Space):
        self.space = space

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The distribution of each sampled parameter."""
        return {p.name: _distribution(p) for p in self.space.parameters if p.sampled}

    @cached_property
    def _places(self) -> dict[str, dict[Any, int]]:
        listed = (p for p in self.space.parameters if p.sampled and not _drawn_by_value(p))
        return {p.name: {key_of(value): i for i, value in enumerate(p.values or ())} for p in listed}

    def draw(self, choose: Callable[[str, BaseDistribution], Any]) -> dict[str, Any]:
        """Returns the point that choices make, parameter by parameter; one that does not exist is not asked for."""
        columns: dict[str, Column] = {}
        for p in self.space.parameters:
            mask = holds(p.when, columns, 1)
            if mask is not None and not mask[0]:
                columns[p.name] = Column(np.array([-1]), ())
            elif isinstance(p, Derived):
                columns[p.name] = evaluate(p.expression, columns, 1, mask)
            elif isinstance(p, Constant):
                columns[p.name] = Column.constant(p.value, 1)
            else:
                columns[p.name] = Column.distinct([_value(p, choose(p.name, self.distributions[p.name]))])
        [point] = to_rows(columns, 1)
        return point

    def point(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the point of given choices."""
        return self.draw(lambda name, _: drawn[name])

    def drawn(self, point: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns the choices that make a point; None if it is not one of this space."""
        made: dict[str, Any] = {}

        def choose(name: str, distribution: BaseDistribution) -> Any:
            made[name] = self._place(name, point[name])
            return made[name]

        try:
            again = self.draw(choose)
        except (KeyError, ValueError, TypeError, OverflowError):  # the last for whole numbers beyond any float
            return None
        # Parameters it has besides belong to the trainable; those that depend on others must agree.
        return made if all(key_of(point.get(name, value)) == key_of(value) for name, value in again.items()) else None

    def has(self, name: str, value: Any) -> bool:
        """Returns whether a sampled parameter can have a value; of others, true."""
        try:
            return name not in self.distributions or self._place(name, value) is not None
        except (KeyError, ValueError, TypeError, OverflowError):
            return False

    def units(self, drawn: Mapping[str, Any]) -> NDArray[np.float64]:
        """Returns the coordinates of choices in the unit cube, float64 (dimension,); the middle where a parameter does not exist."""
        made = []
        for p in self.space.parameters:
            if not p.sampled:
                continue
            value = drawn.get(p.name)
            if value is None:
                made.append(0.5)
            elif _drawn_by_value(p):
                low, high, log = p.low, p.high, p.log  # type: ignore[attr-defined]
                a, b, x = (math.log(v) for v in (low, high, value)) if log else (low, high, value)
                made.append(0.5 if a == b else (x - a) / (b - a))
            else:
                made.append(value / max(len(p.values or ()) - 1, 1))
        return np.array(made)

    def _place(self, name: str, value: Any) -> Any:
        if name in self._places:
            return self._places[name][key_of(value)]
        if isinstance(value, bool) or not isinstance(value, Real) or not self.distributions[name]._contains(float(value)):
            raise ValueError(f"{value!r} is not a value of {name}")
        return value


def _drawn_by_value(p: Parameter) -> bool:
    return (isinstance(p, Interval) and p.points is None) or (isinstance(p, Integers) and not (p.log and p.step > 1))


def _distribution(p: Parameter) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(p, Interval) and p.points is None:
        return FloatDistribution(p.low, p.high, log=p.log)
    if isinstance(p, Integers) and _drawn_by_value(p):
        return IntDistribution(p.low, p.values[-1], log=p.log, step=p.step)
    values = p.values or ()
    if isinstance(p, Listed) and (p.categorical or not _sorted(values)):
        return CategoricalDistribution(range(len(values)))
    return IntDistribution(0, len(values) - 1)


def _sorted(values: Sequence[Any]) -> bool:
    if any(isinstance(value, bool) or not isinstance(value, Real) for value in values):
        return False
    return all(a < b for a, b in pairwise(values)) or all(a > b for a, b in pairwise(values))


def _value(p: Parameter, drawn: Any) -> Any:
    if not _drawn_by_value(p):
        assert p.values is not None
        return p.values[drawn]
    if isinstance(p, Interval):
        if drawn in (p.low, p.high):
            return drawn
        return float(np.clip(significant(np.array([float(drawn)])), p.low, p.high)[0])  # the same identity on all machines
    return int(drawn)

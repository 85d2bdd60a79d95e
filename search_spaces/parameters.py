"""The kinds of parameters: what values each has, and how a number in [0, 1) becomes one of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from search_spaces.columns import Column
from search_spaces.expressions import Expression

Unit = NDArray[np.float64]
DIGITS: Final = 12
_POWERS: Final = np.array([float(f"1e{k}") for k in range(302)])


@dataclass(frozen=True)
class Parameter:
    """What all kinds share.

    Attributes:
        name: Its key in a configuration.
        when: It exists only where this holds; None is always.
    """

    name: str
    when: Expression | None

    sampled: ClassVar[bool] = True

    @property
    def kind(self) -> str:
        """The word it is written with."""
        raise NotImplementedError

    @property
    def values(self) -> Sequence[Any] | None:
        """All values in grid order, None for a continuous axis."""
        raise NotImplementedError

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The expressions it is defined by, its condition included."""
        return () if self.when is None else (self.when,)

    @property
    def parents(self) -> tuple[str, ...]:
        """The parameters its expressions refer to."""
        return tuple(dict.fromkeys(name for expression in self.expressions for name in expression.names))

    @property
    def text(self) -> str:
        """Its values for display."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """Returns its canonical mapping without `when`."""
        raise NotImplementedError

    def to_spec(self) -> Any:
        """Returns what `Space.parse` reads, in canonical form."""
        spec = self.options()
        return spec if self.when is None else {**spec, "when": self.when.text}

    def from_unit(self, u: Unit) -> Column:
        """Maps numbers in [0, 1] to values: equal bins for a finite set."""
        values = self.values
        assert values is not None
        return Column(np.minimum((u * len(values)).astype(np.int64), len(values) - 1), values)


@dataclass(frozen=True)
class Constant(Parameter):
    """A scalar: the same value everywhere."""

    value: Any

    sampled: ClassVar[bool] = False
    kind = "constant"

    @property
    def values(self) -> Sequence[Any]:
        """The one value."""
        return (self.value,)

    @property
    def text(self) -> str:
        """The value."""
        return show(self.value)

    def to_spec(self) -> Any:
        """Returns the scalar."""
        return self.value


@dataclass(frozen=True)
class Listed(Parameter):
    """Values written out: `grid` (an axis, in its order) or `choice` (categories)."""

    listed: tuple[Any, ...]
    categorical: bool

    @property
    def kind(self) -> str:
        """Grid or choice."""
        return "choice" if self.categorical else "grid"

    @property
    def values(self) -> Sequence[Any]:
        """The list."""
        return self.listed

    @property
    def text(self) -> str:
        """The values, the middle left out of long lists."""
        shown = [show(v) for v in self.listed]
        return ", ".join(shown) if len(shown) <= 8 else f"{', '.join(shown[:4])}, … {shown[-1]} ({len(shown)} values)"

    def options(self) -> dict[str, Any]:
        """Returns {grid: […]} or {choice: […]}."""
        return {self.kind: [thaw(v) for v in self.listed]}

    def to_spec(self) -> Any:
        """Returns a plain list for an unconditional grid axis."""
        return super().to_spec() if self.categorical or self.when else self.options()["grid"]


@dataclass(frozen=True)
class Interval(Parameter):
    """Real numbers between two bounds, uniform on a linear or logarithmic scale; finite when it has `points`.

    Values carry 12 significant digits: exp and log differ in the last bit between machines, and a configuration must
    have the same identity on all of them.
    """

    low: float
    high: float
    log: bool
    points: int | None

    @property
    def kind(self) -> str:
        """Uniform or loguniform."""
        return "loguniform" if self.log else "uniform"

    @property
    def values(self) -> Sequence[Any] | None:
        """Evenly spaced values if there are points."""
        return None if self.points is None else _spaced(self.low, self.high, self.log, self.points)

    @property
    def text(self) -> str:
        """The bounds."""
        points = f", {self.points} points" if self.points else ""
        return f"{self.low!r} … {self.high!r}{' log' if self.log else ''}{points}"

    def options(self) -> dict[str, Any]:
        """Returns {uniform: [low, high]} with its points."""
        return {self.kind: [self.low, self.high]} | ({} if self.points is None else {"points": self.points})

    def from_unit(self, u: Unit) -> Column:
        """Maps [0, 1] to the interval, or to equal bins of its points."""
        return super().from_unit(u) if self.points is not None else Column.distinct(_scaled(u, self.low, self.high, self.log))


@dataclass(frozen=True)
class Integers(Parameter):
    """Whole numbers from low to high inclusive; `log` only changes how they are sampled."""

    low: int
    high: int
    step: int
    log: bool

    kind = "int"

    @property
    def values(self) -> Sequence[Any]:
        """A range, never written out."""
        return range(self.low, self.high + 1, self.step)

    @property
    def text(self) -> str:
        """The bounds."""
        return f"{self.low} … {self.high}{f' step {self.step}' if self.step > 1 else ''}{' log' if self.log else ''}"

    def options(self) -> dict[str, Any]:
        """Returns {int: [low, high]} with step and log if they are not the defaults."""
        extra: dict[str, Any] = ({"step": self.step} if self.step > 1 else {}) | ({"log": True} if self.log else {})
        return {"int": [self.low, self.high], **extra}

    def from_unit(self, u: Unit) -> Column:
        """Maps [0, 1] to equal bins, with log to the integer part of a log-uniform number in [low, high + 1)."""
        if not self.log:
            return super().from_unit(u)
        x = np.floor(significant(np.exp(math.log(self.low) + u * (math.log(self.high + 1) - math.log(self.low)))))
        return Column(np.clip(x, self.low, self.high).astype(np.int64) - self.low, self.values)


@dataclass(frozen=True)
class Derived(Parameter):
    """Computed from others; absent where one it needs is absent."""

    expression: Expression

    sampled: ClassVar[bool] = False
    kind = "derived"

    @property
    def values(self) -> Sequence[Any] | None:
        """None: they follow from others."""
        return None

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Its expression and its condition."""
        return (self.expression, *super().expressions)

    @property
    def text(self) -> str:
        """The expression."""
        return f"= {self.expression.text}"

    def options(self) -> dict[str, Any]:
        """Returns {derived: text}."""
        return {"derived": self.expression.text}


@lru_cache(maxsize=64)
def _spaced(low: float, high: float, log: bool, points: int) -> tuple[float, ...]:
    return tuple(_scaled(np.arange(points) / (points - 1), low, high, log))


def _scaled(u: Unit, low: float, high: float, log: bool) -> list[float]:
    x = np.exp(math.log(low) + u * (math.log(high) - math.log(low))) if log else low * (1 - u) + u * high
    x = np.where(u == 0, low, np.where(u == 1, high, significant(x)))  # the bounds themselves are kept to the last digit
    return [float(v) for v in np.clip(x, low, high).tolist()]


def significant(x: Unit) -> Unit:
    """Rounds to 12 significant digits, to the double nearest to that decimal."""
    with np.errstate(divide="ignore", over="ignore"):  # on the side that `where` drops
        exponent = np.where(x == 0, 0, np.floor(np.log10(np.abs(x)))).astype(np.int64)
        shift = DIGITS - 1 - np.clip(exponent, -290, 300)
        # Division by an exact power of ten is correctly rounded; multiplication by an inexact 1e-7 would not be.
        power = _POWERS[np.abs(shift)]
        up = shift >= 0
        scaled = np.rint(np.where(up, x * power, x / power))
        return np.asarray(np.where(up, scaled / power, scaled * power))


def key_of(value: Any) -> Any:
    """Returns a key equal for values that are the same configuration: 1 and 1.0 are, 1 and True are not."""
    if isinstance(value, (list, tuple)):
        return tuple(key_of(v) for v in value)
    return (isinstance(value, bool), value)


def thaw(value: Any) -> Any:
    """Returns tuples as lists, as a file has them."""
    return [thaw(v) for v in value] if isinstance(value, tuple) else value


def show(value: Any) -> str:
    """Returns a value as a study file has it: text in quotes only where it would look like something else."""
    if not isinstance(value, str):
        return json.dumps(thaw(value), ensure_ascii=False)
    return repr(value) if _looks_different(value) else value


def _looks_different(text: str) -> bool:
    if not text or text != text.strip() or "," in text or text in ("null", "true", "false"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True

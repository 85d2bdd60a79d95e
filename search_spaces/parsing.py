"""From what a user wrote to parameters, or to a message that says what to write instead."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from search_spaces.errors import SpaceError, did_you_mean
from search_spaces.expressions import LARGEST_BITS, Expression
from search_spaces.parameters import Constant, Derived, Integers, Interval, Listed, Parameter, key_of, show

MOST_POINTS: Final = 100_000
DEEPEST_LIST: Final = 8
_LARGEST_INT: Final = 2**53
_OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "grid": ("when",),
    "choice": ("when",),
    "uniform": ("points", "when"),
    "loguniform": ("points", "when"),
    "int": ("step", "log", "when"),
    "derived": ("when",),
}
KINDS: Final = tuple(_OPTIONS)
_KINDS_TEXT: Final = (
    "a list, a plain value, or one of {grid: […]}, {choice: […]}, {uniform: [a, b]}, {loguniform: [a, b]}, {int: [a, b]}, {derived: text}"
)


def parse_parameter(name: Any, spec: Any, path: str) -> Parameter:
    """Reads one parameter.

    Args:
        name: Its key.
        spec: A list, a scalar or a mapping with a kind.
        path: The path of the space, for messages.

    Raises:
        SpaceError: Anything that is not allowed.
    """
    if not isinstance(name, str) or not name.strip():
        hint = "put it in quotes (YAML reads on, off, yes, no and numbers as values)"
        raise SpaceError(f"{path}: the parameter name {name!r} is not text; {hint}")
    where = f"{path}.{name}"
    if isinstance(spec, Mapping):
        return _parse_mapping(name, spec, where)
    if _is_list(spec):
        return Listed(name, None, _values(spec, where), categorical=False)
    return Constant(name, None, _value(spec, where))


def _parse_mapping(name: str, spec: Mapping[Any, Any], where: str) -> Parameter:
    kinds = [key for key in spec if key in _OPTIONS]
    if len(kinds) > 1:
        raise SpaceError(f"{where}: {' and '.join(kinds)} exclude each other; keep one")
    if not kinds:
        strange = next((key for key in spec if key not in ("when", "points", "step", "log")), None)
        if strange is None:
            raise SpaceError(f"{where}: this mapping has no kind; write {_KINDS_TEXT}")
        raise SpaceError(f"{where}: unknown kind {strange!r}; write {_KINDS_TEXT}.{did_you_mean(strange, KINDS)}")
    kind = kinds[0]
    for key in spec:
        if key != kind and key not in _OPTIONS[kind]:
            allowed = ", ".join(_OPTIONS[kind])
            raise SpaceError(f"{where}.{key}: {kind} has no option {key!r}; allowed: {allowed}.{did_you_mean(key, _OPTIONS[kind])}")
    when = Expression.parse(spec["when"], f"{where}.when") if "when" in spec else None
    match kind:
        case "grid" | "choice":
            if not _is_list(spec[kind]):
                raise SpaceError(f"{where}.{kind}: a list of values is needed, this is {spec[kind]!r}")
            return Listed(name, when, _values(spec[kind], f"{where}.{kind}"), categorical=kind == "choice")
        case "uniform" | "loguniform":
            return _interval(name, when, kind, spec, where)
        case "int":
            return _integers(name, when, spec, where)
        case _:
            return Derived(name, when, Expression.parse(spec["derived"], f"{where}.derived"))


def _interval(name: str, when: Expression | None, kind: str, spec: Mapping[str, Any], where: str) -> Interval:
    log = kind == "loguniform"
    low, high = (float(x) for x in _bounds(spec[kind], f"{where}.{kind}"))
    if low == high:
        raise SpaceError(f"{where}.{kind}: both bounds are {low!r}; for a single value write `{name}: {low!r}`")
    _check_log(low, log, f"{where}.{kind}")
    points = spec.get("points")
    if points is not None:
        points = _whole(points, f"{where}.points")
        if not 2 <= points <= MOST_POINTS:
            raise SpaceError(f"{where}.points: {points} is not allowed; write a whole number from 2 to {MOST_POINTS:,}")
    interval = Interval(name, when, low, high, log, points)
    if interval.values is not None and len(set(interval.values)) < len(interval.values):
        raise SpaceError(f"{where}.points: {points} points between {low!r} and {high!r} are not distinct at 12 digits; use fewer points")
    return interval


def _integers(name: str, when: Expression | None, spec: Mapping[str, Any], where: str) -> Integers:
    low, high = (_whole(x, f"{where}.int") for x in _bounds(spec["int"], f"{where}.int"))
    if max(abs(low), abs(high)) > _LARGEST_INT:
        raise SpaceError(f"{where}.int: bounds beyond ±2**53 are not allowed")
    log = spec.get("log", False)
    if not isinstance(log, bool):
        raise SpaceError(f"{where}.log: {log!r} is not allowed; write true or false")
    _check_log(low, log, f"{where}.int")
    step = _whole(spec.get("step", 1), f"{where}.step")
    if step < 1:
        raise SpaceError(f"{where}.step: the step {step} is not positive; write a whole number from 1")
    if log and step > 1:
        raise SpaceError(f"{where}: step and log exclude each other; keep one, or list the values")
    return Integers(name, when, low, high, step, log)


def _check_log(low: float, log: bool, where: str) -> None:
    if log and low <= 0:
        raise SpaceError(f"{where}: a logarithmic axis needs positive bounds, the lower one is {low!r}")


def _bounds(value: Any, where: str) -> tuple[Any, Any]:
    items = list(value) if _is_list(value) else []
    if len(items) != 2:
        raise SpaceError(f"{where}: two bounds [low, high] are needed, this is {value!r}")
    low, high = (_number(x, where) for x in items)
    if low > high:
        raise SpaceError(f"{where}: the lower bound {low!r} is above the upper bound {high!r}; swap them")
    return low, high


def _number(value: Any, where: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        hint = ""
        if isinstance(value, str):
            hint = "; it is text"
            with contextlib.suppress(ValueError):
                meant = repr(float(value))
                hint += f", write it without quotes and with a dot ({meant if '.' in meant else meant.replace('e', '.0e')})"
        raise SpaceError(f"{where}: {value!r} is not a number{hint}")
    if isinstance(value, int) and value.bit_length() > LARGEST_BITS:
        raise SpaceError(f"{where}: this whole number has {value.bit_length()} bits; the limit is {LARGEST_BITS}")
    if not math.isfinite(value):
        raise SpaceError(f"{where}: {value!r} is not finite; write a finite number")
    return value


def _whole(value: Any, where: str) -> int:
    number = _number(value, where)
    if number != int(number):
        raise SpaceError(f"{where}: {number!r} is not a whole number")
    return int(number)


def _is_list(value: Any) -> bool:
    return isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, (str, bytes)) and getattr(value, "ndim", 1) > 0


def _values(items: Iterable[Any], where: str) -> tuple[Any, ...]:
    values = tuple(_value(item, f"{where}[{i}]") for i, item in enumerate(items))
    if not values:
        raise SpaceError(f"{where}: the list is empty; give at least one value")
    first: dict[Any, int] = {}
    for i, value in enumerate(values):
        if key_of(value) in first:
            raise SpaceError(f"{where}: {show(value)} is listed twice, at [{first[key_of(value)]}] and [{i}]; keep one")
        first[key_of(value)] = i
    return values


def _value(value: Any, where: str, depth: int = 0) -> Any:
    """Checks a value of a configuration; lists become tuples, so that nobody can change them."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return _number(value, where)
    if _is_list(value):
        if depth == DEEPEST_LIST:  # one that holds itself has no bottom
            raise SpaceError(f"{where}: lists are nested more than {DEEPEST_LIST} deep")
        return tuple(_value(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value))
    if isinstance(value, Mapping):
        raise SpaceError(f"{where}: a mapping cannot be a value; give its parts as parameters of their own, with `when`")
    raise SpaceError(f"{where}: a {type(value).__name__} cannot be a value; use numbers, text, true, false, null or lists of these")

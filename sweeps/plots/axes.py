"""The parameters of a study's searches as Optuna's distributions, with the values trials really had."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from results.records import Plan
from search_spaces import Space
from search_spaces.parameters import Derived, Integers, Interval, Listed, Parameter, show

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_LARGEST: Final = 2**53  # Optuna keeps numbers as doubles
_ABSENT: Final = object()


@dataclass(frozen=True, eq=False)
class Axes:
    """The parameters that were varied, and how to read them off a configuration.

    Attributes:
        distributions: By name, in the order of the study file; one for all searches of a study, wide enough for all.
        conditional: Those that some configurations do not have.
        derived: Parameters that follow from others, and so are no axes.
        conditions: Names that each plan made depend on a condition.
        defaults: What a configuration has that does not say.
    """

    distributions: Mapping[str, BaseDistribution]
    conditional: tuple[str, ...]
    derived: tuple[str, ...]
    conditions: Mapping[int, frozenset[str]]
    defaults: Mapping[str, Any]

    def values(self, plan: int, config: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the parameters a configuration has, as Optuna takes them; lists are text."""
        found = {}
        for name, distribution in self.distributions.items():
            value = _value(name, config, self.conditions[plan], self.defaults)
            if value is not _ABSENT:
                found[name] = _as(distribution, value)
        return found


def axes_of(plans: Sequence[Plan], defaults: Mapping[str, Any], configs: Sequence[tuple[int, Mapping[str, Any]]], few: int = 0) -> Axes:
    """Finds the axes of a study.

    What a configuration does not say is its default: where one search left a parameter alone that another swept, and in results reused
    from another study. What a condition took away is absent, whatever its default.

    Args:
        plans: The searches.
        defaults: Of the trainable.
        configs: Plan and configuration of the trials.
        few: Numbers of which there are no more than this are categories.
    """
    spaces = {plan.plan_id: Space.parse(plan.space) if plan.space else Space(()) for plan in plans}
    declared: dict[str, list[Parameter]] = {}
    for space in spaces.values():
        for parameter in space.parameters:
            declared.setdefault(parameter.name, []).append(parameter)
    conditions = {plan: frozenset(p.name for p in space.parameters if p.when) for plan, space in spaces.items()}
    # What no space has was held at one value: in all searches, or at one in each.
    names = dict.fromkeys([*declared, *(name for _, config in configs for name in config)])
    observed: dict[str, dict[Any, Any]] = {name: {} for name in names}
    gone = dict.fromkeys(names, False)
    for plan, config in configs:
        for name, seen in observed.items():
            value = _value(name, config, conditions[plan], defaults)
            if value is _ABSENT:
                gone[name] = True
            else:
                seen.setdefault(_key(value), value)
    made, derived = {}, []
    for name, seen in observed.items():
        parameters = declared.get(name, [])
        if any(isinstance(p, Derived) for p in parameters):
            derived.append(name)
        elif seen and (any(p.sampled for p in parameters) or len(seen) > 1):
            made[name] = distribution_of([p for p in parameters if p.sampled], list(seen.values()), few)
    return Axes(made, tuple(name for name in made if gone[name]), tuple(derived), conditions, dict(defaults))


def distribution_of(parameters: Sequence[Parameter], seen: Sequence[Any], few: int = 0) -> BaseDistribution:
    """Returns the distribution that holds all values of a parameter: numbers on their axis, all else as categories.

    Args:
        parameters: As the searches declared it; none where it was only ever held fixed.
        seen: Values trials had, at least one.
        few: Numbers of which there are no more than this are categories.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if len(seen) > few and all(_numeric(p) for p in parameters) and all(_number(value) and abs(value) <= _LARGEST for value in seen):
        ends = [*seen, *(end for p in parameters for end in _ends(p))]
        low, high = min(ends), max(ends)
        log = low > 0 and low < high and bool(parameters) and all(_log(p) for p in parameters)
        if all(isinstance(end, int) for end in ends) and not any(isinstance(p, Interval) for p in parameters):
            step = parameters[0].step if len(parameters) == 1 and isinstance(parameters[0], Integers) and not log else 1
            regular = all((value - low) % step == 0 for value in ends)
            return IntDistribution(low, high, log=log, step=step if regular else 1)
        return FloatDistribution(float(low), float(high), log=log)
    if all(map(_number, seen)):
        seen = sorted(seen)
    listed = [] if few else [value for p in parameters if isinstance(p, Listed) for value in p.listed]
    values = {_key(value): value for value in [*listed, *seen]}
    plain = [_choice(value) for value in values.values()]
    # Categories are told apart by ==, and 1 == True: then all are text.
    texts = any(a == b for i, a in enumerate(plain) for b in plain[:i])
    return CategoricalDistribution([show(value) for value in values.values()] if texts else plain)


def _value(name: str, config: Mapping[str, Any], conditional: frozenset[str], defaults: Mapping[str, Any]) -> Any:
    if name in config:
        return config[name]
    return _ABSENT if name in conditional else defaults.get(name, _ABSENT)


def _as(distribution: BaseDistribution, value: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(distribution, FloatDistribution):
        return float(value)
    if not isinstance(distribution, CategoricalDistribution):
        return value
    choice = _choice(value)
    same = any(choice == other and type(choice) is type(other) for other in distribution.choices)
    return choice if same else show(value) if show(value) in distribution.choices else choice


def _choice(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else show(value)


def _key(value: Any) -> tuple[bool, str | float]:
    """Returns a key equal for equal values: 1 and 1.0 are, 1 and True are not."""
    return (True, float(value)) if _number(value) and abs(value) <= _LARGEST else (False, f"{type(value).__name__} {show(value)}")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numeric(parameter: Parameter) -> bool:
    if isinstance(parameter, Listed):
        return not parameter.categorical and all(map(_number, parameter.listed))
    return isinstance(parameter, (Interval, Integers))


def _ends(parameter: Parameter) -> Sequence[Any]:
    if isinstance(parameter, Interval):
        return parameter.low, parameter.high
    values = parameter.values or ()
    return (min(values), max(values)) if values else ()


def _log(parameter: Parameter) -> bool:
    """Whether values are spaced by factors: declared so, or a list such as 8, 16, 32."""
    if isinstance(parameter, (Interval, Integers)):
        return parameter.log
    values = sorted(set(parameter.values or ()))
    if len(values) < 3 or values[0] <= 0:
        return False
    gaps = [b - a for a, b in pairwise(values)]
    factors = [math.log(b / a) for a, b in pairwise(values)]
    return min(factors) / max(factors) > min(gaps) / max(gaps)

"""Which scenarios a configuration is tried in: settings, and where they lie in each stretch of time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from trainables.contract import Parameter, TrainableError
from trainables.selector.inputs import SelectorInputs, Start

STARTS: Final = ("each", "flat")
SMALLEST_HOURS: Final = 24.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(h|d|w)")
_HOURS: Final = {"h": 1.0, "d": 24.0, "w": 168.0}
_START = Parameter("starts", "each", "choice", choices=STARTS)
_LAG = Parameter("extra_lags", 0, "int", 0, 1000)
_COST = Parameter("cost_multipliers", 1.0, "float", 0.0, 100.0)
_POSITIVE = Parameter("require_all_positive", False, "bool")


@dataclass(frozen=True)
class ScenarioSettings:
    """The scenarios of a study. A scenario is a fold × window × start × extra lag × cost multiplier.

    Attributes:
        windows: Hours before the end of every fold's tune window, ascending.
        starts: "flat", or "each": flat, and for each symbol all of the initial cash in it at its first close of the window.
        extra_lags: Bars added to the configuration's own lag, ascending.
        cost_multipliers: Multiply the configuration's own, ascending.
        require_all_positive: Whether the selection score takes off for a losing scenario.
    """

    windows: tuple[float, ...] = (168.0, 336.0, 720.0)
    starts: str = "each"
    extra_lags: tuple[int, ...] = (0,)
    cost_multipliers: tuple[float, ...] = (1.0,)
    require_all_positive: bool = False

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> ScenarioSettings:
        """Reads the keys that are scenarios' from a study's settings.

        Raises:
            TrainableError: Which key and entry, and what is allowed.
        """
        chosen: dict[str, Any] = {}
        if "windows" in settings:
            chosen["windows"] = _entries(settings, "windows", _duration)
        if "extra_lags" in settings:
            chosen["extra_lags"] = _entries(settings, "extra_lags", _LAG.check)
        if "cost_multipliers" in settings:
            chosen["cost_multipliers"] = _entries(settings, "cost_multipliers", _COST.check)
        for parameter in (_START, _POSITIVE):
            if parameter.name in settings:
                chosen[parameter.name] = parameter.check(settings[parameter.name], f"settings.{parameter.name}")
        return cls(**chosen)

    def describe(self) -> dict[str, Any]:
        """Returns the settings in their canonical form, for the protocol of an identity."""
        return {
            "window_hours": list(self.windows),
            "starts": self.starts,
            "extra_lags": list(self.extra_lags),
            "cost_multipliers": list(self.cost_multipliers),
            "require_all_positive": self.require_all_positive,
        }


NAMES: Final = tuple(ScenarioSettings.__dataclass_fields__)


@dataclass(frozen=True, eq=False)
class Starts:
    """The scenarios of one stretch of time at one lag and cost; all end where it ends.

    Attributes:
        starts: Where each begins, and in what.
        bars: Calendar bars of each one's window, float64 (len(starts),). A seeded start begins when its first close is known; what
            is left of the window before that counts as bars without a return.
    """

    starts: tuple[Start, ...]
    bars: np.ndarray


def starts_of(inputs: SelectorInputs, windows: Sequence[float], starts: str) -> Starts:
    """Places the scenarios of one stretch of time.

    Args:
        inputs: The stretch.
        windows: Lengths in hours; each reaches back from the end. Those that do not fit are left out, see `fits`.
        starts: One of `STARTS`. A symbol that cannot be held, or has no two bars in a window, is not seeded there.
    """
    found: list[Start] = []
    bars: list[float] = []
    end = inputs.hours[-1] + inputs.bar_hours
    for length in windows:
        if not fits(inputs, length):
            continue
        row = int(np.searchsorted(inputs.hours, end - length - 1e-9))
        held = [-1]
        if starts == "each":
            held += [a for a, asset in enumerate(inputs.panel.assets) if asset.can_long and _can_start(inputs, row, a)]
        found += [Start(row, a) for a in held]
        bars += [float(max(inputs.panel.n_bars - row, round(length / inputs.bar_hours)))] * len(held)
    return Starts(tuple(found), np.array(bars))


def _can_start(inputs: SelectorInputs, row: int, held: int) -> bool:
    try:
        inputs.first_close(row, held)
    except TrainableError:
        return False
    return True


def fits(inputs: SelectorInputs, hours: float) -> bool:
    """Whether a window of this length lies within the stretch and holds two bars."""
    return bool(2.0 * inputs.bar_hours <= hours + 1e-9 <= covered(inputs) + 2e-9)


def covered(inputs: SelectorInputs) -> float:
    """Hours from the first row of a stretch to the end of its last."""
    return float(inputs.hours[-1] + inputs.bar_hours - inputs.hours[0]) if inputs.panel.n_bars else 0.0


def _entries(settings: Mapping[str, Any], key: str, read: Callable[[Any, str], Any]) -> tuple[Any, ...]:
    """Returns a list setting, sorted: two orders of the same entries are the same study."""
    given = settings[key]
    if not isinstance(given, (list, tuple)) or not given:
        raise TrainableError(f"settings.{key}: {given!r} is not allowed; give a list of at least one entry")
    values = [read(value, f"settings.{key}[{i}]") for i, value in enumerate(given)]
    for i, value in enumerate(values):
        if value in values[:i]:
            raise TrainableError(f"settings.{key}[{i}]: {given[i]!r} is there already; every scenario counts once")
    return tuple(sorted(values))


def _duration(value: Any, where: str) -> float:
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    hours = float(found[1]) * _HOURS[found[2]] if found else 0.0
    if hours < SMALLEST_HOURS:
        raise TrainableError(f"{where}: {value!r} is not allowed; write a duration of at least {SMALLEST_HOURS:g}h like 168h, 14d or 2w")
    return hours

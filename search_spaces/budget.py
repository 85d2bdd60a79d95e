"""When a study has had enough: rules that end it, as a pure fold over its results so far.

Like `search_spaces.stopping` this knows no ledger and no clock. Results come in the order of the ledger, seconds are given; the same ones
again lead to the same end, so a study that was killed ends where it would have ended.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from search_spaces.errors import SpaceError, did_you_mean

KEYS: Final[dict[str, str]] = {
    "trials": "new results of the study",
    "hours": "wall clock of its sessions",
    "worker_hours": "hours of work, summed over packs or trials at once",
    "accelerator_hours": "worker hours times the cards of a trial",
    "cost": "price times accelerator hours, or worker hours where trials take no cards",
    "price": "of an hour",
    "target": "value of the objective that is good enough",
    "plateau": "results without a better one",
    "regret": "what is at most still to be gained",
}
HOURLY: Final = ("hours", "worker_hours", "accelerator_hours")
_UNITS: Final = {"s": 1.0 / 3600.0, "m": 1.0 / 60.0, "min": 1.0 / 60.0, "h": 1.0, "d": 24.0}
_LENGTH = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*(s|min|m|h|d)\s*", re.ASCII)
_SHARE = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+))\s*%\s*", re.ASCII)


@dataclass(frozen=True)
class Used:
    """What a study has used so far.

    Attributes:
        hours: Wall clock of its sessions.
        worker_hours: Hours of work, summed over packs or trials at once.
        accelerator_hours: The same times the cards each took.
        paid_hours: Hours that are paid for: of cards in sessions whose trials took some, else of work.
    """

    hours: float = 0.0
    worker_hours: float = 0.0
    accelerator_hours: float = 0.0
    paid_hours: float = 0.0


@dataclass(frozen=True)
class Met:
    """What ended a study.

    Attributes:
        kind: Of `KEYS`.
        value: What was reached; of a plateau how much the best rose.
        limit: What was allowed.
        after: Results there were, those taken over from other studies included.
        best: Best objective among those that count; NaN where no rule looks at values.
        over: Results a plateau is made of.
    """

    kind: str
    value: float
    limit: float
    after: int
    best: float = math.nan
    over: int = 0


@dataclass(frozen=True)
class Budget:
    """A study's `stop` section; whatever is reached first ends the study.

    Attributes:
        trials: New results.
        hours: Of wall clock.
        worker_hours: Of work.
        accelerator_hours: Of cards.
        cost: In the currency of `price`.
        price: Of a paid hour.
        target: Value of the objective.
        plateau: Counted results in which the best has to rise.
        gain: By more than this, in the objective's unit.
        regret: In the objective's unit.
        direction: Of the objective.
    """

    trials: int | None = None
    hours: float | None = None
    worker_hours: float | None = None
    accelerator_hours: float | None = None
    cost: float | None = None
    price: float = 0.0
    target: float | None = None
    plateau: int | None = None
    gain: float = 0.0
    regret: float | None = None
    direction: str = "max"

    def __bool__(self) -> bool:
        return any(getattr(self, key) is not None for key in KEYS if key != "price")

    @property
    def judges(self) -> bool:
        """Whether a rule looks at values, and not only at how many results there are or what they took."""
        return self.target is not None or self.plateau is not None or self.regret is not None

    @classmethod
    def parse(cls, section: Mapping[str, Any], *, direction: str = "max") -> Budget:
        """Validates a section; null is a rule left out.

        Args:
            section: Any of `KEYS`. Hours are numbers, or texts such as "90m"; values of the objective may be texts such as "20%".
            direction: Of the objective.

        Raises:
            SpaceError: An unknown key, a value that is not allowed, a cost without a price.
        """
        given = {key: value for key, value in section.items() if value is not None}
        for key in given:
            if key not in KEYS:
                raise SpaceError(f"stop.{key}: there is no such rule; known: {', '.join(KEYS)}.{did_you_mean(key, KEYS)}")
        made: dict[str, Any] = {"direction": direction}
        if "trials" in given:
            made["trials"] = _whole("trials", given["trials"])
        made |= {key: _hours(key, given[key]) for key in HOURLY if key in given}
        made |= {key: _positive(key, given[key]) for key in ("cost", "price") if key in given}
        if "cost" in given and "price" not in given:
            raise SpaceError("stop.cost: it needs the price of an hour; add stop.price, for example price: 2.5")
        if "price" in given and "cost" not in given:
            raise SpaceError("stop.price: it has no meaning without stop.cost; add cost: how much may be spent")
        if "target" in given:
            made["target"] = _value("target", given["target"])
        if "plateau" in given:
            made["plateau"], made["gain"] = _plateau(given["plateau"])
        if "regret" in given:
            made["regret"] = _value("regret", given["regret"])
            if made["regret"] <= 0.0:
                raise SpaceError(f"stop.regret: {given['regret']!r} is not allowed; give a number above 0, in the objective's unit")
        return cls(**made)


@dataclass
class Spending:
    """What a study has of its budget, result by result; the first rule that is met stays the one that ended it.

    Attributes:
        budget: The rules.
        results: Results so far.
        new: Of these, not taken over from another study.
        counted: Of these, completed, with a value, and within the study's constraints: those `target`, `plateau` and `regret` look at.
        best: Best value among the counted.
        met: What ended the study; None while nothing has.
    """

    budget: Budget
    results: int = 0
    new: int = 0
    counted: int = 0
    best: float = math.nan
    met: Met | None = None
    _bests: deque[float] = field(default_factory=deque, repr=False)

    def __post_init__(self) -> None:
        if self.budget.plateau is not None:
            self._bests = deque(maxlen=self.budget.plateau + 1)

    def result(self, value: float | None, new: bool = True) -> None:
        """Takes a result.

        Args:
            value: Its objective; None if it does not count: failed, stopped early, n/a, or outside of the constraints.
            new: Whether it was worked out for this study.
        """
        budget = self.budget
        self.results += 1
        self.new += new
        if value is not None and math.isfinite(value):
            self.counted += 1
            self.best = value if self.counted == 1 else max(self.best, value) if budget.direction == "max" else min(self.best, value)
            self._bests.append(self.best)
            if budget.target is not None and (self.best >= budget.target if budget.direction == "max" else self.best <= budget.target):
                self._end("target", self.best, budget.target)
            if budget.plateau is not None and len(self._bests) == budget.plateau + 1:
                risen = abs(self.best - self._bests[0])
                if risen <= budget.gain:
                    self._end("plateau", risen, budget.gain)
        if budget.trials is not None and self.new >= budget.trials:
            self._end("trials", self.new, budget.trials)

    def bound(self, left: float) -> None:
        """Takes an upper bound of what is still to be gained, NaN if there is none."""
        if self.budget.regret is not None and left < self.budget.regret:
            self._end("regret", left, self.budget.regret)

    def spent(self, used: Used) -> None:
        """Takes what has been used so far."""
        cost = used.paid_hours * self.budget.price
        for kind, value in (*((key, getattr(used, key)) for key in HOURLY), ("cost", cost)):
            limit = getattr(self.budget, kind)
            if limit is not None and value >= limit:
                self._end(kind, value, limit)

    def _end(self, kind: str, value: float, limit: float) -> None:
        if self.met is None:
            best = self.best if self.budget.judges else math.nan  # where no rule looks at values, a study built again does not read them
            over = self.budget.plateau or 0 if kind == "plateau" else 0
            self.met = Met(kind, float(value), float(limit), self.results, best, over)


def _whole(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpaceError(f"stop.{key}: {value!r} is not allowed; give a whole number of at least 1")
    return value


def _positive(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < math.inf:
        raise SpaceError(f"stop.{key}: {value!r} is not allowed; give a number above 0")
    return float(value)


def _hours(key: str, value: Any) -> float:
    match = _LENGTH.fullmatch(value) if isinstance(value, str) else None
    number = float(match[1]) * _UNITS[match[2]] if match else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0.0 < number < math.inf:
        raise SpaceError(f"stop.{key}: {value!r} is not allowed; give hours above 0, or a text such as '90m', '2h' or '3d'")
    return float(number)


def _value(key: str, value: Any) -> float:
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    number = float(match[1]) / 100.0 if match else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
        raise SpaceError(f"stop.{key}: {value!r} is not allowed; give a number in the objective's unit, or a text such as '20%'")
    return float(number)


def _plateau(given: Any) -> tuple[int, float]:
    section = given if isinstance(given, Mapping) else {"trials": given}
    for key in section:
        if key not in ("trials", "gain"):
            raise SpaceError(f"stop.plateau.{key}: there is no such option; known: trials, gain.{did_you_mean(key, ('trials', 'gain'))}")
    if section.get("trials") is None:
        raise SpaceError("stop.plateau: say in how many results the best has to rise, for example plateau: {trials: 100}")
    gain = _value("plateau.gain", 0.0 if section.get("gain") is None else section["gain"])
    if gain < 0.0:
        raise SpaceError(f"stop.plateau.gain: {section['gain']!r} is not allowed; give a number of at least 0, in the objective's unit")
    return _whole("plateau.trials" if isinstance(given, Mapping) else "plateau", section["trials"]), gain


__all__ = ["KEYS", "Budget", "Met", "Spending", "Used"]

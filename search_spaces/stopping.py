"""Which trials go on: rules that stop a trial no longer likely to win, as pure folds over the reports so far.

A scheduler holds nothing that is not in the reports it was given, in their order: given the same reports again it is in the
same state, so a study that was killed goes on with the decisions it would have made. It knows no clock, no Ray and no
ledger; `search_spaces.rehearsal` drives the same code on recorded curves.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, Protocol

from search_spaces.errors import SpaceError, did_you_mean

SCHEDULERS: Final[dict[str, str]] = {
    "none": "every trial runs to its end",
    "asha": "asynchronous successive halving: at each rung only the best 1/factor go on (Li et al., MLSys 2020)",
    "median": "stops a trial whose best is behind the median of the others' means (Golovin et al., KDD 2017)",
}
OPTIONS: Final[dict[str, tuple[str, ...]]] = {"none": (), "asha": ("grace", "factor", "brackets"), "median": ("grace", "least")}
SHOWN: Final = 10  # competitors named in a decision


@dataclass(frozen=True)
class Decision:
    """What became of a report.

    Attributes:
        stop: Whether the trial ends here.
        rule: "asha", "median", "diverged", or "" where nothing was decided.
        rung: Step at which it was judged.
        value: Its value there, as reported.
        cutoff: Value it had to reach.
        rank: Its place among those judged there, 1 is best.
        of: How many were judged there so far, itself included; without a rung, too few to judge by (median).
        ahead: Trials that were better, best first, at most ten.
    """

    stop: bool = False
    rule: str = ""
    rung: int | None = None
    value: float | None = None
    cutoff: float | None = None
    rank: int | None = None
    of: int | None = None
    ahead: tuple[int, ...] = ()

    def ends(self, step: int, last: int) -> bool:
        """Returns whether a trial is stopped early that reported at `step` of `last`.

        At its last step it is complete, whatever its place: nothing is left to be saved, and only others are compared with it.
        """
        return self.stop and (step < last or self.rule == "diverged")


class Scheduler(Protocol):
    """Decides after each report; a trial's last step is none of its business, see `Decision.ends`."""

    def report(self, trial: int, step: int, value: float) -> Decision:
        """Takes a report and decides; steps of a trial ascend."""
        ...


GO_ON: Final = Decision()


@dataclass
class Never:
    """Stops nothing."""

    def report(self, trial: int, step: int, value: float) -> Decision:
        """Goes on."""
        return GO_ON


def rungs(grace: int, factor: float, total: int) -> list[int]:
    """Returns the steps at which trials are judged: grace·factor^k below the last step."""
    found: list[int] = []
    step = float(grace)
    while round(step) < total:
        found += [round(step)] if round(step) not in found[-1:] else []  # a small factor may round to the same step again
        step *= factor
    return found


@dataclass
class Asha:
    """Asynchronous successive halving, the variant that stops and never pauses.

    A trial that reaches a rung is ranked among all that have reached it so far, itself included; it goes on if it is among
    the best max(1, n/factor) of n, rounded up. A report that passes several rungs is judged at each of them; one that is
    not a number is worst, and ends the trial.

    Attributes:
        total: Last step of a trial.
        grace: First rung: no trial is stopped before.
        factor: One in `factor` goes on at each rung.
        direction: "max" or "min".
        brackets: Groups that start at rungs grace, grace·factor, …; a trial's group is drawn from its number and the seed.
        seed: Of brackets and of the order among equal values.
    """

    total: int
    grace: int = 1
    factor: float = 4.0
    direction: str = "max"
    brackets: int = 1
    seed: int = 0
    _reached: dict[tuple[int, int], list[tuple[float, float, int]]] = field(default_factory=dict, repr=False)
    _judged: dict[int, int] = field(default_factory=dict, repr=False)

    def report(self, trial: int, step: int, value: float) -> Decision:
        """Judges the trial at every rung it has passed and was not judged at; the first that stops it decides."""
        bracket = self.bracket(trial)
        ladder = rungs(self.grace, self.factor, self.total)[bracket:]
        first = self._judged.get(trial, 0)
        diverged = not math.isfinite(value)
        passed = min(first + 1, len(ladder)) if diverged else bisect_right(ladder, step)
        decision = GO_ON
        for rung in ladder[first:passed]:
            decision = self._judge(bracket, trial, rung, value)
            if decision.stop:
                break
        self._judged[trial] = max(first, passed)
        if diverged:  # also before the first rung: it will not recover, and others must not be judged as if it had not been
            return Decision(True, "diverged", step, value, decision.cutoff, decision.rank, decision.of, decision.ahead)
        return decision

    def bracket(self, trial: int) -> int:
        """Returns the group of a trial; longer ladders get more, as exp(number of rungs)."""
        sizes = [len(rungs(self.grace, self.factor, self.total)) - b for b in range(self.brackets)]
        weights = [math.exp(size - max(sizes)) if size > 0 or b == 0 else 0.0 for b, size in enumerate(sizes)]
        drawn, sums = _uniform(self.seed, "bracket", trial) * sum(weights), 0.0
        for b, weight in enumerate(weights):
            sums += weight
            if drawn < sums:
                return b
        return 0

    def _judge(self, bracket: int, trial: int, rung: int, value: float) -> Decision:
        score = -math.inf if not math.isfinite(value) else value if self.direction == "max" else -value
        reached = self._reached.setdefault((bracket, rung), [])
        reached.append((-score, _uniform(self.seed, rung, trial), trial))
        reached.sort()
        rank = 1 + next(i for i, (_, _, other) in enumerate(reached) if other == trial)
        places = max(1, math.ceil(len(reached) / self.factor))
        last = -reached[places - 1][0]
        cutoff = last if self.direction == "max" else -last
        ahead = tuple(other for _, _, other in reached[: min(rank - 1, SHOWN)])
        return Decision(rank > places, "asha", rung, value, cutoff, rank, len(reached), ahead)


@dataclass
class Median:
    """The median rule: stop where the best value so far is behind the median of the other trials' means up to this step.

    Attributes:
        grace: No trial is stopped before this step.
        direction: "max" or "min".
        least: Other trials that must have come this far.
    """

    grace: int = 1
    direction: str = "max"
    least: int = 3
    _sums: dict[int, tuple[list[int], list[float]]] = field(default_factory=dict, repr=False)
    _best: dict[int, float] = field(default_factory=dict, repr=False)

    def report(self, trial: int, step: int, value: float) -> Decision:
        """Compares with what the others had at this step."""
        if not math.isfinite(value):
            return Decision(True, "diverged", step, value)
        sign = 1.0 if self.direction == "max" else -1.0
        steps, sums = self._sums.setdefault(trial, ([], [0.0]))
        steps.append(step)
        sums.append(sums[-1] + sign * value)
        best = self._best[trial] = max(self._best.get(trial, -math.inf), sign * value)
        if step < self.grace:
            return GO_ON
        means: list[tuple[float, int]] = []
        for other, (theirs, totals) in self._sums.items():
            if other != trial and theirs[-1] >= step and (seen := bisect_right(theirs, step)):
                means.append((totals[seen] / seen, other))
        if len(means) < self.least:
            return Decision(value=value, of=len(means) + 1)
        means.sort(key=lambda pair: (-pair[0], pair[1]))
        middle = len(means) // 2
        median = means[middle][0] if len(means) % 2 else 0.5 * (means[middle - 1][0] + means[middle][0])
        ahead = tuple(other for mean, other in means if mean > best)
        return Decision(best < median, "median", step, value, sign * median, len(ahead) + 1, len(means) + 1, ahead[:SHOWN])


@dataclass(frozen=True)
class Rules:
    """A study's `scheduler` section with everything it leaves out: recorded once, so that a study keeps what it began with.

    Attributes:
        kind: Of `SCHEDULERS`.
        total: Last step of the longest trial.
        grace: As of the schedulers.
        factor: Of asha.
        brackets: Of asha.
        least: Of median.
        direction: Of the objective.
        seed: Of the study.
    """

    kind: str = "asha"
    total: int = 1
    grace: int = 1
    factor: float = 4.0
    brackets: int = 1
    least: int = 3
    direction: str = "max"
    seed: int = 0

    @classmethod
    def parse(cls, section: Mapping[str, Any], *, total: int, direction: str, seed: int) -> Rules:
        """Validates a section.

        Args:
            section: `kind` (asha by default) and its options: `grace` (a tenth of the steps), `factor`, `brackets` (asha); `grace`,
                `least` (median).
            total: Last step of the longest trial.
            direction: Of the objective.
            seed: Of the study.

        Raises:
            SpaceError: Unknown kind or option, or a value that is not allowed.
        """
        kind = section.get("kind", "asha")
        if kind not in SCHEDULERS:
            hint = did_you_mean(str(kind), SCHEDULERS)
            raise SpaceError(f"scheduler.kind: {kind!r} is unknown; use one of {', '.join(SCHEDULERS)}.{hint}")
        options = OPTIONS[kind]
        for key in section:
            if key not in ("kind", *options):
                known = ", ".join(("kind", *options))
                raise SpaceError(f"scheduler.{key}: {kind} has no such option; known: {known}.{did_you_mean(str(key), options)}")
        factor = section.get("factor", 4)
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 1.0 < factor < 1e6:
            raise SpaceError(f"scheduler.factor: {factor!r} is not allowed; give a number above 1, for example 4")
        grace = _whole(section, "grace", max(1, total // 10), 1, total)
        brackets, least = _whole(section, "brackets", 1, 1, 20), _whole(section, "least", 3, 1, 1_000_000)
        return cls(kind, total, grace, float(factor), brackets, least, direction, seed)

    @property
    def judged(self) -> list[int]:
        """The rungs of asha; of the median rule the step from which it judges at every report."""
        if self.kind == "asha":
            return rungs(self.grace, self.factor, self.total)
        return [self.grace] if self.kind == "median" and self.grace < self.total else []

    def ladder(self, trial: int, last: int) -> list[int]:
        """Returns where one trial can be stopped, as `judged`: the rungs of its bracket that come before its own last step."""
        first = self._asha().bracket(trial) if self.kind == "asha" else 0
        return [step for step in self.judged[first:] if step < last]

    def changes(self, now: Rules) -> list[str]:
        """Returns what other rules would change, such as "grace 5, now 2": of options only those that both kinds have."""
        keys = ["kind", *(key for key in OPTIONS[now.kind] if key in OPTIONS[self.kind])]
        keys += ["total"] if self.kind == now.kind == "asha" else []
        pairs = [("last step" if key == "total" else key, getattr(self, key), getattr(now, key)) for key in keys]
        return [f"{name} {before}, now {after}" for name, before, after in pairs if before != after]

    def make(self) -> Scheduler:
        """Makes a scheduler that knows nothing yet."""
        if self.kind == "none":
            return Never()
        if self.kind == "median":
            return Median(self.grace, self.direction, self.least)
        return self._asha()

    def _asha(self) -> Asha:
        return Asha(self.total, self.grace, self.factor, self.direction, self.brackets, self.seed)


def _whole(section: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    value = section.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SpaceError(f"scheduler.{key}: {value!r} is not allowed; give a whole number from {low} to {high:,}")
    return value


def _uniform(*parts: Any) -> float:
    """Returns a number in [0, 1) that depends on the parts alone."""
    digest = blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64

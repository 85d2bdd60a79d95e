"""What is at most still to be gained: a bound of the regret, from a Gaussian process over the results so far (needs PyTorch)."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Final

from search_spaces.adaptive.axes import Axes
from search_spaces.adaptive.bayesian import quiet
from search_spaces.errors import SpaceError
from search_spaces.space import Space

LEAST: Final = 20  # results before the first bound
EVERY: Final = 8  # results between two bounds, at least; an eighth of them later, as fitting costs a second or more
HALF: Final = 150  # best, and as many latest, results a bound is made from


def check(space: Space) -> None:
    """Refuses a space for which there is no bound, and says if PyTorch is not there.

    Raises:
        SpaceError: As it says.
    """
    from optuna.distributions import CategoricalDistribution

    for p in space.parameters:
        if p.when:
            raise SpaceError(f"stop.regret: {p.name} exists only under a condition, which the estimate cannot model; use stop.plateau")
    for name, distribution in Axes(space).distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            raise SpaceError(f"stop.regret: the values of {name} have no order, which the estimate needs; use stop.plateau")
    if not space.dimension:
        raise SpaceError("stop.regret: the space has one point, so nothing is to be gained")
    if find_spec("torch") is None:
        raise SpaceError("stop.regret: needs PyTorch; install it (pip install 'alphasweep[chronos]'), or use stop.plateau")


@dataclass(frozen=True)
class Sample:
    """Results a bound is made from.

    Attributes:
        count: Results there were.
        points: Of the best and the latest, in their order.
        values: Their objective.
    """

    count: int
    points: Sequence[Mapping[str, Any]]
    values: Sequence[float]


@dataclass
class Remaining:
    """Says after which results to make a bound, and from what: a function of the results alone.

    Attributes:
        space: What was searched.
        direction: Of the objective.
        seed: Any integer.
    """

    space: Space
    direction: str = "max"
    seed: int = 0
    _count: int = 0
    _next: int = LEAST
    _best: list[tuple[float, int, Mapping[str, Any], float]] = field(default_factory=list, repr=False)
    _latest: deque[tuple[int, Mapping[str, Any], float]] = field(default_factory=lambda: deque(maxlen=HALF), repr=False)

    @cached_property
    def _axes(self) -> Axes:
        return Axes(self.space)

    def result(self, point: Mapping[str, Any], value: float) -> Sample | None:
        """Takes a result; returns the sample of a bound where one is due."""
        drawn = self._axes.drawn(point)
        if drawn is None:
            return None  # of an earlier search over other values
        self._count += 1
        better = value if self.direction == "max" else -value
        heapq.heappush(self._best, (better, -self._count, drawn, value))
        if len(self._best) > HALF:
            heapq.heappop(self._best)
        self._latest.append((self._count, drawn, value))
        if self._count < self._next:
            return None
        self._next = self._count + max(EVERY, self._count // 8)
        kept = {-number: (drawn, value) for _, number, drawn, value in self._best}
        kept |= {number: (drawn, value) for number, drawn, value in self._latest}
        chosen = [kept[number] for number in sorted(kept)]
        return Sample(self._count, [drawn for drawn, _ in chosen], [value for _, value in chosen])

    def bound(self, sample: Sample) -> float:
        """Returns by how much the best of the space is at most better than the best found, in the objective's unit; NaN if that fails.

        The largest upper confidence bound over the space minus the largest lower one among the results (Makarova et al. 2022, AutoML).
        """
        import optuna
        from optuna.terminator import RegretBoundEvaluator
        from optuna.trial import create_trial

        known = self._axes.distributions
        pairs = zip(sample.points, sample.values, strict=True)
        with quiet():
            trials = [create_trial(params=dict(p), distributions={name: known[name] for name in p}, value=value) for p, value in pairs]
            # Of all results: from the better half alone, Optuna's default, the bound of a quadratic grew as the search closed in.
            evaluator = RegretBoundEvaluator(top_trials_ratio=1.0, seed=(self.seed + sample.count) % 2**32)
            direction = optuna.study.StudyDirection.MAXIMIZE if self.direction == "max" else optuna.study.StudyDirection.MINIMIZE
            try:
                bound = float(evaluator.evaluate(trials, direction))
            except (RuntimeError, ValueError):  # the covariance is singular to working precision
                return math.nan
        return bound if math.isfinite(bound) else math.nan

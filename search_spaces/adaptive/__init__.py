"""Samplers that learn from results, as functions of the history alone."""

from __future__ import annotations

import math
from typing import Final

from search_spaces.adaptive.bayesian import GENETIC, POPULATION, STARTUP, Bayesian
from search_spaces.adaptive.evolution import Evolution
from search_spaces.adaptive.history import FAILED, FILLED, Goal, Outcome, Seen, Suggester, Suggestion
from search_spaces.errors import SpaceError, did_you_mean
from search_spaces.parameters import Listed
from search_spaces.space import Space

ADAPTIVE: Final[dict[str, str]] = {
    "auto": "grid if every point of a grid is asked for; else nsga2, cmaes or tpe, by objectives, trials and space",
    "tpe": "tree-structured Parzen estimator, multivariate, conditional parameters in groups; the all-rounder",
    "gp": "Gaussian process (needs PyTorch); the fewest trials, each of 0.1 to 1 s to suggest; TPE after 300",
    "cmaes": "CMA-ES in whole generations; for thousands of trials of numeric parameters",
    "nsga2": "NSGA-II; several objectives and many trials",
    "nsga3": "NSGA-III; three objectives and more",
}
MANY: Final = 1000
BATCHES: Final = 16


def batch_of(trials: int) -> int:
    """Returns how many suggestions are asked for at once unless somebody says so: a sixteenth of the trials, from 4 to 256."""
    return min(256, max(4, trials // BATCHES))


def choose(space: Space, trials: int | None, goal: Goal) -> str:
    """Returns the sampler that `auto` stands for.

    Args:
        space: To draw from.
        trials: How many; None is all of a grid.
        goal: What is better.
    """
    if space.size is not None and (trials is None or trials >= space.size):
        return "grid"
    many = trials is not None and trials >= MANY
    if len(goal.directions) > 1:
        return "nsga2" if many else "tpe"
    plain = not any(p.when or (isinstance(p, Listed) and p.categorical) for p in space.parameters)
    return "cmaes" if many and plain and space.dimension > 1 else "tpe"


def make_suggester(name: str, space: Space, goal: Goal, *, batch: int, seed: int = 0, startup: int | None = None) -> Suggester:
    """Makes a sampler that learns.

    Args:
        name: One of `ADAPTIVE` but auto, see `choose`.
        space: To draw from.
        goal: What is better.
        batch: Suggestions asked for at once.
        seed: Any integer.
        startup: Outcomes before which tpe and gp draw at random; 10 by default.

    Raises:
        SpaceError: Unknown name, an objective too many, a space it has nothing to draw from.
    """
    if name not in ADAPTIVE or name == "auto":
        raise SpaceError(f"sampler: {name!r} is unknown; use one of {', '.join(ADAPTIVE)}.{did_you_mean(name, ADAPTIVE)}")
    if not space.dimension:
        raise SpaceError(f"sampler: {name} needs a parameter with more than one value; {space.path} has none")
    if name == "cmaes":
        if len(goal.directions) > 1:
            raise SpaceError(f"sampler: cmaes has one objective, {len(goal.directions)} are given; use tpe, nsga2 or nsga3")
        return Evolution(space, goal, seed, max(batch, 4 + int(3 * math.log(space.dimension))))
    if name == "gp" and any(p.when for p in space.parameters):
        raise SpaceError("sampler: gp cannot model parameters with `when`; use tpe")
    return Bayesian(name, space, goal, seed, STARTUP if startup is None else startup, max(POPULATION, batch))


__all__ = [
    "ADAPTIVE",
    "FAILED",
    "FILLED",
    "GENETIC",
    "Goal",
    "Outcome",
    "Seen",
    "Suggester",
    "Suggestion",
    "batch_of",
    "choose",
    "make_suggester",
]

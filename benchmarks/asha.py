"""What early stopping saves and what it misses, on 200 sets of learning curves: ours, Ray's, Ray's with restarts, random search.

Every method sees the same curves. Regret is the last value of the best trial minus that of the method's winner, as a share of the
distance from the best to the median trial, at most 1; steps are a share of training everything to the end. The first rung is at a tenth
of the steps, as in a study that does not say otherwise.

    python benchmarks/asha.py [--sets 200] [--trials 100] [--steps 100] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ray.tune.schedulers.async_hyperband import _Bracket

from search_spaces.rehearsal import Rehearsal, rehearse
from search_spaces.stopping import GO_ON, Asha, Decision, Median

OURS = "alphasweep asha, factor 4 (the default)"
REGIMES = ("smooth", "noisy", "crossing", "diverging")


def curves(regime: str, n: int, steps: int, seed: int) -> np.ndarray:
    """Makes learning curves, (n, steps): saturating exponentials; higher is better."""
    rng = np.random.default_rng([REGIMES.index(regime), seed])
    quality = rng.normal(size=n)
    t = np.arange(1, steps + 1) / steps
    speed = np.exp(rng.normal(np.log(0.12), 0.4, size=n))
    if regime == "crossing":  # the better, the slower: early ranks mislead
        speed = speed * np.exp(0.5 * quality)
    noise = {"smooth": 0.01, "noisy": 0.25, "crossing": 0.05, "diverging": 0.05}[regime]
    made = (quality[:, None] + 3.0) * (1.0 - np.exp(-t / speed[:, None])) + noise * rng.normal(size=(n, steps))
    if regime == "diverging":
        for trial in np.flatnonzero(rng.random(n) < 0.15):
            made[trial, rng.integers(steps) :] = np.nan
    return made


@dataclass
class RayAsha:
    """Ray's own rungs behind our interface; `forget_every` reports they are lost, as `Tuner.restore` loses them."""

    grace: int
    total: int
    factor: float
    forget_every: int = 0

    def __post_init__(self) -> None:
        self._reports = 0
        self._bracket = _Bracket(self.grace, self.total, self.factor, 0)

    def report(self, trial: int, step: int, value: float) -> Decision:
        """Asks Ray's bracket."""
        self._reports += 1
        if self.forget_every and self._reports % self.forget_every == 0:
            self._bracket = _Bracket(self.grace, self.total, self.factor, 0)
        if step >= self.total:
            return GO_ON
        action = self._bracket.on_result(_Trial(str(trial)), step, value)  # type: ignore[arg-type]
        return Decision(action == "STOP", "ray")


@dataclass(frozen=True)
class _Trial:
    trial_id: str


def random_search(made: np.ndarray, budget: int, steps: int) -> Rehearsal:
    """Trains the first trials to the end until the budget is spent."""
    n = max(1, budget // steps)
    found = rehearse(_Never(), made[:n], range(1, steps + 1))
    best = np.nanmax(made[:, -1])
    own = made[found.winner, -1] if found.winner >= 0 else -np.inf
    return Rehearsal(found.reached, {}, found.winner, n * steps, len(made) * steps, float(best - own))


class _Never:
    def report(self, trial: int, step: int, value: float) -> Decision:
        return GO_ON


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--json")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)  # Ray's percentile of a rung of diverged trials
    total, grace, axis = given.steps, given.steps // 10, range(1, given.steps + 1)
    methods: dict[str, Callable[[int], object]] = {
        OURS: lambda s: Asha(total, grace, 4.0, seed=s),
        "alphasweep asha, factor 3": lambda s: Asha(total, grace, 3.0, seed=s),
        "alphasweep median": lambda s: Median(grace),
        "Ray ASHA, factor 4": lambda s: RayAsha(grace, total, 4.0),
        "Ray ASHA, factor 4, restored every 400 reports": lambda s: RayAsha(grace, total, 4.0, 400),
        "Ray ASHA, factor 4, restored every 100 reports": lambda s: RayAsha(grace, total, 4.0, 100),
    }
    rows: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for k in range(given.sets):
        regime = REGIMES[k % len(REGIMES)]
        made = curves(regime, given.trials, given.steps, k)
        spread = np.nanmax(made[:, -1]) - np.nanmedian(made[:, -1])
        for name, make in methods.items():
            found = rehearse(make(k), made, axis)  # type: ignore[arg-type]
            rows.setdefault(name, {}).setdefault(regime, []).append((found.spent / found.full, min(1.0, found.regret / spread)))
            if name == OURS:
                chance = random_search(made, found.spent, total)
                rows.setdefault("random search, same steps", {}).setdefault(regime, []).append(
                    (chance.spent / chance.full, min(1.0, chance.regret / spread))
                )
    print(f"{given.sets} sets of {given.trials} trials × {given.steps} steps, 4 workers; mean steps spent (1 = all) and mean regret")
    print(f"{'':<48}{'steps':>8}{'saving':>8}{'regret':>8}   regret by regime: " + ", ".join(REGIMES))
    out = {}
    for name, by_regime in rows.items():
        every = np.array([pair for pairs in by_regime.values() for pair in pairs])
        each = [float(np.mean([r for _, r in by_regime[regime]])) for regime in REGIMES]
        steps, regret = every.mean(axis=0)
        out[name] = {"steps": steps, "regret": regret, "by_regime": dict(zip(REGIMES, each, strict=True))}
        print(f"{name:<48}{steps:>8.3f}{1 / steps:>7.1f}×{regret:>8.1%}   " + "  ".join(f"{r:>6.1%}" for r in each))
    if given.json:
        with open(given.json, "w") as file:
            json.dump(out, file, indent=2)


if __name__ == "__main__":
    main()

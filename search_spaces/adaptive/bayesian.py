"""Optuna's samplers, asked in batches: a study in memory is built from the history for each batch, and thrown away."""

from __future__ import annotations

import heapq
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from search_spaces.adaptive.axes import Axes
from search_spaces.adaptive.history import FAILED, Goal, Outcome, Seen, Suggestion
from search_spaces.errors import SpaceError
from search_spaces.space import Space

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

# Asking costs time in proportion to the trials an estimate is made from; beyond this many the best and the latest stand for all.
REMEMBERED: Final = 300
BEST: Final = 100
STARTUP: Final = 10
POPULATION: Final = 50
FAILURE: Final = 1e6  # by how much a failure breaks its constraint, of which those of metrics are relative
GP_BATCH: Final = 8  # suggestions of one batch from the Gaussian process, of 0.1 to 1 s each; TPE fills the rest
GP_TRIALS: Final = 300  # outcomes from which fitting it (cubic in their number) no longer pays
GENETIC: Final = ("nsga2", "nsga3")


@dataclass(frozen=True, eq=False)
class Bayesian:
    """TPE, a Gaussian process, NSGA-II or NSGA-III.

    Suggestions still at work count as bad while a batch is asked for, so that its members keep apart (constant liar).

    Attributes:
        kind: tpe, gp, nsga2 or nsga3.
        space: To draw from.
        goal: What is better.
        seed: Any integer.
        startup: Outcomes before which it draws at random.
        population: Of a generation of nsga2 and nsga3.
    """

    kind: str
    space: Space
    goal: Goal = field(default_factory=Goal)
    seed: int = 0
    startup: int = STARTUP
    population: int = POPULATION

    @property
    def generation(self) -> int | None:
        """None: any number may be asked for, and is worth it at any time."""
        return None

    @cached_property
    def _axes(self) -> Axes:
        return Axes(self.space)

    @cached_property
    def _trials(self) -> dict[int, tuple[Seen, optuna.trial.FrozenTrial | None]]:
        """Trials made from entries of the history before, by the entry's identity in memory."""
        return {}

    def suggest(self, elsewhere: Sequence[Seen], history: Sequence[Seen], n: int, batch: int) -> list[Suggestion]:
        """Suggests configurations, see `Suggester`."""
        import optuna

        with quiet():
            everything = [*elsewhere, *history]
            known = self._remembered(everything)
            study = optuna.create_study(directions=["maximize" if d == "max" else "minimize" for d in self.goal.directions])
            study.add_trials([trial for trial in map(self._trial, known) if trial is not None])
            seed = int.from_bytes(
                blake2b(f"{self.kind}:{self.seed}:{batch}".encode(), digest_size=4, person=b"alphasweep-ask").digest(), "little"
            )
            judged = sum(seen.outcome is not None and bool(seen.outcome.values) for seen in everything)
            kind = "tpe" if self.kind == "gp" and judged > GP_TRIALS else self.kind
            made = []
            for i in range(n):
                if i == 0 or (kind == "gp" and i == GP_BATCH):
                    study.sampler = self._sampler("tpe" if i else kind, seed + i)
                trial = study.ask()
                made.append(Suggestion(self._axes.draw(_chooser(trial)), self._generation(study)))
            return made

    def _generation(self, study: optuna.Study) -> dict[str, Any]:
        """Returns what a genetic sampler has to know of its latest suggestion later."""
        if self.kind not in GENETIC:
            return {}
        attrs = study.get_trials(deepcopy=False)[-1].system_attrs
        return {key: value for key, value in attrs.items() if key.endswith(":generation")}

    def _sampler(self, kind: str, seed: int) -> optuna.samplers.BaseSampler:
        from optuna import samplers

        if kind == "tpe":
            return samplers.TPESampler(
                seed=seed,
                multivariate=True,
                group=any(p.when for p in self.space.parameters),
                constant_liar=True,
                n_startup_trials=self.startup,
            )
        if kind == "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=self.population)
        if kind == "nsga3":
            return samplers.NSGAIIISampler(seed=seed, population_size=self.population)
        try:
            import torch  # noqa: F401
        except ImportError:
            raise SpaceError("sampler: gp needs PyTorch; install it (pip install 'alphasweep[chronos]'), or use tpe") from None
        return samplers.GPSampler(seed=seed, n_startup_trials=self.startup)

    def _remembered(self, known: Sequence[Seen]) -> list[Seen]:
        """Returns what is worth remembering, in order: all of a short history, else what is at work, the best and the latest."""
        if self.kind in GENETIC or len(known) <= REMEMBERED:
            return list(known)
        ended = [i for i, seen in enumerate(known) if seen.outcome is not None and seen.outcome.values]
        sign = -1.0 if self.goal.directions[0] == "max" else 1.0
        best = heapq.nsmallest(BEST, ended, key=lambda i: _rank(known[i].outcome or FAILED, sign))
        latest = [i for i, seen in enumerate(known) if seen.outcome is not None][-(REMEMBERED - BEST) :]
        keep = {*best, *latest, *(i for i, seen in enumerate(known) if seen.outcome is None)}
        return [known[i] for i in sorted(keep)]

    def _trial(self, seen: Seen) -> optuna.trial.FrozenTrial | None:
        held = self._trials.get(id(seen))
        if held is None or held[0] is not seen:
            made = self._made(seen)
            if made is not None:
                made.__class__ = _shared_type()
            held = self._trials[id(seen)] = (seen, made)
        return held[1]

    def _made(self, seen: Seen) -> optuna.trial.FrozenTrial | None:
        from optuna.trial import TrialState, create_trial

        params = self._axes.drawn(seen.point)
        if params is None:
            return None
        common: dict[str, Any] = {
            "params": params,
            "distributions": {name: self._axes.distributions[name] for name in params},
            "system_attrs": dict(seen.attrs),
        }
        outcome = seen.outcome
        if outcome is None:
            return create_trial(state=TrialState.RUNNING, **common)
        if not outcome.values and self.kind == "gp":
            return create_trial(state=TrialState.FAIL, **common)  # it would take any value we gave it for a measured one
        if outcome.step is not None and len(self.goal.directions) > 1:
            return create_trial(state=TrialState.FAIL, **common)  # nobody knows where such a one belongs in a front
        # A failure breaks a constraint of its own by more than any other, so it is worse than all that have values.
        bounds = outcome.violations or (0.0,) * self.goal.constraints
        common["constraints"] = {f"c{i}": violation for i, violation in enumerate(bounds)}
        common["constraints"]["failed"] = 0.0 if outcome.values else FAILURE
        if not outcome.values:
            return create_trial(values=[0.0] * len(self.goal.directions), **common)
        if outcome.step is not None:
            return create_trial(state=TrialState.PRUNED, intermediate_values={outcome.step: outcome.values[0]}, **common)
        return create_trial(values=list(outcome.values), **common)


@cache
def _shared_type() -> type[optuna.trial.FrozenTrial]:
    """Returns a trial that Optuna's storage does not copy in depth, which is most of what adding one costs: nobody changes it."""
    from optuna.trial import FrozenTrial

    class Shared(FrozenTrial):
        def __deepcopy__(self, memo: Any) -> Any:
            return copy(self)

    return Shared


def _chooser(trial: optuna.Trial) -> Callable[[str, BaseDistribution], Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def choose(name: str, given: BaseDistribution) -> Any:
        if isinstance(given, FloatDistribution):
            return trial.suggest_float(name, given.low, given.high, log=given.log)
        if isinstance(given, IntDistribution):
            return trial.suggest_int(name, given.low, given.high, step=given.step, log=given.log)
        assert isinstance(given, CategoricalDistribution)
        return trial.suggest_categorical(name, given.choices)

    return choose


def _rank(outcome: Outcome, sign: float) -> tuple[bool, float, float]:
    return outcome.step is not None, sum(max(0.0, v) for v in outcome.violations), sign * outcome.values[0]


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna's log and its warnings of experimental features, which say nothing of what a user did, from the screen."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)

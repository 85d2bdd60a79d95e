"""A study's search: its trainable, space and sampler made from the file alone, and what workers call."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from results.constraints import ConstraintError, parse
from search_spaces import SAMPLERS, Sampler, Space, SpaceError, make_sampler
from search_spaces.adaptive import ADAPTIVE, Goal, Suggester, batch_of, choose, make_suggester, remaining
from search_spaces.adaptive.axes import Axes
from search_spaces.budget import Budget
from search_spaces.errors import did_you_mean
from search_spaces.stopping import Rules
from sweeps.study import Study, StudyError, is_of_study
from trainables.contract import Checks, ChecksData, Prepared, Registry, Trainable, check_config
from trainables.stepping import Announces, Stepping
from trainables.timeline import Protocol

MOST_POINTS = 10**11  # of a grid nobody has asked a part of: months of the quickest back-tests
DERIVED_CHECKED = 1000


@dataclass(frozen=True, eq=False)
class Search:
    """A study's search, rebuilt from its file alone, here and in every worker."""

    study: Study

    @cached_property
    def trainable(self) -> Trainable | Stepping:
        """The trainable."""
        return Registry().load(self.study.trainable)

    @property
    def packed(self) -> Trainable:
        """The trainable, as one that evaluates packs.

        Raises:
            StudyError: It reports as it goes instead.
        """
        if isinstance(self.trainable, Stepping):
            raise StudyError(f"{self.study.trainable} reports as it goes and evaluates no packs, so this cannot be done with it")
        return self.trainable

    @cached_property
    def _longest(self) -> tuple[int, dict[str, Any]]:
        """The last step of the longest trial, and its complete configuration; 0 for a trainable that takes no steps."""
        if not isinstance(self.trainable, Stepping):
            return 0, {}
        defaults = {p.name: p.default for p in self.trainable.parameters}
        points = [self.config(point) for point in self.sampler.configs(0, min(self.sampler.size, DERIVED_CHECKED))]
        points += [{**points[0], name: value} for name, value in self.space.extremes()]  # of those beyond the first thousand
        complete = [{**defaults, **point} for point in points]
        return max(((self.trainable.last_step(config), config) for config in complete), key=lambda pair: pair[0])

    @property
    def last_step(self) -> int:
        """The last step of the longest trial; 0 for a trainable that takes no steps."""
        return self._longest[0]

    def judged_at(self) -> dict[int, int]:
        """Returns each step from which the scheduler judges, with that of the report at which it does, of the longest trial.

        At its last step no trial is stopped any more. Of a trainable that does not say where it reports the two are taken to be one.
        """
        last, config = self._longest
        reports = self.trainable.reports_at(config, self.study.settings) if isinstance(self.trainable, Announces) else None
        return {step: step if reports is None else next((r for r in reports if r >= step), last) for step in self.rules().judged}

    def _unheard(self) -> Iterator[str]:
        """Warns of rungs that no report comes at."""
        if not isinstance(self.trainable, Stepping):
            return
        judged, last = self.judged_at(), self.last_step
        if late := {rung: step for rung, step in judged.items() if rung < step < last and self.rules().kind == "asha"}:
            yield f"scheduler: no report comes at step {_listed(late)}; trials are judged there at their next, {_listed(late.values())}"
        if never := [rung for rung, step in judged.items() if step >= last]:
            yield f"scheduler: the first report from step {_listed(never)} on is the last, {last:,}, so nobody is stopped there"

    def rules(self) -> Rules:
        """Returns how trials are to be stopped early.

        Raises:
            StudyError: The trainable cannot be stopped early.
            SpaceError: Unknown options.
        """
        if not isinstance(self.trainable, Stepping):
            raise StudyError(f"scheduler: {self.study.trainable} evaluates whole packs; only trials that report can be stopped early")
        return Rules.parse(self.study.scheduler, total=self.last_step, direction=self._direction(self.objective), seed=self.study.seed)

    @cached_property
    def budget(self) -> Budget:
        """When the study has had enough."""
        return Budget.parse(self.study.stop, direction=self._direction(self.objective))

    @cached_property
    def space(self) -> Space:
        """The search space."""
        return Space.parse(self.study.space)

    @cached_property
    def method(self) -> str:
        """The sampler by name, `auto` resolved."""
        name = self.study.search.sampler
        if name not in (known := {**SAMPLERS, **ADAPTIVE}):
            raise SpaceError(f"sampler: {name!r} is unknown; use one of {', '.join(known)}.{did_you_mean(name, known)}")
        return choose(self.space, self.study.search.trials, self.goal) if name == "auto" else name

    @property
    def method_words(self) -> str:
        """The sampler for people: what the file has, and what `auto` stands for."""
        return self.method if self.study.search.sampler == self.method else f"{self.study.search.sampler}: {self.method}"

    @property
    def learns(self) -> bool:
        """Whether the sampler learns from results, so that its points are not known beforehand."""
        return self.method in ADAPTIVE

    @cached_property
    def sampler(self) -> Sampler:
        """The sampler; of one that learns, random points that stand for those it will suggest, as many as it may."""
        trials = self.study.search.trials
        if not self.learns:
            return make_sampler(self.method, self.space, trials=trials, seed=self.study.seed)
        if trials is None and self.space.size is None:
            raise SpaceError(f"trials: {self.method} has no end, say how many")
        space = Space.parse({**self.space.to_dict(), **self.study.search.replicates}) if self.study.search.replicates else self.space
        return make_sampler("random", space, trials=trials, seed=self.study.seed)

    @cached_property
    def reserve(self) -> Sampler:
        """Random points for a sampler that has no new one to suggest: all of a grid."""
        trials = None if self.space.size is not None else 100 * self.sampler.size
        return make_sampler("random", self.space, trials=trials, seed=self.study.seed + 1)

    @property
    def members(self) -> int:
        """How many configurations a suggestion stands for: one per replicate."""
        return math.prod(len(values) for values in self.study.search.replicates.values())

    @property
    def batch(self) -> int:
        """How many suggestions a sampler that learns is asked for at once."""
        return self.study.search.batch or batch_of(self.sampler.size // self.members)

    @property
    def goal(self) -> Goal:
        """What is better."""
        return Goal(tuple(self._direction(name) for name in self.objectives), len(self.study.constraints))

    def suggester(self, batch: int) -> Suggester:
        """Returns the sampler that learns."""
        options: dict[str, Any] = {"batch": batch, "seed": self.study.seed, "startup": self.study.search.startup}
        return make_suggester(self.method, self.space, self.goal, **options)

    @property
    def plan_spec(self) -> dict[str, Any]:
        """What a plan is, besides its space; of a sampler that learns, everything its suggestions follow from."""
        study, given = self.study, self.study.search
        spec: dict[str, Any] = {"sampler": self.method, "trials": given.trials, "seed": study.seed, "fixed": study.fixed}
        if self.learns:
            spec |= {"objective": list(self.objectives), "constraints": study.constraints}
            # Without what is left at its default, so that an option of a later version changes no search that was begun before.
            spec |= given.model_dump(exclude={"sampler", "trials"}, exclude_defaults=True)
        return spec

    @property
    def enqueued(self) -> list[dict[str, Any]]:
        """The points to be tried first, complete with constants and derived parameters.

        Raises:
            StudyError: One is not a point of the space.
        """
        return [self.point_of(given, f"search.enqueue[{number}]") for number, given in enumerate(self.study.search.enqueue)]

    def point_of(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Returns a point, complete with constants and derived parameters; `where` is where it was given.

        Raises:
            StudyError: It is not a point of the space.
        """
        axes, unknown = Axes(self.space), sorted(set(given) - set(self.space.names))
        drawn = None if unknown else axes.drawn({**self.study.fixed, **given})
        if drawn is None:
            raise StudyError(f"{where}: {dict(given)} is not a point of the space; {self._why_not(axes, given, unknown)}")
        point = axes.point(drawn)
        if absent := sorted(set(given) - set(point)):
            raise StudyError(f"{where}: {dict(given)} is not a point of the space; {', '.join(absent)}: not there with the others' values")
        return point

    def _why_not(self, axes: Axes, given: Mapping[str, Any], unknown: list[str]) -> str:
        """Says what keeps a mapping from being a point."""
        if unknown:
            return f"{', '.join(unknown)}: not in the space"
        for row in self.space.describe():
            if row.name in given and not axes.has(row.name, given[row.name]):
                return f"{row.name} is {row.values}"
        lacking = [row.name for row in self.space.describe() if row.kind not in ("constant", "derived") and row.name not in given]
        return f"it lacks {', '.join(lacking)}" if lacking else "what depends on others does not agree with them"

    def _direction(self, metric: str) -> str:
        return next((m.direction for m in self.trainable.metrics if m.name == metric), None) or "max"

    @property
    def objectives(self) -> tuple[str, ...]:
        """The metrics that are made better."""
        given = self.study.objective or self.trainable.objective
        return (given,) if isinstance(given, str) else tuple(given)

    @property
    def objective(self) -> str:
        """The metric that ranks: the first objective."""
        return self.objectives[0]

    @cached_property
    def protocol(self) -> Protocol:
        """How time is cut."""
        return Protocol.parse(self.study.protocol)

    def prepare(self, part: str = "search") -> Prepared:
        """Loads the data for searching, or for the holdout; warns of what a parameter of this study does with them.

        Raises:
            TrainableError: Bad data, or a point of the space that could not be evaluated on them.
        """
        made = self.trainable.prepare(self.study.data, self.study.settings, self.protocol, part)
        if part == "search" and isinstance(self.trainable, ChecksData):
            for config in self._foreseen():
                self.trainable.check_data({**made.defaults, **check_config(self.trainable, config)}, made.inputs)
        values = [*({**made.defaults, **self.config(self.sampler.configs(0, 1)[0])}).items(), *self.space.extremes()]
        cautions = [words for value, words in made.cautions.items() if value in values]
        return replace(made, warnings=(*made.warnings, *cautions, *(self._unheard() if part == "search" else ())))

    @cached_property
    def _fixed(self) -> dict[str, Any]:
        return check_config(self.trainable, self.study.fixed, "fixed")

    def config(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the parameters a point gives, fixed ones included."""
        return {**self._fixed, **point}

    def _foreseen(self) -> Iterator[dict[str, Any]]:
        """Yields every point of the space; of a large one the first thousand, and the first with every listed value in turn."""
        yield from map(self.config, self.sampler.configs(0, min(self.sampler.size, DERIVED_CHECKED)))
        # Where parameters depend on each other, a point with another value may not be one.
        if self.sampler.size > DERIVED_CHECKED and not any(row.kind == "derived" or row.when for row in self.space.describe()):
            first = self.config(self.sampler.configs(0, 1)[0])
            yield from ({**first, name: value} for name, value in self.space.extremes())

    def check(self) -> None:
        """Validates everything that needs no data.

        Raises:
            StudyError: Unknown or overlapping parameters, values not allowed, unknown objective, constraint or sampler.
            StudyFaultsError: Several of these.
        """
        self.study.refuse(self.faults())

    def faults(self) -> list[ValueError]:
        """Returns all that is wrong with what needs no data, as far as it does not follow from something else that is wrong."""
        found: dict[str, ValueError] = {}

        def sound(*parts: Callable[[], object]) -> bool:
            before = len(found)
            for part in parts:
                try:
                    part()
                except ValueError as error:
                    if not is_of_study(error):
                        raise
                    found.setdefault(str(error), error)
            return len(found) == before

        if not sound(lambda: self.trainable):
            return list(found.values())  # nothing is known of parameters and metrics
        stepping = isinstance(self.trainable, Stepping)
        points = sound(lambda: self.space) and sound(
            self._check_overlap,
            *(partial(check_config, self.trainable, {name: value}, "fixed") for name, value in self.study.fixed.items()),
            *(partial(self._check_values, name) for name in self.space.names),
        )
        points = points and sound(self._check_points)
        sound(lambda: self.protocol)
        sound(*(partial(self._check_objective, objective) for objective in self.objectives))
        if points:
            sound(self._check_search)
        sound(lambda: self.budget) and sound(self._check_budget)
        if (points and stepping) or (self.study.scheduler and not stepping):
            sound(self.rules)
        sound(self._check_constraints)
        return list(found.values())

    def _check_overlap(self) -> None:
        if both := set(self.study.fixed) & set(self.space.names):
            raise StudyError(f"{', '.join(sorted(both))}: given in both `fixed` and `space`; keep one")

    def _check_values(self, parameter: str) -> None:
        for name, value in self.space.extremes():
            if name == parameter:
                check_config(self.trainable, {name: value})

    def _check_points(self) -> None:
        self.accept(self.config(self.sampler.configs(0, 1)[0]))
        for name, value in self.space.extremes():
            self.accept({**self._fixed, name: value})
        size = self.sampler.size
        if size > MOST_POINTS:
            raise StudyError(f"space: {size:.3g} configurations cannot be run; give search.trials: how many of them to sample")
        if any(row.kind == "derived" for row in self.space.describe()):
            for config in self.sampler.configs(0, min(size, DERIVED_CHECKED)):
                self.accept(self.config(config))

    def _check_objective(self, objective: str) -> None:
        names = [m.name for m in self.trainable.metrics]
        ranking = [m.name for m in self.trainable.metrics if m.direction]
        if objective not in names:
            near = difflib.get_close_matches(objective, names, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise StudyError(f"objective: {objective!r} is not a metric of {self.study.trainable}; it has {', '.join(names)}.{hint}")
        if objective not in ranking:
            raise StudyError(
                f"objective: {objective!r}: more of it is neither better nor worse; "
                f"metrics with a direction are {', '.join(ranking) or 'none'}"
            )

    def _check_constraints(self) -> None:
        try:
            parse(self.study.constraints, [m.name for m in self.trainable.metrics])
        except ConstraintError as error:
            raise StudyError(str(error)) from None

    def _check_search(self) -> None:
        given = self.study.search
        if self.learns:
            self.suggester(self.batch)
            for point in self.enqueued:
                self.accept(self.config(point))
            self._check_replicates()
            return
        for key in ("batch", "startup", "warm_start", "enqueue", "deterministic", "replicates"):
            if getattr(given, key):
                raise StudyError(
                    f"search.{key}: {self.method} does not learn from results, so this has no meaning; leave it out, or use tpe"
                )

    def _check_replicates(self) -> None:
        first = self.config(self.sampler.configs(0, 1)[0])
        for name, values in self.study.search.replicates.items():
            if name in self.space.names or name in self.study.fixed:
                raise StudyError(f"search.replicates.{name}: given in `{'space' if name in self.space.names else 'fixed'}` too; keep one")
            if len(values) < 2 or len({repr(value) for value in values}) < len(values):
                raise StudyError(f"search.replicates.{name}: give two different values at least, for example [0, 1, 2]")
            for value in values:
                self.accept({**first, name: value})

    def _check_budget(self) -> None:
        if self.budget.regret is not None:
            remaining.check(self.space)
        if self.budget.accelerator_hours is not None:
            if not isinstance(self.trainable, Stepping):
                packs = f"{self.study.trainable} evaluates packs, which take no cards"
                raise StudyError(f"stop.accelerator_hours: {packs}; use stop.worker_hours")
            if self.study.resources.gpu == 0.0:
                raise StudyError("stop.accelerator_hours: resources.gpu is 0, so trials take no cards; use stop.worker_hours")

    def accept(self, config: Mapping[str, Any]) -> None:
        """Asks the trainable about a configuration.

        Raises:
            TrainableError: It has none such.
        """
        checked = check_config(self.trainable, config)
        if isinstance(self.trainable, Checks):
            self.trainable.check(checked, self.study.settings)


def _listed(steps: Iterable[int]) -> str:
    return ", ".join(f"{step:,}" for step in steps)

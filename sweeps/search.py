"""A study's search: its trainable, space and sampler made from the file alone, and what workers call."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from results.constraints import ConstraintError, parse
from search_spaces import Sampler, Space, make_sampler
from sweeps.study import Study, StudyError
from trainables.contract import Checks, Context, Prepared, Registry, Trainable, check_config
from trainables.timeline import Protocol

MOST_POINTS = 2**62  # trial numbers are 64-bit integers
DERIVED_CHECKED = 1000


@dataclass(frozen=True, eq=False)
class Search:
    """A study's search, rebuilt from its file alone, here and in every worker."""

    study: Study

    @cached_property
    def trainable(self) -> Trainable:
        """The trainable."""
        return Registry().load(self.study.trainable)

    @cached_property
    def space(self) -> Space:
        """The search space."""
        return Space.parse(self.study.space)

    @cached_property
    def sampler(self) -> Sampler:
        """The sampler."""
        return make_sampler(self.study.search.sampler, self.space, trials=self.study.search.trials, seed=self.study.seed)

    @cached_property
    def protocol(self) -> Protocol:
        """How time is cut."""
        return Protocol.parse(self.study.protocol)

    def prepare(self, part: str = "search") -> Prepared:
        """Loads the data for searching, or for the holdout."""
        return self.trainable.prepare(self.study.data, self.study.settings, self.protocol, part)

    @cached_property
    def _fixed(self) -> dict[str, Any]:
        return check_config(self.trainable, self.study.fixed, "fixed")

    def config(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the parameters a point gives, fixed ones included."""
        return {**self._fixed, **point}

    def check(self) -> None:
        """Validates everything that needs no data.

        Raises:
            StudyError: Unknown or overlapping parameters, values not allowed, unknown objective, constraint or sampler.
        """
        both = set(self.study.fixed) & set(self.space.names)
        if both:
            raise StudyError(f"{', '.join(sorted(both))}: given in both `fixed` and `space`; keep one")
        _ = self.protocol
        self._accept(self.config(self.sampler.configs(0, 1)[0]))
        for name, value in self.space.extremes():
            self._accept({**self._fixed, name: value})
        size = self.sampler.size
        if size > MOST_POINTS:
            raise StudyError(f"space: {size:.3g} configurations cannot be run; give search.trials: how many of them to sample")
        if any(row.kind == "derived" for row in self.space.describe()):
            for config in self.sampler.configs(0, min(size, DERIVED_CHECKED)):
                self._accept(self.config(config))
        names = [m.name for m in self.trainable.metrics]
        if self.study.objective is not None and self.study.objective not in names:
            near = difflib.get_close_matches(self.study.objective, names, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise StudyError(
                f"objective: {self.study.objective!r} is not a metric of {self.study.trainable}; it has {', '.join(names)}.{hint}"
            )
        try:
            parse(self.study.constraints, names)
        except ConstraintError as error:
            raise StudyError(str(error)) from None

    def _accept(self, config: Mapping[str, Any]) -> None:
        checked = check_config(self.trainable, config)
        if isinstance(self.trainable, Checks):
            self.trainable.check(checked, self.study.settings)


@dataclass(frozen=True, eq=False)
class Evaluator:
    """What workers call: numbers of points in, metrics out."""

    study: Study
    defaults: Mapping[str, Any]

    @cached_property
    def _search(self) -> Search:
        return Search(self.study)

    def __call__(self, points: Sequence[int], inputs: Any) -> np.ndarray:
        """Evaluates the points, float64 (n, metrics + days): the metrics, then the daily returns."""
        search = self._search
        configs: list[dict[str, Any]] = []
        i = 0
        while i < len(points):
            j = i + 1
            while j < len(points) and points[j] == points[j - 1] + 1:
                j += 1
            configs += search.sampler.configs(points[i], points[j - 1] + 1)
            i = j
        return self.evaluate([search.config(c) for c in configs], inputs)

    def evaluate(self, configs: Sequence[Mapping[str, Any]], inputs: Any) -> np.ndarray:
        """Evaluates configurations, see `__call__`."""
        trainable = self._search.trainable
        complete = [{**self.defaults, **check_config(trainable, config)} for config in configs]
        made = trainable.evaluate_pack(complete, Context(inputs, seed=self.study.seed))
        if len(made.metrics) != len(configs):
            raise StudyError(f"{self.study.trainable}.evaluate_pack gave {len(made.metrics)} rows for {len(configs)} configurations")
        values = made.metrics[[m.name for m in trainable.metrics]].to_numpy(float)
        return values if made.returns is None else np.hstack([values, made.returns])

"""What workers call to evaluate packs, and what it requires of a trainable's answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from cluster.packs import PackError
from results.secrets import redacted
from sweeps.search import Search
from sweeps.study import Study
from trainables.contract import Context, Evaluation, TrainableError, check_config


@dataclass(frozen=True, eq=False)
class Evaluator:
    """What workers call: points in, metrics out.

    Attributes:
        study: What is evaluated.
        defaults: `Prepared.defaults`.
        days: How many days of returns each configuration must come with; None takes what comes.
    """

    study: Study
    defaults: Mapping[str, Any]
    days: int | None = None

    @cached_property
    def _search(self) -> Search:
        return Search(self.study)

    def __call__(self, points: Sequence[Any], inputs: Any) -> np.ndarray:
        """Evaluates points, float64 (n, metrics + days): the metrics, then the daily returns.

        Args:
            points: Numbers of the sampler's points; or configurations, of a sampler that learns.
            inputs: `Prepared.inputs`.
        """
        search = self._search
        if points and isinstance(points[0], Mapping):
            return self.evaluate(points, inputs)
        return self.evaluate([search.config(point) for point in search.sampler.at(np.array(points, np.int64))], inputs)

    def evaluate(self, configs: Sequence[Mapping[str, Any]], inputs: Any) -> np.ndarray:
        """Evaluates configurations, see `__call__`.

        Raises:
            PackError: The trainable gave rows for other than its configurations.
            TrainableError: What it gave is not what the contract asks for. Or whatever the trainable raises.
        """
        trainable = self._search.packed
        complete = [{**self.defaults, **check_config(trainable, config)} for config in configs]
        made = trainable.evaluate_pack(complete, Context(inputs, seed=self.study.seed))
        try:
            values = _metrics(made, [m.name for m in trainable.metrics], len(configs))
            returns = _returns(made.returns, len(configs), self.days)
        except (PackError, TrainableError) as error:
            raise type(error)(f"{self.study.trainable}.evaluate_pack gave {error}") from None
        return values if returns is None else np.hstack([values, returns])


def _metrics(made: Any, names: list[str], n: int) -> np.ndarray:
    """Returns an evaluation's metrics, float64 (n, metrics), or says what they are and should be."""
    if not isinstance(made, Evaluation):
        raise TrainableError(f"{_kind(made)}; expected a trainables.contract.Evaluation, Evaluation(metrics, returns)")
    table = made.metrics
    if not isinstance(table, pd.DataFrame):
        raise TrainableError(f"{_kind(table)} as metrics; expected a DataFrame with columns {', '.join(names)}")
    given = list(table.columns)
    if wrong := [name for name in names if given.count(name) != 1]:
        came = f"columns {', '.join(map(str, given))}" if given else "no columns"
        raise TrainableError(f"metrics with {came}; expected {', '.join(names)} (missing or doubled: {', '.join(wrong)})")
    if len(table) != n:
        raise PackError(f"metrics of {len(table)} rows for {n} configurations; expected one row each, in their order")
    for name in names:
        if not pd.api.types.is_numeric_dtype(table[name]):
            for value in table[name]:
                if value is not None and not isinstance(value, Real):
                    raise TrainableError(f"{redacted(repr(value)):.60} as metric {name}; expected a number, NaN where there is none")
    return table[names].to_numpy(float)


def _returns(given: Any, n: int, days: int | None) -> np.ndarray | None:
    """Returns an evaluation's daily returns, (n, days), or says what they are and should be."""
    if given is None and not days:
        return None
    expected = f"expected {'(n, days)' if days is None else (n, days)}: a row for each configuration, a column for each of `Prepared.days`"
    try:
        array = np.asarray(given)
    except ValueError:
        raise TrainableError(f"returns whose rows differ in length; {expected}") from None
    if array.dtype.kind not in "fiub":
        raise TrainableError(f"{'no returns (None)' if given is None else f'returns of {array.dtype} values'}; {expected}")
    if array.ndim == 2 and len(array) != n:
        raise PackError(f"returns of shape {array.shape} for {n} configurations; {expected}")
    if array.ndim != 2 or days not in (None, array.shape[1]):
        raise TrainableError(f"returns of shape {array.shape}; {expected}")
    return array


def _kind(value: Any) -> str:
    return "nothing (None)" if value is None else f"a {type(value).__name__}"

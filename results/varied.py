"""What varies in a study: its completed trials, one metric of theirs, and each parameter that is not the same in all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from results.identity import canonical_json
from results.metrics import Metric
from results.schema import metric_column

if TYPE_CHECKING:
    from results.reader import LedgerReader


@dataclass(frozen=True, eq=False)
class Axis:
    """A parameter that varies.

    Attributes:
        codes: int64 (n,), which of `values` each trial has.
        values: Distinct values in the order of trials; None is absent.
        absent: Some configurations lack it.
    """

    codes: NDArray[np.int64]
    values: tuple[Any, ...]
    absent: bool = False


@dataclass(frozen=True, eq=False)
class Sweep:
    """The completed trials of a study with a value of one metric.

    Attributes:
        study: Its name.
        metric: What is compared.
        scores: float64 (n,), its values, finite.
        axes: The parameters that vary, by name.
        constants: Those that do not, with their value, defaults included.
        defaults: What a configuration has that lacks a parameter.
        left_out: How many trials are not among these, by reason.
    """

    study: str
    metric: Metric
    scores: NDArray[np.float64]
    axes: Mapping[str, Axis]
    constants: Mapping[str, Any]
    defaults: Mapping[str, Any]
    left_out: Mapping[str, int]

    @classmethod
    def of(
        cls,
        study: str,
        metric: Metric,
        configs: Sequence[Mapping[str, Any]],
        scores: ArrayLike,
        defaults: Mapping[str, Any] | None = None,
        left_out: Mapping[str, int] | None = None,
    ) -> Sweep:
        """Makes one from configurations (n) and their scores (n,); `defaults` stand for what a configuration lacks."""
        known = dict(defaults or {})
        axes, constants = dict[str, Axis](), dict(known)
        for name in dict.fromkeys(name for config in configs for name in config):
            axis = _axis([config.get(name, known.get(name)) for config in configs])
            if len(axis.values) > 1:
                axes[name] = replace(axis, absent=any(name not in config for config in configs))
            else:
                constants[name] = axis.values[0]
        constants = {name: value for name, value in constants.items() if name not in axes}
        return cls(study, metric, np.asarray(scores, np.float64), axes, constants, known, dict(left_out or {}))


def read(ledger: LedgerReader, metric: str | None = None) -> Sweep:
    """Reads the completed trials of a study with one metric; default its objective.

    Raises:
        LedgerError: No such metric.
    """
    header = ledger.header
    chosen = header.metric(metric or header.objective)
    column = metric_column(chosen.name)
    texts, scores = list[str](), list[float]()
    out = {"failed": 0, "stopped early": 0, f"without {chosen.name} (n/a)": 0}
    failed, stopped, blank = out
    for batch in ledger.stream(["status", "config", column]):
        for status, text, score in zip(batch["status"], batch["config"], batch[column], strict=True):
            if status == "completed" and score is not None:
                texts.append(text)
                scores.append(score)
            else:
                out[failed if status == "failed" else stopped if status == "stopped" else blank] += 1
    left_out = {reason: n for reason, n in out.items() if n}
    return Sweep.of(header.name, chosen, json.loads(f"[{','.join(texts)}]"), scores, header.defaults, left_out)


def cells_of(axes: Iterable[Axis], n: int) -> NDArray[np.int64]:
    """Returns a number for each combination of values, int64 (n,)."""
    cells = np.zeros(n, np.int64)
    for axis in axes:
        cells = pd.factorize(cells * len(axis.values) + axis.codes)[0]
    return cells


def _axis(values: list[Any]) -> Axis:
    """Codes values by what they are in a configuration: 1 and 1.0 are one, 1 and True, and 1 and "1", are not."""
    kinds = set(map(type, values))
    plain = kinds <= {int, float, str, type(None)} or kinds <= {bool, str, type(None)}
    keys = values if plain else [canonical_json(value) for value in values]
    index: dict[Any, int] = {}
    codes = np.fromiter((index.setdefault(key, len(index)) for key in keys), np.int64, len(values))
    if plain:
        return Axis(codes, tuple(index))
    first = np.unique(codes, return_index=True)[1]
    return Axis(codes, tuple(values[i] for i in first))

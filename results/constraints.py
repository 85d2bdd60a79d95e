"""Choosing by several metrics: constraints a trial must meet, and the trials no other one dominates."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from results.records import Header

OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_FORM = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,2})?)\s*(%?)\s*", re.ASCII)


class ConstraintError(ValueError):
    """A constraint cannot be understood; the message names it, what is allowed and the nearest spelling."""


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric.

    Attributes:
        metric: Its name.
        sign: One of `OPERATORS`.
        bound: In the metric's own unit: a fraction for percent.
        literal: The bound as it was written.
    """

    metric: str
    sign: str
    bound: float
    literal: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.literal}"

    def compare(self, value: Any) -> Any:
        """Compare a number, an array or a database column with the bound; NaN does not meet it."""
        return OPERATORS[self.sign](value, self.bound)

    def shortfall(self, value: Any) -> Any:
        """Return how far beyond the bound a number or a database column is, relative to the bound (absolute if that is 0)."""
        beyond = self.bound - value if self.sign[0] == ">" else value - self.bound
        return beyond / (abs(self.bound) or 1.0)


def parse(texts: Iterable[str], metrics: Sequence[str], where: str = "constraints") -> tuple[Constraint, ...]:
    """Return constraints from their texts.

    Args:
        texts: Each `METRIC OP NUMBER`, such as `trades >= 30` or `max_drawdown > -20%`.
        metrics: Names there are.
        where: Key or option, for messages.

    Raises:
        ConstraintError: Not of that form, or no such metric.
    """
    found = []
    for text in texts:
        match = _FORM.fullmatch(text)
        if match is None:
            raise ConstraintError(
                f"{where}: {text!r} is no constraint; write METRIC OP NUMBER with one of {' '.join(OPERATORS)}, "
                "for example 'trades >= 30' or 'max_drawdown > -20%'"
            )
        name, sign, number, percent = match.groups()
        if name not in metrics:
            near = difflib.get_close_matches(name, metrics, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConstraintError(f"{where}: {text!r}: there is no metric {name!r}; there are {', '.join(metrics)}.{hint}")
        # In decimals, because 0.7 / 100 is not the number that 0.007 is.
        bound = float(Decimal(number) / (100 if percent else 1))
        found.append(Constraint(name, sign, bound, number + percent))
    return tuple(found)


def constraints_of(header: Header, where: Iterable[str] = (), own: Iterable[str] | None = None) -> tuple[Constraint, ...]:
    """Return the constraints a study is to be read with.

    Args:
        header: The study.
        where: Texts of more, given on the command line.
        own: Texts in place of those the study was created with.
    """
    names = header.metric_names
    return parse(header.spec.get("constraints", ()) if own is None else own, names) + parse(where, names, "--where")


def non_dominated(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows no other row dominates: is as good in every column, and better in one. Equal rows do not.

    Args:
        values: float64 (n, k), larger is better, without NaN.

    Returns:
        bool (n,). O(n log n) for two columns, otherwise O(n·k) for each distinct row that is kept.
    """
    if values.shape[1] == 2:
        return _staircase(values)
    # Dense ranks, because their sums are exact: whoever dominates has the larger one.
    ranks = np.column_stack([np.unique(column, return_inverse=True)[1] for column in values.T])
    left = np.argsort(-ranks.sum(axis=1), kind="stable")
    ranks = ranks[left]
    kept = np.zeros(len(values), bool)
    while len(left):
        best = ranks[0]  # nothing that is left dominates it
        kept[left[(ranks == best).all(axis=1)]] = True
        open_ = (ranks > best).any(axis=1)
        left, ranks = left[open_], ranks[open_]
    return kept


def _staircase(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the non-dominated rows of two columns: from the best first column on, the second must rise above all before."""
    kept = np.zeros(len(values), bool)
    if not len(values):
        return kept
    order = np.lexsort((-values[:, 1], -values[:, 0]))
    first, second = values[order].T
    starts = np.flatnonzero(np.concatenate(([True], first[1:] != first[:-1])))
    tops = second[starts]  # of each run of one first value, its best second
    rises = np.concatenate(([True], tops[1:] > np.maximum.accumulate(tops)[:-1]))
    sizes = np.diff(np.append(starts, len(order)))
    kept[order] = np.repeat(rises, sizes) & (second == np.repeat(tops, sizes))
    return kept

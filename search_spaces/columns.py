"""Many configurations at once: one column per parameter, as codes into its values.

Codes make everything downstream cheap: a grid's million rows share their values, an expression is evaluated once per
distinct combination of what it refers to, and -1 is a parameter that does not exist in that row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.expressions import ABSENT, UNKNOWN, Expression

Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Column:
    """One parameter in n rows.

    Attributes:
        codes: int64 (n,), indices into `values`; -1 where the parameter does not exist.
        values: What the codes stand for: a tuple, a list or a range (which may be far too long to write out).
    """

    codes: Codes
    values: Sequence[Any]

    @classmethod
    def constant(cls, value: Any, n: int) -> Column:
        """Returns n times the same value."""
        return cls(np.zeros(n, np.int64), (value,))

    @classmethod
    def distinct(cls, values: Sequence[Any]) -> Column:
        """Returns a column in which each row has its own value."""
        return cls(np.arange(len(values)), values)

    def at(self, row: int) -> Any:
        """Returns the value in a row, or ABSENT."""
        code = int(self.codes[row])
        return ABSENT if code < 0 else self.values[code]

    def take(self, rows: Codes) -> Column:
        """Returns the column of the given rows."""
        return Column(self.codes[rows], self.values)

    def where(self, mask: Mask | None) -> Column:
        """Returns the column with the parameter taken out of the other rows; None keeps all."""
        return self if mask is None else Column(np.where(mask, self.codes, -1), self.values)

    def unknown_where(self, mask: Mask | None) -> Column:
        """Returns the column with UNKNOWN in the given rows."""
        if mask is None or not mask.any():
            return self
        return Column(np.where(mask, len(self.values), self.codes), [*self.values, UNKNOWN])

    @property
    def complete(self) -> bool:
        """Whether the parameter exists in every row."""
        return not (self.codes < 0).any()

    def to_list(self) -> list[Any]:
        """Returns the values of all rows, ABSENT where there is none."""
        if isinstance(self.values, range):
            numbers = (self.values.start + self.values.step * self.codes).tolist()
            return numbers if self.complete else [ABSENT if c < 0 else v for c, v in zip(self.codes.tolist(), numbers, strict=True)]
        table = [*self.values, ABSENT]  # code -1 is the last one
        return [table[code] for code in self.codes.tolist()]


def evaluate(expression: Expression, columns: Mapping[str, Column], n: int, where: Mask | None = None) -> Column:
    """Evaluates an expression in n rows, once per distinct combination of what it refers to.

    Args:
        expression: Refers to `columns`.
        columns: At least the parameters it refers to.
        n: Number of rows.
        where: Rows to evaluate; the others are absent, and whether the expression is defined there does not matter.

    Returns:
        Its values, absent where the expression is ABSENT.

    Raises:
        SpaceError: No value for some row.
    """
    if where is not None and not where.all():
        rows = np.flatnonzero(where)
        part = evaluate(expression, {name: columns[name].take(rows) for name in expression.names}, len(rows))
        codes = np.full(n, -1)
        codes[rows] = part.codes
        return Column(codes, part.values)
    first, codes = _combinations([columns[name] for name in expression.names], n)
    values = [expression.evaluate({name: columns[name].at(row) for name in expression.names}) for row in first.tolist()]
    missing = np.array([value is ABSENT for value in values], dtype=bool)
    return Column(np.where(missing[codes], -1, codes), values)


def holds(condition: Expression | None, columns: Mapping[str, Column], n: int) -> Mask | None:
    """Returns in which rows a condition holds, bool (n,); None is no condition, and all rows."""
    return None if condition is None else truth(condition, columns, n)[0]


def truth(condition: Expression, columns: Mapping[str, Column], n: int) -> tuple[Mask, Mask]:
    """Returns in which rows a condition holds and in which that is UNKNOWN, each bool (n,)."""
    outcome = evaluate(condition, columns, n)
    true = np.array([value is not UNKNOWN and bool(value) for value in outcome.values] + [False], dtype=bool)
    unknown = np.array([value is UNKNOWN for value in outcome.values] + [False], dtype=bool)
    return np.asarray(true[outcome.codes]), np.asarray(unknown[outcome.codes])  # code -1, absent, is the False at the end


def to_rows(columns: Mapping[str, Column], n: int) -> list[dict[str, Any]]:
    """Returns one mapping per row, with the parameters that exist in it."""
    if not columns:
        return [{} for _ in range(n)]
    names = tuple(columns)
    rows = zip(*(column.to_list() for column in columns.values()), strict=True)
    if all(column.complete for column in columns.values()):
        return [dict(zip(names, row, strict=True)) for row in rows]
    return [{k: v for k, v in zip(names, row, strict=True) if v is not ABSENT} for row in rows]


def _combinations(columns: Sequence[Column], n: int) -> tuple[Codes, Codes]:
    """Returns a representative row of each distinct combination, and the combination of each row."""
    merged = np.zeros(n, np.int64)
    for column in columns:
        codes, radix = column.codes + 1, len(column.values) + 1
        if radix > n:  # keeps the product below n², far from overflow
            distinct, codes = np.unique(codes, return_inverse=True)
            radix = len(distinct)
        if radix > 1:
            merged = np.unique(merged * radix + codes, return_inverse=True)[1]
    _, first, merged = np.unique(merged, return_index=True, return_inverse=True)
    return first, merged

"""What a grid asks its server for: which rows, in which order (the other side of `remote_grid`)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results.pages.columns import Column
from results.pages.filters import LONGEST, Filter, FilterError, parse

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

MOST_ROWS: Final = 1000


@dataclass(frozen=True)
class Query:
    """A request of a grid, checked.

    Attributes:
        sort: Column to sort by, or None for the server's own order. Rows without a value come last both ways.
        descending: The greatest first.
        start: First row wanted, from 0, of those that pass.
        count: How many.
        filters: Columns to their filters.
        words: Of the search field, in lower case: each must occur in a column of text, or be the number of an integer column.
    """

    sort: str | None = None
    descending: bool = False
    start: int = 0
    count: int = 200
    filters: Mapping[str, Filter] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    def mask(self, frame: pd.DataFrame, columns: Sequence[Column]) -> NDArray[np.bool_]:
        """Return which rows of a frame pass."""
        passed = np.ones(len(frame), dtype=bool)
        for name, filter in self.filters.items():
            passed &= filter.mask(frame[name])
        for word in self.words:
            found = np.zeros(len(frame), dtype=bool)
            for column, test in _searched(word, columns):
                found |= test.mask(frame[column.name])
            passed &= found
        return passed

    def to_sql(self, expressions: Mapping[str, ColumnElement[Any]], columns: Sequence[Column]) -> ColumnElement[bool]:
        """Return the same as a condition.

        Args:
            expressions: Columns to what they are in SQL.
            columns: What the grid shows.
        """
        from sqlalchemy import and_, false, or_, true

        conditions = [filter.to_sql(expressions[name]) for name, filter in self.filters.items()]
        conditions += [
            or_(false(), *(test.to_sql(expressions[column.name]) for column, test in _searched(word, columns))) for word in self.words
        ]
        return and_(true(), *conditions)


def parse_query(parameters: Mapping[str, str], columns: Sequence[Column]) -> Query:
    """Return what a grid's request asks for.

    Args:
        parameters: Of the address: `sort`, `dir` (asc, desc), `from`, `n`, `filter` (JSON: {"columns": {name: text}, "search": text}).
        columns: What the grid shows; no other name is taken.

    Raises:
        FilterError: Anything in it that is not understood; to be answered as status 400 with {"error": message, "column": name}.
    """
    known = {column.name: column for column in columns}
    sort = parameters.get("sort") or None
    if sort is not None and sort not in known:
        raise FilterError(f"no such column: {sort[:80]!r}")
    direction = parameters.get("dir") or "asc"
    if direction not in ("asc", "desc"):
        raise FilterError(f"dir is {direction[:20]!r}; it must be asc or desc")
    asked = _json(parameters.get("filter") or "{}")
    filters = {}
    for name, text in asked[0].items():
        if name not in known:
            raise FilterError(f"no such column: {name[:80]!r}")
        try:
            parsed = parse(text, known[name].kind, known[name].shown_digits)
        except FilterError as error:
            raise FilterError(str(error), name) from None
        if parsed != Filter():
            filters[name] = parsed
    words = tuple(asked[1].lower().split())
    start, count = _whole(parameters, "from", 0), _whole(parameters, "n", 200)
    return Query(sort, direction == "desc", start, min(count, MOST_ROWS), filters, words)


def order(values: pd.Series, descending: bool) -> NDArray[np.intp]:
    """Return the places of rows in sorted order: equal ones keep theirs, those without a value come last both ways."""
    missing = np.asarray(pd.isna(values), dtype=bool)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        keys = values.to_numpy(dtype=float, na_value=np.nan)
        return np.argsort(-keys if descending else keys, kind="stable")
    _, ranks = np.unique(np.where(missing, "", values.astype(str)).astype(str), return_inverse=True)
    signed = -ranks if descending else ranks
    return np.lexsort((signed, missing))


def _searched(word: str, columns: Sequence[Column]) -> list[tuple[Column, Filter]]:
    tests = [(column, Filter("contains", text=word)) for column in columns if not column.numeric]
    if re.fullmatch(r"-?[0-9]{1,15}", word):
        tests += [(column, Filter("range", low=float(word), high=float(word))) for column in columns if column.kind == "integer"]
    return tests


def _json(text: str) -> tuple[dict[str, str], str]:
    try:
        asked = json.loads(text)
        columns, search = asked.get("columns", {}), asked.get("search", "")
        if not all(isinstance(value, str) for value in (search, *columns.values())):
            raise TypeError("texts")
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise FilterError('filter must be JSON such as {"columns": {"sharpe": ">= 1"}, "search": "adam"}') from None
    if len(search) > LONGEST:
        raise FilterError(f"a search has at most {LONGEST} characters")
    return columns, search


def _whole(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise FilterError(f"{name} is {text[:20]!r}; it must be a whole number from 0")
    return int(text)

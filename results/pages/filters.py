"""What a reader types to filter a table: one language, one meaning here and in the page's script (filters.js).

Columns of numbers: `>= 1.5`, `> 0`, `<= 3`, `< 0`, `1..2` (both ends included), `1..`, `..2`, `= 3`, `3` (the same), `!= 3`.
A number is what the column shows: 5 is five percent where percents are shown, and `2m`, `1.5h`, `3d`, `250ms` are durations. `= 1.53` takes
what is shown as 1.53. Columns of text: a part of it in any case, `= whole text`, `"quoted"` where it begins with a sign. All columns:
`n/a`, and `!` before any filter for the rows it leaves out.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from results.pages.columns import KINDS, NUMERIC, Kind

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

Test = Literal["all", "missing", "range", "contains", "equals"]

_NUMBER: Final = re.compile(r"([+-]?)(\d{1,3}(?:,\d{3})+|\d+)?(?:\.(\d*))?(?:e([+-]?\d{1,3}))?\s*(%|ms|s|min|m|h|d)?", re.IGNORECASE)
_SECONDS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_OPERATORS: Final = (">=", "<=", "!=", "==", ">", "<", "=")
_SIGNS: Final = {"≥": ">=", "≤": "<=", "≠": "!=", "−": "-", "…": ".."}
_TOLERANCE: Final = 1e-9
LONGEST: Final = 200


class FilterError(ValueError):
    """A filter that cannot be understood; the message says what to write instead.

    Attributes:
        column: Which column's, where it is known.
    """

    def __init__(self, message: str, column: str | None = None) -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True)
class Filter:
    """A filter of one column, understood.

    Attributes:
        test: What it asks: anything, whether there is no value, whether a number lies in a range, whether a text contains or equals one.
        negated: Take the rows that do not pass, those without a value among them.
        low: Least number, in the column's own unit.
        high: Greatest.
        low_open: Without `low` itself.
        high_open: Without `high` itself.
        text: In lower case.
    """

    test: Test = "all"
    negated: bool = False
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    text: str = ""

    def mask(self, values: ArrayLike | pd.Series) -> NDArray[np.bool_]:
        """Return which values pass; None and NaN are missing.

        Args:
            values: Numbers or texts of one column, shape (n,).
        """
        if self.test == "all":
            passed = np.ones(len(np.asarray(values)), dtype=bool)
        elif self.test == "missing":
            passed = np.asarray(pd.isna(pd.Series(values)), dtype=bool)
        elif self.test == "range":
            passed = self._in_range(np.asarray(pd.to_numeric(pd.Series(values)), dtype=float))
        else:
            passed = self._matches(pd.Series(values))
        return ~passed if self.negated else passed

    def to_sql(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        """Return the same as a condition on a column, which never is unknown (NULL): `!` takes rows without a value."""
        from sqlalchemy import and_, func, not_, true

        if self.test == "all":
            condition: Any = true()
        elif self.test == "missing":
            condition = column.is_(None)
        elif self.test == "range":
            bounds = [column > self.low if self.low_open else column >= self.low] if self.low > -math.inf or self.low_open else []
            if self.high < math.inf or self.high_open:
                bounds.append(column < self.high if self.high_open else column <= self.high)
            condition = and_(column.is_not(None), *bounds)
        else:
            lowered = func.lower(column)
            found = lowered == self.text if self.test == "equals" else lowered.contains(self.text, autoescape=True)
            condition = and_(column.is_not(None), found)
        return not_(condition) if self.negated else condition

    def _in_range(self, numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
        with np.errstate(invalid="ignore"):
            above = numbers > self.low if self.low_open else numbers >= self.low
            below = numbers < self.high if self.high_open else numbers <= self.high
        return np.asarray(above & below)

    def _matches(self, texts: pd.Series) -> NDArray[np.bool_]:
        codes, found = pd.factorize(texts)
        lowered = [str(text).lower() for text in found]
        hits = [self.text == text if self.test == "equals" else self.text in text for text in lowered]
        return np.array([*hits, False], dtype=bool)[codes]  # code -1: no value


def parse(filter_text: str, kind: Kind, digits: int | None = None) -> Filter:
    """Return what a reader's filter means.

    Args:
        filter_text: As typed; blank takes every row.
        kind: Of the column.
        digits: Decimals it shows (`Column.shown_digits`); equal is then what is written alike.

    Raises:
        FilterError: It cannot be understood.
    """
    if kind not in KINDS:
        raise FilterError(f"no such kind of column: {kind!r}")
    if len(filter_text) > LONGEST:
        raise FilterError(f"a filter has at most {LONGEST} characters")
    text = filter_text.strip()
    if not text:
        return Filter()
    if text.startswith("!") and not text.startswith("!="):
        rest = text[1:].strip()
        if not rest:
            raise FilterError("after ! comes what to leave out, e.g. !failed")
        inner = parse(rest, kind, digits)
        return replace(inner, negated=not inner.negated)
    return _numeric(text, kind, digits) if kind in NUMERIC else _textual(text)


def _textual(text: str) -> Filter:
    for operator in ("==", "!=", "="):
        if text.startswith(operator):
            rest = _unquoted(text[len(operator) :].strip())
            if not rest:
                raise FilterError(f"after {operator} comes a text, e.g. {operator} done")
            return Filter("missing" if rest.lower() == "n/a" else "equals", negated=operator == "!=", text=rest.lower())
    if text.lower() == "n/a":
        return Filter("missing")
    if re.match(r"[<>]=?", text):
        raise FilterError("this column is text: write a part of it, = all of it, or !part to leave out")
    return Filter("contains", text=_unquoted(text).lower())


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _numeric(text: str, kind: Kind, digits: int | None) -> Filter:
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    operator = next((sign for sign in _OPERATORS if text.startswith(sign)), "")
    rest = text[len(operator) :].strip()
    if operator in ("", "=", "==", "!=") and rest.lower() == "n/a":
        return Filter("missing", negated=operator == "!=")
    if operator == "" and ".." in rest:
        low, _, high = rest.partition("..")
        return _between(low, high, kind)
    if not rest:
        raise FilterError(f"after {operator} comes a number, e.g. {operator} 1.5")
    value, half = _number(rest, kind, digits)
    if operator in (">", ">="):
        return Filter("range", low=value, low_open=operator == ">")
    if operator in ("<", "<="):
        return Filter("range", high=value, high_open=operator == "<")
    return Filter("range", operator == "!=", value - half, value + half, high_open=half > 0.0)


def _between(low: str, high: str, kind: Kind) -> Filter:
    if not low.strip() and not high.strip():
        raise FilterError("a range needs an end, e.g. 1..2, 1.. or ..2")
    least = _number(low.strip(), kind, None)[0] if low.strip() else -math.inf
    most = _number(high.strip(), kind, None)[0] if high.strip() else math.inf
    if least > most:
        raise FilterError(f"this range is empty: {low.strip()} is more than {high.strip()}")
    return Filter("range", low=least, high=most)


def _number(text: str, kind: Kind, digits: int | None) -> tuple[float, float]:
    """Return a number in the column's own unit, and how far from it what is shown alike may lie."""
    if re.fullmatch(r"[+-]?(inf|∞)", text, re.IGNORECASE):
        return (-math.inf if text.startswith("-") else math.inf), 0.0
    match = _NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise FilterError(f"{text!r} is no number: write e.g. >= 1.5, < 0, 1..2, = 3 or n/a")
    unit = (match[5] or "").lower()
    if (unit == "%" and kind != "percent") or (unit not in ("", "%") and kind != "seconds"):
        raise FilterError(f"{text!r}: this column is not in {match[5]}; write the number alone")
    whole, decimals = (match[2] or "0").replace(",", ""), match[3] or ""
    # The decimal point is moved in the text: 12.3 % is 0.123, which 12.3 / 100 is not.
    shift = int(match[4] or 0) - (2 if kind == "percent" else 0)
    value = float(f"{match[1]}{whole}.{decimals or 0}e{shift}") * (_SECONDS[unit] if kind == "seconds" else 1.0)
    if not math.isfinite(value):
        raise FilterError(f"{text!r} is too large a number")
    if kind == "integer":
        return value, 0.0
    if digits is None or match[4] or kind == "seconds":
        return value, abs(value) * _TOLERANCE
    return value, 0.5 * float(f"1e-{max(len(decimals), digits) + (2 if kind == 'percent' else 0)}")

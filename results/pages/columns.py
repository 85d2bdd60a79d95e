"""What a column of a table of results is: how its values are written, aligned, sorted and filtered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Final, Literal, get_args

import pandas as pd

from results.pages.escaping import PageError

Kind = Literal["number", "percent", "integer", "text", "seconds"]
KINDS: Final = get_args(Kind)
NUMERIC: Final = frozenset({"number", "percent", "integer", "seconds"})
Rounding = Literal["nearest", "down", "up"]
NOT_AVAILABLE: Final = "n/a"
_MAX_DIGITS: Final = 12


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: Of the frame's column, and in requests to a server.
        label: Its heading; default the name.
        kind: "number", "percent" (of a fraction: 0.12 is shown as 12.00%), "integer", "text" or "seconds" (shown as 1 h 02 min).
        unit: Shown with the heading, such as "bps".
        digits: Decimals shown, of the percentage where a percent; None shows five significant digits of a number, two decimals of a
            percentage.
        help: What it means, in a sentence: a hint on the heading and a line in the details of a row.
        direction: "max" or "min" is better; None where neither. Sorting by a first click begins with the better end.
        hidden: Left out at first; the reader can choose it, and the details of a row always have it.
        rounding: "down" or "up" where rounding to the nearest would flatter (see `results.digits`).
        tones: Text to tone ("good", "warn", "bad", "info", "muted"), for states.
    """

    name: str
    label: str = ""
    kind: Kind = "text"
    unit: str = ""
    digits: int | None = None
    help: str = ""
    direction: Literal["max", "min"] | None = None
    hidden: bool = False
    rounding: Rounding = "nearest"
    tones: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise PageError("a column needs a name")
        if self.kind not in KINDS:
            raise PageError(f"column {self.name!r}: kind {self.kind!r} is none of {', '.join(KINDS)}")
        if self.digits is not None and not 0 <= self.digits <= _MAX_DIGITS:
            raise PageError(f"column {self.name!r}: digits is {self.digits!r}; it must be from 0 to {_MAX_DIGITS}")
        if self.direction not in ("max", "min", None):
            raise PageError(f"column {self.name!r}: direction is {self.direction!r}; it must be 'max', 'min' or None")
        if self.rounding not in get_args(Rounding):
            raise PageError(f"column {self.name!r}: rounding is {self.rounding!r}; it must be one of {', '.join(get_args(Rounding))}")

    @property
    def heading(self) -> str:
        """The label, or the name where there is none."""
        return self.label or self.name

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers."""
        return self.kind in NUMERIC

    @property
    def shown_digits(self) -> int | None:
        """Decimals shown, of what is shown; None for significant digits and for durations."""
        if self.kind == "percent":
            return 2 if self.digits is None else self.digits
        return {"integer": 0, "number": self.digits}.get(self.kind)

    def spec(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return {
            "name": self.name,
            "label": self.heading,
            "kind": self.kind,
            "unit": self.unit,
            "digits": self.shown_digits,
            "help": self.help,
            "direction": self.direction,
            "hidden": self.hidden,
            "rounding": self.rounding,
            "tones": dict(self.tones),
        }


def check(columns: Sequence[Column]) -> None:
    """Refuse an empty list of columns and names that occur twice.

    Raises:
        PageError: Either.
    """
    if not columns:
        raise PageError("a table needs at least one column")
    names = [column.name for column in columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PageError(f"columns occur twice: {', '.join(twice)}")


def written(value: Any, column: Column) -> str:
    """Return a value as a cell shows it; the page's script writes the same (format.js)."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return NOT_AVAILABLE
    if not column.numeric:
        return str(value)
    number = float(value)
    if math.isnan(number):
        return NOT_AVAILABLE
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    if column.kind == "seconds":
        return _duration(number)
    digits = column.shown_digits
    if digits is None:
        return _significant(number)
    shown = _rounded(number * 100.0 if column.kind == "percent" else number, digits, column.rounding)
    return _fixed(shown, digits) + ("%" if column.kind == "percent" else "")


def _rounded(value: float, digits: int, rounding: Rounding) -> float:
    if rounding == "nearest":
        return value
    scaled = value * 10.0**digits
    # 0.29 · 100 is 28.999…: what is whole but for the last bits counts as whole.
    return (math.floor(scaled + 1e-6) if rounding == "down" else math.ceil(scaled - 1e-6)) / 10.0**digits


def _fixed(number: float, digits: int) -> str:
    # As browsers round: of two equally near numbers the larger, where Python's own formatting takes the even one.
    text = f"{Decimal(abs(number)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, Context(prec=400)):f}"
    sign = "−" if number < 0 and any(digit in text for digit in "123456789") else ""
    whole, point, decimals = text.partition(".")
    return sign + (f"{int(whole):,}" if len(whole) > 4 else whole) + point + decimals


def _significant(number: float, digits: int = 5) -> str:
    if number == 0.0:
        return "0"
    mantissa = Decimal(abs(number)).normalize(Context(prec=digits, rounding=ROUND_HALF_UP))
    exponent = mantissa.adjusted()
    if not -4 <= exponent <= 14:
        figure, _, power = f"{mantissa:e}".partition("e")
        return f"{'−' if number < 0 else ''}{_trimmed(figure)}e{int(power)}"
    return _trimmed(_fixed(number, max(0, digits - 1 - exponent)))


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _duration(seconds: float) -> str:
    sign, size = ("−" if seconds < 0 else ""), abs(seconds)
    if size == 0.0:
        return "0 s"
    if size < 0.0995:
        return f"{sign}{_significant(size * 1000.0, 3)} ms"
    if size < 59.95:
        return f"{sign}{_fixed(size, 2 if size < 9.995 else 1)} s"
    whole = math.floor(size + 0.5)
    minutes, hours = whole // 60, whole // 3600
    if hours < 1:
        return f"{sign}{minutes} min {whole % 60:02d} s"
    return f"{sign}{hours} h {minutes % 60:02d} min" if hours < 48 else f"{sign}{hours // 24} d {hours % 24:02d} h"

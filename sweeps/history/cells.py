"""What stands in a cell of somebody's table: a figure with its unit, a value, or nothing yet. Nothing is evaluated."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Any, Final, Literal, NamedTuple

LONGEST: Final = 10_000  # characters of a cell

Kind = Literal["", "%", "x", "money", "time"]


def words(text: str) -> frozenset[str]:
    """Returns the words of a text."""
    return frozenset(text.split())


_NOISE: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe0e\ufe0f\ufeff]")
_BLANKS: Final = re.compile(r"\s+")
_HYPHENS: Final = str.maketrans({"\u2010": "-", "\u2011": "-"})

# No pattern here looks ahead further than to the next mark of its kind, so none takes long on a text made to take long.
_TAG: Final = re.compile(r"</?[A-Za-z][^<>]*>")
_LINK: Final = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")
_STRUCK: Final = re.compile(r"~~[^~]*~~")
_FOOTNOTE: Final = re.compile(r"\[\^[^\[\]]*\]")

# Cells that say that there is no figure, or none yet.
_NOTHING: Final = words(
    "- -- --- – — − _ . … ... ? ?? / n/a n.a. na #n/a nan null none nil tbd tba todo wip pending running queued scheduled inf -inf "
    "skipped missing unknown failed fail error crashed crash oom diverged killed aborted stopped timeout ⏳ ⌛ 🚧 ❌ ✗ ✘"
) | {"", "in progress", "not run", "not yet", "to do", "not available", "out of memory", "timed out"}
# Of these a parameter has none of the words that could be its value.
_ABSENT: Final = words("- -- --- – — − … ... ? ?? n/a n.a. #n/a nan null tbd tba") | {""}
_YES: Final = words("true ✓ ✔ ✅ ☑ [x]")
_NO: Final = words("false ✗ ✘ ❌ ☐") | {"[ ]"}

_FIGURE: Final = re.compile(
    r"(?P<first>[-+]?)\s?(?P<money>[$€£¥]?)\s?(?P<second>[-+]?)"
    r"(?P<whole>\d{1,3}(?:[,' ]\d{3})+(?!\d)|\d*)(?P<part>\.\d*)?(?P<exp>[eE][-+]?\d{1,3})?"
    r"\s?(?P<unit>%|‰|bps|bp|[kKM](?![a-zA-Z])|bn\b|[xX×](?![a-zA-Z])|USD[TC]?\b|EUR\b|[$€£¥]|ms\b|sec\b|s\b|min\b|h\b)?(?P<rest>.*)"
)
_AFTER: Final = re.compile(r"\s*(?:(?:[↑↓▲▼*†‡!✅✓✔🏆⭐🥇🔥]|\([^()]*\)|\[[^\[\]]*\]|(?:±|\+/-|\+-)\s?\d[\d.eE-]*\s?%?)\s*)*")
_RANGE: Final = re.compile(r"\s*(?:-|–|—|−|~|to|\.\.+|…)\s*[-+$]?\d")
_SHIFT: Final[dict[str, int]] = {"%": -2, "‰": -3, "bps": -4, "bp": -4, "k": 3, "K": 3, "M": 6, "bn": 9}
_UNITS: Final[dict[Kind, tuple[str, ...]]] = {
    "%": ("%", "‰", "bps", "bp"),
    "x": ("x", "X", "×"),
    "money": ("USD", "USDT", "USDC", "EUR", "$", "€", "£", "¥"),
    "time": ("ms", "sec", "s", "min", "h"),
}
_KIND: Final[dict[str, Kind]] = {unit: kind for kind, units in _UNITS.items() for unit in units}
_WHOLE: Final = re.compile(r"[-+]?(?:0|[1-9]\d{0,14})")
_DECIMAL: Final = re.compile(r"([-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE])))([eE][-+]?\d{1,3})?")
_PERCENT: Final = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+))\s?%")


class CellError(ValueError):
    """A cell is no figure; the message is what it is instead."""


class VagueError(CellError):
    """A cell is about a figure and gives none: a bound, a range or an estimate."""


class Figure(NamedTuple):
    """A number as it was written: percent and the like are fractions already, thousands are written out."""

    value: float
    kind: Kind


def clean(text: str) -> str:
    """Returns one line of plain text: no control or invisible characters, no runs of blanks, one kind of hyphen."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_HYPHENS)
    elif text.isalnum():
        return text
    return _BLANKS.sub(" ", _NOISE.sub("", text)).strip()


def plain(text: str) -> str:
    """Returns a markdown cell as plain text: emphasis, code marks, links and HTML tags go, what was struck out goes whole."""
    text = _FOOTNOTE.sub("", _LINK.sub(r"\1", _STRUCK.sub("", _TAG.sub(" ", text))))
    text = clean(html.unescape(text).replace("**", "").replace("`", ""))
    while len(text) > 2 and text[0] == text[-1] and text[0] in "*_" and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return "" if text in ("**", "*") else text


def is_nothing(text: str) -> bool:
    """Returns whether a cell says that there is no figure."""
    return (text[1:-1] if text[:1] == "(" and text[-1:] == ")" else text).strip().casefold() in _NOTHING


def figure(text: str, decimal_comma: bool = False) -> Figure | None:
    """Reads a figure.

    Args:
        text: Cleaned, see `clean`.
        decimal_comma: Whether `0,5` is a half, as in tables whose columns are parted by semicolons.

    Returns:
        None where the cell says that there is none.

    Raises:
        CellError: It is a bound, a range, an estimate, two numbers, or none; no such thing is a result.
    """
    if is_nothing(text):
        return None
    if text[:1] in "<>≤≥=":
        raise (VagueError if text[0] != "=" else CellError)("a bound or a formula, not a figure")
    if text[:1] in "~≈" or text[:3].casefold() == "ca.":
        raise VagueError("an estimate, not a figure")
    # The minus sign of typesetters; a dash before a digit can only be one.
    text = text.replace("−", "-").replace("⁻", "-")
    text = "-" + text[1:].lstrip() if text[:1] in "–—" else text
    text = text.replace(".", "").replace(",", ".") if decimal_comma and "," in text else text
    found = _FIGURE.fullmatch(text)
    whole, part = (found["whole"], found["part"] or "") if found else ("", "")
    if found is None or not (whole or len(part) > 1) or (found["first"] and found["second"]):
        raise CellError("not a number")
    rest = found["rest"]
    if _RANGE.match(rest):
        raise VagueError("a range, not a figure")
    if re.match(r",\d", rest):
        raise CellError("a decimal comma or a list; write 0.5")
    if not _AFTER.fullmatch(rest):
        raise CellError("not one number")
    unit = found["unit"] or ""
    shift = int((found["exp"] or "e0")[1:]) + _SHIFT.get(unit, 0)
    # In the text, because 0.7 / 100 is not the number that 0.007 is.
    value = float(f"{found['first'] or found['second']}{re.sub(r'[^0-9]', '', whole) or '0'}{part}e{shift}")
    if value in (float("inf"), float("-inf")):
        raise CellError("too large for a number")
    return Figure(value, "money" if found["money"] else _KIND.get(unit, ""))


def parameter(text: str) -> Any:
    """Reads a parameter's value: a number, true or false (also as check marks), or text as it stands; None is absent.

    Percent becomes a fraction. Text that a spreadsheet would take for a formula is text. Commas are left alone: `1,4,12` is a list to
    one author and a large number to another.
    """
    folded = text.casefold()
    if folded in _ABSENT or folded == "(n/a)":
        return None
    if folded in _YES or folded in _NO:
        return folded in _YES
    if text[-1:] not in "0123456789.%":
        return text
    number = text.replace("−", "-")
    if _WHOLE.fullmatch(number):
        return int(number)
    if found := _DECIMAL.fullmatch(number):
        value = float(number)
    elif found := _PERCENT.fullmatch(number):
        value = float(f"{found[1]}e-2")
    else:
        return text
    return value if abs(value) < float("inf") else text

"""What every figure of a report shares: a mapping as plotly.js takes it, axes, notes, numbers as JSON has them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

Figure = dict[str, Any]
_DIGITS: Final = 6

MARGIN: Final[dict[str, Any]] = {"t": 10, "l": 62, "r": 14, "b": 44}


def layout_of(**given: Any) -> dict[str, Any]:
    """Returns a layout with the looks of all figures."""
    base = {
        "font": {"size": 12, "color": "@ink", "family": "system-ui, sans-serif"},
        "paper_bgcolor": "@clear",
        "plot_bgcolor": "@clear",
        "hoverlabel": {"bgcolor": "@paper", "bordercolor": "@grid", "font": {"color": "@ink", "size": 12}, "align": "left"},
        "showlegend": True,
        "autosize": True,
    }
    return base | given


def axis_of(**given: Any) -> dict[str, Any]:
    """Returns an axis with the looks of all figures."""
    base = {"gridcolor": "@grid", "linecolor": "@grid", "zerolinecolor": "@grid", "automargin": True, "tickfont": {"size": 11}}
    return base | given


def band(first: str, last: str) -> dict[str, Any]:
    """Returns a shaded span of the horizontal axis."""
    span = {"type": "rect", "xref": "x", "yref": "paper", "x0": first, "x1": last, "y0": 0, "y1": 1}
    return span | {"fillcolor": "@band", "line": {"width": 0}, "layer": "below"}


def note(text: str, x: float | str, y: float, **given: Any) -> dict[str, Any]:
    """Returns a text in a figure."""
    base = {"text": text, "x": x, "y": y, "xref": "x", "yref": "paper", "showarrow": False, "font": {"size": 11, "color": "@soft"}}
    return base | given


def numbers(values: Iterable[float | None]) -> list[float | None]:
    """Returns numbers to six digits, None for what is none: JSON has no NaN."""
    return [None if v is None or not math.isfinite(v) else _plain(float(f"{float(v):.{_DIGITS}g}")) for v in values]


def _plain(value: float) -> float:
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def uniform(*parts: Any) -> float:
    """Returns a number in [0, 1) that depends on the parts alone."""
    return int.from_bytes(blake2b(":".join(map(str, parts)).encode(), digest_size=4).digest(), "big") / 2.0**32


def cut(text: str, most: int = 14) -> str:
    """Returns a text that is not longer than there is room."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def safe(text: str) -> str:
    """Returns a text that plotly shows as it is: it reads tags and entities in whatever it shows."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "% {")

"""Small charts as inline SVG, in the colours of the page around them: steps for the best so far, a line for what a trial reported."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from results.pages.page import Html, escape

WIDTH: Final = 1080
HEIGHT: Final = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 18, 14, 40
_MOST: Final = 1000  # points drawn of a line


def chart(
    points: Sequence[tuple[float, float]],
    *,
    until: float,
    label: str,
    across: str,
    shown: Callable[[float], str],
    percent: bool = False,
    steps: bool = False,
    total: float | None = None,
) -> Html:
    """Returns points as a line.

    Args:
        points: Ascending in x; values that are not finite are gaps.
        until: Greatest x; steps go on as far.
        label: Text alternative.
        across: What x is.
        shown: Writes a value of y.
        percent: Whether y is a fraction, so that the axis is in percent.
        steps: Whether a value lasts until the next; otherwise they are joined.
        total: Where x is going to end, if that is known: the axis goes as far.

    Returns:
        SVG; a sentence where there is no value.
    """
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    if not finite:
        return Html('<p class="note">No value yet.</p>')
    begin = 0.0 if steps else finite[0][0]
    end = max(until, total or 0.0, begin + 1.0)
    low, high = min(y for _, y in finite), max(y for _, y in finite)
    pad = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - pad, high + pad

    def at(x: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (x - begin) / (end - begin)

    def up(y: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (y - low) / (high - low)

    parts = [
        f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{up(y):.1f}" y2="{up(y):.1f}" stroke="var(--line)"/>' for y in ticks(low, high, 4)
    ]
    marks = ticks(low, high, 4)
    parts += [_text(_LEFT - 8, up(y) + 4, words, "end") for y, words in zip(marks, tick_words(marks, percent), strict=True)]
    parts += [_text(at(x), HEIGHT - _BOTTOM + 18, f"{x:,.0f}", "middle") for x in ticks(begin, end, 6) if x == int(x)]
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 4, across, "middle"))
    path = _path(_thinned(points), at, up, steps) + (f"H{at(until):.1f}" if steps else "")
    parts.append(f'<path d="{path}" fill="none" stroke="var(--accent)" stroke-width="1.8" stroke-linejoin="round"/>')
    parts += [
        f'<circle cx="{at(x):.1f}" cy="{up(y):.1f}" r="{3 if len(finite) < 80 else 1.6}" fill="var(--accent)">'
        f"<title>{escape(f'{x:,.0f}: {shown(y)}')}</title></circle>"
        for x, y in (finite if len(finite) <= 300 else finite[-1:])
    ]
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    style = 'style="width:100%;height:auto;max-height:320px;font:12px var(--sans)"'
    return Html(f'<svg {size} {style} role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>')


def ticks(low: float, high: float, n: int) -> list[float]:
    """Returns about n round numbers from low to high."""
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return []
    raw = (high - low) / n
    size = 10.0 ** math.floor(math.log10(raw))
    step = size * next(factor for factor in (1.0, 2.0, 5.0, 10.0) if raw <= size * factor * 1.0000001)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_words(marks: Sequence[float], percent: bool = False) -> list[str]:
    """Returns the numbers of an axis, all with as many decimals as their step needs."""
    scale = 100.0 if percent else 1.0
    step = scale * (marks[1] - marks[0]) if len(marks) > 1 else 1.0
    most = scale * max((abs(mark) for mark in marks), default=0.0)
    if step < 1e-6 or most >= 1e7:
        return [f"{scale * mark:.3g}" + ("%" if percent else "") for mark in marks]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{scale * mark:,.{digits}f}" + ("%" if percent else "") for mark in marks]


def _path(points: Sequence[tuple[float, float]], at: Callable[[float], float], up: Callable[[float], float], steps: bool) -> str:
    out, open_ = [], False
    for x, y in points:
        if not math.isfinite(y):
            open_ = False
        elif not open_:
            out.append(f"M{at(x):.1f} {up(y):.1f}")
            open_ = True
        else:
            out.append(f"H{at(x):.1f}V{up(y):.1f}" if steps else f"L{at(x):.1f} {up(y):.1f}")
    return "".join(out)


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    if len(points) <= _MOST:
        return points
    every = math.ceil(len(points) / _MOST)
    return [*points[::every], points[-1]]


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="var(--muted)">{escape(words)}</text>'

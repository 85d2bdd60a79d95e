"""A line as large as a word, for cells of tables and for text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from results.pages.escaping import Html, escape


def sparkline(values: Sequence[float], *, label: str = "", width: int = 96, height: int = 20, zero: bool = False) -> Html:
    """Return values as a small SVG line in the colour of the text around it.

    Args:
        values: In their order, evenly spaced; NaN and infinities leave a gap. More than two per pixel are thinned to their extremes,
            so that no spike is lost.
        label: Text alternative; default the first, last, least and greatest value.
        width: In pixels.
        height: In pixels.
        zero: Draw a line at zero, which is then within the range.

    Returns:
        Inline SVG; an empty one says "no values".
    """
    points = _thinned([float(value) for value in values], 2 * width)
    finite = [y for _, y in points if math.isfinite(y)]
    if not finite:
        return Html(f'<svg class="spark" width="{width}" height="{height}" role="img" aria-label="{escape(label or "no values")}"></svg>')
    low, high = min(finite), max(finite)
    said = label or f"from {finite[0]:.4g} to {finite[-1]:.4g}, least {low:.4g}, greatest {high:.4g}"
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    last = max(len(values) - 1, 1)

    def x(at: float) -> float:
        return 1.5 + (width - 3.0) * at / last

    def y(value: float) -> float:
        return height / 2.0 if high == low else height - 2.0 - (height - 4.0) * (value - low) / (high - low)

    line, pen = [], "M"
    for at, value in points:
        if not math.isfinite(value):
            pen = "M"
            continue
        line.append(f"{pen}{x(at):.1f} {y(value):.1f}")
        pen = "L"
    end = next((at, value) for at, value in reversed(points) if math.isfinite(value))
    axis = f'<path class="axis" d="M1.5 {y(0.0):.1f}H{width - 1.5}"/>' if zero else ""
    return Html(
        f'<svg class="spark" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(said)}">'
        f'{axis}<path class="line" d="{"".join(line)}"/><circle cx="{x(end[0]):.1f}" cy="{y(end[1]):.1f}" r="1.6"/></svg>'
    )


def _thinned(values: list[float], most: int) -> list[tuple[float, float]]:
    if len(values) <= most:
        return [(float(at), value) for at, value in enumerate(values)]
    kept: set[int] = {0, len(values) - 1}
    buckets = most // 2
    for bucket in range(buckets):
        start, stop = bucket * len(values) // buckets, (bucket + 1) * len(values) // buckets
        finite = [at for at in range(start, stop) if math.isfinite(values[at])]
        kept |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)} if finite else {start}
    return [(float(at), values[at]) for at in sorted(kept)]

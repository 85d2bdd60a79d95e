"""Places in a page for figures that a script draws, and what that script needs: plotly.js and the figures as data."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from results.pages.page import Html, details, escape, figure


class Drawings:
    """Collects the figures of a page.

    Attributes:
        data: JSON of each, by the name of its data block.
    """

    def __init__(self) -> None:
        self.data: dict[str, str] = {}

    def place(
        self,
        id: str,
        made: dict[str, Any],
        alt: str,
        *,
        size: str = "",
        height: int | None = None,
        caption: str = "",
        table: str = "",
        log: bool = False,
        wide: bool = False,
    ) -> Html:
        """Returns the place of a figure.

        Args:
            id: Of the figure, unique in the page.
            made: From `charts`.
            alt: What it shows, with the numbers.
            size: "tall", "small", or "" for what lies between.
            height: In place of the size's own, pixels.
            caption: Below it.
            table: Markup of a table with its numbers, to be unfolded.
            log: Whether the reader may choose a logarithmic axis.
            wide: Whether a narrow page scrolls it sideways.
        """
        self.data[f"figure-{id}"] = json.dumps(made, allow_nan=False, separators=(",", ":"))
        choice = f'<label class="toggle needs-script"><input type="checkbox" data-log="{id}-plot"> logarithmic axis</label>' if log else ""
        half = ' data-print="335"' if size == "small" else ""
        tall = "" if height is None else f' style="height:{height}px"'
        plot = f'<div class="plot {size}" id="{id}-plot" data-figure="figure-{id}"{half}{tall} aria-hidden="true"></div>'
        scrolled = f'<div class="wide-plot">{plot}</div>' if wide else plot
        content = Html(f"{choice}{scrolled}{_folded(table)}")
        return figure(id, content, alt, caption=caption)

    def scripts(self) -> list[str]:
        """Returns the scripts of a page with these figures, none where it has no figure."""
        return [plotly(), Path(__file__).with_name("report.js").read_text(encoding="utf-8")] if self.data else []


def _folded(table: str) -> str:
    return details("As a table", table) if table else ""


@cache
def plotly() -> str:
    """Returns plotly.js as a function that makes `Plotly` when the first figure comes into sight: what nobody looks at costs nothing."""
    from plotly.offline import get_plotlyjs

    return f"window.loadPlotly=function(){{{get_plotlyjs()}\n}};"


def style() -> Html:
    """Returns the styles of reports."""
    return Html(f"<style>{Path(__file__).with_name('report.css').read_text(encoding='utf-8')}</style>")


def missing(why: str) -> Html:
    """Returns what stands in place of a part that cannot be said."""
    return Html(f'<p class="na">n/a: {escape(why)}</p>')

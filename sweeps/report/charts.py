"""Figures of a report, as plotly.js takes them: plain mappings, so that the same study gives the same bytes.

Colours are names such as "@c1", which the page puts in for light, dark and print. Nothing here is drawn by WebGL: it would be missing from
print and from machines without it, so parallel coordinates are lines of their own and not plotly's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from results.metrics import Metric
from sweeps.plots.figures import label_of, percent
from sweeps.report.figure import MARGIN, Figure, axis_of, band, cut, layout_of, note, numbers, safe, uniform
from sweeps.report.returns import Curves, Line
from sweeps.report.rungs import Steps
from sweeps.report.workload import Timeline

COLOURS: Final = 8
MOST_DAYS: Final = 1_500
KINDS: Final[Mapping[str, str]] = {"completed": "@c1", "work": "@c1", "stopped early": "@c2", "failed": "@bad", "lost": "@muted"}


def equity(curves: Curves) -> Figure:
    """Draws accounts above and their drawdowns below, folds shaded."""
    keep = _kept(len(curves.days))
    days = [str(day) for day in curves.days[keep]]
    data: list[Figure] = []
    for place, line in enumerate(curves.lines):
        style = _line_style(line, place, len(curves.trials))
        common = {"type": "scatter", "mode": "lines", "x": days, "name": line.name, "legendgroup": line.name, "line": style}
        data.append(common | {"y": numbers(line.equity[keep]), "hovertemplate": f"{line.name}: %{{y:.3f}}×<extra></extra>"})
        fall = {"y": numbers(_deepest(line.drawdown, keep)), "yaxis": "y2", "showlegend": False}
        data.append(common | fall | {"hovertemplate": f"{line.name}: %{{y:.1%}}<extra></extra>"})
    shapes, notes = [], []
    for k, (first, last) in enumerate(curves.folds):
        if k % 2 == 0:
            shapes.append(band(str(first), str(last)))
        if len(curves.folds) <= 12:
            notes.append(note(f"fold {k + 1}", str(first), 1.0, xanchor="left", yanchor="bottom"))
    layout = layout_of(
        xaxis=axis_of(type="date", anchor="y2", showgrid=False),
        yaxis=axis_of(title={"text": "value of 1 put in"}, domain=[0.36, 1.0], ticksuffix="×", hoverformat=".3f"),
        yaxis2=axis_of(title={"text": "drawdown"}, domain=[0.0, 0.28], tickformat=".0%"),
        shapes=shapes,
        annotations=notes,
        hovermode="x unified" if len(curves.lines) <= 14 else "closest",
        legend={"orientation": "h", "y": -0.14, "x": 0, "yanchor": "top"},
        margin={"t": 26, "l": 62, "r": 14, "b": 44},
    )
    return {"data": data, "layout": layout}


def _kept(days: int) -> NDArray[np.int64]:
    """Returns the places of the days drawn: all, or of many the last of each of `MOST_DAYS` spans."""
    if days <= MOST_DAYS:
        return np.arange(days)
    return np.unique(np.linspace(0, days - 1, MOST_DAYS).round().astype(np.int64))


def _deepest(values: NDArray[np.float64], keep: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the least of each span that ends at a day drawn, so that no fall is lost."""
    starts = np.concatenate(([0], keep[:-1] + 1))
    return np.minimum.reduceat(values, starts) if len(keep) < len(values) else values


def _line_style(line: Line, place: int, trials: int) -> dict[str, Any]:
    if line.rank is None:
        return {"color": f"@b{1 + (place - trials) % 3}", "width": 1.8, "dash": ("dash", "dot", "dashdot")[(place - trials) % 3]}
    return {"color": f"@c{1 + place % COLOURS}", "width": 2.6 if place == 0 else 1.3}


def rungs(steps: Steps, metric: Metric, unit: str) -> Figure:
    """Draws a column of points for each rung: who went on, who was stopped, and where the cut-off is now."""
    names = [_rung_name(rung.step, rung.bracket, steps, unit) for rung in steps.rungs]
    form = ":.2%" if percent(metric) else ":.5g"
    data: list[Figure] = []
    for went, name, colour, symbol in ((False, "stopped, or went no further", "@c2", "x-thin-open"), (True, "went on", "@c1", "circle")):
        x, y, trials = [], [], []
        for k, rung in enumerate(steps.rungs):
            for trial, value, on in rung.dots:
                if on is went:
                    x.append(k + 0.55 * (uniform("rung", trial) - 0.5))
                    y.append(value)
                    trials.append(trial)
        hover = f"trial %{{customdata}}, {metric.name} %{{y{form}}}<extra>{name}</extra>"
        marker = {"color": colour, "size": 7, "symbol": symbol, "line": {"width": 1.6, "color": colour}}
        dots = {"type": "scatter", "mode": "markers", "name": name, "x": numbers(x), "y": numbers(y), "customdata": trials}
        data.append(dots | {"marker": marker, "hovertemplate": hover})
    line_x: list[float | None] = []
    line_y: list[float | None] = []
    for k, rung in enumerate(steps.rungs):
        line_x += [k - 0.36, k + 0.36, None]
        line_y += [*numbers([rung.cutoff, rung.cutoff]), None]
    cut = {"type": "scatter", "mode": "lines", "name": "cut-off now", "x": line_x, "y": line_y, "line": {"color": "@ink", "width": 2}}
    data.append(cut | {"hovertemplate": f"cut-off %{{y{form}}}<extra></extra>"})
    notes = [note(f"{r.promoted:,} of {r.judged:,} went on", k, 1.0, yref="paper", yanchor="bottom") for k, r in enumerate(steps.rungs)]
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": names}
    xaxis = axis_of(**ticks, range=[-0.6, len(names) - 0.4], showgrid=False, zeroline=False)
    yaxis = axis_of(title={"text": label_of(metric)}, **({"tickformat": ".4~%"} if percent(metric) else {}))
    legend = {"orientation": "h", "y": -0.16, "x": 0, "yanchor": "top"}
    return {"data": data, "layout": layout_of(xaxis=xaxis, yaxis=yaxis, annotations=notes, legend=legend, margin=MARGIN | {"t": 26})}


def _rung_name(step: int, bracket: int, steps: Steps, unit: str) -> str:
    several = steps.rules is not None and steps.rules.brackets > 1
    return f"{step:,} {safe(unit)}" + (f"<br>bracket {bracket + 1}" if several else "")


def learning(steps: Steps, metric: Metric, unit: str) -> Figure:
    """Draws the objective on the way."""
    data, named = [], set[str]()
    form = ":.2%" if percent(metric) else ":.5g"
    for place, curve in reversed(list(enumerate(steps.curves))):
        best = place == 0 and curve.ended == "completed"
        name = "best" if best else curve.ended
        style = {"color": "@accent" if best else KINDS.get(curve.ended, "@muted"), "width": 3 if best else 1.1}
        hover = f"trial {curve.trial} ({curve.ended})<br>%{{x}} {safe(unit)}: %{{y{form}}}<extra></extra>"
        marks = {"mode": "lines+markers", "marker": {"size": 7 if best else 4}} if len(curve.steps) <= 30 else {"mode": "lines"}
        line = {"type": "scatter", "x": list(curve.steps), "y": numbers(curve.values), "line": style, "name": name, "legendgroup": name}
        data.append(line | marks | {"hovertemplate": hover, "showlegend": name not in named, "opacity": 1.0 if best else 0.7})
        named.add(name)
    xaxis = axis_of(title={"text": safe(unit)}, rangemode="tozero", zeroline=False)
    yaxis = axis_of(title={"text": label_of(metric)}, **({"tickformat": ".4~%"} if percent(metric) else {}))
    legend = {"orientation": "h", "y": -0.2, "x": 0, "yanchor": "top"}
    return {"data": data, "layout": layout_of(xaxis=xaxis, yaxis=yaxis, legend=legend, hovermode="closest", margin=MARGIN)}


def timeline(found: Timeline) -> Figure:
    """Draws work on lanes; pauses between sessions are left out, and a line stands in their place."""
    divisor, unit = (3600.0, "hours") if found.seconds >= 7200 else (60.0, "minutes") if found.seconds >= 120 else (1.0, "seconds")
    data = []
    for kind, colour in KINDS.items():
        bars = [bar for bar in found.bars if bar.kind == kind]
        if not bars:
            continue
        lengths = [max(bar.end - bar.begin, found.seconds / 1_000.0 if kind == "lost" else 0.0) for bar in bars]
        made = {
            "type": "bar",
            "orientation": "h",
            "name": kind,
            "base": numbers([bar.begin / divisor for bar in bars]),
            "x": numbers([length / divisor for length in lengths]),
            "y": [bar.lane for bar in bars],
            "text": [f"{bar.words}, {bar.end - bar.begin:.3g} s" for bar in bars],
            "textposition": "none",
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"color": colour, "line": {"color": "@paper", "width": 0.5}},
        }
        data.append(made)
    mark = {"type": "line", "y0": 0, "y1": 1, "yref": "paper", "line": {"color": "@muted", "width": 1, "dash": "dot"}}
    shapes = [mark | {"x0": begin / divisor, "x1": begin / divisor} for begin in found.begins if len(found.begins) > 1]
    names = [safe(cut(name, 22)) for name in found.lanes]
    said = f"{unit}, pauses between sessions left out" if len(found.begins) > 1 else unit
    layout = layout_of(
        xaxis=axis_of(title={"text": said}, range=[0, found.seconds / divisor]),
        yaxis=axis_of(tickmode="array", tickvals=list(range(len(names))), ticktext=names, autorange="reversed", showgrid=False),
        barmode="overlay",
        bargap=0.25,
        shapes=shapes,
        legend={"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"},
        margin={"t": 28, "l": 64, "r": 14, "b": 44},
    )
    return {"data": data, "layout": layout}

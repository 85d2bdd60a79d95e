"""Figures of parameters: the objective by each of them, and all of them together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from results.leaderboard import format_value, shown_unit
from results.metrics import Metric
from sweeps.plots.figures import percent
from sweeps.report.figure import Figure, axis_of, cut, layout_of, note, numbers, safe, uniform
from sweeps.report.parameters import Axis, Parameters, lines_of

_BANDS: Final = 6  # of colour, of parallel coordinates
_SHIFT: Final = 0.035  # by which lines through one listed value are told apart, of the axis


def slice_of(axis: Axis, found: Parameters, metric: Metric, winner: int | None) -> Figure:
    """Draws the objective by one parameter: a point a trial, and the median of each value where there are few."""
    known = np.isfinite(axis.values)
    x, y, trials = axis.values[known], found.scores[known], found.trials[known]
    # Values that are listed would lie on a line; a little to the side each point can be seen. The shift follows from the trial's number.
    spread = _room(axis)
    shift = np.array([uniform(axis.name, int(n)) - 0.5 for n in trials]) * spread if axis.medians else np.zeros(len(x))
    places = x * np.exp(shift) if axis.log else x + shift
    said = {"customdata": [[int(n), axis.label(v)] for n, v in zip(trials, x, strict=True)]}
    form = ":.2%" if percent(metric) else ":.5g"
    hover = f"trial %{{customdata[0]}}<br>{safe(axis.name)} %{{customdata[1]}}<br>{metric.name} %{{y{form}}}<extra></extra>"
    dots = {"type": "scatter", "mode": "markers", "x": numbers(places), "y": numbers(y), "hovertemplate": hover, "showlegend": False}
    data: list[Figure] = [dots | said | {"marker": {"color": "@dot", "size": 5 if len(x) < 400 else 4}}]
    if axis.medians:
        data.append(_medians(axis, metric, spread))
    if winner is not None and winner in trials.tolist():
        at = trials.tolist().index(winner)
        star = {"type": "scatter", "mode": "markers", "x": numbers(places[at : at + 1]), "y": numbers(y[at : at + 1]), "showlegend": False}
        mark = {"color": "@accent", "size": 11, "symbol": "diamond", "line": {"color": "@paper", "width": 1.5}}
        data.append(star | {"marker": mark, "hovertemplate": f"winner, trial {winner}<extra></extra>"})
    xaxis = axis_of(title={"text": safe(axis.name)}, type="log" if axis.log else "linear", showgrid=False, zeroline=False)
    if axis.medians:
        values = [value for value, _, _ in axis.medians]
        xaxis |= {"tickmode": "array", "tickvals": values, "ticktext": [cut(axis.label(value)) for value in values]}
        first, last = (math.log10(values[0]), math.log10(values[-1])) if axis.log else (values[0], values[-1])
        side = 1.2 * spread / (math.log(10.0) if axis.log else 1.0)
        xaxis |= {"range": numbers([first - side, last + side])}
    yaxis = axis_of(title={"text": metric.name}, **({"tickformat": ".4~%"} if percent(metric) else {}))
    return {"data": data, "layout": layout_of(xaxis=xaxis, yaxis=yaxis, margin={"t": 8, "l": 58, "r": 10, "b": 46})}


def _medians(axis: Axis, metric: Metric, spread: float) -> Figure:
    """Draws medians as short level lines."""
    x, y, said = [], [], []
    half = 0.75 * spread
    for value, median, n in axis.medians:
        ends = (value * math.exp(-half), value * math.exp(half)) if axis.log else (value - half, value + half)
        words = f"{axis.label(value)}: median {format_value(median, shown_unit(metric))} of {n:,}"
        x += [*ends, None]
        y += [median, median, None]
        said += [words, words, ""]
    line = {"color": "@ink", "width": 2.5}
    return {
        "type": "scatter",
        "mode": "lines",
        "x": numbers(x),
        "y": numbers(y),
        "line": line,
        "text": [safe(words) for words in said],
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
    }


def _room(axis: Axis) -> float:
    """Returns the width around each listed value in which its points lie, on the axis's own scale."""
    if axis.labels:
        return 0.5
    values = np.array([value for value, _, _ in axis.medians])
    if len(values) < 2:
        return 0.5
    gaps = np.diff(np.log(values) if axis.log else values)
    return 0.5 * float(gaps.min())


def parallel(found: Parameters, metric: Metric) -> Figure:
    """Draws trials as lines across their parameters to the objective, the best on top and in strong colour."""
    direction = metric.direction or "max"
    chosen = lines_of(found, direction)
    scores = found.scores[chosen]
    places = [_scaled(axis)(axis.values[chosen]) + _apart(axis, found.trials[chosen]) for axis in found.axes]
    low, high = float(scores.min()), float(scores.max())
    places.append((scores - low) / (high - low) if high > low else np.full(len(scores), 0.5))
    table = np.column_stack(places)
    rank = np.argsort(np.argsort(scores if direction == "min" else -scores, kind="stable"), kind="stable")
    data: list[Figure] = []
    for band in reversed(range(_BANDS)):
        rows = np.flatnonzero(rank * _BANDS // max(1, len(rank)) == band)
        x: list[float | None] = []
        y: list[float | None] = []
        for row in rows:
            x += [*(float(k) for k in range(table.shape[1])), None]
            y += [*numbers(table[row]), None]
        style = {"color": f"@p{band + 1}", "width": 1.6 if band == 0 else 1.0}
        data.append({"type": "scatter", "mode": "lines", "x": x, "y": y, "line": style, "hoverinfo": "skip", "showlegend": False})
    notes, shapes = [], []
    names = [*(axis.name for axis in found.axes), metric.name]
    for k, name in enumerate(names):
        shapes.append({"type": "line", "x0": k, "x1": k, "y0": 0, "y1": 1, "line": {"color": "@ink", "width": 1.2}, "layer": "above"})
        at = {"xanchor": "left", "xshift": -6} if k == 0 else {"xanchor": "right", "xshift": 6} if k == len(names) - 1 else {}
        notes.append(note(f"<b>{safe(cut(name, 18))}</b>", k, 1.05, yref="y", yanchor="bottom", **at))
        ticks = _ticks(found.axes[k]) if k < len(found.axes) else _score_ticks(low, high, metric)
        for place, text in ticks:
            side = {"xanchor": "right", "xshift": -5} if k == len(names) - 1 and k else {"xanchor": "left", "xshift": 5}
            notes.append(note(safe(cut(text)), k, place, yref="y", yanchor="middle", bgcolor="@veil", **side))
    hidden = {"visible": False, "fixedrange": True}
    layout = layout_of(
        xaxis=hidden | {"range": [-0.04, len(names) - 0.96]},
        yaxis=hidden | {"range": [-0.05, 1.13]},
        shapes=shapes,
        annotations=notes,
        margin={"t": 10, "l": 10, "r": 10, "b": 10},
    )
    return {"data": data, "layout": layout}


def _apart(axis: Axis, trials: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns small shifts, which follow from the trials' numbers, so that lines through the same values do not hide one another."""
    if not axis.medians:
        return np.zeros(len(trials))
    return _SHIFT * (np.array([uniform(axis.name, int(n)) for n in trials]) - 0.5)


def _scaled(axis: Axis) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    known = axis.values[np.isfinite(axis.values)]
    if axis.labels:
        top = max(1, len(axis.labels) - 1)
        return lambda values: values / top
    low, high = float(known.min()), float(known.max())
    if high <= low:
        return lambda values: np.where(np.isfinite(values), 0.5, np.nan)
    if axis.log:
        return lambda values: (np.log(values) - math.log(low)) / (math.log(high) - math.log(low))
    return lambda values: (values - low) / (high - low)


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    scale = _scaled(axis)
    if axis.labels:
        values = [float(place) for place in range(len(axis.labels))]
    elif axis.medians:
        values = [value for value, _, _ in axis.medians]
    else:
        known = axis.values[np.isfinite(axis.values)]
        ends = float(known.min()), float(known.max())
        values = (np.geomspace(*ends, 5) if axis.log else np.linspace(*ends, 5)).tolist()
    picked = values if len(values) <= 9 else [values[round(i * (len(values) - 1) / 5)] for i in range(6)]
    form = axis.label if axis.labels or axis.medians else lambda value: f"{value:.3g}"
    return [(float(scale(np.array([value], float))[0]), form(value)) for value in picked]


def _score_ticks(low: float, high: float, metric: Metric) -> list[tuple[float, str]]:
    if high <= low:
        return [(0.5, format_value(low, shown_unit(metric)))]
    return [(i / 4, format_value(low + (high - low) * i / 4, shown_unit(metric))) for i in range(5)]

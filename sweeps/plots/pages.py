"""Figures as web pages: Optuna's plotly figures, dressed, in one file that opens without a network."""

from __future__ import annotations

import html
import math
from typing import Any, Final

from search_spaces.adaptive.bayesian import quiet
from sweeps.plots.figures import STATES, Drawing, bounds, few_values, in_percent, label_of, percent

_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 1.5rem 2rem; }}
h1 {{ font-size: 1.25rem; margin: 0 0 .5rem; }}
p {{ color: #555; margin: .15rem 0; }}
</style>
</head>
<body>
<h1>{title}</h1>
{figure}
{notes}
</body>
</html>
"""
# plotly 7 has a button that sends a figure to its makers' cloud unless it is told not to.
_CONFIG: Final = {"displaylogo": False, "responsive": True, "showSendToCloud": False, "plotlyServerURL": ""}
_INK: Final = "#222"


def page(drawing: Drawing) -> str:
    """Returns a figure as a web page that has all it needs in it, plotly.js too."""
    figure = figure_of(drawing)
    inner = figure.to_html(full_html=False, include_plotlyjs=True, include_mathjax=False, config=_CONFIG)
    notes = "\n".join(f"<p>{html.escape(note)}</p>" for note in drawing.notes)
    return _PAGE.format(title=html.escape(drawing.title), figure=inner, notes=notes)


def figure_of(drawing: Drawing) -> Any:
    """Returns Optuna's plotly figure with the product's names, units and looks."""
    with quiet():
        figure = _drawn(drawing)
    figure.update_layout(
        template="plotly_white", title=None, font={"size": 13, "color": _INK}, margin={"t": 30, "l": 70, "r": 30, "b": 60}, height=560
    )
    figure.update_xaxes(automargin=True, showline=True, mirror=True, linecolor="#ccc", zeroline=False)
    figure.update_yaxes(automargin=True, showline=True, mirror=True, linecolor="#ccc", zeroline=False)
    _dress(figure, drawing)
    return figure


def _drawn(drawing: Drawing) -> Any:
    from optuna import visualization as draw

    study, metrics, params = drawing.projection.study, drawing.projection.metrics, drawing.params
    label = label_of(metrics[0])
    match drawing.kind:
        case "history":
            figure = draw.plot_optimization_history(drawing.projection.numbered(), target_name=label)
            numbers = [trial.number for trial in study.get_trials(deepcopy=False)]
            figure.for_each_trace(lambda trace: trace.update(x=[numbers[place] for place in trace.x]))
            return figure
        case "parallel":
            return draw.plot_parallel_coordinate(study, params, target_name=metrics[0].name)
        case "slice":
            return draw.plot_slice(study, params, target=_first, target_name=label)
        case "contour":
            return draw.plot_contour(study, params, target_name=metrics[0].name)
        case "edf":
            return draw.plot_edf(study, target_name=label)
        case "rank":
            return draw.plot_rank(drawing.projection.best_last(), params, target_name=metrics[0].name)
        case "timeline":
            return draw.plot_timeline(drawing.projection.told_apart())
        case "pareto":
            return draw.plot_pareto_front(study, target_names=[label_of(metric) for metric in metrics])
        case "intermediate":
            return draw.plot_intermediate_values(study)
    return _bars(drawing)


def _first(trial: Any) -> float:
    return float(trial.values[0])


def _bars(drawing: Drawing) -> Any:
    """Draws importances with what chance reaches, as `alphasweep importance` has them; Optuna's own bars know of no chance."""
    from plotly import graph_objects as go

    assert drawing.ranking is not None
    rows = [row for row in drawing.ranking.rows if row.share is not None][::-1]
    names = [row.parameter for row in rows]
    colours = ["#3b6fb6" if row.beyond_chance else "#b9c6d8" for row in rows]
    bars = go.Bar(
        x=[row.share for row in rows],
        y=names,
        orientation="h",
        marker={"color": colours},
        name="share of importance",
        showlegend=False,
        text=[f"{row.share:.1%}" for row in rows],
        textposition="outside",
        cliponaxis=False,
    )
    mark = {"symbol": "line-ns-open", "size": 18, "color": "#d62728", "line": {"width": 2}}
    chance = go.Scatter(x=[row.chance for row in rows], y=names, mode="markers", marker=mark, name="by chance")
    figure = go.Figure([bars, chance])
    figure.update_xaxes(title_text=f"share of importance for {drawing.projection.metrics[0].name}", tickformat=".0%")
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.08, "x": 0})
    return figure


def _dress(figure: Any, drawing: Drawing) -> None:
    """Puts right what Optuna leaves plain: units of ticks, names of what is drawn, room for labels."""
    kind, metrics, n = drawing.kind, drawing.projection.metrics, len(drawing.params or ())
    if percent(metrics[0]):
        if kind in ("history", "slice", "intermediate"):
            figure.update_yaxes(tickformat=".4~%")
        elif kind == "edf":
            figure.update_xaxes(tickformat=".4~%")
        elif kind == "parallel":
            figure.data[0].dimensions[0].tickformat = ".4~%"
            figure.data[0].line.colorbar.tickformat = ".4~%"
        elif kind == "contour":
            figure.update_traces(colorbar_tickformat=".4~%", selector={"type": "contour"})
        elif kind == "rank":
            for trace in figure.data:
                trace.marker.colorbar.ticktext = [in_percent(text) for text in trace.marker.colorbar.ticktext or ()] or None
    if kind == "history":
        figure.update_layout(legend={"orientation": "h", "y": 1.08, "x": 0})
        figure.for_each_trace(lambda t: t.update(name={"Best Value": "best so far"}.get(t.name, drawing.projection.metrics[0].name)))
        figure.update_xaxes(title_text="trial")
    elif kind == "pareto":
        # Optuna fades trials by number, so that the first are white on white, the best among them.
        figure.for_each_trace(_as_front)
        figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.08, "x": 0})
        for update, metric in zip((figure.update_xaxes, figure.update_yaxes), metrics, strict=False):
            if len(metrics) == 2 and percent(metric):
                update(tickformat=".4~%")
    elif kind == "slice":
        _values_on_ticks(figure, drawing)
        _within_bounds(figure, drawing)
        figure.update_layout(width=None if n < 8 else 170 * n, margin_r=90)
    elif kind in ("contour", "rank"):
        _values_on_ticks(figure, drawing)
    if kind in ("contour", "rank") and n > 2:
        figure.update_layout(height=260 * n, width=300 * n + 100)
    if kind == "edf":
        figure.update_layout(showlegend=False)
        figure.update_yaxes(title_text="share of trials at or below", range=[0, 1.02])
    elif kind == "timeline":
        colours = {"COMPLETE": "#3b6fb6", "WAITING": "#9db7d5", "PRUNED": "#e8973a", "FAIL": "#d62728"}
        figure.for_each_trace(lambda t: t.update(marker_color=colours.get(t.name, "#cccccc")))
        figure.for_each_trace(lambda t: t.update(name=STATES.get(t.name, t.name), hovertemplate="%{text}<extra>%{fullData.name}</extra>"))
        figure.update_xaxes(title_text="time (UTC)")
        figure.update_yaxes(title_text="trial")
    elif kind == "intermediate":
        figure.update_xaxes(title_text=drawing.unit)
        figure.update_yaxes(title_text=label_of(metrics[0]))
        figure.for_each_trace(lambda t: t.update(name=f"trial {t.name.removeprefix('Trial')}"))


def _as_front(trace: Any) -> None:
    """Draws dominated trials in one colour and the others in another."""
    looks = {"Trial": ("dominated", "#9db7d5"), "Best Trial": ("not dominated", "#d62728")}
    # Its traces have no names, but colour bars that do.
    name, colour = looks.get(trace.marker.colorbar.title.text, ("constraints not met", "#cccccc"))
    trace.update(name=name, showlegend=True)
    trace.marker.update(color=colour, showscale=False, colorscale=None, colorbar=None, size=8)


def _values_on_ticks(figure: Any, drawing: Drawing) -> None:
    """Puts ticks where values are, if they are few: between 1 and 2 positions there is nothing."""
    names = sorted(drawing.params or ())
    for axis in figure.select_xaxes():
        _tick(axis, axis.title.text, names, drawing)
    for axis in figure.select_yaxes():
        _tick(axis, axis.title.text, names, drawing)


def _within_bounds(figure: Any, drawing: Drawing) -> None:
    """Ends the axes where the parameters do; what lies on an end is drawn whole."""
    figure.update_traces(cliponaxis=False)
    for axis in figure.select_xaxes():
        if (ends := bounds(drawing, axis.title.text)) is not None:
            axis.update(range=[math.log10(end) for end in ends] if axis.type == "log" else list(ends))


def _tick(axis: Any, name: str | None, names: list[str], drawing: Drawing) -> None:
    if name not in names:
        return
    if values := few_values(drawing, name):
        axis.update(tickmode="array", tickvals=values, ticktext=[f"{value:.6g}" for value in values])
    elif axis.categoryarray:  # which Optuna puts in quotes
        axis.update(tickmode="array", tickvals=axis.categoryarray, ticktext=[str(text).strip("'") for text in axis.categoryarray])

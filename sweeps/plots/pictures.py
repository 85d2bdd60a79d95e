"""Figures as pictures, PNG or SVG: Optuna's matplotlib figures, dressed; nothing else needs to be installed, no browser either."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from search_spaces.adaptive.bayesian import quiet
from sweeps.plots.figures import STATES, Drawing, bounds, few_values, in_percent, label_of, percent

_DPI: Final = 150
_STYLE: Final = {
    "figure.constrained_layout.use": True,
    "font.size": 9.0,
    "axes.facecolor": "white",
    "axes.edgecolor": "#999999",
    "grid.color": "#dddddd",
    "axes.labelcolor": "#222222",
    "xtick.color": "#222222",
    "ytick.color": "#222222",
}


def picture(drawing: Drawing, path: Path, fmt: str) -> None:
    """Draws a figure into a file.

    Args:
        drawing: What to draw.
        path: Where to.
        fmt: "png" or "svg".
    """
    with _drawing_board() as plt:
        figure = _drawn(drawing)
        figure.suptitle(drawing.title, fontsize=12, fontweight="bold", color="#222222")
        width = figure.get_size_inches()[0]
        notes = "\n".join(line for note in drawing.notes for line in textwrap.wrap(note, int(width * 16)))
        # A label below everything: constrained layout makes room for it, where a free text would be drawn over.
        figure.supxlabel(notes, fontsize=8, color="#555555", x=0.01, ha="left")
        metadata = {"Date": None} if fmt == "svg" else {"Software": None}
        figure.savefig(path, format=fmt, dpi=_DPI, metadata=metadata)
        plt.close("all")


@contextmanager
def _drawing_board() -> Iterator[Any]:
    """Draws without a window, and leaves the settings of a session that plots for itself as they were."""
    import matplotlib
    from matplotlib import pyplot as plt

    before = matplotlib.get_backend()
    matplotlib.use("agg")
    try:
        with quiet(), plt.style.context(["ggplot", _STYLE]):
            board: Any = plt.style
            use, board.use = board.use, lambda _style: None  # Optuna's functions set a style for good
            try:
                yield plt
            finally:
                board.use = use
    finally:
        matplotlib.use(before)


def _drawn(drawing: Drawing) -> Any:
    import numpy as np
    from optuna.visualization import matplotlib as draw

    study, metrics, params = drawing.projection.study, drawing.projection.metrics, drawing.params
    label = label_of(metrics[0])
    axes: Any
    match drawing.kind:
        case "history":
            axes = draw.plot_optimization_history(drawing.projection.numbered(), target_name=label)
            numbers = np.array([trial.number for trial in study.get_trials(deepcopy=False)])
            for line in axes.lines:
                line.set_xdata(numbers[np.asarray(line.get_xdata(), dtype=int)])
            for points in axes.collections:
                at = np.asarray(points.get_offsets())
                points.set_offsets(np.column_stack([numbers[at[:, 0].astype(int)], at[:, 1]]))
            axes.set_xlim(numbers.min() - 0.02 * np.ptp(numbers) - 0.5, numbers.max() + 0.02 * np.ptp(numbers) + 0.5)
        case "parallel":
            axes = draw.plot_parallel_coordinate(study, params, target_name=metrics[0].name)
        case "slice":
            axes = draw.plot_slice(study, params, target=_first, target_name=label)
        case "contour":
            axes = draw.plot_contour(study, params, target_name=label)
        case "edf":
            axes = draw.plot_edf(study, target_name=label)
        case "rank":
            axes = draw.plot_rank(drawing.projection.best_last(), params, target_name=label)
        case "timeline":
            axes = draw.plot_timeline(drawing.projection.told_apart())
        case "pareto":
            axes = draw.plot_pareto_front(study, target_names=[label_of(metric) for metric in metrics])
        case "intermediate":
            axes = draw.plot_intermediate_values(study)
        case _:
            axes = _bars(drawing)
    several = list(np.ravel(axes))
    figure = several[0].get_figure()
    _dress(figure, several, drawing)
    return figure


def _first(trial: Any) -> float:
    return float(trial.values[0])


def _bars(drawing: Drawing) -> Any:
    from matplotlib import pyplot as plt
    from matplotlib.ticker import PercentFormatter

    assert drawing.ranking is not None
    rows = [row for row in drawing.ranking.rows if row.share is not None][::-1]
    _, axes = plt.subplots(figsize=(7.5, 1.8 + 0.35 * len(rows)))
    places = range(len(rows))
    axes.barh(places, [row.share or 0.0 for row in rows], color=["#3b6fb6" if row.beyond_chance else "#b9c6d8" for row in rows])
    chance = [(row.chance, place) for place, row in zip(places, rows, strict=True) if row.chance is not None]
    if chance:
        axes.plot(*zip(*chance, strict=True), "|", color="#d62728", markersize=14, markeredgewidth=2, label="by chance")
        axes.legend(loc="lower right")
    for place, row in zip(places, rows, strict=True):
        axes.annotate(f" {row.share:.1%}", (row.share, place), va="center", fontsize=8)
    axes.set_yticks(places, [row.parameter for row in rows])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"share of importance for {drawing.projection.metrics[0].name}")
    return axes


def _dress(figure: Any, several: list[Any], drawing: Drawing) -> None:
    """Puts right what Optuna leaves plain: units of ticks, names of what is drawn, room for labels."""
    from matplotlib.ticker import PercentFormatter

    kind, metrics, first, n = drawing.kind, drawing.projection.metrics, several[0], len(drawing.params or ())
    for axes in several:
        axes.set_title("")
    size = {
        "slice": (max(6.0, 2.2 + 2.2 * n), 4.6),
        "contour": (2.6 * max(n, 2) + 1.5, 2.3 * max(n, 2) + 1.4),
        "parallel": (1.4 * n + 3.5, 5.0),
    }
    size["rank"] = size["contour"]
    figure.set_size_inches(*size.get(kind, figure.get_size_inches() if kind == "importance" else (8.0, 5.0)))
    if percent(metrics[0]):
        on_y = {"history": [first], "slice": several[:1], "intermediate": [first], "parallel": [first]}
        for axes in on_y.get(kind, []):
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        for axes in [axes for axes in figure.axes if axes.get_label() == "<colorbar>" and kind in ("contour", "parallel")]:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        for axes in [axes for axes in figure.axes if axes.get_label() == "<colorbar>" and kind == "rank"]:
            axes.set_yticks(axes.get_yticks(), [in_percent(text.get_text()) for text in axes.get_yticklabels()])
        if kind == "edf":
            first.xaxis.set_major_formatter(PercentFormatter(1.0))
    if kind == "history":
        _rename(first, {"Best Value": "best so far", label_of(metrics[0]): metrics[0].name})
        for points in first.collections:
            points.set_sizes([max(4.0, 30.0 - drawing.projection.used / 100.0)])
        first.set_xlabel("trial")
    elif kind == "pareto":
        _rename(first, {"Trial": "dominated", "Best Trial": "not dominated", "Infeasible Trial": "constraints not met"})
        for axis, metric in zip((first.xaxis, first.yaxis), metrics, strict=False):
            if percent(metric):
                axis.set_major_formatter(PercentFormatter(1.0))
    elif kind == "edf":
        first.set_ylabel("share of trials at or below")
        if first.get_legend():
            first.get_legend().remove()
    elif kind == "parallel":
        for axes in figure.axes:
            axes.grid(False)
    elif kind == "slice":
        for axes, name in zip(several, sorted(drawing.params or ()), strict=True):
            _values_on_ticks(axes.xaxis, name, drawing)
            if (ends := bounds(drawing, name)) is not None:
                axes.set_xlim(*ends)  # and what lies on an end is drawn whole
                for points in axes.collections:
                    points.set_clip_on(False)
    elif kind in ("contour", "rank"):
        for axes in several:
            across, up = axes.get_xlabel(), axes.get_ylabel()
            _values_on_ticks(axes.xaxis, across, drawing)
            _values_on_ticks(axes.yaxis, up, drawing)
            axes.label_outer()
    elif kind == "timeline":
        _states(first, drawing)
        first.set(xlabel="time (UTC)", ylabel="trial")
    elif kind == "intermediate":
        first.set(xlabel=drawing.unit, ylabel=label_of(metrics[0]))
        if first.get_legend():
            first.get_legend().remove()


def _states(axes: Any, drawing: Drawing) -> None:
    """Says which colour is which state; Optuna's legend does not survive being moved."""
    from matplotlib.patches import Patch

    there = {trial.state.name for trial in drawing.projection.told_apart().get_trials(deepcopy=False)}
    colours = {"COMPLETE": "tab:blue", "WAITING": "tab:gray", "PRUNED": "tab:orange", "FAIL": "tab:red"}
    handles = [Patch(color=colour, label=STATES[name]) for name, colour in colours.items() if name in there]
    if axes.get_legend():
        axes.get_legend().remove()
    axes.legend(handles=handles, frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
    axes.get_figure().set_layout_engine("constrained")


def _rename(axes: Any, names: dict[str, str]) -> None:
    """Draws the legend anew with the product's words."""
    handles, labels = axes.get_legend_handles_labels()
    if axes.get_legend():
        axes.get_legend().remove()
    axes.legend(handles, [names.get(label, label) for label in labels], frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)


def _values_on_ticks(axis: Any, name: str, drawing: Drawing) -> None:
    """Puts ticks where values are, if they are few: between 1 and 2 positions there is nothing."""
    values = few_values(drawing, name)
    if values:
        axis.set_ticks(values, [f"{value:.6g}" for value in values])
        axis.set_ticks([], minor=True)
    elif drawing.kind == "slice":  # Optuna puts categories in quotes
        axis.set_ticks(axis.get_ticklocs(), [label.get_text().strip("'") for label in axis.get_ticklabels()])
    if axis.axis_name == "x":
        axis.set_tick_params(labelrotation=30 if len(values) != 2 else 0)

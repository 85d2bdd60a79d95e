"""What the objective has to do with parameters: importance beside chance, each by itself, all together."""

from __future__ import annotations

from typing import Any

from results.leaderboard import format_value, shown_unit
from results.metrics import Metric
from results.pages.grid import Column
from results.pages.page import Html, details, escape, join, section, table
from sweeps.plots.importance import Ranking
from sweeps.report import parameter_charts, words
from sweeps.report.alternatives import lines_note, of_parallel, of_slice
from sweeps.report.drawings import Drawings, missing
from sweeps.report.gather import Gathered
from sweeps.report.parameters import Parameters
from sweeps.report.part import Missing


def parameters(g: Gathered, drawings: Drawings) -> Html:
    """Returns importances, a panel for each parameter, and parallel coordinates."""
    if isinstance(g.parameters, Missing):
        return section("parameters", "Parameters", missing(g.parameters.why))
    found, metric = g.parameters, g.header.metric(g.header.objective)
    winner = None if isinstance(g.judged, Missing) else words.winner(g.judged)
    panels = [
        drawings.place(f"slice-{k}", parameter_charts.slice_of(axis, found, metric, winner), of_slice(axis, metric), size="small")
        for k, axis in enumerate(found.axes, 1)
    ]
    parts: list[Html] = [
        Html("<h3>Importance</h3>"),
        missing(found.ranking.why) if isinstance(found.ranking, Missing) else _importance(found.ranking, found.notes),
        Html(f"<h3>{escape(metric.name)} by each parameter</h3>"),
        Html(f'<div class="panels">{"".join(panels)}</div><p class="remark">{escape(_drawn(found))}</p>'),
        _medians(found, metric),
    ]
    if len(found.axes) > 1:
        drawn = drawings.place(
            "parallel", parameter_charts.parallel(found, metric), of_parallel(found, metric), caption=lines_note(found), wide=True
        )
        parts += [Html("<h3>All together</h3>"), drawn]
    return section("parameters", "Parameters", join(parts))


def _drawn(found: Parameters) -> str:
    said = f"Points: {found.words}. A bar is the median of a value, a diamond the winner."
    if found.sample != found.words:
        said += f" Medians and importance: {found.sample}."
    return said + (f" Not drawn: {', '.join(found.others)}." if found.others else "")


def _medians(found: Parameters, metric: Metric) -> Html:
    unit = shown_unit(metric)
    rows = [(axis.name, axis.label(value), n, format_value(median, unit)) for axis in found.axes for value, median, n in axis.medians]
    if not rows:
        return Html("")
    columns = ("parameter", "value", Column("trials", kind="integer"), f"median {metric.name}")
    return details("Medians as a table", table(columns, rows, caption=f"Median {metric.name} by value"))


def _importance(ranking: Ranking, notes: tuple[str, ...]) -> Html:
    """Draws bars as elements of a table: they need no script, and print."""
    top = max([row.share or 0.0 for row in ranking.rows] + [row.chance or 0.0 for row in ranking.rows]) or 1.0
    rows: list[tuple[Any, ...]] = []
    for row in ranking.rows:
        if row.share is None:
            rows.append((row.parameter, None, None, "too few trials have it"))
            continue
        mark = "" if row.chance is None else f'<b style="left:{100 * row.chance / top:.1f}%"></b>'
        tone = "" if row.beyond_chance or row.chance is None else " noise"
        bar = f'<span class="bar{tone}" aria-hidden="true"><i style="width:{100 * row.share / top:.1f}%"></i>{mark}</span>'
        rows.append((row.parameter, row.share, row.chance, Html(bar)))
    shares = (Column(name, kind="percent", digits=1) for name in ("importance", "by chance"))
    made = table(
        ("parameter", *shares, Column("bar", label=" ")),
        rows,
        caption=f"For {ranking.metric.name}; the upright mark is what chance reaches",
    )
    said = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return join([made, details("What importance is, and what it is not", f"<ul>{said}</ul>")])

"""How the search went: early stopping, who worked when, and what it took."""

from __future__ import annotations

from collections.abc import Mapping

from results.leaderboard import format_value, shown_unit
from results.metrics import Metric
from results.pages.grid import Column
from results.pages.page import Html, join, key_values, section, table
from search_spaces.stopping import SCHEDULERS
from sweeps.planning.estimate import lasting
from sweeps.report import charts
from sweeps.report.alternatives import of_learning, of_rungs, of_timeline
from sweeps.report.drawings import Drawings, missing
from sweeps.report.gather import Gathered
from sweeps.report.part import Missing
from sweeps.report.rungs import Steps
from sweeps.report.workload import Cost, Timeline

_ASYNCHRONOUS = "A trial is compared with those that came before it, so one that went on may lie behind the cut-off that holds now."


def work(g: Gathered, drawings: Drawings) -> Html:
    """Returns rungs and learning curves, the timeline, the cost."""
    parts: list[Html] = [Html("<h3>Early stopping</h3>")]
    if isinstance(g.steps, Missing):
        parts.append(missing(g.steps.why))
    else:
        parts += _steps(g.steps, g.header.metric(g.steps.objective), g.fidelity, drawings)
    parts.append(Html("<h3>Timeline</h3>"))
    parts.append(missing(g.timeline.why) if isinstance(g.timeline, Missing) else _timeline(g.timeline, drawings))
    parts.append(Html("<h3>Cost</h3>"))
    parts.append(missing(g.cost.why) if isinstance(g.cost, Missing) else key_values(cost_rows(g.cost)))
    return section("work", "Search and cost", join(parts))


def _steps(steps: Steps, metric: Metric, unit: str, drawings: Drawings) -> list[Html]:
    rule = "not on record" if steps.rules is None else f"{steps.rules.kind}: {SCHEDULERS.get(steps.rules.kind, '')}"
    facts = [("scheduler", rule), ("steps", _saved(steps, unit))]
    facts += [("diverged", f"{steps.diverged:,} trials, whose objective was no number")] if steps.diverged else []
    facts += [("by a person", f"{steps.by_person:,} trials were ended")] if steps.by_person else []
    parts: list[Html] = [key_values(facts)]
    if steps.rungs:
        shown = shown_unit(metric)
        columns: list[Column | str] = [
            unit,
            *(Column(name, kind="integer") for name in ("came", "went on", "stopped", "other")),
            "cut-off now",
        ]
        rows = [(f"{r.step:,}", r.judged, r.promoted, r.stopped, r.other, format_value(r.cutoff, shown)) for r in steps.rungs]
        made, said = table(columns, rows, caption="Rungs"), of_rungs(steps, metric, unit)
        parts.append(drawings.place("rungs", charts.rungs(steps, metric, unit), said, caption=f"{said} {_ASYNCHRONOUS}", table=made))
    said = of_learning(steps, metric, unit)
    return [*parts, drawings.place("learning", charts.learning(steps, metric, unit), said, caption=said)]


def _saved(steps: Steps, unit: str) -> str:
    name = unit if unit.endswith("s") else f"{unit}s"
    if steps.full is None or steps.made >= steps.full:
        return f"{steps.made:,} {name} in all"
    return f"{steps.made:,} of {steps.full:,} {name} were made, {steps.made / steps.full:.0%}: stopping early saved the rest"


def _timeline(found: Timeline, drawings: Drawings) -> Html:
    said = of_timeline(found)
    note = "" if found.named else " Workers are not on record: what overlaps is drawn on different lanes."
    return drawings.place("timeline", charts.timeline(found), said, caption=said + note, height=90 + 22 * len(found.lanes))


def _cache(use: Mapping[str, float]) -> str:
    if not use.get("tables"):
        return "n/a: no use of tables is on record"
    made = (("found", "saved", "rows found, which saved"), ("built", "built", "rows built in"))
    lines = [(int(use.get(f"rows_{what}", 0)), words, use.get(f"seconds_{took}", 0.0)) for what, took, words in made]
    return "; ".join(f"{rows:,} {words} {lasting(max(seconds, 1e-3))}" for rows, words, seconds in lines if rows)


def cost_rows(cost: Cost) -> list[tuple[str, str]]:
    """Returns what a study took: name, words."""
    sessions = f"{cost.sessions:,} {'session' if cost.sessions == 1 else 'sessions'}"
    rows = [("wall clock", f"{lasting(max(cost.wall, 1e-3))} in {sessions}")]
    if cost.worked > 0.0:
        rows.append(("evaluating", f"{lasting(cost.worked)} of work, {cost.worked / 3600.0:.3g} worker-hours"))
        rows.append(("a trial", f"{lasting(cost.each)} on average, {cost.trials:,} evaluated"))
    else:
        rows.append(("evaluating", "n/a: no seconds are on record"))
    spent = {"stopped": "on trials stopped early", "failed": "on failures"}
    if lines := [f"{lasting(cost.by_status[s])} {w}" for s, w in spent.items() if cost.by_status.get(s, 0.0) > 0.0]:
        rows.append(("of that", ", ".join(lines)))
    if cost.failed_before:
        rows.append(("tried again", f"{cost.failed_before:,} failures"))
    if lost := {s: n for s, n in cost.attempts.items() if s in ("lost", "rejected") and n}:
        rows.append(("attempts", ", ".join(f"{n:,} {status}" for status, n in lost.items())))
    if cost.reused:
        worth = f", worth about {lasting(cost.reused * cost.each)}" if cost.worked > 0.0 else ""
        rows.append(("taken over", f"{cost.reused:,} results of other studies{worth}"))
    rows.append(("cache", _cache(cost.cache)))
    if cost.price:
        rows.append(("price", f"{cost.worked / 3600.0 * cost.price:.4g} at {cost.price:g} an hour of work"))
    return rows

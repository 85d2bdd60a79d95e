"""Every drawing as a sentence with its numbers, for those who cannot see it, and for print."""

from __future__ import annotations

from results.leaderboard import format_value, shown_unit
from results.metrics import Metric
from sweeps.planning.estimate import lasting
from sweeps.report.parameters import LINES, Axis, Parameters
from sweeps.report.returns import Curves, Line
from sweeps.report.rungs import Steps
from sweeps.report.workload import Timeline


def of_equity(curves: Curves) -> str:
    """Returns the accounts of the first trials and the benchmarks."""
    told = [_account(line) for line in (*curves.trials[:3], *curves.benchmarks)]
    folds = len(curves.folds)
    span = f"from {curves.days[0]} to {curves.days[-1]}, {len(curves.days):,} days in {folds} {'fold' if folds == 1 else 'folds'}"
    rest = f" {len(curves.trials) - 3} more trials are drawn." if len(curves.trials) > 3 else ""
    return f"Value of 1 put in, {span}. {sentence('; '.join(told))}.{rest}"


def _account(line: Line) -> str:
    return f"{line.name} ends at {line.equity[-1]:.3g} ({line.total:+.1%}), deepest fall {line.deepest:.1%}"


def of_slice(axis: Axis, metric: Metric) -> str:
    """Returns the median of each value, or the range where values are many."""
    unit = shown_unit(metric)
    if axis.medians:
        told = [f"{axis.label(value)}: {format_value(median, unit)} ({n:,})" for value, median, n in axis.medians]
        return f"{metric.name} by {axis.name}; median and trials of each value: {', '.join(told)}."
    known = axis.values[axis.values == axis.values]
    return f"{metric.name} by {axis.name}, {len(known):,} trials from {known.min():.4g} to {known.max():.4g}."


def of_parallel(found: Parameters, metric: Metric) -> str:
    """Returns what the lines run across."""
    names = ", ".join(axis.name for axis in found.axes)
    low, high = (format_value(float(value), shown_unit(metric)) for value in (found.scores.min(), found.scores.max()))
    return f"Trials as lines across {names} to {metric.name}, which runs from {low} to {high}; the best are in the strongest colour."


def lines_note(found: Parameters) -> str:
    """Returns which trials are lines."""
    n = len(found.scores)
    if n <= LINES:
        return f"{n:,} {'trial' if n == 1 else 'trials, a line each'}. The best are in the strongest colour."
    return f"{LINES} of {n:,} trials, a line each: the best, in the strongest colour, and others through the ranks."


def of_rungs(steps: Steps, metric: Metric, unit: str) -> str:
    """Returns who came to each rung, who went on, and the cut-off."""
    shown = shown_unit(metric)
    told = [
        f"at {rung.step:,} {unit} {rung.judged:,} came, {rung.promoted:,} went on, cut-off now {format_value(rung.cutoff, shown)}"
        for rung in steps.rungs
    ]
    return f"{sentence('; '.join(told))}."


def of_learning(steps: Steps, metric: Metric, unit: str) -> str:
    """Returns how many trials are drawn, how they ended, and how the best went."""
    ends = ", ".join(f"{n:,} {word}" for word, n in steps.ends.items())
    said = f"{metric.name} by {unit} of {steps.trials:,} {'trial' if steps.trials == 1 else 'trials'} that reported: {ends}."
    if len(steps.curves) < steps.trials:
        said += f" Drawn are {len(steps.curves)}: the best, and others through the ranks."
    best = next((curve for curve in steps.curves if curve.ended == "completed" and curve.values), None)
    if best is not None:
        first, last = (format_value(value, shown_unit(metric)) for value in (best.values[0], best.values[-1]))
        said += f" The best, trial {best.trial}, went from {first} at {best.steps[0]:,} {unit} to {last} at {best.steps[-1]:,}."
    return said


def of_timeline(found: Timeline) -> str:
    """Returns how much work lies on how many lanes."""
    kinds: dict[str, int] = {}
    for bar in found.bars:
        kinds[bar.kind] = kinds.get(bar.kind, 0) + 1
    words = {"work": ("pack", "packs")}
    told = ", ".join(f"{n:,} {words.get(kind, (kind, kind))[n != 1]}" for kind, n in kinds.items())
    lanes, sessions = len(found.lanes) + found.hidden, len(found.begins)
    said = f"Work on {lanes:,} {'lane' if lanes == 1 else 'lanes'} over {lasting(max(found.seconds, 1e-3))} in {sessions:,} "
    said += f"{'session' if sessions == 1 else 'sessions'}: "
    said += f"{found.merged:,} attempts, of which neighbours share a bar." if found.merged else f"{told}."
    if found.hidden:
        said += f" {found.hidden:,} more lanes are not drawn."
    return said


def sentence(text: str) -> str:
    """Returns a text with a capital at its beginning."""
    return text[:1].upper() + text[1:]

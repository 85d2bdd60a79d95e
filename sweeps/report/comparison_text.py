"""A comparison at the terminal: tables and lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.table import Table
from rich.text import Text

from results import digits
from results.leaderboard import format_value, render, shown_unit
from results.metrics import Metric
from sweeps.commands.console import table
from sweeps.kept import UNITS
from sweeps.report.comparison import Comparison
from sweeps.report.pairs import Overlap, Paired
from sweeps.report.part import Missing
from sweeps.report.sides import Side
from sweeps.report.words import holdout

_WIDE = 44  # characters of a value
MARKS = {"legacy": "LEGACY", "imported": "unverified"}


def lines(found: Comparison, top: int, width: int) -> Iterator[Table | Text | str]:
    """Yields a comparison, part by part.

    Args:
        found: The comparison.
        top: Rows of the union leaderboard.
        width: Characters there are for it.
    """
    names = [side.name for side in found.sides]
    if found.obstacles:
        yield Text(
            f"NOT comparable: {'; '.join(found.obstacles)}. Figures stand side by side, and say nothing about each other.", "bold red"
        )
    else:
        yield Text("Comparable: the same data, the same cuts of time, the same objective.", "green")
    yield table(("", *names), facts(found), title="winners")
    if found.differences:
        rows = [(key, *(_cut(value) for value in values)) for key, values in found.differences]
        yield table(("key", *names), rows, title="what differs")
    else:
        yield "Their files differ in nothing that could change a result."
    for pair in found.paired:
        yield Text(f"  {'days':<12} {paired_words(pair)}", "" if pair.why or not pair.better else "bold")
    for overlap in found.overlaps:
        yield f"  {'shared':<12} {overlap_words(overlap)}"
    for remark in found.remarks:
        yield Text(f"  {'note':<12} {remark}", "yellow")
    if isinstance(found.union, Missing):
        yield f"  {'together':<12} n/a: {found.union.why}"
        return
    yield _union(found, top, width)


def facts(found: Comparison) -> list[list[str]]:
    """Returns what there is to say of each study: name, then a value each."""
    ranked = {side.objective.name: side.objective for side in found.sides}
    told = [_facts(side, ranked) for side in found.sides]
    if not any(side.label for side in found.sides):
        told = [{name: value for name, value in each.items() if name != "standing"} for each in told]
    return [[name, *(each.get(name, "n/a") for each in told)] for name in dict.fromkeys(name for each in told for name in each)]


def _facts(side: Side, ranked: Mapping[str, Metric]) -> dict[str, str]:
    counts = side.counts
    rows = {"standing": MARKS.get(side.label, "evaluated here"), "trials": f"{counts['completed']:,} completed"}
    if counts["stopped"]:
        rows["stopped early"] = f"{counts['stopped']:,}"
    if counts["failed"]:
        rows["failed"] = f"{counts['failed']:,}"
    judged = side.judged
    if isinstance(judged, Missing):
        return rows | {"verdict": f"n/a: {judged.why}"}
    if not judged.board.empty and judged.has_winner:
        rows["winner"] = f"trial {int(judged.board['trial'].iloc[0])}"
        first = judged.board.iloc[0]
        rows |= {f"its {name}": format_value(first[name], shown_unit(metric)) for name, metric in ranked.items() if name in first}
    if side.label:
        return rows | {"verdict": f"none: {MARKS[side.label]}"}
    if judged.assessment is not None:
        found = judged.assessment
        rows["verdict"] = found.verdict.code
        if found.deflation is not None:
            interval = found.intervals["sharpe"]
            rows["DSR"] = f"{digits.probability(float(found.deflation.dsr[found.winner]))} over {found.deflation.looks:,} looks"
            rows["Sharpe, 95 %"] = f"{interval.low[0]:.2f} to {interval.high[0]:.2f}"
        rows |= {f"p against {name}": digits.p_value(float(r.trial_p_values[found.winner])) for name, r in found.superiority.items()}
        rows["PBO"] = "n/a" if found.overfitting is None else digits.share(found.overfitting.pbo)
    elif judged.reference is not None:
        rows["verdict"] = judged.reference.words(judged.skill[1] if judged.skill else 0.0)
    else:
        rows["verdict"] = "n/a"
    value, words = holdout(judged)
    return rows | {"holdout": value if value in ("sealed", "none") else f"{value} ({words})"}


def paired_words(pair: Paired) -> str:
    """Returns the difference of two winners on the same days."""
    who = f"winner of {pair.first} minus winner of {pair.second}"
    if pair.why:
        return f"{who}: n/a, {pair.why}"
    if pair.mean == pair.low == pair.high == 0.0:
        return f"{who}: none on any of {pair.days:,} days"
    found = f"{pair.better} is better" if pair.better else "not shown to differ"
    span = f"{pair.mean:+.1%} a year of simple daily returns, 95 % {pair.low:+.1%} to {pair.high:+.1%}"
    return f"{who}: {span} (block bootstrap, {pair.days:,} days, ahead on {pair.ahead:.0%} of them): {found}"


def overlap_words(overlap: Overlap) -> str:
    """Returns what two studies share."""
    said = f"{overlap.shared:,} configurations of {overlap.first} ({overlap.sizes[0]:,}) and {overlap.second} ({overlap.sizes[1]:,})"
    if overlap.metric is None or not overlap.shared:
        return said
    if overlap.equal == overlap.shared:
        return f"{said}, all with the same {overlap.metric.name}"
    unit = shown_unit(overlap.metric)
    span = "" if overlap.low != overlap.low else f", 95 % {format_value(overlap.low, unit)} to {format_value(overlap.high, unit)}"
    mean = format_value(overlap.mean, unit)
    equal = f", equal in {overlap.equal:,}" if overlap.equal else ""
    return f"{said}; {overlap.metric.name} of the first minus that of the second is {mean} on average{span} (Student's t){equal}"


def _union(found: Comparison, top: int, width: int) -> Table:
    assert not isinstance(found.union, Missing)
    frame = found.union.head(top)
    if not (found.union["mark"] != "").any():
        frame = frame.drop(columns="mark")
    units = {name: shown_unit(metric) for name, metric in found.metrics.items()} | dict(UNITS)
    frame.attrs = {"units": units, "parameters": list(found.parameters), "metric": found.sides[0].header.objective}
    return render(frame, f"together: the first {len(frame):,} of {len(found.union):,} by {found.sides[0].objective.name}", width)


def _cut(text: str) -> str:
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 1]}…"

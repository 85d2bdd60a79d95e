"""The `alphasweep ablation` command: what one value of a swept parameter does against another, with an interval."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from sweeps.commands.console import DirOpt, NameArg, home_of, many, out, say, table, target

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from results.ablation import Ablation
    from results.metrics import Metric
    from results.records import Header, Plan
    from results.varied import Sweep
    from search_spaces import Space

app = typer.Typer()
REPLICATES = ("repeat", "replicate", "seed")
_COLOURS = {"better": "green", "worse": "red"}
_MOST_ROWS = 40

ABLATION_HELP = (
    "Compare the values of a swept parameter, all else equal: mean differences with 95 % intervals, and whether they are shown.\n\n"
    "Two completed trials are a pair if they agree in all other swept parameters. Where the study has replicates (a parameter that its "
    "trainable declares as one, such as repeat of policy), differences are averaged within each and the interval is over replicates; "
    "otherwise it is over pairs, which share one market. Verdicts are corrected for the number of comparisons of the one call (Holm). "
    "docs/verdict.md explains the columns."
)


def _written(what: str) -> Any:
    return typer.Option(metavar="FILE", help=f"Write the comparisons to this {what} file.", dir_okay=False, callback=target)


@app.command(name="ablation", help=ABLATION_HELP)
def ablation_(
    study: NameArg,
    parameters: Annotated[list[str], typer.Argument(help="Swept parameters, one or more.", show_default=False)],
    against: Annotated[
        str | None,
        typer.Option(metavar="VALUE", help="Compare with this value; default the parameter's default, or the first of the space."),
    ] = None,
    metric: Annotated[str | None, typer.Option(metavar="METRIC", help="Compare in this metric; default the study's objective.")] = None,
    csv: Annotated[Path | None, _written("CSV")] = None,
    json: Annotated[Path | None, _written("JSON")] = None,
    dir: DirOpt = Path("runs"),
) -> None:
    """Compare the values of a swept parameter, all else equal, with intervals."""
    from results import Ledger
    from results.ablation import NoPairs, ablate, judge
    from results.ablation import table as comparisons
    from results.varied import read
    from sweeps.asked import unfinished
    from sweeps.commands.results import IN_SAMPLE
    from sweeps.runner import LEDGER

    home = home_of(study, dir)
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        header, plans, sweep = ledger.header, ledger.plans(), read(ledger, metric)
    spaces, replicates = _spaces(plans), _replicates(header, sweep)
    found, refused = list[Any](), list[str]()
    for name in dict.fromkeys(parameters):
        order, follows = _order(spaces, name), _follows(spaces, name)
        try:
            found.append(ablate(sweep, name, against, order, replicates, follows))
        except NoPairs as error:
            refused.append(str(error))
    if not found:
        raise NoPairs("; ".join(refused) + _advice(plans))
    judged = judge(found)
    for each in judged:
        out.print(_table(header.name, each))
    for label, line in _caption(sweep, judged, spaces):
        say(Text.assemble(f"  {label:<12} ", line))
    for line in refused:
        say(Text(f"  {'no pairs':<12} {line}", "yellow"))
    if left := unfinished(home):
        say(Text(f"  {'trials':<12} {left}{'' if left.endswith('(running)') else '; the same run goes on'}", "yellow"))
    say(IN_SAMPLE)
    made = comparisons(judged, header.name)
    writers: Sequence[tuple[Path | None, Callable[[pd.DataFrame, Path], None]]] = ((csv, _write_csv), (json, _write_json))
    for path, write in writers:
        if path is not None:
            _whole(made, path, write)
            say(f"{many(len(made), 'comparison')} written to {path}")


def _spaces(plans: Iterable[Plan]) -> list[Space]:
    from search_spaces import Space

    return [Space.parse(dict(plan.space)) for plan in plans]


def _replicates(header: Header, sweep: Sweep) -> tuple[str, ...]:
    """Returns the varied parameters that change nothing but random numbers: by name, or by the first word of their declared help."""
    from trainables.contract import Registry, TrainableError

    try:
        declared = Registry().load(str(header.spec.get("trainable", ""))).parameters
    except TrainableError:  # it may have been somebody's, and not be here any more
        declared = ()
    words = {p.name for p in declared if p.doc.lower().startswith("replicate")}
    return tuple(name for name in sweep.axes if name in words or name in REPLICATES)


def _order(spaces: Iterable[Space], parameter: str) -> list[Any]:
    """Returns the values of a parameter as the searches list them; ranges need no order of their own."""
    listed = [p for space in spaces for p in space.parameters if p.name == parameter and p.kind in ("grid", "choice", "constant")]
    return [list(value) if isinstance(value, tuple) else value for p in listed for value in p.values or ()]


def _follows(spaces: Sequence[Space], parameter: str) -> set[str]:
    """Returns the parameters that every search that has them computes from this one."""

    def moved(space: Space) -> set[str]:
        found = {parameter}
        for p in space.parameters:  # in topological order
            if p.kind == "derived" and found & set(p.parents):
                found.add(p.name)
        return found - {parameter}

    every = [(space, moved(space)) for space in spaces]
    named = {name for _, names in every for name in names}
    return {name for name in named if all(name in names or name not in space.names for space, names in every)}


def _advice(plans: Sequence[Plan]) -> str:
    """Says what would make pairs, if it is the sampler that makes none."""
    kinds = {str(plan.sampler.get("sampler")) for plan in plans}
    if kinds and not kinds & {"grid"}:
        return (
            f". The sampler {' and '.join(sorted(kinds))} draws every parameter anew, so trials that differ in one alone are rare: "
            "sweep this parameter as a grid (search.sampler: grid, under another name), the others fixed or listed"
        )
    if any(plan.sampler.get("trials") for plan in plans):
        return ". The search is a sample of its grid (trials); run more of it, or all"
    return ""


def _table(study: str, found: Ablation) -> Table:
    from results.leaderboard import format_parameter

    reference = format_parameter(found.reference)
    names = ["value", "pairs", *(["replicates"] if found.replicates else []), "difference", "95 % interval", "wins", "verdict"]
    rows = []
    for d in found.differences[:_MOST_ROWS]:
        row: list[str | Text] = [format_parameter(d.value), f"{d.pairs:,}", *([f"{d.units:,}"] if found.replicates else [])]
        known = d.low == d.low
        row += [_signed(d.mean, found.metric), f"{_signed(d.low, found.metric)} to {_signed(d.high, found.metric)}" if known else "n/a"]
        row += ["n/a" if d.wins != d.wins else f"{d.wins:.0%}", Text(d.verdict, _COLOURS.get(d.verdict, ""))]
        rows.append(row)
    numbers = ("pairs", "replicates", "difference", "wins")
    return table(names, rows, f"{study}: {found.parameter} against {reference}, difference in {found.metric.name}", numbers)


def _signed(value: float, metric: Metric) -> str:
    """Returns a difference with its sign; of counts and probabilities it is a plain number."""
    from results.leaderboard import format_value

    size = format_value(abs(value), "fraction" if metric.unit == "fraction" else "ratio")
    return f"{'-' if value < 0 else '+' if value > 0 else ''}{size}"


def _caption(sweep: Sweep, judged: Sequence[Ablation], spaces: Sequence[Space]) -> list[tuple[str, str | Text]]:
    """Says what was paired, what the intervals are of, how many comparisons the verdicts pay for, and what was left out."""
    from results.leaderboard import format_parameter

    lines: list[tuple[str, str | Text]] = []
    paired = f"completed trials that agree in all but the one parameter; varied are {', '.join(sweep.axes)}"
    moved = {name for found in judged for name in _follows(spaces, found.parameter) if name in sweep.axes}
    if moved:
        paired += f" (what is derived from it follows: {', '.join(sorted(moved))})"
    lines.append(("pairs", paired))
    if gaps := [name for name, axis in sweep.axes.items() if axis.absent]:
        known, blank = [n for n in gaps if n in sweep.defaults], [n for n in gaps if n not in sweep.defaults]
        words = [f"{n} was {format_parameter(sweep.defaults[n])}, its default" for n in known] + [
            f"{n} is matched as absent" for n in blank
        ]
        lines.append(("conditional", f"where it does not exist, {'; '.join(words)}"))
    for names in dict.fromkeys(found.replicates for found in judged):
        lines.append(("interval", _of_what(names)))
    tested = sum(d.p_value == d.p_value for found in judged for d in found.differences)
    shown = "more, less" if sweep.metric.direction is None else f"better is {'more' if sweep.metric.direction == 'max' else 'less'}"
    lines.append(
        ("verdict", f"{shown}; 5 % for {many(tested, 'comparison')} of this call together (Holm); not shown is not the same as equal")
    )
    copies = [d for found in judged for d in found.differences if d.units >= 2 and d.low != d.low]
    if copies:
        one = "all replicates, or all pairs, of a value differ by exactly the same: copies are no evidence of spread"
        lines.append(("n/a", one))
    for found in judged:
        if found.unpaired:
            some = ", ".join(map(format_parameter, found.unpaired[:8])) + (", …" if len(found.unpaired) > 8 else "")
            lines.append(("unpaired", f"{many(len(found.unpaired), 'value')} of {found.parameter} with no pair: {some}"))
        if len(found.differences) > _MOST_ROWS:
            lines.append(("rows", f"{len(found.differences) - _MOST_ROWS:,} more of {found.parameter} in --csv and --json"))
    if sweep.left_out:
        told = ", ".join(f"{n:,} {reason}" for reason, n in sweep.left_out.items())
        bias = "; those were behind, so a value they had looks better than it is" if "stopped early" in sweep.left_out else ""
        lines.append(("left out", told + bias))
    return lines


def _of_what(replicates: Sequence[str]) -> str:
    if replicates:
        by = ", ".join(replicates)
        return (
            f"Student's t over replicates ({by}), differences averaged within each; they share one market, so it is of the luck of "
            "random numbers, not of the future"
        )
    return "Student's t over pairs; they share one market and resemble each other, so it is of the grid, not of the future"


def _whole(made: pd.DataFrame, path: Path, write: Callable[[pd.DataFrame, Path], None]) -> None:
    """Writes a file that appears only when it is whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(made, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _write_csv(made: pd.DataFrame, path: Path) -> None:
    import json

    def cell(value: Any) -> Any:
        return json.dumps(value) if isinstance(value, (list, dict, bool)) else value

    made.assign(value=made["value"].map(cell), reference=made["reference"].map(cell)).to_csv(path, index=False)


def _write_json(made: pd.DataFrame, path: Path) -> None:
    """One JSON array, one comparison a line; what is n/a is null."""
    import json

    records = [{key: None if value != value else value for key, value in row.items()} for row in made.to_dict("records")]
    path.write_text("[" + ",".join("\n" + json.dumps(row, allow_nan=False) for row in records) + "\n]\n", encoding="utf-8")

"""Commands that draw: Optuna's figures and parameter importances, fed from the ledger."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from sweeps.commands.console import DirOpt, NameArg, err, home_of, out, say, table, target

if TYPE_CHECKING:
    from sweeps.plots.figures import Drawing
    from sweeps.plots.importance import Ranking
    from sweeps.plots.projection import Projection

app = typer.Typer()
_WIDTH = 18  # of the longest bar
_FORMATS = ("html", "png", "svg")

# Names here, so that --help need not load what draws; a test holds them to be the same.
KINDS = ("slice", "history", "parallel", "contour", "edf", "rank", "timeline", "pareto", "importance", "intermediate")
EVALUATORS = ("ped-anova", "fanova", "mdi")

IMPORTANCE_HELP = (
    "Rank parameters by what they have to do with a metric, beside what chance would give.\n\n"
    "ped-anova compares the best tenth of the trials with all, and ranks conditional parameters too. fanova and mdi fit a random forest to "
    "the metric (pip install 'alphasweep[importance]'); they rank a conditional parameter among the trials that have it.\n\n"
    "Shares add up to 1, so in pure noise some parameter is first too: what does not exceed the column by chance is noise. Importance "
    "is of these trials in this space, in-sample; it is no evidence of an edge."
)
PLOT_HELP = (
    "Draw a study: Optuna's figures, fed from the ledger.\n\n"
    f"KIND is one of {', '.join(KINDS)}. intermediate is for trials that report as they go, pareto takes --metric twice.\n\n"
    "An .html file is interactive and opens without a network; .png and .svg are drawn without a browser. Of a large study a sample is "
    "drawn, and the figure says which."
)
MetricOpt = Annotated[
    list[str] | None, typer.Option("--metric", metavar="METRIC", help="For this metric; default the study's objective. Repeatable.")
]


@app.command(name="importance", help=IMPORTANCE_HELP)
def importance_(
    study: NameArg,
    metric: MetricOpt = None,
    evaluator: Annotated[str, typer.Option(metavar="|".join(EVALUATORS), help="By which measure.")] = EVALUATORS[0],
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Rows.")] = 20,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all rows to this CSV file.", dir_okay=False, callback=target)
    ] = None,
    dir: DirOpt = Path("runs"),
) -> None:
    """Rank parameters by what they have to do with a metric, beside what chance would give."""
    from results import Ledger
    from sweeps.plots.importance import importances, sample_of
    from sweeps.plots.projection import objectives
    from sweeps.runner import LEDGER

    home = home_of(study, dir)
    rankings = []
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        for name in metric or objectives(ledger.header):
            with out.status(f"{name}: measuring, and dealing the values out anew to see what chance does"):
                found = sample_of(ledger, name, evaluator)
                rankings.append(importances(found, evaluator))
            _show_importance(found, rankings[-1], top)
    if csv:
        _write_csv(rankings, csv)
        say(f"{sum(len(ranking.rows) for ranking in rankings):,} rows written to {csv}")


def _show_importance(found: Projection, ranking: Ranking, top: int) -> None:
    from sweeps.plots.figures import importance_notes

    longest = max((row.share or 0.0 for row in ranking.rows), default=0.0) or 1.0
    rows = []
    for row in ranking.rows[:top]:
        style = "" if row.beyond_chance or row.chance is None else "dim"
        bar = "n/a: too few trials have it" if row.share is None else "█" * max(1, round(_WIDTH * row.share / longest))
        cells = [row.parameter, "n/a" if row.share is None else f"{row.share:.1%}", "–" if row.chance is None else f"{row.chance:.1%}", bar]
        rows.append([Text(cell, style) for cell in [*cells[:3], f"{row.distinct:,}", f"{row.trials:,}", cells[3]]])
    names = ("parameter", "importance", "by chance", "values", "trials", "")
    title = f"{found.header.name}: importance for {ranking.metric.name} ({ranking.evaluator})"
    out.print(table(names, rows, title=title, numbers=names[1:5]))
    if len(ranking.rows) > top:
        say(f"  … and {len(ranking.rows) - top:,} more (--top, --csv)")
    words = found.words()
    for line in (f"{words[0].upper()}{words[1:]}.", *importance_notes(ranking)):
        say(Text(f"  {line}", "yellow" if "no evidence" in line else ""))


def _write_csv(rankings: Sequence[Ranking], path: Path) -> None:
    import csv

    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["metric", "evaluator", "parameter", "importance", "by_chance", "values", "trials", "conditional"])
            for ranking in rankings:
                for row in ranking.rows:
                    told = [row.parameter, row.share, row.chance, row.distinct, row.trials, str(row.conditional).lower()]
                    writer.writerow([ranking.metric.name, ranking.evaluator, *told])
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@app.command(name="plot", help=PLOT_HELP)
def plot_(
    study: NameArg,
    kind: Annotated[str, typer.Argument(help="What to draw.")] = KINDS[0],
    params: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="These parameters; default all, or the most important where there are many.")
    ] = None,
    metric: MetricOpt = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help=".html, .png or .svg; default STUDY/plots/KIND.html.", dir_okay=False, callback=target),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    dir: DirOpt = Path("runs"),
) -> None:
    """Draw a study: Optuna's figures, fed from the ledger."""
    if kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is no figure; there are {', '.join(KINDS)}{_near(kind)}", param_hint="KIND")
    if to is not None and to.suffix.lower().lstrip(".") not in _FORMATS:
        raise typer.BadParameter(f"{to}: write a file that ends in {', '.join(f'.{each}' for each in _FORMATS)}", param_hint="--to")
    names = None if params is None else [name.strip() for name in params.split(",") if name.strip()]
    with out.status(f"{kind}: drawing"):
        path, drawn = draw(home_of(study, dir), kind, metric, names, to)
    say(Text.assemble((drawn.title, "bold")))
    for note in drawn.notes:
        say(f"  {note}")
    say(f"Written to {path}")
    if open_:
        import webbrowser

        if not webbrowser.open(path.absolute().as_uri()):
            say(f"There is no browser to open it with; open {path.absolute()} yourself.", console=err)


def draw(
    home: Path, kind: str, metrics: Sequence[str] | None = None, params: Sequence[str] | None = None, to: Path | None = None
) -> tuple[Path, Drawing]:
    """Draws a figure of a study into a file, which appears only when it is whole.

    Args:
        home: The study's folder.
        kind: One of `sweeps.plots.figures.KINDS`.
        metrics: Default the study's own.
        params: Default the most important.
        to: File that ends in .html, .png or .svg; default `plots/KIND.html` in the study's folder.

    Returns:
        The file and what was drawn.

    Raises:
        ProjectionError: There is nothing of that kind to draw. LedgerError: No such metric.
    """
    from results import Ledger
    from sweeps.plots.figures import drawing
    from sweeps.runner import LEDGER

    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        drawn = drawing(ledger, kind, metrics, params, _unit(ledger.header.spec) if kind == "intermediate" else "step")
        if to is None:
            named = [name for name in metrics or () if [name] != [ledger.header.objective]]
            to = home / "plots" / f"{'-'.join([kind, *named])}.html"
            to.parent.mkdir(exist_ok=True)
    fmt = to.suffix.lower().lstrip(".")
    partial = to.with_name(f".{to.name}.{os.getpid()}.partial")
    try:
        if fmt == "html":
            from sweeps.plots.pages import page

            partial.write_text(page(drawn), encoding="utf-8")
        else:
            from sweeps.plots.pictures import picture

            picture(drawn, partial, fmt)
        os.replace(partial, to)
    finally:
        partial.unlink(missing_ok=True)
    return to, drawn


def _unit(spec: Any) -> str:
    """Returns what trials of a study count their steps by, "step" where that is not known here."""
    from trainables.contract import Registry, TrainableError

    try:
        return str(getattr(Registry().load(spec["trainable"]), "fidelity", "step"))
    except (TrainableError, KeyError):
        return "step"


def _near(kind: str) -> str:
    import difflib

    near = difflib.get_close_matches(kind, KINDS, 1)
    return f". Did you mean {near[0]!r}?" if near else ""

"""Commands that write what anyone can open: a study's report, and studies side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from sweeps.commands.console import DirOpt, NameArg, err, home_of, out, say, target

app = typer.Typer()

REPORT_HELP = (
    "Write a study's report: one HTML file that opens anywhere, without a network.\n\n"
    "First whether the winner can be believed, then the leaderboard to sort and filter, equity and drawdown beside the benchmarks, folds, "
    "parameters, early stopping, timeline, cost, and where the results come from. Its figures are those of the other commands. A part "
    "that cannot be made says why.\n\n"
    "The same study gives the same file, byte for byte."
)
COMPARE_HELP = (
    "Put studies side by side: what differs between them, whether they may be compared at all, and how their winners do.\n\n"
    "Studies compare where data and the cuts of time are the same. Where both winners kept returns of the same days, their difference "
    "day by day has an interval."
)


@app.command(name="report", help=REPORT_HELP)
def report_(
    study: NameArg,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE.html", help="Default STUDY/report.html.", dir_okay=False, callback=target),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    top: Annotated[int, typer.Option(metavar="N", min=1, max=50, help="Rows of the leaderboard whose equity is drawn.")] = 10,
    dir: DirOpt = Path("runs"),
) -> None:
    """Write a study's report: one HTML file that opens anywhere, without a network."""
    home = home_of(study, dir)
    _check_ending(to, "--to")
    with _progress() as on_part:
        path, missing = write_report(home, to, top, folder=dir, on_part=on_part)
    for line in missing:
        say(f"  {line}")
    say(f"Written to {path}")
    if open_:
        _open(path)


@app.command(name="compare", help=COMPARE_HELP)
def compare_(
    studies: Annotated[list[str], typer.Argument(help="Two studies that have run, or more.", show_default=False)],
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE.html", help="Write it as a page, too.", dir_okay=False, callback=target),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Rows of the union leaderboard to show.")] = 10,
    dir: DirOpt = Path("runs"),
) -> None:
    """Put studies side by side: what differs, whether they may be compared at all, and how their winners do."""
    from sweeps.report.comparison import compare
    from sweeps.report.comparison_text import lines

    _check_ending(html, "--html")
    if open_ and html is None:
        raise typer.BadParameter("there is a page to open with --html FILE.html only.", param_hint="--open")
    homes = list(dict.fromkeys(home_of(study, dir) for study in studies))
    if len(homes) < 2:
        raise typer.BadParameter("name two studies or more.", param_hint="STUDIES")
    with out.status("reading"):
        found = compare(homes)
    for each in lines(found, top, out.width):
        if isinstance(each, Table):
            out.print(each)
        else:
            say(each)
    if html is not None:
        from sweeps.report.comparison_page import comparison_page

        with out.status("drawing"):
            _write(html, comparison_page(found, dir))
        say(f"Written to {html}")
        if open_:
            _open(html)


def write_report(
    home: Path, to: Path | None = None, top: int = 10, *, folder: Path | None = None, on_part: Any = lambda _: None
) -> tuple[Path, list[str]]:
    """Writes a study's report into a file, which appears only when it is whole.

    Args:
        home: The study's folder.
        to: The file; default `report.html` in the study's folder.
        top: Rows of the leaderboard to draw.
        folder: Of studies, as it is to stand in commands.
        on_part: Told of each part before it is gathered.

    Returns:
        The file, and a line for each part that could not be made.

    Raises:
        LedgerError: No ledger, or one that cannot be read.
    """
    from sweeps.report.assemble import report
    from sweeps.report.gather import gather
    from sweeps.report.part import Missing

    found = gather(home, top, folder=folder, on_part=on_part)
    on_part("page")
    path = home / "report.html" if to is None else to
    _write(path, report(found))
    parts: dict[str, object] = {"verdict": found.judged, "leaderboard": found.board, "equity": found.curves, "parameters": found.parameters}
    parts |= {"timeline": found.timeline, "cost": found.cost, "provenance": found.origin}
    return path, [f"{name:<12} n/a: {part.why}" for name, part in parts.items() if isinstance(part, Missing)]


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _check_ending(path: Path | None, option: str) -> None:
    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"{path}: write a file that ends in .html", param_hint=option)


def _open(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.absolute().as_uri()):
        say(f"There is no browser to open it with; open {path.absolute()} yourself.", console=err)


@contextmanager
def _progress() -> Iterator[Any]:
    """Shows which part is at work, as a bar on a terminal; elsewhere nothing, as it takes seconds."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from sweeps.report.gather import PARTS

    names = {"page": "page", "work": "timeline and cost", "provenance": "provenance and certificate", "parameters": "parameters and chance"}
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("reading", total=len(PARTS) + 1)
        begun = False

        def on_part(name: str) -> None:
            nonlocal begun
            bar.update(task, description=names.get(name, name), advance=1 if begun else 0)
            begun = True

        yield on_part

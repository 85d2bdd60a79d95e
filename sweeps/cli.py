"""The `alphasweep` command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

app = typer.Typer(
    help="Large sweeps of trading research that lose nothing and say whether to believe the winner.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)
data_app = typer.Typer(help="Look at market data before a study uses it.", no_args_is_help=True)
app.add_typer(data_app, name="data")
out = Console(emoji=False)
err = Console(stderr=True, emoji=False)


def _target(path: Path | None) -> Path | None:
    """Refuses a file that cannot be written before anything is done for it."""
    if path is not None and not path.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {str(path.parent)!r}; make it first.")
    return path


def _export(what: str) -> Any:
    return typer.Option(metavar="FILE", help=f"Write all trials to this {what} file.", dir_okay=False, callback=_target)


IN_SAMPLE = Text("In-sample figures: they say what won, not what will.", "yellow")

StudyArg = Annotated[str, typer.Argument(help="A study file, or a name from `alphasweep ls`.", show_default=False)]
NameArg = Annotated[str, typer.Argument(help="Name of a study that has run.", show_default=False)]
DirOpt = Annotated[Path, typer.Option("--dir", metavar="FOLDER", help="Folder that holds the studies' folders.", file_okay=False)]
SetOpt = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. --set data.bars=720. Repeatable.")
]


@app.callback(invoke_without_command=True)
def _command(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False) -> None:
    if version:
        from importlib.metadata import version as installed

        _say(f"alphasweep {installed('alphasweep')}")
        raise typer.Exit


@app.command()
def run(
    study: StudyArg,
    set_: SetOpt = None,
    trials: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Evaluate this many configurations (a reproducible sample of a grid).")
    ] = None,
    dir: DirOpt = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Set earlier results of this study aside and start over.")] = False,
    slots: Annotated[int | None, typer.Option(metavar="N", min=1, help="Packs evaluated at once; default one per CPU.")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster; default a private local one.")] = None,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Rows of the leaderboard to show at the end.")] = 10,
) -> None:
    """Run a study, or go on with it: what has a result is not evaluated again."""
    from results.leaderboard import render
    from sweeps.progress import StudyProgress
    from sweeps.runner import Search
    from sweeps.runner import run as run_study
    from sweeps.study import Study

    overrides = list(set_ or []) + ([f"search.trials={trials}"] if trials is not None else [])
    loaded = Study.load(study, overrides)
    with loaded.located():
        progress = StudyProgress(out, loaded.objective or Search(loaded).trainable.objective)
    options = [*(("--set", item) for item in set_ or ()), ("--trials", trials), ("--slots", slots), ("--cluster", cluster)]
    again = _command_for("run", study, dir, *(str(part) for name, value in options if value is not None for part in (name, value)))

    def prepared(made: Any, tally: Any) -> None:
        progress.prepared()
        _show_prepared(loaded, made)
        total = f"{tally.total:,}" if tally.total is not None else "unbounded"
        _say(f"  {'space':<12} {total} configurations ({loaded.search.sampler})")

    try:
        with progress, loaded.located():
            result = run_study(loaded, dir, fresh=fresh, slots=slots, address=cluster, on_prepared=prepared, on_progress=progress.update)
    except KeyboardInterrupt:
        _say(f"Interrupted. Results accepted so far are safe; the same command goes on: {again}", console=err)
        raise typer.Exit(130) from None
    _say(_outcome(result))
    if result.tally.failed:
        status_command = _command_for("status", loaded.name, dir)
        _say(Text.assemble((f"{result.tally.failed:,} configurations failed", "red"), f"; {status_command} shows why."))
    out.print(render(result.leaderboard(top=top), width=out.width))
    _say(IN_SAMPLE)
    if result.stopped:
        _say(Text.assemble("Stopped. Nothing is lost; the same command goes on: ", (again, "bold")))
        raise typer.Exit(130)


def _show_prepared(study: Any, made: Any) -> None:
    _say(Text.assemble((study.name, "bold"), f"  {study.description}"))
    for name, value in made.summary:
        _say(Text.assemble(f"  {name:<12} ", (str(value), "bold red" if value == "legacy" else "")))
    for line in made.warnings:
        _say(Text(f"  {line}", "yellow"))


def _outcome(result: Any) -> str:
    tally = result.tally
    if not tally.done:
        return f"Nothing to do: all {tally.known:,} points have a result."
    before = f" ({tally.known:,} had a result already)" if tally.known else ""
    return (
        f"{tally.done:,} configurations in {result.seconds:.1f} s, {tally.busy:.1f} s of it evaluating, in {tally.packs:,} packs{before}."
    )


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(help="One study; default all.", show_default=False)] = None, dir: DirOpt = Path("runs")
) -> None:
    """Show what is done, failed and left in the studies of a folder."""
    from results import Ledger, LedgerError
    from sweeps.runner import LEDGER

    homes = [_home(study, dir)] if study else sorted(p.parent for p in dir.glob(f"*/{LEDGER}"))
    if not homes:
        _say(f"No study has run in {dir}{'' if dir.is_dir() else ' (there is no such folder)'}. Start one: alphasweep run selector_grid")
        return
    rows, notes = [], []
    for home in homes:
        try:
            with Ledger.open(home / LEDGER, readonly=True) as ledger:
                rows.append(_status_row(home, ledger))
                notes += _failures(ledger) if study else []
        except LedgerError as error:
            if study:
                raise
            # One damaged study must not hide the others.
            rows.append([home.name, Text("unreadable", "red")])
            notes.append(Text(str(error), "red"))
    names = ("study", "state", "done", "failed", "asked", "best", "last run (UTC)")
    out.print(_table(names, rows, title=f"studies in {dir}", numbers=("done", "failed", "asked")))
    for line in notes:
        _say(line)


def _status_row(home: Path, ledger: Any) -> list[str | Text]:
    from results.lock import is_written
    from sweeps.runner import LEDGER

    counts, sessions, plans, header = ledger.counts(), ledger.sessions(), ledger.plans(), ledger.header
    last = sessions[-1] if sessions else {}
    best = ledger.top(header.objective, n=1)[header.objective].dropna() if counts["completed"] else ()
    return [
        home.name,
        last.get("reason") or ("running" if is_written(home / LEDGER) else "killed"),
        f"{counts['completed']:,}",
        f"{counts['failed']:,}",
        # Of the latest search: plans may share points, so their sum says nothing.
        "–" if not plans else "unbounded" if plans[-1].count is None else f"{plans[-1].count:,}",
        "–" if not len(best) else f"{header.objective} {next(iter(best)):.4g}",
        str(last.get("started", ""))[:16].replace("T", " "),
    ]


def _failures(ledger: Any) -> list[Text]:
    first = ledger.failures(10)
    lines = [Text.assemble(f"  trial {row['trial']}: ", (" ".join(str(row["error"]).split()), "red")) for row in first]
    left = ledger.counts()["failed"] - len(first)
    return [*lines, Text(f"  … and {left:,} more (leaderboard --csv lists all)")] if left else lines


@app.command(name="leaderboard")
def leaderboard_(
    study: NameArg,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Rows.")] = 20,
    sort: Annotated[str | None, typer.Option(metavar="METRIC", help="Rank by this metric; default the study's objective.")] = None,
    csv: Annotated[Path | None, _export("CSV")] = None,
    json: Annotated[Path | None, _export("JSON")] = None,
    parquet: Annotated[Path | None, _export("Parquet")] = None,
    dir: DirOpt = Path("runs"),
) -> None:
    """Show the best configurations of a study; write all of them to a file."""
    from results import Ledger
    from results.leaderboard import leaderboard, render
    from sweeps.runner import LEDGER

    with Ledger.open(_home(study, dir) / LEDGER, readonly=True) as ledger:
        out.print(render(leaderboard(ledger, sort, top), width=out.width))
        _say(IN_SAMPLE)
        for path, fmt in ((csv, "csv"), (json, "json"), (parquet, "parquet")):
            if path:
                _say(f"{ledger.export(path, fmt):,} trials written to {path}")


@app.command()
def show(
    study: NameArg,
    trial: Annotated[str, typer.Argument(help="Trial number, or the first digits of its configuration id.")],
    dir: DirOpt = Path("runs"),
) -> None:
    """Show everything known about one trial."""
    from results import Ledger
    from results.leaderboard import format_value
    from sweeps.runner import LEDGER

    with Ledger.open(_home(study, dir) / LEDGER, readonly=True) as ledger:
        row, header = ledger.trial(trial), ledger.header
    keys = ("config_id", "status", "error", "source", "attempt", "worker", "ended")
    facts: list[list[str | Text]] = [[key, str(row[key])] for key in keys if row.get(key)]
    facts.append(["seconds", f"{row['seconds']:.3g}"])
    if not row["intact"]:
        facts.append(["checksum", Text("does not match: changed after it was accepted", "bold red")])
    config, fixed = row["config"], header.spec.get("fixed", {})
    parameters = [
        [name, format_value(value), Text("default", "dim") if name not in config else "fixed" if name in fixed else "swept"]
        for name, value in {**header.defaults, **config}.items()
    ]
    values = row.get("metrics") or {}
    metrics = [[metric.name, format_value(values.get(metric.name), metric.unit)] for metric in header.metrics]
    out.print(_table(("", ""), facts, title=f"{header.name}, trial {row['trial']}"))
    out.print(Columns([_table(("parameter", "value", ""), parameters), _table(("metric", "value"), metrics)]))


@app.command()
def verify(study: NameArg, dir: DirOpt = Path("runs")) -> None:
    """Prove that each point has exactly one accepted result, with a matching checksum."""
    from sweeps.runner import verify as verify_study

    found = verify_study(_home(study, dir))
    names = ("points", "completed", "failed", "missing", "duplicated", "corrupt", "unexpected")
    rows = [*([name, f"{getattr(found, name):,}"] for name in names), ["certificate", found.certificate]]
    out.print(_table(("", ""), rows, title=f"{study}: {'verified' if found.ok else 'NOT verified'}"))
    for line in found.problems:
        _say(Text(f"  {line}", "red"))
    if found.failed:
        _say(Text(f"  {found.failed:,} points have failed and have no metrics; {_command_for('status', study, dir)} shows why", "yellow"))
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def ls() -> None:
    """List the studies of the library."""
    from search_spaces import Space
    from sweeps.study import LIBRARY, Study

    studies = [Study.load(path) for path in sorted(LIBRARY.glob("*.yaml"))]
    sizes = [Space.parse(study.space).size for study in studies]
    rows = [[s.name, f"{n:,}" if n is not None else "∞", s.description] for s, n in zip(studies, sizes, strict=True)]
    out.print(_table(("study", "points", "what"), rows, numbers=("points",)))


@app.command()
def validate(study: StudyArg, set_: SetOpt = None) -> None:
    """Check a study file and its data without running it, and show its space."""
    from sweeps.runner import Search
    from sweeps.study import Study

    loaded = Study.load(study, set_ or ())
    search = Search(loaded)
    with loaded.located():
        search.check()
        made = search.prepare()
    _show_prepared(loaded, made)
    rows = [["" if x is None else str(x) for x in row] for row in search.space.describe()]
    out.print(_table(("parameter", "kind", "values", "when"), rows))
    size = search.sampler.size
    count = "unbounded" if size is None else f"{size:,} configurations"
    _say(f"Valid: {count} ({loaded.search.sampler}), ranked by {loaded.objective or search.trainable.objective}.")


@data_app.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(help="A folder of per-symbol CSV or Parquet files, or one file.", show_default=False)],
    assume_tz: Annotated[str | None, typer.Option(metavar="ZONE", help="Time zone of stamps that have none, e.g. UTC.")] = None,
    rows: Annotated[int, typer.Option(metavar="N", min=0, help="Problems to list one by one.")] = 20,
) -> None:
    """Report bad data by symbol, row and reason; nothing is changed."""
    import pandas as pd

    from trainables.market import check_directory, summarise

    problems, bars = check_directory(path, assume_tz)
    what = f"{len(bars)} {'symbol' if len(bars) == 1 else 'symbols'}, {sum(bars.values()):,} bars"
    if not problems:
        _say(f"{path}: {what}: no problems.")
        return
    counts = summarise(problems)
    cells = [
        ["–" if x is pd.NaT else f"{x:%Y-%m-%d %H:%M}" if hasattr(x, "strftime") else str(x) for x in row]
        for row in counts.itertuples(index=False)
    ]
    out.print(_table([str(name).replace("_", " ") for name in counts.columns], cells, title=f"{path}: {what}"))
    for problem in sorted(problems, key=lambda p: p.severity)[:rows]:
        _say(Text.assemble((problem.severity, "red" if problem.severity == "error" else "yellow"), f" {problem}"))
    if len(problems) > rows:
        _say(f"… and {len(problems) - rows:,} more (--rows)")
    errors = sum(problem.severity == "error" for problem in problems)
    if errors:
        _say(f"{errors:,} bad rows. A study refuses them until they are corrected, or left out by `drop_bad_rows: true`.")
        raise typer.Exit(1)
    _say("Warnings only: a study runs; what is missing is not filled and cannot be traded.")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], title: str | None = None, numbers: Sequence[str] = ()) -> Table:
    """Makes a table; cells are plain text, whatever brackets they have in them."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_header=any(columns), title_justify="left", title_style="bold")
    table.title = Text(title) if title else None
    for name in columns:
        table.add_column(Text(name), justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return table


def _say(line: str | Text, console: Console = out) -> None:
    """Prints a line as it is: no markup, no colouring, and unbroken, so that pipes and copies get whole lines."""
    console.print(line if isinstance(line, Text) else Text(line), soft_wrap=True)


def _command_for(name: str, study: str, dir: Path, *options: str) -> str:
    """Returns a command to copy."""
    return shlex.join(["alphasweep", name, study, *([] if dir == Path("runs") else ["--dir", str(dir)]), *options])


def _home(study: str, folder: Path) -> Path:
    """Returns the folder of a study that has run, given its name or its file."""
    import difflib

    from sweeps.runner import LEDGER
    from sweeps.study import Study, StudyError

    name = study
    if study.endswith((".yaml", ".yml")):
        name = Study.load(study).name if Path(study).is_file() else Path(study).stem
    home = folder / name
    if (home / LEDGER).exists():
        return home
    if not folder.is_dir():
        raise StudyError(f"--dir {folder}: no such folder")
    ran = sorted(p.parent.name for p in folder.glob(f"*/{LEDGER}"))
    near = difflib.get_close_matches(name, ran, 1)
    hint = f" Did you mean {near[0]!r}?" if near else f" There are {', '.join(ran[:10])}." if ran else ""
    raise StudyError(f"{study}: no study of that name has run in {folder}.{hint}")


def _fail(message: str) -> None:
    _say(Text.assemble(("error", "bold red"), " ", message), console=err)
    sys.exit(2)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command; errors a user can meet are messages, not tracebacks.

    Args:
        args: What follows `alphasweep`; default from the command line.
    """
    try:
        app(args=args)
    except ValueError as error:
        # Every room's errors for people are ValueErrors with a message that says what to do.
        if type(error).__module__.split(".")[0] not in {"sweeps", "cluster", "trainables", "search_spaces", "results"}:
            raise
        _fail(str(error))
    except OSError as error:
        # A folder that cannot be written, a full disk; what has no file is a fault in the code.
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}")
    except MemoryError as error:
        _fail(f"there is not enough memory: {error}")


if __name__ == "__main__":
    main()

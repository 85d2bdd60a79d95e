"""The `alphasweep` command."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from results.secrets import redacted
from sweeps.commands import ablation as cli_ablation
from sweeps.commands import cache as cli_cache
from sweeps.commands import campaign as cli_campaign
from sweeps.commands import cluster as cli_cluster
from sweeps.commands import doctor as cli_doctor
from sweeps.commands import export as cli_export
from sweeps.commands import grow as cli_grow
from sweeps.commands import lanes as cli_lanes
from sweeps.commands import live as cli_live
from sweeps.commands import plan as cli_plan
from sweeps.commands import plots as cli_plots
from sweeps.commands import registry as cli_registry
from sweeps.commands import report as cli_report
from sweeps.commands import results as cli_results
from sweeps.commands import run as cli_run
from sweeps.commands import steps as cli_steps
from sweeps.commands import track as cli_track
from sweeps.commands import walkforward as cli_walkforward
from sweeps.commands.console import (
    DirOpt,
    HostOpt,
    LedgerOpt,
    SetOpt,
    StudyArg,
    command_for,
    err,
    home_of,
    load_study,
    many,
    out,
    say,
    studies_in,
    table,
)

app = typer.Typer(
    help="Large sweeps of trading research that lose nothing and say whether to believe the winner.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)
data_app = typer.Typer(help="Look at market data before a study uses it.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(cli_cache.app, name="cache")
app.add_typer(cli_campaign.app, name="campaign")
app.add_typer(cli_cluster.app, name="cluster")
app.add_typer(cli_track.app, name="track")
app.add_typer(cli_results.app)
app.add_typer(cli_grow.app)
app.add_typer(cli_plan.app)
app.add_typer(cli_ablation.app)
app.add_typer(cli_steps.app)
app.add_typer(cli_walkforward.app)
app.add_typer(cli_export.app)
app.add_typer(cli_doctor.app)
app.add_typer(cli_plots.app)
app.add_typer(cli_report.app)
app.add_typer(cli_registry.app)
app.add_typer(cli_live.app)


@app.callback(invoke_without_command=True)
def _command(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False) -> None:
    if version:
        from importlib.metadata import version as installed

        say(f"alphasweep {installed('alphasweep')}")
        raise typer.Exit


@app.command()
def run(
    study: Annotated[
        list[str],
        typer.Argument(
            help="A study file, or a name from `alphasweep ls`. Several run at once, each in a lane; STUDY@LANE says in which.",
            show_default=False,
        ),
    ],
    set_: SetOpt = None,
    trials: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Evaluate this many configurations (a reproducible sample of a grid).")
    ] = None,
    hours: Annotated[
        str | None, typer.Option(metavar="H", help="Stop after this much wall clock, as 2 or 90m (stop.hours of the study file).")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="VALUE", help="Stop when the objective has reached this, as 2 or 20% (stop.target).")
    ] = None,
    dir: DirOpt = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Set earlier results of this study aside and start over.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Evaluate again what failed in earlier sessions.")] = False,
    slots: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Packs, or trials that report, at once; default as many as there is room for.")
    ] = None,
    cluster: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster; default a private local one.")] = None,
    host: HostOpt = None,
    ledger: LedgerOpt = None,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Rows of the leaderboard to show at the end.")] = 10,
) -> None:
    """Run a study, or go on with it: what has a result is not evaluated again. Several run at once, each in its lane."""
    stops = [f"stop.{key}={value}" for key, value in (("hours", hours), ("target", target)) if value is not None]
    overrides = [*stops, *(set_ or ())] + ([f"search.trials={trials}"] if trials is not None else [])
    options: list[tuple[str, object]] = [*(("--set", item) for item in set_ or ()), ("--trials", trials), ("--hours", hours)]
    options += [("--target", target), ("--slots", slots), ("--cluster", cluster), ("--host", host), ("--ledger", ledger)]
    if ledger:
        from results import pointer

        pointer.checked(ledger)  # before it is passed on, shown, or anything set aside for it
    words = [str(part) for name, value in options if value is not None for part in (name, value)]
    loaded = [load_study(cli_lanes.split(item)[0], overrides, dir) for item in study]
    lanes = cli_lanes.lanes_of(study, loaded, host)
    more = [*(["--fresh"] if fresh else []), *(["--retry-failed"] if retry_failed else []), "--top", str(top)]
    if len(loaded) > 1:
        cli_lanes.run_together(study, loaded, lanes, [*(["--dir", str(dir)] if dir != Path("runs") else []), *words, *more])
        return
    again = command_for("run", study[0], dir, *words)
    with cli_lanes.inside(lanes[0], loaded[0].name):
        cli_run.run_loaded(
            loaded[0],
            dir,
            lambda: again,
            top=top,
            fresh=fresh,
            retry_failed=retry_failed,
            slots=slots,
            cluster=cluster,
            ledger_url=ledger or "",
        )


@app.command()
def attach(
    url: Annotated[str, typer.Argument(help="A database, as postgresql://USER@HOST/DATABASE.", show_default=False)],
    dir: DirOpt = Path("runs"),
) -> None:
    """Show the studies of a shared database here: makes a folder for each, from which status, leaderboard and the rest read it.

    Results are in the database; daily returns are not, so verdicts and intervals are shown where a study was run.
    """
    from results import pointer
    from sweeps.runner import LEDGER
    from sweeps.study import _NAME as STUDY_NAME

    # A name that is no study's is another program's, or would lead out of the folder; what was set aside is to be looked at by no study.
    pointer.trust(url)
    found = [name for name in pointer.schemas(url) if STUDY_NAME.fullmatch(name) and not pointer.is_aside(name)]
    if not found:
        say(f"No study in {url} yet. Start one: {command_for('run', 'selector_grid', dir, '--ledger', url)}")
        return
    new = [name for name in found if not (dir / name / LEDGER).exists()]
    for name in new:
        pointer.write(dir / name / LEDGER, pointer.in_schema(url, name))
    others = [name for name in found if name not in new and pointer.read(dir / name / LEDGER) != pointer.in_schema(url, name)]
    rest = f", {len(found) - len(new):,} were there" if len(new) < len(found) else ""
    rest += f" (of them not of this database, and left as they are: {', '.join(others)})" if others else ""
    say(f"{many(len(new), 'study', 'studies')} attached in {dir}{rest}{': ' if new else ''}{', '.join(new)}")
    if new:
        say("Daily returns stay in the folder of whoever ran a study: verdicts, intervals and equity are shown there only.")


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(help="One study; default all.", show_default=False)] = None, dir: DirOpt = Path("runs")
) -> None:
    """Show what is done, stopped early, failed and left in the studies of a folder."""
    from results import Ledger, LedgerError
    from sweeps.budget_words import ended_by
    from sweeps.runner import LEDGER
    from sweeps.study import StudyError

    if not study and not dir.is_dir() and dir != Path("runs"):
        raise StudyError(f"--dir {dir}: no such folder")
    homes = [home_of(study, dir)] if study else [dir / name for name in studies_in(dir)]
    if not homes and not cli_walkforward.walks_lines(dir):
        say(f"No studies yet in {dir}. Start one: {command_for('run', 'selector_grid', dir)}")
        return
    rows, notes = [], ([] if study else cli_walkforward.walks_lines(dir))
    for home in homes:
        try:
            with Ledger.open(home / LEDGER, readonly=True) as ledger:
                rows.append(_status_row(home, ledger))
                notes += [Text(f"  {home.name} stopped: {words}")] if (words := ended_by(ledger)) else []
                notes += cli_run.failures(ledger, 10) if study else []
        except LedgerError as error:
            if study:
                raise
            # One damaged study must not hide the others.
            rows.append([home.name, Text("unreadable", "red")])
            notes.append(Text(str(error), "red"))
    names = ["study", "state", "done", "stopped", "failed", "asked", "best", "last run (UTC)"]
    if not any(len(row) > 2 and str(row[3]) != "0" for row in rows):  # where nothing was stopped early, a column less
        names, rows = names[:3] + names[4:], [row[:3] + row[4:] for row in rows]
    out.print(table(names, rows, title=f"studies in {dir}", numbers=("done", "stopped", "failed", "asked")))
    for line in notes:
        say(line)


def _status_row(home: Path, ledger: Any) -> list[str | Text]:
    from sweeps.asked import state_of
    from sweeps.history import is_imported
    from sweeps.suggestions import family_of

    counts, sessions, plans, header = ledger.counts(), ledger.sessions(), ledger.plans(), ledger.header
    last = sessions[-1] if sessions else {}
    best = ledger.top(header.objective, n=1)[header.objective].dropna() if counts["completed"] else ()
    searches = len({family_of(plan) for plan in plans})  # asked for more trials, one is still the same
    return [
        home.name,
        "imported" if is_imported(header) else state_of(home, ledger),
        f"{counts['completed']:,}",
        f"{counts['stopped']:,}",
        f"{counts['failed']:,}",
        # Of the latest search: plans may share points, so their sum says nothing.
        (f"{plans[-1].count:,}" if searches == 1 else f"{plans[-1].count:,} (search {searches})")
        if plans and not is_imported(header)
        else "–",
        "–" if not len(best) else f"{header.objective} {next(iter(best)):.4g}",
        str(last.get("started", ""))[:16].replace("T", " "),
    ]


@app.command()
def ls() -> None:
    """List the studies of the library."""
    from search_spaces import Space
    from sweeps.study import LIBRARY, Study

    studies = [Study.load(path) for path in sorted(LIBRARY.glob("*.yaml"))]
    sizes = [Space.parse(study.space).size for study in studies]
    rows = [[s.name, f"{n:,}" if n is not None else "∞", s.description] for s, n in zip(studies, sizes, strict=True)]
    out.print(table(("study", "points", "what"), rows, numbers=("points",)))


@app.command()
def validate(
    study: StudyArg,
    set_: SetOpt = None,
    dir: DirOpt = Path("runs"),
    parameters: Annotated[bool, typer.Option("--parameters", help="List all parameters of its trainable, swept or not.")] = False,
) -> None:
    """Check a study file and its data without running it, and show its space."""
    from sweeps.budget_words import in_words
    from sweeps.runner import Search
    from sweeps.suggestions import warm_starts

    loaded = load_study(study, set_ or (), dir)
    search = Search(loaded)
    with loaded.located():
        made = _sound(search)
        learnt = [f"Learns from {name}: {many(sum(1 for _ in found), 'result')} in this space." for name, found in warm_starts(search, dir)]
    cli_run.show_prepared(loaded, made)
    rows = [["" if x is None else str(x) for x in row] for row in search.space.describe()]
    out.print(table(("parameter", "kind", "values", "when"), rows))
    if parameters:
        listed = [[p.name, _default(p, made.defaults), _allowed(p), p.doc] for p in search.trainable.parameters]
        out.print(table(("parameter", "default", "allowed", "what"), listed, f"parameters of {loaded.trainable}"))
    if search.budget:
        say(f"Stops at {in_words(search.budget, next(m for m in search.trainable.metrics if m.name == search.objective))}.")
    for line in [*cli_steps.scheduler_lines(search), *learnt]:
        say(line)
    say(f"Valid: {search.sampler.size:,} configurations ({search.method_words}), ranked by {', '.join(search.objectives)}.")


def _sound(search: Any) -> Any:
    """Prepares a study, or says all that is wrong with it at once, its data included."""
    from sweeps.study import is_of_study

    found = search.faults()
    if not found:
        return search.prepare()
    try:
        cuts = None if any(str(fault).startswith("protocol") for fault in found) else search.protocol
        search.trainable.prepare(search.study.data, search.study.settings, cuts)
    except ValueError as error:
        if not is_of_study(error):
            raise
        found += [error] if str(error) not in map(str, found) else []
    search.study.refuse(found)


def _default(parameter: Any, defaults: Mapping[str, Any]) -> str:
    value = defaults.get(parameter.name, parameter.default)
    words = f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
    return f"{words} {parameter.unit}".strip()


def _allowed(parameter: Any) -> str:
    words = str(parameter.allowed()).removeprefix("give ")
    return words.removeprefix("a number from ").removeprefix("one of ").replace("a whole number from", "whole,")


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
        say(f"{path}: {what}: no problems.")
        return
    counts = summarise(problems)
    cells = [
        ["–" if x is pd.NaT else f"{x:%Y-%m-%d %H:%M}" if hasattr(x, "strftime") else str(x) for x in row]
        for row in counts.itertuples(index=False)
    ]
    out.print(table([str(name).replace("_", " ") for name in counts.columns], cells, title=f"{path}: {what}"))
    for problem in sorted(problems, key=lambda p: p.severity)[:rows]:
        say(Text.assemble((problem.severity, "red" if problem.severity == "error" else "yellow"), f" {problem}"))
    if len(problems) > rows:
        say(f"… and {len(problems) - rows:,} more (--rows)")
    errors = sum(problem.severity == "error" for problem in problems)
    if errors:
        say(f"{errors:,} bad rows. A study refuses them until they are corrected, or left out by `drop_bad_rows: true`.")
        raise typer.Exit(1)
    say("Warnings only: a study runs; what is missing is not filled and cannot be traded.")


def _fail(message: str) -> None:
    say(Text.assemble(("error", "bold red"), " ", message), console=err)
    sys.exit(2)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command; errors a user can meet are messages, not tracebacks.

    Args:
        args: What follows `alphasweep`; default from the command line.
    """
    sys.path.append(str(Path.cwd()))  # a trainable of one's own is found beside the study
    try:
        app(args=args)
    except ValueError as error:
        # Every room's errors for people are ValueErrors with a message that says what to do.
        if type(error).__module__.split(".")[0] not in {"sweeps", "cluster", "trainables", "search_spaces", "results"}:
            raise
        _fail(redacted(str(error)))
    except OSError as error:
        # A folder that cannot be written, a full disk; what has no file is a fault in the code.
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}")
    except MemoryError as error:
        _fail(f"there is not enough memory: {error}")


if __name__ == "__main__":
    main()

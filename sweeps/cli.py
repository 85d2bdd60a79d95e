"""The `alphasweep` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.columns import Columns
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    help="Large sweeps of trading research that lose nothing and say whether to believe the winner.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)
data_app = typer.Typer(help="Look at market data before a study uses it.", no_args_is_help=True)
app.add_typer(data_app, name="data")
out = Console()
err = Console(stderr=True)

StudyArg = Annotated[str, typer.Argument(help="A study file, or a name from `alphasweep ls`.", show_default=False)]
NameArg = Annotated[str, typer.Argument(help="Name of a study that has run.", show_default=False)]
DirOpt = Annotated[Path, typer.Option("--dir", help="Folder that holds the studies' folders.")]
SetOpt = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. --set data.bars=720. Repeatable.")
]


@app.command()
def run(
    study: StudyArg,
    set_: SetOpt = None,
    trials: Annotated[int | None, typer.Option(help="Evaluate this many configurations (a reproducible sample of a grid).")] = None,
    dir: DirOpt = Path("runs"),
    fresh: Annotated[bool, typer.Option(help="Set earlier results of this study aside and start over.")] = False,
    slots: Annotated[int | None, typer.Option(help="Packs evaluated at once; default one per CPU.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Address of a Ray cluster; default a private local one.")] = None,
    top: Annotated[int, typer.Option(help="Rows of the leaderboard to show at the end.")] = 10,
) -> None:
    """Run a study, or go on with it: what has a result is not evaluated again."""
    from results.leaderboard import render
    from sweeps.progress import StudyProgress
    from sweeps.runner import run as run_study
    from sweeps.study import Study

    overrides = list(set_ or []) + ([f"search.trials={trials}"] if trials is not None else [])
    loaded = Study.load(study, overrides)
    progress = StudyProgress(out, loaded.objective or "objective")

    def prepared(made: Any, tally: Any) -> None:
        out.print(f"[bold]{loaded.name}[/bold]  {loaded.description}", highlight=False)
        for name, value in made.summary:
            style = "bold red" if value == "legacy" else ""
            out.print(f"  {name:<12} [{style}]{value}[/]" if style else f"  {name:<12} {value}", highlight=False)
        for line in made.warnings:
            out.print(f"  [yellow]{line}[/yellow]", highlight=False)
        total = f"{tally.total:,}" if tally.total is not None else "unbounded"
        out.print(f"  {'space':<12} {total} configurations ({loaded.search.sampler})", highlight=False)

    with progress:
        result = run_study(loaded, dir, fresh=fresh, slots=slots, address=cluster, on_prepared=prepared, on_progress=progress.update)
    tally = result.tally
    out.print(_outcome(result), highlight=False)
    if tally.failed:
        out.print(f"[red]{tally.failed} configurations failed[/red]; `alphasweep status {loaded.name}` shows why.", highlight=False)
    out.print(render(result.leaderboard(top=top), width=out.width))
    if result.stopped:
        where = "" if dir == Path("runs") else f" --dir {dir}"
        out.print(f"Stopped. Nothing is lost; the same command goes on: [bold]alphasweep run {study}{where}[/bold]", highlight=False)
        raise typer.Exit(130)


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
    from results import Ledger
    from sweeps.runner import LEDGER

    homes = [_home(study, dir)] if study else sorted(p.parent for p in dir.glob(f"*/{LEDGER}"))
    if not homes:
        out.print(f"No study has run in {dir}. Start one: alphasweep run selector_grid")
        return
    table = _table("study", "state", "completed", "failed", "planned", "best", "last run", title=f"studies in {dir}")
    for home in homes:
        with Ledger.open(home / LEDGER, readonly=True) as ledger:
            counts, sessions, plans = ledger.counts(), ledger.sessions(), ledger.plans()
            best = ledger.top(ledger.header.objective, n=1)
            last = sessions[-1] if sessions else {}
            state = {None: "running or killed"}.get(last.get("reason"), last.get("reason", ""))
            shown = f"{ledger.header.objective} {best[ledger.header.objective].iloc[0]:.4g}" if len(best) else "–"
            planned = "unbounded" if any(p.count is None for p in plans) else f"{sum(p.count or 0 for p in plans):,}"
            table.add_row(
                home.name,
                str(state),
                f"{counts['completed']:,}",
                f"{counts['failed']:,}",
                planned,
                shown,
                str(last.get("started", ""))[:16].replace("T", " "),
            )
            if study:
                out.print(table)
                failed = [t for t in ledger.failures(10)]
                for row in failed:
                    out.print(f"  trial {row['trial']}: [red]{row['error']}[/red]", highlight=False)
    if not study:
        out.print(table)


@app.command(name="leaderboard")
def leaderboard_(
    study: NameArg,
    top: Annotated[int, typer.Option(help="Rows.")] = 20,
    sort: Annotated[str | None, typer.Option(metavar="METRIC", help="Rank by this metric; default the study's objective.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write all trials to this CSV file.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write all trials to this JSON file.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write all trials to this Parquet file.")] = None,
    dir: DirOpt = Path("runs"),
) -> None:
    """Show the best configurations of a study; write all of them to a file."""
    from results import Ledger
    from results.leaderboard import leaderboard, render
    from sweeps.runner import LEDGER

    with Ledger.open(_home(study, dir) / LEDGER, readonly=True) as ledger:
        out.print(render(leaderboard(ledger, sort, top), width=out.width))
        for path, fmt in ((csv, "csv"), (json, "json"), (parquet, "parquet")):
            if path:
                out.print(f"{ledger.export(path, fmt):,} trials written to {path}")


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
        row = ledger.trial(int(trial) if trial.isdigit() else trial)
        header = ledger.header
    facts = _table("", "", title=f"{study}, trial {row['trial']}")
    for key in ("config_id", "status", "attempt", "seconds", "error", "source"):
        if row.get(key) is not None:
            facts.add_row(key, f"{row[key]:.3g}" if key == "seconds" else str(row[key]))
    parameters = _table("parameter", "value", "")
    for name, value in {**header.defaults, **row["config"]}.items():
        origin = "[dim]default[/dim]" if name not in row["config"] else "fixed" if name in header.spec.get("fixed", {}) else "swept"
        parameters.add_row(name, format_value(value), origin)
    metrics = _table("metric", "value")
    for metric in header.metrics:
        metrics.add_row(metric.name, format_value((row.get("metrics") or {}).get(metric.name), metric.unit))
    out.print(facts, Columns([parameters, metrics]))


@app.command()
def verify(study: NameArg, dir: DirOpt = Path("runs")) -> None:
    """Prove that each point has exactly one accepted result, with a matching checksum."""
    from sweeps.runner import verify as verify_study

    found = verify_study(_home(study, dir))
    table = _table("", "", title=f"{study}: {'verified' if found.ok else 'NOT verified'}")
    for name in ("points", "completed", "failed", "missing", "duplicated", "corrupt", "unexpected"):
        table.add_row(name, f"{getattr(found, name):,}")
    table.add_row("certificate", found.certificate)
    out.print(table)
    for line in found.problems:
        out.print(f"  [red]{line}[/red]", highlight=False)
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def ls() -> None:
    """List the studies of the library."""
    from search_spaces import Space
    from sweeps.study import LIBRARY, Study

    table = _table("study", "points", "what")
    for path in sorted(LIBRARY.glob("*.yaml")):
        study = Study.load(path)
        size = Space.parse(study.space).size
        table.add_row(study.name, f"{size:,}" if size is not None else "∞", study.description)
    out.print(table)


@app.command()
def validate(file: StudyArg, set_: SetOpt = None) -> None:
    """Check a study file without running it, and show its space."""
    from sweeps.runner import Search
    from sweeps.study import Study

    study = Study.load(file, set_ or ())
    search = Search(study)
    search.check()
    table = _table("parameter", "kind", "values", "when", title=study.name)
    for row in search.space.describe():
        table.add_row(*(str(x) if x is not None else "" for x in row))
    out.print(table)
    size = search.sampler.size
    count = "unbounded" if size is None else f"{size:,} configurations"
    out.print(f"Valid: {count} ({study.search.sampler}), ranked by {study.objective or search.trainable.objective}.", highlight=False)


@data_app.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(help="A folder of per-symbol CSV or Parquet files, or one file.")],
    assume_tz: Annotated[str | None, typer.Option(help="Time zone of stamps that have none, e.g. UTC.")] = None,
    rows: Annotated[int, typer.Option(help="Problems to list one by one.")] = 20,
) -> None:
    """Report bad data by symbol, row and reason; nothing is changed."""
    from trainables.market import check_directory, summarise

    problems, bars = check_directory(path, assume_tz)
    what = f"{len(bars)} {'symbol' if len(bars) == 1 else 'symbols'}, {sum(bars.values()):,} bars"
    if not problems:
        out.print(f"{path}: {what}: no problems.", highlight=False)
        return
    counts = summarise(problems)
    table = _table(*(str(name).replace("_", " ") for name in counts.columns), title=f"{path}: {what}")
    for values in counts.itertuples(index=False):
        table.add_row(*(f"{value:%Y-%m-%d %H:%M}" if hasattr(value, "strftime") else str(value) for value in values))
    out.print(table)
    for problem in sorted(problems, key=lambda p: p.severity)[:rows]:
        out.print(f"[{'red' if problem.severity == 'error' else 'yellow'}]{problem.severity}[/] {problem}", highlight=False)
    if len(problems) > rows:
        out.print(f"… and {len(problems) - rows:,} more (--rows)", highlight=False)
    errors = sum(problem.severity == "error" for problem in problems)
    if errors:
        out.print(f"{errors:,} bad rows. A study refuses them until they are corrected, or left out by `drop_bad_rows: true`.", highlight=False)
        raise typer.Exit(1)
    out.print("Warnings only: a study runs; what is missing is not filled and cannot be traded.", highlight=False)


def _table(*columns: str, title: str | None = None) -> Table:
    return Table(*columns, title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_header=any(columns), title_justify="left", title_style="bold")


def _home(study: str, folder: Path) -> Path:
    """Returns the folder of a study that has run."""
    import difflib

    from sweeps.runner import LEDGER
    from sweeps.study import StudyError

    name = Path(study).stem if study.endswith((".yaml", ".yml")) else study
    home = folder / name
    if (home / LEDGER).exists():
        return home
    ran = sorted(p.parent.name for p in folder.glob(f"*/{LEDGER}"))
    near = difflib.get_close_matches(name, ran, 1)
    hint = f" Did you mean {near[0]!r}?" if near else f" Run it: alphasweep run {study}"
    raise StudyError(f"{study}: no study of that name has run in {folder}.{hint}")


def main() -> None:
    """Runs the command; errors a user can meet are messages, not tracebacks."""
    try:
        app()
    except ValueError as error:
        # Every room's errors for people are ValueErrors with a message that says what to do.
        if type(error).__module__.split(".")[0] not in {"sweeps", "cluster", "trainables", "search_spaces", "results"}:
            raise
        err.print(f"[bold red]error[/bold red] {error}", highlight=False, markup=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("Interrupted. Results accepted so far are safe; the same command goes on.")
        sys.exit(130)


if __name__ == "__main__":
    main()

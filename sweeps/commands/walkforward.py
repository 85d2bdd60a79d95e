"""The `alphasweep walkforward` command: search inside each train window, test the winner on the next, roll on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from sweeps.commands.console import DirOpt, SetOpt, StudyArg, command_for, err, export, load_study, many, out, say, table

if TYPE_CHECKING:
    from sweeps.walk.result import Stability, WalkResult
    from trainables.timeline import Timeline

app = typer.Typer()
_DOUBTED = {"paid": "bold green", "cost": "red"}

HELP = (
    "Search inside each train window, test the winner on the window after it, roll on. The holdout stays sealed.\n\n"
    "Without lengths the study's own folds are walked. The same command goes on where it ended. docs/walkforward.md explains.\n\n"
    "Each window is a study of its own: alphasweep leaderboard STUDY.walk/window-01. Their ledgers are files of the walk's folder, "
    "never in a shared database: a walk is more than its ledgers."
)


@app.command(help=HELP)
def walkforward(
    context: typer.Context,
    study: StudyArg,
    set_: SetOpt = None,
    windows: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="How many; default all that fit, or the study's folds where no length is given.")
    ] = None,
    train: Annotated[
        str | None, typer.Option(metavar="TIME", help="Length of a train window, e.g. 180d; default 40 % before the holdout.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(metavar="TIME", help="Length of a test window, e.g. 30d; default the rest, shared out.")
    ] = None,
    step: Annotated[str | None, typer.Option(metavar="TIME", help="From one test window to the next; default its length.")] = None,
    embargo: Annotated[str | None, typer.Option(metavar="TIME", help="Between train and test; default the study's.")] = None,
    anchored: Annotated[bool, typer.Option("--anchored", help="All train windows begin at the first bar.")] = False,
    trials: Annotated[int | None, typer.Option(metavar="N", min=1, help="Configurations tried in each window.")] = None,
    dir: DirOpt = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Set an earlier walk of this study aside and start over.")] = False,
    slots: Annotated[int | None, typer.Option(metavar="N", min=1, help="Packs at once; default one per CPU.")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster; default a private local one.")] = None,
    ledger: Annotated[str | None, typer.Option(metavar="URL", envvar="ALPHASWEEP_LEDGER", help="Refused: a walk is kept in files.")] = None,
    csv: Annotated[Path | None, export("CSV")] = None,
    daily: Annotated[Path | None, export("CSV")] = None,
) -> None:
    """Search inside each train window, test the winner on the window after it, roll on."""
    from sweeps.search import Search
    from sweeps.walk.forward import Walk, walk_forward
    from sweeps.walk.progress import WalkProgress

    if ledger:
        _in_files(context, dir)
    loaded = load_study(study, [*(set_ or ()), *([f"search.trials={trials}"] if trials is not None else [])], dir)
    with loaded.located():
        search = Search(loaded)
        metric = next(m for m in search.trainable.metrics if m.name == search.objective)
        asked = Walk(windows, train, test, step, embargo, anchored)
    lengths = (("--windows", windows), ("--train", train), ("--test", test), ("--step", step), ("--embargo", embargo), ("--trials", trials))
    options = [*(("--set", item) for item in set_ or ()), *lengths, ("--slots", slots), ("--cluster", cluster)]
    flags = [str(part) for name, value in options if value is not None for part in (name, value)]
    again = command_for("walkforward", study, dir, *flags, *(["--anchored"] if anchored else []))

    def cut(timeline: Timeline) -> None:
        progress.cut(len(timeline.folds))
        say(Text.assemble((loaded.name, "bold"), f"  {words_of(timeline, anchored)}"))

    progress = WalkProgress(out, metric)
    try:
        with progress, loaded.located():
            made = walk_forward(
                loaded,
                asked,
                dir,
                fresh=fresh,
                slots=slots,
                address=cluster,
                on_cut=cut,
                on_progress=progress.searching,
                on_window=progress.tested,
            )
    except KeyboardInterrupt:
        say(f"Interrupted. What was found so far is safe; the same command goes on: {again}", console=err)
        raise typer.Exit(130) from None
    if made.windows:
        show(made)
        for path, frame in ((csv, made.table()), (daily, made.daily().reset_index())):
            if path is not None:
                frame.to_csv(path, index=False)
                say(f"{many(len(frame), 'row')} written to {path}")
    if made.stopped:
        say(Text.assemble("Stopped. Nothing is lost; the same command goes on: ", (again, "bold")))
        raise typer.Exit(130)


def _in_files(context: typer.Context, dir: Path) -> None:
    """Says that a walk is not kept in a database, or refuses where one was asked for by name."""
    from sweeps.study import StudyError

    why = (
        "a walk's windows were cut, and its winners chosen, on one machine, and what it is lies in its folder: "
        f"its ledgers are files in {dir}/STUDY.walk, not in a database (docs/cluster.md)"
    )
    source = context.get_parameter_source("ledger")
    if source is not None and source.name == "ENVIRONMENT":
        say(Text(f"ALPHASWEEP_LEDGER is not used: {why}", "yellow"), console=err)
        return
    raise StudyError(f"--ledger: {why}. Leave it out.")


def words_of(timeline: Timeline, anchored: bool) -> str:
    """Says how a walk cuts time, such as "6 windows, each searched on 42 days, then tested on 14; 1 day apart"."""
    first = timeline.folds[0]
    train, test = ((w.stop - w.start) * timeline.bar_hours / 24 for w in (first.train, first.tune))
    grow = " and more" if anchored and len(timeline.folds) > 1 else ""
    days = f"{many(len(timeline.folds), 'window')}, each searched on {train:.3g} days{grow}, tested on {test:.3g}"
    return f"{days}; embargo {timeline.embargo_hours:.3g} hours"


def walks_lines(folder: Path) -> list[Text]:
    """Says which walks lie in a folder of studies, and how far each is."""
    from sweeps.walk import record

    lines = []
    for home in record.walks_in(folder):
        kept = record.read_walk(home)
        count = len(kept["windows"]["folds"]) if kept else 0
        done = sum(record.tested_in(home / record.name_of(k)).ended for k in range(count))
        lines.append(Text(f"  {home.name}: {done} of {many(count, 'window')} tested; alphasweep status --dir {home} lists them"))
    return lines


def show(made: WalkResult) -> None:
    """Prints a walk: its windows, the stitched days, and what follows from them."""
    out.print(_windows(made))
    out.print(_lines(made))
    for name, line in describe(made):
        say(Text.assemble(f"  {name:<12} ", line))


def _windows(made: WalkResult) -> Any:
    from results.leaderboard import format_value, shown_unit
    from results.metrics import total_return

    unit, name = shown_unit(made.objective), made.objective.name
    columns: dict[str, list[str]] = {
        "": [str(w.number + 1) for w in made.windows],
        "test\nfrom": [w.test[0] for w in made.windows],
        "\nto": [w.test[1] for w in made.windows],
        "trial": ["none" if w.tested.trial is None else str(w.tested.trial) for w in made.windows],
        f"{name.replace('_', chr(10))}\nin": [format_value(w.inside, unit) for w in made.windows],
        "\nout": [format_value(made.outside(w), unit) for w in made.windows],
        "\nout/in": [_ratio(made.efficiency(w)) for w in made.windows],
        "return\nout": [f"{total_return(w.returns):+.2%}" for w in made.windows],
        "trades\nout": [format_value(w.metrics.get("trades", math.nan), "count") for w in made.windows],
    }
    numbers = list(columns)[3:]
    room = out.width - sum(map(_width, columns.items()))
    for moving in [s.name for s in made.stability() if s.values > 1]:
        column = moving.replace("_", "\n"), [format_value(w.config.get(moving)) for w in made.windows]
        room -= _width(column)
        if room < 0:  # the rest is in the lines below, and in --csv
            break
        columns[column[0]] = column[1]
        numbers.append(column[0])
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return table(list(columns), rows, title=f"{made.study.name}: walk-forward of {many(len(rows), 'window')}", numbers=numbers)


def _width(column: tuple[str, Sequence[str]]) -> int:
    """Returns the characters a column takes, with what is between it and the next."""
    return 2 + max(map(len, [*column[0].split("\n"), *column[1]]))


def _lines(made: WalkResult) -> Any:
    rows = []
    for line in made.lines:
        ahead = "" if line is made.lines[0] else _between(line.ahead_low, line.ahead_high, "+.2f", 100.0)
        fall = "n/a" if math.isnan(line.drawdown) else f"{line.drawdown:.2%}"
        rows.append([line.name, f"{line.gain:+.2%}", _ratio(line.sharpe), _between(line.low, line.high, ".2f"), fall, ahead])
    names = ("", "return", "Sharpe", "95 %\ninterval", "max\ndrawdown", "walk ahead,\n% a day")
    return table(names, rows, title=f"out of sample, {many(len(made.daily()), 'day')} stitched", numbers=names[1:])


def _between(low: float, high: float, digits: str, times: float = 1.0) -> str:
    return "n/a" if math.isnan(low) else f"{low * times:{digits}} to {high * times:{digits}}"


def describe(made: WalkResult) -> list[tuple[str, str | Text]]:
    """Puts what a walk shows into lines: (name, words). docs/walkforward.md explains each."""
    from results.leaderboard import format_value

    code, words = made.paid()
    lines: list[tuple[str, str | Text]] = [("re-optimised", Text(words, _DOUBTED.get(code, "yellow")))]
    if made.assessment is not None:
        lines.append(("verdict", str(made.assessment.verdict)))
    if math.isfinite(made.lines[0].sharpe):
        few = "" if math.isfinite(made.lines[0].sortino) else ": under 30 losing days"
        lines.append(("Sortino", f"{_ratio(made.lines[0].sortino)}, of daily returns{few}"))
    overall = made.overall
    why = "" if math.isfinite(overall) else f": {made.objective.name} is not positive in sample, or n/a"
    of = "" if made.compared == len(made.windows) else f", of the {made.compared} of {len(made.windows)} windows that have both"
    lines.append(("efficiency", f"{_ratio(overall)}, mean {made.objective.name} out of sample over in sample{of}{why}"))
    changes, chances = made.changes
    lines.append(("winner", f"changed {changes} of {many(chances, 'time')}" if chances else "one window"))
    if moving := [s for s in made.stability() if s.values > 1]:
        lines.append(("parameters", "; ".join(map(_moved, moving))))
    if steady := [f"{s.name}={format_value(s.usual)}" for s in made.stability() if s.values == 1]:
        lines.append(("always", ", ".join(steady)))
    without = [w for w in made.windows if w.tested.why]
    if without:
        lines.append(("no winner", Text(f"in {many(len(without), 'window')}: {without[0].tested.why}; cash was held", "yellow")))
    looks = sum(w.trials for w in made.windows)
    lines.append(("looks", f"{looks:,} in the train windows; they count in every verdict over these data"))
    sealed = made.timeline.holdout
    lines.append(("holdout", "sealed" if sealed.stop > sealed.start else "none: the protocol leaves none"))
    return lines


def _moved(s: Stability) -> str:
    """Says how much a parameter moved, such as "lag 1 to 3, 2 values, 1 in 57% of windows"."""
    from results.leaderboard import format_value

    spread = "" if s.low is None or s.high is None else f" {format_value(s.low)} to {format_value(s.high)},"
    return f"{s.name}{spread} {s.values} values, {format_value(s.usual)} in {s.share:.0%} of windows"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "n/a"

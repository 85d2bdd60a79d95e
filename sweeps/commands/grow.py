"""Commands for studies that grow: more points, a fork, a point of one's own, an end to a trial, failures tried again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from sweeps.commands import run as cli_run
from sweeps.commands.console import DirOpt, NameArg, SetOpt, command_for, home_of, many, say

if TYPE_CHECKING:
    from sweeps.requests import Request
    from sweeps.study import Study

app = typer.Typer()

DryOpt = Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")]
SlotsOpt = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Packs, or trials that report, at once; default as many as there is room for.")
]
ClusterOpt = Annotated[str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster; default a private local one.")]
TopOpt = Annotated[int, typer.Option(metavar="N", min=1, help="Rows of the leaderboard to show at the end.")]
TrialsOpt = Annotated[int | None, typer.Option(metavar="N", min=1, help="Ask for this many configurations in all.")]
WaitOpt = Annotated[float, typer.Option(metavar="SECONDS", min=0.0, help="How long to wait for the running study's answer.")]
_POLL = 0.1  # seconds between looks for an answer

EXTEND_HELP = (
    "Ask a study that has run for more: only what is new runs.\n\n"
    "The search it was asked for last is taken from its ledger, so no study file is needed, and changed by --trials and --set; points "
    "that have a result are not evaluated again. Data, settings, protocol, seed and trainable cannot change in a study: `alphasweep fork` "
    "makes a new one. Without a change it goes on where it was stopped."
)
FORK_HELP = (
    "Make a new study of one that has run, with changes, and run it.\n\n"
    "Whatever the two have in common is taken over, not evaluated again: configurations of the same data, settings, protocol, seed and "
    "trainable, whatever the objective, space, constraints or sampler. The new study keeps which one it comes from."
)
ENQUEUE_HELP = (
    "Have a search that learns try a point next.\n\n"
    "Also while it runs in another process; otherwise the next session takes it. The point is one of the trials asked for, not one more: "
    "where all have been suggested it waits until `alphasweep extend` asks for more. Give each parameter of the space with --set."
)
STOP_HELP = (
    "Stop a running study as Ctrl-C does, or end one of its trials.\n\n"
    "A study finishes what is at work and can go on later. A trial ends at its next report, as stopped early, with who did it and why "
    "on record; it does not run again. Only trials that report can be ended."
)
RETRY_HELP = (
    "Evaluate failed trials again: those named, or all with --failed.\n\n"
    "From the ledger, without a study file. A search that was stopped before its end goes on as well."
)


@app.command(help=EXTEND_HELP)
def extend(
    study: NameArg,
    trials: TrialsOpt = None,
    set_: SetOpt = None,
    dry_run: DryOpt = False,
    dir: DirOpt = Path("runs"),
    slots: SlotsOpt = None,
    cluster: ClusterOpt = None,
    top: TopOpt = 10,
) -> None:
    """Ask a study that has run for more: only what is new runs."""
    from sweeps.growing import extended, outlook

    home = home_of(study, dir)
    made = extended(home, _overrides(set_, trials))
    _check(made)
    say(f"{home.name}: {outlook(home, made).words()}{_budget(made)}.")
    if dry_run:
        return
    again = command_for("extend", home.name, dir, *_options(set_, trials, slots, cluster))
    cli_run.run_loaded(made, dir, lambda: again, top=top, slots=slots, cluster=cluster, retry=_retry(home, dir))


@app.command(help=FORK_HELP)
def fork(
    study: NameArg,
    new: Annotated[str, typer.Argument(help="Name of the new study.", show_default=False)],
    set_: SetOpt = None,
    trials: TrialsOpt = None,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the new study's file instead of running it.", dir_okay=False)
    ] = None,
    dry_run: DryOpt = False,
    dir: DirOpt = Path("runs"),
    slots: SlotsOpt = None,
    cluster: ClusterOpt = None,
    top: TopOpt = 10,
) -> None:
    """Make a new study of one that has run, with changes, and run it."""
    from results import pointer
    from sweeps.commands.console import target
    from sweeps.growing import differing, forked, outlook, write_study
    from sweeps.runner import LEDGER

    home = home_of(study, dir)
    made = forked(home, new, _overrides(set_, trials))
    _check(made)
    if other := differing(home, made):
        say(f"{made.name}: its {' and '.join(other)} differ from {home.name}'s, so no result of that one can be taken over.")
    else:
        found = outlook(home, made, own=False)
        taken = f"{many(found.elsewhere, 'has', 'have')} a result that is taken over, {found.left:,} will run"
        taken = "results that others have are taken over as it suggests them" if found.learns else taken
        say(f"{made.name}: {many(found.points, 'point')}: {taken}{_budget(made)}.")
    if to is not None:
        write_study(made, target(to) or to)
        say(f"Wrote {to}; {command_for('run', str(to), dir)} runs it.")
    if dry_run or to is not None:
        return
    options = _options(set_, trials, slots, cluster)
    again = command_for("fork", home.name, dir, made.name, *options)
    cli_run.run_loaded(
        made,
        dir,
        lambda: again,
        top=top,
        slots=slots,
        cluster=cluster,
        forked_from=home.name,
        ledger_url=pointer.base_of(there) if (there := pointer.read(home / LEDGER)) else "",  # where that one's is
        retry=_retry(home.parent / made.name, dir),
    )


@app.command(help=ENQUEUE_HELP)
def enqueue(
    study: NameArg,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter, e.g. --set min_edge=0.003. Repeatable.")
    ] = None,
    wait: WaitOpt = 10.0,
    dir: DirOpt = Path("runs"),
) -> None:
    """Have a search that learns try a point next."""
    from sweeps.growing import check_point, settings_of
    from sweeps.requests import ask

    home = home_of(study, dir)
    room = check_point(home, point := settings_of(set_ or ()))
    request = ask(home, "enqueue", point=point)
    if room is not None:
        more = command_for("extend", home.name, dir, "--trials", str(room))
        say(f"{home.name}: the point waits, for all {room - 1:,} trials have been suggested. One more for it: {more}")
    elif not _running(home):
        say(f"{home.name} is not running; its next session tries the point first: {command_for('extend', home.name, dir)}")
    elif (answer := _answer(home, request, wait)) is None:
        say(f"{home.name}: the point is tried as soon as a result comes in.")
    else:
        say(f"{home.name}: {_refused(answer) or 'the point is tried next'}.")


@app.command(help=STOP_HELP)
def stop(
    study: NameArg,
    trial: Annotated[int | None, typer.Argument(help="Number of a trial; the whole study by default.", show_default=False)] = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, to be kept with it.")] = None,
    wait: WaitOpt = 10.0,
    dir: DirOpt = Path("runs"),
) -> None:
    """Stop a running study as Ctrl-C does, or end one of its trials."""
    from sweeps.growing import check_trial
    from sweeps.requests import ask
    from sweeps.study import StudyError

    home = home_of(study, dir)
    if trial is not None:
        check_trial(home, trial)
    if not _running(home):
        raise StudyError(f"{home.name} is not running, so there is nothing to stop")
    request = ask(home, "stop", reason=reason or "", **({} if trial is None else {"trial": trial}))
    answer = _answer(home, request, wait)
    if trial is None:
        said = "stops when what is at work is done" if answer else "is asked to stop; it has not answered yet"
        say(f"{home.name} {_refused(answer) or said}. Nothing is lost: {command_for('extend', home.name, dir)} goes on.")
    elif answer is None:
        say(f"{home.name}, trial {trial}: it ends at its next report.")
    else:
        say(f"{home.name}, trial {trial}: {_refused(answer) or 'stopped'}.")


@app.command(help=RETRY_HELP)
def retry(
    study: NameArg,
    trials: Annotated[list[int] | None, typer.Argument(metavar="[TRIAL]...", help="Numbers of failed trials.", show_default=False)] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed.")] = False,
    dry_run: DryOpt = False,
    dir: DirOpt = Path("runs"),
    slots: SlotsOpt = None,
    cluster: ClusterOpt = None,
    top: TopOpt = 10,
) -> None:
    """Evaluate failed trials again: those named, or all with --failed."""
    from sweeps.growing import failures

    home = home_of(study, dir)
    if failed == bool(trials):
        raise typer.BadParameter("name trials, or give --failed for all that failed; one of the two.")
    found = failures(home, trials or ())
    if not found:
        say(f"{home.name}: nothing to do, no trial has failed.")
        return
    which = ["--failed"] if failed else [str(trial) for trial in trials or ()]
    again = command_for("retry", home.name, dir, *which, *_options((), None, slots, cluster))
    codes = []
    for made, numbers in found:
        listed = ", ".join(map(str, numbers[:20])) + (" …" if len(numbers) > 20 else "")
        say(f"{home.name}: {many(len(numbers), 'failed trial')} to be evaluated again ({listed}).")
        if dry_run:
            continue
        try:
            cli_run.run_loaded(
                made, dir, lambda: again, top=top, retry_failed=numbers, slots=slots, cluster=cluster, retry=_retry(home, dir)
            )
        except typer.Exit as ended:
            if ended.exit_code != 1:  # somebody stopped it; a search in which all failed does not keep the others from being tried
                raise
            codes.append(ended.exit_code)
    if codes:
        raise typer.Exit(1)


def _overrides(set_: list[str] | None, trials: int | None) -> list[str]:
    return [*(set_ or ()), *([f"search.trials={trials}"] if trials is not None else [])]


def _options(set_: Any, trials: int | None, slots: int | None, cluster: str | None) -> list[str]:
    given = [*(("--set", item) for item in set_ or ()), ("--trials", trials), ("--slots", slots), ("--cluster", cluster)]
    return [str(part) for name, value in given if value is not None for part in (name, value)]


def _budget(study: Study) -> str:
    return " unless its `stop` section ends it before" if study.stop else ""


def _retry(home: Path, dir: Path) -> str:
    return command_for("retry", home.name, dir, "--failed")


def _check(study: Study) -> None:
    """Refuses what would not run, also where nothing is run."""
    from sweeps.search import Search

    with study.located():
        Search(study).check()


def _running(home: Path) -> bool:
    from results.lock import is_written
    from sweeps.home import LEDGER

    return is_written(home / LEDGER)


def _answer(home: Path, request: Request, wait: float) -> dict[str, Any] | None:
    """Waits until a request has been carried out or refused; returns the event, None if that takes longer."""
    from results import Ledger
    from sweeps.home import LEDGER
    from sweeps.inbox import answer_to
    from sweeps.requests import waits

    until = time.monotonic() + wait
    while waits(home, request):
        if time.monotonic() >= until:
            return None
        time.sleep(_POLL)
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        return answer_to(ledger, request)


def _refused(answer: dict[str, Any] | None) -> Text | str:
    """Returns why a request was refused, "" if it was carried out."""
    return f"refused: {answer['detail']['why']}" if answer and answer["kind"] == "request_refused" else ""

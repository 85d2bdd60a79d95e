"""The `alphasweep track` commands: writing to trackers what a study has found, and how far they are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from sweeps.commands import history as cli_history
from sweeps.commands.console import DirOpt, NameArg, command_for, err, home_of, out, say, studies_in, table

if TYPE_CHECKING:
    from sweeps.tracking.beside import Beside
    from sweeps.tracking.follow import Follower
    from sweeps.tracking.settings import Wanted
    from sweeps.tracking.state import State, WriterLock

app = typer.Typer(help="Trackers of a study (W&B, MLflow, TensorBoard, JSON lines): write what is missing, show how far they are.")
app.command(name="import-log", help=cli_history.HELP)(cli_history.import_log)
_PATIENCE = 3.0  # seconds a run waits for its trackers at the end, at most
_SHARE = 0.01  # and so much of the time it took
_LOOK = 0.5  # seconds between looks whether another writer has ended

SYNC_HELP = (
    "Write to a study's trackers what they lack, and check that they hold it.\n\n"
    "Everything is taken from the ledger, so it can be done any time, also of a study that ran without trackers: name one with --tracker. "
    "What a tracker has is not written again. Exit 1 if one could not be written, or does not hold afterwards what the ledger has; "
    "a tracker that cannot be asked what it holds is not checked."
)


@app.command(help=SYNC_HELP)
def sync(
    study: NameArg,
    tracker: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this tracker, also one the study was not run with. Repeatable.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option, e.g. --set tracking.wandb.mode=online. Repeatable.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for a process that is writing to them to end, as that of a running study.")
    ] = False,
    dir: DirOpt = Path("runs"),
) -> None:
    """Write to a study's trackers what they lack, and check that they hold it."""
    from sweeps.study import StudyError
    from sweeps.tracking.state import WriterLock

    home = home_of(study, dir)
    asked, wanted = _asked(home, tracker or (), set_ or ())  # what is wrong is said before anybody waits
    lock = WriterLock(home)
    try:
        if not lock.take():
            if not wait:
                again = command_for("track", "status", Path("runs"), home.name, *([] if dir == Path("runs") else ["--dir", str(dir)]))
                raise StudyError(
                    f"{home.name}: process {lock.owner()} is writing to its trackers; {again} shows how far it is. --wait waits for its end"
                )
            _wait(home, lock)
            asked, wanted = _asked(home, tracker or (), set_ or ())  # they may be others since
        asked.write(home)
        results = [(name, *_write(home, name, given)) for name, given in wanted.items()]
    finally:
        lock.release()
    ok = True
    rows: list[list[str | Text]] = []
    for name, follower, state, problems in results:
        ok = ok and not problems
        done = Text("does not match", "bold red") if problems else Text(_told(follower), "green")
        rows.append([name, f"{state.done:,}", f"{state.points:,}", f"{state.rows:,}", f"{state.trials:,}", done])
    numbers = ("results", "points", "rows", "runs")
    out.print(table(("tracker", *numbers, ""), rows, title=f"{home.name}: what the ledger has, and its trackers now hold", numbers=numbers))
    for name, _, _, problems in results:
        for problem in problems:
            say(Text(f"  {name}: {problem}", "red"))
    if not ok:
        raise typer.Exit(1)


def _asked(home: Path, trackers: Sequence[str], changes: Sequence[str]) -> tuple[Wanted, dict[str, Any]]:
    """Returns what a study's tracking is to be from now on, and of its trackers those to be written, with their options.

    Raises:
        StudyError: An option that is none, a tracker that is not installed, or none at all.
    """
    from results import Ledger
    from sweeps.home import LEDGER
    from sweeps.study import Study, StudyError
    from sweeps.tracking.settings import KNOWN, Wanted, not_installed

    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        spec, kept = dict(ledger.header.spec), Wanted.read(home)
    spec["tracking"] = (kept.trackers if kept else None) or spec.get("tracking") or {}
    spec["tracking"] |= {name: {} for name in trackers if name not in spec["tracking"]}
    if strange := [item for item in changes if not item.startswith("tracking.")]:
        raise StudyError(f"--set {strange[0].partition('=')[0]}: a study that has run is only told; options begin with tracking.")
    options = Study.parse(spec, home.name).changed(changes, home.name).tracking
    wanted = {name: options[name] for name in (trackers or options)}
    if not wanted:
        raise StudyError(f"{home.name} has no tracker; name one, for example --tracker {next(iter(KNOWN))}")
    for name in wanted:
        if missing := not_installed(name):
            raise StudyError(f"tracking.{name}: {missing}")
    return Wanted(options, kept is not None and kept.stepping), wanted


def _wait(home: Path, lock: WriterLock) -> None:
    """Waits until whoever writes to a study's trackers has ended, and takes their place.

    Raises:
        typer.Exit: 130, where Ctrl-C ended the wait.
    """
    from sweeps.tracking.settings import Wanted
    from sweeps.tracking.state import State

    def words() -> str:
        kept = Wanted.read(home)
        told = [(name, State.read(home, name)) for name in (kept.trackers if kept else ())]
        far = ", ".join(f"{name} {state.done:,} results" for name, state in told if state is not None)
        return f"{home.name}: waiting for process {lock.owner()}, which is writing to its trackers{f' ({far})' if far else ''}"

    said = words()
    try:
        if not out.is_terminal:
            say(said)
        with out.status(Text(said)) as status:  # shows itself on a terminal only
            while not lock.take():
                time.sleep(_LOOK)
                status.update(Text(words()))
    except KeyboardInterrupt:
        say(f"Interrupted. Nothing was written by this command, and process {lock.owner()} goes on.", console=err)
        raise typer.Exit(130) from None


def _write(home: Path, name: str, options: Mapping[str, Any]) -> tuple[Follower, State, list[str]]:
    """Writes what one tracker lacks; returns how far it is, and what is wrong with what it holds."""
    from dataclasses import replace

    from results.secrets import redacted
    from sweeps.tracking.follow import Follower
    from sweeps.tracking.state import GIVEN_UP, State

    latest = State(name)

    def tell(state: State) -> None:
        nonlocal latest
        latest = state

    follower = Follower(home, name, options, resting=lambda: True, wait=lambda seconds: None, tell=tell)
    try:
        state = follower.run()
    except Exception as error:  # whatever a tracker raises: the others are written, and the ledger has everything
        words = redacted(str(error) or type(error).__name__)
        state = replace(latest, state=GIVEN_UP, error=words)
        state.write(home)
        return follower, state, [words]
    if follower.wrote or not state.same(State.read(home, name)):
        state.write(home)
    return follower, state, follower.problems


def _told(follower: Follower) -> str:
    from results.tracking.tracker import Verifies

    checked = "checked" if isinstance(follower.tracker, Verifies) else "not checked"
    return f"{'written' if follower.wrote else 'nothing to write'}, {checked}"


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(help="One study; default all.", show_default=False)] = None, dir: DirOpt = Path("runs")
) -> None:
    """Show how far the trackers of a study, or of all studies of a folder, are."""
    from results import Ledger, LedgerError
    from sweeps.home import LEDGER
    from sweeps.tracking.settings import Wanted
    from sweeps.tracking.state import State, writer_of

    homes = [home_of(study, dir)] if study else [dir / name for name in studies_in(dir)]
    rows: list[list[str | Text]] = []
    notes = []
    for home in homes:
        wanted, process = Wanted.read(home), writer_of(home)
        if wanted is None:
            continue
        try:
            with Ledger.open(home / LEDGER, readonly=True) as ledger:
                trials = ledger.counts()["trials"]
        except LedgerError as error:
            notes.append(Text(f"  {home.name}: {error}", "red"))
            continue
        for name in wanted.trackers:
            found = State.read(home, name) or State(name, "nothing written")
            behind = found.state == "written" and found.done < trials
            words = Text("behind" if behind else found.state, "green" if found.state == "written" and not behind else "yellow")
            counts = [f"{found.done:,} of {trials:,}", *(f"{n:,}" for n in (found.points, found.rows, found.trials))]
            rows.append([home.name, name, words, *counts, found.updated[5:16].replace("T", " ")])
            if found.error:
                notes.append(Text(f"  {home.name}, {name}: {found.error}", "red"))
        if process > 0:
            notes.append(Text(f"  {home.name}: process {process} writes"))
    if not rows and not notes:
        which = f"{homes[0].name} has" if study else f"No study in {dir} has"
        say(f"{which} no tracker; {command_for('track', 'sync', Path('runs'), 'STUDY', '--tracker', 'wandb')} writes one.")
        return
    numbers = ("results", "points", "rows", "runs")
    out.print(table(("study", "tracker", "state", *numbers, "UTC"), rows, numbers=numbers))
    for line in notes:
        say(line)


def where_lines(home: Path, trackers: Mapping[str, Any]) -> Iterator[str | Text]:
    """Says where a run's results are shown as they come."""
    from sweeps.tracking.beside import LOG
    from sweeps.tracking.settings import FOLDER, not_installed

    if trackers:
        say_where = ", ".join(f"{name} {options['mode']}" if "mode" in options else name for name, options in trackers.items())
        yield f"  {'tracking':<12} {say_where} (log: {home / FOLDER / LOG})"
    for name in trackers:
        if missing := not_installed(name):
            yield Text(f"  {'':<12} {name}: {missing}; the study runs without, and {_sync(home)} writes it later", "yellow")


def end_lines(tracking: Beside | None, seconds: float, dir: Path) -> Iterator[str | Text]:
    """Says whether the trackers have been told everything; waits for them a little.

    Args:
        tracking: Of the session.
        seconds: It took.
        dir: Where studies live.
    """
    if tracking is None or not tracking.trackers:
        return
    if tracking.wait(min(_PATIENCE, _SHARE * seconds)):
        yield f"Tracking: {', '.join(tracking.trackers)} written."
        return
    from sweeps.tracking.beside import LOG
    from sweeps.tracking.settings import FOLDER

    left = tracking.unwritten()
    names = ", ".join(name for name, _ in left) or ", ".join(tracking.trackers)
    if tracking.process is not None and tracking.process.poll() is None:
        how = command_for("track", "status", Path("runs"), tracking.home.name, *([] if dir == Path("runs") else ["--dir", str(dir)]))
        yield f"Tracking: {names} still being written by process {tracking.process.pid}; {how} shows how far."
    else:
        yield Text(
            f"Tracking: {names} not written; {_sync(tracking.home)} does it. The log is {tracking.home / FOLDER / LOG}",
            "yellow",
        )
    for name, error in left:
        if error:
            yield Text(f"  {name}: {error}", "yellow")


def _sync(home: Path) -> str:
    return command_for("track", "sync", Path("runs"), home.name, *([] if home.parent == Path("runs") else ["--dir", str(home.parent)]))

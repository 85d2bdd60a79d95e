"""Commands that look at studies while they run: watch, serve."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from sweeps.commands.console import DirOpt, NameArg, command_for, err, home_of, out, say

app = typer.Typer()

WATCH_HELP = (
    "Show a study while it runs: progress, best so far, leaderboard, trials at work, budget.\n\n"
    "It reads the ledger beside the run and ends when the run ends; Ctrl-C ends the view and leaves the run alone. In a pipe there is a "
    "line every ten seconds, and with --once one frame as plain text."
)


@app.command(help=WATCH_HELP)
def watch(
    study: NameArg,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", min=0.2, max=3600.0, help="Between two looks.")] = 2.0,
    dir: DirOpt = Path("runs"),
) -> None:
    """Show a study while it runs."""
    from sweeps.live import watch as view

    home = home_of(study, dir)
    if once:
        view.once(home, out)
        return
    try:
        view.follow(home, out, every)
    except KeyboardInterrupt:
        say(f"The view has ended, the run has not: {command_for('watch', study, dir)} shows it again.", console=err)


SERVE_HELP = (
    "Show the studies of a folder on a web page of this computer, while they run.\n\n"
    "The page answers on 127.0.0.1 only, to whoever opens the link printed here, and changes nothing. Ctrl-C ends it; runs go on. "
    "From another computer: ssh -L PORT:127.0.0.1:PORT HOST, with --port PORT, and the same link."
)


@app.command(help=SERVE_HELP)
def serve(
    study: Annotated[str | None, typer.Argument(help="Only this study; default all of the folder.", show_default=False)] = None,
    dir: DirOpt = Path("runs"),
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Show the studies of a folder on a web page of this computer."""
    from sweeps.live import server
    from sweeps.live.security import Keys
    from sweeps.study import StudyError

    if not study and not dir.is_dir() and dir != Path("runs"):
        raise StudyError(f"--dir {dir}: no such folder")
    only = home_of(study, dir).name if study else None
    try:
        listening = server.listen(port)
    except OSError as error:
        raise StudyError(f"--port {port}: {error.strerror}; leave --port out to take a free one") from None
    keys = Keys(listening.getsockname()[1])
    link = keys.link(f"/studies/{only}" if only else "/")
    say(f"Studies of {dir}: {link}")
    say("It answers on this computer only. Ctrl-C ends it; runs go on.")
    opened = _open(link) if open_ else None
    try:
        with suppress(KeyboardInterrupt):
            server.serve(server.application(dir, keys, only), listening)
    finally:
        if opened is not None:
            opened.unlink(missing_ok=True)


def _open(link: str) -> Path:
    """Opens the link by way of a file only its owner can read: a browser's command line can be read by everybody."""
    import html
    import tempfile
    import webbrowser

    with tempfile.NamedTemporaryFile("w", prefix="alphasweep-", suffix=".html", delete=False, encoding="utf-8") as file:
        file.write(f'<!DOCTYPE html><meta http-equiv="refresh" content="0;url={html.escape(link)}"><title>alphasweep</title>')
    if not webbrowser.open(Path(file.name).as_uri()):
        say("No browser could be opened; open the link above.", console=err)
    return Path(file.name)

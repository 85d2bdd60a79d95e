"""The `alphasweep doctor` command: whether this machine is fit to run studies."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from sweeps.commands.console import DirOpt, out, say, table

app = typer.Typer()
_LOOKS = {"ok": "green", "warning": "yellow", "failed": "bold red"}


@app.command()
def doctor(
    dir: DirOpt = Path("runs"),
    ledger: Annotated[str | None, typer.Option(metavar="URL", envvar="ALPHASWEEP_LEDGER", help="A shared ledger to try.")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster to try.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Look whether this machine is fit to run studies, and say what to do where it is not; exit 1 if studies cannot run."""
    from cluster.doctor import examine

    found = []
    with out.status("looking") if not as_json else out.capture():
        found = list(examine(dir, ledger or "", cluster))
    if as_json:
        say(json.dumps([asdict(each) for each in found], indent=2))
    else:
        rows: list[list[str | Text]] = [[each.what, Text(each.state, _LOOKS[each.state]), each.found, each.todo] for each in found]
        out.print(table(("", "", "found", "what to do"), rows))
    if any(each.state == "failed" for each in found):
        raise typer.Exit(1)

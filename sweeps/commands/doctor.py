"""The `alphasweep doctor` command: whether this machine is fit to run studies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from sweeps.commands.console import DirOpt, HostOpt, out, say, table

if TYPE_CHECKING:
    from cluster.doctor import Finding

app = typer.Typer()
_LOOKS = {"ok": "green", "warning": "yellow", "failed": "bold red"}


@app.command()
def doctor(
    dir: DirOpt = Path("runs"),
    ledger: Annotated[str | None, typer.Option(metavar="URL", envvar="ALPHASWEEP_LEDGER", help="A shared ledger to try.")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster to try.")] = None,
    host: HostOpt = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Look whether this machine is fit to run studies, and say what to do where it is not; exit 1 if studies cannot run."""
    from cluster.doctor import examine

    found = []
    with out.status("looking") if not as_json else out.capture():
        found = [*examine(dir, ledger or "", cluster), *_lanes(host)]
    if as_json:
        say(json.dumps([asdict(each) for each in found], indent=2))
    else:
        rows: list[list[str | Text]] = [[each.what, Text(each.state, _LOOKS[each.state]), each.found, each.todo] for each in found]
        out.print(table(("", "", "found", "what to do"), rows))
    if any(each.state == "failed" for each in found):
        raise typer.Exit(1)


def _lanes(path: Path | None) -> Iterator[Finding]:
    """Yields what is to be said of a host file's lanes; nothing where there is no host file."""
    from cluster.doctor import Finding
    from sweeps.lanes.host import load
    from sweeps.study_yaml import StudyError

    try:
        host = load(path)
    except StudyError as error:
        yield Finding("lanes", "warning", str(error), "correct the host file, or leave it out: --host names another")
        return
    for words in host.absent.values():
        yield Finding("lanes", "warning", words, "studies in other lanes, and those that run alone, are not concerned")
    if host.lanes and not host.absent:
        yield Finding("lanes", "ok", f"{len(host.lanes)} in {host.where}, all of it is there")

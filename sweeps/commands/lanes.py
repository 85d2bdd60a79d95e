"""Several studies at once at the command line: `alphasweep run A B`, and who is in which lane."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from sweeps.commands.console import out, say, table

if TYPE_CHECKING:
    from cluster.lanes import Lane
    from sweeps.study import Study


def split(given: str) -> tuple[str, str | None]:
    """Returns a study and its lane, of STUDY@LANE; a file whose name has an @ in it is a file."""
    study, sign, lane = given.rpartition("@")
    return (study, lane) if sign and study and lane and not Path(given).exists() else (given, None)


def lanes_of(given: Sequence[str], studies: Sequence[Study], host_file: Path | None) -> list[Lane | None]:
    """Says in which lane each study runs; None where a single study has the machine to itself.

    Args:
        given: As on the command line, STUDY or STUDY@LANE.
        studies: What they are, in the same order.
        host_file: Of `--host`.
    """
    import os
    from dataclasses import replace

    from cluster.lanes import NAME
    from sweeps.lanes.host import Host, deal, load, wants_card
    from sweeps.study import StudyError

    names = [study.name for study in studies]
    if twice := [name for name in names if names.count(name) > 1]:
        raise StudyError(f"{twice[0]} is given twice; a study has one driver. Another one of its kind needs a name of its own (name: …)")
    if NAME in os.environ and len(studies) == 1:  # put there by whoever started this process
        return [None]
    host = Host() if NAME in os.environ else load(host_file)  # a lane is shared out like a machine
    named = {study.name: lane for item, study in zip(given, studies, strict=True) if (lane := split(item)[1]) is not None}
    for lane in named.values():
        host.lane(lane)
    host = replace(host, studies={**host.studies, **named})
    if len(studies) == 1 and studies[0].name not in host.studies:
        return [None]
    return list(deal([(study.name, wants_card(study)) for study in studies], host))


@contextmanager
def inside(lane: Lane | None, study: str) -> Iterator[None]:
    """Puts this process into a lane, if there is one."""
    from cluster.lanes import enter, held

    if lane is None:
        yield
        return
    say(Text.assemble((study, "bold"), f"  in lane {lane.name}: {lane.words()}"))
    with held(lane, study):
        enter(lane)
        yield


def run_together(given: Sequence[str], studies: Sequence[Study], lanes: Sequence[Lane | None], options: Sequence[str]) -> None:
    """Runs studies at once and shows what came out of each.

    Args:
        given: As on the command line.
        studies: What they are.
        lanes: Where each runs.
        options: Of `alphasweep run`, passed on to all.

    Raises:
        typer.Exit: 130 where they were stopped, 1 where one failed.
    """
    from sweeps.lanes.several import STOPPED, Job, run_several
    from sweeps.lanes.view import SeveralProgress

    jobs = [
        Job(study.name, lane, ("run", split(item)[0], *options)) for item, study, lane in zip(given, studies, lanes, strict=True) if lane
    ]
    for job in jobs:
        say(Text.assemble((job.study, "bold"), f"  in lane {job.lane.name}: {job.lane.words()}"))
    with SeveralProgress(out) as view:
        ended = run_several(lambda begun: [] if begun else jobs, view.update, width=out.width, colour=out.is_terminal)
    for driver in ended:
        say(Text(f"\n── {driver.job.study} ({driver.state}) ──", "bold"))
        out.file.write(driver.output())
        out.file.flush()
    if any(driver.code == STOPPED for driver in ended):
        raise typer.Exit(STOPPED)
    if any(driver.code for driver in ended):
        raise typer.Exit(1)


def show_lanes(host_file: Path | None) -> None:
    """Shows the lanes of a host file and who is in which."""
    from cluster.lanes import holders
    from sweeps.lanes.host import load

    host = load(host_file)
    for words in host.absent.values():
        say(Text(f"No study can run there: {words}", "yellow"))
    inside = {holder.lane: holder for holder in holders()}
    rows = []
    for name in [*host.lanes, *(name for name in inside if name not in host.lanes)]:
        lane, holder = host.lanes.get(name), inside.get(name)
        has = lane.words() if lane else "dealt out when it began"
        if holder is None:
            rows.append([name, has, "–", "", "", "", ""])
            continue
        since = time.strftime("%H:%M:%S", time.localtime(holder.since))
        rows.append([name, has, holder.study, str(holder.pid), since, f"{holder.cores} / {holder.cards}", f"{holder.busy:.2f}"])
    if not rows:
        say("No lanes: there is no host.yaml here, and no studies run side by side. docs/lanes.md explains.")
        return
    out.print(table(("lane", "has", "study", "process", "since", "cores / cards", "busy cores"), rows, numbers=("process", "busy cores")))

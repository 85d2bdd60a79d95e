"""The `alphasweep campaign` commands: studies as stages, each begun with what others have found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from sweeps.commands.console import DirOpt, HostOpt, LedgerOpt, command_for, out, say, table

if TYPE_CHECKING:
    from sweeps.campaign.spec import Campaign, Stage

app = typer.Typer(
    help="Studies as stages: what one has found is what the next begins with. docs/campaigns.md explains.", no_args_is_help=True
)
CampaignArg = Annotated[str, typer.Argument(help="A campaign file, or a name from `alphasweep campaign ls`.", show_default=False)]


@app.command()
def ls() -> None:
    """List the campaigns of the library."""
    from sweeps.campaign.spec import library, load

    made = [load(path) for path in library().values()]
    out.print(table(("campaign", "stages", "what"), [[c.name, str(len(c.stages)), c.description] for c in made], numbers=("stages",)))


@app.command()
def show(campaign: CampaignArg, host: HostOpt = None, dir: DirOpt = Path("runs")) -> None:
    """Show the stages, what each needs and is given, and the lane it would run in. Runs nothing."""
    from sweeps.campaign.conduct import Conduct
    from sweeps.campaign.spec import load
    from sweeps.lanes.host import load as load_host

    made = load(campaign)
    lanes = Conduct(made, dir, load_host(host)).lanes
    rows = [
        [s.name, s.study, ", ".join(s.needs) or "–", "; ".join(_carried(s)) or "–", lanes[s.name].words()] for s in made.stages.values()
    ]
    out.print(table(("stage", "study", "needs", "is given", "runs on"), rows, title=f"{made.name}: {made.description}".rstrip(": ")))


@app.command()
def run(
    campaign: CampaignArg,
    dir: DirOpt = Path("runs"),
    host: HostOpt = None,
    renew: Annotated[bool, typer.Option("--renew", help="Set aside and run again stages that were given something else before.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Evaluate again what failed in earlier sessions.")] = False,
    ledger: LedgerOpt = None,
) -> None:
    """Run a campaign, or go on with it: stages start as soon as what they need is there, each in its lane."""
    from sweeps.campaign.conduct import Conduct, conduct
    from sweeps.campaign.spec import load
    from sweeps.lanes.host import load as load_host
    from sweeps.lanes.several import STOPPED
    from sweeps.lanes.view import SeveralProgress

    made = load(campaign)
    if ledger:
        from results import pointer

        pointer.schemas(ledger)  # before any stage is begun, or set aside
    options = [*(["--retry-failed"] if retry_failed else []), *(["--ledger", ledger] if ledger else [])]
    say(Text.assemble((made.name, "bold"), f"  {made.description}"))
    conductor = Conduct(made, dir, load_host(host), options, renew, _say_carried)
    with SeveralProgress(out) as view:
        ended = conduct(conductor, view.update, width=out.width, colour=out.is_terminal)
    for driver in ended:
        if driver.code not in (0, STOPPED):
            say(Text(f"\n── {driver.job.study} ({driver.state}) ──", "bold"))
            out.file.write(driver.output())
            out.file.flush()
    for stage, why in conductor.blocked.items():
        say(Text.assemble((f"{stage} was not started: ", "red"), why))
    _results(made, dir)
    if any(driver.code == STOPPED for driver in ended):
        again = command_for("campaign run", campaign, dir, *(["--ledger", ledger] if ledger else []))
        say(f"Stopped. Nothing is lost; the same command goes on: {again}")
        raise typer.Exit(STOPPED)
    if conductor.blocked or any(driver.code for driver in ended):
        raise typer.Exit(1)


@app.command()
def results(campaign: CampaignArg, dir: DirOpt = Path("runs")) -> None:
    """Show what every stage has found, and how its winner differs from the baseline's."""
    from sweeps.campaign.spec import load

    _results(load(campaign), dir)


def _results(made: Campaign, folder: Path) -> None:
    from results.leaderboard import format_value, shown_unit
    from sweeps.campaign.compare import compare

    rows: list[list[str | Text]] = []
    for found in compare(made, folder):
        best = (
            "–"
            if found.metric is None or math.isnan(found.best)
            else f"{found.metric.name} {format_value(found.best, shown_unit(found.metric))}"
        )
        if math.isnan(found.gain):
            gain: str | Text = "the baseline" if found.stage == made.baseline else found.why or "–"
        elif found.low == found.high == 0.0:
            gain = f"on none of {found.days} days another"
        else:
            beyond = "" if found.low <= 0.0 <= found.high else "green" if found.low > 0.0 else "red"
            gain = Text(f"{found.gain:+.2%} a day ({found.low:+.2%} to {found.high:+.2%}, {found.days} days)", beyond)
        rows.append([found.stage, found.study or "–", f"{found.trials:,}", best, gain])
    names = ["stage", "study", "trials", "best", *(["winner's daily return less the baseline's, 95 % interval"] if made.baseline else [])]
    out.print(table(names, [row[: len(names)] for row in rows], title=f"{made.name}: what the stages found", numbers=("trials",)))
    say(
        "Each winner is the best of its stage on days it was chosen on: in-sample. alphasweep leaderboard STUDY says whether to believe it."
    )


def _say_carried(stage: Stage, words: Sequence[str]) -> None:
    for line in words:
        say(Text(f"  {stage.name}: {line}", "dim"))


def _carried(stage: Stage) -> list[str]:
    made = []
    for carry in stage.carry:
        which = {"best": "the best", "top_k": f"the best {carry.k}", "pareto": "what nothing dominates"}[carry.what]
        parts = [*(carry.fix or {}).values(), *(f"values of {name}" for name in (carry.sweep or {}).values())]
        parts += ["points to try first"] if carry.enqueue else []
        parts += [f"weights as {carry.adapter}"] if carry.adapter else []
        made.append(f"{', '.join(parts)} of {which} of {carry.source}")
    return made

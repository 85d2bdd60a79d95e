"""Commands about what came out: leaderboard, show, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.columns import Columns
from rich.text import Text

from sweeps.console import DirOpt, NameArg, command_for, export, home_of, out, say, table

app = typer.Typer()
IN_SAMPLE = Text("In-sample figures: they say what won, not what will.", "yellow")


@app.command(name="leaderboard")
def leaderboard_(
    study: NameArg,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Rows.")] = 20,
    sort: Annotated[str | None, typer.Option(metavar="METRIC", help="Rank by this metric; default the study's objective.")] = None,
    csv: Annotated[Path | None, export("CSV")] = None,
    json: Annotated[Path | None, export("JSON")] = None,
    parquet: Annotated[Path | None, export("Parquet")] = None,
    dir: DirOpt = Path("runs"),
) -> None:
    """Show the best configurations of a study; write all of them to a file."""
    from results import Ledger
    from results.leaderboard import leaderboard, render
    from sweeps.runner import LEDGER

    with Ledger.open(home_of(study, dir) / LEDGER, readonly=True) as ledger:
        out.print(render(leaderboard(ledger, sort, top), width=out.width))
        say(IN_SAMPLE)
        for path, fmt in ((csv, "csv"), (json, "json"), (parquet, "parquet")):
            if path:
                say(f"{ledger.export(path, fmt):,} trials written to {path}")


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

    with Ledger.open(home_of(study, dir) / LEDGER, readonly=True) as ledger:
        row, header = ledger.trial(trial), ledger.header
    keys = ("config_id", "status", "error", "source", "attempt", "worker", "ended")
    facts: list[list[str | Text]] = [[key, str(row[key])] for key in keys if row.get(key)]
    facts.append(["seconds", "n/a" if row["seconds"] is None else f"{row['seconds']:.3g}"])
    if not row["intact"]:
        facts.append(["checksum", Text("does not match: changed after it was accepted", "bold red")])
    config, fixed = row["config"], header.spec.get("fixed", {})
    parameters = [
        [name, format_value(value), Text("default", "dim") if name not in config else "fixed" if name in fixed else "swept"]
        for name, value in {**header.defaults, **config}.items()
    ]
    values = row.get("metrics") or {}
    metrics = [[metric.name, format_value(values.get(metric.name), metric.unit)] for metric in header.metrics]
    out.print(table(("", ""), facts, title=f"{header.name}, trial {row['trial']}"))
    out.print(Columns([table(("parameter", "value", ""), parameters), table(("metric", "value"), metrics)]))


@app.command()
def verify(study: NameArg, dir: DirOpt = Path("runs")) -> None:
    """Prove that each point has exactly one accepted result, with a matching checksum."""
    from sweeps.runner import verify as verify_study

    found = verify_study(home_of(study, dir))
    names = ("points", "completed", "failed", "missing", "duplicated", "corrupt", "unexpected")
    rows = [*([name, f"{getattr(found, name):,}"] for name in names), ["certificate", found.certificate]]
    out.print(table(("", ""), rows, title=f"{study}: {'verified' if found.ok else 'NOT verified'}"))
    for line in found.problems:
        say(Text(f"  {line}", "red"))
    if found.failed:
        say(Text(f"  {found.failed:,} points have failed and have no metrics; {command_for('status', study, dir)} shows why", "yellow"))
    if not found.ok:
        raise typer.Exit(1)

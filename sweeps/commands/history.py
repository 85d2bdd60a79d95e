"""The `alphasweep track import-log` command: progress logs and sweep tables of the time before, as a study marked unverified."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from sweeps.commands.console import DirOpt, command_for, err, many, out, say, table

if TYPE_CHECKING:
    from sweeps.history.columns import Column
    from sweeps.history.importing import Plan
    from sweeps.history.reading import Found, Part
    from sweeps.history.storing import Outcome
    from sweeps.history.tables import Problem

_LISTED = 20
_DIRECTIONS = {"max": "higher is better", "min": "lower is better", None: "no direction"}

HELP = (
    "Import progress logs in markdown and CSV files of sweeps, as a study whose results are marked unverified.\n\n"
    "Tables in markdown with a metric among their columns are read, and code blocks that are nothing but name=value. Columns with the name "
    "of a metric (return, Sharpe, max drawdown, val loss, …) become metrics, percent becomes fractions; notes are kept with their trial; "
    "all else is a parameter. --dry-run shows what would become of each column.\n\n"
    "Imported twice is imported once, and of a longer version of a log only new rows are added. A row that has changed is reported and "
    "stays as it was. Exit 1 if a row changed or could not be read; the others are imported."
)


def import_log(
    files: Annotated[list[Path], typer.Argument(help="Markdown files, and CSV files by their ending.", show_default=False)],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the study they become, or are added to.")],
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME[:max|min][:UNIT]", help="This column is a metric, e.g. 'win rate::%'. Repeatable."),
    ] = None,
    param: Annotated[list[str] | None, typer.Option("--param", metavar="NAME", help="This column is a parameter. Repeatable.")] = None,
    note: Annotated[
        list[str] | None, typer.Option("--note", metavar="NAME", help="This column is commentary, and tells no rows apart. Repeatable.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option("--objective", metavar="METRIC", help="Metric that ranks; default one that most rows have.")
    ] = None,
    section: Annotated[
        str | None, typer.Option("--section", metavar="TEXT", help="What rows of CSV files are filed under; default the file's name.")
    ] = None,
    from_notes: Annotated[
        bool, typer.Option("--from-notes", help="What notes in markdown tables have as name=value is a column too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be imported, and write nothing.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Set aside what was imported under this name, and start over.")] = False,
    dir: DirOpt = Path("runs"),
) -> None:
    """Import progress logs in markdown and CSV files of sweeps, as a study whose results are marked unverified."""
    from sweeps.history.importing import Options, carry_out, check_name, plan

    check_name(name)
    options = Options(tuple(metric or ()), tuple(param or ()), tuple(note or ()), objective or "", section or "", from_notes)
    made = plan(files, dir / name, options, fresh)
    show_found(made.found, whole=dry_run)
    with out.status("importing") as status:
        try:
            done = carry_out(made, dry=dry_run, fresh=fresh, at=lambda n: status.update(f"importing: {n:,} of {made.found.rows:,} rows"))
        except KeyboardInterrupt:
            say("Interrupted. What was imported stays; the same command goes on.", console=err)
            raise typer.Exit(130) from None
    _show_outcome(made, done, dry_run, dir)
    if done.changes or done.faults:
        raise typer.Exit(1)


def show_found(found: Found, whole: bool = True) -> None:
    """Shows which tables there are and what becomes of their columns.

    Args:
        found: What was looked at.
        whole: A line for each column; otherwise one for each table.
    """
    groups: dict[object, list[Part]] = {}
    for part in found.parts:
        groups.setdefault((part.why, part.table.columns, tuple((c.role, c.name) for c in part.columns)), []).append(part)
    listed = [[part] for part in found.parts] if whole else list(groups.values())
    rows = [
        [
            _where(parts[0]) + (f" and {len(parts) - 1} more" if len(parts) > 1 else ""),
            parts[0].table.section + (", …" if len(parts) > 1 else ""),
            f"{sum(part.table.count for part in parts):,}",
            Text(f"left out: {parts[0].why}", "yellow") if parts[0].why else _becomes(parts[0].columns),
        ]
        for parts in listed
    ]
    if rows:
        out.print(table(("where", "heading", "rows", "what becomes of it"), rows, title="tables found", numbers=("rows",)))
    for parts in groups.values() if whole else ():
        if not parts[0].why:
            _show_columns(parts)
    pairs = list(dict.fromkeys(name for part in found.parts for name in part.pairs))
    if pairs:
        say(f"  Notes have {', '.join(pairs[:8])}{', …' if len(pairs) > 8 else ''} as name=value; --from-notes makes columns of them.")
    if found.objective:
        say(f"  Ranked by {found.objective}.")


def _show_columns(parts: Sequence[Part]) -> None:
    first = parts[0]
    rows = [
        [column.text or "–", column.role, _as(column), f"{column.values:,}" if column.role == "parameter" else ""]
        for column in first.columns
    ]
    places = ", ".join(_where(part) for part in parts[:4]) + (f" and {len(parts) - 4} more like it" if len(parts) > 4 else "")
    count = sum(part.table.count for part in parts)
    title = f"{places}: {first.table.section or 'no heading'}{', …' if len(parts) > 1 else ''} ({many(count, 'row')})"
    out.print(table(("column", "becomes", "as", "values"), rows, title=title, numbers=("values",)))


def _as(column: Column) -> str:
    metric = column.metric
    if metric is None:
        why = f" ({column.why})" if column.name and column.why else column.why
        return f"{column.name}{why}"
    turned = ", kept as a fall" if column.known is not None and column.known.depth else ""
    scaled = ", bare numbers are percent" if column.scale == 0.01 else ", bare numbers are basis points" if column.scale != 1.0 else ""
    return f"{metric.name}, {_DIRECTIONS[metric.direction]}, {metric.unit or 'no unit'}{scaled}{turned}"


def _becomes(columns: Sequence[Column]) -> str:
    named = [column.name for column in columns if column.role == "metric"]
    counts = [
        many(n, word)
        for role, word in (("parameter", "parameter"), ("note", "note"), ("left out", "column"))
        if (n := sum(column.role == role for column in columns))
    ]
    gone = any(column.role == "left out" for column in columns)
    return f"{', '.join(named[:8])}{', …' if len(named) > 8 else ''}; {', '.join(counts)}{' left out' if gone else ''}"


def _where(part: Part) -> str:
    return f"{Path(part.table.file).name}:{part.table.line}"


def _show_outcome(made: Plan, done: Outcome, dry: bool, dir: Path) -> None:
    for title, problems, count in (("changed", done.changed, done.changes), ("unreadable", done.problems, done.faults)):
        _list(title, problems, count)
    if done.widened:
        kept = "" if dry else f"; what {made.name} was before is in {dir / '.aside'}"
        say(f"  {'new metrics':<12} {', '.join(done.widened)}{kept}")
    parts = [f"{many(done.new, 'row')} {'would be ' if dry else ''}imported"]
    parts += [f"{done.same:,} there already"] if done.same else []
    parts += [f"{done.changes:,} changed, and left as {'it was' if done.changes == 1 else 'they were'}"] if done.changes else []
    parts += [f"{done.blank:,} without a result"] if done.blank else []
    say(f"{made.name}: {'; '.join(parts)}. {many(done.total, 'trial')} in all, UNVERIFIED: not evaluated here.")
    if done.changes:
        say("  Rows are told apart by their parameters. --fresh takes all as they are now; with --param NAME, by a column more.")
    if dry:
        say("  Nothing was written (--dry-run).")
    else:
        say(f"  Look at them: {command_for('leaderboard', made.name, dir)}")


def _list(title: str, problems: Sequence[Problem], count: int) -> None:
    for problem in problems[:_LISTED]:
        say(Text.assemble((f"  {title:<12} ", "yellow"), str(problem)))
    if count > _LISTED:
        say(f"  {'':<12} … and {count - _LISTED:,} more")

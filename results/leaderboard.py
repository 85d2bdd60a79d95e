"""The leaderboard: the best trials, what sets them apart, and how to show it."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from results.records import Header, LedgerError

if TYPE_CHECKING:
    from rich.table import Table

    from results.reader import LedgerReader

LEGACY_LABEL: Final = "LEGACY PROFILE: not comparable, not promotable"
NOT_AVAILABLE: Final = "n/a"
EVIDENCE: Final = 3  # of the declared metrics, the first ones
_BOOKKEEPING: Final = ("trial", "config_id", "status", "attempt", "seconds", "error", "source")


def leaderboard(ledger: LedgerReader, metric: str | None = None, top: int = 20, params: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the best completed trials.

    Args:
        ledger: The study.
        metric: Ranking metric; default the study's objective.
        top: How many rows.
        params: Parameters to show as columns; default those that differ between the rows shown.

    Returns:
        Columns rank, trial, the ranking metric, the first few other metrics, parameters, the rest. `attrs` has what a caption needs:
        "study", "metric", "direction", "units", "trials", "constants" (parameters equal in all rows shown),
        "parameters", "profile" (the protocol's, or None).
    """
    header = ledger.header
    ranked = header.metric(metric or header.objective)
    direction = ranked.direction or "max"
    best = ledger.top(ranked.name, direction, top)
    metrics = [column for column in (_metric_label(name) for name in header.metric_names) if column != ranked.name]
    parameters = [column for column in best.columns if column not in {*_BOOKKEEPING, *metrics, ranked.name}]
    constants = {name: best[name].tolist()[0] for name in parameters if len(best) > 1 and _constant(best[name])}
    shown = [name for name in parameters if name not in constants]
    if params is not None:
        unknown = [name for name in params if name not in parameters]
        if unknown:
            raise LedgerError(f"study {header.name!r} has no parameter {', '.join(map(repr, unknown))}; it has {', '.join(parameters)}")
        shown = list(params)
        constants = {name: value for name, value in constants.items() if name not in params}
    # On a narrow terminal what is rightmost goes first: evidence stays.
    board = best[["trial", ranked.name, *metrics[:EVIDENCE], *shown, *metrics[EVIDENCE:]]].copy()
    board.insert(0, "rank", range(1, len(board) + 1))
    board.attrs = {
        "study": header.name,
        "metric": ranked.name,
        "direction": direction,
        "units": {_metric_label(item.name): item.unit for item in header.metrics},
        "trials": ledger.counts()["completed"],
        "constants": constants,
        "parameters": shown,
        "profile": profile(header),
    }
    return board


def profile(header: Header) -> str | None:
    """Return the execution profile of a study's protocol, None if it has none."""
    protocol = header.context["protocol"]
    found = protocol.get("profile") if hasattr(protocol, "get") else None
    return found if isinstance(found, str) else None


def render(board: pd.DataFrame, title: str | None = None, width: int | None = None) -> Table:
    """Return a leaderboard as a rich table.

    Args:
        board: From `leaderboard`.
        title: Default: study, ranking metric and number of completed trials.
        width: Characters there are; columns that do not fit are left out, from the right, and named in the caption. None
            shows all.

    Returns:
        Percent for metrics in unit "fraction", "n/a" for NaN; a study with the legacy profile is labelled in red.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    attrs = board.attrs
    units: dict[str, str] = attrs.get("units", {})
    cells = {name: [format_value(value, units.get(name)) for value in board[name]] for name in board.columns}
    shown = _fitting(cells, width)
    count = attrs.get("trials", len(board))
    heading = escape(title or f"{attrs.get('study', 'study')}: top {len(board)} of {count:,} by {attrs.get('metric', '?')}")
    if attrs.get("profile") == "legacy":
        heading += f"\n[bold red]{LEGACY_LABEL}[/bold red]"
    caption = escape(_caption(attrs, [name for name in cells if name not in shown]))
    table = Table(
        title=heading, caption=caption or None, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_style="bold", caption_justify="left"
    )
    for name in shown:
        words = not pd.api.types.is_numeric_dtype(board[name])
        style = "bold cyan" if name == attrs.get("metric") else None
        table.add_column(escape(name.replace("_", "\n")), justify="left" if words else "right", style=style, no_wrap=True)
    for i in range(len(board)):
        table.add_row(*(escape(cells[name][i]) for name in shown))
    return table


def _fitting(cells: dict[str, list[str]], width: int | None) -> list[str]:
    """Return the columns that fit; a header may break at its underscores."""
    names = list(cells)
    if width is None:
        return names
    needs = [max(map(len, [*name.split("_"), *cells[name]])) + 2 for name in names]
    fitting = 0
    left = width - 2  # the table's margins; each column has two spaces to the next
    while fitting < len(names) and left >= needs[fitting]:
        left -= needs[fitting]
        fitting += 1
    return names[:fitting]


def format_value(value: Any, unit: str | None = None) -> str:
    """Format one cell.

    Args:
        value: Number, text, None, list.
        unit: A metric's unit ("fraction" becomes percent), None for a parameter, which is shown as it was set.
    """
    if value is None or value is pd.NA or (isinstance(value, Real) and value != value):
        return NOT_AVAILABLE if unit is not None else "–"
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    number = float(value)
    if unit is None:
        return f"{number:.10g}"
    if unit == "fraction":
        return f"{number:.2%}" if abs(number) < 100 else f"{number:.3g}×"
    if unit == "count" or number.is_integer():
        return f"{number:,.0f}" if abs(number) < 1e15 else f"{number:.3g}"
    return f"{number:,.3f}" if 0.01 <= abs(number) < 1e6 else f"{number:.3g}"


def _caption(attrs: dict[Any, Any], hidden: list[str]) -> str:
    lines = []
    if attrs.get("constants"):
        lines.append("same in every row: " + ", ".join(f"{name}={format_value(value)}" for name, value in attrs["constants"].items()))
    if hidden:
        lines.append("not shown for lack of room: " + ", ".join(hidden))
    return "\n".join(lines)


def _metric_label(name: str) -> str:
    return f"metric.{name}" if name in _BOOKKEEPING else name


def _constant(column: pd.Series[Any]) -> bool:
    values = column.tolist()  # not compared by pandas: a column may hold lists, and True must differ from 1
    first = values[0]
    return bool(column.isna().all()) or all(value == first and type(value) is type(first) for value in values)

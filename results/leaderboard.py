"""The leaderboard: the best trials by one metric or by several, what sets them apart, and how to show it."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results import digits
from results.constraints import Constraint, constraints_of, non_dominated
from results.metrics import Metric
from results.records import Header, LedgerError
from results.schema import metric_column

if TYPE_CHECKING:
    from rich.table import Table

    from results.reader import LedgerReader

LEGACY_LABEL: Final = "LEGACY PROFILE: not comparable, not promotable"
IMPORTED: Final = "historical"  # the trainable of studies whose results were imported from records
UNVERIFIED: Final = "UNVERIFIED: imported from records, not evaluated here"
UNVERIFIED_MARK: Final = "?"
NOT_AVAILABLE: Final = digits.NOT_AVAILABLE
UNMET: Final = "✗"
EVIDENCE: Final = 3  # of the declared metrics, the first ones
_OWN: Final = ("rank", "meets")
_UNSHOWN: Final = ("meets", "verdict_words")  # said otherwise: by a mark, and below the table
_BOOKKEEPING: Final = ("trial", "config_id", "status", "attempt", "seconds", "error", "source")


def leaderboard(
    ledger: LedgerReader,
    metric: str | None = None,
    top: int = 20,
    params: Sequence[str] | None = None,
    constraints: Sequence[Constraint] | None = None,
) -> pd.DataFrame:
    """Return the best completed trials; after those that meet the constraints the others, the nearest first.

    Args:
        ledger: The study.
        metric: Ranking metric, one with a direction; default the study's objective.
        top: How many rows.
        params: Parameters to show as columns; default those that differ between the rows shown.
        constraints: To meet; default the study's own.

    Returns:
        Columns rank, trial, the ranking metric, those of the constraints, the first few other metrics, parameters, the rest; with
        constraints a last column "meets" (bool). `attrs` has what a caption needs: "study", "metric", "direction", "units", "trials",
        "constants" (parameters equal in all rows shown), "parameters", "profile" (the protocol's, or None), "imported" (whether nobody
        evaluated them here), "constraints" (in words), "meeting" (how many trials meet them).

    Raises:
        LedgerError: No such metric, or one without a direction.
    """
    header = ledger.header
    ranked = header.metric(metric or header.objective)
    if ranked.direction is None:
        raise LedgerError(f"cannot rank by {_aimless([ranked.name], header)}; {ranked.name} can be a constraint")
    direction = ranked.direction
    limits = constraints_of(header) if constraints is None else tuple(constraints)
    best = _apart(ledger.top(ranked.name, direction, top, constraints=limits))
    shown, constants = _parameters(header, best, params)
    # On a narrow terminal what is rightmost goes first: evidence stays.
    metrics = list(dict.fromkeys([*(_metric_label(item.metric) for item in limits), *map(_metric_label, header.metric_names)]))
    metrics = [name for name in metrics if name != ranked.name]
    early = max(EVIDENCE, len({item.metric for item in limits}))
    board = best[["trial", ranked.name, *metrics[:early], *shown, *metrics[early:]]].copy()
    board.insert(0, "rank", range(1, len(board) + 1))
    if limits:
        board["meets"] = np.logical_and.reduce([item.compare(best[_metric_label(item.metric)].to_numpy()) for item in limits])
    board.attrs = _attrs(ledger, ranked, limits) | {"direction": direction, "constants": constants, "parameters": shown}
    return board


def pareto(ledger: LedgerReader, metrics: Sequence[str], top: int = 20, constraints: Sequence[Constraint] | None = None) -> pd.DataFrame:
    """Return the completed trials that no other one dominates: is as good in all these metrics, and better in one.

    Args:
        ledger: The study.
        metrics: Two or more, each with a direction; the first one sorts. Trials with n/a in one of them are left out.
        top: How many rows to show.
        constraints: Trials that do not meet them are left out; default the study's own.

    Returns:
        Columns rank, trial, these metrics, parameters; `attrs` as of `leaderboard`, and "pareto" (the metrics), "front" (how many
        trials are not dominated).

    Raises:
        LedgerError: Fewer than two metrics, an unknown one, or one without a direction.
    """
    header = ledger.header
    ranked = [header.metric(name) for name in dict.fromkeys(metrics)]
    aimless = [metric.name for metric in ranked if metric.direction is None]
    if aimless or len(ranked) < 2:
        raise LedgerError(_aimless(aimless, header) if aimless else f"a Pareto list needs two metrics or more; {_aims(header)}")
    limits = constraints_of(header) if constraints is None else tuple(constraints)
    front = _front(ledger, ranked, limits)
    best = _apart(ledger.pick(front[:top].tolist()))
    shown, constants = _parameters(header, best)
    board = best[["trial", *(_metric_label(metric.name) for metric in ranked), *shown]].copy()
    board.insert(0, "rank", range(1, len(board) + 1))
    board.attrs = _attrs(ledger, ranked[0], limits) | {"direction": ranked[0].direction, "constants": constants, "parameters": shown}
    board.attrs |= {"pareto": [metric.name for metric in ranked], "front": len(front)}
    return board


def _aimless(names: Sequence[str], header: Header) -> str:
    return f"{', '.join(names)}: more is neither better nor worse; {_aims(header)}"


def _aims(header: Header) -> str:
    return f"metrics with a direction are {', '.join(metric.name for metric in header.metrics if metric.direction)}"


def _front(ledger: LedgerReader, metrics: Sequence[Metric], constraints: Sequence[Constraint]) -> NDArray[np.int64]:
    """Return the numbers of the trials that are not dominated, best first metric first; holds only them and one chunk."""
    columns = [metric_column(metric.name) for metric in metrics]
    signs = np.array([1.0 if metric.direction == "max" else -1.0 for metric in metrics])
    numbers, values = np.empty(0, np.int64), np.empty((0, len(columns)))
    for batch in ledger.stream(["trial", "status", *columns], constraints=constraints):
        found = signs * np.column_stack([np.array(batch[name], np.float64) for name in columns])
        # What was stopped early has metrics too, of another step.
        known = ~np.isnan(found).any(axis=1) & (np.array(batch["status"]) == "completed")
        numbers = np.concatenate([numbers, np.array(batch["trial"], np.int64)[known]])
        values = np.concatenate([values, found[known]])
        kept = non_dominated(values)
        numbers, values = numbers[kept], values[kept]
    return numbers[np.lexsort((numbers, -values[:, 0]))]


def _parameters(header: Header, best: pd.DataFrame, params: Sequence[str] | None = None) -> tuple[list[str], dict[str, Any]]:
    """Return the parameters to show as columns, and those that are equal in all rows with their values."""
    parameters = [column for column in best.columns if column not in {*_BOOKKEEPING, *map(_metric_label, header.metric_names)}]
    constants = {name: best[name].tolist()[0] for name in parameters if len(best) > 1 and _constant(best[name])}
    shown = [name for name in parameters if name not in constants]
    if params is not None:
        unknown = [name for name in params if name not in parameters]
        if unknown:
            raise LedgerError(f"study {header.name!r} has no parameter {', '.join(map(repr, unknown))}; it has {', '.join(parameters)}")
        shown = list(params)
        constants = {name: value for name, value in constants.items() if name not in params}
    return shown, constants


def _attrs(ledger: LedgerReader, ranked: Metric, constraints: Sequence[Constraint]) -> dict[str, Any]:
    header, trials = ledger.header, ledger.counts()["completed"]
    return {
        "study": header.name,
        "metric": ranked.name,
        "units": {_metric_label(item.name): shown_unit(item) for item in header.metrics},
        "trials": trials,
        "profile": profile(header),
        "imported": imported(header),
        "constraints": [str(item) for item in constraints],
        "meeting": ledger.count_meeting(constraints) if constraints else trials,
        "blank": ledger.count_blank(ranked.name),
    }


def profile(header: Header) -> str | None:
    """Return the execution profile of a study's protocol, None if it has none."""
    protocol = header.context["protocol"]
    found = protocol.get("profile") if hasattr(protocol, "get") else None
    return found if isinstance(found, str) else None


def imported(header: Header) -> bool:
    """Return whether a study's results were imported from records: nobody evaluated them here."""
    return bool(header.context["trainable"] == IMPORTED)


def render(board: pd.DataFrame, title: str | None = None, width: int | None = None) -> Table:
    """Return a leaderboard as a rich table.

    Args:
        board: From `leaderboard` or `pareto`.
        title: Default: study, ranking metric and number of completed trials.
        width: Characters there are; columns that do not fit are left out, from the right, and named in the caption. None
            shows all.

    Returns:
        Percent for metrics in unit "fraction", "n/a" for NaN; a study with the legacy profile is labelled in red, a trial that
        does not meet the constraints has a mark in place of its rank, an imported one has a mark beside it.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    attrs = board.attrs
    meets = board["meets"].tolist() if "meets" in board else [True] * len(board)
    cells = {name: [_cell(name, value, attrs) for value in board[name]] for name in board.columns if name not in _UNSHOWN}
    cells["rank"] = [rank if met else UNMET for rank, met in zip(cells["rank"], meets, strict=True)]
    if attrs.get("imported"):
        cells["rank"] = [f"{rank} {UNVERIFIED_MARK}" for rank in cells["rank"]]
    shown = _fitting(cells, width)
    heading = escape(title or _title(attrs, len(board)))
    if attrs.get("profile") == "legacy":
        heading += f"\n[bold red]{LEGACY_LABEL}[/bold red]"
    if attrs.get("imported"):
        heading += f"\n[bold yellow]{UNVERIFIED}[/bold yellow]"
    if attrs.get("constraints") and not attrs["meeting"]:
        told = f"no trial meets {' and '.join(attrs['constraints'])}" + ("; these are the nearest" if len(board) else "")
        heading += f"\n[bold yellow]{escape(told)}[/bold yellow]"
    caption = escape(_caption(attrs, [name for name in cells if name not in shown], all(meets)))
    table = Table(
        title=heading, caption=caption or None, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_style="bold", caption_justify="left"
    )
    for name in shown:
        words = not pd.api.types.is_numeric_dtype(board[name])
        style = "bold cyan" if name == attrs.get("metric") else None
        table.add_column(escape(name.replace("_", "\n")), justify="left" if words else "right", style=style, no_wrap=True)
    for i in range(len(board)):
        table.add_row(*(escape(cells[name][i]) for name in shown), style=None if meets[i] else "dim")
    return table


def _title(attrs: dict[Any, Any], rows: int) -> str:
    study = attrs.get("study", "study")
    if "pareto" in attrs:
        first = f"; the first {rows}" if rows < attrs["front"] else ""
        return f"{study}: {attrs['front']:,} of {attrs['meeting']:,} trials not dominated in {', '.join(attrs['pareto'])}{first}"
    return f"{study}: top {rows} of {attrs.get('trials', rows):,} by {attrs.get('metric', '?')}"


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


def shown_unit(metric: Metric) -> str:
    """Return the unit by which a metric is shown: "p" for a probability that should be small, which must not be rounded down."""
    return "p" if metric.unit == "probability" and metric.direction == "min" else metric.unit


def format_value(value: Any, unit: str | None = None) -> str:
    """Format one cell.

    Args:
        value: Number, text, None, list.
        unit: A metric's unit by `shown_unit` ("fraction" becomes percent, a "probability" is rounded down, a "p" up), None for a
            parameter, which is shown as it was set; in a row of many see `format_parameter`.
    """
    if value is None or value is pd.NA or (isinstance(value, Real) and value != value):
        return NOT_AVAILABLE if unit is not None else "–"
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    number = float(value)
    if unit is None:
        return f"{number:.10g}"
    if unit == "probability":
        return digits.probability(number)
    if unit == "p":
        return digits.p_value(number)
    if unit == "fraction":
        return f"{number:.2%}" if abs(number) < 100 else f"{number:.3g}×"
    if unit == "count" or number.is_integer():
        return f"{number:,.0f}" if abs(number) < 1e15 else f"{number:.3g}"
    return f"{number:,.3f}" if 0.01 <= abs(number) < 1e6 else f"{number:.3g}"


def format_parameter(value: Any) -> str:
    """Format a parameter beside others: four significant digits, which tell drawn values apart."""
    if not isinstance(value, float) or value != value or value.is_integer():
        return format_value(value)
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def parameter_label(name: str, metrics: Sequence[str]) -> str:
    """Return what a leaderboard calls a parameter: `config.<name>` where a metric or a column of its own has the name."""
    return f"config.{name}" if name.removeprefix("metric.") in {*_OWN, *_BOOKKEEPING, *metrics} else name


def _cell(name: str, value: Any, attrs: dict[Any, Any]) -> str:
    if name in attrs.get("parameters", ()):
        return format_parameter(value)
    return format_value(value, attrs.get("units", {}).get(name))


def _caption(attrs: dict[Any, Any], hidden: list[str], all_meet: bool) -> str:
    lines = [f"{UNVERIFIED_MARK} is an unverified result"] if attrs.get("imported") else []
    if attrs.get("constraints") and attrs["meeting"]:
        mark = "" if all_meet else f"; {UNMET} does not"
        lines.append(f"{attrs['meeting']:,} of {attrs['trials']:,} trials meet {' and '.join(attrs['constraints'])}{mark}")
    if attrs.get("blank"):
        lines.append(f"{attrs['blank']:,} of {attrs['trials']:,} trials have no {attrs['metric']} (n/a)")
    if attrs.get("constants"):
        lines.append("same in every row: " + ", ".join(f"{name}={format_parameter(value)}" for name, value in attrs["constants"].items()))
    if hidden:
        lines.append("not shown for lack of room: " + ", ".join(hidden))
    return "\n".join(lines)


def _apart(best: pd.DataFrame) -> pd.DataFrame:
    """Calls a parameter that has the name of a leaderboard's own column `config.<name>`, as one that has a trial's already is."""
    return best.rename(columns={name: f"config.{name}" for name in _OWN})


def _metric_label(name: str) -> str:
    return f"metric.{name}" if name in _BOOKKEEPING else name


def _constant(column: pd.Series[Any]) -> bool:
    values = column.tolist()  # not compared by pandas: a column may hold lists, and True must differ from 1
    first = values[0]
    return bool(column.isna().all()) or all(value == first and type(value) is type(first) for value in values)

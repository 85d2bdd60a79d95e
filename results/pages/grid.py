"""A table that a reader sorts, filters and scrolls: of rows in the page itself, or of rows a server has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from results.pages.columns import Column, check, written
from results.pages.escaping import Html, PageError, escape, identifier, script_json
from results.pages.packing import packed

__all__ = ["Column", "grid", "remote_grid"]

PRINTED_ROWS: Final = 40
_PRINTED_WIDTH: Final = 104  # characters of a line of print in a small font


def grid(
    id: str,
    columns: Sequence[Column],
    frame: pd.DataFrame,
    *,
    label: str = "Results",
    sort: str | None = None,
    descending: bool = False,
    height: int | None = None,
) -> Html:
    """Return a table with its rows inside, for up to a few hundred thousand of them.

    Args:
        id: Of the element; `document.getElementById(id).grid` is its script side.
        columns: In the order shown; the first one stays in sight when scrolled sideways, so it should say which row it is.
        frame: Rows in their own order, which equal ones keep however the table is sorted. None and NaN are n/a.
        label: What the table is called by screen readers and in print.
        sort: Column it is sorted by at first; default the rows' own order.
        descending: The greatest first.
        height: Of the table in pixels; default from the window's.

    Raises:
        PageError: Columns that the frame lacks, text in a column of numbers, an unusable id.
    """
    rows = packed(columns, frame)
    places: Sequence[int] | np.ndarray = range(min(PRINTED_ROWS, len(frame)))
    if sort is not None:
        from results.pages.query import order

        known = {column.name for column in columns}
        if sort not in known:
            raise PageError(f"cannot sort by {sort!r}, which is no column of the table")
        places = order(frame[sort], descending)[:PRINTED_ROWS]
    first = frame[[column.name for column in columns]].iloc[list(places)].itertuples(index=False, name=None)
    spec = _spec(columns, label, sort, descending, height) | {"rows": len(frame)}
    data = f'<script type="application/octet-stream" data-rows>{rows}</script>'
    return _element(id, spec, data + printed(columns, first, len(frame), label))


def remote_grid(
    id: str,
    columns: Sequence[Column],
    url: str,
    *,
    label: str = "Results",
    sort: str | None = None,
    descending: bool = False,
    height: int | None = None,
    key: str | None = None,
) -> Html:
    """Return a table whose rows a server has, for a page made with `live=True`.

    It asks `GET url?sort=COL&dir=asc|desc&from=0&n=200&filter=JSON` (see `query.parse_query`) and expects JSON
    `{"total": rows that pass, "rows": [[values in the order of columns], …], "version": "changes with the rows"}`, where `"of"`, the rows
    before filtering, may be added; no value is null. On a status other than 200, `{"error": message, "column": name}` is shown.
    `document.getElementById(id).grid.refresh()` asks again, keeping place, order and selection.

    Args:
        id: Of the element.
        columns: In the order shown and answered.
        url: From the server the page came from; it may have parameters of its own.
        label: What the table is called by screen readers and in print.
        sort: Column it is sorted by at first; default the server's order.
        descending: The greatest first.
        height: Of the table in pixels; default from the window's.
        key: Column that tells rows apart; default the first.
    """
    check(columns)
    names = [column.name for column in columns]
    if key is not None and key not in names:
        raise PageError(f"key {key!r} is no column of the table")
    spec = _spec(columns, label, sort, descending, height) | {"url": url, "key": names.index(key) if key else 0}
    return _element(id, spec, '<div class="grid-print"></div>')


def printed(columns: Sequence[Column], rows: Iterable[Sequence[Any]], total: int, label: str) -> Html:
    """Return the first rows as plain tables, for print and for browsers without scripts: as many side by side as fit in a line."""
    shown = [column for column in columns if not column.hidden] or list(columns)
    places = [columns.index(column) for column in shown]
    cells = [[written(row[place], column) for place, column in zip(places, shown, strict=True)] for row in rows]
    said = f"{label}: first {len(cells):,} of {total:,} rows" if len(cells) < total else f"{label}: {total:,} rows"
    tables = "".join(_plain(shown, cells, group) for group in _groups(shown, cells))
    return Html(f'<div class="grid-print"><p>{escape(said)}</p>{tables}</div>')


def _plain(columns: Sequence[Column], cells: Sequence[Sequence[str]], group: Sequence[int]) -> str:
    sides = ['class="number"' if columns[place].numeric else "" for place in group]
    head = "".join(f"<th {side}>{escape(_titled(columns[place]))}</th>" for side, place in zip(sides, group, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td {side}>{escape(row[place])}</td>' for side, place in zip(sides, group, strict=True))}</tr>" for row in cells
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _titled(column: Column) -> str:
    return f"{column.heading} ({column.unit})" if column.unit else column.heading


def _groups(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> list[list[int]]:
    """Split columns into lines of print; each begins with the first column, which says which row it is."""
    # A heading breaks between its words.
    words = [max(map(len, _titled(column).split()), default=0) for column in columns]
    widths = [2 + max([words[at], *(min(len(row[at]), 30) for row in cells)]) for at in range(len(columns))]
    groups, used = [[0]], widths[0]
    for place in range(1, len(columns)):
        if used + widths[place] > _PRINTED_WIDTH and len(groups[-1]) > 1:
            groups.append([0])
            used = widths[0]
        groups[-1].append(place)
        used += widths[place]
    return groups


def _spec(columns: Sequence[Column], label: str, sort: str | None, descending: bool, height: int | None) -> dict[str, Any]:
    return {
        "columns": [column.spec() for column in columns],
        "label": label,
        "sort": sort,
        "descending": descending,
        "height": height,
    }


def _element(id: str, spec: dict[str, Any], inside: str) -> Html:
    return Html(
        f'<div class="grid" id="{identifier(id)}" data-grid><div class="needs-script"></div>'
        f'<script type="application/json" data-spec>{script_json(spec)}</script>{inside}</div>'
    )

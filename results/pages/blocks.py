"""What pages are put together from: functions that take text and give `Html`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from results.pages.columns import Column, check, written
from results.pages.escaping import Html, PageError, escape, identifier

_MANY: Final = 10  # columns that fit on paper in the usual size
TONES: Final = ("good", "warn", "bad", "info", "muted")


def join(parts: Iterable[str]) -> Html:
    """Return markup one after another; plain strings among it are escaped."""
    return Html("\n".join(escape(part) for part in parts))


def section(id: str, title: str, body: str, *, note: str = "") -> Html:
    """Return a part of the page with a heading that can be linked to.

    Args:
        id: What a link names it by.
        title: Text of the heading.
        body: Markup.
        note: A sentence below the heading.
    """
    name = identifier(id)
    said = f'<p class="note">{escape(note)}</p>' if note else ""
    heading = f'<h2 id="{name}-title"><a href="#{name}">{escape(title)}</a></h2>'
    return Html(f'<section id="{name}" aria-labelledby="{name}-title">{heading}{said}{body}</section>')


def key_values(rows: Iterable[tuple[str, object]]) -> Html:
    """Return names with their values, as a description list; values are text, or `Html`."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows)
    return Html(f'<dl class="facts">{items}</dl>')


def figures(rows: Iterable[tuple[str, object, str]]) -> Html:
    """Return a strip of a few large figures: a label, what is shown large, and a few words below it."""
    items = "".join(
        f'<div><dt>{escape(label)}</dt><dd><span class="large">{escape(value)}</span>'
        f"{f'<small>{escape(words)}</small>' if words else ''}</dd></div>"
        for label, value, words in rows
    )
    return Html(f'<dl class="figures">{items}</dl>')


def figure(id: str, content: str, alt: str, *, caption: str = "") -> Html:
    """Return a drawing with its text alternative.

    Args:
        id: Of the element.
        content: Markup: an SVG, or the element that a script draws into.
        alt: What the drawing shows, for those who cannot see it; in print and for screen readers.
        caption: A line below it.

    Raises:
        PageError: Without a text alternative.
    """
    name = identifier(id)
    if not alt.strip():
        raise PageError(f"figure {id!r} needs a text alternative: say in `alt` what it shows")
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return Html(f'<figure id="{name}" role="group" aria-label="{escape(alt)}"><div class="drawing">{content}</div>{said}</figure>')


def badge(text: str, tone: str = "info") -> Html:
    """Return a short word on a tinted ground; tone is "good", "warn", "bad", "info" or "muted"."""
    if tone not in TONES:
        raise PageError(f"badge {text!r}: tone {tone!r} is none of {', '.join(TONES)}")
    return Html(f'<span class="badge {tone}">{escape(text)}</span>')


def notice(body: str, tone: str = "info") -> Html:
    """Return a boxed remark; `body` is text, or `Html`."""
    if tone not in TONES:
        raise PageError(f"notice: tone {tone!r} is none of {', '.join(TONES)}")
    return Html(f'<div class="notice {tone}">{escape(body)}</div>')


def command(text: str) -> Html:
    """Return a command as it is typed, with a button that copies it."""
    # Lines break between words, not after the hyphens of an option.
    words = "".join(f"<span>{escape(part)}</span>" if part.strip() else part for part in re.split(r"(\s+)", text))
    return Html(f'<div class="command"><pre><code>{words}</code></pre><button type="button" data-copy>Copy</button></div>')


def details(summary: str, body: str, *, opened: bool = False) -> Html:
    """Return a part that is unfolded on demand, and always in print; `body` is markup."""
    return Html(f"<details{' open' if opened else ''}><summary>{escape(summary)}</summary><div>{body}</div></details>")


def table(columns: Sequence[Column | str], rows: Iterable[Sequence[Any]], *, caption: str = "") -> Html:
    """Return a plain table, whole, for a few dozen rows; for more see `grid`.

    Args:
        columns: What they are; a string is a text column of that name.
        rows: Values in the order of `columns`; `Html` (a badge, a sparkline) stays as it is.
        caption: What the table shows.

    Raises:
        PageError: A row of another length.
    """
    shown = [Column(column) if isinstance(column, str) else column for column in columns]
    check(shown)
    head = "".join(_head(column) for column in shown)
    body = "".join(_row(shown, row, number) for number, row in enumerate(rows))
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    return Html(
        f'<div class="scroll{" many" if len(shown) > _MANY else ""}" tabindex="0" role="region" aria-label="{escape(caption or "table")}">'
        f"<table>{said}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _head(column: Column) -> str:
    unit = f' <span class="unit">{escape(column.unit)}</span>' if column.unit else ""
    hint = f' title="{escape(column.help)}"' if column.help else ""
    return f'<th scope="col"{_side(column)}{hint}>{escape(column.heading)}{unit}</th>'


def _row(columns: Sequence[Column], row: Sequence[Any], number: int) -> str:
    if len(row) != len(columns):
        raise PageError(f"row {number} of a table has {len(row)} values, its columns are {len(columns)}")
    return "<tr>" + "".join(_cell(column, value) for column, value in zip(columns, row, strict=True)) + "</tr>"


def _cell(column: Column, value: Any) -> str:
    content = value if isinstance(value, Html) else escape(written(value, column))
    if not isinstance(value, Html) and (tone := column.tones.get(content)) in TONES:
        content = badge(str(value), str(tone))
    return f"<td{_side(column)}>{content}</td>"


def _side(column: Column) -> str:
    return ' class="number"' if column.numeric else ""

"""First of all: can the winner be believed?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from results.pages.page import Html, badge, command, escape, figures, join, key_values, notice, section
from sweeps.commands.console import command_for
from sweeps.report import words
from sweeps.report.drawings import Drawings
from sweeps.report.gather import Gathered
from sweeps.report.part import Missing

_TITLE: Final = "Can the winner be believed?"
_NOBODY: Final = {
    "legacy": "No. Results of rules that look ahead are evidence of nothing, so no statistic of significance is shown.",
    "imported": "That cannot be said. Nothing here was evaluated here, so there is no statistic of significance.",
}


def verdict(g: Gathered, drawings: Drawings) -> Html:
    """Returns the answer, the key figures, and each piece of evidence with what it means."""
    facts = [("trials", words.standing(g)), *([("not through", f"{g.unfinished}; figures will change")] if g.unfinished else [])]
    if isinstance(g.judged, Missing):
        return section("verdict", _TITLE, join([_answer("n/a", "muted", f"That cannot be said: {g.judged.why}"), key_values(facts)]))
    if g.label:
        said = ("not comparable" if g.label == "legacy" else "unverified", "bad", _NOBODY[g.label])
        return section("verdict", _TITLE, join([_answer(*said), figures(words.key_figures(g.judged)[:1]), key_values(facts)]))
    said = words.answer(g.judged)
    parts: list[Html] = [_answer(*said), figures(words.key_figures(g.judged))]
    if told := words.contradicted(g.judged):
        parts.append(notice(told, "bad"))
    if g.unfinished:
        parts.append(notice(f"Not through: {g.unfinished}. Everything here will change.", "warn"))
    parts.append(_evidence([*words.evidence(g.judged), ("trials", words.standing(g), "")]))
    if not g.judged.no_holdout and not g.judged.looks.openings and words.winner(g.judged) is not None:
        parts.append(Html("<p>The holdout is opened once, on the record:</p>"))
        parts.append(command(command_for("promote", g.name, g.folder)))
    return section("verdict", _TITLE, join(parts))


def banner(label: str) -> Html:
    """Returns what nobody may miss about results that cannot be believed; nothing for others."""
    if not label:
        return Html("")
    head, rest = words.BANNERS[label]
    return Html(f'<div class="banner" role="alert"><strong>{escape(head)}</strong>{escape(rest)}</div>')


def _evidence(rows: Sequence[tuple[str, str, str]]) -> Html:
    """Returns each piece with what it means beside it, or on a narrow page below it."""
    items = "".join(
        f'<div><dt>{escape(name)}</dt><dd>{escape(found)}</dd><dd class="meaning">{escape(meaning)}</dd></div>'
        for name, found, meaning in rows
    )
    return Html(f'<dl class="evidence">{items}</dl>')


def _answer(code: str, tone: str, said: str) -> Html:
    return Html(f'<div class="answer">{badge(code, tone)}<p>{escape(said)}</p></div>')

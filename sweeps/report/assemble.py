"""A report as a page: its sections in order."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Final

from results.pages.page import Html, escape, join, page
from results.secrets import redacted
from sweeps.report.drawings import Drawings, style
from sweeps.report.gather import Gathered
from sweeps.report.sections.leaderboard import IN_SAMPLE, leaderboard
from sweeps.report.sections.parameters import parameters
from sweeps.report.sections.provenance import provenance
from sweeps.report.sections.returns import equity, folds
from sweeps.report.sections.verdict import banner, verdict
from sweeps.report.sections.work import work

SECTIONS: Final[tuple[tuple[str, str, Callable[[Gathered, Drawings], Html]], ...]] = (
    ("verdict", "Verdict", verdict),
    ("leaderboard", "Leaderboard", leaderboard),
    ("equity", "Equity", equity),
    ("folds", "Folds", folds),
    ("parameters", "Parameters", parameters),
    ("work", "Search and cost", work),
    ("provenance", "Provenance", provenance),
)
TITLES: Final = {"legacy": " (legacy)", "imported": " (unverified)", "": ""}


_TEXTS: Final = re.compile(r'(?<=>)[^<]+|(?<==")[^"]*')


def without_secrets(markup: Html) -> Html:
    """Returns markup whose texts and attributes quote no secret of the environment, however it was escaped."""
    plain = html.unescape(markup)
    if redacted(plain) == plain:
        return markup

    def clean(piece: re.Match[str]) -> str:
        said = html.unescape(piece[0])
        told = redacted(said)
        return piece[0] if told == said else escape(told)

    return Html(_TEXTS.sub(clean, markup))


def report(g: Gathered) -> str:
    """Returns the page of a study; the same study gives the same bytes."""
    drawings = Drawings()
    body = join([style(), banner(g.label), *(part(g, drawings) for _, _, part in SECTIONS)])
    # The last thing before it is written: what quotes a secret of the environment does not leave the house.
    return page(
        f"{g.name}{TITLES[g.label]}",
        without_secrets(body),
        scripts=drawings.scripts(),
        data={name: redacted(text) for name, text in drawings.data.items()},
        subtitle=redacted(str(g.header.spec.get("description", ""))),
        nav=[(id, title) for id, title, _ in SECTIONS],
        footer=f"Ledger created {g.header.created[:19].replace('T', ' ')} UTC. {IN_SAMPLE}",
    )

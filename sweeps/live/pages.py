"""The pages that are served: shells with the parts as they stand, which live.js keeps up to date."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from results import LedgerError
from results.leaderboard import format_value, shown_unit
from results.pages.grid import remote_grid
from results.pages.page import Html, badge, command, escape, join, key_values, notice, page, policy, section, table
from sweeps.commands.console import command_for, many
from sweeps.live import parts
from sweeps.live.state import Now
from sweeps.live.studies import Followed, Studies
from sweeps.live.trial import trial_parts
from sweeps.live.words import age, count_words, ended_words, pace_words

GRID: Final = "all-trials"
STYLE: Final = Html("<style>.error{white-space:pre-wrap;overflow-wrap:anywhere} .drawing svg{min-width:520px}</style>")
EVERY: Final = 2.0  # seconds between two looks of a page


@cache
def script() -> str:
    """Returns the script of the live pages."""
    return Path(__file__).with_name("live.js").read_text(encoding="utf-8")


@cache
def content_policy() -> str:
    """Returns the content security policy of the live pages."""
    return policy([script()], live=True)


def studies_page(studies: Studies) -> str:
    """Returns the page of all studies."""
    made = studies_parts(studies)
    body = join([STYLE, _live("studies", made["studies"])])
    where = escape(str(studies.folder.absolute()))
    return _page("Studies", body, "/parts", where)


def studies_parts(studies: Studies) -> dict[str, str]:
    """Returns the parts of the page of all studies."""
    rows, names = [], studies.names()
    for name in names:
        link = Html(f'<a href="{escape(parts.study_url(name))}">{escape(name)}</a>')
        followed = studies.find(name)
        if followed is None:
            continue
        try:
            now = followed.look()
        except (LedgerError, OSError) as error:
            rows.append([link, badge("unreadable", "bad"), Html(f'<span class="error">{escape(str(error))}</span>'), "", "", "", ""])
            continue
        rows.append([link, parts.state_badge(now), count_words(now), ended_words(now).replace("  ", ", "), _best(now), *_pace(now)])
    if not rows:
        begin = command_for("run", "selector_grid", studies.folder)
        return {"studies": Html(f"<p>No studies yet in {escape(str(studies.folder))}. Start one:</p>{command(begin)}")}
    columns = ["study", "state", "trials", "of these", "best", "rate", "last result"]
    return {"studies": table(columns, rows, caption=many(len(rows), "study", "studies"))}


def _best(now: Now) -> str:
    if now.best_trial is None:
        return "–"
    return f"{now.metric.name} {format_value(now.curve.best, shown_unit(now.metric))}"


def _pace(now: Now) -> list[str]:
    return [pace_words(now), age(now.changed)]


def study_parts(followed: Followed, now: Now) -> dict[str, str]:
    """Returns the parts of a study's page that change."""
    with followed.ledger() as ledger:
        return {
            "overview": parts.overview(now),
            "verdict-part": parts.verdict(followed, now),
            "curve-part": parts.progress(now),
            "work-part": parts.at_work(now),
            "failures-part": parts.failures(now, ledger),
            "sessions-part": parts.sessions(ledger),
        }


def study_page(followed: Followed, folder: Path) -> str:
    """Returns the page of a study.

    Raises:
        LedgerError: Its ledger is gone, or cannot be read.
    """
    now = followed.look_whole()
    made, name = study_parts(followed, now), followed.home.name
    key, grid = followed.grid(now)
    url = f"{parts.study_url(name)}/rows?grid={key}"
    trials = remote_grid(
        GRID,
        grid.columns,
        url,
        label="All trials",
        sort=grid.objective,
        descending=now.metric.direction != "min",
    )
    body = join(
        [
            STYLE,
            _live("overview", made["overview"]),
            section("verdict", "Verdict", _live("verdict-part", made["verdict-part"])),
            section("progress", "Progress", _live("curve-part", made["curve-part"]) + _live("work-part", made["work-part"])),
            section(
                "trials", "All trials", trials, note="Sorted and filtered by the server; a row opens its details, with a link to its page."
            ),
            section("failures", "Failures", _live("failures-part", made["failures-part"])),
            section("about", "About", _about(now, folder) + _live("sessions-part", made["sessions-part"])),
        ]
    )
    nav = [(id, id.capitalize()) for id in ("verdict", "progress", "trials", "failures", "about")]
    about = {"grid": key, "study": parts.study_url(name), "version": now.pulse.version}
    return _page(name, body, f"{parts.study_url(name)}/parts", _up(), about, nav)


def trial_page(followed: Followed, which: str) -> str:
    """Returns the page of a trial.

    Raises:
        NoTrialError: There is none of this number.
        LedgerError: The ledger is gone, or cannot be read.
    """
    now, name = followed.look(), followed.home.name
    made = trial_parts(followed, now, which)
    titles = {"ending": "Ending", "reports": "Reports", "metrics": "Metrics", "config": "Configuration", "facts": "Record"}
    body = join(
        [
            STYLE,
            *(section(id, title, _live(f"{id}-part", made[id])) for id, title in titles.items() if id != "reports" or now.stepping),
        ]
    )
    up = Html(f'<a href="{escape(parts.study_url(name))}">{escape(name)}</a>')
    return _page(f"Trial {which}", body, f"{parts.trial_url(name, which)}/parts", up, {"version": now.pulse.version})


def trial_answer(followed: Followed, which: str) -> dict[str, Any]:
    """Returns the parts of a trial's page for its script."""
    now = followed.look()
    made = {f"{id}-part": html for id, html in trial_parts(followed, now, which).items()}
    return answer(now, made)


def working(made: Mapping[str, str]) -> bool:
    """Returns whether a part is still being worked out."""
    return any('aria-busy="true"' in html for html in made.values())


def answer(now: Now, made: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """Returns parts as a page's script takes them."""
    return {"version": now.pulse.version, "alive": now.alive, "parts": made, "working": working(made), **more}


def problem_page(title: str, words: str) -> str:
    """Returns a page that says why there is no other."""
    return _page(title, notice(words, "bad"), "", Html('<a href="/">All studies</a>'))


def _page(
    title: str, body: str, url: str, subtitle: str | Html, about: Mapping[str, Any] | None = None, nav: list[tuple[str, str]] | None = None
) -> str:
    told = {"url": url, "every": EVERY, "grid": "", "study": "", "version": "", "table": GRID, **(about or {})}
    banner = Html('<div id="connection" role="status" hidden></div>')
    return page(
        title,
        banner + body,
        scripts=[script()],
        data={"live": json.dumps(told)},
        live=True,
        subtitle=subtitle,
        nav=nav or (),
        footer="alphasweep serve: this page only shows, and follows what runs.",
    )


def _live(id: str, html: str) -> Html:
    return Html(f'<div id="{id}" data-part>{html}</div>')


def _up() -> Html:
    return Html('<a href="/">All studies</a>')


def _about(now: Now, folder: Path) -> Html:
    header, name = now.header, now.home.name
    facts: list[tuple[str, object]] = [
        ("trainable", f"{header.context['trainable']} {header.context['version']}"),
        ("objective", f"{header.objective} ({header.metric(header.objective).direction or 'no direction'})"),
        ("constraints", ", ".join(map(str, header.spec.get("constraints") or ())) or "none"),
        ("data", str(header.context["data_fingerprint"])),
        ("created (UTC)", header.created[:19].replace("T", " ")),
        ("folder", str(now.home.absolute())),
    ]
    if described := str(header.spec.get("description") or ""):
        facts.insert(0, ("what", described))
    commands: list[Callable[[], str]] = [lambda: command_for("watch", name, folder), lambda: command_for("leaderboard", name, folder)]
    return Html(key_values(facts) + "".join(command(made()) for made in commands))

"""The parts of the pages that change while a study runs: each a piece of HTML made from the study as it stands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa

from results import LedgerError
from results.leaderboard import format_parameter, format_value, shown_unit
from results.pages.grid import Column
from results.pages.page import Html, badge, escape, figure, figures, key_values, notice, table
from results.reader import LedgerReader
from sweeps.live.drawing import chart
from sweeps.live.state import Now
from sweeps.live.studies import Followed
from sweeps.live.words import age, best_words, count_words, ended_words, pace_words, since_words, state_words, worker_words
from sweeps.progress import clock

TONES: Final = {"running": "info", "starting": "info", "finished": "good", "stopped": "warn", "killed": "warn", "failed": "bad"}
WORKING: Final = Html('<p class="note" aria-busy="true">Working…</p>')
MOST_WORKING: Final = 50
MOST_FAILURES: Final = 20
LONGEST_ERROR: Final = 400


def study_url(name: str) -> str:
    """Returns the address of a study's page."""
    return f"/studies/{quote(name, safe='')}"


def trial_url(name: str, trial: int | str) -> str:
    """Returns the address of a trial's page."""
    return f"{study_url(name)}/trials/{quote(str(trial), safe='')}"


def state_badge(now: Now) -> Html:
    """Returns the state of a study as a badge."""
    return badge(state_words(now).partition(":")[0], TONES.get(now.pulse.state, "warn"))


def overview(now: Now) -> Html:
    """Returns what is large at the top of a study's page."""
    ended = ended_words(now).replace("  ", ", ")
    have = f"{now.have:,}" if now.total is None else f"{now.have:,} of {now.total:,}"
    share = f"{min(1.0, now.have / now.total):.0%}" if now.total else count_words(now)
    rows: list[tuple[str, object, str]] = [
        ("State", state_badge(now), now.ended_by or worker_words(now)),
        ("Trials", have, ", ".join(filter(None, (share, ended)))),
    ]
    if not math.isnan(now.curve.best):
        value = format_value(now.curve.best, shown_unit(now.metric))
        trial = Html(f'<a href="{escape(trial_url(now.home.name, now.best_trial))}">{value}</a>') if now.best_trial is not None else value
        rows.append((f"Best {now.metric.name}", trial, f"trial {now.best_trial}" if now.best_trial is not None else ""))
    if pace := pace_words(now):
        rate, _, left = pace.partition(", ")
        rows.append(("Rate", rate, left))
    rows.append(("Last result", age(now.changed) or "–", now.changed[:19].replace("T", " ") + " UTC" if now.changed else ""))
    parts = [figures(rows)]
    if now.budget:
        parts.append(Html(f"<p>Budget: {escape('; '.join(now.budget))}</p>"))
    return Html("".join(parts))


def progress(now: Now) -> Html:
    """Returns the curve of the best so far."""
    if not now.whole:
        return WORKING
    unit, name = shown_unit(now.metric), now.metric.name
    points = [(float(done), value) for done, value in now.curve.steps]
    words = f"{best_words(now) or f'no {name} yet'} {since_words(now)}".strip()
    drawn = chart(
        points,
        until=float(now.curve.done),
        label=words,
        across="trials with a result",
        shown=lambda value: format_value(value, unit),
        percent=unit == "fraction",
        steps=True,
        total=float(now.total) if now.alive and now.total else None,
    )
    return figure("best-so-far", drawn, words, caption=f"{words[:1].upper()}{words[1:]}.")


def at_work(now: Now) -> Html:
    """Returns the trials at work; empty where trials do not report, or nobody is at work."""
    if not now.alive or not now.stepping:
        return Html("")
    if not now.working:
        return Html(f'<h3>At work</h3><p class="note">{escape(worker_words(now) or "Nobody is at work yet.")}</p>')
    unit, shown = shown_unit(now.metric), now.working[:MOST_WORKING]
    names = list(dict.fromkeys(name for made in shown for name in made.swept))
    rung = any(made.ladder for made in shown) and now.rule == "asha"
    columns: list[Column | str] = ["trial", *names, *_numbers("step", *(["rung"] if rung else []), now.metric.name, "s/step", "left")]
    rows = []
    for made in shown:
        step = f"{made.step:,} of {made.last:,}" if made.last else f"{made.step:,}"
        rows.append(
            [
                Html(f'<a href="{escape(trial_url(now.home.name, made.trial))}">{made.trial}</a>'),
                *(format_parameter(made.swept[name]) if name in made.swept else "–" for name in names),
                Html(escape(step)),
                *([Html(escape(made.rung))] if rung else []),
                Html(escape(format_value(made.value, unit))),
                Html("…" if math.isnan(made.pace) else f"{made.pace:.2g}"),
                Html("…" if math.isnan(made.left) else clock(made.left)),
            ]
        )
    return Html(f"<h3>At work</h3>{table(columns, rows, caption=worker_words(now))}")


def failures(now: Now, ledger: LedgerReader) -> Html:
    """Returns how often trials failed of what, the most frequent first."""
    if not now.counts["failed"]:
        return Html('<p class="note">No trial has failed.</p>')
    trials = ledger.tables.trials
    # Spelt out, so that SQLite takes the index of what is not completed.
    failed = sa.and_(trials.c.status != sa.literal_column("'completed'"), trials.c.status == "failed")
    columns = trials.c.error, sa.func.count().label("n"), sa.func.max(trials.c.trial).label("trial")
    groups = ledger.rows(sa.select(*columns).where(failed).group_by(trials.c.error).order_by(sa.desc("n")).limit(MOST_FAILURES))
    rows = [
        [
            int(row["n"]),
            Html(f'<a href="{escape(trial_url(now.home.name, row["trial"]))}">{row["trial"]}</a>'),
            Html(f'<span class="error">{escape(_clipped(str(row["error"])))}</span>'),
        ]
        for row in groups
    ]
    shown = sum(int(row["n"]) for row in groups)
    more = f" Not shown: {now.counts['failed'] - shown:,} with other errors." if shown < now.counts["failed"] else ""
    caption = f"{now.counts['failed']:,} failed.{more} alphasweep run {now.home.name} --retry-failed tries them again."
    return table([Column("times", kind="integer"), "latest", "error"], rows, caption=caption)


def verdict(followed: Followed, now: Now) -> Html:
    """Returns whether to believe the winner; worked out in the background, and of a study at work seldom."""
    if not now.counts["completed"]:
        return Html('<p class="note">Nothing to judge before a first trial is completed.</p>')
    try:
        lines, fresh = followed.verdict.get(now.pulse.version, now.alive, lambda: (now.pulse.trials, _judged(followed)))
    except (ValueError, OSError) as error:
        return notice(f"It cannot be judged now: {error}", "warn")
    if lines is None:
        return WORKING
    trials, body = lines
    late = "" if fresh or trials == now.pulse.trials else f'<p class="note">As of {trials:,} results.</p>'
    return Html(f"{body}{late}")


def _judged(followed: Followed) -> Html:
    from sweeps.commands.results import describe
    from sweeps.evidence import judge

    found = judge(followed.home, top=1)
    lines = describe(found)
    first = [str(words) for name, words in lines if name == "verdict"]
    tone = {"survives": "good", "loses money": "bad"}.get(found.assessment.verdict.code if found.assessment else "", "warn")
    head = notice(first[0], tone) if first else Html("")
    note = Html('<p class="note">In-sample figures say what won, not what will; docs/verdict.md explains each line.</p>')
    return Html(head + key_values([(name, str(words)) for name, words in lines if name != "verdict"]) + note)


def unavailable(error: LedgerError | OSError) -> Html:
    """Returns what is shown of a study that cannot be read."""
    return notice(str(error), "bad")


def sessions(ledger: LedgerReader) -> Html:
    """Returns the study's sessions, the latest first."""
    rows = []
    for row in reversed(ledger.sessions()[-10:]):
        command = " ".join(map(str, row["provenance"].get("command", ()))) if isinstance(row["provenance"], Mapping) else ""
        ended = str(row["ended"] or "")
        lasted = clock((datetime.fromisoformat(ended) - datetime.fromisoformat(row["started"])).total_seconds()) if ended else ""
        rows.append([str(row["session_id"]), _moment(row["started"]), lasted, str(row["reason"] or "open"), command])
    return table(["session", "began (UTC)", "lasted", "ended", "command"], rows, caption="Sessions, the latest first")


def _moment(stamp: Any) -> str:
    return str(stamp or "")[:19].replace("T", " ")


def _clipped(text: str) -> str:
    return text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]} …"


def _numbers(*names: str) -> Sequence[Column]:
    return [Column(name, kind="number") for name in names]

"""The page of one trial: what it was given, what came of it, what it said on the way, and why it ended."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa

from results import LedgerError
from results import reports as said
from results.leaderboard import format_value, shown_unit
from results.pages.page import Html, badge, escape, figure, key_values, notice, table
from results.reader import LedgerReader
from results.reports import ReportRow
from sweeps.commands.steps import judged_words
from sweeps.live.drawing import chart
from sweeps.live.parts import WORKING
from sweeps.live.state import Now
from sweeps.live.studies import Followed

MOST_REPORTS: Final = 60  # in the table
STATUS: Final = {"completed": "good", "stopped": "warn", "diverged": "bad", "failed": "bad", "running": "info"}


class NoTrialError(ValueError):
    """There is no such trial; the message says so."""


def trial_parts(followed: Followed, now: Now, which: str) -> dict[str, str]:
    """Returns the parts of a trial's page by their ids.

    Args:
        followed: The study.
        now: How it stands.
        which: Number, or the first digits of the configuration's id.

    Raises:
        NoTrialError: There is none of this number.
        LedgerError: The ledger is gone, or cannot be read.
    """
    with followed.ledger() as ledger:
        try:
            row: dict[str, Any] | None = ledger.trial(which)
        except LedgerError as error:
            row, missing = None, str(error)
        identity = bytes.fromhex(row["config_id"]) if row else None
        found = [*said.read(ledger, identity)] if identity else [*_unfinished(ledger, which)]
        if row is None and not found and not _asked_for(ledger, which):
            raise NoTrialError(missing)
        return {
            "ending": _ending(followed, now, which, row),
            "facts": _facts(ledger, row),
            "config": _config(ledger, row, now, which),
            "metrics": _metrics(ledger, row, found),
            "reports": _reports(ledger, found),
        }


def _unfinished(ledger: LedgerReader, which: str) -> Iterator[ReportRow]:
    """Yields the reports of a trial that has no result yet."""
    if not which.isdecimal() or len(which) > 18 or ledger.header.schema_version < 2:
        return
    reports = ledger.tables.reports
    rows = ledger.rows(sa.select(reports.c.config_id).where(reports.c.trial == int(which)).limit(1))
    if rows:
        yield from said.read(ledger, bytes(rows[0]["config_id"]))


def _asked_for(ledger: LedgerReader, which: str) -> bool:
    if not which.isdecimal() or len(which) > 18:
        return False
    return any(0 <= int(which) - plan.offset < (plan.count or 0) for plan in ledger.plans())


def _ending(followed: Followed, now: Now, which: str, row: dict[str, Any] | None) -> Html:
    """Returns how the trial ended and why; judged once more in the background where it reported."""
    if row is not None and not now.stepping:
        return _plain_ending(row)
    if row is None and not now.stepping:
        return Html(f"{badge('no result yet', 'muted')}")
    settled = "ended" if row is not None else now.pulse.version
    try:
        found, _ = followed.ending(which).get(f"{settled}", row is None and now.alive, lambda: _why(followed, which))
    except (ValueError, OSError) as error:
        return notice(f"Why it ended cannot be said now: {error}", "warn")
    if found is not None:
        return found
    return Html(f"{_plain_ending(row) if row else ''}{WORKING}")


def _plain_ending(row: dict[str, Any]) -> Html:
    status = str(row["status"])
    words = [badge(status, STATUS.get(status, "muted"))]
    if row["source"]:
        words.append(escape(f"taken over from the study {row['source']}"))
    if row["error"]:
        words.append(Html(f'<pre class="error">{escape(row["error"])}</pre>'))
    return Html(f"<div>{' '.join(words)}</div>")


def _why(followed: Followed, which: str) -> Html:
    from sweeps.endings import why

    found = why(followed.home, which)
    body = f"<p>{badge(found.status, STATUS.get(found.status, 'muted'))} {escape(found.words)}</p>"
    facts = [f"Judged {words}." for words in judged_words(found)] + [f"Step {step:,}: {note}" for step, note in found.notes]
    if found.ahead:
        unit = shown_unit(found.metric)
        rows = [[str(rival.trial), format_value(rival.value, unit), rival.ended] for rival in found.ahead]
        body += table(["trial", found.metric.name, "ended"], rows, caption="Ahead of it where it was judged")
    return Html(body + "".join(f"<p>{escape(words)}</p>" for words in facts))


def _facts(ledger: LedgerReader, row: dict[str, Any] | None) -> Html:
    if row is None:
        return Html('<p class="note">It has no result yet.</p>')
    attempts = [
        ("attempt", row["attempt"]),
        ("session", row["session_id"]),
        ("began", _moment(row["started"])),
        ("ended", _moment(row["ended"])),
    ]
    seconds = "n/a" if row["seconds"] is None else f"{row['seconds']:.4g} s"
    facts: list[tuple[str, object]] = [("configuration id", Html(f"<code>{row['config_id']}</code>")), ("took", seconds), *attempts]
    facts.append(("checksum", badge("intact", "good") if row["intact"] else badge("does not fit its values", "bad")))
    if row["failures"]:
        facts.append(("tried before", "; ".join(" ".join(str(error).split()) for error in row["failures"])))
    facts += _events(ledger, row["trial"])
    return key_values(facts)


def _events(ledger: LedgerReader, trial: int) -> Iterator[tuple[str, str]]:
    """Yields what befell a trial on its way."""
    for event in ledger.events("worker_died", limit=1000):
        if event["trial"] == trial:
            yield "worker died", f"after step {event['detail'].get('step')}: {' '.join(str(event['detail'].get('error')).split())}"


def _config(ledger: LedgerReader, row: dict[str, Any] | None, now: Now, which: str) -> Html:
    if row is None:
        swept = next((made.swept for made in now.working if str(made.trial) == which), {})
        return key_values([(name, _value(value)) for name, value in swept.items()]) if swept else Html("–")
    defaults = [(name, value) for name, value in ledger.header.defaults.items() if name not in row["config"]]
    made = key_values([(name, _value(value)) for name, value in row["config"].items()])
    rest = key_values([(name, _value(value)) for name, value in defaults])
    folded = f"<details><summary>{len(defaults)} defaults</summary><div>{rest}</div></details>" if defaults else ""
    return Html(made + folded)


def _value(value: Any) -> str:
    return (
        str(value)
        if isinstance(value, (str, int)) and not isinstance(value, bool)
        else repr(value)
        if isinstance(value, float)
        else f"{value}"
    )


def _metrics(ledger: LedgerReader, row: dict[str, Any] | None, found: list[ReportRow]) -> Html:
    if row is not None:
        values = dict(row["metrics"])
    elif found:
        values = dict(zip(ledger.header.metric_names, found[-1].metrics, strict=True))
    else:
        return Html('<p class="note">None yet.</p>')
    return key_values([(metric.name, format_value(values[metric.name], shown_unit(metric))) for metric in ledger.header.metrics])


def _reports(ledger: LedgerReader, found: list[ReportRow]) -> Html:
    if not found:
        return Html("")
    header = ledger.header
    metric = header.metric(header.objective)
    place, unit = header.metric_names.index(metric.name), shown_unit(metric)
    points = [(float(row.step), float(row.metrics[place])) for row in found]
    words = f"{metric.name} by step, {len(found):,} reports"
    drawn = chart(
        points, until=points[-1][0], label=words, across="step", shown=lambda value: format_value(value, unit), percent=unit == "fraction"
    )
    picked = found if len(found) <= MOST_REPORTS else [found[round(i * (len(found) - 1) / (MOST_REPORTS - 1))] for i in range(MOST_REPORTS)]
    names = header.metric_names[:6]
    rows = [
        [
            f"{row.step:,}",
            *(format_value(_number(row.metrics[header.metric_names.index(name)]), shown_unit(header.metric(name))) for name in names),
            "n/a" if row.seconds is None else f"{row.seconds:.3g}",
            row.note,
        ]
        for row in picked
    ]
    told = "" if len(picked) == len(found) else f"{len(picked)} of {len(found):,} reports"
    made = table(["step", *names, "seconds", "note"], rows, caption=told)
    return Html(figure("reported", drawn, words) + f"<details><summary>As a table</summary><div>{made}</div></details>")


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _moment(stamp: Any) -> str:
    return str(stamp or "")[:19].replace("T", " ")

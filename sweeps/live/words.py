"""A study at a moment in words: the same in the terminal and on a page."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from results.leaderboard import format_value, shown_unit
from sweeps.commands.console import many
from sweeps.live.state import Now
from sweeps.progress import clock

STATES: Final = {
    "killed": "interrupted",
    "starting": "starting: its ledger is held, no session has begun",
    "imported": "imported, UNVERIFIED",
}


def state_words(now: Now) -> str:
    """Returns the state of a study for people, such as "stopped: trials used up, 20 of 20"."""
    words = STATES.get(now.pulse.state, now.pulse.state)
    return f"{words}: {now.ended_by}" if now.ended_by else words


def count_words(now: Now) -> str:
    """Returns how far a study is, such as "32 of 54"."""
    if now.total is None:
        return many(now.have, "result")
    search = f" (search {now.searches})" if now.searches > 1 else ""
    return f"{now.have:,} of {now.total:,}{search}"


def pace_words(now: Now) -> str:
    """Returns rate and time left as a run shows them, "…" until they mean something, "" where nobody is at work."""
    if now.pulse.state != "running":
        return ""
    if math.isnan(now.rate) and math.isnan(now.left):
        return "…"
    rate = "" if math.isnan(now.rate) else rate_words(now.rate)
    if math.isnan(now.left):
        return rate or "…"
    return f"{rate}, {clock(now.left)} left{' if all go on' if now.stepping else ''}".removeprefix(", ")


def rate_words(rate: float) -> str:
    """Returns results a second, or an hour where they are few."""
    if rate >= 0.1:
        return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.2g}/s"
    return f"{3600.0 * rate:.2g}/h"


def best_words(now: Now) -> str:
    """Returns the best so far, such as "best sortino 18.282 (trial 26)"; "" before there is one."""
    if math.isnan(now.curve.best):
        return ""
    value = format_value(now.curve.best, shown_unit(now.metric))
    return f"best {now.metric.name} {value}" + (f" (trial {now.best_trial})" if now.best_trial is not None else "")


def since_words(now: Now) -> str:
    """Returns when the best was found, such as "after 11 of 54, 43 without a better one"."""
    if not now.curve.steps:
        return ""
    after, since = now.curve.steps[-1][0], now.curve.since
    words = f"after {after:,} of {now.curve.done:,}"
    return f"{words}, {since:,} without a better one" if since else words


def ended_words(now: Now) -> str:
    """Returns how many trials were stopped early or failed, such as "3 stopped  2 failed"; "" if none were."""
    return "  ".join(f"{now.counts[key]:,} {key}" for key in ("stopped", "failed") if now.counts[key])


def worker_words(now: Now) -> str:
    """Returns who is at work, such as "2 packs at work"."""
    if now.pulse.state != "running":
        return ""
    words = f"{many(now.workers, 'trial' if now.stepping else 'pack')} at work"
    waiting = now.workers - len(now.working)
    return f"{words}, {waiting:,} before the first report" if now.stepping and waiting else words


def line(now: Now) -> str:
    """Returns a study on a line, for output that is no terminal."""
    parts = (state_words(now), count_words(now), pace_words(now), ended_words(now), best_words(now))
    return "  ".join(part for part in parts if part)


def age(stamp: str) -> str:
    """Returns how long ago an ISO time was, such as "12 s ago"; "" for none."""
    if not stamp:
        return ""
    seconds = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds())
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"

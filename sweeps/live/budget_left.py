"""How much of a study's `stop` section is used up, in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from results.leaderboard import format_value, shown_unit
from results.reader import LedgerReader
from search_spaces.budget import Budget, Used
from sweeps.budgets import BOUND, CARDS, spent_before
from sweeps.live.curve import Curve
from sweeps.planning.estimate import lasting

_NAMES: Final = {"hours": "wall clock", "worker_hours": "work", "accelerator_hours": "cards"}


def budget_of(ledger: LedgerReader) -> Budget:
    """Returns the budget a study was created with, and what the latest session's command said of it; an empty one where there is none."""
    direction = ledger.header.metric(ledger.header.objective).direction or "max"
    section = ledger.header.spec.get("stop")
    sessions = ledger.sessions()
    command = sessions[-1]["provenance"].get("command", ()) if sessions else ()
    try:
        return Budget.parse({**(section if isinstance(section, Mapping) else {}), **dict(_typed(command))}, direction=direction)
    except ValueError:
        return Budget()


def _typed(command: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yields the rules given on a command line, as `alphasweep run` takes them."""
    for option, value in itertools.pairwise([part for word in command for part in word.split("=", 1 if word.startswith("--") else 0)]):
        if option in ("--hours", "--target"):
            yield option[2:], _number(value)
        elif option == "--set" and value.startswith("stop.") and "=" in value:
            key, _, given = value.removeprefix("stop.").partition("=")
            yield key, _number(given)


def _number(text: str) -> Any:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        return text  # such as 90m or 20%


def used_so_far(ledger: LedgerReader, alive: bool) -> Used:
    """Returns what all sessions have used, the latest as far as its ledger tells.

    Args:
        ledger: The study's.
        alive: Whether the latest session is still at work.
    """
    stepping = bool(ledger.events("scheduler", limit=1))
    before = spent_before(ledger, stepping)
    sessions = ledger.sessions()
    if not sessions:
        return before
    latest = sessions[-1]
    t = ledger.tables
    ended = datetime.now(UTC).isoformat() if alive else latest["ended"] or _heard(ledger, latest["session_id"]) or latest["started"]
    wall = max(0.0, (datetime.fromisoformat(ended) - datetime.fromisoformat(latest["started"])).total_seconds()) / 3600.0
    work = t.reports if stepping else t.trials
    query = sa.select(sa.func.sum(work.c.seconds).label("seconds")).join(t.attempts, work.c.attempt == t.attempts.c.attempt)
    query = query.where(t.attempts.c.session_id == latest["session_id"])
    busy = float(ledger.rows(query if stepping else query.where(t.trials.c.source.is_(None)))[0]["seconds"] or 0.0) / 3600.0
    cards = next((float(e["detail"]["each"]) for e in ledger.events(CARDS, limit=1) if e["session"] == latest["session_id"]), 0.0)
    return Used(
        before.hours + wall,
        before.worker_hours + busy,
        before.accelerator_hours + busy * cards,
        before.paid_hours + busy * (cards or 1.0),
    )


def budget_lines(ledger: LedgerReader, budget: Budget, used: Used, results: int, curve: Curve) -> Iterator[str]:
    """Yields a line for each rule: what is used of what.

    Args:
        ledger: The study's.
        budget: The rules.
        used: From `used_so_far`; looked at only where a rule is about hours or cost.
        results: Results that were worked out for the study.
        curve: Best so far.
    """
    metric = ledger.header.metric(ledger.header.objective)

    def shown(value: float) -> str:
        return format_value(value, shown_unit(metric))

    if budget.trials is not None:
        yield f"{results:,} of {budget.trials:,} new trials"
    for key, name in _NAMES.items():
        if (limit := getattr(budget, key)) is not None:
            yield f"{_of(getattr(used, key), limit)} of {name}"
    if budget.cost is not None:
        yield f"{used.paid_hours * budget.price:,.4g} of {budget.cost:,.4g} at {budget.price:g} an hour"
    if budget.target is not None:
        best = "…" if math.isnan(curve.best) else shown(curve.best)
        yield f"{metric.name} {best}, until {'≤' if budget.direction == 'min' else '≥'} {shown(budget.target)}"
    if budget.plateau is not None:
        yield f"{curve.since:,} of {budget.plateau:,} trials without a better one"
    if budget.regret is not None:
        bounds = [event["detail"]["bound"] for event in ledger.events(BOUND, limit=1)]
        left = shown(float(bounds[0])) if bounds and bounds[0] is not None else "…"
        yield f"at most {left} left to gain, until less than {shown(budget.regret)}"


def new_results(ledger: LedgerReader) -> int:
    """Returns how many results were worked out for the study, not taken over from another; one pass over the trials."""
    trials = ledger.tables.trials
    return int(ledger.rows(sa.select(sa.func.count().label("n")).select_from(trials).where(trials.c.source.is_(None)))[0]["n"])


def _of(used: float, limit: float) -> str:
    return f"{lasting(3600.0 * min(used, limit))} of {lasting(3600.0 * limit)}"


def _heard(ledger: LedgerReader, session: int) -> Any:
    t = ledger.tables
    events = ledger.rows(sa.select(sa.func.max(t.events.c.time).label("at")).where(t.events.c.session == session))[0]["at"]
    own = t.attempts.c.session_id == session, t.attempts.c.status == "accepted"
    accepted = ledger.rows(sa.select(sa.func.max(t.attempts.c.ended).label("at")).where(*own))[0]["at"]
    return max(filter(None, (events, accepted)), default=None)

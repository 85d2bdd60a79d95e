"""The small queries that a look at a study is made of."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from results.identity import config_ids
from results.paging import metric_label
from results.reader import LedgerReader
from results.records import Plan
from results.schema import not_completed
from sweeps.live.pulse import Pulse

if TYPE_CHECKING:
    from sweeps.live.working import Work

WINDOW: Final = 60.0  # seconds the rate looks back
LEAST: Final = 5  # attempts it looks at, if they are older
LOOKED: Final = 2000  # attempts looked at for it, the latest
OVERLAP: Final = 50_000  # points of a further search up to which those with a result from before are looked for


def best_trial(ledger: LedgerReader) -> tuple[float, int | None]:
    """Returns the best value and its trial, as the leaderboard has them; NaN where no trial counts."""
    from results.constraints import constraints_of

    objective = ledger.header.objective
    if ledger.header.metric(objective).direction is None:
        return math.nan, None
    found = ledger.top(objective, n=1)
    limits = constraints_of(ledger.header)
    if found.empty or not all(bool(limit.compare(found[metric_label(limit.metric)].iloc[0])) for limit in limits):
        return math.nan, None
    value = float(found[metric_label(objective)].iloc[0])
    return value, int(found["trial"].iloc[0]) if math.isfinite(value) else None


def ended_counts(ledger: LedgerReader) -> dict[str, int]:
    """Returns how many trials were stopped early and how many failed."""
    trials = ledger.tables.trials
    query = sa.select(trials.c.status, sa.func.count().label("n")).where(not_completed(trials)).group_by(trials.c.status)
    found = {row["status"]: int(row["n"]) for row in ledger.rows(query)}
    return {"stopped": found.get("stopped", 0), "failed": found.get("failed", 0)}


def latest_failure(ledger: LedgerReader) -> tuple[int, str] | None:
    """Returns number and error of the failed trial with the greatest number, which is one of the latest."""
    trials = ledger.tables.trials
    # Spelt out, so that SQLite takes the index of what is not completed.
    failed = sa.and_(trials.c.status != sa.literal_column("'completed'"), trials.c.status == "failed")
    rows = ledger.rows(sa.select(trials.c.trial, trials.c.error).where(failed).order_by(trials.c.trial.desc()).limit(1))
    return (int(rows[0]["trial"]), " ".join(str(rows[0]["error"]).split())) if rows else None


def why_ended(ledger: LedgerReader, pulse: Pulse) -> str:
    """Returns what ended the latest session, if it was its budget."""
    from sweeps.budget_words import ended_by

    return "" if pulse.alive else ended_by(ledger)


def rate_of(ledger: LedgerReader, pulse: Pulse) -> tuple[float, str]:
    """Returns results a second of late, NaN if nobody is at work, and when a result was last accepted."""
    attempts = ledger.tables.attempts
    columns = attempts.c.started, attempts.c.ended, attempts.c.delivered, attempts.c.session_id, attempts.c.status
    rows = ledger.rows(sa.select(*columns).where(attempts.c.n > 0).order_by(attempts.c.attempt.desc()).limit(LOOKED))
    done = [row for row in rows if row["status"] == "accepted" and row["ended"]]
    changed = max((row["ended"] for row in done), default="")
    own = sorted((row for row in done if row["session_id"] == pulse.session.get("session_id")), key=lambda row: row["ended"])
    if pulse.state != "running" or not own:
        return math.nan, changed
    now = datetime.now(UTC)
    recent = [row for row in own if (now - datetime.fromisoformat(row["ended"])).total_seconds() <= WINDOW]
    looked = recent if len(recent) >= LEAST else own[-LEAST:]
    # From the first of them on: what it waited for before it began was not its work.
    began = min(datetime.fromisoformat(row["started"]) for row in looked)
    seconds = (now - began).total_seconds()
    return sum(row["delivered"] for row in looked) / seconds if seconds > 0.0 else math.nan, changed


def time_left(have: int, total: int | None, rate: float, work: Work, workers: int) -> float:
    """Returns seconds until all trials have a result, NaN where that cannot be said.

    Args:
        have: Trials with a result.
        total: Trials asked for.
        rate: Results a second of late.
        work: Trials that report: of these the steps that would be left if none were stopped say more.
        workers: How many are at work at once.
    """
    if total is None or have >= total:
        return math.nan
    paces = [made.pace for made in work.trials if not math.isnan(made.pace)]
    if work.rule and work.longest and paces and workers:
        waiting = max(0, total - have - workers)
        steps = waiting * work.longest + sum(max(0, (made.last or work.longest) - made.step) for made in work.trials)
        steps += max(0, workers - len(work.trials)) * work.longest
        return steps * sum(paces) / len(paces) / workers
    return (total - have) / rate if rate > 0.0 else math.nan


def overlap(ledger: LedgerReader, plan: Plan) -> int | None:
    """Returns how many points of a further search have a result under another number; None where that takes too long to find out."""
    from sweeps.asked import config_of, searches
    from sweeps.search import Search

    if plan.count is None or plan.count > OVERLAP:
        return None
    try:
        study = next(study for made, study in searches(ledger) if made.plan_id == plan.plan_id)
        search = Search(study)
        if search.learns:
            return 0
        configs = [config_of(study, point) for point in search.sampler.configs(0, search.sampler.size)]
    except (ValueError, ImportError):
        return None
    numbers, _ = ledger.found(config_ids(ledger.header.context_id, configs, ledger.header.defaults))
    elsewhere = (numbers >= 0) & ((numbers < plan.offset) | (numbers >= plan.offset + plan.count))
    return int(elsewhere.sum())

"""A study's budget, and what ended it, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from results.leaderboard import format_value, shown_unit
from search_spaces.budget import Budget, Met
from sweeps.planning.estimate import lasting

if TYPE_CHECKING:
    from results.metrics import Metric
    from results.reader import LedgerReader

ENDED: Final = "budget"  # kind of the event that keeps what ended a session


def words(met: Met, budget: Budget, metric: Metric) -> str:
    """Returns what ended a study, such as "target reached, sortino 2.1 ≥ 2 after 212 trials"."""

    def shown(value: float) -> str:
        return format_value(value, shown_unit(metric))

    after = f"after {met.after:,} {'trial' if met.after == 1 else 'trials'}"
    if met.kind == "target":
        return f"target reached, {metric.name} {shown(met.value)} {'≤' if budget.direction == 'min' else '≥'} {shown(met.limit)} {after}"
    if met.kind == "trials":
        return f"trials used up, {met.value:,.0f} of {met.limit:,.0f}"
    if met.kind == "plateau":
        by = f" by more than {shown(met.limit)}" if met.limit else ""
        return f"plateau, {metric.name} {shown(met.best)} has not improved{by} in {met.over:,} trials, {after}"
    if met.kind == "regret":
        return f"at most {shown(met.value)} of {metric.name} left to gain, less than {shown(met.limit)}, {after}"
    if met.kind == "cost":
        return f"cost used up, {met.value:,.4g} of {met.limit:,.4g} at {budget.price:g} an hour, {after}"
    name = {"hours": "wall clock", "worker_hours": "worker hours", "accelerator_hours": "accelerator hours"}[met.kind]
    return f"{name} used up, {lasting(3600.0 * met.value)} of {lasting(3600.0 * met.limit)}, {after}"


def in_words(budget: Budget, metric: Metric) -> str:
    """Returns a budget, such as "500 trials, or 2 h of wall clock, whichever comes first"; "" if there is none."""

    def shown(value: float) -> str:
        return format_value(value, shown_unit(metric))

    parts = []
    if budget.target is not None:
        parts.append(f"{metric.name} {'≤' if budget.direction == 'min' else '≥'} {shown(budget.target)}")
    if budget.plateau is not None:
        parts.append(f"{budget.plateau:,} trials without a better one{f' by {shown(budget.gain)}' if budget.gain else ''}")
    if budget.regret is not None:
        parts.append(f"less than {shown(budget.regret)} left to gain")
    if budget.trials is not None:
        parts.append(f"{budget.trials:,} new trials")
    for key, name in (("hours", "wall clock"), ("worker_hours", "work"), ("accelerator_hours", "cards")):
        if (hours := getattr(budget, key)) is not None:
            parts.append(f"{lasting(3600.0 * hours)} of {name}")
    if budget.cost is not None:
        parts.append(f"a cost of {budget.cost:g} at {budget.price:g} an hour")
    return f"{', or '.join(parts)}{', whichever comes first' if len(parts) > 1 else ''}"


def ended_by(ledger: LedgerReader) -> str:
    """Returns what ended a study's latest session, if it was its budget."""
    found, sessions = ledger.events(ENDED, limit=1), ledger.sessions()
    return str(found[-1]["detail"]["words"]) if found and sessions and found[-1]["session"] == sessions[-1]["session_id"] else ""


def way_on(study_stop: Mapping[str, Any], kind: str) -> str:
    """Returns the key of the rule that ended a study."""
    return "stop.plateau.trials" if kind == "plateau" and isinstance(study_stop.get("plateau"), Mapping) else f"stop.{kind}"

"""How trials that report ended, and why: from the ledger, and from their reports judged once more by a scheduler that knows nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from results import Ledger, LedgerError, reports
from results.identity import config_id
from results.leaderboard import format_value, parameter_label, shown_unit
from results.lock import is_written
from results.reports import ReportRow
from search_spaces.stopping import Decision, Rules

if TYPE_CHECKING:
    from results import Plan
    from results.metrics import Metric
    from results.reader import LedgerReader
    from sweeps.search import Search
    from sweeps.suggestions import Member

PERSON: Final = "person"  # in place of a scheduler's rule, where somebody ended a trial
SCHEDULER: Final = "scheduler"  # kind of the event that keeps the rules a study began with


@dataclass(frozen=True)
class Judged:
    """A report at which a trial was judged and not stopped: it went on, or was at its last step.

    Attributes:
        step: Of the report.
        decision: What the scheduler found.
        value: What was compared: the report's; under the median rule the trial's best so far.
    """

    step: int
    decision: Decision
    value: float


@dataclass(frozen=True)
class Rival:
    """A trial that was ahead of one that was stopped.

    Attributes:
        trial: Its number.
        value: What it was compared by: its objective at the rung; under the median rule the mean of its reports up to there.
        swept: Its parameters that differ between trials, by their names on the leaderboard.
        ended: What became of it, in words.
    """

    trial: int
    value: float
    swept: Mapping[str, Any]
    ended: str


@dataclass(frozen=True)
class Ending:
    """Why a trial ended, or how far it is.

    Attributes:
        trial: Its number.
        status: "completed", "stopped", "diverged", "failed", "running", "waiting" (interrupted, or not started), "reused" or "same"
            (of another trial).
        words: What happened, in a line.
        step: Of its last report, 0 for none.
        last: Step at which it is complete, 0 where that is not known: its trainable cannot be loaded here.
        swept: Its parameters that differ between trials, by their names on the leaderboard.
        metric: The objective.
        decision: What stopped it, as the ledger has it; empty otherwise.
        rule: Kind of the scheduler.
        ahead: The trials that were better there, ten at most.
        judged: Where it was judged and went on.
        alone: Reports that the median rule would have judged but for too few others, as (step, how many had come as far).
        least: Others that the median rule asks for.
        replayed: Whether judging all reports again gives what is on record; otherwise `judged` is empty.
        notes: What its reports said, each note with its first step.
    """

    trial: int
    status: str
    words: str
    step: int
    last: int
    swept: Mapping[str, Any]
    metric: Metric
    decision: Mapping[str, Any] = field(default_factory=dict)
    rule: str = ""
    ahead: tuple[Rival, ...] = ()
    judged: tuple[Judged, ...] = ()
    alone: tuple[tuple[int, int], ...] = ()
    least: int = 0
    replayed: bool = True
    notes: tuple[tuple[int, str], ...] = ()


def shown(value: float, metric: Metric) -> str:
    """Returns a metric with its value, such as "skill 3.10%"."""
    return f"{metric.name} {format_value(value, shown_unit(metric))}"


def stop_words(decision: Mapping[str, Any], step: int, metric: Metric) -> str:
    """Returns why a trial was stopped, such as "stopped at step 40: place 5 of 6, skill -12.00% below 3.00%"."""
    if decision.get("rule") == PERSON:
        return f"stopped at step {step:,} by a person{': ' if decision['reason'] else ''}{' '.join(decision['reason'].split())}"
    value, cutoff = (float("nan" if decision.get(key) is None else decision[key]) for key in ("value", "cutoff"))
    if decision.get("rule") == "diverged":
        return f"diverged at step {step:,}: {metric.name} is not a number"
    rung = "" if decision["rung"] in (None, step) else f" (rung {decision['rung']:,})"
    side = "below" if value < cutoff else "above" if value > cutoff else "level with the last to go on,"
    whose = ", the median" if decision.get("rule") == "median" else ""
    found = (
        f"place {decision['rank']:,} of {decision['of']:,}, {shown(value, metric)} {side} {format_value(cutoff, shown_unit(metric))}{whose}"
    )
    return f"stopped at step {step:,}{rung}: {found}"


def failure_words(error: str, step: int) -> str:
    """Returns why a trial failed, on one line."""
    return f"failed {f'after step {step:,}' if step else 'before its first report'}: {' '.join(error.split())}"


def reach(step: int, last: int) -> str:
    """Returns "step 40 of 160", without the last one where that is not known."""
    return f"step {step:,} of {last:,}" if last else f"step {step:,}"


def early(step: int, last: int) -> str:
    """Returns what is to be said of a trial that was completed before its last step, "" of others."""
    return f" of {last:,}, where it ended by itself" if step < last else ""


def notes_of(rows: Sequence[ReportRow]) -> tuple[tuple[int, str], ...]:
    """Returns the notes of a trial's reports, each with the step it first came with."""
    first: dict[str, int] = {}
    for row in rows:
        if row.note:
            first.setdefault(row.note, row.step)
    return tuple((step, note) for note, step in first.items())


def why(home: Path, which: int | str) -> Ending:
    """Says why a trial ended, or how far it is.

    Args:
        home: The study's folder.
        which: Trial number, or the first digits of its configuration id.

    Raises:
        StudyError: The study evaluates packs.
        LedgerError: No such trial, or a ledger that cannot be read.
    """
    from sweeps.runner import LEDGER

    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        return _Reader(ledger, home, is_written(home / LEDGER)).why(which)


def how_far(home: Path, which: int | str) -> Ending | None:
    """Says how far a trial without a result is; None if no search has it, or the study's trials do not report.

    Args:
        home: The study's folder.
        which: Trial number.
    """
    from sweeps.runner import LEDGER

    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        if not ledger.events(SCHEDULER, limit=1):
            return None
        return _Reader(ledger, home, is_written(home / LEDGER)).how_far(which)


class _Reader:
    """A ledger of trials that report, and what is worked out from it; a trainable that cannot be loaded here is done without."""

    def __init__(self, ledger: LedgerReader, home: Path, written: bool):
        from sweeps.search import Search
        from sweeps.study import Study, StudyError
        from trainables.stepping import Stepping

        self._ledger, self._home, self._written = ledger, home, written
        study = Study.parse(ledger.header.spec)
        # Without an event no trial has begun here, though results may have been taken over.
        if not ledger.events(SCHEDULER, limit=1) and not isinstance(Search(study).trainable, Stepping):
            raise StudyError(
                f"{home.name}: {study.trainable} evaluates whole packs; nothing is stopped early, so there is nothing to explain"
            )
        self._metric = ledger.header.metric(ledger.header.objective)
        self._place = ledger.header.metric_names.index(ledger.header.objective)
        self._rows: dict[int, list[ReportRow]] = {}
        for row in reports.read(ledger):
            self._rows.setdefault(row.trial, []).append(row)

    @cached_property
    def _searches(self) -> list[tuple[Plan, Search]]:
        """Every search with its plan."""
        from sweeps.asked import searches
        from sweeps.search import Search

        return [(plan, Search(study)) for plan, study in searches(self._ledger)]

    def _find(self, trial: int) -> tuple[Search, dict[str, Any]] | None:
        """Returns the search a trial belongs to and its configuration; None if there is none of this number."""
        from sweeps.asked import config_of

        for plan, search in self._searches:
            index = trial - plan.offset
            if search.learns and 0 <= index < search.sampler.size:
                made = self._suggested[plan.plan_id]
                return (search, dict(made[index].config)) if index < len(made) else None
            if 0 <= index < search.sampler.size:
                return search, config_of(search.study, search.sampler.configs(index, index + 1)[0])
        return None

    @cached_property
    def _suggested(self) -> dict[int, list[Member]]:
        """What each plan's sampler has suggested, where it learns; read once, as there may be thousands of batches."""
        from sweeps.suggestions import distinct

        return {plan.plan_id: distinct(self._ledger, plan) for plan, search in self._searches if search.learns}

    @cached_property
    def _stops(self) -> dict[int, dict[str, Any]]:
        return {event["trial"]: event["detail"] for event in self._ledger.events("stopped", limit=None)}

    def why(self, which: int | str) -> Ending:
        try:
            row = self._ledger.trial(which)
        except LedgerError:
            if (open_ := self.how_far(which)) is None:
                raise
            return open_
        trial, status = int(row["trial"]), str(row["status"])
        found = self._find(trial)
        search, config = found if found is not None else (self._searches[-1][1], row["config"])
        facts = self._facts(trial, search, config)
        if row["source"]:
            words = f"completed in the study {row['source']}, from which its result was taken over"
            return Ending(status="reused", words=words, **facts)
        if status == "failed":
            words = failure_words(str(row["error"]), facts["step"])
            if row["failures"]:
                words += f" (tried {len(row['failures']) + 1} times)"
            return Ending(status="failed", words=words, **facts)
        facts |= self._judged(trial, search)
        if status == "stopped":
            decision = self._stops.get(trial, {})
            if not decision:
                return Ending(status="stopped", words=f"stopped early at step {facts['step']:,}; no reason is on record", **facts)
            words = stop_words(decision, facts["step"], self._metric)
            ended = "diverged" if decision.get("rule") == "diverged" else "stopped"
            return Ending(status=ended, words=words, decision=decision, ahead=tuple(self._ahead(decision)), **facts)
        value, step = shown(self._value(self._rows[trial][-1]), self._metric) if trial in self._rows else "", facts["step"]
        return Ending(status="completed", words=f"completed at step {step:,}{early(step, facts['last'])}: {value}", **facts)

    def how_far(self, which: int | str) -> Ending | None:
        text = str(which).strip()
        if not text.isdecimal() or len(text) > 18 or (found := self._find(int(text))) is None:
            return None
        (search, config), trial = found, int(text)
        header = self._ledger.header
        numbers, _ = self._ledger.found([config_id(header.context_id, config, header.defaults)])
        facts = self._facts(trial, search, config)
        if numbers[0] >= 0:
            return Ending(status="same", words=f"the same configuration as trial {numbers[0]}, which has its result", **facts)
        if not (step := facts["step"]):
            words = "not started, or not far enough for a report" if self._written else "not started"
            return Ending(status="waiting", words=words, **facts)
        words = f"at {reach(step, facts['last'])}, {shown(self._value(self._rows[trial][-1]), self._metric)}"
        facts |= self._judged(trial, search)
        if self._written:
            return Ending(status="running", words=f"not ended: {words}; the study is running", **facts)
        return Ending(status="waiting", words=f"interrupted {words}; the next run goes on from there", **facts)

    def _facts(self, trial: int, search: Search, config: Mapping[str, Any]) -> dict[str, Any]:
        rows, kept = self._rows.get(trial, []), recorded_rules(self._ledger)
        return {
            "trial": trial,
            "step": rows[-1].step if rows else 0,
            "last": self._last(search, config),
            "swept": self._swept(search, config),
            "metric": self._metric,
            "rule": kept[0].kind if kept else str(search.study.scheduler.get("kind", "asha")),
            "notes": notes_of(rows),
        }

    def _last(self, search: Search, config: Mapping[str, Any]) -> int:
        from trainables.contract import TrainableError
        from trainables.stepping import Stepping

        with suppress(TrainableError):  # somebody's own, in a folder other than this one
            if isinstance(search.trainable, Stepping):
                return search.trainable.last_step({**self._ledger.header.defaults, **config})
        return 0

    def _swept(self, search: Search, config: Mapping[str, Any]) -> dict[str, Any]:
        names = self._ledger.header.metric_names
        return {parameter_label(name, names): config[name] for name in search.space.names if name in config}

    def _value(self, row: ReportRow) -> float:
        return float(row.metrics[self._place])

    def _judged(self, trial: int, search: Search) -> dict[str, Any]:
        """Judges all reports again; returns where the trial went on, and whether the stops of its search are those on record.

        Stops of another search were another scheduler's, with rungs of its own.
        """
        rules, objective = recorded_rules(self._ledger) or (search.rules(), search.objective)
        scheduler, place = rules.make(), self._ledger.header.metric_names.index(objective)
        best = min if rules.direction == "min" else max
        first = next(plan.offset for plan, made in self._searches if made is search)
        own, alone, stops, seen = [], [], {}, list[float]()
        for row in reports.read(self._ledger):
            decision = scheduler.report(row.trial, row.step, value := float(row.metrics[place]))
            # Behind at its last step a trial is completed all the same; in older ledgers it was stopped there, and is so again.
            spared = row.trial not in self._stops and row.step == self._rows[row.trial][-1].step
            if decision.stop and not spared:
                stops[row.trial] = _essence(vars(decision))
            elif row.trial == trial:
                seen.append(value)
                if decision.rung is not None:
                    own.append(Judged(row.step, decision, best(seen) if rules.kind == "median" else value))
                elif decision.of is not None:
                    alone.append((row.step, decision.of - 1))
        theirs = range(first, first + search.sampler.size)
        recorded = {number: _essence(detail) for number, detail in self._stops.items() if detail.get("rule") != PERSON}
        if {n: s for n, s in stops.items() if n in theirs} != {n: s for n, s in recorded.items() if n in theirs}:
            return {"replayed": False}
        return {"judged": tuple(own), "alone": tuple(alone), "least": rules.least}

    def _ahead(self, decision: Mapping[str, Any]) -> Iterator[Rival]:
        for trial in decision.get("ahead", ()):
            rows = self._rows.get(trial, [])
            if decision["rule"] == "median":
                until = [self._value(row) for row in rows if row.step <= decision["rung"]]
                value = math.fsum(until) / len(until) if until else math.nan
            else:
                value = next((self._value(row) for row in rows if row.step >= decision["rung"]), math.nan)
            found = self._find(trial)
            yield Rival(trial, value, self._swept(*found) if found else {}, self._ended(trial))

    def _ended(self, trial: int) -> str:
        """Returns what became of a trial, in a few words."""
        rows = self._rows.get(trial, [])
        step = rows[-1].step if rows else 0
        try:
            row = self._ledger.trial(trial)
        except LedgerError:
            return f"not ended, at step {step:,}"
        if row["status"] == "stopped":
            rule = self._stops.get(trial, {}).get("rule")
            return f"{'diverged' if rule == 'diverged' else 'stopped'} at step {step:,}"
        value = format_value(row["metrics"][self._metric.name], shown_unit(self._metric))
        return f"completed: {value}" if row["status"] == "completed" else f"failed after step {step:,}"


def kept_rules(ledger: LedgerReader, rules: Rules, objective: str) -> tuple[Rules, str]:
    """Returns the scheduler's rules and the metric it judges by: those a study began with, or these if it has not begun."""
    return recorded_rules(ledger) or (rules, objective)


def recorded_rules(ledger: LedgerReader) -> tuple[Rules, str] | None:
    """Returns the scheduler's rules a study began with, and the metric it judges by; None if it has not begun."""
    for event in ledger.events(SCHEDULER, limit=1):
        return Rules(**event["detail"]["rules"]), str(event["detail"]["objective"])
    return None


def _essence(decision: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(decision.get(key) for key in ("rule", "rung", "rank", "of"))

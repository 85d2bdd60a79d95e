"""Trials that report as they go: how they fared at each rung, and their learning curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from results import reports
from results.reader import LedgerReader
from search_spaces.stopping import Rules
from sweeps.endings import PERSON, recorded_rules
from sweeps.report.part import Missing

CURVES: Final = 60
BEST: Final = 20  # of them, the best completed
POINTS: Final = 200  # of a curve
DOTS: Final = 300  # of a rung
ENDS: Final[Mapping[str, str]] = {"completed": "completed", "stopped": "stopped early", "failed": "failed"}


@dataclass(frozen=True)
class Rung:
    """What became of the trials that came to a rung.

    Attributes:
        step: Of the rung.
        bracket: Group whose ladder this is of, from 0.
        judged: Trials that came there.
        promoted: Of these, went on.
        stopped: Of these, were stopped there.
        other: Of these, ended or wait there for another reason: a failure, a person, the end of the session.
        cutoff: What a trial that came now would have to reach; NaN where none came.
        dots: Of trials that came there, as (trial, value, whether it went on); of many a sample through the ranks.
    """

    step: int
    bracket: int
    judged: int
    promoted: int
    stopped: int
    other: int
    cutoff: float
    dots: tuple[tuple[int, float, bool], ...]


@dataclass(frozen=True)
class Curve:
    """One trial's reports.

    Attributes:
        trial: Its number.
        ended: "completed", "stopped early", "failed" or "not ended".
        steps: Of its reports.
        values: Of the objective; NaN where it was none.
    """

    trial: int
    ended: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Steps:
    """What trials reported, and what was decided.

    Attributes:
        rules: Of the scheduler; None where none is on record.
        objective: By which it judged.
        rungs: Of asha; none of other schedulers.
        curves: The best first, then others through the ranks.
        trials: Trials with reports.
        ends: How trials ended, by `Curve.ended`.
        made: Steps made.
        full: Steps it would have taken to bring all of them to the last step; None where trials differ in it, or none is known.
        diverged: Trials ended because a report was no number.
        by_person: Trials a person ended.
    """

    rules: Rules | None
    objective: str
    rungs: tuple[Rung, ...]
    curves: tuple[Curve, ...]
    trials: int
    ends: Mapping[str, int]
    made: int
    full: int | None
    diverged: int = 0
    by_person: int = 0


def steps_of(ledger: LedgerReader) -> Steps | Missing:
    """Gathers what trials reported; of each only the objective is held."""
    said: dict[int, tuple[list[int], list[float]]] = {}
    found = recorded_rules(ledger)
    rules, objective = found or (None, ledger.header.objective)
    place = ledger.header.metric_names.index(objective)
    for row in reports.read(ledger):
        steps, values = said.setdefault(row.trial, ([], []))
        steps.append(row.step)
        values.append(float(row.metrics[place]))
    if not said:
        begun = "no trial has reported yet" if found else "its trials are evaluated whole, in packs, and report nothing on the way"
        return Missing(begun)
    status: dict[int, str] = {}
    for batch in ledger.stream(["trial", "status"]):
        status |= {n: s for n, s in zip(batch["trial"], batch["status"], strict=True) if n in said}
    ended = {n: ENDS.get(status.get(n, ""), "not ended") for n in said}
    stops = {event["trial"]: event["detail"] for event in ledger.events("stopped", limit=None)}
    direction = ledger.header.metric(objective).direction or "max"
    rungs = _rungs(rules, said, ended, stops) if rules is not None and rules.kind == "asha" else ()
    ends = {word: n for word in ("completed", "stopped early", "failed", "not ended") if (n := sum(e == word for e in ended.values()))}
    last = {steps[-1] for n, (steps, _) in said.items() if ended[n] == "completed"}
    made = sum(steps[-1] for steps, _ in said.values())
    full = len(said) * rules.total if rules is not None and last == {rules.total} else None
    return Steps(
        rules,
        objective,
        rungs,
        tuple(_curves(said, ended, direction)),
        len(said),
        ends,
        made,
        full,
        sum(detail.get("rule") == "diverged" for detail in stops.values()),
        sum(detail.get("rule") == PERSON for detail in stops.values()),
    )


def _rungs(
    rules: Rules, said: Mapping[int, tuple[list[int], list[float]]], ended: Mapping[int, str], stops: Mapping[int, Mapping[str, Any]]
) -> tuple[Rung, ...]:
    """Reads off the reports who came to which rung, and off the recorded decisions who was stopped there."""
    at: dict[tuple[int, int], list[tuple[float, int, str]]] = {}
    for trial, (steps, values) in said.items():
        ladder = rules.ladder(trial, rules.total)
        bracket = rules.judged.index(ladder[0]) if ladder else 0
        stop = stops.get(trial, {})
        for place, rung in enumerate(ladder):
            value = next((v for s, v in zip(steps, values, strict=True) if s >= rung), None)
            if value is None:
                break
            if stop.get("rule") == "asha" and stop.get("rung") == rung:
                at.setdefault((bracket, rung), []).append((value, trial, "stopped"))
                break
            # A rung is left by a report beyond it, or by the trial's end at its last step.
            later = ladder[place + 1] if place + 1 < len(ladder) else rules.total
            went = steps[-1] > rung or ended[trial] == "completed" or steps[-1] >= later
            at.setdefault((bracket, rung), []).append((value, trial, "promoted" if went else "other"))
    found = []
    for (bracket, rung), came in sorted(at.items()):
        sign = -1.0 if rules.direction == "max" else 1.0
        came.sort(key=lambda item: (math.inf if math.isnan(item[0]) else sign * item[0], item[1]))
        places = max(1, math.ceil(len(came) / rules.factor))
        fates = [fate for _, _, fate in came]
        shown = came if len(came) <= DOTS else [came[round(i * (len(came) - 1) / (DOTS - 1))] for i in range(DOTS)]
        dots = tuple((trial, value, fate == "promoted") for value, trial, fate in shown if math.isfinite(value))
        counts = (fates.count("promoted"), fates.count("stopped"), fates.count("other"))
        found.append(Rung(rung, bracket, len(came), *counts, came[places - 1][0], dots))
    return tuple(found)


def _curves(said: Mapping[int, tuple[list[int], list[float]]], ended: Mapping[int, str], direction: str) -> list[Curve]:
    sign = -1.0 if direction == "max" else 1.0

    def rank(trial: int) -> tuple[bool, float, int]:
        last = said[trial][1][-1]
        return ended[trial] != "completed", math.inf if math.isnan(last) else sign * last, trial

    order = sorted(said, key=rank)
    if len(order) > CURVES:
        rest = np.linspace(BEST, len(order) - 1, CURVES - BEST).round().astype(int).tolist()
        order = [*order[:BEST], *(order[i] for i in rest)]
    made = []
    for trial in order:
        steps, values = said[trial]
        keep = range(len(steps)) if len(steps) <= POINTS else sorted({round(i * (len(steps) - 1) / (POINTS - 1)) for i in range(POINTS)})
        made.append(Curve(trial, ended[trial], tuple(steps[i] for i in keep), tuple(values[i] for i in keep)))
    return made

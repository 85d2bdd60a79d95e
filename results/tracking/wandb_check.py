"""Compares what a W&B run holds with what the ledger gives; says what is missing, and what contradicts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from results.tracking.projection import done_at
from results.tracking.tracker import Point, Rows, TrialRun
from results.tracking.wandb_tables import BOARD, X_AXIS, Row, digest, table_of

Held = Mapping[str, Any]


@dataclass
class Findings:
    """What is not as it should be.

    Attributes:
        missing: Can be written later.
        wrong: Of the study's run: cannot be mended by writing more, a new run has to take its place.
        trials: Ids of runs of trials of which the same is true, and why.
    """

    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    trials: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """All of it."""
        return [*self.wrong, *self.missing, *self.trials.values()]


def contradiction(held: Held) -> str | None:
    """Return why a run cannot be gone on with, in words; None if it can.

    Args:
        held: done: of each row of its history the place on the x-axis, None if the row has no step of its own or is no point; next: the
            step its summary goes on at.
    """
    for index, value in enumerate(held["done"]):
        if value != done_at(index):
            return f"row {index} of its history is {'no point' if value is None else f'that of {value:g} trials'}, not of {done_at(index)}"
    if held["next"] > len(held["done"]):  # the client begins there, and drops what is before without a word
        return f"its history has {len(held['done'])} points, and its summary says {held['next']}"
    return None


def compare(
    held: Held, points: int | Sequence[Point], rows: int | Iterable[Rows], trials: Collection[int] | Sequence[TrialRun]
) -> Findings:
    """Return what a run lacks, or has too much.

    Args:
        held: What was read back (`wandb_readback.Server.held`, `wandb_offline.held`).
        points: Of the ledger; a number if only that is to be compared.
        rows: The same, of the table of all trials.
        trials: That have runs of their own; only their numbers if the content is not to be compared.
    """
    found = Findings()
    if not held["found"]:
        found.missing.append(f"there is no run {held['run']}")
        return found
    _points(found, held["history"], points)
    _rows(found, held["increments"], rows)
    board = held["summary"].get(BOARD)
    if board and board.get("path") not in held["files"]:
        found.missing.append("the leaderboard was not taken in")
    if held["summary"].get("files") and not held["kept"]:
        found.missing.append(f"files were not taken in: {', '.join(held['summary']['files'])}")
    each: list[int | TrialRun] = list(trials)
    for trial in sorted(each, key=lambda one: one if isinstance(one, int) else one.trial):
        _trial(found, held["trials"], trial)
    return found


def _points(found: Findings, history: Sequence[Mapping[str, Any]], points: int | Sequence[Point]) -> None:
    count = points if isinstance(points, int) else len(points)
    if len(history) > count:
        found.wrong.append(f"the history has {len(history):,} rows, and the ledger gives {count:,} points")
    for index, row in enumerate(history[:count]):
        expected = {X_AXIS: done_at(index)} if isinstance(points, int) else {X_AXIS: points[index].done, **points[index].values}
        shown = {name: value for name, value in row.items() if name != "_step" and value is not None}
        given = {name: shown.get(name) for name in expected} if isinstance(points, int) else shown
        if row.get("_step") != index or given != expected:
            found.wrong.append(f"row {index} of the history is not the ledger's point {index}")
            return
    if len(history) < count:
        found.missing.append(f"{count - len(history):,} of {count:,} points")


def _rows(found: Findings, increments: Sequence[Mapping[str, Any]], rows: int | Iterable[Rows]) -> None:
    lost = [n for n, one in enumerate(increments) if one["digest"] is None]
    if lost:
        found.missing.append(f"{len(lost)} of {len(increments)} increments of the table of trials, the first of them number {lost[0]}")
    whole = increments[: lost[0]] if lost else increments
    there = sum(int(one["rows"]) for one in whole)
    if isinstance(rows, int):
        count = rows
    else:
        given: list[Row] = []
        count, at = 0, 0
        for batch in rows:
            given += table_of(batch.frame)[1]
            count += len(batch.frame)
            while at < len(whole) and len(given) >= whole[at]["rows"]:
                part, given = given[: whole[at]["rows"]], given[whole[at]["rows"] :]
                if digest(part) != whole[at]["digest"]:
                    found.wrong.append(f"increment {at} of the table of trials is not what the ledger gives")
                    return
                at += 1
    if there > count:
        found.wrong.append(f"the table of trials has {there:,} rows, and the ledger gives {count:,}")
    elif there < count:
        found.missing.append(f"{count - there:,} of {count:,} rows of the table of trials")


def _trial(found: Findings, held: Mapping[str, Any], trial: int | TrialRun) -> None:
    number = trial if isinstance(trial, int) else trial.trial
    one = held.get(str(number))
    if one is None or not one["found"]:
        found.missing.append(f"the run of trial {number}")
    elif not isinstance(trial, int) and one["lines"] > len(trial.reports):
        found.trials[one["run"]] = f"the run of trial {number} has {one['lines']} reports, and the ledger {len(trial.reports)}"
    elif not one["whole"]:
        found.missing.append(f"the run of trial {number} is not whole")
    elif not isinstance(trial, int) and (what := _differs(one, trial)):
        found.trials[one["run"]] = f"the run of trial {number} differs from the ledger: {what}"


def _differs(one: Mapping[str, Any], trial: TrialRun) -> str:
    if any(one["summary"].get(name) != value for name, value in trial.metrics.items()):
        return "metrics"
    if one["summary"].get("status") != trial.status:
        return "status"
    reports = [{k: v for k, v in row.items() if k != "_step"} for row in one.get("history", ())]
    if "history" in one and reports != [{**metrics, "step": step} for step, metrics in trial.reports]:
        return "reports"
    return ""

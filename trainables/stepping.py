"""Trainables that take time: they report along an axis of their own, can be ended there, and go on where they were.

A fine-tune reports every so many optimiser steps, a policy every epoch. Between two reports nobody asks; at a report a
scheduler may end the trial. The axis is the trainable's own (`fidelity`), never a count of calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, runtime_checkable
from typing import Protocol as Contract

import numpy as np

from results.metrics import Metric
from trainables.contract import Parameter, Prepared

if TYPE_CHECKING:
    from trainables.timeline import Protocol


@dataclass(frozen=True)
class Report:
    """How far a trial is and how it does there.

    Attributes:
        step: On the trainable's own axis, ascending.
        metrics: A value for each declared metric; one left out or not a number is n/a. The objective is never left out: NaN says that
            the trial has diverged.
        note: What a person should know, such as a batch halved for lack of memory.
        returns: Daily simple returns, float32 (D,) for the days of `Prepared.days`, where there are any: what significance is
            judged by. Those of a trial's last report are kept.
    """

    step: int
    metrics: Mapping[str, float]
    note: str = ""
    returns: np.ndarray | None = None


@dataclass(frozen=True)
class StepContext:
    """Where and with what a trial runs.

    Attributes:
        inputs: `Prepared.inputs`.
        folder: The trial's own, on a disk that outlives the process; its checkpoints are in it.
        reached: Step of the last report that was taken, 0 for none.
        seed: The trial's own, derived from the study's seed and the configuration; never use a global generator.
        device: "cpu" or a torch device string.
    """

    inputs: Any
    folder: Path
    reached: int = 0
    seed: int = 0
    device: str = "cpu"


@runtime_checkable
class Stepping(Contract):
    """A trainable that reports as it goes."""

    name: str
    version: str
    parameters: tuple[Parameter, ...]
    metrics: tuple[Metric, ...]
    objective: str
    fidelity: str

    def prepare(
        self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Protocol | None = None, part: str = "search"
    ) -> Prepared:
        """Loads and checks data, see `Trainable.prepare`. What cannot work (a model that is not there) is said here."""
        ...

    def last_step(self, config: Mapping[str, Any]) -> int:
        """Returns the step at which a complete configuration is done."""
        ...

    def evaluate(self, config: Mapping[str, Any], ctx: StepContext) -> Iterator[Report]:
        """Runs a complete configuration and yields a report at each evaluation.

        When a report is yielded, `ctx.folder` holds a checkpoint of that very step. Called again with the same folder it goes on
        from there and yields the reports after `ctx.reached`, equal to those of a run that was never interrupted: where a kill came
        between a checkpoint and its report, the report of the checkpoint's own step is made first. Closing the generator
        releases memory.
        """
        ...


@runtime_checkable
class Announces(Contract):
    """A stepping trainable that knows beforehand where it reports, so that it can be said where a scheduler can judge."""

    def reports_at(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> Sequence[int]:
        """Returns the steps at which a complete configuration reports, ascending; the settings are those of the study file."""
        ...


@runtime_checkable
class Exports(Contract):
    """A stepping trainable whose trials leave something that is of use elsewhere, such as weights."""

    def export(
        self,
        config: Mapping[str, Any],
        ctx: StepContext,
        folder: Path,
        merged: bool = False,
        name: str = "",
        curve: Sequence[Mapping[str, Any]] = (),
    ) -> list[Path]:
        """Writes what a trial has learnt, from the checkpoint in `ctx.folder`, which stays as it is.

        Args:
            config: The trial's complete configuration.
            ctx: As it ran, with the step of its last report.
            folder: Where to; what is not an earlier export is never replaced.
            merged: Also in the form that needs nothing else, if there is one.
            name: Of the trial, as study/trial.
            curve: Its reports, `step` and metrics each.

        Returns:
            The folders written.

        Raises:
            TrainableError: Nothing to export, or nowhere.
        """
        ...


@runtime_checkable
class Prunes(Contract):
    """A stepping trainable whose checkpoints hold what is of no use once a trial has ended, such as an optimiser's moments."""

    def prune(self, folder: Path) -> None:
        """Removes from an ended trial's folder what only going on needs.

        Called in the driver once the result of a trial that was completed or stopped is in the ledger, maybe before a stopped
        trial's generator is closed; never for one that failed, which `--retry-failed` lets go on. It is called again in later
        sessions, since a kill may come between ledger and pruning: what is gone is gone, and an empty folder is no error. What it
        raises is put on record and harms no trial; the next session tries again. The driver waits for it: be quick.

        Afterwards `export` gives what it gave before. If `evaluate` is called all the same (a ledger was put back from a backup), it
        must see that something is missing and start over; at the trial's end it still has nothing to report.

        Args:
            folder: The trial's own, `StepContext.folder`.
        """
        ...

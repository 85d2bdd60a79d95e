"""Trials that report as they go on Ray Tune: one Tune trial is one configuration, judged by the study after each report.

Tune places trials on workers and keeps actors between them; what it would decide itself (early stopping, restoring) the study's
feed decides, because Tune forgets it all when its driver is killed. Checkpoints lie in the trial's own folder, so a trial goes on
wherever its folder can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cluster.packs import Host, fit


@dataclass(frozen=True)
class TrialTask:
    """A trial to run or to go on with.

    Attributes:
        attempt: Fencing number.
        point: Number of its configuration, or this itself where no number makes it.
        folder: Of its checkpoints.
        reached: Step of its last report that was taken, 0 for none.
    """

    attempt: int
    point: Any
    folder: str
    reached: int = 0


@dataclass(frozen=True)
class TrialReport:
    """What a worker says of a trial.

    Attributes:
        attempt: Fencing number of the task.
        step: On the trainable's axis.
        metrics: By name.
        seconds: Since the report before, without waiting.
        note: For people.
        returns: Daily returns, float32 (D,), if it has any.
    """

    attempt: int
    step: int
    metrics: Mapping[str, float]
    seconds: float
    note: str = ""
    returns: np.ndarray | None = None


class TrialFeed(Protocol):
    """The study's side: hands out trials, judges reports, in the driver."""

    def next(self) -> TrialTask | None:
        """Returns a trial, or None if there is none now."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether no trial will ever come again."""
        ...

    def report(self, report: TrialReport) -> bool:
        """Takes a report; True ends the trial."""
        ...

    def finished(self, attempt: int) -> None:
        """Learns that a trial has come to its end."""
        ...

    def failed(self, attempt: int, error: str) -> None:
        """Learns that a trial raised."""
        ...

    def crashed(self, attempt: int, error: str) -> None:
        """Learns that a trial's worker died."""
        ...


# (point, folder, reached, device, inputs) -> reports with step, metrics, note and returns
Run = Callable[[Any, Path, int, str, Any], Iterator[Any]]


def run_trials(
    feed: TrialFeed,
    run: Run,
    inputs: Any,
    *,
    slots: int,
    resources: Mapping[str, float],
    scratch: Path,
    name: str,
    host: Host = nullcontext,
) -> None:
    """Runs trials on the connected Ray cluster until the feed is exhausted.

    Args:
        feed: Source of trials and judge of reports.
        run: Called in workers as run(point, folder, reached, device, inputs); must be picklable.
        inputs: Shared with every worker once, through the object store.
        slots: Trials at once.
        resources: Of one trial: `cpu`, `gpu` (a share of a card is allowed).
        scratch: Folder for what Tune writes.
        name: Unique name of the experiment on the cluster.
        host: Called and entered once in every worker; must be picklable.

    Raises:
        WorkerError: Workers cannot start. Otherwise what the feed raised, after the trials in flight.
    """
    from ray import tune

    from cluster._tune_steps import DeliverReports, Judge, StepTrainable, TrialSearch

    search = TrialSearch(feed)
    trainable = tune.with_resources(tune.with_parameters(StepTrainable, run=run, inputs=inputs, host=host), dict(resources))
    fit(search, trainable, DeliverReports(search), slots=slots, scratch=scratch, name=name, scheduler=Judge(search))

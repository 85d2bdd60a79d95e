"""Packs on Ray Tune: one Tune trial is one pack of configurations, on actors that are kept between packs.

A Tune trial costs about 0.1 s and 10 KB, a selector back-test microseconds; so a trial carries as many configurations
as fill about a second. Only their numbers travel, where a sampler is a pure function of the number and a worker can make the
configurations again; back comes one block of metrics. What Tune writes about the experiment is a throw-away
projection; the ledger, fed through `PackFeed`, is the truth.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from results.secrets import redacted


class PackError(ValueError):
    """A pack's result belongs to none of its configurations; evaluating them apart would hide what is wrong."""


class WorkerError(ValueError):
    """Workers cannot work, whatever the configuration; the message has the cause."""


@dataclass(frozen=True)
class PackTask:
    """A pack to run: its fencing number and the numbers of its configurations, or these themselves where no number makes them."""

    attempt: int
    points: tuple[Any, ...]


@dataclass(frozen=True)
class PackResult:
    """What a worker made of a pack.

    Attributes:
        attempt: Fencing number of the task.
        metrics: float64 (n, metrics), NaN rows for failed points.
        errors: Message by position, for points that failed alone.
        seconds: Time the evaluation took, without waiting.
    """

    attempt: int
    metrics: np.ndarray
    errors: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0


class PackFeed(Protocol):
    """The study's side: hands out packs and takes results, in the driver."""

    def next(self) -> PackTask | None:
        """Returns a pack, or None if there is none now."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether no pack will ever come again, also not from packs still running."""
        ...

    @property
    def ahead(self) -> bool:
        """Whether the next pack may be asked for before the results of the last are delivered."""
        ...

    def deliver(self, result: PackResult) -> None:
        """Takes a finished pack."""
        ...

    def crashed(self, attempt: int, error: str) -> None:
        """Learns that a pack's worker died."""
        ...


# (points) -> float64 (n, metrics); raises if any configuration of the pack fails.
Evaluate = Callable[[Sequence[Any], Any], np.ndarray]

# Makes what a worker enters when it starts and stays in until its process ends: a cache that is offered there, say.
Host = Callable[[], AbstractContextManager[Any]]


def isolate(evaluate: Callable[[Sequence[Any]], np.ndarray], points: Sequence[Any], width: int) -> tuple[np.ndarray, dict[int, str]]:
    """Evaluates a pack; halves it where it fails until each failing point stands alone.

    Args:
        evaluate: Evaluates points, one row of `width` metrics each, or raises.
        points: Numbers of the configurations, or these.
        width: Number of metrics.

    Returns:
        (metrics, errors by position). One bad point among n costs about 2·log2(n) calls, its neighbours nothing. After a
        `PackError` all points have failed.
    """
    try:
        return evaluate(points), {}
    except PackError as error:
        return np.full((len(points), width), np.nan), dict.fromkeys(range(len(points)), failure(error))
    except Exception as error:
        if len(points) == 1:
            return np.full((1, width), np.nan), {0: failure(error)}
        half = len(points) // 2
        left, bad = isolate(evaluate, points[:half], width)
        right, worse = isolate(evaluate, points[half:], width)
        return np.concatenate([left, right]), bad | {half + i: text for i, text in worse.items()}


def failure(error: Exception) -> str:
    """Returns what is kept of an error: its kind and message, without secrets of the process that raised it."""
    return redacted(f"{type(error).__name__}: {error}")


def run_packs(
    feed: PackFeed,
    evaluate: Evaluate,
    inputs: Any,
    width: int,
    *,
    slots: int,
    scratch: Path,
    name: str,
    host: Host = nullcontext,
) -> None:
    """Runs packs on the connected Ray cluster until the feed is exhausted.

    Args:
        feed: Source of packs and sink of results.
        evaluate: Called in workers as evaluate(points, inputs); must be picklable.
        inputs: Shared with every worker once, through the object store; arrays are not copied.
        width: Number of metrics.
        slots: Packs at once, one CPU each.
        scratch: Folder for what Tune writes.
        name: Unique name of the experiment on the cluster.
        host: Called and entered once in every worker; must be picklable.

    Raises:
        WorkerError: Workers cannot start. Otherwise what the feed raised, after the packs in flight.
    """
    from ray import tune

    from cluster._tune import Deliver, FeedSearch, PackTrainable

    search = FeedSearch(feed)
    parameters = {"evaluate": evaluate, "inputs": inputs, "width": width, "host": host}
    trainable = tune.with_resources(tune.with_parameters(PackTrainable, **parameters), {"cpu": 1})
    fit(search, trainable, Deliver(search), slots=slots, scratch=scratch, name=name)


def fit(search: Any, trainable: Any, deliver: Any, *, slots: int, scratch: Path, name: str, scheduler: Any = None) -> None:
    """Runs a Tune experiment that keeps nothing; raises what the search's feed raised."""
    # Tune's own stop on SIGINT, loggers and snapshots cost time per trial; the ledger does their work.
    os.environ.update(
        {
            "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
            "TUNE_DISABLE_SIGINT_HANDLER": "1",
            "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
            "TUNE_MAX_PENDING_TRIALS_PG": str(slots + 1),
            "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
            "RAY_AIR_NEW_OUTPUT": "0",
        }
    )
    import logging

    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # an error is told once, by us
    trainable.__name__ = name
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(search_alg=search, scheduler=scheduler, num_samples=-1, reuse_actors=True, max_concurrent_trials=slots),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(scratch),
            callbacks=[deliver],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    )
    try:
        tuner.fit()
    finally:
        search.write()  # nothing is left but where Tune was interrupted
    if search.failure is not None:
        raise search.failure


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Returns what a call returns and the seconds it took."""
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start

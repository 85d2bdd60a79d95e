"""The three pieces Ray Tune needs: who suggests packs, who runs them, who takes results."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from cluster.packs import Host, PackFeed, PackResult, PackTask, WorkerError, isolate, timed
from results.secrets import redacted


class FeedSearch(Searcher):
    """Suggests the feed's next pack, holds results until they are written, and keeps the error that ends the run."""

    def __init__(self, feed: PackFeed):
        super().__init__(metric="points", mode="max")
        self.feed = feed
        self.running: dict[str, PackTask] = {}
        self.arrived: list[PackResult] = []
        self.over = False
        self.failure: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the feed out of Tune's pickles of the experiment, which nothing ever loads: the ledger is the state."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """Returns the next pack's configuration, None to be asked again, or FINISHED."""
        task = self._next()
        if task is None and self.arrived:  # what it waits for may be among these
            self.write()
            task = self._next()
        if task is not None:
            self.running[trial_id] = task
            return {"attempt": task.attempt, "points": _compact(task.points)}
        self.over = self.failure is not None or self.feed.exhausted
        return Searcher.FINISHED if self.over else None

    def _next(self) -> PackTask | None:
        with self.guarded():
            return None if self.failure else self.feed.next()
        return None

    def write(self) -> None:
        """Hands the feed the results that have arrived."""
        while self.arrived:
            with self.guarded():
                self.feed.deliver(self.arrived.pop(0))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Does nothing: results and errors come through `Deliver`, which sees more of them."""

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Keeps an error of the study's side (a full disk, say) from becoming one of Tune's; it ends the run."""
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Restores nothing: the ledger is the state."""


class Deliver(tune.Callback):
    """Hands packs' results to the feed and drops them from Tune's memory.

    Writing a pack of thousands takes some tenths of a second. Where the feed allows it, its worker has the next pack before that.
    """

    LONGEST = 0.5  # seconds a result waits for its worker to be given work

    def __init__(self, search: FeedSearch):
        self.search = search
        self._idle = 0  # workers that have delivered and not yet been given the next pack
        self._since = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the search out of Tune's pickles of the experiment."""
        return {}

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
        """Takes the payload out of the result before Tune stores it."""
        payload = result.pop("pack", None)
        result.get("config", {}).pop("points", None)
        if payload is None or self.search.running.pop(trial.trial_id, None) is None:
            return
        self._since = self._since if self.search.arrived else time.monotonic()
        self.search.arrived.append(payload)
        self._idle += 1
        if self.search.over or not self.search.feed.ahead:
            self._write()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Learns that a worker is about to be given a pack; it has it when the step ends."""
        self._idle = max(0, self._idle - 1)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Forgets the numbers of a pack that is done: Tune keeps every trial."""
        trial.config.pop("points", None)
        trial.evaluated_params.clear()

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Writes results when nobody waits for work, or has waited for too long (for a worker that died, say)."""
        if self.search.arrived and (self._idle == 0 or time.monotonic() - self._since > self.LONGEST):
            self._write()

    def _write(self) -> None:
        self.search.write()
        self._idle = 0

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tells a worker that died, which its configurations may have killed, from one that cannot work at all."""
        task = self.search.running.pop(trial.trial_id, None)
        if task is None:
            return
        self.search.write()  # what others brought counts for what a death says of the study
        # Tune keeps the error's text only in this file, until the storage is synchronised, which it never is.
        reason = " ".join(redacted(Path(trial.error_file).read_text(errors="replace")).split()) if trial.error_file else "unknown"
        reason = reason.partition(") ")[2] or reason  # after "Failure # 1 (occurred at …)"
        # Of a node that is gone Ray says that the actor died, or first, while it only sees the connection break, that it is unavailable.
        if any(words in reason for words in ("actor died", "is unavailable")) and "creation task" not in reason:
            with self.search.guarded():
                self.search.feed.crashed(task.attempt, f"the worker process died: {reason[:300]}")
            return
        # Nothing a configuration does: the trainable does not import there, or its inputs do not arrive.
        with self.search.guarded():
            self.search.feed.crashed(task.attempt, reason[:300])
        self.search.failure = self.search.failure or WorkerError(f"workers cannot start: {reason[-600:]}")


class PackTrainable(tune.Trainable):
    """Evaluates one pack per step on an actor that outlives the pack."""

    def setup(self, config: dict[str, Any], evaluate: Any = None, inputs: Any = None, width: int = 0, host: Host = nullcontext) -> None:
        """Keeps what is shared by all packs."""
        self._host = host()
        self._host.__enter__()  # until the process ends
        self._evaluate, self._inputs, self._width = evaluate, inputs, width
        self._task = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next pack."""
        self._task = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Evaluates the pack."""
        points = _expand(self._task["points"])
        (metrics, errors), seconds = timed(lambda: isolate(lambda p: self._evaluate(p, self._inputs), points, self._width))
        return {"pack": PackResult(self._task["attempt"], metrics, errors, seconds), "points": len(points), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """A pack is never checkpointed: it is repeated."""


class _Numbers:
    """Numbers of configurations in a few bytes each, for Tune keeps, copies and prints what a trial was given.

    As bytes: an array in what a worker sends back would keep the whole message in Ray's object store for as long as Tune keeps the trial.
    """

    def __init__(self, numbers: Sequence[int]):
        self._first = min(numbers, default=0)
        offsets = np.array(numbers, np.int64) - self._first
        self._kind = np.min_scalar_type(int(offsets.max(initial=0))).str
        self._offsets = offsets.astype(self._kind).tobytes()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Numbers:
        return self  # it never changes

    def __repr__(self) -> str:
        return "<numbers of configurations>"

    def to_list(self) -> list[int]:
        """Returns the numbers."""
        return (np.frombuffer(self._offsets, self._kind).astype(np.int64) + self._first).tolist()


def _compact(points: tuple[Any, ...]) -> Any:
    """Writes numbers in few bytes; configurations stay as they are."""
    return list(points) if any(isinstance(p, Mapping) for p in points) else _Numbers(points)


def _expand(points: Any) -> list[Any]:
    """Undoes `_compact`."""
    return points.to_list() if isinstance(points, _Numbers) else list(points)

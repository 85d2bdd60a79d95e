"""The three pieces Ray Tune needs: who suggests packs, who runs them, who takes results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from cluster.packs import Host, PackFeed, PackResult, PackTask, WorkerError, isolate, timed
from results.secrets import redacted


class FeedSearch(Searcher):
    """Suggests the feed's next pack, and keeps the error that ends the run."""

    def __init__(self, feed: PackFeed):
        super().__init__(metric="points", mode="max")
        self.feed = feed
        self.running: dict[str, PackTask] = {}
        self.failure: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the feed out of Tune's pickles of the experiment, which nothing ever loads: the ledger is the state."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """Returns the next pack's configuration, None to be asked again, or FINISHED."""
        with self.guarded():
            task = None if self.failure else self.feed.next()
            if task is not None:
                self.running[trial_id] = task
                return {"attempt": task.attempt, "points": _compact(task.points)}
        return Searcher.FINISHED if self.failure or self.feed.exhausted else None

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
    """Hands a pack's result to the feed and drops it from Tune's memory."""

    def __init__(self, search: FeedSearch):
        self.search = search

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the search out of Tune's pickles of the experiment."""
        return {}

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
        """Takes the payload out of the result before Tune stores it."""
        payload = result.pop("pack", None)
        if payload is not None and self.search.running.pop(trial.trial_id, None) is not None:
            with self.search.guarded():
                self.search.feed.deliver(payload)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tells a worker that died, which its configurations may have killed, from one that cannot work at all."""
        task = self.search.running.pop(trial.trial_id, None)
        if task is None:
            return
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


def _compact(points: tuple[Any, ...]) -> list[Any]:
    """Writes numbers as [start, stop) runs, for Tune copies and prints them; configurations stay as they are."""
    runs: list[Any] = []
    if any(isinstance(p, Mapping) for p in points):
        return list(points)
    for p in points:
        if runs and runs[-1][1] == p:
            runs[-1][1] = p + 1
        else:
            runs.append([p, p + 1])
    return runs


def _expand(runs: list[Any]) -> list[Any]:
    """Undoes `_compact`."""
    if any(isinstance(run, Mapping) for run in runs):
        return runs
    return [p for start, stop in runs for p in range(start, stop)]

"""The three pieces Ray Tune needs: who suggests packs, who runs them, who takes results."""

from __future__ import annotations

from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from cluster.packs import PackFeed, PackResult, PackTask, isolate, timed, worker_name


class FeedSearch(Searcher):
    """Suggests the feed's next pack."""

    def __init__(self, feed: PackFeed):
        super().__init__(metric="points", mode="max")
        self.feed = feed
        self.running: dict[str, PackTask] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the feed out of Tune's pickles of the experiment, which nothing ever loads: the ledger is the state."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """Returns the next pack's configuration, None to be asked again, or FINISHED."""
        task = self.feed.next()
        if task is None:
            return Searcher.FINISHED if self.feed.exhausted else None
        self.running[trial_id] = task
        return {"attempt": task.attempt, "points": _compact(task.points)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Reports packs whose worker died; delivered ones are gone from `running` already."""
        task = self.running.pop(trial_id, None)
        if task is not None:
            self.feed.crashed(task.attempt, "the worker process died")

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
            self.search.feed.deliver(payload)


class PackTrainable(tune.Trainable):
    """Evaluates one pack per step on an actor that outlives the pack."""

    def setup(self, config: dict[str, Any], evaluate: Any = None, inputs: Any = None, width: int = 0) -> None:
        """Keeps what is shared by all packs."""
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
        return {"pack": PackResult(self._task["attempt"], metrics, errors, seconds, worker_name()), "points": len(points), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """A pack is never checkpointed: it is repeated."""


def _compact(points: tuple[int, ...]) -> list[list[int]]:
    """Writes numbers as [start, stop) runs; Tune copies and prints configurations."""
    runs: list[list[int]] = []
    for p in points:
        if runs and runs[-1][1] == p:
            runs[-1][1] = p + 1
        else:
            runs.append([p, p + 1])
    return runs


def _expand(runs: list[list[int]]) -> list[int]:
    """Undoes `_compact`."""
    return [p for start, stop in runs for p in range(start, stop)]

"""What Ray Tune needs to run trials that report: who suggests them, who runs them, who judges them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from cluster._tune import Deliver, FeedSearch
from cluster.packs import Host, failure
from cluster.steps import TrialFeed, TrialReport, TrialTask
from results.secrets import redacted


class TrialSearch(FeedSearch):
    """Suggests the feed's next trial."""

    feed: TrialFeed  # type: ignore[assignment]
    running: dict[str, TrialTask]  # type: ignore[assignment]

    def __init__(self, feed: TrialFeed):
        super().__init__(feed)  # type: ignore[arg-type]

    def suggest(self, trial_id: str) -> Any:
        """Returns the next trial's configuration, None to be asked again, or FINISHED."""
        with self.guarded():
            task = None if self.failure else self.feed.next()
            if task is not None:
                self.running[trial_id] = task
                return {"attempt": task.attempt, "point": task.point, "folder": task.folder, "reached": task.reached}
        return Searcher.FINISHED if self.failure or self.feed.exhausted else None


class Judge(FIFOScheduler):  # type: ignore[misc]
    """Asks the feed after each report whether the trial goes on."""

    def __init__(self, search: TrialSearch):
        super().__init__()
        self._search = search

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the search out of Tune's pickles of the experiment, which nothing ever loads."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Takes a report; a study that failed or is asked to stop ends its trials here, with a checkpoint behind them."""
        stop = self._search.failure is not None
        if not stop and isinstance(result.get("report"), TrialReport):
            with self._search.guarded():
                stop = self._search.feed.report(result["report"])
            stop = stop or self._search.failure is not None
        if stop:
            self._search.running.pop(trial.trial_id, None)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)


class DeliverReports(Deliver):
    """Tells the feed how a trial ended, and drops reports from Tune's memory."""

    search: TrialSearch

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
        """Takes the payload out of the result before Tune stores it."""
        result.pop("report", None)
        error = result.pop("failed", None)
        if "steps_ended" not in result:
            return
        task = self.search.running.pop(trial.trial_id, None)
        if task is not None:
            with self.search.guarded():
                if error is None:
                    self.search.feed.finished(task.attempt)
                else:
                    self.search.feed.failed(task.attempt, error)


class StepTrainable(tune.Trainable):
    """Gives one report of a trial per step, on an actor that outlives the trial."""

    def setup(self, config: dict[str, Any], run: Any = None, inputs: Any = None, host: Host = nullcontext) -> None:
        """Keeps what is shared by all trials."""
        self._host = host()
        self._host.__enter__()  # until the process ends
        self._run, self._inputs, self._task = run, inputs, config
        self._reports: Iterator[Any] | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Lets go of the trial before and takes the next."""
        self.cleanup()
        self._task = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Works until the next report."""
        began = time.perf_counter()
        try:
            if self._reports is None:
                task = self._task
                self._reports = iter(self._run(task["point"], Path(task["folder"]), task["reached"], _device(), self._inputs))
            report = _report(next(self._reports), self._task["attempt"], time.perf_counter() - began)
        except StopIteration:
            self.cleanup()
            return {"points": 1, "steps_ended": True, "done": True}
        except Exception as error:
            self.cleanup()
            return {"points": 1, "steps_ended": True, "failed": failure(error), "done": True}
        return {"points": 1, "report": report}

    def cleanup(self) -> None:
        """Closes the trial's generator, which releases its memory."""
        close = getattr(self._reports, "close", None)
        self._reports = None
        if close is not None:
            close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """A trial writes its own checkpoints, where they outlive Tune's experiment."""


def _report(made: Any, attempt: int, seconds: float) -> TrialReport:
    """Takes what a trial yielded; what is no report fails that trial and no other."""
    if not (hasattr(made, "step") and hasattr(made, "metrics")):
        raise TypeError(f"a {type(made).__name__} was yielded where a trainables.stepping.Report was expected")
    if isinstance(made.step, bool) or int(made.step) != made.step:
        raise TypeError(f"a report's step is {made.step!r}; give a whole number")
    metrics: dict[str, float] = {}
    for name, value in made.metrics.items():
        try:
            metrics[str(name)] = math.nan if value is None else float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"metric {name} of the report at step {made.step} is {redacted(repr(value)):.60}; give a number, NaN where there is none"
            ) from None
    returns = getattr(made, "returns", None)
    if returns is not None and (np.ndim(returns) != 1 or np.asarray(returns).dtype.kind not in "fiub"):
        raise TypeError(f"returns of the report at step {made.step} have shape {np.shape(returns)}; give numbers of shape (days,)")
    kept = None if returns is None else np.asarray(returns, np.float32)
    note = str(getattr(made, "note", ""))
    return TrialReport(attempt, int(made.step), metrics, seconds, redacted(note) if note else "", kept)


def _device() -> str:
    """Returns the device Ray gave this worker: it makes only the cards of the trial visible."""
    import ray

    return "cuda" if ray.get_gpu_ids() else "cpu"

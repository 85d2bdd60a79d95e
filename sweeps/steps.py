"""Trials that report: hands them out, judges their reports, and puts both into the ledger before anything else happens."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.steps import TrialReport, TrialTask
from results import Ledger, Plan, ResultRow, reports, series
from results.identity import config_id, trial_seed
from results.reports import ReportRow
from sweeps.endings import PERSON, SCHEDULER, early, failure_words, kept_rules, shown, stop_words
from sweeps.feed import HOPELESS_DEATHS, Point, Source, Tally
from sweeps.pruning import folder_of, prune
from sweeps.requests import REQUEST
from sweeps.search import Search
from sweeps.study import Study, StudyError
from trainables.contract import TrainableError, check_config, nearest
from trainables.stepping import Report, StepContext, Stepping

if TYPE_CHECKING:
    from sweeps.inbox import Inbox

DEATHS = 2  # of a trial's worker without a report between them, after which the trial has failed
RETURNS = "returns.npy"  # in a trial's folder, while it runs
LOSS = "train_loss"  # a metric of this name is what training lowers: it ranks nothing, and is shown while a trial runs
HOPELESS = 8  # failures without a success after which a run is stopped


@dataclass(frozen=True)
class StepEvaluator:
    """What workers call: a point in, reports out.

    Attributes:
        study: What is evaluated.
        defaults: `Prepared.defaults`.
        context: Identity of the study's context; a trial's seed follows from it and the configuration.
        days: How many days of returns a report must come with.
    """

    study: Study
    defaults: Mapping[str, Any]
    context: str
    days: int = 0

    def __call__(self, point: int | Mapping[str, Any], folder: Path, reached: int, device: str, inputs: Any) -> Iterator[Report]:
        """Runs one trial: of a point's number, or of a configuration."""
        search = Search(self.study)
        config = search.config(search.sampler.configs(point, point + 1)[0]) if isinstance(point, int) else point
        return self.evaluate(config, folder, reached, device, inputs)

    def evaluate(self, config: Mapping[str, Any], folder: Path, reached: int, device: str, inputs: Any) -> Iterator[Report]:
        """Runs the trial of a configuration."""
        search = Search(self.study)
        trainable, names = search.trainable, [metric.name for metric in search.trainable.metrics]
        if not isinstance(trainable, Stepping):
            raise StudyError(f"{self.study.trainable} evaluates packs and takes no steps")
        complete = {**self.defaults, **check_config(trainable, config)}
        seed = trial_seed(self.study.seed, config_id(self.context, config, self.defaults))
        trial = trainable.evaluate(complete, StepContext(inputs, folder, reached, seed, device))
        try:
            for report in trial:
                _check_metrics(report, names, search.objective)
                given = getattr(report, "returns", None)
                if self.days != (0 if given is None else len(given)):
                    came = "no daily returns" if given is None else f"daily returns of {len(given)} days"
                    raise TrainableError(f"the report at step {report.step} has {came}; the study has {self.days} days")
                yield report
        finally:
            if (close := getattr(trial, "close", None)) is not None:
                close()


def _check_metrics(report: Any, names: Sequence[str], objective: str) -> None:
    """Refuses a misspelt metric, and a report that lacks what ranks: as n/a it would pass for a trial that diverged."""
    metrics = getattr(report, "metrics", None)
    if not isinstance(metrics, Mapping):
        return  # what is no report is refused where it is taken
    for name in metrics:
        if name not in names:
            hint = nearest(name, names) or f"declared: {', '.join(names)}"
            raise TrainableError(f"the report at step {report.step} has a metric {name!r} that is not declared; {hint}")
    if objective not in metrics:
        raise TrainableError(f"the report at step {report.step} has no {objective}, which ranks; give NaN where there is none")


@dataclass
class Running:
    """A trial at work, for people too.

    Attributes:
        point: Its configuration.
        trial: Its number.
        last: Step at which it is done.
        step: Step it has reached.
        value: Its objective there.
        seconds: Work so far, earlier sessions included.
        reported: Whether it has reported in this session.
        done: Steps of this session after that first report.
        spent: Seconds they took.
        swept: Its parameters that differ between trials.
        heard: Monotonic time of its last report or its start.
        rule: Kind of the scheduler.
        ladder: Where it can be stopped: its rungs (asha), or the step from which it is judged (median).
        loss: Its training loss at its step; None where none is declared.
    """

    point: Point
    trial: int
    last: int
    step: int = 0
    value: float = math.nan
    seconds: float = 0.0
    reported: bool = False
    done: int = 0
    spent: float = 0.0
    metrics: list[float] = field(default_factory=list)
    swept: Mapping[str, Any] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)
    rule: str = "none"
    ladder: Sequence[int] = ()
    loss: float | None = None

    @property
    def pace(self) -> float:
        """Seconds per step; NaN before the second report of the session, as the first comes after setting up."""
        return self.spent / self.done if self.done else math.nan


class StepFeed:
    """The study's side of `cluster.steps`: every report is judged once, in the order of the ledger."""

    def __init__(
        self,
        search: Search,
        backlog: Source,
        ledger: Ledger,
        plan: Plan,
        tally: Tally,
        objective: str,
        home: Path,
        show: Callable[[Tally], None],
        inbox: Inbox | None = None,
    ):
        self._backlog, self._ledger, self._plan, self._show, self._inbox = backlog, ledger, plan, show, inbox
        rules, judged = kept_rules(ledger, search.rules(), objective)
        if not ledger.events(SCHEDULER, limit=1):
            ledger.record(SCHEDULER, rules=asdict(rules), objective=judged)
        self._rules, self._scheduler, self._trainable = rules, rules.make(), search.trainable
        self._home, self._names = home, ledger.header.metric_names
        self._loss = self._names.index(LOSS) if LOSS in self._names else None
        self._objective, self._metric = self._names.index(objective), ledger.header.metric(objective)
        self._sign = -1.0 if self._metric.direction == "min" else 1.0
        self._swept, self._longest = frozenset(search.space.names), search.last_step
        self.tally = tally
        self.stopping = False
        self.running: dict[int, Running] = {}
        self._again: deque[Point] = deque()
        self._deaths: dict[bytes, int] = {}
        self._seen: dict[bytes, ReportRow] = {}
        self._spent: dict[bytes, float] = {}
        self._judged = self._names.index(judged)
        # What was judged is judged again, in the same order, so that the scheduler knows what it knew.
        for row in reports.read(ledger):
            self._scheduler.report(row.trial, row.step, float(row.metrics[self._judged]))
            self._note(row)

    def _note(self, row: ReportRow) -> None:
        self._seen[row.config_id] = row
        self._spent[row.config_id] = self._spent.get(row.config_id, 0.0) + (row.seconds or 0.0)

    def next(self) -> TrialTask | None:
        """Returns the next trial, None if there is none now."""
        self._look()
        if self.stopping:
            return None
        points = [self._again.popleft()] if self._again else self._backlog.take(1)
        if not points:
            return None
        point = points[0]
        attempt = self._ledger.open_attempt(self._plan.plan_id, 1)
        complete = {**self._ledger.header.defaults, **point.config}
        last = self._trainable.last_step(complete) if isinstance(self._trainable, Stepping) else 0
        swept = {name: value for name, value in point.config.items() if name in self._swept}
        made = Running(point, self._plan.offset + point.index, last, swept=swept, rule=self._rules.kind)
        made.ladder, made.loss = self._rules.ladder(made.trial, last), self._loss_of(())
        if (before := self._seen.get(point.config_id)) is not None:
            made.step, made.value, made.metrics = before.step, float(before.metrics[self._objective]), list(before.metrics)
            made.seconds, made.loss = self._spent[point.config_id], self._loss_of(made.metrics)
        self.running[attempt] = made
        folder = folder_of(self._home, point.config_id)
        folder.mkdir(parents=True, exist_ok=True)
        self._tell()
        return TrialTask(attempt, self._backlog.task(point), str(folder.absolute()), made.step)

    @property
    def exhausted(self) -> bool:
        """Whether no trial will come again."""
        return self.stopping or (self._backlog.drained and not self._again and not self.running)

    def report(self, report: TrialReport) -> bool:
        """Judges a report and keeps it; True ends the trial."""
        self._look()
        made = self.running[report.attempt]
        values = [float(report.metrics.get(name, math.nan)) for name in self._names]
        row = ReportRow(made.trial, made.point.config_id, report.step, values, report.seconds, report.note)
        before = self._seen.get(row.config_id)
        if before is not None and row.step <= before.step:
            # Between the last checkpoint and a kill: done again, judged before.
            self._ledger.record("repeated", trial=made.trial, step=row.step)
            return self._halt(report.attempt)
        decision = self._scheduler.report(made.trial, row.step, values[self._judged])
        self._note(row)
        if made.reported:
            made.done, made.spent = made.done + row.step - made.step, made.spent + report.seconds
        made.reported = True
        self.tally.steps += row.step - made.step
        made.step, made.value, made.metrics, made.seconds = row.step, values[self._objective], values, made.seconds + report.seconds
        made.heard, made.loss = time.monotonic(), self._loss_of(values)
        self._keep(made, report.returns)
        self._deaths.pop(row.config_id, None)
        stop = decision.ends(row.step, made.last)
        why = {k: _plain(v) for k, v in asdict(decision).items()} if stop else self._wish(made)
        ended, stop = (None, False) if why is None else (self._result(made, "stopped"), True)
        if not self._ledger.report(report.attempt, row, ended, why):
            raise StudyError(f"trial {made.trial}: the ledger has given its attempt up, so another session is at work on this study")
        self.tally.busy += report.seconds
        news = ""
        if ended is not None and why is not None:
            self._backlog.told(ended, row.step)
            del self.running[report.attempt]
            self.tally.done += 1
            self.tally.stopped += 1
            self._settle(made, "stopped", str(why.get(REQUEST, "")))
            news = f"trial {made.trial} {stop_words(why, row.step, self._metric)}{self._prune(made)}"
        self._tell(news)
        return stop or self._halt(report.attempt)

    def _look(self) -> None:
        """Reads what people ask for."""
        if self._inbox is not None:
            resting = [self._plan.offset + point.index for point in self._again]
            self._inbox.look([*(made.trial for made in self.running.values()), *resting])

    def _wish(self, made: Running) -> dict[str, Any] | None:
        """Returns why a person ends a trial now, in the form of a decision; at its last step it is completed all the same."""
        request = None if self._inbox is None or made.step >= made.last else self._inbox.wish(made.trial)
        if request is None:
            return None
        nothing: dict[str, Any] = {"rung": None, "rank": None, "of": None, "cutoff": None, "ahead": []}
        return {"rule": PERSON, "reason": request.reason, "by": request.by, REQUEST: request.id, "value": _plain(made.value), **nothing}

    def _settle(self, made: Running, how: str, request: str = "") -> None:
        """Files away what was asked about a trial that has ended; `request` is the id of what ended it."""
        if self._inbox is not None:
            self._inbox.ended(made.trial, how, request)

    def _loss_of(self, values: Sequence[float]) -> float | None:
        """Returns the training loss among a report's metrics; None where none is declared."""
        return None if self._loss is None else float(values[self._loss]) if values else math.nan

    def _keep(self, made: Running, returns: np.ndarray | None) -> None:
        """Keeps the daily returns of a trial's last report in its folder, until the trial is completed: a kill may come between."""
        if returns is None:
            return
        place = folder_of(self._home, made.point.config_id) / RETURNS
        draft = place.with_suffix(".new")
        with draft.open("wb") as file:
            np.save(file, returns, allow_pickle=False)
        os.replace(draft, place)

    def _kept(self, attempt: int, made: Running) -> None:
        """Puts the daily returns of a trial that is about to be accepted beside the ledger."""
        place = folder_of(self._home, made.point.config_id) / RETURNS
        if place.is_file() and series.is_kept(made.point.config_id, self._plan.count):
            series.write(self._ledger, self._home, attempt, [made.point.config_id], np.load(place, allow_pickle=False)[None])

    def _halt(self, attempt: int) -> bool:
        """Lets go of a trial when the study is asked to stop: its checkpoint is where it goes on."""
        if self.stopping and attempt in self.running:
            self._ledger.close_attempt(attempt, "lost")
            del self.running[attempt]
        return self.stopping

    def finished(self, attempt: int) -> None:
        """Accepts the result of a trial that came to its end."""
        made = self.running.pop(attempt)
        if not made.metrics:
            self._end(attempt, made, "failed", "the trial ended without a report")
            return
        self._kept(attempt, made)
        taken = self._end(attempt, made, "completed")
        best = self._sign * np.array([self.tally.best, made.value])
        if np.isfinite(best).any():
            self.tally.best = float(self._sign * np.nanmax(best))
        cut = f" at step {made.step:,}{short}" if (short := early(made.step, made.last)) else ""
        self._tell(f"trial {made.trial} completed{cut}: {shown(made.value, self._metric)}{self._prune(made) if taken else ''}")

    def failed(self, attempt: int, error: str) -> None:
        """Accepts a failure."""
        self._end(attempt, self.running.pop(attempt), "failed", error)
        if self.tally.failed == self.tally.done >= HOPELESS:
            raise StudyError(f"all of the first {self.tally.done} trials failed, so the run was stopped. The last error: {error}")

    def crashed(self, attempt: int, error: str) -> None:
        """Puts a trial back whose worker died; one that kills its worker again without a report in between has failed."""
        made = self.running.pop(attempt)
        self._ledger.close_attempt(attempt, "lost")
        self._ledger.record("worker_died", trial=made.trial, attempt=attempt, step=made.step, error=error)
        self._deaths[made.point.config_id] = self._deaths.get(made.point.config_id, 0) + 1
        if self.stopping:
            return
        if self._deaths[made.point.config_id] < DEATHS:
            self._again.append(made.point)
            return
        self._end(self._ledger.open_attempt(self._plan.plan_id, 1), made, "failed", f"{error} (twice)")
        if self.tally.failed == self.tally.done >= HOPELESS_DEATHS:
            raise StudyError(f"workers keep dying, so the run was stopped. The last error: {error}")

    def _prune(self, made: Running) -> str:
        """Removes what only going on needs from the folder of a trial that has its result; returns what people should know."""
        why = prune(self._trainable, self._ledger, self._home, made.trial, made.point.config_id)
        return f"; its checkpoint could not be made smaller ({why}), the next session tries again" if why else ""

    def _end(self, attempt: int, made: Running, status: str, error: str | None = None) -> bool:
        """Puts a result into the ledger; returns whether it was taken."""
        result = self._result(made, status, error)
        taken = self._ledger.accept(attempt, [result]).accepted
        self._backlog.told(result)
        self.tally.done += taken
        self.tally.failed += status == "failed"
        self._settle(made, status)
        if status == "failed":
            self._tell(f"trial {made.trial} {failure_words(error or '', made.step)}")
        return taken > 0

    def _tell(self, news: str = "") -> None:
        """Shows how far everything is, and how a trial has just ended."""
        tally, running = self.tally, tuple(self.running.values())
        waiting = max(0, tally.total - tally.known - tally.done - len(running))
        tally.running, tally.news = running, news
        tally.steps_left = waiting * self._longest + sum(max(0, each.last - each.step) for each in running)
        self._show(tally)
        tally.news = ""

    @staticmethod
    def _result(made: Running, status: Any, error: str | None = None) -> ResultRow:
        metrics = None if status == "failed" else made.metrics
        return ResultRow(made.trial, made.point.config_id, made.point.config, status, metrics, made.seconds, error)


def _plain(value: Any) -> Any:
    """Makes a decision's values fit for JSON, which has no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else list(value) if isinstance(value, tuple) else value

"""A study in MLflow: one run with its curves, tables and files, and a nested run for each trial that gets one.

Nothing is remembered here: on opening, what is there is asked of MLflow. What was written and not confirmed is written again with the
same keys, steps, values and times, which MLflow's stores take as one, so a lost answer doubles nothing.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from results.secrets import redacted
from results.tracking.mlflow_store import PARENT, connect, created_ms, ensure_run, key_of, place_of, shortened, told
from results.tracking.tracker import FAILED, FINISHED, RUNNING, STOPPED, About, Board, Place, Point, Rows, TrackerError, TrialRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

POINT: Final = "alphasweep.points"  # metric: how many points there are with this one
ROWS: Final = "alphasweep.rows"  # tag: rows of the table of all trials
TRIAL: Final = "alphasweep.trial"  # tag of nested runs
TABLE: Final = "trials"  # folder of the table's parts
BOARD: Final = "leaderboard.json"
_STATES: Final = {FINISHED: "FINISHED", STOPPED: "KILLED", FAILED: "FAILED"}
_TRIAL_STATES: Final = {"completed": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_MOST_METRICS: Final = 1000  # a call; a limit of MLflow's
_MOST_PARAMS: Final = 100
_MOST_TAGS: Final = 100
_LONGEST_PARAM: Final = 500  # characters; the least limit of MLflow's stores
_WAIT_S: Final = 1.0  # points that come faster are written together


class MlflowTracker:
    """Writes a study to MLflow (`results.tracking.tracker.Tracker`).

    Args:
        about: The study.
        settings: uri, experiment, artifacts (`results.tracking.mlflow_store.place_of`).

    Raises:
        TrackerError: Settings that cannot be.
    """

    name = "mlflow"

    def __init__(self, about: About, settings: Mapping[str, Any]) -> None:
        self._about = about
        self._place = place_of(settings, about.home)
        self._time = created_ms(about)
        self._client: MlflowClient | None = None
        self._run, self._experiment, self._ended = "", "", False
        self._points: list[Point] = []
        self._next, self._rows, self._written = 0, 0, 0.0
        self._children: dict[int, tuple[str, bool]] = {}  # trial → its run, and whether that is whole

    @property
    def where(self) -> str:
        """The address, without a password."""
        return self._place.shown

    @property
    def run_id(self) -> str:
        """MLflow's id of the study's run; empty before it is open."""
        return self._run

    def open(self) -> Place:
        """Finds the study's run, or makes it; returns what it holds."""
        self._client, self._points = connect(self._place), []
        run = ensure_run(self._client, self._place, self._about)
        self._run, self._experiment = run.info.run_id, run.info.experiment_id
        with told(self._place, "reading what is there"):
            self._children = self._nested()
            self._next = self._held()
            self._rows = min(int(run.data.tags.get(ROWS, 0)), self._count_rows(self._client))
        self._ended = run.info.status != "RUNNING"
        return Place(self._next, self._rows, frozenset(trial for trial, (_, whole) in self._children.items() if whole))

    def point(self, point: Point) -> None:
        """Takes the next point; those that come within a second are written together."""
        self._begun()
        if point.index < self._next + len(self._points):
            return
        if point.index > self._next + len(self._points):
            raise TrackerError(f"MLflow at {self.where}: point {point.index} came after {self._next + len(self._points)} points")
        self._points.append(point)
        if time.monotonic() - self._written >= _WAIT_S or sum(len(each.values) + 1 for each in self._points) >= _MOST_METRICS // 2:
            try:
                self._flush()
            except TrackerError:
                self._points.pop()  # it was not taken: whoever calls gives it again
                raise

    def rows(self, rows: Rows) -> None:
        """Writes rows as a CSV file of their own, named by the first one's place."""
        client = self._begun()
        self._flush()
        end = rows.start + len(rows.frame)
        with told(self._place, f"writing rows {rows.start:,} to {end:,}"):
            client.log_text(self._run, redacted(rows.frame.to_csv(index=False)), _part(rows.start))
            # Only now do they count: of a file that is cut short by a kill this says nothing, and it is written again.
            client.set_tag(self._run, ROWS, str(end))
        self._rows = end

    def board(self, board: Board) -> None:
        """Writes the leaderboard as a table of MLflow's (`mlflow.load_table`), in place of the one before."""
        client = self._begun()
        self._flush()
        frame = board.frame.astype(object)
        table = _json({"columns": [str(name) for name in frame], "data": frame.to_numpy().tolist()})
        with told(self._place, "writing the leaderboard"):
            # Not `log_table`, which appends to the table before.
            client.log_text(self._run, redacted(table), BOARD)
            client.set_tag(self._run, "mlflow.loggedArtifacts", json.dumps([{"path": BOARD, "type": "table"}]))

    def trial(self, run: TrialRun) -> None:
        """Writes a trial as a nested run: parameters, result, and its reports as histories by step."""
        from mlflow.entities import Param

        client = self._begun()
        self._flush()
        child, whole = self._children.get(run.trial, ("", False))
        if whole:
            return
        with told(self._place, f"writing trial {run.trial}"):
            if not child:
                tags = {PARENT: self._run, TRIAL: str(run.trial), "alphasweep.config_id": run.config_id}
                made = client.create_run(self._experiment, start_time=self._time, tags=tags, run_name=f"trial {run.trial}")
                child = made.info.run_id
                self._children[run.trial] = (child, False)
            params = [Param(key_of(key), redacted(_words(value))[:_LONGEST_PARAM]) for key, value in run.config.items()]
            for start in range(0, len(params), _MOST_PARAMS):
                client.log_batch(child, params=params[start : start + _MOST_PARAMS])
            self._metrics(child, _curves(run))
            end = self._time + round(1000 * (run.seconds or 0.0))
            client.set_terminated(child, _TRIAL_STATES[run.status], end_time=end)  # last: this is what makes it whole
        self._children[run.trial] = (child, True)

    def close(self, state: str, summary: Mapping[str, Any], files: Sequence[Path] = ()) -> None:
        """Writes what is left, the summary, the files, and how the study stands."""
        from mlflow.entities import RunTag

        client = self._begun()
        self._flush()
        with told(self._place, "ending"):
            client.log_text(self._run, redacted(_json(self._about.header.spec, indent=1)), "study.json")
            client.log_text(self._run, redacted(_json(summary, indent=1)), "summary.json")
            tags = shortened({key_of(f"summary.{key}"): _words(value) for key, value in summary.items() if value is not None})
            first = [key for key in ("verdict", "winner/trial") if key in summary]
            lines = [f"- **{key}**: {_words(summary[key])}" for key in dict.fromkeys([*first, *summary]) if summary[key] is not None]
            tags["mlflow.note.content"] = redacted("\n".join(lines))[:5000]  # what the run's page shows first
            made = [RunTag(key, value) for key, value in tags.items()]
            for start in range(0, len(made), _MOST_TAGS):
                client.log_batch(self._run, tags=made[start : start + _MOST_TAGS])
            for path in files:
                client.log_artifact(self._run, str(path), "results")
            if state != RUNNING:
                client.set_terminated(self._run, _STATES.get(state, "FAILED"))
                self._ended = True

    def check(self, points: int, rows: int, trials: Collection[int]) -> list[str]:
        """Reads back what MLflow holds.

        Args:
            points: Of the curves there must be.
            rows: Of the table of all trials.
            trials: Numbers of those with a run of their own.

        Returns:
            What is missing or too much, in words; empty if nothing.
        """
        client = self._opened()
        self._flush()
        found: list[str] = []
        with told(self._place, "reading back"):
            history = client.get_metric_history(self._run, POINT)
            if sorted(metric.value for metric in history) != list(range(1, points + 1)):
                found.append(f"{len(history):,} points of the curves in place of {points:,}")
            there = self._count_rows(client)
            if there != rows:
                found.append(f"{there:,} rows in place of {rows:,}")
            nested = self._nested()
        whole = [trial for trial, (_, ended) in nested.items() if ended]
        if missing := sorted(set(trials) - set(whole)):
            found.append(f"no whole run of {len(missing):,} trials, the first is {missing[0]}")
        return found

    def _opened(self) -> MlflowClient:
        if self._client is None:
            raise TrackerError("MLflow: not open")
        return self._client

    def _begun(self) -> MlflowClient:
        """Returns the client for writing: a run that had ended goes on."""
        client = self._opened()
        if self._ended:
            with told(self._place, "going on with the study's run"):
                client.update_run(self._run, status="RUNNING")
            self._ended = False
        return client

    def _flush(self) -> None:
        """Writes the points that wait."""
        if not self._points:
            return
        metrics = []
        for point in self._points:
            metrics += [(key_of(key), value, point.done) for key, value in point.values.items()]
            metrics.append((POINT, point.index + 1.0, point.done))  # after its values: it says that they are there
        with told(self._place, f"writing points {self._points[0].index} to {self._points[-1].index}"):
            self._metrics(self._run, metrics)
        self._next, self._points, self._written = self._points[-1].index + 1, [], time.monotonic()

    def _metrics(self, run: str, metrics: Iterable[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        # One time for all: whatever is written twice is then the same, and the axis is the step.
        made = [Metric(key, float(value), self._time, step) for key, value, step in metrics if math.isfinite(value)]
        for start in range(0, len(made), _MOST_METRICS):
            self._opened().log_batch(run, metrics=made[start : start + _MOST_METRICS])

    def _held(self) -> int:
        """Returns how many points are there without a gap."""
        there = {int(metric.value) for metric in self._opened().get_metric_history(self._run, POINT)}
        n = 0
        while n + 1 in there:
            n += 1
        return n

    def _nested(self) -> dict[int, tuple[str, bool]]:
        """Returns the nested runs: trial → its run, and whether that is whole."""
        client, found, token = self._opened(), {}, None
        while True:
            page = client.search_runs([self._experiment], f"tags.`{PARENT}` = '{self._run}'", max_results=1000, page_token=token)
            for run in page:
                if TRIAL in run.data.tags:
                    trial, whole = int(run.data.tags[TRIAL]), run.info.status != "RUNNING"
                    if whole or trial not in found:
                        found[trial] = (run.info.run_id, whole)
            token = page.token
            if not token:
                return found

    def _count_rows(self, client: MlflowClient) -> int:
        """Returns the rows of the table's parts: each begins where the one before ends, and is named by that."""
        rows, parts = 0, {part.path for part in client.list_artifacts(self._run, TABLE)}
        with tempfile.TemporaryDirectory() as folder:
            while (part := _part(rows)) in parts:
                frame = pd.read_csv(client.download_artifacts(self._run, part, folder), usecols=[0])
                if frame.empty:
                    break
                rows += len(frame)
        return rows


def _part(start: int) -> str:
    """Returns the name of the part of the table that begins with a row."""
    return f"{TABLE}/{start:09d}.csv"


def _curves(run: TrialRun) -> list[tuple[str, float, int]]:
    """Returns what to write of a trial: its reports by step, and of its result what no report has said already, at the last step."""
    found = [(key_of(name), float(value), step) for step, values in run.reports for name, value in values.items()]
    last = max((step for step, _ in run.reports), default=0)
    said = {name for step, values in run.reports if step == last for name in values}
    found += [(key_of(name), float(value), last) for name, value in run.metrics.items() if name not in said]
    return found if run.seconds is None else [*found, ("seconds", float(run.seconds), last)]


def _words(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any, indent: int | None = None) -> str:
    """Returns JSON that every reader takes: what is not a number is null."""
    return json.dumps(_plain(value), indent=indent)


def _plain(value: Any) -> Any:
    """Returns a value, numpy's and pandas' too, as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else None if value is pd.NA or value is pd.NaT else str(value)

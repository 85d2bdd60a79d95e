"""Writes runs with the W&B client; lives in the client's process (`results.tracking.wandb_client`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import wandb
from wandb.sdk.data_types import _dtypes

from results.tracking.wandb_tables import BOARD, BOARD_DIGEST, COUNTS, TRIALS, X_AXIS, Row, column_type, digest

# Each try has its limit, and so has the number of tries: what is not taken in a minute is written when tracking is opened again.
_LIMITS: Final[dict[str, Any]] = {
    "init_timeout": 120.0,
    "finish_timeout": 100.0,
    "x_service_wait": 120.0,
    "finish_timeout_raises": True,
    "stop_on_fatal_error": True,
    "x_graphql_timeout_seconds": 10.0,
    "x_file_stream_transmit_interval": 5.0,
    "x_file_stream_timeout_seconds": 15.0,
    "x_file_transfer_timeout_seconds": 60.0,
    **{f"x_{part}_retry_max": tries for part, tries in (("graphql", 3), ("file_stream", 6), ("file_transfer", 4))},
    **{f"x_{part}_retry_wait_min_seconds": 0.5 for part in ("graphql", "file_stream", "file_transfer")},
    **{f"x_{part}_retry_wait_max_seconds": 4.0 for part in ("graphql", "file_stream", "file_transfer")},
}
_LEAN: Final[dict[str, Any]] = {
    "console": "off",
    "silent": True,
    "disable_git": True,
    "disable_code": True,
    "disable_job_creation": True,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "x_transaction_log_flush_interval": 1.0,  # what a kill costs: 15 seconds otherwise
}
_AT_ONCE: Final = 8  # runs of trials that are uploaded side by side


class RefusedError(Exception):
    """W&B has stopped taking what is uploaded."""


def settings(online: bool, others: Mapping[str, Any]) -> wandb.Settings:
    """Returns the client's settings; online nothing is kept in a transaction log, the ledger is one.

    Args:
        online: Whether it is to reach a server.
        others: In place of these.
    """
    own = {"mode": "online" if online else "offline", "x_skip_transaction_log": online, **_LEAN, **_LIMITS}
    return wandb.Settings(**{**own, **others})


class Writer:
    """The run of a study, and those of its trials.

    Args:
        given: online, project, entity, group, folder, settings.
        started: Called with each run's transaction log.
    """

    def __init__(self, given: Mapping[str, Any], started: Callable[[Path], None]) -> None:
        self._given, self._started = given, started
        self._run: Any = None
        self._trials: list[tuple[Any, int]] = []
        self._paths: list[str] = []
        self._counts: list[int] = []
        self._refused = False

    def begin(self, run: str, config: Mapping[str, Any], points: int, paths: Sequence[str], counts: Sequence[int]) -> bool:
        """Begins the study's run, or goes on with it; returns whether the client does, too.

        Args:
            run: Its id.
            config: Of it.
            points: It has already.
            paths: Addresses of the table's increments that are there.
            counts: Rows of each.
        """
        self._run = self._start(run, "study", str(self._given["group"]), config)
        if int(self._run.starting_step) > points:  # it would drop what is before that without a word
            self._run.finish(1)
            return False
        self._run.define_metric(X_AXIS)
        self._run.define_metric("*", step_metric=X_AXIS)
        self._paths, self._counts = list(paths), list(counts)
        return True

    def point(self, index: int, done: int, values: Mapping[str, float]) -> None:
        """Logs a point; each is a row of its own."""
        self._check()
        self._run.log({X_AXIS: done, **values}, step=index, commit=True)

    def rows(self, columns: Sequence[str], rows: list[Row]) -> None:
        """Adds an increment to the table of all trials."""
        self._check()
        table = _table(columns, rows, "INCREMENTAL")
        # Each increment is a table of its own, so memory does not grow and a session goes on where another ended. What the client keeps
        # in one object between increments is given to it instead: their number, their addresses, and that rows before are logged.
        before = sum(self._counts)
        table.data[:0] = [()] * before
        table._last_logged_idx = before - 1 if before else None
        table._increment_num, table._previous_increments_paths = len(self._paths), list(self._paths)
        # In the summary, not in the history: rows there are the points', and nothing else's.
        self._run.summary.update({TRIALS: table, COUNTS: [*self._counts, len(rows)]})
        self._paths.append(str(table._get_artifact_entry_ref_url()))
        self._counts.append(len(rows))

    def board(self, columns: Sequence[str], rows: list[Row]) -> None:
        """Replaces the leaderboard."""
        self._check()
        self._run.summary.update({BOARD: _table(columns, rows, "IMMUTABLE"), BOARD_DIGEST: digest([columns, *rows])})

    def trial(self, run: str, name: str, given: Mapping[str, Any], start: int) -> bool:
        """Writes a trial's run, reports before `start` are there already; returns whether it did, as `begin` does."""
        self._check()
        written = self._start(run, "trial", name, given["config"])
        if int(written.starting_step) > start:
            written.finish(1)
            return False
        written.define_metric("step")
        written.define_metric("*", step_metric="step")
        for n, (step, metrics) in enumerate(given["reports"]):
            if n >= start:
                written.log({**metrics, "step": step}, step=n, commit=True)
        written.summary.update(given["summary"])
        self._trials.append((written, int(given["summary"]["status"] == "failed")))
        if len(self._trials) >= (_AT_ONCE if self._given["online"] else 1):
            self.finish_trials()
        return True

    def finish_trials(self) -> None:
        """Waits until the trials written so far are uploaded."""
        while self._trials:
            run, code = self._trials.pop()
            run.finish(code)

    def close(self, summary: Mapping[str, Any], code: int, files: Sequence[str], name: str, kept: Collection[str]) -> None:
        """Ends the study's run.

        Args:
            summary: For its summary.
            code: 0 unless the study failed.
            files: To keep with it.
            name: Of the artifact they are in.
            kept: Digests of its versions that are there.
        """
        self.finish_trials()
        self._check()
        self._run.summary.update(dict(summary))
        if files:
            artifact = wandb.Artifact(name, "results")
            for file in files:
                artifact.add_file(file)
            if artifact.digest not in kept:
                self._run.log_artifact(artifact)
        self._run.finish(code)
        self._check()

    def _start(self, run: str, kind: str, name: str, config: Mapping[str, Any]) -> Any:
        online = bool(self._given["online"])
        made = wandb.init(
            project=self._given["project"],
            entity=self._given["entity"] or None,
            id=run,
            name=name,
            group=self._given["group"],
            job_type=kind,
            config=dict(config),
            dir=self._given["folder"],
            reinit="create_new",
            resume="allow" if online else None,
            settings=settings(online, self._given["settings"]).model_copy(update={"stop_fn": self._stop}),
        )
        if not online:
            self._started(Path(made.settings.sync_file))
        return made

    def _stop(self) -> None:
        self._refused = True

    def _check(self) -> None:
        if self._refused:
            raise RefusedError("W&B does not take what is uploaded" + _why(Path(self._run.settings.log_internal)))


def _table(columns: Sequence[str], rows: list[Row], mode: Literal["INCREMENTAL", "IMMUTABLE"]) -> Any:
    types = [column_type(column) for column in zip(*rows, strict=True)] if rows else [None] * len(columns)
    table = wandb.Table(columns=list(columns), dtype=[kind or _dtypes.AnyType for kind in types], log_mode=mode)
    table.data = list(rows)  # add_data would infer each cell's type again: 0.1 ms a row
    return table


def _why(log: Path) -> str:
    """Returns what the client's log says of why it gave up."""
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if '"level":"ERROR' in line and "fatal" in line]
        said = str(json.loads(lines[-1])["msg"]) if lines else ""
    except (OSError, ValueError, KeyError):
        return ""
    return f": {said[:200]}" if said else ""

"""Reads back what a W&B server holds, through the client's own public API; lives in the client's process."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import wandb
from wandb.apis.public import Run
from wandb.sdk.lib import wbauth

from results.tracking.wandb_tables import BOARD, COUNTS, EMPTY, board_of, digest, entry_of, nothing, paths_of, whole

SUPERSEDED: Final = "superseded"
ENDED: Final = frozenset({"finished", "failed"})
_TIMEOUT_S: Final = 15


class NoKeyError(Exception):
    """There is no key for a W&B server."""


class Server:
    """What a server holds of a study.

    Args:
        given: project, entity, group, run (the id of its first generation), folder.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        base = str(wandb.setup().settings.base_url)
        if wandb.setup().settings.api_key is None and wbauth.read_netrc_auth(host=base) is None:
            raise NoKeyError(f"there is no key for {base}: set WANDB_API_KEY, or run `wandb login`; mode offline needs none")
        self._api = wandb.Api(timeout=_TIMEOUT_S)
        self.entity = str(given["entity"] or self._api.settings["entity"] or self._api.default_entity)
        self._path = f"{self.entity}/{given['project']}"

    def look(self) -> dict[str, Any]:
        """Returns which run is the study's, and what it holds, without content of tables.

        Returns:
            run: Id of the newest generation; found: whether it is there; done: its points' places on the x-axis, with `None` where a row
            is no point; next: the step its summary goes on at; paths, counts: increments of the table; kept: digests of the files'
            artifact; board: that of the leaderboard; trials: number to id, lines, whole of each run of a trial.
        """
        run, generation = self._newest(str(self._given["run"]))
        found: dict[str, Any] = {"run": _named(str(self._given["run"]), generation), "found": run is not None}
        if run is None:
            return {**found, **EMPTY, "trials": self._trials()}
        history, summary = _history(run), dict(run.summary_metrics)
        paths, counts = whole(summary, self._entries(run, paths_of(summary)))
        done = [row.get("trials_done") if row.get("_step") == n else None for n, row in enumerate(history)]
        kept = [str(a.digest) for a in run.logged_artifacts() if a.name.partition(":")[0] == self._given["artifact"]]
        found["next"] = int(summary.get("_step", -1)) + 1
        board = board_of(summary, [file.name for file in run.files([path])] if (path := (summary.get(BOARD) or {}).get("path")) else [])
        return {**found, "done": done, "paths": paths, "counts": counts, "kept": kept, "board": board, "trials": self._trials()}

    def held(self, deep: Collection[int]) -> dict[str, Any]:
        """Returns all that is held, with a digest of each increment of the table.

        Args:
            deep: Trials whose history is wanted.
        """
        run, generation = self._newest(str(self._given["run"]))
        name = _named(str(self._given["run"]), generation)
        trials = {number: dict(one) for number, one in self._trials().items()}
        for number, one in trials.items():
            if int(number) in deep:
                one["history"] = _history(self._api.run(f"{self._path}/{one['run']}"))
        if run is None:
            return nothing(name, trials)
        summary = dict(run.summary_metrics)
        kept = [str(a.digest) for a in run.logged_artifacts() if a.name.partition(":")[0] == self._given["artifact"]]
        return {
            "run": name,
            "found": True,
            "state": run.state,
            "history": _history(run),
            "summary": summary,
            "config": run.config,
            "increments": self._increments(run, summary),
            "files": [file.name for file in run.files(per_page=200)],
            "kept": kept,
            "trials": trials,
        }

    def supersede(self, name: str) -> None:
        """Marks a run as replaced by another; done twice it is as if done once."""
        run: Any = self._api.run(f"{self._path}/{name}")
        if not _superseded(run):
            run.tags = [*_tags(run), SUPERSEDED]
            run.name = f"{run.name} ({SUPERSEDED})"
            run.update()

    def _newest(self, first: str) -> tuple[Run | None, int]:
        """Returns the first generation of a run that is not superseded; None with its number where it is not there yet."""
        self._api.flush()  # it remembers runs as they were
        generation = 1
        while True:
            run = self._run(_named(first, generation))
            if run is None or not _superseded(run):
                return run, generation
            generation += 1

    def _run(self, name: str) -> Run | None:
        try:
            return self._api.run(f"{self._path}/{name}")
        except (wandb.errors.CommError, ValueError) as error:
            if "Could not find run" in str(error):
                return None
            raise

    def _trials(self) -> dict[str, dict[str, Any]]:
        """Returns the newest generation of each run of a trial."""
        pattern = re.compile(re.escape(str(self._given["run"])) + r"-t(\d+)(?:-(\d+))?")
        found: dict[str, dict[str, Any]] = {}
        try:
            runs = list(self._api.runs(self._path, {"group": self._given["group"], "jobType": "trial"}, per_page=200, lazy=False))
        except ValueError as error:
            if "Could not find project" in str(error):
                return {}
            raise
        for run in runs:
            match = pattern.fullmatch(run.id)
            generation = int(match[2] or 1) if match else 0
            if match and generation >= found.get(match[1], {"generation": 0})["generation"]:
                gone, summary = _superseded(run), dict(run.summary_metrics)
                lines = int(run._attrs["historyLineCount"] or 0)
                found[match[1]] = {
                    "run": _named(f"{self._given['run']}-t{match[1]}", generation + gone),
                    "generation": generation + gone,
                    "found": not gone,
                    "lines": 0 if gone else lines,
                    "whole": not gone and run.state in ENDED and summary.get("reports") == lines,
                    "summary": summary,
                    "config": run.config,
                }
        return found

    def _entries(self, run: Run, paths: list[str]) -> set[str]:
        """Returns the names of the table's increments that were taken in."""
        wanted, there = {entry_of(path) for path in paths}, set[str]()
        for artifact in self._tables(run):
            if wanted <= there:
                break
            there |= set(artifact.manifest.entries)
        return there & wanted

    def _tables(self, run: Run) -> list[Any]:
        """Returns versions of the artifact that has the increments, the newest first: on a server each holds those before it too."""
        found = [artifact for artifact in run.logged_artifacts() if artifact.type == "wandb-run-incremental-table"]
        return sorted(found, key=lambda artifact: -int(artifact.version.lstrip("v")))

    def _increments(self, run: Run, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
        artifacts, found = self._tables(run), []
        counts = summary.get(COUNTS) or []
        for n, path in enumerate(paths_of(summary)):
            entry = entry_of(path)
            holder = next((one for one in artifacts if entry in one.manifest.entries), None)
            if holder is None:
                found.append({"entry": entry, "rows": counts[n] if n < len(counts) else 0, "digest": None})
                continue
            file = Path(holder.get_entry(entry).download(root=str(Path(self._given["folder"]) / "read"), skip_cache=True))
            rows = json.loads(file.read_text())["data"]  # what the server sent: the client's cache has what was to be uploaded
            file.unlink()
            found.append({"entry": entry, "rows": len(rows), "digest": digest(rows)})
        return found


def _tags(run: Run) -> list[str]:
    return list(run._attrs.get("tags") or [])


def _superseded(run: Run) -> bool:
    return SUPERSEDED in _tags(run)


def _named(first: str, generation: int) -> str:
    return first if generation == 1 else f"{first}-{generation}"


def _history(run: Run) -> list[dict[str, Any]]:
    """Returns a run's rows in the server's order; what the scan does not give, as it has no step of its own, is counted as an empty row."""
    rows = [{k: v for k, v in row.items() if k == "_step" or not k.startswith("_")} for row in run.scan_history(use_cache=False)]
    return rows + [{}] * (int(run._attrs["historyLineCount"] or 0) - len(rows))

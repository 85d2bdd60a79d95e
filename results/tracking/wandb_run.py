"""A study in W&B: a run with its curves and tables, and runs of its trials; offline in the study's folder, or on a server.

What W&B holds is a projection: offline it is written anew from the ledger each time, on a server what is there is asked for, and
gone on with. The client itself runs in a process of its own (`results.tracking.wandb_process`), so it can be ended when it hangs.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from results.secrets import redacted
from results.tracking.tracker import FAILED, About, Board, Place, Point, Rows, TrackerError, TrialRun
from results.tracking.wandb_check import compare, contradiction
from results.tracking.wandb_process import Client
from results.tracking.wandb_tables import BOARD, BOARD_DIGEST, COUNTS, EMPTY, TRIALS, digest, plain, table_of

PROJECT: Final = "alphasweep"
BOARD_S: Final = 30.0
_TRIES: Final = 3  # runs that are begun where those before contradict the ledger
_MOST_ROWS: Final = 10_000  # W&B cuts tables there without a word
_SETTINGS: Final = ("project", "entity", "mode", "trials")
_RESERVED: Final = frozenset({BOARD, BOARD_DIGEST, TRIALS, COUNTS})
# How long each question may take; the client's own limits are shorter, so it is ended only where it hangs.
_LIMITS_S: Final = {"look": 120, "held": 300, "begin": 150, "rows": 120, "trial": 240, "close": 240, "settle": 60, "workspace": 60}
_LIMIT_S: Final = 60


class WandbTracker:
    """Writes a study to W&B (`results.tracking.tracker.Tracker`).

    Args:
        about: The study.
        settings: project (default "alphasweep"), entity, mode ("offline" or "online"), trials (for whoever chooses which have runs).

    Raises:
        TrackerError: Settings that cannot be, or the client is not installed.
    """

    name = "wandb"
    client_settings: Mapping[str, Any] = MappingProxyType({})  # fields of `wandb.Settings` in place of ours
    pauses_s: Sequence[float] = (0.0, 0.5, 2.0, 5.0)  # before each look at what was taken in: a server may be behind, and so may a file

    def __init__(self, about: About, settings: Mapping[str, Any]) -> None:
        if unknown := set(settings) - set(_SETTINGS):
            raise TrackerError(f"tracking.wandb: unknown {', '.join(sorted(unknown))}; there are {', '.join(_SETTINGS)}")
        mode = settings.get("mode") or "offline"
        if mode not in ("offline", "online"):
            raise TrackerError(f"tracking.wandb.mode is offline or online, not {mode!r}")
        if importlib.util.find_spec("wandb") is None:
            raise TrackerError("tracking.wandb: wandb is not installed: pip install 'alphasweep[wandb]'")
        self._about, self._online = about, mode == "online"
        self._project, self._entity = str(settings.get("project") or PROJECT), str(settings.get("entity") or "")
        self._home = about.home.resolve() / "tracking" / "wandb"  # the client stands elsewhere
        self._client: Client | None = None
        self._held: dict[str, Any] | None = None  # once it is open
        self._begun = False
        self._points, self._rows = 0, 0
        self._trials: set[int] = set()
        self._board: Board | None = None
        self._shown, self._boards_s, self._began_s = "", -math.inf, 0.0

    # --- the tracker
    def open(self) -> Place:
        """Asks the server what it holds; offline everything is written anew. Nothing is written before there is something to write.

        Raises:
            TrackerError: W&B cannot be reached, refuses the key, or does not answer.
        """
        self._end()
        held: dict[str, Any] = {**EMPTY, "run": self._about.run_id}
        if self._online:
            shutil.rmtree(self._home / "online", ignore_errors=True)
            held = self._ask("look")
            if why := contradiction(held):
                self._ask("supersede", run=held["run"])
                held = self._ask("look")
                if contradiction(held):
                    raise TrackerError(f"W&B's run {held['run']} contradicts the ledger ({why}), and could not be replaced")
        self._held, self._begun = held, False
        self._points, self._rows, self._trials = len(held["done"]), sum(held["counts"]), set()
        self._board, self._shown, self._boards_s, self._began_s = None, held["board"], -math.inf, time.monotonic()
        return Place(self._points, self._rows, frozenset(int(n) for n, one in held["trials"].items() if one["whole"]))

    def point(self, point: Point) -> None:
        """Takes the next point."""
        if point.index != self._points:
            raise TrackerError(f"point {point.index} was given where {self._points} are written")
        self._write("point", points=[[point.index, point.done, {name: plain(value) for name, value in point.values.items()}]])
        self._points += 1

    def rows(self, rows: Rows) -> None:
        """Takes the next rows; never more than W&B shows of an increment."""
        columns, data = table_of(rows.frame)
        if rows.start != self._rows:
            raise TrackerError(f"rows from {rows.start} were given where {self._rows} are written")
        for at in range(0, len(data), _MOST_ROWS):
            self._write("rows", columns=columns, rows=data[at : at + _MOST_ROWS])
        self._rows += len(data)
        self._write("settle")

    def board(self, board: Board) -> None:
        """Takes the leaderboard; it is written at most every 30 seconds, and more seldom in a long session, and when the study ends."""
        self._board, now = board, time.monotonic()
        # Each is a file, and a server wants no more than a thousand of them: a week has some 160.
        if now - self._boards_s >= max(BOARD_S, (now - self._began_s) / 20):
            if self._boards_s > 0.0:
                self._save_workspace()  # not at once: its package takes a second to load, and beside a run that may be a minute
            self._write_board(board)

    def trial(self, run: TrialRun) -> None:
        """Takes a trial that has ended; one that W&B has a part of is gone on with, or replaced."""
        first = f"{self._about.run_id}-t{run.trial}"
        there: dict[str, Any] = {"run": first, "lines": 0, "generation": 1}
        one = there if self._held is None else self._held["trials"].get(str(run.trial), there)
        numbers = {key: plain(value) for key, value in run.metrics.items()}
        own = {"trial": run.trial, "config_id": run.config_id, "status": run.status, "seconds": plain(run.seconds)}
        reports = [[step, {key: plain(value) for key, value in metrics.items()}] for step, metrics in run.reports]
        summary = {**numbers, **own, "reports": len(reports)}
        given = {"config": _redacted(dict(run.config)), "summary": summary, "reports": reports}
        title, name, start, generation = f"{self._about.header.name} #{run.trial}", one["run"], one["lines"], one["generation"]
        for _ in range(_TRIES):
            if start <= len(reports) and self._write("trial", run=name, name=title, given=given, start=start)["written"]:
                self._trials.add(run.trial)
                return
            self._ask("supersede", run=name)
            generation, start = generation + 1, 0
            name = f"{first}-{generation}"
        raise TrackerError(f"W&B's run of trial {run.trial} is not what the ledger has, and could not be replaced")

    def close(self, state: str, summary: Mapping[str, Any], files: Sequence[Path] = ()) -> None:
        """Ends the run, waits for what is still to be uploaded, and asks the server whether all of it is there.

        Raises:
            TrackerError: It is not, or the client failed.
        """
        if self._board is not None:
            self._write_board(self._board)
        self._save_workspace()
        there = [path for path in files if path.is_file()]
        told = {f"{name}_" if name in _RESERVED else name: value for name, value in dict(_redacted(summary)).items()}
        told |= {"state": state, "files": [path.name for path in there]}
        kept = [] if self._held is None else self._held["kept"]
        self._write("close", summary=told, code=int(state == FAILED), files=[str(path.resolve()) for path in there], kept=kept)
        for pause in self.pauses_s:
            time.sleep(pause)
            if not (lacks := self._lacks(self._ask("look"), bool(there))):
                self._ask("settle")
                break
        self._end()
        shutil.rmtree(self._home / "online", ignore_errors=True)
        if lacks:
            raise TrackerError(f"W&B's client reports success, but {', '.join(lacks)}")

    def _lacks(self, held: Mapping[str, Any], files: bool) -> list[str]:
        """Returns what was written and is not there, in words."""
        points, rows = len(held["done"]), sum(held["counts"])
        lost = [n for n in self._trials if not held["trials"].get(str(n), {"whole": False})["whole"]]
        return [
            *([f"{points:,} of {self._points:,} points are there"] if points != self._points else ()),
            *([f"{rows:,} of {self._rows:,} rows of the table of trials are there"] if rows != self._rows else ()),
            *([f"{len(lost):,} of {len(self._trials):,} runs of trials are not whole"] if lost else ()),
            *(["the files are not there"] if files and not held["kept"] else ()),
        ]

    def check(
        self, points: int | Sequence[Point], rows: int | Iterable[Rows], trials: Collection[int] | Sequence[TrialRun] = ()
    ) -> list[str]:
        """Returns what is missing or wrong, in words, read back from the server or from the offline folder; empty if nothing is.

        A run on a server that contradicts the ledger is marked as superseded, so the next `open` begins another one.

        Args:
            points: Of the ledger, or how many.
            rows: Of the table of all trials, or how many.
            trials: That have runs of their own, or their numbers.
        """
        running = self._client is not None
        deep = [one.trial for one in trials if isinstance(one, TrialRun) and one.reports]
        batches = rows if isinstance(rows, int) else list(rows)
        try:
            for pause in self.pauses_s:
                time.sleep(pause)
                found = compare(held := self._ask("held", deep=deep), points, batches, trials)
                if found.wrong or not found.missing or not self._online:
                    break
            if self._online:
                for run in [*([held["run"]] if found.wrong else []), *found.trials]:
                    self._ask("supersede", run=run)
        finally:
            if not running:
                self._end()
                shutil.rmtree(self._home / "online", ignore_errors=True)
        return found.words

    # --- the client
    def _write(self, op: str, **given: Any) -> dict[str, Any]:
        """Writes to the run, which is begun if it is not yet."""
        if self._held is None:
            raise TrackerError("W&B is not open: what was written so far is asked for when it is opened")
        if not self._begun:
            held = self._held
            there = {"points": len(held["done"]), "paths": held["paths"], "counts": held["counts"]}
            if not self._ask("begin", run=held["run"], config=_redacted(self._config()), **there)["written"]:
                self._ask("supersede", run=held["run"])
                self._end()
                raise TrackerError(f"W&B's run {held['run']} has become longer than it was a moment ago; another one takes its place")
            self._begun = True
        return self._ask(op, **given)

    def _ask(self, op: str, **given: Any) -> dict[str, Any]:
        try:
            if self._client is None:
                self._client = self._start()
            return self._client.ask(op, _LIMITS_S.get(op, _LIMIT_S), **given)
        except TrackerError:
            self._end(kill=True)
            raise

    def _start(self) -> Client:
        folder = self._home / ("online" if self._online else "offline")
        names = {"run": self._about.run_id, "group": self._about.header.name, "artifact": f"results-{self._about.run_id}"}
        where = {"online": self._online, "project": self._project, "entity": self._entity, "folder": str(folder)}
        client = Client(folder, self._online)
        try:
            client.ask("start", _LIMIT_S, settings=dict(self.client_settings), **where, **names)
        except BaseException:
            client.kill()
            raise
        return client

    def _end(self, kill: bool = False) -> None:
        client, self._client, self._held, self._begun = self._client, None, None, False
        if client is not None:
            client.kill() if kill else client.end()

    def _write_board(self, board: Board) -> None:
        columns, data = table_of(board.frame.head(_MOST_ROWS))
        content = digest([columns, *data])
        self._boards_s = time.monotonic()
        if content != self._shown:
            self._write("board", columns=columns, rows=data)
            self._shown = content
        self._write("settle")

    def _config(self) -> dict[str, Any]:
        header = self._about.header
        own = {"run_id": self._about.run_id, "created": header.created, "total": self._about.total, "objective": header.objective}
        metrics = {metric.name: asdict(metric) for metric in header.metrics}
        return {**header.context, "study": header.spec, "parameters": list(self._about.parameters), "metrics": metrics, **own}

    def _save_workspace(self) -> None:
        """Writes the saved view's definition, and gives it to the server once."""
        if importlib.util.find_spec("wandb_workspaces") is None:
            return
        path = self._home / "workspace.json"
        try:
            before = json.loads(path.read_text())
        except (OSError, ValueError):
            before = {}
        if before.get("project") == self._project and ("url" in before or not self._online):
            return
        header = self._about.header
        names = {"objective": header.objective, "parameters": list(self._about.parameters), "metrics": list(header.metric_names)}
        made = self._write("workspace", project=self._project, run=self._about.run_id, study=header.name, **names)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(made, indent=1) + "\n")
        os.replace(draft, path)


def _redacted(value: Any) -> Any:
    """Returns a value of JSON with every text in it redacted."""
    if isinstance(value, Mapping):
        return {redacted(str(key)): _redacted(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted(one) for one in value]
    return redacted(value) if isinstance(value, str) else plain(value)

"""A study as a file of JSON lines, one per event, in order: for programs that follow it (`tail -f`), and for people with jq."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from results.tracking.tracker import About, Board, Place, Point, Rows, TrackerError, TrialRun

FILE: Final = "events.jsonl"


class JsonLines:
    """Appends to a file: `tracking/events.jsonl` in the study's folder, or the option `file`.

    Each line has a key `event`: `study` (the first line), `point`, `rows`, `board`, `trial` or `closed`. A line that a kill has cut
    is taken away, and written again.
    """

    name = "jsonl"

    def __init__(self, about: About, settings: Mapping[str, Any]):
        if unknown := set(settings) - {"file", "trials"}:
            raise TrackerError(f"tracking.jsonl: no option {sorted(unknown)[0]!r}; there are file and trials")
        self._about = about
        self.path = Path(settings["file"]) if "file" in settings else about.home / "tracking" / FILE

    def open(self) -> Place:
        """Returns what the file holds."""
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return Place()
        whole = self.path.read_bytes().rfind(b"\n") + 1
        if whole < self.path.stat().st_size:
            with self.path.open("r+b") as file:
                file.truncate(whole)
        points, rows, trials = 0, 0, set()
        for line in self._lines():
            if line["event"] == "study" and line["run_id"] != self._about.run_id:
                raise TrackerError(f"{self.path} is of study {line['name']!r} of {line['created']}; move it away, or name another file")
            points = line["index"] + 1 if line["event"] == "point" else points
            rows = line["start"] + len(line["rows"]) if line["event"] == "rows" else rows
            trials |= {line["trial"]} if line["event"] == "trial" else set()
        return Place(points, rows, frozenset(trials))

    def point(self, point: Point) -> None:
        """Appends a point."""
        self._write("point", index=point.index, done=point.done, values=dict(point.values))

    def rows(self, rows: Rows) -> None:
        """Appends rows."""
        self._write("rows", start=rows.start, **_table(rows.frame))

    def board(self, board: Board) -> None:
        """Appends the leaderboard."""
        self._write("board", done=board.done, **_table(board.frame))

    def trial(self, run: TrialRun) -> None:
        """Appends a trial."""
        reports = [[step, dict(metrics)] for step, metrics in run.reports]
        told = {"trial": run.trial, "config_id": run.config_id, "status": run.status, "seconds": run.seconds, "rank": run.rank}
        self._write("trial", **told, config=dict(run.config), metrics=dict(run.metrics), reports=reports)

    def close(self, state: str, summary: Mapping[str, Any], files: Sequence[Path] = ()) -> None:
        """Appends how the study stands."""
        self._write("closed", state=state, summary=dict(summary), files=[str(file) for file in files])

    def check(self, points: int, rows: int, trials: Collection[int]) -> list[str]:
        """Reads the file again."""
        lines = list(self._lines()) if self.path.exists() else []
        indices = [line["index"] for line in lines if line["event"] == "point"]
        numbers = [row[0] for line in lines if line["event"] == "rows" for row in line["rows"]]
        missing = set(trials) - {line["trial"] for line in lines if line["event"] == "trial"}
        found = [] if indices == list(range(points)) else [f"{self.path}: {len(indices):,} points, not the {points:,} of the ledger"]
        found += [] if len(numbers) == rows else [f"{self.path}: {len(numbers):,} rows, not the {rows:,} of the ledger"]
        return found + ([f"{self.path}: no run of trial {min(missing)} and {len(missing) - 1:,} more"] if missing else [])

    def _lines(self) -> Iterator[dict[str, Any]]:
        with self.path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)

    def _write(self, event: str, **content: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            if not file.tell():
                header = self._about.header
                first = {"event": "study", "name": header.name, "created": header.created, "run_id": self._about.run_id}
                file.write(json.dumps(first | {"total": self._about.total}) + "\n")
            file.write(json.dumps({"event": event, **content}, default=str) + "\n")


def _table(frame: pd.DataFrame) -> dict[str, Any]:
    columns = [[_plain(value) for value in frame[name].tolist()] for name in frame]
    return {"columns": [str(name) for name in frame], "rows": [list(row) for row in zip(*columns, strict=True)]}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

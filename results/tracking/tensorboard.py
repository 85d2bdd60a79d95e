"""TensorBoard event files of a study: its curves, and for each trial that gets a run of its own, what it reported and its parameters.

Event files cannot be corrected, only written anew. So every session writes all of them from the ledger, in a folder beside those of
the session before, and takes their place as soon as it has as much as they have: what people look at never becomes less.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import struct
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from results.secrets import redacted
from results.tracking.tracker import About, Board, Place, Point, Rows, TrackerError, TrialRun

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

FOLDER: Final = "tensorboard"
DRAFT: Final = ".tensorboard-new"
OLD: Final = ".tensorboard-old"
BOARD_ROWS: Final = 20
_FLUSH_S: Final = 1.0


class TensorboardTracker:
    """Writes a study as TensorBoard event files (`results.tracking.tracker.Tracker`).

    Args:
        about: The study.
        settings: None of its own.

    Raises:
        TrackerError: A setting.
    """

    name = "tensorboard"

    def __init__(self, about: About, settings: Mapping[str, Any]) -> None:
        if unknown := sorted(set(settings) - {"trials"}):  # which is for whoever calls it
            raise TrackerError(f"tracking.tensorboard: unknown {', '.join(map(repr, unknown))}; there is trials")
        place = about.home / "tracking"
        self._study = re.sub(r"[^\w.-]", "_", about.header.name)
        self._final, self._draft, self._old = place / FOLDER, place / DRAFT, place / OLD
        self._root = self._final
        self._writer: EventsWriter | None = None
        self._points, self._done, self._trials, self._goal = 0, 0, 0, (0, 0)
        self._time, self._flushed = _seconds(about.header.created), 0.0

    @property
    def where(self) -> str:
        """The folder for `tensorboard --logdir`."""
        return str(self._final)

    def open(self) -> Place:
        """Begins anew: nothing counts as there until it has been written again; what is there stays until then."""
        with _told(self._final):
            if self._old.exists() and not self._final.exists():
                self._old.rename(self._final)  # a process ended between the two renames
            for left in (self._old, self._draft):
                shutil.rmtree(left, ignore_errors=True)
            self._goal = held(self._final / self._study)
            self._root = self._draft if self._final.exists() else self._final
        self._writer, self._points, self._done, self._trials = None, 0, 0, 0
        return Place()

    def point(self, point: Point) -> None:
        """Writes a point of the study's curves."""
        if point.index < self._points:
            return
        if known := {key: value for key, value in point.values.items() if math.isfinite(value)}:
            self._add(_scalars(known), point.done)
        self._points, self._done = point.index + 1, point.done
        self._settle()

    def rows(self, rows: Rows) -> None:
        """Leaves them out: TensorBoard has no such table."""

    def board(self, board: Board) -> None:
        """Writes the first rows of the leaderboard as text."""
        self._text("leaderboard", _markdown(board), board.done)
        self._settle()

    def trial(self, run: TrialRun) -> None:
        """Writes a trial into a folder of its own: its reports by step, its result and, if completed, its line of the HPARAMS table."""
        self._opened()
        folder = self._root / self._study / _folder(run.trial)
        with _told(folder):
            if folder.exists():
                return
            writer = _writer(folder)
            try:
                start, end = _session(run)
                if run.status == "completed":
                    writer.write_event(_event(start, 0, self._time))
                for step, values in _values(run).items():
                    writer.write_event(_event(_scalars(values), step, self._time))
                if run.status == "completed":
                    writer.write_event(_event(end, 0, self._time))
            finally:
                writer.close()
        self._trials += 1
        self._settle()

    def close(self, state: str, summary: Mapping[str, Any], files: Sequence[Path] = ()) -> None:
        """Writes the summary as text; from here on these are the files, whatever there was before."""
        lines = "\n".join(f"- **{key}**: {value}" for key, value in {"state": state, **summary}.items() if value is not None)
        self._text("summary", lines, self._done)
        self._settle(ended=True)
        with _told(self._final):
            self._opened().close()
        self._writer = None

    def check(self, points: int, rows: int, trials: Collection[int]) -> list[str]:
        """Reads the files back, each record against its checksum.

        Args:
            points: Of the curves there must be.
            rows: Not looked at; there is no such table.
            trials: Numbers of those with a folder of their own.

        Returns:
            What is missing, in words; empty if nothing.
        """
        if self._writer is not None:
            self._writer.flush()
        folder = (self._final if self._writer is None else self._root) / self._study
        with _told(folder):
            there = _points(folder)
            missing = [trial for trial in sorted(trials) if not any(event.HasField("summary") for event in read(folder / _folder(trial)))]
        found = [f"{there:,} points of the curves in place of {points:,}"] if there != points else []
        if missing:
            found.append(f"no values of {len(missing):,} trials, the first is {missing[0]}")
        return found

    def _opened(self) -> EventsWriter:
        if self._writer is None:
            with _told(self._root):
                self._writer = _writer(self._root / self._study)
        return self._writer

    def _add(self, summary: Summary, step: int) -> None:
        with _told(self._root):
            self._opened().write_event(_event(summary, step, self._time))

    def _text(self, name: str, words: str, step: int) -> None:
        from tensorboardX.summary import text

        self._add(text(name, redacted(words)), step)

    def _settle(self, ended: bool = False) -> None:
        """Makes what was written visible, and puts the new files in the place of the old once they hold as much."""
        replaces = self._root == self._draft and (ended or (self._points >= self._goal[0] and self._trials >= self._goal[1]))
        if not replaces and not ended and time.monotonic() - self._flushed < _FLUSH_S:
            return
        with _told(self._final):
            self._opened().flush()
            self._flushed = time.monotonic()
            if replaces:
                self._final.rename(self._old)
                self._draft.rename(self._final)  # the open file moves with its folder
                shutil.rmtree(self._old, ignore_errors=True)
                self._root = self._final


def read(folder: Path) -> Iterator[Event]:
    """Gives the events of a folder's files, without those of folders in it; a last record that is cut short is left out.

    Raises:
        TrackerError: A record that does not have its checksum.
    """
    from tensorboardX.crc32c import crc32c
    from tensorboardX.proto.event_pb2 import Event

    def masked(data: bytes) -> int:
        crc = crc32c(data)
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at + 12 <= len(data):  # length, its checksum, record, its checksum
            size, of_size = struct.unpack_from("<QI", data, at)
            intact = of_size == masked(data[at : at + 8])
            end = at + 12 + size + 4
            if intact and end > len(data):
                break
            record = data[at + 12 : end - 4] if intact else b""
            if not intact or struct.unpack_from("<I", data, end - 4)[0] != masked(record):
                raise TrackerError(f"TensorBoard: {path} is damaged at byte {at:,}; alphasweep track sync writes it anew")
            yield Event.FromString(record)
            at = end


def held(folder: Path) -> tuple[int, int]:
    """Returns how many points and trials a study's files hold; nothing of files that are damaged."""
    try:
        return _points(folder), len(list(folder.glob("trial-*")))
    except TrackerError:
        return 0, 0


def _points(folder: Path) -> int:
    return len({event.step for event in read(folder) for value in event.summary.value if value.HasField("simple_value")})


@contextmanager
def _told(place: Path) -> Iterator[None]:
    """Turns whatever fails inside into a TrackerError with words."""
    try:
        yield
    except TrackerError:
        raise
    except ImportError as error:
        raise TrackerError(f"tensorboardX is not installed ({error}); pip install tensorboardX") from error
    except Exception as error:
        raise TrackerError(f"TensorBoard: {place}: {type(error).__name__}: {redacted(str(error))}") from error


def _writer(folder: Path) -> EventsWriter:
    # Not `SummaryWriter`: its thread ends without a word when a disk is full.
    from tensorboardX.event_file_writer import EventsWriter

    folder.mkdir(parents=True, exist_ok=True)
    return EventsWriter(str(folder / "events"))


def _event(summary: Summary, step: int, seconds: float) -> Event:
    from tensorboardX.proto.event_pb2 import Event

    return Event(wall_time=seconds, step=step, summary=summary)


def _scalars(values: Mapping[str, float]) -> Summary:
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import scalar

    return Summary(value=[value for name, each in values.items() for value in scalar(name, float(each)).value])


def _session(run: TrialRun) -> tuple[Summary, Summary]:
    """Returns what makes a trial a line of the HPARAMS table: its parameters, and that it is complete.

    No list of all parameters is written: TensorBoard takes the first such list it finds for that of all trials, and parameters that not
    all of them have would be missing; without one it makes its own from what there is.
    """
    from tensorboardX.summary import hparams

    plain = {key: value if isinstance(value, str | int | float) else json.dumps(value, default=str) for key, value in run.config.items()}
    _, begun, ended = hparams({key: redacted(value) if isinstance(value, str) else value for key, value in plain.items()}, {})
    return begun, ended


def _values(run: TrialRun) -> dict[int, dict[str, float]]:
    """Returns by step what a trial reported, and at the last one what of its result no report has said already."""
    last = max((step for step, _ in run.reports), default=0)
    found: dict[int, dict[str, float]] = {last: {name: float(value) for name, value in run.metrics.items()}}
    for step, values in run.reports:
        found.setdefault(step, {}).update({name: float(value) for name, value in values.items()})
    return {step: {name: value for name, value in found[step].items() if math.isfinite(value)} for step in sorted(found)}


def _markdown(board: Board) -> str:
    """Returns the first rows as a table of Markdown."""
    frame = board.frame.head(BOARD_ROWS)
    cell = lambda value: (f"{value:.6g}" if isinstance(value, float) else str(value)).replace("|", r"\|")  # noqa: E731
    lines = [" | ".join(map(cell, frame.columns)), " | ".join("---" for _ in frame.columns)]
    lines += [" | ".join(map(cell, row)) for row in frame.itertuples(index=False)]
    return "\n".join(f"| {line} |" for line in lines)


def _folder(trial: int) -> str:
    return f"trial-{trial:05d}"


def _seconds(created: str) -> float:
    """Returns when the study was created, seconds since 1970; 0 if its ledger does not say. One time for all: the axis is the step."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

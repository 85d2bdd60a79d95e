"""How far each tracker of a study is, for people and for the next writer: small files in the study's folder."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sweeps.tracking.settings import FOLDER

WRITING: Final = "writing"  # the study runs, or what is missing is being written
WRITTEN: Final = "written"  # everything, when the study was last at rest
FAILING: Final = "failing"  # it is tried again
GIVEN_UP: Final = "given up"  # `alphasweep track sync` tries again
LOCK: Final = "writer.lock"


@dataclass(frozen=True)
class State:
    """What a tracker has been told.

    Attributes:
        tracker: Its name.
        state: `WRITING`, `WRITTEN`, `FAILING` or `GIVEN_UP`.
        run_id: Of the study (`About.run_id`).
        session: The study's latest session when this was written.
        outcome: How that session stood.
        done: Results the study had.
        points, rows, trials: Of them the tracker has.
        error: The latest, empty after a success.
        updated: When, UTC.
        pid: Process that wrote it.
    """

    tracker: str
    state: str = WRITING
    run_id: str = ""
    session: int = 0
    outcome: str = ""
    done: int = 0
    points: int = 0
    rows: int = 0
    trials: int = 0
    error: str = ""
    updated: str = ""
    pid: int = 0

    def same(self, other: State | None) -> bool:
        """Whether both say that the same things were written."""
        return other is not None and replace(self, updated="", pid=0) == replace(other, updated="", pid=0)

    def write(self, home: Path) -> None:
        """Keeps it in the study's folder."""
        place = _place(home, self.tracker)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{os.getpid()}")
        stamped = replace(self, updated=datetime.now(UTC).isoformat(timespec="seconds"), pid=os.getpid())
        draft.write_text(json.dumps(asdict(stamped), indent=2) + "\n")
        os.replace(draft, place)

    @classmethod
    def read(cls, home: Path, tracker: str) -> State | None:
        """Returns what was kept, None if nothing was."""
        try:
            return cls(**json.loads(_place(home, tracker).read_text()))
        except (OSError, ValueError, TypeError):
            return None


def _place(home: Path, tracker: str) -> Path:
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in tracker)
    return home / FOLDER / f"{name}.state.json"


class WriterLock:
    """One process at a time writes to the trackers of a study; taken back by the kernel when it dies."""

    def __init__(self, home: Path):
        self.path = home / FOLDER / LOCK
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def take(self) -> bool:
        """Takes it; False while another process has it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        return True

    def owner(self) -> int:
        """Returns the process that has it, or had it last; 0 if nobody had."""
        text = os.pread(self._descriptor, 32, 0)
        return int(text) if text.isdigit() else 0

    def release(self) -> None:
        """Gives it back."""
        os.close(self._descriptor)


def writer_of(home: Path) -> int:
    """Returns the process that writes to a study's trackers now; 0 if none does."""
    if not (home / FOLDER / LOCK).exists():
        return 0
    lock = WriterLock(home)
    try:
        try:
            fcntl.flock(lock._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return lock.owner() or -1
        return 0
    finally:
        lock.release()

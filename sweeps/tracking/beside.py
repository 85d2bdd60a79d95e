"""Starting the process that writes to the trackers, and what is said of it at the end. Nothing here imports a tracker."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sweeps.tracking.budget import SHARE
from sweeps.tracking.settings import FOLDER, Wanted, check, not_installed
from sweeps.tracking.state import WRITTEN, State

LOG: Final = "writer.log"
_LARGEST_LOG: Final = 1_000_000  # bytes after which a new one is begun
GRACE: float | None = None  # seconds given to a tracker that fails after the study's end; None is the writer's own


@dataclass
class Beside:
    """The trackers of a session.

    Attributes:
        home: The study's folder.
        trackers: Their names.
        process: What writes to them; None where there are none, or it could not be started.
        problem: Why it could not.
    """

    home: Path
    trackers: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    problem: str = ""

    @classmethod
    def start(cls, home: Path, trackers: Mapping[str, Any], stepping: bool) -> Beside:
        """Starts the process that writes to a study's trackers, if it has any; what goes wrong here stops no study."""
        check(trackers)
        if not trackers:
            return cls(home)
        try:
            Wanted(trackers, stepping).write(home)
            log = home / FOLDER / LOG
            if log.exists() and log.stat().st_size > _LARGEST_LOG:
                os.replace(log, log.with_suffix(".log.1"))
            command = [sys.executable, "-m", "sweeps.tracking.writer", str(home.absolute())]
            command += ["--share", str(SHARE), *([] if GRACE is None else ["--grace", str(GRACE)])]
            with log.open("ab") as file:
                # A session of its own, so that Ctrl-C stops the study and not what is told of it.
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True)
        except OSError as error:
            return cls(home, tuple(trackers), problem=str(error))
        return cls(home, tuple(trackers), process)

    def rest(self) -> None:
        """Says that the session has ended: what is not written yet need not be written slowly."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()

    def wait(self, seconds: float) -> bool:
        """Waits until all is written, so many seconds at most; returns whether it is."""
        if self.process is not None:
            until = time.monotonic() + seconds
            while self.process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
        return self.process is not None and self.process.poll() == 0

    def missing(self) -> list[str]:
        """Returns what has to be installed for the trackers, in words."""
        return [f"{name}: {words}" for name in self.trackers if (words := not_installed(name))]

    def unwritten(self) -> list[tuple[str, str]]:
        """Returns the trackers that have not been told everything, and why."""
        found = []
        for name in self.trackers:
            state = State.read(self.home, name)
            if state is None or state.state != WRITTEN:
                found.append((name, self.problem or (state.error if state else "")))
        return found

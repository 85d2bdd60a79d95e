"""The process of one study among several: enters its lane, waits until nobody else is there, and is `alphasweep run` from then on."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from cluster.lanes import Lane, LaneError, enter, held

STOPPED: Final = 130  # how a process ends that was asked to
CHANNEL: Final = "ALPHASWEEP_PROGRESS"  # number of the file descriptor on which whoever started this process hears of its progress
_EVERY: Final = 0.2  # seconds between two messages, at least


class Channel:
    """Tells the process that started this one how far it is; has the face of `sweeps.progress.StudyProgress`."""

    def __init__(self, descriptor: int, objective: str, unit: str = ""):
        from rich.console import Console

        from sweeps.progress import StudyProgress

        self._descriptor: int | None = descriptor
        self._words = StudyProgress(Console(file=open(os.devnull, "w"), width=200), objective, unit)  # noqa: SIM115 (as long as the process)
        self._sent = -math.inf

    def __enter__(self) -> Self:
        self.tell("loading data")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._sent = -math.inf
        self.tell("ending")

    def prepared(self) -> None:
        """Says that data are loaded."""
        self.tell("reading results")

    def update(self, tally: Any) -> None:
        """Says how far the study is."""
        self._words.update(tally)
        now = time.monotonic()
        if now - self._sent >= _EVERY or tally.done + tally.known >= tally.total:
            self._sent = now
            self.tell("running", have=tally.known + tally.done, total=tally.total, line=self._words.line, failed=tally.failed)

    def tell(self, state: str, **more: Any) -> None:
        """Sends one message; whoever listened may be gone."""
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, (json.dumps({"state": state} | more) + "\n").encode())
        except BlockingIOError:
            pass  # whoever listened is suspended, and the study is not
        except OSError:
            self._descriptor = None


def channel() -> int | None:
    """Returns the descriptor on which progress is to be told; None where nobody asked.

    It is for this process only: in one that this one starts, another file may have the number.
    """
    if (given := os.environ.pop(CHANNEL, None)) is None:
        return None
    os.set_inheritable(int(given), False)
    os.set_blocking(int(given), False)
    return int(given)


def main(arguments: Sequence[str]) -> None:
    """Runs one study in a lane.

    Args:
        arguments: The lane as JSON, the study's name, and what follows `alphasweep`.
    """
    given, study, *rest = arguments
    lane = Lane.from_json(given)
    try:
        from sweeps.cli import main as command

        enter(lane)
        try:
            with held(lane, study):
                command(rest)
                return
        except LaneError:
            _waiting(lane)
        with held(lane, study, wait=math.inf):
            command(rest)
    except LaneError as error:
        print(f"error {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped before it began.")
        sys.exit(STOPPED)


def _waiting(lane: Lane) -> None:
    if (descriptor := os.environ.get(CHANNEL)) is not None:
        with suppress(OSError):
            os.write(int(descriptor), (json.dumps({"state": f"waiting for lane {lane.name}"}) + "\n").encode())


if __name__ == "__main__":
    main(sys.argv[1:])

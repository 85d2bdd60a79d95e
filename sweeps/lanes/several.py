"""Several drivers at once: started, listened to, stopped together, each a process of its own that nothing of the others reaches."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import IO, Any, Final

from cluster.lanes import Lane
from sweeps.lanes.driver import CHANNEL, STOPPED

_LOOK: Final = 0.2  # seconds between looks for signals and ended processes


@dataclass(frozen=True)
class Job:
    """A study to be run.

    Attributes:
        study: Its name.
        lane: Where.
        arguments: What follows `alphasweep`: run, the study, its options.
    """

    study: str
    lane: Lane
    arguments: tuple[str, ...]


@dataclass
class Driver:
    """A study at work.

    Attributes:
        job: What was asked for.
        state: In words: starting, waiting for lane x, loading data, running, finished, stopped, failed.
        have: Points with a result.
        total: Points; 0 until known.
        line: Progress in words.
        code: How its process ended; None while it runs.
    """

    job: Job
    state: str = "starting"
    have: int = 0
    total: int = 0
    line: str = ""
    code: int | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _said: IO[bytes] | None = field(default=None, repr=False)
    _rest: bytes = field(default=b"", repr=False)

    def output(self) -> str:
        """Returns what it printed."""
        assert self._said is not None
        self._said.seek(0)
        return self._said.read().decode(errors="replace")

    def start(self, width: int, colour: bool) -> int:
        """Starts the process; returns the descriptor its messages come from."""
        ours, theirs = os.pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the driver)
        environment = {**os.environ, **self.job.lane.environment(), CHANNEL: str(theirs), "COLUMNS": str(width)}
        environment |= {"FORCE_COLOR": "1"} if colour else {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sweeps.lanes.driver", json.dumps(asdict(self.job.lane)), self.job.study, *self.job.arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(theirs,),
            # Ctrl-C reaches it through its parent only, once: a second one would interrupt it.
            start_new_session=True,
        )
        os.close(theirs)
        return ours

    def ask_to_stop(self, signum: int) -> None:
        """Passes a signal on."""
        if self._process is not None and self.code is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signum)

    def hear(self, data: bytes) -> None:
        """Takes what came through its channel."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            said: dict[str, Any] = json.loads(line)
            self.state = said["state"]
            self.have, self.total, self.line = said.get("have", self.have), said.get("total", self.total), said.get("line", self.line)

    def ended(self) -> bool:
        """Looks whether the process has ended, and notes how."""
        if self.code is None and self._process is not None and (code := self._process.poll()) is not None:
            self.code = code
            self.state = (
                "finished" if code == 0 else "stopped" if code == STOPPED else f"killed by signal {-code}" if code < 0 else "failed"
            )
            return True
        return False


def run_several(
    more: Callable[[Sequence[Driver]], Sequence[Job]],
    on_change: Callable[[Sequence[Driver]], None] = lambda _: None,
    *,
    width: int = 100,
    colour: bool = False,
) -> list[Driver]:
    """Runs studies at once, each in its lane and in a process of its own.

    Ctrl-C, SIGTERM and a terminal that is closed are passed on to all: each ends after its packs in flight; again, and each is interrupted.

    Args:
        more: Returns what is to be started now, given all that was started so far; asked at the beginning, and whenever one has ended.
        on_change: Called with all of them when something was heard, and now and then.
        width: Columns of the terminal their output is for.
        colour: Whether it takes colours.

    Returns:
        All of them, ended.
    """
    drivers: list[Driver] = []
    with _signals(drivers) as asked, selectors.DefaultSelector() as selector:

        def start() -> None:
            for job in () if asked() else more(drivers):
                if asked():
                    break
                drivers.append(driver := Driver(job))
                selector.register(driver.start(width, colour), selectors.EVENT_READ, driver)
                if asked():  # a signal that came while it was being started went past it
                    driver.ask_to_stop(signal.SIGINT)

        start()
        while any(driver.code is None for driver in drivers):
            for key, _ in selector.select(_LOOK):
                if data := os.read(key.fd, 65536):
                    key.data.hear(data)
                else:
                    selector.unregister(key.fd)
                    os.close(key.fd)
            if any([driver.ended() for driver in drivers]):  # all of them, not the first only
                start()
            on_change(drivers)
        for key in list(selector.get_map().values()):
            os.close(key.fd)
    return drivers


@contextmanager
def _signals(drivers: Sequence[Driver]) -> Iterator[Callable[[], bool]]:
    """Passes signals on to the drivers; gives a function that says whether there was one."""
    heard: list[int] = []

    def forward(signum: int, frame: FrameType | None) -> None:
        heard.append(signum)
        for driver in drivers:
            driver.ask_to_stop(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # under nohup it is ignored
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield lambda: bool(heard)
    except BaseException:  # whoever would have stopped them is going
        if not heard:
            forward(signal.SIGINT, None)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

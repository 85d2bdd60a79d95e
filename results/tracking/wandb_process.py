"""The W&B client in a process of its own: it can be given a time limit, and ended when it hangs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from results.tracking.tracker import TrackerError

# The user's own settings that are the client's business; everything else is given to each run, so nothing else reaches it.
_PASSED: Final = frozenset(
    f"WANDB_{name}"
    for name in ("API_KEY", "BASE_URL", "APP_URL", "ENTITY", "USERNAME", "INSECURE_DISABLE_SSL", "IDENTITY_TOKEN_FILE", "CREDENTIALS_FILE")
)
_LOG: Final = "client.log"
_TEMPORARY: Final = "tmp"  # from where the client stands: the path of a socket may have 107 characters, and a study's may be longer
_END_S: Final = 2.0
_GLANCE_S: Final = 0.5
_PATIENCE: Final = 30  # times the limit, at most

T = TypeVar("T")


class Client:
    """A running `results.tracking.wandb_client`: one question at a time, each with a time limit.

    Args:
        folder: It writes here and nowhere else.
        online: Whether it is given the key.
    """

    def __init__(self, folder: Path, online: bool) -> None:
        self._temporary = folder / _TEMPORARY
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self._log = folder / _LOG
        ours, theirs = socket.socketpair()
        ours.settimeout(_GLANCE_S)
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "results.tracking.wandb_client", str(theirs.fileno())],
                    env=_environment(folder, online),
                    cwd=folder,
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket, self._answers, self._core = ours, b"", 0

    @property
    def processes(self) -> tuple[int, ...]:
        """Numbers of the processes: the client's, and that of its service once there is one."""
        return (self._process.pid, self._core) if self._core else (self._process.pid,)

    def ask(self, op: str, limit_s: float, **given: Any) -> dict[str, Any]:
        """Returns the client's answer.

        Args:
            op: What to do.
            limit_s: After this long the client is ended; time in which it wanted to work and got no processor does not count.
            given: Arguments, as JSON has them.

        Raises:
            TrackerError: It said why it could not, did not answer in time, or has ended.
        """
        clock = _Clock(self.processes, limit_s)
        question = memoryview(json.dumps({"op": op, **given}).encode() + b"\n")
        try:
            while question:
                question = question[clock.wait(partial(self._socket.send, question)) :]
            while b"\n" not in self._answers:
                if not (got := clock.wait(partial(self._socket.recv, 1 << 20))):
                    raise ConnectionError
                self._answers += got
        except TimeoutError:
            self.kill()
            raise TrackerError(f"W&B's client did not answer within {limit_s:g} seconds ({op}), and was ended") from None
        except OSError:
            said = self._last_words()
            self.kill()
            raise TrackerError(f"W&B's client ended without an answer ({op}){said}") from None
        line, _, self._answers = self._answers.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        self._core = int(answer.pop("core", 0)) or self._core
        if "error" in answer:
            raise TrackerError(answer["error"])
        return answer

    def end(self) -> None:
        """Ends it: it stops when nobody asks any more."""
        with contextlib.suppress(OSError):
            self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self.kill()

    def kill(self) -> None:
        """Ends it at once, and its service, whatever they are doing."""
        with contextlib.suppress(OSError):
            self._socket.close()
        for process in (self._core, self._process.pid if self._process.poll() is None else 0):
            if process and _is_ours(process):
                with contextlib.suppress(OSError):
                    os.kill(process, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        shutil.rmtree(self._temporary, ignore_errors=True)

    def __del__(self) -> None:
        # Whoever asked may be gone because something else went wrong: two of them would write the same run.
        if hasattr(self, "_socket") and self._socket.fileno() >= 0:
            self.kill()

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").strip().splitlines()
            return f": {lines[-1][:300]}" if lines else ""
        return ""


class _Clock:
    """Time that processes have had, without what they waited for a processor: beside a run, at low priority, that is most of it."""

    def __init__(self, processes: tuple[int, ...], limit_s: float) -> None:
        self._processes, self._limit_s = processes, limit_s
        self._began, self._waited = time.monotonic(), 0.0
        self._before: float | None = None  # what they had waited at the first glance: most answers come before there is one

    def wait(self, act: Callable[[], T]) -> T:
        """Returns what an act that gives up after a glance returns in the end.

        Raises:
            TimeoutError: The time is over.
        """
        while True:
            try:
                return act()
            except TimeoutError:
                waiting = self._waiting()
                self._before = waiting if self._before is None else self._before
                self._waited = max(self._waited, waiting - self._before)
                spent = time.monotonic() - self._began
                if spent - self._waited > self._limit_s or spent > _PATIENCE * self._limit_s:
                    raise

    def _waiting(self) -> float:
        """Returns the seconds all threads so far were ready and did not run; 0 where the system does not say."""
        found = 0
        for process in self._processes:
            for file in Path(f"/proc/{process}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError, ValueError, IndexError):
                    found += int(file.read_text().split()[1])
        return found / 1e9


def _is_ours(process: int) -> bool:
    """Whether a process is still what it was: numbers are used again."""
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return not Path("/proc/self").exists()  # where there is no /proc it cannot be told
    return b"wandb" in command


def _environment(folder: Path, online: bool) -> Mapping[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_") or (online and key in _PASSED)}
    source = str(Path(__file__).resolve().parents[2])
    paths = [source, *filter(None, [kept.get("PYTHONPATH")])]
    below = {"WANDB_DIR": "", "WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache", "WANDB_ARTIFACT_DIR": "data"}
    own = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", **{name: str(folder / part) for name, part in below.items()}}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": _TEMPORARY, **own}

"""What was worked out for one reader and serves the next: kept by what it depends on, made once however many ask at the same time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeVar

T = TypeVar("T")
PATIENCE: Final = 10.0  # times what it cost an answer may be old while results keep coming


@dataclass
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    version: str | None = None
    value: Any = None
    due: float = 0.0


class Memory:
    """The latest answers to the latest questions.

    A question that is asked again of the same version is answered from memory. While a study runs, each look finds another version; then an
    answer that was dear to make serves for a while longer.
    """

    def __init__(self, most: int = 64):
        self._most = most
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, version: str, alive: bool, make: Callable[[], T]) -> tuple[T, str]:
        """Returns an answer and the version it is of.

        Args:
            key: The question.
            version: Of what it depends on.
            alive: Whether versions follow one another.
            make: Works the answer out.
        """
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        with kept.lock:
            fresh = kept.version == version or (kept.version is not None and alive and time.monotonic() < kept.due)
            if not fresh:
                began = time.monotonic()
                kept.value = make()
                kept.version = version
                kept.due = time.monotonic() + PATIENCE * (time.monotonic() - began)
            assert kept.version is not None
            return kept.value, kept.version


class Background(Executor):
    """A few threads that a process does not wait for when it ends, unlike those of the standard library's pools."""

    def __init__(self, workers: int):
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        for number in range(workers):
            threading.Thread(target=self._run, name=f"background-{number}", daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Has a thread call a function."""
        future: Future[Any] = Future()
        self._work.put((future, partial(fn, *args, **kwargs)))
        return future

    def _run(self) -> None:
        while True:
            future, call = self._work.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)


@dataclass
class Job:
    """Something that takes seconds, worked out in the background; until then the one before is shown."""

    executor: Executor
    share: float = 0.1
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _future: Future[Any] | None = None
    _wanted: str = ""
    _version: str = ""
    _value: Any = None
    _error: BaseException | None = None
    _began: float = 0.0
    _due: float = 0.0

    def get(self, version: str, alive: bool, make: Callable[[], T]) -> tuple[T | None, bool]:
        """Returns the latest answer, None before the first, and whether it is of this version.

        Args:
            version: Of what it depends on.
            alive: Whether versions follow one another: then it is worked out again only after it has paid off.
            make: Works it out, in another thread; what it raises is raised here.
        """
        with self._lock:
            if self._future is not None and self._future.done():
                future, self._future = self._future, None
                self._version, self._due = self._wanted, time.monotonic() + (time.monotonic() - self._began) / self.share
                self._error = future.exception()
                self._value = self._value if self._error else future.result()
            if self._future is None and self._version != version and (not alive or not self._version or time.monotonic() >= self._due):
                self._wanted, self._began = version, time.monotonic()
                self._future = self.executor.submit(make)
            if self._error is not None and self._version == version:
                raise self._error
            return self._value, self._version == version

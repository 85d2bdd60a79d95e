"""What a person sees while tables are built in the command's own process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from cluster.cache import Store, TableLike
from cluster.cache.rows import named
from trainables.tables import Build, Table, Tables

_EVERY = 10.0  # seconds between lines where output is not a terminal
_AGAIN = 60.0  # seconds between lines while another process builds


class BuildProgress:
    """A bar for the table being built; where output goes to a file, a line every ten seconds while one is. A line when it waits."""

    def __init__(self, console: Console):
        self._console = console
        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._printed = time.monotonic()
        self._waited: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def watching(self, tables: Tables) -> Tables:
        """Returns the same tables, whose building, here or in another process, is shown."""
        if isinstance(tables, Store):
            tables.on_wait = self.waiting
        return _Watched(tables, self)

    def waiting(self, table: TableLike, seconds: float) -> None:
        """Says that another process builds a table, when the waiting begins and every minute."""
        before = self._waited.get(table.key)
        if before is None or not before <= seconds < before + _AGAIN:
            self._waited[table.key] = seconds
            self._console.print(Text(f"{named(table)}: waiting for another process that builds it ({seconds:.0f} s)."), soft_wrap=True)

    @contextmanager
    def reading(self, table: Table, first: int, stop: int, build: Build) -> Iterator[Build]:
        """Gives a build that tells how far rows [first, stop) have come; it is called for pieces of them, in their order."""
        name, total, main = named(table), stop - first, threading.current_thread()
        tasks: list[TaskID] = []

        def building(a: int, b: int, done: Callable[[int], None]) -> np.ndarray:
            if not tasks:
                tasks.append(self._bar.add_task(name, total=total, completed=a - first))

            def told(n: int) -> None:
                done(n)
                come = a - first + n
                self._bar.update(tasks[0], completed=come)
                now = time.monotonic()
                if not self._console.is_terminal and now - self._printed >= _EVERY and threading.current_thread() is main:
                    self._printed = now
                    self._console.print(Text(f"{name}: {come:,} of {total:,} rows"), soft_wrap=True)

            return build(a, b, told)

        try:
            yield building
        finally:
            for task in tasks:
                self._bar.remove_task(task)


class _Watched:
    def __init__(self, tables: Tables, shown: BuildProgress):
        self._tables, self._shown = tables, shown

    def read(self, table: Table, first: int, stop: int, build: Build) -> np.ndarray:
        with self._shown.reading(table, first, stop, build) as shown:
            return self._tables.read(table, first, stop, shown)

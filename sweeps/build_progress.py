"""What a person sees while tables are built in the command's own process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from trainables.tables import Build, Table, Tables

_EVERY = 10.0  # seconds between lines where output is not a terminal


class BuildProgress:
    """A bar for the table being built; where output goes to a file, a line for each table and every ten seconds."""

    def __init__(self, console: Console):
        self._console = console
        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def watching(self, tables: Tables) -> Tables:
        """Returns the same tables, whose building is shown."""
        return _Watched(tables, self)

    def building(self, table: Table, first: int, stop: int, done: Callable[[int], None], build: Build) -> np.ndarray:
        """Builds rows, telling how far it has come."""
        name, total = table.where or f"{table.kind} of {', '.join(table.symbols)}", stop - first
        task = self._bar.add_task(name, total=total)
        main = threading.current_thread()

        def told(n: int) -> None:
            done(n)
            self._bar.update(task, completed=n)
            now = time.monotonic()
            if not self._console.is_terminal and now - self._printed >= _EVERY and threading.current_thread() is main:
                self._printed = now
                self._console.print(Text(f"{name}: {n:,} of {total:,} rows"), soft_wrap=True)

        try:
            return build(first, stop, told)
        finally:
            self._bar.remove_task(task)


class _Watched:
    def __init__(self, tables: Tables, shown: BuildProgress):
        self._tables, self._shown = tables, shown

    def read(self, table: Table, first: int, stop: int, build: Build) -> np.ndarray:
        return self._tables.read(table, first, stop, lambda a, b, done: self._shown.building(table, a, b, done, build))

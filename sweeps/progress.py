"""What a person sees while a study runs: one line with rate and best so far."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from sweeps.feed import Tally


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Configurations per second since work began."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "–/s", style="cyan")


class StudyProgress:
    """A progress bar on a terminal; a line every ten seconds where output goes to a file."""

    def __init__(self, console: Console, objective: str):
        self._console, self._objective = console, objective
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[best]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting Ray", total=None, best="")
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, tally: Tally) -> None:
        """Shows the state after a pack."""
        best = "" if math.isnan(tally.best) else f"best {self._objective} {tally.best:.4g}"
        if tally.failed:
            best += f"  [red]{tally.failed} failed[/red]"
        self._bar.update(self._task, description="evaluating", completed=tally.known + tally.done, total=tally.total, best=best)
        if not self._console.is_terminal and time.monotonic() - self._printed > 10:
            self._printed = time.monotonic()
            self._console.print(
                f"{tally.known + tally.done:,} of {tally.total:,} done, {best}" if tally.total else f"{tally.done:,} done, {best}"
            )

"""What a person sees while a walk-forward runs: how many windows are done, and below it the search of the one at work."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from results.leaderboard import format_value, shown_unit
from results.metrics import Metric
from sweeps.feed import Tally
from sweeps.walk.result import Windowed


class WalkProgress:
    """Two bars on a terminal, windows and the search inside; where output goes to a file, a line for each window tested."""

    def __init__(self, console: Console, objective: Metric):
        self._console, self._objective = console, objective
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[count]}"),
            TextColumn("[cyan]{task.fields[note]}", markup=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._windows = self._bar.add_task("walk", total=None, count="loading data", note="")
        self._search = self._bar.add_task("search", total=None, count="", note="", visible=False)
        self._done, self._total = 0, 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def cut(self, windows: int) -> None:
        """Learns how many windows there are."""
        self._total = windows
        self._bar.update(self._windows, total=windows, completed=0, count=f"0 of {windows} windows", note="")

    def searching(self, k: int, windows: int, name: str, tally: Tally) -> None:
        """Shows how far the search of a window is."""
        have = tally.known + tally.done
        best = "" if math.isnan(tally.best) else f"best {self._objective.name} {self._told(tally.best)}"
        note = "starting workers" if not tally.packs else f"{best}{f', {tally.failed:,} failed' if tally.failed else ''}"
        self._bar.update(
            self._search, visible=True, description=name, completed=have, total=tally.total, count=f"{have:,} of {tally.total:,}", note=note
        )

    def tested(self, window: Windowed) -> None:
        """Shows that a window is done."""
        self._done += 1
        outside = float(window.metrics.get(self._objective.name, math.nan))
        told = f"{self._objective.name} {self._told(window.inside)} in sample, {self._told(outside)} out"
        said = window.tested.why or told
        self._bar.update(self._windows, completed=self._done, count=f"{self._done} of {self._total} windows", note=said)
        self._bar.update(self._search, visible=False)
        if not self._console.is_terminal:
            self._console.print(Text(f"window {window.number + 1} of {self._total}: {said}"), soft_wrap=True)

    def _told(self, value: float) -> str:
        return format_value(value, shown_unit(self._objective))

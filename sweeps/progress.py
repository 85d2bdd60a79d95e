"""What a person sees while a study runs: one line with rate and best so far."""

from __future__ import annotations

import math
import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from sweeps.feed import Tally

_WINDOW = 30.0  # seconds the rate looks back
_EVERY = 10.0  # seconds between lines where output is not a terminal


class StudyProgress:
    """A progress bar on a terminal; a line every ten seconds where output goes to a file."""

    def __init__(self, console: Console, objective: str):
        self._console, self._objective = console, objective
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[count]}"),
            TextColumn("[cyan]{task.fields[pace]}"),
            # The only one that may break: a narrow terminal gets a second line, not numbers cut short.
            TextColumn("{task.fields[best]}", markup=False, table_column=Column(no_wrap=False)),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("loading data", total=None, count="", pace="", best="")
        self._printed = time.monotonic()
        self._recent: deque[tuple[float, int]] = deque([(self._printed, 0)])

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def prepared(self) -> None:
        """Says that data are loaded and Ray comes next."""
        self._bar.update(self._task, description="starting Ray")
        self._recent = deque([(time.monotonic(), 0)])

    def update(self, tally: Tally) -> None:
        """Shows the state after a pack."""
        have = tally.known + tally.done
        count = f"{have:,} of {tally.total:,}" if tally.total is not None else f"{have:,} done"
        best = "" if math.isnan(tally.best) else f"best {self._objective} {tally.best:.4g}"
        if tally.failed:
            best = f"{tally.failed:,} failed  {best}".rstrip()
        pace = self._pace(tally)
        self._bar.update(self._task, description="", completed=have, total=tally.total, count=count, pace=pace, best=best)
        if not self._console.is_terminal and time.monotonic() - self._printed > _EVERY:
            self._printed = time.monotonic()
            self._console.print(Text("  ".join(part for part in (count, pace, best) if part)), soft_wrap=True)

    def _pace(self, tally: Tally) -> str:
        """Returns rate and time left; results read from the ledger are no work and do not count."""
        now = time.monotonic()
        self._recent.append((now, tally.done))
        while len(self._recent) > 2 and self._recent[0][0] < now - _WINDOW:
            self._recent.popleft()
        began, done = self._recent[0]
        rate = (tally.done - done) / max(now - began, 1e-9)
        if not rate:
            return ""
        shown = f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.2g}/s"
        if tally.total is None:
            return shown
        left = math.ceil(max(0, tally.total - tally.known - tally.done) / rate)
        return f"{shown}, {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"

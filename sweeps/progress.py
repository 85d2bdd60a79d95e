"""What a person sees while a study runs: one line with rate, time left and best so far."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from sweeps.feed import Tally

_WINDOW = 30.0  # seconds the rate looks back, at most
_STEADY = 3.0  # seconds after the first pack from which a rate means something
_EVERY = 10.0  # seconds between lines where output is not a terminal


class StudyProgress:
    """A progress bar on a terminal; where output goes to a file, a line at the start, every ten seconds, and at the end."""

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
        self._recent: deque[tuple[float, int]] = deque()
        self._first = math.nan
        self._line, self._printed = "loading data", ""
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._bar.start()
        if not self._console.is_terminal:
            self._clock.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()
        if self._clock.is_alive():
            self._over.set()
            self._clock.join()
            if self._printed not in ("", self._line):
                self._print()

    def prepared(self) -> None:
        """Says that data are loaded and what has a result already is looked up."""
        self._line = "reading results"
        self._bar.update(self._task, description=self._line)

    def update(self, tally: Tally) -> None:
        """Shows the state before the first pack and after each."""
        have = tally.known + tally.done
        count = f"{have:,} of {tally.total:,}"
        best = "" if math.isnan(tally.best) else f"best {self._objective} {tally.best:.4g}"
        if tally.failed:
            best = f"{tally.failed:,} failed  {best}".rstrip()
        pace = self._pace(tally) if tally.packs else "starting Ray"
        self._bar.update(self._task, description="", completed=have, total=tally.total, count=count, pace=pace, best=best)
        self._line = "  ".join(part for part in (count, pace, best) if part)
        if self._clock.is_alive() and not tally.packs:
            self._print()

    def _pace(self, tally: Tally) -> str:
        """Returns rate and time left, "…" until they mean something.

        Results read from the ledger are no work, and the first pack waited for Ray: neither counts. Packs grow at first, so the rate
        looks back over half of the time only.
        """
        now = time.monotonic()
        if not self._recent:
            self._first = now
        self._recent.append((now, tally.done))
        while len(self._recent) > 2 and self._recent[1][0] <= now - min(_WINDOW, (now - self._first) / 2):
            self._recent.popleft()
        began, done = self._recent[0]
        left = tally.total - tally.known - tally.done
        rate = (tally.done - done) / (now - began) if now - self._first >= _STEADY else 0.0
        if not rate:
            return "…" if left else ""
        shown = f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.2g}/s"
        wait = math.ceil(left / rate)
        return f"{shown}, {wait // 3600}:{wait // 60 % 60:02}:{wait % 60:02} left" if left else shown

    def _tick(self) -> None:
        while not self._over.wait(_EVERY):
            self._print()

    def _print(self) -> None:
        self._printed = self._line
        self._console.print(Text(self._printed), soft_wrap=True)

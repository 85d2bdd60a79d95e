"""What a person sees of several studies at once: a line for each, with its lane; where output goes to a file, a line when one changes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps.lanes.several import Driver

_EVERY = 10.0  # seconds between lines where output is not a terminal
_LOOKS = {"finished": "green", "failed": "bold red", "stopped": "yellow"}


class SeveralProgress:
    """A table of studies on a terminal, refreshed in place."""

    def __init__(self, console: Console):
        self._console = console
        self._live = Live(console=console, refresh_per_second=5, transient=False) if console.is_terminal else None
        self._told: dict[str, tuple[str, float]] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def update(self, drivers: Sequence[Driver]) -> None:
        """Shows how they stand."""
        if self._live:
            self._live.update(self._table(drivers))
            return
        now = time.monotonic()
        for driver in drivers:
            state, when = self._told.get(driver.job.study, ("", 0.0))
            if driver.state != state or (driver.code is None and now - when >= _EVERY):
                self._told[driver.job.study] = (driver.state, now)
                detail = f"  {driver.line}" if driver.line else ""
                self._console.print(Text(f"{driver.job.study} [{driver.job.lane.name}] {driver.state}{detail}"), soft_wrap=True)

    def _table(self, drivers: Sequence[Driver]) -> Table:
        made = Table.grid(padding=(0, 2, 0, 0))
        for driver in drivers:
            bar = ProgressBar(total=max(driver.total, 1), completed=driver.have, width=12)
            state = Text(driver.line if driver.state == "running" else driver.state, _LOOKS.get(driver.state, ""))
            made.add_row(Text(driver.job.study, "bold"), Text(driver.job.lane.name, "cyan"), bar, state)
        return made

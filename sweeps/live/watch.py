"""`alphasweep watch`: a study in the terminal, drawn anew at each look until its run ends. It reads; the run does not know of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
from rich.console import Console
from rich.live import Live
from rich.text import Text

from results import Ledger
from results.leaderboard import leaderboard
from sweeps.home import LEDGER
from sweeps.live.pace import Paced
from sweeps.live.state import Follower, Now
from sweeps.live.terminal import MOST_ROWS, frame
from sweeps.live.words import line

SHARE: Final = 0.02  # of the time that making the leaderboard may cost
LINES: Final = 10.0  # seconds between lines where output is no terminal


@dataclass
class View:
    """What is shown of a study, look by look.

    Attributes:
        home: The study's folder.
    """

    home: Path

    def __post_init__(self) -> None:
        self._follower = Follower(self.home)
        self._board: Paced[pd.DataFrame | None] = Paced(self._rank, SHARE)

    def look(self) -> tuple[Now, pd.DataFrame | None]:
        """Returns how the study stands and its leaderboard.

        Raises:
            LedgerError: The ledger is gone, or cannot be read.
        """
        now = self._follower.look()
        return now, self._board(now.pulse.trials, now, force=not now.alive)

    def _rank(self, now: Now) -> pd.DataFrame | None:
        if not now.counts["completed"] or now.metric.direction is None:
            return None
        with Ledger.open(self.home / LEDGER, readonly=True) as ledger:
            return leaderboard(ledger, top=MOST_ROWS)


def once(home: Path, console: Console) -> None:
    """Prints one frame.

    Raises:
        LedgerError: There is no ledger, or it cannot be read.
    """
    now, board = View(home).look()
    console.print(frame(now, board, console.width))


def follow(home: Path, console: Console, every: float) -> None:
    """Shows a study until its run ends; on a terminal as a frame that changes, elsewhere as a line every ten seconds.

    Args:
        home: The study's folder.
        console: Where to.
        every: Seconds between looks.

    Raises:
        LedgerError: There is no ledger, or it cannot be read.
    """
    view = View(home)
    now, board = view.look()
    if not console.is_terminal:
        now, board = _lines(view, now, board, console, every)
    elif now.alive:
        now, board = _live(view, now, board, console, every)
    console.print(frame(now, board, console.width))


def _live(view: View, now: Now, board: pd.DataFrame | None, console: Console, every: float) -> tuple[Now, pd.DataFrame | None]:
    """Draws frames until the run ends; returns the last look."""
    with Live(console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        while True:
            live.update(frame(now, board, console.width, console.height - 1, every), refresh=True)
            if not now.alive:
                return now, board
            time.sleep(every)
            now, board = view.look()


def _lines(view: View, now: Now, board: pd.DataFrame | None, console: Console, every: float) -> tuple[Now, pd.DataFrame | None]:
    """Prints a line now and then until the run ends; returns the last look."""
    said, due = "", float("-inf")
    while now.alive:
        if time.monotonic() >= due and (text := line(now)) != said:
            console.print(Text(text), soft_wrap=True)
            said, due = text, time.monotonic() + LINES
        time.sleep(every)
        now, board = view.look()
    return now, board

"""The studies of a folder as the server sees them: each is followed, and what was worked out for it is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from results import Ledger, LedgerError
from results.pages.filters import FilterError
from results.pages.query import Query, parse_query
from results.paging import Grid, Pages, grid_of
from sweeps.commands.console import studies_in
from sweeps.home import LEDGER
from sweeps.live.curve import SINGLY, curve_of
from sweeps.live.memory import Job, Memory
from sweeps.live.pace import Paced
from sweeps.live.state import Follower, Now

DEEP: Final = 2000  # rows into an order beyond which all of it is worth keeping
GRIDS: Final = 8
ORDERS: Final = 4
COUNTS: Final = 64


class Followed:
    """A study that somebody looks at.

    Attributes:
        home: Its folder.
        verdict: What is worked out in the background about its winner.
        endings: What is worked out in the background about its trials.
    """

    def __init__(self, home: Path, executor: Executor):
        self.home = home
        self.verdict = Job(executor)
        self.endings: dict[str, Job] = {}
        self._curve = Job(executor)
        self._executor = executor
        self._lock = threading.Lock()
        self._follower = Follower(home)
        self._grids: dict[str, Grid] = {}
        self._grid: Paced[str] = Paced(self._make_grid)
        self._orders, self._counts, self._firsts = Memory(ORDERS), Memory(COUNTS), Memory(COUNTS)

    def look(self) -> Now:
        """Returns how it stands, with as much of its curve as is known by now."""
        return self._follower.look(whole=False)

    def look_whole(self) -> Now:
        """Returns how it stands; of a large study the whole curve comes later, read in the background."""
        now = self.look()
        if now.whole:
            return now
        if now.pulse.trials <= SINGLY:
            return self._follower.look()
        self._curve.get(now.pulse.version, False, self._read_curve)
        return now

    def _read_curve(self) -> None:
        began = time.perf_counter()
        with self.ledger() as ledger:
            curve = curve_of(ledger)
        self._follower.adopt(curve, time.perf_counter() - began)

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """Opens its ledger for one answer."""
        with Ledger.open(self.home / LEDGER, readonly=True) as ledger:
            yield ledger

    def grid(self, now: Now) -> tuple[str, Grid]:
        """Returns its columns, and the key by which rows are asked for them: parameters may come while it runs."""
        key = self._grid(now.pulse.version, now)
        return key, self._grids[key]

    def ending(self, which: str) -> Job:
        """Returns the job that works out why a trial ended."""
        with self._lock:
            if which not in self.endings:
                while len(self.endings) >= COUNTS:
                    self.endings.pop(next(iter(self.endings)))
                self.endings[which] = Job(self._executor)
            return self.endings[which]

    def rows(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """Answers a grid: rows as they are now, in an order and with a count that may be a little older while results keep coming.

        Raises:
            FilterError: What is asked for is not understood.
            LedgerError: The ledger is gone, or cannot be read.
        """
        now = self.look()
        current, grid = self.grid(now)
        key = asked.get("grid", current)
        grid = self._grids.get(key, grid)
        if key != current and key not in self._grids:
            raise FilterError("the columns of this study have changed; load the page again")
        query = parse_query(asked, grid.columns)
        with self.ledger() as ledger:
            pages = Pages(ledger, grid)
            filtered = bool(query.filters or query.words)
            where = query.to_sql(grid.expressions, grid.columns) if filtered else None
            passing = (tuple(sorted(query.filters.items())), query.words)
            version, alive, total = now.pulse.version, now.alive, now.pulse.trials
            if filtered:
                total, _ = self._counts.get((key, passing), version, alive, lambda: pages.count(where))
            numbers, version = self._numbers(pages, query, (key, query.sort, query.descending, passing), where, version, alive)
            return {"total": total, "of": now.pulse.trials, "rows": pages.rows(numbers), "version": version}

    def _numbers(self, pages: Pages, query: Query, key: tuple[Any, ...], where: Any, version: str, alive: bool) -> tuple[list[int], str]:
        sort, down, start, n = query.sort, query.descending, query.start, query.count
        straight = sort in (None, "trial", pages.grid.objective) and where is None
        if straight or start + n <= DEEP:
            return self._firsts.get((*key, start, n), version, alive, lambda: pages.numbers(sort, down, start, n, where))
        order, version = self._orders.get(key, version, alive, lambda: pages.order(sort or "trial", down, where))
        return order[start : start + n].tolist(), version

    def _make_grid(self, now: Now) -> str:
        with self.ledger() as ledger:
            names = dict.fromkeys(name for plan in ledger.plans() for name in plan.space)
            made = grid_of(ledger, names)
        key = blake2b(repr([(column.name, column.kind) for column in made.columns]).encode(), digest_size=6).hexdigest()
        with self._lock:
            self._grids.pop(key, None)
            while len(self._grids) >= GRIDS:
                self._grids.pop(next(iter(self._grids)))
            self._grids[key] = made
        return key


class Studies:
    """The studies of a folder.

    Attributes:
        folder: That holds the studies' folders.
        only: Name of the only one that is shown; None shows all.
    """

    def __init__(self, folder: Path, only: str | None, executor: Executor):
        self.folder, self.only = folder, only
        self._executor = executor
        self._followed: dict[str, Followed] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Returns the names of the studies there are."""
        return [name for name in studies_in(self.folder) if self.only in (None, name) and not name.startswith(".")]

    def find(self, name: str) -> Followed | None:
        """Returns a study by the name of its folder, None if there is none; nothing but a name that is listed leads anywhere."""
        if name not in self.names():
            with self._lock:
                self._followed.pop(name, None)
            return None
        with self._lock:
            if name not in self._followed:
                self._followed[name] = Followed(self.folder / name, self._executor)
            return self._followed[name]


__all__ = ["FilterError", "Followed", "LedgerError", "Studies"]

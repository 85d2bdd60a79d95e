"""Reading a ledger beside its writer: every result once, in the order in which results were accepted.

The order follows from the ledger alone: by the moment the attempt ended, its number, the trial's number. A failure that was
moved away to be tried again stays where it was accepted, so that what has been read once is never read differently.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from results.engine import guard, sqlite_path
from results.ledger import Ledger
from results.tracking import CACHE_USE

SETTLING: Final = 0.1  # seconds an attempt's end must lie back: two of one millisecond are not read apart
CHUNK: Final = 5_000  # rows read at once


@dataclass(frozen=True, eq=False)
class Stretch:
    """Results in the order of acceptance; arrays and lists have one item each.

    Attributes:
        start: Results before these.
        trial: Numbers, int64.
        config_id: 16 bytes each.
        status: completed, stopped or failed.
        seconds: They took, float64; NaN if not known.
        metrics: float64 (n, metrics of the header); NaN is n/a.
        config: Configurations as JSON; empty where they were not asked for.
        reused: Whether it was taken over from another study.
        attempt: Its number, int64.
        ended: When the attempt ended, seconds since the epoch, float64.
        delivered: Whether it ended because all was delivered; the end of one that was given up may have been noted much later.
        left: How many more results of the same attempt follow, int64.
        worker: Who did it, as the attempt says.
        session: Its number, int64.
        began: When the session began, seconds since the epoch, float64.
        cache: Time and details of each event that told a session's use of its cache, oldest first; some may be later than these.
    """

    start: int
    trial: NDArray[np.int64]
    config_id: list[bytes]
    status: list[str]
    seconds: NDArray[np.float64]
    metrics: NDArray[np.float64]
    config: list[str]
    reused: NDArray[np.bool_]
    attempt: NDArray[np.int64]
    ended: NDArray[np.float64]
    delivered: NDArray[np.bool_]
    left: NDArray[np.int64]
    worker: list[str]
    session: NDArray[np.int64]
    began: NDArray[np.float64]
    cache: tuple[tuple[float, Mapping[str, Any]], ...] = ()

    def __len__(self) -> int:
        return len(self.trial)


@dataclass(frozen=True)
class _Attempt:
    number: int
    session: int
    ended: float
    delivered: bool
    worker: str


@dataclass
class Tail:
    """Reads what a ledger has accepted since the last time.

    Attributes:
        path: The ledger, a file or an URL; it need not exist yet.
        configs: Whether configurations are wanted.
        gone: Whether another ledger has taken its place, or none: nothing will come any more.
        read: Results read so far.
        late: Of these, read after one they belong before, which happens where clocks were set back; a replay has them in their place.
    """

    path: str | os.PathLike[str]
    configs: bool = True
    gone: bool = False
    read: int = 0
    late: int = 0
    _created: str = ""
    _last: int = 0  # the latest attempt seen
    _open: set[int] = field(default_factory=set)  # of those seen, those to look at again
    _key: tuple[float, int] = (-math.inf, 0)  # of the latest attempt read
    _event: int = 0  # the latest event seen
    _cache: list[tuple[float, Mapping[str, Any]]] = field(default_factory=list)
    _reopened: dict[int, list[int]] = field(default_factory=dict)  # trials of an attempt that were moved away to run again

    def poll(self, settled: bool = False, now: float | None = None) -> Iterator[Stretch]:
        """Yields what is new, at most `CHUNK` results at a time; read it to the end.

        Args:
            settled: Nobody is writing any more, so that what ended just now need not wait.
            now: Seconds since the epoch; default the clock's.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        path = sqlite_path(self.path)
        if path is not None and not path.exists():
            self.gone = self.gone or bool(self._created)
            return
        if self.gone:
            return
        with Ledger.open(self.path, readonly=True) as ledger:
            self._created = self._created or ledger.header.created
            if ledger.header.created != self._created:
                self.gone = True
                return
            before = math.inf if settled else (time.time() if now is None else now) - SETTLING
            with guard(ledger.where), ledger.connect() as connection:
                self._read_events(ledger, connection)
                ended, began = self._read_attempts(ledger, connection, before)
                place, trials = self._order(ledger, connection, ended)
            for start in range(0, len(trials), CHUNK):
                chosen = slice(start, start + CHUNK)
                yield self._stretch(ledger, ended, place, trials, chosen, began)

    def _read_events(self, ledger: Ledger, connection: sa.Connection) -> None:
        events = ledger.tables.events
        wanted = sa.select(events).where(events.c.kind.in_(("reopened", CACHE_USE)), events.c.seq > self._event)
        for event in connection.execute(wanted.order_by(events.c.seq)).mappings():
            self._event, detail = event["seq"], json.loads(event["detail"])
            if event["kind"] == CACHE_USE:
                self._cache.append((_seconds(event["time"]), detail))
            else:
                self._reopened.setdefault(detail["attempt"], []).append(event["trial"])

    def _read_attempts(self, ledger: Ledger, connection: sa.Connection, before: float) -> tuple[list[_Attempt], dict[int, float]]:
        """Returns the attempts that have ended and delivered something, in order, and when each session began."""
        t = ledger.tables.attempts
        found = list(connection.execute(sa.select(t).where(t.c.attempt > self._last)).mappings())
        for part in _parts(sorted(self._open)):
            found += connection.execute(sa.select(t).where(t.c.attempt.in_(part))).mappings()
        ended = []
        for row in found:
            self._last = max(self._last, row["attempt"])
            moment = _seconds(row["ended"] or row["started"])
            if row["status"] == "open" or moment > before:
                self._open.add(row["attempt"])
                continue
            self._open.discard(row["attempt"])
            if row["delivered"]:
                made = _Attempt(row["attempt"], row["session_id"], moment, row["status"] == "accepted", row["worker"])
                ended.append(made)
        sessions = ledger.tables.sessions
        began = {key: _seconds(text) for key, text in connection.execute(sa.select(sessions.c.session_id, sessions.c.started))}
        return sorted(ended, key=lambda each: (each.ended, each.number)), began

    def _order(self, ledger: Ledger, connection: sa.Connection, ended: list[_Attempt]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the trials of attempts in order, each with its attempt's place among these."""
        wanted = np.array([each.number for each in ended], np.int64)
        t = ledger.tables.trials
        pairs = [(number, trial) for number in wanted.tolist() for trial in self._reopened.pop(number, ())]
        for part in _parts(wanted.tolist()):
            pairs += map(tuple, connection.execute(sa.select(t.c.attempt, t.c.trial).where(t.c.attempt.in_(part))))
        attempts, trials = np.array(pairs, np.int64).reshape(-1, 2).T
        rank = np.argsort(wanted, kind="stable")
        place = rank[np.searchsorted(wanted, attempts, sorter=rank)]
        order = np.lexsort((trials, place))
        return place[order], trials[order]

    def _stretch(
        self,
        ledger: Ledger,
        ended: list[_Attempt],
        places: NDArray[np.int64],
        trials: NDArray[np.int64],
        chosen: slice,
        began: Mapping[int, float],
    ) -> Stretch:
        place, numbers = places[chosen], trials[chosen]
        attempts = [ended[i] for i in place.tolist()]
        rows = _rows(ledger, numbers.tolist(), [each.number for each in attempts], self.configs)
        columns = list(zip(*rows, strict=True))
        start, self.read = self.read, self.read + len(numbers)
        for each in dict.fromkeys(attempts):
            late = (each.ended, each.number) < self._key
            self.late += sum(other is each for other in attempts) if late else 0
            self._key = max(self._key, (each.ended, each.number))
        return Stretch(
            start=start,
            trial=numbers,
            config_id=[bytes(key) for key in columns[0]],
            status=list(columns[1]),
            seconds=np.array(columns[2], np.float64),
            reused=np.array([source is not None for source in columns[3]], np.bool_),
            config=list(columns[4]) if self.configs else [],
            metrics=np.array(columns[5:], np.float64).T.reshape(len(rows), -1),
            attempt=np.array([each.number for each in attempts], np.int64),
            ended=np.array([each.ended for each in attempts], np.float64),
            delivered=np.array([each.delivered for each in attempts], np.bool_),
            left=np.searchsorted(places, place, side="right") - 1 - np.arange(len(places))[chosen],
            worker=[each.worker for each in attempts],
            session=np.array([each.session for each in attempts], np.int64),
            began=np.array([began[each.session] for each in attempts], np.float64),
            cache=tuple(self._cache),
        )


def _rows(ledger: Ledger, trials: list[int], attempts: list[int], configs: bool) -> list[tuple[Any, ...]]:
    """Returns config_id, status, seconds, source, configuration and metrics of trials as these attempts left them."""
    t, names = ledger.tables.trials, ledger.tables.metric_columns
    config = t.c.config if configs else sa.literal("")
    wanted = [t.c.config_id, t.c.status, t.c.seconds, t.c.source, config, *(t.c[name] for name in names)]
    found: dict[tuple[int, int], tuple[Any, ...]] = {}
    with guard(ledger.where), ledger.connect() as connection:
        query = sa.select(t.c.trial, t.c.attempt, *wanted).where(t.c.trial.in_(trials))
        found.update({(row[0], row[1]): tuple(row[2:]) for row in connection.execute(query).all()})
        missing = {pair for pair in zip(trials, attempts, strict=True) if pair not in found}
        if missing:
            events, numbers = ledger.tables.events, {number for number, _ in missing}
            # All of the kind, because there is no index by trial, and few trials fail.
            for trial, text in connection.execute(sa.select(events.c.trial, events.c.detail).where(events.c.kind == "reopened")):
                if trial in numbers and (trial, (kept := json.loads(text))["attempt"]) in missing:
                    blank = (None,) * len(names)
                    values = (bytes.fromhex(kept["config_id"]), "failed", kept["seconds"], None, json.dumps(kept["config"]), *blank)
                    found[trial, kept["attempt"]] = values
    return [found[pair] for pair in zip(trials, attempts, strict=True)]


def _parts(numbers: list[int]) -> Iterable[list[int]]:
    return (numbers[i : i + CHUNK] for i in range(0, len(numbers), CHUNK))


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()

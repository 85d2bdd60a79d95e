"""Who takes a table, who builds it and who waits: what a run's keeper decides, without Ray.

One build at a time for a key, however many ask, and what the disk has is never built. Only the keeper reads and writes the store. A
worker that builds delivers pieces and sends signs of life; if they end, the next one that asks builds what is left. Rows are the same
whoever builds them, so those that come late are taken too.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cluster.cache.answers import Build, Building, Failed, Ready, Refused, Usage, Wait, place
from cluster.cache.records import CacheError, Loaded, TableLike, Use
from cluster.cache.rows import Piece, Seen, named, runs
from cluster.cache.store import Store

PATIENCE_SECONDS = 20.0  # without a sign of life, after which a build is given to another
FAILURE_SECONDS = 1.0  # at least this long, and as long as it took to fail, a failed build is not tried again; twice that the next time
LONGEST_FAILURE = 600.0
MOST_LOST = 2  # builders of the same rows, after which nobody is told to build them
LOOK_SECONDS = 0.5  # between two looks whether another study still builds
_MOST_LATE = 64  # builders without a sign of life that may still deliver


@dataclass
class _Shared:
    number: str
    table: TableLike
    first: int
    stop: int
    ref: Any
    nbytes: int
    asked: float
    readers: set[str] = field(default_factory=set)


@dataclass
class _Lease:
    name: str
    table: TableLike
    first: int
    stop: int
    missing: list[tuple[int, int]]
    who: str
    began: float
    sign: float
    found_seconds: float
    lock: ExitStack
    done: int = 0
    built: int = 0
    loose: list[Piece] = field(default_factory=list)  # what could not be kept on disk

    @property
    def total(self) -> int:
        return sum(b - a for a, b in self.missing)

    @property
    def address(self) -> str:
        return _address(self.table, self.first, self.stop)


@dataclass
class _Elsewhere:
    table: TableLike
    began: float
    looked: float


@dataclass
class _Failure:
    error: Exception
    until: float
    times: int


class Claims:
    """Answers who asks for tables; knows nothing of Ray. No method waits for anything but the disk."""

    def __init__(
        self,
        store: Store,
        put: Callable[[np.ndarray], Any],
        *,
        patience: float = PATIENCE_SECONDS,
        room: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ):
        """Begins with nothing shared.

        Args:
            store: Tables on disk.
            put: Takes an array to where all can see it; returns how to find it there.
            patience: Seconds without a sign of life after which a build is lost.
            room: Bytes to share at once; beyond, what was asked for longest ago is let go, and read again when asked for.
            clock: Seconds.
        """
        self._store, self._put, self._patience, self._room, self._clock = store, put, patience, room, clock
        self._shared: dict[str, list[_Shared]] = {}
        self._leases: dict[str, _Lease] = {}
        self._late: dict[str, _Lease] = {}
        self._elsewhere: dict[str, _Elsewhere] = {}  # what another study's process builds
        self._failures: dict[str, _Failure] = {}
        self._losses: dict[str, int] = {}
        self._seen = Seen()
        self._keys: set[str] = set()
        self._readers: set[str] = set()
        self._use, self._usage = Use(), Usage()

    # What workers ask.

    def claim(self, table: TableLike, first: int, stop: int, who: str) -> Ready | Build | Wait | Failed:
        """Asks for rows [first, stop) of a table, at least one."""
        self._expire()
        if (share := self._find(table, first, stop)) is not None:
            return self._ready(share, table, first, stop, who)
        address = _address(table, first, stop)
        if (failure := self._failures.get(address)) is not None and failure.until > self._clock():
            return Failed(failure.error)
        if table.key in self._leases or (table.key in self._elsewhere and self._builds_elsewhere(table.key)):
            return Wait(self._progress(table.key))
        lock = self._lock(table.key)
        if lock is None and table.key in self._elsewhere:
            return Wait(self._progress(table.key))
        with lock or ExitStack() as stack:
            if lock is not None:
                self._elsewhere.pop(table.key, None)
            loaded = self._load(table)
            missing = [(max(a, first), min(b, stop)) for a, b in loaded.missing if a < stop and b > first]
            each = loaded.seconds / max(loaded.nbytes // (8 * len(table.columns)), 1)
            if not missing:
                return self._ready(self._share(table, loaded, first, stop, each), table, first, stop, who)
            now = self._clock()
            if lock is None:
                self._elsewhere[table.key] = _Elsewhere(table, now, now)
                return Wait(self._progress(table.key))
            if self._losses.get(address, 0) >= MOST_LOST:
                return Failed(CacheError(f"building {named(table)} killed its worker twice; it is not tried again in this run"))
            lease = _Lease(uuid.uuid4().hex, table, first, stop, missing, who, now, now, each, stack.pop_all())
            self._leases[table.key] = lease
            for late in self._late.values():
                if late.table.key == table.key:
                    self.note(f"{named(table)}: {late.who} stopped building it without a word, another began again.")
        return Build(lease.name, tuple(missing))

    def waiting(self, key: str) -> str | None:
        """Says how far the build of a key is, or None when it is worth claiming again."""
        self._expire()
        self._builds_elsewhere(key)
        return self._progress(key) if key in self._leases or key in self._elsewhere else None

    def progress(self, name: str, done: int) -> bool:
        """Takes a sign of life; False if the lease has ended and somebody else builds."""
        if (lease := self._lease(name)) is not None:
            lease.sign, lease.done = self._clock(), done
        return lease is not None

    def deliver(self, name: str, table: TableLike, piece: Piece, over: bool) -> Ready | Refused | None:
        """Takes a piece of what was built and keeps it on disk, in time or not; shares the whole after the last one.

        Args:
            name: Of the lease.
            table: Which.
            piece: Rows of it, within one of the lease's missing runs.
            over: Whether this is the last one.

        Returns:
            After the last piece, what was asked for with the lease, or that it is to be claimed again; else None.
        """
        lease = self._lease(name)
        with self._busy():
            sentence = self._store.add(table, piece.first, piece.values, piece.seconds, lease.total if lease else 0)
        self._seen.add(table, [(piece.first, piece.stop)])
        self._use.rows_built += piece.stop - piece.first
        self._use.seconds_built += piece.seconds
        self._use.bytes_built += piece.values.nbytes
        if lease is None:
            return Refused() if over else None
        lease.sign, lease.built = self._clock(), lease.built + piece.stop - piece.first
        lease.done = lease.built
        self._losses.pop(lease.address, None)
        if sentence:
            lease.loose.append(piece)
        if not over:
            return None
        self._failures.pop(lease.address, None)
        self._end(lease)
        loaded = self._load(table)
        missing = np.zeros(len(table.times), bool)
        for a, b in loaded.missing:
            missing[a:b] = True
        for loose in lease.loose:
            loaded.values[:, loose.first : loose.stop] = loose.values
            missing[loose.first : loose.stop] = False
        if missing[lease.first : lease.stop].any():  # somebody removed what was kept
            return Refused()
        share = self._share(table, replace(loaded, missing=runs(missing)), lease.first, lease.stop, lease.found_seconds)
        return self._ready(share, table, lease.first, lease.stop, lease.who)

    def failed(self, name: str, error: Exception | None) -> None:
        """Learns that a build raised.

        Args:
            name: Of the lease.
            error: What to raise for everyone who asks for the same rows, for a while that doubles each time; None lets the next one
                try, as where somebody stopped the builder.
        """
        if (lease := self._lease(name)) is None:
            return
        self._end(lease)
        self._usage = replace(self._usage, failed=self._usage.failed + 1)
        if error is not None:
            before, now = self._failures.get(lease.address), self._clock()
            times = before.times + 1 if before else 0
            seconds = min(max(FAILURE_SECONDS, now - lease.began) * 2**times, LONGEST_FAILURE)
            self._failures[lease.address] = _Failure(error, now + seconds, times)

    def lost(self, number: str) -> None:
        """Learns that an object is not there any more."""
        for key, shares in self._shared.items():
            self._shared[key] = [s for s in shares if s.number != number]

    def note(self, sentence: str) -> None:
        """Keeps what a worker met, for `usage`."""
        if sentence not in self._use.notes:
            self._use.notes.append(sentence)

    # What the driver asks.

    def building(self) -> list[Building]:
        """Returns the builds in progress."""
        for key in list(self._elsewhere):
            self.waiting(key)
        self._expire()
        now = self._clock()
        here = [Building(named(x.table), x.done, x.total, now - x.began) for x in self._leases.values()]
        return here + [Building(named(x.table), 0, 0, now - x.began) for x in self._elsewhere.values()]

    def usage(self) -> Usage:
        """Returns what was asked of this keeper so far."""
        use = replace(self._use, tables=len(self._keys)) + Use(notes=self._store.use.notes)
        return replace(self._usage, use=use, readers=len(self._readers))

    def close(self) -> None:
        """Gives back every lock."""
        for lease in list(self._leases.values()):
            self._end(lease)
        self._store.close()

    # How.

    def _find(self, table: TableLike, first: int, stop: int) -> _Shared | None:
        shares = self._shared.get(table.key, [])
        return next((s for s in shares if place(s.table, s.first, s.stop, table, first, stop) is not None), None)

    def _share(self, table: TableLike, loaded: Loaded, first: int, stop: int, each: float) -> _Shared:
        # All the rows known around those asked for: so that folds of one series share an object.
        begin = max((b for _, b in loaded.missing if b <= first), default=0)
        end = min((a for a, _ in loaded.missing if a >= stop), default=len(table.times))
        values = np.ascontiguousarray(loaded.values[:, begin:end])
        with self._busy():
            ref = self._put(values)
        share = _Shared(uuid.uuid4().hex, table, begin, end, ref, values.nbytes, self._clock())
        shares = self._shared.setdefault(table.key, [])
        smaller = [s for s in shares if place(table, begin, end, s.table, s.first, s.stop) is not None]
        self._shared[table.key] = [share, *(s for s in shares if s not in smaller)]
        everything = sorted((s for x in self._shared.values() for s in x), key=lambda s: s.asked)
        while sum(s.nbytes for s in everything) > self._room and everything[0] is not share:
            self.lost(everything.pop(0).number)
        self._keys.add(table.key)
        found = self._seen.add(table, [(begin, end)])
        self._use.rows_found += found
        self._use.seconds_saved += each * found
        self._use.bytes_found += found * 8 * len(values)
        self._usage = replace(self._usage, shared_bytes=max(self._usage.shared_bytes, sum(s.nbytes for s in everything)))
        return share

    def _ready(self, share: _Shared, table: TableLike, first: int, stop: int, who: str) -> Ready:
        at = place(share.table, share.first, share.stop, table, first, stop)
        assert at is not None
        share.asked = self._clock()
        self._readers.add(who)
        if who not in share.readers:
            share.readers.add(who)
            size = (stop - first) * 8 * len(table.columns)
            self._usage = replace(self._usage, apart_bytes=self._usage.apart_bytes + size)
        # As much of the object as is of this table, so that its other rows need no question.
        begin, end = max(share.first - at + first, 0), min(share.stop - at + first, len(table.times))
        if place(share.table, share.first, share.stop, table, begin, end) != at + begin - first:
            begin, end = first, stop
        return Ready(share.number, share.ref, at + begin - first - share.first, begin, end)

    def _load(self, table: TableLike) -> Loaded:
        with self._busy():
            self._store.hold(table.key)
            return self._store.load(table, 0, len(table.times))

    def _lock(self, key: str) -> ExitStack | None:
        stack = ExitStack()
        try:
            stack.enter_context(self._store.building(key, timeout=0.0))
        except TimeoutError:
            return None
        return stack

    def _builds_elsewhere(self, key: str) -> bool:
        # Everyone who waits asks twice a second and more: the disk is looked at for all of them.
        if (there := self._elsewhere.get(key)) is None:
            return False
        if self._clock() - there.looked >= LOOK_SECONDS:
            there.looked = self._clock()
            if not self._store.is_building(key):
                del self._elsewhere[key]
        return key in self._elsewhere

    def _lease(self, name: str) -> _Lease | None:
        self._expire()
        return next((x for x in self._leases.values() if x.name == name), None) or self._revived(name)

    def _revived(self, name: str) -> _Lease | None:
        # It was busy, not dead, and nobody else has begun.
        lease = self._late.get(name)
        if lease is None or lease.table.key in self._leases or (lock := self._lock(lease.table.key)) is None:
            return None
        del self._late[name]
        lease.lock, lease.sign = lock, self._clock()
        self._leases[lease.table.key] = lease
        self._usage = replace(self._usage, lost=self._usage.lost - 1)
        if (losses := self._losses.pop(lease.address, 0)) > 1:
            self._losses[lease.address] = losses - 1
        return lease

    def _end(self, lease: _Lease) -> None:
        del self._leases[lease.table.key]
        lease.lock.close()

    def _expire(self) -> None:
        now = self._clock()
        for lease in [x for x in self._leases.values() if now - x.sign > self._patience]:
            self._end(lease)
            self._late[lease.name] = lease
            while len(self._late) > _MOST_LATE:
                del self._late[next(iter(self._late))]
            self._losses[lease.address] = self._losses.get(lease.address, 0) + 1
            self._usage = replace(self._usage, lost=self._usage.lost + 1)

    def _progress(self, key: str) -> str:
        if (lease := self._leases.get(key)) is not None:
            return f"{named(lease.table)}: {lease.who} has built {lease.done:,} of {lease.total:,} rows"
        return f"{named(self._elsewhere[key].table)}: another study builds it"

    @contextmanager
    def _busy(self) -> Iterator[None]:
        # Signs of life that could not be heard meanwhile are not missed.
        began = self._clock()
        yield
        for lease in self._leases.values():
            lease.sign += self._clock() - began


def _address(table: TableLike, first: int, stop: int) -> str:
    return f"{table.key}-{table.depends(first, stop)}"

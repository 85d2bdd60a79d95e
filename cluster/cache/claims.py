"""Who takes a table, who builds it and who waits: what a run's keeper decides, without Ray.

One build at a time for a key, however many ask, and what the disk has is never built. Only the keeper reads and writes the store. A
worker that builds sends signs of life; if they end, the next one that asks builds.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cluster.cache.answers import Build, Building, Failed, Ready, Refused, Usage, Wait, named, place
from cluster.cache.records import Loaded, TableLike, Use
from cluster.cache.store import Store

PATIENCE_SECONDS = 20.0  # without a sign of life, after which a build is given to another
FAILURE_SECONDS = 1.0  # at least this long, and as long as it took to fail, a failed build is not tried again
MOST_HELD = 64  # keys kept from being evicted on disk


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

    @property
    def total(self) -> int:
        return sum(b - a for a, b in self.missing)


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
        self._elsewhere: dict[str, tuple[TableLike, float]] = {}  # what another study's process builds, since when
        self._failures: dict[str, tuple[Exception, float]] = {}
        self._keys: set[str] = set()
        self._readers: set[str] = set()
        self._held: set[str] = set()
        self._use, self._usage = Use(), Usage()

    # What workers ask.

    def claim(self, table: TableLike, first: int, stop: int, who: str) -> Ready | Build | Wait | Failed:
        """Asks for rows [first, stop) of a table, at least one."""
        self._expire()
        if (share := self._find(table, first, stop)) is not None:
            return self._ready(share, table, first, stop, who)
        if (failure := self._failures.get(_address(table, first, stop))) is not None:
            return Failed(failure[0])
        if table.key in self._leases:
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
            if lock is None:
                self._elsewhere[table.key] = (table, self._clock())
                return Wait(self._progress(table.key))
            now = self._clock()
            lease = _Lease(uuid.uuid4().hex, table, first, stop, missing, who, now, now, each, stack.pop_all())
            self._leases[table.key] = lease
        return Build(lease.name, tuple(missing))

    def waiting(self, key: str) -> str | None:
        """Says how far the build of a key is, or None when it is worth claiming again."""
        self._expire()
        if key in self._elsewhere and (lock := self._lock(key)) is not None:
            lock.close()
            del self._elsewhere[key]
        return self._progress(key) if key in self._leases or key in self._elsewhere else None

    def progress(self, name: str, done: int) -> bool:
        """Takes a sign of life; False if the lease has ended."""
        if (lease := self._lease(name)) is not None:
            lease.sign, lease.done = self._clock(), done
        return lease is not None

    def deliver(self, name: str, arrays: Sequence[np.ndarray], seconds: float) -> Ready | Refused:
        """Takes what was built, keeps it on disk and shares it.

        Args:
            name: Of the lease.
            arrays: float64 (W, b − a) for each missing run [a, b).
            seconds: It took to build them.
        """
        if (lease := self._lease(name)) is None:
            return Refused()
        table = lease.table
        del self._leases[table.key]
        with lease.lock, self._busy():
            for (a, b), values in zip(lease.missing, arrays, strict=True):
                self._store.add(table, a, values, seconds * (b - a) / lease.total)  # what cannot be kept is noted there
        loaded = self._load(table)
        whole = np.ones(len(table.times), bool)
        for a, b in loaded.missing:
            whole[a:b] = False
        for (a, b), values in zip(lease.missing, arrays, strict=True):
            loaded.values[:, a:b] = values
            whole[a:b] = True
        self._use.rows_built += lease.total
        self._use.seconds_built += seconds
        self._use.bytes_built += sum(values.nbytes for values in arrays)
        loaded = replace(loaded, missing=_runs(~whole))
        share = self._share(table, loaded, lease.first, lease.stop, lease.found_seconds, lease.total)
        return self._ready(share, table, lease.first, lease.stop, lease.who)

    def failed(self, name: str, error: Exception | None) -> None:
        """Learns that a build raised.

        Args:
            name: Of the lease.
            error: What to raise for everyone who asks for the same rows now; None lets the next one try, who may have what the first
                one lacked.
        """
        if (lease := self._lease(name)) is None:
            return
        self._end(lease)
        self._usage = replace(self._usage, failed=self._usage.failed + 1)
        if error is not None:
            until = self._clock() + max(FAILURE_SECONDS, self._clock() - lease.began)
            self._failures[_address(lease.table, lease.first, lease.stop)] = (error, until)

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
        return here + [Building(named(t), 0, 0, now - began) for t, began in self._elsewhere.values()]

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

    def _share(self, table: TableLike, loaded: Loaded, first: int, stop: int, each: float, built: int = 0) -> _Shared:
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
        found = end - begin - built - sum(s.stop - s.first for s in smaller)
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
            if table.key not in self._held:
                if len(self._held) >= MOST_HELD:
                    self._store.close()
                    self._held.clear()
                self._store.hold(table.key)
                self._held.add(table.key)
            return self._store.load(table, 0, len(table.times))

    def _lock(self, key: str) -> ExitStack | None:
        stack = ExitStack()
        try:
            stack.enter_context(self._store.building(key, timeout=0.0))
        except TimeoutError:
            return None
        return stack

    def _lease(self, name: str) -> _Lease | None:
        self._expire()
        return next((x for x in self._leases.values() if x.name == name), None)

    def _end(self, lease: _Lease) -> None:
        del self._leases[lease.table.key]
        lease.lock.close()

    def _expire(self) -> None:
        now = self._clock()
        for lease in [x for x in self._leases.values() if now - x.sign > self._patience]:
            self._end(lease)
            self._usage = replace(self._usage, lost=self._usage.lost + 1)
            self.note(f"{named(lease.table)}: {lease.who} stopped building it without a word, another began again.")
        self._failures = {address: f for address, f in self._failures.items() if f[1] > now}

    def _progress(self, key: str) -> str:
        if (lease := self._leases.get(key)) is not None:
            return f"{named(lease.table)}: {lease.who} has built {lease.done:,} of {lease.total:,} rows"
        return f"{named(self._elsewhere[key][0])}: another study builds it"

    @contextmanager
    def _busy(self) -> Iterator[None]:
        # Signs of life that could not be heard meanwhile are not missed.
        began = self._clock()
        yield
        for lease in self._leases.values():
            lease.sign += self._clock() - began


def _address(table: TableLike, first: int, stop: int) -> str:
    return f"{table.key}-{table.depends(first, stop)}"


def _runs(wanted: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]

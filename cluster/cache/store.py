"""The cache of derived tables on disk: a folder per key, files of rows with checksums, one build at a time (docs/architecture.md).

Nothing here stops a study: what cannot be read is built again, what cannot be written is returned all the same, and `Store.use.notes`
says so. Processes agree through locks that end with them (`lock`) and files that appear whole (`segment`).
"""

from __future__ import annotations

import errno
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np

from cluster.cache import evict
from cluster.cache.folder import ABOUT, Folder, folder_of, folders
from cluster.cache.keep import keep, shed
from cluster.cache.lock import FileLock
from cluster.cache.records import Build, CacheError, Entry, Loaded, TableLike, Use
from cluster.cache.rows import Seen, checked, named, pieces, runs
from cluster.cache.segment import BrokenError, Name, Segment, open_segment, stamp
from cluster.cache.settings import amount, default_limit, default_root

__all__ = ["Entry", "Loaded", "Store", "TableLike", "Use", "default_limit", "default_root"]

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SHUT: Final = {errno.EROFS, errno.EACCES, errno.EPERM}
_OTHER_FILES: Final = 200  # that a process has open besides those that hold tables
_TOLD_AFTER, _TOLD_EVERY, _INSTANT = 1.0, 5.0, 0.03


class Store:
    """Derived tables under a root folder.

    Attributes:
        root: Where; made when something is first written.
        limit: Bytes to keep; beyond, what was used longest ago goes.
        use: What this store did.
        on_wait: Called with the table and the seconds waited so far, after one second and every five, while another process builds.
    """

    def __init__(self, root: Path | None = None, limit: int | None = None) -> None:
        self.root = (default_root() if root is None else Path(root)).absolute()
        self.limit = default_limit() if limit is None else limit
        self.use = Use()
        self.on_wait: Callable[[TableLike, float], None] | None = None
        self._held: dict[str, FileLock] = {}
        self._asked: set[str] = set()
        self._described: set[str] = set()
        self._seen = Seen()
        self._counting, self._holding = threading.Lock(), threading.Lock()

    def read(self, table: TableLike, first: int, stop: int, build: Build) -> np.ndarray:
        """Returns rows [first, stop) of a table, building those that are not there, piece by piece; one process builds at a time.

        Args:
            table: Which.
            first, stop: Rows, as positions in `table.times`.
            build: Computes rows; called for pieces of what is missing, each of which is kept at once. What it raises is raised here.

        Returns:
            float64 (W, stop − first), C order, read-only.

        Raises:
            CacheError: Rows that the table does not have, or `build` gave something else.
        """
        found = self._load(table, first, stop)
        if found.missing:
            with self.building(table.key, on_wait=lambda seconds: self.on_wait(table, seconds) if self.on_wait else None):
                found = self._load(table, first, stop)
                total = sum(b - a for a, b in found.missing)
                for piece in pieces(table, found.missing, build):
                    self.add(table, piece.first, piece.values, piece.seconds, total)
                    found.values[:, piece.first - first : piece.stop - first] = piece.values
        self._count(table, first, stop, found)
        found.values.flags.writeable = False
        return found.values

    def load(self, table: TableLike, first: int, stop: int) -> Loaded:
        """Returns what is there of rows [first, stop); files that are damaged are removed and noted.

        Raises:
            CacheError: Rows that the table does not have.
        """
        found = self._load(table, first, stop)
        self._count(table, first, stop, found)
        return found

    def add(self, table: TableLike, first: int, values: np.ndarray, seconds: float, whole: int = 0) -> str:
        """Keeps built rows, joined with shorter files beside them.

        Args:
            table: Which.
            first: Position of the first row.
            values: float64 (W, n).
            seconds: What building took.
            whole: Rows of the build that these are a piece of: it is kept or not as one.

        Returns:
            "", or a sentence why they could not be kept, which is noted too.

        Raises:
            CacheError: They are not rows of the table.
        """
        rows = checked(table, first, first + np.shape(values)[-1], values)
        with self._counting:
            self.use.rows_built += rows.shape[1]
            self.use.seconds_built += seconds
            self.use.bytes_built += rows.nbytes
            self._seen.add(table, [(first, first + rows.shape[1])])
        if not rows.size:
            return ""
        nbytes = max(whole, rows.shape[1]) * 8 * len(rows)
        if nbytes > self.limit:
            has = f"the cache may have {amount(self.limit)}"
            return self._note(f"{named(table)}: {amount(nbytes)} are not kept, {has}. Set ALPHASWEEP_CACHE_LIMIT higher.")
        folder, lock = folder_of(self.root, table), evict.lock_of(self.root, table.key, evict.WRITE)
        try:
            while not self._take(lock):
                time.sleep(0.01)
            folder.path.mkdir(parents=True, exist_ok=True)
            if lock.is_ours:
                folder.clear_partials()
            self._describe(folder, table)
            keep(folder, table, first, rows, seconds, self._open)
            folder.touch()
            if evict.total(self.root) > self.limit:
                shed(folder, table, self._open, lambda: evict.total(self.root) > self.limit)
        except OSError as error:
            return self._note(_not_kept(table, self.root, nbytes, error))
        finally:
            lock.release()
        if evict.total(self.root) > self.limit:
            self._collect(self.limit, None, spared=table.key)
            if evict.total(self.root) > self.limit:
                self._note(f"{self.root} holds more than the {amount(self.limit)} it may: what is left is in use.")
        return ""

    @contextmanager
    def building(self, key: str, *, on_wait: Callable[[float], None] | None = None, timeout: float | None = None) -> Iterator[None]:
        """Makes us the only one who builds a key, as long as the context and the process last.

        Each use is an owner of its own: a second one waits, in this process too.

        Args:
            key: Of the table.
            on_wait: Called with the seconds waited so far, after one second and every five; what it raises ends the waiting.
            timeout: Seconds to wait at most, 0 to try only; None is any.

        Raises:
            TimeoutError: Another still builds it; says who.
        """
        lock, started, told, pause = evict.lock_of(self.root, key, evict.BUILD), time.monotonic(), _TOLD_AFTER, 0.005
        while not self._take(lock):
            waited = time.monotonic() - started
            if timeout is not None and waited >= max(timeout, _INSTANT):  # who looks whether it is taken has it for an instant
                raise TimeoutError(f"{lock.owner() or 'another process'} has been building {key} for longer than {timeout:g} s")
            if on_wait and waited >= told:
                told = waited + _TOLD_EVERY
                on_wait(waited)
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
        lock.sign()
        try:
            yield
        finally:
            lock.release()

    def is_building(self, key: str) -> bool:
        """Returns whether anybody builds a key, or looks just now whether somebody does; does not wait."""
        return evict.lock_of(self.root, key, evict.BUILD).is_taken()

    def hold(self, key: str) -> None:
        """Keeps a key from being evicted until `close` or the end of the process; harmless when repeated."""
        with self._holding:
            if key in self._held:
                return
            if not _may_open(len(self._held) + _OTHER_FILES):
                self._note(
                    f"{len(self._held):,} tables are held, more files than a process may open (ulimit -n): the others may be removed."
                )
                return
            lock = evict.lock_of(self.root, key, evict.HOLD)
            while not self._take(lock, shared=True):  # somebody looks whether it is held, or evicts it
                time.sleep(0.005)
            self._held[key] = lock

    def close(self) -> None:
        """Gives back what `hold` holds; the store can go on being used."""
        with self._holding:
            while self._held:
                self._held.popitem()[1].release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def entries(self) -> list[Entry]:
        """Returns what is kept, used last first."""
        return evict.entries(self.root)

    def check(self, key: str) -> list[str]:
        """Reads every byte of a key's files and returns what is wrong, in sentences; changes nothing."""
        kept = list(folders(self.root, key))
        problems = [] if kept else [f"{self.root} keeps no table {key}."]
        for folder in kept:
            said, wrong = folder.about()
            if said is None:
                problems.append((wrong or f"{folder.path / ABOUT} is not there") + "; it is written again when the table is next read.")
            for path, _ in folder.names():
                try:
                    if open_segment(path, key, trusting=False) is None:
                        problems.append(f"{path} was written by another version of alphasweep; it is not read.")
                except FileNotFoundError:
                    continue
                except (BrokenError, OSError) as error:
                    problems.append(f"{path} is damaged: {error}; its rows are built again when they are next asked for.")
            problems += [f"{folder.path / name} is not read by anybody." for name in folder.strangers()]
        return problems

    def remove(self, key: str) -> int:
        """Removes a key and returns its bytes; 0 and a note if a running study holds it."""
        freed = 0
        for folder in folders(self.root, key):
            count = folder.bytes()
            try:
                if evict.evict(self.root, folder, self._take):
                    freed += count
                else:
                    self._note(f"{key} is held by a running study or being built; it stays.")
            except OSError as error:
                self._note(f"{folder.path} cannot be removed: {error.strerror or error}.")
        return freed

    def collect(self, limit: int | None = None, older: timedelta | None = None) -> list[Entry]:
        """Removes what was used longest ago, and is not held, until what is left fits.

        Args:
            limit: Bytes; the store's own by default.
            older: Removes, besides, everything that was not used for so long.

        Returns:
            What was removed, in that order.
        """
        return self._collect(self.limit if limit is None else limit, older)

    def _load(self, table: TableLike, first: int, stop: int) -> Loaded:
        if not 0 <= first <= stop <= len(table.times):
            raise CacheError(f"{named(table)}: rows {first} to {stop} of {len(table.times)}")
        values = np.full((len(table.columns), stop - first), np.nan)
        missing, seconds = np.ones(stop - first, bool), 0.0
        folder = folder_of(self.root, table)
        earliest, latest = (stamp(table.times[first]), stamp(table.times[stop - 1])) if stop > first else ("", "")
        seen: list[tuple[Path, Name]] = []
        while missing.any() and (names := folder.names()) != seen:  # somebody may be joining files while we read
            seen = names
            for path, name in names:
                if name.last < earliest or name.first > latest or (segment := self._open(path, table)) is None:
                    continue
                for offset, at, rows in segment.valid(table):
                    low, skip = max(at - first, 0), offset + first - at
                    for a, b in runs(missing[low : max(at + rows - first, 0)]):
                        for i, line in enumerate(values):
                            line[low + a : low + b] = segment.column(i)[low + a + skip : low + b + skip]
                        missing[low + a : low + b] = False
                        seconds += segment.seconds * (b - a) / segment.rows
                if not missing.any():
                    break
        found = int((~missing).sum())
        if found:
            folder.touch()
            with suppress(OSError):
                self._describe(folder, table)
        return Loaded(values, [(a + first, b + first) for a, b in runs(missing)], seconds, found * len(values) * 8)

    def _open(self, path: Path, table: TableLike) -> Segment | None:
        try:
            return open_segment(path, table.key)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._note(f"{named(table)}: {path} cannot be read ({error.strerror or error}); its rows are built again.")
        except BrokenError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            self._note(f"{named(table)}: {path} is damaged: {error}. It is removed and its rows are built again.")
        return None

    def _describe(self, folder: Folder, table: TableLike) -> None:
        # Read once per process: who reads the rows needs no description, people do.
        if table.key in self._described and (folder.path / ABOUT).exists():
            return
        said, wrong = folder.about()
        if wrong:
            aside = folder.path / f"{ABOUT}.damaged"
            self._note(f"{wrong}; it is set aside as {aside.name} and written again.")
            os.replace(folder.path / ABOUT, aside)
        if said is None:
            folder.describe(table)
        self._described.add(table.key)

    def _collect(self, limit: int, older: timedelta | None, spared: str = "") -> list[Entry]:
        try:
            return evict.collect(self.root, limit, older, spared, self._take)
        except OSError as error:
            self._note(f"{self.root}: tables used longest ago cannot be removed ({error.strerror or error}).")
            return []

    def _take(self, lock: FileLock, shared: bool = False) -> bool:
        try:
            return lock.take(shared=shared)
        except OSError as error:  # a disk that is full or not ours to write: then we go without
            self._note(f"{self.root} takes no locks ({error.strerror or error}): processes may build the same table twice.")
            return True

    def _count(self, table: TableLike, first: int, stop: int, found: Loaded) -> None:
        there = np.ones(stop - first, bool)
        for a, b in found.missing:
            there[a - first : b - first] = False
        size = 8 * len(table.columns)
        with self._counting:
            self._asked.add(table.key)
            self.use.tables = len(self._asked)
            new = self._seen.add(table, [(a + first, b + first) for a, b in runs(there)])
            self.use.rows_found += new
            self.use.seconds_saved += found.seconds * new * size / max(found.nbytes, size)
            self.use.bytes_found += new * size

    def _note(self, sentence: str) -> str:
        with self._counting:
            if sentence not in self.use.notes:
                self.use.notes.append(sentence)
        return sentence


def _may_open(count: int) -> bool:
    # What a process may open at once is often little more than a thousand files, and may be raised.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or count <= soft:
        return True
    wanted = 4 * count if hard == resource.RLIM_INFINITY else min(4 * count, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return count <= wanted
    return False


def _not_kept(table: TableLike, root: Path, count: int, error: OSError) -> str:
    if error.errno in _FULL:
        advice = "Free some space there (alphasweep cache gc removes tables), or set ALPHASWEEP_CACHE to a folder on another disk."
    elif error.errno in _SHUT:
        advice = "Make it writable, or set ALPHASWEEP_CACHE to a folder that is."
    else:
        advice = "Set ALPHASWEEP_CACHE to another folder."
    reason = error.strerror or str(error)
    return f"{named(table)}: {amount(count)} could not be kept in {root} ({reason}); the study goes on. {advice}"

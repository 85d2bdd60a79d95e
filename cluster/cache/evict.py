"""What goes when there is too much: keys used longest ago, never one that a running study holds or somebody builds or writes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cluster.cache.folder import Folder, empty_trash, folders
from cluster.cache.lock import FileLock
from cluster.cache.records import Entry

LOCKS: Final = ".locks"
HOLD, BUILD, WRITE = "hold", "build", "write"

# Takes a lock if it is free.
Take = Callable[[FileLock], bool]


def lock_of(root: Path, key: str, purpose: str) -> FileLock:
    """Returns the lock of a key, to hold, build or write it."""
    return FileLock(root / LOCKS / f"{key}.{purpose}")


def total(root: Path) -> int:
    """Returns the bytes of all keys."""
    return sum(folder.bytes() for folder in folders(root))


def entries(root: Path) -> list[Entry]:
    """Returns what is kept, used last first."""
    found = [f.entry(any(lock_of(root, f.key, purpose).is_taken() for purpose in (HOLD, BUILD))) for f in folders(root)]
    return sorted(found, key=lambda e: (e.used, e.key), reverse=True)


def collect(root: Path, limit: int, older: timedelta | None, spared: str, take: Take) -> list[Entry]:
    """Removes keys, used longest ago first, until what is left fits.

    Args:
        root: Of the cache.
        limit: Bytes.
        older: Removes, besides, what was not used for so long; None is nothing.
        spared: A key that stays.
        take: Takes a lock.

    Returns:
        What was removed.

    Raises:
        OSError: Something could not be removed.
    """
    collecting = FileLock(root / LOCKS / "collect")
    if not root.is_dir() or not take(collecting):  # somebody is at it
        return []
    try:
        empty_trash(root)
        kept, left, gone = {f.key: f for f in folders(root)}, total(root), []
        for entry in reversed(entries(root)):
            aged = older is not None and datetime.now(UTC) - entry.used > older
            if entry.key in kept and entry.key != spared and (aged or left > limit) and evict(root, kept[entry.key], take):
                gone.append(entry)
                left -= entry.bytes
        return gone
    finally:
        collecting.release()


def evict(root: Path, folder: Folder, take: Take) -> bool:
    """Removes a key unless somebody has it; whoever reads it goes on reading.

    Returns:
        Whether it is gone.

    Raises:
        OSError: It could not be removed.
    """
    locks = [lock_of(root, folder.key, purpose) for purpose in (HOLD, BUILD, WRITE)]
    try:
        if not all(take(lock) for lock in locks):
            return False
        folder.discard(root)
        for lock in locks:
            with suppress(OSError):
                lock.path.unlink(missing_ok=True)
        return True
    finally:
        for lock in locks:
            lock.release()

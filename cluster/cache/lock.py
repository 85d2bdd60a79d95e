"""Locks between processes that end with the process: `flock` on a file that may be removed by whoever has it to himself."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import weakref
from contextlib import suppress
from pathlib import Path

_taken: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """A lock on a path. Each instance is an owner of its own, also within one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def take(self, *, shared: bool = False) -> bool:
        """Tries once, without waiting; creates the file and its folder.

        Returns:
            Whether it is ours now.

        Raises:
            OSError: The file cannot be made, or its file system knows no locks.
        """
        while True:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                # Somebody may have removed the file between our opening and our lock: then ours locks nothing.
                if _same(descriptor, self.path):
                    break
            except BlockingIOError:
                os.close(descriptor)
                return False
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        self._descriptor = descriptor
        _taken.add(self)
        return True

    @property
    def is_ours(self) -> bool:
        """Whether this instance has it."""
        return self._descriptor is not None

    def sign(self) -> None:
        """Writes who has it into the file, for `owner`."""
        if self._descriptor is not None:
            with suppress(OSError):  # a full disk, another user's file: then nobody is told who it is
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)

    def owner(self) -> str:
        """Returns who signed last, "process 123 on host", or ""."""
        try:
            note = json.loads(self.path.read_bytes())
            return f"process {note['pid']} on {note['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def is_taken(self) -> bool:
        """Returns whether anybody has it, shared or not; creates nothing."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return False

    def release(self) -> None:
        """Gives it back; harmless when repeated."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
                raise
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)  # another user's


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _forget_in_child() -> None:
    # A forked child shares the descriptor: without this the lock would outlive its owner.
    for lock in list(_taken):
        lock.release()


os.register_at_fork(after_in_child=_forget_in_child)

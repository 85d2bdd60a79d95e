"""What the processes of a session tell each other of outputs: small files in a folder of its own, that goes when the session ends.

The folder lies in the cache, which the nodes of a cluster may share; where that cannot be written, in the user's own temporary folder,
which at least the processes of one machine share. Nothing here stops anybody: what cannot be written is not remembered.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from cluster.cache import evict
from cluster.cache.lock import FileLock
from cluster.cache.own import own_folder
from cluster.cache.seal import written

SESSIONS: Final = ".sessions"
LASTS: Final = 7 * 86_400.0  # seconds without a sign, after which a session of another node is over
_DRIVER: Final = "driver"  # the mark of whoever began it
_LOCK: Final = ".session"  # how locks of living sessions end


class Marks:
    """The marks of one session, in any of its processes."""

    def __init__(self, root: Path, session: str, aside: bool = False) -> None:
        """Writes nothing.

        Args:
            root: Of the cache.
            session: Whose; "" is nobody's, which remembers nothing.
            aside: Whether they lie in the user's temporary folder, since the cache cannot be written.
        """
        self.root, self.session, self.aside = root, session, aside
        self._alive: FileLock | None = None

    def begin(self) -> str:
        """Says that the session lives, as long as this process does or until `forget`, and finds out where it can remember.

        Returns:
            Why the cache cannot be written, "" if it can be.
        """
        why = ""
        for self.aside in (False, True):
            try:
                self._alive = _lock(self._home(), self.session)
                with suppress(OSError):  # a disk that knows no locks
                    self._alive.take()
                self._put(_DRIVER, {})
                return why
            except OSError as error:
                why = why or error.strerror or str(error)
                self.forget()
        return why

    @property
    def mute(self) -> bool:
        """Whether nothing at all can be remembered."""
        return not self.find(_DRIVER)

    def put(self, name: str, **said: Any) -> Path | None:
        """Keeps a mark; returns where, None if it could not be written."""
        try:
            return self._put(name, said) if self.session else None
        except OSError:
            return None

    def find(self, pattern: str) -> list[Path]:
        """Returns the marks whose names match; none where they cannot be read."""
        if not self.session:
            return []
        with suppress(OSError):
            return [path for path in listed(self._place()) if path.match(pattern)]
        return []

    def begun(self, key: str, stage: str) -> Path | None:
        """Keeps that this process begins to build; whoever ends it, well or not, removes the mark."""
        return self.put(f"{key}.{uuid.uuid4().hex}.begun", stage=stage, pid=os.getpid(), host=socket.gethostname())

    def lost(self, key: str) -> list[Path]:
        """Returns the marks of builders that died, for who alone builds; where nobody can be alone, of those known to be dead."""
        marks = self.find(f"{key}.*.begun")
        return [path for path in marks if _is_dead(told(path))] if self.aside else marks

    def forget(self) -> None:
        """Ends the session."""
        with suppress(OSError):
            shutil.rmtree(self._place(), ignore_errors=True)
        if self._alive is not None:
            with suppress(OSError):
                if self._alive.is_ours:
                    self._alive.path.unlink(missing_ok=True)
            self._alive.release()

    def sweep(self) -> None:
        """Removes what sessions have left that were killed, here at once and elsewhere after some days."""
        homes = [self.root]
        with suppress(OSError):
            homes.append(own_folder())
        for home in homes:
            for path in listed(home / evict.LOCKS):
                if path.name.endswith(_LOCK):
                    _end(home, path.name.removesuffix(_LOCK))
            for place in listed(home / SESSIONS):
                # Without a lock here it may live on another node, whose workers on this one it serves.
                with suppress(OSError):
                    if time.time() - place.stat().st_mtime > LASTS and not _lock(home, place.name).path.exists():
                        shutil.rmtree(place, ignore_errors=True)

    def _home(self) -> Path:
        return own_folder() if self.aside else self.root

    def _place(self) -> Path:
        return self._home() / SESSIONS / self.session

    def _put(self, name: str, said: dict[str, Any]) -> Path:
        path = self._place() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        written(path, {"time": time.time(), **said}, synced=False)
        return path


def told(path: Path) -> dict[str, Any]:
    """Returns what a mark says; nothing if it cannot be read."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return said if isinstance(said, dict) else {}
    except (OSError, ValueError):
        return {}


def listed(path: Path) -> list[Path]:
    """Returns what is in a folder; nothing if it cannot be read."""
    try:
        return sorted(path.iterdir())
    except OSError:
        return []


def _is_dead(said: dict[str, Any]) -> bool:
    if said.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(said["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, TypeError, ValueError):
        pass
    return False


def _lock(home: Path, session: str) -> FileLock:
    return FileLock(home / evict.LOCKS / f"{session}{_LOCK}")


def _end(home: Path, session: str) -> None:
    """Removes a session whose driver is dead."""
    lock = _lock(home, session)
    try:
        if lock.take():
            shutil.rmtree(home / SESSIONS / session, ignore_errors=True)
            lock.path.unlink(missing_ok=True)
    except OSError:  # a disk that knows no locks cannot say who lives
        pass
    finally:
        lock.release()

"""Outputs of stages: folders that are built once per key, however many configurations, processes and studies ask for them.

What a stage of a pipeline leaves behind (an adapter, say) is named by a key, the hash of everything it follows from, so whoever asks
for the same key gets the same folder. It appears whole or not at all, and nobody changes it afterwards. This module knows no cache; a
host offers one (`offered`), and where none does, as in a notebook or an audit, outputs last as long as the process.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from trainables import tables

# Fills an empty folder.
Build = Callable[[Path], None]


class Outputs(Protocol):
    """Who keeps outputs."""

    def folder(self, key: str, build: Build, stage: str = "", about: Mapping[str, Any] | None = None) -> Path:
        """Returns the folder of a key, calling `build` if it is not there; see `folder`."""
        ...

    def is_building(self, key: str) -> bool:
        """Returns whether somebody is building a key just now."""
        ...


class OfThisProcess:
    """Outputs in a temporary folder that goes with the process."""

    def __init__(self) -> None:
        """Makes nothing yet."""
        self._place: tempfile.TemporaryDirectory[str] | None = None
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def folder(self, key: str, build: Build, stage: str = "", about: Mapping[str, Any] | None = None) -> Path:
        """Returns the folder of a key, calling `build` if it is not there; see `folder`."""
        with self._guard:
            if self._place is None:
                self._place = tempfile.TemporaryDirectory(prefix="alphasweep-outputs-")
            root, lock = Path(self._place.name), self._locks.setdefault(key, threading.Lock())
        with lock:
            place = root / key
            if not place.is_dir():
                draft = root / f".{key}-{uuid.uuid4().hex}"
                draft.mkdir()
                try:
                    build(draft)
                    draft.rename(place)
                finally:
                    shutil.rmtree(draft, ignore_errors=True)
            return place

    def is_building(self, key: str) -> bool:
        """Returns whether another thread is building a key."""
        lock = self._locks.get(key)
        return lock is not None and lock.locked()


_own = OfThisProcess()
_host: Outputs = _own


@contextmanager
def offered(outputs: Outputs | None) -> Iterator[None]:
    """Lets `folder` in this process take what a host keeps; None is nobody."""
    global _host
    before, _host = _host, outputs or _own
    try:
        yield
    finally:
        _host = before


@contextmanager
def hosted(kept: tables.Tables | None, outputs: Outputs | None) -> Iterator[None]:
    """Lets this process take both derived tables and outputs from a host."""
    with tables.offered(kept), offered(outputs):
        yield


def folder(key: str, build: Build, stage: str = "", about: Mapping[str, Any] | None = None) -> Path:
    """Returns an output, from whoever keeps it or by building it.

    Args:
        key: Hexadecimal digits that name everything the output follows from.
        build: Fills an empty folder; of all who ask for a key at once, one calls it and the others wait. If it raises, nothing is
            kept; a host may remember that and raise for whoever asks again in the same session.
        stage: Who makes it, for people.
        about: What it was made with, as JSON takes it, for people.

    Returns:
        Its folder, which is not to be changed.

    Raises:
        ValueError: What the host remembers of a build that failed. Otherwise whatever `build` raises.
    """
    return _host.folder(key, build, stage, about)


def is_building(key: str) -> bool:
    """Returns whether somebody is building a key just now, so that asking for it would be waiting."""
    return _host.is_building(key)

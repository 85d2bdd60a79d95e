"""The record of outputs that were built: a line each, in a file that is cut when it has grown."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cluster.cache import evict
from cluster.cache.lock import FileLock

LOG: Final = "builds.jsonl"
MOST_BYTES: Final = 1_000_000  # of the record, some thousand builds; beyond, the older half goes


@dataclass(frozen=True)
class Built:
    """An output that somebody built.

    Attributes:
        key: Whose.
        stage: Who made it, for people.
        seconds: How long that took.
        pid: Process that did.
        session: In which run; "" for none.
        build: Names this very build.
    """

    key: str
    stage: str
    seconds: float
    pid: int
    session: str
    build: str


def built_of(said: Mapping[str, Any]) -> Built | None:
    """Returns the build that a description tells of, None if it does not."""
    try:
        return Built(**{name: said[name] for name in Built.__dataclass_fields__})
    except (KeyError, TypeError):
        return None


def recorded(folder: Path) -> dict[str, Built]:
    """Returns the builds on record, by what names them, in the order they ended."""
    made: dict[str, Built] = {}
    with suppress(OSError):
        for line in (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError):  # a line that a full disk has cut
                one = Built(**json.loads(line))
                made[one.build] = one
    return made


def record(root: Path, folder: Path, one: Built) -> None:
    """Adds a build to the record of a folder, under a cache's root.

    Raises:
        OSError: It could not be written.
    """
    descriptor = os.open(folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.write(descriptor, (json.dumps(asdict(one)) + "\n").encode())  # one write: lines of several processes do not mix
        grown = os.fstat(descriptor).st_size > MOST_BYTES
    finally:
        os.close(descriptor)
    if grown:
        _cut(root, folder / LOG)


def _cut(root: Path, log: Path) -> None:
    # A line that somebody adds just now may go with the older half; the output itself says as much.
    lock = FileLock(root / evict.LOCKS / LOG)
    try:
        if lock.take() and log.stat().st_size > MOST_BYTES:
            lines = log.read_bytes().splitlines(keepends=True)
            partial = log.with_name(f".{LOG}-{uuid.uuid4().hex}")
            partial.write_bytes(b"".join(lines[len(lines) // 2 :]))
            os.replace(partial, log)
    finally:
        lock.release()

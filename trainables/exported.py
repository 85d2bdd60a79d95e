"""Folders that an export writes: they appear whole, replace an earlier export, and nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.contract import TrainableError


class ExportError(TrainableError):
    """An export that cannot be made, or one that cannot be used; the message says which and why."""


def check_target(folder: str | Path, names: frozenset[str], mark: str) -> None:
    """Refuses a folder that an export would destroy: one that is neither empty nor holds an earlier export and nothing else.

    Args:
        folder: Where to.
        names: Of all that an export writes.
        mark: Of those, the one by which an export is known.

    Raises:
        ExportError: Names what is in it.
    """
    place = Path(folder)
    if place.is_dir() and not place.is_symlink():
        there = {path.name for path in place.iterdir()}
        other = sorted(there - names) or sorted(there if there and mark not in there else ())
        if other:
            raise ExportError(f"export {place}: the folder holds {', '.join(other[:3])}, which no export wrote; give another or a new one")
    elif place.exists() or place.is_symlink():
        raise ExportError(f"export {place}: is not a folder; give another or a new one")


@contextmanager
def published(place: Path) -> Iterator[Path]:
    """Gives an empty folder to fill, which then takes the place of an earlier export; if filling fails, that one stays."""
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        yield draft
        draft.chmod(0o755)
        for path in draft.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # some writers leave 0600, which nobody else on a cluster can read
        old = place.with_name(f".{place.name}-{os.getpid()}.old")
        if place.exists():
            place.rename(old)
        draft.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise

"""The files of an output: put on disk for reading only, named with their checksums, and looked at again before they are used."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from cluster.cache.records import CacheError
from cluster.cache.segment import sync_folder


def sealed(content: Path) -> dict[str, list[Any]]:
    """Puts a folder's files on disk, for reading only.

    Returns:
        Size in bytes and checksum of each, by its path in the folder.

    Raises:
        CacheError: There is something else than files and folders.
        OSError: They could not be written.
    """
    files: dict[str, list[Any]] = {}
    for path in sorted(content.rglob("*")):
        name = str(path.relative_to(content))
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise CacheError(f"{name}: an output has files and folders only, no links: it has to last when what they point to is gone")
        if path.is_dir():
            sync_folder(path)
        else:
            files[name] = [path.stat().st_size, _digest(path, synced=True)]
            path.chmod(0o444)
    sync_folder(content)
    return files


def damage(content: Path, files: Mapping[str, Any]) -> str:
    """Says what is wrong with a content, "" if nothing is."""
    there = {str(path.relative_to(content)) for path in content.rglob("*") if not path.is_dir()}
    if odd := sorted(there ^ set(files)):
        return f"{content / odd[0]} {'is not part of it' if odd[0] in there else 'is missing'}"
    for name, (size, digest) in files.items():
        if (content / name).stat().st_size != size or _digest(content / name) != digest:
            return f"{content / name} is damaged"
    return "" if content.is_dir() else f"{content} is missing"


def _digest(path: Path, *, synced: bool = False) -> str:
    found = blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
        if synced:
            os.fsync(file.fileno())
    return found.hexdigest()


def written(path: Path, said: Mapping[str, Any], *, synced: bool = True) -> None:
    """Writes a small JSON file that is there whole or not at all."""
    partial = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(said, file, indent=1)
        file.flush()
        if synced:
            os.fsync(file.fileno())
    os.replace(partial, path)

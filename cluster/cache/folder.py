"""The folder of a key: what it is about, which files of rows it has, and when it was last used."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cluster.cache.records import Entry, TableLike
from cluster.cache.segment import FORMAT, PARTIAL, Name, parse, sync_folder

ABOUT: Final = "about.json"
USED: Final = "used"
TRASH: Final = ".trash"
_TOUCH_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Folder:
    """A key's place on disk, existing or not."""

    path: Path

    @property
    def key(self) -> str:
        """Whose."""
        return self.path.name

    def names(self) -> list[tuple[Path, Name]]:
        """Returns its files of rows, the longest first."""
        found = [(self.path / n, parsed) for n in _listed(self.path) if (parsed := parse(n))]
        return sorted(found, key=lambda f: (-f[1].rows, f[0].name))

    def strangers(self) -> list[str]:
        """Returns names of files that nobody will read: unfinished, renamed or somebody's own."""
        return sorted(n for n in _listed(self.path) if not parse(n) and n not in (ABOUT, USED))

    def bytes(self) -> int:
        """Returns the size of all files in it."""
        total = 0
        for place, _, names in os.walk(self.path):
            for name in names:
                with suppress(OSError):
                    total += os.stat(os.path.join(place, name)).st_size
        return total

    def about(self) -> tuple[dict[str, Any] | None, str]:
        """Returns what `about.json` says, None if it is not there or not readable, and what is wrong with it."""
        path = self.path / ABOUT
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None, ""
        except OSError as error:
            return None, f"{path} cannot be read: {error.strerror}"
        try:
            said = json.loads(text)
            if isinstance(said, dict) and said["key"] == self.key and isinstance(said["spec"], dict):
                said["columns"], said["symbols"] = [tuple(map(str, said[n])) for n in ("columns", "symbols")]
                said["created"] = datetime.fromisoformat(said["created"])
                return said, ""
        except (ValueError, KeyError, TypeError):
            pass
        return None, f"{path} is damaged"

    def describe(self, table: TableLike) -> None:
        """Writes `about.json`.

        Raises:
            OSError: It cannot be written; nothing stays.
        """
        said: Mapping[str, Any] = {
            "format": FORMAT,
            "key": table.key,
            "kind": table.kind,
            "spec": table.spec,
            "columns": list(table.columns),
            "symbols": list(table.symbols),
            "reach": table.reach,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        partial = self.path / f"{PARTIAL}{uuid.uuid4().hex}"
        try:
            with open(partial, "w", encoding="utf-8") as file:
                json.dump(said, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path / ABOUT)
            sync_folder(self.path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise

    def touch(self) -> None:
        """Notes that it is used, at most once a minute."""
        with suppress(OSError):  # a cache one may only read
            path = self.path / USED
            if not path.exists() or time.time() - path.stat().st_mtime > _TOUCH_SECONDS:
                path.touch()

    def clear_partials(self) -> None:
        """Removes what builders that died have left; only for who alone may write here."""
        for name in _listed(self.path):
            if name.startswith(PARTIAL):
                (self.path / name).unlink(missing_ok=True)

    def entry(self, held: bool) -> Entry:
        """Returns what it holds, from names alone."""
        said = self.about()[0] or {}
        names = [n for _, n in self.names()]
        used = _time_of(self.path / USED) or _time_of(self.path) or datetime.now(UTC)
        return Entry(
            key=self.key,
            kind=str(said.get("kind", self.path.parent.name)),
            spec=said.get("spec", {}),
            symbols=said.get("symbols", ()),
            columns=said.get("columns", ()),
            rows=sum(n.rows for n in names),
            first=min((_datetime(n.first) for n in names), default=None),
            last=max((_datetime(n.last) for n in names), default=None),
            bytes=self.bytes(),
            segments=len(names),
            seconds=sum(n.milliseconds for n in names) / 1000 or float(said.get("seconds", 0.0)),  # an output has no rows
            created=said.get("created") or _time_of(self.path) or used,
            used=used,
            held=held,
        )

    def discard(self, root: Path) -> None:
        """Removes it at once for whoever looks; who reads already goes on reading.

        Raises:
            OSError: It could not be removed.
        """
        trash = root / TRASH / f"{self.key}-{uuid.uuid4().hex}"
        trash.parent.mkdir(exist_ok=True)
        os.rename(self.path, trash)
        shutil.rmtree(trash, ignore_errors=True)


def folder_of(root: Path, table: TableLike) -> Folder:
    """Returns where a table lies: `<root>/<kind>/<key>`."""
    kind = re.sub(r"[^\w.-]", "_", table.kind).lstrip(".") or "_"
    return Folder(root / kind / table.key)


def folders(root: Path, key: str | None = None) -> Iterator[Folder]:
    """Yields what lies under a root, of one key or all."""
    for kind in sorted(_listed(root)):
        if not kind.startswith("."):
            for name in sorted(_listed(root / kind)):
                if key in (None, name) and (root / kind / name).is_dir():
                    yield Folder(root / kind / name)


def empty_trash(root: Path) -> None:
    """Removes what somebody was removing when it died; only for who alone may remove here."""
    shutil.rmtree(root / TRASH, ignore_errors=True)


def _listed(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:  # not there, or removed meanwhile, or not for us: nothing to be read
        return []


def _time_of(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None


def _datetime(stamp: str) -> datetime:
    return datetime.strptime(stamp, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)

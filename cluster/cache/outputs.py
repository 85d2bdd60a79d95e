"""Outputs of stages on disk: a folder per key that appears whole or not at all, built by one process at a time (docs/architecture.md).

They lie among the tables, under `outputs/<key>`, and share their limit, locks and eviction. `about.json` names every file with its
checksum, so that what is damaged is built again. Of a session that many workers share is kept, as long as it lasts, what was used,
what failed and what killed its builder: nobody tries the same again for each configuration. Nothing in it needs Ray.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cluster.cache import evict
from cluster.cache.answers import Building
from cluster.cache.folder import ABOUT, Folder
from cluster.cache.lock import FileLock
from cluster.cache.records import CacheError
from cluster.cache.seal import damage, sealed, written
from cluster.cache.segment import sync_folder
from cluster.cache.store import Store

KIND: Final = "outputs"
CONTENT: Final = "content"
LOG: Final = "builds.jsonl"
DRAFTS: Final = ".drafts"
SESSIONS: Final = ".sessions"
MOST_LOST: Final = 2  # builders of the same output that died, after which it is tried by no third in the same session
_FORMAT: Final = 1


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


@dataclass(frozen=True)
class OutputUse:
    """What a session had of outputs.

    Attributes:
        used: Different outputs that were asked for, by stage.
        built: Of these, built in this session, by stage.
        seconds_built: What that took.
        seconds_saved: What the others had taken.
        notes: What went wrong without harm to results, each once.
    """

    used: Mapping[str, int] = field(default_factory=dict)
    built: Mapping[str, int] = field(default_factory=dict)
    seconds_built: float = 0.0
    seconds_saved: float = 0.0
    notes: tuple[str, ...] = ()


class DiskOutputs:
    """Outputs under a cache's root; a `trainables.outputs.Outputs` for driver and workers, to be sent to them.

    On a cluster whose nodes share no disk each node has outputs of its own.
    """

    def __init__(self, root: Path | None = None, limit: int | None = None, session: str = "") -> None:
        """Begins with nothing at hand.

        Args:
            root: Of the cache; default the user's.
            limit: Bytes of the whole cache.
            session: Run that remembers what failed; "" is none.
        """
        self._store, self.session = Store(root, limit), session
        self._known: dict[str, Path] = {}  # checked in this process
        self._aside: tempfile.TemporaryDirectory[str] | None = None

    def __getstate__(self) -> tuple[Path, int, str]:
        """Leaves behind what belongs to a process."""
        return self.root, self._store.limit, self.session

    def __setstate__(self, state: tuple[Path, int, str]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    @property
    def root(self) -> Path:
        """Of the cache."""
        return self._store.root

    @property
    def notes(self) -> list[str]:
        """What went wrong in this process without harm to results."""
        return self._store.use.notes

    def folder(self, key: str, build: Callable[[Path], None], stage: str = "", about: Mapping[str, Any] | None = None) -> Path:
        """Returns the folder of a key; see `trainables.outputs.folder`.

        Raises:
            CacheError: It failed in this session already, or killed its builder twice. Otherwise what `build` raises.
        """
        if not re.fullmatch(r"[0-9a-f]{8,64}", key):
            raise CacheError(f"{stage or 'output'}: {key!r} is not a key; give hexadecimal digits")
        if (known := self._known.get(key)) is not None and known.is_dir():
            return known
        self._store.hold(key)  # first: what is found below is not evicted any more
        found = self._found(key)
        if found is None:
            self._refuse(key)
            with self._store.building(key):
                found = self._found(key)
                if found is None:
                    self._refuse(key, alone=True)
                    found = self._build(key, build, stage, dict(about or {}))
        self._known[key] = found
        self._mark(f"{key}.used")
        return found

    def is_building(self, key: str) -> bool:
        """Returns whether somebody builds a key, or looks just now whether somebody does."""
        return self._store.is_building(key)

    def building(self) -> list[Building]:
        """Returns what this session is building."""
        made = []
        for path in self._marks("*.begun"):
            with suppress(OSError, ValueError):
                said = json.loads(path.read_text())
                if self.is_building(path.name.partition(".")[0]):
                    made.append(Building(f"{said['stage']} ({path.name[:8]})", 0, 0, time.time() - float(said["time"])))
        return made

    def builds(self) -> list[Built]:
        """Returns every build that was finished, in the order they were, also of outputs that have since been removed."""
        made: dict[str, Built] = {}
        with suppress(OSError):
            for line in (self.root / KIND / LOG).read_text(encoding="utf-8").splitlines():
                with suppress(ValueError, TypeError):  # a line that a full disk has cut
                    one = Built(**json.loads(line))
                    made[one.build] = one
        for place in self._places():  # a kill came between the folder and its line
            said, _ = Folder(place).about()
            if said is not None and said.get("build") not in made:
                with suppress(KeyError, TypeError):
                    made[said["build"]] = Built(**{name: said[name] for name in Built.__dataclass_fields__})
        return list(made.values())

    def check(self, key: str) -> list[str]:
        """Reads every byte of an output and returns what is wrong, in sentences; changes nothing."""
        wrong = self._damage(Folder(self._place(key)))
        return [f"{wrong}; it is built again when it is next asked for."] if wrong else []

    def use(self) -> OutputUse:
        """Returns what this session had."""
        if not any(self._marks("*")):
            return OutputUse(notes=tuple(self.notes))
        built = [one for one in self.builds() if self.session and one.session == self.session]
        stages, seconds = {one.key: one.stage for one in built}, 0.0
        for path in self._marks("*.used"):
            key = path.name.partition(".")[0]
            if key not in stages and (said := Folder(self._place(key)).about()[0]) is not None:
                stages[key], seconds = str(said.get("stage", "")), seconds + float(said.get("seconds", 0.0))
        notes = tuple(dict.fromkeys([*self.notes, *map(_said, self._marks("*.note"))]))
        took = sum(one.seconds for one in built)
        return OutputUse(_counted(stages.values()), _counted(one.stage for one in built), took, seconds, notes)

    def sweep(self) -> None:
        """Removes what builders and sessions that were killed have left."""
        for draft in _listed(self.root / DRAFTS):
            lock = evict.lock_of(self.root, draft.name.partition("-")[0], evict.BUILD)
            with suppress(OSError):  # a disk that knows no locks cannot say who is at work
                if lock.take():
                    shutil.rmtree(draft, ignore_errors=True)
            lock.release()
        for session in _listed(self.root / SESSIONS):
            if not _session_lock(self.root, session.name).is_taken():
                shutil.rmtree(session, ignore_errors=True)

    def close(self) -> None:
        """Lets what this process holds be evicted."""
        self._store.close()
        self._known.clear()

    # How.

    def _place(self, key: str) -> Path:
        return self.root / KIND / key

    def _places(self) -> list[Path]:
        return [path for path in _listed(self.root / KIND) if path.is_dir()]

    def _found(self, key: str) -> Path | None:
        """Returns a key's content if every file is as it was written."""
        kept = Folder(self._place(key))
        if not kept.path.is_dir():
            return None
        if wrong := self._damage(kept):
            self._note(f"{wrong}; it is built again.")
            return None
        kept.touch()
        return kept.path / CONTENT

    def _damage(self, kept: Folder) -> str:
        said, wrong = kept.about()
        if said is None:
            return wrong or f"{kept.path / ABOUT} is missing"
        try:
            return damage(kept.path / CONTENT, said["files"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            return f"{kept.path} cannot be read ({type(error).__name__})"

    def _build(self, key: str, build: Callable[[Path], None], stage: str, about: dict[str, Any]) -> Path:
        draft, kept = self._draft(key)
        content, began, start = draft / CONTENT, time.monotonic(), self._mark(f"{key}.{uuid.uuid4().hex}.begun", stage=stage)
        try:
            content.mkdir()
            build(content)
            said = {
                "format": _FORMAT,
                "key": key,
                "kind": KIND,
                "spec": {"stage": stage, **about},
                "columns": [],
                "symbols": [],
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "stage": stage,
                "seconds": round(time.monotonic() - began, 3),
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "session": self.session,
                "build": uuid.uuid4().hex,
                "files": sealed(content),
            }
            written(draft / ABOUT, said)
            return self._published(key, draft, said) if kept else content
        except Exception as error:
            self._mark(f"{key}.failed", message=str(error) or type(error).__name__)
            raise
        finally:
            if start is not None:
                start.unlink(missing_ok=True)
            if kept:
                shutil.rmtree(draft, ignore_errors=True)

    def _draft(self, key: str) -> tuple[Path, bool]:
        """Returns a folder to build in, and whether what is built there can be kept."""
        place = self.root / DRAFTS
        try:
            draft = place / f"{key}-{uuid.uuid4().hex}"
            draft.mkdir(parents=True)
            return draft, True
        except OSError as error:
            self._note(f"{self.root}: outputs are not kept ({error.strerror or error}); each process builds its own.")
            self._aside = self._aside or tempfile.TemporaryDirectory(prefix="alphasweep-outputs-")
            return Path(tempfile.mkdtemp(dir=self._aside.name)), False

    def _published(self, key: str, draft: Path, said: Mapping[str, Any]) -> Path:
        place = self._place(key)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            if (found := self._found(key)) is not None:  # on a disk without locks another process may have built the same
                return found
            Folder(place).discard(self.root)
        sync_folder(draft)
        os.rename(draft, place)
        sync_folder(place.parent)
        with suppress(OSError):
            line = json.dumps({name: said[name] for name in Built.__dataclass_fields__}) + "\n"
            descriptor = os.open(place.parent / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                os.write(descriptor, line.encode())  # one write: lines of several processes do not mix
            finally:
                os.close(descriptor)
        if evict.total(self.root) > self._store.limit:
            self._store.collect()
        return place / CONTENT

    def _refuse(self, key: str, *, alone: bool = False) -> None:
        """Raises what is known of a key in this session; what is left of its builders means something to who alone builds only."""
        for path in self._marks(f"{key}.failed"):
            raise CacheError(_said(path))
        lost = list(self._marks(f"{key}.*.begun")) if alone else []
        if len(lost) >= MOST_LOST:
            raise CacheError(f"building this output ({key[:8]}) killed its worker twice; it is not tried again in this run")

    def _mark(self, name: str, **said: Any) -> Path | None:
        """Keeps something for the other processes of the session."""
        if not self.session:
            return None
        path = self.root / SESSIONS / self.session / name
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            written(path, {"time": time.time(), **said}, synced=False)
        return path

    def _marks(self, pattern: str) -> Iterator[Path]:
        return (self.root / SESSIONS / self.session).glob(pattern) if self.session else iter(())

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
            self._mark(f"{uuid.uuid4().hex}.note", message=sentence)


@contextmanager
def session_of(store: Store) -> Iterator[DiskOutputs]:
    """Begins a session, in which workers share outputs and what failed, and forgets at its end what it remembered.

    Args:
        store: Whose root and limit to keep outputs under.

    Yields:
        What to offer to the driver and to workers; after the end it still answers `use`, of which nothing changes any more.
    """
    outputs = _Session(store.root, store.limit, uuid.uuid4().hex)
    alive = _session_lock(store.root, outputs.session)
    with suppress(OSError):
        alive.take()
    outputs.sweep()
    try:
        yield outputs
    finally:
        outputs.last = outputs.use()
        outputs.close()
        shutil.rmtree(store.root / SESSIONS / outputs.session, ignore_errors=True)
        if alive.is_ours:
            alive.path.unlink(missing_ok=True)
        alive.release()


class _Session(DiskOutputs):
    last: OutputUse | None = None

    def __reduce__(self) -> Any:
        return DiskOutputs, (self.root, self._store.limit, self.session)

    def use(self) -> OutputUse:
        return self.last or super().use()


def _session_lock(root: Path, session: str) -> FileLock:
    return FileLock(root / evict.LOCKS / f"{session}.session")


def _said(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return "it failed before in this run"


def _counted(stages: Iterable[str]) -> dict[str, int]:
    return dict(Counter(stages))


def _listed(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError:
        return []

"""Outputs of stages on disk: a folder per key that appears whole or not at all, built by one process at a time (docs/architecture.md).

They lie among the tables, under `outputs/<key>`, and share their limit, locks and eviction. `about.json` names every file with its
checksum, so that what is damaged is built again. Of a session that many workers share is kept, as long as it lasts, what was used,
what failed and what killed its builder (`marks`): nobody tries the same again for each configuration. Nothing in it needs Ray.
"""

from __future__ import annotations

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
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cluster.cache import evict
from cluster.cache.answers import Building
from cluster.cache.builds import Built, built_of, record, recorded
from cluster.cache.folder import ABOUT, Folder
from cluster.cache.marks import SESSIONS, Marks, listed, told
from cluster.cache.records import CacheError
from cluster.cache.seal import damage, sealed, written
from cluster.cache.segment import sync_folder
from cluster.cache.settings import amount
from cluster.cache.store import Store

__all__ = ["CONTENT", "DRAFTS", "KIND", "SESSIONS", "Built", "DiskOutputs", "OutputUse", "session_of"]

KIND: Final = "outputs"
CONTENT: Final = "content"
DRAFTS: Final = ".drafts"
MOST_LOST: Final = 2  # builders of the same output that died, after which it is tried by no third in the same session
_FORMAT: Final = 1


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

    def __init__(self, root: Path | None = None, limit: int | None = None, session: str = "", aside: bool = False) -> None:
        """Begins with nothing at hand.

        Args:
            root: Of the cache; default the user's.
            limit: Bytes of the whole cache.
            session: Run that remembers what failed; "" is none.
            aside: Whether that is remembered outside the cache.
        """
        self._store, self.session = Store(root, limit), session
        self.marks = Marks(self.root, session, aside)
        self._known: dict[str, Path] = {}  # checked in this process
        self._own: tempfile.TemporaryDirectory[str] | None = None
        self._swept = False

    def __reduce__(self) -> Any:
        """Leaves behind what belongs to a process."""
        return DiskOutputs, (self.root, self._store.limit, self.session, self.marks.aside)

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
        if (known := self._known.get(key)) is not None and _is_dir(known):
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
        said = Folder(self._place(key)).about()[0] or {}
        self.marks.put(f"{key}.used", stage=stage or str(said.get("stage", "")), seconds=said.get("seconds", 0.0))
        return found

    def look(self, key: str) -> Path | None:
        """Returns the folder of a key if it is there, every file as it was written; holds, builds and notes nothing."""
        kept = Folder(self._place(key))
        return kept.path / CONTENT if _is_dir(kept.path) and not self._damage(kept) else None

    def is_building(self, key: str) -> bool:
        """Returns whether somebody builds a key, or looks just now whether somebody does."""
        return self._store.is_building(key)

    def building(self) -> list[Building]:
        """Returns what this session is building."""
        made = []
        for path in self.marks.find("*.begun"):
            with suppress(ValueError, KeyError, TypeError):
                said = told(path)
                if self.is_building(_key(path)):
                    made.append(Building(f"{said['stage']} ({path.name[:8]})", 0, 0, time.time() - float(said["time"])))
        return made

    def builds(self) -> list[Built]:
        """Returns the builds that were finished, in the order they were, also of outputs that have since been removed."""
        made = recorded(self.root / KIND)
        for place in filter(_is_dir, listed(self.root / KIND)):  # a kill came between the folder and its line
            if (one := built_of(Folder(place).about()[0] or {})) is not None:
                made.setdefault(one.build, one)
        return list(made.values())

    def check(self, key: str) -> list[str]:
        """Reads every byte of an output and returns what is wrong, in sentences; changes nothing."""
        wrong = self._damage(Folder(self._place(key)))
        return [f"{wrong}; it is built again when it is next asked for."] if wrong else []

    def use(self) -> OutputUse:
        """Returns what this session had."""
        used = {_key(path): told(path) for path in self.marks.find("*.used")}
        built = [(_key(path), told(path)) for path in self.marks.find("*.built")]
        made = dict(built)
        found = [said for key, said in used.items() if key not in made]
        notes = dict.fromkeys([*self.notes, *(_message(path) for path in self.marks.find("*.note"))])
        return OutputUse(
            _counted({**made, **used}.values()),
            _counted(made.values()),
            sum(_seconds(said) for _, said in built),
            sum(map(_seconds, found)),
            tuple(notes),
        )

    def sweep(self) -> None:
        """Removes what builders and sessions that were killed have left."""
        self._swept = True
        for draft in listed(self.root / DRAFTS):
            lock = evict.lock_of(self.root, draft.name.partition("-")[0], evict.BUILD)
            with suppress(OSError):  # a disk that knows no locks cannot say who is at work
                if lock.take():
                    shutil.rmtree(draft, ignore_errors=True)
            lock.release()
        self.marks.sweep()

    def close(self) -> None:
        """Lets what this process holds be evicted."""
        self._store.close()
        self._known.clear()

    # How.

    def _place(self, key: str) -> Path:
        return self.root / KIND / key

    def _found(self, key: str) -> Path | None:
        """Returns a key's content if every file is as it was written."""
        kept = Folder(self._place(key))
        if not _is_dir(kept.path):
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
        if not self._swept:  # a node that runs no driver has nobody else to do so
            self.sweep()
        content, kept = self._draft(key)
        began, start, done = time.monotonic(), self.marks.begun(key, stage), False
        try:
            build(content)
            done, seconds = True, round(time.monotonic() - began, 3)
            made = self._kept(key, content, stage, about, seconds) if kept else content
            self.marks.put(f"{key}.{uuid.uuid4().hex}.built", stage=stage, seconds=seconds)
            return made
        except Exception as error:
            if not (done and isinstance(error, OSError)):  # a disk that is full is no fault of the stage's
                self.marks.put(f"{key}.failed", message=str(error) or type(error).__name__)
            raise
        finally:
            if start is not None:
                with suppress(OSError):
                    start.unlink(missing_ok=True)
            if kept:
                shutil.rmtree(content.parent, ignore_errors=True)

    def _draft(self, key: str) -> tuple[Path, bool]:
        """Returns a folder to build in, and whether what is built there can be kept."""
        draft = self.root / DRAFTS / f"{key}-{uuid.uuid4().hex}"
        try:
            (draft / CONTENT).mkdir(parents=True)
            return draft / CONTENT, True
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            self._note(_not_kept(self.root, error.strerror or str(error)))
            return self._of_our_own(), False

    def _of_our_own(self) -> Path:
        """Returns an empty folder that goes with this process."""
        self._own = self._own or tempfile.TemporaryDirectory(prefix="alphasweep-outputs-")
        return Path(tempfile.mkdtemp(dir=self._own.name))

    def _kept(self, key: str, content: Path, stage: str, about: Mapping[str, Any], seconds: float) -> Path:
        """Puts what was built among the outputs; where that cannot be done, where this process alone has it."""
        said = {
            "format": _FORMAT,
            "key": key,
            "kind": KIND,
            "spec": {"stage": stage, **about},
            "columns": [],
            "symbols": [],
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "stage": stage,
            "seconds": seconds,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "session": self.session,
            "build": uuid.uuid4().hex,
        }
        try:
            said["files"] = sealed(content)
            written(content.parent / ABOUT, said)
            made, ours = self._published(key, content.parent)
        except OSError as error:
            reason = error.strerror or str(error)
            self._note(f"{self.root}: {stage or key} was built and could not be kept ({reason}); other processes build it again.")
            return Path(shutil.move(content, self._of_our_own() / CONTENT))
        if ours and (one := built_of(said)) is not None:
            with suppress(OSError):
                record(self.root, made.parent.parent, one)
        if evict.total(self.root) > self._store.limit:
            self._store.collect()
            if evict.total(self.root) > self._store.limit:
                self._note(f"{self.root} holds more than the {amount(self._store.limit)} it may: what is left is in use.")
        return made

    def _published(self, key: str, draft: Path) -> tuple[Path, bool]:
        """Returns the content of a key, and whether it is the draft's."""
        place = self._place(key)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            if (found := self._found(key)) is not None:  # on a disk without locks another process may have built the same
                return found, False
            Folder(place).discard(self.root)
        sync_folder(draft)
        os.rename(draft, place)
        with suppress(OSError):
            sync_folder(place.parent)
        return place / CONTENT, True

    def _refuse(self, key: str, *, alone: bool = False) -> None:
        """Raises what is known of a key in this session; what is left of its builders means something to who alone builds only."""
        for path in self.marks.find(f"{key}.failed"):
            raise CacheError(_message(path))
        if alone and len(self.marks.lost(key)) >= MOST_LOST:
            raise CacheError(f"building this output ({key[:8]}) killed its worker twice; it is not tried again in this run")

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
            self.marks.put(f"{uuid.uuid4().hex}.note", message=sentence)


@contextmanager
def session_of(store: Store) -> Iterator[DiskOutputs]:
    """Begins a session, in which workers share outputs and what failed, and forgets at its end what it remembered.

    Args:
        store: Whose root and limit to keep outputs under.

    Yields:
        What to offer to the driver and to workers; after the end it still answers `use`, of which nothing changes any more.
    """
    outputs = _Session(store.root, store.limit, uuid.uuid4().hex)
    outputs.shut = outputs.marks.begin()
    outputs.sweep()
    try:
        yield outputs
    finally:
        outputs.last = outputs.use()
        outputs.close()
        outputs.marks.forget()


class _Session(DiskOutputs):
    """A driver's.

    Attributes:
        last: What was had, once it is over.
        shut: Why the cache cannot be written.
    """

    last: OutputUse | None = None
    shut = ""

    def use(self) -> OutputUse:
        if self.last is not None:
            return self.last
        use = super().use()
        # Who asks for no outputs need not hear of it; where nothing is remembered, nobody knows whether anybody asks.
        if self.shut and (use.used or self.marks.mute):
            use = replace(use, notes=tuple(dict.fromkeys([_not_kept(self.root, self.shut), *use.notes])))
        return use


def _not_kept(root: Path, reason: str) -> str:
    return f"{root}: outputs are not kept ({reason}); each process builds its own. Set ALPHASWEEP_CACHE to a folder that can be written."


def _key(mark: Path) -> str:
    return mark.name.partition(".")[0]


def _message(mark: Path) -> str:
    return str(told(mark).get("message", "it failed before in this run"))


def _seconds(said: Mapping[str, Any]) -> float:
    return float(said.get("seconds", 0.0))


def _counted(marks: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return dict(Counter(str(said.get("stage", "")) for said in marks))


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # not for us
        return False

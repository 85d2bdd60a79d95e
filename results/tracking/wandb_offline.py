"""Offline folders of W&B: reading a run back from its transaction log, and which of several folders is the one to keep.

The log (wandb 0.31) is LevelDB's: a header of 7 bytes, blocks of 32 KiB with chunks of checksum, length and kind, and in them records of
the client's own protocol. What a kill left torn at the end is not read.
"""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from wandb.proto import wandb_internal_pb2 as protocol

from results.tracking.wandb_tables import COUNTS, X_AXIS, board_of, digest, entry_of, nothing, paths_of, whole

SYNCED: Final = ".synced"  # beside a log; `wandb sync` leaves such a run out
_BLOCK: Final = 32768
_HEADER: Final = struct.Struct("<4sHB")
_CHUNK: Final = struct.Struct("<IHB")


def records(log: Path) -> Iterator[Any]:
    """Yields the records of a transaction log, up to where it is torn.

    Raises:
        ValueError: It is no such log, or is damaged before its end.
    """
    data = log.read_bytes()
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[:2] != (b":W&B", 0xBEE1):
        raise ValueError(f"{log} is no W&B transaction log")
    at, body = _HEADER.size, b""
    while at + _CHUNK.size <= len(data):
        if (left := _BLOCK - at % _BLOCK) < _CHUNK.size:
            at += left
            continue
        checksum, length, kind = _CHUNK.unpack_from(data, at)
        if kind == 0 and length == 0:
            at += left
            continue
        part = data[at + _CHUNK.size : at + _CHUNK.size + length]
        if len(part) < length:
            return
        if zlib.crc32(part, zlib.crc32(bytes([kind]))) != checksum:
            if at + _CHUNK.size + length >= len(data):
                return  # the last chunk, not all of it written
            raise ValueError(f"{log} is damaged at byte {at}")
        at += _CHUNK.size + length
        body = part if kind in (1, 2) else body + part  # 1 whole, 2 first, 3 middle, 4 last
        if kind in (1, 4):
            record: Any = protocol.Record()  # type: ignore[attr-defined]
            record.ParseFromString(body)
            yield record


def _put(target: dict[str, Any], items: Any) -> None:
    for item in items:
        place, names = target, list(item.nested_key) or [item.key]
        for name in names[:-1]:
            place = place.setdefault(name, {})
        place[names[-1]] = json.loads(item.value_json)


def read(log: Path) -> dict[str, Any]:
    """Returns what a run's log holds: run, group, kind, config, history, summary, artifacts (name, entries, digest), files, exit."""
    found: dict[str, Any] = {"history": [], "summary": {}, "config": {}, "artifacts": [], "files": [], "exit": None, "run": "", "kind": ""}
    for record in records(log):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found |= {"run": record.run.run_id, "group": record.run.run_group, "kind": record.run.job_type, "name": record.run.display_name}
            _put(found["config"], record.run.config.update)
        elif kind == "config":
            _put(found["config"], record.config.update)
        elif kind == "summary":
            _put(found["summary"], record.summary.update)
        elif kind == "history":
            found["history"].append({})
            _put(found["history"][-1], record.history.item)
        elif kind == "artifact":
            entries = {one.path: one.local_path for one in record.artifact.manifest.contents}
            found["artifacts"].append({"name": record.artifact.name, "entries": entries, "digest": record.artifact.digest})
        elif kind == "files":
            found["files"] += [file.path for file in record.files.files]
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    found["config"].pop("_wandb", None)
    return found


def runs(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns what the runs in a folder hold, by id."""
    found = {}
    for log in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        one = read(log)
        files = log.parent / "files"
        if one["run"]:
            one["files"] = [name for name in one["files"] if (files / name).is_file()]
            one["history"] = [{k: v for k, v in row.items() if k == "_step" or not k.startswith("_")} for row in one["history"]]
            found[one["run"]] = one
    return found


def held(folder: Path, run: str, artifact: str) -> dict[str, Any]:
    """Returns what a folder holds of a study, as `results.tracking.wandb_readback.Server.held` does of a server."""
    there = runs(folder)
    prefix = f"{run}-t"
    trials = {}
    for name, one in there.items():
        if name.startswith(prefix) and one["kind"] == "trial":
            lines = len(one["history"])
            ended = one["exit"] is not None and one["summary"].get("reports") == lines
            trials[name.removeprefix(prefix)] = {"run": name, "found": True, "lines": lines, "whole": ended, **_of(one)}
    study = there.get(run)
    if study is None:
        return nothing(run, trials)
    kept = [one["digest"] for one in study["artifacts"] if one["name"] == artifact and _present(one["entries"])]
    state = {None: "running", 0: "finished"}.get(study["exit"], "failed")
    rest = {"increments": _increments(study), "files": study["files"], "kept": kept, "trials": trials}
    return {"run": run, "found": True, "state": state, **_of(study), **rest}


def look(folder: Path, run: str, artifact: str) -> dict[str, Any]:
    """Returns how much a folder holds, as `results.tracking.wandb_readback.Server.look` does of a server."""
    there = held(folder, run, artifact)
    paths, counts = whole(there["summary"], [one["entry"] for one in there["increments"] if one["digest"] is not None])
    done = [row.get(X_AXIS) if row.get("_step") == n else None for n, row in enumerate(there["history"])]
    found = {"run": run, "next": len(done), "found": there["found"], "kept": there["kept"], "trials": there["trials"]}
    return {**found, "done": done, "paths": paths, "counts": counts, "board": board_of(there["summary"], there["files"])}


def _of(one: Mapping[str, Any]) -> dict[str, Any]:
    return {"history": one["history"], "summary": one["summary"], "config": one["config"]}


def _present(entries: Mapping[str, str]) -> bool:
    return all(Path(path).is_file() for path in entries.values())


def _entries(study: Mapping[str, Any]) -> dict[str, str]:
    return {name: path for one in study["artifacts"] for name, path in one["entries"].items() if Path(path).is_file()}


def _increments(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries, counts, found = _entries(study), study["summary"].get(COUNTS) or [], []
    for n, path in enumerate(paths_of(study["summary"])):
        entry = entry_of(path)
        if entry not in entries:
            found.append({"entry": entry, "rows": counts[n] if n < len(counts) else 0, "digest": None})
            continue
        rows = json.loads(Path(entries[entry]).read_text())["data"]
        found.append({"entry": entry, "rows": len(rows), "digest": digest(rows)})
    return found


def size(folder: Path, run: str) -> tuple[int, int, int]:
    """Returns how many points, rows and whole runs of trials a folder holds of a study."""
    try:
        there = runs(folder)
    except (OSError, ValueError):
        return 0, 0, 0
    trials = sum(one["exit"] is not None for name, one in there.items() if name != run)
    study = there.get(run)
    return (0, 0, trials) if study is None else (len(study["history"]), sum(whole(study["summary"], _entries(study))[1]), trials)


class Folders:
    """Numbered folders below one, each a whole projection of a study; only one of them would be synchronised by `wandb sync`.

    Args:
        place: The folder they are in.
        run: Id of the study's run.
    """

    def __init__(self, place: Path, run: str) -> None:
        self._place, self._run = place, run
        self._former: Path | None = None
        self._wanted = (0, 0, 0)
        self._logs: list[Path] = []
        self.folder = place

    def begin(self) -> Path:
        """Returns a new folder. Of the former ones the fullest is kept until the new one holds as much."""
        former = folders(self._place)
        sizes = {folder: size(folder, self._run) for folder in former}
        self._former = max(former, key=lambda folder: (sizes[folder], folder.name), default=None)
        for folder in former:
            if folder != self._former:
                shutil.rmtree(folder, ignore_errors=True)
        if self._former is not None:
            self._wanted = sizes[self._former]
            for marker in self._former.glob(f"wandb/offline-run-*/*{SYNCED}"):
                marker.unlink()
        number = max((int(folder.name) for folder in former), default=0) + 1
        self.folder = self._place / f"{number:04d}"
        self.folder.mkdir(parents=True)
        return self.folder

    def started(self, log: Path) -> None:
        """Takes note of a run's log; as long as there is a former folder `wandb sync` is to leave the new one out."""
        self._logs.append(log)
        if self._former is not None:
            log.with_name(log.name + SYNCED).touch()

    def settle(self, points: int, rows: int, trials: int) -> bool:
        """Takes the former folder away if the new one holds as much; returns whether there is one folder only.

        Args:
            points, rows, trials: Written to the new one; what it holds is read back only once these are enough.
        """
        if self._former is None:
            return True
        given = (points, rows, trials)
        if any(new < old for new, old in zip(given, self._wanted, strict=True)):
            return False
        if any(new < old for new, old in zip(size(self.folder, self._run), self._wanted, strict=True)):
            return False
        shutil.rmtree(self._former, ignore_errors=True)
        self._former = None
        for log in self._logs:
            log.with_name(log.name + SYNCED).unlink(missing_ok=True)
        return True


def folders(place: Path) -> list[Path]:
    """Returns the numbered folders, in order."""
    return sorted(folder for folder in place.glob("[0-9]*") if folder.is_dir() and folder.name.isdigit()) if place.is_dir() else []

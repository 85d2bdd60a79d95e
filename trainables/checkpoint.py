"""A training's checkpoint on disk: weights, the optimiser's moments, and a manifest that makes them one. Needs no torch.

Moments are twice as large as the weights and only there to go on from; in a file of their own they can be dropped, once a trial
has ended, without a byte of the weights being read or written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from trainables.contract import TrainableError

MANIFEST: Final = "checkpoint.json"
_FORMAT: Final = 2
_PARTS: Final = ("weights", "moments")


class CheckpointError(TrainableError):
    """A checkpoint that is missing, damaged, or of another run; the message names it."""


def write(folder: str | Path, body: Mapping[str, Any], weights: bytes, moments: bytes) -> None:
    """Writes a checkpoint; until it is complete, one that is in the folder already stays the valid one.

    Args:
        folder: Of this run.
        body: What the manifest is to say; `step` is in the names of the files.
        weights: A safetensors file.
        moments: Another.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    parts: dict[str, dict[str, str]] = {}
    for part, data in zip(_PARTS, (weights, moments), strict=True):
        digest = _digest(data)
        parts[part] = {"file": f"{part}-{body['step']:08d}-{digest[:12]}.safetensors", "digest": digest}
        _replace(place / parts[part]["file"], data)
    # The manifest is what makes a checkpoint: it is replaced last, and in one go.
    whole = {"format": _FORMAT, **body, **parts}
    _seal(place, whole)
    _sweep(place, whole)


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Reads what `write` was told, with `weights` and `moments`: name and digest of a file each, None for moments that were dropped.

    Raises:
        CheckpointError: Missing, damaged, or of another version.
    """
    place = Path(folder)
    path = place / MANIFEST
    try:
        found = json.loads(path.read_bytes())
        body = {key: value for key, value in found.items() if key != "digest"}
        whole = found["digest"] == _digest(_canonical(body))
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {place}: there is none (no {MANIFEST})") from error
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {place}: {MANIFEST} is damaged or cut off; start the run anew") from error
    if not whole:
        raise CheckpointError(f"checkpoint {place}: {MANIFEST} is damaged (its checksum differs); start the run anew")
    if body["format"] != _FORMAT:
        raise CheckpointError(f"checkpoint {place}: format {body['format']}, this version reads {_FORMAT}; start the run anew")
    return body


def read_part(folder: str | Path, body: Mapping[str, Any], part: str) -> bytes:
    """Reads the file of a checkpoint's `weights` or `moments`.

    Raises:
        CheckpointError: Missing, damaged, or dropped.
    """
    place, stored = Path(folder), body[part]
    if stored is None:
        raise CheckpointError(f"checkpoint {place}: its {part} were dropped when its trial had ended; start the run anew")
    try:
        data = (place / stored["file"]).read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {place}: {stored['file']} cannot be read ({error.strerror}); start the run anew") from error
    if _digest(data) != stored["digest"]:
        raise CheckpointError(f"checkpoint {place}: {stored['file']} is damaged (its checksum differs); start the run anew")
    return data


def drop_moments(folder: str | Path) -> None:
    """Drops the moments of a checkpoint: it can be exported as before, and not be gone on from.

    Does nothing where they were dropped before, or there is no checkpoint.

    Raises:
        CheckpointError: Damaged, or of another version; then all of it stays.
        OSError: The folder cannot be written.
    """
    place = Path(folder)
    if not (place / MANIFEST).exists():
        return
    body = read_manifest(place)
    if body["moments"] is not None:
        body["moments"] = None
        _seal(place, body)
    _sweep(place, body)


class Resumes(Protocol):
    """A training that takes up its own checkpoint."""

    def load(self, folder: str | Path) -> None:
        """Takes it up, or raises a `CheckpointError`."""
        ...


def resume(run: Resumes, folder: Path) -> str:
    """Takes up a checkpoint if there is one; one that is damaged or lacks its moments is left behind, and the note says so."""
    if not (folder / MANIFEST).exists():
        return ""
    try:
        run.load(folder)
    except CheckpointError as error:
        shutil.rmtree(folder)
        return f"trained again from the first step: {error}"
    return ""


def fold_folder(folder: Path, k: int) -> Path:
    """Returns the folder of a trial's fold, counted from 0."""
    return folder / f"fold-{k + 1}"


def write_json(path: Path, body: Any) -> None:
    """Writes a small file that is there whole or not at all."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(json.dumps(body))
    os.replace(draft, path)


def _seal(place: Path, body: Mapping[str, Any]) -> None:
    _replace(place / MANIFEST, json.dumps({**body, "digest": _digest(_canonical(body))}, indent=1).encode())


def _sweep(place: Path, body: Mapping[str, Any]) -> None:
    """Removes files of earlier checkpoints, and what a crash left of one."""
    kept = {body[part]["file"] for part in _PARTS if body[part] is not None}
    for part in _PARTS:
        for path in place.glob(f"{part}-*.safetensors*"):
            if path.name not in kept:
                path.unlink(missing_ok=True)


def _replace(path: Path, data: bytes) -> None:
    """Writes a file so that after a crash it is there whole or not at all."""
    temporary = path.with_name(path.name + f".{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()

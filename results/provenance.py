"""Where a session's results come from: versions, machine, source commit. Never environment variables."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from results.secrets import redacted

PACKAGES: Final = (
    "alphasweep",
    "arch",
    "chronos-forecasting",
    "exchange_calendars",
    "numba",
    "numpy",
    "optuna",
    "pandas",
    "peft",
    "pyarrow",
    "ray",
    "scikit-learn",
    "scipy",
    "SQLAlchemy",
    "torch",
    "transformers",
    "wandb",
)
_GIT_SECONDS: Final = 20.0


def collect(repo: Path | None = None) -> dict[str, Any]:
    """Return what is needed to tell whether two sessions ran the same thing in the same place.

    Args:
        repo: A folder in the source checkout; None leaves git out.

    Returns:
        "packages" (name to version, installed ones only), "python", "platform", "host", "pid", "command", and "git":
        None, or "commit" (None before the first commit), "dirty", and "dirty_sha256": hash of the uncommitted changes to
        tracked files and of the names and contents of untracked ones, None when clean.
    """
    return {
        "packages": _versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": [redacted(word) for word in (Path(sys.argv[0]).name, *sys.argv[1:])] if sys.argv else [],
        "git": None if repo is None else _git_state(Path(repo)),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git_state(repo: Path) -> dict[str, Any] | None:
    top = _git(repo, "rev-parse", "--show-toplevel")
    if top is None:
        return None
    root = Path(os.fsdecode(top).rstrip("\n"))
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    changes = _git(root, "diff", "HEAD", "--binary") if commit else b""
    untracked = [name for name in (_git(root, "ls-files", "--others", "--exclude-standard", "-z") or b"").split(b"\0") if name]
    dirty = bool(changes or untracked)
    return {
        "commit": commit.decode().strip() if commit else None,
        "dirty": dirty,
        "dirty_sha256": _digest(root, changes or b"", untracked) if dirty else None,
    }


LARGEST_HASHED = 1 << 20  # bytes


def _digest(root: Path, changes: bytes, untracked: list[bytes]) -> str:
    digest = sha256(changes)
    for name in sorted(untracked):
        digest.update(b"\0" + name + b"\0")
        file = root / os.fsdecode(name)
        try:
            if (size := file.stat().st_size) > LARGEST_HASHED:  # data beside the code: its name and size must do
                digest.update(str(size).encode())
                continue
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError:  # vanished, or a link to nowhere: its name is in the hash
            continue
    return digest.hexdigest()


def _git(folder: Path, *arguments: str) -> bytes | None:
    """Run git read-only; None when there is no git, no repository or no answer in time."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None

"""Where something is kept for a user without a home."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def own_folder() -> Path:
    """Returns a folder among temporary ones that nobody else can read or write, made if need be.

    Raises:
        PermissionError: Somebody else has put something under its name.
    """
    folder = Path(tempfile.gettempdir()) / f"alphasweep-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    there = os.lstat(folder)
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else. Set XDG_CACHE_HOME to a folder of your own.")
    if there.st_mode & 0o077:
        folder.chmod(0o700)
    return folder

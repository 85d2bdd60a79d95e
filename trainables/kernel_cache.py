"""Where compiled kernels are kept: in a folder named by the source of all of them.

Numba recompiles a kernel when the file it is in changes, not when a function it calls in another file does; after an update of
the sources a stale kernel would go on giving the old rules' results under the new rules' name.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numba

_config: Any = numba.config  # its attributes are made at import


@contextmanager
def kernels_of(folder: Path) -> Iterator[None]:
    """Makes kernels defined in this context (by importing their modules) use a cache of their own; other code's is left alone."""
    source = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    name = f"kernels-{blake2b(source, digest_size=8).hexdigest()}"
    before = _config.CACHE_DIR
    try:
        base = Path(before) if before else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alphasweep"
        (base / name).mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # not for us to write, or a user without a home
        # Of this process alone: what another user could have put under a known name is never run.
        base = Path(tempfile.mkdtemp(prefix="alphasweep-"))
        (base / name).mkdir()
    _config.CACHE_DIR = str(base / name)
    try:
        yield
    finally:
        _config.CACHE_DIR = before

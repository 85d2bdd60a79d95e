"""Compiled kernels of the tests live in a folder named by the kernels' source.

Numba notices a change of the file a kernel is in, not of what it calls in other files; a stale kernel would pass or fail for
code that is no longer there.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = b"".join(path.read_bytes() for path in sorted((ROOT / "trainables").rglob("*.py")))
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".numba_cache" / hashlib.sha256(SOURCE).hexdigest()[:12]))

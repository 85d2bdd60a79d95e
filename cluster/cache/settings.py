"""Where derived tables are kept and how many bytes of them, unless somebody says otherwise."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from cluster.cache.own import own_folder
from cluster.cache.records import CacheError

ROOT_VARIABLE: Final = "ALPHASWEEP_CACHE"
LIMIT_VARIABLE: Final = "ALPHASWEEP_CACHE_LIMIT"
LIMIT: Final = 20_000_000_000
_UNITS: Final = {"": 1, "B": 1} | {
    f"{p}{b}": m ** (i + 1) for i, p in enumerate("KMGT") for b, m in (("B", 1000), ("", 1000), ("IB", 1024))
}


def default_root() -> Path:
    """Returns $ALPHASWEEP_CACHE, else alphasweep/tables in $XDG_CACHE_HOME or ~/.cache.

    Raises:
        CacheError: The user has no home, and somebody else has what would be used instead.
    """
    if named := os.environ.get(ROOT_VARIABLE):
        return Path(named).expanduser().absolute()
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alphasweep"
    except RuntimeError:  # a user without a home, as in some containers
        try:
            base = own_folder()
        except OSError as error:
            raise CacheError(f"{error} {ROOT_VARIABLE} says where tables are kept.") from None
    return base.absolute() / "tables"


def default_limit() -> int:
    """Returns $ALPHASWEEP_CACHE_LIMIT in bytes, else 20 GB."""
    text = os.environ.get(LIMIT_VARIABLE)
    return size(text, LIMIT_VARIABLE) if text else LIMIT


def size(text: str, where: str) -> int:
    """Returns bytes from a text such as "20GB", "1.5 TB", "512MiB" or "1000000".

    Raises:
        CacheError: It is none; `where` says who gave it.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?B?)", text.strip().upper())
    if match is None or match[2] not in _UNITS:
        raise CacheError(f"{where}: {text!r} is not a size. Write it as 20GB, 500MB, 1.5TB or a number of bytes.")
    return int(float(match[1]) * _UNITS[match[2]])


def amount(count: int) -> str:
    """Returns bytes as people read them, "6.9 MB" say."""
    value, units = float(count), iter(("B", "kB", "MB", "GB"))
    for unit in units:
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"

"""What a container may use: the CPU and memory limits of this process's control groups, of Linux's version 1 and 2.

A quota is not an affinity: a container limited to two CPUs of a machine of 64 sees 64 cores and may be on any of them, but gets two seconds
of computing a second. As many workers as it sees cores would only slow each other down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")
ROOT: Final = Path("/")
_NONE: Final = 1 << 60  # bytes; version 1 writes no memory limit as a number near 2⁶³


@dataclass(frozen=True)
class Memory:
    """A memory limit.

    Attributes:
        limit: Bytes.
        used: Bytes that cannot be had back; file pages that are not in use can.
    """

    limit: int
    used: int


def cpus(root: Path = ROOT) -> float | None:
    """Returns the CPUs this process's groups may use at a time, such as 1.5; None for no limit.

    Args:
        root: Under which /proc and /sys lie.
    """
    found = [quota for place in _groups(root, "cpu") if (quota := _cpu_quota(place)) is not None]
    return min(found, default=None)


def workers(cores: int, root: Path = ROOT) -> int:
    """Returns how many workers are of use on so many cores: fewer where a quota leaves no time for more, and at least one."""
    quota = cpus(root)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def memory(root: Path = ROOT) -> Memory | None:
    """Returns the memory limit that leaves least; None for none.

    Args:
        root: Under which /proc and /sys lie.
    """
    found = [limit for place in _groups(root, "memory") if (limit := _memory_limit(place)) is not None]
    return min(found, key=lambda each: each.limit - each.used, default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yields the folders of this process's group and of those it lies in, innermost first, as far as they can be seen."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        # Version 2 has one tree, beside those of version 1 it may lie in a folder of its own.
        for top in [mounts, mounts / "unified"] if not names else [mounts / names, mounts / controller]:
            inner = top / path.strip("/")
            # In a container the path may be that of the machine outside, of which nothing but its own group is to be seen, as the top.
            yield from (place for place in (inner, *inner.parents) if place == top or top in place.parents)


def _cpu_quota(place: Path) -> float | None:
    # Version 2: "150000 100000", or "max 100000".
    if share := _read(place / "cpu.max", lambda text: int(text.split()[0]) / int(text.split()[1])):
        return share
    quota, period = _read(place / "cpu.cfs_quota_us", int), _read(place / "cpu.cfs_period_us", int)
    return quota / period if quota and period and quota > 0 else None


def _memory_limit(place: Path) -> Memory | None:
    limit = _read(place / "memory.max", int) or _read(place / "memory.limit_in_bytes", int)  # "max" is no number
    if limit is None or limit >= _NONE:
        return None
    used = _read(place / "memory.current", int) or _read(place / "memory.usage_in_bytes", int) or 0
    stat = _read(place / "memory.stat", lambda text: dict(line.split() for line in text.splitlines())) or {}
    return Memory(limit, max(0, used - int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))))


def _read(path: Path, parse: Callable[[str], T]) -> T | None:
    try:
        return parse(path.read_text())
    except (OSError, ValueError):
        return None

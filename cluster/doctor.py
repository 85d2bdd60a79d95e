"""Whether a machine is fit to run studies: what was found, and what to do where something is missing."""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from cluster import quotas
from cluster.lanes import allowed_cores, visible_cards

State = Literal["ok", "warning", "failed"]
CONSTRAINTS: Final = Path(__file__).parents[1] / "constraints.txt"  # of a checkout; a wheel has none
_GIB: Final = 1 << 30
_LEAST_MEMORY, _LEAST_DISK, _LEAST_SHARED = 4 * _GIB, 2 * _GIB, _GIB // 2
_FILES: Final = 4096  # open files a driver with a few hundred workers needs
_SECONDS: Final = 3.0  # to wait for a server


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: Such as "memory".
        state: ok, warning: studies run, but; failed: they do not.
        found: In words.
        todo: What to do; empty where there is nothing.
    """

    what: str
    state: State
    found: str
    todo: str = ""


def examine(folder: Path, ledger: str = "", address: str | None = None, root: Path = quotas.ROOT) -> Iterator[Finding]:
    """Yields what was found, one at a time; nothing is changed but for files that are written and removed.

    Args:
        folder: Where studies are to live.
        ledger: PostgreSQL URL of a shared ledger; empty for none.
        address: A Ray cluster; None for a local one.
        root: Under which /proc and /sys tell the limits of control groups.
    """
    checks: dict[str, Callable[[], Finding]] = {
        "Python": _python,
        "packages": _versions,
        "cores": lambda: _cores(root),
        "memory": lambda: _memory(root),
        "shared memory": _shared_memory,
        "disk": lambda: _disk(folder),
        "disk speed": lambda: _syncs(folder),
        "open files": _files,
        "cards": _cards,
        "Ray": lambda: _ray(address),
        "ledger": lambda: _ledger(ledger),
        "W&B": _wandb,
    }
    for name, check in checks.items():
        try:
            yield check()
        except Exception as error:  # a check that breaks must not hide the others
            yield Finding(name, "failed" if isinstance(error, ValueError) else "warning", f"could not be looked at: {error}")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    inside = sys.prefix != sys.base_prefix
    return Finding("Python", "ok", f"{version} in {sys.prefix}{'' if inside else ' (no virtual environment)'}")


def _versions() -> Finding:
    if not CONSTRAINTS.is_file():
        return Finding("packages", "ok", "no constraints.txt beside this installation to compare with")
    wanted = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if re.fullmatch(r"[\w.\-]+==\S+", line))
    other = []
    for name, version in wanted.items():
        try:
            there = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # of an extra that is not installed
        if there.split("+")[0] != version.split("+")[0]:
            other.append(f"{name} {there} (tested: {version})")
    if other:
        todo = f"pip install -c {CONSTRAINTS.name} … installs the tested ones"
        return Finding(
            "packages", "warning", f"{len(other)} others than tested: {', '.join(other[:4])}{' …' if len(other) > 4 else ''}", todo
        )
    return Finding("packages", "ok", f"as tested ({CONSTRAINTS.name})")


def _cores(root: Path) -> Finding:
    cores, there = len(allowed_cores()), os.cpu_count() or 1
    found = f"{cores} of {there} may be used" if cores < there else f"{cores}"
    quota = quotas.cpus(root)
    if quota is None or quota >= cores:
        return Finding("cores", "ok", found)
    some = quotas.workers(cores, root)
    found += f", a quota of the time of {quota:.3g} (cgroup): {some} {'worker' if some == 1 else 'workers'} at once"
    if quota < 1.0:
        return Finding("cores", "warning", found, "give the container a whole CPU or more, such as docker run --cpus=2")
    return Finding("cores", "ok", found)


def _memory(root: Path) -> Finding:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(lines[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    quota = quotas.memory(root)
    if quota is not None and quota.limit < total:
        total, free = quota.limit, min(free, quota.limit - quota.used)
    found = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free{'' if quota is None or quota.limit > total else ', the limit of a cgroup'}"
    if free < _LEAST_MEMORY:
        return Finding("memory", "warning", found, "a worker takes about 0.4 GiB, with Chronos-2 0.8: use fewer (--slots), or free some")
    return Finding("memory", "ok", found)


def _shared_memory() -> Finding:
    place = Path("/dev/shm")
    if not place.is_dir():
        return Finding("shared memory", "warning", "no /dev/shm", "Ray puts shared objects into a file in its place, which is slow")
    usage = shutil.disk_usage(place)
    found = f"{usage.free / _GIB:.1f} of {usage.total / _GIB:.1f} GiB free in {place}"
    if usage.free < _LEAST_SHARED:
        return Finding("shared memory", "warning", found, "give the container more, such as docker run --shm-size=4g; Ray is slow without")
    return Finding("shared memory", "ok", found)


def _disk(folder: Path) -> Finding:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return Finding("disk", "failed", f"{place} cannot be written", "give --dir a folder of your own")
    free = shutil.disk_usage(place).free
    found = f"{free / _GIB:.1f} GiB free for {folder}"
    if free < _LEAST_DISK:
        return Finding("disk", "warning", found, "a study of 100,000 trials with daily returns takes about 0.5 GiB: free some")
    return Finding("disk", "ok", found)


def _syncs(folder: Path) -> Finding:
    """Measures how long the disk takes to promise that a write is kept: each accepted pack waits for that."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    with tempfile.NamedTemporaryFile(dir=place) as file:
        began = time.perf_counter()
        for _ in range(10):
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        took = (time.perf_counter() - began) / 10
    found = f"{took * 1e3:.1f} ms to keep a write (fsync)"
    if took > 0.1:
        return Finding("disk speed", "warning", found, "each pack waits for that: put --dir on a local disk rather than a network's")
    return Finding("disk speed", "ok", found)


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        return Finding(
            "open files", "warning", f"at most {shown}", f"ulimit -n {min(hard, 65536) if hard > 0 else 65536} before a large run"
        )
    return Finding("open files", "ok", f"at most {shown}")


def _cards() -> Finding:
    cards = visible_cards()
    if not cards:
        return Finding("cards", "ok", "none: everything runs on the CPU")
    try:
        import torch
    except ImportError:
        return Finding("cards", "warning", f"{len(cards)}, but torch is not installed", "pip install -e '.[chronos]'")
    if not torch.cuda.is_available():
        return Finding(
            "cards", "warning", f"{len(cards)}, but torch {torch.__version__} sees none", "install a driver and a build of torch that match"
        )
    names = sorted({torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())})
    return Finding("cards", "ok", f"{torch.cuda.device_count()} × {', '.join(names)}")


def _ray(address: str | None) -> Finding:
    version = metadata.version("ray")
    if not address or address == "auto":
        return Finding("Ray", "ok", f"{version}; runs start a private one, on loopback")
    from cluster.session import ClusterError, check_address

    try:
        check_address(address)
    except ClusterError as error:
        return Finding("Ray", "failed", str(error), "or leave --cluster out")
    return Finding("Ray", "ok", f"{version}; a cluster answers at {address}")


def _ledger(url: str) -> Finding:
    if not url:
        return Finding("ledger", "ok", "a file in each study's folder (SQLite)")
    from results import pointer

    return Finding("ledger", "ok", f"{pointer.base_of(pointer.checked(url))}: {len(pointer.schemas(url))} studies")


def _wandb() -> Finding:
    try:
        version = metadata.version("wandb")
    except metadata.PackageNotFoundError:
        return Finding("W&B", "ok", "not installed; only `tracking: [wandb]` needs it")
    where = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    port = where.port or (443 if where.scheme == "https" else 80)
    try:
        socket.create_connection((where.hostname or "", port), timeout=_SECONDS).close()
    except OSError as error:
        return Finding(
            "W&B",
            "ok",
            f"{version}; {where.hostname} does not answer ({error}): runs are kept offline, alphasweep track sync sends them later",
        )
    key = "a key is set" if os.environ.get("WANDB_API_KEY") else "no WANDB_API_KEY here (a .netrc may have one)"
    return Finding("W&B", "ok", f"{version}; {where.hostname} answers; {key}")

"""Lanes: named slices of a machine. Whoever enters one sees its cores and cards, and so does everything it starts.

A lane is enforced by the kernel and by CUDA, not by agreement: cores by the affinity that child processes inherit, cards by
`CUDA_VISIBLE_DEVICES`, a share of a card by PyTorch's limit on its memory. So each lane runs a Ray of its own, started inside it: nothing
that one lane does, or dies of, reaches another.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cluster.quotas import workers

NAME: Final = "ALPHASWEEP_LANE"  # in the environment of everything that runs in a lane
CARDS: Final = "ALPHASWEEP_LANE_CARDS"  # how many Ray is told of: cards that are not there are logical ones
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
ALLOCATOR: Final = "PYTORCH_ALLOC_CONF"
_SHARE: Final = "per_process_memory_fraction:"
_NONE: Final = ("", "-1", "NoDevFiles")  # how the variable says that there is none
_PATIENCE: Final = 0.1  # seconds between looks whether a lane is free
_INSTANT: Final = 0.3  # seconds for which `holders` may be looking at one that is
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class LaneError(ValueError):
    """A lane cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Lane:
    """A slice of a machine.

    Attributes:
        name: What it is called.
        cores: Numbers of its cores, as the kernel counts them.
        cards: Numbers of its cards, as `nvidia-smi` lists them; none hides them all.
        share: Part of each card's memory that is its own.
    """

    name: str
    cores: tuple[int, ...]
    cards: tuple[int, ...] = ()
    share: float = 1.0

    def words(self) -> str:
        """Returns what it has, such as "cores 0-3, card 1 (half of its memory)"."""
        cores = f"{'core' if len(self.cores) == 1 else 'cores'} {ranges(self.cores)}"
        if not self.cards:
            return cores
        part = f", {self.share:.0%} of its memory" if self.share < 1.0 else ""
        return f"{cores}, {'card' if len(self.cards) == 1 else 'cards'} {ranges(self.cards)}{part}"

    @classmethod
    def from_json(cls, text: str) -> Lane:
        """Reads what `json.dumps(asdict(lane))` wrote."""
        given = json.loads(text)
        return cls(given["name"], tuple(given["cores"]), tuple(given["cards"]), given["share"])

    def environment(self) -> dict[str, str]:
        """Returns the variables that keep a process, and what it starts, in the lane."""
        there = _named_cards()
        made = {NAME: self.name, CARDS: str(len(self.cards)), VISIBLE: ",".join(there.get(card, str(card)) for card in self.cards)}
        if VISIBLE not in os.environ:
            made["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # CUDA counts the fastest card first otherwise, unlike nvidia-smi
        threads = str(workers(len(self.cores)))
        # Pools of threads are sized by the machine unless told; more threads than cores only wait for each other.
        made |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        if self.share < 1.0:
            others = [part for part in os.environ.get(ALLOCATOR, "").split(",") if part and not part.startswith(_SHARE)]
            made[ALLOCATOR] = ",".join([*others, f"{_SHARE}{self.share:g}"])
        return made


@dataclass(frozen=True)
class Holder:
    """Who is in a lane.

    Attributes:
        lane: Its name.
        study: What runs there.
        pid: The driver's process.
        since: Unix time.
        cores: Allowed by the kernel, as it lists them.
        cards: What its processes may see.
        busy: Cores in use now, on average over the measurement.
        processes: How many there are.
    """

    lane: str
    study: str
    pid: int
    since: float
    cores: str
    cards: str
    busy: float
    processes: int


def allowed_cores() -> tuple[int, ...]:
    """Returns the cores this process may be on."""
    return tuple(sorted(os.sched_getaffinity(0)))


def visible_cores() -> tuple[int, ...]:
    """Returns as many of the allowed cores as this process may keep busy: fewer where a container has a quota of computing time.

    Their number is that of workers to start. It is not to be pinned to: within a quota any allowed core will do.
    """
    cores = allowed_cores()
    return cores[: workers(len(cores))]


def visible_cards() -> tuple[int, ...]:
    """Returns the numbers of the cards this process may use, without the seconds torch or Ray would take to say it."""
    if VISIBLE in os.environ:
        return tuple(_named_cards())
    if (program := shutil.which("nvidia-smi")) is None:
        return ()
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(range(sum(line.startswith("GPU ") for line in listed.stdout.splitlines())))


def enter(lane: Lane) -> None:
    """Puts this process, and whatever it starts from now on, into a lane; there is no way out.

    Raises:
        LaneError: The machine does not have its cores.
    """
    if missing := set(lane.cores) - set(allowed_cores()):
        raise LaneError(f"lane {lane.name}: this process may not use {_cores(missing)}; there are {_cores(allowed_cores())}")
    if os.environ.get(NAME) != lane.name:  # whoever started this process may have put it there already
        os.environ.update(lane.environment())
    # Threads that libraries have started already go on elsewhere unless they are moved as well.
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # ended meanwhile
            os.sched_setaffinity(int(thread.name), lane.cores)


def cards_here() -> int | None:
    """Returns how many cards Ray is to be told of: those of the lane this process is in; None outside of lanes."""
    given = os.environ.get(CARDS)
    return None if given is None else int(given)


@contextmanager
def held(lane: Lane, study: str, *, wait: float = 0.0) -> Iterator[None]:
    """Holds a lane for a study, so that no other is put there meanwhile; the kernel gives it back if the process dies.

    Args:
        lane: Which.
        study: For whom, for people.
        wait: Seconds to wait for whoever is there; may be infinite.

    Raises:
        LaneError: It is taken, by whom.
    """
    descriptor = os.open(folder() / f"{lane.name}.json", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        end = time.monotonic() + max(wait, _INSTANT)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= end:
                    note = _note(descriptor)
                    who = f"{note['study']} (process {note['pid']})" if note else "another process"
                    raise LaneError(f"lane {lane.name} is taken by {who}; wait for it, or give another lane") from None
                time.sleep(_PATIENCE)
        os.ftruncate(descriptor, 0)
        note = {"study": study, "pid": os.getpid(), "since": time.time(), "cards": ranges(lane.cards)}
        os.pwrite(descriptor, json.dumps(note).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def holders(seconds: float = 0.5) -> list[Holder]:
    """Returns who is in which lane of this user, and what they use, measured for some seconds."""
    found = []
    for path in sorted(folder().glob("*.json")):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            if note := _note(descriptor):
                found.append((path.stem, note))
        finally:
            os.close(descriptor)
    if not found:
        return []
    before = {name: _used(name) for name, _ in found}
    started = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - started
    made = []
    for name, note in found:
        now = _used(name)
        ticks = sum(now[pid] - before[name].get(pid, now[pid]) for pid in now)
        pid, cards = int(note["pid"]), str(note.get("cards") or "–")
        made.append(Holder(name, str(note["study"]), pid, float(note["since"]), _allowed(pid), cards, ticks / _TICKS / took, len(now)))
    return made


def folder() -> Path:
    """Returns where this user's lanes are noted; a lane is a matter of the machine, not of a folder of studies or of a login.

    Raises:
        LaneError: Somebody else has put something under its name.
    """
    from cluster.cache.own import own_folder

    try:
        place = own_folder() / "lanes"
    except PermissionError as error:
        raise LaneError(f"{str(error).partition('. ')[0]}. Set TMPDIR to a folder of your own") from None
    place.mkdir(mode=0o700, exist_ok=True)
    return place


def ranges(numbers: Sequence[int]) -> str:
    """Returns numbers as people and the kernel write them: 0-3,8."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _cores(numbers: Sequence[int] | set[int]) -> str:
    return f"{'core' if len(numbers) == 1 else 'cores'} {ranges(sorted(numbers))}"


def _note(descriptor: int) -> dict[str, Any] | None:
    try:
        note = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return None
    return note if isinstance(note, dict) and {"study", "pid", "since"} <= note.keys() else None


def _used(lane: str) -> dict[int, int]:
    """Returns the clock ticks used so far by each process of a lane."""
    mark, holder, found = f"{NAME}={lane}".encode(), _holder_of(lane), {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes().split(b"\0") or int(place.name) == holder:
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                found[int(place.name)] = int(fields[11]) + int(fields[12])
        except OSError:
            continue  # gone, or another user's
    return found


def _holder_of(lane: str) -> int:
    """Returns the process that holds a lane: it entered after it began, and its environment is that of its beginning."""
    try:
        return int(json.loads((folder() / f"{lane}.json").read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return -1


def _allowed(pid: int) -> str:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return next(line.partition(":")[2].strip() for line in status.splitlines() if line.startswith("Cpus_allowed_list"))
    except (OSError, StopIteration):
        return "–"


def _named_cards() -> dict[int, str]:
    """Returns the cards that `CUDA_VISIBLE_DEVICES` leaves: number, and what it is called there; one called otherwise has its place."""
    names = [name.strip() for name in os.environ.get(VISIBLE, "").split(",")]
    return {int(name) if name.isdigit() else i: name for i, name in enumerate(names) if name not in _NONE}

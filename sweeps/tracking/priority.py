"""The lowest priority for a process and what it starts, also where the kernel shares the processor between sessions first.

On Linux with `sched_autogroup` (most desktops and virtual machines) each session has a share of its own, and nice values count only within
it: a process at nice 19 in a session of its own takes as much as a whole run. So the share of its session is lowered too, and that of every
session its children begin.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

LOWEST: Final = 19
NORMAL: Final = 0
_PROCESSES: Final = Path("/proc")


def lowest() -> None:
    """Gives this process the lowest priority; what it starts has it too."""
    os.nice(LOWEST)
    share(LOWEST)


def share(nice: int) -> None:
    """Sets the share of the sessions of this process and of those it has started, and these have.

    Args:
        nice: `LOWEST` or `NORMAL`; unlike a nice value it can be raised again.
    """
    for pid in (os.getpid(), *descendants(os.getpid())):
        place = _PROCESSES / str(pid) / "autogroup"
        with suppress(OSError):  # another system, or one that lets nobody change it so often
            if not place.read_text().endswith(f"nice {nice}\n"):
                place.write_text(str(nice))


def descendants(pid: int) -> Iterator[int]:
    """Yields the processes that a process has started, and those have; none where the system does not say."""
    with suppress(OSError):
        for thread in (_PROCESSES / str(pid) / "task").iterdir():
            with suppress(OSError):
                for child in (thread / "children").read_text().split():
                    yield int(child)
                    yield from descendants(int(child))

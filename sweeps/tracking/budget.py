"""What a process and all it has started may use of the processors beside a run: a share of them, saved up from the beginning.

A low priority is not enough: what runs in the moments a run leaves free shares caches and cores with it, and is in the way when it goes on.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Final

from cluster import quotas
from sweeps.tracking.priority import descendants

SHARE: Final = 0.02  # of the time of all processors
# Seconds of processor time that beginning takes, saved up before it is begun.
READS: Final = 0.5  # to ask whether a session is at work
TELLS: Final = 1.5  # to read the ledger for a tracker
CLIENT: Final = 3.0  # and to start a client that is large
_GLANCE: Final = 0.2  # seconds between looks at what is used
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PROCESSES: Final = Path("/proc")


class Budget:
    """Processor time saved up and used, in seconds, since a moment that `restart` sets anew.

    Args:
        share: Of the time of the processors this process may use; 0 or less is no bound.
    """

    def __init__(self, share: float = SHARE) -> None:
        # What a run is given, too: it and its writer are started with the same processors, and share a container's quota.
        cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        self._rate = share * min(cores, quotas.cpus() or cores)
        self._began, self._before = time.monotonic(), 0.0  # what starting the process took counts
        self._looked, self._used, self._promised = -_GLANCE, 0.0, 0.0
        self._guard = threading.Lock()

    def restart(self) -> None:
        """Forgets what was saved up and used."""
        with self._guard:
            self._began, self._before = time.monotonic(), used()
            self._looked, self._used, self._promised = -_GLANCE, 0.0, 0.0

    def allows(self, seconds: float = 0.0) -> bool:
        """Whether so much may be used now; if so, it is promised: what is allowed next has to be saved up beside it."""
        if self._rate <= 0.0:
            return True
        with self._guard:
            now = time.monotonic()
            if now - self._looked >= _GLANCE:  # asking costs something, too
                found = used() - self._before
                self._promised = max(0.0, self._promised - (found - self._used))  # part of it has been used meanwhile
                self._used, self._looked = found, now
            if (now - self._began) * self._rate - self._used - self._promised < seconds:
                return False
            self._promised += seconds
            return True


def used() -> float:
    """Returns the processor time of this process and those it has started, in seconds; of those still running where the system says."""
    own = sum(sum(getrusage(who)[:2]) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    ticks = 0
    for pid in descendants(os.getpid()):
        with suppress(OSError, ValueError, IndexError):  # it has ended: what it used is its parent's now
            after_name = (_PROCESSES / str(pid) / "stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, after_name[11:15]))  # its own, and of children it has waited for
    return own + ticks / _TICK

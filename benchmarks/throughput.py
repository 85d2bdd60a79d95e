"""Runs of the command in lanes, and how fast they were by what the ledger says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, Final, Self

import sqlalchemy as sa

from results import Ledger
from sweeps.home import LEDGER

_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Packs:
    """Accepted packs of a study in the order in which they ended.

    Attributes:
        ended: Unix times, ascending.
        sizes: Configurations of each.
    """

    ended: tuple[float, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, home: Path) -> Packs:
        """Reads them from a study's ledger."""
        with Ledger.open(home / LEDGER, readonly=True) as ledger:
            attempts = ledger.tables.attempts
            query = sa.select(attempts.c.ended, attempts.c.n).where(attempts.c.status == "accepted", attempts.c.worker == "")
            found = sorted((datetime.fromisoformat(row["ended"]).timestamp(), int(row["n"])) for row in ledger.rows(query))
        return cls(*map(tuple, zip(*found, strict=True)))

    def rate(self, at_once: int = 1) -> float:
        """Returns configurations per second from when every worker has delivered one pack to the last pack."""
        first = min(at_once, len(self.ended) - 1) - 1
        return sum(self.sizes[first + 1 :]) / (self.ended[-1] - self.ended[first])

    def overlap(self, other: Packs) -> float:
        """Returns for what share of the time of this study, from first to last pack, the other was busy as well."""
        both = min(self.ended[-1], other.ended[-1]) - max(self.ended[0], other.ended[0])
        return max(0.0, both) / (self.ended[-1] - self.ended[0])


def in_lanes(
    folder: Path, studies: Mapping[str, str], lanes: Mapping[str, Sequence[int]], trials: int, bars: int, options: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Runs studies at once by `alphasweep run STUDY@LANE …`.

    Args:
        folder: Where they are written.
        studies: Study (a library name or a file) to its lane.
        lanes: Lane to its cores.
        trials: Of each study.
        bars: Of each study's market.
        options: Further ones of the command.

    Returns:
        By study: `rate` (configurations/s while busy), `busy` (s from first to last pack), `run` (s, as it says itself), `wall` (s of
        the whole command), `evaluating` (s, summed over workers), `packs`, `home`, and `others` (cores that were not ours, on average
        over the command).
    """
    host = folder / "host.yaml"
    host.write_text("lanes:\n" + "".join(f"  {name}: {{cores: [{', '.join(map(str, numbers))}]}}\n" for name, numbers in lanes.items()))
    settings = ["--trials", str(trials), "--set", f"data.bars={bars}", "--dir", str(folder / "runs"), "--host", str(host), *options]
    command = [sys.executable, "-m", "sweeps.cli", "run", *(f"{study}@{lane}" for study, lane in studies.items()), *settings]
    began = time.monotonic()
    with Others() as others:
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    wall = time.monotonic() - began
    if ran.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{ran.stdout}")
    made = {}
    # Said by each in the order of the command.
    took = re.findall(r" packs?\) in ([\d.]+) s, workers busy for ([\d.]+) s", ran.stdout)
    for (study, lane), (seconds, evaluating) in zip(studies.items(), took, strict=True):
        home = folder / "runs" / Path(study).stem
        packs = Packs.of(home)
        rate, busy = packs.rate(len(lanes[lane])), packs.ended[-1] - packs.ended[0]
        made[study] = {"rate": rate, "busy": busy, "run": float(seconds), "wall": wall, "packs": len(packs.sizes), "home": str(home)}
        made[study] |= {"evaluating": float(evaluating), "others": others.cores}
    return made


class Others:
    """Measures how many cores were used, while inside, by processes that this one did not start, or by other machines (stolen).

    Attributes:
        cores: On average; known when it is over.
    """

    def __init__(self) -> None:
        self.cores = 0.0
        self._over = threading.Event()
        self._ours: dict[int, int] = {}

    def __enter__(self) -> Self:
        self._look()
        self._before, self._own, self._began = _machine_ticks(), sum(self._ours.values()), time.monotonic()
        self._thread = threading.Thread(target=self._keep_looking, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        ours = sum(self._ours.values()) - self._own
        self.cores = max(0.0, (_machine_ticks() - self._before - ours) / _TICKS / (time.monotonic() - self._began))

    def _keep_looking(self) -> None:
        while not self._over.wait(0.5):
            self._look()

    def _look(self) -> None:
        """Notes what this process and all below it have used so far; one that is gone keeps what was last seen."""
        parent, used = {}, {}
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                parent[int(place.name)], used[int(place.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
        for pid in used:
            above = pid
            while above in parent and above != os.getpid():
                above = parent[above]
            if above == os.getpid():
                self._ours[pid] = used[pid]


def _machine_ticks() -> int:
    """Returns the ticks in which any core of the machine worked, or was taken away from it."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return user + nice + system + irq + softirq + steal


def spread(ratios: Sequence[float]) -> str:
    """Says what several ratios are, in words."""
    return f"median {median(ratios):.3f} of {len(ratios)} (from {min(ratios):.3f} to {max(ratios):.3f})"

"""What tracking costs a run: a study of 100,000 packed configurations with a tracker and without, in turns.

Each run is a process of its own with its own Ray, in a folder of its own; the ratios are of wall times, and of the seconds that trials took
in their workers, of one pair, with the order of the two changing from pair to pair. The share of the processors that the writer took until
the end of the run is counted by the kernel, and says more than the ratios where the machine is not quiet. The writer is waited for after
the clock has stopped, so that it does not disturb the next run. The library's wide selector study on a month of hourly bars: evaluating is
cheap, so that tracking weighs the most.

    python benchmarks/tracking.py [--pairs 3] [--trials 100000] [--tracker wandb] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

STUDY = "selector_wide"


def one(folder: Path, trials: int, tracker: str, bars: int) -> dict[str, Any]:
    """Runs the study once; returns seconds, and what the writer says of itself."""
    from results import Ledger
    from sweeps import Study, run
    from sweeps.home import LEDGER
    from sweeps.runner import verify
    from sweeps.tracking.beside import LOG

    settings = [f"data.bars={bars}", f"search.trials={trials}", *([f"tracking=[{tracker}]"] if tracker else [])]
    began = time.monotonic()
    result = run(Study.load(STUDY, settings), folder)
    seconds, log = time.monotonic() - began, result.folder / "tracking" / LOG
    beside = taken(result.tracking.process.pid) if result.tracking is not None and result.tracking.process is not None else 0.0
    assert result.tally.done == trials and not result.tally.failed
    with Ledger.open(result.folder / LEDGER, readonly=True) as ledger:
        trials_took = float(ledger.frame()["seconds"].sum())
    made: dict[str, Any] = {"seconds": seconds, "packs": result.tally.packs, "trials": trials_took}
    made["beside"] = beside / (seconds * len(os.sched_getaffinity(0)))
    made["certificate"] = verify(result.folder).certificate
    if tracker and result.tracking is not None:
        began = time.monotonic()
        made["written"] = result.tracking.wait(600.0)
        made["after"], text = time.monotonic() - began, log.read_text()
        made["looks"] = int(re.findall(r"([\d,]+) looks at the ledger", text)[-1].replace(",", ""))
        made["cpu"] = float(re.findall(r"([\d.]+) s of processor time", text)[-1])
        made["told"] = re.findall(r"written: (.*);", text)[-1]
    return made


def taken(process: int) -> float:
    """Returns the processor time a process and those it has started have had so far, in seconds."""
    from sweeps.tracking.priority import descendants

    ticks = 0
    for pid in (process, *descendants(process)):
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def pair(number: int, given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Runs both, in an order that changes."""
    found = {}
    for tracker in ("", given.tracker) if number % 2 else (given.tracker, ""):
        with tempfile.TemporaryDirectory(dir=given.dir) as folder:
            command = [sys.executable, __file__, "--one", folder, "--trials", str(given.trials), "--bars", str(given.bars)]
            out = subprocess.run([*command, "--tracker", tracker], stdout=subprocess.PIPE, text=True, check=True).stdout
            found[tracker] = json.loads(out.splitlines()[-1])
    assert len({made["certificate"] for made in found.values()}) == 1, "tracking has changed results"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--bars", type=int, default=720)
    parser.add_argument("--tracker", default="wandb")
    parser.add_argument("--dir", help="where the studies are written; default the system's folder for temporary files")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(one(given.one, given.trials, given.tracker, given.bars)))
        return
    pairs = []
    for number in range(given.pairs):
        pairs.append(found := pair(number, given))
        plain, tracked = found[""], found[given.tracker]
        print(
            f"pair {number + 1}: {plain['seconds']:.1f} s without, {tracked['seconds']:.1f} s with {given.tracker}: "
            f"ratio {tracked['seconds'] / plain['seconds']:.3f}, of the trials' own seconds {tracked['trials'] / plain['trials']:.3f}; "
            f"the writer took {tracked['beside']:.1%} of the processors while it ran; "
            f"{tracked['packs']:,} packs, {tracked['looks']:,} looks at the ledger, "
            f"told {tracked['told']}, written {tracked['after']:.1f} s after the end, {tracked['cpu']:.1f} s of processor time",
            flush=True,
        )
    for what, words in (("seconds", "of wall times"), ("trials", "of the seconds that trials took")):
        ratios = [found[given.tracker][what] / found[""][what] for found in pairs]
        spread = f"{min(ratios):.3f} at least, median {median(ratios):.3f}, {max(ratios):.3f} at most"
        print(f"{given.trials:,} configurations, {given.pairs} pairs: ratio {words} {spread}")
    if given.json:
        given.json.write_text(json.dumps(pairs, indent=1))


if __name__ == "__main__":
    main()

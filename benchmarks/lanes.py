"""Whether two lanes are in each other's way: two studies alone and both at once, each kept to a core of its own.

Two searches of the library's wide selector study, as many points each, by `alphasweep run A@a`, `alphasweep run B@b` and
`alphasweep run A@a B@b`, the order turning round from pair to pair. The ratio is of a study's speed beside the other to its speed
alone in the same pair: of configurations per second between first and last results as the ledger has them, and of the run's own wall
time, from reading the data to the last result. 1 is no loss. How much of the time both were at work is told as well.

    python benchmarks/lanes.py [--pairs 3] [--trials 80000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

from benchmarks.throughput import Packs, in_lanes, spread  # noqa: E402

LIBRARY = ROOT / "sweeps" / "library" / "selector_wide.yaml"
SEEDS = {"a": 1, "b": 2}  # by lane; the seed chooses the points


def pair(number: int, given: argparse.Namespace, lanes: dict[str, list[int]]) -> dict[str, Any]:
    """Runs both alone and together, in an order that turns round."""
    plan: list[tuple[str, ...]] = [("a",), ("b",), ("a", "b")]
    alone: dict[str, Any] = {}
    both: dict[str, Any] = {}
    overlap = 0.0
    for running in plan if number % 2 == 0 else plan[::-1]:
        with tempfile.TemporaryDirectory(dir=given.dir) as folder:
            files = {}
            for lane in running:
                file = Path(folder) / f"wide_{lane}.yaml"
                text = LIBRARY.read_text(encoding="utf-8").replace("sampler: grid", "sampler: random")
                file.write_text(text.replace("name: selector_wide", f"name: wide_{lane}").replace("seed: 1", f"seed: {SEEDS[lane]}"))
                files[str(file)] = lane
            made = in_lanes(Path(folder), files, lanes, given.trials, given.bars)
            found = {lane: made[file] for file, lane in files.items()}
            if len(running) == 2:
                first, second = (Packs.of(Path(found[lane]["home"])) for lane in running)
                overlap = min(first.overlap(second), second.overlap(first))
        (both if len(running) == 2 else alone).update(found)
    rates = {lane: both[lane]["rate"] / alone[lane]["rate"] for lane in lanes}
    runs = {lane: alone[lane]["run"] / both[lane]["run"] for lane in lanes}
    return {"alone": alone, "together": both, "overlap": overlap, "rate": rates, "run": runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--trials", type=int, default=80_000, help="of each study")
    parser.add_argument("--bars", type=int, default=4320, help="hourly bars of the sample market")
    parser.add_argument("--dir", help="where studies are written; default the system's folder for temporary files")
    parser.add_argument("--json", type=Path, help="every figure")
    given = parser.parse_args()
    there = sorted(os.sched_getaffinity(0))
    if len(there) < 2:
        sys.exit("two cores are needed; this process may use one")
    half = len(there) // 2
    lanes = {"a": there[:half], "b": there[half : 2 * half]}
    pairs = []
    for number in range(given.pairs):
        pairs.append(made := pair(number, given, lanes))
        for lane in lanes:
            alone, both, ratio = made["alone"][lane], made["together"][lane], made["rate"][lane]
            print(
                f"pair {number + 1}, lane {lane}: {alone['rate']:,.0f} configurations/s alone (others: {alone['others']:.2f} cores), "
                f"{both['rate']:,.0f} beside the other ({both['others']:.2f}): {ratio:.3f}; run {alone['run']:.1f} s alone, "
                f"{both['run']:.1f} s: {made['run'][lane]:.3f}; both at work {made['overlap']:.0%} of the time",
                flush=True,
            )
    for what, words in (("rate", "configurations/s while busy"), ("run", "wall time of the run")):
        for lane in lanes:
            print(f"lane {lane}, {words}: {spread([made[what][lane] for made in pairs])}")
    if given.json:
        given.json.write_text(json.dumps(pairs, indent=1))


if __name__ == "__main__":
    main()

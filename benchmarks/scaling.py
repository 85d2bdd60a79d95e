"""What more cores bring, and how much one driver can keep busy.

`cores`: the library's wide selector study with one core and with two, by turns, each in a process that the kernel keeps to its cores
(driver, Ray and workers). The ratio is of configurations per second between first and last results as the ledger has them; wall times
include the start of Ray and the reading of data.

`workers`: a driver with 1 to 1,000 simulated workers (`benchmarks/crowd.py`): study, feed, ledger with its synchronous commits, Tune and
Ray are real; a worker waits a millisecond for each configuration of a pack, or 100 ms before each report of a trial (asha). A
thousand workers would give a million configurations a second, so what comes out is the driver's limit. `--real 8` does the same with
that many real Ray actors, which sleep, for a check of the simulation.

    python benchmarks/scaling.py cores [--pairs 3] [--trials 100000]
    python benchmarks/scaling.py workers [--workers 1 10 100 1000] [--kinds random asha] [--real 8] [--seconds 10] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

import numpy as np  # noqa: E402

from benchmarks.throughput import Others, in_lanes, spread  # noqa: E402

STUDY = "selector_wide"
WARM_SECONDS = 60.0  # at most before the measurement begins


class Enough(BaseException):
    """Ends a run whose measurement is over; what is in flight would take a minute to wait for."""


def cores(given: argparse.Namespace) -> Any:
    """Runs the study with one core and with two, by turns."""
    there = sorted(os.sched_getaffinity(0))
    if len(there) < 2:
        sys.exit("two cores are needed; this process may use one")
    pairs = []
    for number in range(given.pairs):
        found = {}
        for n in (1, 2) if number % 2 == 0 else (2, 1):
            with tempfile.TemporaryDirectory(dir=given.dir) as folder:
                lane = {"pinned": there[:n]}
                found[n] = in_lanes(Path(folder), {STUDY: "pinned"}, lane, given.trials, given.bars)[STUDY]
        pairs.append({"rate": found[2]["rate"] / found[1]["rate"], "wall": found[1]["wall"] / found[2]["wall"], "runs": found})
        runs = (
            f"{n} core{'s'[: n - 1]}: {x['rate']:,.0f}/s, {x['wall']:.1f} s ({x['others']:.2f} cores used by others)"
            for n, x in sorted(found.items())
        )
        print(f"pair {number + 1}: {'; '.join(runs)}: × {pairs[-1]['rate']:.2f} busy, × {pairs[-1]['wall']:.2f} wall", flush=True)
    for key, what in (("rate", "configurations/s while busy"), ("wall", "wall time of the command")):
        print(f"1 → 2 cores, {what}: {spread([found[key] for found in pairs])}")
    return pairs


def workers(given: argparse.Namespace) -> Any:
    """Measures the driver with each number of workers, each in a process of its own."""
    plan = [(kind, n, False) for kind in given.kinds for n in given.workers]
    plan += [(kind, given.real, real) for kind in given.kinds for real in (True, False) if given.real]
    made = []
    for number, (kind, n, real) in enumerate(plan):
        with tempfile.TemporaryDirectory(dir=given.dir) as folder:
            command = [sys.executable, __file__, "workers", "--one", folder, "--kinds", kind, "--workers", str(n)]
            command += ["--seconds", str(given.seconds), "--real", str(n if real else 0)]
            command += ["--ms", str(given.report_ms if kind == "asha" else given.ms)]
            with Others() as others:
                out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        made.append(json.loads(out.splitlines()[-1]) | {"others": others.cores})
        print(f"{number + 1}/{len(plan)} {words(made[-1])}", flush=True)
    return made


def words(x: dict[str, Any]) -> str:
    """Says what came of a measurement, in three lines."""
    unit, whose = "report" if x["kind"] == "asha" else "pack", "real actors" if x["real"] else "simulated"
    parts = ", ".join(f"{part} {share:.0%}" for part, share in x["shares"].items() if share >= 0.005)
    gaps = f"; a worker waited {x['gap_median'] * 1e3:,.0f} ms (95 %: {x['gap_high'] * 1e3:,.0f})" if "gap_median" in x else ""
    crowd = f", crowd's process {x['crowd_cpu']:.0%} of a core" if "crowd_cpu" in x else ""
    return (
        f"{x['kind']} ({x['ms']:g} ms), {x['workers']:,} {whose}: {x['rate']:,.1f} configurations/s "
        f"({x['offered']:.1%} of what workers could do), {x['events']:,.1f} {unit}s/s{gaps}\n"
        f"    driver: {x['cpu_per_1000']:.3f} s of processor time per 1,000 configurations, {x['cpu_per_event'] * 1e3:.1f} ms a {unit}, "
        f"{x['driver_cpu']:.0%} of a core, {x['peak_mb']:,.0f} MB{crowd}\n"
        f"    wall: {parts} ({x['others']:.2f} cores used by others; {x['seconds']:.1f} s after {x['warm']:.0f})"
    )


def one(folder: Path, kind: str, n: int, real: int, each: float, seconds: float) -> dict[str, Any]:
    """Runs a study for a while and measures its driver once every worker has had work twice.

    Args:
        folder: Where it is written.
        kind: grid, random or asha.
        n: How many workers.
        real: Whether they are real actors.
        each: Seconds of a configuration, or between two reports of a trial (asha).
        seconds: Of the measurement.
    """
    import ray

    from benchmarks.clocks import Clocks, between
    from benchmarks.crowd import gathered
    from benchmarks.simulated import study
    from cluster.session import ray_session
    from sweeps import Study, run

    clocks, marks, crowd = Clocks(), list[dict[str, Any]](), None
    first = 0.0

    def mark(tally: Any, count: int) -> None:
        news = ray.get(crowd.news.remote()) if crowd is not None else {}
        marks.append(
            {"at": time.monotonic(), "cpu": time.process_time(), "parts": clocks.reading(), "done": tally.done}
            | {"count": count, "crowd": news}
        )

    def watch(tally: Any) -> None:
        nonlocal first
        now, count = time.monotonic(), tally.steps if kind == "asha" else tally.packs
        first = first or (now if count else 0.0)
        if not marks and first and (count >= 2 * n + 3 or now - first > WARM_SECONDS):
            mark(tally, count)
        elif len(marks) == 1 and now - marks[0]["at"] >= seconds:
            mark(tally, count)
            raise Enough

    with ray_session(None, n if real else 2), ExitStack() as stack:
        if not real:
            crowd = stack.enter_context(gathered(n, each))
        stack.enter_context(clocks.ticking())
        stack.enter_context(suppress(Enough))
        run(Study.model_validate(study(kind, each)), folder, slots=n, on_progress=watch)
    begun, ended = marks
    wall, done, count = ended["at"] - begun["at"], ended["done"] - begun["done"], ended["count"] - begun["count"]
    cpu, parts = ended["cpu"] - begun["cpu"], between(begun["parts"], ended["parts"])
    idle = parts.pop("Ray: waiting")
    shares = {part: spent / wall for part, (spent, _) in parts.items()} | {
        "Ray: waiting, busy": idle[1] / wall,
        "idle": (idle[0] - idle[1]) / wall,
    }
    made: dict[str, Any] = {
        "kind": kind,
        "ms": each * 1e3,
        "workers": n,
        "real": bool(real),
        "seconds": wall,
        "warm": begun["at"] - first,
        "shares": shares,
    }
    made |= {"rate": done / wall, "events": count / wall, "cpu_per_1000": cpu / max(done, 1) * 1e3, "cpu_per_event": cpu / max(count, 1)}
    made |= {"driver_cpu": cpu / wall, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    made["offered"] = made["events" if kind == "asha" else "rate"] * each / n
    if crowd is not None:
        gaps = ended["crowd"]["gaps"]
        made |= {"crowd_cpu": (ended["crowd"]["cpu"] - begun["crowd"]["cpu"]) / wall}
        if len(gaps):
            made |= {"gap_median": float(np.median(gaps)), "gap_high": float(np.quantile(gaps, 0.95))}
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("cores", help="one core and two")
    first.add_argument("--pairs", type=int, default=3)
    first.add_argument("--trials", type=int, default=100_000)
    first.add_argument("--bars", type=int, default=4320, help="hourly bars of the sample market")
    second = commands.add_parser("workers", help="the driver's limit")
    second.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000])
    second.add_argument("--kinds", nargs="+", choices=("grid", "random", "asha"), default=["random", "asha"])
    second.add_argument("--real", type=int, default=8, help="real Ray actors to compare with; 0 for none")
    second.add_argument("--seconds", type=float, default=10.0, help="of each measurement, after its warm-up")
    second.add_argument("--ms", type=float, default=1.0, help="milliseconds of a configuration in a pack")
    second.add_argument("--report-ms", type=float, default=100.0, help="milliseconds before each report of a trial")
    second.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    for command in (first, second):
        command.add_argument("--dir", help="where studies are written; default the system's folder for temporary files")
        command.add_argument("--json", type=Path, help="every figure")
    given = parser.parse_args()
    if given.command == "workers" and given.one is not None:
        print(json.dumps(one(given.one, given.kinds[0], given.workers[0], given.real, given.ms / 1e3, given.seconds)))
        return
    made = cores(given) if given.command == "cores" else workers(given)
    if given.json:
        given.json.write_text(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()

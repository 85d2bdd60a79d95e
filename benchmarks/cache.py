"""Measures eight workers that read one cache: `python benchmarks/cache.py [--quick] [--json FILE]`.

Nine symbols × 17,520 rows × 49 columns of float64, 62 MB. Four ways to get them to the workers of one machine, by turns in one run:

* object store: the run's keeper reads the files once and puts them into Ray's object store; workers see them there (what a study does).
* files mapped: each worker checks and maps the same files itself.
* files read: each worker reads the same files into memory of its own (the cache on disk without a session).
* Parquet, pandas: each worker calls `pandas.read_parquet` on a file per symbol.

Each time, eight fresh processes import everything and read a table of 64 rows the same way, so that what is measured is data and not
code; then they start together on files that have left the page cache. A worker's first trial is over when it has every row and has summed
them; the sums must agree, or the program stops. Memory is the proportional set size (a page that n processes share counts a n-th in
each), summed over the workers, beyond what they had before; the keeper, which is one more process, and the raylet's part of the object
store are shown too. Bytes read are those of read calls (mapping makes none) and those that came from the disk, in workers and keeper.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from benchmarks.selector import machine  # noqa: E402
from cluster.cache.segment import open_segment  # noqa: E402
from cluster.cache.store import Store  # noqa: E402
from trainables.tables import Table, offered, read  # noqa: E402

OURS, MAPPED, READ, PARQUET = WAYS = ("object store", "files mapped", "files read", "Parquet, pandas")
COLUMNS = 49
LEAD_SECONDS = 0.3  # between the call and the common start


def make(symbol: int, rows: int) -> Table:
    """Describes a symbol's forecasts."""
    times = np.datetime64("2023-01-01", "ns") + np.arange(rows) * np.timedelta64(1, "h")
    bars = np.random.default_rng(symbol).normal(size=(5, rows))
    return Table("forecasts", {"made": "up"}, tuple(f"f{i}" for i in range(COLUMNS)), (f"COIN{symbol}",), times, bars, 512, f"COIN{symbol}")


def write(root: Path, tables: Sequence[Table]) -> None:
    """Writes the same values as the cache keeps them and as Parquet."""
    store = Store(root / "tables", 10**12)
    for i, table in enumerate(tables):
        values = np.random.default_rng(1000 + i).normal(size=(COLUMNS, len(table.times)))
        if why := store.add(table, 0, values, 60.0):
            raise SystemExit(why)
        pd.DataFrame(values.T, pd.DatetimeIndex(table.times), list(table.columns)).to_parquet(root / f"{table.where}.parquet")


def refuse(first: int, stop: int, done: Any) -> np.ndarray:
    raise SystemExit("a table was built that should have been found")


class Worker:
    """A process that runs a first trial."""

    def __init__(self) -> None:
        import pyarrow.parquet  # noqa: F401  # what pandas reads with

        self.data: list[Any] = []

    def pid(self) -> int:
        """Returns the process's number."""
        return os.getpid()

    def trial(self, way: str, root: Path, tables: Sequence[Table], shared: Any, start: float) -> tuple[float, float]:
        """Returns the seconds since the common start, and the sum of all values."""
        time.sleep(max(start - time.time(), 0.0))
        self.data = list(LOAD[way](root, tables, shared))
        total = sum(float(np.sum(np.asarray(lines))) for lines in self.data)
        return time.time() - start, total


def load_shared(root: Path, tables: Sequence[Table], shared: Any) -> list[np.ndarray]:
    with offered(shared):
        return [read(t, 0, len(t.times), refuse) for t in tables]


def load_mapped(root: Path, tables: Sequence[Table], shared: Any) -> list[np.ndarray]:
    lines = []
    for table in tables:
        (path,) = (root / "tables").rglob(f"*{table.key}/*.arrow")
        segment = open_segment(path, table.key)
        assert segment is not None and segment.valid(table) == [(0, 0, len(table.times))]
        lines += [segment.column(i) for i in range(COLUMNS)]
    return lines


def load_read(root: Path, tables: Sequence[Table], shared: Any) -> list[np.ndarray]:
    store = Store(root / "tables", 10**12)
    return [store.read(t, 0, len(t.times), refuse) for t in tables]


def load_parquet(root: Path, tables: Sequence[Table], shared: Any) -> list[pd.DataFrame]:
    return [pd.read_parquet(root / f"{t.where}.parquet") for t in tables]


LOAD = {OURS: load_shared, MAPPED: load_mapped, READ: load_read, PARQUET: load_parquet}


def pss(pid: int) -> int:
    """Returns a process's proportional set size in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(x.split()[1]) * 1024 for x in lines if x.startswith("Pss:"))


def bytes_read(pids: Sequence[int]) -> np.ndarray:
    """Returns what processes have read: (by read calls, from disk)."""
    rows = [dict(x.split(": ") for x in Path(f"/proc/{pid}/io").read_text().splitlines()) for pid in pids]
    return np.array([[int(r["rchar"]), int(r["read_bytes"])] for r in rows]).sum(axis=0)


def forget(root: Path) -> None:
    """Takes files out of the page cache, so that each way begins with the disk."""
    for path in root.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(way: str, root: Path, tables: Sequence[Table], count: int) -> dict[str, float]:
    """Runs one way once, with fresh workers."""
    import ray

    from cluster.cache.keeper import keeping

    raylet = ray._private.worker._global_node.all_processes["raylet"][0].process.pid
    with ExitStack() as stack:
        cache = stack.enter_context(keeping(Store(root / "tables", 10**12), table=Table)) if way == OURS else None
        keepers = [ray.get(cache._keeper.pid.remote())] if cache else []
        workers = [ray.remote(Worker).options(num_cpus=0).remote() for _ in range(count)]
        pids, shared = ray.get([w.pid.remote() for w in workers]), cache.tables if cache else None
        ray.get([w.trial.remote(way, root, tables[-1:], shared, 0.0) for w in workers])
        forget(root)
        time.sleep(1.0)  # processes that have just started are still settling
        keeper_before, raylet_before = sum(map(pss, keepers)), pss(raylet)
        before = [pss(pid) for pid in pids]
        io = bytes_read([*pids, *keepers])
        asked = ray.put(tables[:-1])  # once for all, like a study's inputs
        start = time.time() + LEAD_SECONDS
        seconds, sums = zip(*ray.get([w.trial.remote(way, root, asked, shared, start) for w in workers]), strict=True)
        io = bytes_read([*pids, *keepers]) - io
        found = {
            "median_s": statistics.median(seconds),
            "slowest_s": max(seconds),
            "workers_mb": sum(pss(pid) - b for pid, b in zip(pids, before, strict=True)) / 1e6,
            "keeper_mb": sum(map(pss, keepers)) / 1e6,
            "keeper_growth_mb": (sum(map(pss, keepers)) - keeper_before) / 1e6,
            "raylet_mb": (pss(raylet) - raylet_before) / 1e6,
            "read_calls_mb": io[0] / 1e6,
            "from_disk_mb": io[1] / 1e6,
            "sum": sums[0],
        }
        if not np.allclose(sums, sums[0], rtol=1e-9):
            raise SystemExit(f"{way}: workers disagree: {sums}")
        for worker in workers:
            ray.kill(worker)
    return found


def table(results: Mapping[str, Mapping[str, float]], size: float, count: int) -> Any:
    """Lays the figures out for people."""
    from rich.table import Table as Lines

    out = Lines(title=f"{count} workers read {size / 1e6:,.1f} MB; MB beyond what the processes had before")
    out.add_column("way")
    for title in (
        "first trial, median s",
        "slowest s",
        "memory of workers",
        "of the data",
        "keeper, all of it",
        "raylet",
        "read calls",
        "disk",
    ):
        out.add_column(title, justify="right")
    for name, r in results.items():
        cells = [f"{r['median_s']:.2f}", f"{r['slowest_s']:.2f}", f"{r['workers_mb']:,.0f}", f"{r['workers_mb'] * 1e6 / size:.2f} ×"]
        out.add_row(name, *cells, *(f"{round(r[k]):,}" for k in ("keeper_mb", "raylet_mb", "read_calls_mb", "from_disk_mb")))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--symbols", type=int, default=9)
    parser.add_argument("--rows", type=int, default=17_520)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="two workers, few rows, once: a smoke test, not a measurement")
    parser.add_argument("--json", metavar="FILE", help="write every figure there")
    options = parser.parse_args()
    if options.quick:
        options.workers, options.symbols, options.rows, options.repeats = 2, 3, 2000, 1
    if not sys.platform.startswith("linux"):
        raise SystemExit("reads /proc, which only Linux has")
    from rich.console import Console

    from cluster.session import ray_session

    console = Console(width=160)
    about = machine(None)
    size = options.symbols * options.rows * COLUMNS * 8
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder, ray_session(None, 1):
        root = Path(folder)
        tables = [*(make(i, options.rows) for i in range(options.symbols)), make(options.symbols, 64)]
        write(root, tables)
        for _ in range(options.repeats):
            for way in WAYS:
                console.print(f"measuring {way}", style="dim")
                runs[way].append(measure(way, root, tables, options.workers))
    sums = [r["sum"] for rows in runs.values() for r in rows]
    if not np.allclose(sums, sums[0], rtol=1e-9):
        raise SystemExit(f"the ways disagree about the values: {sums}")
    results = {way: {k: statistics.median(r[k] for r in rows) for k in rows[0]} for way, rows in runs.items()}
    console.print(table(results, size, options.workers))
    console.print(", ".join(f"{key} {value}" for key, value in about.items()), style="dim")
    if options.json:
        said = {"machine": about, "options": vars(options), "bytes": size, "results": results, "runs": runs}
        Path(options.json).write_text(json.dumps(said, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Measures the selector beside what one would otherwise use: `python benchmarks/selector.py [--peers] [--quick] [--json FILE]`.

One run, one core. Each engine works in a child process of its own (so that its peak memory is its own), pinned to the same
core, compiled and warmed up before the clock starts; the figure is the median of several repeats, in CPU seconds of the
process, because a shared machine's wall clock also counts what others took. Both are kept in the JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
ROOT = Path(__file__).resolve().parents[1]
OURS = (
    "ours, grid",
    "ours, swing grid",
    "ours, library sample",
    "ours, 10,000 configurations",
    "ours, the peers' configurations",
    "ours, the peers' swing configurations",
)
GRID, SWING, LIBRARY, MANY, SAME, SAME_SWING = OURS
LOOP, VECTORBT, VECTORBT_METRICS = "pandas and a Python loop", "vectorbt, orders only", "vectorbt, orders and 4 metrics"
VECTORBT_SWING = "vectorbt, orders and 4 metrics, swing"


def clock(work: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Runs `work` once to warm up, then `repeats` times; returns the medians and the least of CPU and wall seconds."""
    work()
    cpu, wall = [], []
    for _ in range(repeats):
        c, w = time.process_time(), time.perf_counter()
        work()
        cpu.append(time.process_time() - c)
        wall.append(time.perf_counter() - w)
    middle = repeats // 2
    return {
        "cpu_s": sorted(cpu)[middle],
        "cpu_min_s": min(cpu),
        "wall_s": sorted(wall)[middle],
        "wall_min_s": min(wall),
        "repeats": repeats,
    }


def activity(metrics: Any) -> dict[str, float]:
    """Says how much trading the configurations do: the cost of a simulation depends on it."""
    return {
        "trades": float(metrics["trades"].mean()),
        "trades_max": float(metrics["trades"].max()),
        "exposure": float(metrics["exposure"].mean()),
    }


def measure_ours(name: str, quick: bool) -> dict[str, Any]:
    """Times our kernel through `evaluate`: candidates, simulation and all 23 metrics."""
    from benchmarks import workload
    from trainables.selector.options import encode
    from trainables.selector.simulate import evaluate

    inputs = workload.market()
    if name in (SWING, SAME_SWING):
        inputs = workload.swing(inputs)
    configs = {
        GRID: lambda: workload.grid(240 if quick else None),
        SWING: lambda: workload.grid(240 if quick else None, axes=workload.SWING_GRID),
        LIBRARY: lambda: workload.library_sample(100 if quick else 1000),
        MANY: lambda: workload.grid(10_000),
        SAME: lambda: workload.grid(peer_configs(quick)),
        SAME_SWING: lambda: workload.grid(peer_configs(quick), axes=workload.SWING_GRID),
    }[name]()
    table = encode(configs, "realistic")
    big = name == MANY

    def run() -> Any:
        return evaluate(inputs, table, profile="realistic", initial_cash=workload.INITIAL_CASH).metrics

    evaluate(inputs, table[:2], profile="realistic")  # compiles, and aligns the inputs at lag 1
    times = clock(run, 1 if big and quick else 3 if big or quick else 5)
    return times | activity(run()) | {"assets": len(workload.SYMBOLS), "bars": workload.BARS, "configs": len(configs)}


def measure_loop(quick: bool) -> dict[str, Any]:
    """Times the pandas loop on a short slice, and checks it against ours."""
    import numpy as np
    import pandas as pd

    from benchmarks import peer_pandas, workload
    from trainables.selector.options import encode
    from trainables.selector.simulate import evaluate

    inputs = workload.slice_of(workload.market(), 250 if quick else 500)
    names = list(inputs.panel.symbols)
    index = pd.DatetimeIndex(inputs.panel.times)
    bars = inputs.panel
    buy, sell, buy_amount, sell_amount, forecast_high, forecast_low = (pd.DataFrame(x, index, names) for x in inputs.orders[:6])
    frames = peer_pandas.Frames(
        open=pd.DataFrame(bars.open, index, names),
        high=pd.DataFrame(bars.high, index, names),
        low=pd.DataFrame(bars.low, index, names),
        close=pd.DataFrame(bars.close, index, names),
        buy_price=buy,
        sell_price=sell,
        buy_amount=buy_amount,
        sell_amount=sell_amount,
        forecast_high=forecast_high,
        forecast_low=forecast_low,
        costs=workload.costs(inputs),
    )
    configs = workload.grid(4)
    ours = evaluate(inputs, encode(configs, "realistic"), profile="realistic", initial_cash=workload.INITIAL_CASH).metrics
    results: list[float] = []

    def run() -> None:
        results[:] = [peer_pandas.simulate(frames, c, workload.INITIAL_CASH).iloc[-1] / workload.INITIAL_CASH - 1.0 for c in configs]

    times = clock(run, 3)
    off = agree(LOOP, np.array(results), ours["total_return"].to_numpy())
    size = {"assets": len(names), "bars": len(index), "configs": len(configs), "largest_difference": off}
    return times | activity(ours) | size


def measure_vectorbt(label: str, quick: bool) -> dict[str, Any]:
    """Times vectorbt on the same rules at several numbers of configurations a call, keeps its best, and checks it against ours."""
    import warnings

    import numpy as np

    warnings.filterwarnings("ignore")
    import vectorbt

    from benchmarks import peer_vectorbt, workload
    from trainables.selector.options import encode
    from trainables.selector.simulate import evaluate

    inputs = workload.swing(workload.market()) if label == VECTORBT_SWING else workload.market()
    panel = inputs.panel
    costs = workload.costs(inputs)
    market = peer_vectorbt.Market(
        hours=np.array(inputs.hours),
        open=np.array(panel.open),
        high=np.array(panel.high),
        low=np.array(panel.low),
        close=np.array(panel.close),
        orders=np.array(inputs.orders[:6]),
        maker=np.array(costs["maker"]),
        taker=np.array(costs["taker"]),
        half_spread=np.array(costs["half_spread"]),
        min_notional=np.array(costs["min_notional"]),
    )
    configs = workload.grid(peer_configs(quick), axes=workload.SWING_GRID if label == VECTORBT_SWING else workload.GRID)
    ours = evaluate(inputs, encode(configs, "realistic"), profile="realistic", initial_cash=workload.INITIAL_CASH).metrics
    size = {"assets": len(workload.SYMBOLS), "bars": workload.BARS, "configs": len(configs), "version": vectorbt.__version__}
    best: dict[str, Any] = {}
    chunks = (1, 5, 10, 20, 30, 60) if label == VECTORBT else (1, 5, 10, 20)  # metrics need gigabytes beyond
    for chunk in (5,) if quick else chunks:
        parts = [configs[i : i + chunk] for i in range(0, len(configs), chunk)]
        closes = peer_vectorbt.columns(market, chunk)
        returns: list[float] = []

        def run(parts: list = parts, closes: Any = closes, returns: list = returns) -> None:
            returns.clear()
            for part in parts:
                portfolio = peer_vectorbt.simulate(market, part, workload.INITIAL_CASH, closes)
                if label != VECTORBT:
                    returns.extend(np.atleast_1d(portfolio.total_return()))
                    portfolio.sharpe_ratio(), portfolio.max_drawdown(), portfolio.trades.count()

        times = clock(run, 3)
        if not best or times["cpu_s"] < best["cpu_s"]:
            best = times | {"configurations_a_call": chunk, "rss_mb": peak_mb()}
        if label == VECTORBT:
            run_one = peer_vectorbt.simulate(market, configs[:chunk], workload.INITIAL_CASH, closes)
            returns.extend(np.atleast_1d(run_one.total_return()))
        best["largest_difference"] = agree(label, np.array(returns), ours["total_return"].to_numpy()[: len(returns)])
    return best | size | activity(ours)


def peer_configs(quick: bool) -> int:
    """Returns how many points of the grid the compiled peer gets."""
    return 10 if quick else 60


def agree(engine: str, theirs: Any, ours: Any) -> float:
    """Compares total returns by the final equity they mean (most of a lost account's return is −1), and stops where they differ."""
    difference = float(abs((1.0 + theirs) / (1.0 + ours) - 1.0).max())
    if not difference < 1e-9:
        raise SystemExit(f"{engine}: final equity differs from ours by {difference:.1e}; timing it would compare different work")
    return difference


def peak_mb() -> float:
    """Returns the process's peak resident memory in MB (10⁶ bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def child(name: str, quick: bool, core: int | None) -> None:
    """Measures one engine and prints JSON."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    sys.path.insert(0, str(ROOT))
    if name in (VECTORBT, VECTORBT_METRICS, VECTORBT_SWING):
        figures = measure_vectorbt(name, quick)
    else:
        figures = measure_loop(quick) if name == LOOP else measure_ours(name, quick)
    work = figures["assets"] * figures["bars"] * figures["configs"]
    print(
        json.dumps({"rss_mb": peak_mb()} | figures | {"per_second": work / figures["cpu_s"], "per_second_wall": work / figures["wall_s"]})
    )


def machine(core: int | None) -> dict[str, Any]:
    """Describes where the figures come from."""
    import numba
    import numpy
    import pandas

    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return {
        "cpu": model,
        "cores_visible": os.cpu_count(),
        "pinned_to_core": core,
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "pandas": pandas.__version__,
        "numba": numba.__version__,
    }


def table(results: dict[str, dict[str, Any]]) -> Any:
    """Lays the figures out for people."""
    from rich.table import Table

    out = Table(title="asset·bar·configurations per second, one core")
    out.add_column("engine")
    for title in ("assets × bars × configurations", "median CPU s", "M per second", "peak MB", "trades", "rows in a position"):
        out.add_column(title, justify="right")
    for name, r in results.items():
        size = f"{r['assets']} × {r['bars']:,} × {r['configs']:,}"
        speed = f"{r['per_second'] / 1e6:,.4g}"
        out.add_row(name, size, f"{r['cpu_s']:.3f}", speed, f"{r['rss_mb']:,.0f}", f"{r['trades']:,.0f}", f"{r['exposure']:.0%}")
    return out


def ratios(results: dict[str, dict[str, Any]]) -> list[str]:
    """Says how many times faster ours is: on the whole grid, and on the very configurations the peer ran."""
    lines = []
    pairs = ((LOOP, GRID, ""), (VECTORBT, GRID, SAME), (VECTORBT_METRICS, GRID, SAME), (VECTORBT_SWING, SWING, SAME_SWING))
    for name, whole, same in pairs:
        if name in results:
            peer = results[name]["per_second"]
            line = f"{results[whole]['per_second'] / peer:,.0f} × {name}, on the {'swing ' if whole == SWING else ''}grid"
            if same in results:
                line += f"; {results[same]['per_second'] / peer:,.0f} × on the peer's own {results[name]['configs']} configurations"
            lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", action="store_true", help="also vectorbt (pip install '.[bench]')")
    parser.add_argument("--quick", action="store_true", help="smaller lists and fewer repeats: a smoke test, not a measurement")
    parser.add_argument("--json", metavar="FILE", help="write every figure there")
    parser.add_argument("--core", type=int, help="core to pin to (default: the last one allowed)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    core = None
    if hasattr(os, "sched_setaffinity"):
        core = max(os.sched_getaffinity(0)) if options.core is None else options.core
    if options.child:
        child(options.child, options.quick, core)
        return
    from rich.console import Console

    console = Console(width=160)
    about = machine(core)
    results: dict[str, dict[str, Any]] = {}
    compiled = (SAME, VECTORBT, VECTORBT_METRICS, SAME_SWING, VECTORBT_SWING)
    for name in (GRID, SWING, LIBRARY, MANY, LOOP, *(compiled if options.peers else ())):
        console.print(f"measuring {name}", style="dim")
        command = [sys.executable, __file__, "--child", name, *(["--quick"] if options.quick else [])]
        if core is not None:
            command += ["--core", str(core)]
        done = subprocess.run(command, env=os.environ | dict.fromkeys(THREADS, "1"), capture_output=True, text=True)
        if done.returncode:
            hint = " (pip install '.[bench]' beside the pins)" if "No module named 'vectorbt'" in done.stderr else ""
            raise SystemExit(f"{name} failed{hint}:\n{done.stderr.strip()[-2000:]}")
        results[name] = json.loads(done.stdout.strip().splitlines()[-1])
    console.print(table(results))
    for line in ratios(results):
        console.print(line)
    console.print(", ".join(f"{key} {value}" for key, value in about.items()), style="dim")
    if options.json:
        Path(options.json).write_text(
            json.dumps({"machine": about, "quick": options.quick, "results": results}, indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()

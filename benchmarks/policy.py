"""Measures the parts of the trading policy beside what one would otherwise write.

    python benchmarks/policy.py [PART ...] [--quick] [--json FILE]

Parts: `simulator`, forward and backward of the differentiable simulator, against Python loops over bars of torch operations over the
batch: the formulas of SPEC F.5 and nothing else, and the tests' reference, which like ours takes terms per window and missing bars.
One thread, pinned to one core. Engines take turns, so that a busy neighbour slows all of them alike; the figure is the median of CPU
seconds of the process, and wall seconds are kept in the JSON. What the engines return must agree, or the program stops.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402

Row = dict[str, Any]
LOOP, REFERENCE, TORCH, OURS = "Python loop, F.5 alone", "Python loop, reference", "ours, torch backend", "ours, compiled"
SIZES = ((16, 96), (16, 128), (64, 96), (64, 128))
TERMS: dict[str, dict[str, Any]] = {"long only": {}, "long and short, 2×": {"can_short": True, "leverage": 2.0}}


def in_turns(engines: Mapping[str, Callable[[], Any]], rounds: int, calls: dict[str, int]) -> dict[str, Row]:
    """Runs every engine `calls` times a round, round after round; returns the median seconds of one call, CPU and wall."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
    for work in engines.values():
        work()
    for _ in range(rounds):
        for name, work in engines.items():
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(calls[name]):
                work()
            spent[name].append(((time.process_time() - cpu) / calls[name], (time.perf_counter() - wall) / calls[name]))
    return {
        name: {"cpu_s": float(np.median([c for c, _ in each])), "wall_s": float(np.median([w for _, w in each])), "rounds": rounds}
        for name, each in spent.items()
    }


def windows(batch: int, bars: int, seed: int = 0) -> list[torch.Tensor]:
    """Makes close, high, low, buy and sell price, buy and sell amount, float32 (batch, bars): hourly bars, limits up to 0.6 % away."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.005, (batch, bars)), axis=1))
    before = np.concatenate([close[:, :1], close[:, :-1]], axis=1)
    high = np.maximum(before, close) * (1 + np.abs(rng.normal(0, 0.002, close.shape)))
    low = np.minimum(before, close) * (1 - np.abs(rng.normal(0, 0.002, close.shape)))
    limits = close * (1 - rng.uniform(0, 0.006, close.shape)), close * (1 + rng.uniform(0.0003, 0.006, close.shape))
    arrays = (close, high, low, *limits, *rng.uniform(0, 1, (2, *close.shape)))
    return [torch.tensor(x, dtype=torch.float32) for x in arrays]


def plain_loop(
    close: torch.Tensor,
    high: torch.Tensor,
    low: torch.Tensor,
    buy: torch.Tensor,
    sell: torch.Tensor,
    buy_amount: torch.Tensor,
    sell_amount: torch.Tensor,
    *,
    fee: torch.Tensor,
    temperature: float,
    leverage: float = 1.0,
    can_short: bool = False,
) -> torch.Tensor:
    """Simulates by SPEC F.5 as one would write it for one kind of account and complete windows, at lag 1."""
    cash, inventory = torch.ones_like(close[:, 0]), torch.zeros_like(close[:, 0])
    value, out = cash, []
    for t in range(1, close.shape[1]):
        c, b, s = close[:, t], buy[:, t - 1], sell[:, t - 1]
        p_buy = torch.sigmoid((b * (1 - 0.0005) - low[:, t]) / (c * temperature))
        p_sell = torch.sigmoid((high[:, t] - s * (1 + 0.0005)) / (c * temperature))
        money = cash if leverage <= 1.0 else leverage * value - inventory * b
        bought = buy_amount[:, t - 1] * money.clamp(min=0.0) / (b * (1 + fee)) * p_buy
        most = inventory.clamp(min=0.0)
        if can_short:
            most = most + (leverage * value / (s * (1 + fee)) - torch.relu(-inventory)).clamp(min=0.0)
        sold = sell_amount[:, t - 1] * most * p_sell
        cash = cash - bought * b * (1 + fee) + sold * s * (1 - fee)
        inventory = inventory + bought - sold
        new = cash + inventory * c
        out.append((new - value) / value)
        value = new
    return torch.stack(out, dim=1)


def measure_simulator(quick: bool) -> list[Row]:
    """Times the simulator's share of a training step: returns of a batch, and from their gradient those of prices and amounts."""
    from tests.policy import reference_soft
    from trainables.policy.soft import simulate

    runs: dict[str, Callable[..., torch.Tensor]] = {
        LOOP: plain_loop,
        REFERENCE: reference_soft.simulate,
        TORCH: lambda *arrays, **terms: simulate(*arrays, backend="torch", **terms).returns,
        OURS: lambda *arrays, **terms: simulate(*arrays, **terms).returns,
    }
    rows = []
    for kind, terms in TERMS.items():
        for batch, bars in SIZES[:1] if quick else SIZES:
            off = agreement(runs, [x.double() for x in windows(batch, bars)], terms)
            arrays = windows(batch, bars)
            engines = {name: partial(step, run, arrays, terms) for name, run in runs.items()}
            times = in_turns(engines, 3 if quick else 9, {LOOP: 2, REFERENCE: 1, TORCH: 2, OURS: 50})
            for name, found in times.items():
                ratio = times[LOOP]["cpu_s"] / found["cpu_s"]
                about = {"terms": kind, "batch": batch, "bars": bars, "engine": name, "largest_difference": off}
                rows.append(about | found | {"steps_per_second": 1 / found["cpu_s"], "times_the_loop": ratio})
    return rows


def step(run: Callable[..., torch.Tensor], arrays: list[torch.Tensor], terms: dict[str, Any]) -> list[torch.Tensor]:
    """Runs forward and backward; returns the returns and the four gradients."""
    orders = [x.detach().requires_grad_() for x in arrays[3:]]
    returns = run(*arrays[:3], *orders, fee=torch.full((len(arrays[0]),), 0.0015, dtype=arrays[0].dtype), temperature=0.002, **terms)
    return [returns.detach(), *torch.autograd.grad(returns, orders, torch.ones_like(returns))]


def agreement(runs: dict[str, Callable], arrays: list[torch.Tensor], terms: dict[str, Any]) -> float:
    """Compares returns and gradients in float64, and stops where they differ: timing that would compare different work."""
    first, *others = (step(run, arrays, terms) for run in runs.values())
    off = max(float((x - y).abs().max() / y.abs().max()) for other in others for x, y in zip(other, first, strict=True))
    if not off < 1e-10:
        raise SystemExit(f"simulator: returns or gradients differ by {off:.1e}")
    return off


def show_simulator(rows: list[Row]) -> Any:
    """Lays the figures out for people."""
    from rich.table import Table

    out = Table(title="simulator forward and backward, one thread, float32")
    for title in ("account", "windows × bars", "engine"):
        out.add_column(title)
    for title in ("median CPU ms", "steps per second", "× the first"):
        out.add_column(title, justify="right")
    for r in rows:
        size = f"{r['batch']} × {r['bars']}"
        out.add_row(
            r["terms"], size, r["engine"], f"{1e3 * r['cpu_s']:.3f}", f"{r['steps_per_second']:,.0f}", f"{r['times_the_loop']:,.1f}"
        )
    return out


# A part is how to measure it, and how to show what was measured.
PARTS: dict[str, tuple[Callable[[bool], list[Row]], Callable[[list[Row]], Any]]] = {"simulator": (measure_simulator, show_simulator)}


def machine(core: int | None) -> Row:
    """Describes where the figures come from."""
    import numba

    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__, "numba": numba.__version__}
    return {"cpu": model, "cores_visible": os.cpu_count(), "pinned_to_core": core, "load_before": os.getloadavg()[0]} | versions


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is given")
    parser.add_argument("--quick", action="store_true", help="one size and few rounds: a smoke test, not a measurement")
    parser.add_argument("--json", metavar="FILE", help="write every figure there")
    options = parser.parse_args()
    for name in options.parts:
        if name not in PARTS:
            parser.error(f"no part {name!r}; give {', '.join(PARTS)}")
    torch.set_num_threads(1)
    core = None
    if hasattr(os, "sched_setaffinity"):
        core = max(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {core})
    from rich.console import Console

    console = Console(width=140)
    about = machine(core)
    results = {}
    for name in options.parts or PARTS:
        measure, show = PARTS[name]
        results[name] = measure(options.quick)
        console.print(show(results[name]))
    console.print(", ".join(f"{key} {value}" for key, value in about.items()), style="dim")
    if options.json:
        text = json.dumps({"machine": about, "quick": options.quick, "results": results}, indent=1)
        Path(options.json).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

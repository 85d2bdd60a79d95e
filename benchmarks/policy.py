"""Measures the parts of the trading policy beside what one would otherwise write.

    python benchmarks/policy.py [PART ...] [--quick] [--json FILE]

Parts: `simulator`, forward and backward of the differentiable simulator, against Python loops over bars of torch operations over the
batch: the formulas of SPEC F.5 and nothing else, and the tests' reference, which like ours takes terms per window and missing bars.
`training`, whole optimiser steps: ours, and the same network on the same windows as one would train it with torch alone, a Dataset and a
DataLoader of windows, a loop over bars, AdamW; and what of a step is the network's, which both have.
One thread, pinned to one core. Engines take turns, so that a busy neighbour slows all of them alike; the figure is the median of CPU
seconds of the process, and wall seconds are kept in the JSON. What the engines return must agree, or the program stops.
"""

from __future__ import annotations

import argparse
import copy
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


# Architecture, width, bars of a window; 16 windows a step.
TRAININGS = (("mlp", 32, 48), ("nano", 32, 48), ("gru", 32, 48), ("classic", 32, 48), ("mlp", 32, 96), ("nano", 64, 96))


class PlainTraining:
    """A training as one would write it: the network and its dropout are ours, all around it is torch alone."""

    def __init__(self, run: Any) -> None:
        from torch.utils.data import DataLoader, RandomSampler

        self.net, config = copy.deepcopy(run.net), run.chosen.config
        series, length, self.config = run.series, config["seq_len"], config
        features, market = torch.from_numpy(series.features), torch.from_numpy(series.market)
        fee, ends = torch.tensor(series.fee), run._ends

        class Windows(torch.utils.data.Dataset):
            def __len__(self) -> int:
                return len(ends)

            def __getitem__(self, i: int) -> tuple[torch.Tensor, ...]:
                rows = slice(ends[i] - length + 1, ends[i] + 1)
                return features[rows], market[:, rows], fee[series.symbol[ends[i]]].float()

        self.windows = Windows()
        sampler = RandomSampler(self.windows, True, 10_000_000, torch.Generator().manual_seed(1))
        self.batches = iter(DataLoader(self.windows, config["batch"], sampler=sampler))
        self.optimiser = torch.optim.AdamW(self.net.parameters(), lr=config["learning_rate"], weight_decay=config["weight_decay"])
        self.done = 0

    def loss(self, features: torch.Tensor, market: torch.Tensor, fee: torch.Tensor, key: Any = None) -> torch.Tensor:
        """Decodes, simulates by the loop over bars, and takes the log of wealth (SPEC F.4, F.5)."""
        close, high, low, below, above = market.unbind(1)
        b, s, buy_amount, sell_amount = self.net(features, key).sigmoid().unbind(-1)
        bottom, top = torch.minimum(below, close), torch.maximum(above, close)
        buy = bottom + b * (close - bottom)
        sell = torch.maximum(close + s * (top - close), buy + close * 3e-4)
        returns = plain_loop(close, high, low, buy, sell, buy_amount, sell_amount, fee=fee, temperature=0.002)
        return -(torch.log1p(returns).mean(dim=1) * 8760.0).mean()

    def step(self) -> None:
        """Trains for a step."""
        self.net.train()
        self.optimiser.zero_grad()
        self.loss(*next(self.batches), key=(1, self.done)).backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.config["grad_clip"])
        self.optimiser.step()
        self.done += 1


def measure_training(quick: bool) -> list[Row]:
    """Times optimiser steps on the sample market, five coins."""
    from trainables.policy.options import read
    from trainables.policy.trainable import PolicyTrainable
    from trainables.policy.trial import make_runs
    from trainables.timeline import Protocol

    data = {"source": "sample", "bars": 4320, "signal": 0.25, "symbols": ["BTCUSD", "ETHUSD", "SOLUSD", "LINKUSD", "UNIUSD"]}
    prepared = PolicyTrainable().prepare(data, {}, Protocol(folds=1))
    rows, calls = [], 4 if quick else 20
    for arch, dim, bars in TRAININGS[:2] if quick else TRAININGS:
        shape = {"arch": arch, "dim": dim, "seq_len": bars, "temperature_start": 0.002, "temperature_end": 0.002, "epochs": 10_000}
        chosen = read({**prepared.defaults, **shape, "steps_per_epoch": calls})
        [run] = make_runs(chosen, prepared.inputs, 1, "cpu")
        run.advance()  # past the zero head, so that there is a gradient everywhere
        plain = PlainTraining(run)
        off = same_step(run, plain)
        alone = [torch.randn(16, bars, run.net.spec.n_features), torch.randn(16, bars, 4)]

        def network(net: Any = plain.net, alone: list[torch.Tensor] = alone) -> None:
            net(alone[0], (1, 1)).backward(alone[1])

        engines = {"torch alone": plain.step, "ours": run.advance, "the network alone": network}
        times = in_turns(engines, 3 if quick else 9, {"torch alone": max(1, calls // 4), "ours": 1, "the network alone": calls})
        times["ours"]["cpu_s"] /= calls  # a call is an epoch
        times["ours"]["wall_s"] /= calls
        for name, found in times.items():
            ratio = times["torch alone"]["cpu_s"] / found["cpu_s"]
            about = {"arch": arch, "dim": dim, "bars": bars, "engine": name, "largest_difference": off}
            rows.append(about | found | {"steps_per_second": 1 / found["cpu_s"], "times_torch": ratio})
    return rows


def same_step(run: Any, plain: PlainTraining) -> float:
    """Compares the gradients of one batch without dropout, and stops where they differ: timing that would compare different work."""
    from trainables.policy.decode_torch import decode_logits
    from trainables.policy.soft import simulate

    features, market, fee = (torch.stack(x) for x in zip(*(plain.windows[i] for i in range(0, 160, 10)), strict=True))
    plain.net.eval().zero_grad()
    plain.loss(features, market, fee).backward()
    theirs = torch.cat([p.grad.flatten() for p in plain.net.parameters()])
    plain.net.zero_grad()
    close, high, low, below, above = market.unbind(1)
    orders = decode_logits(plain.net(features), close, below, above)
    made = simulate(close, high, low, *orders, fee=fee.double(), temperature=0.002)
    run._loss(made.returns, 8760.0, made.present).backward()
    mine = torch.cat([p.grad.flatten() for p in plain.net.parameters()])
    off = float((mine - theirs).abs().max() / theirs.abs().max())
    if not off < 1e-3:
        raise SystemExit(f"training: gradients differ by {off:.1e}")
    return off


def show_training(rows: list[Row]) -> Any:
    """Lays the figures out for people."""
    from rich.table import Table

    out = Table(title="optimiser steps of 16 windows, one thread, float32")
    for title in ("network", "bars", "engine"):
        out.add_column(title)
    for title in ("median CPU ms", "steps per second", "× torch alone"):
        out.add_column(title, justify="right")
    for r in rows:
        figures = (f"{1e3 * r['cpu_s']:.2f}", f"{r['steps_per_second']:,.0f}", f"{r['times_torch']:.1f}")
        out.add_row(f"{r['arch']} {r['dim']}", str(r["bars"]), r["engine"], *figures)
    return out


# A part is how to measure it, and how to show what was measured.
PARTS: dict[str, tuple[Callable[[bool], list[Row]], Callable[[list[Row]], Any]]] = {
    "simulator": (measure_simulator, show_simulator),
    "training": (measure_training, show_training),
}


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

"""Samplers in packs against Optuna asked one trial at a time: regret after as many trials, regret after as much time, cost of asking.

Four landscapes: Branin, Hartmann-6 and Rosenbrock-4, and 15,360 points of the library's wide selector grid, all evaluated beforehand.
Ours suggests packs of 1, 16 and 256; Optuna is used directly, a trial at a time, with the same sampler. Regret is the distance of the best
found from the best there is, as a share of that of a median random point. Time is to the regret that Optuna has after half the trials, if
an evaluation takes a second and the members of a pack are evaluated side by side; suggesting is measured, in processor time.

    python benchmarks/search.py regret [--seeds 20] [--trials 512] [--packs 1 16 256] [--json FILE]
    python benchmarks/search.py driver [--trials 10000]
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from search_spaces import Space, make_sampler
from search_spaces.adaptive import Goal, Outcome, Seen, make_suggester
from search_spaces.adaptive.axes import Axes
from search_spaces.adaptive.bayesian import quiet

BATCHES = 16  # a search in large packs takes at least as many, and more trials for them
OPTUNA = "optuna, one at a time"
Point = dict[str, Any]


@dataclass(frozen=True)
class Landscape:
    """A function to be made large."""

    name: str
    space: Space
    value: Callable[[Point], float]
    best: float

    def scale(self) -> float:
        """Returns the distance of a median random point from the best."""
        sampler = make_sampler("random", self.space, trials=min(2000, self.space.size or 2000), seed=1)
        return float(self.best - np.median([self.value(p) for p in sampler.configs(0, sampler.size)]))


def branin(p: Point) -> float:
    x, y = p["x"], p["y"]
    return -((y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6) ** 2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10)


_A = np.array([[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]])
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann(p: Point) -> float:
    x = np.array([p[f"x{i}"] for i in range(6)])
    return float(np.array([1.0, 1.2, 3.0, 3.2]) @ np.exp(-(_A * (x - _P) ** 2).sum(1)))


def rosenbrock(p: Point) -> float:
    x = np.array([p[f"x{i}"] for i in range(4)])
    return -float(np.log1p((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()))


def selector() -> Landscape:
    """Evaluates 15,360 points of the library's wide grid, so that the best there is is known."""
    from sweeps import Study
    from sweeps.evaluator import Evaluator
    from sweeps.search import Search

    held = {"max_positions": 1, "lag": 1, "fill_buffer": 0.0005, "cost_multiplier": 1.0, "max_volume_fraction": 0.0}
    study = Study.load("selector_wide", [f"space.{name}={value}" for name, value in held.items()])
    search = Search(study)
    prepared = search.prepare()
    names = [m.name for m in search.trainable.metrics]
    points = search.sampler.configs(0, search.sampler.size)
    made = Evaluator(study, prepared.defaults, len(prepared.days)).evaluate([search.config(p) for p in points], prepared.inputs)
    values = np.nan_to_num(made[:, names.index(search.objective)], nan=-99.0)
    table = {json.dumps(p, sort_keys=True): float(v) for p, v in zip(points, values, strict=True)}
    return Landscape(f"selector, {len(points):,} points", search.space, lambda p: table[json.dumps(p, sort_keys=True)], max(values))


def landscapes() -> list[Landscape]:
    unit = {"uniform": [0, 1]}
    return [
        Landscape("Branin", Space.parse({"x": {"uniform": [-5, 10]}, "y": {"uniform": [0, 15]}}), branin, -0.397887),
        Landscape("Hartmann-6", Space.parse({f"x{i}": unit for i in range(6)}), hartmann, 3.32237),
        Landscape("Rosenbrock-4", Space.parse({f"x{i}": {"uniform": [-2, 2]} for i in range(4)}), rosenbrock, 0.0),
        selector(),
    ]


def ours(name: str, at: Landscape, trials: int, pack: int, seed: int) -> tuple[np.ndarray, float]:
    """Returns the values in order, and seconds of processor time spent asking for each."""
    suggester = make_suggester(name, at.space, Goal(), batch=pack, seed=seed)
    history: list[Seen] = []
    spent, batch = 0.0, 0
    while len(history) < trials:
        began = time.process_time()
        made = suggester.suggest((), history, suggester.generation or min(pack, trials - len(history)), batch)
        spent += time.process_time() - began
        history += [Seen(s.point, Outcome((at.value(s.point),)), s.attrs) for s in made]
        batch += 1
    return np.array([s.outcome.values[0] for s in history if s.outcome])[:trials], spent / trials


def theirs(name: str, at: Landscape, trials: int, seed: int) -> tuple[np.ndarray, float]:
    """Optuna's own sampler with its own defaults, over the same distributions."""
    axes = Axes(at.space)
    makers = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
    }
    values, spent = [], 0.0
    with quiet():
        study = optuna.create_study(direction="maximize", sampler=makers[name]())
        for _ in range(trials):
            began = time.process_time()
            trial = study.ask(axes.distributions)
            point = axes.point(trial.params)
            spent += time.process_time() - began
            values.append(at.value(point))
            began = time.process_time()
            study.tell(trial, values[-1])
            spent += time.process_time() - began
    return np.array(values), spent / trials


def seconds(curve: np.ndarray, goal: float, pack: int, cost: float) -> float:
    """Returns how long it takes to a regret, an evaluation taking a second and a pack's being made side by side; infinity if never."""
    there = np.flatnonzero(curve <= goal)
    return float(-(-(there[0] + 1) // pack) + (there[0] + 1) * cost) if len(there) else float("inf")


def regret(args: argparse.Namespace) -> list[dict[str, Any]]:
    console, rows = Console(), []
    most = max(args.trials, BATCHES * max(args.packs))
    places = [t for t in (32, 64, 128, 256, 512, 1024, 2048, 4096) if t <= most]
    everything = landscapes()
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("regret", total=len(everything) * len(args.samplers) * (len(args.packs) + 1) * args.seeds)
        for at in everything:
            scale = at.scale()
            for name in args.samplers:
                reached = 0.0
                for pack in [0, *args.packs]:
                    curves, costs = [], []
                    for seed in range(args.seeds):
                        trials = max(args.trials, BATCHES * pack)
                        values, cost = ours(name, at, trials, pack, seed) if pack else theirs(name, at, trials, seed)
                        curves.append((at.best - np.maximum.accumulate(values)) / scale)
                        costs.append(cost)
                        bar.advance(task)
                    goal = reached if pack else float(np.median([curve[args.trials // 2 - 1] for curve in curves]))
                    reached = goal
                    waits = [seconds(curve, goal, max(pack, 1), cost) for curve, cost in zip(curves, costs, strict=True)]
                    at_places = np.array(curves)[:, [t - 1 for t in places if t <= len(curves[0])]]
                    row = {
                        "landscape": at.name,
                        "sampler": name,
                        "pack": pack,
                        "ms": 1e3 * float(np.median(costs)),
                        "s": float(np.median(waits)),
                        "trials": places,
                    }
                    row |= {
                        "median": np.median(at_places, axis=0).tolist(),
                        "quartiles": np.quantile(at_places, [0.25, 0.75], axis=0).tolist(),
                    }
                    rows.append(row)
    for at in everything:
        table = Table(
            "sampler",
            *(f"{t} trials" for t in places),
            "ms a suggestion",
            "s to goal",
            title=f"{at.name}: median regret of {args.seeds} seeds",
        )
        for row in (r for r in rows if r["landscape"] == at.name):
            who = f"{row['sampler']}, packs of {row['pack']}" if row["pack"] else f"{row['sampler']}, {OPTUNA}"
            table.add_row(
                who, *([f"{v:.4f}" for v in row["median"]] + [""] * len(places))[: len(places)], f"{row['ms']:.2f}", f"{row['s']:.0f}"
            )
        console.print(table)
    return rows


def driver(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Times the driver's side of a long TPE study: suggesting, the ledger's event, accepting results; nothing is evaluated."""
    at = landscapes()[1]
    rows = []
    suggester = make_suggester("tpe", at.space, Goal(), batch=256, seed=0)
    history: list[Seen] = []
    began, batch, mark = time.process_time(), 0, 0
    while len(history) < args.trials:
        made = suggester.suggest((), history, 256, batch)
        history += [Seen(s.point, Outcome((at.value(s.point),)), s.attrs) for s in made]
        batch += 1
        if len(history) // 1000 > mark or len(history) >= args.trials:
            now, mark = time.process_time(), len(history) // 1000
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            rows.append(
                {
                    "trials": len(history),
                    "ms": 1e3 * (now - began) / len(history),
                    "MB": memory,
                    "best": max(s.outcome.values[0] for s in history),
                }
            )
            print(f"{len(history):>7,} trials  {rows[-1]['ms']:.2f} ms a trial so far  {memory:,.0f} MB  best {rows[-1]['best']:.5f}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=("regret", "driver"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--packs", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--samplers", nargs="+", default=["tpe", "cmaes"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.trials = args.trials or (512 if args.what == "regret" else 10_000)
    warnings.simplefilter("ignore")
    rows = regret(args) if args.what == "regret" else driver(args)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

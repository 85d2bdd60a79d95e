"""Walks the same study over several sample markets, without and with a planted edge: the table of docs/walkforward.md.

python docs/walkforward.py [--seeds 12]
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter

import numpy as np

from cluster.session import ray_session
from sweeps import Study
from sweeps.walk.forward import Walk, walk_forward


def main() -> None:
    """Prints a row for each kind of market."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=12)
    seeds = range(7, 7 + parser.parse_args().seeds)
    kinds = {"no edge, no costs": (0.0, {"cost_multiplier": 0, "fill_buffer": 0}), "planted edge": (0.25, {})}
    with tempfile.TemporaryDirectory() as folder, ray_session(None):
        for kind, (signal, fixed) in kinds.items():
            print(f"| {kind} | {row([walked(folder, seed, signal, fixed) for seed in seeds])} |", flush=True)


def walked(folder: str, seed: int, signal: float, fixed: dict) -> tuple[float, float, bool, bool, str]:
    """Walks one market.

    Returns:
        Mean Sharpe ratio of the winners in and out of sample, whether the stitched days' interval is above zero and whether it has zero
        in it, and whether re-optimising paid.
    """
    keys = {"name": f"s{seed}-{signal}", "data.signal": signal, "data.seed": seed, "data.bars": 8760, "objective": "sharpe"}
    study = Study.load("selector_grid", [f"{key}={value}" for key, value in keys.items()])
    made = walk_forward(study.model_copy(update={"fixed": fixed}), Walk(train="90d", test="30d"), folder)
    own = made.lines[0]
    inside = float(np.mean([w.inside for w in made.windows]))
    outside = float(np.mean([made.outside(w) for w in made.windows]))
    return inside, outside, own.low > 0.0, own.low <= 0.0 <= own.high, made.paid()[0]


def row(found: list[tuple[float, float, bool, bool, str]]) -> str:
    """Returns medians over markets, and how many say what."""
    inside, outside, above, around, paid = zip(*found, strict=True)
    codes = Counter(paid)
    cells = [f"{np.median(inside):.2f}", f"{np.median(outside):.2f}", sum(above), sum(around)]
    return " | ".join(map(str, [*cells, codes["paid"], codes["not shown"] + codes["n/a"], codes["cost"]]))


if __name__ == "__main__":
    main()

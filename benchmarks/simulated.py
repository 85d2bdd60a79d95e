"""Work that takes time and does nothing: a packed trainable with the selector's parameters and metrics, and one that reports as it goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from results.metrics import Metric
from trainables.contract import Context, Evaluation, Parameter, Prepared
from trainables.selector.trainable import SelectorTrainable
from trainables.stepping import Report, StepContext

REPORTS = 16  # of a trial that is never stopped
LIBRARY = Path(__file__).parents[1] / "sweeps" / "library" / "selector_wide.yaml"
WALK = (Metric("score", "max", "ratio"), Metric("steps_done", None, "count"))


def _prepared(seconds: float, parameters: Sequence[Parameter]) -> Prepared:
    return Prepared({"seconds": seconds}, "simulated", {}, {p.name: p.default for p in parameters})


class Packed:
    """Rows of a pack after `settings.seconds` a configuration; they are as wide as the selector's."""

    name, version, objective = "simulated_packs", "1", SelectorTrainable.objective
    parameters = SelectorTrainable.parameters
    metrics = SelectorTrainable.metrics

    def prepare(self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Any = None, part: str = "search") -> Prepared:
        """Loads nothing."""
        return _prepared(float(settings["seconds"]), self.parameters)

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], ctx: Context) -> Evaluation:
        """Waits, and makes rows up."""
        time.sleep(ctx.inputs["seconds"] * len(configs))
        return Evaluation(pd.DataFrame(rows(range(len(configs)), None), columns=[metric.name for metric in self.metrics]))


class Stepped:
    """Reports `REPORTS` times, `settings.seconds` apart; nothing is checkpointed."""

    name, version, objective, fidelity = "simulated_steps", "1", WALK[0].name, "steps"
    parameters = tuple(Parameter(name, 0.5, "float", 0.0, 1.0) for name in ("rate", "decay", "dropout", "rank", "width", "length"))
    metrics = WALK

    def prepare(self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Any = None, part: str = "search") -> Prepared:
        """Loads nothing."""
        return _prepared(float(settings["seconds"]), self.parameters)

    def last_step(self, config: Mapping[str, Any]) -> int:
        """The same for all."""
        return REPORTS

    def evaluate(self, config: Mapping[str, Any], ctx: StepContext) -> Iterator[Report]:
        """Waits, and makes a learning curve up."""
        for report in curve(ctx.seed, reached=ctx.reached):
            time.sleep(ctx.inputs["seconds"])
            yield report


def rows(points: Sequence[Any], inputs: Any) -> np.ndarray:
    """Returns metrics that nobody worked out, float64 (n, metrics of the selector)."""
    return np.random.default_rng(points[0]).normal(size=(len(points), len(SelectorTrainable.metrics)))


def curve(point: int, folder: Path | None = None, reached: int = 0, device: str = "cpu", inputs: Any = None) -> Iterator[Report]:
    """Yields the learning curve of a point: it rises to a level of its own at a pace of its own."""
    level, pace = np.random.default_rng(point).uniform([0.0, 1.0], [1.0, 8.0])
    for step in range(reached + 1, REPORTS + 1):
        yield Report(step, {"score": level * (1.0 - np.exp(-step / pace)), "steps_done": float(step)})


def study(kind: str, seconds: float) -> dict[str, Any]:
    """Returns a study file's content; each has more points than a run can work off.

    Args:
        kind: grid, random or asha.
        seconds: Of one configuration, or between two reports of a trial (asha).
    """
    common: dict[str, Any] = {"name": f"simulated_{kind}", "settings": {"seconds": seconds}, "seed": 1}
    if kind == "asha":
        space = {parameter.name: {"uniform": [0.0, 1.0]} for parameter in Stepped.parameters}
        search = {"sampler": "random", "trials": 1_000_000}
        return common | {"trainable": f"{__name__}:Stepped", "space": space, "search": search, "scheduler": {"kind": "asha"}}
    space = yaml.safe_load(LIBRARY.read_text(encoding="utf-8"))["space"]
    space["min_edge"] = np.linspace(0.0, 0.01, 200).round(6).tolist()  # 44 million points
    search = {"sampler": "grid"} if kind == "grid" else {"sampler": "random", "trials": 10_000_000}
    return common | {"trainable": f"{__name__}:Packed", "space": space, "search": search}

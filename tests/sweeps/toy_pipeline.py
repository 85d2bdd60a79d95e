"""A pipeline of the tests: four stages that write down each time they run, and can be told to fail, to die, or to take their time."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results.metrics import Metric
from trainables.contract import Context, Evaluation, Parameter, Prepared
from trainables.pipeline import Pipeline
from trainables.timeline import cut

CHOICES = (Parameter("x", 0, "int", 0, 99),)


def noted(inputs: Mapping[str, Any], stage: str, values: Sequence[int], what: str) -> None:
    name = "_".join([stage, *map(str, values)])
    (Path(inputs["folder"]) / f"{name}.{uuid.uuid4().hex}.{what}").touch()


def runs(folder: Path, what: str = "done") -> Counter[str]:
    """How often each prefix was run, "b_0_1" for stage b after a with x=0 and itself with x=1."""
    return Counter(path.name.partition(".")[0] for path in folder.glob(f"*.{what}"))


def handed(upstream: Path | None) -> list[int]:
    return [] if upstream is None else [int(word) for word in (upstream / "values").read_text().split()]


class Step:
    version, parameters = "1", CHOICES

    def __init__(self, name: str):
        self.name = name

    def run(self, config: Mapping[str, Any], upstream: Path | None, out: Path, ctx: Context) -> None:
        values = [*handed(upstream), config["x"]]
        noted(ctx.inputs, self.name, values, "begun")
        time.sleep(ctx.inputs["seconds"])
        if ctx.inputs["raise_at"] == [self.name, config["x"]]:
            raise ZeroDivisionError("the thirteenth floor")
        if ctx.inputs["die_at"] == [self.name, config["x"]]:
            os.kill(os.getpid(), signal.SIGKILL)
        (out / "values").write_text(" ".join(map(str, values)))
        noted(ctx.inputs, self.name, values, "done")


class End:
    name, version, parameters, objective = "d", "1", CHOICES, "score"
    metrics = (Metric("score", "max", "ratio"),)

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], upstream: Path | None, ctx: Context) -> Evaluation:
        before = handed(upstream)
        for config in configs:
            noted(ctx.inputs, self.name, [*before, config["x"]], "done")
        scores = [sum(v * 10**-i for i, v in enumerate([*before, c["x"]])) for c in configs]
        return Evaluation(pd.DataFrame({"score": scores}))


class Toy(Pipeline):
    name, version = "toy_pipeline", "1"
    stages = (Step("a"), Step("b"), Step("c"))
    last = End()

    def load(self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Any, part: str) -> Prepared:
        wanted = {"folder": "", "seconds": 0.0, "raise_at": [], "die_at": [], **settings}
        return Prepared(wanted, f"toy-{data.get('rows', 1)}", {"rule": wanted.get("rule", 0)}, {})


class Daily(End):
    """Says what was earned each day, too."""

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], upstream: Path | None, ctx: Context) -> Evaluation:
        made = super().evaluate_pack(configs, upstream, ctx)
        days = np.random.default_rng(ctx.seed).normal(size=ctx.inputs["days"])
        return Evaluation(made.metrics, 0.01 * days + 0.001 * made.metrics["score"].to_numpy()[:, None])


class Dated(Toy):
    """Of data that have days, and a holdout."""

    name, last = "dated_pipeline", Daily()

    def load(self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Any, part: str) -> Prepared:
        made = super().load(data, settings, protocol, part)
        times = np.datetime64("2024-01-01", "ns") + np.arange(200) * np.timedelta64(24, "h")
        timeline = cut(protocol, times, 24.0)
        windows = [fold.tune for fold in timeline.folds] if part == "search" else [timeline.holdout]
        days = np.concatenate([times[w.start : w.stop] for w in windows]).astype("datetime64[D]")
        return replace(
            made,
            inputs={**made.inputs, "days": len(days)},
            protocol={**made.protocol, "timeline": timeline.describe()},
            timeline=timeline,
            days=days,
            day_folds=np.concatenate([np.full(w.stop - w.start, k) for k, w in enumerate(windows)]),
            benchmarks={"flat": np.zeros(len(days))},
        )


SPACE = {"a_x": [0, 1], "b_x": [0, 1], "c_x": [0, 1, 2, 3], "d_x": [0, 1, 2, 3]}  # 64: 2 + 4 + 16 + 64 prefixes
PREFIXES = (
    {f"a_{a}" for a in range(2)}
    | {f"b_{a}_{b}" for a in range(2) for b in range(2)}
    | {f"c_{a}_{b}_{c}" for a in range(2) for b in range(2) for c in range(4)}
    | {f"d_{a}_{b}_{c}_{d}" for a in range(2) for b in range(2) for c in range(4) for d in range(4)}
)


def spec(folder: Path, name: str = "joint", **settings: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "name": name,
        "trainable": "tests.sweeps.toy_pipeline:Toy",
        "settings": {"folder": str(folder), **settings},
        "space": SPACE,
    }

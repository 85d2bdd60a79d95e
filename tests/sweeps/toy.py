"""A trainable of the tests: cheap arithmetic that can be told to fail, to kill its worker, or to take its time."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from results.metrics import Metric
from trainables.contract import Context, Evaluation, Parameter, Prepared


class OnlyHere:
    """What workers cannot have."""

    def __reduce__(self) -> Any:
        return (refuse, ())


def refuse() -> None:
    raise RuntimeError("only here")


class Toy:
    name = "toy"
    version = "1"
    parameters = (
        Parameter("x", 0, "int", -(10**9), 10**9),
        Parameter("y", 0.0, "float", -1e9, 1e9),
    )
    metrics = (Metric("score", "max", "ratio"), Metric("cost", "min", "ratio"))
    objective = "score"

    def prepare(self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Any = None, part: str = "search") -> Prepared:
        weights = np.linspace(0.0, 1.0, int(data.get("size", 1000)))
        return Prepared(
            inputs={"weights": weights, **settings, **({"odd": OnlyHere()} if settings.get("unpicklable") else {})},
            fingerprint=f"toy-{len(weights)}",
            protocol=dict(settings),
            defaults={p.name: p.default for p in self.parameters},
        )

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], ctx: Context) -> Evaluation:
        x = np.array([c["x"] for c in configs])
        y = np.array([c["y"] for c in configs])
        if ctx.inputs.get("raise_at") in x:
            raise ZeroDivisionError("the thirteenth floor")
        if ctx.inputs.get("die_at") in x:
            os._exit(1)
        time.sleep(float(ctx.inputs.get("seconds_each", 0.0)) * len(configs))
        total = float(ctx.inputs["weights"].sum())
        return Evaluation(pd.DataFrame({"score": np.sin(x * 12.9898 + y) * total, "cost": np.abs(x) + y**2}))

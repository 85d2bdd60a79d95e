"""A packed trainable of the tests with a valley to be found: continuous, whole, listed and conditional parameters, two objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from results.metrics import Metric
from trainables.contract import Evaluation, Parameter, Prepared


class Valley:
    name, version, objective = "valley", "1", "score"
    parameters = (
        Parameter("x", 0.0, "float", -5, 5),
        Parameter("y", 0.0, "float", -5, 5),
        Parameter("rate", 0.01, "float", 1e-4, 1.0),
        Parameter("k", 3, "int", 1, 100),
        Parameter("mode", "plain", "choice", choices=("plain", "tilted")),
        Parameter("tilt", 0.0, "float", 0, 1),
    )
    metrics = (Metric("score", "max"), Metric("cost", "min"), Metric("size", None))

    def prepare(self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Any = None, part: str = "search") -> Prepared:
        return Prepared(None, "valley", {}, {p.name: p.default for p in self.parameters})

    def evaluate_pack(self, configs: list[dict[str, Any]], ctx: Any) -> Evaluation:
        return Evaluation(pd.DataFrame([score(c) for c in configs]))


def score(c: Mapping[str, Any]) -> dict[str, float]:
    if c["x"] > 4.5:
        raise ValueError("out of the valley")
    far = (c["x"] - 1) ** 2 + (c["y"] + 2) ** 2 + (math.log10(c["rate"]) + 2) ** 2 + 0.1 * abs(c["k"] - 5)
    far += 0.3 if c["mode"] == "plain" else (c["tilt"] - 0.5) ** 2
    return {"score": -far, "cost": (c["x"] + 1) ** 2 + (c["y"] + 2) ** 2, "size": abs(c["x"]) + abs(c["y"])}

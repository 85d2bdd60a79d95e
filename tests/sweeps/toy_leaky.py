"""Trainables of the tests whose errors, notes and metrics quote the environment, as a client library's might."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from results.metrics import Metric
from trainables.contract import Evaluation, Parameter, Prepared
from trainables.stepping import Report, StepContext


def key() -> str:
    return os.environ["LEAKY_API_KEY"]


class Leaky:
    name, version, objective = "leaky", "1", "score"
    parameters = (Parameter("x", 0, "int", 0, 9),)
    metrics = (Metric("score", "max"),)

    def prepare(self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Any = None, part: str = "search") -> Prepared:
        return Prepared(None, "leaky", {}, {"x": 0})

    def evaluate_pack(self, configs: list[dict[str, Any]], ctx: Any) -> Evaluation:
        if any(config["x"] == 1 for config in configs):
            raise RuntimeError(f"401 Unauthorized: {key()!r}")
        if any(config["x"] == 2 for config in configs):
            return Evaluation(pd.DataFrame({"score": [f"{'.' * 50}{key()}" for _ in configs]}))
        return Evaluation(pd.DataFrame({"score": [1.0 for _ in configs]}))


class LeakySteps(Leaky):
    name, fidelity = "leaky-steps", "steps"

    def last_step(self, config: Mapping[str, Any]) -> int:
        return 2

    def reports_at(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> list[int]:
        return [1, 2]

    def evaluate(self, config: Mapping[str, Any], ctx: StepContext) -> Iterator[Report]:
        yield Report(1, {"score": 1.0}, note=f"signed in with {key()}")
        if config["x"] == 1:
            raise RuntimeError(f"401 Unauthorized: {key()!r}")
        if config["x"] == 2:
            yield Report(2, {"score": f"{'.' * 50}{key()}"})  # type: ignore[dict-item]
        yield Report(2, {"score": 2.0}, note="the end")

"""A stepping trainable of the tests that also reports what it earned each day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from results.metrics import Metric
from trainables.contract import Parameter, Prepared
from trainables.stepping import Report, StepContext
from trainables.timeline import Protocol, cut


class Daily:
    name, version, objective, fidelity = "daily", "1", "earned", "epochs"
    parameters = (Parameter("skill", 0.0, "float", -1.0, 1.0), Parameter("short", 0, "int", 0, 100))
    metrics = (Metric("earned", "max", "fraction"),)

    def prepare(
        self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Protocol | None = None, part: str = "search"
    ) -> Prepared:
        times = np.datetime64("2024-01-01", "ns") + np.arange(200) * np.timedelta64(24, "h")
        timeline = cut(protocol, times, 24.0)
        windows = [fold.tune for fold in timeline.folds] if part == "search" else [timeline.holdout]
        days = np.concatenate([times[w.start : w.stop] for w in windows]).astype("datetime64[D]")
        folds = np.concatenate([np.full(w.stop - w.start, k) for k, w in enumerate(windows)])
        return Prepared(
            inputs=len(days),
            fingerprint="days",
            protocol={"timeline": timeline.describe()},
            defaults={p.name: p.default for p in self.parameters},
            timeline=timeline,
            days=days,
            day_folds=folds,
            benchmarks={"flat": np.zeros(len(days))},
        )

    def last_step(self, config: Mapping[str, Any]) -> int:
        return 3

    def evaluate(self, config: Mapping[str, Any], ctx: StepContext) -> Iterator[Report]:
        for epoch in range(ctx.reached + 1, 4):
            rng = np.random.default_rng((ctx.seed, epoch))
            returns = 0.001 * config["skill"] * epoch + 0.01 * rng.normal(size=ctx.inputs - config["short"])
            yield Report(epoch, {"earned": float(returns.sum())}, returns=returns.astype(np.float32))

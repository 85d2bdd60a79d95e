"""Ledgers written directly, without a run: what the live views read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from results import Header, Ledger, Metric, ResultRow, config_ids
from results.reports import ReportRow
from search_spaces.stopping import Rules
from sweeps.endings import SCHEDULER
from sweeps.home import LEDGER
from sweeps.study import Study

METRICS = (
    Metric("sortino", "max", "ratio", "annualised"),
    Metric("total_return", "max", "fraction"),
    Metric("max_drawdown", "max", "fraction"),
    Metric("trades", None, "count"),
    Metric("loss", "min"),
)
DEFAULTS = {"hold": 24, "mode": "high_low"}
MODES = ("high_low", "close", "Open_5%")
SPACE = {"edge": [0.0, 0.005, 0.01], "mode": list(MODES), "n": [1, 2]}


def header_of(name: str, metrics: tuple[Metric, ...] = METRICS, objective: str = "sortino", **spec: Any) -> Header:
    context = {
        "trainable": "toy",
        "version": "1",
        "data_fingerprint": f"data of {name}",
        "protocol": {"profile": "realistic", "defaults": DEFAULTS},
        "seed": 7,
    }
    return Header(name, {"name": name, "space": SPACE, **spec}, context, metrics, objective)


def config_of(i: int) -> dict[str, Any]:
    """Parameters of several kinds: numbers, text, truth values, nested ones, and one that most do not have."""
    made: dict[str, Any] = {"edge": (i % 7) * 0.005, "n": i, "flag": i % 2 == 0, "net": {"depth": i % 5}}
    if i % 4:
        made["mode"] = MODES[i % 3]
    if i % 10 == 3:
        made["rare"] = "x" if i % 20 == 3 else "Y"
    return made


def values_of(i: int, width: int = len(METRICS)) -> list[float]:
    """Metrics of trial `i`, with ties and gaps."""
    rng = np.random.default_rng(i)
    values = rng.normal(size=width)
    values[3] = float(rng.integers(0, 20))
    if i % 9 == 4:
        values[rng.integers(0, width)] = np.nan
    return values.tolist()


def rows_of(header: Header, numbers: Iterable[int], failed: Iterable[int] = (), stopped: Iterable[int] = ()) -> list[ResultRow]:
    numbers, lost, cut = list(numbers), set(failed), set(stopped)
    configs = [config_of(i) for i in numbers]
    ids = config_ids(header.context_id, configs, header.defaults)
    return [
        ResultRow(i, key, config, "failed", None, 0.2, f"ValueError: no prices for [red]{i % 2}")
        if i in lost
        else ResultRow(i, key, config, "stopped" if i in cut else "completed", values_of(i), 0.1 + i % 3)
        for i, key, config in zip(numbers, ids, configs, strict=True)
    ]


class Writer:
    """A run of a study, played by hand: holds its ledger as a real one does."""

    def __init__(self, folder: Path, name: str = "made", total: int | None = 100, header: Header | None = None):
        self.home = folder / name
        self.header = header or header_of(name)
        self.ledger = Ledger.create(self.home / LEDGER, self.header)
        self.begin(total)

    def begin(self, total: int | None = 100, command: Iterable[str] = ()) -> None:
        self.ledger.begin_session({"command": list(command), "host": "here"})
        self.plan = self.ledger.add_plan(SPACE, {"sampler": "grid", "fixed": {}, "seed": 1}, total)

    def add(self, numbers: Iterable[int], **ended: Iterable[int]) -> None:
        rows = rows_of(self.header, numbers, **ended)
        self.ledger.accept(self.ledger.open_attempt(self.plan.plan_id, len(rows)), rows)

    def leave(self) -> None:
        """Ends like a killed process: the session stays open, its lock does not."""
        self.ledger._session = None
        self.ledger.close()

    def finish(self, reason: str = "finished") -> None:
        self.ledger.end_session(reason)
        self.ledger.close()


class StepWriter:
    """A run of a study whose trials report."""

    def __init__(self, folder: Path, goals: int = 6, **changes: Any):
        spec = {"name": "walks", "trainable": "tests.sweeps.toy_steps:Walk", "fixed": {"paces": 12}, "seed": 3}
        spec |= {"space": {"goal": [float(i) for i in range(goals)]}, "scheduler": {"kind": "asha", "grace": 2, "factor": 2}, **changes}
        study = Study.parse(spec)
        metrics = (Metric("level", "max", "ratio"), Metric("paces_done", None, "count"), Metric("drawn", None, "ratio"))
        context = {
            "trainable": spec["trainable"],
            "version": "1",
            "data_fingerprint": "walk",
            "protocol": {"defaults": {"goal": 0.0}},
            "seed": 3,
        }
        self.header = Header("walks", study.model_dump(), context, metrics, "level")
        self.home = folder / "walks"
        self.ledger = Ledger.create(self.home / LEDGER, self.header)
        self.ledger.begin_session({"command": []})
        self.plan = self.ledger.add_plan(study.space, {**study.search.model_dump(), "fixed": study.fixed, "seed": 3}, goals)
        self.rules = Rules.parse(study.scheduler, total=12, direction="max", seed=3)
        self.ledger.record(SCHEDULER, rules=asdict(self.rules), objective="level")

    def config(self, trial: int) -> dict[str, Any]:
        return {"paces": 12, "goal": float(trial)}

    def identity(self, trial: int) -> bytes:
        return next(iter(config_ids(self.header.context_id, [self.config(trial)], self.header.defaults)))

    def begin(self, trial: int) -> int:
        return self.ledger.open_attempt(self.plan.plan_id, 1)

    def report(self, attempt: int, trial: int, step: int, level: float, seconds: float = 0.5, note: str = "") -> None:
        row = ReportRow(trial, self.identity(trial), step, [level, step, 0.0], seconds, note)
        assert self.ledger.report(attempt, row)

    def end(self, attempt: int, trial: int, level: float, status: Any = "completed", error: str | None = None) -> None:
        metrics = None if status == "failed" else [level, 12.0, 0.0]
        self.ledger.accept(attempt, [ResultRow(trial, self.identity(trial), self.config(trial), status, metrics, 6.0, error)])

    def finish(self) -> None:
        self.ledger.end_session("finished")
        self.ledger.close()

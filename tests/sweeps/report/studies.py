"""Studies written into ledgers without Ray: a grid that keeps daily returns, and one that reports and is stopped early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from results import Header, Ledger, Metric, ResultRow, config_ids, series
from results.reports import ReportRow
from search_spaces import Space
from search_spaces.stopping import Rules

METRICS = (
    Metric("sortino", "max", "ratio", "annualised"),
    Metric("total_return", "max", "fraction"),
    Metric("max_drawdown", "max", "fraction"),
    Metric("trades", None, "count"),
    Metric("dm_p", "min", "probability"),
)
SPACE = {"edge": [0.0, 0.001, 0.002, 0.004], "hold": [1, 2, 3], "mode": ["close", "high"]}
FOLDS, DAYS = 3, 40
HOSTILE = '<img src=x onerror="window.hurt=1">&"\''
PROVENANCE = {
    "packages": {"alphasweep": "0.1.0", "numpy": "2.4.6"},
    "python": "3.11.7",
    "platform": "Linux",
    "host": "here",
    "pid": 7,
    "command": ["alphasweep", "run", "made.yaml"],
    "git": {"commit": "0123456789abcdef", "dirty": True, "dirty_sha256": "x"},
}
TIMELINE = {
    "folds": [["2024-01-01T00:00:00", "2024-02-01T00:00:00", "2024-02-02T00:00:00", "2024-03-13T00:00:00"]] * FOLDS,
    "holdout": ["2024-07-01T00:00:00", "end"],
}


def header_of(name: str, **changed: Any) -> Header:
    protocol = {"profile": "realistic", "timeline": TIMELINE, "defaults": {"edge": 0.0}} | changed.pop("protocol", {})
    context = {"trainable": "toy", "version": "1", "data_fingerprint": "f00d", "protocol": protocol, "seed": 3}
    spec = {"name": name, "description": "Made for a test.", "trainable": "toy", "space": SPACE, "objective": "sortino", "seed": 3}
    return Header(name, spec | changed.pop("spec", {}), context | changed, METRICS, "sortino")


def write_grid(
    runs: Path,
    name: str = "made",
    *,
    space: Mapping[str, Any] = SPACE,
    failed: Sequence[int] = (),
    error: str = "ValueError: no",
    edge: float = 0.002,
    seed: int = 0,
    **changed: Any,
) -> Path:
    """A study of a grid with daily returns; trial 1 behaves as trial 0."""
    header = header_of(name, spec={"space": dict(space), **changed.pop("spec", {})}, **changed)
    home = runs / name
    home.mkdir(parents=True)
    configs = list(Space.parse(space).points())
    rng = np.random.default_rng(seed)
    days = np.concatenate([np.datetime64("2024-02-02") + 50 * k + np.arange(DAYS) for k in range(FOLDS)])
    folds = np.repeat(np.arange(FOLDS), DAYS)
    market = rng.normal(0.0005, 0.02, FOLDS * DAYS)
    returns = np.array([market * 0.3 + rng.normal(edge * (1 + i % 5), 0.01, FOLDS * DAYS) for i in range(len(configs))], np.float32)
    if len(configs) > 1:
        returns[1] = returns[0]
    with Ledger.create(home / "ledger.sqlite", header) as ledger:
        ledger.begin_session(PROVENANCE)
        series.write_days(home, days, folds, {"flat": np.zeros(len(days)), "buy and hold": market})
        plan = ledger.add_plan(dict(space), {"sampler": "grid", "trials": None, "seed": 3, "fixed": {}}, len(configs))
        ids = config_ids(header.context_id, configs, header.defaults)
        for start in range(0, len(configs), 8):
            part = range(start, min(start + 8, len(configs)))
            attempt = ledger.open_attempt(plan.plan_id, len(part))
            kept = [i for i in part if i not in failed]
            series.write(ledger, home, attempt, [ids[i] for i in kept], returns[kept])
            rows = [_row(i, ids[i], configs[i], returns[i], i in failed, error) for i in part]
            ledger.accept(attempt, rows)
        ledger.end_session("finished")
    return home


def _row(number: int, key: bytes, config: Mapping[str, Any], returns: np.ndarray, failed: bool, error: str) -> ResultRow:
    if failed:
        return ResultRow(number, key, config, "failed", None, 0.5, error)
    r = returns.astype(float)
    total = float(np.prod(1.0 + r) - 1.0)
    equity = np.cumprod(1.0 + r)
    fall = float((equity / np.maximum.accumulate(equity) - 1.0).min())
    score = float(r.mean() / np.sqrt((np.minimum(r, 0.0) ** 2).mean()) * np.sqrt(365.0))
    return ResultRow(number, key, config, "completed", [score, total, fall, 100.0 + number, 0.0123], 0.5)


STEP_METRICS = (Metric("skill", "max", "fraction"), Metric("train_loss", None))
RULES = Rules("asha", 16, 2, 2, 1, 3, "max", 5)


def write_steps(runs: Path, name: str = "steps", trials: int = 24) -> Path:
    """A study whose trials report and are judged by ASHA, as the runner would record it; trial 3 fails after two steps."""
    space = {"rate": [float(r) for r in np.geomspace(1e-4, 1e-1, trials)]}
    protocol: dict[str, Any] = {"defaults": {}}
    context = {"trainable": "toy_steps", "version": "1", "data_fingerprint": "beef", "protocol": protocol, "seed": 5}
    spec = {"name": name, "trainable": "toy_steps", "space": space, "scheduler": {"kind": "asha", "grace": 2, "factor": 2}, "seed": 5}
    header = Header(name, spec, context, STEP_METRICS, "skill")
    home = runs / name
    home.mkdir(parents=True)
    configs = list(Space.parse(space).points())
    scheduler, rng = RULES.make(), np.random.default_rng(1)
    with Ledger.create(home / "ledger.sqlite", header) as ledger:
        ledger.begin_session(PROVENANCE)
        ledger.record("scheduler", rules=vars(RULES), objective="skill")
        plan = ledger.add_plan(space, {"sampler": "grid", "trials": None, "seed": 5, "fixed": {}}, trials)
        ids = config_ids(header.context_id, configs, header.defaults)
        for i, config in enumerate(configs):
            attempt = ledger.open_attempt(plan.plan_id, 1, worker=f"worker {i % 3}")
            level, value, status = rng.normal(0.02, 0.02), 0.0, "completed"
            for step in range(1, RULES.total + 1):
                value = level * (1.0 - np.exp(-step / 4.0)) + 0.001 * rng.normal()
                ledger.report(attempt, ReportRow(i, ids[i], step, [value, 1.0 / step], 0.1))
                if i == 3 and step == 2:
                    status = "failed"
                    break
                decision = scheduler.report(i, step, value)
                if decision.ends(step, RULES.total):
                    ledger.record("stopped", trial=i, **vars(decision))
                    status = "stopped"
                    break
            metrics = None if status == "failed" else [value, 0.1]
            ledger.accept(attempt, [ResultRow(i, ids[i], config, status, metrics, 1.5, "gone" if status == "failed" else None)])  # type: ignore[arg-type]
        ledger.end_session("finished")
    return home


def write_many(runs: Path, trials: int, name: str = "many") -> Path:
    """A study of very many trials without daily returns, in packs of 10,000."""
    header = header_of(name)
    home = runs / name
    home.mkdir(parents=True)
    rng = np.random.default_rng(4)
    with Ledger.create(home / "ledger.sqlite", header) as ledger:
        ledger.begin_session(PROVENANCE)
        space = {"edge": {"uniform": [0, 1]}, "hold": {"int": [1, 99]}}
        plan = ledger.add_plan(space, {"sampler": "random", "trials": trials, "seed": 3, "fixed": {}}, trials)
        for start in range(0, trials, 10_000):
            part = range(start, min(start + 10_000, trials))
            attempt = ledger.open_attempt(plan.plan_id, len(part))
            configs = [{"edge": i / trials, "hold": i % 99 + 1, "mode": "close"} for i in part]
            ids = config_ids(header.context_id, configs, header.defaults)
            values = rng.normal(1.0, 0.5, (len(part), 3))
            rows = [
                ResultRow(i, key, config, "completed", [*row, 100.0, None], 0.001)
                for i, key, config, row in zip(part, ids, configs, values.tolist(), strict=True)
            ]
            ledger.accept(attempt, rows)
        ledger.end_session("finished")
    return home

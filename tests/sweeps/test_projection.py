"""A ledger as an Optuna study: parameters, states, samples, importances, and the file optuna-dashboard opens."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from results import Header, Ledger, Metric, ResultRow, config_ids
from results.reports import ReportRow
from search_spaces import Space
from sweeps.plots import optuna_file
from sweeps.plots.axes import distribution_of
from sweeps.plots.figures import importance_notes
from sweeps.plots.importance import LEAST, importances, sample_of
from sweeps.plots.projection import ProjectionError, project

Command = Callable[..., Any]
METRICS = (Metric("score", "max"), Metric("cost", "min"), Metric("seconds", None, "s"))
Scores = Callable[[Mapping[str, Any]], Sequence[float | None] | None]


def ledger_of(
    folder: Path,
    searches: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]],
    scores: Scores,
    defaults: Mapping[str, Any] | None = None,
    constraints: Sequence[str] = (),
    stopped: Sequence[int] = (),
    sampler: str = "grid",
) -> Path:
    """A study on disk whose trials had these configurations and scores; None is a failure."""
    context = {"trainable": "t", "version": "1", "data_fingerprint": "d", "protocol": {"defaults": dict(defaults or {})}, "seed": 1}
    header = Header("made", {"trainable": "t", "constraints": list(constraints)}, context, METRICS, "score")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ledger.sqlite"
    with Ledger.create(path, header) as ledger:
        ledger.begin_session({})
        for space, configs in searches:
            plan = ledger.add_plan(space, {"sampler": sampler}, len(configs))
            ids = config_ids(header.context_id, configs, header.defaults)
            rows = []
            for i, (config, key) in enumerate(zip(configs, ids, strict=True), plan.offset):
                found = scores(config)
                status = "failed" if found is None else "stopped" if i in stopped else "completed"
                rows.append(ResultRow(i, key, config, status, found, seconds=0.5, error="gone" if found is None else None))
            attempt = ledger.open_attempt(plan.plan_id, len(rows))
            for row in rows:
                if row.trial in stopped and row.metrics is not None:
                    values = [math.nan if v is None else float(v) for v in row.metrics]
                    for step in (1, 2):
                        ledger.report(attempt, ReportRow(row.trial, row.config_id, step, [values[0] * step, *values[1:]]))
            ledger.accept(attempt, rows)
        ledger.end_session("done")
    return path


def grid(space: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    return space, list(Space.parse(space).points())


def test_kinds_of_parameters_become_distributions_with_their_real_values() -> None:
    space = Space.parse(
        {
            "steps": {"int": [4, 15], "step": 4},
            "rate": {"loguniform": [1e-4, 1e-2]},
            "share": {"uniform": [0, 1]},
            "rank": [8, 16, 64],
            "edge": [0, 0.1, 0.2],
            "mode": {"choice": ["close", "high"]},
            "hours": [[1, 2], [3]],
            "flag": [True, False],
            "mixed": [1, True],
            "code": {"choice": [1, 2]},
        }
    )
    values = {p.name: list(p.values)[:2] if p.values is not None else [p.low, p.high] for p in space.parameters}  # type: ignore[attr-defined]
    made = {p.name: distribution_of([p], values[p.name]) for p in space.parameters}
    assert made["steps"] == IntDistribution(4, 12, step=4)
    assert made["rate"] == FloatDistribution(1e-4, 1e-2, log=True)
    assert made["share"] == FloatDistribution(0.0, 1.0)
    assert made["rank"] == IntDistribution(8, 64, log=True)
    assert made["edge"] == FloatDistribution(0.0, 0.2)
    assert made["mode"] == CategoricalDistribution(("close", "high"))
    assert made["hours"] == CategoricalDistribution(("[1, 2]", "[3]"))
    assert made["flag"] == CategoricalDistribution((True, False))
    assert made["mixed"] == CategoricalDistribution(("1", "true"))  # 1 == True, so categories must be text
    assert made["code"] == CategoricalDistribution((1, 2))


def test_one_distribution_holds_all_searches_and_what_is_not_said_is_the_default(tmp_path: Path) -> None:
    searches = [grid({"x": [1, 2]}), grid({"x": [2, 9], "y": [0.25, 0.75], "k": 3})]
    path = ledger_of(tmp_path, searches, lambda c: [c["x"], 0.0, 1.0], defaults={"y": 0.5, "k": 3})
    with Ledger.open(path, readonly=True) as ledger:
        found = project(ledger)
    assert found.axes.distributions == {"x": IntDistribution(1, 9), "y": FloatDistribution(0.25, 0.75)}  # k never varied
    assert [(t.params["x"], t.params["y"]) for t in found.study.trials] == [(1, 0.5), (2, 0.5), (2, 0.25), (2, 0.75), (9, 0.25), (9, 0.75)]
    assert not found.axes.conditional and found.words() == "all 6 completed trials"


def test_a_conditional_parameter_is_absent_and_a_derived_one_is_no_axis(tmp_path: Path) -> None:
    space = {"mode": ["a", "b"], "depth": {"int": [1, 3], "when": "mode == 'b'"}, "double": {"derived": "2 * depth", "when": "mode == 'b'"}}
    path = ledger_of(tmp_path, [grid(space)], lambda c: [c.get("depth", 0), 0.0, 1.0], defaults={"depth": 2})
    with Ledger.open(path, readonly=True) as ledger:
        found = project(ledger, attributes=True)
    assert [t.params for t in found.study.trials] == [{"mode": "a"}, *({"mode": "b", "depth": d} for d in (1, 2, 3))]
    assert (found.axes.conditional, found.axes.derived) == (("depth",), ("double",))
    assert found.study.trials[3].user_attrs["double"] == 6


def test_states_numbers_constraints_and_what_is_missing(tmp_path: Path) -> None:
    def scores(config: Mapping[str, Any]) -> Sequence[float | None] | None:
        return {1: None, 2: [None, 1.0, 1.0], 3: [3.0, 5.0, None]}.get(config["x"], [float(config["x"]), 1.0, 1.0])

    path = ledger_of(tmp_path, [grid({"x": {"int": [0, 5]}})], scores, constraints=["cost < 2"], stopped=[4])
    with Ledger.open(path, readonly=True) as ledger:
        every = project(ledger, ended=True, reports=True)
        done = project(ledger)
        with pytest.raises(ValueError, match="no metric 'nothing'"):
            project(ledger, ["nothing"])
    states = [t.state for t in every.study.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]
    assert every.study.trials[4].intermediate_values == {1: 4.0, 2: 8.0}
    assert [t.number for t in done.study.trials] == [0, 3, 5]
    assert [t.constraints["cost < 2"] > 0 for t in done.study.trials] == [False, True, False]
    assert done.study.best_trial.number == 5
    assert done.words() == "3 completed trials; 1 without score left out"


def test_of_a_large_study_a_sample_is_taken_and_named(tmp_path: Path) -> None:
    path = ledger_of(tmp_path, [grid({"x": {"int": [0, 999]}})], lambda c: [float(c["x"]), -float(c["x"] % 7), 1.0])
    with Ledger.open(path, readonly=True) as ledger:
        some, lot, front = (
            project(ledger, most=200, best=50),
            project(ledger, most=200, best=0),
            project(ledger, ["score", "cost"], most=50),
        )
        again = project(ledger, most=200, best=0)
    assert some.words() == "of 1,000 completed trials the best 50 by score and 150 others by lot"
    assert {t.number for t in some.study.trials} >= set(range(950, 1000)) and len(some.study.trials) == 200
    numbers = [t.number for t in lot.study.trials]
    assert lot.words() == "of 1,000 completed trials 200 by lot" and numbers == [t.number for t in again.study.trials]
    assert 400 < np.mean(numbers) < 600  # neither the first nor the best
    best = {t.number for t in front.study.best_trials}
    assert best == {t.number for t in project_front(path)} and front.words().startswith(
        f"of 1,000 completed trials the {len(best)} that no"
    )


def project_front(path: Path) -> list[optuna.trial.FrozenTrial]:
    with Ledger.open(path, readonly=True) as ledger:
        return project(ledger, ["score", "cost"]).study.best_trials


@pytest.mark.parametrize("evaluator", ["ped-anova", "fanova", "mdi"])
def test_importance_finds_the_planted_parameter_and_chance_hides_the_others(tmp_path: Path, evaluator: str) -> None:
    if evaluator != "ped-anova":
        pytest.importorskip("sklearn")
    rng = np.random.default_rng(5)
    # Names in another order than the alphabet's: an importance must reach the parameter it is of.
    space = {"zeta": [1, 2, 3, 4], "noise": [0.1, 0.2, 0.3], "alpha": ["u", "v"], "same": [7]}
    path = ledger_of(tmp_path, [grid(space)], lambda c: [10.0 * c["zeta"] + rng.normal(), 0.0, 1.0])
    with Ledger.open(path, readonly=True) as ledger:
        found = importances(sample_of(ledger, None, evaluator), evaluator)
    first, *others = found.rows
    assert first.parameter == "zeta" and first.share is not None and first.share > 0.6
    assert found.same == ("same",) and {row.parameter for row in others} == {"noise", "alpha"}
    assert sum(row.share or 0.0 for row in found.rows) == pytest.approx(1.0)
    if found.deals:
        assert first.beyond_chance and not any(row.beyond_chance for row in others)


def test_importance_of_pure_noise_seldom_exceeds_chance(tmp_path: Path) -> None:
    beyond = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        space = {"a": [1, 2, 3], "b": [1, 2, 3, 4], "c": ["x", "y", "z"], "d": [1, 2]}
        path = ledger_of(tmp_path / str(seed), [grid(space)], lambda c, rng=rng: [rng.normal(), 0.0, 1.0])  # type: ignore[misc]
        with Ledger.open(path, readonly=True) as ledger:
            beyond += sum(row.beyond_chance for row in importances(sample_of(ledger, None)).rows)
    assert beyond <= 8  # 48 parameters, of which one in twenty is expected


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_that_a_sampler_gathered_the_trials_is_said_with_their_importance(tmp_path: Path, sampler: str) -> None:
    rng = np.random.default_rng(2)
    path = ledger_of(tmp_path, [grid({"a": [1, 2, 3, 4, 5], "b": [1, 2, 3, 4, 5]})], lambda c: [rng.normal(), 0.0, 1.0], sampler=sampler)
    with Ledger.open(path, readonly=True) as ledger:
        notes = " ".join(importance_notes(importances(sample_of(ledger, None))))
    assert ("Suggested by tpe, which gathers trials" in notes) == (sampler == "tpe")
    assert ("Below it, a parameter is noise." in notes) == (sampler == "grid")


def test_a_conditional_parameter_is_ranked_and_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    space = {"mode": ["a", "b"], "depth": {"int": [1, 30], "when": "mode == 'b'"}, "other": [1, 2, 3]}
    path = ledger_of(tmp_path, [grid(space)], lambda c: [float(c.get("depth", 0)) + rng.normal(), 0.0, 1.0])
    with Ledger.open(path, readonly=True) as ledger:
        found = importances(sample_of(ledger, None))
    depth = next(row for row in found.rows if row.parameter == "depth")
    assert depth.conditional and depth.trials == 90 and depth.beyond_chance


def test_what_has_no_importance_is_a_message(tmp_path: Path) -> None:
    few = ledger_of(tmp_path / "few", [grid({"x": [1, 2, 3]})], lambda c: [float(c["x"]), 0.0, 1.0])
    flat = ledger_of(tmp_path / "flat", [grid({"x": {"int": [1, 30]}})], lambda c: [1.0, float(c["x"]), float(c["x"])])
    with (
        Ledger.open(few, readonly=True) as ledger,
        pytest.raises(ProjectionError, match=f"needs {LEAST} completed trials or more, there are 3"),
    ):
        importances(sample_of(ledger, None))
    with Ledger.open(flat, readonly=True) as ledger:
        with pytest.raises(ProjectionError, match="all 30 trials have the same score"):
            importances(sample_of(ledger, None))
        with pytest.raises(ProjectionError, match="seconds: more is neither better nor worse"):
            importances(sample_of(ledger, "seconds"))
        with pytest.raises(ProjectionError, match="there are ped-anova, fanova, mdi"):
            sample_of(ledger, None, "shapley")


@pytest.mark.skipif(find_spec("sklearn") is not None, reason="scikit-learn is there")
def test_a_forest_without_scikit_learn_is_a_message(tmp_path: Path) -> None:
    path = ledger_of(tmp_path, [grid({"x": {"int": [1, 30]}})], lambda c: [float(c["x"]), 0.0, 1.0])
    with Ledger.open(path, readonly=True) as ledger, pytest.raises(ProjectionError, match=r"pip install 'alphasweep\[importance\]'"):
        importances(sample_of(ledger, None, "mdi"), "mdi")


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, Path]:
    def scores(config: Mapping[str, Any]) -> Sequence[float | None] | None:
        return {3: None, 4: [None, 1.0, 2.0]}.get(config["x"], [float(config["x"]) / 3.0, 1.0 / (1 + config["x"]), 2.0])

    space = {
        "x": {"int": [0, 9]},
        "mode": ["flat", "round"],
        "r": {"uniform": [0.1, 0.9], "points": 3, "when": "mode == 'round'"},
        "h": [[1, 2]],
    }
    path = ledger_of(tmp_path / "made", [grid(space)], scores, constraints=["cost < 0.5"], stopped=[30, 31])
    target = tmp_path / "made.db"
    with Ledger.open(path, readonly=True) as ledger:
        optuna_file.write(project(ledger, ended=True, reports=True, attributes=True), target)
    return path, target


def test_the_exported_file_reopened_by_optuna_equals_the_ledger_row_by_row(exported: tuple[Path, Path]) -> None:
    path, target = exported
    study = optuna.load_study(study_name="made", storage=f"sqlite:///{target}")
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE and study.metric_names == ["score"]
    with Ledger.open(path, readonly=True) as ledger:
        rows = [ledger.trial(i) for i in range(ledger.counts()["trials"])]
        frame = ledger.frame()
    assert len(study.trials) == len(rows) == len(frame) == 40
    expected = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
    for trial, row in zip(study.trials, rows, strict=True):
        known = row["metrics"]["score"] is not None
        assert trial.number == row["trial"] == trial.user_attrs["trial"]
        assert trial.state == (expected[row["status"]] if known else TrialState.FAIL)
        assert trial.values == ([row["metrics"]["score"]] if known else None)
        assert trial.params == {**row["config"], "h": "[1, 2]"}
        assert trial.user_attrs["config_id"] == row["config_id"] and trial.user_attrs["metric.seconds"] == row["metrics"]["seconds"]
        assert trial.user_attrs["cost"] == row["metrics"]["cost"] and trial.user_attrs["seconds"] == 0.5
        assert trial.intermediate_values == (
            {1: known and row["metrics"]["score"], 2: 2 * row["metrics"]["score"]} if row["status"] == "stopped" else {}
        )
        assert trial.datetime_start is not None and trial.datetime_complete is not None and trial.datetime_complete >= trial.datetime_start
        if row["status"] == "completed" and row["metrics"]["cost"] is not None:
            assert (trial.constraints["cost < 0.5"] > 0) == (row["metrics"]["cost"] >= 0.5)
    best = max(
        (row for row in rows if row["status"] == "completed" and (row["metrics"]["cost"] or 1) < 0.5),
        key=lambda r: r["metrics"]["score"] or -1,
    )
    assert study.best_trial.number == best["trial"]


def test_an_export_replaces_an_earlier_one_and_nothing_else(exported: tuple[Path, Path], tmp_path: Path) -> None:
    path, target = exported
    other = tmp_path / "notes.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    before = other.read_bytes()
    someone = tmp_path / "someone.db"
    optuna.create_study(storage=f"sqlite:///{someone}", study_name="hers")
    with Ledger.open(path, readonly=True) as ledger:
        found = project(ledger, ended=True, attributes=True)
    assert optuna_file.write(found, target) == 40
    assert len(optuna.load_study(study_name="made", storage=f"sqlite:///{target}").trials) == 40
    for taken in (other, someone):
        with pytest.raises(ProjectionError, match="no export has written"):
            optuna_file.write(found, taken)
    assert other.read_bytes() == before and not list(tmp_path.glob(".*"))


def test_export_at_the_command_line(command: Command, runs: Path, tmp_path: Path) -> None:
    target = tmp_path / "toy.db"
    done = command("export", "toy", "--optuna", target, "--dir", runs)
    assert done.code == 0 and f"12 trials written to {target}" in done.out and "optuna-dashboard" in done.out
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{target}")
    assert sum(t.state == TrialState.FAIL for t in study.trials) == 2
    assert json.loads(json.dumps(study.user_attrs))["alphasweep:study"] == "toy"
    assert command("export", "toy", "--dir", runs).code == 2
    assert command("export", "toy", "3", "--optuna", target, "--dir", runs).code == 2
    assert command("export", "toy", "--optuna", tmp_path / "none" / "toy.db", "--dir", runs).code == 2

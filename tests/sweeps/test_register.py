"""The command that registers a trial: what it gathers from a real ledger, and that it refuses what has not earned its stage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.session import ray_session
from results import Header, Ledger, ResultRow, config_ids, series
from results.tracking.mlflow_store import connect, place_of
from sweeps import run
from sweeps.commands.registry import EVENT, standing
from sweeps.home import header_of
from sweeps.promote import OPENED, RESULT
from sweeps.runner import LEDGER, Search
from sweeps.study import Study, StudyError

pytest.importorskip("mlflow")
Command = Callable[..., Any]
DAYS = 400
FILE = """\
name: toy
trainable: alphasweep_toys:Parabola
space: {x: [0, 1, 2, 4, 5], shape: [round, flat]}
constraints: [cost <= 4]
"""


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables: making them takes seconds."""
    home = tmp_path_factory.mktemp("empty")
    connect(place_of({}, home)).search_experiments()
    return home / "tracking" / "mlflow.db"


@pytest.fixture
def home(toys: Path, tmp_path: Path, empty: Path) -> Path:
    """A study's folder, made without Ray: trial 2 is the best, and earns what cannot be luck; the others earn nothing."""
    file, home = tmp_path / "toy.yaml", tmp_path / "runs" / "toy"
    file.write_text(FILE)
    (home / "tracking").mkdir(parents=True)
    shutil.copy(empty, home / "tracking" / "mlflow.db")
    search = Search(Study.load(file))
    header: Header = header_of(search, search.prepare())
    configs = [search.config(c) for c in search.sampler.configs(0, 10)]
    ids = config_ids(header.context_id, configs, header.defaults)
    rows = [ResultRow(i, ids[i], c, "completed", [10.0 if i == 2 else -i, c["x"], 0.1]) for i, c in enumerate(configs)]
    with Ledger.create(home / LEDGER, header) as ledger:
        ledger.begin_session({})
        plan = ledger.add_plan(search.space.to_dict(), {"sampler": "grid", "trials": None, "seed": 0, "fixed": {}}, 10)
        attempt = ledger.open_attempt(plan.plan_id, 10)
        daily = np.random.default_rng(1).normal(0.0, 0.01, (10, DAYS))
        daily[2] += 0.005
        series.write_days(home, np.arange(DAYS).astype("datetime64[D]"), np.repeat(np.arange(4), DAYS // 4), {"flat": np.zeros(DAYS)})
        series.write(ledger, home, attempt, ids, daily.astype(np.float32))
        ledger.accept(attempt, rows)
    return home


def opened(home: Path, trial: int, gain: float, opening: int = 1) -> None:
    with Ledger.open(home / LEDGER) as ledger:
        ledger.record(OPENED, trial=trial, by="me", opening=opening)
        ledger.record(RESULT, trial=trial, metrics={"total_return": gain})


def test_the_winner_is_registered_only_as_far_as_its_evidence_goes(home: Path, command: Command) -> None:
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        found = standing(home, ledger)
    assert found.trial == 2 and found.survives and found.dsr is not None and found.dsr > 0.95 and not found.unmet
    done = command("register", "toy", "--dir", home.parent, "--stage", "production")
    assert done.code == 2 and "trial 2 cannot be in production: the study has no holdout" in done.err
    opened(home, 2, -0.0781)
    done = command("register", "toy", "--dir", home.parent, "--stage", "production")
    assert done.code == 2 and "trial 2 cannot be in production: the holdout lost 7.81%" in done.err
    opened(home, 2, 0.031, opening=2)
    done = command("register", "toy", "--dir", home.parent, "--stage", "production")
    assert done.code == 0 and "toy/2 is version 1 of toy, in production." in done.out
    assert "opening 2: total_return 0.031" in done.out and "models:/toy@production (config)" in done.out
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        events = ledger.events(EVENT)
    assert [(e["trial"], e["detail"]["stage"], e["detail"]["version"]) for e in events] == [(2, "production", "1")]


def test_a_trial_that_luck_explains_or_a_constraint_excludes_stays_a_candidate(home: Path, command: Command) -> None:
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        assert standing(home, ledger, 9).unmet == ("cost <= 4",)
    done = command("register", "toy", 9, "--dir", home.parent, "--stage", "staging")
    assert done.code == 2 and "its verdict is" in done.err and "it does not meet cost <= 4" in done.err
    assert "toy/9 is version 1 of toy, in candidate." in command("register", "toy", 9, "--dir", home.parent).out
    assert "toy/9 is in no stage of toy any more." in command("register", "toy", 9, "--dir", home.parent, "--stage", "archived").out


def test_an_export_of_another_trial_is_refused(home: Path, tmp_path: Path, command: Command) -> None:
    export = tmp_path / "export"
    export.mkdir()
    (export / "policy.json").write_text(json.dumps({"name": "toy/7/fold-1"}))
    done = command("register", "toy", 2, "--dir", home.parent, "--files", export)
    assert done.code == 2 and "this is an export of toy/7/fold-1, not of toy/2" in done.err
    (export / "policy.json").write_text(json.dumps({"name": "toy/2/fold-1"}))
    done = command("register", "toy", 2, "--dir", home.parent, "--files", export)
    assert done.code == 0 and "models:/toy@candidate (files-" in done.out


def test_a_study_without_a_result_has_nothing_to_register(toys: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(FILE)
    search = Search(Study.load(tmp_path / "toy.yaml"))
    with (
        Ledger.create(tmp_path / LEDGER, header_of(search, search.prepare())) as ledger,
        pytest.raises(StudyError, match="nothing to register"),
    ):
        standing(tmp_path, ledger)


def test_an_unknown_stage_is_said_before_anything_is_looked_at(command: Command) -> None:
    done = command("register", "nothing", "--stage", "live")
    assert done.code == 2 and "--stage live: there are candidate, staging, production" in " ".join(done.err.split())


@pytest.mark.ray
@pytest.mark.slow
def test_what_a_trial_has_learnt_is_the_version_and_of_a_promoted_one_what_was_trained_for_the_holdout(
    tmp_path: Path, empty: Path, command: Command
) -> None:
    keys: dict[str, Any] = {
        "name": "walks",
        "trainable": "tests.sweeps.toy_steps:Forecast",
        "fixed": {"paces": 12},
        "space": {"goal": [0.1, 1.5]},
        "seed": 3,
    }
    with ray_session(None, 1):
        assert run(Study.parse(keys), tmp_path, slots=1).tally.done == 2
    place = tmp_path / "walks" / "tracking"
    place.mkdir(exist_ok=True)
    shutil.copy(empty, place / "mlflow.db")
    told = ("register", "walks", "--dir", tmp_path)
    done = command(*told, "--stage", "staging")
    assert "walks/1 is version 1 of walks, in staging." in done.out and "models:/walks@staging (search)" in done.out
    assert "better than no model" in done.out
    assert command(*told[:2], 0, *told[2:], "--stage", "staging").code == 2
    done = command(*told, "--stage", "production")
    assert done.code == 2 and "no result on the holdout" in done.err
    assert command("promote", "walks", "--dir", tmp_path).code == 0
    done = command(*told, "--stage", "production")
    assert "walks/1 is version 2 of walks, in production." in done.out and "models:/walks@production (holdout-1)" in done.out
    assert "version 2 of walks, in production" in command(*told, "--stage", "production").out
    kept = {path.parent.name: json.loads(path.read_text()) for path in place.rglob("models/*/run_metadata.json")}
    parts = {folder: (made["parent_run"], made["train_end"]) for folder, made in kept.items()}
    assert parts == {"trial-1-search": ("walks/1", "search"), "trial-1-holdout-1": ("walks/1/holdout", "holdout")}

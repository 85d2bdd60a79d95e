"""Constraints of a study and of the command: what is validated, what is judged, and that they change no result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from results import Header, Ledger, ResultRow, config_ids, series
from results.constraints import parse
from sweeps.evidence import judge
from sweeps.home import header_of
from sweeps.runner import LEDGER, Search
from sweeps.study import Study, StudyError

Command = Callable[..., Any]
FILE = """\
name: toy
trainable: alphasweep_toys:Parabola
space:
  x: [0, 1, 2, 4, 5]
  shape: [round, flat]
constraints: [share >= 20%]
"""
DAYS = 400


@pytest.fixture
def file(toys: Path, tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def folder(file: Path, tmp_path: Path) -> Path:
    """A folder with the study's real ledger and daily returns of its ten points, made without Ray."""
    home = tmp_path / "runs" / "toy"
    home.mkdir(parents=True)
    search = Search(Study.load(file))
    header: Header = header_of(search, search.prepare())
    configs = [search.config(c) for c in search.sampler.configs(0, 10)]
    ids = config_ids(header.context_id, configs, header.defaults)
    rows = [
        ResultRow(i, ids[i], c, "completed", [-((c["x"] - 1) ** 2), c["x"], float("nan") if c["x"] == 5 else c["x"] / 10])
        for i, c in enumerate(configs)
    ]
    with Ledger.create(home / LEDGER, header) as ledger:
        ledger.begin_session({})
        plan = ledger.add_plan(search.space.to_dict(), {"sampler": "grid", "trials": None, "seed": 0, "fixed": {}}, 10)
        attempt = ledger.open_attempt(plan.plan_id, 10)
        days = np.arange(DAYS).astype("datetime64[D]")
        series.write_days(home, days, np.repeat(np.arange(4), DAYS // 4), {"flat": np.zeros(DAYS)})
        series.write(ledger, home, attempt, ids, np.random.default_rng(1).normal(0.0, 0.01, (10, DAYS)).astype(np.float32))
        ledger.accept(attempt, rows)
    return home.parent


def test_a_study_with_constraints_is_valid_and_says_the_same_when_stored(file: Path) -> None:
    study = Study.load(file)
    Search(study).check()
    assert study.constraints == ["share >= 20%"]
    assert study == Study.parse(json.loads(json.dumps(study.model_dump())))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            "[shre >= 1]",
            r"line 6: constraints: 'shre >= 1': there is no metric 'shre'; there are score, cost, share. Did you mean 'share'\?$",
        ),
        ("[share = 1]", r"line 6: constraints: 'share = 1' is no constraint; write METRIC OP NUMBER"),
        ("share > 1", r"line 6: constraints: give a list, for example \['trades >= 30'\] \(it is 'share > 1'\)$"),
        ("[5]", r"line 6: constraints.0: give text, in quotes: '5'"),
    ],
)
def test_a_wrong_constraint_is_told_by_line_and_nearest_spelling(file: Path, given: str, told: str) -> None:
    file.write_text(FILE.replace("[share >= 20%]", given))
    with pytest.raises(StudyError, match=told):
        study = Study.load(file)
        with study.located():
            Search(study).check()


def test_constraints_change_neither_the_context_nor_an_identity(file: Path) -> None:
    contexts = set()
    for item in ("constraints=", "constraints=[cost < 3, share > -5%]"):
        search = Search(Study.load(file, [item]))
        header = header_of(search, search.prepare())
        contexts.add((header.context_id, *config_ids(header.context_id, search.sampler.configs(0, 10), header.defaults)))
    assert len(contexts) == 1


def test_the_winner_judged_is_the_best_that_meets_the_constraints(folder: Path) -> None:
    free, own = judge(folder / "toy", constraints=()), judge(folder / "toy")
    assert free.board["trial"].iloc[0] == 2 and own.board["trial"].iloc[0] == 4
    for found, trial in ((free, 2), (own, 4)):
        assert found.has_winner and found.assessment is not None and found.position is not None
        with Ledger.open(folder / "toy" / LEDGER, readonly=True) as ledger:
            ids, _ = series.read(ledger, folder / "toy")
            assert ids[found.assessment.winner].hex() == ledger.trial(trial)["config_id"]
    assert own.board["meets"].tolist() == [True] * 4 + [False] * 6
    assert own.board["trial"].tolist()[-2:] == [8, 9]  # their share is n/a
    assert own.board["rank"].tolist() == list(range(1, 11))


def test_where_none_meets_the_constraints_nobody_is_judged(folder: Path) -> None:
    found = judge(folder / "toy", constraints=parse(["score > 5"], ["score"]))
    assert not found.has_winner and found.assessment is None and found.position is None
    assert found.board["trial"].iloc[0] == 2


def test_the_leaderboard_takes_constraints_of_the_study_of_the_command_and_of_the_file(command: Command, folder: Path, file: Path) -> None:
    done = command("leaderboard", "toy", "--dir", folder)
    assert done.code == 0 and re.search(r"^ +1 +4 ", done.out, re.M) and "4 of 10 trials meet share >= 20%; ✗ does not" in done.out
    done = command("leaderboard", "toy", "--dir", folder, "--where", "cost > 3", "--where", "score>-99")
    assert re.search(r"^ +1 +6 ", done.out, re.M) and "share >= 20% and cost > 3 and score > -99" in " ".join(done.out.split())
    assert max(map(len, done.out.splitlines()[:8])) <= 80
    file.write_text(FILE.replace("constraints: [share >= 20%]\n", ""))
    done = command("leaderboard", file, "--dir", folder)
    assert re.search(r"^ +1 +2 ", done.out, re.M) and "✗" not in done.out


def test_the_command_says_that_no_trial_meets_the_constraints(command: Command, folder: Path) -> None:
    done = command("leaderboard", "toy", "--dir", folder, "--where", "score > 5", "--top", 2)
    told = " ".join(done.out.split())
    assert done.code == 0 and "no trial meets share >= 20% and score > 5; these are the nearest" in told
    assert re.search(r"^ +✗ +4 ", done.out, re.M) and "verdict n/a: no trial meets the constraints, so there is no winner" in told


def test_the_command_shows_the_trials_that_no_other_dominates(command: Command, folder: Path) -> None:
    done = command("leaderboard", "toy", "--dir", folder, "--pareto", "score, share")
    told = " ".join(done.out.split())
    assert done.code == 0 and "toy: 4 of 4 trials not dominated in score, share" in told and "verdict" not in told
    assert re.findall(r"^ +(\d) +(\d) ", done.out, re.M) == [("1", "4"), ("2", "5"), ("3", "6"), ("4", "7")]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--where", "shre > 1"], "--where: 'shre > 1': there is no metric 'shre'; there are score, cost, share. Did you mean 'share'?"),
        (["--where", "share"], "--where: 'share' is no constraint; write METRIC OP NUMBER"),
        (["--pareto", "score"], "a Pareto list needs two metrics or more; metrics with a direction are score, cost, share"),
        (["--pareto", "score,profit"], "has no metric 'profit'; it has score, cost, share"),
        (["--pareto", "score,cost", "--sort", "cost"], "--pareto sorts by its first metric; leave --sort out."),
    ],
)
def test_a_wrong_option_is_a_message(command: Command, folder: Path, options: list[str], told: str) -> None:
    done = command("leaderboard", "toy", "--dir", folder, *options)
    assert done.code == 2 and "Traceback" not in done.err
    assert told in " ".join(done.err.replace("│", " ").split())


def test_the_constraints_of_the_documentation_are_valid() -> None:
    page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    texts = yaml.safe_load(re.search(r"`constraints: (\[.*?\])`", page).group(1))  # type: ignore[union-attr]
    texts += re.findall(r'--where "(.*?)"', page)
    assert len(texts) == 3
    Search(Study.load("selector_grid", [f"constraints={json.dumps(texts)}"])).check()
    metrics = [m.name for m in Search(Study.load("selector_grid")).trainable.metrics if m.direction]
    [pareto] = re.findall(r"--pareto ([a-z_,]+)`", page)
    assert set(pareto.split(",")) <= set(metrics)

"""Campaigns: what a file may say, what is carried from stage to stage, and what runs when."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cluster.lanes import Lane
from results import Ledger, LedgerLocked
from search_spaces import Space
from sweeps.campaign.carry import Winner, _apply, prepare, winners
from sweeps.campaign.compare import compare
from sweeps.campaign.conduct import Conduct
from sweeps.campaign.spec import LIBRARY, Campaign, Carry, Stage, library, load
from sweeps.home import LEDGER
from sweeps.lanes.several import Driver, Job
from sweeps.runner import run
from sweeps.study import Study
from sweeps.study_yaml import StudyError

TWO_STAGES = """\
campaign: small
baseline: wide
set: {data.bars: 1800}
stages:
  narrow:
    study: selector_grid
    set: {space: {intensity: [1.0, 1.1], max_positions: [1, 2]}}
    carry:
      - {from: wide, what: best, fix: [dip_threshold]}
      - {from: wide, what: top_k, k: 2, try: {min_edge: min_edge}}
  wide:
    study: selector_grid
    set: {space: {dip_threshold: [0.0, 0.01], min_edge: [0.0, 0.001]}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def searched(tmp_path: Path) -> tuple[Campaign, Path]:
    """The first stage, really run."""
    made = load(write(tmp_path, TWO_STAGES))
    path, _ = prepare(made, made.stages["wide"], tmp_path)
    result = run(Study.load(path), tmp_path, here=60.0)
    assert result.tally.done == 4 and result.folder.name == "small.wide"
    return made, tmp_path


def test_stages_are_put_in_the_order_they_need_each_other(tmp_path: Path) -> None:
    made = load(write(tmp_path, TWO_STAGES))
    assert list(made.stages) == ["wide", "narrow"] and made.depth("narrow") == 1
    assert made.stages["narrow"].overrides == (
        "data.bars=1800",
        'space={"intensity": [1.0, 1.1], "max_positions": [1, 2]}',
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("campaign: a b\nstages: {}", "line 1: campaign: name the campaign with letters"),
        ("campaign: a", "stages: list the stages"),
        ("campaign: a\nstage: {}", "line 2: stage: not a key here; did you mean 'stages'"),
        ("campaign: a\nstages:\n  b: selector_grid", "line 3: stages.b: give at least its study"),
        ("campaign: a\nstages:\n  b: {}", "line 3: stages.b: give its study"),
        ("campaign: a\nstages:\n  b: {study: s, after: c}", "line 3: stages.b: needs 'c', which is no stage; there are b"),
        ("campaign: a\nstages:\n  b: {study: s, after: c}\n  c: {study: s, after: b}", "line 2: stages: they need each other in a circle"),
        ("campaign: a\nstages:\n  campaign: {study: s}", "line 3: stages.campaign: a stage is not called campaign"),
        ("campaign: a\nbaseline: x\nstages:\n  b: {study: s}", "line 2: baseline: 'x' is no stage; there are b"),
        ("campaign: a\nstages:\n  b: {study: s, carry: [{from: b, what: worst}]}", "what: 'worst' is none of best, top_k, pareto"),
        ("campaign: a\nstages:\n  b: {study: s, carry: [{from: b}]}", "carries nothing: give fix, try, enqueue or adapter"),
        ("campaign: a\nstages:\n  b: {study: s, carry: [{from: b, k: 3, fix: [x]}]}", "k: how many, from 1 to 1000; best is one"),
        ("campaign: a\nstages:\n  b: {study: s, set: [x]}", "stages.b.set: give a mapping of keys to values"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=message):
        load(write(tmp_path, text))


def test_campaigns_of_the_library_are_made_of_studies_that_exist() -> None:
    assert {"pnl_plan", "cross_learning"} <= set(library())
    for path in library().values():
        made = load(path)
        for stage in made.stages.values():
            assert Study.load(stage.study, stage.overrides).trainable


def test_stages_of_cross_learning_differ_from_its_baseline_in_what_they_are_called_for_alone() -> None:
    made = load("cross_learning")
    studies = {name: Study.load(stage.study, stage.overrides) for name, stage in made.stages.items()}
    base = studies[made.baseline]
    assert base.fixed["grouping"] == "none" and Space.parse(base.space).size == 8
    for name, grouping in (("majors", "majors"), ("together", "all"), ("tuned_alone", "none"), ("tuned_groups", None)):
        study = studies[name]
        assert (study.data, study.protocol, study.space, study.settings) == (base.data, base.protocol, base.space, base.settings)
        assert study.fixed == {key: value for key, value in {**base.fixed, "grouping": grouping}.items() if value is not None}
    alone, groups = studies["tune_alone"], studies["tune_groups"]
    assert {**groups.fixed, "grouping": "none"} == alone.fixed and groups.space["learning_rate"] == alone.space["learning_rate"]
    assert set(groups.space["grouping"]) == {"majors", "all"}, "what a forecaster cannot forecast with is not to be carried to it"
    assert (alone.data, alone.settings, alone.seed) == (groups.data, groups.settings, groups.seed)


def test_winners_are_written_into_the_next_study_and_the_same_results_give_the_same_file(searched: tuple[Campaign, Path]) -> None:
    made, folder = searched
    with Ledger.open(folder / "small.wide" / LEDGER, readonly=True) as ledger:
        frame = ledger.frame().sort_values("sortino", ascending=False)
    path, said = prepare(made, made.stages["narrow"], folder)
    text = path.read_text()
    study = Study.load(path)
    assert study.name == "small.narrow" and study.fixed["dip_threshold"] == frame["dip_threshold"].iloc[0]
    assert study.space["min_edge"] == list(dict.fromkeys(frame["min_edge"].iloc[:2]))
    assert set(study.space) == {"intensity", "max_positions", "min_edge"}
    assert said[0] == f"dip_threshold = {study.fixed['dip_threshold']} (small.wide/{frame['trial'].iloc[0]})"
    assert prepare(made, made.stages["narrow"], folder)[0].read_text() == text


def test_a_stage_that_was_given_something_else_is_not_overwritten_unless_asked(searched: tuple[Campaign, Path]) -> None:
    made, folder = searched
    path, _ = prepare(made, made.stages["narrow"], folder)
    run(Study.load(path), folder, here=60.0)
    mapping = yaml.safe_load(path.read_text())
    mapping["fixed"]["dip_threshold"] = 0.005  # as if the winner had been another one then
    path.write_text(yaml.safe_dump(mapping))
    with pytest.raises(StudyError, match=r"what is carried to narrow has changed since it was run .*--renew"):
        prepare(made, made.stages["narrow"], folder)
    assert (folder / "small.narrow" / LEDGER).exists()
    prepare(made, made.stages["narrow"], folder, renew=True)
    assert not (folder / "small.narrow").exists() and (folder / ".aside" / "small.narrow.1" / LEDGER).exists()


def test_what_cannot_be_carried_is_said(searched: tuple[Campaign, Path]) -> None:
    made, folder = searched
    stage = made.stages["narrow"]
    object.__setattr__(stage, "carry", (Carry("wide", fix={"colour": "colour"}),))
    with pytest.raises(StudyError, match=r"stage narrow: small\.wide has no parameter colour; it has .*dip_threshold"):
        prepare(made, stage, folder)
    with pytest.raises(StudyError, match="pareto needs a study of two objectives"):
        winners(folder / "small.wide", Carry("wide", "pareto", 5))


def test_results_that_somebody_writes_are_not_set_aside(searched: tuple[Campaign, Path]) -> None:
    made, folder = searched
    path, _ = prepare(made, made.stages["narrow"], folder)
    run(Study.load(path), folder, here=60.0)
    path.write_text(path.read_text() + "seed: 7\n")
    with Ledger.open(folder / "small.narrow" / LEDGER), pytest.raises(LedgerLocked):
        prepare(made, made.stages["narrow"], folder, renew=True)
    assert (folder / "small.narrow" / LEDGER).exists()


def winner(**config: object) -> Winner:
    return Winner("small.wide", 3, "ab" * 16, config)


def test_lists_are_carried_and_conditions_go_on_to_hold(tmp_path: Path) -> None:
    stage = Stage("next", "selector_grid")
    mapping: dict[str, Any] = {"space": {"mode": ["a", "b"], "k": {"grid": [1, 2], "when": "mode == 'a'"}}, "fixed": {"k2": 0}}
    found = [winner(mode="a", k=1, each=[1, 2]), winner(mode="b", k=2, each=[1, 2])]
    _apply(mapping, Carry("wide", "top_k", 2, sweep={"each": "each", "k": "k"}), found, stage, tmp_path, tmp_path)
    assert mapping["space"]["each"] == [[1, 2]]
    assert mapping["space"]["k"] == {"grid": [1, 2], "when": "mode == 'a'"}
    _apply(mapping, Carry("wide", fix={"mode": "mode"}), found, stage, tmp_path, tmp_path)
    assert Space.parse(mapping["space"]).size == 2 and "mode" not in mapping["fixed"]


def test_the_weights_of_another_winner_do_not_take_the_place_of_those_a_stage_was_run_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(home: Path, trial: int, to: Path) -> None:
        to.mkdir(parents=True)
        (to / "weights").write_text(str(trial))

    monkeypatch.setattr("sweeps.commands.export.export_trial", export)
    places = []
    for number, key in ((3, "ab" * 16), (4, "cd" * 16), (3, "ab" * 16)):
        mapping: dict[str, Any] = {}
        carried = Carry("wide", adapter="settings.adapter")
        _apply(mapping, carried, [Winner("small.wide", number, key, {})], Stage("next", "s"), tmp_path, tmp_path)
        places.append(Path(mapping["settings"]["adapter"]))
    assert places[0] == places[2] != places[1] and all(place.is_absolute() for place in places)
    assert [(place / "weights").read_text() for place in places] == ["3", "4", "3"]


def test_stages_share_out_what_those_at_work_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    made = load(write(tmp_path, "campaign: c\nstages:\n  long: {study: selector_grid}\n  short: {study: selector_grid}\n"
                      "  after: {study: selector_grid, after: short}\n  other: {study: selector_grid, after: short}\n"))  # fmt: skip
    conductor = Conduct(made, tmp_path)
    begun = [Driver(job) for job in conductor([])]
    assert {driver.job.study: driver.job.lane.cores for driver in begun} == {"c.long": (0, 1), "c.short": (2, 3)}
    next(driver for driver in begun if driver.job.study == "c.short").code = 0
    then = conductor(begun)
    assert {job.study: job.lane.cores for job in then} == {"c.after": (2,), "c.other": (3,)}


def test_a_stage_that_finds_no_core_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    text = "campaign: c\nstages:\n" + "".join(f"  {name}: {{study: selector_grid}}\n" for name in "abz")
    conductor = Conduct(load(write(tmp_path, text)), tmp_path)
    lane = Lane("whole", (0, 1))
    busy = Driver(Job("c.a", lane, ()))
    assert conductor([busy]) == []
    busy.code = 0
    assert {job.study for job in conductor([busy])} == {"c.b", "c.z"}


def test_a_stage_starts_when_what_it_needs_has_finished_and_not_if_that_failed(searched: tuple[Campaign, Path]) -> None:
    made, folder = searched
    conductor = Conduct(made, folder)
    first = conductor([])
    assert [job.study for job in first] == ["small.wide"]
    begun = [Driver(job) for job in first]
    assert conductor(begun) == []
    begun[0].code = 0
    second = conductor(begun)
    assert [job.study for job in second] == ["small.narrow"] and second[0].arguments[:2] == (
        "run",
        str(folder / "small.campaign" / "narrow.yaml"),
    )

    failed = Conduct(made, folder)
    begun = [Driver(job) for job in failed([])]
    begun[0].code = 1
    assert failed(begun) == [] and failed.blocked == {"narrow": "wide did not finish"}


def test_stages_are_compared_with_the_baseline_day_by_day(searched: tuple[Campaign, Path]) -> None:
    made, folder = searched
    path, _ = prepare(made, made.stages["narrow"], folder)
    result = run(Study.load(path), folder, here=60.0)
    base, other = compare(made, folder)
    assert base.stage == "wide" and np.isnan(base.gain) and other.days >= 30
    board = result.leaderboard(1)
    assert other.best == board["sortino"].iloc[0] and other.winner == board["trial"].iloc[0]
    assert other.low <= other.gain <= other.high


def call(folder: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "COLUMNS": "160"}
    return subprocess.run(
        [sys.executable, "-m", "sweeps.cli", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.ray
@pytest.mark.slow
def test_the_command_runs_all_stages_and_asked_again_has_nothing_to_do(tmp_path: Path) -> None:
    write(tmp_path, TWO_STAGES)
    first = call(tmp_path, ["campaign", "run", "c.yaml"])
    assert first.returncode == 0, first.stdout + first.stderr
    assert "narrow: dip_threshold = " in first.stdout and "small.narrow [narrow] finished" in first.stdout
    assert "the baseline" in first.stdout and "% a day (" in first.stdout
    before = call(tmp_path, ["verify", "small.narrow"]).stdout
    again = call(tmp_path, ["campaign", "run", "c.yaml"])
    assert again.returncode == 0 and call(tmp_path, ["verify", "small.narrow"]).stdout == before


def test_the_plan_of_cross_learning_is_shown_without_running_anything(tmp_path: Path) -> None:
    shown = call(tmp_path, ["campaign", "show", "cross_learning"])
    assert shown.returncode == 0, shown.stderr
    rows = {line.split()[0]: line for line in shown.stdout.splitlines() if line.strip()}
    assert "tune_alone" in rows["tuned_alone"] and "weights as settings.adapter of the best of tune_alone" in shown.stdout
    assert "grouping, weights as settings.adapter of the best of tune_groups" in shown.stdout
    assert "–" in rows["alone"] and "–" in rows["together"] and not list(tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.slow
def test_cross_learning_runs_through_and_hands_on_weights_and_grouping(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    plan = yaml.safe_load((LIBRARY / "cross_learning.yaml").read_text())
    plan["set"] |= {"data.bars": 2400, "data.symbols": ["BTCUSD", "ETHUSD", "SOLUSD"], "protocol.folds": 1}
    for stage in plan["stages"].values():
        sets = stage["set"]
        if stage["study"] == "lora_groups":
            sets["settings"] |= {"eval_every": 2, "origins": 10}
            sets["fixed"] |= {"steps": 2, "context": 64, "rank": 8}
            sets["space"]["learning_rate"] = [1e-3]
        else:
            sets["fixed"]["context"] = 64
            sets["space"] = {"min_edge": [0.0, 0.001]}
    write(tmp_path, yaml.safe_dump(plan, sort_keys=False))
    done = call(tmp_path, ["campaign", "run", "c.yaml"])
    assert done.returncode == 0, done.stdout + done.stderr
    found = {each.stage: each for each in compare(load(tmp_path / "c.yaml"), tmp_path / "runs")}
    assert [each.trials for each in found.values()] == [2, 2, 2, 1, 2, 2, 2]
    for stage in ("majors", "together", "tuned_alone", "tuned_groups"):
        assert found[stage].days >= 30 and found[stage].low <= found[stage].gain <= found[stage].high
    carried = Study.load(tmp_path / "runs" / "cross_learning.campaign" / "tuned_groups.yaml")
    assert carried.fixed["grouping"] in ("majors", "all") and (Path(carried.settings["adapter"]) / "run_metadata.json").is_file()

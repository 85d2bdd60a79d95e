from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from results import Header
from results.tracking.mlflow import MlflowTracker
from results.tracking.mlflow_store import connect, place_of
from results.tracking.registry import ARCHIVED, STAGES, Standing, refusals, register, version_of
from results.tracking.tracker import FINISHED, About, TrackerError

pytest.importorskip("mlflow")

EARNED = Standing(
    trial=26,
    config_id="26" * 16,
    config={"x": 1, "mode": "high_low"},
    status="completed",
    legacy=False,
    survives=True,
    verdict="survives deflation: DSR 0.974 over 54 looks",
    dsr=0.9749,
    holdout={"total_return": 0.031},
    opening=1,
)
UNOPENED = replace(EARNED, holdout=None, opening=0)
LUCK = replace(EARNED, survives=False, verdict="indistinguishable from luck: DSR 0.921 over 54 looks")


@pytest.fixture
def about(tmp_path: Path, mlflow_tables: Path, make_header: Callable[..., Header]) -> About:
    (tmp_path / "tracking").mkdir()
    shutil.copy(mlflow_tables, tmp_path / "tracking" / "mlflow.db")
    return About(make_header(), "0123456789abcdef", 54, False, ("x", "mode"), tmp_path)


def versions(about: About) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Aliases and tags of each version."""
    client = connect(place_of({}, about.home))
    found = [client.get_model_version("grid", each.version) for each in client.search_model_versions("name = 'grid'")]
    return {str(each.version): (list(each.aliases), dict(each.tags)) for each in found}


@pytest.mark.parametrize(
    ("standing", "stage", "reasons"),
    [
        (EARNED, "production", ()),
        (UNOPENED, "staging", ()),
        (LUCK, "candidate", ()),
        (LUCK, "staging", ("its verdict is indistinguishable from luck: DSR 0.921 over 54 looks",)),
        (UNOPENED, "production", ("there is no result on the holdout (alphasweep promote opens it, once)",)),
        (replace(EARNED, fails="the holdout lost 7.81%"), "production", ("the holdout lost 7.81%",)),
        (replace(EARNED, fails="the holdout lost 7.81%"), "staging", ()),
        (
            replace(UNOPENED, fails="the study has no holdout: it does not cut time"),
            "production",
            ("the study has no holdout: it does not cut time",),
        ),
        (replace(EARNED, unmet=("trades >= 30",)), "staging", ("it does not meet trades >= 30",)),
        (replace(EARNED, legacy=True), "candidate", ("legacy results contain look-ahead",)),
        (replace(EARNED, status="stopped"), "candidate", ("it was stopped, not completed",)),
        (replace(EARNED, status="failed"), "candidate", ("it failed",)),
    ],
)
def test_a_stage_is_given_to_what_has_earned_it_and_refused_with_reasons(standing: Standing, stage: str, reasons: tuple[str, ...]) -> None:
    assert refusals(standing, stage) == reasons


def test_each_stage_needs_what_the_ones_before_need() -> None:
    for bad in (LUCK, UNOPENED, replace(EARNED, legacy=True), replace(EARNED, unmet=("a > 1",), fails="it lost")):
        for lower, higher in pairwise(STAGES):
            assert set(refusals(bad, lower)) <= set(refusals(bad, higher))


def test_nothing_refused_gets_into_the_registry(about: About) -> None:
    with pytest.raises(TrackerError, match=r"grid: trial 26 cannot be in production: its verdict is .* luck.*; there is no result on"):
        register(about, {}, replace(LUCK, holdout=None), "production")
    assert versions(about) == {}


def test_a_version_has_its_stage_as_alias_its_evidence_as_tags_and_its_files(
    about: About, tmp_path: Path, pointed: Callable[[Path], None]
) -> None:
    import mlflow

    policy = tmp_path / "policy"
    (policy / "fold-1").mkdir(parents=True)
    (policy / "fold-1" / "policy.json").write_text("{}")
    made = register(about, {}, EARNED, "production", what="holdout-1", files=policy)
    assert (made.model, made.version, made.stage, made.new, made.replaced) == ("grid", "1", "production", True, "")
    aliases, tags = versions(about)["1"]
    assert aliases == ["production"]
    told = {key.removeprefix("alphasweep."): value for key, value in tags.items()}
    assert told == {
        "run_id": about.run_id,
        "trial": "26",
        "what": "holdout-1",
        "config_id": EARNED.config_id,
        "verdict": EARNED.verdict,
        "dsr": "0.974",
        "holdout_opening": "1",
        "holdout.total_return": "0.031",
        "stage": "production",
    }
    pointed(about.home)
    files = Path(mlflow.artifacts.download_artifacts(made.uri))
    assert sorted(str(path.relative_to(files)) for path in files.rglob("*.json")) == ["config.json", "fold-1/policy.json"]
    config: dict[str, Any] = json.loads((files / "config.json").read_text())
    assert config["config"] == EARNED.config and config["data_fingerprint"] == "abc" and config["seed"] == 7


def test_twice_is_once_and_a_higher_stage_is_the_same_version(about: About) -> None:
    assert register(about, {}, EARNED, "candidate").new
    assert not register(about, {}, EARNED, "candidate").new
    assert version_of(about, {}, 26, "config") == "1" and version_of(about, {}, 26, "search") is None
    register(about, {}, EARNED, "staging")
    register(about, {}, EARNED, "production")
    assert {number: aliases for number, (aliases, _) in versions(about).items()} == {"1": ["production"]}
    with pytest.raises(TrackerError, match="trial 26 is in production; --stage archived takes it out, then it can be in staging"):
        register(about, {}, EARNED, "staging")


def test_a_new_winner_takes_the_place_of_the_old_which_is_archived(about: About) -> None:
    register(about, {}, EARNED, "production")
    made = register(about, {}, replace(EARNED, trial=53), "production")
    assert (made.version, made.replaced) == ("2", "1")
    found = versions(about)
    assert [(aliases, tags["alphasweep.stage"]) for aliases, tags in (found["1"], found["2"])] == [
        ([], ARCHIVED),
        (["production"], "production"),
    ]


def test_other_files_of_a_trial_are_another_version_and_the_first_leaves_its_stage(about: About) -> None:
    register(about, {}, UNOPENED, "staging", what="search")
    register(about, {}, EARNED, "production", what="holdout-1")
    assert {number: aliases for number, (aliases, _) in versions(about).items()} == {"1": [], "2": ["production"]}


def test_archived_takes_a_trial_out_and_an_unknown_one_is_said(about: About) -> None:
    register(about, {}, EARNED, "production")
    assert register(about, {}, LUCK, ARCHIVED).stage == ARCHIVED
    assert versions(about)["1"][0] == [] and versions(about)["1"][1]["alphasweep.stage"] == ARCHIVED
    with pytest.raises(TrackerError, match="trial 7 is not in the registry at sqlite"):
        register(about, {}, replace(EARNED, trial=7), ARCHIVED)


def test_another_study_of_the_same_name_in_a_shared_registry_is_not_taken_for_this_one(about: About) -> None:
    register(about, {}, EARNED, "candidate")
    other = replace(about, run_id="f" * 16)
    assert version_of(other, {}, 26, "config") is None
    assert register(other, {}, EARNED, "candidate").version == "2"


def test_what_is_registered_is_kept_with_the_studys_run_and_leaves_its_tracking_alone(about: About) -> None:
    register(about, {}, EARNED, "candidate")
    tracker = MlflowTracker(about, {})
    tracker.open()
    assert connect(place_of({}, about.home)).get_run(tracker.run_id).info.status == "FINISHED"
    tracker.close(FINISHED, {})
    made = register(about, {}, EARNED, "staging")
    assert made.version == "1" and MlflowTracker(about, {}).open().points == 0
    kept = list((about.home / "tracking" / "mlflow-artifacts").rglob("models/trial-26-config/config.json"))
    assert len(kept) == 1 and tracker.run_id in str(kept[0])

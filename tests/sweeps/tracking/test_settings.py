"""The key `tracking` of a study file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.growing import extended
from sweeps.study import Study, StudyError
from sweeps.tracking.settings import Wanted

BASE = {"name": "a", "trainable": "selector", "space": {"min_edge": [0.0]}}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["wandb", "jsonl"], {"wandb": {}, "jsonl": {}}),
        ("wandb", {"wandb": {}}),
        ({"wandb": {"mode": "online"}, "mlflow": None}, {"wandb": {"mode": "online"}, "mlflow": {}}),
        (["my.trackers:Mine"], {"my.trackers:Mine": {}}),
        (None, {}),
        ([], {}),
    ],
)
def test_trackers_are_a_list_or_a_mapping_of_options(given: Any, wanted: dict[str, Any]) -> None:
    assert Study.parse(BASE | {"tracking": given}).tracking == wanted


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["wnadb"], "'wnadb' is not a tracker; there are wandb, mlflow, tensorboard, jsonl.* Did you mean 'wandb'?"),
        (5, "give a list of trackers"),
        ({"wandb": 5}, "tracking.wandb: give a mapping of options"),
        ({"wandb": {"trials": "all"}}, "tracking.wandb.trials: give auto, none, or how many"),
        ({"wandb": {"trials": True}}, "tracking.wandb.trials"),
        ({"wandb": {"mode": "onlin"}}, r"tracking\.wandb\.mode: give offline or online \(it is 'onlin'\)"),
        ({"wandb": {"projct": "x"}}, "projct: not an option of wandb; there are project, entity, mode, trials. Did you mean 'project'"),
        ({"mlflow": {"uri": "http://me:abc123456@host/"}}, "tracking.mlflow.uri: leave the password out of the address"),
        ({"wandb": {"api_key": "abc123456"}}, "tracking.wandb.api_key: secrets do not belong in a study"),
        ({"mlflow": {"auth": {"password": "abc123456"}}}, "tracking.mlflow.password: secrets"),
    ],
)
def test_what_cannot_be_is_refused_with_the_key_and_never_with_a_secret(given: Any, words: str) -> None:
    with pytest.raises(StudyError, match=words) as error:
        Study.parse(BASE | {"tracking": given})
    assert "abc123456" not in str(error.value)


def test_every_mistake_is_said_at_once() -> None:
    with pytest.raises(StudyError) as error:
        Study.parse(BASE | {"tracking": {"wandd": {}, "wandb": {"mode": "onlin", "api_key": "abc123456"}, "jsonl": {"fiel": "x"}}})
    assert [line.partition(": ")[2].partition(": ")[0] for line in str(error.value).splitlines()] == [
        *("tracking", "tracking.wandb.api_key", "tracking.wandb.mode", "tracking.jsonl.fiel")
    ]


def test_options_are_set_one_by_one_also_over_a_list(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("name: a\ntrainable: selector\nspace: {min_edge: [0.0]}\ntracking: [jsonl]\n")
    assert Study.load(file, ["tracking.wandb.mode=online"]).tracking == {"jsonl": {}, "wandb": {"mode": "online"}}
    with pytest.raises(StudyError, match=r"tracking\.wandb\.token: secrets") as error:
        Study.load(file, ["tracking.wandb.token=abc123456"])
    assert "abc123456" not in str(error.value)


def test_a_study_that_has_run_can_be_extended_with_a_tracker(here: Path) -> None:
    assert extended(here / "toy", ["tracking=[jsonl]"]).tracking == {"jsonl": {}}


def test_what_was_asked_for_last_is_kept_in_the_folder(tmp_path: Path) -> None:
    assert Wanted.read(tmp_path) is None
    wanted = Wanted({"wandb": {"mode": "online"}}, stepping=True)
    wanted.write(tmp_path)
    assert Wanted.read(tmp_path) == wanted
    (tmp_path / "tracking" / "settings.json").write_text("{")
    assert Wanted.read(tmp_path) is None

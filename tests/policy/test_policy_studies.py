"""The studies of policies in the library are what their descriptions say, and every point of them could run."""

from __future__ import annotations

import pytest

from sweeps import Study
from sweeps.search import Search
from sweeps.study import StudyError
from trainables.contract import check_config

POINTS = {"policy_architecture": 24, "policy_loss": 42, "policy_features": 24, "selector_positions": 27}


@pytest.mark.parametrize("name", POINTS)
def test_every_point_of_a_study_is_one_its_trainable_takes(name):
    search = Search(Study.load(name))
    configs = search.sampler.configs(0, POINTS[name])
    assert search.space.size == POINTS[name] == len(configs)
    assert search.study.objective == search.trainable.objective
    for config in configs:
        search.trainable.check(check_config(search.trainable, search.config(config)), search.study.settings)


def test_what_is_compared_is_compared_with_several_seeds():
    for name in ("policy_architecture", "policy_loss", "policy_features"):
        assert list(Study.load(name).space["repeat"]) == [0, 1, 2]


def test_a_training_loss_ranks_nothing_and_what_does_is_named():
    with pytest.raises(StudyError, match=r"objective: 'train_loss': .* metrics with a direction are .*sortino"):
        Search(Study.load("policy_loss", ["objective=train_loss"])).check()


@pytest.mark.parametrize("name", [name for name in POINTS if name.startswith("policy")])
def test_the_data_of_a_study_have_room_for_its_windows_and_features(name):
    search = Search(Study.load(name))
    prepared = search.prepare()
    for config in search.sampler.configs(0, POINTS[name]):
        complete = {**prepared.defaults, **check_config(search.trainable, search.config(config))}
        search.trainable.check_data(complete, prepared.inputs)

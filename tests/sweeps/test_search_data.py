"""What a trainable cannot do with its data is asked of every point of a space before anything runs."""

from __future__ import annotations

import pytest

from sweeps.search import Search
from sweeps.study import Study
from tests.sweeps.toy_steps import Walk
from trainables.contract import TrainableError


class Fenced(Walk):
    """Its data reach as far as 5, and those of trouble as far as 3."""

    asked: list = []  # noqa: RUF012

    def check_data(self, config, inputs):
        assert set(config) == {p.name for p in self.parameters} and inputs["every"] == 1
        self.asked.append(config["goal"])
        if config["goal"] > (5 if config["trouble"] == "none" else 3):
            raise TrainableError(f"space.goal: {config['goal']} is more than the data have")


def prepare(part="search", **changes):
    Fenced.asked.clear()
    study = Study.parse({"name": "fenced", "trainable": "tests.sweeps.test_search_data:Fenced", **changes})
    return Search(study).prepare(part)


def test_every_point_is_asked_about_as_it_will_be_evaluated():
    prepare(space={"goal": [1, 2, 3], "trouble": ["none", "raises"]})
    assert sorted(Fenced.asked) == [1, 1, 2, 2, 3, 3]
    with pytest.raises(TrainableError, match=r"space\.goal: 4\.0"):
        prepare(space={"goal": [1, 4], "trouble": ["none", "raises"]})
    # One that is no point of the space is not: a value it never meets would refuse it.
    prepare(space={"trouble": ["none", "raises"], "goal": {"derived": "5 if trouble == 'none' else 3"}})


def test_of_a_large_space_each_listed_value_is_asked_about():
    many = {"goal": [*range(-1499, 1), 9], "paces": [1, 2]}
    with pytest.raises(TrainableError, match=r"space\.goal: 9\.0"):
        prepare(space=many)
    assert len(Fenced.asked) > 1000
    prepare(space={**many, "goal": list(range(-1499, 1))})


def test_the_holdout_is_opened_for_one_point_whatever_the_others_are():
    prepare("holdout", space={"goal": [1, 9]})
    assert not Fenced.asked

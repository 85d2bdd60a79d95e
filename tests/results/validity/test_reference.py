from __future__ import annotations

import math

import numpy as np
import pytest

from results.metrics import Metric
from results.validity import ValidityError, has_reference_p, reference_test


def test_a_p_value_is_multiplied_by_the_looks_and_said_in_words() -> None:
    found = reference_test(0.0004, 48)
    assert found.adjusted == pytest.approx(0.0192) and found.better
    assert str(found) == "DM p 0.0004, times 48 looks 0.02: better than no model"
    assert str(reference_test(0.0011, 48)) == "DM p 0.0011, times 48 looks 0.053: not shown to be better than no model"


def test_a_negative_skill_is_called_worse_and_never_one_that_is_shown_to_be_better() -> None:
    assert reference_test(0.98, 16).words(-0.0467) == "DM p 0.98, times 16 looks 1: worse than no model"
    assert reference_test(None, 1).words(-0.0467) == "DM p n/a: worse than no model"
    for skill in (0.0, 0.01, math.nan):
        assert reference_test(0.98, 16).words(skill).endswith(": not shown to be better than no model")
    assert reference_test(0.001, 16).words(-0.0467).endswith(": better than no model")


def test_one_look_needs_no_correction_and_the_threshold_is_five_percent() -> None:
    assert str(reference_test(0.05, 1)) == "DM p 0.05: better than no model"
    assert not reference_test(0.0501, 1).better
    assert str(reference_test(0.3, 10)).startswith("DM p 0.3, times 10 looks 1: not shown")


@pytest.mark.parametrize("p", [None, math.nan])
def test_what_is_not_available_shows_nothing(p: float | None) -> None:
    found = reference_test(p, 48)
    assert math.isnan(found.adjusted) and not found.better
    assert str(found) == "DM p n/a: not shown to be better than no model"


def test_what_cannot_be_a_p_value_is_refused() -> None:
    for p, looks in ((1.2, 3), (-0.1, 3), (0.2, 0)):
        with pytest.raises(ValidityError):
            reference_test(p, looks)


def test_only_a_probability_of_that_name_that_is_to_be_small_counts() -> None:
    assert has_reference_p([Metric("skill", "max"), Metric("dm_p", "min", "probability")])
    assert not has_reference_p([Metric("dm_p", "max", "probability"), Metric("dm_p2", "min", "probability")])
    assert not has_reference_p([Metric("dm_p", "min", "ratio")])


def test_the_best_of_many_without_skill_is_called_better_in_one_study_of_twenty_at_most() -> None:
    best = np.random.default_rng(5).uniform(size=(2000, 48)).min(axis=1)
    assert 0.03 < np.mean([reference_test(p, 48).better for p in best]) < 0.07
    assert np.mean([reference_test(p, 1).better for p in best]) > 0.8  # without counting looks nearly all

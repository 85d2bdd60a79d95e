from __future__ import annotations

import numpy as np
import pytest

from results.validity import ValidityError, compound, sharpe_statistics, superior_predictive_ability


def test_hourly_returns_compound_to_days_by_count_and_by_label() -> None:
    hourly = np.random.default_rng(0).normal(0, 0.01, (50, 3))
    daily = compound(hourly, 24)
    assert daily.shape == (3, 3)
    assert daily[0] == pytest.approx(np.prod(1 + hourly[:24], axis=0) - 1, abs=1e-15)
    assert daily[2] == pytest.approx(np.prod(1 + hourly[48:], axis=0) - 1, abs=1e-15)
    labels = ["a"] * 24 + ["b"] * 24 + ["c"] * 2
    assert np.array_equal(compound(hourly, labels), daily)
    assert compound(hourly.astype(np.float32), 24).dtype == np.float32


def test_labels_that_come_back_are_refused() -> None:
    with pytest.raises(ValidityError, match="sort the periods"):
        compound(np.zeros((3, 1)), [1, 2, 1])
    with pytest.raises(ValidityError, match="2 labels for 3"):
        compound(np.zeros((3, 1)), [1, 2])


def test_a_missing_return_is_named_by_trial_and_period() -> None:
    returns = np.random.default_rng(0).normal(size=(20, 5))
    returns[7, 3] = np.nan
    with pytest.raises(ValidityError, match="trial 3 in period 7 is nan"):
        superior_predictive_ability(returns)


def test_three_dimensions_or_a_single_period_are_refused() -> None:
    with pytest.raises(ValidityError, match="3 dimensions"):
        sharpe_statistics(np.zeros((2, 2, 2)))
    with pytest.raises(ValidityError, match="1 periods"):
        sharpe_statistics([[0.1, 0.2]])

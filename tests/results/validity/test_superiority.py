from __future__ import annotations

import numpy as np
import pytest
from arch.bootstrap import SPA

from results.validity import ValidityError, resample_counts, step_m, superior_predictive_ability
from results.validity.superiority import long_run_variance


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("periods", [60, 101])
def test_p_values_equal_arch_s_on_the_same_resamples(seed: int, periods: int) -> None:
    rng = np.random.default_rng(seed)
    returns = rng.standard_t(4, (periods, 12)) * 0.01 + np.linspace(-0.004, 0.002, 12)
    benchmark = rng.normal(0, 0.005, periods)
    oracle = SPA(-benchmark, -returns, block_size=4, reps=300, seed=seed)
    oracle.compute()
    ours = superior_predictive_ability(returns, benchmark, block=4, reps=300, seed=seed, studentize=False)
    counted = [p * 301 - 1 for p in (ours.p_lower, ours.p_value, ours.p_upper)]
    assert counted == pytest.approx((oracle.pvalues[["lower", "consistent", "upper"]] * 300).tolist(), abs=1e-9)
    assert ours.best == int((returns - benchmark[:, None]).mean(axis=0).argmax())


@pytest.mark.parametrize("periods", [50, 51])
def test_variance_by_fourier_transform_equals_arch_s_loop(periods: int) -> None:
    returns = np.random.default_rng(1).normal(size=(periods, 5))
    oracle = SPA(np.zeros(periods), -returns, block_size=6, reps=1)
    oracle._compute_variance()
    assert long_run_variance(returns, 6) == pytest.approx(oracle._loss_diff_var, rel=1e-10)


def test_studentised_statistic_is_not_led_by_the_most_volatile_trial() -> None:
    rng = np.random.default_rng(2)
    returns = rng.normal(0, 0.001, (365, 30))
    returns[:, 0] += 0.0004  # a clear edge, small in size
    returns[:, 1] *= 300
    returns[:, 1] += 0.01 - returns[:, 1].mean()
    assert superior_predictive_ability(returns, studentize=False).best == 1
    found = superior_predictive_ability(returns)
    assert found.best == 0 and found.p_value < 0.01
    assert found.p_lower <= found.p_value <= found.p_upper


def test_p_values_of_single_trials_name_the_good_ones_only() -> None:
    rng = np.random.default_rng(3)
    returns = rng.normal(0, 0.01, (500, 40))
    returns[:, [4, 9]] += 0.003
    result = superior_predictive_ability(returns, reps=500)
    assert np.flatnonzero(result.trial_p_values < 0.05).tolist() == [4, 9]
    assert result.trial_p_values[result.best] == result.p_value
    assert step_m(returns, block=2, reps=500).tolist() == [4, 9]


def test_under_the_null_five_in_a_hundred_are_rejected() -> None:
    rejected = 0
    for seed in range(150):
        returns = np.random.default_rng([5, seed]).standard_t(4, (250, 40)) * 0.01
        rejected += superior_predictive_ability(returns, block=2, reps=300, seed=seed).p_value <= 0.05
    assert rejected <= 15  # 7.5 are expected


def test_many_poor_trials_do_not_hide_a_good_one_from_the_consistent_test() -> None:
    rng = np.random.default_rng(6)
    returns = rng.normal(0, 0.01, (365, 300))
    returns[:, 1:] -= 0.01
    returns[:, 0] += 0.0022
    result = superior_predictive_ability(returns)
    assert result.p_value < 0.01 < result.p_upper


def test_buy_and_hold_itself_cannot_be_beaten_by_its_copies() -> None:
    market = np.random.default_rng(7).normal(0.001, 0.01, 100)
    with pytest.raises(ValidityError, match="no trial differs"):
        superior_predictive_ability(np.column_stack([market, market]), market)
    one = superior_predictive_ability(np.column_stack([market, market + 0.001 * np.sin(np.arange(100))]), market)
    assert one.trial_p_values[0] == 1.0 and one.best == 1


def test_resamples_can_be_shared_between_benchmarks() -> None:
    returns = np.random.default_rng(8).normal(size=(100, 4))
    counts = resample_counts(100, 3, 200, seed=9)
    shared = superior_predictive_ability(returns, block=3, counts=counts)
    assert shared.p_value == superior_predictive_ability(returns, block=3, reps=200, seed=9).p_value


def test_wrong_benchmarks_and_too_many_trials_for_stepm_are_refused() -> None:
    returns = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(ValidityError, match="benchmark has shape"):
        superior_predictive_ability(returns, np.zeros(19))
    with pytest.raises(ValidityError, match="at most 500 trials"):
        step_m(np.zeros((20, 501)))

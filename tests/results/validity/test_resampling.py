from __future__ import annotations

import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap

from results.validity import ValidityError, confidence_intervals, optimal_block, resample_counts


def ar1(rng: np.random.Generator, phi: float, shape: tuple[int, int]) -> np.ndarray:
    series = rng.normal(size=(shape[0] + 50, shape[1]))
    for t in range(1, len(series)):
        series[t] += phi * series[t - 1]
    return series[50:]


def test_intervals_equal_arch_s_percentile_intervals_on_the_same_resamples() -> None:
    returns = np.random.default_rng(0).normal(0.001, 0.02, 200)

    def three(x: np.ndarray) -> np.ndarray:
        return np.array([x.mean(), np.prod(1 + x) - 1, x.mean() / x.std(ddof=1) * np.sqrt(365)])

    oracle = StationaryBootstrap(5, returns, seed=11).conf_int(three, reps=400, method="percentile", size=0.9)
    ours = confidence_intervals(returns, periods_per_year=365, level=0.9, reps=400, block=5, seed=11)
    for column, name in enumerate(("mean_return", "total_return", "sharpe")):
        interval = ours[name]  # type: ignore[index]
        assert interval.value[0] == pytest.approx(three(returns)[column], rel=1e-12)
        assert [interval.low[0], interval.high[0]] == pytest.approx(oracle[:, column].tolist(), rel=1e-9)


def test_every_resample_has_as_many_periods_as_the_data() -> None:
    counts = resample_counts(100, 7, reps=20, seed=1)
    assert counts.shape == (20, 100) and (counts.sum(axis=1) == 100).all()
    assert not np.array_equal(counts, resample_counts(100, 7, reps=20, seed=2))
    assert resample_counts(100, 7, reps=3, kind="circular").sum() == 300
    with pytest.raises(ValidityError, match="block is 101"):
        resample_counts(100, 101)


def test_the_block_grows_with_serial_correlation() -> None:
    rng = np.random.default_rng(2)
    assert optimal_block(ar1(rng, 0.7, (1000, 9))) > 2 * optimal_block(rng.normal(size=(1000, 9)))
    assert optimal_block(np.zeros((50, 2))) == 1
    assert optimal_block(rng.normal(size=(5, 2))) == 1


@pytest.mark.parametrize("phi", [0.0, 0.4])
def test_the_interval_of_the_mean_covers_the_truth_about_95_times_in_100(phi: float) -> None:
    rng = np.random.default_rng(3)
    hits = []
    for seed in range(10):
        interval = confidence_intervals(ar1(rng, phi, (500, 60)) * 0.01, periods_per_year=365, reps=400, seed=seed)["mean_return"]
        hits.append(((interval.low < 0) & (interval.high > 0)).mean())
    assert 0.90 <= np.mean(hits) <= 0.975


def test_the_sharpe_ratio_is_annualised_by_the_given_year_and_flat_trials_have_none() -> None:
    returns = np.random.default_rng(4).normal(0.001, 0.01, (100, 2))
    returns[:, 1] = 0.0
    daily = confidence_intervals(returns, periods_per_year=365, reps=50)["sharpe"]
    hourly = confidence_intervals(returns, periods_per_year=8760, reps=50)["sharpe"]
    assert hourly.low[0] == pytest.approx(daily.low[0] * np.sqrt(24))
    assert daily.low[1] == daily.value[1] == daily.high[1] == 0.0


def test_a_total_loss_stays_a_number() -> None:
    returns = np.random.default_rng(5).normal(0, 0.01, 60)
    returns[10] = -1.0
    total = confidence_intervals(returns, periods_per_year=365, reps=50)["total_return"]
    assert np.isfinite([total.value[0], total.low[0], total.high[0]]).all()
    assert total.low[0] == pytest.approx(-1.0)
    with pytest.raises(ValidityError, match="level is 95"):
        confidence_intervals(returns, periods_per_year=365, level=95)

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats as st

from results import metrics
from results.validity import (
    annualised,
    min_track_record_length,
    probabilistic_sharpe,
    sharpe_standard_error,
    sharpe_statistics,
)


def test_worked_example_of_the_probabilistic_sharpe_ratio() -> None:
    # Bailey & López de Prado 2012, section 3: a hedge fund's 24 months, mean 0.036, deviation 0.079 a month.
    sharpe = 0.036 / 0.079
    assert float(annualised(sharpe, 12)) == pytest.approx(1.58, abs=0.005)
    assert float(probabilistic_sharpe(0.458, 24)) == pytest.approx(0.982, abs=5e-4)
    assert float(probabilistic_sharpe(0.458, 24, -2.448, 10.164)) == pytest.approx(0.913, abs=5e-4)


@pytest.mark.parametrize(
    ("per_year", "skew", "kurtosis", "years"),
    [(252, 0.0, 3.0, 2.73), (52, 0.0, 3.0, 2.83), (12, 0.0, 3.0, 3.24), (12, -0.72, 5.78, 4.99)],
)
def test_worked_examples_of_the_minimum_track_record_length(per_year: int, skew: float, kurtosis: float, years: float) -> None:
    # Bailey & López de Prado 2012, section 4: an annualised Sharpe ratio of 2 to be above 1 with 95 % confidence.
    length = min_track_record_length(2 / np.sqrt(per_year), skew, kurtosis, 1 / np.sqrt(per_year))
    assert float(length) / per_year == pytest.approx(years, abs=0.005)


def test_at_the_minimum_length_the_probability_is_the_confidence() -> None:
    length = float(min_track_record_length(0.1, -0.5, 6.0, 0.02, confidence=0.9))
    assert float(probabilistic_sharpe(0.1, length, -0.5, 6.0, 0.02)) == pytest.approx(0.9, abs=1e-12)
    assert np.isinf(min_track_record_length(0.1, benchmark=0.1))
    assert np.isnan(min_track_record_length(np.nan))


def test_statistics_equal_scipy_and_the_room_s_own_metric() -> None:
    returns = np.random.default_rng(1).standard_t(4, (300, 6)) * 0.01
    stats = sharpe_statistics(returns)
    assert stats.n == 300
    assert stats.sharpe == pytest.approx(returns.mean(0) / returns.std(0, ddof=1), rel=1e-12)
    assert stats.skew == pytest.approx(st.skew(returns), rel=1e-10)
    assert stats.kurtosis == pytest.approx(st.kurtosis(returns, fisher=False), rel=1e-10)
    assert float(annualised(stats.sharpe, 365)[2]) == pytest.approx(metrics.sharpe(returns[:, 2], 365, 300), rel=1e-12)


def test_hourly_returns_give_0_815_a_year_and_not_the_0_138_of_a_trading_day_calendar() -> None:
    noise = np.random.default_rng(2).normal(size=8760)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    hourly = 0.005 * (noise + 0.815 / np.sqrt(8760))
    sharpe = sharpe_statistics(hourly).sharpe
    assert float(annualised(sharpe, metrics.periods_per_year(3600))[0]) == pytest.approx(0.815, abs=1e-9)
    assert float(annualised(sharpe, 252)[0]) == pytest.approx(0.138, abs=5e-4)
    with pytest.raises(TypeError):
        annualised(sharpe)  # type: ignore[call-arg]


def test_constant_trials_score_zero_and_missing_returns_give_nan() -> None:
    returns = np.random.default_rng(0).normal(size=(30, 4))
    returns[:, 1], returns[:, 2], returns[3, 3] = 0.0, 0.1, np.nan
    stats = sharpe_statistics(returns)
    assert stats.sharpe[1] == stats.sharpe[2] == 0.0
    assert stats.skew[2] == 0.0 and stats.kurtosis[2] == 3.0
    assert np.isnan(stats.sharpe[3]) and np.isfinite(stats.sharpe[0])
    assert np.isnan(probabilistic_sharpe(stats.sharpe[3], stats.n))


def test_standard_error_is_the_spread_of_simulated_sharpe_ratios() -> None:
    rng = np.random.default_rng(3)
    returns = (rng.exponential(size=(400, 20_000)) - 1.0) + 0.15  # skew 2, kurtosis 9
    spread = sharpe_statistics(returns).sharpe.std()
    assert float(sharpe_standard_error(0.15, 400, 2.0, 9.0)) == pytest.approx(spread, rel=0.03)
    assert np.isnan(sharpe_standard_error(0.1, 1))

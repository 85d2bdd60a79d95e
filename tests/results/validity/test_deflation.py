from __future__ import annotations

import numpy as np
import pytest

from results.validity import ValidityError, deflate, deflated_sharpe, expected_max_sharpe, sharpe_statistics


@pytest.mark.parametrize(
    ("trials", "skew", "kurtosis", "expected"),
    [(100, -3.0, 10.0, 0.9004), (46, -3.0, 10.0, 0.9505), (88, 0.0, 3.0, 0.9505)],
)
def test_worked_example_of_the_deflated_sharpe_ratio(trials: int, skew: float, kurtosis: float, expected: float) -> None:
    # Bailey & López de Prado 2014: annualised Sharpe ratio 2.5 over 1250 days of 250 a year, annualised V = 1/2.
    dsr = deflated_sharpe(2.5 / np.sqrt(250), 1250, trials, 0.5 / 250, skew, kurtosis)
    assert float(dsr) == pytest.approx(expected, abs=5e-5)


def test_worked_examples_of_the_expected_maximum() -> None:
    assert float(expected_max_sharpe(100, 0.5 / 250)) == pytest.approx(0.1132, abs=5e-5)
    # Bailey, Borwein, López de Prado & Zhu 2014: 10 trials show 1.57; 45 suffice for a Sharpe ratio of 1 over 5 years.
    assert float(expected_max_sharpe(10)) == pytest.approx(1.57, abs=0.005)
    assert float(expected_max_sharpe(45)) ** 2 == pytest.approx(5.0, abs=0.005)
    assert float(expected_max_sharpe(1)) == 0.0
    with pytest.raises(ValidityError, match="number of trials is 0"):
        expected_max_sharpe(0)


def test_figure_on_which_the_paper_s_formula_and_two_other_libraries_agree() -> None:
    rng = np.random.default_rng(1)
    returns = rng.standard_t(4, (8760, 200)) * 0.006 + 0.00008 * rng.standard_normal(200)
    stats = sharpe_statistics(returns)
    best = int(stats.sharpe.argmax())
    dsr = deflated_sharpe(stats.sharpe, stats.n, 200, stats.sharpe.var(ddof=1), stats.skew, stats.kurtosis)[best]
    assert float(dsr) == pytest.approx(0.717565, abs=1e-6)
    assert deflate(returns).dsr_published[best] == pytest.approx(float(dsr), rel=1e-12)


def test_every_further_look_lowers_the_deflated_ratio() -> None:
    returns = np.random.default_rng(0).normal(0.001, 0.01, (365, 20))
    few, many = deflate(returns), deflate(returns, looks=5000)
    assert few.looks == 20 and many.looks == 5000
    assert many.independent == pytest.approx(few.effective + 4980)
    assert (many.dsr < few.dsr).all() and np.array_equal(many.psr, few.psr)
    with pytest.raises(ValidityError, match="looks is 5 but there are returns of 20"):
        deflate(returns, looks=5)


def test_copies_of_a_trial_do_not_change_the_verdict_on_it() -> None:
    returns = np.random.default_rng(0).normal(0.0005, 0.01, (365, 20))
    once, often = deflate(returns), deflate(np.tile(returns, 10))
    assert often.dsr[:20] == pytest.approx(once.dsr, abs=0.02)


def test_one_trial_is_not_deflated() -> None:
    result = deflate(np.random.default_rng(0).normal(0.001, 0.01, (365, 1)))
    assert result.dsr[0] == result.psr[0] and result.benchmark == 0.0
    assert np.isnan(result.dsr_published[0])


def test_heavy_losers_hide_an_edge_from_the_published_variance_but_not_from_ours() -> None:
    rng = np.random.default_rng(4)
    returns = rng.normal(0, 0.01, (365, 100))
    returns[:, :50] -= 10 * 0.01 / np.sqrt(365)  # Sharpe −10 a year: they pay costs at every bar
    returns[:, 99] += 7 * 0.01 / np.sqrt(365)
    result = deflate(returns)
    assert result.dsr[99] > 0.99
    assert result.dsr_published[99] < 0.5


def test_copies_of_a_lucky_trial_shrink_the_published_benchmark_but_not_ours() -> None:
    rng = np.random.default_rng(5)
    first = rng.normal(0, 0.01, (365, 20))
    best = first[:, [int(sharpe_statistics(first).sharpe.argmax())]]
    both = np.hstack([first, best + rng.normal(0, 0.0003, (365, 980))])
    alone, crowded = deflate(first), deflate(both)
    assert crowded.benchmark == pytest.approx(alone.benchmark, rel=0.05)
    assert float(expected_max_sharpe(1000, crowded.variance)) < 0.6 * crowded.benchmark

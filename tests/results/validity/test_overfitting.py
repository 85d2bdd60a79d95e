from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from results.validity import ValidityError, probability_of_overfitting


def from_the_paper(returns: np.ndarray, splits: int) -> list[float]:
    """CSCV step by step, on the returns themselves."""
    parts = np.array_split(returns, splits)
    assert len({len(part) for part in parts}) == 1
    logits = []
    for half in combinations(range(splits), splits // 2):
        inside = np.vstack([parts[i] for i in half])
        outside = np.vstack([parts[i] for i in range(splits) if i not in half])
        best = (inside.mean(0) / inside.std(0, ddof=1)).argmax()
        score = outside.mean(0) / outside.std(0, ddof=1)
        omega = (score <= score[best]).sum() / (returns.shape[1] + 1)
        logits.append(np.log(omega / (1 - omega)))
    return logits


def test_logits_equal_the_paper_s_procedure() -> None:
    returns = np.random.default_rng(0).standard_t(4, (120, 9)) * 0.01
    result = probability_of_overfitting(returns, splits=8)
    oracle = from_the_paper(returns, 8)
    assert sorted(result.logits) == pytest.approx(sorted(oracle), abs=1e-12)
    assert result.pbo == pytest.approx(np.mean(np.array(oracle) <= 0))
    assert len(result.logits) == 70


def test_performances_are_per_period_sharpe_ratios_of_the_selected() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.01, (100, 6))
    result = probability_of_overfitting(returns, splits=2)
    halves = [returns[:50], returns[50:]]
    sharpes = [half.mean(0) / half.std(0, ddof=1) for half in halves]
    for row in (0, 1):
        best = int(sharpes[row].argmax())
        assert result.selected[row] == best
        assert result.in_sample[row] == pytest.approx(sharpes[row][best], rel=1e-5)
        assert result.out_of_sample[row] == pytest.approx(sharpes[1 - row][best], rel=1e-5)


def test_sixteen_blocks_make_12870_combinations_and_noise_is_a_coin_s_toss() -> None:
    pbos = []
    for seed in range(12):
        result = probability_of_overfitting(np.random.default_rng(seed).normal(size=(365, 100)))
        assert len(result.logits) == 12_870
        pbos.append(result.pbo)
    assert 0.4 <= np.mean(pbos) <= 0.6


def test_one_trial_with_an_edge_is_not_overfit() -> None:
    returns = np.random.default_rng(2).normal(size=(365, 100)) * 0.01
    returns[:, 17] += 0.003
    result = probability_of_overfitting(returns)
    assert result.pbo < 0.01 and result.probability_of_loss < 0.05
    assert (result.selected == 17).mean() > 0.9


def test_a_zero_sum_series_and_its_mirror_are_always_overfit() -> None:
    # The compensation effect of the paper: what is above the mean in one half is below it in the other.
    series = np.random.default_rng(3).normal(size=320)
    series -= series.mean()
    result = probability_of_overfitting(np.column_stack([series, -series]), performance="mean")
    assert result.pbo == 1.0 and result.probability_of_loss == 1.0
    assert result.slope == pytest.approx(-1.0, abs=1e-4) and result.r_squared == pytest.approx(1.0, abs=1e-4)


def test_equal_trials_share_their_mean_rank() -> None:
    series = np.random.default_rng(4).normal(size=64)
    result = probability_of_overfitting(np.column_stack([series] * 3), splits=4)
    assert result.logits == pytest.approx(0.0, abs=1e-12)


def test_trials_that_never_trade_or_never_vary_score_zero() -> None:
    returns = np.full((64, 3), -0.5)
    returns[:, 0] = 0.0
    returns[:, 1] = np.random.default_rng(5).normal(-0.01, 0.001, 64)
    result = probability_of_overfitting(returns, splits=4)
    assert (result.in_sample == 0.0).all() and np.isfinite(result.logits).all()


def test_blocks_need_not_divide_the_periods_and_float32_will_do() -> None:
    returns = np.random.default_rng(6).normal(size=(371, 50))
    double = probability_of_overfitting(returns)
    single = probability_of_overfitting(returns.astype(np.float32))
    assert single.pbo == pytest.approx(double.pbo, abs=0.005)


@pytest.mark.parametrize(("periods", "splits", "message"), [(100, 7, "even"), (100, 22, "between 2 and 20"), (31, 16, "at least 32")])
def test_impossible_splits_are_refused(periods: int, splits: int, message: str) -> None:
    with pytest.raises(ValidityError, match=message):
        probability_of_overfitting(np.zeros((periods, 3)), splits=splits)
    with pytest.raises(ValidityError, match="1 trials"):
        probability_of_overfitting(np.zeros((100, 1)))

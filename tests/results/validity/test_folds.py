from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import spearmanr

from results.validity import ValidityError, folds_won, rank_stability


def test_spearman_is_the_mean_over_pairs_of_folds_even_with_ties() -> None:
    scores = np.round(np.random.default_rng(0).normal(size=(4, 30)), 1)
    pairs = [spearmanr(scores[a], scores[b]).statistic for a, b in combinations(range(4), 2)]
    assert rank_stability(scores).spearman == pytest.approx(np.mean(pairs), abs=1e-12)


def test_kendall_s_w_has_its_textbook_value_and_its_relation_to_spearman() -> None:
    # Siegel & Castellan: three judges, six applicants, W = 0.16.
    ranks = np.array([[1, 6, 3, 2, 5, 4], [1, 5, 6, 4, 2, 3], [6, 3, 2, 5, 4, 1]])
    result = rank_stability(ranks)
    assert result.kendall_w == pytest.approx(0.16, abs=0.005)
    assert result.spearman == pytest.approx((3 * result.kendall_w - 1) / 2, abs=1e-12)


def test_agreement_is_one_and_missing_trials_are_left_out() -> None:
    scores = np.tile(np.arange(5.0), (3, 1))
    scores[1, 4] = np.nan
    result = rank_stability(scores)
    assert result.spearman == pytest.approx(1.0) and result.kendall_w == pytest.approx(1.0)
    assert (result.folds, result.trials) == (3, 4)


def test_too_little_to_rank_is_nan() -> None:
    for scores in (np.arange(5.0)[None], np.zeros((2, 2)), np.zeros((3, 5))):
        assert np.isnan(rank_stability(scores).spearman)
    with pytest.raises(ValidityError, match="1 dimensions"):
        rank_stability(np.arange(3.0))


def test_folds_won_counts_folds_above_the_benchmark() -> None:
    scores = [[0.1, -0.2, np.nan], [0.3, 0.2, 0.5]]
    assert folds_won(scores).tolist() == [2, 1, 1]
    assert folds_won(scores, [0.2, 0.25]).tolist() == [1, 0, 1]
    with pytest.raises(ValidityError, match="2 folds"):
        folds_won(scores, [0.0, 0.0, 0.0])

from __future__ import annotations

import numpy as np
import pytest

from results.validity import effective_trials, expected_max_sharpe, participation_ratio, trial_families
from results.validity.independence import expected_max_normal


def equicorrelated(rng: np.random.Generator, trials: int, rho: float, periods: int = 1000) -> np.ndarray:
    return np.sqrt(rho) * rng.normal(size=(periods, 1)) + np.sqrt(1 - rho) * rng.normal(size=(periods, trials))


def blocks(rng: np.random.Generator, families: int, trials: int, rho: float, periods: int = 365) -> tuple[np.ndarray, np.ndarray]:
    truth = np.arange(trials) % families
    common = rng.normal(size=(periods, families))[:, truth]
    return np.sqrt(rho) * common + np.sqrt(1 - rho) * rng.normal(size=(periods, trials)), truth


def test_expected_maximum_of_normals_has_its_known_values() -> None:
    assert expected_max_normal(1) == pytest.approx(0.0, abs=1e-6)
    assert expected_max_normal(2) == pytest.approx(1 / np.sqrt(np.pi), abs=1e-6)
    assert expected_max_normal(3) == pytest.approx(1.5 / np.sqrt(np.pi), abs=1e-6)
    assert expected_max_normal(1000) == pytest.approx(3.2414, abs=1e-4)
    assert float(expected_max_sharpe(1000)) == pytest.approx(expected_max_normal(1000), abs=0.02)


def test_independent_trials_all_count_and_copies_do_not() -> None:
    returns = np.random.default_rng(0).normal(size=(1000, 50))
    assert effective_trials(returns) == pytest.approx(50, rel=0.1)
    assert effective_trials(np.tile(returns, 8)) == pytest.approx(50, rel=0.1)
    assert effective_trials(np.tile(returns[:, :1], 40)) == pytest.approx(1.0, abs=0.1)


def test_correlated_trials_count_as_many_as_share_their_expected_maximum() -> None:
    returns = equicorrelated(np.random.default_rng(1), 100, 0.5)
    # The maximum of equicorrelated normals is √(1−ρ) times that of independent ones, in expectation.
    expected = np.sqrt(0.5) * expected_max_normal(100)
    assert expected_max_normal(effective_trials(returns)) == pytest.approx(expected, abs=0.06)


def test_trials_that_never_trade_count_nothing() -> None:
    returns = np.zeros((200, 30))
    assert effective_trials(returns) == 1.0
    returns[:, :10] = np.random.default_rng(0).normal(size=(200, 10))
    assert effective_trials(returns) == pytest.approx(10, rel=0.15)


def test_participation_ratio_is_corrected_for_chance_correlations() -> None:
    rng = np.random.default_rng(2)
    assert participation_ratio(rng.normal(size=(100, 1000))) > 700  # uncorrected it could not exceed 100
    assert participation_ratio(equicorrelated(rng, 100, 0.5, 5000)) == pytest.approx(100 / (1 + 99 * 0.25), rel=0.1)
    wide = rng.normal(size=(60, 80))
    assert participation_ratio(wide.T) > 0  # both Gram matrices are used
    assert participation_ratio(wide[:, :1]) == 1.0


@pytest.mark.parametrize(("families", "trials"), [(2, 40), (7, 140), (12, 300)])
def test_planted_families_are_found(families: int, trials: int) -> None:
    returns, truth = blocks(np.random.default_rng(families), families, trials, 0.7)
    found = trial_families(returns)
    assert found.count == families
    assert len({(a, b) for a, b in zip(found.labels.tolist(), truth.tolist(), strict=True)}) == families


def test_beyond_the_sample_the_others_join_the_nearest_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.validity.independence.MAX_CLUSTERED", 60)
    returns, truth = blocks(np.random.default_rng(3), 5, 400, 0.7)
    found = trial_families(returns)
    assert found.count == 5
    assert len({(a, b) for a, b in zip(found.labels.tolist(), truth.tolist(), strict=True)}) == 5


def test_noise_has_no_families_and_one_idea_is_one_family() -> None:
    rng = np.random.default_rng(4)
    assert trial_families(rng.normal(size=(365, 60))).count == 60
    assert trial_families(equicorrelated(rng, 60, 0.9)).count == 1
    flat = trial_families(np.zeros((50, 4)))
    assert flat.count == 0 and flat.labels.tolist() == [-1] * 4
    assert trial_families(rng.normal(size=(50, 1))).labels.tolist() == [0]

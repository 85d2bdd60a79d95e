"""The whole of it on simulated studies: how often luck is called skill, and how often skill is seen.

100 trials × 365 daily returns, Student t with 4 degrees of freedom. `pytest -m slow -s` prints the shares, and measured:
without skill 0.4 % (independent), 1.4 % (correlated), 0.6 % (families) of 500 studies survive; of 100 studies with one
trial of true annual Sharpe ratio 2, 3, 4, 5 among correlated ones, 5, 37, 69, 94 % (SPA p ≤ 0.05: 20, 46, 88, 98 %).
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from results.validity import Assessment, ValidityError, assess, confidence_intervals

PERIODS, TRIALS = 365, 100


def study(kind: str, seed: int, edge: float = 0.0) -> np.ndarray:
    """Daily returns, sd 2 %; trial 0 has the annual Sharpe ratio `edge`, no other has any."""
    rng = np.random.default_rng([len(kind), seed])

    def noise(trials: int) -> np.ndarray:
        return rng.standard_t(4, (PERIODS, trials)) / np.sqrt(2.0)

    if kind == "independent":
        returns = noise(TRIALS)
    elif kind == "correlated":
        returns = np.sqrt(0.5) * noise(1) + np.sqrt(0.5) * noise(TRIALS)
    else:  # ten families
        returns = np.sqrt(0.8) * noise(10)[:, np.arange(TRIALS) % 10] + np.sqrt(0.2) * noise(TRIALS)
    returns[:, 0] += edge / np.sqrt(365)
    return 0.02 * returns


def judged(kind: str, seed: int, edge: float = 0.0) -> Assessment:
    return assess(study(kind, seed, edge), periods_per_year=365, trades=100, reps=300, splits=8, seed=seed)


def test_studies_without_skill_rarely_survive() -> None:
    codes = Counter(judged(kind, seed).verdict.code for kind in ("independent", "correlated", "families") for seed in range(20))
    assert codes["survives"] <= 3
    assert codes["luck"] >= 45


def test_a_large_edge_survives_and_is_the_winner() -> None:
    for kind in ("independent", "correlated"):
        found = judged(kind, 1, edge=7.0)
        assert found.winner == 0 and found.verdict.code == "survives"
        assert found.intervals["sharpe"].low[0] > 0 and found.evidence.pbo is not None and found.evidence.pbo < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["independent", "correlated", "families"])
def test_of_500_studies_without_skill_at_most_5_in_100_survive(kind: str) -> None:
    codes = Counter(judged(kind, seed).verdict.code for seed in range(500))
    print(f"\nno skill, {kind}: {dict(codes)}")
    assert codes["survives"] <= 25


@pytest.mark.slow
@pytest.mark.parametrize(("edge", "least"), [(2.0, 0.0), (3.0, 0.2), (4.0, 0.5), (5.0, 0.8)])
def test_power_with_one_skilled_trial_in_a_hundred_over_one_year(edge: float, least: float) -> None:
    found = [judged("correlated", seed, edge) for seed in range(100)]
    power = np.mean([one.winner == 0 and one.verdict.code == "survives" for one in found])
    spa = np.mean([one.superiority["flat"].p_value <= 0.05 for one in found])
    print(f"\nannual Sharpe ratio {edge:g} among 99 without skill, 365 days: survives {power:.2f}, SPA p ≤ 0.05 {spa:.2f}")
    assert power >= least


def test_the_same_seed_gives_the_same_figures() -> None:
    a, b = judged("correlated", 3), judged("correlated", 3)
    assert a.evidence == b.evidence


def test_looks_beyond_the_returns_at_hand_count() -> None:
    returns = study("independent", 1, edge=6.0)
    few = assess(returns, periods_per_year=365, reps=100, splits=4)
    many = assess(returns, periods_per_year=365, reps=100, splits=4, looks=1_000_000)
    assert few.verdict.code == "survives" and many.evidence.looks == 1_000_000
    assert many.evidence.dsr is not None and few.evidence.dsr is not None and many.evidence.dsr < few.evidence.dsr


def test_a_benchmark_that_the_winner_cannot_beat_is_remarked() -> None:
    returns = study("independent", 2, edge=8.0)
    found = assess(returns, periods_per_year=365, reps=200, splits=4, benchmarks={"buy-and-hold": returns[:, 0] + 0.001})
    assert found.verdict.code == "survives, but"
    assert "but not shown to beat buy-and-hold (SPA p " in found.verdict.words


def test_short_or_idle_studies_get_words_instead_of_numbers() -> None:
    rng = np.random.default_rng(0)
    short = assess(rng.normal(0, 0.01, (10, 5)), periods_per_year=365)
    assert short.verdict.words == "too little evidence: 10 days" and short.deflation is None
    weeks = assess(rng.normal(0.01, 0.01, (30, 5)), periods_per_year=365, reps=50)
    assert weeks.overfitting is None and weeks.verdict.code == "too little evidence"
    idle = assess(np.zeros((365, 5)), periods_per_year=365, trades=0, reps=50)
    assert idle.verdict.words == "too little evidence: 0 trades" and not idle.superiority
    assert idle.overfitting is None and idle.no_choice == "none of the 5 trials ever trades"
    one = assess(rng.normal(0.003, 0.01, (365, 1)), periods_per_year=365, reps=50)
    assert one.overfitting is None and one.verdict.code == "survives"
    with pytest.raises(ValidityError, match="winner is column 7 of 5"):
        assess(rng.normal(size=(365, 5)), periods_per_year=365, winner=7)


def test_trials_that_cannot_be_told_apart_have_no_probability_of_overfitting() -> None:
    rng = np.random.default_rng(4)
    behaviours = rng.normal(0.002, 0.01, (365, 3))
    for chosen, why in (
        ([0, 0, 0, 0], "all 4 trials behave identically"),
        ([0, 1, 1, 0], "the 4 trials show only 2 different behaviours"),
        ([0], "there is only one trial"),
        ([0, 1, 2, 2], ""),
    ):
        found = assess(behaviours[:, chosen], periods_per_year=365, reps=50, splits=4)
        assert found.no_choice == why and (found.overfitting is None) == bool(why) == (found.evidence.pbo is None)
    assert found.groups.tolist() == [0, 1, 2, 2]


def test_the_winner_s_interval_is_the_one_it_has_among_others() -> None:
    returns = study("correlated", 5)
    found = assess(returns, periods_per_year=365, reps=100, splits=4)
    few = confidence_intervals(returns[:, [3, found.winner]], periods_per_year=365, reps=100, block=found.block)["sharpe"]
    assert few.low[1] == pytest.approx(found.intervals["sharpe"].low[0], rel=1e-9)

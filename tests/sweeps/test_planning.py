"""Estimates before a run: each against a figure worked out by hand, or a truth that is known because it was made up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from search_spaces.rehearsal import rehearse
from search_spaces.stopping import Rules
from sweeps.planning.estimate import Lanes, Pace, Span, digits, lasting, makespan, time_of_packs, time_of_trials
from sweeps.planning.probing import fit, probe_packs, probe_steps
from sweeps.planning.savings import Curves, alternatives, as_section, simulate, suggested, thinned
from sweeps.study import StudyError
from trainables.stepping import Report


class Clock:
    """Time that passes only in evaluations."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_seconds_of_one_are_all_seconds_over_all_configurations_and_the_range_follows_from_the_packs() -> None:
    pace = Pace(np.array([10.0, 30.0, 60.0]), np.array([2.0, 3.0, 7.0]))
    assert pace.mean == pytest.approx(0.12)
    # By hand: residuals 2 − 1.2, 3 − 3.6, 7 − 7.2; t(2, 95 %) = 2.91999.
    spread = math.sqrt(3 / 2 * (0.8**2 + 0.6**2 + 0.2**2)) / 100
    low, high = pace.mean_of(100)
    assert high == pytest.approx(0.12 + 2.91999 * spread * math.sqrt(2.0), rel=1e-4)
    assert low == pytest.approx(0.1)  # never below the quickest pack
    assert pace.of_one()[0] == pytest.approx(np.interp(0.5, [0.15, 0.5, 0.9], [0.1, 7 / 60, 0.2]), abs=0.01)


def test_the_time_of_packs_is_left_times_seconds_over_slots_and_the_start() -> None:
    pace = Pace(np.full(50, 100.0), np.full(50, 2.0), fixed=0.1, warm=3.0)
    low, high = time_of_packs(pace, 10_000, Lanes(4, 4.0), Span(5.0, 20.0))
    # 10,000 × 0.02 s = 200 s of work in 200 packs of a second, each with 0.1 s of its own and 5 to 50 ms between two.
    assert low == pytest.approx(5.0 + 3.0 + (200 + 200 * 0.105) / 4)
    assert high == pytest.approx(20.0 + 3.0 + (200 + 200 * 0.15) / 4)


def test_trials_start_as_slots_become_free() -> None:
    assert makespan([4.0, 3.0, 2.0, 1.0], 2) == 5.0  # 4 and 1 beside 3 and 2
    assert makespan([3.0, 3.0, 3.0], 2) == 6.0
    assert makespan([3.0], 8) == 3.0
    low, high = time_of_trials(Pace(np.full(9, 10.0), np.full(9, 5.0)), 5, [100], Lanes(2, 2.0), Span(1.0, 2.0))
    assert 1.0 + 3 * 50.0 <= low <= high <= 2.0 + 3 * 50.4  # three rounds of 100 steps at 0.5 s


def test_two_points_separate_what_a_pack_costs_from_what_each_configuration_costs() -> None:
    assert fit([1, 64], [0.5 + 0.01, 0.5 + 0.64]) == pytest.approx((0.5, 0.01))
    assert fit([8, 8], [1.0, 3.0]) == (0.0, 0.25)
    assert fit([1, 64], [2.0, 1.0]) == (0.0, 1 / 64), "noise makes nothing negative"


def test_a_probe_finds_the_fixed_cost_the_cost_of_each_and_that_of_the_first() -> None:
    clock, packs = Clock(), []

    def evaluate(start: int, stop: int) -> None:
        assert 0 <= start < stop <= 5000
        clock.now += (1.5 if not packs else 0.0) + 0.02 + 0.001 * (stop - start)
        packs.append(stop - start)

    pace = probe_packs(evaluate, 5000, 4.0, clock=clock)
    assert pace.fixed == pytest.approx(0.02) and pace.mean == pytest.approx(0.001) and pace.warm == pytest.approx(1.5)
    assert clock.now < 5.0 and len(set(packs)) >= 4
    assert pace.source == f"probe of {sum(packs[1:]):,}"


def test_a_probe_ends_after_a_first_evaluation_that_takes_too_long_and_says_so() -> None:
    clock = Clock()

    def evaluate(start: int, stop: int) -> None:
        clock.now += 30.0

    pace = probe_packs(evaluate, 100, 4.0, clock=clock)
    assert clock.now == 30.0 and pace.mean == 30.0 and "compiled included" in pace.source
    assert pace.mean_of(10).low < 3.0, "code is loaded but once"


def test_a_probe_passes_over_a_configuration_that_fails_and_gives_up_where_all_do() -> None:
    calls = []

    def some(start: int, stop: int) -> None:
        calls.append(start)
        if len(calls) == 1:
            raise ZeroDivisionError("once")

    assert probe_packs(some, 50, 0.2).sizes.sum() > 0

    def none(start: int, stop: int) -> None:
        raise ZeroDivisionError("always")

    with pytest.raises(StudyError, match="the first 3 configurations failed, the last with ZeroDivisionError: always"):
        probe_packs(none, 50, 0.2)


def test_a_probe_of_steps_leaves_the_set_up_out_of_the_pace_and_nothing_on_disk() -> None:
    clock, folders = Clock(), []

    def start(point: int, folder: Path) -> Iterator[Report]:
        folders.append(folder)
        assert folder.is_dir()
        (folder / "state").touch()
        clock.now += 4.0 + (20.0 if len(folders) == 1 else 0.0)  # the first imports a library
        for step in range(10, 101, 10):
            clock.now += 10 * 0.25
            yield Report(step, {})

    pace = probe_steps(start, {0: 100, 7: 100}, 80.0, clock=clock)
    assert pace.mean == pytest.approx(0.25) and pace.fixed == pytest.approx(4.0) and pace.warm == pytest.approx(20.0)
    assert folders and not any(folder.exists() for folder in folders) and clock.now < 90.0


def test_a_probe_of_steps_says_why_no_trial_reported() -> None:
    def start(point: int, folder: Path) -> Iterator[Report]:
        raise ZeroDivisionError("at once")
        yield

    with pytest.raises(StudyError, match="no trial reported: ZeroDivisionError: at once"):
        probe_steps(start, {0: 10}, 1.0)


STEPS = tuple(range(1, 21))


def made_up(n: int, seed: int, noise: float) -> Curves:
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=n)
    values = quality[:, None] * np.linspace(0.2, 1.0, 20) + noise * rng.normal(size=(n, 20))
    return Curves(values, STEPS, np.ones(n))


def test_stopping_loses_nothing_where_curves_never_cross_and_saves_what_the_rule_leaves_out() -> None:
    found = simulate(Rules("asha", 20, 2, 4.0), made_up(40, 1, 0.0), trials=20, slots=4)
    assert found.lost == 0.0 and found.regret == 0.0 and found.harmless
    assert found.trials == 20 and 0.2 < found.low <= found.steps <= found.high < 0.6
    whole = simulate(Rules("none", 20), made_up(40, 1, 0.0), trials=20, slots=4)
    assert whole.steps == 1.0 and whole.lost == 0.0


def test_where_early_ranks_are_reversed_the_best_is_nearly_always_stopped() -> None:
    rng = np.random.default_rng(2)
    quality = rng.normal(size=40)
    reversed_ = np.where(np.arange(20) < 10, -quality[:, None], quality[:, None])
    found = simulate(Rules("asha", 20, 2, 4.0), Curves(reversed_, STEPS, np.ones(40)), trials=20, slots=1)
    assert found.lost > 0.7 and not found.harmless and found.regret > 0.0
    down = simulate(Rules("asha", 20, 2, 4.0, direction="min"), Curves(-reversed_, STEPS, np.ones(40)), trials=20, slots=1)
    assert (down.lost, down.regret) == (found.lost, found.regret)


def test_the_chance_of_losing_the_best_is_that_of_fresh_curves_and_within_its_range() -> None:
    rules, n = Rules("asha", 20, 2, 4.0), 12
    truth = []
    for k in range(300):
        values = made_up(n, 1000 + k, 0.3).values
        truth.append(rehearse(rules.make(), values, STEPS, slots=2).reached[values[:, -1].argmax()] < 20)
    found = [simulate(rules, made_up(2 * n, k, 0.3), trials=n, slots=2, sets=30) for k in range(30)]
    chance = float(np.mean(truth))
    assert 0.05 < chance < 0.95
    assert np.mean([each.lost for each in found]) == pytest.approx(chance, abs=0.1)
    assert np.mean([each.lost_low <= chance <= each.lost_high for each in found]) >= 0.85


def test_what_is_suggested_makes_the_fewest_steps_of_what_is_harmless() -> None:
    curves = made_up(30, 5, 0.0)
    own = Rules("asha", 20, 8, 2.0)
    tried = [simulate(rules, curves, trials=15, slots=2, sets=50) for rules in alternatives(own, curves.steps)]
    assert tried[0].rules == own and len({as_section(each.rules) for each in tried}) == len(tried)
    best = suggested(tried)
    assert best is not None and best.steps == min(each.steps for each in tried) < tried[0].steps
    assert as_section(best.rules) == f"{{kind: asha, grace: {best.rules.grace}, factor: {best.rules.factor:g}}}"
    harmful = [simulate(each.rules, Curves(-np.flip(curves.values, 1), STEPS, np.ones(30)), trials=15, slots=2, sets=5) for each in tried]
    assert suggested([each for each in harmful if not each.harmless]) is None


def test_long_curves_keep_their_ends_and_the_reports_at_which_rules_judge() -> None:
    curves = Curves(np.tile(np.arange(1.0, 1001.0), (3, 1)), tuple(range(1, 1001)), np.ones(3))
    thin = thinned(curves, Rules("asha", 1000, 37, 4.0))
    assert len(thin.steps) <= 28 and thin.steps[-1] == 1000 and {37, 148, 592} <= set(thin.steps)
    assert (thin.values[0] == thin.steps).all()


def test_durations_and_amounts_are_said_to_two_digits_in_a_unit_for_people() -> None:
    assert lasting(0.00065) == "650 µs" and lasting(0.0213) == "21 ms" and lasting(12.0, 15.2) == "12 to 15 s"
    assert lasting(700.0, 705.0) == "about 12 min" and lasting(3600.0, 20_000.0) == "1 to 5.6 h" and lasting(400_000.0) == "4.6 days"
    assert [digits(x) for x in (0.0, 0.00123, 0.5, 12.34, 12_345.0)] == ["0", "0.0012", "0.5", "12", "12,000"]

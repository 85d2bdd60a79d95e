"""Paired differences of swept values: what pairs, what an interval is of, and whether it keeps what it promises."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from results import Ledger, Metric
from results.ablation import AblationError, Difference, NoPairs, ablate, judge, table
from results.validity.paired import holm, student
from results.varied import Sweep, read

SCORE = Metric("score", "max", "ratio")


def grid(**axes: Any) -> list[dict[str, Any]]:
    return [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]


def sweep(configs: list[dict[str, Any]], scores: Any, metric: Metric = SCORE, **more: Any) -> Sweep:
    return Sweep.of("study", metric, configs, scores, **more)


def only(found: Any) -> Difference:
    [difference] = found.differences
    return difference


def test_a_planted_effect_is_the_mean_of_the_differences_of_trials_that_agree_elsewhere() -> None:
    configs = grid(a=[1, 2, 3], b=["x", "y"], c=[0.0, 0.5])
    # What b and c do cancels in every pair, and the middle value is the default.
    scores = [10.0 * c["a"] + 100.0 * (c["b"] == "y") + 7.0 * c["c"] + 0.1 * i for i, c in enumerate(configs)]
    found = ablate(sweep(configs, scores, defaults={"a": 2}), "a")
    assert (found.reference, found.replicates, found.unpaired) == (2, (), ())
    low, high = found.differences
    assert (low.value, low.pairs, low.units, low.wins) == (1, 4, 4, 0.0)
    assert (high.value, high.pairs, high.units, high.wins) == (3, 4, 4, 1.0)
    assert high.mean == pytest.approx(10.4) and low.mean == pytest.approx(-10.4)


def test_over_pairs_the_interval_and_p_are_those_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    configs = grid(a=["off", "on"], b=list(range(9)))
    scores = rng.normal(size=18)
    found = only(ablate(sweep(configs, scores), "a"))
    truth = stats.ttest_rel(scores[9:], scores[:9])
    low, high = truth.confidence_interval(0.95)
    assert (found.low, found.high, found.p_value) == pytest.approx((low, high, truth.pvalue))


def test_with_replicates_differences_are_averaged_within_each_and_n_is_their_number() -> None:
    rng = np.random.default_rng(2)
    configs = grid(a=["off", "on"], b=list(range(5)), repeat=[0, 1, 2, 3])
    scores = rng.normal(size=40)
    found = only(ablate(sweep(configs, scores), "a", replicates=["repeat"]))
    per_replicate = (scores.reshape(2, 5, 4)[1] - scores.reshape(2, 5, 4)[0]).mean(axis=0)
    truth = stats.ttest_1samp(per_replicate, 0.0)
    low, high = truth.confidence_interval(0.95)
    assert (found.pairs, found.units) == (20, 4)
    assert (found.mean, found.low, found.high, found.p_value) == pytest.approx((per_replicate.mean(), low, high, truth.pvalue))


def test_the_interval_over_replicates_covers_the_true_effect_in_95_of_100_studies_where_one_over_pairs_does_not() -> None:
    rng, runs, covered, naive = np.random.default_rng(3), 300, 0, 0
    configs = grid(a=[0, 1], b=list(range(6)), repeat=list(range(5)))
    repeat = np.array([c["repeat"] for c in configs])
    on = np.array([c["a"] for c in configs])
    for _ in range(runs):
        # Every pair of a replicate has some of its luck in common: what makes pairs too few to be counted singly.
        scores = 0.7 * on + on * rng.normal(size=5)[repeat] + 0.5 * rng.normal(size=len(configs))
        trials = sweep(configs, scores)
        found, pairs = (only(ablate(trials, "a", replicates=names)) for names in (["repeat"], []))
        covered += found.low <= 0.7 <= found.high
        naive += pairs.low <= 0.7 <= pairs.high
    assert 0.92 <= covered / runs <= 0.98  # two standard errors are 0.025
    assert naive / runs < 0.75


def test_holm_gives_the_published_example_and_leaves_out_what_was_not_tested() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    corrected = holm([0.04, math.nan, 0.02])
    assert corrected[[0, 2]].tolist() == pytest.approx([0.04, 0.04]) and math.isnan(corrected[1])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_of_studies_without_any_effect_at_most_5_of_100_show_one_whatever_the_number_of_comparisons() -> None:
    rng, runs = np.random.default_rng(4), 200
    configs = grid(a=list(range(8)), repeat=list(range(4)))
    alone = wrong = 0
    for _ in range(runs):
        found = judge([ablate(sweep(configs, rng.normal(size=len(configs))), "a", replicates=["repeat"])])[0].differences
        wrong += any(d.verdict != "not shown" for d in found)
        alone += any(d.p_value <= 0.05 for d in found)
    assert wrong / runs <= 0.08  # 0.05 and two standard errors
    assert alone / runs > 0.12, "without a correction seven comparisons find something far more often"


def test_the_verdicts_of_several_parameters_are_corrected_together() -> None:
    rng = np.random.default_rng(5)
    configs = grid(a=[0, 1], b=[0, 1, 2], repeat=list(range(8)))
    trials = sweep(configs, [5.0 * c["a"] + rng.normal() for c in configs])
    a, b = judge([ablate(trials, name, replicates=["repeat"]) for name in ("a", "b")])
    assert only(a).verdict == "better" and only(a).adjusted == pytest.approx(3 * only(a).p_value)
    assert [d.verdict for d in b.differences] == ["not shown", "not shown"]


@pytest.mark.parametrize(("direction", "verdict", "wins"), [("max", "better", 1.0), ("min", "worse", 0.0), (None, "more", math.nan)])
def test_what_is_better_follows_from_the_direction_of_the_metric(direction: Any, verdict: str, wins: float) -> None:
    rng = np.random.default_rng(6)
    configs = grid(a=[0, 1], b=list(range(9)))
    trials = sweep(configs, [9.0 * c["a"] + rng.normal() for c in configs], Metric("cost", direction))
    [found] = judge([ablate(trials, "a")])
    assert only(found).verdict == verdict
    assert only(found).wins == pytest.approx(wins, nan_ok=True)


def test_a_trial_without_a_partner_in_every_other_parameter_is_in_no_pair() -> None:
    configs = [{"a": 0, "b": 0}, {"a": 1, "b": 0}, {"a": 0, "b": 1}, {"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 3}]
    found = ablate(sweep(configs, [1.0, 2.0, 1.0, 4.0, 99.0, 99.0]), "a")
    assert (only(found).pairs, only(found).mean) == (2, 2.0)
    assert found.unpaired == (2,)


def test_one_unit_has_a_difference_but_no_interval_and_no_verdict() -> None:
    configs = grid(a=[0, 1], b=[0, 1], repeat=[0, 1])
    configs = [c for c in configs if c["a"] == 0 or c["repeat"] == 0]
    [found] = judge([ablate(sweep(configs, [1.0, 1.0, 2.0, 3.0, 5.0, 7.5]), "a", replicates=["repeat"])])
    one = only(found)
    assert (one.pairs, one.units, one.verdict) == (2, 1, "not shown")
    assert one.mean == pytest.approx(4.75)
    assert math.isnan(one.low) and math.isnan(one.high) and math.isnan(one.p_value)


def test_replicates_that_are_copies_of_each_other_are_no_evidence() -> None:
    configs = grid(a=[0, 1, 2], repeat=[0, 1, 2])
    scores = [{0: 0.1, 1: 0.4, 2: 0.1}[c["a"]] for c in configs]
    [found] = judge([ablate(sweep(configs, scores), "a", replicates=["repeat"])])
    effect, none = found.differences
    assert effect.mean == pytest.approx(0.3) and math.isnan(effect.low) and effect.verdict == "not shown"
    assert (none.mean, none.low, none.high, none.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_text_lists_numbers_and_truth_are_told_apart_and_named_by_their_text() -> None:
    values = ["1", "1,24", "none"]
    configs = grid(horizons=values, layers=[[8], [8, 8]], on=[True, False])
    trials = sweep(configs, np.arange(12.0), defaults={"horizons": "1,24"})
    found = ablate(trials, "horizons", order=["none", "1", "1,24"])
    assert (found.reference, [d.value for d in found.differences]) == ("1,24", ["none", "1"])
    assert ablate(trials, "horizons", against="1").reference == "1"
    assert ablate(trials, "layers", against="[8, 8]").reference == [8, 8]
    assert ablate(trials, "on", against="true").reference is True
    assert len(sweep(grid(x=[1, True, "1", 1.0]), range(4)).axes["x"].values) == 3


def test_the_reference_is_the_default_or_else_the_first_of_the_space() -> None:
    trials = sweep(grid(a=["deep", "wide"], b=[0, 1]), range(4), defaults={"a": "flat"})
    assert ablate(trials, "a", order=["wide", "deep"]).reference == "wide"
    assert ablate(trials, "b").reference == 0
    with pytest.raises(AblationError, match="--against 3: b has no such value in study; it has 0, 1"):
        ablate(trials, "b", against="3")


def test_a_parameter_that_does_not_exist_in_a_configuration_counts_with_the_default_it_was_evaluated_with() -> None:
    configs: list[dict[str, Any]] = [{"loss": "log"}, {"loss": "sharpe", "weight": 0.1}, {"loss": "sharpe", "weight": 1}]
    found = ablate(sweep(configs, [3.0, 5.0, 99.0], defaults={"loss": "log", "weight": 0.1}), "loss")
    assert (only(found).pairs, only(found).mean) == (1, 2.0)


def test_without_a_default_absent_agrees_with_absent_only() -> None:
    configs: list[dict[str, Any]] = [{"loss": "log"}, {"loss": "sharpe", "weight": 0.1}, {"loss": "calmar"}]
    found = ablate(sweep(configs, [3.0, 5.0, 9.0], defaults={"loss": "log"}), "loss")
    assert (only(found).value, only(found).mean, found.unpaired) == ("calmar", 6.0, ("sharpe",))


def test_what_is_derived_from_the_parameter_need_not_agree() -> None:
    configs = [{"edge": e, "margin": 2 * e, "lag": lag} for e in (1, 2) for lag in (1, 2)]
    trials = sweep(configs, [0.0, 0.0, 1.0, 3.0])
    with pytest.raises(NoPairs, match="they always differ in margin too"):
        ablate(trials, "edge")
    assert only(ablate(trials, "edge", follows=["margin"])).mean == 2.0


def test_where_nothing_pairs_the_message_says_what_differs_or_which_reference_has_pairs() -> None:
    rng = np.random.default_rng(7)
    drawn = [dict(zip("ab", row, strict=True)) for row in rng.random((50, 2)).tolist()]
    with pytest.raises(NoPairs, match=r"no trial with another value agrees with one at 0\.\d+ in all else that varies \(b\)$"):
        ablate(sweep(drawn, range(50)), "a")
    configs = [{"a": 0, "b": 0}, {"a": 1, "b": 1}, {"a": 2, "b": 1}]
    with pytest.raises(NoPairs, match="other values do agree: try --against 1"):
        ablate(sweep(configs, range(3)), "a")


def test_what_does_not_vary_is_refused_with_what_does() -> None:
    trials = sweep(grid(a=[0, 1], b=[7]), range(2), defaults={"lag": 1})
    for name, told in (("b", "has the value 7"), ("lag", "has the value 1"), ("aa", "no such parameter; varied are a. Did you mean 'a'")):
        with pytest.raises(AblationError, match=told):
            ablate(trials, name)
    with pytest.raises(AblationError, match=r"no completed trial has a value of score \(3 failed\)"):
        ablate(sweep([], [], left_out={"failed": 3}), "a")


def test_the_table_has_a_row_for_each_comparison() -> None:
    trials = sweep(grid(a=[0, 1, 2], repeat=[0, 1]), np.arange(6.0) ** 2)
    made = table(judge([ablate(trials, "a", replicates=["repeat"])]), "study")
    assert made[["parameter", "value", "reference", "metric", "pairs", "units", "unit"]].to_numpy().tolist() == [
        ["a", 1, 0, "score", 2, 2, "repeat"],
        ["a", 2, 0, "score", 2, 2, "repeat"],
    ]


def test_students_interval_needs_two_values() -> None:
    half, p = student([1.0, 1.0], [0.5, 0.5], [1, 4])
    assert math.isnan(half[0]) and math.isnan(p[0])
    assert half[1] == pytest.approx(stats.t.ppf(0.975, 3) * 0.25) and p[1] == pytest.approx(2 * stats.t.sf(4.0, 3))


def test_a_ledger_gives_its_completed_trials_and_counts_the_others(ledger: Ledger, make_rows: Callable, make_failed: Callable) -> None:
    context = ledger.header.context_id
    rows = make_rows(context, range(6))
    rows[1] = rows[1]._replace(status="stopped")
    rows[2] = rows[2]._replace(metrics=[math.nan, 0.0, 0.0, 0.0])
    ledger.accept(ledger.open_attempt(1, 7), [*rows, make_failed(context, 6)])
    trials = read(ledger)
    assert trials.left_out == {"failed": 1, "stopped early": 1, "without sharpe (n/a)": 1}
    assert trials.scores.tolist() == [number / 7.0 for number in (0, 3, 4, 5)]
    assert list(trials.axes) == ["edge", "x"] and trials.constants == {"mode": "high_low"}
    assert read(ledger, "loss").metric.direction == "min"


def test_a_hundred_thousand_trials_take_about_a_second() -> None:
    configs = grid(a=list(range(10)), b=[x / 7 for x in range(10)], c=list("abcdefghij"), d=list(range(20)), repeat=list(range(5)))
    scores = np.random.default_rng(8).normal(size=len(configs))
    began = time.process_time()
    found = ablate(sweep(configs, scores), "a", replicates=["repeat"])
    assert time.process_time() - began < 4.0  # 0.4 s on an idle core
    assert len(found.differences) == 9 and all(d.pairs == 10_000 and d.units == 5 for d in found.differences)

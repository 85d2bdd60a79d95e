from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from results.metrics import Metric
from results.replicated import ReplicateError, rank
from results.varied import Sweep


def sweep(direction="max", **changes):
    rng = np.random.default_rng(1)
    configs = [{"x": x, "seed": seed} for x in (1, 2, 3) for seed in range(4)]
    scores = np.array([c["x"] + rng.normal() for c in configs])
    return Sweep.of("s", Metric("score", direction), configs, scores, **changes), configs, scores


def test_a_configuration_has_the_mean_of_its_replicates_and_students_interval():
    made, configs, scores = sweep()
    ranking = rank(made, ["seed"])
    assert [row.values for row in ranking.rows] and all(set(row.values) == {"x"} for row in ranking.rows)
    assert [row.mean for row in ranking.rows] == sorted((row.mean for row in ranking.rows), reverse=True)
    for row in ranking.rows:
        own = np.array([s for c, s in zip(configs, scores, strict=True) if c["x"] == row.values["x"]])
        low, high = stats.t.interval(0.95, 3, own.mean(), stats.sem(own))
        assert (row.n, row.mean, row.worst) == (4, pytest.approx(own.mean()), own.min())
        assert (row.low, row.high) == (pytest.approx(low), pytest.approx(high))


def test_less_is_better_where_the_metric_says_so():
    made, _, scores = sweep("min")
    ranking = rank(made, ["seed"])
    assert [row.mean for row in ranking.rows] == sorted(row.mean for row in ranking.rows)
    assert max(row.worst for row in ranking.rows) == scores.max()


def test_a_lucky_single_trial_does_not_pass_those_with_all_their_replicates():
    configs = [{"x": 1, "seed": 0}, {"x": 1, "seed": 1}, {"x": 2, "seed": 0}]
    ranking = rank(Sweep.of("s", Metric("score", "max"), configs, [1.0, 2.0, 99.0]), ["seed"])
    assert [(row.values["x"], row.n) for row in ranking.rows] == [(1, 2), (2, 1)]
    assert ranking.most == 2 and np.isnan(ranking.rows[1].low)


def test_what_does_not_vary_or_rank_is_a_message():
    made, _, _ = sweep()
    with pytest.raises(ReplicateError, match=r"'sed' does not vary between its completed trials. Did you mean 'seed'\?"):
        rank(made, ["sed"])
    with pytest.raises(ReplicateError, match="more of score is neither better nor worse"):
        rank(sweep(None)[0], ["seed"])

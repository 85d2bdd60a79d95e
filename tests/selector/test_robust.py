"""Robust scores by hand, and what they are made of."""

import numpy as np
import pytest

from results.metrics import pnl_smoothness, returns_from_equity, sortino
from tests.selector import scenarios
from trainables.selector import tally
from trainables.selector.inputs import Start
from trainables.selector.options import encode
from trainables.selector.robust import (
    ROBUST_METRICS,
    Outcomes,
    goodness,
    lag_score,
    losing_share,
    outcomes,
    robust_metrics,
    scenario_score,
    selection_score,
)
from trainables.selector.simulate import evaluate, simulate_sums

CASH = 10_000.0
FOUR = {
    "returns": [0.10, 0.02, -0.04, 0.06],
    "drawdown": [0.03, 0.05, 0.08, 0.02],
    "sortino": [4.0, 1.0, -2.0, 3.0],
    "smoothness": [0.002, 0.004, 0.002, 0.004],
    "trades": [2.0, 4.0, 6.0, 4.0],
    "bars": [168.0, 168.0, 336.0, 336.0],
}


def made(**columns):
    """Scenarios of one configuration."""
    bars = np.array(columns.pop("bars"))
    return Outcomes(**{name: np.array(values, float)[:, None] for name, values in columns.items()}, bars=bars)


def test_the_scenario_score_of_four_scenarios_by_hand():
    # Percent: worst −4, p25 −4 + 0.75·6 = 0.5, mean 3.5; Sortino p25 −2 + 0.75·3 = 0.25, worst −2; drawdown worst 8, mean 4.5.
    by_hand = -6.0 + 0.375 + 1.225 + 0.5 - 1.0 - 6.4 - 1.125 - 0.525 - 12.5
    assert scenario_score(made(**FOUR)) == pytest.approx([by_hand])
    assert by_hand == pytest.approx(-25.45)


def test_the_selection_score_takes_off_for_few_trades_and_if_asked_for_a_loss():
    four = made(**FOUR)
    assert selection_score(four) == pytest.approx([-25.45 - 0.75 * (6 - 4)])
    assert selection_score(four, require_all_positive=True) == pytest.approx([-26.95 - (100 + 10 * 4)])
    busy_winner = made(**FOUR | {"returns": [0.1, 0.02, 0.04, 0.06], "trades": [9.0] * 4})
    np.testing.assert_array_equal(selection_score(busy_winner, True), scenario_score(busy_winner))
    stuck = made(**FOUR | {"returns": [0.1, 0.02, 0.0, 0.06], "trades": [9.0] * 4})
    assert selection_score(stuck, True) == pytest.approx(scenario_score(stuck) - 100)


def test_a_return_of_nothing_is_a_losing_scenario():
    assert losing_share(np.array([[0.0], [0.1], [-0.1], [0.2]])) == [0.5]


def test_the_lag_score_of_two_lags_by_hand():
    shared = {"smoothness": [0.002, 0.002], "bars": [48.0, 12.0]}
    soon = made(returns=[0.10, 0.06], drawdown=[0.02, 0.04], sortino=[4.0, 2.0], trades=[12.0, 6.0], **shared)
    late = made(returns=[0.02, -0.02], drawdown=[0.06, 0.04], sortino=[1.0, -1.0], trades=[0.0, 0.0], **shared)
    # Sortino by lag 3 and 0: p10 0.3, sd 1.5; return 4 %, drawdown 4 %; trade rates 12/48 and 6/24 at one lag, none at the other.
    by_hand = 0.3 - 0.75 * 1.5 + 0.03 * 4 - 0.08 * 4 - 120 * 0.002 - 1.5 * 0.125
    assert lag_score([soon, late]) == pytest.approx([by_hand])
    np.testing.assert_array_equal(lag_score([late, soon]), lag_score([soon, late]))


def test_goodness_by_hand_counts_half_a_day_half():
    two = made(
        returns=[0.02, 0.02], drawdown=[0.05, 0.05], sortino=[1.0, 1.0], smoothness=[0.004] * 2, trades=[3.0, 1.0], bars=[12.0, 48.0]
    )
    short = 0.5 * (2.0 + 0.8 + 0.25 - 0.6 - 2 * (3 / 24 - 1 / 24))
    long = 2.0 + 0.8 + 0.25 - 0.6  # one trade in two days is not often
    assert goodness(two)[:, 0] == pytest.approx([short, long])


def test_the_table_has_every_metric_and_drawdowns_keep_their_sign():
    got = robust_metrics([made(**FOUR)], 1)
    assert set(got) == {metric.name for metric in ROBUST_METRICS}
    expected = {
        "return_worst": -0.04,
        "return_p25": 0.005,
        "return_mean": 0.035,
        "sortino_p25": 0.25,
        "sortino_worst": -2.0,
        "drawdown_worst": -0.08,
        "drawdown_mean": -0.045,
        "smoothness_mean": 0.003,
        "losing_share": 0.25,
        "trades_mean": 4.0,
        "scenarios": 4.0,
        "robust_score": -25.45,
        "selection_score": -26.95,
    }
    assert {name: got[name].item() for name in expected} == pytest.approx(expected)
    assert np.isnan(got["lag_score"]) and np.isfinite(got["goodness"])
    assert np.isfinite(robust_metrics([made(**FOUR), made(**FOUR)], 1)["lag_score"])


def test_without_a_scenario_there_is_no_score():
    got = robust_metrics([outcomes(np.zeros((0, 3, tally.WIDTH)), np.zeros(0), 8760.0, CASH)], 3)
    assert (got.pop("scenarios") == 0).all()
    assert all(np.isnan(values).all() and values.shape == (3,) for values in got.values())


def sums_of(equity):
    acc = np.zeros(tally.WIDTH)
    tally.begin(acc, CASH)
    for value in equity:
        tally.mark(acc, value)
    acc[tally.FINAL] = acc[tally.PREV_EQUITY]
    return acc


def test_the_sortino_of_a_scenario_is_a_number_whatever_happened():
    rng = np.random.default_rng(1)
    still = np.full(200, CASH)
    rising = CASH * np.cumprod(1 + np.abs(rng.normal(0, 0.001, 200)))
    falling = CASH * np.cumprod(1 - np.abs(rng.normal(0, 0.001, 200)))
    mixed = CASH * np.cumprod(1 + rng.normal(0, 0.001, 200))
    hair = np.full(200, CASH * (1 - 1e-16 * 1.2))  # a loss whose square still counts
    sums = np.stack([sums_of(curve) for curve in (still, rising, falling, mixed, hair)])[None]
    got = outcomes(sums, np.array([200]), 8760.0, CASH)
    exact = sortino(returns_from_equity(mixed, CASH), 8760.0, 200, min_negative=0)
    assert abs(exact) < 10.0
    assert got.sortino[0, :4] == pytest.approx([0.0, 10.0, -10.0, exact])
    assert np.isfinite(got.sortino).all()
    assert got.smoothness[0] == pytest.approx([pnl_smoothness(returns_from_equity(x, CASH)) for x in (still, rising, falling, mixed, hair)])
    assert (got.drawdown >= 0).all() and got.drawdown[0, 0] == 0.0


def test_hours_without_a_row_earned_nothing():
    curve = CASH * np.cumprod(1 + np.random.default_rng(2).normal(0, 0.001, 100))
    got = outcomes(sums_of(curve)[None, None], np.array([400]), 8760.0, CASH)
    assert got.sortino.item() == pytest.approx(sortino(returns_from_equity(curve, CASH), 8760.0, 400, min_negative=0))


def test_the_outcome_of_a_flat_start_at_the_first_row_is_that_of_an_ordinary_simulation():
    compared = 0
    for seed in range(20):
        inputs = scenarios.random_inputs(seed)
        configs = [scenarios.random_config(40 * seed + i, "realistic") for i in range(6)]
        table = encode(configs, "realistic")
        sums, _, _ = simulate_sums(inputs, table, "realistic", CASH, starts=[Start()])
        got = outcomes(sums, np.array([inputs.calendar_bars]), 8760.0, CASH)
        want = evaluate(inputs, table, profile="realistic", initial_cash=CASH).metrics
        np.testing.assert_allclose(got.returns[0], want["total_return"], rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(got.drawdown[0], -want["max_drawdown"])
        np.testing.assert_allclose(got.smoothness[0], want["smoothness"], rtol=1e-12)
        np.testing.assert_array_equal(got.trades[0], want["trades"])
        compared += (want["trades"] > 0).sum()
    assert compared > 20

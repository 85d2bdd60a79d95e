"""Pre-augmentations against hand-computed steps, pandas' rolling windows, the future and simulated walks (SPEC B, O.4)."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trainables.chronos2.preaug import PREAUGS, WARM_UP, parse
from trainables.contract import TrainableError

NAMES = ("baseline", "percent_change", "log_returns", "differencing", "detrending", "robust_scaling", "minmax_standard")
NAMES += ("rolling_norm", "log_diff", "diff_norm")
EVERY = [*NAMES, "differencing(order=5)", "rolling_norm(window=3)", "rolling_norm(window=60)", "diff_norm(window=3)"]
AFFINE = ("baseline", "percent_change", "robust_scaling", "minmax_standard")
prices = arrays(np.float64, (2, 40), elements=st.floats(1e-6, 1e6))


def walk(seed: int, shape: tuple[int, ...], price: float = 100.0, sd: float = 0.01) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return price * np.exp(np.cumsum(rng.normal(0, sd, shape), axis=-1))


def as_forecast(y: np.ndarray) -> np.ndarray:
    """A forecast of one quantile, the median: (..., V, 1, H)."""
    return y[..., None, :]


def test_every_transform_of_the_specification_is_there():
    assert tuple(PREAUGS) == NAMES
    assert all(preaug.name == name for name, preaug in PREAUGS.items())


@pytest.mark.parametrize("price", [1e-5, 100.0, 65_000.0])
@pytest.mark.parametrize("name", EVERY)
def test_a_forecast_without_error_comes_back_as_the_raw_future(name, price):
    raw = walk(1, (3, 4, 130), price)
    preaug = parse(name)
    state = preaug.fit(raw[..., :100])
    y = preaug.transform(raw, state)
    got = preaug.inverse(as_forecast(y[..., 100:]), state)
    assert got.shape == (3, 4, 1, 30)
    np.testing.assert_allclose(got[..., 0, :], raw[..., 100:], rtol=1e-9)


@pytest.mark.parametrize("name", ["differencing", "differencing(order=5)", "log_diff"])
def test_a_cumulative_transform_is_inverted_over_the_whole_sample_from_its_first_bars(name):
    raw = walk(2, (4, 80))
    preaug = parse(name)
    state = preaug.fit(raw[:, : preaug.order])
    y = preaug.transform(raw, preaug.fit(raw))
    np.testing.assert_allclose(preaug.inverse(as_forecast(y[:, preaug.order :]), state)[:, 0], raw[:, preaug.order :], atol=1e-6)


@pytest.mark.parametrize("name", [n for n in NAMES if not PREAUGS[n].cumulative])
def test_a_line_is_inverted_over_the_whole_sample(name):
    raw = walk(3, (4, 80))
    preaug = parse(name)
    state = preaug.fit(raw)
    steps = np.concatenate([preaug.transform(raw, state), np.zeros((4, 80))], axis=1)
    back = preaug.inverse(as_forecast(steps), state)[:, 0, :80]
    back -= state.slope[:, None] * 80  # inverse speaks of the bars after the context
    np.testing.assert_allclose(back, raw, atol=1e-6)


@pytest.mark.parametrize("name", ["rolling_norm", "diff_norm", "rolling_norm(window=3)"])
def test_a_rolling_transform_is_inverted_over_the_sample_by_its_own_scales(name):
    raw = walk(4, (80,))
    preaug = parse(name)
    y = preaug.transform(raw, preaug.fit(raw))
    series = pd.Series(raw)
    if preaug.name == "rolling_norm":
        past = series.shift(1).rolling(preaug.window, min_periods=1)
        back, want = (y * past.std() + past.mean()).to_numpy(), raw
    else:
        back = (y * series.diff().rolling(preaug.window, min_periods=1).std()).to_numpy()
        want = series.diff().to_numpy()
    warm = np.arange(80) < min(WARM_UP, preaug.window)
    assert np.isnan(back[warm]).all()
    np.testing.assert_allclose(back[~warm], want[~warm], atol=1e-9)


HAND = {
    # context 100, 102, 101, 104; what the inverse makes of y over the next three steps
    "baseline": ([105.0, 103.0, 106.0], [105.0, 103.0, 106.0]),
    "percent_change": ([5.0, 3.0, 6.0], [105.0, 103.0, 106.0]),
    "log_returns": (list(np.log([1.05, 1.03, 1.06])), [105.0, 103.0, 106.0]),
    "differencing": ([1.0, -2.0, 3.0], [105.0, 103.0, 106.0]),
    "differencing(order=2)": ([4.0, -1.0, 1.0], [105.0, 103.0, 106.0]),  # 101 + 4, 104 − 1, 105 + 1
    "detrending": ([0.0, -2.0, 1.0], [104.5, 103.6, 107.7]),  # 100.1 + 1.1·i, i = 4, 5, 6
    "robust_scaling": ([2.0, 1.0, 0.0], [105.0, 103.25, 101.5]),  # median 101.5, quartiles 100.75 and 102.5
    "minmax_standard": ([1.0, 0.0, -1.0], [101.75 + 35**0.5 / (2 * 3**0.5), 101.75, 101.75 - 35**0.5 / (2 * 3**0.5)]),  # variance 35/12
    "log_diff": (list(np.log([105 / 104, 103 / 105, 106 / 103])), [105.0, 103.0, 106.0]),
    "diff_norm(window=2)": ([1.0, 0.0, -1.0], [104 + 8**0.5, 104 + 8**0.5, 104.0]),  # differences −1 and 3: sd √8
    # of the last two: mean 102.5, sd √4.5; then of 104 and 105.5: 104.75, √1.125; then of 105.5 and 103.75: 104.625
    "rolling_norm(window=2)": (
        [3.0 / 4.5**0.5, -1.0 / 1.125**0.5, 0.0],
        [105.5, 103.75, 104.625],
    ),
}


@pytest.mark.parametrize("name", HAND)
def test_three_steps_after_a_context_worked_by_hand(name):
    steps, want = HAND[name]
    preaug = parse(name)
    state = preaug.fit([[100.0, 102.0, 101.0, 104.0]])
    np.testing.assert_allclose(preaug.inverse([[steps]], state)[0, 0], want, rtol=1e-12)


def test_forward_values_worked_by_hand():
    raw = np.array([[100.0, 102.0, 101.0, 104.0]])
    cases = {
        "percent_change": [0, 2, 1, 4],
        "log_returns": np.log([1, 1.02, 1.01, 1.04]),
        "differencing": [0, 2, -1, 3],
        "differencing(2)": [0, 0, 1, 2],
        "detrending": [-0.1, 0.8, -1.3, 0.6],
        "robust_scaling": (raw[0] - 101.5) / 1.75,
        "minmax_standard": (raw[0] - 101.75) / (35 / 12) ** 0.5,
        "log_diff": [0, np.log(1.02), np.log(101 / 102), np.log(104 / 101)],
        "rolling_norm(2)": [np.nan, np.nan, 0, 2.5 / 0.5**0.5],  # 101 is the mean of 100 and 102; 102 and 101: mean 101.5, sd √.5
        "diff_norm(2)": [np.nan, np.nan, -1 / 4.5**0.5, 3 / 8**0.5],
    }
    for name, want in cases.items():
        preaug = parse(name)
        np.testing.assert_allclose(preaug.transform(raw, preaug.fit(raw))[0], want, atol=1e-12, err_msg=name)


def chronos_input(y: np.ndarray) -> np.ndarray:
    """What Chronos-2 makes of each window in float32: standardised, then arcsinh."""
    y = y.astype(np.float32)
    return np.arcsinh((y - y.mean(axis=-1, keepdims=True)) / y.std(axis=-1, keepdims=True))


@pytest.mark.parametrize("name", NAMES)
def test_chronos_sees_no_difference_from_raw_prices_of_the_affine_ones_and_only_of_these(name):
    raw = walk(5, (8, 512))
    preaug = PREAUGS[name]
    y = preaug.transform(raw, preaug.fit(raw))[:, WARM_UP:]
    apart = np.abs(chronos_input(y) - chronos_input(raw[:, WARM_UP:])).max()
    assert preaug.affine == (name in AFFINE)
    assert apart < 1e-4 if preaug.affine else apart > 1e-3


@pytest.mark.parametrize("name", [n for n in EVERY if parse(n).causal])
@settings(max_examples=40, deadline=None)
@given(raw=prices, at=st.integers(10, 39), value=st.floats(1e-6, 1e6))
def test_a_later_value_never_changes_an_earlier_one_of_a_causal_transform(name, raw, at, value):
    preaug = parse(name)
    before = preaug.transform(raw, preaug.fit(raw))
    changed = raw.copy()
    changed[:, at:] = value
    np.testing.assert_array_equal(preaug.transform(changed, preaug.fit(changed))[:, :at], before[:, :at])


def test_those_not_causal_in_their_window_are_named():
    raw = walk(6, (1, 60))
    changed = raw.copy()
    changed[:, 30:] *= 1.5
    for name in NAMES:
        preaug = PREAUGS[name]
        a, b = (preaug.transform(x, preaug.fit(x))[:, :30] for x in (raw, changed))
        assert np.array_equal(a, b, equal_nan=True) == preaug.causal, name


@pytest.mark.parametrize("name", EVERY)
def test_what_follows_the_context_changes_neither_its_transform_nor_an_earlier_step(name):
    raw = walk(7, (4, 80))
    preaug = parse(name)
    state = preaug.fit(raw[:, :60])
    whole = preaug.transform(raw, state)
    np.testing.assert_array_equal(preaug.transform(raw[:, :60], state), whole[:, :60])
    changed = raw.copy()
    changed[:, 70:] *= 2
    np.testing.assert_array_equal(preaug.transform(changed, state)[:, :70], whole[:, :70])


@pytest.mark.parametrize("name", EVERY)
def test_a_batch_equals_its_windows_one_by_one(name):
    raw = walk(8, (3, 2, 70), 5.0)
    preaug = parse(name)
    state = preaug.fit(raw)
    y = preaug.transform(raw, state)
    forecast = np.random.default_rng(0).normal(0, 0.5, (3, 2, 5, 6))
    back = preaug.inverse(forecast, state)
    for b in range(3):
        for v in range(2):
            one = preaug.fit(raw[b, v])
            np.testing.assert_array_equal(preaug.transform(raw[b, v], one), y[b, v])
            np.testing.assert_allclose(preaug.inverse(forecast[b, v], one), back[b, v], rtol=1e-12)


def simulate(name: str, context: int = 128, horizon: int = 24, windows: int = 40, paths: int = 300):
    """Coverage of [p10, p90] per step by the module's rule and by summing quantile paths, and how much wider the latter is at the end.

    The forecaster is as good as can be: each step's quantiles are those of many futures of the very context, transformed.
    """
    rng = np.random.default_rng(9)
    past = np.broadcast_to(rng.normal(0, 0.01, (windows, 1, context)), (windows, 2 * paths, context))
    steps = np.concatenate([past, rng.normal(0, 0.01, (windows, 2 * paths, horizon))], axis=-1)
    raw = 100 * np.exp(steps.cumsum(axis=-1))
    preaug = parse(name)
    y = preaug.transform(raw, preaug.fit(raw[..., :context]))[:, :paths, context:]
    forecast = np.quantile(y, (0.1, 0.5, 0.9), axis=1).swapaxes(0, 1)
    state = preaug.fit(raw[:, 0, :context])
    future = raw[:, paths:, context:]

    def covered(low, high):
        return ((low[:, None] <= future) & (future <= high[:, None])).mean(axis=(0, 1))

    low, _, high = preaug.inverse(forecast, state).swapaxes(0, 1)
    low_summed, high_summed = (preaug.inverse(forecast[:, q : q + 1], state)[:, 0] for q in (0, 2))
    ratio = (high_summed - low_summed)[:, -1].mean() / (high - low)[:, -1].mean()
    return covered(low, high), covered(low_summed, high_summed), ratio


@pytest.mark.parametrize("name", ["differencing", "log_diff", "diff_norm"])
def test_on_a_walk_the_interval_24_steps_ahead_holds_80_percent_and_summed_quantile_paths_nearly_everything(name):
    ours, summed, ratio = simulate(name)
    assert np.abs(ours - 0.8).max() < 0.025
    assert summed[-1] > 0.999
    assert ratio == pytest.approx(24**0.5, rel=0.05)


def test_a_difference_over_more_steps_than_are_forecast_needs_no_rule():
    ours, summed, ratio = simulate("differencing(order=24)")
    np.testing.assert_array_equal(ours, summed)
    assert abs(ours[-1] - 0.8) < 0.025
    assert ratio == 1


@pytest.mark.parametrize("name", ["rolling_norm", "rolling_norm(window=5)"])
def test_a_rolling_norm_holds_somewhat_less_than_80_percent_as_its_scale_moves_with_the_path(name):
    ours, summed, ratio = simulate(name)
    assert 0.72 < ours[-1] < 0.82
    assert abs(ours[0] - 0.8) < 0.025
    assert summed[-1] > 0.95
    assert ratio > 2


def test_squared_deviations_add_up_on_each_side_worked_by_hand():
    state = PREAUGS["differencing"].fit([[10.0, 12.0]])
    got = PREAUGS["differencing"].inverse([[[-3.0, -4.0], [0.0, 1.0], [1.0, 1.0]]], state)[0]
    # median 12, 13; below 3 and √(3² + 5²); above 1 and √(1² + 0²)
    np.testing.assert_allclose(got, [[9.0, 13 - 34**0.5], [12.0, 13.0], [13.0, 14.0]])


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=30, deadline=None)
@given(forecast=arrays(np.float64, (2, 5, 12), elements=st.floats(-3, 3)), seed=st.integers(0, 99))
def test_quantiles_never_cross_and_the_order_they_come_in_does_not_matter(name, forecast, seed):
    preaug = parse(name)
    state = preaug.fit(walk(seed, (2, 50)))
    got = preaug.inverse(forecast, state)
    assert np.isfinite(got).all()
    assert (np.diff(got, axis=-2) >= 0).all()
    np.testing.assert_array_equal(preaug.inverse(forecast[:, ::-1], state), got)


@pytest.mark.parametrize("name", EVERY)
def test_constant_missing_and_infinite_values_spoil_no_neighbour(name):
    raw = walk(10, (6, 60))
    whole = raw.copy()
    raw[0] = 7.0
    raw[1, 20:] = 0.1  # has no exact mean in binary
    raw[2] = np.nan
    raw[3, :11] = np.nan
    raw[4, [30, 31, 59]] = [np.inf, -np.inf, np.nan]
    preaug = parse(name)
    with np.errstate(all="raise"):
        state = preaug.fit(raw)
        y = preaug.transform(raw, state)
        back = preaug.inverse(np.tile([[-0.1], [0.0], [0.1]], (6, 1, 4)), state)
    assert not np.isinf(y).any()
    assert np.abs(y[np.isfinite(y)]).max() < 1000
    assert np.isfinite(back[[0, 1, 3, 4, 5]]).all()
    assert np.isnan(y[2]).all()
    assert np.isnan(y[3, :11]).all()
    assert np.isfinite(y[3, -20:]).all()
    assert np.isnan(y[4, [30, 31, 59]]).all()
    np.testing.assert_array_equal(y[5], preaug.transform(whole, preaug.fit(whole))[5])
    assert np.nanmax(np.abs(y[0] - y[0, -1])) < 1e-9  # a constant stays one


def test_a_window_that_freezes_keeps_its_last_scale():
    raw = np.concatenate([walk(11, (1, 50), 60_000.0), np.full((1, 30), 60_000.0)], axis=1)
    for name in ("rolling_norm", "diff_norm"):
        state = PREAUGS[name].fit(raw)
        spread = np.ptp(PREAUGS[name].inverse([[[-1.0], [0.0], [1.0]]], state))
        assert 10 < spread < 20_000, name  # of the price's order, not of ±1


def test_volumes_go_through_their_logarithm_and_prices_do_not_notice():
    rng = np.random.default_rng(12)
    raw = np.stack([walk(13, (60,)), rng.gamma(1.0, 50.0, 60)])
    raw[1, 5] = 0
    u = np.log1p(raw[1])
    same = {"differencing", "robust_scaling", "log_diff"}
    for name, preaug in PREAUGS.items():
        state = preaug.fit(raw, volume=[False, True])
        y = preaug.transform(raw, state)
        np.testing.assert_array_equal(y[0], preaug.transform(raw[:1], preaug.fit(raw[:1]))[0])
        want = u
        if name in same:
            want = (u - np.median(u)) / np.subtract(*np.quantile(u, [0.75, 0.25])) if name == "robust_scaling" else np.diff(u, prepend=u[0])
        np.testing.assert_allclose(y[1], want, atol=1e-12, err_msg=name)
        state = preaug.fit(raw[:, :50], volume=[False, True])
        y = preaug.transform(raw, state)
        np.testing.assert_allclose(preaug.inverse(as_forecast(y[:, 50:]), state)[:, 0], raw[:, 50:], rtol=1e-9, err_msg=name)
        assert preaug.inverse(np.full((2, 3, 4), -1000.0), state)[1].min() == 0


def test_a_name_comes_with_its_parameters_in_either_way_and_its_label_reads_back():
    assert parse("rolling_norm") == PREAUGS["rolling_norm"]
    assert parse("rolling_norm", {"window": 30}) == parse("rolling_norm(window=30)") == parse(" rolling_norm( 30 ) ")
    assert parse("rolling_norm", {"window": 30}).window == 30
    assert parse("differencing(5)").order == 5
    assert parse("baseline()") == PREAUGS["baseline"]
    for name in EVERY:
        assert parse(parse(name).label) == parse(name)
    assert parse("diff_norm").label == "diff_norm(window=20)"
    assert parse("baseline").label == "baseline"


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("rolling_nrom", None, "preaug: 'rolling_nrom' is not known; did you mean 'rolling_norm'"),
        ("zscore", None, "known: baseline, percent_change"),
        (3, None, "preaug: 3 is not known"),
        ("rolling_norm(20", None, "not known"),
        ("rolling_norm", {"windows": 20}, "rolling_norm has no parameter 'windows'; it has window"),
        ("baseline", {"window": 20}, "baseline has no parameter 'window'; it has none"),
        ("baseline(20)", None, "baseline has no parameter"),
        ("rolling_norm(1)", None, "window 1 is not allowed; give a whole number of bars from 2"),
        ("differencing", {"order": 0}, "order 0 is not allowed"),
        ("differencing", {"order": 1.5}, "order 1.5 is not allowed"),
        ("differencing", {"order": float("nan")}, "order nan is not allowed"),
        ("differencing", {"order": True}, "order True is not allowed"),
        ("differencing(many)", None, "order 'many' is not allowed"),
    ],
)
def test_a_wrong_name_or_parameter_is_a_message(name, parameters, message):
    with pytest.raises(TrainableError) as caught:
        parse(name, parameters)
    assert message in str(caught.value)


def test_a_context_too_short_and_a_missing_median_are_messages():
    with pytest.raises(TrainableError, match=r"differencing\(order=5\): a context of 4 bars is too short; give at least 5"):
        parse("differencing(5)").fit(np.ones((4, 4)))
    with pytest.raises(TrainableError, match="a context of 0 bars"):
        parse("baseline").fit(np.ones((4, 0)))
    preaug = parse("log_diff")
    state = preaug.fit(np.ones((1, 10)))
    with pytest.raises(TrainableError, match="2 quantiles have no middle one"):
        preaug.inverse(np.zeros((1, 2, 3)), state)
    assert preaug.inverse(np.zeros((1, 2, 3)), state, median=1).shape == (1, 2, 3)

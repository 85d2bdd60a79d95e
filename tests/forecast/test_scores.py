"""Scores against hand-worked numbers, closed forms and scipy; reference forecasts against their definition and `empirical` (SPEC C.7)."""

import numpy as np
import pytest
from scipy import stats

from trainables.contract import TrainableError
from trainables.forecast import MINIMUM, QUANTILES, empirical
from trainables.forecast.scores import (
    SCORES,
    calibration_error,
    coverage,
    crps,
    diebold_mariano,
    effective_count,
    mae,
    mae_percent,
    pinball,
    references,
    score,
    score_symbols,
    sign_hits,
    skill,
    wilson,
    wql,
)
from trainables.market import Panel, make_assets

DENSE = (np.arange(400) + 0.5) / 400


def ohlc(seed: int, origins: int, bars: int, price: float = 100.0, sd: float = 0.01) -> np.ndarray:
    """Windows (N, 4, T) of one walk each: open is the last close, high and low enclose both."""
    rng = np.random.default_rng(seed)
    close = price * np.exp(np.cumsum(rng.normal(0, sd, (origins, bars + 1)), axis=1))
    open_, close = close[:, :-1], close[:, 1:]
    wick = np.exp(np.abs(rng.normal(0, sd / 2, (2, *close.shape))))
    return np.stack([open_, np.maximum(open_, close) * wick[0], np.minimum(open_, close) / wick[1], close], axis=1)


def test_pinball_worked_by_hand():
    loss = pinball([10.0, 10.0], [[8.0, 12.0], [9.0, 10.0], [13.0, 9.0]], QUANTILES)
    np.testing.assert_allclose(loss, [[0.2, 1.8], [0.5, 0.0], [0.3, 0.9]])


def test_weighted_quantile_loss_worked_by_hand():
    y, q = [10.0, 10.0], [[8.0, 12.0], [9.0, 10.0], [13.0, 9.0]]
    assert wql(y, q, QUANTILES) == pytest.approx(2 * (2.0 + 0.5 + 1.2) / 20 / 3)
    assert wql([10.0, np.nan], q, QUANTILES) == pytest.approx(2 * (0.2 + 0.5 + 0.3) / 10 / 3)
    assert np.isnan(wql([0.0, 0.0], q, QUANTILES))
    # of the median alone it is the sum of absolute errors over that of values
    assert wql(y, [[9.0, 12.0]], [0.5]) == pytest.approx(3 / 20)


@pytest.mark.parametrize("y", [0.0, 0.7, -2.0])
def test_crps_of_dense_levels_is_the_closed_form_of_a_normal_distribution(y):
    """Gneiting & Raftery (2007), eq. 21 with σ = 1: y(2Φ(y) − 1) + 2φ(y) − 1/√π."""
    want = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi)
    assert crps([y], stats.norm.ppf(DENSE)[:, None], DENSE) == pytest.approx(want, rel=2e-3)


def test_errors_skill_coverage_and_calibration_worked_by_hand():
    assert mae([1.0, 2.0, np.nan], [2.0, 4.0, 1.0]) == 1.5
    assert mae_percent([100.0, 50.0], [101.0, 49.0]) == pytest.approx(1.5)
    assert mae_percent([0.0], [1e-8]) == pytest.approx(100)
    assert skill(0.75, 1.0) == 0.25
    assert skill(2.0, 1.0) == -1
    assert np.isnan(skill(0.0, 0.0))
    assert coverage([1.0, 2.0, 3.0, 4.0, np.nan], [1.0, 0, 4, 0, 0], [1.0, 9, 9, 3, 9]) == 0.5
    # shares at or below: 1/4, 3/4 and 4/4 against .1, .5, .9
    y, q = np.array([1.0, 2.0, 3.0, 4.0]), np.repeat([[1.0], [3.0], [4.0]], 4, axis=1)
    assert calibration_error(y, q, QUANTILES) == pytest.approx((0.15 + 0.25 + 0.1) / 3)


def test_a_sign_needs_a_direction_on_both_sides():
    hits = sign_hits([2.0, 2.0, 0.5, 1.0, 2.0, np.nan], [3.0, 0.9, 0.9, 3.0, 1.0, 2.0], 1.0)
    np.testing.assert_array_equal(hits, [1, 0, 1, np.nan, np.nan, np.nan])


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (4, 9), (530, 1000)])
def test_wilson_is_that_of_scipy(k, n):
    want = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k / n, n) == pytest.approx((want.low, want.high), abs=1e-12)
    assert all(np.isnan(wilson(0.5, 0)))


def test_dependent_hits_count_for_less():
    rng = np.random.default_rng(0)
    single = (rng.random((4000, 1)) < 0.5).astype(float)
    assert effective_count(single) == pytest.approx(4000, rel=0.01)
    assert effective_count(np.repeat(single, 9, axis=1)) == pytest.approx(4000, rel=0.01)  # nine symbols that are one
    independent = (rng.random((4000, 9)) < 0.5).astype(float)
    assert effective_count(independent) == pytest.approx(36_000, rel=0.1)
    overlapping = (np.convolve(rng.normal(size=4000), np.ones(12), "valid") > 0).astype(float)
    assert 4000 / 12 < effective_count(overlapping, 12) < 4000 / 4
    assert effective_count(np.ones((50, 3)), 5) == 10
    assert effective_count(np.full((50, 3), np.nan)) == 0


def test_at_one_step_diebold_mariano_is_the_t_test_of_the_loss_difference():
    rng = np.random.default_rng(1)
    a, b = rng.gamma(2, 1, 40), rng.gamma(2, 1.2, 40)
    a[7] = np.nan
    for alternative in ("less", "greater", "two-sided"):
        want = stats.ttest_1samp((a - b)[np.isfinite(a)], 0, alternative=alternative)
        assert diebold_mariano(a, b, alternative=alternative) == pytest.approx((want.statistic, want.pvalue))


def test_diebold_mariano_of_two_steps_worked_by_hand():
    d = np.array([1.0, 3.0, 2.0, -1.0, 0.0, 1.0])  # mean 1, centred 0, 2, 1, −2, −1, 0
    squares, products = 10.0, 0 + 2 - 2 + 2 + 0  # and 0·2
    variance = (squares + 2 * 0.5 * products) / 6 / 6
    harvey = (6 + 1 - 4 + 2 * 1 / 6) / 6
    want = 1 / np.sqrt(variance) * np.sqrt(harvey)
    t, p = diebold_mariano(d + 5, np.full(6, 5.0), 2)
    assert t == pytest.approx(want)
    assert p == pytest.approx(stats.t.cdf(want, 5))


def test_diebold_mariano_says_nothing_of_too_little_or_of_equals():
    assert np.isnan(diebold_mariano([1.0, 2, 3, 4], [2.0, 1, 2, 2], 2)).all()
    assert np.isnan(diebold_mariano(np.ones(30), np.ones(30))).all()
    with pytest.raises(TrainableError, match="'better' is not known"):
        diebold_mariano([1.0], [1.0], alternative="better")


def test_diebold_mariano_rejects_as_often_as_it_says_when_futures_overlap():
    rng = np.random.default_rng(2)
    d = np.stack([np.convolve(rng.normal(size=403), np.ones(4), "valid") for _ in range(400)])
    zero = np.zeros(400)
    honest = np.mean([diebold_mariano(x, zero, 4, "two-sided")[1] < 0.05 for x in d])
    blind = np.mean([diebold_mariano(x, zero, 1, "two-sided")[1] < 0.05 for x in d])
    assert honest < 0.15 < 0.25 < blind


def test_references_of_a_short_context_follow_their_definition():
    x = ohlc(3, 3, 80)
    got = references(x, (1, 4, 30), season=24)
    assert {name: values.shape for name, values in got.items()} == dict.fromkeys(("naive", "drift", "seasonal"), (3, 4, 3, 3))
    for n in range(3):
        close = x[n, 3]
        for i, h in enumerate((1, 4, 30)):
            centre = np.median(np.log(close[h:] / close[:-h]))
            slope = np.log(close[-1] / close[0]) / 79
            back = 24 if h <= 24 else 48
            for v in range(4):
                ratios = np.quantile(np.log(x[n, v, h:] / close[:-h]), QUANTILES)
                np.testing.assert_allclose(got["naive"][n, v, :, i], close[-1] * np.exp(ratios), rtol=1e-12)
                np.testing.assert_allclose(got["drift"][n, v, :, i], close[-1] * np.exp(ratios - centre + h * slope), rtol=1e-12)
                season = np.quantile(np.log(x[n, v, back:] / x[n, v, :-back]), QUANTILES)
                np.testing.assert_allclose(got["seasonal"][n, v, :, i], x[n, v, 79 + h - back] * np.exp(season), rtol=1e-12)
            assert got["drift"][n, 3, 1, i] == pytest.approx(close[-1] * (close[-1] / close[0]) ** (h / 79))


def test_the_naive_reference_is_what_the_empirical_forecaster_makes_of_a_panel():
    x = ohlc(4, 2, 60)
    times = np.datetime64("2024-01-01", "ns") + np.arange(60) * np.timedelta64(1, "h")
    bars = [*x.transpose(1, 2, 0), np.ones((60, 2))]
    symbols = ("BTCUSD", "ETHUSD")
    panel = Panel(times, symbols, *bars, np.ones((60, 2), bool), np.zeros((60, 2), bool), make_assets(symbols), "random")
    naive = references(x, (1, 4, 24))["naive"]
    for i, h in enumerate((1, 4, 24)):
        want = empirical(panel, (h,), window=60 - h).values[0, :, :, -1]  # (4, 3, A)
        np.testing.assert_allclose(naive[..., i], want.transpose(2, 0, 1), rtol=1e-12)


def test_a_seasonal_market_is_known_by_the_seasonal_reference_alone():
    profile = np.sin(2 * np.pi * np.arange(24) / 24) / 50
    close = 100 * np.exp(np.tile(profile, 9) + np.random.default_rng(5).normal(0, 1e-4, 216))
    got = references(close[None, None, :192], (1, 12, 24))
    off = {name: np.abs(np.log(values[0, 0, 1] / close[[192, 203, 215]])).max() for name, values in got.items()}
    assert off["seasonal"] < 1e-3 < 0.01 < min(off["naive"], off["drift"])


def test_missing_bars_and_short_contexts_give_no_number_and_no_warning():
    x = ohlc(6, 4, 60)
    x[1, :, :40] = np.nan
    x[2, :, -1] = np.nan
    x[3, 0, 5] = -1.0
    x[3, 1, -1] = np.inf
    with np.errstate(all="raise"):
        got = references(x, (1, 40))
    assert np.isfinite(got["naive"][0, ..., 0]).all()
    assert np.isnan(got["naive"][:, ..., 1]).all()  # 20 ratios of 40 bars
    assert MINIMUM > 60 - 40
    assert np.isnan(got["naive"][[1, 2]]).all()
    assert np.isfinite(got["naive"][3, ..., 0]).all()
    whole = references(ohlc(6, 4, 60), (1, 40))
    np.testing.assert_array_equal(got["naive"][0], whole["naive"][0])
    with pytest.raises(TrainableError, match="at least 1"):
        references(x, (0,))


def test_many_windows_equal_windows_one_by_one():
    x = ohlc(7, 1030, 30)
    got = references(x, (1, 3), season=5)
    for n in (0, 1023, 1024, 1029):
        for name, values in references(x[n], (1, 3), season=5).items():
            np.testing.assert_array_equal(values, got[name][n])


def market(seed: int = 8, origins: int = 300, symbols: int = 2, horizons: tuple[int, ...] = (1, 4)):
    """Contexts of 100 bars and what came after: (A, N, 4, T), actual (A, N, 4, H), last close (A, N)."""
    x = np.stack([ohlc(seed + a, origins, 100 + max(horizons), 10.0 ** (3 * a)) for a in range(symbols)])
    return x[..., :100], x[..., [99 + h for h in horizons]], x[..., 3, 99]


def test_the_naive_reference_scored_against_itself_has_no_skill_and_right_coverage():
    contexts, actual, last = market()
    reference = references(contexts, (1, 4))
    got = score(reference["naive"], actual, last, QUANTILES, (1, 4), reference, stride=4)
    assert set(got) == {metric.name for metric in SCORES}
    assert got["skill"] == 0
    assert got["skill_seasonal"] > 0.3
    assert 0 < got["skill_drift"] < 0.1
    # An open one bar ahead is the last close, an interval without width; 100 bars make for somewhat narrow quantiles of 4 bars.
    assert 0.775 < got["coverage_80"] < 0.825
    assert got["calibration_error"] < 0.07
    assert got["sign_low"] < 0.5 < got["sign_high"]
    assert np.isnan(got["dm_p"])
    assert got["scored"] == 2 * 300 * 4 * 2


def test_a_forecaster_that_knows_something_shows_it():
    contexts, actual, last = market()
    reference = references(contexts, (1, 4))
    naive = reference["naive"]
    knows = naive * (1 + 0.5 * (actual / naive[..., 1, :] - 1))[..., None, :]
    got = score(knows, actual, last, QUANTILES, (1, 4), reference)
    assert got["skill"] > 0.1
    assert got["skill_mae"] > 0.3
    assert got["dm_p"] < 1e-6
    assert got["sign_low"] > 0.8
    assert got["coverage_80"] > 0.85
    worse = score(naive * 1.02, actual, last, QUANTILES, (1, 4), reference)
    assert worse["skill"] < -0.1
    assert worse["dm_p"] > 0.999


def test_scores_of_two_origins_worked_by_hand():
    # one variate, one horizon; last close 100 and 200
    forecasts = np.array([[[[98.0], [101.0], [104.0]]], [[[190.0], [198.0], [206.0]]]])
    actual = np.array([[[102.0]], [[208.0]]])
    naive = np.array([[[[97.0], [100.0], [103.0]]], [[[196.0], [200.0], [204.0]]]])
    got = score(forecasts, actual, [100.0, 200.0], QUANTILES, (1,), {"naive": naive, "drift": forecasts, "seasonal": naive})
    # misses in units of the last close: .04, .01, −.02 and .09, .05, .01
    ours = [(0.004 + 0.009) / 2, (0.005 + 0.025) / 2, (0.002 + 0.009) / 2]
    theirs = [(0.005 + 0.006) / 2, (0.01 + 0.02) / 2, (0.001 + 0.018) / 2]
    assert [got[f"pinball_{p}"] for p in (10, 50, 90)] == pytest.approx(ours)
    assert got["skill"] == pytest.approx(1 - sum(ours) / sum(theirs))
    assert got["skill_seasonal"] == got["skill"]
    assert got["skill_drift"] == 0
    assert got["skill_mae"] == pytest.approx(1 - (0.01 + 0.05) / (0.02 + 0.04))
    assert got["crps"] == pytest.approx(2 * sum(ours) / 3)
    assert got["wql"] == pytest.approx(2 * 2 * sum(ours) / (1.02 + 1.04) / 3)
    assert got["mae_percent"] == pytest.approx(50 * (1 / 102 + 10 / 208))
    assert got["sign_accuracy"] == 0.5
    assert got["coverage_80"] == 0.5
    assert got["calibration_error"] == pytest.approx((0.1 + 0.5 + 0.4) / 3)
    assert got["scored"] == 2


def test_pooled_symbols_count_alike_whatever_their_price():
    contexts, actual, last = market()
    reference = references(contexts, (1, 4))
    forecasts = reference["naive"] * 1.001
    got = score_symbols(("AAA", "BBB"), forecasts, actual, last, QUANTILES, (1, 4), reference)
    assert list(got) == ["AAA", "BBB", "pooled"]
    one = score(forecasts[0], actual[0], last[0], QUANTILES, (1, 4), {k: x[0] for k, x in reference.items()})
    assert one == got["AAA"]
    for name in ("pinball_50", "mae_percent", "coverage_80", "crps"):
        assert got["pooled"][name] == pytest.approx((got["AAA"][name] + got["BBB"][name]) / 2), name
    times = np.array([1.0, 1000.0])[:, None]
    dear = score(
        forecasts * times[..., None, None, None],
        actual * times[..., None, None],
        last * times,
        QUANTILES,
        (1, 4),
        {k: x * times[..., None, None, None] for k, x in reference.items()},
    )
    assert dear == pytest.approx(got["pooled"])


def test_a_missing_forecast_is_left_out_of_both_sides_and_seen_in_the_count():
    contexts, actual, last = market()
    reference = references(contexts, (1, 4))
    forecasts = reference["naive"] * 1.01
    forecasts[0, :50] = np.nan
    actual[1, 250:] = np.nan
    got = score(forecasts[:1], actual[:1], last[:1], QUANTILES, (1, 4), {k: x[:1] for k, x in reference.items()})
    want = score(forecasts[0, 50:], actual[0, 50:], last[0, 50:], QUANTILES, (1, 4), {k: x[0, 50:] for k, x in reference.items()})
    assert got == pytest.approx(want)
    assert got["scored"] == 250 * 4 * 2
    nothing = score(forecasts[0, :50], actual[0, :50], last[0, :50], QUANTILES, (1, 4), {k: x[0, :50] for k, x in reference.items()})
    assert nothing.pop("scored") == 0
    assert np.isnan(list(nothing.values())).all()


def test_overlapping_origins_widen_the_interval_of_the_sign():
    rng = np.random.default_rng(9)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 700)))
    windows = np.lib.stride_tricks.sliding_window_view(close, 124)[:, None]
    contexts, actual = windows[..., :100], windows[..., -1:]
    reference = references(contexts, (24,))
    args = (reference["drift"], actual, contexts[:, 0, -1], QUANTILES, (24,), reference)
    wide, narrow = score(*args, stride=1), score(*args, stride=24)
    assert wide["sign_accuracy"] == narrow["sign_accuracy"]
    assert wide["sign_high"] - wide["sign_low"] > 2 * (narrow["sign_high"] - narrow["sign_low"])


def test_what_does_not_belong_together_is_a_message():
    contexts, actual, last = market(origins=30)
    reference = references(contexts, (1, 4))
    naive = reference["naive"]
    with pytest.raises(TrainableError, match=r"lack one of 0.1, 0.5, 0.9"):
        score(naive, actual, last, (0.1, 0.5, 0.8), (1, 4), reference)
    with pytest.raises(TrainableError, match="shapes do not belong together"):
        score(naive, actual, last, QUANTILES, (1,), reference)
    with pytest.raises(TrainableError, match="shapes do not belong together"):
        score(naive, actual, last, QUANTILES, (1, 4), {"naive": naive})
    with pytest.raises(TrainableError, match="stride 0"):
        score(naive, actual, last, QUANTILES, (1, 4), reference, stride=0)


def test_more_levels_than_three_change_only_what_uses_them():
    contexts, actual, last = market(origins=60)
    reference = references(contexts, (1, 4))
    levels = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    many = references(contexts, (1, 4), levels)["naive"]
    a = score(many, actual, last, levels, (1, 4), reference)
    b = score(reference["naive"], actual, last, QUANTILES, (1, 4), reference)
    changed = {name for name in a if a[name] != b[name] and not np.isnan(a[name])}
    assert changed == {"wql", "crps", "calibration_error"}

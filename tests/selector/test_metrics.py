"""Metrics from running sums against `results.metrics` of the equity curve, and where there is nothing to measure."""

import numpy as np
import pandas as pd
import pytest

from results import metrics as plain
from tests.selector import scenarios
from trainables.contract import Context
from trainables.forecast import empirical
from trainables.market import sample_panel
from trainables.policy import decode
from trainables.selector import SelectorTrainable
from trainables.selector.inputs import SelectorInputs
from trainables.selector.options import encode, profile_defaults
from trainables.selector.simulate import evaluate, simulate
from trainables.selector.summary import METRIC_NAMES, METRICS

CASH = 10_000.0


def of_returns(returns, equity, per_year, periods, min_days):
    """The metrics both sides define, from a curve; `equity` starts with what the first return is measured from."""
    return {
        "total_return": plain.total_return(returns),
        "sharpe": plain.sharpe(returns, per_year, periods),
        "max_drawdown": plain.max_drawdown(equity),
        "calmar": plain.calmar(returns, per_year, periods, min_days),
        "annualised_return": plain.annualised_return(returns, per_year, periods, min_days),
        "volatility": plain.volatility(returns, 1.0, periods),
        "profit_factor": plain.profit_factor(returns),
        "smoothness": plain.pnl_smoothness(returns),
        "losing_bars": float((returns < 0).sum()),
    }


def realistic_from_curve(curve, inputs):
    equity = np.concatenate(([CASH], curve))
    per_year, periods = plain.periods_per_year(inputs.panel.bar_seconds), inputs.calendar_bars
    with np.errstate(invalid="ignore"):
        returns = np.nan_to_num(plain.returns_from_equity(curve, CASH))  # after ruin 0/0 counts as zero (SPEC G.7)
    return of_returns(returns, equity, per_year, periods, plain.MIN_DAYS) | {"sortino": plain.sortino(returns, per_year, periods)}


def original_periods(inputs):
    """Periods a year as the original had them: 8760, or bars per UTC day × 252, weighted by rows (SPEC A.5)."""
    total = weight = 0.0
    for a, asset in enumerate(inputs.panel.assets):
        stamps = pd.DatetimeIndex(inputs.panel.times[inputs.panel.exists[:, a]])
        own = 8760.0
        if asset.asset_class == "stock":
            own = min(max(len(stamps) / stamps.normalize().nunique(), 1.0), 24.0) * 252.0
        total, weight = total + own * len(stamps), weight + len(stamps)
    return total / weight


def legacy_from_curve(curve, inputs):
    per_year, returns = original_periods(inputs), curve[1:] / curve[:-1] - 1.0
    sortino = plain.sortino_legacy(returns, per_year)
    # One losing bar has no deviation: the original showed 0, the plain function says n/a.
    sortino = 0.0 if (returns < 0).sum() == 1 else sortino
    return of_returns(returns, curve, per_year, len(returns), 0.0) | {"sortino": sortino}


def assert_same(got, want, note):
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-9, atol=1e-9, err_msg=f"{name}, {note}")


@pytest.mark.parametrize("profile", ["realistic", "legacy"])
def test_running_sums_equal_the_metrics_of_the_equity_curve_on_random_markets(profile):
    traded = lost = 0
    for seed in range(150):
        inputs = scenarios.random_inputs(seed, overlap=profile == "realistic" and seed % 3 == 0)
        configs = [scenarios.random_config(1000 * seed + i, profile) for i in range(4)]
        result = evaluate(inputs, encode(configs, profile), profile=profile, equity=True)
        for i in range(len(configs)):
            curve = result.equity[i].to_numpy()
            if profile == "legacy" and not (curve > 0).all():
                continue  # returns from nothing or from debt mean nothing
            from_curve = realistic_from_curve if profile == "realistic" else legacy_from_curve
            got = result.metrics.iloc[i]
            assert_same(got, from_curve(curve, inputs), f"seed {seed}, config {configs[i]}")
            traded += got["trades"] > 0
            lost += got["losing_bars"] >= plain.MIN_NEGATIVE
    assert traded > 150 and lost > 5


@pytest.fixture(scope="module")
def quarter():
    """Ninety days of five sample symbols: long enough for every metric to be a number."""
    panel = sample_panel(bars=24 * 90)
    panel = panel.select(sorted(panel.symbols))
    forecasts = empirical(panel, window=48)
    actions = decode(panel, forecasts, (3.0, 3.0, 2.0, 2.0))
    orders = [actions.buy_price, actions.sell_price, actions.buy_amount, actions.sell_amount]
    return SelectorInputs(panel, np.stack(orders + [forecasts.p50(f) for f in ("high", "low", "close")]))


@pytest.mark.parametrize("slots", [1, 3])
def test_ninety_days_have_every_metric_and_each_equals_its_definition(quarter, slots):
    config = profile_defaults("realistic") | {"min_edge": -0.01, "max_positions": slots, "max_hold": 12.0}
    result = evaluate(quarter, encode([config], "realistic"), profile="realistic", equity=True, fills=True)
    got, curve, fills = result.metrics.iloc[0], result.equity[0].to_numpy(), result.fills
    assert np.isfinite(got.to_numpy(float)).all() and got["trades"] > 50
    assert_same(got, realistic_from_curve(curve, quarter), f"{slots} slots")
    value = fills["price"] * fills["quantity"]
    assert got["turnover"] == pytest.approx(value.sum() / CASH)
    assert got["fees"] == pytest.approx(fills["fee"].sum() / CASH)
    assert got["entries"] == (fills["reason"] == "entry").sum() <= got["orders"]
    assert got["forced"] == fills["reason"].isin(["max_hold", "eod", "work_steal", "liquidation"]).sum()
    assert got["bars"] == len(curve) == 24 * 90


def test_trade_metrics_are_those_of_the_round_trips(quarter):
    config = profile_defaults("realistic") | {"min_edge": -0.01, "max_hold": 12.0}
    result = evaluate(quarter, encode([config], "realistic"), profile="realistic", fills=True)
    fills, got = result.fills, result.metrics.iloc[0]
    flow = fills["price"] * fills["quantity"] * np.where(fills["side"] == "sell", 1.0, -1.0) - fills["fee"]
    opened = (fills["reason"] == "entry").to_numpy()
    trip = pd.Series(opened.cumsum())
    closed = trip.value_counts() == 2  # one slot, binary fills: an entry and its exit
    gains = flow.groupby(trip).sum()[closed]
    hours = fills["timestamp"].groupby(trip).agg(lambda x: x.iloc[-1] - x.iloc[0])[closed].dt.total_seconds() / 3600.0
    assert got["trades"] == len(gains) > 50
    assert got["win_rate"] == pytest.approx((gains > 0).mean())
    assert got["expectancy"] == pytest.approx(gains.mean() / CASH)
    assert got["payoff"] == pytest.approx(gains[gains > 0].mean() / -gains[gains <= 0].mean())
    assert got["hold_hours"] == pytest.approx(hours.mean())


def market(close, hours=1.0):
    """One coin that opens, tops and bottoms at the close of the bar before or its own; orders that always buy and never sell."""
    close = np.asarray(close, float)
    before = np.concatenate((close[:1], close[:-1]))
    stamps = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(len(close)) * hours, unit="h")
    bars = pd.DataFrame(
        {
            "timestamp": stamps,
            "symbol": "BTCUSD",
            "open": before,
            "high": np.maximum(before, close),
            "low": np.minimum(before, close),
            "close": close,
            "volume": 1.0,
            "predicted_high_p50_h1": close * 1.1,
            "predicted_low_p50_h1": close * 0.99,
            "predicted_close_p50_h1": close,
        }
    )
    actions = bars[["timestamp", "symbol"]].assign(buy_price=close * 1.01, sell_price=close * 1e3, buy_amount=1.0, sell_amount=1.0)
    return bars, actions


FREE = {"BTCUSD": {"maker_fee_bps": 0.0, "taker_fee_bps": 0.0, "half_spread_bps": 0.0, "min_notional": 0.0}}


def metrics_of(close, config=None, profile="realistic", hours=1.0):
    return simulate(*market(close, hours), [config or {}], profile=profile, costs=FREE, initial_cash=CASH).metrics.iloc[0]


@pytest.mark.parametrize("profile", ["realistic", "legacy"])
def test_without_a_trade_there_is_no_return_and_no_ratio(profile):
    got = metrics_of(np.linspace(100, 120, 24 * 70), {"min_edge": 10.0}, profile)
    zero = ["total_return", "sharpe", "max_drawdown", "annualised_return", "volatility", "smoothness", "exposure", "turnover", "fees"]
    assert (got[[*zero, "financing", "trades", "entries", "orders", "forced", "losing_bars"]] == 0.0).all()
    assert got[["calmar", "profit_factor", "win_rate", "expectancy", "payoff", "hold_hours"]].isna().all()
    assert got["bars"] == 24 * 70
    assert got["sortino"] == 0.0 if profile == "legacy" else np.isnan(got["sortino"])


@pytest.mark.parametrize("close", [[100.0], [100.0, 100.0]])
def test_one_or_two_bars_are_too_little_to_vary(close):
    got = metrics_of(close)
    if len(close) == 1:
        assert got[["volatility", "sharpe", "smoothness"]].isna().all()
    else:
        assert (got[["volatility", "sharpe", "smoothness"]] == 0.0).all()
    assert got["total_return"] == got["max_drawdown"] == 0.0


def test_a_ruined_account_has_lost_everything_for_good():
    close = np.concatenate((np.full(20, 100.0), np.full(365 * 20, 40.0)))
    bars, actions = market(close, hours=24.0)
    config = {"leverage": 5.0, "maintenance_margin": 0.0}
    result = simulate(bars, actions, [config], costs=FREE, equity=True, fills=True)
    got, curve = result.metrics.iloc[0], result.equity[0].to_numpy()
    assert (curve[20:] == 0.0).all() and (curve[:20] > 0.0).all()
    assert got["total_return"] == got["max_drawdown"] == -1.0
    assert got["annualised_return"] == pytest.approx(-1.0, abs=1e-12)  # twenty years: no root brings anything back
    assert got["calmar"] == pytest.approx(-1.0, abs=1e-12)
    assert got["sharpe"] < 0.0 and got["losing_bars"] >= 1.0
    assert (result.fills["timestamp"] <= bars["timestamp"][20]).all()
    assert got["exposure"] == pytest.approx(19 / len(close), abs=2 / len(close))


def test_the_sortino_ratio_needs_thirty_losing_bars():
    rising = np.linspace(100, 110, 50)
    for losing in (29, 30):
        falling = 110.0 - 0.1 * np.arange(1, losing + 1)
        got = metrics_of(np.concatenate((rising, falling, [130.0])))
        assert got["losing_bars"] == losing
        assert np.isnan(got["sortino"]) == (losing == 29)
        assert np.isfinite(got["sharpe"])


@pytest.mark.parametrize("hours", [1.0, 0.5, 4.0])
def test_a_year_is_not_extrapolated_from_less_than_sixty_days(hours):
    enough = round(60 * 24 / hours)
    path = 100.0 + np.sin(np.arange(enough))
    for rows in (enough - 1, enough):
        got = metrics_of(path[:rows], hours=hours)
        assert got["total_return"] != 0.0
        assert np.isnan(got["annualised_return"]) == (rows < enough)
        assert np.isnan(got["calmar"]) == (rows < enough)


def test_hours_in_which_the_market_was_closed_count_as_zero_returns():
    path = 100.0 + np.sin(np.arange(100))
    bars, actions = market(path)
    whole = simulate(bars, actions, [{}], costs=FREE, equity=True)
    # The same bars with a hole of 300 hours in the middle: less volatile per bar, not less per trade.
    gap = pd.to_timedelta(np.where(np.arange(100) < 50, 0, 300), unit="h")
    result = simulate(bars.assign(timestamp=bars["timestamp"] + gap), actions.assign(timestamp=bars["timestamp"] + gap), [{}], costs=FREE)
    now, then = result.metrics.iloc[0], whole.metrics.iloc[0]
    assert now["total_return"] == then["total_return"] and now["bars"] == then["bars"] == 100
    returns = plain.returns_from_equity(whole.equity[0], CASH)
    padded = np.concatenate((returns, np.zeros(300)))
    assert now["volatility"] == pytest.approx(padded.std(ddof=1), rel=1e-9)
    assert now["sharpe"] == pytest.approx(padded.mean() / padded.std(ddof=1) * np.sqrt(8760), rel=1e-9)


def test_the_table_has_every_declared_metric_as_a_finite_number_or_nan():
    inputs = scenarios.random_inputs(3)
    for profile in ("realistic", "legacy"):
        configs = [scenarios.random_config(seed, profile) for seed in range(60)]
        frame = evaluate(inputs, encode(configs, profile), profile=profile).metrics
        assert tuple(frame.columns) == METRIC_NAMES == tuple(m.name for m in METRICS)
        assert frame.dtypes.eq(float).all() and not np.isinf(frame.to_numpy()).any()


def test_initial_cash_is_the_base_of_every_share():
    trainable = SelectorTrainable()
    got = []
    for cash in (10_000, 40_000):
        costs = {"crypto": {"min_notional": 0.0}}
        data = {"source": "sample", "symbols": ["BTCUSD", "ETHUSD"], "bars": 1500, "costs": costs}
        prepared = trainable.prepare(data, {"initial_cash": cash, "forecast_window": 48})
        got.append(trainable.evaluate_pack([dict(prepared.defaults) | {"min_edge": -0.01}], Context(prepared.inputs)).metrics)
    assert got[0]["trades"].item() > 20
    np.testing.assert_allclose(got[0].to_numpy(), got[1].to_numpy(), rtol=1e-9, atol=1e-12)

"""Every feature against a slow pandas reference, on coins with gaps and stocks whose bars overlap theirs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.features.markets import forecasts, market
from tests.features.reference import reference
from trainables.features import FeatureSpec, features, preset
from trainables.features.kernels import rolling_sd
from trainables.features.spec import BLOCKS
from trainables.market import Panel, make_assets

WINDOWS = {
    "volume_shock": (5, 24),
    "trend": (1, 30),
    "drawdown": (12, 48),
    "ma": (7, 30, 100),
    "ema": (5, 24),
    "rsi": (1, 14),
    "volatility": (2, 24, 50),
    "atr": (1, 14),
    "vol_regime": ((5, 20), (24, 50)),
    "volume_z": 40,
}


def compare(panel: Panel, spec: FeatureSpec, issued=None, least: int = 50) -> None:
    frame = features(panel, spec, issued)
    for a, symbol in enumerate(panel.symbols):
        want = reference(panel, symbol, spec, issued)
        got = frame.values[a, panel.exists[:, a]]
        assert np.isnan(frame.values[a, ~panel.exists[:, a]]).all()
        for i, name in enumerate(spec.columns):
            expected = want[name].to_numpy()
            assert np.isfinite(expected).sum() > least, f"{symbol} {name}: nothing to compare"
            # pandas keeps running sums, whose rounding is 1e-9 at worst here.
            np.testing.assert_allclose(got[:, i], expected, rtol=1e-7, atol=1e-9, err_msg=f"{symbol} {name}")


def test_every_feature_of_a_mixed_market_equals_the_reference():
    panel = market(1)
    compare(panel, FeatureSpec(BLOCKS, horizons=(1, 4, 24), **WINDOWS), forecasts(panel))


def test_two_horizons_have_no_residual_and_one_no_agreement():
    panel = market(2, hours=700)
    for horizons, absent in (((4, 24), "forecast_delta_residual"), ((4,), "forecast_agreement")):
        spec = FeatureSpec(("price", "forecast", "interactions"), horizons=horizons)
        assert absent not in spec.columns
        compare(panel, spec, forecasts(panel))


def test_the_default_windows_equal_the_reference():
    panel = market(3, hours=2700, stocks=())
    compare(panel, FeatureSpec(BLOCKS), forecasts(panel))


def test_the_short_windows_equal_the_reference():
    panel = market(4, hours=1500)
    compare(panel, preset("short"), forecasts(panel, (1, 24)), least=20)


def test_a_row_worked_by_hand():
    times = np.datetime64("2024-01-05T22:00", "ns") + np.arange(3) * np.timedelta64(1, "h")  # a Friday
    columns = [[100.0, 110.0, 99.0], [112.0, 121.0, 111.0], [98.0, 108.0, 95.0], [110.0, 120.0, 96.0], [10.0, 0.0, 30.0]]
    ones = np.ones((3, 1), bool)
    panel = Panel(times, ("BTCUSD",), *(np.array(x)[:, None] for x in columns), ones, ~ones, make_assets(("BTCUSD",)))
    spec = FeatureSpec(("price", "volume", "calendar", "trend", "volatility"), (2,), (2,), (2,), (2,), (3,), (2,), (2,), (2,), (), 2)
    row = dict(zip(spec.columns, features(panel, spec).values[0, 2], strict=True))
    up, down = 120 / 110 - 1, 96 / 120 - 1
    assert row["return_1h"] == pytest.approx(down) and row["log_return_1h"] == pytest.approx(np.log(0.8))
    assert row["range_pct"] == pytest.approx(16 / 96) and row["close_open_pct"] == pytest.approx(-3 / 99)
    assert row["high_close_pct"] == pytest.approx(15 / 96) and row["low_close_pct"] == pytest.approx(1 / 96)
    assert row["volume_change_1h"] == 0.0  # there was no volume before
    assert row["volume_shock_2h"] == pytest.approx(1.0) and row["volume_z"] == pytest.approx(15 / (30 / np.sqrt(2)))
    assert row["volume_spike"] == 0.0
    assert row["hour_sin"] == 0.0 and row["dow_sin"] == pytest.approx(np.sin(2 * np.pi * 5 / 7))  # Saturday, midnight
    assert row["trend_2h"] == pytest.approx(96 / 110 - 1) and row["drawdown_2h"] == pytest.approx(-0.2)
    assert row["ma_delta_2h"] == pytest.approx((96 - 108) / 108)
    mean = 0.5 * 96 + 0.5 * (0.5 * 120 + 0.5 * 110)
    assert row["ema_delta_3h"] == pytest.approx((96 - mean) / mean)
    assert row["rsi_2h"] == pytest.approx(100 - 100 / (1 + 10 / 24))
    assert row["volatility_2h"] == pytest.approx(np.std([up, down], ddof=1))
    assert row["atr_pct_2h"] == pytest.approx((13 + 25) / 2 / 96)


def test_a_market_that_stands_still_has_no_noise_from_rounding():
    panel = market(0, hours=300, missing=0.0, stocks=())
    flat = {name: np.full(panel.close.shape, 0.1) for name in ("open", "high", "low", "close", "volume")}
    spec = FeatureSpec(BLOCKS, ema=(24,), ma=(24,))
    frame = features(replace(panel, **flat), spec, forecasts(replace(panel, **flat), (1, 24), missing=0.0))
    last = dict(zip(spec.columns, frame.values[2, -1], strict=True))
    assert last["volume_z"] == 0.0 and last["volume_spike"] == 0.0 and last["volatility_24h"] == 0.0
    assert last["rsi_14h"] == 100.0 and abs(last["ma_delta_24h"]) < 1e-15
    for name in ("vol_regime_24_168", "btc_correlation_72h", "basket_corr_24h", "basket_beta_24h"):
        assert np.isnan(last[name]), name  # 0/0
    assert last["basket_rank_24h"] == 0.5 and last["basket_excess_24h"] == 0.0
    grown = 1.001 ** np.arange(100.0)
    assert (rolling_sd(grown[1:] / grown[:-1] - 1.0, 24)[23:] == 0.0).all()


def test_without_volume_there_is_no_shock():
    panel = market(0, hours=100, stocks=())
    spec = FeatureSpec(("volume",), volume_shock=(4,), volume_z=4)
    frame = features(replace(panel, volume=np.where(panel.exists, 0.0, np.nan)), spec)
    assert (frame.values[frame.valid.T] == 0.0).all() and frame.valid.sum() > 250


def test_btc_is_like_itself():
    panel = market(5)
    spec = FeatureSpec(("price", "btc", "basket"))
    frame = features(panel, spec)
    rows = {}
    for symbol in ("BTCUSD", "ETHUSD"):
        a = panel.symbols.index(symbol)
        rows[symbol] = dict(zip(spec.columns, frame.values[a][frame.valid[:, a]].T, strict=True))
    btc, eth = rows["BTCUSD"], rows["ETHUSD"]
    np.testing.assert_array_equal(btc["btc_return_1h"], btc["return_1h"])
    assert (btc["btc_correlation_72h"] == 1.0).all() and (btc["relative_strength_btc_24h"] == 0.0).all()
    assert (btc["basket_corr_24h"] == 1.0).all() and (btc["basket_beta_24h"] == 0.2).all() and len(btc["return_1h"]) > 900
    assert (np.abs(eth["btc_correlation_72h"]) < 0.9).all() and (eth["relative_strength_btc_24h"] != 0.0).all()


def test_a_stock_at_half_past_reads_the_coin_bar_that_has_ended():
    panel = market(6, missing=0.0)
    stock, btc = panel.symbols.index("NVDA"), panel.symbols.index("BTCUSD")
    row = np.flatnonzero(panel.exists[:, stock])[40]
    spec = FeatureSpec(("btc",))
    frame = features(panel, spec)
    # The stock's bar 14:30–15:30 ends after BTC's 14:00–15:00, but before 15:00–16:00.
    ended = np.flatnonzero((panel.times + np.timedelta64(1, "h") <= panel.times[row] + np.timedelta64(1, "h")) & panel.exists[:, btc])
    assert panel.times[row] - panel.times[ended[-1]] == np.timedelta64(30, "m")
    assert frame.column("btc_return_1h")[row, stock] == panel.close[ended[-1], btc] / panel.close[ended[-2], btc] - 1.0
    unfinished = panel.close.copy()
    unfinished[ended[-1] + 1 : row + 3, btc] *= 2.0  # the next BTC bar, 15:00
    assert panel.exists[row + 1, btc]
    changed = features(replace(panel, close=unfinished, high=np.maximum(unfinished, panel.high)), spec)
    np.testing.assert_array_equal(changed.values[stock, row], frame.values[stock, row])


def test_an_anchor_that_died_is_no_neutral_number():
    panel = market(7, missing=0.0, stocks=())
    btc = panel.symbols.index("BTCUSD")
    gone = np.zeros(panel.close.shape, bool)
    gone[600:, btc] = True
    bars = {name: np.where(gone, np.nan, getattr(panel, name)) for name in ("open", "high", "low", "close", "volume")}
    frame = features(replace(panel, **bars, tradable=panel.tradable & ~gone), FeatureSpec(("btc", "basket")))
    eth, row = panel.symbols.index("ETHUSD"), 599 + 168
    assert np.isfinite(frame.column("relative_strength_btc_24h")[row - 1, eth])
    assert np.isnan(frame.column("relative_strength_btc_24h")[row:, eth]).all() and not frame.valid[row:, eth].any()

"""The frame: axes, masks, what is refused."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from tests.features.markets import forecasts, market
from trainables.features import FeatureError, FeatureSpec, features, preset
from trainables.features.inputs import find_base
from trainables.forecast import Forecasts
from trainables.market import sample_panel

SPEC = FeatureSpec(("price", "calendar", "forecast"), horizons=(1, 24))


def test_values_lie_symbol_by_symbol_and_only_where_bars_are():
    panel = market(31, hours=400)
    frame = features(panel, SPEC, forecasts(panel, (1, 24)))
    assert frame.values.shape == (len(panel.symbols), panel.n_bars, len(SPEC.columns)) and frame.values.flags.c_contiguous
    assert frame.valid.shape == panel.close.shape and frame.symbols == panel.symbols and frame.columns == SPEC.columns
    np.testing.assert_array_equal(frame.exists, panel.exists)
    np.testing.assert_array_equal(frame.valid, np.isfinite(frame.values).all(axis=2).T)
    np.testing.assert_array_equal(frame.column("range_pct"), (panel.high - panel.low) / panel.close)
    assert not frame.values.flags.writeable and not frame.valid.flags.writeable
    assert "random" in frame.source


def test_a_missing_forecast_masks_its_row_and_is_never_a_number():
    panel = market(32, hours=400, missing=0.0)
    issued = forecasts(panel, (1, 24), missing=0.0)
    values = issued.values
    values[1, 3, 0, 200, 0] = np.nan  # one quantile at one horizon
    frame = features(panel, SPEC, replace(issued, pieces=values))
    before = features(panel, SPEC, issued)
    assert before.valid[200, 0] and not frame.valid[200, 0]
    gone = [name for name, x in zip(frame.columns, frame.values[0, 200], strict=True) if np.isnan(x)]
    assert gone == ["forecast_confidence_h24"]
    assert (frame.valid != before.valid).sum() == 1
    assert "forecast_confidence_h24 in 1" in frame.why_not(panel.symbols[0])


def test_rows_without_forecasts_are_not_valid():
    panel = market(33, hours=400, missing=0.0)
    issued = forecasts(panel, (1, 24), missing=0.0)
    some = slice(100, 150)
    part = Forecasts(issued.times[some], issued.symbols[::-1], issued.horizons, issued.values[..., some, ::-1], 3600.0, "part")
    frame, whole = features(panel, SPEC, part), features(panel, SPEC, issued)
    assert frame.valid[some].sum() == whole.valid[some].sum() > 100
    assert not frame.valid[:100].any() and not frame.valid[150:].any()
    np.testing.assert_array_equal(frame.values[:, some], whole.values[:, some])


def test_a_symbol_without_bars_is_nowhere_valid():
    panel = market(34, hours=30, missing=0.0)  # a bank holiday's morning: no session yet
    panel = panel.rows((0, 10))
    frame = features(panel, FeatureSpec(("price", "volume", "trend", "btc", "basket")))
    nvda = panel.symbols.index("NVDA")
    assert not panel.exists[:, nvda].any() and np.isnan(frame.values[nvda]).all() and not frame.valid[:, nvda].any()


def test_sequences_end_where_all_their_bars_are_valid():
    panel = market(35, hours=500)
    frame = features(panel, SPEC, forecasts(panel, (1, 24), missing=0.02))
    whole = frame.whole(8)
    for a in range(len(panel.symbols)):
        rows = np.flatnonzero(frame.exists[:, a])
        for i, row in enumerate(rows):
            assert whole[row, a] == (i >= 7 and frame.valid[rows[i - 7 : i + 1], a].all())
    assert not whole[~frame.exists].any() and whole.sum() > 500
    assert not frame.whole(10_000).any()
    np.testing.assert_array_equal(frame.whole(1), frame.valid)
    with pytest.raises(FeatureError, match="at least 1"):
        frame.whole(0)


def test_the_digest_is_of_the_content():
    panel = market(36, hours=300)
    spec = FeatureSpec(("price",))
    frame = features(panel, spec)
    assert frame.digest == features(panel, spec).digest == pickle.loads(pickle.dumps(frame)).digest
    bumped = replace(panel, close=np.where(np.arange(panel.n_bars)[:, None] == 40, panel.high, panel.close))
    assert len({frame.digest, features(bumped, spec).digest, features(panel.rows((0, 299)), spec).digest}) == 3


@pytest.mark.parametrize(
    ("symbols", "base", "found"),
    [
        (("ETHUSD", "BTCUSD"), "BTC", 1),
        (("BTC/USD",), "BTC", 0),
        (("BTC-USDT", "BTCUSD"), "BTC", 1),  # dollars before tethers
        (("BTC", "BTCUSDT"), "BTC", 1),  # the coin's pair before a ticker of that name
        (("SPY", "NVDA"), "SPY", 0),
        (("ETHUSD", "BTCUSDT"), "BTCUSDT", 1),
        (("ETHUSD", "WBTCUSD"), "BTC", None),
    ],
)
def test_an_anchor_is_found_by_its_base(symbols, base, found):
    assert find_base(symbols, base) == found


def test_a_basket_may_be_measured_by_another_anchor():
    panel = market(37)
    spec = FeatureSpec(("basket",), basket_anchor="nvda")
    frame = features(panel.select(["NVDA", "MSFT"]), spec)
    corr = frame.column("basket_corr_24h")
    assert (corr[np.isfinite(corr[:, 0]), 0] == 1.0).all() and np.isfinite(corr[:, 1]).sum() > 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, f: (p, SPEC, None), "forecast is on and no forecasts are given"),
        (lambda p, f: (p, replace(SPEC, horizons=(2,)), f), "no forecasts at horizon 2, only at 1, 24"),
        (lambda p, f: (p, SPEC, forecasts(p.select(["BTCUSD"]), (1, 24))), "no forecasts of ETHUSD, only of BTCUSD"),
        (lambda p, f: (p, SPEC, replace(f, bar_seconds=60.0)), "bars of 60 s, the panel's have 3600 s"),
        (lambda p, f: (p.select(["ETHUSD", "NVDA"]), FeatureSpec(("btc",)), None), "the block btc needs BTC, the panel has ETHUSD, NVDA"),
        (lambda p, f: (p, FeatureSpec(("basket",), basket_anchor="SPY"), None), "needs SPY, .*name another basket_anchor"),
        (lambda p, f: (p.select(["BTCUSD"]), FeatureSpec(("basket",)), None), "which is no basket"),
        (lambda p, f: (p, SPEC, f, (5, 5)), "rows 5 to 5 of"),
        (lambda p, f: (p, SPEC, f, (0, 10**6)), "give a window"),
    ],
)
def test_what_is_not_there_is_said(change, words):
    panel = market(38, hours=60)
    with pytest.raises(FeatureError, match=words):
        features(*change(panel, forecasts(panel, (1, 24))))


def test_an_unknown_column_names_its_nearest():
    frame = features(market(39, hours=40), FeatureSpec(("price",)))
    with pytest.raises(FeatureError, match="did you mean 'return_24h'"):
        frame.column("return_24")


def test_daily_bars_work():
    panel = sample_panel(["BTCUSD", "ETHUSD"], bars=100)
    days = panel.times[0] + np.arange(100) * np.timedelta64(1, "D")
    frame = features(
        replace(panel, times=days, bar_seconds=86400.0), replace(preset("short"), blocks=("price", "calendar", "trend", "btc", "basket"))
    )
    assert frame.valid[80:].all()
    assert set(frame.column("hour_cos").ravel()) == {1.0}

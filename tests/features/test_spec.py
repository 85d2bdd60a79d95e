"""The spec: canonical, readable back, precise about what is wrong, and strict about another."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from trainables.features import PRESETS, FeatureError, FeatureSpec, preset
from trainables.features.spec import BLOCKS


def test_the_default_columns_are_those_of_the_specification_in_a_fixed_order():
    assert preset("hourly").columns == (
        *("return_1h", "return_4h", "return_24h", "log_return_1h", "range_pct", "close_open_pct", "high_close_pct", "low_close_pct"),
        *("volume_z", "volume_change_1h", "volume_shock_24h", "volume_spike", "hour_sin", "hour_cos", "dow_sin", "dow_cos"),
        *("trend_168h", "drawdown_168h", "ma_delta_168h", "ma_delta_600h", "ma_delta_2376h", "ema_delta_24h", "ema_delta_168h", "rsi_14h"),
        *("volatility_24h", "volatility_168h", "vol_regime_24_168", "atr_pct_24h", "atr_pct_168h"),
        *("chronos_close_delta_h1", "chronos_high_delta_h1", "chronos_low_delta_h1"),
        *("chronos_close_delta_h24", "chronos_high_delta_h24", "chronos_low_delta_h24"),
        *("forecast_confidence_h1", "forecast_confidence_h24", "forecast_agreement"),
    )


def test_presets_differ_and_say_their_columns_once():
    assert len({spec.digest for spec in PRESETS.values()}) == len(PRESETS) == 4
    for spec in PRESETS.values():
        assert len(set(spec.columns)) == len(spec.columns)
    assert not any("forecast" in name or "chronos" in name for name in preset("bars").columns)
    assert {"ma_delta_24h", "ma_delta_72h", "trend_72h", "vol_regime_24_72"} <= set(preset("short").columns)
    assert preset("everything").blocks == BLOCKS


def test_a_spec_survives_json_and_keeps_its_digest():
    for spec in (*PRESETS.values(), FeatureSpec(("volume", "price"), volume_z=20), replace(preset("everything"), horizons=(1, 4, 24))):
        back = FeatureSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
        assert back == spec and back.digest == spec.digest and hash(back) == hash(spec) and back.columns == spec.columns


def test_equal_features_are_equal_specs():
    assert FeatureSpec(["trend", "price"], ma=[600, 168], ema=[], rsi=(), trend=(), drawdown=()) == FeatureSpec(
        ("price", "trend"), ma=(168, 600), ema=(), rsi=(), trend=(), drawdown=(), volume_z=9, horizons=(7,)
    )
    assert replace(preset("hourly"), blocks=("price",)) == FeatureSpec(("price",), ma=(5,))


def test_a_block_may_be_switched_off_and_on_again():
    spec = preset("short")
    off = replace(spec, blocks=("price",))
    assert off != spec and replace(off, blocks=spec.blocks) == spec
    more = replace(spec, blocks=(*spec.blocks, "btc", "basket"))
    assert more.columns[: len(spec.columns)] == spec.columns
    assert FeatureSpec.from_dict({"preset": "bars", "blocks": ["price", "forecast"]}).horizons == (1, 24)


def test_a_user_writes_a_preset_and_what_differs():
    spec = FeatureSpec.from_dict({"preset": "short", "ma": [12], "horizons": [1]})
    assert spec == replace(preset("short"), ma=(12,), horizons=(1,))
    assert FeatureSpec.from_dict({}) == preset("hourly")
    assert FeatureSpec.from_dict({"blocks": ["price", "basket"], "basket_anchor": "spy"}).basket_anchor == "SPY"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"mas": [3]}, r"^features\.mas: no such key; did you mean 'ma'\?"),
        ({"preset": "hourl"}, r"^features\.preset: no preset 'hourl'; did you mean 'hourly'\?"),
        ({"preset": ["hourly"]}, r"^features\.preset: no preset"),
        ({"blocks": ["price", "volumes"]}, r"^features\.blocks: no block 'volumes'; did you mean 'volume'\?"),
        ({"blocks": []}, r"^features\.blocks: \[\]; give at least one"),
        ({"blocks": ["price", "price"]}, "each once"),
        ({"blocks": "price"}, "'price'; give a list"),
        ({"blocks": ["price", "interactions"]}, "interactions are made of forecasts"),
        ({"blocks": ["price"], "ma": [24]}, r"^features\.ma: belongs to the block trend, which is off"),
        ({"blocks": ["trend"], "ma": [], "ema": [], "rsi": [], "trend": [], "drawdown": []}, "trend: the block is on but has no feature"),
        ({"horizons": []}, "forecast: the block is on but has no feature; give horizons"),
        ({"ma": [1]}, r"^features\.ma: 1 is not allowed; give a whole number of bars from 2"),
        ({"ma": [2.5]}, "2.5 is not allowed"),
        ({"ma": [True]}, "True is not allowed"),
        ({"ma": ["24"]}, "'24' is not allowed"),
        ({"ma": [float("nan")]}, "nan is not allowed"),
        ({"ma": 24}, "24; give a list"),
        ({"ma": [24, 24]}, "names one twice"),
        ({"volume_z": 0}, "volume_z: 0 is not allowed"),
        ({"vol_regime": [[168, 24]]}, "a short and a longer window"),
        ({"vol_regime": [24, 168]}, "24; give a list"),
        ({"blocks": ["basket"], "basket_anchor": " "}, "basket_anchor: ' '; give a symbol"),
        ({"blocks": ["basket"], "basket_anchor": 3}, "basket_anchor: 3"),
        ({"version": 99}, r"^features\.version: formulas of version 99, these are 1"),
        ([], "give keys"),
    ],
)
def test_what_cannot_be_is_refused_with_its_key(data, words):
    with pytest.raises(FeatureError, match=words):
        FeatureSpec.from_dict(data)


def test_another_spec_is_an_error_that_names_the_first_columns():
    trained = preset("hourly")
    trained.require(preset("hourly"))
    with pytest.raises(
        FeatureError, match="column 16 is trend_168h there and trend_72h here; missing here: trend_168h, drawdown_168h"
    ) as e:
        trained.require(preset("short"), "policy 7")
    assert "policy 7 was made with another spec" in str(e.value) and "only here: trend_72h" in str(e.value)
    fewer = replace(trained, blocks=trained.blocks[:-1])
    with pytest.raises(FeatureError, match="column 29 is chronos_close_delta_h1 there and nothing here"):
        trained.require(fewer)
    with pytest.raises(FeatureError, match="column 29 is nothing there and chronos_close_delta_h1 here"):
        fewer.require(trained)


def test_a_window_that_no_column_shows_is_still_another_spec():
    trained, given = preset("bars"), replace(preset("bars"), volume_z=72)
    assert trained.columns == given.columns and trained.digest != given.digest
    with pytest.raises(FeatureError, match="volume_z is 168 there and 72 here"):
        trained.require(given)


@pytest.mark.parametrize(
    ("spec", "reach"),
    [
        (FeatureSpec(("calendar",)), 1),
        (FeatureSpec(("forecast",)), 1),
        (FeatureSpec(("price",)), 25),
        (FeatureSpec(("volume",), volume_z=2, volume_shock=()), 2),
        (FeatureSpec(("volatility",)), 169),
        (FeatureSpec(("btc",)), 73),
        (FeatureSpec(("basket",)), 25),
        (replace(preset("hourly"), ema=()), 2376),
        (preset("hourly"), 0),
    ],
)
def test_the_reach_is_the_oldest_bar_a_row_can_see(spec, reach):
    assert spec.reach == reach

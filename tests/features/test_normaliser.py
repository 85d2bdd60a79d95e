"""The normaliser: train rows only, per symbol, and nothing but the spec it was fitted on."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.features.markets import forecasts, market
from trainables.features import FeatureError, FeatureSpec, Normaliser, features, preset

SPEC = FeatureSpec(("price", "volume", "calendar", "forecast"), volume_z=24, horizons=(1,))


def test_train_rows_get_mean_0_and_deviation_1_for_each_symbol():
    panel = market(41)
    frame = features(panel, SPEC, forecasts(panel, (1,)))
    fitted = Normaliser.fit(frame, (100, 800))
    made = fitted.apply(frame)
    assert made.dtype == np.float32 and made.shape == frame.values.shape
    for a in range(len(panel.symbols)):
        train = frame.values[a, 100:800][frame.valid[100:800, a]]
        assert fitted.rows[a] == len(train)
        np.testing.assert_array_equal(fitted.mean[a], train.mean(axis=0))
        np.testing.assert_array_equal(fitted.sd[a], train.std(axis=0))
        own = made[a, 100:800][frame.valid[100:800, a]].astype(float)
        assert np.abs(own.mean(axis=0)).max() < 1e-5 and np.abs(own.std(axis=0) - 1.0).max() < 1e-5
    np.testing.assert_array_equal(np.isnan(made), np.isnan(frame.values))
    assert not np.array_equal(fitted.mean[0], fitted.mean[1])


def test_rows_outside_the_train_window_and_rows_that_are_not_valid_have_no_say():
    panel = market(42)
    frame = features(panel, SPEC, forecasts(panel, (1,)))
    values = frame.values.copy()
    values[:, 800:] = 1e9
    values[:, :100] = -1e9
    values[~frame.valid.T] = 7.0
    again = Normaliser.fit(replace(frame, values=values), (100, 800))
    fitted = Normaliser.fit(frame, (100, 800))
    np.testing.assert_array_equal(again.mean, fitted.mean)
    np.testing.assert_array_equal(again.sd, fitted.sd)


def test_a_feature_that_does_not_move_is_only_centred():
    panel = market(43, stocks=())
    flat = replace(panel, volume=np.where(panel.exists, 5.0, np.nan))
    frame = features(flat, SPEC, forecasts(flat, (1,)))
    fitted = Normaliser.fit(frame, (0, panel.n_bars))
    place = SPEC.columns.index("volume_z")
    assert (fitted.sd[:, place] == 1.0).all() and (fitted.apply(frame)[0, frame.valid[:, 0], place] == 0.0).all()


def test_it_comes_back_from_json_bit_for_bit_and_refuses_what_does_not_fit():
    panel = market(44)
    frame = features(panel, SPEC, forecasts(panel, (1,)))
    fitted = Normaliser.fit(frame, (0, 900))
    body = json.loads(json.dumps(fitted.to_dict()))
    back = Normaliser.from_dict(body)
    assert back.spec == SPEC and back.symbols == panel.symbols
    np.testing.assert_array_equal(back.apply(frame), fitted.apply(frame))
    with pytest.raises(FeatureError, match=r"normaliser\.sd: missing"):
        Normaliser.from_dict({k: v for k, v in body.items() if k != "sd"})
    with pytest.raises(FeatureError, match=r"normaliser\.means: no such key; did you mean 'mean'"):
        Normaliser.from_dict({**body, "means": 1})
    with pytest.raises(FeatureError, match="mean has shape"):
        Normaliser.from_dict({**body, "mean": body["mean"][:-1]})
    with pytest.raises(FeatureError, match="sd must be finite and above 0"):
        Normaliser.from_dict({**body, "sd": (0.0 * fitted.sd).tolist()})


def test_another_spec_another_symbol_and_too_few_rows_are_errors():
    panel = market(45)
    issued = forecasts(panel, (1, 24))
    frame = features(panel, SPEC, issued)
    fitted = Normaliser.fit(features(panel.select(["BTCUSD", "ETHUSD"]), SPEC, issued), (0, 900))
    with pytest.raises(FeatureError, match="the normaliser was made with another spec"):
        fitted.apply(features(panel, replace(SPEC, horizons=(24,)), issued))
    with pytest.raises(FeatureError, match=r"not fitted on SOLUSD; .*it knows BTCUSD, ETHUSD"):
        fitted.apply(frame)
    one = features(panel.select(["ETHUSD"]), SPEC, issued)
    np.testing.assert_array_equal(fitted.apply(one)[0], fitted.apply(features(panel.select(["BTCUSD", "ETHUSD"]), SPEC, issued))[1])
    with pytest.raises(FeatureError, match=r"ETHUSD: 0 of \d+ bars are valid; missing: ma_delta_2376h in"):
        Normaliser.fit(features(panel, preset("bars")), (0, panel.n_bars))
    with pytest.raises(FeatureError, match="rows 5 to 5"):
        Normaliser.fit(frame, (5, 5))

"""What a policy trains on: own bars, whole windows, and nothing near the tune window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainables.contract import TrainableError
from trainables.features import FeatureError, Normaliser
from trainables.policy.data import PolicyInputs, draw, ends_or_raise
from trainables.policy.options import read
from trainables.policy.trainable import PolicyTrainable
from trainables.timeline import Protocol

DATA = {"source": "sample", "bars": 5000, "signal": 0.25, "seed": 3, "symbols": ["BTCUSD", "ETHUSD", "NVDA"]}
DEFAULTS = {p.name: p.default for p in PolicyTrainable.parameters}


@pytest.fixture(scope="module")
def inputs() -> PolicyInputs:
    return PolicyTrainable().prepare(DATA, {}, Protocol(folds=2)).inputs


@pytest.fixture(scope="module")
def chosen():
    return read({**DEFAULTS, "seq_len": 16, "horizons": "1,12"})


@pytest.fixture(scope="module")
def series(inputs, chosen):
    return inputs.series(chosen, 0)


def test_every_window_to_train_on_is_whole_of_one_symbol_in_the_train_window_and_an_embargo_before_the_tune_window(inputs, chosen, series):
    fold = inputs.folds[0]
    ends = series.train_ends(16, chosen.embargo)
    assert chosen.embargo == 16 + 12
    windows = ends[:, None] + np.arange(-15, 1)
    assert np.isfinite(series.features[windows]).all()
    assert (series.symbol[windows] == series.symbol[ends][:, None]).all()
    assert series.rows[windows].min() >= fold.train.start and series.rows[windows].max() < fold.train.stop
    for a in range(3):
        own = np.flatnonzero(inputs.panel.exists[:, a])
        last = series.rows[ends[series.symbol[ends] == a]].max()
        between = ((own > last) & (own < fold.tune.start)).sum()
        assert between >= chosen.embargo
        if a == 2:  # the stock's 28 bars are four sessions, more than the protocol's embargo of a day
            assert between == chosen.embargo


def test_no_valid_window_is_left_out(inputs, chosen, series):
    fold, (frame, _) = inputs.folds[0], inputs.frame(chosen)
    found = set(zip(series.symbol[ends := series.train_ends(16, chosen.embargo)].tolist(), series.rows[ends].tolist(), strict=True))
    for a in range(3):
        own = np.flatnonzero(inputs.panel.exists[:, a])
        first = np.searchsorted(own, fold.tune.start)
        for i in range(15, len(own)):
            rows = own[i - 15 : i + 1]
            fits = frame.valid[rows, a].all() and rows[0] >= fold.train.start and rows[-1] < fold.train.stop and i + chosen.embargo < first
            assert ((a, int(own[i])) in found) == bool(fits)


def test_bars_forecasts_and_features_stand_side_by_side(inputs, chosen, series):
    frame, forecasts = inputs.frame(chosen)
    low = forecasts.p50("low", 1)
    scaled = Normaliser.fit(frame, inputs.folds[0].train).apply(frame)
    for n in np.random.default_rng(0).integers(0, len(series.rows), 40):
        t, a = series.rows[n], series.symbol[n]
        assert series.market[0, n] == np.float32(inputs.panel.close[t, a])
        assert np.array_equal(series.market[3, n], np.float32(low[t, a]), equal_nan=True)
        assert np.array_equal(series.features[n], scaled[a, t], equal_nan=True)
    stock = series.hours[series.symbol == 2]
    assert set(np.unique(series.hours[series.symbol == 0])) == {0.0, 1.0} and stock.max() > 24.0


def test_costs_and_bars_a_year_are_each_symbols_own(inputs, series):
    assert series.fee.tolist() == pytest.approx([0.0015, 0.0015, 0.00003])
    assert series.periods.tolist() == pytest.approx([8760.0, 8760.0, 252.0 * 7.0], rel=0.15)
    assert series.periods[2] < 2100.0 and not series.can_short.any() and series.can_long.all()


def test_the_normaliser_knows_the_train_window_only(inputs, chosen, series):
    start = inputs.folds[0].train.stop
    bars = {name: getattr(inputs.panel, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for values in bars.values():
        values[start:] *= 3.0
    other = replace(inputs, panel=replace(inputs.panel, **bars)).series(chosen, 0)
    assert np.array_equal(other.normaliser.mean, series.normaliser.mean) and np.array_equal(other.normaliser.sd, series.normaliser.sd)
    assert other.digest != series.digest and series.train_end == inputs.panel.times[start - 1]


def test_what_is_drawn_follows_from_the_key_alone_and_covers_all(series, chosen):
    ends = series.train_ends(16, chosen.embargo)
    assert np.array_equal(draw(ends, (1, 2, 3), 8), draw(ends, (1, 2, 3), 8))
    assert not np.array_equal(draw(ends, (1, 2, 3), 8), draw(ends, (1, 2, 4), 8))
    many = draw(ends, (0, 0, 0), 20_000)
    share = np.bincount(series.symbol[many], minlength=3) / len(many)
    assert share == pytest.approx(np.bincount(series.symbol[ends], minlength=3) / len(ends), abs=0.02)


def test_configurations_of_the_same_features_share_them(inputs, chosen):
    same = read({**chosen.config, "learning_rate": 5e-4, "arch": "gru", "max_positions": 3})
    assert inputs.series(same, 0) is inputs.series(chosen, 0)
    assert inputs.series(read({**chosen.config, "decode_horizon": 12}), 0) is not inputs.series(chosen, 0)
    assert not inputs.__getstate__()["_frames"] and not inputs.__getstate__()["_series"]


def test_no_window_to_train_on_says_what_to_change(series, chosen):
    wide = read({**chosen.config, "seq_len": 900})
    with pytest.raises(TrainableError, match=r"fold 1 has no window of 900 bars to train on: the most valid bars in a row are \d+"):
        ends_or_raise(series, wide, 0)


def test_a_symbol_without_valid_rows_is_named(inputs):
    long = read({**DEFAULTS, "feature_windows": "hourly"})  # an average over 2,376 bars
    with pytest.raises(FeatureError, match="valid rows to train on"):
        inputs.series(long, 0)

"""No feature moves when the future does, nor with the rows it is computed with, the company it is in, or where history begins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.features.markets import forecasts, market
from trainables.audit.perturb import FUTURE, ONE_BAR, perturb
from trainables.features import FeatureFrame, FeatureSpec, features, preset
from trainables.features.spec import BLOCKS
from trainables.forecast import Forecasts
from trainables.market import Panel

EVERYTHING = FeatureSpec(BLOCKS, horizons=(1, 4, 24), ma=(24, 72), vol_regime=((24, 72),), volatility=(24, 72), volume_z=72, trend=(72,))
WINDOWED = replace(EVERYTHING, ema=())  # every row has a bounded reach


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.int64)


def same(one: FeatureFrame, other: FeatureFrame, rows: slice) -> None:
    for a, symbol in enumerate(one.symbols):
        moved = (bits(one.values[a, rows]) != bits(other.values[a, rows])).any(axis=0)
        assert not moved.any(), f"{symbol}: {', '.join(np.array(one.columns)[moved])}"


@pytest.mark.parametrize("kind", [*FUTURE, *ONE_BAR])
def test_bars_and_forecasts_after_a_row_never_change_its_features(kind: str):
    panel = market(11)
    issued = forecasts(panel)
    frame = features(panel, EVERYTHING, issued)
    rng = np.random.default_rng(3)
    for row in rng.integers(500, panel.n_bars - 30, 4):
        other = perturb(panel, kind, int(row), rng)
        values = issued.values
        values[..., row:, :] *= rng.uniform(0.5, 2.0, values[..., row:, :].shape)
        later = Forecasts(issued.times, issued.symbols, issued.horizons, values, issued.bar_seconds, "other")
        changed = features(other, EVERYTHING, later)
        same(frame, changed, slice(0, row))
        if kind != "removed":  # what is compared would have shown a change
            now = slice(row, row + 2)
            assert (bits(frame.values[:, now]) != bits(changed.values[:, now])).any()


def test_each_feature_but_the_calendar_does_move_with_its_own_bar():
    panel = market(12)
    row = 900
    issued = forecasts(panel)
    changed = features(perturb(panel, "scaled", row, np.random.default_rng(0)), EVERYTHING, issued)
    frame = features(panel, EVERYTHING, issued)
    moved = (bits(frame.values[:, row:]) != bits(changed.values[:, row:])).any(axis=(0, 1))
    still = {name for name, hit in zip(frame.columns, moved, strict=True) if not hit}
    assert still == {"hour_sin", "hour_cos", "dow_sin", "dow_cos"}


def test_a_window_of_rows_is_the_same_as_those_rows_of_all():
    panel = market(13)
    issued = forecasts(panel)
    whole = features(panel, EVERYTHING, issued)
    for start, stop in ((0, 50), (500, 501), (700, panel.n_bars)):
        part = features(panel, EVERYTHING, issued, (start, stop))
        np.testing.assert_array_equal(part.times, panel.times[start:stop])
        np.testing.assert_array_equal(bits(part.values), bits(whole.values[:, start:stop]))
        np.testing.assert_array_equal(part.valid, whole.valid[start:stop])


def test_a_history_that_begins_later_gives_the_same_bits_where_the_reach_is_bounded():
    panel = market(14, hours=1500)
    spec = replace(WINDOWED, blocks=("price", "volume", "calendar", "trend", "volatility", "forecast", "interactions"))
    assert spec.reach == 169
    issued = forecasts(panel)
    whole = features(panel, spec, issued)
    for first in (1, 7, 333):
        cut = features(panel.rows((first, panel.n_bars)), spec, issued)
        for a in range(len(panel.symbols)):
            rows = np.flatnonzero(panel.exists[:, a] & (np.arange(panel.n_bars) >= first))[spec.reach - 1 :]
            np.testing.assert_array_equal(bits(cut.values[a, rows - first]), bits(whole.values[a, rows]))
            assert len(rows) > 30


def test_an_ema_remembers_where_its_history_began_and_says_so():
    panel = market(14)
    spec = FeatureSpec(("trend",), ema=(24,), ma=(), rsi=(), trend=(), drawdown=())
    assert spec.reach == 0
    cut = features(panel.rows((10, panel.n_bars)), spec).values[:, 20]
    assert (cut != features(panel, spec).values[:, 30])[panel.exists[30]].all()


def test_together_is_one_symbol_at_a_time():
    panel = market(15)
    issued = forecasts(panel)
    alone = replace(EVERYTHING, blocks=tuple(b for b in BLOCKS if b not in ("btc", "basket")))
    whole = features(panel, alone, issued)
    with_btc = replace(EVERYTHING, blocks=("price", "btc"))
    all_btc = features(panel, with_btc)
    for a, symbol in enumerate(panel.symbols):
        single = features(panel.select([symbol]), alone, issued)
        np.testing.assert_array_equal(bits(single.values[0]), bits(whole.values[a]))
        pair = ["BTCUSD", symbol] if symbol != "BTCUSD" else ["BTCUSD"]
        np.testing.assert_array_equal(bits(features(panel.select(pair), with_btc).values[-1]), bits(all_btc.values[a]))


def test_the_order_of_the_symbols_changes_nothing():
    panel = market(16)
    issued = forecasts(panel)
    names = tuple(reversed(panel.symbols))
    turned = features(panel.select(names), EVERYTHING, issued)
    np.testing.assert_array_equal(bits(turned.values[::-1]), bits(features(panel, EVERYTHING, issued).values))


def test_rows_of_others_in_between_change_nothing():
    panel = market(17, stocks=())
    rows = np.flatnonzero(panel.exists[:, 0])
    own = Panel(
        panel.times[rows],
        panel.symbols[:1],
        *(getattr(panel, name)[rows][:, :1] for name in ("open", "high", "low", "close", "volume", "tradable", "session_last")),
        panel.assets[:1],
        bar_seconds=panel.bar_seconds,
    )
    np.testing.assert_array_equal(bits(features(own, preset("bars")).values[0]), bits(features(panel, preset("bars")).values[0, rows]))

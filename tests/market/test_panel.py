import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest

from trainables.market import MarketError, Panel, make_assets, sample_panel
from trainables.market.panel import usual_step


@pytest.fixture(scope="module")
def panel() -> Panel:
    return sample_panel(bars=300)


def rebuilt(panel: Panel, **changes) -> Panel:
    return dataclasses.replace(panel, **changes)


def test_a_panel_survives_the_trip_through_a_tidy_table(panel):
    frame = panel.frame()
    assert list(frame.columns) == ["timestamp", "symbol", "open", "high", "low", "close", "volume"]
    assert str(frame["timestamp"].dt.tz) == "UTC" and len(frame) == panel.exists.sum()
    again = Panel.from_frame(frame.sample(frac=1.0, random_state=1), panel.assets, source="elsewhere")
    assert again.fingerprint == panel.fingerprint
    np.testing.assert_array_equal(again.session_last, panel.session_last)


def test_symbols_keep_the_order_of_the_table_and_take_overrides():
    frame = sample_panel(["NVDA", "BTCUSD"], bars=100).frame()
    panel = Panel.from_frame(frame, {"BTCUSD": {"maker_fee_bps": 7}})
    assert panel.symbols == ("NVDA", "BTCUSD")
    assert panel.assets[1].maker_fee_bps == 7.0


def test_stocks_whose_every_bar_ends_its_session_are_named_and_crypto_never():
    days = pd.date_range("2024-01-01", "2024-02-01", tz="UTC")
    bars = {"timestamp": days, "open": 9.0, "high": 9.0, "low": 9.0, "close": 9.0, "volume": 1.0}
    daily = Panel.from_frame(pd.concat([pd.DataFrame({**bars, "symbol": symbol}) for symbol in ("NVDA", "BTCUSD")]))
    assert daily.always_last == ("NVDA",)
    assert sample_panel(["NVDA", "BTCUSD"], bars=100).always_last == ()


def test_the_fingerprint_is_of_the_content_alone(panel):
    assert panel.fingerprint == rebuilt(panel, source="another place").fingerprint
    assert panel.fingerprint == rebuilt(panel, close=np.asfortranarray(panel.close)).fingerprint
    negative = np.where(np.isnan(panel.close), -np.nan, panel.close)
    assert panel.fingerprint == rebuilt(panel, close=negative).fingerprint
    assert len(panel.fingerprint) == 32


def test_one_price_one_mask_or_one_fee_changes_the_fingerprint(panel):
    seen = {panel.fingerprint}
    for name in ("open", "high", "low", "close", "volume"):
        values = getattr(panel, name).copy()
        values[7, 0] = np.nextafter(values[7, 0], np.inf)
        seen.add(rebuilt(panel, **{name: values}).fingerprint)
    for name in ("tradable", "session_last"):
        mask = getattr(panel, name).copy()
        mask[7, 0] = ~mask[7, 0]
        seen.add(rebuilt(panel, **{name: mask}).fingerprint)
    for change in ({"maker_fee_bps": 15.001}, {"taker_fee_bps": 26}, {"half_spread_bps": 1}, {"can_long": False}, {"min_notional": 11}):
        seen.add(rebuilt(panel, assets=(dataclasses.replace(panel.assets[0], **change), *panel.assets[1:])).fingerprint)
    seen.add(rebuilt(panel, times=panel.times + np.timedelta64(1, "ns")).fingerprint)
    assert len(seen) == 14


def test_arrays_are_read_only_copies_also_after_pickling(panel):
    close = panel.close.copy()
    made = rebuilt(panel, close=close)
    close[0, 0] = 1.0
    assert made.close[0, 0] != 1.0
    for some in (made, pickle.loads(pickle.dumps(made))):
        for name in ("times", "open", "high", "low", "close", "volume", "tradable", "session_last"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(some, name)[0] = 0
            assert getattr(some, name).flags.c_contiguous


def test_windows_and_selections_keep_what_they_keep(panel):
    assert panel.tail(10).times[0] == panel.times[-10]
    assert panel.tail(10**6).n_bars == panel.n_bars
    window = panel.between("2024-01-03", "2024-01-04T00:00Z")
    assert (window.n_bars, window.times[0]) == (24, np.datetime64("2024-01-03"))
    chosen = panel.select(["NVDA", "BTCUSD"])
    assert chosen.symbols == ("NVDA", "BTCUSD") and chosen.n_bars == panel.n_bars
    np.testing.assert_array_equal(chosen.close[:, 1], panel.close[:, 0])
    assert chosen.assets[0].asset_class == "stock"
    with pytest.raises(MarketError, match="did you mean 'NVDA'"):
        panel.select(["NVDIA"])
    with pytest.raises(MarketError, match="the data runs from 2024-01-01T00:00Z"):
        panel.between("2030-01-01")


def test_the_bar_length_is_a_symbols_own_step_not_the_common_axis():
    assert sample_panel(["NVDA"], bars=400).bar_seconds == 3600.0
    days = pd.date_range("2024-07-08", periods=5, tz="UTC")
    coin = pd.DataFrame({"timestamp": days, "symbol": "BTCUSD"})
    stock = pd.DataFrame({"timestamp": days + pd.Timedelta(hours=13.5), "symbol": "NVDA"})
    frame = pd.concat([coin, stock]).assign(open=1.0, high=1.0, low=1.0, close=1.0, volume=1.0)
    panel = Panel.from_frame(frame)
    assert panel.bar_seconds == 86400.0
    assert (panel.tradable == panel.exists).all() and panel.n_bars == 10


def daily() -> Panel:
    days = pd.date_range("2024-07-08", periods=10, freq="B", tz="UTC")
    return Panel.from_frame(pd.DataFrame({"timestamp": days, "symbol": "NVDA"}).assign(open=1.0, high=1.0, low=1.0, close=1.0, volume=1.0))


def test_a_window_however_short_has_the_bars_of_the_whole():
    panel = daily()
    windows = [panel.tail(1), panel.tail(2), panel.between("2024-07-12", "2024-07-16"), panel.select(["NVDA"]).tail(1)]
    assert {window.bar_seconds for window in (*windows, pickle.loads(pickle.dumps(windows[0])))} == {86400.0}
    hourly = sample_panel(["BTCUSD", "NVDA"], bars=100)
    assert hourly.select(["NVDA"]).tail(1).bar_seconds == 3600.0


def test_the_fingerprint_has_the_length_of_a_bar_only_where_the_rows_do_not_say_it():
    panel = daily()
    assert rebuilt(panel, bar_seconds=0.0).fingerprint == panel.fingerprint
    alone = panel.tail(1)
    assert alone.fingerprint != rebuilt(alone, bar_seconds=0.0).fingerprint  # daily or hourly: other results
    assert alone.fingerprint == panel.tail(3).tail(1).fingerprint


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_bar_takes_some_time(seconds):
    with pytest.raises(MarketError, match="bar_seconds is"):
        rebuilt(daily(), bar_seconds=seconds)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("open", 0.0, "sample: ETHUSD at 2024-01-01T05:00Z: open is 0.0; a price is above 0 and finite"),
        ("close", -3.0, "close is -3.0"),
        ("high", np.inf, "high is inf"),
        ("volume", -1.0, "volume is -1.0; a volume is at least 0"),
        ("low", 1e9, "ETHUSD at 2024-01-01T05:00Z: high is .*, below its low 1000000000.0"),
    ],
)
def test_a_bar_that_cannot_be_is_named_with_its_symbol_time_and_column(panel, name, value, message):
    values = getattr(panel, name).copy()
    values[5, 1] = value
    with pytest.raises(MarketError, match=message):
        rebuilt(panel, **{name: values})


@pytest.mark.parametrize(
    "stamp", ["now", "today", "yesterday", "01/02/2024", 2024, 20240101, 1.5e9, True, "3000-01-01", "", pd.NaT, np.nan]
)
def test_what_is_no_date_is_refused_not_guessed(panel, stamp):
    with pytest.raises(MarketError, match=r"^end: .* is not a date or time"):
        panel.between(None, stamp)


def test_only_rows_with_a_bar_can_be_the_last_of_a_session():
    # Half-hour stock labels on an axis that crypto's full hours share: 15:00 has no stock bar, 15:30 has.
    hours = pd.date_range("2024-07-02 13:00", periods=9, freq="h", tz="UTC")
    frame = pd.concat(
        [
            pd.DataFrame({"timestamp": hours, "symbol": "BTCUSD"}),
            pd.DataFrame({"timestamp": hours[:7] + pd.Timedelta(minutes=30), "symbol": "NVDA"}),
        ]
    ).assign(open=1.0, high=1.0, low=1.0, close=1.0, volume=1.0)
    panel = Panel.from_frame(frame)
    assert list(panel.times[panel.session_last[:, 1]]) == [np.datetime64("2024-07-02T19:30")]
    assert panel.tradable[:, 1].sum() == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda p: {"times": p.times[::-1]}, "ascend strictly; row 1"),
        (lambda p: {"times": p.times[:-1]}, "shape"),
        (lambda p: {"close": p.close[:, :1]}, "close has shape"),
        (lambda p: {"symbols": p.symbols[::-1]}, "same symbols"),
        (lambda p: {"volume": np.full_like(p.volume, np.nan)}, "BTCUSD at .* volume is nan although"),
        (lambda p: {"tradable": np.ones_like(p.tradable)}, "NVDA at .* is tradable but has no bar"),
        (lambda p: {"times": np.arange(p.n_bars)}, "datetime64"),
    ],
)
def test_nonsense_cannot_be_made(panel, changes, message):
    with pytest.raises(MarketError, match=message):
        rebuilt(panel, **changes(panel))


def test_tables_that_mean_two_things_are_refused(panel):
    frame = panel.frame()
    with pytest.raises(MarketError, match="two bars at"):
        Panel.from_frame(pd.concat([frame, frame.iloc[:1]]), panel.assets)
    with pytest.raises(MarketError, match="no time zone"):
        Panel.from_frame(frame.assign(timestamp=frame["timestamp"].dt.tz_localize(None)))
    with pytest.raises(MarketError, match="no column 'volume'; it has timestamp"):
        Panel.from_frame(frame.drop(columns="volume"))
    with pytest.raises(MarketError, match="no asset for symbol 'ETHUSD'"):
        Panel.from_frame(frame, make_assets(["BTCUSD"]))


def test_two_bars_a_session_are_as_far_apart_as_they_are_most_often():
    days = np.arange("2024-03-04", "2024-03-09", dtype="datetime64[D]").astype("datetime64[ns]")
    times = np.sort(np.concatenate([days + np.timedelta64(14, "h"), days + np.timedelta64(18, "h")]))
    assert usual_step(times.astype(np.int64)) == 4 * 3600.0
    assert usual_step(times[:1].astype(np.int64)) == 3600.0

import datetime

import numpy as np
import pandas as pd
import pytest

from trainables.market import MarketError, load_market, sample_panel


@pytest.fixture
def folder(tmp_path):
    """The sample market as files: crypto and stocks in two folders."""
    panel = sample_panel(bars=24 * 60)
    for symbol, frame in panel.frame().groupby("symbol"):
        place = tmp_path / ("coins" if symbol.endswith("USD") else "shares")
        place.mkdir(exist_ok=True)
        frame.drop(columns="symbol").to_csv(place / f"{symbol}.csv", index=False)
    return tmp_path


def spoil(file, **rows):
    frame = pd.read_csv(file)
    for column, (row, value) in rows.items():
        frame.loc[row, column] = value
    frame.to_csv(file, index=False)


def test_the_sample_market_takes_its_keys():
    panel, problems = load_market({"source": "sample", "symbols": ["NVDA", "BTCUSD"], "bars": 100, "seed": 3, "signal": 0.05})
    assert panel.fingerprint == sample_panel(["NVDA", "BTCUSD"], bars=100, seed=3, signal=0.05).fingerprint
    assert problems == []
    assert load_market({})[0].fingerprint == sample_panel().fingerprint
    costs = {"crypto": {"maker_fee_bps": 1}}
    prints = {load_market({"costs": costs})[0].fingerprint, load_market({"assets": costs})[0].fingerprint}
    assert prints == {sample_panel(costs=costs).fingerprint}


def test_two_folders_share_one_time_axis_and_nothing_is_lost(folder):
    panel, problems = load_market({"source": "coins, shares"}, base=folder)
    whole = sample_panel(bars=24 * 60)
    assert problems == []
    np.testing.assert_array_equal(panel.times, whole.times)
    again = panel.select(whole.symbols)
    for name in ("open", "high", "low", "close", "volume", "tradable", "session_last"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    listed, _ = load_market({"source": [folder / "coins", folder / "shares"], "symbols": "NVDA, BTCUSD"})
    assert listed.symbols == ("NVDA", "BTCUSD")


def test_windows_cut_rows_of_the_common_axis(folder):
    data = {"source": [str(folder / "coins"), str(folder / "shares")], "symbols": ["BTCUSD", "NVDA"]}
    panel, _ = load_market({**data, "bars": 100})
    assert panel.n_bars == 100 and panel.exists[:, 1].sum() < 40
    panel, _ = load_market({**data, "start": datetime.date(2024, 1, 10), "end": "2024-01-12T06:00+06:00"})
    assert (panel.times[0], panel.n_bars) == (np.datetime64("2024-01-10"), 48)
    with pytest.raises(MarketError, match="no bars from 2031-01-01"):
        load_market({**data, "start": "2031-01-01"})
    with pytest.raises(MarketError, match="NVDA: no bar in the last 3 rows; its data ends"):
        load_market({**data, "end": "2024-01-14", "bars": 3})


def test_bad_rows_stop_the_load_and_are_listed(folder):
    spoil(folder / "coins" / "ETHUSD.csv", high=(31, 1.0))
    spoil(folder / "shares" / "NVDA.csv", volume=(5, -4.0))
    with pytest.raises(MarketError) as caught:
        load_market({"source": ["coins", "shares"]}, base=folder)
    text = str(caught.value)
    assert "2 bad rows" in text and "ETHUSD row 31 (2024-01-02 07:00): high<low" in text and "NVDA row 5 " in text
    assert "alphasweep data check" in text


def test_exactly_the_bad_rows_are_dropped_and_reported(folder):
    spoil(folder / "coins" / "ETHUSD.csv", high=(31, 1.0))
    panel, problems = load_market({"source": "coins", "drop_bad_rows": True}, base=folder)
    whole = sample_panel(panel.symbols, bars=24 * 60)
    lost = np.argwhere(panel.exists != whole.exists)
    assert lost.tolist() == [[31, panel.symbols.index("ETHUSD")]]
    assert not panel.tradable[31, panel.symbols.index("ETHUSD")]
    assert np.isnan(panel.close[31, panel.symbols.index("ETHUSD")])
    (problem,) = problems
    assert (problem.symbol, problem.row, problem.severity) == ("ETHUSD", 31, "error") and problem.detail.startswith("dropped")


def test_of_a_duplicate_the_last_row_is_kept(folder):
    file = folder / "coins" / "BTCUSD.csv"
    frame = pd.read_csv(file)
    pd.concat([frame, frame.iloc[[7]].assign(volume=123.0)]).to_csv(file, index=False)
    panel, _ = load_market({"source": "coins", "drop_bad_rows": True, "symbols": ["BTCUSD"]}, base=folder)
    assert panel.volume[7, 0] == 123.0 and panel.n_bars == 24 * 60


def test_bad_rows_outside_the_window_do_not_matter(folder):
    spoil(folder / "coins" / "ETHUSD.csv", high=(31, 1.0))
    assert load_market({"source": "coins", "start": "2024-01-10"}, base=folder)[1] == []


def test_gaps_stay_gaps_and_are_warned_of(folder):
    file = folder / "coins" / "SOLUSD.csv"
    pd.read_csv(file).drop(index=[50, 51]).to_csv(file, index=False)
    panel, problems = load_market({"source": "coins"}, base=folder)
    column = panel.symbols.index("SOLUSD")
    assert np.flatnonzero(~panel.exists[:, column]).tolist() == [50, 51]
    assert not panel.tradable[50:52, column].any()
    assert [(p.symbol, p.row, p.reason, p.severity) for p in problems] == [("SOLUSD", 50, "gap", "warning")]


def test_what_is_wrong_before_the_last_bars_is_not_warned_of(folder):
    file = folder / "coins" / "SOLUSD.csv"
    pd.read_csv(file).drop(index=[50, 51, 1400]).to_csv(file, index=False)
    assert [p.row for p in load_market({"source": "coins", "bars": 100}, base=folder)[1]] == [1398]
    assert len(load_market({"source": "coins"}, base=folder)[1]) == 2


def test_stamps_without_time_zone_need_to_be_told_even_when_dropping(folder):
    file = folder / "coins" / "BTCUSD.csv"
    frame = pd.read_csv(file)
    frame["timestamp"] = frame["timestamp"].str.slice(0, 19)
    frame.to_csv(file, index=False)
    with pytest.raises(MarketError, match="BTCUSD file: timezone-less"):
        load_market({"source": "coins", "drop_bad_rows": True}, base=folder)
    panel, _ = load_market({"source": "coins", "assume_tz": "UTC"}, base=folder)
    np.testing.assert_array_equal(panel.times, sample_panel(bars=24 * 60).times)


def test_costs_and_declared_classes_reach_the_panel(folder):
    (folder / "coins" / "BTCUSD.csv").rename(folder / "coins" / "FOOUSD.csv")
    with pytest.raises(MarketError, match=r"FOOUSD.*asset_class"):
        load_market({"source": "coins"}, base=folder)
    panel, _ = load_market({"source": "coins", "assets": {"FOOUSD": {"asset_class": "crypto", "taker_fee_bps": 40}}}, base=folder)
    assert panel.assets[panel.symbols.index("FOOUSD")].taker_fee_bps == 40.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": "sample", "bras": 10}, "data.bras.*did you mean 'bars'"),
        ({"source": "sample", "drop_bad_rows": True}, "no such key for source 'sample'"),
        ({"source": "sample", "costs": {}, "assets": {}}, "one of them"),
        ({"source": "coins", "seed": 3}, "data.seed"),
        ({"source": "coins", "simbols": []}, "did you mean 'symbols'"),
        ({"source": "nowhere"}, "does not exist"),
        ({"source": 7}, "give sample, a path"),
        ({"source": "coins", "bars": 0}, "data.bars"),
        ({"source": "coins", "bars": "many"}, "data.bars"),
        ({"source": "coins", "symbols": []}, "give names"),
        ({"source": "coins", "symbols": ["BTCUST"]}, "did you mean 'BTCUSD'"),
        ({"source": ["coins", "shares"], "symbols": ["NVDIA"]}, "did you mean 'NVDA'"),
        ({"source": ["coins", "coins"]}, "is in both"),
        ({"source": "coins", "start": "soon"}, "not a date"),
        ({"source": "coins", "drop_bad_rows": "yes"}, "true or false"),
        ({"source": "coins", "assets": {"BTCUSD": {"maker_fee_bps": None}}}, "missing fee"),
    ],
)
def test_wrong_keys_and_values_say_what_to_write(folder, data, message):
    with pytest.raises(MarketError, match=message) as caught:
        load_market(data, base=folder)
    assert str(caught.value).startswith("data")


SAMPLE_AND_FILES = [
    ("symbols", 5, "5; give names"),
    ("symbols", [5], r"\[5\]; give names"),
    ("symbols", {"BTCUSD": 1}, "give names"),
    ("symbols", ["BTCUSD", "BTCUSD"], "listed twice: BTCUSD"),
    ("bars", 2.5, "whole number"),
    ("bars", True, "whole number"),
    ("bars", [3], "whole number"),
    ("start", "yesterday", "'yesterday' is not a date"),
    ("start", "now", "'now' is not a date"),
    ("start", 20240101, "20240101 is not a date"),
    ("start", [1], r"\[1\] is not a date"),
    ("start", "3000-01-01", "not a date or time from 1678 to 2261"),
    ("assets", 5, "5; give fields by symbol or class"),
    ("assets", ["BTCUSD"], "give fields by symbol or class"),
    ("assets", {"BTCUSD": 15}, "give fields"),
    ("assets", {"BTCUSD": {"tick": -1}}, "positive price step"),
    ("assets", {"BTCUSD": {"asset_class": ["crypto"]}}, "crypto or stock"),
    ("assets", {5: {}}, "no such symbol"),
]


@pytest.mark.parametrize("source", ["sample", "coins"])
@pytest.mark.parametrize(("key", "value", "message"), SAMPLE_AND_FILES)
def test_every_error_begins_with_its_key(folder, source, key, value, message):
    with pytest.raises(MarketError, match=rf"^data\.{key}[.:].*{message}"):
        load_market({"source": source, key: value}, base=folder)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (5, r"data: 5; give a mapping"),
        ({"bars": 99_999_999_999}, "data.bars: 99999999999 is not allowed; give a whole number from 1 to 2,000,000"),
        ({"seed": -1}, "data.seed: -1"),
        ({"seed": "x"}, "data.seed: 'x'"),
        ({"signal": "big"}, "data.signal: 'big'"),
        ({"start": "2259-12-31"}, "data.start: '2259-12-31' with 2,160 hours leaves the years 1700 to 2259"),
        ({"symbols": ["BTCUDS1"]}, "data.symbols: 'BTCUDS1' is neither .*did you mean 'BTCUSD'"),
        ({"costs": 3}, "data.costs: 3"),
        ({"costs": {"BTCUSD": {"fee": 3}}}, "data.costs.BTCUSD.fee: no such field"),
        ({"source": None}, "data.source: None"),
        ({"source": {"a": 1}}, "data.source: "),
        ({"source": ["coins", ""]}, "data.source: "),
        ({"source": "x" * 5000}, "data.source: "),
        ({"source": "a\0b"}, "data.source: "),
        ({"source": "coins", "assume_tz": 5}, "data.assume_tz: 5 is not a time zone"),
        ({"source": "coins", "assume_tz": "Mars/Base"}, "data.assume_tz: 'Mars/Base'"),
        ({"source": "coins", "end": "soon"}, "data.end: 'soon' is not a date"),
        (
            {"source": "coins", "start": "2024-01-05", "end": "2024-01-04"},
            "data.start: 2024-01-05 does not come before data.end, 2024-01-04",
        ),
        ({"source": "coins", "start": "2031-01-01"}, "data.start: BTCUSD: no bars from 2031-01-01T00:00; the file has 2024-01-01 00:00 to"),
        ({"source": "coins", "end": "1970-01-01"}, "data.end: BTCUSD: no bars before 1970-01-01T00:00; the file has 2024-01-01 00:00 to"),
        ({"source": "coins", "symbols": ["BTCUST"]}, "data.symbols: no file for 'BTCUST' in .*; did you mean 'BTCUSD'"),
        ({"source": ["coins", "shares"], "symbols": ["NVDIA"]}, "data.symbols: no file for 'NVDIA' in .*; did you mean 'NVDA'"),
        ({"source": ["coins", "coins"]}, "data.source: BTCUSD is in both"),
    ],
)
def test_errors_of_one_source_begin_with_their_key_too(folder, data, message):
    with pytest.raises(MarketError, match="^" + message):
        load_market(data, base=folder)


def test_of_several_sources_too_every_symbol_that_is_not_there_is_named(folder):
    (folder / "more.csv").write_bytes((folder / "coins" / "BTCUSD.csv").read_bytes())
    (folder / "coins" / "BTCUSD.csv").unlink()
    data = {"source": ["coins", "shares", "more.csv"], "symbols": ["FOO", "NVDIA", "ETHUSD"]}
    with pytest.raises(
        MarketError, match=r"^data.symbols: no file for 'FOO', 'NVDIA' in .*; did you mean 'NVDA' for 'NVDIA'\? known: .*MORE"
    ):
        load_market(data, base=folder)


def test_symbols_the_sample_market_cannot_make_are_all_named_with_what_it_has():
    with pytest.raises(MarketError) as caught:
        load_market({"symbols": ["BTCUSX", "ETHUSD", "NVIDIA", "SOL"], "bars": 50})
    text = str(caught.value)
    assert text.startswith(
        "data.symbols: 'BTCUSX' is neither a known coin with its quote currency nor a plain ticker; did you mean 'BTCUSD'?"
    )
    assert (
        "'NVIDIA' is neither" in text and "did you mean 'NVDA'?" in text and "'SOL' could be" in text and "did you mean 'SOLUSD'?" in text
    )
    assert "`assets: {BTCUSX: {asset_class: crypto}, NVIDIA: " in text
    assert "The sample market's own are BTCUSD, ETHUSD, SOLUSD, LINKUSD, UNIUSD, NVDA, MSFT;" in text


def test_a_misspelt_symbol_of_the_sample_market_is_made_but_warned_of():
    panel, problems = load_market({"symbols": ["BTCUS", "NVDIA", "btcusd", "AVAXUSD", "BCHUSD", "JPM", "MSTR"], "bars": 50})
    assert panel.n_bars == 50
    assert [(p.symbol, p.severity, p.reason) for p in problems] == [
        ("BTCUS", "warning", "made-up symbol BTCUS (did you mean BTCUSD?)"),
        ("NVDIA", "warning", "made-up symbol NVDIA (did you mean NVDA?)"),
        ("btcusd", "warning", "made-up symbol btcusd (did you mean BTCUSD?)"),
    ]
    assert load_market({"symbols": ["BTCUS"], "bars": 50, "assets": {"BTCUS": {"asset_class": "crypto"}}})[1] == []


def test_a_short_window_keeps_the_bars_of_its_file(tmp_path):
    days = pd.date_range("2024-07-01", periods=40, freq="B")
    frame = pd.DataFrame({"timestamp": days, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1.0})
    frame.to_csv(tmp_path / "NVDA.csv", index=False)
    for window in ({"start": "2024-07-19", "end": "2024-07-20"}, {"start": "2024-07-19", "end": "2024-07-23"}, {"bars": 1}):
        panel, _ = load_market({"source": str(tmp_path), **window})
        assert panel.bar_seconds == 86400.0 and panel.tradable.all()


def test_bars_of_different_length_cannot_be_mixed(folder):
    file = folder / "coins" / "BTCUSD.csv"
    pd.read_csv(file).iloc[::4].to_csv(file, index=False)
    with pytest.raises(MarketError, match=r"different length .*BTCUSD 14400 s, ETHUSD 3600 s"):
        load_market({"source": "coins", "symbols": ["BTCUSD", "ETHUSD"]}, base=folder)

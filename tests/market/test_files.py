import numpy as np
import pandas as pd
import pytest

from trainables.market import MarketError, read_directory

HOURS = pd.date_range("2024-03-01", periods=3, freq="h", tz="UTC")
MS = [int(stamp.timestamp() * 1000) for stamp in HOURS]
PRICES = {"open": [1.0, 2.0, 3.0], "high": [1.5, 2.5, 3.5], "low": [0.5, 1.5, 2.5], "close": [1.2, 2.2, 3.2], "volume": [10.0, 20.0, 30.0]}


def expected() -> pd.DataFrame:
    return pd.DataFrame({"timestamp": HOURS.as_unit("ns"), **PRICES})


def read(tmp_path, frame: pd.DataFrame, name: str = "BTCUSD.csv", header: bool = True, **options) -> pd.DataFrame:
    file = tmp_path / name
    if name.endswith(".parquet"):
        frame.to_parquet(file)
    else:
        frame.to_csv(file, index=False, header=header)
    return read_directory(file, **options)["BTCUSD"]


def named(time: str, stamps, style=str.lower) -> pd.DataFrame:
    return pd.DataFrame({time: stamps, **{style(name): values for name, values in PRICES.items()}})


SPELLINGS = {
    "ccxt, milliseconds": named("timestamp", MS),
    "ccxt, list columns": pd.DataFrame(dict(enumerate([MS, *PRICES.values()]))),
    "Binance klines": named("Open time", MS, str.title).assign(**{"Close time": [m + 3599999 for m in MS], "Number of trades": 5}),
    "Binance klines, snake case": named("open_time", MS).assign(close_time=[m + 3599999 for m in MS], quote_volume=1.0),
    "Binance archive since 2025, microseconds": named("open_time", [m * 1000 for m in MS]),
    "seconds": named("Unix", [m // 1000 for m in MS]).assign(Date="2024-03-01 00:00:00"),
    "Alpaca": pd.DataFrame({"t": [f"{h:%Y-%m-%dT%H:%M:%SZ}" for h in HOURS], **{k[0]: v for k, v in PRICES.items()}, "n": 3, "vw": 1.0}),
    "Alpaca data frame": named("timestamp", HOURS.astype(str)).assign(trade_count=3, vwap=1.0, symbol="BTC/USD"),
    "Yahoo, intraday": named("Datetime", HOURS.tz_convert("America/New_York").astype(str), str.title).assign(**{"Adj Close": 0.1}),
    "upper case with UTC in words": named("TIMESTAMP", [f"{h:%Y-%m-%d %H:%M:%S} UTC" for h in HOURS], str.upper),
    "unnamed index": named("Unnamed: 0", HOURS.astype(str)),
}


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_every_usual_spelling_gives_the_same_table(tmp_path, name, suffix):
    table = SPELLINGS[name]
    table.columns = table.columns.astype(str)
    pd.testing.assert_frame_equal(read(tmp_path, table, "BTCUSD" + suffix), expected())


def test_an_exchange_dump_without_header_loses_no_row(tmp_path):
    dump = pd.DataFrame([[m, *values, m + 3599999, 1.0, 7, 1.0, 1.0, 0] for m, *values in zip(MS, *PRICES.values(), strict=True)])
    pd.testing.assert_frame_equal(read(tmp_path, dump, header=False), expected())


def test_one_file_may_change_its_epoch_unit(tmp_path):
    pd.testing.assert_frame_equal(read(tmp_path, named("open_time", [MS[0], MS[1] * 1000, MS[2] * 1000])), expected())


def test_a_parquet_index_of_times_is_the_timestamp(tmp_path):
    table = pd.DataFrame(PRICES, index=pd.DatetimeIndex(HOURS, name="Datetime"))
    pd.testing.assert_frame_equal(read(tmp_path, table, "BTCUSD.parquet"), expected())


def test_yahoo_daily_dates_are_dates_and_the_adjusted_close_is_not_the_close(tmp_path):
    days = ["2024-03-01", "2024-03-04", "2024-03-04"]
    table = read(tmp_path, named("Date", days, str.title).assign(**{"Adj Close": 0.1}))
    assert list(table["timestamp"]) == [pd.Timestamp(day, tz="UTC") for day in days]
    assert list(table["close"]) == PRICES["close"]


def test_stamps_without_a_zone_stay_without_one_until_told(tmp_path):
    table = named("timestamp", ["2024-03-01 00:00", "2024-03-01 01:00", "2024-03-01 02:00"])
    assert read(tmp_path, table)["timestamp"].dt.tz is None
    pd.testing.assert_frame_equal(read(tmp_path, table, assume_tz="UTC"), expected())
    shifted = read(tmp_path, table, assume_tz="America/New_York")["timestamp"]
    assert shifted.iloc[0] == pd.Timestamp("2024-03-01 05:00", tz="UTC")
    with pytest.raises(MarketError, match=r"assume_tz: 'Mars/Base' is not a time zone"):
        read(tmp_path, table, assume_tz="Mars/Base")


def test_what_cannot_be_read_is_missing_not_guessed(tmp_path):
    table = named("timestamp", ["2024-03-01T00:00Z", "2024-03-01 01:00", "01/02/2024"])
    table["close"] = ["1.2", "n/a", "oops"]
    out = read(tmp_path, table)
    assert list(out["timestamp"].isna()) == [False, True, True]
    assert list(np.isnan(out["close"])) == [False, True, True]


@pytest.mark.parametrize("index", [pd.RangeIndex(70, 73), pd.Index([7, 3, 9]), pd.Index([5, 5, 5]), pd.Index(["a", "b", "c"])])
def test_a_stored_row_index_of_any_kind_leaves_every_row_in_its_place(tmp_path, index):
    for suffix in (".parquet", ".csv"):
        pd.testing.assert_frame_equal(read(tmp_path, named("timestamp", HOURS.astype(str)).set_index(index), "BTCUSD" + suffix), expected())


def test_the_tail_of_a_parquet_file_is_a_file(tmp_path):
    pd.concat([named("timestamp", MS)] * 3, ignore_index=True).tail(3).to_parquet(tmp_path / "BTCUSD.parquet")
    pd.testing.assert_frame_equal(read_directory(tmp_path)["BTCUSD"], expected())
    both = pd.concat([named("timestamp", MS).assign(symbol=name) for name in ("BTCUSD", "NVDA")], ignore_index=True)
    both.tail(4).to_parquet(tmp_path / "tidy.parquet")
    frames = read_directory(tmp_path / "tidy.parquet")
    assert {name: list(frame["open"]) for name, frame in frames.items()} == {"BTCUSD": [3.0], "NVDA": [1.0, 2.0, 3.0]}


def test_a_parquet_index_that_repeats_a_column_is_left_out(tmp_path):
    table = named("timestamp", HOURS).set_index("timestamp", drop=False)
    pd.testing.assert_frame_equal(read(tmp_path, table, "BTCUSD.parquet"), expected())


def test_a_column_in_which_nothing_can_be_read_is_an_error_not_a_column_of_nothing(tmp_path):
    with pytest.raises(MarketError, match=r"BTCUSD\.csv: no number in any row of column 'close'; the first is '\$1'"):
        read(tmp_path, named("timestamp", MS).assign(close=["$1", "$2", "$3"]))
    with pytest.raises(MarketError, match=r"BTCUSD\.csv: no time .* in any row of column 'timestamp'; the first is '01/02/2024'"):
        read(tmp_path, named("timestamp", ["01/02/2024"] * 3))
    (tmp_path / "BTCUSD.csv").write_text("timestamp,open,high,low,close,volume\n" + f"{MS[0]},1,2,1,2,5,7\n" * 2)
    with pytest.raises(MarketError, match=r"BTCUSD\.csv: rows have more fields than the header has names"):
        read_directory(tmp_path)


def test_rows_stay_in_file_order(tmp_path):
    table = named("timestamp", MS).iloc[[2, 0, 1, 0]]
    out = read(tmp_path, table)
    assert list(out.index) == [0, 1, 2, 3]
    assert list(out["open"]) == [3.0, 1.0, 2.0, 1.0]


def test_a_missing_column_is_named_with_the_file_and_what_it_has(tmp_path):
    table = named("when", MS).drop(columns=["low"])
    with pytest.raises(MarketError, match=r"BTCUSD\.csv: no column for timestamp, low; it has when, open, high, close, volume"):
        read(tmp_path, table)
    (tmp_path / "ETHUSD.parquet").write_bytes(b"not parquet")
    with pytest.raises(MarketError, match=r"ETHUSD\.parquet: cannot be read"):
        read_directory(tmp_path / "ETHUSD.parquet")
    (tmp_path / "SOLUSD.csv").write_text("")
    with pytest.raises(MarketError, match=r"SOLUSD\.csv: cannot be read"):
        read_directory(tmp_path / "SOLUSD.csv")


def test_files_are_found_in_the_published_order(tmp_path):
    order = ["BTCUSD.csv", "btcusd.csv", "stocks/BTCUSD.csv", "stocks/btcusd.csv", "crypto/BTCUSD.csv", "crypto/btcusd.csv"]
    for price, name in enumerate(order, start=1):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        named("timestamp", MS).assign(open=float(price)).to_csv(tmp_path / name, index=False)
    for price, name in enumerate(order, start=1):
        assert read_directory(tmp_path, ["BTCUSD"])["BTCUSD"]["open"].iloc[0] == price
        (tmp_path / name).unlink()


def test_a_folder_gives_all_its_symbols_or_those_asked_for_in_that_order(tmp_path):
    for name in ("stocks/NVDA.csv", "crypto/ethusd.parquet", "BTCUSD.csv.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        table = named("timestamp", MS)
        table.to_parquet(tmp_path / name) if name.endswith("parquet") else table.to_csv(tmp_path / name, index=False)
    (tmp_path / "MANIFEST.json").write_text("{}")
    assert list(read_directory(tmp_path)) == ["BTCUSD", "ETHUSD", "NVDA"]
    assert list(read_directory(tmp_path, ["NVDA", "BTC/USD"])) == ["NVDA", "BTC/USD"]
    with pytest.raises(MarketError, match=r"symbols: no file for 'BTCUST' in .*; did you mean 'BTCUSD'"):
        read_directory(tmp_path, ["BTCUST"])


def test_symbols_that_are_not_there_are_all_named_each_with_its_nearest_and_what_is_there(tmp_path):
    for name in ("NVDA.parquet", "BTCUSD.parquet", "ETHUSD.parquet"):
        named("timestamp", MS).to_parquet(tmp_path / name)
    near = "did you mean 'BTCUSD' for 'BTUCSD', 'NVDA' for 'nvdia'"
    with pytest.raises(MarketError, match=rf"symbols: no file for 'FOO', 'BTUCSD', 'nvdia' in .*; {near}\? known: BTCUSD, ETHUSD, NVDA$"):
        read_directory(tmp_path, ["FOO", "BTCUSD", "BTUCSD", "nvdia"])
    with pytest.raises(MarketError, match=r"symbols: no 'FOO', 'BTCUSX' in .*; did you mean 'BTCUSD' for 'BTCUSX'\? known: BTCUSD$"):
        read_directory(tmp_path / "BTCUSD.parquet", ["FOO", "BTCUSX"])


def test_two_files_for_one_symbol_are_refused(tmp_path):
    named("timestamp", MS).to_csv(tmp_path / "BTCUSD.csv", index=False)
    named("timestamp", MS).to_parquet(tmp_path / "BTCUSD.parquet")
    for symbols in (None, ["BTCUSD"]):
        with pytest.raises(MarketError, match=r"both .* exist"):
            read_directory(tmp_path, symbols)


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(MarketError, match="no such file"):
        read_directory(tmp_path / "nowhere")
    with pytest.raises(MarketError, match="no bars there"):
        read_directory(tmp_path)


def test_a_tidy_file_holds_several_symbols_but_a_symbols_own_file_is_its_own(tmp_path):
    both = pd.concat([named("timestamp", MS).assign(symbol="BTCUSD"), named("timestamp", MS).assign(symbol="nvda")], ignore_index=True)
    both.to_csv(tmp_path / "bars.csv", index=False)
    frames = read_directory(tmp_path / "bars.csv")
    assert list(frames) == ["BTCUSD", "NVDA"]
    assert list(frames["NVDA"].index) == [3, 4, 5]
    mixed = named("timestamp", MS).assign(symbol=["BTCUSD", "BTCUSDT", "BTCUSDT"])
    assert len(read(tmp_path, mixed)) == 3

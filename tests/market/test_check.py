import time

import numpy as np
import pandas as pd
import pytest

from trainables.market import MarketError, Problem, check_frame, sample_panel, summarise
from trainables.market.check import raise_on_errors


def hours(count: int = 48, start: str = "2024-03-01") -> pd.DataFrame:
    """Clean crypto bars."""
    frame = pd.DataFrame({"timestamp": pd.date_range(start, periods=count, freq="h", tz="UTC")})
    return frame.assign(open=100.0, high=101.0, low=99.0, close=100.5, volume=5.0)


def stock(symbol: str = "NVDA", bars: int = 24 * 40) -> pd.DataFrame:
    return sample_panel([symbol], bars=bars, start="2024-11-01").frame().drop(columns="symbol")


def found(frame: pd.DataFrame, symbol: str = "BTCUSD", **options) -> list[tuple[str, int | None, str]]:
    problems = check_frame(symbol, frame, **options)
    assert all(problem.symbol == symbol and problem.detail for problem in problems)
    return [(problem.severity, problem.row, problem.reason) for problem in problems]


def put(frame: pd.DataFrame, row: int, **values: float) -> pd.DataFrame:
    for name, value in values.items():
        frame.loc[row, name] = value
    return frame


def test_clean_bars_have_no_problems():
    assert found(hours()) == []
    assert found(stock(), "NVDA") == []


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"high": 98.0}, "high<low"),
        ({"open": 101.5}, "outside range"),
        ({"close": 98.5}, "outside range"),
        ({"close": np.nan}, "NaN"),
        ({"volume": np.inf}, "NaN"),
        ({"low": 0.0}, "price<=0"),
        ({"volume": -1.0}, "negative volume"),
    ],
)
def test_a_bar_that_cannot_be_right_is_an_error_at_its_row(values, reason):
    (problem,) = check_frame("BTCUSD", put(hours(), 17, **values))
    assert (problem.severity, problem.row, problem.reason) == ("error", 17, reason)
    assert problem.timestamp == pd.Timestamp("2024-03-01 17:00", tz="UTC")


def test_a_negative_price_is_an_error():
    assert ("error", 3, "price<=0") in found(put(hours(), 3, low=-2.0))


def test_rounding_of_adjusted_prices_is_no_error():
    assert found(put(hours(), 3, high=100.5 * (1 - 1e-8))) == []


def test_of_duplicates_all_but_the_last_are_bad():
    frame = hours().iloc[[0, 1, 2, 2, 2, 3]].reset_index(drop=True)
    assert found(frame) == [("error", 2, "duplicate"), ("error", 3, "duplicate")]


def test_rows_out_of_order_are_named():
    frame = hours(6).iloc[[0, 1, 3, 2, 4, 5]].reset_index(drop=True)
    assert found(frame) == [("warning", 3, "unsorted")]
    newest_first = hours(6).iloc[::-1].reset_index(drop=True)
    assert found(newest_first) == [("warning", None, "unsorted")]


def test_a_quiet_bar_is_a_warning_and_a_file_without_volume_is_one_warning():
    assert found(put(hours(), 5, volume=0.0)) == [("warning", 5, "zero volume")]
    assert found(hours().assign(volume=0.0)) == [("warning", None, "zero volume")]


def test_missing_hours_of_crypto_are_a_gap_with_its_first_hour():
    frame = hours().drop(index=[10, 11, 30]).reset_index(drop=True)
    first, second = check_frame("BTCUSD", frame)
    assert (first.row, first.reason, first.timestamp.hour) == (10, "gap", 10)
    assert first.detail.startswith("2 bars")
    assert (second.row, second.timestamp) == (28, pd.Timestamp("2024-03-02 06:00", tz="UTC"))


def test_only_session_bars_can_be_missing_from_a_stock():
    frame = stock()
    eleven = frame.index[frame["timestamp"] == pd.Timestamp("2024-11-29 15:00", tz="UTC")][0]
    day = frame.index[frame["timestamp"].dt.date == pd.Timestamp("2024-11-12").date()]
    broken = frame.drop(index=[eleven, *day]).reset_index(drop=True)
    problems = check_frame("NVDA", broken)
    assert [(p.reason, p.row, p.timestamp) for p in problems] == [
        ("gap", day[0], pd.Timestamp("2024-11-12 14:00", tz="UTC")),
        ("gap", eleven - 7, pd.Timestamp("2024-11-29 15:00", tz="UTC")),
    ]
    assert problems[0].detail.startswith("7 bars")


def test_a_missing_session_of_daily_bars_is_found_and_a_holiday_is_not():
    days = pd.DatetimeIndex(["2024-07-01", "2024-07-02", "2024-07-05", "2024-07-08", "2024-07-10"], tz="UTC") + pd.Timedelta(hours=13.5)
    frame = pd.DataFrame({"timestamp": days}).assign(open=1.0, high=1.0, low=1.0, close=1.0, volume=1.0)
    problems = check_frame("NVDA", frame, bar_seconds=86400.0)
    assert [(p.row, p.timestamp.strftime("%m-%d"), p.detail[:5]) for p in problems] == [(2, "07-03", "1 bar"), (4, "07-09", "1 bar")]


def test_bars_off_the_grid_are_errors_unless_they_are_out_of_hours():
    late = hours()
    late.loc[12, "timestamp"] += pd.Timedelta(minutes=17)
    assert ("error", 12, "off-grid") in found(late)
    frame = stock()
    frame.loc[20, "timestamp"] += pd.Timedelta(minutes=17)
    assert ("error", 20, "off-grid") in found(frame, "NVDA")
    stub = pd.concat([stock(), stock().iloc[:1].assign(timestamp=pd.Timestamp("2024-11-29 18:15", tz="UTC"))])
    stub = stub.sort_values("timestamp").reset_index(drop=True)
    assert [(s, r) for s, _, r in found(stub, "NVDA")] == [("warning", "off-grid")]


@pytest.mark.parametrize("minute", [0, 30])
def test_a_change_of_clocks_moves_no_stock_bar_off_the_grid(minute):
    # Four-hour bars from the bell, in New York time.
    days = pd.bdate_range("2024-03-04", "2024-03-15", tz="America/New_York")
    stamps = [day + pd.Timedelta(hours=hour, minutes=minute) for day in days for hour in (9, 13)]
    frame = hours(len(stamps)).assign(timestamp=pd.DatetimeIndex(stamps).tz_convert("UTC"))
    assert found(frame, "NVDA", bar_seconds=4 * 3600.0) == []


@pytest.mark.parametrize("split", [2, 3, 4, 5, 10, 15, 20, 25, 1 / 10])
def test_a_split_that_was_not_adjusted_is_a_jump(split):
    frame = stock()
    prices = ["open", "high", "low", "close"]
    frame.loc[100:, prices] = frame.loc[100:, prices] / split
    assert found(frame, "NVDA") == [("warning", 100, "jump")]


def test_a_split_shows_in_the_closes_where_the_open_was_copied():
    frame = stock()
    prices = ["open", "high", "low", "close"]
    frame.loc[100:, prices] = frame.loc[100:, prices] / 10
    frame.loc[100, ["open", "high"]] = frame.loc[99, "close"]
    assert found(frame, "NVDA") == [("warning", 100, "jump")]


def test_a_coin_that_doubles_is_news_not_a_split():
    for factor, expected in ((2.0, []), (3.02, [("warning", 20, "jump")]), (7.0, [])):
        frame = hours()
        frame.loc[20:, ["open", "high", "low", "close"]] *= factor
        assert found(frame) == expected


def test_stamps_without_time_zone_are_an_error_of_the_file():
    frame = hours()
    assert found(frame.assign(timestamp=frame["timestamp"].dt.tz_localize(None))) == [("error", None, "timezone-less")]


def test_an_unreadable_stamp_is_an_error():
    frame = hours()
    frame.loc[47, "timestamp"] = pd.NaT
    assert found(frame) == [("error", 47, "unreadable timestamp")]


def test_rows_are_the_files_rows_also_of_a_part():
    frame = put(hours(), 30, high=1.0).iloc[24:]
    assert found(frame) == [("error", 30, "high<low")]


def test_several_problems_come_in_row_order_and_are_summarised():
    frame = put(put(put(hours(), 9, volume=-1.0), 4, high=1.0), 7, volume=-2.0)
    problems = check_frame("BTCUSD", frame)
    assert [problem.row for problem in problems] == [4, 7, 9]
    table = summarise(problems)
    assert table["reason"].tolist() == ["high<low", "negative volume"]
    assert table["count"].tolist() == [1, 2] and table["first_row"].tolist() == [4, 7]
    assert table["first_time"].iloc[1] == pd.Timestamp("2024-03-01 07:00", tz="UTC")
    assert summarise([]).empty


def test_errors_are_raised_as_a_short_list():
    raise_on_errors([Problem("X", 1, None, "warning", "gap", "1 bar")])
    with pytest.raises(MarketError) as caught:
        raise_on_errors(check_frame("BTCUSD", hours().assign(high=1.0)), "some/folder")
    text = str(caught.value)
    assert "48 bad rows" in text and "BTCUSD row 9 (2024-03-01 09:00): high<low: high 1, low 99" in text
    assert "row 10 " not in text and "38 more" in text
    assert "alphasweep data check some/folder" in text and "drop_bad_rows" in text


def test_tables_that_are_not_bars_are_refused():
    with pytest.raises(MarketError, match="no column volume; it has timestamp"):
        check_frame("BTCUSD", hours().drop(columns="volume"))
    with pytest.raises(MarketError, match="not times"):
        check_frame("BTCUSD", hours().assign(timestamp="2024-01-01"))
    assert check_frame("BTCUSD", hours(0)) == []


def test_half_a_million_rows_take_seconds():
    frame = hours(500_000, start="1970-01-02").drop(index=[1000, 5000])
    began = time.perf_counter()
    assert len(check_frame("BTCUSD", frame)) == 2
    assert time.perf_counter() - began < 5

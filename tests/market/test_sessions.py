import numpy as np
import pandas as pd
import pytest

from trainables.market import make_assets, session_masks

STOCK = make_assets(["NVDA"])
BOTH = make_assets(["BTCUSD", "NVDA"])


def new_york(*stamps: str) -> np.ndarray:
    return pd.DatetimeIndex(stamps).tz_localize("America/New_York").tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[ns]")


def open_hours(day: str, minute: int = 0, bar: float = 3600.0) -> tuple[list[str], list[str]]:
    """Labels, in New York, of the tradable bars of a day, and of its last bars."""
    local = pd.date_range(f"{day} 00:00", f"{day} 23:59", freq=f"{int(bar)}s", tz="America/New_York") + pd.Timedelta(minutes=minute)
    tradable, last = session_masks(local.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[ns]"), bar, STOCK)
    labels = local.strftime("%H:%M").to_numpy()
    return list(labels[tradable[:, 0]]), list(labels[last[:, 0]])


def test_the_nine_oclock_hour_counts_and_the_four_oclock_hour_does_not():
    assert open_hours("2024-07-02") == (["09:00", "10:00", "11:00", "12:00", "13:00", "14:00", "15:00"], ["15:00"])


def test_bars_that_start_at_the_bell_include_the_half_hour_before_the_close():
    assert open_hours("2024-07-02", minute=30) == (["09:30", "10:30", "11:30", "12:30", "13:30", "14:30", "15:30"], ["15:30"])


def test_an_early_close_ends_the_session_early():
    assert open_hours("2024-11-29") == (["09:00", "10:00", "11:00", "12:00"], ["12:00"])
    assert open_hours("2024-11-29", minute=30) == (["09:30", "10:30", "11:30", "12:30"], ["12:30"])


@pytest.mark.parametrize("day", ["2024-07-04", "2024-07-06", "2024-12-25"])
def test_nothing_trades_on_holidays_and_weekends(day):
    assert open_hours(day) == ([], [])


def test_the_session_moves_in_utc_when_the_clocks_change():
    friday, monday = np.datetime64("2024-03-08"), np.datetime64("2024-03-11")  # clocks change on the 10th
    for day, first in ((friday, 14), (monday, 13)):
        times = day.astype("datetime64[ns]") + np.arange(24) * np.timedelta64(3600 * 10**9, "ns")
        tradable, last = session_masks(times, 3600.0, STOCK)
        assert list(np.flatnonzero(tradable[:, 0])) == list(range(first, first + 7))
        assert list(np.flatnonzero(last[:, 0])) == [first + 6]


def test_short_bars_need_half_their_length_in_the_session():
    tradable, last = open_hours("2024-07-02", bar=900.0)
    assert (tradable[0], tradable[-1], len(tradable), last) == ("09:30", "15:45", 26, ["15:45"])
    shifted, _ = open_hours("2024-07-02", minute=8, bar=900.0)
    assert (shifted[0], shifted[-1]) == ("09:23", "15:38")  # 8 minutes of 15 are enough, the 7 of 15:53 are not


def test_the_last_bar_comes_from_the_calendar_not_from_the_end_of_the_data():
    _, last = session_masks(new_york("2024-07-02 10:00", "2024-07-02 11:00"), 3600.0, STOCK)
    assert not last.any()
    _, last = session_masks(new_york("2024-07-02 15:00", "2024-07-02 18:00"), 3600.0, STOCK)
    assert list(last[:, 0]) == [True, False]


def test_a_daily_bar_trades_on_session_dates_however_it_is_labelled():
    for label in ("00:00", "05:00", "13:30", "21:00"):
        times = np.array([f"2024-07-0{d}T{label}" for d in (3, 4, 5, 6)], "datetime64[ns]")
        tradable, last = session_masks(times, 86400.0, STOCK)
        assert list(tradable[:, 0]) == [True, False, True, False]
        assert (last == tradable).all()


def test_weekly_bars_trade_when_any_session_opens_in_them():
    tradable, _ = session_masks(np.array(["2024-07-01", "2024-07-08"], "datetime64[ns]"), 7 * 86400.0, STOCK)
    assert tradable.all()


def test_crypto_always_trades_and_has_no_last_bar():
    times = np.datetime64("2024-07-04", "ns") + np.arange(48) * np.timedelta64(3600 * 10**9, "ns")
    tradable, last = session_masks(times, 3600.0, BOTH)
    assert tradable[:, 0].all() and not last[:, 0].any()
    assert list(np.flatnonzero(tradable[:, 1])) == list(range(37, 44))


def test_historic_and_coming_years_are_covered():
    assert open_hours("2010-11-26")[1] == ["12:00"]
    assert open_hours("2027-07-06")[1] == ["15:00"]

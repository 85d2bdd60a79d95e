from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.contract import TrainableError
from trainables.timeline import Protocol, Window, cut


def hourly(n: int) -> np.ndarray:
    return np.datetime64("2024-01-01", "ns") + np.arange(n) * np.timedelta64(1, "h")


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(800, 6000),
    folds=st.integers(1, 8),
    kind=st.sampled_from(["rolling", "anchored"]),
    embargo=st.integers(0, 72),
    holdout=st.sampled_from(["0%", "10%", "20%", "7d"]),
    gaps=st.integers(0, 2**32 - 1),
)
def test_cuts_keep_their_order_whatever_is_asked(n, folds, kind, embargo, holdout, gaps) -> None:
    times = hourly(n)[np.random.default_rng(gaps).random(n) > 0.2]
    try:
        timeline = Protocol(folds, kind, embargo=f"{embargo}h", holdout=holdout).cut(times, 1.0)
    except TrainableError as error:
        assert "more. Give more data" in str(error)
        return
    apart = np.timedelta64(embargo, "h")
    assert len(timeline.folds) == folds
    previous = 0
    for fold in timeline.folds:
        assert 0 <= fold.train.start < fold.train.stop <= fold.tune.start < fold.tune.stop
        assert fold.tune.start >= previous  # tune windows do not overlap
        previous = fold.tune.stop
        ended = times[fold.train.stop - 1] + np.timedelta64(1, "h")
        assert times[fold.tune.start] - ended >= apart - np.timedelta64(1, "h")
        assert kind == "rolling" or fold.train.start == 0
    sealed = timeline.holdout
    if holdout == "0%":
        assert sealed.start == sealed.stop == len(times)
        return
    assert timeline.visible.stop == previous <= sealed.start < sealed.stop == len(times)
    assert times[sealed.start] - times[previous - 1] >= apart


def test_the_default_shares_ninety_days_out() -> None:
    timeline = Protocol().cut(hourly(2160), 1.0)
    days = [(f.tune.stop - f.tune.start) / 24 for f in timeline.folds]
    assert timeline.holdout == Window(1728, 2160)  # the last 18 of 90 days
    assert timeline.visible.stop == 1704  # a day of embargo before it
    assert len(days) == 4 and days == pytest.approx([10.4] * 4, abs=0.1)
    assert timeline.folds[0].train == Window(0, 682)


def test_too_little_data_says_how_much_is_missing() -> None:
    with pytest.raises(TrainableError) as error:
        Protocol(folds=4).cut(hourly(150), 1.0)
    assert str(error.value).startswith("protocol: the data cover 6.25 days; 4 folds of 24 hours after")
    assert ("need" in str(error.value) and "days more" in str(error.value)) or "hours more" in str(error.value)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"fold": 3}, "protocol.fold: no such key; did you mean 'folds'?"),
        ({"folds": 0}, "protocol.folds: 0 is not allowed"),
        ({"folds": True}, "protocol.folds: True is not allowed"),
        ({"kind": "rollin"}, "protocol.kind: 'rollin' is not allowed; give rolling or anchored"),
        ({"embargo": 24}, "protocol.embargo: 24 is not a duration; write it like 36h, 30d, 2w or 20%"),
        ({"holdout": "soon"}, "protocol.holdout: 'soon' is not a duration"),
    ],
)
def test_a_wrong_section_is_explained(section, words) -> None:
    with pytest.raises(TrainableError) as error:
        Protocol.parse(section)
    assert str(error.value).startswith(words)


def test_without_a_protocol_all_of_time_is_one_window() -> None:
    timeline = cut(None, hourly(10), 1.0)
    assert timeline.visible == timeline.folds[0].tune == Window(0, 10)
    assert timeline.holdout == Window(10, 10) and timeline.describe()["holdout"] is None


def test_a_window_that_is_named_is_the_only_fold() -> None:
    times = hourly(2160)
    timeline = Protocol.parse({"tune": ["2024-02-10", "2024-03-01"]}).cut(times, 1.0)
    assert timeline.folds[0].tune == Window(40 * 24, 60 * 24)
    assert timeline.folds[0].train == Window(0, 39 * 24)  # all that lies an embargo before
    assert timeline.visible == Window(0, 60 * 24) and timeline.holdout == Window(1728, 2160)
    both = Protocol.parse({"train": ["2024-01-05 12:00", "2024-02-01"], "tune": ["2024-02-10", "2024-03-01"]}).cut(times, 1.0)
    assert both.folds[0].train == Window(4 * 24 + 12, 31 * 24)
    month = Protocol.parse({"train": "10d", "tune": ["2024-02-10", "2024-03-01"]}).cut(times, 1.0)
    assert month.folds[0].train == Window(29 * 24, 39 * 24)
    first = Protocol.parse({"tune": ["2024-01-01", "2024-01-20"]}).cut(times, 1.0)
    assert first.folds[0].train.start == first.folds[0].train.stop == 0  # nothing lies before


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (
            {"tune": ["2024-02-10", "2024-03-20"]},
            "protocol.tune: 2024-02-10T00:00:00 to 2024-03-20T00:00:00 ends 8 days after what a search",
        ),
        ({"tune": ["2024-02-10", "2024-02-10 06:00"]}, "protocol.tune: 2024-02-10T00:00:00 to 2024-02-10T06:00:00 is too short"),
        ({"tune": ["2024-02-10", "2024-02-01"]}, "protocol.tune: ['2024-02-10', '2024-02-01'] ends before it begins"),
        ({"tune": ["2024-02-10", "soon"]}, "protocol.tune: ['2024-02-10', 'soon'] is not a window; write two times"),
        ({"tune": ["2024-02-30", "2024-03-01"]}, "protocol.tune: ['2024-02-30', '2024-03-01'] is not a window"),
        ({"train": ["2024-02-10", "2024-03-01"]}, "protocol.train: names its window, so tune has to"),
        ({"tune": ["2024-02-10", "2024-03-01"], "folds": 4}, "protocol.folds: tune names its window, so there is one fold"),
        ({"train": ["2024-02-01", "2024-02-20"], "tune": ["2024-02-10", "2024-03-01"]}, "protocol.train: 2024-02-01T00:00:00 to"),
    ],
)
def test_a_wrong_window_is_explained(section, words) -> None:
    with pytest.raises(TrainableError) as error:
        Protocol.parse(section).cut(hourly(2160), 1.0)
    assert str(error.value).startswith(words)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.contract import TrainableError
from trainables.timeline import Protocol, Window
from trainables.walk_forward import Walk, scored_on, searched_on

HOUR, DAY = np.timedelta64(1, "h"), np.timedelta64(24, "h")


def hourly(n: int, start: str = "2024-01-01") -> np.ndarray:
    return np.datetime64(start, "ns") + np.arange(n) * HOUR


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1500, 9000),
    start=st.sampled_from(["2024-01-01", "2024-01-01T07:00"]),
    windows=st.none() | st.integers(1, 12),
    train=st.sampled_from([None, "20d", "30%", "500h"]),
    test=st.sampled_from([None, "5d", "30h", "4%"]),
    pause=st.sampled_from([None, 0, 24, 100]),
    embargo=st.sampled_from([None, "0h", "6h", "3d"]),
    anchored=st.booleans(),
    holdout=st.sampled_from(["0%", "20%", "10d"]),
    gaps=st.integers(0, 2**32 - 1),
)
def test_windows_tile_without_overlap_and_end_before_the_holdout(
    n, start, windows, train, test, pause, embargo, anchored, holdout, gaps
) -> None:
    times = hourly(n, start)[np.random.default_rng(gaps).random(n) > 0.1]
    protocol = Protocol(holdout=holdout)
    hours = {"5d": 120, "30h": 30}.get(test)
    step = f"{hours + pause}h" if pause is not None and hours else None
    try:
        timeline = Walk(windows, train, test, step, embargo, anchored).cut(protocol, times, 1.0)
    except TrainableError as error:
        assert "more. Give more data" in str(error)
        return
    apart = timeline.embargo_hours * HOUR
    assert windows is None or len(timeline.folds) == windows
    previous, lengths = None, set()
    for k, fold in enumerate(timeline.folds):
        assert 0 <= fold.train.start < fold.train.stop <= fold.tune.start < fold.tune.stop <= timeline.holdout.start
        assert (
            times[fold.tune.start] - times[fold.train.stop - 1] > apart - 1e-9 * HOUR
        )  # an embargo between the end of one bar and the other
        assert not anchored or fold.train.start == 0
        if previous is not None:
            assert fold.tune.start >= previous
            assert step is not None or fold.tune.start == previous  # without a step there is no gap between test windows
        previous = fold.tune.stop
        lengths.add(fold.tune.stop - fold.tune.start)
        # The two protocols a window is made of cut exactly there, and neither sees a bar behind its window.
        search = Protocol.parse(searched_on(protocol, timeline, k)).cut(times, 1.0)
        assert search.folds[0].tune == fold.train and search.visible.stop == fold.train.stop
        assert search.holdout == timeline.holdout
        score = Protocol.parse(scored_on(protocol, timeline, k)).cut(times, 1.0)
        assert score.folds[0] == fold and score.visible.stop == fold.tune.stop


def test_without_lengths_the_folds_of_the_study_are_walked_in_whole_days() -> None:
    times = hourly(4320)
    timeline = Walk().cut(Protocol(), times, 1.0)
    assert len(timeline.folds) == 4 and timeline.embargo_hours == 24.0
    for fold in timeline.folds:
        assert all((times[row] - times[0]) % DAY == 0 * HOUR for row in (*fold.train, *fold.tune))
        assert fold.tune.stop - fold.tune.start == 21 * 24
    assert timeline.folds[-1].tune.stop == 143 * 24  # a day before the last fifth of 180 days


def test_as_many_windows_as_fit_are_made_and_the_latest_of_those_asked_for() -> None:
    times = hourly(4320)
    every = Walk(train="30d", test="10d").cut(Protocol(), times, 1.0).folds
    assert len(every) == 11
    assert Walk(windows=3, train="30d", test="10d").cut(Protocol(), times, 1.0).folds == every[-3:]
    anchored = Walk(windows=3, train="30d", test="10d", anchored=True).cut(Protocol(), times, 1.0).folds
    assert [fold.tune for fold in anchored] == [fold.tune for fold in every[-3:]] and anchored[2].train.start == 0


@pytest.mark.parametrize(
    ("walk", "words"),
    [
        ({"train": "40"}, "train: '40' is not a duration"),
        ({"windows": 0}, "windows: 0 is not allowed"),
        ({"train": "30d", "test": "10d", "step": "5d"}, "step: 5d is shorter than a test window (10 days)"),
        ({"train": "150d"}, "walk: before the holdout there are 143 days; 4 windows of 24 hours"),
        ({"train": "30d", "test": "10d", "windows": 12}, "walk: before the holdout there are 143 days; 12 windows of 10 days"),
        ({"train": "6h", "test": "10d"}, "walk: before the holdout"),
    ],
)
def test_what_cannot_be_walked_is_explained(walk, words) -> None:
    with pytest.raises(TrainableError) as error:
        Walk(**walk).cut(Protocol(), hourly(4320), 1.0)
    assert str(error.value).startswith(words)


def test_a_protocol_that_names_its_window_cannot_be_walked() -> None:
    with pytest.raises(TrainableError, match="names one window; a walk cuts its own"):
        Walk().cut(Protocol.parse({"tune": ["2024-02-01", "2024-03-01"]}), hourly(4320), 1.0)


def test_daily_bars_are_walked_too() -> None:
    times = np.datetime64("2024-01-01", "ns") + np.arange(400) * DAY
    timeline = Walk(train="100d", test="30d").cut(Protocol(embargo="2d", holdout="0%"), times, 24.0)
    assert timeline.folds[-1].tune == Window(370, 400) and timeline.folds[-1].train == Window(268, 368)

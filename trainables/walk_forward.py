"""The windows of a walk-forward: train | embargo | test, rolled on through what a search may see, up to the sealed holdout.

A search sees a train window and all that lies before it; its winner is scored on the test window that follows. Both are cuts of the
kind every trainable knows (`Protocol` with a window named): the one tunes on the train window, the other on the test window, with the
train window to fit on. So nothing after a window exists for anything that is computed for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.contract import TrainableError
from trainables.timeline import SMALLEST_TUNE_HOURS, Fold, Protocol, Timeline, Window, hours_of, is_duration

MOST_WINDOWS = 1000
_DAY = 24.0


@dataclass(frozen=True)
class Walk:
    """How a walk-forward cuts time (SPEC M 14b). Lengths are texts such as `36h`, `30d`, `2w` or `20%` of the data.

    Attributes:
        windows: How many, the latest that fit; by default all that fit where the length of a test is known, else the protocol's `folds`.
        train: Length of the (first) train window; by default the protocol's, or 40 % of what is visible.
        test: Length of a test window; by default the protocol's `tune`, or an equal share of the rest for each window.
        step: From one test window to the next; at least `test`, the default, so that no day is tested twice.
        embargo: Between train and test; the protocol's by default.
        anchored: All train windows begin at the first bar; otherwise they have one length.
    """

    windows: int | None = None
    train: str | None = None
    test: str | None = None
    step: str | None = None
    embargo: str | None = None
    anchored: bool = False

    def __post_init__(self) -> None:
        for key in ("train", "test", "step", "embargo"):
            value = getattr(self, key)
            if value is not None and not is_duration(value):
                raise TrainableError(f"{key}: {value!r} is not a duration; write it like 36h, 30d, 2w or 20%")
        n = self.windows
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_WINDOWS):
            raise TrainableError(f"windows: {n!r} is not allowed; give a whole number from 1 to {MOST_WINDOWS:,}")

    def cut(self, protocol: Protocol, times: np.ndarray, bar_hours: float) -> Timeline:
        """Cuts a time axis. Where bars are shorter than a day, what is shared out is rounded down to whole UTC days.

        Args:
            protocol: Of the study: its holdout stays sealed, and the walk ends an embargo before it.
            times: datetime64[ns] (T,), ascending row starts.
            bar_hours: Length of a bar in hours.

        Returns:
            A fold for each window, its train and test as `train` and `tune`.

        Raises:
            TrainableError: Too little data, or test windows that overlap.
        """
        if isinstance(protocol.tune, tuple) or isinstance(protocol.train, tuple):
            raise TrainableError("protocol.tune: names one window; a walk cuts its own windows, so leave it out")
        hours = (times - times[0]) / np.timedelta64(1, "ns") / 3.6e12
        total = float(hours[-1]) + bar_hours
        holdout, before = hours_of(protocol.holdout, total), hours_of(protocol.embargo, total)
        end = total - holdout - (before if holdout else 0.0)
        if bar_hours < _DAY:  # a day in two test windows would be two half days
            since_midnight = (times[0] - times[0].astype("datetime64[D]")) / np.timedelta64(1, "ns") / 3.6e12
            end = (end + since_midnight) // _DAY * _DAY - since_midnight
        gap = before if self.embargo is None else hours_of(self.embargo, total)
        asked = self.train or protocol.train
        train = _whole(hours_of(asked, total) if asked else 0.4 * end, asked, bar_hours)
        room = end - train - gap
        length = self.test or protocol.tune
        count = self.windows or (None if length else protocol.folds)
        test = _whole(hours_of(length, total) if length else max(0.0, room) / (count or 1), length, bar_hours)
        step = hours_of(self.step, total) if self.step else test
        if step < test - 1e-9:
            raise TrainableError(f"step: {self.step} is shorter than a test window ({_said(test)}); days tested twice would count twice")
        least = max(test, SMALLEST_TUNE_HOURS)
        if count is None:
            count = min(MOST_WINDOWS, max(1, 1 + int((room - least) / max(step, SMALLEST_TUNE_HOURS) + 1e-9)))
        missing = max(SMALLEST_TUNE_HOURS - train, (count - 1) * max(step, least) + least - room)
        if missing > 1e-6:
            raise TrainableError(
                f"walk: before the holdout there are {_said(end)}; {count} window{'s' if count > 1 else ''} of {_said(least)}, a step of "
                f"{_said(max(step, least))}, after {_said(train)} of training and an embargo of {_said(gap)} need {_said(missing)} more. "
                "Give more data, fewer or shorter windows, or a shorter train window (at least a day each)."
            )
        row = lambda h: int(np.searchsorted(hours, h - 1e-9))  # noqa: E731
        folds = []
        for k in range(count):
            start = end - test - (count - 1 - k) * step
            first = 0.0 if self.anchored else start - gap - train
            fold = Fold(Window(row(first), row(start - gap)), Window(row(start), row(start + test)))
            if fold.train.stop <= fold.train.start or fold.tune.stop <= fold.tune.start:
                raise TrainableError(
                    f"walk: window {k + 1} of {count} has no bars to {'test' if fold.train.stop else 'train'} on; give longer ones"
                )
            folds.append(fold)
        n = len(times)
        return Timeline(times, bar_hours, tuple(folds), Window(row(total - holdout), n) if holdout else Window(n, n), gap)


def searched_on(protocol: Protocol, timeline: Timeline, k: int) -> dict[str, Any]:
    """Returns the `protocol:` section of window k's search: its train window is what is tuned on."""
    return {"tune": _span(timeline, timeline.folds[k].train), "embargo": protocol.embargo, "holdout": protocol.holdout}


def scored_on(protocol: Protocol, timeline: Timeline, k: int) -> dict[str, Any]:
    """Returns the `protocol:` section of window k's test: fitted on its train window, scored on its test window."""
    fold = timeline.folds[k]
    section = searched_on(protocol, timeline, k)
    return {**section, "train": _span(timeline, fold.train), "tune": _span(timeline, fold.tune)}


def _span(timeline: Timeline, window: Window) -> list[str]:
    """Returns a window as times; the end is that of its last bar, so that it stays where the next bar is missing."""
    last = timeline.times[window.stop - 1] + np.timedelta64(round(timeline.bar_hours * 3600), "s")
    return [str(stamp.astype("datetime64[s]")) for stamp in (timeline.times[window.start], last)]


def _whole(hours: float, asked: str | None, bar_hours: float) -> float:
    """Returns whole days of a share, or of what nobody gave the length of."""
    shared = asked is None or asked.strip().endswith("%")
    return hours // _DAY * _DAY if shared and bar_hours < _DAY and hours >= _DAY else hours


def _said(hours: float) -> str:
    return f"{hours / 24:.3g} days" if hours >= 48 else f"{hours:.3g} hours"

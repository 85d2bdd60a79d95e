"""Time, cut once for a whole study: folds of train | embargo | tune, and a holdout nobody looks at.

A configuration is scored on the tune windows of its folds. Whatever a trainable fits, it fits on a fold's train window, which
ends an embargo before the tune window begins. The holdout is the end of the data; it is cut off before anything is computed
and stays sealed until `alphasweep promote` opens it (DESIGN §3.7).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from trainables.contract import TrainableError, nearest

KINDS: Final = ("rolling", "anchored")
SMALLEST_TUNE_HOURS: Final = 24.0
SMALLEST_HOLDOUT_HOURS: Final = 48.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(h|d|w|%)")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?")
_HOURS: Final = {"h": 1.0, "d": 24.0, "w": 168.0}
_KEYS: Final = ("folds", "kind", "train", "tune", "embargo", "holdout")


Span = tuple[str, str]  # [first time, first time no longer in it), UTC


class Window(NamedTuple):
    """Rows [start, stop) of the time axis."""

    start: int
    stop: int


@dataclass(frozen=True)
class Fold:
    """One fold: fit on `train`, score on `tune`; between them lies the embargo."""

    train: Window
    tune: Window


@dataclass(frozen=True)
class Timeline:
    """The cuts of one time axis.

    Attributes:
        times: datetime64[ns] (T,) row starts.
        bar_hours: Length of a bar.
        folds: In time order; tune windows do not overlap.
        holdout: Rows of the holdout; empty if the study has none.
        embargo_hours: Length of an embargo.
    """

    times: np.ndarray
    bar_hours: float
    folds: tuple[Fold, ...]
    holdout: Window
    embargo_hours: float

    @property
    def visible(self) -> Window:
        """Rows a search may see: all before the last embargo and the holdout."""
        return Window(0, self.folds[-1].tune.stop)

    def describe(self) -> dict[str, Any]:
        """Returns the cuts as text, for the protocol of an identity: the same cuts have the same description."""
        stamp = lambda row: str(self.times[row].astype("datetime64[s]")) if row < len(self.times) else "end"  # noqa: E731
        return {
            "folds": [[stamp(row) for row in (*fold.train, *fold.tune)] for fold in self.folds],
            "holdout": [stamp(row) for row in self.holdout] if self.holdout.stop > self.holdout.start else None,
        }


@dataclass(frozen=True)
class Protocol:
    """The `protocol:` section of a study file. Durations are texts such as `36h`, `30d`, `2w` or `20%` of the data.

    Attributes:
        folds: Number of folds.
        kind: `rolling` (train windows of one length) or `anchored` (all start at the first bar).
        train: Length of the (first) train window; 40 % of the visible time by default.
        tune: Length of a tune window; what remains, shared by the folds, by default. Or the window itself, as (first time, first time no
            longer in it), UTC: then there is this fold only, `train` may be such a window too, and by default is all that lies an
            embargo before.
        embargo: Between train and tune, and before the holdout; one day by default.
        holdout: Length of the sealed end; 20 % by default, `0%` for none.
    """

    folds: int = 4
    kind: str = "rolling"
    train: str | Span | None = None
    tune: str | Span | None = None
    embargo: str = "24h"
    holdout: str = "20%"

    @classmethod
    def parse(cls, section: Mapping[str, Any]) -> Protocol:
        """Validates the section.

        Raises:
            TrainableError: Names the key, what is allowed and the nearest spelling.
        """
        for key in section:
            if key not in _KEYS:
                raise TrainableError(f"protocol.{key}: no such key; {nearest(key, _KEYS) or 'known: ' + ', '.join(_KEYS)}")
        folds, kind = section.get("folds", 4), section.get("kind", "rolling")
        if isinstance(folds, bool) or not isinstance(folds, int) or not 1 <= folds <= 100:
            raise TrainableError(f"protocol.folds: {folds!r} is not allowed; give a whole number from 1 to 100")
        if kind not in KINDS:
            raise TrainableError(f"protocol.kind: {kind!r} is not allowed; give {' or '.join(KINDS)}")
        lengths = {key: section[key] for key in ("train", "tune", "embargo", "holdout") if section.get(key) is not None}
        for key, value in lengths.items():
            if key in ("train", "tune") and isinstance(value, (list, tuple)):
                lengths[key] = _span(value, f"protocol.{key}")
            elif not is_duration(value):
                raise TrainableError(f"protocol.{key}: {value!r} is not a duration; write it like 36h, 30d, 2w or 20%")
        if isinstance(lengths.get("tune"), tuple):
            for key in {"folds", "kind"} & set(section):
                raise TrainableError(f"protocol.{key}: tune names its window, so there is one fold; leave {key} out")
        elif isinstance(lengths.get("train"), tuple):
            raise TrainableError("protocol.train: names its window, so tune has to; write it like [2024-03-01, 2024-04-01]")
        return cls(folds, kind, **lengths)

    def cut(self, times: np.ndarray, bar_hours: float) -> Timeline:
        """Cuts a time axis.

        Args:
            times: datetime64[ns] (T,), ascending row starts.
            bar_hours: Length of a bar in hours.

        Raises:
            TrainableError: Too little data; says how much is missing.
        """
        hours = (times - times[0]) / np.timedelta64(1, "ns") / 3.6e12
        total = float(hours[-1]) + bar_hours
        holdout, embargo = hours_of(self.holdout, total), hours_of(self.embargo, total)
        visible = total - holdout - (embargo if holdout else 0.0)
        if isinstance(self.train, tuple) or isinstance(self.tune, tuple):
            return self._named(times, bar_hours, hours, holdout, embargo)
        train = hours_of(self.train, total) if self.train else 0.4 * visible
        room = visible - train - embargo
        tune = hours_of(self.tune, total) if self.tune else room / self.folds
        missing = max(
            self.folds * max(tune, SMALLEST_TUNE_HOURS) - room,
            SMALLEST_HOLDOUT_HOURS - holdout if holdout else 0.0,
        )
        if missing > 1e-6:
            raise TrainableError(
                f"protocol: the data cover {_days(total)}; {self.folds} folds of {_days(max(tune, SMALLEST_TUNE_HOURS))} after "
                f"{_days(train)} of training, embargoes of {_days(embargo)} and a holdout of {_days(holdout)} need {_days(missing)} more. "
                "Give more data, fewer or shorter folds, or a shorter holdout."
            )
        begin = visible - self.folds * tune  # tune windows end where the last embargo begins
        row = lambda h: int(np.searchsorted(hours, h - 1e-9))  # noqa: E731
        folds = []
        for k in range(self.folds):
            start = begin + k * tune
            first = 0.0 if self.kind == "anchored" else max(0.0, start - embargo - train)
            folds.append(Fold(Window(row(first), row(start - embargo)), Window(row(start), row(start + tune))))
        return Timeline(times, bar_hours, tuple(folds), _sealed(hours, total, holdout), embargo)

    def _named(self, times: np.ndarray, bar_hours: float, hours: np.ndarray, holdout: float, embargo: float) -> Timeline:
        """Cuts at times that are named: one fold, which ends before the embargo and the holdout like any other."""
        assert isinstance(self.tune, tuple)
        total = float(hours[-1]) + bar_hours
        first, last = (_since(stamp, times[0]) for stamp in self.tune)
        where = f"protocol.tune: {' to '.join(self.tune)}"
        visible = total - holdout - (embargo if holdout else 0.0)
        if last > visible + 1e-9:
            sealed = f"; the holdout and the embargo before it take the last {_days(total - visible)}" if holdout else ""
            raise TrainableError(f"{where} ends {_days(last - visible)} after what a search may see{sealed}")
        row = lambda h: int(np.searchsorted(hours, h - 1e-9))  # noqa: E731
        tune = Window(row(first), row(last))
        if last - first < SMALLEST_TUNE_HOURS or tune.stop <= tune.start:
            raise TrainableError(f"{where} is too short, or has no data; give at least {_days(SMALLEST_TUNE_HOURS)} with bars in them")
        if isinstance(self.train, tuple):
            begin, end = (_since(stamp, times[0]) for stamp in self.train)
            if end > first + 1e-9 or end <= begin:
                raise TrainableError(f"protocol.train: {' to '.join(self.train)} has to end after it begins, and before tune begins")
        else:
            end = first - embargo
            begin = 0.0 if self.train is None or self.kind == "anchored" else max(0.0, end - hours_of(self.train, total))
        fold = Fold(Window(row(begin), row(max(begin, end))), tune)
        return Timeline(times, bar_hours, (fold,), _sealed(hours, total, holdout), embargo)


def cut(protocol: Protocol | None, times: np.ndarray, bar_hours: float) -> Timeline:
    """Cuts a time axis; without a protocol all of it is one tune window, with nothing to train on and no holdout."""
    if protocol is not None:
        return protocol.cut(times, bar_hours)
    n = len(times)
    return Timeline(times, bar_hours, (Fold(Window(0, 0), Window(0, n)),), Window(n, n), 0.0)


def is_duration(value: object) -> bool:
    """Returns whether a value is a duration such as `36h`, `30d`, `2w` or `20%`."""
    return isinstance(value, str) and _DURATION.fullmatch(value.strip()) is not None


def hours_of(duration: str, total: float) -> float:
    """Returns the hours of a duration; `total` is what shares are of."""
    found = _DURATION.fullmatch(duration.strip())
    assert found is not None
    number, unit = float(found[1]), found[2]
    return number / 100.0 * total if unit == "%" else number * _HOURS[unit]


def _sealed(hours: np.ndarray, total: float, holdout: float) -> Window:
    n = len(hours)
    return Window(int(np.searchsorted(hours, total - holdout - 1e-9)), n) if holdout else Window(n, n)


def _span(value: Any, where: str) -> Span:
    """Returns a window given by its times, or says what it has to be."""
    if len(value) != 2 or not all(isinstance(part, str) and _STAMP.fullmatch(part) for part in value):
        raise TrainableError(
            f"{where}: {value!r} is not a window; write two times (UTC) like [2024-03-01, 2024-04-01 12:00], or a duration"
        )
    try:
        begin, end = (np.datetime64(part.replace(" ", "T"), "s") for part in value)
    except ValueError as error:
        raise TrainableError(f"{where}: {value!r} is not a window: {error}") from None
    if end <= begin:
        raise TrainableError(f"{where}: {value!r} ends before it begins")
    return str(begin), str(end)


def _since(stamp: str, first: Any) -> float:
    """Returns the hours from the first bar to a time."""
    return float((np.datetime64(stamp, "ns") - first) / np.timedelta64(1, "ns") / 3.6e12)


def _days(hours: float) -> str:
    return f"{hours / 24:.3g} days" if hours >= 48 else f"{math.ceil(hours)} hours"


__all__ = ["Fold", "Protocol", "Span", "Timeline", "Window", "cut", "hours_of", "is_duration"]

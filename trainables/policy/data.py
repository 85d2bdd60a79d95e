"""What a policy trains on and decides from: every symbol's own bars end to end, normalised features beside them, one fold at a time.

Windows are of a symbol's own bars, so a stock's 48 are seven sessions. A window is only used where all its rows are valid; nothing is
padded or filled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from results.metrics import periods_per_year
from trainables.contract import TrainableError
from trainables.features import FeatureFrame, Normaliser, features
from trainables.forecast import Forecasts, issue
from trainables.forecast.identity import as_prepared
from trainables.market import Panel
from trainables.policy.options import Chosen, forecaster_of
from trainables.timeline import Fold, Window

KEPT: Final = 4  # feature frames, and normalised folds of one of them, that a worker keeps
SESSIONS_A_YEAR: Final = 252.0
_STRIDE: Final = 1 << 40  # more rows than any panel has


@dataclass(frozen=True, eq=False)
class PolicyInputs:
    """What workers get.

    Attributes:
        panel: Every bar that may be seen.
        folds: Train and tune windows.
        columns: Where each row's equity goes among its tune window's days.
        settings: What is not swept.
        identity: Of the forecasters, see `forecast.identity`.
    """

    panel: Panel
    folds: tuple[Fold, ...]
    columns: tuple[np.ndarray, ...]
    settings: Mapping[str, Any]
    identity: Mapping[str, Any]
    # Not passed on by `replace`: they are of this panel.
    _frames: dict[tuple[Any, ...], tuple[FeatureFrame, Forecasts]] = field(default_factory=dict, init=False)
    _series: dict[tuple[Any, ...], Series] = field(default_factory=dict, init=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what can be read again."""
        return {**self.__dict__, "_frames": {}, "_series": {}}

    @property
    def window(self) -> Window:
        """Rows that are trained on or scored in some fold; those before are history."""
        return Window(min(fold.train.start for fold in self.folds), max(fold.tune.stop for fold in self.folds))

    def frame(self, chosen: Chosen) -> tuple[FeatureFrame, Forecasts]:
        """Returns features and forecasts of all rows of `window`; on the panel's axes, missing elsewhere."""
        key = _key(chosen)
        if key not in self._frames:
            _make_room(self._frames)
            forecaster = as_prepared(forecaster_of(chosen.config, self.settings), self.identity)
            forecasts = issue(self.panel, forecaster, self.window)
            frame = features(self.panel, chosen.features, forecasts if "forecast" in chosen.features.blocks else None)
            self._frames[key] = (frame, forecasts)
        return self._frames[key]

    def series(self, chosen: Chosen, k: int) -> Series:
        """Returns fold k as a policy of these features sees it."""
        key = (*_key(chosen), chosen.config["decode_horizon"], k)
        if key not in self._series:
            _make_room(self._series, KEPT * len(self.folds))
            self._series[key] = make_series(self.panel, *self.frame(chosen), self.folds[k], chosen.config["decode_horizon"])
        return self._series[key]


@dataclass(frozen=True, eq=False)
class Series:
    """Own bars of all symbols, one symbol after the other: N of them.

    Attributes:
        features: float32 (N, F), normalised; NaN where a row is not valid.
        market: float32 (5, N): close, high, low, and the forecast low and high that bound the limits of the next bar.
        hours: float32 (N,) since the symbol's bar before, 0 for its first.
        symbol: int64 (N,) panel columns, ascending.
        rows: int64 (N,) panel rows, ascending within a symbol.
        depth: int64 (N,), valid bars in a row up to this one, its own included.
        train_depth: int64 (N,), bars in a row up to this one that are valid and in the train window.
        fee: float64 (A,) maker fee as a fraction.
        periods: float64 (A,) own bars a year.
        can_long, can_short: bool (A,).
        normaliser: Fitted on the train window.
        fold: Which rows are for what.
        train_end: Start of the last bar of the train window: what was trained has seen bars up to its end.
        digest: Names features, forecasts, bars and the fold.
    """

    features: np.ndarray
    market: np.ndarray
    hours: np.ndarray
    symbol: np.ndarray
    rows: np.ndarray
    depth: np.ndarray
    train_depth: np.ndarray
    fee: np.ndarray
    periods: np.ndarray
    can_long: np.ndarray
    can_short: np.ndarray
    normaliser: Normaliser
    fold: Fold
    train_end: np.datetime64
    digest: str

    def train_ends(self, length: int, embargo: int) -> np.ndarray:
        """Returns where a window to train on may end, int64 (n,): valid bars of the train window only, `embargo` or more before tune."""
        ends = np.flatnonzero(self.train_depth >= length)
        first = np.searchsorted(self.symbol * _STRIDE + self.rows, self.symbol[ends] * _STRIDE + self.fold.tune.start)
        return ends[ends + embargo < first]

    def tune_places(self) -> np.ndarray:
        """Returns the bars of the tune window, int64 (n,)."""
        return np.flatnonzero((self.rows >= self.fold.tune.start) & (self.rows < self.fold.tune.stop))


def make_series(
    panel: Panel, frame: FeatureFrame, forecasts: Forecasts, fold: Fold, horizon: int, normaliser: Normaliser | None = None
) -> Series:
    """Lays a fold out.

    Args:
        panel: Bars.
        frame: Features on its axes.
        forecasts: On its axes.
        fold: What is for what; an empty train window where a trained policy only decides.
        horizon: Whose forecast low and high bound the limits.
        normaliser: Of a trained policy; by default it is fitted on the train window.

    Raises:
        FeatureError: A symbol has no valid rows to fit the normaliser on, or is not known to the one given.
    """
    normaliser = normaliser or Normaliser.fit(frame, fold.train)
    values = normaliser.apply(frame)
    low, high = forecasts.p50("low", horizon), forecasts.p50("high", horizon)
    own = [np.flatnonzero(panel.exists[:, a]) for a in range(len(panel.symbols))]
    symbol = np.repeat(np.arange(len(own)), [len(rows) for rows in own])
    rows = np.concatenate(own)
    valid = frame.valid[rows, symbol]
    train = (rows >= fold.train.start) & (rows < fold.train.stop)
    hours = np.concatenate([np.diff(panel.times[r], prepend=panel.times[r[:1]]) / np.timedelta64(1, "h") for r in own])
    made = hashlib.blake2b(digest_size=16)
    made.update(f"{panel.fingerprint} {frame.digest} {forecasts.source} {horizon} {fold}".encode())
    for array in (low, high):
        made.update(np.ascontiguousarray(array).tobytes())
    return Series(
        features=values[symbol, rows],
        market=np.stack([x[rows, symbol] for x in (panel.close, panel.high, panel.low, low, high)]).astype(np.float32),
        hours=hours.astype(np.float32),
        symbol=symbol,
        rows=rows,
        depth=_runs(valid, symbol),
        train_depth=_runs(valid & train, symbol),
        fee=np.array([asset.maker_fee_bps / 1e4 for asset in panel.assets]),
        periods=np.array([_periods(panel, a, own[a][own[a] < fold.train.stop]) for a in range(len(own))]),
        can_long=np.array([asset.can_long for asset in panel.assets]),
        can_short=np.array([asset.can_short for asset in panel.assets]),
        normaliser=normaliser,
        fold=fold,
        train_end=panel.times[max(fold.train.stop, 1) - 1],
        digest=made.hexdigest(),
    )


def draw(ends: np.ndarray, key: Sequence[int], batch: int) -> np.ndarray:
    """Draws where the windows of a step end, int64 (batch,), uniformly from all symbols' together; follows from the key alone."""
    return ends[np.random.default_rng(list(key)).integers(len(ends), size=batch)]


def ends_or_raise(series: Series, chosen: Chosen, k: int) -> np.ndarray:
    """Returns `Series.train_ends`, or says what to change where there is none."""
    length = int(chosen.config["seq_len"])
    ends = series.train_ends(length, chosen.embargo)
    if not len(ends):
        longest = int(series.train_depth.max(initial=0))
        raise TrainableError(
            f"policy: fold {k + 1} has no window of {length} bars to train on: the most valid bars in a row are {longest}, and the last "
            f"{chosen.embargo} before the tune window are kept out (seq_len and the furthest horizon). Give more data, a longer "
            "protocol.train, or a smaller seq_len"
        )
    return ends


def _key(chosen: Chosen) -> tuple[Any, ...]:
    return (chosen.features, chosen.config["forecaster"], chosen.config["context"] if chosen.config["forecaster"] != "naive" else 0)


def _make_room(memo: dict[Any, Any], most: int = KEPT) -> None:
    while len(memo) >= most:
        del memo[next(iter(memo))]


def _runs(good: np.ndarray, symbol: np.ndarray) -> np.ndarray:
    """Counts how many in a row are good up to each, within a symbol."""
    at = np.arange(len(good))
    start = np.concatenate([[True], symbol[1:] != symbol[:-1]])
    bad = np.maximum.accumulate(np.where(good, np.where(start, at - 1, -1), at))
    return np.where(good, at - bad, 0)


def _periods(panel: Panel, a: int, rows: np.ndarray) -> float:
    """Own bars a year: of a stock, its usual bars a session and 252 sessions."""
    if panel.assets[a].asset_class != "stock":
        return periods_per_year(panel.bar_seconds)
    _, counts = np.unique(panel.times[rows].astype("datetime64[D]"), return_counts=True)
    return SESSIONS_A_YEAR * float(np.median(counts)) if len(counts) else periods_per_year(panel.bar_seconds)

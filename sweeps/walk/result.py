"""What a walk-forward shows: its windows, the stitched daily returns beside what needs no re-optimising, and whether that paid."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results.metrics import DAYS_PER_YEAR, Metric, max_drawdown, sharpe, sortino, total_return
from results.validity import FLAT, Assessment, assess, confidence_intervals, optimal_block
from sweeps.study import Study
from sweeps.walk.record import OutOfSample
from trainables.timeline import Timeline

WALKED: Final = "walk-forward"
FIRST: Final = "first winner"
DEFAULT: Final = "defaults"
MODAL: Final = "usual winner"
LEAST_DAYS: Final = 30
"""Below it no statistic of the stitched days is given, only what they earned."""
_NAN: Final = float("nan")


@dataclass(frozen=True)
class Windowed:
    """One window.

    Attributes:
        number: 0 for the first.
        train: First and last day searched on.
        test: First and last day tested on.
        trials: Configurations of its search.
        config: The winner's parameters, as the search gave them; empty where there is none.
        inside: The winner's objective in the train window; NaN where there is none.
        tested: What the test window gave.
    """

    number: int
    train: tuple[str, str]
    test: tuple[str, str]
    trials: int
    config: Mapping[str, Any]
    inside: float
    tested: OutOfSample

    @property
    def metrics(self) -> Mapping[str, float]:
        """The winner's metrics in the test window; none where there is no winner."""
        return self.tested.of(self.tested.config)[0]

    @property
    def returns(self) -> np.ndarray:
        """The winner's daily returns in the test window; zeros where there is no winner."""
        return self.tested.of(self.tested.config)[1]


@dataclass(frozen=True)
class Line:
    """One way to have traded the test windows.

    Attributes:
        name: Such as "walk-forward" or "buy and hold".
        gain: Compounded return of the stitched days.
        sharpe: Annualised, of daily returns, with the limits of its 95 % block-bootstrap interval; NaN under 30 days.
        low: …
        high: …
        sortino: Annualised; NaN under 30 days, or under 30 days with a loss.
        drawdown: Deepest fall, ≤ 0.
        ahead: By how much the walk's mean daily return exceeds this one's, with the limits of its interval; NaN of the walk itself.
        ahead_low: …
        ahead_high: …
    """

    name: str
    gain: float
    sharpe: float = _NAN
    low: float = _NAN
    high: float = _NAN
    sortino: float = _NAN
    drawdown: float = _NAN
    ahead: float = _NAN
    ahead_low: float = _NAN
    ahead_high: float = _NAN


@dataclass(frozen=True)
class Stability:
    """How much one swept parameter of the winners moves.

    Attributes:
        name: The parameter.
        values: Different values chosen.
        usual: The most frequent one.
        share: Of the windows that chose it.
        low: Smallest value chosen; None of words.
        high: Largest one.
    """

    name: str
    values: int
    usual: Any
    share: float
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class WalkResult:
    """A walk-forward, finished or stopped.

    Attributes:
        study: The study.
        folder: Of the walk; each window is a study in it.
        objective: What chose the winners.
        swept: Names of the swept parameters.
        timeline: All windows asked for, as folds.
        windows: Those tested.
        default: The configuration of a study that sweeps nothing; None where the settings allow none.
        walks: Walks over these data in the folder, this one included.
        stopped: Whether it was asked to stop before the end.
    """

    study: Study
    folder: Path
    objective: Metric
    swept: tuple[str, ...]
    timeline: Timeline
    windows: tuple[Windowed, ...]
    default: Mapping[str, Any] | None
    walks: int = 1
    stopped: bool = False

    def efficiency(self, window: Windowed) -> float:
        """Returns the objective out of sample over that in sample; NaN where the latter is not positive, or less of it is better.

        A total return is first brought to the mean growth of a day: the windows differ in length.
        """
        return self._ratio(self._rate(window.inside, window.train), self._rate(self.outside(window), window.test))

    def outside(self, window: Windowed) -> float:
        """Returns the winner's objective in the test window; NaN where it is n/a."""
        return float(window.metrics.get(self.objective.name, _NAN))

    @property
    def overall(self) -> float:
        """The mean objective out of sample over the mean in sample, of the windows that have both; NaN as for one window."""
        both = self._both
        return self._ratio(*both.mean(axis=0)) if len(both) else _NAN

    @property
    def compared(self) -> int:
        """How many windows have an objective in and out of sample."""
        return len(self._both)

    @cached_property
    def _both(self) -> NDArray[np.float64]:
        pairs = [(self._rate(w.inside, w.train), self._rate(self.outside(w), w.test)) for w in self.windows]
        return np.array([pair for pair in pairs if all(map(math.isfinite, pair))]).reshape(-1, 2)

    def _rate(self, value: float, days: tuple[str, str]) -> float:
        if self.objective.name != "total_return" or not value > -1.0:
            return value
        n = int((np.datetime64(days[1]) - np.datetime64(days[0])).astype(int)) + 1
        return float(np.expm1(np.log1p(value) / n))

    def _ratio(self, inside: float, outside: float) -> float:
        return outside / inside if inside > 0.0 and self.objective.direction == "max" else _NAN

    def table(self) -> pd.DataFrame:
        """Returns a row for each window: dates, the winner's parameters, the objective in and out of sample, return, trades."""
        rows = []
        for w in self.windows:
            dates = {"train_from": w.train[0], "train_to": w.train[1], "test_from": w.test[0], "test_to": w.test[1]}
            chosen = {name: w.config.get(name) for name in self.swept}
            name = self.objective.name
            scores = {f"{name}_in": w.inside, f"{name}_out": self.outside(w), "efficiency": self.efficiency(w)}
            told = {"return_out": total_return(w.returns), "trades_out": w.metrics.get("trades", _NAN), "trials": w.trials}
            rows.append({"window": w.number + 1, **dates, "trial": w.tested.trial, **chosen, **scores, **told})
        return pd.DataFrame(rows)

    @cached_property
    def _daily(self) -> pd.DataFrame:
        parts, first = [], None
        modal = most_frequent(self.windows)
        for w in self.windows:
            first = w.tested.config if first is None else first
            ways = {WALKED: w.tested.config, FIRST: first, DEFAULT: self.default, MODAL: modal}
            columns = {name: w.tested.of(config)[1] for name, config in ways.items() if _was_tested(w.tested, config, name)}
            parts.append(pd.DataFrame({**columns, **w.tested.benchmarks}, index=pd.DatetimeIndex(w.tested.days, name="day")))
        joined = pd.concat(parts) if parts else pd.DataFrame()
        joined = joined.dropna(axis="columns")
        # A window may begin within the day on which another ends.
        return (1.0 + joined).groupby(level=0).prod() - 1.0 if len(joined) else joined

    def daily(self) -> pd.DataFrame:
        """Returns the stitched out-of-sample days: daily returns of the walk and of what it is compared with, by day."""
        return self._daily.copy()

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """The walk, and what it is compared with, over the same days."""
        daily = self._daily
        n = len(daily)
        gains = {name: total_return(daily[name]) for name in daily}
        if n < LEAST_DAYS:
            return tuple(Line(str(name), gain) for name, gain in gains.items())
        walked = daily[WALKED].to_numpy(float)
        matrix = daily.to_numpy(float)
        block = optimal_block(walked)
        own = confidence_intervals(matrix, periods_per_year=DAYS_PER_YEAR, block=block)["sharpe"]
        apart = confidence_intervals(walked[:, None] - matrix, periods_per_year=DAYS_PER_YEAR, block=block)["mean_return"]
        lines = []
        for j, name in enumerate(daily):
            values = matrix[:, j]
            ahead = (_NAN,) * 3 if name == WALKED else (float(apart.value[j]), float(apart.low[j]), float(apart.high[j]))
            lines.append(
                Line(
                    str(name),
                    gains[name],
                    sharpe(values, DAYS_PER_YEAR, n),
                    float(own.low[j]),
                    float(own.high[j]),
                    sortino(values, DAYS_PER_YEAR, n),
                    max_drawdown(np.concatenate(([1.0], np.cumprod(1.0 + values)))),
                    *ahead,
                )
            )
        return tuple(lines)

    @cached_property
    def assessment(self) -> Assessment | None:
        """The stitched days judged like a holdout's that was opened once for each walk over these data; None without days."""
        daily = self._daily
        if not len(daily):
            return None
        trades = [w.metrics.get("trades", 0.0 if w.tested.config is None else _NAN) for w in self.windows]
        names = [name for w in self.windows[:1] for name in w.tested.benchmarks if name != FLAT and name in daily]
        return assess(
            daily[WALKED].to_numpy(float)[:, None],
            periods_per_year=DAYS_PER_YEAR,
            trades=float(np.sum(trades)),
            looks=self.walks,
            benchmarks={name: daily[name].to_numpy(float) for name in names},
        )

    @property
    def changes(self) -> tuple[int, int]:
        """How often the winner was another one than in the window before, and how often it could have been."""
        keys = [_key(w.tested.config) for w in self.windows]
        return sum(a != b for a, b in pairwise(keys)), max(0, len(keys) - 1)

    def stability(self) -> tuple[Stability, ...]:
        """Returns how much each swept parameter of the winners moves."""
        found = []
        for name in self.swept:
            values = [w.config[name] for w in self.windows if name in w.config]
            if not values:
                continue
            counts = Counter(map(json.dumps, values))
            usual, times = counts.most_common(1)[0]
            numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
            low, high = (float(min(values)), float(max(values))) if numbers else (None, None)
            found.append(Stability(name, len(counts), json.loads(usual), times / len(values), low, high))
        return tuple(found)

    def paid(self) -> tuple[str, str]:
        """Says whether re-optimising paid: a code ("paid", "not shown", "cost" or "n/a"), and a sentence."""
        days, (changes, chances) = len(self._daily), self.changes
        if days < LEAST_DAYS:
            return "n/a", f"n/a: {days} test days; at least {LEAST_DAYS} are needed to say whether re-optimising paid"
        if not chances:
            return "n/a", "n/a: one window, so nothing was re-optimised"
        if not changes:
            return "n/a", "n/a: every window chose the same winner, so there was nothing to re-optimise"
        kept = next(line for line in self.lines if line.name == FIRST)
        figures = (
            f"{kept.ahead:+.3%} a day against keeping the first winner (95 % interval {kept.ahead_low:+.3%} to {kept.ahead_high:+.3%})"
        )
        own = next(line for line in self.lines if line.name == WALKED)
        beyond = "its own returns are above zero" if own.low > 0.0 else "its own returns are below zero" if own.high < 0.0 else ""
        beyond = beyond or "its own returns cannot be told from zero"
        interval = f"{beyond}: Sharpe {own.low:.2f} to {own.high:.2f}"
        if kept.ahead_low > 0.0:
            code, words = ("paid", "re-optimising paid") if own.low > 0.0 else ("not shown", "re-optimising beat keeping the first winner")
        elif kept.ahead_high < 0.0:
            code, words = "cost", "re-optimising cost"
        else:
            code, words = "not shown", "re-optimising is not shown to have paid"
        return code, f"{words}: {figures}; {interval}"


def most_frequent(windows: Sequence[Windowed]) -> Mapping[str, Any] | None:
    """Returns the winner of the most windows, the earliest of several; None where no configuration has won twice.

    Known at the end only, so who trades it from the start has hindsight.
    """
    winners = [w.tested.config for w in windows if w.tested.config is not None]
    counts = Counter(map(_key, winners))
    if not counts or counts.most_common(1)[0][1] < 2:
        return None
    best = counts.most_common(1)[0][0]
    return next(config for config in winners if _key(config) == best)


def _was_tested(tested: OutOfSample, config: Mapping[str, Any] | None, name: str) -> bool:
    return name in (WALKED, FIRST) if config is None else config in tested.configs


def _key(config: Mapping[str, Any] | None) -> str:
    return json.dumps(config, sort_keys=True)

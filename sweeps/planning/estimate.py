"""What a study would take, estimated from seconds that were measured: wall time, hours of the machine, and how to say them.

Ranges hold 90 % of what resampling the measurements gives; where these come from is `recorded` and `probing`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cluster.lanes import visible_cards, visible_cores

if TYPE_CHECKING:
    from sweeps.search import Search

START_UP = (5.0, 25.0)  # seconds from the command to the first evaluation and from the last to the end: Ray and its workers
PACK_HANDOVER = (0.005, 0.05)  # seconds between two packs of a worker, and between two trials that report, measured on two busy cores
TRIAL_HANDOVER = (0.05, 0.4)
PACK_SECONDS = 1.0  # of work in a pack, at least (`sweeps.feed`)
DRAWS = 200
SCHEDULED = 2_000  # trials whose order on the lanes is simulated; more are scaled


class Span(NamedTuple):
    """A range."""

    low: float
    high: float

    def times(self, factor: float) -> Span:
        """Returns the range of a multiple."""
        return Span(self.low * factor, self.high * factor)


AS_MEASURED = Span(1.0, 1.0)
# Seconds of a suggestion, on two cores alone and with work beside.
ASKING = {
    "tpe": Span(0.004, 0.02),
    "gp": Span(0.1, 1.5),
    "cmaes": Span(0.0001, 0.002),
    "nsga2": Span(0.001, 0.02),
    "nsga3": Span(0.001, 0.02),
}


@dataclass(frozen=True, eq=False)
class Pace:
    """Seconds of work, as measured.

    Attributes:
        sizes: Configurations of each pack, or steps of each trial, float64 (K,).
        seconds: What they took, without `fixed`, float64 (K,).
        fixed: Seconds of a pack, or of a trial, that do not depend on its size.
        warm: Seconds of a worker's first pack, or trial, beyond those of its size: code is loaded and compiled.
        source: Where this is from, in words.
        loaded: What seconds may be multiplied by where all lanes are busy.
    """

    sizes: NDArray[np.float64]
    seconds: NDArray[np.float64]
    fixed: float = 0.0
    warm: float = 0.0
    source: str = ""
    loaded: Span = AS_MEASURED

    @property
    def mean(self) -> float:
        """Seconds of one configuration, or step: all seconds over all sizes."""
        return float(self.seconds.sum() / self.sizes.sum())

    def of_one(self) -> tuple[float, Span]:
        """Returns the median and the 90 % range of the seconds of one; those in a pack count as equal."""
        rates, low_mid_high = self.seconds / self.sizes, (0.05, 0.5, 0.95)
        order = np.argsort(rates)
        share = (np.cumsum(self.sizes[order]) - 0.5 * self.sizes[order]) / self.sizes.sum()
        low, mid, high = np.interp(low_mid_high, share, rates[order])
        return float(mid), Span(float(low), float(high))

    def mean_of(self, left: float) -> Span:
        """Returns a 90 % range of the mean over `left` more: a ratio estimate, packs being what was drawn (Cochran 1977, ch. 6)."""
        count, total = len(self.sizes), float(self.sizes.sum())
        rates = self.seconds / self.sizes
        if count < 2:
            return Span(0.5 * self.mean * self.loaded.low, 2.0 * self.mean * self.loaded.high)
        from scipy.special import stdtrit

        spread = math.sqrt(count / (count - 1) * float(((self.seconds - self.mean * self.sizes) ** 2).sum())) / total
        wide = float(stdtrit(count - 1, 0.95)) * spread * math.sqrt(1.0 + total / max(left, 1.0))
        low = max(self.mean - wide, float(rates.min()))
        return Span(low * self.loaded.low, (self.mean + wide) * self.loaded.high)


@dataclass(frozen=True)
class Lanes:
    """What a study runs on.

    Attributes:
        slots: Packs, or trials, at once.
        cores: CPU cores they take together.
        cards: Cards they take together.
    """

    slots: int
    cores: float
    cards: float = 0.0

    @property
    def paid(self) -> float:
        """Lanes that are paid for: cards where there are any, else CPU slots."""
        return self.cards or float(self.slots)


def time_of_packs(pace: Pace, left: int, lanes: Lanes, start: Span, batch: int = 0) -> Span:
    """Returns the wall time of configurations that are evaluated in packs: left × seconds / slots + start-up.

    Args:
        pace: Of the evaluations.
        left: How many configurations.
        lanes: What they run on.
        start: Until the first pack.
        batch: How many are known at once, of a search that learns; no pack is larger. 0 is all.
    """
    busy = min(lanes.slots, left)
    ends = []
    for each, begin, handover in zip(pace.mean_of(left), start, PACK_HANDOVER, strict=True):
        packs = max(busy, left * each / PACK_SECONDS, left * busy / batch if batch else 0)
        ends.append(begin + pace.warm + (left * each + packs * (pace.fixed + handover)) / max(busy, 1))
    return Span(*ends)


def time_of_asking(method: str, left: int) -> Span:
    """Returns the driver's time for suggestions, in which nobody evaluates; 0 of samplers that learn nothing."""
    return ASKING.get(method, Span(0.0, 0.0)).times(left)


def makespan(durations: Sequence[float], slots: int) -> float:
    """Returns when the last of several trials ends that start in their order as slots become free."""
    free = [0.0] * max(1, min(slots, len(durations)))
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def time_of_trials(pace: Pace, left: int, last_steps: Sequence[int], lanes: Lanes, start: Span, seed: int = 0) -> Span:
    """Returns the wall time of trials that take steps, if each runs to its end: the 90 % range of resampled paces in simulated order.

    Args:
        pace: Of steps.
        left: Trials.
        last_steps: Of a sample of them.
        lanes: What they run on.
        start: Seconds around the work.
        seed: Of the draws.
    """
    rng, rates, drawn = np.random.default_rng(seed), pace.seconds / pace.sizes, min(left, SCHEDULED)
    few = 0.3 if len(rates) == 1 else 0.0  # one trial says nothing of how much they differ
    ends = []
    for _ in range(DRAWS):
        seen = rng.choice(rates, len(rates)) * math.exp(few * rng.normal())
        each = rng.choice(seen, drawn) * rng.choice(np.asarray(last_steps, float), drawn) * rng.uniform(*pace.loaded)
        ends.append(makespan((each + pace.fixed + rng.uniform(*TRIAL_HANDOVER)).tolist(), lanes.slots) * left / drawn)
    low, high = np.quantile(ends, (0.05, 0.95))
    return Span(start.low + pace.warm + float(low), start.high + pace.warm + float(high))


def lanes_of(search: Search, stepping: bool, slots: int | None = None) -> Lanes:
    """Returns what a study would run on here: a CPU a pack; what `resources` asks for a trial that reports, a card each by default."""
    cpus = len(visible_cores())
    if not stepping:
        return Lanes(slots or cpus, float(slots or cpus))
    there, need = len(visible_cards()), search.study.resources
    gpu = (1.0 if there else 0.0) if need.gpu is None else need.gpu
    fit = max(1, int(cpus / need.cpu + 1e-9))
    if gpu:
        fit = max(1, min(fit, there * int(1.0 / gpu + 1e-9) if gpu < 1.0 else int(there / gpu + 1e-9)))
    taken = slots or fit
    per_card = int(1.0 / gpu + 1e-9) if 0.0 < gpu < 1.0 else 1
    return Lanes(taken, taken * need.cpu, math.ceil(taken / per_card) * max(1.0, gpu) if gpu else 0.0)


_UNITS = (
    (1e-3, 1e-6, "µs"),
    (1.0, 1e-3, "ms"),
    (180.0, 1.0, "s"),
    (5400.0, 60.0, "min"),
    (172800.0, 3600.0, "h"),
    (math.inf, 86400.0, "days"),
)


def lasting(*seconds: float) -> str:
    """Says seconds in a unit for people, to two digits: "0.65 ms", of two "12 to 15 min", of two that look the same "about 12 min"."""
    _, unit, name = next(row for row in _UNITS if max(seconds) < row[0])
    return f"{amounts(*(value / unit for value in seconds))} {name}"


def amounts(*values: float) -> str:
    """Says one number, or the range of two, to two digits."""
    texts = list(dict.fromkeys(digits(value) for value in values))
    if len(texts) == 1:
        return texts[0] if len(values) == 1 else f"about {texts[0]}"
    return " to ".join(texts)


def digits(value: float) -> str:
    """Returns a number to two significant digits, without an exponent."""
    if not value:
        return "0"
    places = 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, places):,.{max(0, min(places, 6))}f}".rstrip("0").rstrip(".") if places > 0 else f"{round(value, places):,.0f}"

"""Pre-augmentation: what a price window is turned into before Chronos-2 sees it, and back (SPEC B).

A transform is fitted on one context window and knows nothing else: `state = fit(context)`, `y = transform(window, state)`,
`raw = inverse(forecast, state)`; training, caches and live use call the same three. Covariates are made from raw prices
and never come through here.

Two things differ from the original, both because of the fit per window:

* No ε = 1e-8 is added to denominators: a coin may be quoted at 1e-5, where that is not small. A zero scale is 1, or where scales
  roll the last positive one. So every inverse is exact.
* Rows whose rolling scale would rest on fewer than `WARM_UP` values are NaN, which Chronos-2 masks. The original divides them by 1 and
  leaves price units among z-scores: in a window of 512 bars of a coin at 100,000 that one row is nearly all of the standard deviation.

Quantiles: an elementwise increasing inverse maps quantiles to quantiles exactly. The others (`cumulative`) sum steps, and the quantiles
of a sum do not follow from those of its terms. The rule here: the median path is accumulated; around it the future increments of the
raw path count as independent, so squared deviations from the median add up, each quantile's own, which keeps the sides apart. On walks
80 % intervals 24 steps ahead then hold 80 % (`rolling_norm`, whose own scale moves with the path: 73 to 78 %). To sum quantile paths is
to assume that every step errs to the same side (comonotone): they come out √24 ≈ 5 times too wide. What the rule cannot see is
dependence: too narrow where steps go on in the same direction (a walk's highs: about 15 % at 24), too wide where they turn back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainables.contract import TrainableError, nearest

Array = NDArray[np.float64]

WARM_UP = 8  # values a rolling scale needs; of fewer, a z-score's tails are too heavy to standardise by
_LOG_LIMIT = 80.0  # e^80 still is a float32
_MOST = 10_000  # bars


@dataclass(frozen=True, eq=False)
class State:
    """What a transform keeps of one context, or of a batch of them.

    Levels are prices, their logarithms where the transform works on those, and ln(1+x) of volumes.

    Attributes:
        rows: Length T of the context.
        volume: bool, broadcastable to (..., V): which rows are volumes.
        loc: float64 (..., V), subtracted from levels.
        slope: float64 (..., V), per bar.
        scale: float64 (..., V), divides.
        tail: float64 (..., V, K), last levels of the context, gaps carried forward; NaN before the first.
    """

    rows: int
    volume: NDArray[np.bool_]
    loc: Array
    slope: Array
    scale: Array
    tail: Array


@dataclass(frozen=True)
class Preaug:
    """A transform of SPEC B by name; make them with `parse`.

    Attributes:
        name: As in a study file.
        order: Lag of a difference, in bars (SPEC B: not repeated differencing).
        window: Bars (differences, in `diff_norm`) that a rolling scale is of; 0 for none.
    """

    name: str
    order: int = 1
    window: int = 0

    @property
    def affine(self) -> bool:
        """Whether price rows only are shifted and scaled: Chronos-2, which standardises each window, sees no difference from `baseline`."""
        return self.name in _AFFINE

    @property
    def causal(self) -> bool:
        """Whether a transformed value never depends on later ones in its window (no fit depends on anything after the context)."""
        return self.name not in _NOT_CAUSAL

    @property
    def cumulative(self) -> bool:
        """Whether the inverse sums forecast steps, so that quantiles follow the rule of this module and are not exact."""
        return not isinstance(self, Line)

    @property
    def label(self) -> str:
        """Name with parameters, as `parse` reads it: "rolling_norm(window=20)"."""
        return self.name + "".join(f"({key}={getattr(self, key)})" for key in _PARAMETERS.get(self.name, {}))

    def fit(self, context: ArrayLike, volume: ArrayLike = False) -> State:
        """Fits on context windows; each window and row on its own.

        Args:
            context: Raw prices or volumes (..., V, T), time last. NaN is a missing value, infinities count as missing.
            volume: bool (V,) or one for all: rows that are volumes and go through ln(1+x).

        Raises:
            TrainableError: No time axis, or fewer rows than the transform needs.
        """
        x = np.asarray(context, np.float64)
        rows = x.shape[-1] if x.ndim else 0
        if rows < self.order:
            raise TrainableError(f"preaug {self.label}: a context of {rows} bars is too short; give at least {self.order}")
        kind = np.asarray(volume, bool)
        return self._fit(self._level(x, kind), kind)

    def transform(self, x: ArrayLike, state: State) -> Array:
        """Transforms a window that starts where the context started.

        Args:
            x: Raw values (..., V, N): the context, or the context and what follows it (training targets), which is transformed by
                what the context alone tells and by the bars before each.
            state: Of that context.

        Returns:
            float64 (..., V, N), NaN where x is missing or too little comes before it.
        """
        level = self._level(np.asarray(x, np.float64), state.volume)
        return np.where(self._only_logarithm(state)[..., None], level, self._forward(level, state))

    def inverse(self, forecast: ArrayLike, state: State, median: int | None = None) -> Array:
        """Brings quantile forecasts of the steps right after the context back to raw space.

        Args:
            forecast: (..., V, Q, H) in transformed space, levels ascending along Q; sorted here first, as models let quantiles cross.
            state: Of the context.
            median: Index of the median among the Q; the middle one without.

        Returns:
            float64 (..., V, Q, H), ascending along Q; volumes not below 0.

        Raises:
            TrainableError: Without a middle quantile `median` has to be given.
        """
        y = np.asarray(forecast, np.float64)
        y = np.sort(np.where(np.isfinite(y), y, np.nan), axis=-2)
        if median is None:
            if y.shape[-2] % 2 == 0:
                raise TrainableError(f"preaug {self.label}: {y.shape[-2]} quantiles have no middle one; say which is the median")
            median = y.shape[-2] // 2
        level = np.where(self._only_logarithm(state)[..., None, None], y, self._back(y, state, median))
        volume = np.broadcast_to(state.volume[..., None, None], level.shape)
        raw = level.copy()
        if self.name in _LOGARITHMIC:
            raw = np.exp(np.clip(level, -_LOG_LIMIT, _LOG_LIMIT))
        raw[volume] = np.expm1(np.clip(level[volume], 0.0, _LOG_LIMIT))
        return np.sort(raw, axis=-2)

    def _level(self, x: Array, volume: NDArray[np.bool_]) -> Array:
        """Raw values as the levels a transform works on; NaN for what has none."""
        kind = volume[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            level = np.where(kind, np.log1p(np.maximum(x, 0.0)), np.log(x) if self.name in _LOGARITHMIC else x)
        return np.where(np.isfinite(level), level, np.nan)

    def _only_logarithm(self, state: State) -> NDArray[np.bool_]:
        """Rows that are done once they are levels: volumes, of most transforms."""
        return state.volume & (self.name not in _VOLUMES_TOO)

    def _fit(self, u: Array, volume: NDArray[np.bool_]) -> State:
        raise NotImplementedError

    def _forward(self, u: Array, state: State) -> Array:
        raise NotImplementedError

    def _back(self, y: Array, state: State, median: int) -> Array:
        raise NotImplementedError


@dataclass(frozen=True)
class Line(Preaug):
    """y = (level − loc − slope·i) / scale with i = 0 at the context's first bar: every transform that does not look back.

    `minmax_standard` needs neither minimum nor maximum: standardising after any rescaling is standardising.
    """

    def _fit(self, u: Array, volume: NDArray[np.bool_]) -> State:
        loc, slope, scale = np.zeros(u.shape[:-1]), np.zeros(u.shape[:-1]), np.ones(u.shape[:-1])
        if self.name in ("percent_change", "log_returns"):
            loc = np.take_along_axis(u, np.argmax(np.isfinite(u), axis=-1)[..., None], axis=-1)[..., 0]  # first there is
            scale = loc / 100 if self.name == "percent_change" else scale  # log_returns has log levels
        elif self.name == "detrending":
            loc, slope = _least_squares(u)
        elif self.name == "robust_scaling":
            low, loc, high = _quantiles(u, (0.25, 0.5, 0.75))
            scale = high - low
        elif self.name == "minmax_standard":
            loc, scale, _ = _moments(u)
        scale = np.where(np.abs(scale) > _ZERO * np.abs(loc), scale, 1.0)
        return State(u.shape[-1], volume, loc, slope, scale, u[..., :0])

    def _forward(self, u: Array, state: State) -> Array:
        bars = np.arange(u.shape[-1])
        return (u - state.loc[..., None] - state.slope[..., None] * bars) / state.scale[..., None]

    def _back(self, y: Array, state: State, median: int) -> Array:
        loc, slope, scale = (part[..., None, None] for part in (state.loc, state.slope, state.scale))
        return y * scale + loc + slope * (state.rows + np.arange(y.shape[-1]))


@dataclass(frozen=True)
class Difference(Preaug):
    """y = level − the level `order` bars before, 0 for the first `order`; of log levels in `log_diff`.

    `diff_norm` divides by the standard deviation of the last `window` differences: a bar of the context by the one that ends with it, as
    the original does, what follows the context by the context's last, which is what the inverse multiplies by.
    """

    def _fit(self, u: Array, volume: NDArray[np.bool_]) -> State:
        zero, scale = np.zeros(u.shape[:-1]), np.ones(u.shape[:-1])
        if self.window:
            scale = np.nan_to_num(self._scales(u, 2)[..., -1], nan=1.0)
        return State(u.shape[-1], volume, zero, zero, scale, _carried(u)[..., -self.order :])

    def _forward(self, u: Array, state: State) -> Array:
        y = np.where(np.isnan(u), np.nan, 0.0)
        y[..., self.order :] = u[..., self.order :] - u[..., : -self.order]
        if not self.window:
            return y
        inside = np.arange(u.shape[-1]) < state.rows
        return y / np.where(inside, self._scales(u, WARM_UP), state.scale[..., None])

    def _scales(self, u: Array, least: int) -> Array:
        return _scale(*_rolling(np.diff(u, axis=-1, prepend=np.nan), self.window), min(least, self.window))

    def _back(self, y: Array, state: State, median: int) -> Array:
        y = y * state.scale[..., None, None]
        middle = y[..., median : median + 1, :]
        path, square = middle.copy(), (y - middle) ** 2
        for j in range(y.shape[-1]):
            before = j - self.order
            path[..., j] += state.tail[..., j, None] if before < 0 else path[..., before]
            # Level j is level j − order, already uncertain, and an increment of its own.
            square[..., j] += 0.0 if before < 0 else square[..., before]
        return path + _signs(y.shape[-2], median) * np.sqrt(square)


@dataclass(frozen=True)
class RollingNorm(Preaug):
    """y = (level − μ)/σ with μ, σ of the `window` bars before.

    Inverse: the median path is recursive, μ and σ being those of the last `window` values of history and own predictions. That σ shrinks
    as flat predictions fill the window: right for the median (a forecast without error comes back exactly), no measure of spread. So
    deviations are multiplied by the context's last σ. They are of a level from the mean of the k = `window` bars before it, in which
    the increment i bars back weighs 1 − i/k: D_j² = Σ_i (1 − i/k)² v_{j−i} is solved for the increments' variances v, which are summed.
    """

    def _fit(self, u: Array, volume: NDArray[np.bool_]) -> State:
        zero = np.zeros(u.shape[:-1])
        scale = np.nan_to_num(_scale(*_rolling(u, self.window), 2)[..., -1], nan=1.0)
        return State(u.shape[-1], volume, zero, zero, scale, u[..., -self.window :])

    def _forward(self, u: Array, state: State) -> Array:
        before = np.concatenate([np.full((*u.shape[:-1], 1), np.nan), u[..., :-1]], axis=-1)
        mean, spread, count = _rolling(before, self.window)
        return (u - mean) / _scale(mean, spread, count, min(WARM_UP, self.window))

    def _back(self, y: Array, state: State, median: int) -> Array:
        middle = y[..., median, :]
        square = ((y - middle[..., None, :]) * state.scale[..., None, None]) ** 2
        levels, last = state.tail, state.scale
        path, variance = np.empty(middle.shape), np.zeros(y.shape)
        for j in range(y.shape[-1]):
            seen = levels[..., -self.window :]
            mean, spread, count = _moments(seen)
            last = np.where((count > 1) & (spread > _ZERO * np.abs(mean)), spread, last)
            path[..., j] = mean + last * middle[..., j]
            levels = np.concatenate([np.broadcast_to(levels, (*path.shape[:-1], levels.shape[-1])), path[..., j : j + 1]], axis=-1)
            k, m = seen.shape[-1], min(j, seen.shape[-1] - 1)
            weights = (1 - np.arange(m, 0, -1) / k) ** 2
            variance[..., j] = np.maximum(square[..., j] - (variance[..., j - m : j] * weights).sum(axis=-1), 0.0)
        return path[..., None, :] + _signs(y.shape[-2], median) * np.sqrt(np.cumsum(variance, axis=-1))


def _signs(count: int, median: int) -> Array:
    """−1 below the median, +1 above, (Q, 1)."""
    return np.sign(np.arange(count) - median)[:, None].astype(np.float64)


def _carried(u: Array) -> Array:
    """Gaps filled with the last value before them; NaN before the first."""
    at = np.maximum.accumulate(np.where(np.isfinite(u), np.arange(u.shape[-1]), 0), axis=-1)
    return np.take_along_axis(u, at, axis=-1)


def _moments(u: Array) -> tuple[Array, Array, NDArray[np.int64]]:
    """Mean (NaN of none), standard deviation (n − 1) and count of the finite values along time, each (...)."""
    have = np.isfinite(u)
    count = have.sum(axis=-1)
    mean = np.where(count > 0, np.where(have, u, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)
    square = np.where(have, (u - mean[..., None]) ** 2, 0.0).sum(axis=-1)
    return mean, np.sqrt(square / np.maximum(count - 1, 1)), count


def _least_squares(u: Array) -> tuple[Array, Array]:
    """Intercept at bar 0 and slope per bar of the line through the finite values; flat through fewer than two."""
    bars = np.where(np.isfinite(u), np.arange(u.shape[-1], dtype=np.float64), np.nan)
    (mean, _, _), (centre, spread, count) = _moments(u), _moments(bars)
    product = np.nansum((bars - centre[..., None]) * (u - mean[..., None]), axis=-1)
    slope = product / np.where(count > 1, (count - 1) * spread**2, 1.0)
    return mean - slope * centre, slope


def _quantiles(u: Array, levels: tuple[float, ...]) -> list[Array]:
    """Quantiles (linear interpolation) of the finite values along time, one (...) per level; NaN of none."""
    ordered = np.sort(u, axis=-1)  # NaN last
    place = np.maximum(np.isfinite(u).sum(axis=-1, keepdims=True) - 1, 0) * np.asarray(levels)
    low = np.floor(place).astype(np.int64)
    below, above = (np.take_along_axis(ordered, at, axis=-1) for at in (low, np.ceil(place).astype(np.int64)))
    return list(np.moveaxis(below + (place - low) * (above - below), -1, 0))


def _rolling(u: Array, window: int) -> tuple[Array, Array, NDArray[np.int64]]:
    """Mean, standard deviation (n − 1) and count of the finite values among the last `window` up to each bar, each (..., N).

    Two passes, one offset at a time: running sums would lose a small spread on a high price to rounding, and windows side by
    side would take `window` times the memory.
    """
    have = np.isfinite(u)
    filled = np.where(have, u, 0.0)
    total, count = filled.copy(), have.astype(np.int64)
    offsets = range(1, min(window, u.shape[-1]))
    for i in offsets:
        total[..., i:] += filled[..., :-i]
        count[..., i:] += have[..., :-i]
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    square = np.where(have, (filled - mean) ** 2, 0.0)
    for i in offsets:
        square[..., i:] += np.where(have[..., :-i], (filled[..., :-i] - mean[..., i:]) ** 2, 0.0)
    return mean, np.sqrt(square / np.maximum(count - 1, 1)), count


def _scale(mean: Array, spread: Array, count: NDArray[np.int64], least: int) -> Array:
    """What to divide by: the spread; where that is zero the last positive one, else 1; NaN of fewer than `least` values."""
    positive = (count > 1) & (spread > _ZERO * np.abs(mean))
    scale = _carried(np.where(positive, spread, np.nan))
    return np.where(count >= least, np.where(np.isfinite(scale), scale, 1.0), np.nan)


_ZERO = 1e-9  # of the mean: a spread below is rounding
_LOGARITHMIC = frozenset({"log_returns", "log_diff"})
_VOLUMES_TOO = frozenset({"differencing", "robust_scaling", "log_diff"})
_AFFINE = frozenset({"baseline", "percent_change", "robust_scaling", "minmax_standard"})
_NOT_CAUSAL = frozenset({"detrending", "robust_scaling", "minmax_standard"})

PREAUGS: Mapping[str, Preaug] = MappingProxyType(
    {
        "baseline": Line("baseline"),
        "percent_change": Line("percent_change"),
        "log_returns": Line("log_returns"),
        "differencing": Difference("differencing"),
        "detrending": Line("detrending"),
        "robust_scaling": Line("robust_scaling"),
        "minmax_standard": Line("minmax_standard"),
        "rolling_norm": RollingNorm("rolling_norm", window=20),
        "log_diff": Difference("log_diff"),
        "diff_norm": Difference("diff_norm", window=20),
    }
)
# Smallest value of each parameter there is.
_PARAMETERS: Mapping[str, Mapping[str, int]] = {"differencing": {"order": 1}, "rolling_norm": {"window": 2}, "diff_norm": {"window": 2}}


def parse(name: str, parameters: Mapping[str, Any] | None = None, where: str = "preaug") -> Preaug:
    """Makes a transform from a study file's words.

    Args:
        name: "rolling_norm", or with its parameters "rolling_norm(window=20)", or short "rolling_norm(20)".
        parameters: Or the parameters by name; what is not given has its default.
        where: Path of the key, for messages.

    Raises:
        TrainableError: Unknown name or parameter, or a value outside the allowed ones.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(?:\(\s*(?:(\w+)\s*=\s*)?([^=()]*?)\s*\))?\s*", name) if isinstance(name, str) else None
    if match is None or match[1] not in PREAUGS:
        hint = nearest(match[1] if match else name, PREAUGS)
        raise TrainableError(f"{where}: {name!r} is not known; {hint or 'known: ' + ', '.join(PREAUGS)}")
    found, known = PREAUGS[match[1]], _PARAMETERS.get(match[1], {})
    given = dict(parameters or {})
    if match[3]:
        given[match[2] or next(iter(known), match[3])] = int(match[3]) if re.fullmatch(r"[+-]?\d{1,9}", match[3]) else match[3]
    for key, value in given.items():
        if key not in known:
            raise TrainableError(f"{where}: {match[1]} has no parameter {key!r}; it has {', '.join(known) or 'none'}")
        number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not number or not known[key] <= value <= _MOST or int(value) != value:
            raise TrainableError(f"{where}: {key} {value!r} is not allowed; give a whole number of bars from {known[key]} to {_MOST}")
    whole: dict[str, Any] = {key: int(value) for key, value in given.items()}
    return replace(found, **whole)

"""What a policy learns to make small: negated scores of the returns its orders earn (SPEC F.5).

A score is taken of each window, and the loss is minus their mean. Names, with μ the mean return of a bar, P the bars of a year, λ =
`return_weight`, D the maximum drawdown of the summed returns:

| name | score of a window |
|---|---|
| `sortino` | μ/√(mean min(R, 0)² + 1e-8)·√P + λ·μP |
| `sharpe` | μ/√(var R + 1e-8)·√P + λ·μP, variance with n − 1 |
| `calmar` | μP/(D + 1e-3) + λ·μP: a window that never fell is not infinitely good |
| `sortino_drawdown` | `sortino` − `drawdown_weight`·D |
| `return` | μP |
| `log_wealth` | mean ln(1 + R)·P; below 1 + R = 0.01 the logarithm goes on along its tangent, so that ruin has a slope |

Every one of them can be taken over several trailing fractions of the window (`fractions`, joined by `reduce`), and be charged
`smoothness`·mean|ΔR|. A missing bar has no say: means are over the bars that are there, and P must count bars of the same kind
(8760 for coins by the hour, about 1764 for a stock's own hours). Then a stock's score equals the one over calendar hours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from trainables.contract import TrainableError, nearest

EPSILON = 1e-8  # SPEC F.5; of the order of a bar's variance, so a calm window is not rewarded without bound
_LEAST_DRAWDOWN = 1e-3
_LEAST_WEALTH = 0.01
REDUCTIONS = ("mean", "min", "softmin")


@dataclass(frozen=True)
class LossSpec:
    """Which loss, with its weights.

    Attributes:
        name: One of `LOSSES`.
        return_weight: λ, of the annual return in `sortino`, `sharpe`, `calmar` and `sortino_drawdown`; the others leave it alone.
        drawdown_weight: Of the maximum drawdown in `sortino_drawdown`.
        fractions: Trailing shares of the window to score, for example (0.25, 0.5, 0.75, 1).
        reduce: How the fractions' scores become one: "mean", "min", or "softmin", −τ·ln mean exp(−score/τ), between the two.
        softmin_temperature: τ, in units of the score.
        smoothness: Weight of mean|ΔR| between neighbouring bars.
    """

    name: str = "sortino"
    return_weight: float = 0.08
    drawdown_weight: float = 1.0
    fractions: tuple[float, ...] = (1.0,)
    reduce: str = "mean"
    softmin_temperature: float = 1.0
    smoothness: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in LOSSES:
            hint = nearest(self.name, LOSSES) or "give one of " + ", ".join(LOSSES)
            raise TrainableError(f"loss.name: {self.name!r} is unknown; {hint}")
        if self.reduce not in REDUCTIONS:
            raise TrainableError(f"loss.reduce: {self.reduce!r} is unknown; give one of {', '.join(REDUCTIONS)}")
        object.__setattr__(self, "fractions", _fractions(self.fractions))
        for name in ("return_weight", "drawdown_weight", "smoothness"):
            if not _is_number(getattr(self, name)) or getattr(self, name) < 0.0:
                raise TrainableError(f"loss.{name}: {getattr(self, name)!r}; give a number of at least 0")
        if not _is_number(self.softmin_temperature) or self.softmin_temperature <= 0.0:
            raise TrainableError(f"loss.softmin_temperature: {self.softmin_temperature!r}; give a number above 0")


@dataclass(frozen=True)
class Loss:
    """A loss made by `make_loss`: call it for the value to minimise.

    Attributes:
        spec: What it is made from.
    """

    spec: LossSpec

    def __call__(self, returns: Tensor, periods: float | Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns minus the mean score of the windows that have a bar, a scalar; arguments as in `scores`."""
        scores = self.scores(returns, periods, mask)
        if mask is None:
            return -scores.mean()
        some = mask.bool().any(dim=1)
        return -(scores * some).sum() / some.sum().clamp(min=1)

    def scores(self, returns: Tensor, periods: float | Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns every window's score, (B,); 0 for a window without a bar.

        Args:
            returns: (B, n) of each bar, for example `Simulation.returns`.
            periods: P, bars per year, per window (B,) or one for all.
            mask: bool (B, n), False for a missing bar, whatever its return; for example `Simulation.present`.

        Raises:
            TrainableError: Shapes that do not fit.
        """
        if returns.ndim != 2 or returns.shape[1] == 0 or (mask is not None and mask.shape != returns.shape):
            found = "" if mask is None else f", mask {tuple(mask.shape)}"
            raise TrainableError(f"loss: returns {tuple(returns.shape)}{found}; give windows × bars, both alike")
        p = torch.as_tensor(periods, dtype=returns.dtype, device=returns.device)
        if p.ndim > 1 or p.shape not in ((), returns.shape[:1]):
            raise TrainableError(f"loss: periods {tuple(p.shape)}; give bars per year of each of the {len(returns)} windows, or one number")
        here = torch.ones_like(returns) if mask is None else mask.to(returns.dtype)
        if mask is not None:
            returns = torch.where(mask.bool(), returns, 0.0)
        score, n = LOSSES[self.spec.name], returns.shape[1]
        starts = [n - math.ceil(share * n) for share in self.spec.fractions]
        parts = [score(returns[:, start:], p, here[:, start:], self.spec) for start in starts]
        total = parts[0] if len(parts) == 1 else _joined(torch.stack(parts), self.spec)
        if self.spec.smoothness > 0.0:
            total = total - self.spec.smoothness * roughness(returns, here)
        return total


def make_loss(spec: LossSpec | Mapping[str, Any] | str = "sortino") -> Loss:
    """Makes a loss from a spec, its fields, or a name alone.

    Raises:
        TrainableError: Unknown name, field or value.
    """
    if isinstance(spec, Mapping):
        known = [field.name for field in fields(LossSpec)]
        for key in spec:
            if key not in known:
                raise TrainableError(f"loss.{key}: no such field; {nearest(key, known) or 'it has ' + ', '.join(known)}")
        spec = LossSpec(**spec)
    return Loss(LossSpec(spec) if isinstance(spec, str) else spec)


def over_lags(loss_at: Callable[[int], Tensor], lags: Sequence[int] = (1, 2), worst: bool = False) -> Tensor:
    """Returns the mean loss over decision lags, or the worst: what is earned must not hang on one bar's speed (SPEC F.5, F.6).

    Args:
        loss_at: Loss at a lag, for example of `simulate(..., lag=lag)`.
        lags: At least 1 each (J1).
        worst: Take the largest loss.

    Raises:
        TrainableError: No lag, or one below 1.
    """
    if not lags or min(lags) < 1:
        raise TrainableError(f"lags: {tuple(lags)}; give lags of at least 1: a decision cannot fill in the bar it knows")
    losses = torch.stack([loss_at(lag) for lag in lags])
    return losses.max() if worst else losses.mean()


def sortino(returns: Tensor, periods: Tensor, here: Tensor, spec: LossSpec) -> Tensor:
    """Mean return over downside deviation, annualised, and λ of the annual return (SPEC F.5)."""
    mean = _mean(returns, here)
    downside = torch.sqrt(_mean(returns.clamp(max=0.0) ** 2, here) + EPSILON)
    return mean / downside * torch.sqrt(periods) + spec.return_weight * mean * periods


def sharpe(returns: Tensor, periods: Tensor, here: Tensor, spec: LossSpec) -> Tensor:
    """Mean return over standard deviation (n − 1), annualised, and λ of the annual return."""
    mean = _mean(returns, here)
    square = (((returns - mean[:, None]) * here) ** 2).sum(dim=1)
    deviation = torch.sqrt(square / (here.sum(dim=1) - 1.0).clamp(min=1.0) + EPSILON)
    return mean / deviation * torch.sqrt(periods) + spec.return_weight * mean * periods


def calmar(returns: Tensor, periods: Tensor, here: Tensor, spec: LossSpec) -> Tensor:
    """Annual return over maximum drawdown and 0.1 %, and λ of the annual return."""
    annual = annual_return(returns, periods, here, spec)
    return annual / (max_drawdown(returns) + _LEAST_DRAWDOWN) + spec.return_weight * annual


def sortino_drawdown(returns: Tensor, periods: Tensor, here: Tensor, spec: LossSpec) -> Tensor:
    """`sortino` less the weighted maximum drawdown."""
    return sortino(returns, periods, here, spec) - spec.drawdown_weight * max_drawdown(returns)


def annual_return(returns: Tensor, periods: Tensor, here: Tensor, spec: LossSpec) -> Tensor:
    """Mean return times P, not compounded."""
    return _mean(returns, here) * periods


def log_wealth(returns: Tensor, periods: Tensor, here: Tensor, spec: LossSpec) -> Tensor:
    """Growth rate of wealth per year."""
    wealth = 1.0 + returns
    below = (wealth - _LEAST_WEALTH).clamp(max=0.0) / _LEAST_WEALTH
    kept = torch.where(wealth > _LEAST_WEALTH, returns, _LEAST_WEALTH - 1.0)  # log1p keeps the digits of small returns
    return _mean(torch.log1p(kept) + below, here) * periods


def max_drawdown(returns: Tensor) -> Tensor:
    """Returns the deepest fall of the summed returns below their peak so far, the start included, (B,), at least 0."""
    path = torch.cumsum(returns, dim=1)
    peak = torch.cummax(path, dim=1).values.clamp(min=0.0)
    return (peak - path).amax(dim=1)


def roughness(returns: Tensor, here: Tensor) -> Tensor:
    """Returns mean|ΔR| over neighbouring bars that are both there, (B,)."""
    both = here[:, 1:] * here[:, :-1]
    return _mean((returns[:, 1:] - returns[:, :-1]).abs(), both)


Score = Callable[[Tensor, Tensor, Tensor, LossSpec], Tensor]
LOSSES: dict[str, Score] = {
    "sortino": sortino,
    "sharpe": sharpe,
    "calmar": calmar,
    "sortino_drawdown": sortino_drawdown,
    "return": annual_return,
    "log_wealth": log_wealth,
}


def _joined(scores: Tensor, spec: LossSpec) -> Tensor:
    """Joins (fractions, B) scores into (B,)."""
    if spec.reduce == "min":
        return scores.amin(dim=0)
    if spec.reduce == "softmin":
        tau = spec.softmin_temperature
        return -tau * (torch.logsumexp(-scores / tau, dim=0) - math.log(len(scores)))
    return scores.mean(dim=0)


def _mean(values: Tensor, here: Tensor) -> Tensor:
    return (values * here).sum(dim=1) / here.sum(dim=1).clamp(min=1.0)


def _fractions(given: Any) -> tuple[float, ...]:
    shares = (given,) if _is_number(given) else given
    if not isinstance(shares, (list, tuple)) or not shares or not all(_is_number(x) and 0.0 < x <= 1.0 for x in shares):
        raise TrainableError(f"loss.fractions: {given!r}; give shares of the window above 0 and up to 1, for example [0.25, 0.5, 1]")
    return tuple(float(x) for x in shares)


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)

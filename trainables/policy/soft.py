"""What a policy's orders earn, differentiably: soft fills to learn from, whole fills to be judged by (SPEC F.5).

Each window is an account of its own: cash 1, nothing held, one symbol. Where F.5 is silent or looks ahead, the rules of the
`realistic` selector decide (docs/fills.md, SPEC G.6 [C]):

- *Lag.* The order of bar t meets bar t + lag, lag ≥ 1 (J1). It lives in that one row; if the row has no bar, the order is lost. The
  selector counts the lag in a symbol's own bars, so make windows of own bars, and mask what is padding.
- *Size.* Both orders are sized from the account before the bar, valued at the last close known then, not at the close of the bar they
  fill in. So what a bar buys it cannot sell, and what it sells pays for nothing in it.
- *Fees* are each window's own, and there is no default (J8). A limit fills at its price, never better: without the open nothing says
  whether it was passed.
- *Financing*, if any, is charged before the bar's orders, for the hours since the bar before, on |position| beyond equity.
- *A missing bar* trades nothing and returns 0; the next one returns the whole move since the last known close.
- *Ruin.* After a bar that ends with nothing or a debt, nothing trades and returns are 0. That bar's own return may be below −1: the
  gradient must know how far it fell.

What stays unlike the selector: exits are for γ of the position, not all of it; a window that holds buys more with the cash it has left;
and a symbol that may go both ways can be filled on both sides of one bar, each an opening by its own (J11). Before any ranking, the
selector simulates a policy's actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainables.contract import TrainableError
from trainables.kernel_cache import kernels_of
from trainables.policy.soft_torch import first_outside, walk

with kernels_of(Path(__file__).parent):
    from trainables.policy import soft_kernels as kernels

Backend = Literal["auto", "kernel", "torch"]
PerWindow = float | Tensor | np.ndarray
LAST_TEMPERATURE = 0.005  # J12: warmer than this, orders fill at prices that were never touched
_HOURS_A_YEAR = 8760.0
_forward: Callable[..., int] = kernels.forward
_backward: Callable[..., None] = kernels.backward
_NONE = np.empty((0, 0))
_NO_MASK = np.empty((0, 0), np.bool_)


@dataclass(frozen=True, eq=False)
class Simulation:
    """What came of the windows; column k is bar k + lag, which met the order of bar k.

    Attributes:
        returns: (B, T − lag) simple returns of equity, in the orders' dtype; differentiable in prices and amounts.
        present: bool (B, T − lag), where there was a bar.
        held: float64 (B, T − lag) units held before the bar; cash is 1 before the first.
        bought, sold: float64 (B, T − lag) units traded in the bar.
    """

    returns: Tensor
    present: Tensor
    held: Tensor
    bought: Tensor
    sold: Tensor

    @property
    def equity(self) -> Tensor:
        """Value of the account after each bar, (B, T − lag)."""
        return torch.cumprod(1.0 + self.returns, dim=1)

    @property
    def inventory(self) -> Tensor:
        """Units held after each bar, float64 (B, T − lag)."""
        return self.held + self.bought - self.sold


def simulate(
    close: Tensor,
    high: Tensor,
    low: Tensor,
    buy_price: Tensor,
    sell_price: Tensor,
    buy_amount: Tensor,
    sell_amount: Tensor,
    *,
    fee: PerWindow,
    temperature: float,
    fill_buffer: float = 0.0005,
    lag: int = 1,
    leverage: PerWindow = 1.0,
    can_long: PerWindow = True,
    can_short: PerWindow = False,
    mask: Tensor | None = None,
    margin_rate: float = 0.0,
    hours: float | Tensor = 1.0,
    backend: Backend = "auto",
) -> Simulation:
    """Simulates every window of a batch (SPEC F.5).

    An order fills by p_b = σ((b(1−δ) − l)/(c·T)), p_s = σ((h − s(1+δ))/(c·T)); with T = 0 whole if l ≤ b(1−δ), h ≥ s(1+δ), else
    not at all (then gradients know prices and sizes, not whether an order fills).

    Args:
        close, high, low: (B, T) bars; NaN is a missing bar. Data: they get no gradient.
        buy_price, sell_price: (B, T) limits decided at the end of each bar; NaN is no order.
        buy_amount, sell_amount: (B, T) in [0, 1]: shares of the money, and of the position, to commit; NaN is no order.
        fee: Maker fee plus whatever buffer, a fraction; per window (B,) or one for all.
        temperature: T as a fraction of price, see `temperature_at`; 0 for binary fills.
        fill_buffer: δ, how far price must trade through a limit.
        lag: Bars from the decision to the bar it meets, at least 1.
        leverage: Gross exposure per unit of equity; per window or one for all. Up to 1, a purchase spends cash.
        can_long, can_short: What the symbol allows; per window or one for all.
        mask: bool (B, T), False where there is no bar.
        margin_rate: Interest per year on exposure beyond equity; 0 leaves it out.
        hours: Since the row before, one number or (B, T); used with `margin_rate` only.
        backend: "kernel" is compiled and for tensors in CPU memory, "torch" runs anywhere, "auto" takes the kernel where it can. Both
            compute in float64 and give the same numbers.

    Returns:
        Returns and positions of the bars from `lag` on.

    Raises:
        TrainableError: lag below 1, amounts outside [0, 1], a missing fee, arrays of other shapes or devices.
    """
    orders = (buy_price, sell_price, buy_amount, sell_amount)
    market = (close.detach(), high.detach(), low.detach())
    windows, bars = _check_shapes(market, orders, mask)
    _check_numbers(lag, bars, temperature, fill_buffer, margin_rate)
    terms = _terms(windows, fee, leverage, can_long, can_short)
    on_cpu = close.device.type == "cpu"
    if backend not in ("auto", "kernel", "torch"):
        raise TrainableError(f"backend: {backend!r} is unknown; give auto, kernel or torch")
    if backend == "kernel" and not on_cpu:
        raise TrainableError(f"backend: the kernel runs on the CPU, these tensors are on {close.device}; give auto or torch")
    if backend == "torch" or not on_cpu:
        wrong = first_outside(buy_amount, sell_amount, lag)
        if wrong >= 0:
            raise _bad_amount(wrong, buy_amount, sell_amount)
        returns, here, *units = walk(market, orders, mask, terms, margin_rate / _HOURS_A_YEAR, hours, fill_buffer, temperature, lag)
        return Simulation(returns.to(buy_price.dtype), here, *units)
    carry = _NONE
    if margin_rate > 0.0:
        carry = np.broadcast_to(_array(hours, np.float64) * (margin_rate / _HOURS_A_YEAR), (windows, bars)).copy()
    dtype = torch.promote_types(buy_price.dtype, torch.float32)
    tape = _Tape(
        market=tuple(_array(x) for x in market),
        mask=_NO_MASK if mask is None else _array(mask, np.bool_),
        terms=terms,
        carry=carry,
        scalars=(float(fill_buffer), float(temperature), int(lag)),
        present=np.empty((windows, bars - lag), np.bool_),
        rows=np.empty((windows, bars - lag, kernels.TAPE)),
    )
    returns = _Kernel.apply(*(x.to(dtype).contiguous() for x in orders), tape)
    held, bought, sold = (torch.from_numpy(tape.rows[:, :, k]) for k in (kernels.HELD, kernels.BOUGHT, kernels.SOLD))
    return Simulation(returns.to(buy_price.dtype), torch.from_numpy(tape.present), held, bought, sold)


def temperature_at(epoch: float, epochs: int, start: float = 0.05, end: float = 0.0005) -> float:
    """Cools fills geometrically: T = start·(end/start)^(epoch/(epochs − 1)), so the first epoch has `start`, the last `end`.

    Args:
        epoch: From 0; a fraction of an epoch is allowed, beyond the last stays at `end`.
        epochs: Epochs of the whole training; a single one runs at `end`.
        start: Temperature of the first epoch, a fraction of price.
        end: Temperature of the last, at most 0.005 (SPEC J12).

    Raises:
        TrainableError: Temperatures that do not cool to 0.005 or less, or an epoch before the first.
    """
    if not 0.0 < end <= min(start, LAST_TEMPERATURE) or not math.isfinite(start):
        raise TrainableError(
            f"temperature: {start!r} to {end!r}; the last must be above 0, at most the first and at most {LAST_TEMPERATURE}: "
            "warmer fills happen at prices the market never touched"
        )
    if not epoch >= 0 or epochs < 1:
        raise TrainableError(f"temperature: epoch {epoch!r} of {epochs!r}; epochs count from 0")
    share = 1.0 if epochs == 1 else min(1.0, epoch / (epochs - 1))
    return end if share == 1.0 else start * (end / start) ** share


@dataclass(frozen=True, eq=False)
class _Tape:
    """What the kernel reads besides the orders, and what it leaves for its backward pass."""

    market: tuple[np.ndarray, ...]
    mask: np.ndarray
    terms: np.ndarray
    carry: np.ndarray
    scalars: tuple[float, float, int]
    present: np.ndarray
    rows: np.ndarray


class _Kernel(torch.autograd.Function):
    """The compiled simulator as one operation."""

    @staticmethod
    def forward(ctx: Any, buy: Tensor, sell: Tensor, buy_amount: Tensor, sell_amount: Tensor, tape: _Tape) -> Tensor:
        orders = (buy, sell, buy_amount, sell_amount)
        returns = torch.empty(tape.present.shape, dtype=buy.dtype)
        arrays = [x.detach().numpy() for x in orders]
        wrong = _forward(*tape.market, tape.mask, *arrays, tape.terms, tape.carry, *tape.scalars, returns.numpy(), tape.present, tape.rows)
        if wrong >= 0:
            raise _bad_amount(wrong, buy_amount, sell_amount)
        ctx.save_for_backward(*orders)
        ctx.tape = tape
        return returns

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        tape = ctx.tape
        orders = [x.detach().numpy() for x in ctx.saved_tensors]
        out = torch.zeros((4, *orders[0].shape), dtype=ctx.saved_tensors[0].dtype)
        _backward(
            tape.market[0],
            tape.present,
            *orders,
            tape.terms,
            *tape.scalars,
            tape.rows,
            grad.detach().contiguous().numpy(),
            *(x.numpy() for x in out),
        )
        return (*out, None)


def _terms(windows: int, fee: PerWindow, leverage: PerWindow, can_long: PerWindow, can_short: PerWindow) -> np.ndarray:
    """Returns float64 (B, 4) as the kernel takes it."""
    terms = np.empty((windows, 4))
    for k, (name, value) in enumerate((("fee", fee), ("leverage", leverage), ("can_long", can_long), ("can_short", can_short))):
        given = _array(value, np.float64) if isinstance(value, (Tensor, np.ndarray)) else value
        if np.shape(given) not in ((), (windows,)):
            raise TrainableError(f"{name}: shape {np.shape(given)}; give one number, or one per window, ({windows},)")
        terms[:, k] = given
    if not (np.abs(terms[:, 0]) < 1.0).all():
        w = int(np.argmin(np.abs(terms[:, 0]) < 1.0))
        raise TrainableError(f"fee: {terms[w, 0]} in window {w}; give every symbol's own fee as a fraction (15 bps is 0.0015)")
    if not ((terms[:, 1] >= 0.0) & (terms[:, 1] < np.inf)).all():
        raise TrainableError("leverage: give finite numbers of at least 0")
    return terms


def _check_shapes(market: tuple[Tensor, ...], orders: tuple[Tensor, ...], mask: Tensor | None) -> tuple[int, int]:
    first = market[0]
    names = ("close", "high", "low", "buy_price", "sell_price", "buy_amount", "sell_amount", "mask")
    for name, x in zip(names, (*market, *orders, *(() if mask is None else (mask,))), strict=False):
        if x.ndim != 2 or x.shape != first.shape or x.device != first.device:
            raise TrainableError(
                f"{name}: shape {tuple(x.shape)} on {x.device}; windows × bars like close, {tuple(first.shape)} on {first.device}"
            )
        if name != "mask" and not x.is_floating_point():
            raise TrainableError(f"{name}: {x.dtype} is no floating-point type")
    return first.shape[0], first.shape[1]


def _check_numbers(lag: int, bars: int, temperature: float, fill_buffer: float, margin_rate: float) -> None:
    if isinstance(lag, bool) or lag != int(lag) or lag < 1:
        raise TrainableError(
            f"lag: {lag!r}; give a whole number of at least 1: a decision at the end of a bar, which knows its high and low, "
            "cannot fill in that bar"
        )
    if bars <= lag:
        raise TrainableError(f"lag: windows of {bars} bars leave no bar to trade at lag {lag}")
    limits = (("temperature", temperature, math.inf), ("fill_buffer", fill_buffer, 0.5), ("margin_rate", margin_rate, 10.0))
    for name, value, most in limits:
        if not 0.0 <= value <= most or not math.isfinite(value):
            raise TrainableError(f"{name}: {value!r}; give a number from 0{f' to {most:g}' if math.isfinite(most) else ' on'}")


def _bad_amount(index: int, buy_amount: Tensor, sell_amount: Tensor) -> TrainableError:
    w, k = divmod(index, buy_amount.shape[1])
    found = f"buy_amount {float(buy_amount[w, k]):g}, sell_amount {float(sell_amount[w, k]):g}"
    return TrainableError(f"amounts: window {w}, bar {k}: {found}; amounts are fractions in [0, 1], divide percentages by 100")


def _array(x: Any, dtype: Any = None) -> np.ndarray:
    """Returns a C-contiguous array; bfloat16 and half become float32, which Numba can read."""
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        x = (x.float() if x.dtype in (torch.bfloat16, torch.float16) else x).numpy()
    return np.ascontiguousarray(x, dtype=dtype)

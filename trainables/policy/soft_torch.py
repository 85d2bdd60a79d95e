"""The simulator of `soft` as torch operations: what runs where the compiled kernel cannot.

All that needs no account is done for all bars at once. The account itself is a loop over bars, and on a GPU every operation in it is
a launch; but long only and without leverage it is linear, (cash, held)′ = M·(cash, held) with M ≥ 0 known from prices and orders, so
there all bars come from ⌈log₂ n⌉ rounds of products. Nothing cancels in them, so they are as exact as the loop.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def first_outside(buy_amount: Tensor, sell_amount: Tensor, lag: int) -> int:
    """Returns the flat index in (B, T) of the first amount of a used order outside [0, 1], −1 if none."""
    wrong = (buy_amount < 0) | (buy_amount > 1) | (sell_amount < 0) | (sell_amount > 1)
    wrong[:, -lag:] = False
    return int(wrong.flatten().to(torch.uint8).argmax()) if bool(wrong.any()) else -1


def walk(
    market: tuple[Tensor, ...],
    orders: tuple[Tensor, ...],
    mask: Tensor | None,
    terms: np.ndarray,
    hourly: float,
    hours: float | Tensor,
    fill_buffer: float,
    temperature: float,
    lag: int,
) -> tuple[Tensor, ...]:
    """Simulates every window.

    Args:
        market: Close, high, low, (B, T) each.
        orders: Buy and sell price, buy and sell amount, (B, T) each.
        mask: bool (B, T), False is a missing bar.
        terms: float64 (B, 4): fee, leverage, can_long, can_short.
        hourly: Interest per hour on exposure beyond equity.
        hours: Since the row before, one number or (B, T).
        fill_buffer, temperature, lag: See `soft.simulate`.

    Returns:
        (B, T − lag) each: returns, whether there was a bar, units held before it, bought, sold; float64, the last three detached.
    """
    c, h, l = (x[:, lag:].double() for x in market)
    here = torch.stack([(x > 0) & torch.isfinite(x) for x in (c, h, l)]).all(dim=0)
    if mask is not None:
        here = here & mask[:, lag:].bool()
    latest = _latest(here)
    known = _at(latest, torch.where(here, c, 0.0))
    c, h, l = (torch.where(here, x, 1.0) for x in (c, h, l))
    b, s, beta, gamma = (x[:, :-lag].double() for x in orders)
    b, beta = _live(b, beta, here)
    s, gamma = _live(s, gamma, here)
    over, under = b * (1.0 - fill_buffer) - l, h - s * (1.0 + fill_buffer)
    if temperature == 0.0:
        p_buy, p_sell = (over >= 0).double(), (under >= 0).double()
    else:
        p_buy, p_sell = torch.sigmoid(over / (c * temperature)), torch.sigmoid(under / (c * temperature))
    fee, leverage, can_long, can_short = torch.from_numpy(terms).to(c.device).unsqueeze(2).unbind(1)
    paid, got = b * (1.0 + fee), s * (1.0 - fee)
    if (terms[:, 1] <= 1.0).all() and terms[:, 2].all() and not terms[:, 3].any():
        cash, held = _linear(beta * p_buy, gamma * p_sell, paid, got)
        before, cost = cash + held * known, torch.zeros_like(cash)
        bought, sold = beta * p_buy * cash / paid, gamma * p_sell * held
    else:
        owed = _owed(latest, hourly, hours, lag)
        before, held, cost, bought, sold = _loop(
            known, owed, here, b, s, beta, gamma, p_buy, p_sell, fee, leverage, can_long != 0, can_short != 0
        )
    gain = held * (c - known) - cost + bought * (c - paid) + sold * (got - c)
    live = here & (before > 0)
    returns = torch.where(live, gain / torch.where(live, before, 1.0), 0.0)
    return returns, here, held.detach(), bought.detach(), sold.detach()


def _linear(spent: Tensor, left: Tensor, paid: Tensor, got: Tensor) -> tuple[Tensor, Tensor]:
    """Returns cash and units held before each bar, (B, n) each, given the shares of cash spent and of the position sold in it."""
    to_cash = torch.stack([1.0 - spent, left * got], dim=-1)
    to_held = torch.stack([spent / paid, 1.0 - left], dim=-1)
    after = torch.stack([to_cash, to_held], dim=-2)  # (B, n, 2, 2)
    step = 1
    while step < after.shape[1]:
        joined = (after[:, step:, :, :, None] * after[:, :-step, None, :, :]).sum(dim=3)
        after = torch.cat([after[:, :step], joined], dim=1)
        step *= 2
    first = torch.stack([torch.ones_like(spent[:, :1]), torch.zeros_like(spent[:, :1])], dim=2)
    account = torch.cat([first, after[:, :-1, :, 0]], dim=1)  # from cash 1: the first column
    return account[:, :, 0], account[:, :, 1]


def _loop(
    known: Tensor,
    owed: Tensor,
    here: Tensor,
    b: Tensor,
    s: Tensor,
    beta: Tensor,
    gamma: Tensor,
    p_buy: Tensor,
    p_sell: Tensor,
    fee: Tensor,
    leverage: Tensor,
    can_long: Tensor,
    can_short: Tensor,
) -> tuple[Tensor, ...]:
    """Returns value and units held before each bar, financing, units bought and sold in it, (B, n) each."""
    cash = torch.ones_like(b[:, 0])
    held = torch.zeros_like(cash)
    paid, got, per = b * (1.0 + fee), s * (1.0 - fee), s * (1.0 + fee)
    leverage, can_long, can_short = leverage[:, 0], can_long[:, 0], can_short[:, 0]
    levered = leverage > 1.0
    out: list[tuple[Tensor, ...]] = []
    for k in range(b.shape[1]):
        before = cash + held * known[:, k]
        live = here[:, k] & (before > 0)
        cost = torch.where(live, owed[:, k] * torch.relu((held * known[:, k]).abs() - before), 0.0)
        equity = before - cost
        debt = torch.relu(-held)  # slope 0 at 0, where `clamp` has slope 1
        power = torch.where(levered, leverage * equity - held * b[:, k], cash - cost)
        budget = beta[:, k] * power.clamp(min=0.0)
        cap = debt * paid[:, k]
        budget = torch.where(can_long | (budget < cap), budget, cap)
        room = torch.where(can_short, (leverage * equity / per[:, k] - debt).clamp(min=0.0), 0.0)
        spend = torch.where(live, budget * p_buy[:, k], 0.0)
        bought = spend / paid[:, k]
        sold = torch.where(live, gamma[:, k] * (held.clamp(min=0.0) + room) * p_sell[:, k], 0.0)
        out.append((before, held, cost, bought, sold))
        cash = cash - cost - spend + sold * got[:, k]
        held = held + bought - sold
    return tuple(torch.stack(column, dim=1) for column in zip(*out, strict=True))


def _latest(here: Tensor) -> Tensor:
    """Returns the column of the last bar before each, −1 before the first, int64 (B, n)."""
    column = torch.arange(here.shape[1], device=here.device).expand_as(here)
    latest = torch.where(here, column, -1).cummax(dim=1).values
    return torch.cat([torch.full_like(latest[:, :1], -1), latest[:, :-1]], dim=1)


def _at(latest: Tensor, values: Tensor) -> Tensor:
    """Returns `values` at the last bar before each, 0 before the first."""
    return torch.where(latest < 0, 0.0, values.gather(1, latest.clamp(min=0)))


def _owed(latest: Tensor, hourly: float, hours: float | Tensor, lag: int) -> Tensor:
    """Returns the financing rate owed since the last bar before each, float64 (B, n)."""
    each = torch.as_tensor(hours, dtype=torch.float64, device=latest.device)
    total = ((each[:, lag:] if each.ndim == 2 else each) * hourly).expand(latest.shape).cumsum(dim=1)
    return total - _at(latest, total)


def _live(price: Tensor, amount: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
    """Returns price and amount with 1 and 0 where there is no order or no bar."""
    order = here & (price > 0) & torch.isfinite(price) & (amount >= 0)
    return torch.where(order, price, 1.0), torch.where(order, amount, 0.0)

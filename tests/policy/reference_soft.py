"""SPEC F.5 as one would write it down first: a Python loop over bars, torch operations over the batch, no tricks.

The oracle of `trainables.policy.soft`, and the peer of its benchmark.
"""

from __future__ import annotations

import torch


def simulate(
    close,
    high,
    low,
    buy_price,
    sell_price,
    buy_amount,
    sell_amount,
    *,
    fee,
    temperature,
    fill_buffer=0.0005,
    lag=1,
    leverage=1.0,
    can_long=True,
    can_short=False,
    mask=None,
    margin_rate=0.0,
    hours=1.0,
):
    """Returns (B, T − lag) returns; arguments as `soft.simulate` takes them."""
    windows, bars = close.shape

    def per_window(x):
        return torch.as_tensor(x, dtype=close.dtype).expand(windows)

    fee, leverage = per_window(fee), per_window(leverage)
    can_long, can_short = (torch.as_tensor(x).expand(windows).bool() for x in (can_long, can_short))
    hours = torch.as_tensor(hours, dtype=close.dtype).expand(windows, bars)
    cash, inv = torch.ones(windows, dtype=close.dtype), torch.zeros(windows, dtype=close.dtype)
    value, mark = cash, torch.zeros(windows, dtype=close.dtype)
    waited = torch.zeros(windows, dtype=close.dtype)
    out = []
    for t in range(lag, bars):
        c, h, l = close[:, t], high[:, t], low[:, t]
        b, s, beta, gamma = (x[:, t - lag] for x in (buy_price, sell_price, buy_amount, sell_amount))
        waited = waited + hours[:, t]
        trades = ~(torch.isnan(c) | torch.isnan(h) | torch.isnan(l)) & (value > 0)
        if mask is not None:
            trades = trades & mask[:, t]
        buys, sells = trades & ~torch.isnan(b + beta), trades & ~torch.isnan(s + gamma)
        c, h, l = (torch.where(trades, x, 1.0) for x in (c, h, l))
        b, s = torch.where(buys, b, 1.0), torch.where(sells, s, 1.0)
        beta, gamma = torch.where(buys, beta, 0.0), torch.where(sells, gamma, 0.0)

        borrowed = torch.relu((inv * mark).abs() - torch.clamp(value, min=0.0))
        cash = cash - torch.where(trades, margin_rate / 8760.0 * waited * borrowed, 0.0)
        waited = torch.where(trades, 0.0, waited)

        if temperature == 0.0:
            p_b, p_s = (l <= b * (1 - fill_buffer)).to(c.dtype), (h >= s * (1 + fill_buffer)).to(c.dtype)
        else:
            p_b = torch.sigmoid((b * (1 - fill_buffer) - l) / (c.abs() * temperature))
            p_s = torch.sigmoid((h - s * (1 + fill_buffer)) / (c.abs() * temperature))
        equity = cash + inv * mark
        debt = torch.relu(-inv)
        money = torch.where(leverage > 1, leverage * equity - inv * b, cash).clamp(min=0.0)
        q_b = beta * money / (b * (1 + fee))
        q_b = torch.where(can_long | (q_b < debt), q_b, debt)
        room = torch.clamp(leverage * equity / (s * (1 + fee)) - debt, min=0.0)
        q_s = gamma * (torch.clamp(inv, min=0.0) + can_short.to(c.dtype) * room)
        e_b, e_s = q_b * p_b * trades, q_s * p_s * trades
        cash = cash - e_b * b * (1 + fee) + e_s * s * (1 - fee)
        inv = inv + e_b - e_s
        mark = torch.where(trades, c, mark)
        new = torch.where(trades, cash + inv * mark, value)
        out.append(torch.where(trades, (new - value) / torch.where(trades, value, 1.0), 0.0))
        value = new
    return torch.stack(out, dim=1)

"""Does a network's answer at a bar depend on a later bar? (SPEC J4).

Two ways of looking, since either can be blind: replacing a bar finds what no gradient shows (ranks, detached statistics), and gradients
find what the rounding of a small change hides.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainables.contract import TrainableError
from trainables.policy.dropout import generator


def future_leak(
    net: Callable[[torch.Tensor], Any],
    n_features: int,
    length: int = 24,
    batch: int = 2,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[int, int] | None:
    """Looks for an output that depends on the features of a later bar.

    Args:
        net: float32 (batch, length, n_features) to (batch, length, outputs). A module is examined as a copy with noise on all weights
            (`woken`), since the zero weights of a fresh one hide every path through them; a plain function as it is.
        n_features: Features per bar.
        length: Bars, 2 or more; 2·length calls and length backward passes are made.
        batch: Windows.
        seed: Of features, replacements and noise.
        device: Where the features are made.

    Returns:
        (t, s), the first bar t whose output changes when bar s > t alone is replaced, or whose output has a gradient there, and the first
        such s; None where no output depends on its future.

    Raises:
        TrainableError: The answers cannot be judged: not finite, of another shape, not repeatable, or the same whatever the features.
    """
    if length < 2:
        raise TrainableError(f"future_leak: length {length} has no future; give 2 bars or more")
    ask = woken(net, seed) if isinstance(net, nn.Module) else net
    draw = generator((seed, 2))
    features, other = (torch.randn(batch, length, n_features, generator=draw).to(device) for _ in range(2))
    # cuDNN's recurrent layers refuse gradients in eval mode.
    with torch.backends.cudnn.flags(enabled=False), torch.enable_grad():
        features.requires_grad_()
        out = ask(features)
        base = out.detach()
        _judge(base, ask(features).detach(), (batch, length))
        leaks, alive = _replaced(ask, features.detach(), 3.0 * other, base)
        if out.requires_grad:
            weights = torch.randn(out.shape, generator=draw).to(out)
            for t in range(length - 1):
                (slope,) = torch.autograd.grad((out[:, t] * weights[:, t]).sum(), features, retain_graph=True, allow_unused=True)
                if slope is not None:
                    leaks += [(t, s) for s in _bars(slope != 0) if s > t]
                    alive |= bool((slope[:, t] != 0).any())
    if not alive and not leaks:
        raise TrainableError("future_leak: no output depends on its own bar, so nothing can be told; examine a net that has learnt")
    return min(leaks, default=None)


def woken(net: nn.Module, seed: int = 0) -> nn.Module:
    """A copy, in the same mode, with noise of about 1 / √inputs on every weight, so that no path is shut by zeros."""
    awake = copy.deepcopy(net)
    draw = generator((seed, 3))
    with torch.no_grad():
        for p in awake.parameters():
            if p.is_floating_point():
                scale = 1.0 / math.sqrt(p[0].numel()) if p.ndim > 1 else 0.1
                p.add_((scale * torch.randn(p.shape, generator=draw)).to(p))
    return awake


def _replaced(
    ask: Callable[[torch.Tensor], Any], features: torch.Tensor, other: torch.Tensor, base: torch.Tensor
) -> tuple[list[tuple[int, int]], bool]:
    """Pairs (t, s) with a change at t < s, and whether any bar changed its own answer."""
    leaks, alive = [], False
    for s in range(features.shape[1]):
        changed = features.clone()
        changed[:, s] = other[:, s]
        with torch.no_grad():
            moved = _bars(ask(changed).detach() != base)  # bit for bit, and a NaN counts
        leaks += [(t, s) for t in moved if t < s]
        alive |= s in moved
    return leaks, alive


def _bars(where: torch.Tensor) -> list[int]:
    return where.any(2).any(0).nonzero().flatten().tolist()


def _judge(first: torch.Tensor, second: torch.Tensor, shape: tuple[int, int]) -> None:
    if first.ndim != 3 or tuple(first.shape[:2]) != shape:
        raise TrainableError(f"future_leak: answers of shape {tuple(first.shape)}; for these features {shape} and outputs are needed")
    if not bool(first.isfinite().all()):
        raise TrainableError("future_leak: an answer to ordinary features is not finite")
    if not torch.equal(first, second):
        raise TrainableError("future_leak: the same features got two answers; put the net in eval mode, or fix what it draws")

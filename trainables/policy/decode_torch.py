"""Logits to limit prices and amounts inside a training step: `decoding.decode` in torch, differentiable (SPEC F.4, amounts in [0, 1])."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch

from trainables.contract import TrainableError, nearest
from trainables.policy.decoding import _MIN_GAP

MODES: Final = ("midpoint", "offset")


class Orders(NamedTuple):
    """Decisions at the end of each bar, for the next one, all (B, T); NaN where there is none. Amounts are in [0, 1]."""

    buy_price: torch.Tensor
    sell_price: torch.Tensor
    buy_amount: torch.Tensor
    sell_amount: torch.Tensor


def decode_logits(
    logits: torch.Tensor,
    close: torch.Tensor,
    low: torch.Tensor | None = None,
    high: torch.Tensor | None = None,
    *,
    mode: str = "midpoint",
    offset: float = 3e-4,
) -> Orders:
    """Decodes (buy price, sell price, buy amount, sell amount) logits.

    midpoint: buy = Lo + σ(b)(ref − Lo), sell = ref + σ(s)(Hi − ref) with Lo = min(low, ref), Hi = max(high, ref).
    offset: buy = ref(1 − κσ(b)), sell = ref(1 + κσ(s)). Then sell ≥ buy + max(3 bps of ref, 1e-8) in both.

    Args:
        logits: (B, T, at least 4); the first four are decoded.
        close: (B, T), ref: the close of the deciding bar. Orders have its dtype.
        low: (B, T), predicted at the end of that bar for the decision horizon (midpoint).
        high: As `low`.
        mode: One of `MODES`.
        offset: κ, the furthest limit as a fraction of ref.

    Returns:
        Orders. Where the close, a forecast or a logit is missing, all four are NaN, and no gradient comes from there.

    Raises:
        TrainableError: Unknown mode, an offset outside (0, 1), or shapes that do not fit.
    """
    if mode not in MODES:
        raise TrainableError(f"decode: mode {mode!r} is unknown; {nearest(mode, MODES) or 'give one of ' + ', '.join(MODES)}")
    if not 0.0 < offset < 1.0:
        raise TrainableError(f"decode: offset {offset!r} is not allowed; give a fraction of the close between 0 and 1")
    if logits.ndim != 3 or logits.shape[2] < 4 or logits.shape[:2] != close.shape:
        raise TrainableError(f"decode: logits {tuple(logits.shape)} for closes {tuple(close.shape)}; give (windows, bars, 4 or more)")
    bottom = top = close
    if mode == "midpoint":
        for name, given in (("low", low), ("high", high)):
            if given is None or given.shape != close.shape:
                there = "missing" if given is None else f"of shape {tuple(given.shape)}"
                raise TrainableError(f"decode: the predicted {name} is {there}; midpoint mode needs it for closes {tuple(close.shape)}")
        assert low is not None and high is not None
        bottom, top = torch.minimum(low, close), torch.maximum(high, close)
    four = logits[..., :4].to(close.dtype)
    known = close.isfinite() & bottom.isfinite() & top.isfinite() & ~four.isnan().any(-1)
    # Masked here and not only at the end: a missing price makes NaN of an order's zero gradient, which must not reach the logits.
    b, s, buy_amount, sell_amount = torch.where(known[..., None], four, 0.0).sigmoid().unbind(-1)
    if mode == "midpoint":
        buy, sell = bottom + b * (close - bottom), close + s * (top - close)
    else:
        buy, sell = close * (1.0 - offset * b), close * (1.0 + offset * s)
    sell = torch.maximum(sell, buy + (close * _MIN_GAP).clamp_min(1e-8))
    nan = torch.full((), torch.nan, dtype=close.dtype, device=close.device)
    return Orders(*(torch.where(known, x, nan) for x in (buy, sell, buy_amount, sell_amount)))

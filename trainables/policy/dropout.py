"""Dropout that follows from a key alone, so a resumed run drops what an uninterrupted one would have dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

_SLOTS: Final = 1 << 16  # 16 random bits decide: four elements to a draw (bernoulli_ takes four times as long), rates to 1.5e-5


def generator(key: Sequence[int], device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of a key of its own (numbers of at least 0); no global state is read or changed."""
    seed = int(np.random.SeedSequence(list(key)).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator(device).manual_seed(seed)


class Dropout:
    """Drops elements independently and scales up the rest; masks follow from key, device type and the order of the calls."""

    def __init__(self, rate: float, key: Sequence[int] | None, device: torch.device | str = "cpu") -> None:
        """Begins the masks of one forward pass.

        Args:
            rate: Share to drop, in [0, 1).
            key: For example (seed, step); None drops nothing.
            device: Where the masks are drawn.
        """
        self._dropped = 0 if key is None else min(round(rate * _SLOTS), _SLOTS - 1)
        self._generator = generator(key, device) if key is not None and self._dropped else None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the next mask."""
        if self._generator is None:
            return x
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
        bits = draws.random_(-(2**63), None, generator=self._generator).view(torch.int16)[: x.numel()].view(x.shape)
        kept = bits >= self._dropped - _SLOTS // 2
        return x * (kept.to(x.dtype) * (_SLOTS / (_SLOTS - self._dropped)))

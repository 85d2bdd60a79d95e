"""Causal attention of the policy networks: grouped heads, rotary positions, sliding window, memory (SPEC F.2)."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn import functional

EPS: Final = 1e-5
ROPE_BASE: Final = 10_000.0


def rms(x: torch.Tensor) -> torch.Tensor:
    """Unweighted RMSNorm over the last axis."""
    return functional.rms_norm(x, (x.shape[-1],), eps=EPS)


def rotations(length: int, width: int, start: int = 0) -> torch.Tensor:
    """RoPE's unit vectors (cos, sin) of position·base^(−2i / width), float32 (length, width / 2, 2)."""
    rates = ROPE_BASE ** (-torch.arange(0, width, 2, dtype=torch.float64, device="cpu") / width)
    angles = torch.arange(start, start + length, dtype=torch.float64, device="cpu").outer(rates)
    return torch.stack((angles.cos(), angles.sin()), -1).float()


def rotate(x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turns the interleaved pairs (x₀, x₁), (x₂, x₃), … of every position.

    Args:
        x: (..., L, heads, width), float32 or float64.
        turns: (L, width / 2, 2) of `rotations`.
    """
    # As complex products: eight times faster than the pairs' four real ones on a CPU.
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.view_as_complex(turns).unsqueeze(-2)
    return torch.view_as_real(turned).flatten(-2)


def sinusoids(length: int, width: int) -> torch.Tensor:
    """Positions of the classic transformer: sin in even columns, cos in odd ones, float32 (length, width)."""
    return rotations(length, width + width % 2).flip(-1).flatten(-2)[:, :width].contiguous()


def sight(length: int, memory: int, window: int) -> torch.Tensor:
    """Which of memory + length tokens (columns) each of them (rows) sees, bool (memory + length, memory + length).

    A bar sees the memory, itself and the window − 1 bars before it (0: all before it). Memory sees memory only: had it seen bars, the
    next layer's bars would read their future from it.
    """
    at = torch.arange(memory + length, device="cpu")
    back = at[:, None] - at[None, :]
    near = back < (window or memory + length)
    return (back >= 0) & (near | (at[None, :] < memory))


class Attention(nn.Module):
    """Grouped-query attention; with `turns`, queries and keys are rotated and then RMS-normalised."""

    def __init__(self, dim: int, heads: int, kv_heads: int, bias: bool = False) -> None:
        super().__init__()
        self.width = dim // heads
        self.q = linear(dim, dim, bias)
        self.k = linear(dim, kv_heads * self.width, bias)
        self.v = linear(dim, kv_heads * self.width, bias)
        self.out = linear(dim, dim, bias)

    def forward(self, x: torch.Tensor, seen: torch.Tensor | None = None, turns: torch.Tensor | None = None) -> torch.Tensor:
        """Attends.

        Args:
            x: (B, L, dim).
            seen: bool (L, L) of `sight`; None is plainly causal, and faster.
            turns: `rotations` of the L positions; None leaves positions to the caller and does not normalise.

        Returns:
            (B, L, dim).
        """
        q, k, v = (project(x).unflatten(-1, (-1, self.width)) for project in (self.q, self.k, self.v))
        if turns is not None:
            q, k = (rms(rotate(y.to(turns.dtype), turns)).to(v.dtype) for y in (q, k))
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        # Attention weights are never dropped: the fused kernels could only draw from the global generator.
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=seen is None, enable_gqa=True)
        return self.out(mixed.transpose(1, 2).flatten(-2))


def linear(inputs: int, outputs: int, bias: bool = False) -> nn.Linear:
    """A linear layer without values yet; torch's own constructor would draw them from the global generator."""
    return nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)  # type: ignore[return-value]

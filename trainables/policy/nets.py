"""The policy's networks: features of a window of bars to logits of every bar, none of which sees a later bar (SPEC F.1-F.3).

The classic architecture was bidirectional where its published results come from (SPEC J4); here all are causal, and
`trainables.policy.causality` checks any of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from trainables.contract import TrainableError
from trainables.policy.attention import Attention, linear, rms, rotations, sight, sinusoids
from trainables.policy.dropout import Dropout, generator
from trainables.policy.net_spec import NetSpec

__all__ = ["NetSpec", "PolicyNet", "make_net"]

_INIT, _DROP = 0, 1  # first number of the keys of weights and of dropout


def make_net(spec: NetSpec, seed: int) -> PolicyNet:
    """Builds a network on the CPU, in eval mode, with weights that follow from spec and seed.

    With its zero head a network answers 0 everywhere, so each starts from the same policy. Its first gradient is therefore the head's
    alone; blocks' outputs learn from the second step on and what lies behind them from the third.
    """
    net = PolicyNet(spec)
    draw = generator((_INIT, seed))
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (_Classic, _ClassicBlock)):
                _uniform(module, draw)
            elif isinstance(module, nn.GRU):
                for p in module.parameters():
                    p.uniform_(-1 / math.sqrt(module.hidden_size), 1 / math.sqrt(module.hidden_size), generator=draw)
            elif isinstance(module, (_Nano, _Recurrent, _Lagged, _FeedForward)) or (isinstance(module, Attention) and spec.arch == "nano"):
                _normal(module, draw)
        if spec.arch == "classic":
            _uniform_linear(net.head, draw)
        else:
            net.head.weight.zero_()
    return net.eval()


class PolicyNet(nn.Module):
    """A body of one of the architectures, and a head.

    Attributes:
        spec: What it was made from.
    """

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.body = _BODIES[spec.arch](spec)
        self.head = linear(spec.dim, spec.outputs, spec.arch == "classic")

    def forward(self, features: torch.Tensor, key: Sequence[int] | None = None) -> torch.Tensor:
        """Answers every bar from the bars up to it.

        Args:
            features: float32 (B, T, F), finite (a NaN spoils its whole window, earlier bars too), T at most `spec.context`.
            key: In training, what dropout follows from: whole numbers of at least 0, (seed, step) say. Eval mode drops nothing.

        Returns:
            Logits (B, T, outputs).

        Raises:
            TrainableError: Features of another shape, or training with dropout and no key.
        """
        spec = self.spec
        if features.ndim != 3 or features.shape[2] != spec.n_features or not 0 < features.shape[1] <= spec.context:
            raise TrainableError(
                f"network: features of shape {tuple(features.shape)}; give (windows, 1 to {spec.context} bars, {spec.n_features} features)"
            )
        if self.training and spec.dropout and key is None:
            raise TrainableError("network: training with dropout needs a key to draw it from: net(features, (seed, step))")
        drop = Dropout(spec.dropout, (_DROP, *key) if self.training and key is not None else None, features.device)
        logits = self.head(self.body(features, drop))
        return logits if spec.arch == "classic" or not spec.softcap else spec.softcap * torch.tanh(logits / spec.softcap)


class _FeedForward(nn.Module):
    """dim → 4 dim → dim."""

    def __init__(self, dim: int, activation: str) -> None:
        super().__init__()
        self.up, self.down = linear(dim, 4 * dim), linear(4 * dim, dim)
        self.activation = activation

    def forward(self, x: torch.Tensor, drop: Dropout) -> torch.Tensor:
        return self.down(drop(_activate(self.up(x), self.activation)))


class _NanoBlock(nn.Module):
    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.attention = Attention(spec.dim, spec.heads, spec.kv_heads)
        self.feed = _FeedForward(spec.dim, spec.activation)

    def forward(self, x: torch.Tensor, seen: torch.Tensor | None, turns: torch.Tensor, drop: Dropout) -> torch.Tensor:
        x = x + drop(self.attention(rms(x), seen, turns))
        return x + drop(self.feed(rms(x), drop))


class _ClassicBlock(nn.Module):
    """A post-norm encoder layer, as torch.nn.TransformerEncoderLayer but for dropping attention weights."""

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.attention = Attention(spec.dim, spec.heads, spec.kv_heads, bias=True)
        self.up, self.down = linear(spec.dim, 4 * spec.dim, True), linear(4 * spec.dim, spec.dim, True)
        self.norm_1, self.norm_2 = nn.LayerNorm(spec.dim), nn.LayerNorm(spec.dim)
        self.activation = spec.activation

    def forward(self, x: torch.Tensor, seen: torch.Tensor | None, drop: Dropout) -> torch.Tensor:
        x = self.norm_1(x + drop(self.attention(x, seen)))
        return self.norm_2(x + drop(self.down(drop(_activate(self.up(x), self.activation)))))


class _Attending(nn.Module):
    """What both attention architectures share: embedding, memory before the bars, and who sees whom."""

    seen: torch.Tensor | None
    positions: torch.Tensor

    def __init__(self, spec: NetSpec, positions: torch.Tensor) -> None:
        super().__init__()
        self.embed = linear(spec.n_features, spec.dim, spec.arch == "classic")
        self.memory = nn.Parameter(torch.empty(spec.memory_tokens, spec.dim, device="cpu")) if spec.memory_tokens else None
        # Without a window, memory before the bars is what plain causal attention makes of it: all see it, it sees no bar.
        seen = sight(spec.context, spec.memory_tokens, spec.window) if spec.window else None
        self.register_buffer("seen", seen, persistent=False)
        self.register_buffer("positions", positions, persistent=False)

    def tokens(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Memory and embedded bars (B, M + T, dim), who sees whom, and their positions."""
        x = self.embed(features)
        if self.memory is not None:
            x = torch.cat((self.memory.to(x.dtype).expand(len(x), -1, -1), x), 1)
        length = x.shape[1]
        return x, None if self.seen is None else self.seen[:length, :length], self.positions[:length]


class _Nano(_Attending):
    def __init__(self, spec: NetSpec) -> None:
        super().__init__(spec, rotations(spec.memory_tokens + spec.context, spec.dim // spec.heads))
        self.blocks = nn.ModuleList(_NanoBlock(spec) for _ in range(spec.layers))

    def forward(self, features: torch.Tensor, drop: Dropout) -> torch.Tensor:
        x, seen, turns = self.tokens(features)
        x = rms(x)
        for block in self.blocks:
            x = block(x, seen, turns, drop)
        return rms(x[:, -features.shape[1] :])


class _Classic(_Attending):
    def __init__(self, spec: NetSpec) -> None:
        super().__init__(spec, sinusoids(spec.memory_tokens + spec.context, spec.dim))
        self.blocks = nn.ModuleList(_ClassicBlock(spec) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(spec.dim)

    def forward(self, features: torch.Tensor, drop: Dropout) -> torch.Tensor:
        x, seen, positions = self.tokens(features)
        x = drop(x + positions)
        for block in self.blocks:
            x = block(x, seen, drop)
        return self.norm(x[:, -features.shape[1] :])


class _Recurrent(nn.Module):
    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        sizes = [spec.n_features] + [spec.dim] * (spec.layers - 1)
        # One module a layer: torch's own stack would draw the dropout between layers from the global generator.
        self.cells = nn.ModuleList(nn.GRU(size, spec.dim, batch_first=True, device="meta").to_empty(device="cpu") for size in sizes)

    def forward(self, features: torch.Tensor, drop: Dropout) -> torch.Tensor:
        x = features
        for cell in self.cells:
            x = drop(cell(x)[0])
        return rms(x)


class _Lagged(nn.Module):
    """Nano without attention: the last `window` bars' features side by side, zeros before the first, and feed-forward blocks."""

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.bars = spec.window
        self.embed = linear(spec.window * spec.n_features, spec.dim)
        self.blocks = nn.ModuleList(_FeedForward(spec.dim, spec.activation) for _ in range(spec.layers))

    def forward(self, features: torch.Tensor, drop: Dropout) -> torch.Tensor:
        x = functional.pad(features, (0, 0, self.bars - 1, 0)).unfold(1, self.bars, 1)
        x = rms(self.embed(x.flatten(-2)))
        for block in self.blocks:
            x = x + drop(block(rms(x), drop))
        return rms(x)


_BODIES: Final = {"nano": _Nano, "classic": _Classic, "gru": _Recurrent, "mlp": _Lagged}


def _activate(x: torch.Tensor, name: str) -> torch.Tensor:
    if name == "gelu":
        return functional.gelu(x)
    r = functional.relu(x)
    return r * r  # square() would go back through pow


def _normal(module: nn.Module, draw: torch.Generator) -> None:
    """N(0, min(1, √(out / in)) / √in) for a module's own matrices; zero for those that write to the residual stream (SPEC F.2)."""
    memory = getattr(module, "memory", None)
    if memory is not None:
        memory.normal_(generator=draw)
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            if name in ("out", "down"):
                child.weight.zero_()
            else:
                outputs, inputs = child.weight.shape
                child.weight.normal_(0.0, min(1.0, math.sqrt(outputs / inputs)) / math.sqrt(inputs), generator=draw)


def _uniform(module: _Classic | _ClassicBlock, draw: torch.Generator) -> None:
    """The values torch gives torch.nn.TransformerEncoderLayer and Linear."""
    if isinstance(module, _Classic):
        if module.memory is not None:
            module.memory.normal_(generator=draw)
        _uniform_linear(module.embed, draw)
        return
    attention = module.attention
    rows = sum(len(p.weight) for p in (attention.q, attention.k, attention.v))  # Xavier takes the three as one matrix
    bound = math.sqrt(6.0 / (attention.q.in_features + rows))
    for p in (attention.q, attention.k, attention.v):
        p.weight.uniform_(-bound, bound, generator=draw)
        p.bias.zero_()
    for p in (attention.out, module.up, module.down):
        _uniform_linear(p, draw)
    attention.out.bias.zero_()


def _uniform_linear(layer: nn.Linear, draw: torch.Generator) -> None:
    bound = 1.0 / math.sqrt(layer.in_features)
    for p in layer.parameters():
        p.uniform_(-bound, bound, generator=draw)

"""What a policy network is made of, checked without torch so that a study file can be refused early (SPEC F.1-F.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from trainables.contract import TrainableError, nearest

ARCHITECTURES: Final = ("nano", "classic", "gru", "mlp")
ACTIVATIONS: Final = ("relu2", "gelu")
MLP_BARS: Final = 8  # what a step of an mlp sees when `window` does not say

_LEAST = {"n_features": 1, "dim": 1, "layers": 1, "heads": 1, "kv_heads": 0, "window": 0, "memory_tokens": 0, "outputs": 1, "context": 1}


@dataclass(frozen=True)
class NetSpec:
    """Shape of a policy network. Values that say "by default" are resolved on construction, so equal networks have equal specs.

    Attributes:
        arch: "nano" (SPEC F.2), "classic" (SPEC F.3, made causal), "gru", or "mlp" (nano's feed-forward blocks over the last few bars).
        n_features: Features per bar.
        dim: Width.
        layers: Blocks.
        heads: Query heads (nano, classic).
        kv_heads: Key and value heads that groups of query heads share, 1 is multi-query; 0 is the default: half of `heads` for nano,
            all of them for classic.
        window: Bars a step sees, its own included; 0 is all (mlp: `MLP_BARS`). Layers add up: two of window W reach 2W − 1 bars.
        memory_tokens: Learnable tokens before the first bar that every step sees (nano, classic).
        activation: "relu2" (ReLU²) or "gelu"; "" is the default: gelu for classic, else relu2. The gru has its own gates.
        dropout: Share of activations dropped in training.
        softcap: Logits are softcap·tanh(z / softcap), 0 is no cap; classic has none.
        outputs: Logits per bar; the first four are decoded (SPEC F.4).
        context: Longest window, in bars.
    """

    arch: str
    n_features: int
    dim: int = 256
    layers: int = 4
    heads: int = 8
    kv_heads: int = 0
    window: int = 0
    memory_tokens: int = 0
    activation: str = ""
    dropout: float = 0.1
    softcap: float = 12.0
    outputs: int = 4
    context: int = 128

    def __post_init__(self) -> None:
        _choice("arch", self.arch, ARCHITECTURES)
        for key, least in _LEAST.items():
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise TrainableError(f"{key}: {value!r} is not allowed; give a whole number of at least {least}")
        for key, most in (("dropout", 1.0), ("softcap", math.inf)):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value < most:
                bound = "of at least 0" if math.isinf(most) else f"from 0 to below {most:g}"
                raise TrainableError(f"{key}: {value!r} is not allowed; give a number {bound}")
            object.__setattr__(self, key, float(value))
        if not self.activation:
            object.__setattr__(self, "activation", "gelu" if self.arch == "classic" else "relu2")
        _choice("activation", self.activation, ACTIVATIONS)
        if self.attends:
            self._check_heads()
        elif self.memory_tokens:
            raise TrainableError(f"memory_tokens: {self.memory_tokens} is not allowed for {self.arch}, which attends to nothing; give 0")
        if self.arch == "gru" and self.window:
            raise TrainableError(f"window: {self.window} is not allowed for gru, whose state is of all earlier bars; give 0")
        if self.arch == "mlp" and not self.window:
            object.__setattr__(self, "window", MLP_BARS)

    @property
    def attends(self) -> bool:
        """Whether the architecture is one of attention."""
        return self.arch in ("nano", "classic")

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, for a checkpoint's JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetSpec:
        """Reads what `to_dict` wrote.

        Raises:
            TrainableError: A key that is unknown or missing, or a value that is not allowed.
        """
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                raise TrainableError(f"network: {key!r} is unknown; {nearest(key, known) or 'known are ' + ', '.join(known)}")
        for key in ("arch", "n_features"):
            if key not in values:
                raise TrainableError(f"network: {key!r} is missing")
        return cls(**values)

    def _check_heads(self) -> None:
        if self.dim % self.heads:
            raise TrainableError(f"dim: {self.dim} is not a multiple of heads ({self.heads}); give every head the same width")
        width = self.dim // self.heads
        if self.arch == "nano" and width % 2:
            raise TrainableError(f"dim: {self.dim} over {self.heads} heads is {width} each; give an even number, since pairs are rotated")
        if not self.kv_heads:
            most = self.heads if self.arch == "classic" else max(1, self.heads // 2)
            object.__setattr__(self, "kv_heads", max(n for n in range(1, most + 1) if self.heads % n == 0))
        if self.kv_heads > self.heads or self.heads % self.kv_heads:
            raise TrainableError(f"kv_heads: {self.kv_heads} does not divide heads ({self.heads}); each serves the same number of them")


def _choice(key: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise TrainableError(f"{key}: {value!r} is not allowed; {nearest(value, allowed) or 'give one of ' + ', '.join(allowed)}")

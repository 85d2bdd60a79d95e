"""A seeded shuffle of [0, size) with random access, so that a sample of a billion points costs what the sample costs.

An alternating Feistel network is a bijection of [0, 2**bits); results that fall outside [0, size) are sent through it
again until they are inside (cycle walking, Black and Rogaway 2002), fewer than one extra pass on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ROUNDS: Final = 12  # even, so that the halves end with the widths they began with
_INT64_LIMIT: Final = 2**62


@dataclass(frozen=True)
class Permutation:
    """A bijection of [0, size).

    Attributes:
        size: Number of elements, at least 1, of any magnitude up to 2**1024.
        seed: Any integer; another seed gives another order.
    """

    size: int
    seed: int

    def __call__(self, indices: NDArray[Any]) -> NDArray[Any]:
        """Returns the images.

        Args:
            indices: In [0, size), shape (n,).

        Returns:
            Shape (n,), int64, or object (Python integers) if size is 2**62 or more.
        """
        dtype: Any = np.int64 if self.size < _INT64_LIMIT else object
        x = self._network(np.asarray(indices).astype(dtype))
        outside = np.flatnonzero(x >= self.size)
        while len(outside):
            x[outside] = self._network(x[outside])
            outside = outside[np.asarray(x[outside] >= self.size, dtype=bool)]
        return x

    @property
    def _bits(self) -> int:
        return max(2, (self.size - 1).bit_length())

    @cached_property
    def _keys(self) -> list[bytes]:
        return [blake2b(f"{self.seed}:{r}".encode(), digest_size=16, person=b"alphasweep-prm").digest() for r in range(ROUNDS)]

    def _network(self, x: NDArray[Any]) -> NDArray[Any]:
        narrow = self._bits // 2
        wide = self._bits - narrow
        left, right = x >> wide, x & ((1 << wide) - 1)
        mix, cast = (_mixed, np.uint64) if wide <= 64 else (_hashed, int)
        left, right = (half.astype(np.uint64 if wide <= 64 else object) for half in (left, right))
        for r, key in enumerate(self._keys):
            width = wide if r % 2 else narrow  # of the half that changes
            left, right = right, left ^ (mix(right, key) & cast((1 << width) - 1))
        left, right = left.astype(x.dtype), right.astype(x.dtype)
        return np.asarray((left << wide) | right)


def _mixed(half: NDArray[Any], key: bytes) -> NDArray[Any]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014), keyed before and in the middle."""
    a, b = (np.uint64(int.from_bytes(part, "little")) for part in (key[:8], key[8:]))
    z = half + a
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = ((z ^ b) ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def _hashed(half: NDArray[Any], key: bytes) -> NDArray[Any]:
    """The same for integers beyond 64 bits."""
    out = np.empty(len(half), dtype=object)
    out[:] = [int.from_bytes(blake2b(b"%d" % h, digest_size=64, key=key).digest(), "little") for h in half]
    return out

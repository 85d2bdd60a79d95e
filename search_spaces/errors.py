"""What is wrong with a space, in words: where it is, what is allowed, what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SpaceError(ValueError):
    """A search space or sampler that cannot be used; the message starts with the key's path."""


def did_you_mean(word: object, known: Iterable[object]) -> str:
    """Returns " Did you mean 'x'?" with the nearest of the known spellings, or nothing if none is near."""
    spellings = {str(k).lower(): str(k) for k in known}
    near = difflib.get_close_matches(str(word).lower(), spellings, 1)
    return f" Did you mean {spellings[near[0]]!r}?" if near else ""

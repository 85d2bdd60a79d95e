"""The one error of this room, and the words for a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MarketError(ValueError):
    """Market data, costs or options that cannot be used; the message says which file, symbol or key and what to do."""


def unknown(name: object, allowed: Iterable[str]) -> str:
    """Says what could have been meant: the nearest spelling if there is one, and all that is allowed."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")
    return f"{hint}known: {shown or 'none'}"

"""The one error of this room, and the words for a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class MarketError(ValueError):
    """Market data, costs or options that cannot be used; the message says which file, symbol or key and what to do."""


class UnclassifiedError(MarketError):
    """Symbols of which it cannot be told what they are."""


def unknown(name: object, allowed: Iterable[str]) -> str:
    """Says what could have been meant: the nearest spelling if there is one, and all that is allowed."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    return (f"did you mean {near[0]!r}? " if near else "") + _known(names)


def unknown_symbols(asked: Sequence[str], allowed: Iterable[str]) -> str:
    """Says which symbols are not there, with the nearest spelling of each, whatever its case, and all that are there."""
    names = sorted(allowed)
    near = {symbol: difflib.get_close_matches(symbol.upper(), names, n=1, cutoff=0.6) for symbol in asked}
    hints = [f"{hit[0]!r}{f' for {symbol!r}' if len(asked) > 1 else ''}" for symbol, hit in near.items() if hit]
    return (f"did you mean {', '.join(hints)}? " if hints else "") + _known(names)


def quoted(names: Iterable[str]) -> str:
    """Returns names as they stand in a message, such as "'FOO', 'BAR'"."""
    return ", ".join(map(repr, names))


def _known(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")
    return f"known: {shown or 'none'}"

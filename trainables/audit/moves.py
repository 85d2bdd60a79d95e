"""Which values had to stay when the future changed, and which of them moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.audit.perturb import Reach
from trainables.audit.stages import Stage


@dataclass(frozen=True)
class Move:
    """Values of one column that moved although what they may know had not.

    Attributes:
        order: Position of the stage in the causal order.
        stage: Stage. column: Column. symbol: Symbol, "" for a portfolio-wide column.
        time: The earliest bar that moved.
        rows: How many bars moved.
        ahead: How many rows after that bar the first changed one starts; 0: within the same row.
        kind: Perturbation.
        config: Index of the configuration.
    """

    order: int
    stage: str
    column: str
    symbol: str
    time: np.datetime64
    rows: int
    ahead: int
    kind: str = ""
    config: int = 0


@dataclass(frozen=True)
class Comparison:
    """Two traces, compared.

    Attributes:
        moves: What moved and must not have.
        held: Number of values that had to stay.
        reacted: Whether anything that is still there moved where it was allowed to: otherwise nothing was at stake.
        uncomparable: Stages that began at another time, as after a cut where only the last rows are traded.
    """

    moves: tuple[Move, ...]
    held: int
    reacted: bool
    uncomparable: tuple[str, ...]


def compare(before: Sequence[Stage], after: Sequence[Stage], limit: Reach) -> Comparison:
    """Compares the stages of the original and the perturbed market, value by value and bit by bit."""
    moves: list[Move] = []
    held, reacted = 0, False
    skipped: list[str] = []
    there = {stage.name: stage for stage in after}
    for order, stage in enumerate(before):
        other = there.get(stage.name)
        if other is None or not len(other.times) or (stage.times[:1] != other.times[:1]).any():
            skipped.append(stage.name)
            continue
        rows = np.searchsorted(other.times, stage.times)
        rows = np.minimum(rows, len(other.times) - 1)
        here = other.times[rows] == stage.times
        by_symbol, whole = _fixed(stage, stage.symbols, limit), _fixed(stage, ("",), limit)
        for name, values in stage.columns.items():
            symbols, must = (stage.symbols, by_symbol) if np.ndim(values) == 2 else (("",), whole)
            table = np.asarray(values, dtype=np.float64).reshape(len(stage.times), -1)
            found = _columns(other, name, symbols)[rows]
            found[~here] = np.nan
            differs = ~((table == found) | (np.isnan(table) & np.isnan(found)))
            held += int(must.sum())
            if not differs.any():
                continue
            reacted |= bool((differs & ~must & here[:, None]).any())  # that the end is gone is no reaction
            for k in np.flatnonzero((differs & must).any(axis=0)):
                moved = np.flatnonzero(differs[:, k] & must[:, k])
                first = stage.times[moved[0]]
                ahead = int(np.searchsorted(stage.times, limit.first.min()) - moved[0])
                moves.append(Move(order, stage.name, name, symbols[k], first, len(moved), max(ahead, 0)))
    return Comparison(tuple(moves), held, reacted, tuple(skipped))


def _columns(stage: Stage, name: str, symbols: Sequence[str]) -> np.ndarray:
    """The named column by symbol, float64 (T, len(symbols)); what is not there (a symbol left out) is NaN."""
    out = np.full((len(stage.times), len(symbols)), np.nan)
    values = stage.columns.get(name)
    if values is None:
        return out
    table = np.asarray(values, dtype=np.float64).reshape(len(stage.times), -1)
    own = stage.symbols if np.ndim(values) == 2 else ("",)
    for k, symbol in enumerate(symbols):
        if symbol in own:
            out[:, k] = table[:, own.index(symbol)]
    return out


def _fixed(stage: Stage, symbols: Sequence[str], limit: Reach) -> np.ndarray:
    """Says, bool (T, len(symbols)), where a stage's value may not have noticed the change; see `Stage.known`."""
    times = stage.times[:, None]
    own = np.array([limit.first[limit.symbols.index(s)] if s in limit.symbols else limit.first.min() for s in symbols])
    if stage.known == "end":
        return np.broadcast_to(times < limit.first.min(), (len(times), len(symbols)))
    fixed = (times < limit.settled) & (times < limit.existence)
    return fixed & (times < own) if stage.known == "own" else np.broadcast_to(fixed, (len(times), len(symbols)))

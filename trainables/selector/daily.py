"""Daily returns: what a configuration earned day by day, and what it would have without a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainables.market import Panel


def columns(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Numbers the UTC days of each part.

    Args:
        parts: Row starts of each stretch of time, datetime64[ns].

    Returns:
        The days of all parts, datetime64[D] (D,), and for each part the column of each row among its own days, int64 (T,). A day
        cut by the end of a part counts in both.
    """
    days, where = [], []
    for times in parts:
        found, column = np.unique(times.astype("datetime64[D]"), return_inverse=True)
        days.append(found)
        where.append(column.astype(np.int64))
    return np.concatenate(days), where


def returns(equity: np.ndarray, initial_cash: float) -> np.ndarray:
    """Turns equity at the end of each day, float64 (n, D), into simple returns, float32 (n, D); the first from the initial cash.

    A day without a row moved nothing; after ruin nothing moves.
    """
    known = np.where(np.isnan(equity), 0, np.arange(1, equity.shape[1] + 1))
    filled = np.concatenate([np.full((len(equity), 1), initial_cash), equity], axis=1)
    last = np.take_along_axis(
        filled, np.concatenate([np.zeros((len(equity), 1), int), np.maximum.accumulate(known, axis=1)], axis=1), axis=1
    )
    before, after = last[:, :-1], last[:, 1:]
    return np.where(before > 0.0, after / np.where(before > 0.0, before, 1.0) - 1.0, 0.0).astype(np.float32)


def benchmarks(parts: Sequence[Panel]) -> Mapping[str, np.ndarray]:
    """Returns daily returns (D,) of: holding nothing, holding all symbols in equal parts, following yesterday's risers. No costs."""
    held, naive = [], []
    for panel in parts:
        _, [column] = columns([panel.times])
        last = np.append(np.flatnonzero(np.diff(column)), len(column) - 1)
        filled = panel.close.copy()
        for t in range(1, len(filled)):
            filled[t] = np.where(np.isnan(filled[t]), filled[t - 1], filled[t])
        closes = np.concatenate([filled[:1], filled[last]])
        with np.errstate(invalid="ignore"):
            move = np.nan_to_num(closes[1:] / closes[:-1] - 1.0)
        held.append(move.mean(axis=1))
        rose = np.concatenate([np.zeros((1, move.shape[1]), bool), move[:-1] > 0.0])
        naive.append(np.where(rose.any(axis=1), (move * rose).sum(axis=1) / np.maximum(rose.sum(axis=1), 1), 0.0))
    hold = np.concatenate(held)
    return {"flat": np.zeros_like(hold), "buy and hold": hold, "yesterday's risers": np.concatenate(naive)}

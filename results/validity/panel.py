"""The matrix every function of this package takes: simple returns of T periods (rows) × N trials (columns)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LOG_FLOOR: Final = 1e-8
"""A growth factor 1+r below this counts as this: a total loss stays finite in logarithms (as in `results.metrics`)."""

_CHUNK_BYTES: Final = 1 << 25


class ValidityError(ValueError):
    """The input cannot be judged; the message says what is wrong, where, and what to do."""


def returns_matrix(returns: ArrayLike, *, least_periods: int = 2, least_trials: int = 1, finite: bool = True) -> NDArray[Any]:
    """Return `returns` as a (T, N) matrix in its own float type, checked; a vector becomes one column.

    Args:
        returns: (T,) or (T, N) simple returns per period, float32 or float64 (other types become float64).
        least_periods: Fewest rows.
        least_trials: Fewest columns.
        finite: Refuse NaN and infinities.

    Raises:
        ValidityError: Not a matrix, too small, or a value that is not finite (names its row and column).
    """
    matrix = np.asarray(returns)
    if matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float64)
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2:
        raise ValidityError(f"returns have {matrix.ndim} dimensions; give a matrix of periods × trials")
    if matrix.shape[0] < least_periods:
        raise ValidityError(f"returns have {matrix.shape[0]} periods; at least {least_periods} are needed")
    if matrix.shape[1] < least_trials:
        raise ValidityError(f"returns have {matrix.shape[1]} trials; at least {least_trials} are needed")
    if finite:
        for start, part in column_chunks(matrix):
            bad = np.argwhere(~np.isfinite(part))
            if len(bad):
                row, column = bad[0]
                raise ValidityError(
                    f"return of trial {start + column} in period {row} is {part[row, column]}; leave out trials without a full series"
                )
    return matrix


def column_chunks(matrix: NDArray[Any], rows: int | None = None) -> Iterator[tuple[int, Floats]]:
    """Yield (first column, float64 copy of some columns): memory stays bounded whatever N.

    Args:
        matrix: (T, N).
        rows: Rows of the largest temporary the caller makes per column; default T.
    """
    width = max(1, _CHUNK_BYTES // (8 * max(matrix.shape[0], rows or 0, 1)))
    for start in range(0, matrix.shape[1], width):
        yield start, matrix[:, start : start + width].astype(np.float64)


def compound(returns: ArrayLike, groups: int | ArrayLike) -> NDArray[Any]:
    """Return the returns of longer periods, Π(1+r)−1 within each: hourly to daily before a bootstrap.

    Args:
        returns: (T, N) or (T,) simple returns.
        groups: Rows per longer period (the last may be shorter), or (T,) labels such as dates, equal labels adjacent.

    Returns:
        (G, N), in the type of `returns`; N is 1 for a vector.

    Raises:
        ValidityError: Labels of another length or not in order.
    """
    matrix = returns_matrix(returns, least_periods=1)
    if isinstance(groups, (int, np.integer)):
        if groups < 1:
            raise ValidityError(f"groups is {groups}; a longer period has at least 1 row")
        starts = np.arange(0, matrix.shape[0], int(groups))
    else:
        labels = np.asarray(groups).reshape(-1)
        if len(labels) != matrix.shape[0]:
            raise ValidityError(f"there are {len(labels)} labels for {matrix.shape[0]} periods; give one for each")
        starts = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
        if len(np.unique(labels)) != len(starts):
            raise ValidityError("a label comes back after another one; sort the periods by time")
    out = np.empty((len(starts), matrix.shape[1]), matrix.dtype)
    for start, part in column_chunks(matrix):
        out[:, start : start + part.shape[1]] = np.multiply.reduceat(1.0 + part, starts, axis=0) - 1.0
    return out


def centred_unit(matrix: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return columns with mean 0 and length 1, and which columns vary at all (the others are left out).

    Returns:
        (T, M) float32 whose Gram matrix is the correlation matrix, and the (N,) mask of the M columns kept.
    """
    kept = np.zeros(matrix.shape[1], bool)
    parts = []
    for start, part in column_chunks(matrix):
        part -= part.mean(axis=0)
        scale = np.sqrt(np.einsum("tn,tn->n", part, part))
        varies = scale > 1e-12 * np.sqrt(len(part)) * np.maximum(np.abs(matrix[:, start : start + part.shape[1]]).max(axis=0), 1e-300)
        kept[start : start + part.shape[1]] = varies
        parts.append((part[:, varies] / scale[varies]).astype(np.float32))
    return np.concatenate(parts, axis=1), kept

"""Where on its grid the winner sits: on an edge (look further out), on a plateau, or on a spike (luck)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from results.validity.panel import Ints, ValidityError

PLATEAU_KEEPS: Final = 0.5
"""A plateau's neighbours keep at least this share of the winner's lead over the median trial; a spike's do not."""

MIN_NEIGHBOURS: Final = 2
"""Fewer neighbours with a score say nothing about the shape."""

MIN_AXIS: Final = 3
"""Axes with fewer values have no inside, so none of their values counts as an edge."""


@dataclass(frozen=True)
class GridPosition:
    """The winner's surroundings.

    Attributes:
        winner: Its row.
        edges: Axes on whose first or last value it sits, as (axis, "lowest" | "highest").
        neighbours: Scored trials one step away along one ordered axis, all other parameters equal.
        neighbour_score: Their median score; NaN without any.
        lead_kept: (neighbour_score − median of all) / (winner − median of all); 1 is flat, 0 or less a lone spike.
        shape: "plateau", "spike", or "n/a" (fewer than `MIN_NEIGHBOURS`, or all scores equal).
    """

    winner: int
    edges: tuple[tuple[str, Literal["lowest", "highest"]], ...]
    neighbours: int
    neighbour_score: float
    lead_kept: float
    shape: Literal["plateau", "spike", "n/a"]

    def words(self) -> str:
        """Return it for people, such as "on the edge of the grid (fast: lowest); on a plateau"."""
        edges = "on the edge of the grid (" + ", ".join(f"{axis}: {side}" for axis, side in self.edges) + ")"
        shape = {"plateau": "on a plateau", "spike": "on a spike", "n/a": "surroundings n/a"}[self.shape]
        return f"{edges if self.edges else 'inside the grid'}; {shape}"


def grid_position(
    parameters: Mapping[str, Sequence[Any]],
    scores: ArrayLike,
    axes: Mapping[str, Sequence[Any]],
    *,
    direction: Literal["max", "min"] = "max",
    winner: int | None = None,
) -> GridPosition:
    """Return where the winner sits among the trials of a grid.

    Axes of numbers are ordered by value; axes with any other value (names, switches) have no order: they have no edge, and
    a neighbour must agree on them. Several trials on one grid point (seeds) all count.

    Args:
        parameters: Column of N values for each axis; a DataFrame will do.
        scores: (N,), NaN for trials without one.
        axes: The values each parameter was swept over.
        direction: Which scores are better.
        winner: Row; default the best score.

    Raises:
        ValidityError: A missing column, columns of different lengths, a value that is not on its axis, no score at all.
    """
    values = np.asarray(scores, np.float64).reshape(-1)
    if not np.isfinite(values).any():
        raise ValidityError("no trial has a score; there is no winner to place")
    better = np.where(np.isfinite(values), values if direction == "max" else -values, np.nan)
    best = int(np.nanargmax(better)) if winner is None else int(winner)
    if not 0 <= best < len(better) or not np.isfinite(better[best]):
        raise ValidityError(f"winner is row {best} of {len(better)}; it must be a row with a score")
    distance = np.zeros(len(values), np.int64)
    edges: list[tuple[str, Literal["lowest", "highest"]]] = []
    for axis, swept in axes.items():
        if axis not in parameters:
            raise ValidityError(f"axis {axis!r} has no column of parameters; there are {', '.join(map(repr, parameters))}")
        step, ordered, size = _steps(axis, parameters[axis], swept, len(values))
        away = np.abs(step - step[best])
        distance += away if ordered else np.where(away > 0, 2, 0)
        if ordered and size >= MIN_AXIS and step[best] in (0, size - 1):
            edges.append((axis, "lowest" if step[best] == 0 else "highest"))
    near = better[(distance == 1) & np.isfinite(better)]
    middle = float(np.nanmedian(better))
    around = float(np.median(near)) if len(near) else float("nan")
    lead = float(better[best]) - middle
    kept = (around - middle) / lead if lead > 0.0 else float("nan")
    shape: Literal["plateau", "spike", "n/a"] = "n/a"
    if len(near) >= MIN_NEIGHBOURS and np.isfinite(kept):
        shape = "plateau" if kept >= PLATEAU_KEEPS else "spike"
    return GridPosition(best, tuple(edges), len(near), around if direction == "max" else -around, kept, shape)


def _steps(axis: str, column: Sequence[Any], swept: Sequence[Any], rows: int) -> tuple[Ints, bool, int]:
    """Place of each row's value on the axis, whether places are ordered, and how many there are."""
    found = list(column)
    if len(found) != rows:
        raise ValidityError(f"parameter {axis!r} has {len(found)} values for {rows} scores; give one for each trial")
    if all(isinstance(value, (Real, np.number)) and not isinstance(value, (bool, np.bool_)) for value in swept):
        marks = np.unique(np.asarray(swept, np.float64))
        try:
            numbers = np.asarray(found, np.float64)
        except (TypeError, ValueError):
            raise ValidityError(f"parameter {axis!r} has values that are not numbers, but its axis has only numbers") from None
        return _nearest(axis, numbers, marks), True, len(marks)
    place = {_key(value): number for number, value in enumerate(swept)}
    missing = next((value for value in found if _key(value) not in place), None)
    if missing is not None:
        raise ValidityError(f"parameter {axis!r} has the value {missing!r}, which is not on its axis {list(swept)!r}")
    return np.array([place[_key(value)] for value in found], np.int64), False, len(place)


def _nearest(axis: str, numbers: NDArray[np.float64], marks: NDArray[np.float64]) -> Ints:
    right = np.clip(np.searchsorted(marks, numbers), 0, len(marks) - 1)
    left = np.maximum(right - 1, 0)
    step = np.where(np.abs(numbers - marks[left]) < np.abs(numbers - marks[right]), left, right)
    off = ~np.isclose(numbers, marks[step], rtol=1e-9, atol=1e-12)
    if off.any():
        raise ValidityError(f"parameter {axis!r} has the value {numbers[off][0]!r}, which is not on its axis {marks.tolist()}")
    return np.asarray(step, np.int64)


def _key(value: Any) -> tuple[bool, str]:
    """Equal for values that mean the same: 5 and 5.0, None and the NaN a table makes of it; True is not 1."""
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or plain != plain:
        return False, "None"
    if isinstance(plain, Real) and not isinstance(plain, bool):
        return False, repr(float(plain))
    return isinstance(plain, bool), repr(plain)

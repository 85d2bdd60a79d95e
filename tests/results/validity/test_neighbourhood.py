from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.validity import ValidityError, grid_position

AXES: dict[str, list[Any]] = {"fast": [5, 10, 20, 40, 80], "edge": [0.0, 0.1, 0.2, 0.3, 0.4], "mode": ["high", "low"]}
GRID = pd.DataFrame(list(product(*AXES.values())), columns=list(AXES))


def hill(fast: float, edge: float, width: float) -> np.ndarray:
    x, y = np.log2(GRID["fast"] / fast), (GRID["edge"] - edge) * 10
    return np.asarray(np.exp(-(x**2 + y**2) / width) * (GRID["mode"] == "low"), float)


def test_a_broad_hill_inside_the_grid_is_a_plateau() -> None:
    found = grid_position(GRID, hill(20, 0.2, 4.0), AXES)
    assert found.shape == "plateau" and found.edges == () and found.neighbours == 4
    assert found.lead_kept > 0.7
    assert found.words() == "inside the grid; on a plateau"


def test_a_single_high_point_is_a_spike() -> None:
    scores = np.random.default_rng(0).normal(0, 0.1, len(GRID))
    scores[GRID.index[(GRID["fast"] == 20) & (GRID["edge"] == 0.2) & (GRID["mode"] == "low")]] = 3.0
    found = grid_position(GRID, scores, AXES)
    assert found.shape == "spike" and found.lead_kept < 0.2


def test_the_edges_are_named() -> None:
    found = grid_position(GRID, hill(5, 0.4, 4.0), AXES)
    assert found.edges == (("fast", "lowest"), ("edge", "highest"))
    assert found.words() == "on the edge of the grid (fast: lowest, edge: highest); on a plateau"


def test_names_have_no_edge_and_no_neighbours_along_them() -> None:
    scores = np.where(GRID["mode"] == "high", 5.0, -5.0) + hill(20, 0.2, 4.0)
    scores[GRID.index[(GRID["fast"] == 20) & (GRID["edge"] == 0.2) & (GRID["mode"] == "high")]] = 6.0
    found = grid_position(GRID, scores, AXES)
    assert found.neighbours == 4 and found.neighbour_score == 5.0


def test_smaller_may_be_better_and_another_row_may_be_asked_for() -> None:
    scores = -hill(20, 0.2, 4.0)
    found = grid_position(GRID, scores, AXES, direction="min")
    assert found.shape == "plateau" and found.neighbour_score < 0
    assert grid_position(GRID, scores, AXES, direction="min", winner=3).winner == 3


def test_trials_at_random_points_have_no_neighbours_to_judge_by() -> None:
    table = {"x": [1, 3, 5], "y": [1, 3, 5]}
    found = grid_position(table, [1.0, 2.0, 3.0], {"x": [1, 2, 3, 4, 5], "y": [1, 2, 3, 4, 5]})
    assert found.neighbours == 0 and found.shape == "n/a" and np.isnan(found.neighbour_score)
    flat = grid_position(GRID, np.zeros(len(GRID)), AXES)
    assert flat.shape == "n/a"


def test_axes_of_one_or_two_values_have_no_edge_and_mixed_axes_no_order() -> None:
    table = {"a": [1, 2], "b": [None, 5], "c": [True, False]}
    found = grid_position(table, [1.0, np.nan], {"a": [1, 2], "b": [None, 5.0], "c": [True, False]})
    assert found.winner == 0 and found.edges == () and found.neighbours == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"y": [1]}, "axis 'x' has no column"),
        ({"x": [1, 2]}, "2 values for 1 scores"),
        ({"x": [9]}, "value .*9.0.*not on its axis"),
        ({"x": ["a"]}, "not numbers"),
    ],
)
def test_tables_that_do_not_fit_the_axes_are_refused(table: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(ValidityError, match=message):
        grid_position(table, [1.0], {"x": [1, 2, 3]})
    with pytest.raises(ValidityError, match="no trial has a score"):
        grid_position({"x": [1]}, [np.nan], {"x": [1, 2, 3]})

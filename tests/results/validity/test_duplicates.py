from __future__ import annotations

import numpy as np

from results.validity import duplicate_groups


def test_equal_trials_share_a_label_in_order_of_appearance() -> None:
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(0, 0.01, (3, 200))
    returns = np.column_stack([b, a, b + 5e-13, c, a, np.zeros(200), np.zeros(200)])
    assert duplicate_groups(returns).tolist() == [0, 1, 0, 2, 1, 3, 3]


def test_trials_that_differ_in_one_return_or_only_in_order_are_apart() -> None:
    series = np.random.default_rng(1).normal(0, 0.01, 100)
    other = series.copy()
    other[50] += 1e-9
    swapped = series.copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    assert duplicate_groups(np.column_stack([series, other, swapped])).tolist() == [0, 1, 2]
    assert duplicate_groups(np.column_stack([series, other, swapped]), tolerance=1e-8).tolist() == [0, 0, 1]


def test_values_that_straddle_a_rounding_boundary_are_equal() -> None:
    series = np.full(50, 0.5e-12)
    assert duplicate_groups(np.column_stack([series - 1e-16, series + 1e-16])).tolist() == [0, 0]


def test_no_trials_and_no_difference() -> None:
    assert duplicate_groups(np.empty((5, 0))).tolist() == []
    many = duplicate_groups(np.tile(np.random.default_rng(2).normal(size=(30, 70)), 20).astype(np.float32))
    assert many.tolist() == list(range(70)) * 20

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import pytest

from search_spaces import Space, make_sampler


@contextmanager
def flat_memory(limit: int = 2_000_000) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def digits(i: int, n: int) -> dict[str, int]:
    """The three decimal digits of i that each axis of a thousand values stands for."""
    return {f"x{k}": i // 1000 ** (n - 1 - k) % 1000 for k in range(n)}


@pytest.mark.parametrize("axes", [3, 6, 8])  # 10**9, 10**18, and 10**24, beyond 64 bits
def test_any_point_of_a_huge_grid_costs_one_point(axes: int) -> None:
    size = 1000**axes
    with flat_memory():
        space = Space.parse({f"x{k}": {"int": [0, 999]} for k in range(axes)})
        assert space.size == size
        for i in (0, 1, 999, 1000, size // 2, size // 7, size - 1):
            assert space.point(i) == digits(i, axes)
        assert list(islice(space.points(), 3)) == [digits(i, axes) for i in range(3)]
        assert list(space.points(size - 2)) == [digits(i, axes) for i in (size - 2, size - 1)]
        with pytest.raises(IndexError):
            space.point(size)


def test_one_axis_of_a_billion_values_is_not_written_out() -> None:
    with flat_memory():
        space = Space.parse({"k": {"int": [1, 10**9]}, "half": {"derived": "k // 2"}})
        assert space.size == 10**9
        assert space.point(10**9 - 1) == {"k": 10**9, "half": 5 * 10**8}


@pytest.mark.parametrize("axes", [3, 6, 8])
def test_a_huge_conditional_grid_is_found_by_stratum(axes: int) -> None:
    wide: dict[str, Any] = {f"x{k}": {"int": [0, 999]} for k in range(axes)}
    full = 1000**axes
    with flat_memory():
        space = Space.parse({"mode": ["a", "b", "c"], **wide, "x0": {"int": [0, 999], "when": "mode == 'b'"}, "d": {"derived": "x0 + 1"}})
        part = full // 1000
        assert space.size == full + 2 * part
        short = {k: v for k, v in digits(part - 1, axes).items() if k != "x0"}
        assert space.point(part - 1) == {"mode": "a", **short}
        assert space.point(part) == {"mode": "b", **digits(0, axes), "d": 1}
        assert space.point(part + full - 1) == {"mode": "b", **digits(full - 1, axes), "d": 1000}
        assert space.point(part + full) == {"mode": "c", **{k: v for k, v in digits(0, axes).items() if k != "x0"}}
        assert "x0" not in space.point(full + 2 * part - 1)


@pytest.mark.parametrize("axes", [3, 6, 8])
@pytest.mark.parametrize("name", ["grid", "random"])
def test_a_sample_of_a_huge_grid_costs_what_the_sample_costs(name: str, axes: int) -> None:
    with flat_memory():
        sampler = make_sampler(name, Space.parse({f"x{k}": {"int": [0, 999]} for k in range(axes)}), trials=10**6, seed=3)
        configs = sampler.configs(999_000, 10**6)
    assert len({tuple(c.values()) for c in configs}) == 1000
    for k in range(axes):  # every axis is covered evenly: mean of 1000 uniform draws, five standard errors
        assert abs(np.mean([c[f"x{k}"] for c in configs]) - 499.5) < 5 * 288.7 / 1000**0.5


def test_expressions_are_evaluated_once_per_distinct_combination(monkeypatch: pytest.MonkeyPatch) -> None:
    from search_spaces.expressions import Expression

    space = Space.parse({"a": {"int": [0, 9]}, "b": {"int": [0, 99_999]}, "d": {"derived": "2 * a"}})
    calls = []
    evaluate = Expression.evaluate
    monkeypatch.setattr(Expression, "evaluate", lambda self, scope: calls.append(1) or evaluate(self, scope))
    points = list(space.points(0, 4096))
    assert points[-1]["d"] == 0 and len(calls) == 1
    assert [p["d"] for p in space.points_at(np.arange(0, 10**6, 1000))] == [2 * (i // 100_000) for i in range(0, 10**6, 1000)]
    assert len(calls) == 11

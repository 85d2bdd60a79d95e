from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from search_spaces import SAMPLERS, Sampler, Space, SpaceError, make_sampler

GRID = {"m": ["a", "b"], "k": {"int": [0, 6]}, "s": {"choice": [1, 2, 3], "when": "m == 'b'"}, "d": {"derived": "k + s"}}
MIXED = {
    "m": ["a", "b", "c"],
    "x": {"uniform": [-2, 3]},
    "lr": {"loguniform": [1e-6, 1e-1]},
    "k": {"int": [3, 9]},
    "s": {"uniform": [0, 1], "when": "m == 'b' and x > 0"},
    "t": {"choice": [1, 2], "when": "s > 0.5"},
    "d": {"derived": "k * s"},
}
CASES: dict[str, tuple[str, dict[str, Any], int | None]] = {
    "whole grid": ("grid", GRID, None),
    "part of a grid": ("grid", GRID, 20),
    "shuffled grid": ("random", GRID, None),
    "random": ("random", MIXED, 200),
    "qmc": ("qmc", MIXED, 200),
    "qmc on a grid": ("qmc", GRID, 50),
}


def made(case: str, seed: int = 0) -> Sampler:
    name, mapping, trials = CASES[case]
    return make_sampler(name, Space.parse(mapping), trials=trials, seed=seed)


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_window_is_a_slice_of_the_whole(case: str, data: st.DataObject) -> None:
    sampler = made(case)
    whole = sampler.configs(0, sampler.size)
    assert len(whole) == sampler.size
    start = data.draw(st.integers(0, sampler.size))
    stop = data.draw(st.integers(start, sampler.size))
    assert sampler.configs(start, stop) == whole[start:stop]


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_numbers_give_what_they_give_one_by_one(case: str, data: st.DataObject) -> None:
    sampler = made(case)
    numbers = data.draw(st.lists(st.integers(0, sampler.size - 1), max_size=12))
    assert sampler.at(np.array(numbers, np.int64)) == [sampler.configs(i, i + 1)[0] for i in numbers]


@pytest.mark.parametrize("case", CASES)
def test_arranged_numbers_are_the_same_numbers_and_those_of_a_shuffled_grid_in_the_grids_order(case: str) -> None:
    sampler = made(case)
    numbers = np.arange(3, sampler.size - 2)
    arranged = sampler.alike(numbers)
    assert sorted(arranged.tolist()) == numbers.tolist()
    if case in ("whole grid", "part of a grid", "shuffled grid"):
        grid = Space.parse(GRID).points()
        place = {str(point): i for i, point in enumerate(grid)}
        places = [place[str(point)] for point in sampler.at(arranged)]
        assert places == sorted(places)


@pytest.mark.parametrize("case", CASES)
def test_another_sampler_of_the_same_seed_gives_the_same_points_and_of_another_seed_others(case: str) -> None:
    first, again, other = made(case, 1), made(case, 1), made(case, 2)
    whole = first.configs(0, first.size)
    assert again.configs(0, again.size) == whole
    assert (other.configs(0, other.size) == whole) == (case == "whole grid")


@pytest.mark.parametrize("case", CASES)
def test_windows_outside_the_sampler_are_refused(case: str) -> None:
    sampler = made(case)
    for start, stop in ((-1, 2), (2, 1), (0, sampler.size + 1)):
        with pytest.raises(IndexError, match="the sampler has"):
            sampler.configs(start, stop)


@pytest.mark.parametrize(("name", "mapping"), [("random", GRID), ("random", MIXED), ("qmc", MIXED), ("grid", GRID)])
def test_a_longer_run_begins_with_the_shorter_one(name: str, mapping: dict[str, Any]) -> None:
    space = Space.parse(mapping)
    assert make_sampler(name, space, trials=20).configs(0, 20) == make_sampler(name, space, trials=9).configs(0, 9) + make_sampler(
        name, space, trials=20
    ).configs(9, 20)


def test_a_whole_grid_comes_in_order() -> None:
    space = Space.parse(GRID)
    for trials in (None, 28, 1000):
        sampler = make_sampler("grid", space, trials=trials, seed=5)
        assert sampler.size == 28 and sampler.configs(0, 28) == list(space.points())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.sampled_from(["grid", "random"]), st.integers(), st.data())
def test_a_finite_grid_is_sampled_without_replacement(lengths: list[int], name: str, seed: int, data: st.DataObject) -> None:
    space = Space.parse({f"x{i}": list(range(n)) for i, n in enumerate(lengths)})
    assert space.size is not None
    trials = data.draw(st.integers(1, space.size + 3))
    sampler = make_sampler(name, space, trials=trials, seed=seed)
    found = {tuple(c.values()) for c in sampler.configs(0, sampler.size)}
    assert sampler.size == min(trials, space.size) == len(found)
    assert found <= {tuple(p.values()) for p in space.points()}


@pytest.mark.parametrize("name", ["random", "qmc"])
def test_values_stay_inside_their_bounds_and_conditional_ones_are_absent_where_the_condition_is_false(name: str) -> None:
    configs = make_sampler(name, Space.parse(MIXED), trials=2048, seed=4).configs(0, 2048)
    for c in configs:
        assert c["m"] in "abc" and -2 <= c["x"] <= 3 and 1e-6 <= c["lr"] <= 1e-1 and c["k"] in range(3, 10)
        assert ("s" in c) == ("d" in c) == (c["m"] == "b" and c["x"] > 0)
        assert ("t" in c) == (c.get("s", 0) > 0.5)
        assert "s" not in c or (0 <= c["s"] <= 1 and c["d"] == c["k"] * c["s"])
    assert sum("s" in c for c in configs) == pytest.approx(2048 / 3 * 3 / 5, rel=0.15)
    assert kstest([c["s"] for c in configs if "s" in c], "uniform").pvalue > 1e-3


@pytest.mark.parametrize("name", ["random", "qmc"])
def test_marginals_are_uniform_in_the_scale_of_each_kind(name: str) -> None:
    configs = make_sampler(name, Space.parse(MIXED), trials=4096, seed=11).configs(0, 4096)
    assert kstest((np.array([c["x"] for c in configs]) + 2) / 5, "uniform").pvalue > 1e-3
    assert kstest((np.log10([c["lr"] for c in configs]) + 6) / 5, "uniform").pvalue > 1e-3
    counts = Counter(c["k"] for c in configs)
    assert sorted(counts) == list(range(3, 10)) and chisquare(list(counts.values())).pvalue > 1e-3
    assert chisquare(list(Counter(c["m"] for c in configs).values())).pvalue > 1e-3


def test_random_coordinates_are_independent_of_each_other_and_of_their_neighbours() -> None:
    space = Space.parse({f"x{i}": {"uniform": [0, 1]} for i in range(6)})
    u = np.array([list(c.values()) for c in make_sampler("random", space, trials=4000, seed=2).configs(0, 4000)])
    together = np.hstack([u[:-1], u[1:]])
    assert np.abs(np.corrcoef(together.T) - np.eye(12)).max() < 5 / 4000**0.5


def test_int_with_log_is_even_over_octaves_and_reaches_both_bounds() -> None:
    configs = make_sampler("qmc", Space.parse({"k": {"int": [1, 255], "log": True}}), trials=4096, seed=0).configs(0, 4096)
    values = [c["k"] for c in configs]
    assert min(values) == 1 and max(values) == 255 and all(type(v) is int for v in values)
    octaves = Counter(v.bit_length() for v in values)
    assert sorted(octaves) == list(range(1, 9)) and all(abs(n - 512) < 16 for n in octaves.values())


def test_qmc_has_exactly_one_point_in_each_bin_of_a_power_of_two() -> None:
    space = Space.parse({f"x{i}": {"uniform": [0, 1]} for i in range(5)})
    for seed in (0, 1):
        configs = make_sampler("qmc", space, trials=300, seed=seed).configs(0, 256)
        for name in space.names:
            assert sorted(int(c[name] * 256) for c in configs) == list(range(256))


def test_qmc_does_not_warn_about_sizes_that_are_not_powers_of_two() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler = make_sampler("qmc", Space.parse(MIXED), trials=100)
        assert len(sampler.configs(0, 7)) == 7 and len(sampler.configs(7, 100)) == 93 and sampler.configs(5, 5) == []


def test_qmc_and_random_of_constants_repeat_the_one_configuration() -> None:
    space = Space.parse({"a": 1, "d": {"derived": "a + 1"}})
    assert make_sampler("qmc", space, trials=2).configs(0, 2) == [{"a": 1, "d": 2}] * 2
    assert make_sampler("random", space, trials=2).configs(0, 1) == [{"a": 1, "d": 2}]


def test_points_are_the_same_on_all_machines_and_versions() -> None:
    space = Space.parse({"x": {"uniform": [0, 1]}, "lr": {"loguniform": [1e-5, 1e-1]}, "k": {"int": [1, 1000]}})
    assert make_sampler("random", space, trials=9, seed=7).configs(5, 6) == [{"x": 0.316189095, "lr": 0.000771427681875, "k": 845}]
    assert make_sampler("qmc", space, trials=9, seed=7).configs(5, 6) == [{"x": 0.358277064748, "lr": 0.00011866025297, "k": 341}]
    numbers = Space.parse({"k": {"int": [0, 10**9 - 1]}})
    assert [c["k"] for c in make_sampler("random", numbers, trials=4, seed=7).configs(0, 4)] == [866453743, 444904283, 816110004, 527968200]


@pytest.mark.parametrize(
    ("name", "mapping", "options", "words"),
    [
        ("gird", GRID, {}, ["sampler: 'gird' is unknown", "grid, random, qmc", "Did you mean 'grid'?"]),
        ("grid", MIXED, {}, ["sampler: grid cannot enumerate", "space.x", "space.lr", "points: N", "random or qmc"]),
        ("random", MIXED, {}, ["trials:", "say how many", "space.x"]),
        ("qmc", GRID, {}, ["trials:", "say how many"]),
        ("qmc", GRID, {"trials": 2**30 + 1}, ["at most 2**30", "random"]),
        ("random", GRID, {"trials": 0}, ["trials: 0 is not allowed", "from 1"]),
        ("random", GRID, {"trials": 2.5}, ["trials: 2.5"]),
        ("random", GRID, {"trials": True}, ["trials: True"]),
        ("random", GRID, {"seed": "x"}, ["seed: 'x' is not allowed", "whole number"]),
        ("random", GRID, {"seed": 1.0}, ["seed: 1.0"]),
    ],
)
def test_a_sampler_that_cannot_be_made_says_why(name: str, mapping: dict[str, Any], options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpaceError) as caught:
        make_sampler(name, Space.parse(mapping), **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_every_listed_sampler_can_be_made() -> None:
    assert set(SAMPLERS) == {"grid", "random", "qmc"}
    for name in SAMPLERS:
        assert make_sampler(name, Space.parse(GRID), trials=np.int64(3), seed=np.int64(-1)).size == 3

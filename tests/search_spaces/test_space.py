from __future__ import annotations

import math
import pickle
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Space, SpaceError
from search_spaces.parameters import significant
from tests.search_spaces.brute import Written, at_unit, declared, enumerate_all, spaces


@settings(max_examples=200, deadline=None)
@given(spaces(), st.randoms(use_true_random=False))
def test_a_space_equals_its_brute_force_enumeration(written: list[Written], rng: random.Random) -> None:
    expected, held = enumerate_all(written)
    if any(p.when is not None and p.name not in held for p in written):
        with pytest.raises(SpaceError, match="can never hold"):
            Space.parse(declared(written))
        return
    space = Space.parse(declared(written))
    points = list(space.points())
    assert space.is_grid and space.size == len(expected)
    assert list(map(repr, points)) == list(map(repr, expected))  # repr: the order of keys and 1 against 1.0 count
    assert len({repr(p) for p in points}) == len(points)
    assert [space.point(i) for i in range(len(expected))] == expected
    start, stop = sorted(rng.choices(range(len(expected) + 1), k=2))
    assert list(space.points(start, stop)) == expected[start:stop]
    rows = rng.choices(range(len(expected)), k=5)
    assert space.points_at(np.array(rows)) == [expected[i] for i in rows]


@settings(max_examples=100, deadline=None)
@given(spaces(), st.randoms(use_true_random=False))
def test_the_order_of_the_keys_changes_the_numbering_but_not_the_set_of_points(written: list[Written], rng: random.Random) -> None:
    expected, held = enumerate_all(written)
    if any(p.when is not None and p.name not in held for p in written):
        return
    items = list(declared(written).items())
    rng.shuffle(items)
    mixed = list(Space.parse(dict(items)).points())
    assert len(mixed) == len(expected)
    assert {frozenset(p.items()) for p in mixed} == {frozenset(p.items()) for p in expected}


@settings(max_examples=200, deadline=None)
@given(spaces(continuous=True), st.data())
def test_from_unit_equals_a_walk_through_the_parameters(written: list[Written], data: st.DataObject) -> None:
    dimension = sum(p.tree is None and isinstance(p.spec, (list, dict)) for p in written)
    unit = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1))
    u = [data.draw(st.lists(unit, min_size=dimension, max_size=dimension)) for _ in range(4)]
    expected = [at_unit(written, row) for row in u]
    try:
        space = Space.parse(declared(written))
    except SpaceError as error:
        # Where axes are continuous it is only said of what is certain: never of a parameter that does exist somewhere.
        assert "can never hold" in str(error)
        name = str(error).split(":")[0].split(".")[1]
        assert not any(name in config for config in expected)
        return
    assert space.dimension == dimension
    found = space.from_unit(np.array(u).reshape(4, dimension))
    for config, want in zip(found, expected, strict=True):
        assert list(config) == list(want)
        assert all(
            config[k] == v if isinstance(v, str) else math.isclose(config[k], v, rel_tol=1e-11, abs_tol=1e-11) for k, v in want.items()
        )


def test_points_are_numbered_like_nested_loops_with_the_first_parameter_slowest() -> None:
    space = Space.parse({"a": [1, 2], "b": ["x", "y"]})
    assert list(space.points()) == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]


def test_what_conditions_depend_on_is_numbered_before_all_others() -> None:
    space = Space.parse({"a": [1, 2], "mode": ["on", "off"], "k": {"choice": [7, 8], "when": "mode == 'on'"}})
    assert [(p["mode"], p["a"], p.get("k")) for p in space.points()] == [
        ("on", 1, 7),
        ("on", 1, 8),
        ("on", 2, 7),
        ("on", 2, 8),
        ("off", 1, None),
        ("off", 2, None),
    ]


def test_a_parameter_of_a_parameter_that_does_not_exist_does_not_exist_either() -> None:
    space = Space.parse(
        {
            "exit": ["hold", "stop"],
            "stop": {"grid": [1, 2], "when": "exit == 'stop'"},
            "trail": {"choice": ["p", "q"], "when": "stop == 2"},
            "wide": {"derived": "3 * stop"},
        }
    )
    assert list(space.points()) == [
        {"exit": "hold"},
        {"exit": "stop", "stop": 1, "wide": 3},
        {"exit": "stop", "stop": 2, "trail": "p", "wide": 6},
        {"exit": "stop", "stop": 2, "trail": "q", "wide": 6},
    ]


def test_a_derived_value_needs_to_be_defined_only_where_it_exists() -> None:
    space = Space.parse({"k": [0, 2], "inverse": {"derived": "1 / k", "when": "k > 0"}})
    assert list(space.points()) == [{"k": 0}, {"k": 2, "inverse": 0.5}]


def test_an_empty_space_has_one_empty_point() -> None:
    space = Space.parse({})
    assert space.size == 1 and list(space.points()) == [{}] and space.point(0) == {}


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "text", ""])
def test_a_scalar_is_a_constant_of_its_own_type(value: object) -> None:
    (point,) = Space.parse({"x": value}).points()
    assert point == {"x": value} and type(point["x"]) is type(value)


def test_lists_as_values_stay_together_and_cannot_be_changed() -> None:
    inner = [1, 2]
    space = Space.parse({"layers": [inner, [3]]})
    inner.append(9)
    assert list(space.points()) == [{"layers": (1, 2)}, {"layers": (3,)}]


def test_numpy_values_become_plain_ones() -> None:
    points = list(Space.parse({"a": np.arange(2), "b": np.float64(0.5)}).points())
    assert points == [{"a": 0, "b": 0.5}, {"a": 1, "b": 0.5}]
    assert {type(v) for p in points for v in p.values()} == {int, float}


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        ({"int": [2, 5]}, [2, 3, 4, 5]),
        ({"int": [2, 7], "step": 2}, [2, 4, 6]),
        ({"int": [3, 3]}, [3]),
        ({"int": [1, 4], "log": True}, [1, 2, 3, 4]),
        ({"int": [2.0, 4.0]}, [2, 3, 4]),
        ({"uniform": [0, 1], "points": 5}, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ({"uniform": [0.1, 0.3], "points": 3}, [0.1, 0.2, 0.3]),
        ({"loguniform": [1e-4, 1], "points": 5}, [1e-4, 1e-3, 1e-2, 0.1, 1.0]),
        ({"loguniform": [1 / 3, 3], "points": 3}, [1 / 3, 1.0, 3.0]),
    ],
)
def test_the_axis_of_each_kind_is_exact(spec: object, values: list[float]) -> None:
    found = [p["x"] for p in Space.parse({"x": spec}).points()]
    assert found == values and [type(v) for v in found] == [type(v) for v in values]


@given(st.floats(1e-250, 1e250), st.booleans())
def test_computed_values_carry_twelve_digits(x: float, negative: bool) -> None:
    x = -x if negative else x
    (rounded,) = significant(np.array([x]))
    assert math.isclose(rounded, x, rel_tol=5.1e-12)
    assert math.isclose(float(f"{rounded:.12g}"), rounded, rel_tol=4e-16)


def test_points_outside_the_grid_are_refused() -> None:
    space = Space.parse({"a": [1, 2, 3]})
    for bad in (-1, 3, 10**30):
        with pytest.raises(IndexError, match="there are 3"):
            space.point(bad)
    for start, stop in ((-1, 2), (2, 1), (0, 4)):
        with pytest.raises(IndexError, match="there are 3"):
            space.points(start, stop)
    with pytest.raises(IndexError):
        space.points_at(np.array([0, 3]))
    assert list(space.points(3, 3)) == [] and space.points_at(np.array([], dtype=int)) == []


def test_a_space_with_a_continuous_axis_has_no_points_and_says_what_to_do() -> None:
    space = Space.parse({"a": [1, 2], "lr": {"loguniform": [1e-5, 1e-3]}})
    assert space.size is None and not space.is_grid and space.not_a_grid is not None
    for call in (lambda: space.point(0), lambda: space.points()):
        with pytest.raises(SpaceError, match=r"space\.lr .*add `points: N`.*random or qmc"):
            call()


def test_a_condition_on_too_many_combinations_is_sampled_not_enumerated() -> None:
    space = Space.parse({"k": {"int": [0, 10**6]}, "x": {"choice": [1, 2], "when": "k > 5"}})
    assert space.size is None
    with pytest.raises(SpaceError, match=r"space\.k: .*1,000,001 combinations, the limit is 100,000"):
        space.points()
    assert space.from_unit(np.array([[0.0, 0.9], [1.0, 0.9]])) == [{"k": 0}, {"k": 10**6, "x": 2}]


def test_derived_values_of_axes_too_long_to_multiply_are_not_mixed_up() -> None:
    # 4096 values of a times 2**53 of b is beyond 64 bits.
    space = Space.parse({"a": {"int": [0, 4095]}, "b": {"int": [0, 2**53 - 2]}, "d": {"derived": "a + b"}})
    u = np.column_stack([np.arange(4096) / 4096, np.zeros(4096)])
    assert [c["d"] for c in space.from_unit(u)] == list(range(4096))


@pytest.mark.parametrize("u", [[[0.5]], [0.5, 0.5], [[0.5, 1.1]], [[0.5, -0.1]], [[0.5, math.nan]]])
def test_from_unit_refuses_what_is_not_a_point_of_the_unit_square(u: object) -> None:
    with pytest.raises(SpaceError, match=r"shape \(n, 2\)"):
        Space.parse({"a": [1, 2], "b": {"uniform": [0, 1]}}).from_unit(np.array(u))


def test_from_unit_keeps_the_bounds_and_gives_equal_bins() -> None:
    space = Space.parse({"x": {"loguniform": [1e-5, 0.3]}, "k": {"int": [1, 4]}, "c": ["p", "q"], "one": 1})
    rows = space.from_unit(np.array([[0, 0, 0], [1, 1, 1], [0.5, 0.2499, 0.4999], [0.5, 0.25, 0.5]]))
    assert rows[0] == {"x": 1e-5, "k": 1, "c": "p", "one": 1} and rows[1] == {"x": 0.3, "k": 4, "c": "q", "one": 1}
    assert rows[2]["x"] == pytest.approx(math.sqrt(1e-5 * 0.3))
    assert [(r["k"], r["c"]) for r in rows[2:]] == [(1, "p"), (2, "q")]


BASE = {"mode": ["a", "b"], "k": {"int": [1, 4]}, "x": {"uniform": [0, 1], "when": "mode == 'a'"}, "d": {"derived": "2 * k"}, "c": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"mode": ["b", "a"]},
        {"mode": ["a", "b", "c"]},
        {"mode": {"choice": ["a", "b"]}},
        {"k": {"int": [1, 5]}},
        {"k": {"int": [1, 4], "step": 3}},
        {"k": {"int": [1, 4], "log": True}},
        {"x": {"uniform": [0, 1]}},
        {"x": {"uniform": [0, 1], "when": "mode == 'b'"}},
        {"x": {"uniform": [0, 1], "points": 3, "when": "mode == 'a'"}},
        {"x": {"loguniform": [0.1, 1], "when": "mode == 'a'"}},
        {"d": {"derived": "3 * k"}},
        {"c": 2},
        {"c": True},
        {"c": "1"},
        {"c": None},
        {"new": 1},
    ],
)
def test_another_space_has_another_digest(change: dict[str, object]) -> None:
    base, other = Space.parse(BASE), Space.parse(BASE | change)
    assert base.digest != other.digest and base != other


def test_the_same_space_written_differently_has_the_same_digest() -> None:
    same = {
        "mode": {"grid": ["a", "b"]},
        "k": {"step": 1, "log": False, "int": [1.0, 4]},
        "x": {"when": " mode == 'a'\n", "uniform": [0.0, 1]},
        "d": {"derived": "2 * k"},
        "c": 1.0,
    }
    base = Space.parse(BASE)
    for other in (Space.parse(same, path="elsewhere"), Space.parse(base.to_dict()), pickle.loads(pickle.dumps(base))):
        assert other.digest == base.digest and other == base and hash(other) == hash(base)


def test_the_digest_counts_the_order_of_parameters_because_it_numbers_the_points() -> None:
    assert Space.parse({"a": [1, 2], "b": [1, 2]}).digest != Space.parse({"b": [1, 2], "a": [1, 2]}).digest
    # Here there is only one possible order, whatever the user's.
    assert Space.parse({"d": {"derived": "a"}, "a": [1]}).digest == Space.parse({"a": [1], "d": {"derived": "a"}}).digest


def test_the_digest_is_the_same_on_all_machines_and_versions() -> None:
    assert Space.parse(BASE).digest == "4a20992b0e4cecc73eaef7bb246dbf13"


@settings(max_examples=100, deadline=None)
@given(spaces(continuous=True))
def test_the_canonical_mapping_reads_back_as_the_same_space(written: list[Written]) -> None:
    try:
        space = Space.parse(declared(written))
    except SpaceError:
        return
    again = Space.parse(space.to_dict())
    assert again.to_dict() == space.to_dict() and again.digest == space.digest and again.names == space.names


def test_a_pickled_space_gives_the_same_points() -> None:
    space = Space.parse({"m": ["a", "b"], "k": {"int": [1, 3], "when": "m == 'a'"}, "d": {"derived": "k ** 2"}})
    points = list(space.points())  # the grid is built before pickling
    assert list(pickle.loads(pickle.dumps(space)).points()) == points


def test_describe_gives_four_texts_per_parameter() -> None:
    space = Space.parse(
        {
            "mode": ["a", "b"],
            "flag": [True, None, "true", "1", 1, [1, "x"]],
            "many": list(range(20)),
            "k": {"int": [1, 9], "step": 2, "when": "mode == 'a'"},
            "lr": {"loguniform": [1e-5, 1e-3]},
            "u": {"uniform": [0, 1], "points": 4},
            "d": {"derived": "2 * k"},
            "c": 0.5,
        }
    )
    rows = space.describe()
    assert all(len(row) == 4 and all(isinstance(x, str) for x in row) for row in rows)
    assert {row.name: tuple(row[1:]) for row in rows} == {
        "mode": ("grid", "a, b", ""),
        "flag": ("grid", "true, null, 'true', '1', 1, [1, \"x\"]", ""),
        "many": ("grid", "0, 1, 2, 3, … 19 (20 values)", ""),
        "k": ("int", "1 … 9 step 2", "mode == 'a'"),
        "lr": ("loguniform", "1e-05 … 0.001 log", ""),
        "u": ("uniform", "0.0 … 1.0, 4 points", ""),
        "d": ("derived", "= 2 * k", ""),
        "c": ("constant", "0.5", ""),
    }


def test_extremes_are_listed_values_and_ends_and_ranges_are_not_written_out() -> None:
    space = Space.parse({"a": [1, 2], "k": {"int": [0, 10**12]}, "x": {"uniform": [0, 1]}, "d": {"derived": "a"}, "c": "z"})
    assert list(space.extremes()) == [("a", 1), ("a", 2), ("k", 0), ("k", 10**12), ("x", 0.0), ("x", 1.0), ("c", "z")]

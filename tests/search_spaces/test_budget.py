"""Rules that end a study: what they are met by, which comes first, and that they follow from the results alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import SpaceError
from search_spaces.budget import Budget, Met, Spending, Used


def spending(direction: str = "max", **section: Any) -> Spending:
    return Spending(Budget.parse(section, direction=direction))


def after(values: list[float | None], direction: str = "max", **section: Any) -> Met | None:
    made = spending(direction, **section)
    for value in values:
        made.result(value)
    return made.met


def test_a_target_is_met_by_the_first_result_that_reaches_it_in_the_objectives_direction() -> None:
    assert after([1.0, 2.0, 3.0, 9.0], target=3) == Met("target", 3.0, 3.0, 3, 3.0)
    assert after([1.0, 2.9], target=3) is None
    assert after([4.0, 1.5, 2.5], "min", target=2) == Met("target", 1.5, 2.0, 2, 1.5)
    assert after([0.1, 0.21], target="20%") == Met("target", 0.21, 0.2, 2, 0.21)


def test_what_does_not_count_reaches_no_target_but_is_a_result() -> None:
    assert after([None, math.nan, math.inf, 5.0], target=3) == Met("target", 5.0, 3.0, 4, 5.0)


def test_trials_are_the_results_that_were_worked_out_for_this_study() -> None:
    made = spending(trials=2)
    for new in (False, True, False):
        made.result(1.0, new)
    assert made.met is None
    made.result(None)
    assert made.met is not None and (made.met.kind, made.met.value, made.met.after) == ("trials", 2.0, 4)


def test_a_plateau_is_as_many_counted_results_in_which_the_best_rose_by_no_more_than_the_gain() -> None:
    assert after([1.0, 0.5, None, 0.9, 0.2], plateau=3) == Met("plateau", 0.0, 0.0, 5, 1.0, 3)
    assert after([1.0, 0.5, 1.1, 0.2], plateau=3) is None  # rose by 0.1
    risen = after([1.0, 0.5, 1.1, 0.2], plateau={"trials": 3, "gain": 0.2})
    assert risen is not None and risen.value == pytest.approx(0.1) and risen.best == 1.1
    assert after([5.0, 4.0, 3.0, 2.0], "min", plateau=3) is None
    assert after([5.0, 5.0, 6.0, 7.0], "min", plateau=3) == Met("plateau", 0.0, 0.0, 4, 5.0, 3)


def test_a_slow_rise_is_no_plateau_as_long_as_it_adds_up() -> None:
    assert after([0.01 * i for i in range(50)], plateau={"trials": 10, "gain": 0.05}) is None
    assert after([0.004 * i for i in range(50)], plateau={"trials": 10, "gain": 0.05}) is not None


def test_a_bound_below_the_regret_that_is_accepted_ends_it() -> None:
    made = spending(regret=0.1)
    made.result(1.0)
    made.bound(math.nan)
    made.bound(0.1)
    assert made.met is None
    made.bound(0.09)
    assert made.met == Met("regret", 0.09, 0.1, 1, 1.0)
    other = spending(target=5)
    other.bound(0.0)
    assert other.met is None


@pytest.mark.parametrize(
    ("section", "less", "used", "kind", "value"),
    [
        ({"hours": 2}, Used(1.9, 9.0, 9.0, 9.0), Used(hours=2.0), "hours", 2.0),
        ({"worker_hours": 3}, Used(9.0, 2.9, 9.0, 9.0), Used(worker_hours=3.5), "worker_hours", 3.5),
        ({"accelerator_hours": 1}, Used(9.0, 9.0, 0.9, 9.0), Used(accelerator_hours=1.25), "accelerator_hours", 1.25),
        ({"cost": 25, "price": 2.5}, Used(99.0, 99.0, 99.0, 9.9), Used(paid_hours=10.0), "cost", 25.0),
    ],
)
def test_what_was_used_ends_it_once_it_is_as_much_as_was_allowed(
    section: dict[str, Any], less: Used, used: Used, kind: str, value: float
) -> None:
    made = spending(**section)
    made.spent(less)
    assert made.met is None
    made.spent(used)
    assert made.met is not None and (made.met.kind, made.met.value) == (kind, value)


def test_whichever_comes_first_stays_what_ended_it() -> None:
    made = spending(target=3, trials=3, hours=1)
    made.result(1.0)
    made.spent(Used(hours=1.5))
    made.result(5.0)
    made.result(5.0)
    assert made.met is not None and (made.met.kind, made.met.after) == ("hours", 1)
    assert after([1.0, 2.0, 3.0], target=3, trials=3).kind == "target"  # type: ignore[union-attr]


@given(
    values=st.lists(st.one_of(st.none(), st.floats(-10, 10)), max_size=60),
    cut=st.integers(0, 60),
    direction=st.sampled_from(["max", "min"]),
    trials=st.integers(1, 60),
    target=st.floats(-10, 10),
    plateau=st.integers(1, 20),
    gain=st.floats(0, 3),
)
def test_built_again_from_the_results_before_any_cut_it_ends_where_it_would_have_ended(
    values: list[float | None], cut: int, direction: str, trials: int, target: float, plateau: int, gain: float
) -> None:
    section: dict[str, Any] = {"trials": trials, "target": target, "plateau": {"trials": plateau, "gain": gain}}
    whole = after(values, direction, **section)
    again = spending(direction, **section)
    for value in values[:cut]:  # after a kill
        again.result(value)
    for value in values[cut:]:
        again.result(value)
    assert again.met == whole
    if whole is not None:  # and not a result earlier
        assert after(values[: whole.after], direction, **section) == whole
        assert after(values[: whole.after - 1], direction, **section) is None


def test_hours_may_be_texts() -> None:
    def read(text: Any) -> float | None:
        return Budget.parse({"hours": text}).hours

    assert [read(each) for each in (2, 0.5, "90m", "90 min", "2h", "1.5h", "1d", "36s")] == [2, 0.5, 1.5, 1.5, 2, 1.5, 24, 0.01]


def test_an_empty_section_and_rules_that_are_null_are_no_budget() -> None:
    assert not Budget.parse({}) and not Budget.parse({"target": None, "plateau": None})
    assert Budget.parse({"target": 0.0}) and not Budget.parse({"trials": 5}).judges


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"trails": 5}, "stop.trails: there is no such rule; known: trials, hours, .* Did you mean 'trials'?"),
        ({"trials": 0}, "stop.trials: 0 is not allowed; give a whole number of at least 1"),
        ({"trials": True}, "stop.trials: True is not allowed"),
        ({"trials": 2.5}, "stop.trials: 2.5 is not allowed"),
        ({"hours": -1}, "stop.hours: -1 is not allowed; give hours above 0, or a text such as '90m'"),
        ({"hours": "soon"}, "stop.hours: 'soon' is not allowed"),
        ({"worker_hours": 0}, "stop.worker_hours: 0 is not allowed"),
        ({"cost": 5}, "stop.cost: it needs the price of an hour; add stop.price"),
        ({"price": 5}, "stop.price: it has no meaning without stop.cost"),
        ({"cost": "much", "price": 1}, "stop.cost: 'much' is not allowed; give a number above 0"),
        ({"target": "high"}, "stop.target: 'high' is not allowed; give a number in the objective's unit, or a text such as '20%'"),
        ({"target": [1]}, r"stop.target: \[1\] is not allowed"),
        ({"target": True}, "stop.target: True is not allowed"),
        ({"target": math.nan}, "stop.target: nan is not allowed"),
        ({"plateau": {"gain": 1}}, "stop.plateau: say in how many results the best has to rise"),
        ({"plateau": {"trials": 5, "gian": 1}}, "stop.plateau.gian: there is no such option; known: trials, gain. Did you mean 'gain'?"),
        ({"plateau": {"trials": 5, "gain": -1}}, "stop.plateau.gain: -1 is not allowed; give a number of at least 0"),
        ({"plateau": {"trials": "5"}}, "stop.plateau.trials: '5' is not allowed; give a whole number"),
        ({"plateau": "long"}, "stop.plateau: 'long' is not allowed; give a whole number"),
        ({"regret": 0}, "stop.regret: 0 is not allowed; give a number above 0"),
    ],
)
def test_nonsense_is_told_with_its_key_and_what_would_be_right(section: dict[str, Any], told: str) -> None:
    with pytest.raises(SpaceError, match=told.replace("?", r"\?")):
        Budget.parse(section)


def test_the_bound_of_what_is_left_holds_falls_and_repeats() -> None:
    pytest.importorskip("torch")
    from search_spaces import Space, make_sampler
    from search_spaces.adaptive.remaining import EVERY, LEAST, Remaining

    space = Space.parse({"x": {"uniform": [-5, 5]}, "y": [1, 2, 3, 4]})
    points = make_sampler("random", space, trials=60, seed=1).configs(0, 60)

    def bounds() -> tuple[list[int], list[float], list[float]]:
        made, best = Remaining(space, "min", seed=3), math.inf
        counts, found, regret = list[int](), list[float](), list[float]()
        for point in points:
            value = (point["x"] - 1) ** 2 + (point["y"] - 2) ** 2
            best = min(best, value)
            if (sample := made.result(point, value)) is not None:
                counts.append(sample.count)
                found.append(made.bound(sample))
                regret.append(best)  # the least possible is 0
        return counts, found, regret

    counts, found, regret = bounds()
    assert counts == [LEAST + EVERY * i for i in range(len(counts))] and len(counts) == 6
    assert all(bound >= left for bound, left in zip(found, regret, strict=True)) and found[-1] < found[0] < 50.0
    assert bounds() == (counts, found, regret)


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({"x": {"choice": ["a", "b"]}, "y": [1, 2]}, "stop.regret: the values of x have no order"),
        ({"x": [1, 2], "y": {"uniform": [0, 1], "when": "x == 1"}}, "stop.regret: y exists only under a condition"),
        ({"x": 1}, "stop.regret: the space has one point"),
    ],
)
def test_a_space_without_a_bound_is_refused(space: dict[str, Any], told: str) -> None:
    from search_spaces import Space
    from search_spaces.adaptive.remaining import check

    with pytest.raises(SpaceError, match=told):
        check(Space.parse(space))

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search_spaces import Space, SpaceError, make_sampler
from search_spaces.adaptive import FAILED, FILLED, Goal, Outcome, Seen, Suggester, batch_of, bayesian, choose, make_suggester
from search_spaces.adaptive.axes import Axes

MIXED = {
    "x": {"uniform": [-5, 5]},
    "rate": {"loguniform": [1e-4, 1]},
    "k": [1, 2, 3, 5, 8],
    "falling": [8, 4, 2],
    "grid": {"uniform": [0, 1], "points": 5},
    "n": {"int": [2, 20], "step": 3},
    "wide": {"int": [1, 1000], "log": True},
    "words": ["up", "down"],
    "mode": {"choice": ["a", "b"]},
    "z": {"uniform": [0, 1], "when": "mode == 'b'"},
    "both": {"derived": "k * 2"},
    "fix": 7,
}
PLAIN = {"x": {"uniform": [-5, 5]}, "y": {"uniform": [-5, 5]}, "rate": {"loguniform": [1e-4, 1]}}


def bowl(p: dict[str, Any]) -> float:
    return -((p["x"] - 1) ** 2 + (p.get("y", -2) + 2) ** 2 + (math.log10(p["rate"]) + 2) ** 2)


def search(suggester: Suggester, trials: int, size: int, judge: Callable[[dict[str, Any]], Outcome], cut: int | None = None) -> list[Seen]:
    """Runs a search in batches; after `cut` of them it goes on from what a file would have kept, with another object."""
    history: list[Seen] = []
    batch = 0
    while len(history) < trials:
        made = suggester.suggest((), history, suggester.generation or size, batch)
        history += [Seen(s.point, judge(s.point), s.attrs) for s in made]
        batch += 1
        if batch == cut:
            history = [Seen(json.loads(json.dumps(s.point)), s.outcome, json.loads(json.dumps(s.attrs))) for s in history]
            again: Any = suggester
            suggester = type(again)(**{name: getattr(again, name) for name in type(again).__dataclass_fields__})
    return history


def judged(p: dict[str, Any]) -> Outcome:
    return Outcome((bowl(p),))


def test_a_point_of_every_kind_of_axis_is_drawn_and_found_again():
    space = Space.parse(MIXED)
    axes = Axes(space)
    for point in make_sampler("random", space, trials=200, seed=3).configs(0, 200):
        drawn = axes.drawn(point)
        assert drawn is not None
        assert axes.point(drawn) == point
        assert ("z" in drawn) == (point["mode"] == "b")
        assert all(axes.distributions[name]._contains(axes.distributions[name].to_internal_repr(value)) for name, value in drawn.items())


def test_a_value_no_axis_has_and_a_derived_one_that_disagrees_are_no_points():
    axes = Axes(Space.parse(MIXED))
    point = make_sampler("random", axes.space, trials=1, seed=0).configs(0, 1)[0]
    for change in ({"k": 4}, {"n": 3}, {"x": 6.0}, {"x": "1"}, {"words": True}, {"both": 3}, {"fix": 8}, {"mode": "c"}):
        assert axes.drawn({**point, **change}) is None, change
    assert axes.drawn({name: value for name, value in point.items() if name != "rate"}) is None
    assert axes.drawn({**point, "of the trainable": 1}) is not None


def test_what_is_sorted_stays_ordered_and_what_is_not_is_a_category():
    kinds = {name: type(d).__name__ for name, d in Axes(Space.parse(MIXED)).distributions.items()}
    assert {kinds[name] for name in ("k", "falling", "grid", "n", "wide")} == {"IntDistribution"}
    assert {kinds[name] for name in ("words", "mode")} == {"CategoricalDistribution"}
    assert {kinds[name] for name in ("x", "rate", "z")} == {"FloatDistribution"}


@pytest.mark.parametrize("name", ["tpe", "cmaes", "nsga2"])
def test_a_search_finds_better_points_than_chance_and_all_of_them_are_of_the_space(name: str):
    space = Space.parse({**PLAIN, "mode": {"choice": ["a", "b"]}, "z": {"uniform": [0, 1], "when": "mode == 'b'"}})
    found = search(make_suggester(name, space, Goal(), batch=8, seed=5), 160, 8, judged)
    axes = Axes(space)
    assert all(axes.drawn(seen.point) is not None for seen in found)
    chance = [max(map(bowl, make_sampler("random", space, trials=160, seed=s).configs(0, 160))) for s in range(9)]
    assert max(seen.outcome.values[0] for seen in found) > np.median(chance)


@pytest.mark.parametrize(("name", "trials"), [("tpe", 100), ("cmaes", 400), ("nsga2", 200), ("nsga3", 150), ("gp", 15)])
def test_a_search_cut_anywhere_goes_on_from_its_history_as_if_it_had_not_been(name: str, trials: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bayesian, "REMEMBERED", 60)
    monkeypatch.setattr(bayesian, "BEST", 10)
    space = Space.parse(PLAIN)
    size = {"gp": 3, "tpe": 10}.get(name, 50)
    whole = search(make_suggester(name, space, Goal(), batch=size, seed=2), trials, size, judged)
    for cut in (3, 8) if name == "tpe" else (3,):
        again = search(make_suggester(name, space, Goal(), batch=size, seed=2), trials, size, judged, cut)
        assert [s.point for s in again] == [s.point for s in whole]
    other = search(make_suggester(name, space, Goal(), batch=size, seed=3), size, size, judged)
    assert [s.point for s in other] != [s.point for s in whole[: len(other)]]


def test_a_batch_keeps_apart_and_what_is_at_work_is_kept_away_from():
    space = Space.parse({"x": {"uniform": [-5, 5]}, "rate": {"loguniform": [1e-4, 1]}})
    tpe = make_suggester("tpe", space, Goal(), batch=16, seed=1)
    history = search(tpe, 64, 16, judged)
    batch = [s.point for s in tpe.suggest((), history, 16, 4)]
    alone = [tpe.suggest((), history, 1, 4 + i)[0].point for i in range(16)]

    def spread(points: list[dict[str, Any]]) -> float:
        x = np.array([[p["x"] / 10, np.log10(p["rate"]) / 4] for p in points])
        d = np.linalg.norm(x[:, None] - x, axis=-1) + 9 * np.eye(len(x))
        return float(np.median(d.min(1)))

    assert spread(batch) > spread(alone)


def test_failures_and_early_stops_are_learnt_from():
    space = Space.parse({"x": {"uniform": [-5, 5]}})

    def half(p: dict[str, Any]) -> Outcome:
        if p["x"] < -2:
            return FAILED
        return Outcome((-abs(p["x"] - 1),), step=None if abs(p["x"] - 1) < 2 else 3)

    for name in ("tpe", "cmaes"):
        found = search(make_suggester(name, space, Goal(), batch=10, seed=0), 120, 10, half)
        late = found[-40:]
        assert sum(s.outcome == FAILED for s in late) <= 4
        assert np.mean([abs(s.point["x"] - 1) < 1 for s in late]) > 0.5


def test_after_so_many_results_the_gaussian_process_is_not_asked_any_more(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    own = bayesian.Bayesian._sampler

    def seen(self: Any, kind: str, seed: int) -> Any:
        asked.append(kind)
        return own(self, "tpe", seed)

    monkeypatch.setattr(bayesian.Bayesian, "_sampler", seen)
    monkeypatch.setattr(bayesian, "REMEMBERED", 10)  # fewer than the results from which it is not asked
    monkeypatch.setattr(bayesian, "GP_TRIALS", 20)
    search(make_suggester("gp", Space.parse(PLAIN), Goal(), batch=4, seed=0), 32, 4, judged)
    assert asked == ["gp"] * 6 + ["tpe"] * 2  # of 0, 4, …, 20 results, and of 24 and 28


def test_failures_are_avoided_where_there_are_two_objectives_too():
    space = Space.parse({"x": {"uniform": [-5, 5]}})

    def two(p: dict[str, Any]) -> Outcome:
        return FAILED if p["x"] < 1 else Outcome((-abs(p["x"] - 3), p["x"]))  # the end of the front lies beside what fails

    found = search(make_suggester("tpe", space, Goal(("max", "min")), batch=10, seed=0), 150, 10, two)
    early, late = (np.mean([s.outcome == FAILED for s in part]) for part in (found[:40], found[-40:]))
    assert late < early / 2


def test_a_minimum_is_looked_for_where_less_is_better():
    space = Space.parse(PLAIN)
    for name in ("tpe", "cmaes"):
        found = search(make_suggester(name, space, Goal(("min",)), batch=10, seed=0), 150, 10, lambda p: Outcome((-bowl(p),)))
        assert np.median([s.outcome.values[0] for s in found[-30:]]) < 0.6 * np.median([s.outcome.values[0] for s in found[:30]])


def test_bounds_are_kept_to_though_better_points_break_them():
    space = Space.parse({"x": {"uniform": [-5, 5]}})

    def bounded(p: dict[str, Any]) -> Outcome:
        return Outcome((p["x"],), (p["x"] - 2.0,))  # more is better, up to 2

    for name in ("tpe", "cmaes", "nsga2"):
        found = search(make_suggester(name, space, Goal(("max",), 1), batch=10, seed=0), 200, 10, bounded)
        late = np.array([s.point["x"] for s in found[-60:]])
        assert np.mean(late <= 2.0) > 0.4, name
        assert late[late <= 2.0].max() > 1.5, name


def test_two_objectives_give_a_front_and_not_a_point():
    space = Space.parse({"x": {"uniform": [-5, 5]}, "y": {"uniform": [-5, 5]}})

    def two(p: dict[str, Any]) -> Outcome:
        return Outcome(((p["x"] - 1) ** 2 + p["y"] ** 2, (p["x"] + 1) ** 2 + p["y"] ** 2))

    for name, trials in (("tpe", 160), ("nsga2", 500)):
        found = search(make_suggester(name, space, Goal(("min", "min")), batch=20, seed=0), trials, 20, two)
        late = np.array([[s.point["x"], s.point["y"]] for s in found[-80:]])
        on_front = (np.abs(late[:, 1]) < 0.7) & (np.abs(late[:, 0]) < 1.5)
        assert on_front.mean() > 0.2, name  # by chance 0.04
        assert np.ptp(late[on_front, 0]) > 1.0, name


def test_results_from_elsewhere_replace_a_search_of_ones_own():
    space = Space.parse(PLAIN)
    elsewhere = [Seen(p, Outcome((bowl(p),))) for p in make_sampler("random", space, trials=200, seed=9).configs(0, 200)]
    for name in ("tpe", "cmaes"):
        suggester = make_suggester(name, space, Goal(), batch=10, seed=4)
        warm = [bowl(s.point) for s in suggester.suggest(elsewhere, [], 10, 0)]
        cold = [bowl(s.point) for s in make_suggester(name, space, Goal(), batch=10, seed=4).suggest((), [], 10, 0)]
        assert np.median(warm) > np.median(cold)


def test_points_drawn_because_nothing_new_came_are_no_generation_of_cmaes():
    space = Space.parse(PLAIN)
    plain = search(make_suggester("cmaes", space, Goal(), batch=8, seed=1), 16, 8, judged)
    strange = Seen({"x": 0.0, "y": 0.0, "rate": 0.1}, Outcome((9.0,)), {FILLED: True})
    suggester = make_suggester("cmaes", space, Goal(), batch=8, seed=1)
    n = suggester.generation
    assert suggester.suggest((), [*plain[:8], strange, *plain[8:]], n, 2) == make_suggester(
        "cmaes", space, Goal(), batch=8, seed=1
    ).suggest((), plain, n, 2)


def test_the_sampler_chosen_for_a_space_is_told_by_its_size_and_shape():
    grid, plain, mixed = Space.parse({"a": [1, 2], "b": [3, 4, 5]}), Space.parse(PLAIN), Space.parse(MIXED)
    one, two = Goal(), Goal(("max", "min"))
    assert choose(grid, None, one) == choose(grid, 6, one) == "grid"
    assert choose(grid, 5, one) == choose(plain, 100, one) == choose(mixed, 5000, one) == "tpe"
    assert choose(plain, 5000, one) == "cmaes"
    assert choose(plain, 5000, two) == "nsga2" and choose(plain, 100, two) == "tpe"
    assert [batch_of(n) for n in (1, 64, 1000, 100_000)] == [4, 4, 62, 256]


def test_what_a_sampler_cannot_do_is_said():
    space = Space.parse(MIXED)
    with pytest.raises(SpaceError, match=r"'tpee' is unknown.*Did you mean 'tpe'"):
        make_suggester("tpee", space, Goal(), batch=1)
    with pytest.raises(SpaceError, match=r"cmaes has one objective, 2 are given; use tpe, nsga2 or nsga3"):
        make_suggester("cmaes", space, Goal(("max", "max")), batch=1)
    with pytest.raises(SpaceError, match=r"gp cannot model parameters with `when`"):
        make_suggester("gp", space, Goal(), batch=1)
    with pytest.raises(SpaceError, match="more than one value"):
        make_suggester("tpe", Space.parse({"a": 1}), Goal(), batch=1)
    with pytest.raises(SpaceError, match="directions"):
        Goal(("up",))

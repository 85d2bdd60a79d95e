"""Pipelines: parameters by stage, keys of outputs, what is shared and what is not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cluster.cache import Store
from cluster.cache.outputs import session_of
from tests.sweeps.toy_pipeline import End, Step, Toy, runs
from trainables import outputs
from trainables.contract import Context, Parameter, Registry, TrainableError
from trainables.pipeline import Pipeline, Shares, StageError
from trainables.testing import check_packed

CONFIG = {"a_x": 1, "b_x": 2, "c_x": 3, "d_x": 4}


@pytest.fixture
def count(tmp_path: Path) -> Path:
    (tmp_path / "count").mkdir()
    return tmp_path / "count"


def context(count: Path, seed: int = 1, part: str = "search", rows: int = 1, **settings) -> Context:
    made = Toy().prepare({"rows": rows}, {"folder": str(count), **settings}, None, part)
    return Context(made.inputs, seed)


def test_parameters_are_the_stages_with_their_names_in_front() -> None:
    assert [p.name for p in Toy.parameters] == ["a_x", "b_x", "c_x", "d_x"]
    assert (Toy.objective, [m.name for m in Toy.metrics]) == ("score", ["score"])
    assert isinstance(Registry().load("tests.sweeps.toy_pipeline:Toy"), Shares)
    with pytest.raises(TrainableError, match="a_b_x: two stages have a parameter of this name"):

        class Twice(Toy):
            stages = (Step("a"), type("Odd", (Step,), {"parameters": (Parameter("b_x", 0, "int"),)})("a"), Step("a_b"))


def test_a_pack_is_what_its_configurations_are_one_at_a_time(count: Path) -> None:
    configs = [{"a_x": a, "b_x": b, "d_x": d} for d in range(2) for b in range(2) for a in range(2)]
    check_packed(Toy(), {}, {"folder": str(count)}, configs)


def test_rows_come_in_the_order_of_the_configurations(count: Path) -> None:
    configs = [CONFIG | {"a_x": a, "d_x": d} for d in (3, 1) for a in (2, 0, 1)]
    made = Toy().evaluate_pack(configs, context(count))
    assert list(made.metrics["score"]) == pytest.approx([c["a_x"] + 0.23 + c["d_x"] / 1000 for c in configs])


def test_a_key_follows_from_everything_before_and_nothing_after(count: Path) -> None:
    keys = Toy().keys(CONFIG, context(count))
    assert len(set(keys)) == 3
    assert Toy().keys(CONFIG | {"d_x": 9}, context(count)) == keys
    assert Toy().keys(CONFIG | {"b_x": 9}, context(count))[0] == keys[0]
    for other in (
        Toy().keys(CONFIG | {"a_x": 9}, context(count)),
        Toy().keys(CONFIG, context(count, seed=2)),
        Toy().keys(CONFIG, context(count, rows=2)),
        Toy().keys(CONFIG, context(count, rule=1)),
        Toy().keys(CONFIG, context(count, part="holdout")),
    ):
        assert not set(other) & set(keys)


def test_another_version_or_class_of_a_stage_has_other_keys_from_there_on(count: Path) -> None:
    class Newer(Step):
        version = "2"

    class Mended(Toy):
        stages = (Step("a"), Newer("b"), Step("c"))

    before, after = Toy().keys(CONFIG, context(count)), Mended().keys(CONFIG, context(count))
    assert after[0] == before[0] and not set(after[1:]) & set(before[1:])


def test_pipelines_of_other_names_and_versions_and_stages_that_hold_other_things_share_no_output(count: Path, tmp_path: Path) -> None:
    class Scale:
        name, version, parameters = "scale", "1", ()

        def __init__(self, factor: object):
            self.factor = factor

        def run(self, config, upstream, out, ctx):
            (out / "values").write_text(str(self.factor))
            self.used = True  # what it keeps while it runs is not in the key

    def pipeline(factor: object, **changes: str) -> Pipeline:
        return type("Scaled", (Toy,), {"name": "scaled", "version": "1", "stages": (Scale(factor),), **changes})()

    made = {}
    with session_of(Store(tmp_path / "cache")) as built, outputs.offered(built):
        for one in (pipeline(2), pipeline(3), pipeline([2]), pipeline(2, name="other"), pipeline(2, version="2")):
            [key] = one.keys({}, context(count))
            made[key] = (one.upstream({}, context(count)) / "values").read_text()
            assert one.keys({}, context(count)) == (key,)
        again = pipeline(2)
        assert made[again.keys({}, context(count))[0]] == "2"
    assert sorted(made.values()) == ["2", "2", "2", "3", "[2]"]


def test_what_cannot_be_part_of_a_key_is_refused_with_its_name_when_the_pipeline_is_defined() -> None:
    class Holding(Step):
        __slots__ = ("weights",)

        def __init__(self, weights: object):
            super().__init__("a")
            self.weights = weights

    for wrong, kind in ((object(), "object"), ({1: {2, 3}}, "dict"), (Path("x"), "PosixPath")):
        with pytest.raises(TrainableError, match=rf"Wrong: stage a holds weights, a {kind}, which cannot be part of its outputs' key"):
            type("Wrong", (Toy,), {"stages": (Holding(wrong),)})
    with pytest.raises(TrainableError, match=r"stages has the class Holding; give an instance, Holding\(\)"):
        type("Wrong", (Toy,), {"stages": (Holding,)})
    one, other = (type("Right", (Toy,), {"stages": (Holding(w), Step("b"))})() for w in ((1, 2), (1, 3)))
    config, ctx = {"a_x": 1, "b_x": 2}, Context(Toy().prepare({}, {}).inputs)
    assert not set(one.keys(config, ctx)) & set(other.keys(config, ctx))


def test_a_stage_that_says_what_concerns_it_is_not_run_again_for_the_rest(count: Path) -> None:
    class Narrow(Step):
        concerns = ()

    class Eased(Toy):
        stages = (Narrow("a"), Step("b"))

    one, other = (Eased().keys(CONFIG, context(count, rule=rule)) for rule in (0, 1))
    assert one[0] == other[0] and one[1] != other[1]


def test_the_search_is_not_given_what_was_made_for_the_holdout(count: Path, tmp_path: Path) -> None:
    with session_of(Store(tmp_path / "cache")) as built, outputs.offered(built):
        for part in ("holdout", "search"):
            Toy().evaluate_pack([CONFIG], context(count, part=part))
    assert runs(count)["a_1"] == runs(count)["c_1_2_3"] == 2


def test_a_failed_stage_says_so_in_the_same_words_each_time_and_nothing_is_evaluated(count: Path, tmp_path: Path) -> None:
    ctx = context(count, raise_at=["b", 2])
    with session_of(Store(tmp_path / "cache")) as built, outputs.offered(built):
        for _ in range(2):
            with pytest.raises(StageError, match=r"^stage b: ZeroDivisionError: the thirteenth floor$"):
                Toy().evaluate_pack([CONFIG | {"b_x": 0}, CONFIG], ctx)
    assert runs(count, "begun")["b_1_2"] == 1 and not any(name.startswith("d") for name in runs(count))


def test_what_somebody_else_is_building_comes_last(count: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(count)
    busy = Toy().keys(CONFIG | {"a_x": 0}, ctx)[0]
    monkeypatch.setattr(outputs, "is_building", lambda key: key == busy)
    order = []
    monkeypatch.setattr(outputs, "folder", lambda key, *rest, f=outputs.folder: order.append(key) or f(key, *rest))
    Toy().evaluate_pack([CONFIG | {"a_x": a} for a in (0, 1, 2)], ctx)
    assert order.index(busy) == 6


def test_warming_makes_what_an_evaluation_then_finds(count: Path, tmp_path: Path) -> None:
    ctx = context(count, seed=5)
    with session_of(Store(tmp_path / "cache")) as built, outputs.offered(built):
        Toy().warm(CONFIG, ctx.inputs, 5)
        assert set(runs(count)) == {"a_1", "b_1_2", "c_1_2_3"}
        Toy().evaluate_pack([CONFIG], ctx)
    assert set(runs(count).values()) == {1}


def test_warming_runs_where_an_evaluation_runs(count: Path) -> None:
    seen = []

    class Placed(Step):
        def run(self, config, upstream, out, ctx):
            seen.append(ctx.device)

    class Last(End):
        def warm(self, config, upstream, ctx):
            seen.append(ctx.device)

    placed = type("Placing", (Toy,), {"stages": (Placed("a"),), "last": Last()})()
    placed.warm(CONFIG, context(count, seed=77).inputs, 77)
    assert seen == [context(count).device] * 2


def test_what_a_stage_refuses_is_said_by_the_name_in_the_study_file() -> None:
    class Strict(Step):
        def check(self, config, settings):
            if config.get("x", 0) > 5:
                raise TrainableError(f"space.x: {config['x']} is more than 5")

    class Refusing(Toy):
        stages = (Strict("a"),)

    Refusing().check({"a_x": 5, "d_x": 9}, {})
    with pytest.raises(TrainableError, match=r"^space\.a_x: 6 is more than 5$"):
        Refusing().check({"a_x": 6}, {})


def test_a_pipeline_of_one_stage_has_no_outputs(count: Path) -> None:
    class Alone(Toy):
        stages = ()
        last = End()

    made = Alone().evaluate_pack([{"d_x": 3}, {"d_x": 1}], context(count))
    pd.testing.assert_frame_equal(made.metrics, pd.DataFrame({"score": [3.0, 1.0]}), check_dtype=False)
    assert Alone().prefixes({"d_x": 3}) == () and Pipeline.stages == ()

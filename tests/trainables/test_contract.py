"""What a declaration accepts, and how it says no."""

import math
import sys

import numpy as np
import pandas as pd
import pytest

from results.metrics import Metric
from trainables.contract import Context, Evaluation, Parameter, Prepared, Registry, Trainable, TrainableError, check_config

PARAMETERS = (
    Parameter("size", 1.0, "float", 0.0, 10.0),
    Parameter("slots", 1, "int", 1, 16),
    Parameter("steps", 1, "int", 1),
    Parameter("below", 0.0, "float", high=5.0),
    Parameter("any", 0.0, "float"),
    Parameter("short", False, "bool"),
    Parameter("mode", "high", "choice", choices=("high", "high_low", "close")),
)


class Small:
    """Keeps the contract."""

    name = "small"
    version = "1"
    parameters = PARAMETERS
    metrics = (Metric("score", "max"),)
    objective = "score"

    def prepare(self, data, settings, protocol=None, part="search"):
        return Prepared(None, "data", {}, {p.name: p.default for p in self.parameters})

    def evaluate_pack(self, configs, ctx):
        return Evaluation(pd.DataFrame({"score": [float(c["size"]) for c in configs]}))


class Headless:
    name, version, parameters, metrics = "headless", "1", Small.parameters, Small.metrics
    prepare = Small.prepare


class Needy(Small):
    def __init__(self, path):
        self.path = path


class Crashing(Small):
    def __init__(self):
        raise RuntimeError("no card found")


@pytest.fixture(scope="module")
def here():
    sys.modules["small_trainables"] = sys.modules[__name__]
    yield "small_trainables"
    del sys.modules["small_trainables"]


def refused(config, where="space"):
    with pytest.raises(TrainableError) as error:
        check_config(Small(), config, where)
    return str(error.value)


def test_values_are_given_back_in_their_canonical_types():
    given = {"size": 2, "slots": 3.0, "short": np.bool_(True), "mode": "close", "steps": np.int64(7), "any": np.float32(0.5)}
    got = check_config(Small(), given)
    assert got == {"size": 2.0, "slots": 3, "short": True, "mode": "close", "steps": 7, "any": 0.5}
    assert {name: type(value) for name, value in got.items()} == {
        "size": float, "slots": int, "short": bool, "mode": str, "steps": int, "any": float
    }  # fmt: skip
    assert check_config(Small(), {}) == {}


def test_bounds_are_allowed_and_what_lies_beyond_is_not():
    assert check_config(Small(), {"size": 0, "slots": 16, "below": -1e300}) == {"size": 0.0, "slots": 16, "below": -1e300}
    assert refused({"size": 10.1}) == "space.size: 10.1 is not allowed; give a number from 0 to 10"
    assert refused({"slots": 17}) == "space.slots: 17 is not allowed; give a whole number from 1 to 16"
    assert refused({"steps": 0}) == "space.steps: 0 is not allowed; give a whole number of at least 1"
    assert refused({"below": 6}) == "space.below: 6 is not allowed; give a number of at most 5"
    assert "give a whole number" in refused({"slots": 1.5})


@pytest.mark.parametrize("value", [True, np.True_, "1", None, [1], {"a": 1}, math.nan, math.inf, -math.inf, 10**400, 1j, np.array([1, 2])])
@pytest.mark.parametrize("name", ["size", "slots", "steps", "any"])
def test_what_is_not_a_number_is_refused_in_words(name, value):
    assert f"space.{name}: " in refused({name: value}) and "give a" in refused({name: value})


@pytest.mark.parametrize("value", [1, 0, "true", None, 1.0, []])
def test_a_switch_is_true_or_false(value):
    assert refused({"short": value}, "fixed") == f"fixed.short: {value!r} is not allowed; give true or false"


def test_a_choice_names_what_there_is_and_what_was_probably_meant():
    assert refused({"mode": "hihg_low"}) == (
        "space.mode: 'hihg_low' is not allowed; give one of high, high_low, close (did you mean 'high_low'?)"
    )
    assert refused({"mode": 3}).endswith("give one of high, high_low, close")
    assert refused({"mode": ["high"]}).endswith("give one of high, high_low, close")


def test_an_unknown_parameter_is_answered_with_the_nearest_spelling():
    assert refused({"slotz": 2}) == "space.slotz: small has no such parameter; did you mean 'slots'?"
    assert refused({"qqq": 2}, "configs[4]").startswith("configs[4].qqq: small has no such parameter; known: any, below, mode")
    assert "True: small has no such parameter" in refused({True: 2})  # YAML reads the key `on` as true


def test_a_trainable_of_ones_own_loads_by_module_and_class(here):
    made = Registry().load(f"{here}:Small")
    assert isinstance(made, Trainable) and made.name == "small"
    prepared = made.prepare({}, {})
    assert made.evaluate_pack([prepared.defaults], Context(prepared.inputs)).metrics["score"].tolist() == [1.0]


def test_the_selector_is_registered_and_keeps_the_contract():
    selector = Registry().load("selector")
    assert isinstance(selector, Trainable)
    names = [p.name for p in selector.parameters]
    assert len(set(names)) == len(names) and selector.objective in {m.name for m in selector.metrics}
    for parameter in selector.parameters:
        assert parameter.check(parameter.default, parameter.name) == parameter.default
        assert parameter.doc


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "selectr",
            "'selectr' is unknown; did you mean 'selector'? Known: chronos_lora, chronos_pipeline, policy, selector, selector_forecast, ",
        ),
        ("zzz", "'zzz' is unknown. Known: chronos_lora, chronos_pipeline, policy, selector"),
        ("no_such_module_at_all:Thing", "cannot load 'no_such_module_at_all:Thing': ModuleNotFoundError: No module named"),
        ("no_such_module_at_all:Thing", "named 'no_such_module_at_all'; run from the folder that holds no_such_module_at_all.py"),
        ("no_such_package.module:Thing", "No module named 'no_such_package'; run from the folder that holds no_such_package"),
        ("small_trainables:Thing", "cannot load 'small_trainables:Thing': AttributeError"),
        ("small_trainables:PARAMETERS", "'small_trainables:PARAMETERS' lacks name, version"),
        ("small_trainables:Needy", "cannot load 'small_trainables:Needy': TypeError"),
        ("small_trainables:Crashing", "RuntimeError: no card found"),
        (":Thing", "give package.module:Class"),
        (".small:Thing", "give package.module:Class"),
        ("small_trainables:", "give package.module:Class"),
        ("small_trainables:Headless", "lacks objective, evaluate_pack of trainables.contract.Trainable"),
    ],
)
def test_a_trainable_that_cannot_be_loaded_is_explained(here, name, words):
    with pytest.raises(TrainableError) as error:
        Registry().load(name)
    assert words in str(error.value) and str(error.value).startswith("trainable: ")

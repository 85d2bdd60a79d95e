from __future__ import annotations

import math
from datetime import date
from typing import Any

import numpy as np
import pytest

from search_spaces import Space, SpaceError

RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)

BAD: dict[str, tuple[Any, str, list[str]]] = {
    # what is wrong: (what x is, where the message says it is, what it says)
    "unknown kind": ({"unifrom": [0, 1]}, "space.x", ["unknown kind 'unifrom'", "{loguniform: [a, b]}", "Did you mean 'uniform'?"]),
    "unknown kind, log": ({"log_uniform": [1, 2]}, "space.x", ["'log_uniform'", "Did you mean 'loguniform'?"]),
    "unknown kind in capitals": ({"Choice": [1, 2]}, "space.x", ["Did you mean 'choice'?"]),
    "no kind": ({"when": "a > 1"}, "space.x", ["has no kind", "{choice: […]}"]),
    "empty mapping": ({}, "space.x", ["has no kind"]),
    "two kinds": ({"int": [1, 2], "choice": [1]}, "space.x", ["int and choice exclude each other"]),
    "unknown option": (
        {"uniform": [0, 1], "ponts": 3},
        "space.x.ponts",
        ["uniform has no option", "points, when", "Did you mean 'points'?"],
    ),
    "option of another kind": ({"choice": [1, 2], "step": 2}, "space.x.step", ["choice has no option 'step'", "allowed: when"]),
    "low above high": ({"uniform": [1, 0]}, "space.x.uniform", ["lower bound 1 is above the upper bound 0", "swap"]),
    "int low above high": ({"int": [5, 2]}, "space.x.int", ["lower bound 5 is above the upper bound 2"]),
    "low equals high": ({"uniform": [1, 1]}, "space.x.uniform", ["both bounds are 1.0", "`x: 1.0`"]),
    "one bound": ({"uniform": [1]}, "space.x.uniform", ["two bounds [low, high]"]),
    "three bounds": ({"int": [1, 2, 3]}, "space.x.int", ["two bounds [low, high]"]),
    "no list of bounds": ({"loguniform": 3}, "space.x.loguniform", ["two bounds [low, high]", "3"]),
    "text bounds": ({"uniform": "01"}, "space.x.uniform", ["two bounds"]),
    "log of zero": ({"loguniform": [0, 1]}, "space.x.loguniform", ["positive bounds", "0.0"]),
    "log of negative": ({"loguniform": [-1, 1]}, "space.x.loguniform", ["positive bounds", "-1.0"]),
    "int log of zero": ({"int": [0, 8], "log": True}, "space.x.int", ["positive bounds", "0"]),
    "nan bound": ({"uniform": [math.nan, 1]}, "space.x.uniform", ["nan is not finite"]),
    "infinite bound": ({"uniform": [0, math.inf]}, "space.x.uniform", ["inf is not finite"]),
    "infinite int": ({"int": [0, math.inf]}, "space.x.int", ["inf is not finite"]),
    "number in quotes": ({"loguniform": ["1e-5", 1]}, "space.x.loguniform", ["'1e-5' is not a number", "without quotes", "1.0e-05"]),
    "word as bound": ({"uniform": ["low", 1]}, "space.x.uniform", ["'low' is not a number", "it is text"]),
    "truth as bound": ({"int": [True, 3]}, "space.x.int", ["True is not a number"]),
    "fraction as int": ({"int": [1, 2.5]}, "space.x.int", ["2.5 is not a whole number"]),
    "int out of range": ({"int": [0, 2**53 + 1]}, "space.x.int", ["±2**53"]),
    "enormous number": ({"uniform": [0, 10**400]}, "space.x.uniform", ["1329 bits", "256"]),
    "enormous constant": (10**400, "space.x", ["1329 bits"]),
    "zero step": ({"int": [0, 9], "step": 0}, "space.x.step", ["step 0 is not positive"]),
    "negative step": ({"int": [0, 9], "step": -2}, "space.x.step", ["step -2 is not positive"]),
    "fractional step": ({"int": [0, 9], "step": 0.5}, "space.x.step", ["0.5 is not a whole number"]),
    "empty step": ({"int": [0, 9], "step": None}, "space.x.step", ["None is not a number"]),
    "step and log": ({"int": [1, 9], "step": 2, "log": True}, "space.x", ["step and log exclude each other"]),
    "log is text": ({"int": [1, 9], "log": "yes"}, "space.x.log", ["'yes' is not allowed", "true or false"]),
    "one point": ({"uniform": [0, 1], "points": 1}, "space.x.points", ["1 is not allowed", "from 2 to 100,000"]),
    "too many points": ({"uniform": [0, 1], "points": 10**9}, "space.x.points", ["from 2 to 100,000"]),
    "points too close": ({"uniform": [1, 1 + 1e-11], "points": 1000}, "space.x.points", ["not distinct", "fewer points"]),
    "empty list": ([], "space.x", ["the list is empty", "at least one value"]),
    "empty choice": ({"choice": []}, "space.x.choice", ["the list is empty"]),
    "choice is no list": ({"choice": "abc"}, "space.x.choice", ["a list of values is needed", "'abc'"]),
    "duplicate": ([1, 2, 1], "space.x", ["1 is listed twice, at [0] and [2]", "keep one"]),
    "duplicate as float": ([1, 1.0], "space.x", ["listed twice"]),
    "duplicate list": ({"choice": [[1, 2], [1.0, 2]]}, "space.x.choice", ["[1.0, 2] is listed twice"]),
    "nan in a list": ([1, math.nan], "space.x[1]", ["nan is not finite"]),
    "inf in a list in a list": ([[1], [2, -math.inf]], "space.x[1][1]", ["-inf is not finite"]),
    "nan constant": (math.nan, "space.x", ["nan is not finite"]),
    "mapping in a list": ([{"a": 1}], "space.x[0]", ["a mapping cannot be a value", "`when`"]),
    "a date": (date(2020, 1, 1), "space.x", ["a date cannot be a value", "numbers, text, true, false, null"]),
    "bytes": ([b"x"], "space.x[0]", ["a bytes cannot be a value"]),
    "an array without length": (np.array(5), "space.x", ["a ndarray cannot be a value"]),
    "a list that holds itself": (RECURSIVE, "space.x[0]", ["nested more than 8 deep"]),
    "unknown parameter": ({"choice": [1], "when": "mdoe == 'a'"}, "space.x.when", ["'mdoe' (column 1)", "mode, k", "Did you mean 'mode'?"]),
    "unknown parameter in derived": ({"derived": "2 * K"}, "space.x.derived", ["'K' (column 5)", "Did you mean 'k'?"]),
    "text without quotes": ({"choice": [1], "when": "mode == on"}, "space.x.when", ["'on' (column 9)", "Text needs quotes"]),
    "true in small letters": ({"choice": [1], "when": "k == true"}, "space.x.when", ["Did you mean 'True'?"]),
    "itself": ({"derived": "x + 1"}, "space.x.derived", ["refers to 'x' itself"]),
    "itself in when": ({"choice": [1], "when": "x > 1"}, "space.x.when", ["refers to 'x' itself"]),
    "never": (
        {"choice": [1], "when": "mode == 'offf'"},
        "space.x.when",
        ["can never hold", "space.mode is on, off", "Did you mean 'off'?"],
    ),
    "never, numbers": ({"choice": [1], "when": "k > 9"}, "space.x.when", ["can never hold", "space.k is 1 … 3"]),
    "undefined somewhere": ({"derived": "1 / (k - 2)"}, "space.x.derived", ["has no value at k=2", "division by zero"]),
    "condition undefined somewhere": ({"choice": [1], "when": "mode > 2"}, "space.x.when", ["has no value at mode='on'"]),
    "when is no text": ({"choice": [1], "when": True}, "space.x.when", ["an expression is text"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_declaration_says_where_what_and_what_to_write(case: str) -> None:
    spec, where, words = BAD[case]
    with pytest.raises(SpaceError) as caught:
        Space.parse({"mode": ["on", "off"], "k": {"int": [1, 3]}, "x": spec})
    message = str(caught.value)
    assert message.startswith(where) and message[len(where)] in ":[", message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("name", [True, 5, None, "", " "])
def test_a_parameter_name_is_text(name: Any) -> None:
    with pytest.raises(SpaceError, match=r"^space: the parameter name .* is not text; put it in quotes"):
        Space.parse({name: [1]})


@pytest.mark.parametrize("mapping", [None, [1, 2], "x", 5])
def test_a_space_is_a_mapping(mapping: Any) -> None:
    with pytest.raises(SpaceError, match="a space is a mapping of parameters"):
        Space.parse(mapping)


def test_circles_are_named_whole() -> None:
    with pytest.raises(SpaceError, match=r"^space\.b: depends on itself: b → c → d → b"):
        Space.parse({"a": {"derived": "b"}, "b": {"derived": "c"}, "c": {"choice": [1], "when": "d > 0"}, "d": {"derived": "b"}, "e": 1})


def test_the_path_of_the_space_stands_in_front() -> None:
    with pytest.raises(SpaceError, match=r"^lanes\.first\.space\.x: the list is empty"):
        Space.parse({"x": []}, path="lanes.first.space")


def test_a_condition_that_a_continuous_axis_may_meet_is_accepted() -> None:
    space = Space.parse(
        {
            "c": [0, 1],
            "x": {"uniform": [0, 1]},
            "d": {"choice": [1, 2], "when": "c == 1"},
            "y": {"choice": [1], "when": "c == 0 and not (x > 0.5 and d > 0)"},
        }
    )
    assert space.from_unit(np.array([[0.0, 0.4, 0.0, 0.0]])) == [{"c": 0, "x": 0.4, "y": 1}]


def test_a_space_error_is_a_value_error() -> None:
    assert issubclass(SpaceError, ValueError)

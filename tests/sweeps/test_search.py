"""What workers call, and what a trainable is told that does not keep its contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cluster.packs import PackError
from results.metrics import Metric
from sweeps import Study
from sweeps.evaluator import Evaluator
from sweeps.search import Search
from sweeps.study import StudyError
from tests.sweeps.toy import Toy
from trainables.contract import Context, Evaluation, Prepared, TrainableError

DAYS = 10


class Careful(Toy):
    """Has something to say about one value of one parameter."""

    def prepare(self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Any = None, part: str = "search") -> Prepared:
        return replace(super().prepare(data, settings, protocol, part), warnings=("odd data",), cautions={("y", 0.0): "y: does nothing"})


class Directionless(Toy):
    """Has nothing to rank by."""

    metrics = (Metric("score", None),)


class Odd(Toy):
    """Gives what a test tells it to."""

    gives: Callable[[int], Any] = staticmethod(lambda n: None)

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], ctx: Context) -> Evaluation:
        return type(self).gives(len(configs))


def study(name: str, **changes: Any) -> Study:
    return Study.parse({"name": "s", "trainable": f"tests.sweeps.test_search:{name}", "space": {"x": [1, 2, 3]}} | changes)


def metrics(n: int, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"score": np.ones(n), "cost": np.zeros(n)} | columns)


def returns(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def evaluated(monkeypatch: pytest.MonkeyPatch, gives: Callable[[int], Any], days: int | None = DAYS) -> np.ndarray:
    monkeypatch.setattr(Odd, "gives", staticmethod(gives))
    return Evaluator(study("Odd"), {"x": 0, "y": 0.0}, days)([0, 1, 2], None)


NAME = "tests.sweeps.test_search:Odd.evaluate_pack gave "
SHAPE = "expected (3, 10): a row for each configuration, a column for each of `Prepared.days`"


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda n: None, "nothing (None); expected a trainables.contract.Evaluation, Evaluation(metrics, returns)"),
        (lambda n: {"score": 1.0}, "a dict; expected a trainables.contract.Evaluation"),
        (lambda n: Evaluation([1.0] * n), "a list as metrics; expected a DataFrame with columns score, cost"),
        (lambda n: Evaluation(metrics(n)[["score"]]), "metrics with columns score; expected score, cost (missing or doubled: cost)"),
        (lambda n: Evaluation(pd.DataFrame()), "metrics with no columns; expected score, cost (missing or doubled: score, cost)"),
        (lambda n: Evaluation(metrics(n).iloc[:, [0, 0, 1]]), "metrics with columns score, score, cost; expected score, cost (missing or"),
        (lambda n: Evaluation(metrics(n, cost="1.5")), "'1.5' as metric cost; expected a number, NaN where there is none"),
        (lambda n: Evaluation(metrics(n)), f"no returns (None); {SHAPE}"),
        (lambda n: Evaluation(metrics(n), returns(n, 9)), f"returns of shape (3, 9); {SHAPE}"),
        (lambda n: Evaluation(metrics(n), returns(DAYS)), f"returns of shape (10,); {SHAPE}"),
        (lambda n: Evaluation(metrics(n), [[0.0] * k for k in range(n)]), f"returns whose rows differ in length; {SHAPE}"),
        (lambda n: Evaluation(metrics(n), np.full((n, DAYS), "up")), f"returns of <U2 values; {SHAPE}"),
    ],
)
def test_what_is_no_evaluation_is_told_with_what_was_expected(
    monkeypatch: pytest.MonkeyPatch, gives: Callable[[int], Any], told: str
) -> None:
    with pytest.raises(TrainableError) as error:
        evaluated(monkeypatch, gives)
    assert str(error.value).startswith(NAME + told)


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda n: Evaluation(metrics(1), returns(n, DAYS)), "metrics of 1 rows for 3 configurations; expected one row each"),
        (lambda n: Evaluation(metrics(n + 1), returns(n, DAYS)), "metrics of 4 rows for 3 configurations; expected one row each"),
        (lambda n: Evaluation(metrics(n), returns(1, DAYS)), f"returns of shape (1, 10) for 3 configurations; {SHAPE}"),
        (lambda n: Evaluation(metrics(n), returns(DAYS, n)), f"returns of shape (10, 3) for 3 configurations; {SHAPE}"),
    ],
)
def test_rows_that_are_not_its_configurations_are_an_error_of_the_whole_pack(
    monkeypatch: pytest.MonkeyPatch, gives: Callable[[int], Any], told: str
) -> None:
    with pytest.raises(PackError) as error:
        evaluated(monkeypatch, gives)
    assert str(error.value).startswith(NAME + told)


def test_declared_metrics_are_taken_in_their_order_and_none_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    given = pd.DataFrame({"more": ["a", "b", "c"], "cost": [1, 2, 3], "score": [0.5, None, np.nan]}, dtype=object)
    values = evaluated(monkeypatch, lambda n: Evaluation(given, returns(n, DAYS)))
    np.testing.assert_array_equal(values[:, :2], [[0.5, 1], [np.nan, 2], [np.nan, 3]])
    assert values.shape == (3, 2 + DAYS)
    assert evaluated(monkeypatch, lambda n: Evaluation(given), days=0).shape == (3, 2)


def test_a_caution_is_told_where_the_study_can_have_the_value() -> None:
    def warned(**changes: Any) -> Sequence[str]:
        return Search(study("Careful", **changes)).prepare().warnings

    assert warned() == ("odd data", "y: does nothing")  # the default
    assert warned(fixed={"y": 1.0}) == ("odd data",)
    assert warned(fixed={"y": 0}) == ("odd data", "y: does nothing")
    assert warned(space={"y": [1.0, 0.0]}) == ("odd data", "y: does nothing")
    assert warned(space={"y": [1.0, 2.0]}) == ("odd data",)


def test_a_trainable_s_own_objective_must_be_able_to_rank_too() -> None:
    Search(study("Toy", trainable="tests.sweeps.toy:Toy")).check()
    with pytest.raises(StudyError, match=r"objective: 'score': more of it is neither better nor worse; metrics with a direction are none"):
        Search(study("Directionless")).check()

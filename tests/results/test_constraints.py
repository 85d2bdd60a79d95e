"""Constraints and Pareto lists: what is read from a text, what a ledger ranks first, what no other trial dominates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.console import Console

from results import Header, Ledger, LedgerError, Metric
from results.constraints import ConstraintError, constraints_of, non_dominated, parse
from results.leaderboard import UNMET, leaderboard, pareto, render

NAN = float("nan")
NAMES = ("sharpe", "total_return", "max_drawdown", "loss")
# sharpe, total_return, max_drawdown, loss
TRIALS = [
    [3.0, 0.30, -0.40, 1.0],
    [2.0, 0.20, -0.20, 2.0],
    [1.0, 0.10, -0.10, 3.0],
    [9.0, 0.90, NAN, 4.0],
    [NAN, 0.05, -0.05, 5.0],
    [0.5, 0.10, -0.10, 3.0],
    [0.2, 0.01, -0.90, NAN],
]


def read(*texts: str) -> Any:
    return parse(texts, NAMES)


def shown(board: Any, width: int | None = None) -> str:
    console = Console(width=250, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(board, width=width))
    return " ".join(console.export_text().split())  # titles and captions are broken to the table's width


@pytest.fixture
def filled(ledger: Ledger, make_rows: Callable, make_failed: Callable) -> Iterator[Ledger]:
    context = ledger.header.context_id
    rows = make_rows(context, range(len(TRIALS)), TRIALS.__getitem__)
    ledger.accept(ledger.open_attempt(1, 8), [*rows, make_failed(context, 7)])
    yield ledger


@pytest.mark.parametrize(
    ("text", "metric", "sign", "bound"),
    [
        ("sharpe > 1", "sharpe", ">", 1.0),
        ("max_drawdown>=-20%", "max_drawdown", ">=", -0.2),
        ("  loss <  1e-3 ", "loss", "<", 0.001),
        ("loss <= .5", "loss", "<=", 0.5),
        ("loss <= +2.", "loss", "<=", 2.0),
        ("total_return >= 0.7%", "total_return", ">=", 0.007),  # 0.7 / 100 is 0.006999999999999999
    ],
)
def test_a_constraint_is_a_metric_a_sign_and_a_number(text: str, metric: str, sign: str, bound: float) -> None:
    [made] = read(text)
    assert (made.metric, made.sign, made.bound) == (metric, sign, bound)
    assert read(str(made)) == (made,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sharpe",
        "sharpe > ",
        "1 < sharpe",
        "sharpe == 1",
        "sharpe > loss",
        "sharpe > nan",
        "sharpe > 1e999",
        "0 < sharpe < 1",
        "sharpe > 1 #",
    ],
)
def test_anything_else_is_told_the_form(text: str) -> None:
    with pytest.raises(
        ConstraintError, match=r"^--where: '.*' is no constraint; write METRIC OP NUMBER with one of > >= < <=, for example"
    ):
        parse([text], NAMES, "--where")


def test_an_unknown_metric_is_told_the_nearest() -> None:
    with pytest.raises(
        ConstraintError, match=r"^constraints: 'sharp > 1': there is no metric 'sharp'; there are .*\. Did you mean 'sharpe'\?$"
    ):
        read("sharp > 1")


@given(value=st.floats(allow_infinity=True, allow_nan=True), sign=st.sampled_from([">", ">=", "<", "<="]), bound=st.integers(-3, 3))
def test_what_meets_a_bound_lacks_nothing_and_nan_never_meets(value: float, sign: str, bound: int) -> None:
    [made] = read(f"loss {sign} {bound}")
    met = bool(made.compare(value))
    assert not (met and math.isnan(value))
    if not math.isnan(value):
        assert met == (made.shortfall(value) < 0 or (value == bound and "=" in sign))


def test_trials_that_meet_all_constraints_come_first_and_the_nearest_of_the_others_next(filled: Ledger) -> None:
    board = leaderboard(filled, constraints=read("max_drawdown > -20%", "total_return >= 0.1"))
    # 2 and 5 meet both. 1 is at the strict bound (0), 4 lacks 0.5, 0 lacks 1, 6 lacks 3.5 + 0.9, 3 has no drawdown at all.
    assert board["trial"].tolist() == [2, 5, 1, 4, 0, 6, 3]
    assert board["meets"].tolist() == [True, True] + [False] * 5
    assert board.attrs["meeting"] == 2 and board.attrs["trials"] == 7
    assert board.columns[:5].tolist() == ["rank", "trial", "sharpe", "max_drawdown", "total_return"]
    text = shown(board)
    assert text.count(UNMET) == 6 and "2 of 7 trials meet max_drawdown > -20% and total_return >= 0.1; ✗ does not" in text
    assert "meets" not in text
    assert leaderboard(filled, constraints=read("max_drawdown > -20%"), top=1)["trial"].tolist() == [2]


def test_a_trial_that_meets_the_constraints_without_an_objective_precedes_those_that_do_not(filled: Ledger) -> None:
    board = leaderboard(filled, constraints=read("max_drawdown > -15%"))
    assert board["trial"].tolist()[:3] == [2, 5, 4] and board["meets"].tolist() == [True] * 3 + [False] * 4


def test_where_no_trial_meets_the_constraints_the_leaderboard_says_so_and_shows_the_nearest(filled: Ledger) -> None:
    board = leaderboard(filled, constraints=read("loss < 0"), top=2)
    assert board["trial"].tolist() == [0, 1] and not board["meets"].any()
    text = shown(board)
    assert "no trial meets loss < 0; these are the nearest" in text and text.count(UNMET) == 2


def test_without_constraints_nothing_changes(filled: Ledger) -> None:
    board = leaderboard(filled)
    assert board["trial"].tolist() == [3, 0, 1, 2, 5, 6, 4]
    assert "meets" not in board and UNMET not in shown(board)


def test_a_study_has_its_own_constraints_and_takes_more(location: str, header: Header, make_rows: Callable, make_failed: Callable) -> None:
    header = replace(header, spec={"constraints": ["max_drawdown >= -20%"]})
    with Ledger.create(location, header) as ledger:
        ledger.begin_session({})
        ledger.add_plan({}, {}, 8)
        ledger.accept(
            ledger.open_attempt(1, 8), [*make_rows(header.context_id, range(7), TRIALS.__getitem__), make_failed(header.context_id, 7)]
        )
        assert leaderboard(ledger)["trial"].tolist()[:4] == [1, 2, 5, 4]
        assert ledger.top("sharpe", n=1)["trial"].tolist() == [1]
        assert ledger.top("sharpe", n=9, where_completed=False)["trial"].tolist()[-1] == 7
        assert leaderboard(ledger, constraints=constraints_of(header, ["loss > 2"]))["trial"].tolist()[0] == 2
        assert leaderboard(ledger, constraints=constraints_of(header, own=[]))["trial"].tolist()[0] == 3
        assert header.context_id == replace(header, spec={}).context_id
        with pytest.raises(ConstraintError, match=r"^--where: 'los > 2': .*Did you mean 'loss'"):
            constraints_of(header, ["los > 2"])


def dominated(values: np.ndarray, i: int) -> bool:
    return any((other >= values[i]).all() and (other > values[i]).any() for other in values)


POINTS = st.tuples(st.integers(0, 25), st.integers(1, 4)).flatmap(
    lambda shape: arrays(float, shape, elements=st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 1.0, 2.0, 1e300, math.inf]))
)


@given(values=POINTS)
def test_the_front_is_what_comparing_all_pairs_finds(values: np.ndarray) -> None:
    assert non_dominated(values).tolist() == [not dominated(values, i) for i in range(len(values))]


@given(values=POINTS, cut=st.integers(0, 25))
def test_the_front_of_chunks_is_the_front_of_the_whole(values: np.ndarray, cut: int) -> None:
    first = values[:cut][non_dominated(values[:cut])]
    merged = np.concatenate([first, values[cut:]])
    assert sorted(map(tuple, merged[non_dominated(merged)])) == sorted(map(tuple, values[non_dominated(values)]))


@pytest.mark.parametrize("columns", [2, 3])
def test_a_front_of_many_trials_agrees_with_a_slow_one(columns: int) -> None:
    values = np.random.default_rng(columns).normal(size=(2000, columns)).round(1)
    slow = [not ((values >= row).all(axis=1) & (values > row).any(axis=1)).any() for row in values]
    assert non_dominated(values).tolist() == slow


def test_a_pareto_list_shows_its_metrics_and_the_parameters_sorted_by_the_first(filled: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    board = pareto(filled, ["sharpe", "max_drawdown"])
    assert board["trial"].tolist() == [0, 1, 2]  # 3 and 4 lack one of them
    assert board.columns.tolist() == ["rank", "trial", "sharpe", "max_drawdown", "edge", "x"]
    assert shown(board).startswith("grid: 3 of 7 trials not dominated in sharpe, max_drawdown ")
    assert board.attrs["constants"] == {"mode": "high_low"}
    assert pareto(filled, ["max_drawdown", "sharpe"])["trial"].tolist() == [2, 1, 0]
    assert pareto(filled, ["sharpe", "loss"])["trial"].tolist() == [3, 0]  # less loss is better
    equal = pareto(filled, ["total_return", "max_drawdown", "loss"])
    assert equal["trial"].tolist() == [0, 1, 2, 5, 4]
    for chunk in (1, 2, 3):
        monkeypatch.setattr(filled, "stream", partial(Ledger.stream, filled, chunk=chunk))
        assert pareto(filled, ["total_return", "max_drawdown", "loss"]).equals(equal)


def test_a_pareto_list_obeys_constraints_and_says_where_there_is_nothing(filled: Ledger) -> None:
    names = ["sharpe", "max_drawdown"]
    assert pareto(filled, names, constraints=read("total_return < 0.3"))["trial"].tolist() == [1, 2]
    first = pareto(filled, names, top=1)
    assert first["trial"].tolist() == [0] and "3 of 7 trials not dominated in sharpe, max_drawdown; the first 1" in shown(first)
    none = pareto(filled, names, constraints=read("total_return > 99"))
    text = shown(none)
    assert not len(none) and "no trial meets total_return > 99" in text and "nearest" not in text


def test_a_pareto_list_needs_two_known_metrics_with_a_direction(location: str, header: Header) -> None:
    header = replace(header, metrics=(*header.metrics, Metric("trades")))
    with Ledger.create(location, header) as ledger:
        assert not len(pareto(ledger, ["sharpe", "loss"]))
        with pytest.raises(
            LedgerError, match=r"^trades: more is neither .*; metrics with a direction are sharpe, total_return, max_drawdown, loss$"
        ):
            pareto(ledger, ["sharpe", "trades"])
        for few in ([], ["sharpe"], ["sharpe", "sharpe"]):
            with pytest.raises(LedgerError, match="needs two metrics or more"):
                pareto(ledger, few)
        with pytest.raises(LedgerError, match="has no metric 'profit'"):
            pareto(ledger, ["sharpe", "profit"])

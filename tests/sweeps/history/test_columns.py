"""Headings: which metric of ours a column is, and what becomes of the others."""

from __future__ import annotations

import pytest

from results.metrics import Metric
from sweeps.history import HistoryError
from sweeps.history.aliases import METRICS, label, recognise
from sweeps.history.columns import Choices, columns_of
from sweeps.history.tables import Table, in_memory


def table(columns: list[str], *rows: list[str]) -> Table:
    numbered = tuple(enumerate(rows, 3))
    return Table("log.md", 1, "Sweep", tuple(columns), in_memory(numbered), len(rows), sample=numbered)


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("total_return", "total_return"),
        ("Return %", "total_return"),
        ("**Max Drawdown (%)** ↓", "max_drawdown"),
        ("maxDrawdown", "max_drawdown"),
        ("MDD", "max_drawdown"),
        ("Win%", "win_rate"),
        ("P&L ($)", "pnl"),
        ("Sharpe ratio", "sharpe"),
        ("val loss", "val_loss"),
        ("# trades", "trades"),
        ("return_10d", "total_return_10d"),
        ("return (20d)", "total_return_20d"),
        ("ann_return_365", "annualised_return_365"),
        ("Validation Sharpe", "sharpe_val"),
        ("mae_percent", "mae_percent"),
    ],
)
def test_a_metric_is_recognised_by_its_heading(heading: str, name: str) -> None:
    found = recognise(label(heading))
    assert found is not None
    assert found[1] == name


@pytest.mark.parametrize("heading", ["stop_loss_pct", "min_edge", "trades/day limit", "return_window", "Symbols", "max_positions", "alpha"])
def test_what_only_contains_a_metrics_word_is_none(heading: str) -> None:
    assert recognise(label(heading)) is None


def test_metrics_we_have_ourselves_are_declared_as_ours_are() -> None:
    from trainables.selector.robust_selector import RobustSelector
    from trainables.selector.trainable import SelectorTrainable

    ours = {metric.name: metric for metric in (*SelectorTrainable.metrics, *RobustSelector.metrics)}
    shared = set(ours) & set(METRICS)
    assert {"total_return", "sharpe", "max_drawdown", "trades", "win_rate", "profit_factor", "selection_score"} <= shared
    for name in shared:
        assert (METRICS[name].metric.direction, METRICS[name].metric.unit) == (ours[name].direction, ours[name].unit), name


def test_columns_become_metrics_parameters_notes_and_what_numbers_rows_is_left_out() -> None:
    found = columns_of(table(["#", "Run", "Return %", "Notes", "time (min)"], ["1", "a", "5", "best", "2"]), Choices())
    assert [column.role for column in found] == ["left out", "parameter", "metric", "note", "seconds"]
    assert found[2].metric == Metric("total_return", "max", "fraction")
    assert found[2].scale == 0.01


def test_pnl_in_percent_is_a_return_and_in_money_is_not() -> None:
    percent = columns_of(table(["Run", "PnL"], ["a", "+871 %"]), Choices())[1]
    money = columns_of(table(["Run", "PnL"], ["a", "$871"]), Choices())[1]
    said = columns_of(table(["Run", "Profit %"], ["a", "871"]), Choices())[1]
    assert (percent.name, money.name, said.name) == ("total_return", "pnl", "total_return")
    assert (percent.scale, said.scale) == (1.0, 0.01)


def test_a_metrics_heading_over_words_is_a_parameter_and_over_ranges_still_a_metric() -> None:
    assert columns_of(table(["Loss", "Sharpe"], ["pinball", "1"]), Choices())[0].role == "parameter"
    assert columns_of(table(["Run", "Sharpe"], ["a", "1.5-1.8"]), Choices())[1].role == "metric"


def test_options_decide_before_headings_do() -> None:
    choices = Choices.parse(["Hit factor:min:%", "Edge"], ["Sharpe"], ["Date (UTC)"])
    columns = ["Hit factor", "Edge", "Sharpe", "Date (UTC)"]
    factor, edge, sharpe, date = columns_of(table(columns, ["4", "1", "2", "2026-02-05"]), choices)
    assert factor.metric == Metric("hit_factor", "min", "fraction") and factor.scale == 0.01
    assert edge.metric == Metric("edge", None, "")
    assert (sharpe.role, date.role) == ("parameter", "note")


def test_an_option_that_is_none_or_names_no_column_is_a_message() -> None:
    with pytest.raises(HistoryError, match="neither max, min nor a unit"):
        Choices.parse(["sharpe:up"])
    with pytest.raises(HistoryError, match="said to be two things"):
        Choices.parse(["sharpe"], ["Sharpe"])
    with pytest.raises(HistoryError, match="Did you mean 'min_edge'"):
        Choices.parse([], ["min_egde"]).check(["min_edge", "run"])

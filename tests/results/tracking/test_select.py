"""Which trials have a run of their own, and what is in it."""

from __future__ import annotations

from typing import Any

import pytest

from results import Ledger
from results.reports import ReportRow
from results.tracking.select import Chosen, chosen, runs


@pytest.mark.parametrize(
    ("setting", "total", "stepping", "wanted"),
    [
        ("auto", 100, False, Chosen(each=True)),
        ("auto", 101, False, Chosen(best=50)),
        ("auto", 1_000, True, Chosen(each=True)),
        ("auto", 1_001, True, Chosen(best=50)),
        ("auto", 100_000, False, Chosen(best=50)),
        ("auto", 100_001, False, Chosen()),
        ("auto", None, True, Chosen()),
        ("none", 10, True, Chosen()),
        (0, 10, True, Chosen()),
        (7, 1_000_000, False, Chosen(best=7)),
    ],
)
def test_small_studies_have_a_run_per_trial_large_ones_of_the_best_and_very_large_ones_none(
    setting: Any, total: int | None, stepping: bool, wanted: Chosen
) -> None:
    assert chosen(setting, total, stepping) == wanted


def test_a_run_has_the_whole_configuration_the_metrics_that_are_known_and_the_reports(
    new_location: Any, make_header: Any, make_rows: Any
) -> None:
    header = make_header(protocol={"defaults": {"fee": 0.1, "x": 9}})
    with Ledger.create(new_location(), header) as ledger:
        ledger.begin_session({})
        ledger.add_plan({"x": [1, 2]}, {}, 10)
        (row,) = make_rows(header.context_id, [4], lambda number: [1.0, float("nan"), -0.1, 0.5])
        attempt = ledger.open_attempt(1, 1)
        for step in (5, 10):
            ledger.report(attempt, ReportRow(4, row.config_id, step, [step / 10, float("nan"), -0.1, 0.5]))
        ledger.accept(attempt, [row])
        (made,) = runs(ledger, [4], ranked=True)
    assert made.config == {"fee": 0.1, "x": 4, "edge": 4.5, "mode": "high_low"}
    assert made.metrics == {"sharpe": 1.0, "max_drawdown": -0.1, "loss": 0.5}
    assert [(step, metrics["sharpe"]) for step, metrics in made.reports] == [(5, 0.5), (10, 1.0)]
    assert (made.trial, made.status, made.rank, made.seconds) == (4, "completed", 1, 0.25)
    assert made.config_id == row.config_id.hex()

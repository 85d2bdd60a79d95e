"""What a report is made of: the ledger's numbers, the leaderboard's ranks, and a reason in place of what is missing."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from results import Ledger, ResultRow, config_ids, reports, series
from results.constraints import constraints_of
from results.leaderboard import leaderboard
from results.metrics import DAYS_PER_YEAR, sharpe
from search_spaces.stopping import rungs as ladder
from sweeps.evidence import judge
from sweeps.report.board import best_numbers, board_of
from sweeps.report.gather import gather
from sweeps.report.origin import as_yaml
from sweeps.report.parameters import lines_of, parameters_of
from sweeps.report.part import Missing, tried
from sweeps.report.returns import curves_of
from sweeps.report.rungs import steps_of
from sweeps.report.sections.work import cost_rows
from sweeps.report.workload import BARS, Bar, _merged, workload_of
from sweeps.study import Study
from tests.sweeps.report.studies import SPACE, header_of, write_grid


def opened(home: Path) -> Ledger:
    return Ledger.open(home / "ledger.sqlite", readonly=True)


def test_the_board_has_the_leaderboards_order_and_values(grid: Path) -> None:
    with opened(grid) as ledger:
        own = board_of(ledger, judge(grid), 23)
        theirs = leaderboard(ledger, top=100)
    assert own.frame["trial"].tolist() == theirs["trial"].tolist() and own.completed == 23
    for name in ("sortino", "total_return", "trades"):
        assert own.frame[name].tolist() == theirs[name].tolist()
    assert set(own.parameters) == {"edge", "hold", "mode"} and own.left_out == ()


def test_trials_that_behave_identically_share_the_rank_they_have_on_the_leaderboard(grid: Path) -> None:
    with opened(grid) as ledger:
        found = judge(grid, top=100)
        frame = board_of(ledger, found, 23).frame.set_index("trial")
    ranks = found.board.set_index("trial")["rank"]
    assert all(frame.loc[trial, "rank"] == rank for trial, rank in ranks.items())
    assert frame.loc[0, "rank"] == frame.loc[1, "rank"] and frame.loc[0, "alike"] == 2
    assert sorted(set(frame["rank"])) == list(range(1, 23))


@pytest.mark.parametrize("texts", [[], ["trades >= 110"], ["max_drawdown > -5%", "trades >= 105"], ["trades >= 1000"]])
@pytest.mark.parametrize("most", [3, 12, 1000])
def test_the_best_numbers_are_those_of_the_ledger_also_with_constraints(tmp_path: Path, texts: list[str], most: int) -> None:
    home = write_grid(tmp_path, failed=[2], spec={"constraints": texts})
    with opened(home) as ledger:
        limits = constraints_of(ledger.header)
        found = best_numbers(ledger, ledger.header.metric("sortino"), limits, most)
        assert found == ledger.top("sortino", n=most)["trial"].tolist()


def test_a_trial_without_the_metric_comes_last_and_not_at_all_among_the_best(tmp_path: Path) -> None:
    home = write_grid(tmp_path)
    with sqlite3.connect(home / "ledger.sqlite") as connection:
        connection.execute("UPDATE trials SET m_sortino = NULL WHERE trial = 4")
    with opened(home) as ledger:
        metric = ledger.header.metric("sortino")
        assert best_numbers(ledger, metric, (), 24)[-1] == 4 and 4 not in best_numbers(ledger, metric, (), 23)


def test_accounts_are_the_kept_returns_beside_the_benchmarks(grid: Path) -> None:
    with opened(grid) as ledger:
        found = curves_of(ledger, grid, judge(grid), 4)
        ids, matrix = series.read(ledger, grid)
        board = judge(grid).board
        numbers, _ = ledger.found(ids)
    assert not isinstance(found, Missing)
    assert [line.name for line in found.lines] == [*(f"trial {n}" for n in board["trial"][:4]), "buy and hold"]
    best = matrix[numbers.tolist().index(board["trial"][0])].astype(float)
    line = found.lines[0]
    assert line.total == pytest.approx(board["total_return"][0], rel=1e-5)
    assert line.equity == pytest.approx(np.cumprod(1.0 + best))
    assert line.sharpe[1] == pytest.approx(sharpe(best[40:80], DAYS_PER_YEAR, 40)) and line.gain[2] == pytest.approx(
        np.prod(1 + best[80:]) - 1
    )
    assert line.deepest == pytest.approx(line.drawdown.min()) and len(found.folds) == 3 and found.lost == 0


def test_a_damaged_file_of_returns_costs_its_trials_and_is_counted(grid: Path) -> None:
    (grid / "returns" / "1.parquet").write_bytes(b"torn")
    found = gather(grid)
    assert not isinstance(found.curves, Missing) and found.curves.lost == 1 and not isinstance(found.judged, Missing)
    (grid / "returns" / "days.parquet").write_bytes(b"torn")
    found = gather(grid)
    assert isinstance(found.judged, Missing) and isinstance(found.curves, Missing)
    assert not isinstance(found.board, Missing) and "verdict" not in found.board.frame and len(found.board.frame) == 23


def test_medians_and_points_are_the_ledgers(grid: Path) -> None:
    with opened(grid) as ledger:
        found = parameters_of(ledger)
        frame = ledger.frame()
    assert not isinstance(found, Missing)
    frame = frame[frame["status"] == "completed"]
    assert found.trials.tolist() == frame["trial"].tolist() and found.scores.tolist() == frame["sortino"].tolist()
    by_name = {axis.name: axis for axis in found.axes}
    assert set(by_name) == {"edge", "hold", "mode"}
    for name in ("edge", "hold"):
        medians = frame.groupby(name)["sortino"].median()
        assert [(v, m) for v, m, _ in by_name[name].medians] == [(v, pytest.approx(m)) for v, m in medians.items()]
    assert by_name["mode"].labels == ("close", "high") and [n for *_, n in by_name["mode"].medians] == [12, 11]
    assert not isinstance(found.ranking, Missing) and len(lines_of(found, "max")) == 23


def test_fewer_than_twenty_trials_have_no_importance_and_the_rest_all_the_same(tmp_path: Path) -> None:
    home = write_grid(tmp_path, space={"edge": [0.0, 0.1, 0.2]})
    with opened(home) as ledger:
        found = parameters_of(ledger)
    assert not isinstance(found, Missing) and isinstance(found.ranking, Missing) and "needs 20" in found.ranking.why
    assert [axis.name for axis in found.axes] == ["edge"]


def test_rungs_are_read_off_reports_and_recorded_decisions(steps: Path) -> None:
    with opened(steps) as ledger:
        found = steps_of(ledger)
        stops = {event["trial"]: event["detail"] for event in ledger.events("stopped", limit=None)}
        said = list(reports.read(ledger))
        counts = ledger.counts()
    assert not isinstance(found, Missing)
    assert [rung.step for rung in found.rungs] == ladder(2, 2, 16) == [2, 4, 8]
    for rung in found.rungs:
        came = {row.trial for row in said if row.step >= rung.step}
        stopped = {trial for trial, detail in stops.items() if detail["rung"] == rung.step}
        assert rung.judged == len(came) and rung.stopped == len(stopped)
        assert rung.promoted + rung.stopped + rung.other == rung.judged
    assert found.rungs[0].other == 1  # the trial that failed at this very step
    assert found.ends == {"completed": counts["completed"], "stopped early": counts["stopped"], "failed": 1}
    assert found.made == sum(max(row.step for row in said if row.trial == n) for n in range(24)) and found.full == 24 * 16
    best = max((row for row in said if row.step == 16), key=lambda row: row.metrics[0])
    assert found.curves[0].trial == best.trial and found.curves[0].values[-1] == best.metrics[0]


def test_a_study_of_packs_has_no_reports_and_says_so(grid: Path) -> None:
    with opened(grid) as ledger:
        found = steps_of(ledger)
    assert isinstance(found, Missing) and "evaluated whole" in found.why


def test_work_lies_on_the_lanes_of_its_workers_and_adds_up(steps: Path, grid: Path) -> None:
    with opened(steps) as ledger:
        timeline, cost = workload_of(ledger, ledger.counts())
    assert not isinstance(timeline, Missing)
    assert timeline.lanes == ("worker 0", "worker 1", "worker 2") and timeline.named and len(timeline.bars) == 24
    assert {bar.kind for bar in timeline.bars} == {"completed", "stopped early", "failed"}
    assert cost.trials == 24 and cost.worked == pytest.approx(24 * 1.5) and cost.each == pytest.approx(1.5)
    with opened(grid) as ledger:
        timeline, cost = workload_of(ledger, ledger.counts())
    assert not isinstance(timeline, Missing) and timeline.lanes == ("lane 1",) and not timeline.named
    assert [bar.words for bar in timeline.bars] == ["8 trials"] * 3 and cost.by_status == {"completed": 11.5, "failed": 0.5}


def test_what_sessions_had_of_their_cache_is_added_up(grid: Path) -> None:
    with opened(grid) as ledger:
        assert dict(cost_rows(workload_of(ledger, ledger.counts())[1]))["cache"] == "n/a: no use of tables is on record"
    for found, built in ((0, 300), (1200, 0)):
        with Ledger.open(grid / "ledger.sqlite") as ledger:
            ledger.begin_session({})
            use = {"tables": 2, "rows_found": found, "rows_built": built, "seconds_saved": found / 100, "seconds_built": built / 100}
            ledger.record("cache_use", **use)
            ledger.end_session("finished")
    with opened(grid) as ledger:
        said = dict(cost_rows(workload_of(ledger, ledger.counts())[1]))["cache"]
    assert said == "1,200 rows found, which saved 12 s; 300 rows built in 3 s"


def test_bars_that_are_too_many_to_see_are_joined_where_they_touch() -> None:
    bars = [Bar(lane, i * 1.0, i + 0.9, "work", "1 trial") for i in range(BARS) for lane in (0, 1)]
    joined = _merged([*bars, Bar(0, BARS + 500.0, BARS + 501.0, "work", "1 trial")], 2.0)
    assert [(bar.lane, bar.begin) for bar in joined] == [(0, 0.0), (0, BARS + 500.0), (1, 0.0)]
    assert joined[0].end == BARS - 0.1 and joined[0].words == f"{BARS:,} attempts"


def test_the_study_file_read_again_is_the_same_study(tmp_path: Path) -> None:
    spec = {
        "name": "odd",
        "trainable": "toy",
        "description": "12:30, 1e-4 and 'quotes': all text",
        "data": {"source": "2024-01-01", "bars": 720, "note": "1e-4", "flag": "yes", "number": "010"},
        "space": {"x": [1e-05, 0.1], "mode": {"choice": ["on", "off", "null"]}, "rate": {"loguniform": [1e-6, 1e-2]}},
        "search": {"sampler": "random", "trials": 12},
        "seed": 7,
    }
    study = Study.parse(spec)
    file = tmp_path / "odd.yaml"
    file.write_text(as_yaml(study))
    assert Study.load(file) == study and "scheduler" not in file.read_text()


def test_commands_of_every_search_are_given_and_the_certificate_is_verifys(grid: Path) -> None:
    found = gather(grid, folder=Path("runs")).origin
    assert not isinstance(found, Missing)
    assert found.again == ("alphasweep run made.yaml", "alphasweep verify made") and found.own_file
    assert found.sessions[0].commit == "0123456789ab+" and found.windows[-1][0] == "holdout"
    assert Study.parse(yaml.safe_load(found.file)).space == SPACE
    more = {**SPACE, "hold": [4, 5]}
    with Ledger.open(grid / "ledger.sqlite") as ledger:
        ledger.add_plan(more, {"sampler": "grid", "trials": None, "seed": 3, "fixed": {}}, 16)
    again = gather(grid, folder=Path("runs")).origin
    assert not isinstance(again, Missing) and not isinstance(again.again, Missing)
    assert (
        again.again[1] == f"alphasweep run made.yaml --set 'space={json.dumps(more).replace('0.0,', '0,', 1)}'" and len(again.searches) == 2
    )


def test_a_study_without_results_has_a_reason_for_every_part(tmp_path: Path) -> None:
    home = tmp_path / "empty"
    home.mkdir()
    with Ledger.create(home / "ledger.sqlite", header_of("empty")) as ledger:
        ledger.begin_session({})
    found = gather(home)
    for part in (found.board, found.curves, found.parameters, found.steps, found.timeline):
        assert isinstance(part, Missing) and part.why
    assert found.state == "closed" and found.counts["trials"] == 0


def test_only_errors_people_can_meet_become_reasons() -> None:
    def wrong() -> Any:
        raise AttributeError("a fault in the code")

    with pytest.raises(AttributeError):
        tried(wrong)
    assert tried(lambda: pd.read_parquet("/nowhere.parquet")).why == "/nowhere.parquet: cannot be read"


def test_a_parameter_called_rank_keeps_a_column_of_its_own(tmp_path: Path) -> None:
    home = write_grid(tmp_path, space={"rank": [8, 16, 32], "edge": [0.0, 0.1]})
    with opened(home) as ledger:
        board = board_of(ledger, judge(home), 6)
    assert "config.rank" in board.frame and board.frame["rank"].tolist()[0] == 1 and "config.rank" in board.parameters


def test_what_a_configuration_lacks_is_its_default_in_every_chunk(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.open(grid / "ledger.sqlite") as ledger:
        plan = ledger.add_plan({"hold": [9]}, {"sampler": "grid", "trials": None, "seed": 3, "fixed": {}}, 1)
        ledger.begin_session({})
        config = {"hold": 9, "mode": "close"}
        key = config_ids(ledger.header.context_id, [config], ledger.header.defaults)[0]
        attempt = ledger.open_attempt(plan.plan_id, 1)
        ledger.accept(attempt, [ResultRow(plan.offset, key, config, "completed", [99.0, 0.1, -0.1, 50.0, 0.5], 0.1)])
    monkeypatch.setattr("sweeps.report.board._CHUNK", 1)
    with opened(grid) as ledger:
        frame = board_of(ledger, None, 24).frame
    assert frame["edge"].iloc[0] == 0.0 and frame["trial"].iloc[0] == plan.offset

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from results import Ledger, LedgerError, Metric, ResultRow, config_ids
from results.leaderboard import LEGACY_LABEL, format_parameter, format_value, leaderboard, parameter_label, render


def context_of(ledger: Ledger) -> str:
    return ledger.header.context_id


@pytest.fixture
def filled(ledger: Ledger, make_failed: Callable) -> Ledger:
    """Configurations of several shapes, ties, n/a values and a failure."""
    configs: list[dict[str, Any]] = [
        {"x": 1, "lr": 0.5, "mode": "a", "nested": {"rank": 8, "on": True}},
        {"x": 2, "lr": 1.0, "mode": "a", "nested": {"rank": 16, "on": False}},
        {"x": 3, "lr": 0.25, "mode": "a", "horizons": [1, 24]},
        {"x": 4, "lr": 1e-4, "mode": "a", "status": "odd name", "sharpe": 2},
    ]
    sharpes = [1.5, 2.5, None, 2.5]
    ids = config_ids(context_of(ledger), configs)
    rows = [ResultRow(i, ids[i], configs[i], "completed", [sharpes[i], 0.1 * i, -0.1, 1.0 / 3], 0.5, None) for i in range(4)]
    ledger.accept(ledger.open_attempt(1, 5), [*rows, make_failed(context_of(ledger), 4, 'line one\nline two, "quoted"')])
    return ledger


def test_top_ranks_by_value_then_trial_with_blanks_last(filled: Ledger) -> None:
    assert filled.top("sharpe", "max", 10)["trial"].tolist() == [1, 3, 0, 2]
    assert filled.top("sharpe", "min", 10)["trial"].tolist() == [0, 1, 3, 2]
    assert filled.top("sharpe", "max", 2)["trial"].tolist() == [1, 3]
    assert filled.top("sharpe", "max", 10, where_completed=False)["trial"].tolist() == [1, 3, 0, 2, 4]
    assert filled.top("loss", n=2)["trial"].tolist() == [0, 1]
    assert filled.top("total_return", n=1)["trial"].tolist() == [3]
    with pytest.raises(LedgerError, match="no metric 'nope'"):
        filled.top("nope", "max")


def test_the_objective_s_index_serves_the_ranking(filled: Ledger) -> None:
    if filled.engine.dialect.name != "sqlite":
        return
    query = "EXPLAIN QUERY PLAN SELECT trial FROM trials WHERE m_sharpe IS NOT NULL ORDER BY m_sharpe DESC, trial LIMIT 20"
    with filled.connect() as connection:
        plan = " ".join(str(row) for row in connection.exec_driver_sql(query))
    assert "COVERING INDEX trials_objective" in plan


def test_top_of_an_empty_study_is_an_empty_frame(ledger: Ledger) -> None:
    assert len(ledger.top("sharpe")) == 0 and "sharpe" in ledger.top("sharpe")
    assert len(ledger.frame()) == 0
    assert len(leaderboard(ledger)) == 0
    assert render(leaderboard(ledger)).row_count == 0


def test_the_frame_has_every_trial_with_its_configuration_in_columns(filled: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = filled.frame()
    assert frame["trial"].tolist() == [0, 1, 2, 3, 4]
    assert frame["nested.rank"].tolist()[:2] == [8, 16] and pd.isna(frame["nested.rank"][2])
    assert frame["horizons"][2] == [1, 24]
    assert frame["config.status"][3] == "odd name" and frame["config.sharpe"][3] == 2
    assert frame["status"].tolist() == ["completed"] * 4 + ["failed"]
    assert frame["sharpe"].tolist()[:2] == [1.5, 2.5] and pd.isna(frame["sharpe"][2])
    assert filled.frame(["x", "sharpe"]).columns.tolist() == ["x", "sharpe"]
    with pytest.raises(LedgerError, match="no column 'zz'"):
        filled.frame(["x", "zz"])
    monkeypatch.setattr("results.export.CHUNK", 2)
    by_twos = pd.concat([pd.DataFrame({"t": batch["trial"]}) for batch in filled.stream(["trial"], chunk=2)])
    assert by_twos["t"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_exported_table_reads_back_as_it_was(filled: Ledger, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"trials.{ending}"
    assert filled.export(path) == 5
    back = pd.read_csv(path) if ending == "csv" else pd.read_parquet(path)
    frame = filled.frame()
    assert back.columns.tolist() == frame.columns.tolist()
    for name in ("trial", "config_id", "status", "sharpe", "total_return", "loss", "x", "lr", "mode", "nested.rank", "error"):
        expected = [None if pd.isna(value) else value for value in frame[name]]
        assert [None if pd.isna(value) else value for value in back[name]] == expected, name
    assert json.loads(back["horizons"][2]) == [1, 24]
    assert back["nested.on"].tolist()[:2] == [True, False]
    assert [file.name for file in tmp_path.iterdir() if "partial" in file.name] == []


def test_exported_json_keeps_configurations_whole(filled: Ledger, tmp_path: Path) -> None:
    filled.export(tmp_path / "trials.json")
    records = json.loads((tmp_path / "trials.json").read_text())
    assert len(records) == 5
    assert records[0]["config"]["nested"] == {"rank": 8, "on": True}
    assert records[2]["metrics"]["sharpe"] is None and records[2]["metrics"]["loss"] == 1 / 3
    assert records[4]["error"].startswith("line one")


def test_an_empty_study_exports_to_every_format(ledger: Ledger, tmp_path: Path) -> None:
    for ending in ("csv", "json", "parquet"):
        assert ledger.export(tmp_path / f"empty.{ending}") == 0
    assert json.loads((tmp_path / "empty.json").read_text()) == []
    assert len(pd.read_parquet(tmp_path / "empty.parquet")) == 0
    with pytest.raises(LedgerError, match="cannot export as 'xlsx'"):
        ledger.export(tmp_path / "empty.xlsx")


def test_what_is_known_of_some_trials_is_exported_beside_them_and_null_for_the_others(filled: Ledger, tmp_path: Path) -> None:
    known = pd.DataFrame(
        {"verdict": ["luck", "survives"], "dsr": [0.5, float("nan")], "alike": [2, 1], "x": [0.1, 0.2]},
        index=pd.Index([3, 1], name="trial"),
    )
    for ending in ("csv", "parquet", "json"):
        assert filled.export(tmp_path / f"all.{ending}", evidence=known) == 5
    for back in (pd.read_csv(tmp_path / "all.csv"), pd.read_parquet(tmp_path / "all.parquet")):
        plain = filled.frame()
        # A parameter is called x too; its column stays what it was.
        assert back.columns.tolist() == [*plain.columns, "verdict", "dsr", "alike", "judged.x"]
        assert back["x"].tolist()[:4] == [1, 2, 3, 4] and back["judged.x"].tolist()[1] == 0.2
        assert back["verdict"].fillna("").tolist() == ["", "survives", "", "luck", ""]
        assert back["dsr"].isna().tolist() == [True, True, True, False, True] and back["alike"].sum() == 3
    records = json.loads((tmp_path / "all.json").read_text())
    assert records[1]["evidence"] == {"verdict": "survives", "dsr": None, "alike": 1, "x": 0.2}
    assert [record["evidence"] is None for record in records] == [True, False, True, False, True]


def test_a_metric_without_a_direction_cannot_rank(new_location: Callable, make_header: Callable) -> None:
    header = replace(make_header(), metrics=(*make_header().metrics, Metric("trades", None, "count")))
    with Ledger.create(new_location(), header) as ledger:
        for rank in (lambda: leaderboard(ledger, "trades"), lambda: ledger.top("trades")):
            with pytest.raises(LedgerError, match="cannot rank by trades: more is neither better nor worse"):
                rank()
        with pytest.raises(LedgerError, match=r"are sharpe, total_return, max_drawdown, loss; trades can be a constraint$"):
            leaderboard(ledger, "trades")


def test_a_seed_of_64_bits_exports(ledger: Ledger, tmp_path: Path) -> None:
    config = {"seed": 2**63 + 5}
    identity = config_ids(context_of(ledger), [config])[0]
    ledger.accept(ledger.open_attempt(1, 1), [ResultRow(0, identity, config, "completed", [1, 1, 1, 1])])
    ledger.export(tmp_path / "a.parquet")
    assert pd.read_parquet(tmp_path / "a.parquet")["seed"].tolist() == [str(2**63 + 5)]


def test_a_trial_is_found_by_number_or_by_the_start_of_its_identity(filled: Ledger) -> None:
    whole = filled.trial(1)
    assert filled.trial("1")["config_id"] == whole["config_id"]
    assert filled.trial(whole["config_id"][:8])["trial"] == 1
    assert filled.trial(whole["config_id"][:7].upper())["trial"] == 1
    assert filled.trial(4)["error"].startswith("line one") and filled.trial(4)["intact"]
    for wrong in (77, "77", "zzzz", "0" * 32, "ab"):
        with pytest.raises(LedgerError, match="no trial"):
            filled.trial(wrong)


def test_the_leaderboard_has_varying_parameters_as_columns_and_constants_once(filled: Ledger) -> None:
    board = leaderboard(filled, top=3)
    assert board["trial"].tolist() == [1, 3, 0] and board["rank"].tolist() == [1, 2, 3]
    assert board.columns[:3].tolist() == ["rank", "trial", "sharpe"]
    assert board.attrs["constants"] == {"mode": "a"} and "mode" not in board
    assert {"x", "lr", "nested.rank"} <= set(board.columns)
    assert board.columns[3:6].tolist() == ["total_return", "max_drawdown", "loss"]  # evidence before parameters
    assert leaderboard(filled, "loss", top=1)["trial"].tolist() == [0]
    chosen = leaderboard(filled, params=["mode", "lr"])
    assert chosen.columns[6:8].tolist() == ["mode", "lr"]
    with pytest.raises(LedgerError, match="no parameter 'zz'"):
        leaderboard(filled, params=["zz"])


def test_the_rendered_leaderboard_shows_percent_and_missing_values(filled: Ledger) -> None:
    console = Console(width=250, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(leaderboard(filled)))
    text = console.export_text()
    assert "10.00%" in text and "-10.00%" in text and "n/a" in text
    assert "same in every row: mode=a" in text and "grid" in text
    assert LEGACY_LABEL not in text


def test_the_legacy_profile_is_labelled_in_red(new_location: Callable, make_header: Callable, make_rows: Callable) -> None:
    with Ledger.create(new_location(), make_header(protocol={"profile": "legacy"})) as ledger:
        ledger.begin_session({})
        ledger.add_plan({}, {}, 2)
        ledger.accept(ledger.open_attempt(1, 2), make_rows(context_of(ledger), [0, 1]))
        table = render(leaderboard(ledger))
    assert f"[bold red]{LEGACY_LABEL}[/bold red]" in str(table.title)


def test_values_are_formatted_for_people() -> None:
    nan = float("nan")
    cases = [
        (0.1234, "fraction", "12.34%"),
        (nan, "fraction", "n/a"),
        (nan, "ratio", "n/a"),
        (0.94999, "probability", "0.949"),
        (1.0, "probability", "0.999"),
        (nan, "probability", "n/a"),
        (None, None, "–"),
        (1234567, "count", "1,234,567"),
        (2.34567, "ratio", "2.346"),
        (0.00001234, "ratio", "1.23e-05"),
        (2.669e15, "fraction", "2.67e+15×"),
        (0.0005, None, "0.0005"),
        (24.0, None, "24"),
        (True, None, "True"),
        ("high_low", None, "high_low"),
    ]
    for value, unit, expected in cases:
        assert format_value(value, unit) == expected


def test_parameters_in_a_row_of_many_have_four_digits_and_whole_numbers_all() -> None:
    cases = [(0.0005464525847, "0.0005465"), (0.0005, "0.0005"), (24.0, "24"), (123456, "123456"), (51234.567, "51235")]
    for value, expected in [*cases, (float("nan"), "–"), ("high_low", "high_low"), (True, "True"), (None, "–")]:
        assert format_parameter(value) == expected


def test_drawn_parameters_are_rounded_on_a_board_and_whole_in_what_it_is_made_of(ledger: Ledger) -> None:
    configs = [{"lr": 0.0005464525847, "wd": 0.123456789}, {"lr": 0.0012345678, "wd": 0.123456789}]
    ids = config_ids(context_of(ledger), configs)
    rows = [ResultRow(i, ids[i], configs[i], "completed", [1.0 - i, 0.1, -0.1, 1.0]) for i in range(2)]
    ledger.accept(ledger.open_attempt(1, 2), rows)
    board = leaderboard(ledger)
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(board, width=120))
    text = console.export_text()
    assert " 0.0005465 " in text and " 0.001235 " in text and "same in every row: wd=0.1235" in text
    assert board["lr"].tolist() == [0.0005464525847, 0.0012345678]


def test_a_parameter_may_be_called_like_a_column_of_the_leaderboard(ledger: Ledger) -> None:
    from results import ResultRow, config_ids
    from results.leaderboard import leaderboard, pareto, render

    plan = ledger.add_plan({"rank": [8, 16]}, {"sampler": "grid"}, 2)
    configs = [{"rank": 8, "meets": 1}, {"rank": 16, "meets": 2}]
    ids = config_ids(ledger.header.context_id, configs, ledger.header.defaults)
    rows = [
        ResultRow(i, key, config, metrics=[float(i), 0.1 * i, -0.1, 1.0]) for i, (key, config) in enumerate(zip(ids, configs, strict=True))
    ]
    ledger.accept(ledger.open_attempt(plan.plan_id, 2), rows)
    board = leaderboard(ledger)
    assert board["rank"].tolist() == [1, 2] and board["config.rank"].tolist() == [16, 8] and board["config.meets"].tolist() == [2, 1]
    assert render(board, width=120).row_count == 2
    assert "config.rank" in pareto(ledger, ["sharpe", "total_return"])
    labels = {name: parameter_label(name, ("sharpe",)) for name in ("rank", "sharpe", "seconds", "x")}
    assert labels == {"rank": "config.rank", "sharpe": "config.sharpe", "seconds": "config.seconds", "x": "x"}

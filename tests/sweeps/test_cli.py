"""The command: exit codes, messages, exports, and output that survives 80 columns and a pipe."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer

from results import Ledger
from sweeps.cli import app
from sweeps.runner import LEDGER

Command = Callable[..., Any]
GROUP: Any = typer.main.get_command(app)
COMMANDS = {name: c for name, c in GROUP.commands.items() if name != "data"} | {"data check": GROUP.commands["data"].commands["check"]}
# Where a command that reads a study is told what it needs besides its name.
READERS = {"status": (), "leaderboard": (), "show": ("0",), "verify": (), "why": ("0",)}


def widest(text: str) -> int:
    return max(map(len, text.splitlines()))


def flip(ledger: Path, statement: str) -> None:
    with closing(sqlite3.connect(ledger)) as connection:
        assert connection.execute(statement).rowcount > 0
        connection.commit()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_a_command_names_each_argument_and_option_with_its_meaning(command: Command, name: str) -> None:
    done = command(*name.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert widest(done.out) <= 80
    assert COMMANDS[name].help.split()[0] in done.out
    for parameter in COMMANDS[name].params:
        assert parameter.help, f"{name} {parameter.name} has no help"
        shown = parameter.opts[0]
        assert shown in done.out
        if parameter.default is not None and not getattr(parameter, "is_flag", False):
            assert f"[default: {parameter.default}]" in " ".join(done.out.replace("│", " ").split()), (name, parameter.name)


def test_the_help_lists_every_command(command: Command) -> None:
    done = command("--help")
    assert done.code == 0
    assert all(name.split()[0] in done.out for name in COMMANDS)


def test_the_help_does_not_wait_for_pandas_and_ray() -> None:
    code = "import sys, sweeps.cli; sys.exit(any(m in sys.modules for m in ('pandas', 'ray', 'numba', 'sqlalchemy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_version_is_that_of_the_package(command: Command) -> None:
    assert command("--version").out == f"alphasweep {version('alphasweep')}\n"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["run"], "Missing argument 'study'"),
        (["run", "selector_grid", "--trails", "3"], "No such option: --trails"),
        (["run", "selector_grid", "--trials", "0"], "Invalid value for '--trials'"),
        (["run", "selector_grid", "--slots", "0"], "Invalid value for '--slots'"),
        (["run", "selector_grid", "--trials", "many"], "Invalid value for '--trials'"),
        (["run", "selector_gird"], "Did you mean 'selector_grid'?"),
        (["run", "selector_grid", "--set", "objective"], "write key=value"),
        (["run", "selector_grid", "--set", "objective=profit"], "is not a metric of selector"),
        (["run", "selector_grid", "--set", "data.source=nowhere"], "data.source: nowhere does not exist"),
        (["leaderboard", "x", "--top", "0"], "Invalid value for '--top'"),
        (["validate", "selector_grid", "--set", "space.min_egde=[1]"], "did you mean 'min_edge'?"),
        (["validate", "selector_grid", "--set", "settings.profil=legacy"], "did you mean 'profile'?"),
        (["validate", "selector_grid", "--set", "data.brs=5"], "did you mean 'bars'?"),
        (["data", "check", "nowhere"], "nowhere"),
    ],
)
def test_a_user_error_is_a_message_and_exit_code_2(command: Command, tmp_path: Path, args: list[str], told: str) -> None:
    done = command(*args, *(["--dir", tmp_path / "runs"] if args[0] in ("run", "leaderboard") else []))
    assert done.code == 2
    assert told in " ".join(done.err.replace("│", " ").split())
    assert "Traceback" not in done.err
    assert not (tmp_path / "runs" / "selector_grid" / LEDGER).exists()


def test_what_a_message_has_in_brackets_is_shown(command: Command) -> None:
    done = command("validate", "selector_grid", "--set", "space.intensity={unifrm: [1, 2]}")
    assert "{uniform: [a, b]}" in done.err
    assert len(done.err.splitlines()) == 1, "a message is one line, however long, so that it can be searched for"


def test_a_valid_study_shows_its_data_space_and_ranking(command: Command) -> None:
    done = command("validate", "selector_grid", "--set", "data.bars=400")
    assert done.code == 0
    assert "7 symbols × 400 bars" in done.out
    assert re.search(r"holdout +2024-01-14 to 2024-01-17, sealed", done.out)
    assert re.search(r"min_edge +grid +0\.0, 0\.0005, 0\.001", done.out)
    assert done.out.endswith("Valid: 54 configurations (grid), ranked by sortino.\n")


def test_all_parameters_of_a_trainable_are_listed_with_default_unit_and_what_is_allowed(command: Command, toy_file: Path) -> None:
    said = command("validate", "selector_grid", "--set", "data.bars=400", "--parameters").out
    assert re.search(r"fill_buffer +0\.0005 fraction +0 to 0\.5 +how far price must", said)
    assert re.search(r"max_positions +1 slots +whole, 1 to 16 +positions held", said)
    assert re.search(r"allow_short +false +true or false", said)
    assert re.search(r"shape +round +round, flat", command("validate", toy_file, "--parameters").out)
    assert "fill_buffer" not in command("validate", "selector_grid", "--set", "data.bars=400").out


def test_studies_to_be_learnt_from_are_looked_up_before_a_run(command: Command, toy_file: Path, runs: Path) -> None:
    learning = ("validate", toy_file, "--set", "search.sampler=tpe", "--set", "search.trials=4", "--dir", runs)
    assert "Learns from toy: 10 results in this space." in command(*learning, "--set", "search.warm_start=[toy]").out
    done = command(*learning, "--set", "search.warm_start=[nobody]")
    assert done.code == 2 and "search.warm_start: nobody: there is no ledger at" in done.err


def test_the_library_is_listed_with_its_sizes(command: Command) -> None:
    done = command("ls")
    assert done.code == 0
    assert widest(done.out) <= 80
    assert re.search(r"selector_grid +54 +The 54-point", done.out)
    assert re.search(r"selector_wide +1,105,920 ", done.out)


@pytest.mark.parametrize("reader", sorted(READERS))
def test_a_folder_or_study_that_is_not_there_is_a_user_error(command: Command, tmp_path: Path, reader: str) -> None:
    done = command(reader, "toy", *READERS[reader], "--dir", tmp_path / "nowhere")
    assert (done.code, done.err) == (2, f"error --dir {tmp_path / 'nowhere'}: no such folder\n")
    done = command(reader, "toy", *READERS[reader], "--dir", tmp_path)
    assert (done.code, done.err) == (2, f"error toy: no study of that name has run in {tmp_path}.\n")


def test_the_status_of_a_folder_without_studies_says_how_to_start(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = command("status", "--dir", tmp_path)
    assert (done.code, done.out) == (0, f"No studies yet in {tmp_path}. Start one: alphasweep run selector_grid --dir {tmp_path}\n")
    monkeypatch.chdir(tmp_path)
    assert command("status").out == "No studies yet in runs. Start one: alphasweep run selector_grid\n"


def test_the_status_of_a_folder_that_is_not_there_is_a_user_error(command: Command, tmp_path: Path) -> None:
    done = command("status", "--dir", tmp_path / "nowhere")
    assert (done.code, done.err) == (2, f"error --dir {tmp_path / 'nowhere'}: no such folder\n")


def test_a_file_in_place_of_the_folder_is_a_user_error(command: Command, toy_file: Path) -> None:
    done = command("run", toy_file, "--dir", toy_file)
    assert done.code == 2
    assert "is a file" in done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_a_folder_that_cannot_be_written_is_a_user_error(command: Command, toy_file: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = command("run", toy_file, "--dir", tmp_path / "runs")
    tmp_path.chmod(0o700)
    assert (done.code, done.err) == (2, f"error {tmp_path / 'runs'}: Permission denied\n")


def test_a_folder_that_cannot_be_made_is_a_user_error(command: Command, toy_file: Path) -> None:
    done = command("run", toy_file, "--dir", "/dev/null/runs")
    assert done.code == 2
    assert done.err.startswith("error /dev/null/runs")
    assert "Traceback" not in done.err


def test_an_interrupt_before_work_begins_ends_with_130_and_how_to_go_on(command: Command, toy_file: Path, tmp_path: Path) -> None:
    done = command("run", toy_file, "--set", "data.interrupt=true", "--trials", "3", "--dir", tmp_path / "my runs")
    assert done.code == 130
    assert f"alphasweep run {toy_file} --dir '{tmp_path}/my runs' --set data.interrupt=true --trials 3\n" in done.err


@pytest.mark.parametrize(
    ("close", "code", "told"),
    [("100.2", 0, "no problems"), ("250.0", 1, "A study refuses them until they are corrected, or left out by `drop_bad_rows: true`")],
)
def test_data_check_ends_with_1_where_it_finds_bad_rows(command: Command, tmp_path: Path, close: str, code: int, told: str) -> None:
    rows = [f"2024-01-01T{h:02}:00:00Z,100.0,101.0,99.0,{close if h == 7 else 100.5},10" for h in range(24)]
    (tmp_path / "BTCUSD.csv").write_text("\n".join(["timestamp,open,high,low,close,volume", *rows]) + "\n")
    done = command("data", "check", tmp_path)
    assert done.code == code, done
    assert told in done.out
    assert ("error BTCUSD" in done.out) == bool(code)


# What follows reads a study that ran on Ray, once for all of these tests.


@pytest.mark.ray
def test_the_status_of_a_study_shows_why_configurations_failed(command: Command, runs: Path) -> None:
    done = command("status", "toy", "--dir", runs)
    assert done.code == 0
    assert re.search(r"toy +finished +10 +2 +12 +score 0 +\d{4}-\d\d-\d\d \d\d:\d\d", done.out)
    assert "  trial 6: ValueError: no value [red] at 3\n" in done.out
    assert widest(done.out) <= 80


@pytest.mark.ray
def test_one_damaged_ledger_does_not_hide_the_other_studies(command: Command, runs: Path) -> None:
    (runs / "broken").mkdir()
    (runs / "broken" / LEDGER).write_bytes(b"not a database" * 50)
    done = command("status", "--dir", runs)
    assert done.code == 0
    assert re.search(r"broken +unreadable", done.out)
    assert re.search(r"toy +finished", done.out)
    assert "its first bytes are not those of a SQLite database" in done.out
    assert command("status", "broken", "--dir", runs).code == 2


@pytest.mark.ray
@pytest.mark.parametrize("reader", sorted(READERS))
def test_a_misspelled_study_names_the_nearest_that_has_run(command: Command, runs: Path, reader: str) -> None:
    done = command(reader, "tyo", *READERS[reader], "--dir", runs)
    assert (done.code, done.err) == (2, f"error tyo: no study of that name has run in {runs}. Did you mean 'toy'?\n")
    assert command(reader, "zzz", *READERS[reader], "--dir", runs).err.endswith(f"has run in {runs}. There are toy.\n")


@pytest.mark.ray
def test_a_study_file_stands_for_the_name_that_is_written_in_it(command: Command, runs: Path, toy_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(toy_file.read_text())
    done = command("status", other, "--dir", runs)
    assert (done.code, "toy" in done.out) == (0, True)


@pytest.mark.ray
def test_the_leaderboard_ranks_by_the_objective_or_by_another_metric(command: Command, runs: Path) -> None:
    done = command("leaderboard", "toy", "--dir", runs, "--top", 1)
    assert re.search(r"^ +1 +2 +0 +", done.out, re.M), done.out
    done = command("leaderboard", "toy", "--dir", runs, "--top", 2, "--sort", "cost")
    assert "top 2 of 10 by cost" in done.out
    assert re.search(r"^ +1 +0 +0 ", done.out, re.M), done.out
    assert widest(done.out) <= 80


@pytest.mark.ray
def test_ranking_by_nonsense_names_the_metrics_there_are(command: Command, runs: Path) -> None:
    done = command("leaderboard", "toy", "--dir", runs, "--sort", "nonsense")
    assert done.code == 2
    assert "has no metric 'nonsense'; it has score, cost, share" in done.err


@pytest.mark.ray
def test_exports_hold_every_trial_with_the_same_values(command: Command, runs: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"all.{name}" for name in ("csv", "json", "parquet")}
    options = [part for name, file in files.items() for part in (f"--{name}", file)]
    done = command("leaderboard", "toy", "--dir", runs, "--top", 1, *options)
    assert (done.code, done.out.count("12 trials written to ")) == (0, 3)
    records = [row.pop("metrics") | row.pop("config") | row for row in json.loads(files["json"].read_text())]
    frames = {"csv": pd.read_csv(files["csv"]), "json": pd.DataFrame(records), "parquet": pd.read_parquet(files["parquet"])}
    with Ledger.open(runs / "toy" / LEDGER, readonly=True) as ledger:
        truth = ledger.frame()
    assert list(truth["status"]).count("failed") == 2
    for name, frame in frames.items():
        assert set(frame.columns) == set(truth.columns), name
        for column in ("trial", "config_id", "status", "score", "cost", "share", "x", "shape", "error"):
            left, right = frame[column].astype(object), truth[column].astype(object)
            assert left.where(left.notna(), None).tolist() == right.where(right.notna(), None).tolist(), (name, column)


@pytest.mark.ray
@pytest.mark.parametrize("option", ["--csv", "--json", "--parquet"])
def test_an_export_that_cannot_be_written_is_a_user_error(command: Command, runs: Path, option: str) -> None:
    done = command("leaderboard", "toy", "--dir", runs, option, runs / "no" / "all.x")
    assert done.code == 2
    assert "there is no folder" in done.err
    assert command("leaderboard", "toy", "--dir", runs, option, runs).code == 2
    assert [p.name for p in runs.iterdir()] == ["toy"]


@pytest.mark.ray
def test_a_trial_is_shown_by_number_and_by_the_first_digits_of_its_identity(command: Command, runs: Path) -> None:
    with Ledger.open(runs / "toy" / LEDGER, readonly=True) as ledger:
        identity = ledger.trial(2)["config_id"]
    shown = command("show", "toy", 2, "--dir", runs)
    assert shown.code == 0
    assert shown.out.startswith("toy, trial 2 ")
    assert re.search(r" score +0 ", shown.out)
    assert re.search(r" x +1 +swept ", shown.out)
    assert widest(shown.out) <= 80
    assert command("show", "toy", identity[:8], "--dir", runs).out == shown.out


@pytest.mark.ray
def test_an_identity_of_decimal_digits_only_is_not_taken_for_a_number(command: Command, runs: Path) -> None:
    flip(runs / "toy" / LEDGER, "UPDATE trials SET config_id = CAST(x'12345678' || substr(config_id, 5) AS BLOB) WHERE trial = 2")
    shown = command("show", "toy", "12345678", "--dir", runs)
    assert shown.out.startswith("toy, trial 2 ")
    assert "does not match: changed after it was accepted" in shown.out


@pytest.mark.ray
def test_a_failed_trial_is_shown_with_its_error(command: Command, runs: Path) -> None:
    shown = command("show", "toy", 6, "--dir", runs)
    assert shown.code == 0
    assert "no value [red] at" in shown.out
    assert re.search(r" score +n/a", shown.out)


@pytest.mark.ray
@pytest.mark.parametrize("trial", ["999", "zz", "²", "abcdef", "99999999999999999999999"])
def test_an_unknown_trial_is_a_user_error(command: Command, runs: Path, trial: str) -> None:
    done = command("show", "toy", trial, "--dir", runs)
    assert done.code == 2
    assert "give a trial number or 4 or more digits of a config_id" in done.err


@pytest.mark.ray
def test_a_study_of_points_another_has_takes_them_over_and_is_verified(command: Command, runs: Path, toy_file: Path) -> None:
    done = command("run", toy_file, "--set", "name=part", "--set", "space.x=[0, 1, 2]", "--dir", runs)
    assert (done.code, "Nothing to do: all 6 points have a result.\n" in done.out) == (0, True)
    done = command("verify", "part", "--dir", runs)
    assert done.code == 0
    assert done.out.startswith("part: verified")
    assert re.search(r"points +6 .*completed +6 .*failed +0 .*corrupt +0 ", done.out, re.S)


@pytest.mark.ray
def test_failed_points_are_results_that_verify_counts_and_names(command: Command, runs: Path) -> None:
    done = command("verify", "toy", "--dir", runs)
    assert done.code == 0
    assert re.search(r"points +12 .*completed +10 .*failed +2 .*corrupt +0 ", done.out, re.S)
    assert f"  2 points have failed and have no metrics; alphasweep status toy --dir {runs} shows why\n" in done.out


@pytest.mark.ray
@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE trials SET m_score = m_score + 1e-9 WHERE trial = 2", "trial 2: a metric, its status or its checksum was changed"),
        ("UPDATE trials SET status = 'completed', m_score = 9 WHERE trial = 6", "trial 6: a metric, its status"),
        ("UPDATE trials SET config = replace(config, '1', '2') WHERE trial = 2", "trial 2: its configuration is not the one"),
        ("DELETE FROM trials WHERE trial = 2", "no result for configuration"),
    ],
)
def test_a_changed_ledger_is_not_verified_and_ends_with_1(command: Command, runs: Path, statement: str, told: str) -> None:
    flip(runs / "toy" / LEDGER, statement)
    done = command("verify", "toy", "--dir", runs)
    assert done.code == 1
    assert "toy: NOT verified" in done.out
    assert told in done.out


@pytest.mark.ray
def test_a_ledger_whose_pages_are_damaged_is_told_with_its_file(command: Command, runs: Path) -> None:
    ledger = runs / "toy" / LEDGER
    raw = bytearray(ledger.read_bytes())
    for page in range(4096, len(raw), 4096):
        raw[page : page + 16] = b"\xff" * 16
    ledger.write_bytes(raw)
    for reader, more in READERS.items():
        done = command(reader, "toy", *more, "--dir", runs)
        assert done.code == 2, reader
        assert str(ledger) in done.err
        assert "is damaged" in done.err


@pytest.mark.ray
def test_a_study_with_all_results_runs_again_without_work(command: Command, runs: Path, toy_file: Path) -> None:
    done = command("run", toy_file, "--dir", runs)
    assert done.code == 0
    assert "toy  Twelve points, [two] of which fail.\n" in done.out
    assert "  market       [none] at all\n" in done.out
    assert "Nothing to do: all 12 points have a result.\n" in done.out
    assert widest("\n".join(line for line in done.out.splitlines() if "--dir" not in line)) <= 80


@pytest.mark.slow
@pytest.mark.ray
def test_a_study_of_failures_says_so_and_what_to_do_whenever_it_is_run(command: Command, toy_file: Path, tmp_path: Path) -> None:
    for first in (True, False):
        done = command("run", toy_file, "--set", "space.x=[3]", "--dir", tmp_path, "--slots", 1)
        assert (done.code, "Nothing to do: all 2 points have a result.\n" in done.out) == (1, not first)
        assert f"All 2 configurations failed; alphasweep status toy --dir {tmp_path} shows why, --retry-failed tries" in done.out
        assert "  trial 0: ValueError: no value [red] at 3\n" in done.out
        assert "rank" not in done.out, "there is nothing to rank"
    done = command("run", toy_file, "--set", "space.x=[2, 3]", "--dir", tmp_path, "--slots", 1)
    assert done.code == 0
    assert "\n2 configurations failed; " in done.out and "rank" in done.out


@pytest.mark.ray
def test_a_run_says_which_objective_and_constraints_hold_where_the_file_has_others(command: Command, runs: Path, toy_file: Path) -> None:
    told = "when the study was created"
    assert told not in command("run", toy_file, "--dir", runs).out
    done = command("run", toy_file, "--set", "objective=cost", "--set", "constraints=['share >= 10%']", "--dir", runs)
    assert f"  objective: score {told}, cost now; this run ranks by cost, other commands by score (leaderboard --sort cost)\n" in done.out
    assert f"  constraints: none {told}, share >= 10% now; the first are used" in done.out
    assert "top 10 of 10 by cost" in done.out


@pytest.mark.ray
def test_a_name_of_a_study_that_has_run_is_no_misspelling_of_the_library(command: Command, runs: Path) -> None:
    (runs / "toy").rename(runs / "selector_mine")
    done = command("run", "selector_mine", "--dir", runs)
    assert done.code == 2
    assert done.err.endswith(" 'selector_mine' has run; name its study file to run it again.\n")


@pytest.mark.ray
def test_a_study_that_is_running_already_is_told_who_has_it(command: Command, runs: Path, toy_file: Path) -> None:
    with Ledger.open(runs / "toy" / LEDGER):
        done = command("run", toy_file, "--dir", runs)
        assert command("status", "toy", "--dir", runs).code == 0, "reading is always possible"
    assert done.code == 2
    assert f"is being written by process {os.getpid()}" in done.err


@pytest.mark.ray
def test_the_same_name_over_other_conditions_is_refused(command: Command, runs: Path, toy_file: Path) -> None:
    done = command("run", toy_file, "--set", "seed=4", "--dir", runs)
    assert done.code == 2
    assert "seed was 3, is 4" in done.err


@pytest.mark.ray
def test_ctrl_c_stops_with_130_and_the_command_that_goes_on(toys: Path, tmp_path: Path) -> None:
    file = toys / "long.yaml"
    file.write_text(
        "trainable: alphasweep_toys:Parabola\nspace:\n  x: {uniform: [-10, 10]}\nsearch:\n  sampler: random\n  trials: 100000000\n"
    )
    runs = tmp_path / "runs"
    args = [sys.executable, "-m", "sweeps.cli", "run", str(file), "--dir", str(runs), "--slots", "1"]
    process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_results(runs / "long" / LEDGER)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Stopped. Nothing is lost; the same command goes on: alphasweep run" in out
    assert f"alphasweep run {file} --dir {runs} --slots 1\n" in out
    with Ledger.open(runs / "long" / LEDGER, readonly=True) as ledger:
        assert ledger.sessions()[-1]["reason"] == "stopped"


def wait_for_results(path: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if path.exists():
            with Ledger.open(path, readonly=True) as ledger:
                if ledger.counts()["trials"]:
                    return
        time.sleep(0.1)
    raise AssertionError("no result after a minute")

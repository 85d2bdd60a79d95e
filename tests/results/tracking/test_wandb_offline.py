from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("wandb")

from results import Ledger, ResultRow, config_ids
from results.leaderboard import leaderboard
from results.tracking import wandb_offline
from results.tracking.projection import Projection
from results.tracking.select import runs
from results.tracking.tail import Tail
from results.tracking.tracker import Board, Place, Point, Rows, TrackerError
from results.tracking.wandb_run import WandbTracker
from results.tracking.wandb_workspace import per_symbol
from tests.results.tracking.wandb_study import RUN, about, board, frame, point, points, rows, trial, write

SECRET = "sk-planted-0123456789abcdef"


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("surroundings")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, surroundings: Path) -> Path:
    """The folder of a study that was written offline, with everything around it redirected, and a key planted."""
    home = tmp_path_factory.mktemp("study") / ("deep" * 20)  # longer than the path of a socket may be
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", SECRET)
        patch.setenv("MY_BROKER_TOKEN", SECRET + "-too")
        for name in ("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
            (surroundings / name).mkdir()
            patch.setenv(name, str(surroundings / name))
        (home / "results.parquet").parent.mkdir(parents=True)
        (home / "results.parquet").write_bytes(b"PAR1 all of it")
        tracker = WandbTracker(about(home, note=f"uses {SECRET}-too"), {})
        assert write(tracker, 45, trials=2, stop=True, reports=3) == Place()
        tracker.close("finished", {"winner": 3, "verdict": f"weak, {SECRET}"}, [home / "results.parquet"])
    return home


def folders(home: Path) -> list[Path]:
    return wandb_offline.folders(home / "tracking" / "wandb" / "offline")


def log_of(home: Path, run: str = RUN) -> Path:
    (log,) = (home / "tracking" / "wandb" / "offline").glob(f"*/wandb/offline-run-*-{run}/run-{run}.wandb")
    return log


def test_what_is_read_back_offline_is_what_the_ledger_gave(study: Path) -> None:
    held = wandb_offline.read(log_of(study))
    shown = [{name: value for name, value in row.items() if name not in ("_timestamp", "_runtime")} for row in held["history"]]
    assert shown == [{"_step": one.index, "trials_done": one.done, **one.values} for one in points(45)]
    assert held["exit"] == 0 and held["summary"]["winner"] == 3 and held["group"] == "grid" and held["kind"] == "study"
    assert held["config"]["study"]["space"] == {"x": [1, 2]} and held["config"]["trainable"] == "toy"
    board_file = log_of(study).parent / "files" / held["summary"]["leaderboard"]["path"]
    assert json.loads(board_file.read_text())["data"] == board(45).frame.to_numpy().tolist()
    (kept,) = [one for one in held["artifacts"] if one["name"] == f"results-{RUN}"]
    assert Path(kept["entries"]["results.parquet"]).read_bytes() == b"PAR1 all of it"
    first = wandb_offline.read(log_of(study, f"{RUN}-t1"))
    assert first["config"] == {"x": 1, "mode": "high"} and first["kind"] == "trial" and first["summary"]["sharpe"] == 1 / 7
    assert [row["step"] for row in first["history"]] == [100, 200, 300]


def test_check_finds_nothing_where_all_is_there_and_says_what_is_not(study: Path) -> None:
    tracker = WandbTracker(about(study), {})
    assert tracker.check(points(45), rows(45), [trial(0, 3), trial(1, 3)]) == []
    assert tracker.check(47, 46, [0, 1, 7]) == ["2 of 47 points", "1 of 46 rows of the table of trials", "the run of trial 7"]


def test_the_clients_own_reader_reads_the_same_history(study: Path) -> None:
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(log_of(study))]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "HOME": str(study)}).stdout
    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    history = [one["history"]["item"] for one in found if one["type"] == "history"]
    assert [(row["trials_done"], row["best/sharpe"]) for row in history] == [(one.done, one.values["best/sharpe"]) for one in points(45)]


def test_no_key_and_no_secret_is_in_any_file_of_the_study(study: Path) -> None:
    files = [path for path in study.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert "[MY_BROKER_TOKEN]" in json.dumps(wandb_offline.read(log_of(study))["config"])


def test_nothing_is_written_outside_the_studys_folder(study: Path, surroundings: Path) -> None:
    assert [path for path in surroundings.rglob("*") if path.is_file()] == []


def test_a_log_torn_anywhere_gives_what_is_before(study: Path, tmp_path: Path) -> None:
    whole = log_of(study).read_bytes()
    kinds = [record.WhichOneof("record_type") for record in wandb_offline.records(log_of(study))]
    torn = tmp_path / "torn.wandb"
    for cut in range(7, len(whole), max(1, len(whole) // 97)):
        torn.write_bytes(whole[:cut])
        found = [record.WhichOneof("record_type") for record in wandb_offline.records(torn)]
        assert found == kinds[: len(found)]
    torn.write_bytes(b"something else")
    with pytest.raises(ValueError, match="no W&B transaction log"):
        list(wandb_offline.records(torn))


def test_a_log_damaged_in_the_middle_is_not_taken_for_a_shorter_one(study: Path, tmp_path: Path) -> None:
    damaged = bytearray(log_of(study).read_bytes())
    damaged[len(damaged) // 2] ^= 255
    (tmp_path / "damaged.wandb").write_bytes(damaged)
    with pytest.raises(ValueError, match="damaged"):
        list(wandb_offline.records(tmp_path / "damaged.wandb"))


def test_the_saved_view_is_there_as_json(study: Path) -> None:
    made = json.loads((study / "tracking" / "wandb" / "workspace.json").read_text())
    sections = made["spec"]["section"]["panelBankConfig"]["sections"]
    assert [one["name"] for one in sections if one.get("panels")] == ["Leaderboard", "Progress", "Parameters", "All trials"]
    kinds = {panel["viewType"] for one in sections for panel in one.get("panels", ())}
    assert {"Run History Line Plot", "Parallel Coordinates Plot", "Parameter Importance"} <= kinds
    assert "best/sharpe" in json.dumps(sections) and "url" not in made


def test_metrics_per_symbol_are_found_by_their_names() -> None:
    names = ["sharpe", "return.AAPL", "return.BRK.B", "fees[SPY]", "fees[QQQ]", "x.Y", "best/sharpe"]
    assert per_symbol(names) == {"return": ["return.AAPL", "return.BRK.B"], "fees": ["fees[SPY]", "fees[QQQ]"]}


def test_opened_again_a_folder_is_written_anew_and_only_one_would_ever_be_synchronised(tmp_path: Path) -> None:
    tracker = WandbTracker(about(tmp_path), {})
    write(tracker, 30)
    (former,) = folders(tmp_path)
    assert tracker.open() == Place()
    for one in points(30)[:20]:
        tracker.point(one)
    tracker.rows(rows(30)[0])
    unmarked = [log for log in tmp_path.rglob("*.wandb") if not log.with_name(f"{log.name}.synced").exists()]
    assert len(folders(tmp_path)) == 2 and len(unmarked) == 1 and former in unmarked[0].parents
    for one in points(30)[20:]:
        tracker.point(one)
    tracker.rows(rows(30)[1])
    tracker.close("finished", {})
    (newer,) = folders(tmp_path)
    assert newer != former and not list(tmp_path.rglob("*.synced"))
    assert WandbTracker(about(tmp_path), {}).check(points(30), rows(30)) == []


@pytest.mark.slow
def test_what_was_killed_while_it_was_written_anew_leaves_the_fuller_folder(tmp_path: Path) -> None:
    tracker = WandbTracker(about(tmp_path), {})
    write(tracker, 25)
    (former,) = folders(tmp_path)
    tracker.open()
    tracker.point(point(0))
    assert tracker._client is not None
    gone = tracker._client.processes
    for process in gone:
        os.kill(process, signal.SIGKILL)
    with pytest.raises(TrackerError, match="ended without an answer"):
        tracker.point(point(1))
    with pytest.raises(TrackerError, match="is not open"):
        tracker.point(point(1))
    assert tracker.check(points(25), rows(25)) == []  # of the fuller one
    write(tracker, 25)
    (left,) = folders(tmp_path)
    assert left != former and tracker.check(points(25), rows(25)) == []


def test_a_study_in_a_folder_named_from_where_one_stands_is_written_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(WandbTracker(about(Path("study")), {}), 3)
    monkeypatch.chdir(tmp_path / "study")
    assert len(wandb_offline.read(log_of(tmp_path / "study"))["history"]) == 3
    assert sorted(path.name for path in Path("tracking/wandb/offline").iterdir()) == ["0001", "cache", "client.log"]


def test_opened_and_left_alone_it_writes_nothing(study: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*.wandb")}
    tracker = WandbTracker(about(study), {})
    assert tracker.open() == Place() and tracker.check(45, 45, {0, 1}) == []
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*.wandb")} == before


def test_a_kill_offline_costs_about_a_second(tmp_path: Path) -> None:
    tracker = WandbTracker(about(tmp_path), {})
    tracker.open()
    for one in points(10):
        tracker.point(one)
    time.sleep(2.5)
    tracker.point(point(10))
    assert tracker._client is not None
    for process in tracker._client.processes:
        os.kill(process, signal.SIGKILL)
    assert len(wandb_offline.read(log_of(tmp_path))["history"]) >= 10


def test_a_table_of_more_than_ten_thousand_rows_is_whole_in_its_increments(tmp_path: Path) -> None:
    tracker = WandbTracker(about(tmp_path), {})
    tracker.open()
    given = rows(23_000, 10_000)
    for batch in given:
        tracker.rows(batch)
    tracker.close("finished", {})
    entries = {name: path for one in wandb_offline.read(log_of(tmp_path))["artifacts"] for name, path in one["entries"].items()}
    tables = [json.loads(Path(entries[name]).read_text()) for name in sorted(entries)]
    assert [len(table["data"]) for table in tables] == [10_000, 10_000, 3_000]
    assert [row[0] for table in tables for row in table["data"]] == list(range(23_000))
    assert tables[0]["columns"] == list(frame(0, 1).columns)
    media = list(log_of(tmp_path).parent.glob("files/media/table/trials_*"))
    assert sum(len(json.loads(path.read_text())["data"]) for path in media) == 23_000
    assert tracker.check(0, given) == []


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrackerError, match="unknown projekt; there are project, entity, mode, trials"):
        WandbTracker(about(tmp_path), {"projekt": "x"})
    with pytest.raises(TrackerError, match="offline or online, not 'cloud'"):
        WandbTracker(about(tmp_path), {"mode": "cloud"})


def test_what_is_out_of_order_is_refused_as_the_client_would_drop_it_silently(tmp_path: Path) -> None:
    tracker = WandbTracker(about(tmp_path), {})
    tracker.open()
    with pytest.raises(TrackerError, match="point 3 was given where 0 are written"):
        tracker.point(point(3))
    with pytest.raises(TrackerError, match="rows from 20 were given where 0 are written"):
        tracker.rows(rows(40)[1])
    tracker.point(point(0))


def test_a_ledger_is_in_its_table_and_curves_row_for_row(tmp_path: Path) -> None:
    place, study = tmp_path / "ledger.sqlite", about(tmp_path)
    with Ledger.create(place, study.header) as ledger:
        ledger.begin_session({})
        ledger.add_plan({}, {}, 30)
        for start in range(0, 30, 10):
            configs = [{"x": number, "mode": "high"} for number in range(start, start + 10)]
            ids = config_ids(ledger.header.context_id, configs, ledger.header.defaults)
            numbers = range(start, start + 10)
            values = {number: None if number % 9 == 8 else [number / 7, 1.0 / (number + 1)] for number in numbers}
            states = {number: "failed" if values[number] is None else "completed" for number in numbers}
            given = [ResultRow(n, ids[n - start], configs[n - start], states[n], values[n], 0.25) for n in numbers]  # type: ignore[arg-type]
            ledger.accept(ledger.open_attempt(1, 10), given)
        results = ledger.frame().set_index("trial")
    fold = Projection(study.header, study.parameters, 30)
    items = [item for part in Tail(place).poll(settled=True) for item in fold.feed(part)] + list(fold.rest())
    given_points, given_rows = [one for one in items if isinstance(one, Point)], [one for one in items if isinstance(one, Rows)]
    tracker = WandbTracker(study, {})
    tracker.open()
    for item in items:
        tracker.point(item) if isinstance(item, Point) else tracker.rows(item)
    with Ledger.open(place, readonly=True) as reader:
        best = list(runs(reader, [29, 28]))
        for run in best:
            tracker.trial(run)
        tracker.board(Board(30, leaderboard(reader)))
    tracker.close("finished", {})
    assert tracker.check(given_points, given_rows, best) == [] and len(given_points) == 30
    held = wandb_offline.read(log_of(tmp_path))
    entries = {name: path for one in held["artifacts"] for name, path in one["entries"].items() if ".trials." in name}
    tables = [json.loads(Path(entries[name]).read_text()) for name in sorted(entries)]
    rows_held = [dict(zip(table["columns"], row, strict=True)) for table in tables for row in table["data"]]
    assert sorted(row["trial"] for row in rows_held) == sorted(results.index)
    for row in rows_held:
        value = results.at[row["trial"], "sharpe"]
        assert row["status"] == results.at[row["trial"], "status"] and (
            row["sharpe"] == value or (row["sharpe"] is None and value != value)
        )
    board_file = log_of(tmp_path).parent / "files" / held["summary"]["leaderboard"]["path"]
    shown = json.loads(board_file.read_text())
    assert [row[shown["columns"].index("trial")] for row in shown["data"]][:2] == [29, 28]

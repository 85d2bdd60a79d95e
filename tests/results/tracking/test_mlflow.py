from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from results import Header
from results.tracking.mlflow import MlflowTracker
from results.tracking.mlflow_store import connect, key_of, place_of
from results.tracking.tracker import FINISHED, STOPPED, About, Board, Place, Point, Rows, TrackerError, TrialRun

pytest.importorskip("mlflow")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def about(tmp_path: Path, mlflow_tables: Path, make_header: Callable[..., Header]) -> About:
    made = make_header()
    header = Header(made.name, made.spec, made.context, made.metrics, made.objective, created="2026-01-02T03:04:05+00:00")
    (tmp_path / "tracking").mkdir()
    shutil.copy(mlflow_tables, tmp_path / "tracking" / "mlflow.db")
    return About(header, "0123456789abcdef", 12, True, ("x", "mode"), tmp_path)


def points(n: int) -> list[Point]:
    return [Point(i, i + 1, {"best/sharpe": 1.0 + i // 3, "trials/completed": i + 1.0}) for i in range(n)]


def rows(start: int, end: int) -> Rows:
    numbers = list(range(start, end))
    return Rows(
        start, pd.DataFrame({"trial": numbers, "status": "completed", "seconds": 0.5, "x": numbers, "sharpe": [n / 7 for n in numbers]})
    )


def run(trial: int, status: str = "completed", **more: Any) -> TrialRun:
    reports = [(10, {"sharpe": 0.1, "loss": 0.9}), (20, {"sharpe": 0.2, "loss": 0.8})]
    config = {"x": trial, "mode": "high_low", "layers": [1, 2], "flag": True}
    return TrialRun(trial, f"{trial:032x}", config, status, {"sharpe": 0.2, "total_return": 0.05}, 2.5, reports, **more)


def write(about: About, to: int = 12, close: str = FINISHED, place: Place | None = None) -> MlflowTracker:
    """Writes what the tracker says it has not, as the follower of a ledger does."""
    tracker = MlflowTracker(about, {})
    found = tracker.open()
    place = place or found
    for point in points(to)[place.points :]:
        tracker.point(point)
    for start in range(place.rows, to, 5):
        tracker.rows(rows(start, min(start + 5, to)))
    for trial in range(3):
        if trial not in place.trials:
            tracker.trial(run(trial, ("completed", "stopped", "failed")[trial]))
    tracker.board(Board(to, pd.DataFrame({"rank": [1, 2], "trial": [3, 4], "sharpe": [2.5, float("nan")]})))
    results = about.home / "tracking" / "results.parquet"
    results.write_bytes(b"PAR1")
    tracker.close(close, {"verdict": "survives", "winner/trial": 3, "best/sharpe": 2.5}, [results])
    return tracker


def everything(about: About) -> dict[str, Any]:
    """All that MLflow holds, with names in place of its own ids."""
    client = connect(place_of({}, about.home))
    experiment = client.get_experiment_by_name("alphasweep")
    assert experiment is not None
    found = {}
    for each in client.search_runs([experiment.experiment_id]):
        histories = {key: [(m.step, m.value) for m in client.get_metric_history(each.info.run_id, key)] for key in each.data.metrics}
        tags = {key: value for key, value in each.data.tags.items() if key != "mlflow.parentRunId"}
        files = sorted(path.name for path in Path(each.info.artifact_uri.removeprefix("file://")).rglob("*") if path.is_file())
        assert each.info.run_name not in found, "a run is there twice"
        found[each.info.run_name] = (each.info.status, each.data.params, tags, histories, files)
    return found


def test_what_is_told_is_in_mlflow(about: About) -> None:
    tracker = write(about)
    found = everything(about)
    assert set(found) == {"grid", "trial 0", "trial 1", "trial 2"}
    status, _, tags, histories, files = found["grid"]
    assert status == "FINISHED" and tags["alphasweep.run_id"] == about.run_id
    assert tags["summary.verdict"] == "survives" and tags["mlflow.note.content"].startswith("- **verdict**: survives")
    assert histories["best/sharpe"] == [(i + 1, 1.0 + i // 3) for i in range(12)]
    assert files == ["000000000.csv", "000000005.csv", "000000010.csv", "leaderboard.json", "results.parquet", "study.json", "summary.json"]
    assert tracker.check(12, 12, {0, 1, 2}) == []


def test_a_trial_is_a_nested_run_with_its_reports_as_curves(about: About) -> None:
    write(about)
    client = connect(place_of({}, about.home))
    experiment = client.get_experiment_by_name("alphasweep")
    assert experiment is not None
    parent = client.search_runs([experiment.experiment_id], f"tags.`alphasweep.run_id` = '{about.run_id}'")[0]
    nested = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {each.info.run_name: each.info.status for each in nested} == {"trial 0": "FINISHED", "trial 1": "KILLED", "trial 2": "FAILED"}
    first = next(each for each in nested if each.info.run_name == "trial 0")
    assert first.data.params == {"x": "0", "mode": "high_low", "layers": "[1, 2]", "flag": "true"}
    assert [(m.step, m.value) for m in client.get_metric_history(first.info.run_id, "loss")] == [(10, 0.9), (20, 0.8)]
    assert [(m.step, m.value) for m in client.get_metric_history(first.info.run_id, "sharpe")] == [(10, 0.1), (20, 0.2)]
    assert first.data.metrics["total_return"] == 0.05 and first.info.end_time - first.info.start_time == 2500


def test_the_leaderboard_is_a_table_that_mlflow_loads(about: About, pointed: Callable[[Path], None]) -> None:
    write(about)
    client = connect(place_of({}, about.home))
    experiment = client.get_experiment_by_name("alphasweep")
    assert experiment is not None
    pointed(about.home)
    table = client.load_table(experiment.experiment_id, "leaderboard.json")
    assert table["trial"].tolist() == [3, 4] and table["sharpe"].isna().tolist() == [False, True]


def test_twice_is_once(about: About) -> None:
    write(about)
    before = everything(about)
    assert MlflowTracker(about, {}).open() == Place(12, 12, frozenset({0, 1, 2}))
    write(about)
    assert everything(about) == before


def test_what_was_written_but_not_confirmed_is_not_doubled(about: About) -> None:
    write(about)
    before = everything(about)
    first, second = MlflowTracker(about, {}), MlflowTracker(about, {})
    first.open(), second.open()
    for point in points(15)[12:]:
        first.point(point)
    first.close(FINISHED, {})
    for point in points(15)[12:]:
        second.point(point)  # it asked before these were there, as after an answer that was lost
    second.close(FINISHED, {"verdict": "survives", "winner/trial": 3, "best/sharpe": 2.5})
    after = everything(about)
    assert after["grid"][3]["best/sharpe"] == before["grid"][3]["best/sharpe"] + [(13, 5.0), (14, 5.0), (15, 5.0)]


def test_looking_without_writing_leaves_an_ended_run_as_it_is(about: About) -> None:
    write(about)
    tracker = MlflowTracker(about, {})
    tracker.open()
    assert tracker.check(12, 12, {0, 1, 2}) == []
    assert everything(about)["grid"][0] == "FINISHED"
    write(about, to=13, close=STOPPED)
    assert everything(about)["grid"][0] == "KILLED"


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
network = []
sys.addaudithook(lambda event, args: network.append(args) if event in ("socket.connect", "socket.getaddrinfo") else None)
import pickle
from pathlib import Path
from results.tracking.mlflow import MlflowTracker
about, points, rows, run = pickle.loads(Path({given!r}).read_bytes())
tracker = MlflowTracker(about, {{}})
tracker.open()
for point in points:
    tracker.point(point)
tracker.rows(rows[0])
tracker.trial(run)
client = tracker._client
client.set_tag = lambda *_: (print(len(network), flush=True), os.kill(os.getpid(), signal.SIGKILL))
tracker.rows(rows[1])
"""


@pytest.mark.slow
def test_a_killed_writer_goes_on_where_it_was_and_nothing_is_written_elsewhere(about: About, tmp_path: Path, tmp_path_factory: Any) -> None:
    import pickle

    given, away = tmp_path_factory.mktemp("given") / "given", tmp_path_factory.mktemp("away")
    given.write_bytes(pickle.dumps((about, points(7), [rows(0, 5), rows(5, 10)], run(0))))
    seen = ("CI", "PYTEST_CURRENT_TEST", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")  # by these MLflow would be silent anyhow
    env = {key: value for key, value in os.environ.items() if key not in seen} | {"HOME": str(away), "TMPDIR": str(away)}
    script = KILLED.format(root=str(ROOT), given=str(given))
    ended = subprocess.run([sys.executable, "-c", script], cwd=away, env=env, capture_output=True, text=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert ended.stdout == "0\n"  # no connection to anywhere
    assert not [path for path in away.rglob("*") if path.is_file() and path.suffix != ".csv"]  # of the upload that was cut short
    tracker = MlflowTracker(about, {})
    assert tracker.open() == Place(7, 5, frozenset({0}))
    write(about)
    found = everything(about)
    assert found["grid"][3]["best/sharpe"] == [(i + 1, 1.0 + i // 3) for i in range(12)]
    assert MlflowTracker(about, {}).open() == Place(12, 12, frozenset({0, 1, 2}))


def test_what_is_missing_is_said_and_written_again(about: About) -> None:
    tracker = write(about)
    part = next((about.home / "tracking" / "mlflow-artifacts").rglob("000000005.csv"))
    part.unlink()
    assert tracker.check(13, 12, {0, 7}) == [
        "12 points of the curves in place of 13",
        "5 rows in place of 12",
        "no whole run of 1 trials, the first is 7",
    ]
    assert MlflowTracker(about, {}).open().rows == 5
    write(about)
    assert tracker.check(12, 12, {0, 1, 2}) == []


def test_a_server_that_is_not_there_is_an_error_with_words_and_without_the_password(about: About, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = MlflowTracker(about, {"uri": "http://me:hunter2hunter2@127.0.0.1:9"})
    with pytest.raises(TrackerError, match=r"MLflow at http://me:.*@127.0.0.1:9: opening the experiment") as caught:
        tracker.open()
    assert "hunter2" not in str(caught.value)


def test_a_secret_of_the_environment_gets_into_nothing(about: About, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_API_KEY", "planted-secret-0123456789")
    tracker = MlflowTracker(about, {})
    tracker.open()
    tracker.trial(TrialRun(5, "5" * 32, {"note": "with planted-secret-0123456789"}, "completed", {}))
    frame = pd.DataFrame({"trial": [1], "status": ["failed"], "error": ["no planted-secret-0123456789"]})
    tracker.rows(Rows(0, frame))
    tracker.board(Board(1, frame))
    tracker.close(FINISHED, {"verdict": "planted-secret-0123456789"})
    found = b"".join(path.read_bytes() for path in (about.home / "tracking").rglob("*") if path.is_file())
    assert b"[BROKER_API_KEY]" in found and b"planted-secret" not in found


def test_a_study_that_was_moved_is_refused_with_what_to_do(about: About, tmp_path_factory: pytest.TempPathFactory) -> None:
    write(about)
    home = tmp_path_factory.mktemp("moved") / "study"
    shutil.copytree(about.home, home)
    moved = About(about.header, about.run_id, about.total, about.stepping, about.parameters, home)
    with pytest.raises(TrackerError, match=r"was moved or copied\. Remove that file; alphasweep track sync writes all of it again"):
        MlflowTracker(moved, {}).open()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "x"}, "unknown 'url'; there are uri, experiment, artifacts"),
        ({"uri": 5}, "tracking.mlflow.uri: 5 is no text"),
        ({"uri": "sqlite:///here.db"}, "depends on the folder it is started in"),
        ({"uri": "/some/folder"}, "is a folder, which MLflow gives up"),
        ({"uri": "postgresql://host/db"}, "keeps no files; say where they go with artifacts"),
        ({"uri": "env"}, "MLFLOW_TRACKING_URI is not set"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_what_to_give(
    about: About, settings: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackerError, match=words.replace("(", r"\(")):
        MlflowTracker(about, settings)


def test_another_database_keeps_its_files_beside_itself(about: About, tmp_path: Path) -> None:
    place = place_of({"uri": f"sqlite:////{str(tmp_path).lstrip('/')}/team.db", "experiment": "ours"}, about.home)
    assert place.artifacts == (tmp_path / "team-artifacts").as_uri() and place.experiment == "ours"


@pytest.mark.parametrize("name", ["best/sharpe", "a[0]", "..", "a//b", "/a", "über µ", "x=1,y=2", "." * 3, "a/../b", "n" * 400])
def test_any_name_becomes_one_that_mlflow_takes(about: About, name: str) -> None:
    tracker = MlflowTracker(about, {})
    tracker.open()
    tracker.point(Point(0, 1, {name: 2.0}))
    tracker.close(FINISHED, {name: 1})
    assert everything(about)["grid"][3][key_of(name)] == [(1, 2.0)]
    assert json.loads(next((about.home / "tracking").rglob("summary.json")).read_text()) == {name: 1}

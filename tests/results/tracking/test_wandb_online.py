from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wandb")

from results.tracking.tracker import Place, TrackerError
from results.tracking.wandb_run import WandbTracker
from tests.results.tracking.wandb_server import KEY, WandbServer
from tests.results.tracking.wandb_study import RUN, about, board, frame, point, points, rows, trial, write

ONLINE = {"mode": "online", "project": "sweeps"}


pytestmark = pytest.mark.slow


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbServer]:
    """A server, and a user who knows it by the environment alone; nothing it was asked may be unknown to it."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with WandbServer() as made:
        for name, value in made.env().items():
            monkeypatch.setenv(name, value)
        yield made
        assert made.unknown == []


def tracker_in(home: Path, **settings: Any) -> WandbTracker:
    made = WandbTracker(about(home), {**ONLINE, **settings})
    made.pauses_s = (0.0,)
    return made


def shown(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in ("_timestamp", "_runtime")} for row in history]


def projected(count: int) -> list[dict[str, Any]]:
    return [{"_step": one.index, "trials_done": one.done, **one.values} for one in points(count)]


def table_rows(server: WandbServer, run: str = RUN) -> list[list[Any]]:
    """The rows of the table of all trials, by the addresses the run's summary has, as the server stored them."""
    table = server.runs[run].summary["trials"]
    found = []
    for path in [*table["previous_increments_paths"], table["artifact_path"]]:
        name = path.rpartition("/")[2]
        (blob,) = [blob for at, blob in server.blobs.items() if at.startswith("/storage/artifact/") and at.endswith("/" + name)]
        found += json.loads(blob)["data"]
    return found


def held(server: WandbServer) -> Mapping[str, Any]:
    """What a second synchronisation must not change."""
    configs = {name: {key: value for key, value in one.config.items() if key != "_wandb"} for name, one in server.runs.items()}
    runs = {name: (one.history, configs[name], one.fields, one.state, sorted(one.files)) for name, one in server.runs.items()}
    tables = [(one.name, one.version) for one in server.artifacts.values()]
    return copy.deepcopy({"runs": runs, "tables": tables, "views": server.views})


def test_online_the_server_holds_exactly_the_ledgers_points_rows_and_trials(server: WandbServer, tmp_path: Path) -> None:
    tracker = tracker_in(tmp_path / "study")
    (tmp_path / "results.parquet").write_bytes(b"PAR1")
    assert write(tracker, 45, trials=10, stop=True, reports=2) == Place()
    tracker.close("finished", {"winner": 3, "leaderboard": "a name that is taken"}, [tmp_path / "results.parquet"])
    run = server.runs[RUN]
    assert shown(run.history) == projected(45) and run.state == "finished"
    assert run.fields["groupName"] == "grid" and run.fields["jobType"] == "study" and run.project == "sweeps"
    expected = frame(0, 45)
    assert [row[0] for row in table_rows(server)] == expected["trial"].tolist()
    assert [row[-2] for row in table_rows(server)] == expected["sharpe"].tolist()
    assert json.loads(run.files[run.summary["leaderboard"]["path"]])["data"] == board(45).frame.to_numpy().tolist()
    assert run.summary["winner"] == 3 and run.summary["state"] == "finished" and run.summary["leaderboard_"] == "a name that is taken"
    for number in range(10):
        one = server.runs[f"{RUN}-t{number}"]
        assert one.fields["jobType"] == "trial" and one.fields["groupName"] == "grid" and one.summary["sharpe"] == number / 7
        assert [row["loss"] for row in one.history] == [1.0, 0.5] and one.state == "finished"
    assert [one.name for one in server.artifacts.values()].count(f"results-{RUN}") == 1
    assert tracker.check(points(45), rows(45), [trial(n, 2) for n in range(10)]) == []


def test_synchronised_twice_is_as_if_once(server: WandbServer, tmp_path: Path) -> None:
    (tmp_path / "results.parquet").write_bytes(b"PAR1")
    seen = []
    for expected in (Place(), Place(30, 30, frozenset({0, 1}))):
        tracker = tracker_in(tmp_path / "study")
        assert write(tracker, 30, trials=2, stop=True) == expected
        tracker.close("finished", {"winner": 3}, [tmp_path / "results.parquet"])
        seen.append(held(server))
    assert seen[0] == seen[1]


def test_opened_and_left_alone_it_writes_nothing(server: WandbServer, tmp_path: Path) -> None:
    write(tracker_in(tmp_path / "study"), 12)
    before, writes, tracker = held(server), server.runs[RUN].writes, tracker_in(tmp_path / "study")
    assert tracker.open() == Place(12, 12) and tracker.check(12, 12) == []
    assert held(server) == before and server.runs[RUN].writes == writes


def test_elsewhere_and_later_a_study_is_gone_on_with_where_the_server_is(server: WandbServer, tmp_path: Path) -> None:
    write(tracker_in(tmp_path / "here"), 25)
    there = tracker_in(tmp_path / "there")
    assert write(there, 60) == Place(25, 25)
    assert shown(server.runs[RUN].history) == projected(60) and [row[0] for row in table_rows(server)] == list(range(60))
    assert list(server.runs) == [RUN] and there.check(points(60), rows(60)) == []


def test_a_process_killed_in_the_middle_leaves_nothing_twice_and_nothing_out(server: WandbServer, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from tests.results.tracking.wandb_study import *\n"
        "tracker = WandbTracker(about(Path(sys.argv[1])), {'mode': 'online', 'project': 'sweeps'})\n"
        "tracker.client_settings = {'x_file_stream_transmit_interval': 1.0}\n"
        "write(tracker, 40, trials=3, stop=True); print('written', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "study")]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "written\n"
        until = time.monotonic() + 20
        while time.monotonic() < until and not (RUN in server.runs and server.runs[RUN].history):
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    assert server.runs[RUN].state == "running" and server.runs[RUN].history
    tracker = tracker_in(tmp_path / "study")
    write(tracker, 70, trials=4)
    assert shown(server.runs[RUN].history) == projected(70) and [row[0] for row in table_rows(server)] == list(range(70))
    assert sorted(server.runs) == [RUN, *(f"{RUN}-t{n}" for n in range(4))]
    assert tracker.check(points(70), rows(70), [trial(n) for n in range(4)]) == []


def test_what_was_synchronised_by_hand_from_the_offline_folder_is_not_written_again(server: WandbServer, tmp_path: Path) -> None:
    home = tmp_path / "study"
    write(WandbTracker(about(home), {"project": "sweeps"}), 30, trials=1)
    logs = [str(path.parent) for path in home.rglob("*.wandb")]
    wandb = str(Path(sys.executable).with_name("wandb"))
    subprocess.run([wandb, "sync", "--yes", *logs], cwd=tmp_path, timeout=90, check=True, env=os.environ, capture_output=True)
    tracker = tracker_in(home)
    assert write(tracker, 40, trials=1) == Place(30, 30, frozenset({0}))
    assert shown(server.runs[RUN].history) == projected(40) and tracker.check(points(40), rows(40), [trial(0)]) == []


@pytest.mark.parametrize("what", ["doubled", "missing"])
def test_a_run_that_contradicts_the_ledger_is_superseded_by_a_new_one(server: WandbServer, tmp_path: Path, what: str) -> None:
    write(tracker_in(tmp_path / "study"), 12)
    history = server.runs[RUN].history
    server.runs[RUN].history = history + history if what == "doubled" else history[:5] + history[6:]
    tracker = tracker_in(tmp_path / "study")
    assert write(tracker, 12) == Place()
    assert write(tracker_in(tmp_path / "study"), 12) == Place(12, 12)  # and not a third
    assert sorted(server.runs) == [RUN, f"{RUN}-2"] and shown(server.runs[f"{RUN}-2"].history) == projected(12)
    assert server.runs[RUN].fields["tags"] == ["superseded"] and server.runs[RUN].fields["displayName"] == "grid (superseded)"
    assert tracker.check(points(12), rows(12)) == []


def test_values_that_are_not_the_ledgers_are_found_by_check_and_written_anew(server: WandbServer, tmp_path: Path) -> None:
    tracker = tracker_in(tmp_path / "study")
    write(tracker, 12, trials=1, reports=2)
    server.runs[RUN].history[4]["best/sharpe"] = 99.0
    server.runs[f"{RUN}-t0"].history[1]["loss"] = 99.0
    found = tracker.check(points(12), rows(12), [trial(0, 2)])
    assert found == ["row 4 of the history is not the ledger's point 4", "the run of trial 0 differs from the ledger: reports"]
    write(tracker, 12, trials=1, reports=2)
    assert tracker.check(points(12), rows(12), [trial(0, 2)]) == [] and {f"{RUN}-2", f"{RUN}-t0-2"} <= set(server.runs)


def test_runs_that_are_half_there_are_gone_on_with(server: WandbServer, tmp_path: Path) -> None:
    write(tracker_in(tmp_path / "study"), 5, trials=1, reports=4)
    whole, one = server.runs[RUN], server.runs[f"{RUN}-t0"]
    one.history, one.state, one.summary = one.history[:2], "crashed", {"_step": 1}
    whole.history, whole.summary = whole.history[:3], {**whole.summary, "_step": 2}
    assert write(tracker_in(tmp_path / "study"), 5, trials=1, reports=4) == Place(3, 5)
    assert [row["step"] for row in one.history] == [100, 200, 300, 400] and one.state == "finished"
    assert shown(whole.history) == projected(5) and len(server.runs) == 2


def test_runs_whose_summary_is_ahead_are_superseded_as_the_client_would_drop_what_is_missing(server: WandbServer, tmp_path: Path) -> None:
    write(tracker_in(tmp_path / "study"), 5, trials=1, reports=4)
    for run in (RUN, f"{RUN}-t0"):
        server.runs[run].history, server.runs[run].state = server.runs[run].history[:2], "crashed"
    tracker = tracker_in(tmp_path / "study")
    write(tracker, 5, trials=1, reports=4)
    assert tracker.check(points(5), rows(5), [trial(0, 4)]) == []
    assert [server.runs[run].fields["tags"] for run in (RUN, f"{RUN}-t0")] == [["superseded"], ["superseded"]]
    assert len(server.runs) == 4


def test_no_key_is_in_any_file_and_the_studys_folder_keeps_no_copy_of_what_was_uploaded(server: WandbServer, tmp_path: Path) -> None:
    home = tmp_path / "study"
    tracker = tracker_in(home)
    write(tracker, 25, stop=True)
    while_open = [path for path in home.rglob("*") if path.is_file()]
    assert [path for path in while_open if KEY.encode() in path.read_bytes()] == [] and len(while_open) > 5
    tracker.close("finished", {})
    assert [path.name for path in home.rglob("*") if path.is_file()] == ["workspace.json"]
    assert not list((tmp_path / "home").rglob("*"))


def test_without_a_key_it_is_said_what_to_do(server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(TrackerError, match=r"no key for http://127.*: set WANDB_API_KEY, or run `wandb login`; mode offline needs none"):
        tracker_in(tmp_path / "study").open()
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1:{server.port} login user password {KEY}\n")
    (tmp_path / "netrc").chmod(0o600)
    assert tracker_in(tmp_path / "study").open() == Place()


def test_the_saved_view_is_given_to_the_server_once(server: WandbServer, tmp_path: Path) -> None:
    for _ in range(2):
        write(tracker_in(tmp_path / "study"), 3)
    (view,) = server.views.values()
    assert view["displayName"] == "alphasweep grid" and view["name"] == f"nw-{RUN}-v" and view["entityName"] == "acme"
    assert sum("UpsertView2" in one for one in server.asked) == 1
    assert json.loads((tmp_path / "study" / "tracking" / "wandb" / "workspace.json").read_text())["url"]


def test_where_a_server_takes_no_views_the_study_is_written_all_the_same(server: WandbServer, tmp_path: Path) -> None:
    server.fail("UpsertView2", 400, times=100)
    tracker = tracker_in(tmp_path / "study")
    tracker.open()
    tracker.point(point(0))
    tracker.close("finished", {})
    assert "url" not in json.loads((tmp_path / "study" / "tracking" / "wandb" / "workspace.json").read_text())
    assert shown(server.runs[RUN].history) == projected(1)

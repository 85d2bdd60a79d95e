from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("wandb")

from results.tracking import wandb_run
from results.tracking.tracker import Place, TrackerError
from results.tracking.wandb_process import _Clock
from results.tracking.wandb_run import WandbTracker
from tests.results.tracking.test_wandb_online import projected, shown, table_rows, tracker_in
from tests.results.tracking.wandb_server import WandbServer
from tests.results.tracking.wandb_study import RUN, board, points, rows, trial, write

# As ours, but in a hurry.
PARTS = ("graphql", "file_stream", "file_transfer")
QUICK = {
    "init_timeout": 10,
    "finish_timeout": 15,
    "x_file_stream_transmit_interval": 1.0,
    **{f"x_{part}_timeout_seconds": 2.0 for part in PARTS},
    **{f"x_{part}_retry_max": 2 for part in PARTS},
    **{f"x_{part}_retry_wait_min_seconds": 0.1 for part in PARTS},
    **{f"x_{part}_retry_wait_max_seconds": 0.2 for part in PARTS},
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbServer]:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with WandbServer() as made:
        for name, value in made.env().items():
            monkeypatch.setenv(name, value)
        yield made


def quick(home: Path) -> WandbTracker:
    tracker = tracker_in(home)
    tracker.client_settings = QUICK
    return tracker


def all_there(server: WandbServer, home: Path, count: int, trials: int = 0) -> bool:
    """Whether the server has what the ledger gives, once: as it holds it, and as the tracker reads it back."""
    once = shown(server.runs[RUN].history) == projected(count) and [row[0] for row in table_rows(server)] == list(range(count))
    return once and quick(home).check(points(count), rows(count), [trial(n) for n in range(trials)]) == []


def gone(processes: tuple[int, ...]) -> bool:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        alive = [one for one in processes if Path(f"/proc/{one}/stat").exists() and " Z " not in Path(f"/proc/{one}/stat").read_text()]
        if not alive:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "refuses the key"),
        pytest.param(404, "refuses the key|does not know", marks=pytest.mark.slow),
        pytest.param(429, "asks to slow down", marks=pytest.mark.slow),
        pytest.param(500, r"has trouble \(HTTP 500\)", marks=pytest.mark.slow),
    ],
)
def test_a_server_that_says_no_is_quoted_in_words(server: WandbServer, tmp_path: Path, status: int, words: str) -> None:
    server.fail("", status, times=1000)
    began = time.monotonic()
    with pytest.raises(TrackerError, match=words):
        quick(tmp_path).open()
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_a_server_that_is_not_there_is_said_to_be_and_found_later(server: WandbServer, tmp_path: Path) -> None:
    server.stop()
    tracker = quick(tmp_path)
    with pytest.raises(TrackerError, match="cannot be reached: connection refused"):
        tracker.open()
    server.start()
    assert tracker.open() == Place()


@pytest.mark.slow
def test_refused_in_mid_study_and_opened_later_the_server_has_all_of_it_once(server: WandbServer, tmp_path: Path) -> None:
    tracker = quick(tmp_path)
    tracker.client_settings = {**QUICK, "finish_timeout": 3}
    write(tracker, 30, trials=1, stop=True)
    server.stop()
    with pytest.raises(TrackerError):
        for one in points(50)[30:]:
            tracker.point(one)
        for batch in rows(50, start=30):
            tracker.rows(batch)
        tracker.close("finished", {})
    server.start()
    tracker = quick(tmp_path)
    write(tracker, 50, trials=1)
    assert all_there(server, tmp_path, 50, trials=1)


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 500])
def test_a_server_in_trouble_for_a_moment_is_asked_again(server: WandbServer, tmp_path: Path, status: int) -> None:
    tracker = quick(tmp_path)
    tracker.open()
    server.fail("file_stream", status, times=2)
    server.fail("CreateArtifact$", status, times=1)
    server.fail("PUT /storage/artifact", status, times=1)
    for one in points(25):
        tracker.point(one)
    for batch in rows(25):
        tracker.rows(batch)
    tracker.close("finished", {})
    assert all_there(server, tmp_path, 25)


@pytest.mark.slow
def test_history_that_was_dropped_is_noticed_at_the_end_and_by_check_and_written_later(server: WandbServer, tmp_path: Path) -> None:
    tracker = quick(tmp_path)
    tracker.open()
    server.fail("file_stream", 404, times=1000)  # the client gives up, and its exit says nothing of it
    for one in points(25):
        tracker.point(one)
    with pytest.raises(TrackerError, match=r"does not take what is uploaded|does not know|0 of 25 points are there"):
        tracker.close("finished", {})
    assert "25 of 25 points" in quick(tmp_path).check(points(25), 0)
    server.faults.clear()
    write(quick(tmp_path), 25)
    newest = max(server.runs)
    assert shown(server.runs[newest].history) == projected(25) and quick(tmp_path).check(points(25), rows(25)) == []


@pytest.mark.slow
def test_a_table_that_was_dropped_is_noticed_and_written_later_without_a_new_run(server: WandbServer, tmp_path: Path) -> None:
    tracker = quick(tmp_path)
    tracker.open()
    for one in points(60):
        tracker.point(one)
    for batch in rows(40):
        tracker.rows(batch)
    tracker.board(board(40))
    time.sleep(2.0)  # what is there before the fault
    server.fail("PUT /storage", 400, times=1000)
    for batch in rows(60, start=40):
        tracker.rows(batch)
    with pytest.raises(TrackerError, match="40 of 60 rows of the table of trials are there"):
        tracker.close("finished", {})
    lacking = quick(tmp_path).check(points(60), rows(60))
    assert "1 of 3 increments of the table of trials, the first of them number 2" in lacking
    server.faults.clear()
    assert write(quick(tmp_path), 60) == Place(60, 40)
    assert list(server.runs) == [RUN] and all_there(server, tmp_path, 60)


@pytest.mark.slow
def test_an_upload_that_is_refused_for_good_is_said_while_the_study_runs(server: WandbServer, tmp_path: Path) -> None:
    tracker = quick(tmp_path)
    tracker.open()
    assert tracker._client is not None
    server.fail("file_stream", 404, times=1000)
    until = time.monotonic() + 40
    with pytest.raises(TrackerError, match=r"W&B at http.*404"):
        for one in points(900):
            tracker.point(one)
            time.sleep(0.1)
            assert time.monotonic() < until
    assert tracker._client is None


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["service", "client"])
def test_what_hangs_is_ended_in_time(server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str) -> None:
    tracker = quick(tmp_path)
    tracker.open()
    tracker.point(points(1)[0])
    assert tracker._client is not None
    processes = tracker._client.processes
    assert len(processes) == 2
    os.kill(processes[whose == "service"], signal.SIGSTOP)
    began = time.monotonic()
    with monkeypatch.context() as patch, pytest.raises(TrackerError, match="did not answer within 3 seconds"):
        patch.setattr(wandb_run, "_LIMITS_S", dict.fromkeys(wandb_run._LIMITS_S, 3))
        tracker.close("finished", {})
    assert time.monotonic() - began < 30 and gone(processes)
    write(quick(tmp_path), 25)
    assert all_there(server, tmp_path, 25)


def test_time_without_a_processor_does_not_count_and_time_spent_doing_nothing_does() -> None:
    asleep = _Clock((os.getpid(),), 0.3)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asleep.wait(glance)
    assert 0.3 <= time.monotonic() - began < 3
    starved = _Clock((os.getpid(),), 0.3)
    starved._waiting = lambda: time.monotonic() - began + 100  # type: ignore[method-assign]
    began, glances = time.monotonic(), iter([glance, glance, glance, glance, glance, lambda: "done"])
    assert starved.wait(lambda: next(glances)()) == "done" and time.monotonic() - began > 0.45


def glance() -> str:
    time.sleep(0.1)
    raise TimeoutError


def test_when_the_tracker_is_gone_its_client_and_service_go_too(server: WandbServer, tmp_path: Path) -> None:
    tracker = quick(tmp_path)
    tracker.open()
    assert tracker._client is not None
    processes = tracker._client.processes
    tracker._client._socket.close()  # as when the process ends
    assert gone(processes)


@pytest.mark.slow
def test_a_server_that_never_answers_costs_less_than_a_minute_and_is_found_later(server: WandbServer, tmp_path: Path) -> None:
    server.fail("graphql", 0, times=1000, delay=90)
    tracker = quick(tmp_path)
    began = time.monotonic()
    with pytest.raises(TrackerError, match=r"does not answer in time|did not answer within"):
        tracker.open()
    assert time.monotonic() - began < 60
    server.faults.clear()
    write(tracker, 25)
    assert all_there(server, tmp_path, 25)

"""What is told to trackers beside a run, and that no tracker changes or slows one."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import Header, Ledger, Metric, ResultRow, config_ids
from sweeps import Study, run
from sweeps.home import LEDGER
from sweeps.runner import verify
from sweeps.tracking import beside, follow, writer
from sweeps.tracking.budget import Budget
from sweeps.tracking.settings import FOLDER, Wanted
from sweeps.tracking.state import FAILING, GIVEN_UP, WRITTEN, State, WriterLock, writer_of
from sweeps.tracking.writer import Writer

PATIENCE = 240.0  # seconds: at the lowest priority a busy machine has little time to give


def until(said: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Waits for something to be so."""
    end = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)


def processor_time(process: int) -> float:
    times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def lines(home: Path, event: str) -> list[dict[str, Any]]:
    path = home / FOLDER / "events.jsonl"
    told = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in told if line["event"] == event]


def assert_whole(home: Path) -> None:
    """What the tracker was told is what the ledger has, once."""
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        frame = ledger.frame().set_index("trial")
    assert [line["index"] for line in lines(home, "point")] == list(range(len(frame)))
    rows = [dict(zip(line["columns"], row, strict=True)) for line in lines(home, "rows") for row in line["rows"]]
    assert sorted(row["trial"] for row in rows) == sorted(frame.index)
    for row in rows:
        assert row["status"] == frame.at[row["trial"], "status"]
        assert row["score"] is None or row["score"] == frame.at[row["trial"], "score"]
    assert sorted(line["trial"] for line in lines(home, "trial")) == sorted(frame.index[frame["status"] == "completed"])


def test_a_run_is_told_by_a_process_of_its_own(toy_file: Path, tmp_path: Path) -> None:
    result = run(Study.load(toy_file, ["tracking=[jsonl]"]), tmp_path, here=600.0)
    assert result.tracking is not None and result.tracking.wait(PATIENCE)
    home = tmp_path / "toy"
    assert_whole(home)
    (closed,) = lines(home, "closed")
    assert closed["state"] == "finished"
    summary = closed["summary"]
    assert (summary["trials/completed"], summary["trials/failed"], summary["best/score"]) == (10, 2, 0.0)
    assert summary["winner/config/x"] == 1 and summary["certificate"] == verify(home).certificate and summary["verified"] == "ok"
    assert "verdict" in summary
    assert closed["files"] == [str(home.absolute() / FOLDER / "results.parquet")] and Path(closed["files"][0]).stat().st_size
    assert [line["rows"][0][0] for line in lines(home, "board")][-1] == 1  # rank
    state = State.read(home, "jsonl")
    assert state is not None and (state.state, state.done, state.points, state.rows, state.trials) == (WRITTEN, 12, 12, 12, 10)


def test_the_driver_imports_no_tracker(toy_file: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from sweeps import Study, run\n"
        f"made = run(Study.load({str(toy_file)!r}, ['tracking=[jsonl, wandb, mlflow, tensorboard]']), {str(tmp_path)!r}, here=600.0)\n"
        "made.tracking.process.kill()\n"
        "print(*(m for m in sys.modules if m.split('.')[0] in {'wandb', 'mlflow', 'tensorboardX'} or m.startswith('results.tracking.')))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_a_study_without_trackers_starts_no_process(toy_file: Path, tmp_path: Path) -> None:
    result = run(Study.load(toy_file), tmp_path, here=600.0)
    assert result.tracking is not None and result.tracking.process is None and not (tmp_path / "toy" / FOLDER).exists()


def test_tracking_is_part_of_no_identity(toy_file: Path, here: Path) -> None:
    before = verify(here / "toy").certificate
    result = run(Study.load(toy_file, ["tracking=[jsonl]"]), here, here=600.0)
    assert result.tally.done == 0 and verify(here / "toy").certificate == before
    assert result.tracking is not None and result.tracking.wait(PATIENCE)
    assert_whole(here / "toy")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Flaky", "Sleeps", "Slow"])
def test_a_tracker_that_fails_hangs_or_is_slow_changes_nothing_and_what_it_lacks_is_written_later(
    name: str, toy_file: Path, tmp_path: Path, trackers: Path, here: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "GRACE", 8.0)
    trackers.touch()
    result = run(
        Study.load(toy_file, [f"tracking={{'bad_trackers:{name}': {{}}, jsonl: {{file: {tmp_path / 'other.jsonl'}}}}}"]),
        tmp_path,
        here=600.0,
    )
    assert (result.tally.done, result.tally.failed, result.stopped) == (12, 2, False)
    home = tmp_path / "toy"
    assert verify(home).certificate == verify(here / "toy").certificate
    made = result.tracking
    assert made is not None and made.process is not None
    if name == "Slow":
        until(lambda: len(lines(home, "point")) > 2)
        os.kill(made.process.pid, signal.SIGKILL)
    assert made.process.wait(PATIENCE) != 0
    if name != "Slow":
        state = State.read(home, f"bad_trackers:{name}")
        assert state is not None and state.state == GIVEN_UP and ("no route" in state.error) == (name == "Flaky")
        other = State.read(home, "jsonl")
        assert other is not None and other.state == WRITTEN
    # The same file, told by a tracker that works.
    assert len(lines(home, "point")) < 12
    trackers.unlink()
    outcome = command(
        "track", "sync", "toy", "--dir", tmp_path, "--tracker", "jsonl", "--set", f"tracking.jsonl.file={home}/tracking/events.jsonl"
    )
    assert outcome.code == 0, outcome
    assert_whole(home)


def test_a_tracker_that_fails_is_begun_anew_and_goes_on_where_it_was(
    here: Path, trackers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writer, "PAUSES", (0.1,))
    monkeypatch.setattr(writer, "GRACE", 60.0)
    monkeypatch.setenv("TRACKER_API_KEY", "very-secret-value")
    trackers.touch()
    home = here / "toy"
    made = Writer(home, Wanted({"bad_trackers:Flaky": {}}))
    working = threading.Thread(target=made.run)
    working.start()
    until(lambda: (state := State.read(home, "bad_trackers:Flaky")) is not None and state.state == FAILING)
    trackers.unlink()
    working.join(PATIENCE)
    assert made._work[0].state.state == WRITTEN and not made._work[0].state.error
    assert_whole(home)
    told = capsys.readouterr().out
    assert "no route to host, key [TRACKER_API_KEY]" in told and "very-secret-value" not in told


def test_one_that_cannot_be_opened_at_first_is_opened_later(here: Path, trackers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PAUSES", (0.1,))
    assert Writer(here / "toy", Wanted({"bad_trackers:Twice": {}}), grace=60.0).run()
    assert_whole(here / "toy")


def test_what_is_not_installed_is_not_tried_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeps.tracking import settings

    monkeypatch.setitem(settings.NEEDS, "jsonl", ("no_such_module", "nothing"))  # type: ignore[index]
    assert not Writer(here / "toy", Wanted({"jsonl": {}})).run()
    state = State.read(here / "toy", "jsonl")
    assert state is not None and state.state == GIVEN_UP and "no_such_module is not installed: pip install nothing" in state.error


def make_study(home: Path) -> Ledger:
    home.mkdir(parents=True)
    context = {"trainable": "toy", "version": "1", "data_fingerprint": "f", "protocol": {"defaults": {}}, "seed": 1}
    header = Header("live", {"name": "live", "trainable": "toy", "space": {"x": [1, 2]}}, context, (Metric("score", "max"),), "score")
    ledger = Ledger.create(home / LEDGER, header)
    ledger.begin_session({})
    ledger.add_plan({"x": [1, 2]}, {"sampler": "grid"}, 100)
    return ledger


def deliver(ledger: Ledger, numbers: range) -> None:
    configs = [{"x": number} for number in numbers]
    ids = config_ids(ledger.header.context_id, configs)
    rows = [ResultRow(n, ids[i], configs[i], metrics=[float(n)], seconds=0.1) for i, n in enumerate(numbers)]
    ledger.accept(ledger.open_attempt(1, len(rows)), rows)


def test_a_study_is_followed_while_it_runs_and_closed_when_it_is_at_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "INTERVAL", 0.05)
    monkeypatch.setattr(follow, "BOARD_EVERY", 0.0)
    home = tmp_path / "live"
    ledger = make_study(home)
    made = Writer(home, Wanted({"jsonl": {}}), budget=Budget(0.0))
    working = threading.Thread(target=made.run)
    working.start()
    deliver(ledger, range(0, 7))
    until(lambda: len(lines(home, "point")) == 7)
    until(lambda: lines(home, "board"))
    deliver(ledger, range(7, 40))
    until(lambda: len(lines(home, "point")) == 40 and len(lines(home, "rows")) == 2)
    assert not lines(home, "closed") and working.is_alive()
    ledger.end_session("stopped")
    ledger.close()
    working.join(PATIENCE)
    assert_whole(home)
    assert [line["state"] for line in lines(home, "closed")] == ["stopped"]


def test_the_next_session_goes_on_in_the_same_run(tmp_path: Path) -> None:
    home = tmp_path / "live"
    with make_study(home) as ledger:
        deliver(ledger, range(0, 30))
    assert Writer(home, Wanted({"jsonl": {}})).run()
    before = (home / FOLDER / "events.jsonl").read_text()
    with Ledger.open(home / LEDGER) as ledger:
        ledger.begin_session({})
        deliver(ledger, range(30, 50))
        ledger.end_session("finished")
    assert Writer(home, Wanted({"jsonl": {}})).run()
    after = (home / FOLDER / "events.jsonl").read_text()
    assert after.startswith(before)
    assert_whole(home)
    assert [line["start"] for line in lines(home, "rows")] == [0, 20, 30, 40]
    assert Writer(home, Wanted({"jsonl": {}})).run()
    assert (home / FOLDER / "events.jsonl").read_text() == after


def test_beside_a_session_no_more_is_used_than_was_saved_up_and_after_it_all_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "SHARE", 0.04 / len(os.sched_getaffinity(0)))
    home = tmp_path / "live"
    ledger = make_study(home)
    deliver(ledger, range(100))
    made = beside.Beside.start(home, {"jsonl": {}}, stepping=False)
    assert made.process is not None
    until(lambda: WriterLock(home).owner() == made.process.pid)  # type: ignore[union-attr]
    before = processor_time(made.process.pid)
    time.sleep(3.0)
    assert processor_time(made.process.pid) - before <= 0.2 and not (home / FOLDER / "events.jsonl").exists()
    ledger.end_session("finished")
    ledger.close()
    made.rest()
    assert made.wait(PATIENCE)
    assert_whole(home)


@pytest.mark.slow
def test_what_a_tracker_takes_to_follow_a_session_stays_within_the_budget(
    tmp_path: Path, trackers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "SHARE", 0.4 / len(os.sched_getaffinity(0)))  # two fifths of a second a second
    home, name = tmp_path / "live", "bad_trackers:Burns"  # which takes a whole one
    ledger = make_study(home)
    deliver(ledger, range(40))
    began = time.monotonic()
    made = beside.Beside.start(home, {name: {}}, stepping=False)
    assert made.process is not None
    until(lambda: len(lines(home, "point")) >= 3)
    time.sleep(4.0)
    took = processor_time(made.process.pid)
    assert took <= 0.4 * (time.monotonic() - began) + 0.6  # a point more than was saved up, and a look that is a moment old
    assert len(lines(home, "point")) < 40
    ledger.close()
    made.rest()
    assert made.wait(PATIENCE)
    assert_whole(home)


@pytest.mark.slow
def test_a_tracker_that_fails_is_not_begun_again_before_that_can_be_paid_for(
    tmp_path: Path, trackers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PAUSES", (0.01,))
    refuses = importlib.import_module("bad_trackers").Refuses
    home = tmp_path / "live"
    ledger = make_study(home)
    allowed = Budget(1.0 / len(os.sched_getaffinity(0)))  # a second a second, and beginning takes one and a half
    allowed.restart()
    made = Writer(home, Wanted({"bad_trackers:Refuses": {}}), grace=0.5, budget=allowed)
    working = threading.Thread(target=made.run)
    working.start()
    time.sleep(6.0)
    tries = refuses.tries
    ledger.close()
    working.join(PATIENCE)
    assert 1 <= tries <= 5  # more than twenty otherwise
    assert refuses.tries > tries, "at rest there is nothing to wait for"


def test_a_study_that_took_the_place_of_the_one_meant_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "SHARE", 0.001)  # nothing has been read yet
    home = tmp_path / "live"
    old = make_study(home)
    made = beside.Beside.start(home, {"jsonl": {}}, stepping=False)
    assert made.process is not None
    until(lambda: WriterLock(home).owner() == made.process.pid)  # type: ignore[union-attr]
    old.close()
    home.rename(tmp_path / "aside")
    new = make_study(home)
    deliver(new, range(5))
    new.close()
    made.rest()
    assert made.process.wait(PATIENCE) == 0
    assert not (home / FOLDER / "events.jsonl").exists()


@pytest.mark.slow
def test_a_study_that_is_set_aside_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "SHARE", 0.0)
    home = tmp_path / "live"
    old = make_study(home)
    deliver(old, range(3))
    made = beside.Beside.start(home, {"jsonl": {}}, stepping=False)
    assert made.process is not None
    until(lambda: len(lines(home, "point")) == 3)
    home.rename(tmp_path / "aside")
    new = make_study(home)
    deliver(new, range(5))
    assert made.process.wait(PATIENCE) == 0
    assert not (home / FOLDER / "events.jsonl").exists() and len(lines(tmp_path / "aside", "point")) == 3
    old.close()
    new.close()


@pytest.mark.slow
def test_one_process_at_a_time_writes_and_the_next_waits_for_it(here: Path) -> None:
    home = here / "toy"
    lock = WriterLock(home)
    assert lock.take() and writer_of(home) == os.getpid()
    made = beside.Beside.start(home, {"jsonl": {}}, stepping=False)
    assert made.process is not None
    time.sleep(2.0)
    assert made.process.poll() is None and not lines(home, "point")
    lock.release()
    made.rest()
    assert made.wait(PATIENCE)
    assert_whole(home) is None and writer_of(home) == 0


def test_a_process_that_cannot_be_started_stops_no_study(toy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    result = run(Study.load(toy_file, ["tracking=[jsonl]"]), tmp_path, here=600.0)
    assert result.tally.done == 12 and result.tracking is not None and not result.tracking.wait(1.0)
    assert "/nowhere/python" in result.tracking.unwritten()[0][1]


@pytest.mark.slow
def test_what_a_session_had_of_its_cache_is_kept_and_told(tmp_path: Path) -> None:
    study = Study.load("selector_grid", ["data.bars=1200", "search.trials=2", "tracking=[jsonl]"])
    result = run(study, tmp_path, here=600.0)
    with Ledger.open(result.folder / LEDGER, readonly=True) as ledger:
        (event,) = ledger.events("cache_use")
    use = result.tally.cache.use
    assert event["detail"]["tables"] == use.tables > 0 and event["detail"]["rows_built"] == use.rows_built
    assert result.tracking is not None and result.tracking.wait(PATIENCE)
    (closed,) = lines(result.folder, "closed")
    assert closed["summary"]["cache/rows_built"] == use.rows_built

"""`alphasweep track sync` and `alphasweep track status`, and what a run says of its trackers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sweeps.tracking.settings import FOLDER
from sweeps.tracking.state import WriterLock


def events(home: Path) -> Path:
    return home / FOLDER / "events.jsonl"


def test_a_study_that_ran_without_trackers_is_written_and_twice_is_once(here: Path, command: Any) -> None:
    outcome = command("track", "sync", "toy", "--dir", here, "--tracker", "jsonl")
    assert outcome.code == 0 and "written, checked" in outcome.out
    told = events(here / "toy").read_text()
    assert told.count('"event": "point"') == 12
    outcome = command("track", "sync", "toy", "--dir", here)
    assert outcome.code == 0 and "nothing to write, checked" in outcome.out
    assert events(here / "toy").read_text() == told


def test_a_line_that_a_kill_has_cut_is_written_again(here: Path, command: Any) -> None:
    command("track", "sync", "toy", "--dir", here, "--tracker", "jsonl")
    whole = events(here / "toy").read_bytes()
    points = [line for line in whole.splitlines(keepends=True) if b'"event": "point"' in line]
    events(here / "toy").write_bytes(b"".join([whole.splitlines(keepends=True)[0], *points[:5], points[5][:20]]))
    assert command("track", "sync", "toy", "--dir", here).code == 0
    lines = [json.loads(line) for line in events(here / "toy").read_text().splitlines()]
    assert [line["index"] for line in lines if line["event"] == "point"] == list(range(12))


def test_what_does_not_match_the_ledger_ends_in_1(here: Path, command: Any) -> None:
    command("track", "sync", "toy", "--dir", here, "--tracker", "jsonl")
    lines = events(here / "toy").read_text().splitlines(keepends=True)
    lines.remove(next(line for line in lines if '"index": 4' in line))
    events(here / "toy").write_text("".join(lines))
    outcome = command("track", "sync", "toy", "--dir", here)
    assert outcome.code == 1 and "does not match" in outcome.out and "11 points, not the 12 of the ledger" in outcome.out


def test_a_tracker_that_cannot_be_asked_is_said_to_be_unchecked(here: Path, command: Any, trackers: Path) -> None:
    outcome = command("track", "sync", "toy", "--dir", here, "--tracker", "bad_trackers:Mute")
    assert outcome.code == 0 and "written, not checked" in outcome.out


def test_one_that_fails_ends_in_1_and_the_others_are_written(here: Path, command: Any, trackers: Path, tmp_path: Path) -> None:
    trackers.touch()
    other = tmp_path / "other.jsonl"
    outcome = command(
        *("track", "sync", "toy", "--dir", here, "--tracker", "bad_trackers:Flaky", "--tracker", "jsonl"),
        *("--set", f"tracking.jsonl.file={other}"),
    )
    assert outcome.code == 1 and "no route to host" in outcome.out
    assert other.read_text().count('"event": "point"') == 12
    shown = command("track", "status", "toy", "--dir", here)
    assert "given" in shown.out and "no route to host" in shown.out, shown.out
    trackers.unlink()
    assert command("track", "sync", "toy", "--dir", here).code == 0
    assert events(here / "toy").read_text().count('"event": "point"') == 12


def test_status_says_how_far_each_tracker_is(here: Path, command: Any) -> None:
    outcome = command("track", "status", "--dir", here)
    assert outcome.code == 0 and "has no tracker" in " ".join(outcome.out.split())
    command("track", "sync", "toy", "--dir", here, "--tracker", "jsonl")
    outcome = command("track", "status", "--dir", here)
    assert "written" in outcome.out and "12 of 12" in outcome.out


def test_wrong_options_are_messages(here: Path, command: Any) -> None:
    for options, words in (
        ([], "toy has no tracker; name one, for example --tracker wandb"),
        (["--tracker", "wnadb"], "Did you mean 'wandb'?"),
        (["--tracker", "jsonl", "--set", "space.x=[1]"], "options begin with tracking."),
        (["--tracker", "jsonl", "--set", "tracking.jsonl.token=abcdefgh"], "secrets do not belong in a study"),
        (["--tracker", "nowhere.at:All"], "cannot be loaded"),
        (["--tracker", "jsonl", "--set", "tracking.jsonl.colour=red"], "not an option of jsonl"),
    ):
        outcome = command("track", "sync", "toy", "--dir", here, *options)
        assert outcome.code in (1, 2) and words in " ".join((outcome.out + outcome.err).split()), (options, outcome)
        assert "abcdefgh" not in outcome.out + outcome.err


def test_while_another_process_writes_it_says_so(here: Path, command: Any) -> None:
    lock = WriterLock(here / "toy")
    assert lock.take()
    outcome = command("track", "sync", "toy", "--dir", here, "--tracker", "jsonl")
    lock.release()
    assert outcome.code == 2 and "is writing to its trackers" in outcome.err and "--wait" in outcome.err


def syncing(here: Path) -> subprocess.Popen[str]:
    words = ["track", "sync", "toy", "--dir", str(here), "--tracker", "jsonl", "--wait"]
    path = os.pathsep.join([str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "sweeps.cli", *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where the tests run in the background of a shell
    )  # fmt: skip


def test_asked_to_wait_it_says_for_whom_and_writes_when_that_one_has_ended(here: Path) -> None:
    lock = WriterLock(here / "toy")
    assert lock.take()
    with syncing(here) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline().strip() == f"toy: waiting for process {os.getpid()}, which is writing to its trackers"
        assert not events(here / "toy").exists() and waiting.poll() is None
        lock.release()
        said, failed = waiting.communicate(timeout=60)
    assert waiting.returncode == 0 and "written, checked" in said, failed
    assert events(here / "toy").read_text().count('"event": "point"') == 12


def test_whoever_has_waited_enough_ends_it_with_ctrl_c_and_nothing_is_written(here: Path) -> None:
    lock = WriterLock(here / "toy")
    assert lock.take()
    with syncing(here) as waiting:
        assert waiting.stdout is not None and "waiting" in waiting.stdout.readline()
        waiting.send_signal(signal.SIGINT)
        try:
            _, said = waiting.communicate(timeout=60)
        finally:
            waiting.kill()
    lock.release()
    assert waiting.returncode == 130 and said.strip() == (
        f"Interrupted. Nothing was written by this command, and process {os.getpid()} goes on."
    )
    assert not events(here / "toy").exists() and not (here / "toy" / FOLDER / "settings.json").exists()


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_says_where_its_results_are_told_and_how_to_write_them_later(toy_file: Path, tmp_path: Path, command: Any) -> None:
    outcome = command("run", toy_file, "--dir", tmp_path, "--set", "tracking=[jsonl]")
    said = " ".join(outcome.out.split())
    assert outcome.code == 0 and "tracking jsonl (log:" in said
    assert "Tracking: jsonl written." in said or "Tracking: jsonl still being written by process" in said

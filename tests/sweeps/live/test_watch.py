"""`alphasweep watch`: what it shows of real ledgers, that it ends with the run, and that it leaves the run alone."""

from __future__ import annotations

import hashlib
import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from results import Ledger
from results.leaderboard import leaderboard
from sweeps.home import LEDGER
from sweeps.live.state import Follower
from sweeps.live.terminal import frame
from sweeps.live.watch import View
from tests.sweeps.live.ledgers import StepWriter, Writer, header_of

ROOT = Path(__file__).parents[3]
WATCH = [sys.executable, "-m", "sweeps.cli", "watch"]


def watching(*args: object, **options) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT} | options
    return subprocess.Popen([*WATCH, *map(str, args)], **pipes)


def drawn(home: Path, width: int = 120, height: int | None = None) -> str:
    console = Console(width=width, height=height or 100, force_terminal=False, record=True, file=io.StringIO())
    now, board = View(home).look()
    console.print(frame(now, board, width, height, 2.0))
    return console.export_text()


def test_one_frame_of_a_finished_study_is_plain_text(tmp_path, command):
    made = Writer(tmp_path, total=60)
    made.add(range(60), failed={7, 12}, stopped={9})
    made.finish()
    done = command("watch", "made", "--once", "--dir", tmp_path)
    assert done.code == 0 and "\x1b" not in done.out and not done.err
    with Ledger.open(made.home / LEDGER, readonly=True) as ledger:
        best = leaderboard(ledger, top=1).iloc[0]
    assert "made  finished  session 1 began " in done.out and "60 of 60" in done.out
    assert f"best sortino {best['sortino']:.3f} (trial {best['trial']})" in done.out
    assert "1 stopped  2 failed" in done.out and "trial 12: ValueError: no prices for [red]0" in done.out
    assert "made: top " in done.out and "at work" not in done.out


def test_a_running_study_shows_who_is_at_work_and_how_long_it_will_take(tmp_path, command):
    made = Writer(tmp_path, total=1000)
    made.add(range(40))
    made.ledger.open_attempt(made.plan.plan_id, 10)
    out = command("watch", "made", "--once", "--dir", tmp_path).out
    assert "made  running" in out and "40 of 1,000" in out and "1 pack at work" in out
    assert re.search(r"\d/s, \d+:\d\d:\d\d left", out)
    made.finish()


def test_a_study_that_was_killed_is_called_interrupted(tmp_path, command):
    made = Writer(tmp_path)
    made.add(range(10))
    made.leave()
    out = command("watch", "made", "--once", "--dir", tmp_path).out
    assert "made  interrupted" in out and "at work" not in out and "/s" not in out


def test_trials_that_report_are_in_a_table_with_step_rung_and_time_left(tmp_path, command):
    made = StepWriter(tmp_path)
    first = made.begin(0)
    made.begin(1)
    for step in (2, 4):
        made.report(first, 0, step, step / 8.0, seconds=1.0)
    out = command("watch", "walks", "--once", "--dir", tmp_path).out
    row = next(line for line in out.splitlines() if "4 of 12" in line)
    assert row.split()[:2] == ["0", "0"] and "2 of 3" in row and "0.500" in row and re.search(r"0:00:0\d", row)
    assert "2 trials at work, 1 before the first report" in out and "left if all go on" in out
    made.finish()


def test_a_study_without_a_result_says_so(tmp_path, command):
    made = Writer(tmp_path)
    out = command("watch", "made", "--once", "--dir", tmp_path).out
    assert "0 of 100" in out and "nothing to rank before a first trial is completed" in out and "best" not in out
    made.finish()


def test_a_name_that_never_ran_is_an_error_with_the_nearest(tmp_path, command):
    Writer(tmp_path).finish()
    done = command("watch", "mad", "--once", "--dir", tmp_path)
    assert done.code == 2 and "Did you mean 'made'?" in done.err


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 16), (140, 50), (40, 12)])
def test_a_frame_fits_the_terminal(tmp_path, width, height):
    made = StepWriter(tmp_path, goals=20)
    for trial in range(6):
        made.end(made.begin(trial), trial, float(trial))
    for trial in range(6, 14):
        attempt = made.begin(trial)
        for step in (1, 2, 3):
            made.report(attempt, trial, step, float(trial))
    text = drawn(made.home, width, height)
    lines = text.rstrip().splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    assert len(lines) <= height and "Ctrl-C ends the" in text and "6 of 20" in text
    if height >= 24:
        assert "at work" in text and "walks: top" in text
    made.finish()


def test_watching_ends_by_itself_when_the_run_ends(tmp_path):
    made = Writer(tmp_path, total=60)
    made.add(range(20))
    with watching("made", "--every", "0.2", "--dir", tmp_path) as seen:
        assert seen.stdout is not None
        first = seen.stdout.readline()
        assert "running  20 of 60" in first
        made.add(range(20, 60))
        time.sleep(0.5)
        assert seen.poll() is None
        made.finish()
        rest, problems = seen.communicate(timeout=30)
    assert seen.returncode == 0 and not problems
    assert "made  finished" in rest and "60 of 60" in rest


def test_ctrl_c_ends_the_view_and_leaves_the_run_alone(tmp_path):
    made = Writer(tmp_path)
    made.add(range(20))
    with watching("made", "--dir", tmp_path) as seen:
        assert seen.stdout is not None and "running" in seen.stdout.readline()
        seen.send_signal(signal.SIGINT)
        _, problems = seen.communicate(timeout=30)
    assert seen.returncode == 0 and "the run has not" in problems and "Traceback" not in problems
    made.add(range(20, 30))
    assert made.ledger.counts()["completed"] == 30
    made.finish()


def test_a_study_set_aside_while_it_is_watched_is_said_in_words(tmp_path):
    made = Writer(tmp_path)
    made.add(range(20))
    with watching("made", "--every", "0.2", "--dir", tmp_path) as seen:
        assert seen.stdout is not None and "running" in seen.stdout.readline()
        made.home.rename(tmp_path / "elsewhere")
        _, problems = seen.communicate(timeout=30)
    assert seen.returncode == 2 and "there is no ledger at" in problems and "Traceback" not in problems
    made.ledger.close()


def test_on_a_terminal_the_frame_is_drawn_anew_until_the_end(tmp_path):
    made = Writer(tmp_path, total=40)
    made.add(range(20))
    ours, theirs = pty.openpty()
    seen = watching("made", "--every", "0.2", "--dir", tmp_path, stdout=theirs, stdin=theirs, env={**os.environ, "TERM": "xterm-256color"})
    os.close(theirs)
    text, ended, began = "", False, time.monotonic()
    while time.monotonic() - began < 40:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                text += os.read(ours, 65536).decode(errors="replace")
            except OSError:
                break
        if "20 of 40" in text and not ended:
            made.add(range(20, 40))
            made.finish()
            ended = True
    assert seen.wait(10) == 0 and ended
    os.close(ours)
    assert "\x1b[?1049h" in text and "\x1b[?1049l" in text  # a screen of its own, given back
    assert "40 of 40" in text.split("\x1b[?1049l")[1] and "finished" in text.split("\x1b[?1049l")[1]


def test_watching_writes_nothing_into_the_ledger(tmp_path, command):
    made = Writer(tmp_path)
    made.add(range(30))
    made.finish()
    before = hashlib.sha256((made.home / LEDGER).read_bytes()).hexdigest()
    command("watch", "made", "--once", "--dir", tmp_path)
    assert hashlib.sha256((made.home / LEDGER).read_bytes()).hexdigest() == before
    assert {path.name.removeprefix(LEDGER) for path in made.home.iterdir()} <= {"", ".lock", "-wal", "-shm"}


def test_an_objective_of_which_less_is_better_has_a_falling_curve(tmp_path, command):
    made = Writer(tmp_path, header=header_of("made", objective="loss"))
    made.add(range(40))
    out = command("watch", "made", "--once", "--dir", tmp_path).out
    best = Follower(made.home).look().curve
    assert best.least and [v for _, v in best.steps] == sorted((v for _, v in best.steps), reverse=True) and "best loss" in out
    made.finish()

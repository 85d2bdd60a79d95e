"""The line of a running study: numbers that mean something, on a terminal and in a file."""

from __future__ import annotations

import re
import time
from io import StringIO

import pytest
from rich.console import Console

from sweeps.feed import Point, Tally
from sweeps.progress import StudyProgress
from sweeps.steps import Running


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def shown_of(progress: StudyProgress, tally: Tally) -> str:
    progress.update(tally)
    return progress._line


def test_the_progress_line_cuts_no_number_short_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, screen = Clock(monkeypatch), StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    with StudyProgress(console, "annualised_return") as progress:
        progress.prepared()
        progress.update(Tally(1_105_920, known=500_000, done=345, packs=1))
        clock.now += 10.0
        progress.update(Tally(1_105_920, known=500_000, done=12_345, packs=9, failed=3, best=1.23456))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).rpartition("512,345")[2]
    assert shown.startswith(" of 1,105,920")
    assert "1,200/s, 0:08:15 left" in shown
    assert "…" not in shown
    assert "1.235" in shown
    assert "3 failed" in shown


def test_neither_earlier_results_nor_the_wait_for_ray_count_as_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    progress = StudyProgress(Console(file=StringIO(), width=80), "score")
    progress.prepared()
    assert shown_of(progress, Tally(1_000_000, known=500_000)) == "500,000 of 1,000,000  starting Ray"
    clock.now += 20.0
    assert shown_of(progress, Tally(1_000_000, known=500_000, done=16, packs=1)) == "500,016 of 1,000,000  …"
    clock.now += 1.0
    assert shown_of(progress, Tally(1_000_000, known=500_000, done=80, packs=2, best=0.5)) == "500,080 of 1,000,000  …  best score 0.5"
    clock.now += 1.0
    assert shown_of(progress, Tally(1_000_000, known=500_000, done=1_000, packs=3)).endswith("  …")
    clock.now += 2.0
    told = shown_of(progress, Tally(1_000_000, known=500_000, done=3_000, packs=4, best=0.5))
    assert told == "503,000 of 1,000,000  1,000/s, 0:08:17 left  best score 0.5"


def test_configurations_that_come_back_together_after_half_a_minute_are_no_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    progress = StudyProgress(Console(file=StringIO(), width=80), "score")
    for done in range(0, 60, 2):
        clock.now += 29.9
        progress.update(Tally(100, done=done + 1, packs=done + 1))
        clock.now += 0.1
        told = shown_of(progress, Tally(100, done=done + 2, packs=done + 2))
    assert re.search(r"0\.0\d+/s, 0:\d\d:\d\d left", told), told


def test_at_the_end_no_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    progress = StudyProgress(Console(file=StringIO(), width=80), "score")
    assert shown_of(progress, Tally(8, done=8, packs=1, best=2.0)) == "8 of 8  best score 2"


def test_without_a_terminal_there_is_a_line_at_the_start_one_every_while_and_one_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.progress._EVERY", 0.2)
    screen = StringIO()
    with StudyProgress(Console(file=screen, width=80), "score") as progress:
        progress.prepared()
        progress.update(Tally(90))
        assert screen.getvalue() == "0 of 90  starting Ray\n"
        progress.update(Tally(90, done=16, packs=1))
        until = time.monotonic() + 10
        while screen.getvalue().count("\n") < 3 and time.monotonic() < until:
            time.sleep(0.01)  # no pack comes back, and still it says that it is there
        progress.update(Tally(90, done=90, packs=2))
    lines = screen.getvalue().splitlines()
    assert lines[1:3] == ["16 of 90  …"] * 2
    assert lines[-1] == "90 of 90" and lines.count("90 of 90") == 1


def test_a_run_without_work_prints_no_progress() -> None:
    screen = StringIO()
    with StudyProgress(Console(file=screen, width=80), "score") as progress:
        progress.prepared()
    assert screen.getvalue() == ""


def at_work(trial: int, step: int, seconds: float, value: float = float("nan"), last: int = 200) -> Running:
    swept = {"rank": trial, "rate": 0.0001234}
    made = Running(Point(trial, {}, b""), trial, last, step, value, reported=step > 0, done=step, spent=seconds, swept=swept)
    made.heard = 100.0
    return made


def test_below_the_bar_are_the_trials_at_work_with_their_own_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, screen = Clock(monkeypatch), StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    with StudyProgress(console, "skill", "fraction") as progress:
        progress.prepared()
        running = (at_work(12, 40, 80.0, 0.0312), at_work(3, 0, 0.0))
        for seconds, steps in ((0.0, 0), (60.0, 5), (10.0, 25)):  # the first report comes after a minute of setting up
            clock.now += seconds
            news = "trial 7 stopped" if steps == 25 else ""
            progress.update(Tally(48, done=4, stopped=3, best=0.05, running=running, steps=steps, steps_left=9000, news=news))
        progress._bar.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    last = shown[shown.rindex("4 of 48") :].replace("\n", " ")
    assert "2 steps/s, 1:15:00 left if all go on" in " ".join(last.split()) and "3 stopped" in last and "5.00%" in " ".join(last.split())
    assert re.search(r"trial +rank +rate +step +skill +s/step +left", last), last
    assert re.search(r" 3 +3 +0\.0001234 +0 of 200 +… +… +… .* 12 +12 +0\.0001234 +40 of 200 +3\.12% +2 +0:04:10 ", last), last
    assert "trial 3 working for 70 s on the first report" in last
    assert "trial 7 stopped" in last


def shown_at(width: int, *running: Running) -> str:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=width, color_system=None)
    console.print(StudyProgress(console, "skill", "fraction")._table(running))
    return screen.getvalue()


@pytest.mark.parametrize(
    ("rule", "ladder", "heading", "first", "second"),
    [("asha", (40, 80, 160), "rung", "0 of 3", "2 of 3"), ("median", (40,), "judged", "from 40", "from 40"), ("none", (), "", "", "")],
)
def test_a_trial_at_work_has_its_rung_and_its_loss_where_there_are_any(
    rule: str, ladder: tuple[int, ...], heading: str, first: str, second: str
) -> None:
    early, late = at_work(3, 0, 0.0), at_work(12, 80, 80.0, 0.0312)
    for made, loss in ((early, float("nan")), (late, 0.51234)):
        made.rule, made.ladder, made.loss = rule, ladder, loss
    told = shown_at(120, early, late)
    assert re.search(" +".join(filter(None, ("step", heading, "loss", "skill", "s/step"))), told), told
    assert re.search(" +".join(filter(None, ("0 of 200", first, "…", "…", "…"))), told), told
    assert re.search(" +".join(filter(None, ("80 of 200", second, "0.5123", "3.12%", "1"))), told), told
    early.loss = late.loss = None
    assert "loss" not in shown_at(120, early, late)


def test_a_narrow_terminal_gets_no_loss_and_a_narrower_one_no_rung() -> None:
    made = at_work(12, 80, 80.0, 0.0312)
    made.rule, made.ladder, made.loss = "asha", (40, 80), 0.51234
    wide = max(len(line.rstrip()) for line in shown_at(200, made).splitlines())
    assert wide <= 80
    for width, there in ((80, (True, True)), (68, (False, True)), (60, (False, False))):
        told = shown_at(width, made)
        assert ("loss" in told, "rung" in told) == there, told
        assert "80 of 200" in told and "3.12%" in told  # and nothing is folded


def test_in_a_file_the_line_says_how_long_nothing_was_heard_between_reports_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, screen = Clock(monkeypatch), StringIO()
    progress = StudyProgress(Console(file=screen, width=80), "skill")
    progress.update(Tally(48, running=(at_work(7, 20, 4.0), at_work(8, 40, 8.0)), steps_left=100))
    for seconds in (59.0, 1.0, 130.0):
        clock.now += seconds
        progress._print()
    quiet = "0 of 48  …  2 trials at work, 0:0{}:{} since the last report"
    assert screen.getvalue().splitlines() == ["0 of 48  …", quiet.format(1, "00"), quiet.format(3, "10")]


def test_in_a_file_a_trial_that_ends_has_its_line_and_a_report_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = StringIO()
    with StudyProgress(Console(file=screen, width=80), "skill") as progress:
        progress.prepared()
        progress.update(Tally(48))
        progress.update(Tally(48, running=(at_work(7, 0, 0.0),), steps_left=100))
        progress.update(Tally(48, running=(at_work(7, 20, 4.0),), steps=20, steps_left=80))
        progress.update(Tally(48, running=(), done=1, stopped=1, news="trial 7 stopped at step 40: rank 5 of 6, skill -0.12 below 0.03"))
    lines = screen.getvalue().splitlines()
    assert lines == ["0 of 48  starting Ray", "trial 7 stopped at step 40: rank 5 of 6, skill -0.12 below 0.03", "1 of 48  1 stopped"]


def test_in_a_file_the_line_says_how_long_the_first_reports_are_being_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, screen = Clock(monkeypatch), StringIO()
    progress = StudyProgress(Console(file=screen, width=80), "skill")
    progress.update(Tally(48, running=(at_work(7, 0, 0.0), at_work(8, 0, 0.0), at_work(9, 20, 4.0)), steps_left=100))
    clock.now += 12.0
    progress._print()
    progress.update(Tally(48, running=(at_work(7, 20, 4.0),), steps=20, steps_left=80))
    progress._print()
    assert screen.getvalue().splitlines() == ["0 of 48  …  2 trials working for 12 s on the first report", "0 of 48  …"]


def test_trials_that_all_failed_leave_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    progress = StudyProgress(Console(file=StringIO(), width=80), "skill")
    assert shown_of(progress, Tally(2, done=2, failed=2, running=())) == "2 of 2  2 failed"

"""What is known of a study at a moment, and that little is read to know it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results import Ledger, LedgerError
from results.tracking.tail import Tail
from sweeps.home import LEDGER
from sweeps.live import curve as curves
from sweeps.live.budget_left import budget_of
from sweeps.live.curve import Curve, curve_of
from sweeps.live.memory import Background, Job, Memory
from sweeps.live.pace import Paced
from sweeps.live.pulse import SETTLED, Stamp, pulse_of, stamp_of, unchanged
from sweeps.live.state import Follower
from tests.sweeps.live.ledgers import StepWriter, Writer, header_of, rows_of, values_of


def best_by_hand(order: list[int], skipped: set[int], least: bool = False, place: int = 0) -> list[tuple[int, float]]:
    steps: list[tuple[int, float]] = []
    for done, trial in enumerate(order, 1):
        value = values_of(trial)[place]
        better = trial not in skipped and not math.isnan(value)
        if better and (not steps or (value < steps[-1][1] if least else value > steps[-1][1])):
            steps.append((done, value))
    return steps


def test_the_curve_has_a_step_for_each_improvement_in_the_order_of_acceptance(tmp_path):
    made = Writer(tmp_path)
    failed, stopped = {1, 42}, {2, 60}
    order = []
    for numbers in (range(40, 70), range(0, 20), range(20, 40)):
        made.add(numbers, failed=failed & set(numbers), stopped=stopped & set(numbers))
        order += numbers
        time.sleep(0.002)
    found = curve_of(made.ledger)
    assert list(found.steps) == best_by_hand(order, failed | stopped) and found.done == 70
    made.finish()


def test_the_curve_of_a_large_study_has_a_step_for_each_pack(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "SINGLY", 0)
    made = Writer(tmp_path, header=header_of("made", objective="loss"))
    by_pack, best = [], math.inf
    for start in (60, 0, 30):
        made.add(range(start, start + 30))
        least = np.nanmin([values_of(i)[4] for i in range(start, start + 30)])
        if least < best:
            best = float(least)
            by_pack.append((30 * (len(by_pack) + 1) if not by_pack else None, best))
        time.sleep(0.002)
    found = curve_of(made.ledger)
    assert found.least and [value for _, value in found.steps] == [value for _, value in by_pack]
    assert all(done % 30 == 0 for done, _ in found.steps) and found.best == np.nanmin([values_of(i)[4] for i in range(90)])
    made.finish()


def test_a_trial_outside_of_the_constraints_is_never_the_best(tmp_path):
    made = Writer(tmp_path, header=header_of("made", constraints=["trades >= 10"]))
    made.add(range(80))
    skipped = {i for i in range(80) if not values_of(i)[3] >= 10}
    assert list(curve_of(made.ledger).steps) == best_by_hand(list(range(80)), skipped)
    now = Follower(made.home).look()
    assert now.curve.best == max(values_of(i)[0] for i in range(80) if i not in skipped and not math.isnan(values_of(i)[0]))
    assert values_of(now.best_trial)[0] == now.curve.best
    made.finish()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.floats(-10, 10)), max_size=30), st.booleans(), st.integers(1, 60))
def test_a_curve_goes_on_from_looks_and_is_drawn_as_it_is(looks, least, n):
    curve = Curve(least=least)
    done, best = 0, math.nan
    for more, value in looks:
        done += more
        best = value if math.isnan(best) else min(best, value) if least else max(best, value)
        curve = curve.followed(done, best)
    assert curve.done == done and (curve.best == best or math.isnan(best))
    values = [value for _, value in curve.steps]
    assert values == sorted(set(values), reverse=least)
    drawn = curve.sampled(n)
    assert len(drawn) == n
    for i, value in enumerate(drawn, 1):
        known = [v for d, v in curve.steps if d <= curve.done * i / n]
        assert value == known[-1] if known else math.isnan(value)


def test_a_curve_that_was_read_elsewhere_goes_on_with_what_was_seen_meanwhile(tmp_path):
    made = Writer(tmp_path)
    made.add(range(20))
    follower = Follower(made.home)
    assert not follower.look(whole=False).whole
    early = curve_of(made.ledger)
    made.add(range(20, 60))
    follower.look(whole=False)
    follower.adopt(early, 0.1)
    now = follower.look(whole=False)
    assert now.whole and now.curve.done == 60 and now.curve.best == curve_of(made.ledger).best
    assert now.curve.steps[: len(early.steps)] == early.steps
    made.finish()


def test_the_curve_at_the_end_says_when_the_best_was_found_and_not_when_it_was_seen(tmp_path):
    made = Writer(tmp_path)
    made.add(range(10))
    follower = Follower(made.home)
    follower.look()
    made.add(range(10, 90))
    made.finish()
    with Ledger.open(made.home / LEDGER, readonly=True) as ledger:
        assert follower.look().curve == curve_of(ledger)


def test_the_curve_is_that_of_the_trackers(tmp_path):
    made = Writer(tmp_path)
    for start in (60, 0, 30):
        made.add(range(start, start + 30), failed={start + 1}, stopped={start + 2})
        time.sleep(0.002)
    made.finish()
    with Ledger.open(made.home / LEDGER, readonly=True) as ledger:
        curve = curve_of(ledger)
    order = [number for stretch in Tail(made.home / LEDGER).poll(settled=True) for number in stretch.trial.tolist()]
    assert list(curve.steps) == best_by_hand(order, {1, 31, 61, 2, 32, 62})


def test_every_kind_of_change_gives_another_version(tmp_path):
    made = StepWriter(tmp_path)
    seen = []

    def changed() -> None:
        seen.append(pulse_of(made.home, made.ledger).version)

    changed()
    attempt = made.begin(0)
    changed()
    made.report(attempt, 0, 1, 0.5)
    changed()
    made.end(attempt, 0, 1.0)
    changed()
    made.ledger.record("note")
    changed()
    made.ledger.end_session("finished")
    changed()
    made.ledger.close()
    with Ledger.open(made.home / LEDGER, readonly=True) as ledger:
        seen.append(pulse_of(made.home, ledger).version)
        assert seen[-1] == pulse_of(made.home, ledger).version
    assert len(set(seen)) == len(seen)


def test_states_are_told_from_the_ledger_and_its_lock(tmp_path):
    made = Writer(tmp_path)
    assert Follower(made.home).look().pulse.state == "running"
    made.leave()
    assert Follower(made.home).look().pulse.state == "killed"
    made.ledger = Ledger.open(made.home / LEDGER)
    made.begin()
    made.finish("stopped")
    assert Follower(made.home).look().pulse.state == "stopped"
    with Ledger.open(made.home / LEDGER):  # a run that loads its data
        assert Follower(made.home).look().pulse.state == "starting"


def test_files_that_changed_just_now_are_not_taken_to_be_unchanged(tmp_path):
    made = Writer(tmp_path)
    assert not stamp_of(made.home).settled
    made.finish()
    os.utime(made.home / LEDGER, (time.time() - 60,) * 2)
    wal = made.home / f"{LEDGER}-wal"
    if wal.exists():
        os.utime(wal, (time.time() - 60,) * 2)
    stamp = stamp_of(made.home)
    assert stamp.settled and unchanged(stamp_of(made.home), stamp) and not unchanged(stamp, None)
    assert not unchanged(stamp, Stamp(stamp.files, stamp.written, settled=False))


def test_a_look_at_what_has_not_changed_reads_no_ledger(tmp_path):
    made = Writer(tmp_path)
    made.add(range(30))
    made.finish()
    follower = Follower(made.home)
    now = follower.look()
    time.sleep(SETTLED + 0.1)
    assert follower.look() is now
    held = follower.home
    (held / LEDGER).chmod(0)
    try:
        assert follower.look() is now
    finally:
        (held / LEDGER).chmod(0o644)


def test_a_study_that_was_begun_anew_is_followed_from_its_beginning(tmp_path):
    made = Writer(tmp_path)
    made.add(range(50))
    follower = Follower(made.home)
    assert follower.look().counts["completed"] == 50
    made.finish()
    made.home.rename(tmp_path / "aside")
    with pytest.raises(LedgerError, match="no ledger"):
        follower.look()
    again = Writer(tmp_path)
    again.add(range(50, 53))
    now = follower.look()
    assert now.counts["completed"] == 3 and now.curve.done == 3
    assert now.curve.best == np.nanmax([values_of(i)[0] for i in range(50, 53)])
    again.finish()


def test_what_a_study_at_work_has_done_is_counted(tmp_path):
    made = Writer(tmp_path, total=100)
    made.add(range(40), failed={7, 12}, stopped={9})
    open_ = made.ledger.open_attempt(made.plan.plan_id, 10)
    now = Follower(made.home).look()
    assert now.counts == {"completed": 37, "stopped": 1, "failed": 2}
    assert (now.have, now.total, now.searches, now.workers) == (40, 100, 1, 1)
    assert now.failure == (12, "ValueError: no prices for [red]0")
    assert now.rate > 0.0 and now.left == pytest.approx(60 / now.rate)
    made.ledger.accept(open_, rows_of(made.header, range(40, 50)))
    assert Follower(made.home).look().have == 50
    made.finish()
    done = Follower(made.home).look()
    assert math.isnan(done.rate) and math.isnan(done.left) and not done.alive


def test_budgets_are_those_of_the_file_and_of_the_command(tmp_path):
    stop = {"trials": 60, "target": 9.0, "plateau": 50, "hours": "2h"}
    made = Writer(tmp_path, header=header_of("made", stop=stop))
    made.add(range(40))
    lines = Follower(made.home).look().budget
    assert lines[0] == "40 of 60 new trials" and lines[1].endswith("of 2 h of wall clock")
    assert "sortino 2." in lines[2] and "until ≥ 9" in lines[2] and lines[3].endswith("of 50 trials without a better one")
    made.finish()
    with Ledger.open(made.home / LEDGER) as ledger:
        made.ledger = ledger
        made.begin(command=["alphasweep", "run", "x", "--hours", "90m", "--set", "stop.trials=70"])
        budget = budget_of(ledger)
    assert (budget.hours, budget.trials, budget.target) == (1.5, 70, 9.0)


def test_trials_that_report_are_shown_with_their_step_and_rung(tmp_path):
    made = StepWriter(tmp_path)
    first, second, third = made.begin(0), made.begin(1), made.begin(2)
    made.report(first, 0, 2, 0.25)
    follower = Follower(made.home)
    now = follower.look()
    assert now.stepping and now.workers == 3 and [each.trial for each in now.working] == [0]
    made.report(first, 0, 4, 0.5, seconds=1.0)
    made.report(second, 1, 1, 0.75)
    made.report(third, 2, 1, 0.1)
    made.end(third, 2, 0.1, "failed", "RuntimeError: gone")
    now = follower.look()
    one, two = now.working
    assert (one.trial, one.step, one.last, one.value, one.rung) == (0, 4, 12, 0.5, "2 of 3")
    assert one.pace == pytest.approx(0.5) and 3.0 < one.left <= 4.0
    assert dict(one.swept) == {"goal": 0.0} and (two.trial, two.step, two.value) == (1, 1, 0.75) and math.isnan(two.pace)
    assert now.failure == (2, "RuntimeError: gone") and now.left > 0.0
    fresh = Follower(made.home).look().working  # looks for the first time
    assert [(each.trial, each.step, each.value) for each in fresh] == [(0, 4, 0.5), (1, 1, 0.75)]
    made.finish()
    assert not follower.look().working


def test_a_trainable_that_cannot_be_loaded_here_leaves_its_steps(tmp_path):
    made = StepWriter(tmp_path, trainable="gone.module:Walk")
    attempt = made.begin(0)
    made.report(attempt, 0, 2, 0.25)
    made.report(attempt, 0, 3, 0.5)
    (one,) = Follower(made.home).look().working
    assert (one.trial, one.step, one.last, one.rung) == (0, 3, 0, "–")
    made.finish()


def test_further_searches_count_points_that_had_a_result_before(tmp_path):
    space = {"goal": [0.0, 1.0, 2.0]}
    made = StepWriter(tmp_path, space=space, goals=3)
    for trial in range(3):
        made.end(made.begin(trial), trial, float(trial))
    larger = made.ledger.add_plan({"goal": [1.0, 2.0, 3.0, 4.0]}, {"sampler": "grid", "trials": None, "fixed": {"paces": 12}, "seed": 3}, 4)
    now = Follower(made.home).look()
    assert (now.have, now.total, now.searches, larger.offset) == (2, 4, 2, 3)
    made.finish()


def test_what_costs_much_is_asked_seldom():
    clock, asked = [0.0], []

    def ask(value: int) -> int:
        asked.append(value)
        clock[0] += 1.0
        return value

    paced = Paced(ask, share=0.1, clock=lambda: clock[0])
    assert paced("a", 1) == 1 and paced("b", 2) == 1 and asked == [1]
    clock[0] = 10.5
    assert paced("b", 2) == 1
    clock[0] = 11.5
    assert paced("b", 2) == 2 and paced("c", 3, force=True) == 3 and asked == [1, 2, 3]


def test_an_answer_is_made_once_however_many_ask(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    memory, made = Memory(2), []

    def make() -> int:
        time.sleep(0.05)
        made.append(1)
        return len(made)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: memory.get("q", "v1", False, make), range(16)))
    assert set(answers) == {(1, "v1")} and len(made) == 1
    assert memory.get("q", "v2", True, make) == (1, "v1")  # dear to make: serves a little longer while a study runs
    assert memory.get("q", "v2", False, make) == (2, "v2")
    memory.get("r", "v", False, make), memory.get("s", "v", False, make)
    assert memory.get("q", "v2", False, make)[0] == 5


def test_a_job_shows_the_answer_before_until_it_has_a_new_one():
    def wait(job: Job, version: str, make, alive: bool = False):
        for _ in range(200):
            value, fresh = job.get(version, alive, make)
            if fresh:
                return value
            time.sleep(0.01)
        raise AssertionError("never came")

    def broken() -> int:
        raise LedgerError("no disk")

    job = Job(Background(1))
    assert job.get("1", False, lambda: 1) == (None, False)
    assert wait(job, "1", lambda: 1) == 1 and job.get("2", False, lambda: 2) == (1, False) and wait(job, "2", lambda: 2) == 2
    with pytest.raises(LedgerError, match="no disk"):
        wait(job, "3", broken)
    with pytest.raises(LedgerError, match="no disk"):
        job.get("3", False, broken)
    assert wait(job, "4", lambda: 4) == 4


def test_nobody_waits_for_what_is_worked_out_when_the_server_ends():
    code = "import time\nfrom sweeps.live.memory import Background\nBackground(1).submit(time.sleep, 120)\ntime.sleep(0.2)"
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert time.monotonic() - began < 50

"""Requests to a study: carried out once, whoever is at work and whatever is killed, and refused where they make no sense."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.packs import PackResult, isolate
from results import Ledger
from sweeps import Study, open_study
from sweeps.evaluator import Evaluator
from sweeps.feed import StudyFeed, Tally
from sweeps.home import header_of
from sweeps.inbox import STOP_ASKED, TURNED_DOWN, Inbox, answer_to
from sweeps.learning import LearningBacklog
from sweeps.requests import FOLDER, LARGEST, REFUSED, RequestError, ask, names, parse
from sweeps.runner import LEDGER, verify
from sweeps.search import Search
from sweeps.suggestions import SUGGESTED

Command = Callable[..., Any]
ID = "0123456789abcdef" * 2


def learning(**changes: Any) -> Study:
    base = {"name": "learn", "trainable": "tests.sweeps.toy:Toy", "space": {"x": {"int": [0, 1000]}}, "seed": 3}
    return Study.parse({**base, "search": {"sampler": "tpe", "trials": 6, "batch": 2}, **changes})


class KilledError(Exception):
    pass


def session(folder: Path, study: Study, between: Callable[[int], None] = lambda packs: None) -> list[int]:
    """One session over a real ledger, with a worker in this process; returns the values of x in the order they were evaluated."""
    search = Search(study)
    search.check()
    prepared, home = search.prepare(), folder / study.name
    home.mkdir(parents=True, exist_ok=True)
    path, evaluated, stopped = home / LEDGER, list[int](), list[bool]()
    evaluator = Evaluator(study, prepared.defaults)
    with Ledger.open(path) if path.exists() else Ledger.create(path, header_of(search, prepared)) as ledger:
        ledger.begin_session({})
        plan, tally = ledger.add_plan(search.space.to_dict(), search.plan_spec, search.sampler.size), Tally(search.sampler.size)
        backlog = LearningBacklog(search, ledger, plan, lambda points: set(), tally, folder)
        inbox = Inbox(home, ledger, backlog, lambda: stopped.append(True))
        inbox.open()
        feed = StudyFeed(backlog, ledger, plan, tally, search.objective, 99, lambda t: None, home, 0, inbox)  # packs of one
        while not feed.exhausted and not stopped and (task := feed.next()) is not None:
            evaluated += [point["x"] for point in task.points]
            metrics, errors = isolate(lambda points: evaluator(points, prepared.inputs), task.points, 2)
            feed.deliver(PackResult(task.attempt, metrics, errors, 0.1))
            between(len(evaluated))
        ledger.end_session("stopped" if stopped else "finished")
    return evaluated


def events(home: Path, kind: str) -> list[dict[str, Any]]:
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        return [event["detail"] for event in ledger.events(kind)]


def test_a_point_asked_for_while_nobody_runs_is_tried_first_and_counts_among_the_trials(tmp_path: Path) -> None:
    home = tmp_path / "learn"
    home.mkdir()
    first, second = ask(home, "enqueue", point={"x": 777}), ask(home, "enqueue", point={"x": 778})
    made = session(tmp_path, learning(search={"sampler": "tpe", "trials": 6, "batch": 2, "enqueue": [{"x": 5}]}))
    assert sorted(made[:2]) == [777, 778] and made[2] == 5 and len(made) == len(set(made)) == 6
    found = [detail for detail in events(home, SUGGESTED) if "request" in detail]
    assert [(d["request"], d["points"], d["attrs"]) for d in found] == [
        (first.id, [{"x": 777}], [{"filled": True}]),
        (second.id, [{"x": 778}], [{"filled": True}]),
    ]
    assert names(home) == [] and verify(home).ok


def test_a_point_asked_for_while_a_search_runs_is_the_next(tmp_path: Path) -> None:
    made = session(tmp_path, learning(), lambda n: ask(tmp_path / "learn", "enqueue", point={"x": 777}) if n == 3 else None)
    assert made[3] == 777 and len(made) == 6 and verify(tmp_path / "learn").ok


def test_requests_do_not_shift_what_the_sampler_draws(tmp_path: Path) -> None:
    early = learning(search={"sampler": "tpe", "trials": 8, "batch": 2, "startup": 8})
    (tmp_path / "asked" / "learn").mkdir(parents=True)
    ask(tmp_path / "asked" / "learn", "enqueue", point={"x": 777})
    assert session(tmp_path / "asked", early) == [777, *session(tmp_path / "plain", early)[:7]]


def test_a_point_without_room_waits_until_more_is_asked_for(tmp_path: Path, command: Command) -> None:
    assert len(session(tmp_path, learning())) == 6
    done = command("enqueue", "learn", "--set", "x=777", "--dir", tmp_path)
    told = "learn: the point waits, for all 6 trials have been suggested. One more for it:"
    assert (done.code, done.out) == (0, f"{told} alphasweep extend learn --dir {tmp_path} --trials 7\n")
    assert session(tmp_path, learning()) == [] and len(names(tmp_path / "learn")) == 1
    assert session(tmp_path, learning(search={"sampler": "tpe", "trials": 7, "batch": 2})) == [777]
    assert names(tmp_path / "learn") == [] and verify(tmp_path / "learn").ok


def test_a_request_delivered_twice_is_carried_out_once(tmp_path: Path) -> None:
    home = tmp_path / "learn"

    def twice(n: int) -> None:
        if n == 2:
            ask(home, "enqueue", point={"x": 777})
            [name] = names(home)
            shutil.copy(home / FOLDER / name, home / FOLDER / f"9{name}")
            shutil.copy(home / FOLDER / name, home / "later")
        if n == 4:
            shutil.copy(home / "later", home / FOLDER / "again.json")

    made = session(tmp_path, learning(), twice)
    assert made.count(777) == 1 and len(made) == 6 and names(home) == []
    assert len([d for d in events(home, SUGGESTED) if "request" in d]) == 1 and not events(home, TURNED_DOWN)


def test_a_number_beyond_any_float_is_refused_and_the_search_goes_on(tmp_path: Path) -> None:
    home = tmp_path / "learn"
    home.mkdir()
    ask(home, "enqueue", point={"x": 10**400})
    assert len(session(tmp_path, learning())) == 6 and names(home) == []
    assert "not a point of the space" in events(home, TURNED_DOWN)[0]["why"]


def test_a_file_where_requests_would_be_is_nobodys_request(tmp_path: Path) -> None:
    (tmp_path / "learn").mkdir()
    (tmp_path / "learn" / FOLDER).write_text("")
    assert len(session(tmp_path, learning())) == 6


def test_a_kill_between_the_event_and_the_file_does_not_carry_it_out_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "learn"

    def killed(*given: Any) -> None:
        raise KilledError

    with monkeypatch.context() as then:
        then.setattr(Inbox, "_remove", killed)
        with pytest.raises(KilledError):
            session(tmp_path, learning(), lambda n: ask(home, "enqueue", point={"x": 777}) if n == 2 else None)
    assert len(names(home)) == 1
    made = session(tmp_path, learning())
    assert made.count(777) == 1 and len(made) == 4 and names(home) == []
    assert len([d for d in events(home, SUGGESTED) if "request" in d]) == 1 and verify(home).ok


def test_a_kill_between_a_refusal_and_its_filing_refuses_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "learn"
    (home / FOLDER).mkdir(parents=True)
    (home / FOLDER / "1.json").write_text("{")
    with monkeypatch.context() as then:
        then.setattr(Inbox, "_put_aside", lambda *given: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            session(tmp_path, learning())
    session(tmp_path, learning())
    assert len(events(home, TURNED_DOWN)) == 1 and (home / FOLDER / REFUSED / "1.json").exists()


def request(**changes: Any) -> dict[str, Any]:
    base = {"id": ID, "kind": "enqueue", "created": "2026-01-01T00:00:00.000+00:00", "point": {"x": 1}}
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Invalid JSON"),
        ("[]", "should be an object"),
        ("\udcff", "Invalid JSON"),
        (json.dumps(request(more=1)), "more: Extra inputs are not permitted"),
        (json.dumps(request(id="x")), "id: "),
        (json.dumps(request(kind="delete")), "kind: "),
        (json.dumps(request(created="yesterday")), "created: "),
        (json.dumps(request(created="2026-01-01T00:00:00")), "without its zone"),
        (json.dumps(request(point=None)), "enqueue needs a point"),
        (json.dumps(request(kind="stop")), "stop none"),
        (json.dumps(request(kind="stop", point=None, trial="7")), "trial: "),
        (json.dumps(request(kind="stop", point=None, trial=-1)), "trial: "),
        (json.dumps(request(kind="stop", point=None, reason="x" * 501)), "reason: "),
        ('{"point":' + "[" * 5000, "Invalid JSON"),
        (json.dumps(request(point={"x": "y" * LARGEST})), f"larger than {LARGEST:,} bytes"),
        (json.dumps(request(point={"x": 2000})), "point: {'x': 2000} is not a point of the space"),
        (json.dumps(request(point={"z": 1})), "z: not in the space"),
        (json.dumps(request(point={"x": {"y": [1, {}]}})), "is not a point of the space"),
    ],
)
def test_a_request_that_is_none_is_refused_recorded_and_kept_aside(tmp_path: Path, text: str, why: str) -> None:
    home = tmp_path / "learn"
    (home / FOLDER).mkdir(parents=True)
    (home / FOLDER / "1.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert len(session(tmp_path, learning())) == 6
    [refusal] = events(home, TURNED_DOWN)
    assert why in refusal["why"] and refusal["file"] == "1.json"
    assert names(home) == [] and os.listdir(home / FOLDER / REFUSED) == ["1.json"]


def test_what_is_no_file_hangs_nobody(tmp_path: Path) -> None:
    home = tmp_path / "learn"
    (home / FOLDER / "folder.json").mkdir(parents=True)
    os.mkfifo(home / FOLDER / "pipe.json")
    (home / FOLDER / "link.json").symlink_to("/dev/zero")
    (home / FOLDER / ".half.json").write_text("{")
    assert len(session(tmp_path, learning())) == 6
    assert {d["why"] for d in events(home, TURNED_DOWN)} == {"not a plain file"} and len(events(home, TURNED_DOWN)) == 3


def test_a_stop_of_the_study_ends_the_session_it_was_meant_for_and_no_later_one(tmp_path: Path) -> None:
    home = tmp_path / "learn"
    assert len(session(tmp_path, learning(), lambda n: ask(home, "stop", reason="lunch") if n == 2 else None)) in (2, 3)
    assert [d["reason"] for d in events(home, STOP_ASKED)] == ["lunch"]
    time.sleep(0.01)
    stale = ask(home, "stop")
    time.sleep(0.01)
    assert len(session(tmp_path, learning())) >= 3
    assert len(events(home, STOP_ASKED)) == 1 and names(home) == []
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        answer = answer_to(ledger, stale)
    assert answer is not None and answer["detail"]["why"] == "the session it was meant for had ended"


def test_what_cannot_be_asked_is_told_at_once(tmp_path: Path, command: Command) -> None:
    made = session(tmp_path, learning(search={"sampler": "tpe", "trials": 7, "batch": 2}), lambda n: None)
    home = tmp_path / "learn"
    for args, told in [
        (("enqueue", "lern", "--set", "x=1"), "Did you mean 'learn'?"),
        (("enqueue", "learn", "--set", "x=2000"), "is not a point of the space; x is 0 … 1000"),
        (("enqueue", "learn", "--set", "q=1"), "q: not in the space"),
        (("enqueue", "learn"), "it lacks x"),
        (("enqueue", "learn", "--set", "x"), "write name=value"),
        (("enqueue", "learn", "--set", "x=1", "--set", "space.x=2"), "x is given twice"),
        (("enqueue", "learn", "--set", f"x={made[3]}"), "trial 3 of learn is this configuration already"),
        (("stop", "learn"), "learn is not running, so there is nothing to stop"),
        (("stop", "learn", "0"), "no trial of it that reports has begun"),
    ]:
        done = command(*args, "--dir", tmp_path)
        assert (done.code, told in done.err) == (2, True), (args, done.err)
    assert names(home) == []
    with pytest.raises(RequestError, match="500"):
        ask(home, "stop", reason="x" * 501)


@pytest.mark.ray
def test_a_sampler_that_does_not_learn_sends_to_extend(runs: Path, command: Command) -> None:
    done = command("enqueue", "toy", "--set", "x=2", "--set", "shape=flat", "--dir", runs)
    assert done.code == 2 and "this point is in its plan already" in done.err
    assert command("extend", "toy", "--trials", 4, "--dir", runs).code == 0
    inside = command("enqueue", "toy", "--set", "x=2", "--set", "shape=flat", "--dir", runs)
    assert inside.code == 2 and "this point is in its plan already" in inside.err
    outside = command("enqueue", "toy", "--set", "x=9", "--set", "shape=flat", "--dir", runs)
    assert outside.code == 2 and "is not a point of the space; x is 0, 1, 2, 3, 4, 5" in outside.err


STEPS = """\
name: walks
trainable: tests.sweeps.toy_steps:Walk
fixed: {paces: 400}
settings: {seconds: 0.05}
space: {goal: {uniform: [0, 2]}}
search: {sampler: tpe, trials: 5, batch: 1}
scheduler: {kind: none}
seed: 3
"""


def until(wanted: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.ray
def test_a_running_study_takes_a_point_ends_a_trial_and_stops_for_another_process(tmp_path: Path, command: Command) -> None:
    (tmp_path / "walks.yaml").write_text(STEPS)
    home = tmp_path / "walks"
    run = [sys.executable, "-m", "sweeps.cli", "run", str(tmp_path / "walks.yaml"), "--slots", "1", "--dir", str(tmp_path)]
    process = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def reached(trial: int) -> bool:
        if not (home / LEDGER).exists():
            return False
        with Ledger.open(home / LEDGER, readonly=True) as ledger:
            reports = ledger.tables.reports
            return bool(ledger.rows(reports.select().where(reports.c.trial == trial).limit(1)))

    try:
        until(lambda: reached(0))
        done = command("enqueue", "walks", "--set", "goal=1.25", "--dir", tmp_path)
        assert (done.code, done.out) == (0, "walks: the point is tried next.\n"), done.err
        done = command("stop", "walks", 4, "--dir", tmp_path)
        assert (done.code, "no trial 4" in done.err) == (2, True), done.err
        done = command("stop", "walks", 0, "--reason", "goes nowhere", "--dir", tmp_path)
        assert (done.code, done.out) == (0, "walks, trial 0: stopped.\n"), done.err
        until(lambda: reached(1))
        ended = command("stop", "walks", 0, "--dir", tmp_path)
        assert ended.code == 2 and "trial 0 of walks has ended already: stopped at step" in ended.err
        assert command("stop", "walks", "--dir", tmp_path).code == 0
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Stopped. Nothing is lost" in out, out
    found = open_study("walks", tmp_path).why(0)
    assert found.status == "stopped" and found.words == f"stopped at step {found.step} by a person: goes nowhere" and found.step < 400
    assert "by a person: goes nowhere" in command("why", "walks", 0, "--dir", tmp_path).out
    assert open_study("walks", tmp_path).why(1).swept == {"goal": 1.25} and names(home) == []
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        assert ledger.counts()["stopped"] == 1 and ledger.sessions()[-1]["reason"] == "stopped"
        [event] = ledger.events("stopped")
        assert event["detail"]["rule"] == "person" and event["trial"] == 0
    # Killed with a request to end a trial on file: the next session ends it at its next report.
    process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: len(events(home, "session_started")) == 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        ask(home, "stop", trial=1, reason="after all")
        process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: len(events(home, "stopped")) == 2)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    finally:
        process.kill()
    assert open_study("walks", tmp_path).why(1).words.endswith("by a person: after all") and names(home) == []


def test_the_schema_takes_what_ask_writes(tmp_path: Path) -> None:
    made = ask(tmp_path, "enqueue", point={"x": 1, "mode": "a", "on": True, "y": 1e-300, "of": [1, 2.5, None]})
    [name] = names(tmp_path)
    assert parse((tmp_path / FOLDER / name).read_bytes()) == made and name.endswith(f"{made.id}.json")
    with pytest.raises(RequestError):
        ask(tmp_path, "enqueue", point={"x": float("nan"), "y": object()})

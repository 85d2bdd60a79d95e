"""Studies of trials that report: judged once, stopped for a reason on record, and resumed without doing anything twice."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.session import ClusterError, ray_session
from results import Ledger, reports
from results.metrics import Metric
from search_spaces import SpaceError
from search_spaces.stopping import Decision, Rules
from sweeps import Study, open_study, run
from sweeps.runner import LEDGER, verify
from sweeps.search import Search
from sweeps.study import Resources, StudyError
from tests.sweeps.toy_steps import Walk
from trainables.contract import Parameter
from trainables.stepping import Report

GOALS = [0.8, 0.1, 1.2, 0.3, 0.0, 1.4, 0.9, 0.2, 1.5, 0.6, 1.1, 0.4, 0.5, 1.3, 0.7, 1.0]


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    with ray_session(None, 1):
        yield


def study(**changes) -> Study:
    base = {
        "name": "walks",
        "trainable": "tests.sweeps.toy_steps:Walk",
        "fixed": {"paces": 12},
        "space": {"goal": GOALS},
        "scheduler": {"kind": "asha", "grace": 2, "factor": 4},
        "seed": 3,
    }
    return Study.parse({**base, **changes})


def outcome(home: Path) -> tuple[list, list]:
    """What was decided: (trial, status, metrics) of all trials, (trial, rung, rank, of) of all stops."""
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        frame = ledger.frame().sort_values("trial")
        stops = {event["trial"]: event["detail"] for event in ledger.events("stopped")}
    rows = frame[["trial", "status", "level", "paces_done", "drawn"]].to_dict("records")
    return [tuple(row.values()) for row in rows], sorted((t, d["rung"], d["rank"], d["of"]) for t, d in stops.items())


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_a_study_of_trials_that_report_stops_the_poor_and_says_why(tmp_path):
    result = run(study(), tmp_path, slots=1)
    home = tmp_path / "walks"
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        counts, frame = ledger.counts(), ledger.frame()
        stops = ledger.events("stopped")
        seen = list(reports.read(ledger))
    assert counts["completed"] + counts["stopped"] == 16 and counts["stopped"] >= 4 and counts["failed"] == 0
    assert result.tally.stopped == counts["stopped"] and result.tally.done == 16
    assert result.leaderboard(judged=False)["goal"].iloc[0] == 1.5
    ended = frame.set_index("trial")
    for event in stops:
        why, row = event["detail"], ended.loc[event["trial"]]
        assert row["status"] == "stopped" and row["paces_done"] == why["rung"] and row["level"] == why["value"]
        assert why["rank"] > max(1, -(-why["of"] // 4)) and why["value"] <= why["cutoff"] and why["ahead"]
    assert all(ended.loc[t, "paces_done"] == 12 for t in ended.index[ended["status"] == "completed"])
    # One report for every pace that was walked, and not one after a stop.
    walked = ended["paces_done"].sum()
    assert len(seen) == walked < 16 * 12
    found = verify(home)
    assert found.ok and found.stopped == counts["stopped"], found
    assert run(study(), tmp_path, slots=1).tally.done == 0


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("one_ray")
def test_a_trial_that_reached_its_last_step_is_completed_whatever_its_place(tmp_path):
    coarse = {"settings": {"every": 12}, "scheduler": {"kind": "asha", "grace": 2, "factor": 2}}
    mixed = {"goal": [1.0, 0.0], "paces": [24, 12]}
    run(study(space={"goal": GOALS[:3]}, **coarse), tmp_path, slots=1)
    run(study(space={"goal": [*GOALS[:6], 0.05]}, **coarse), tmp_path, slots=1)  # the scheduler is rebuilt from the first three
    run(study(name="mixed", fixed={}, space=mixed, **coarse), tmp_path, slots=1)
    with Ledger.open(tmp_path / "walks" / LEDGER, readonly=True) as ledger:
        assert ledger.counts()["completed"] == 7 and not ledger.events("stopped")
    behind = open_study("walks", tmp_path).why(1)
    assert behind.status == "completed" and behind.replayed
    assert [(item.step, item.decision.rung, item.decision.rank, item.decision.of) for item in behind.judged] == [(12, 2, 2, 2)]
    with Ledger.open(tmp_path / "mixed" / LEDGER, readonly=True) as ledger:
        ended = ledger.frame().set_index(["goal", "paces"])["status"].to_dict()
        [stop] = ledger.events("stopped")
    assert ended == {(1.0, 12): "completed", (1.0, 24): "completed", (0.0, 12): "completed", (0.0, 24): "stopped"}
    # It is ranked among those that were complete at that step, too.
    assert (stop["detail"]["rung"], stop["detail"]["rank"], stop["detail"]["of"]) == (2, 3, 3)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("one_ray")
def test_a_stop_at_the_last_step_in_an_older_ledger_stays_one_and_is_explained(tmp_path, monkeypatch):
    coarse = study(settings={"every": 12}, space={"goal": GOALS[:3]}, scheduler={"kind": "asha", "grace": 2, "factor": 2})
    with monkeypatch.context() as then:
        then.setattr(Decision, "ends", lambda decision, step, last: decision.stop)
        assert run(coarse, tmp_path, slots=1).tally.stopped == 1
    found = open_study("walks", tmp_path).why(1)
    assert found.replayed and found.words.startswith("stopped at step 12 (rung 2): place 2 of 2")
    assert open_study("walks", tmp_path).why(2).replayed


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("one_ray")
def test_trials_that_fail_diverge_or_kill_their_worker_end_as_what_they_are(tmp_path):
    space = {"goal": [1.0], "trouble": ["none", "raises", "diverges", "dies", "dies once"]}
    run(study(space=space, scheduler={"kind": "median"}), tmp_path, slots=1)
    with Ledger.open(tmp_path / "walks" / LEDGER, readonly=True) as ledger:
        frame = ledger.frame().set_index("trouble")
        stops = {event["trial"]: event["detail"] for event in ledger.events("stopped")}
        died = ledger.events("worker_died")
    status = frame["status"].to_dict()
    assert status == {"none": "completed", "raises": "failed", "diverges": "stopped", "dies": "failed", "dies once": "completed"}
    assert "at the fifth pace" in frame.loc["raises", "error"] and "worker process died" in frame.loc["dies", "error"]
    assert stops[frame.loc["diverges", "trial"]]["rule"] == "diverged"
    assert len(died) == 3 and all(event["detail"]["step"] == 4 for event in died)
    # Gone on from its checkpoint, it is what it would have been.
    assert frame.loc["dies once", "paces_done"] == 12


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("one_ray")
@pytest.mark.parametrize("kills", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_a_killed_study_makes_the_same_decisions_and_repeats_nothing(kills, tmp_path):
    goals = [0.3, 0.9, 0.1, 1.2, 0.5, 0.7, 1.1, 0.2] if kills == 1 else [round(7 * i % 40 / 20, 2) for i in range(40)]
    slow = study(settings={"seconds": 0.05}, space={"goal": goals})
    file = tmp_path / "walks.yaml"
    file.write_text(yaml.safe_dump(slow.model_dump(exclude={"resources"})))
    killed = 0
    for _ in range(kills):
        command = [sys.executable, "-m", "sweeps.cli", "run", str(file), "--dir", str(tmp_path / "killed"), "--slots", "1"]
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        before = _reports(tmp_path / "killed")
        while _reports(tmp_path / "killed") < before + 3 and driver.poll() is None:
            time.sleep(0.02)
        assert driver.poll() is None, "it ended before it was killed: give it more to do"
        os.killpg(driver.pid, signal.SIGKILL)  # workers too
        killed += driver.wait() == -signal.SIGKILL
    assert killed == kills
    run(slow, tmp_path / "killed", slots=1)
    run(slow, tmp_path / "whole", slots=1)
    assert outcome(tmp_path / "killed" / "walks") == outcome(tmp_path / "whole" / "walks")
    with Ledger.open(tmp_path / "killed" / "walks" / LEDGER, readonly=True) as ledger:
        seen = [(row.config_id, row.step) for row in reports.read(ledger)]
        repeated = ledger.events("repeated")
    assert len(seen) == len(set(seen))
    assert not repeated  # the checkpoint is written before the report, so none is ever older than what was judged
    assert verify(tmp_path / "killed" / "walks").certificate == verify(tmp_path / "whole" / "walks").certificate


def _reports(folder: Path) -> int:
    path = folder / "walks" / LEDGER
    if not path.exists():
        return 0
    try:
        with Ledger.open(path, readonly=True) as ledger:
            return sum(1 for _ in reports.read(ledger))
    except ValueError:
        return 0


def test_a_scheduler_for_a_trainable_that_evaluates_packs_is_refused():
    with pytest.raises(StudyError, match=r"scheduler: .*Toy evaluates whole packs"):
        Search(study(trainable="tests.sweeps.toy:Toy", fixed={}, space={"x": [1, 2]})).check()


def test_a_scheduler_option_that_is_wrong_is_said_before_anything_runs():
    with pytest.raises(SpaceError, match=r"scheduler.grace: 13 is not allowed; give a whole number from 1 to 12"):
        Search(study(scheduler={"grace": 13})).check()
    with pytest.raises(StudyError, match=r"resources.gpu: .*\(it is -1\)"):
        study(resources={"gpu": -1})


def test_the_longest_trial_sets_the_rungs():
    assert Search(study(fixed={}, space={"goal": [1.0], "paces": [5, 40, 7]})).last_step == 40
    late = {"paces": [10, 800], "goal": [float(i) for i in range(2000)]}  # its first thousand trials are the short ones
    assert Search(study(fixed={}, space=late)).last_step == 800


@pytest.mark.parametrize(
    ("every", "scheduler", "told"),
    [
        (1, {"grace": 2, "factor": 2}, []),
        (5, {"grace": 2, "factor": 2}, ["no report comes at step 2, 4, 8; trials are judged there at their next, 5, 5, 10"]),
        (12, {"grace": 2, "factor": 2}, ["the first report from step 2, 4, 8 on is the last, 12, so nobody is stopped there"]),
        (5, {"kind": "median", "grace": 2}, []),  # it judges at every report
        (5, {"kind": "median", "grace": 11}, ["the first report from step 11 on is the last, 12, so nobody is stopped there"]),
        (12, {"kind": "none"}, []),
    ],
)
def test_a_rung_without_a_report_of_its_own_is_warned_of(every, scheduler, told):
    search = Search(study(settings={"every": every}, scheduler=scheduler))
    assert list(search.prepare().warnings) == [f"scheduler: {words}" for words in told]
    assert not search.prepare("holdout").warnings


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_a_study_keeps_the_scheduler_it_began_with_and_says_so(tmp_path):
    first = run(study(space={"goal": GOALS[:6]}), tmp_path, slots=1)
    assert not first.prepared.warnings
    other = run(study(scheduler={"kind": "none"}, fixed={"paces": 12}), tmp_path, slots=1)
    [told] = [line for line in other.prepared.warnings if line.startswith("scheduler: ")]
    assert told.startswith("scheduler: the study began with kind asha, now none; it keeps what it began with. ")
    assert "--set name=walks_2" in told and "--fresh" in told
    home = tmp_path / "walks"
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        rules = ledger.events("scheduler")
        scheduler = Rules(**rules[0]["detail"]["rules"]).make()
        place = ledger.header.metric_names.index("level")
        folded = {}
        for row in reports.read(ledger):
            decision = scheduler.report(row.trial, row.step, row.metrics[place])
            if decision.stop:
                folded[row.trial] = (decision.rung, decision.rank, decision.of)
        recorded = {e["trial"]: (e["detail"]["rung"], e["detail"]["rank"], e["detail"]["of"]) for e in ledger.events("stopped")}
    assert len(rules) == 1 and folded == recorded and len(recorded) >= 4


class Odd(Walk):
    """Reports what is no report, or not one of its own."""

    name = "odd"
    parameters = (*Walk.parameters, Parameter("kind", "none", "choice", choices=("none", "dict", "text", "half", "typo", "less", "nan")))

    def evaluate(self, config, ctx):
        for report in super().evaluate(config, ctx):
            odd = {
                "none": report,
                "dict": {"step": report.step},
                "text": Report(report.step, {"level": "n/a"}),
                "half": Report(report.step + 0.5, report.metrics),
                "typo": Report(report.step, {"levle": 1.0}),
                "less": Report(report.step, {"paces_done": 1.0}),
                "nan": Report(report.step, {"level": float("nan")}),
            }
            yield odd[config["kind"]]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("one_ray")
def test_what_is_no_report_fails_its_trial_alone(tmp_path):
    kinds = ["dict", "text", "half", "typo", "less", "nan", "none"]
    run(study(trainable="tests.sweeps.test_steps:Odd", space={"kind": kinds}), tmp_path, slots=1)
    with Ledger.open(tmp_path / "walks" / LEDGER, readonly=True) as ledger:
        frame = ledger.frame().set_index("kind")
        [stop] = ledger.events("stopped")
    errors = frame["error"]
    assert frame["status"].to_dict() == {**dict.fromkeys(kinds, "failed"), "nan": "stopped", "none": "completed"}
    assert stop["detail"]["rule"] == "diverged"
    typo = "TrainableError: the report at step 1 has a metric 'levle' that is not declared; did you mean 'level'?"
    assert errors["typo"] == typo
    assert errors["less"] == "TrainableError: the report at step 1 has no level, which ranks; give NaN where there is none"
    assert "a dict was yielded where a trainables.stepping.Report was expected" in errors["dict"]
    assert "metric level of the report at step 1 is 'n/a'" in errors["text"] and "step is 1.5" in errors["half"]
    assert errors["none"] is None or errors.isna()["none"]


class Brief(Walk):
    """Sets up for a while, and ends by itself at its ninth pace."""

    name = "brief"

    def evaluate(self, config, ctx):
        time.sleep(0.5)
        for report in super().evaluate(config, ctx):
            yield report
            if report.step == 9:
                return


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("one_ray")
def test_a_trial_is_timed_from_its_first_report_and_ending_before_its_last_step_is_told(tmp_path):
    paces, news = {}, []

    def shown(tally):
        paces.update({each.step: each.pace for each in tally.running or ()})
        news.extend([tally.news] if tally.news else [])

    brief = study(trainable="tests.sweeps.test_steps:Brief", space={"goal": [1.0]}, settings={"seconds": 0.01, "every": 3})
    run(brief, tmp_path, slots=1, on_progress=shown)
    assert math.isnan(paces[0]) and math.isnan(paces[3]) and 0.01 <= paces[6] < 0.15, paces
    assert re.fullmatch(r"trial 0 completed at step 9 of 12, where it ended by itself: level 0\.\d+", news[0]), news
    assert open_study("walks", tmp_path).why(0).words.startswith("completed at step 9 of 12, where it ended by itself: level 0.")


class Losing(Walk):
    """Tells its training loss, too."""

    name = "losing"
    metrics = (*Walk.metrics, Metric("train_loss", None, "ratio"))

    def evaluate(self, config, ctx):
        for report in super().evaluate(config, ctx):
            yield Report(report.step, {**report.metrics, "train_loss": 1.0 / report.step})


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("one_ray")
def test_trials_at_work_say_what_they_lose_and_where_they_can_be_stopped_and_too_many_cpus_start_none(tmp_path):
    seen, short = {}, {"goal": [1.0], "paces": [12, 5]}

    def shown(tally):
        seen.update({(each.last, each.step): (each.rule, tuple(each.ladder), each.loss) for each in tally.running or ()})

    losing = study(trainable="tests.sweeps.test_steps:Losing", fixed={}, space=short)
    with pytest.raises(ClusterError, match=r"resources\.cpu: a trial needs 1024 CPUs, and this machine has \d+;"):
        run(losing.model_copy(update={"resources": Resources(cpu=1024)}), tmp_path, slots=1, on_progress=shown)
    assert not seen
    run(losing, tmp_path, slots=1, on_progress=shown)
    assert seen[12, 4] == ("asha", (2, 8), 0.25) and seen[5, 1] == ("asha", (2,), 1.0)
    rule, ladder, loss = seen[12, 0]
    assert (rule, ladder) == ("asha", (2, 8)) and math.isnan(loss)

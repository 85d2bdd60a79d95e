"""Studies with a `stop` section: they end for the reason that came first, keep it, and go on with a larger budget."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from cluster.session import ray_session
from results import Ledger, ResultRow
from results.identity import config_ids
from search_spaces import SpaceError
from search_spaces.budget import Budget, Met
from sweeps import Study, run
from sweeps.asked import unfinished
from sweeps.budget_words import ended_by, in_words, words
from sweeps.budgets import Budgeted, spent_before
from sweeps.feed import Backlog, Point, Tally
from sweeps.home import LEDGER, header_of
from sweeps.learning import LearningBacklog
from sweeps.search import Search
from sweeps.study import StudyError
from tests.sweeps.toy import Toy

SELECTOR: dict[str, Any] = {
    "name": "small",
    "trainable": "selector",
    "data": {"source": "sample", "bars": 1500, "signal": 0.25, "seed": 7},
    "settings": {"forecast_window": 48, "logits": [3, 4, 2, 2]},
    "space": {"intensity": [1.0, 1.2], "min_edge": [i / 10_000 for i in range(80)], "dip_threshold": [0.0, 0.005, 0.01]},
    "objective": "sortino",
    "seed": 1,
}
TOY: dict[str, Any] = {"name": "toy", "trainable": "tests.sweeps.toy:Toy", "space": {"x": {"int": [0, 100_000]}}, "seed": 3}


@pytest.fixture(scope="module")
def one_ray() -> Any:
    with ray_session(None, 2) as cpus:
        yield cpus


def events(home: Path, kind: str = "budget") -> list[dict[str, Any]]:
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        return [event["detail"] for event in ledger.events(kind)]


def state(home: Path) -> tuple[str, str]:
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        return ledger.sessions()[-1]["reason"], ended_by(ledger)


class Desk:
    """A study's backlog with its budget, over a real ledger, and a worker that can be told in which order it is done."""

    def __init__(self, folder: Path, **changes: Any):
        self.study = Study.parse({**TOY, **changes})
        self.search = Search(self.study)
        self.search.check()
        header = header_of(self.search, self.search.prepare())
        path = folder / LEDGER
        self.ledger = Ledger.open(path) if path.exists() else Ledger.create(path, header)
        self.ledger.begin_session({})
        self.tally = Tally(total=self.search.sampler.size)
        self.plan = self.ledger.add_plan(self.search.space.to_dict(), self.search.plan_spec, self.search.sampler.size)
        given: Any = (self.ledger, self.plan, lambda points: set(), self.tally)
        learns = self.search.learns
        inner = LearningBacklog(self.search, *given, folder) if learns else Backlog(self.search.sampler, self.search.config, *given)
        self.backlog = Budgeted(inner, self.search, self.ledger, self.plan, self.tally, "score")
        self.done: list[int] = []

    def finish(self, points: list[Point], seconds: float | None = 1.0) -> None:
        attempt = self.ledger.open_attempt(self.plan.plan_id, len(points))
        rows = []
        for point in points:
            x, y = point.config["x"], point.config.get("y", 0.0)
            score = math.sin(x * 12.9898 + y) * 500.0
            rows.append(ResultRow(self.plan.offset + point.index, point.config_id, point.config, "completed", [score, float(x)], seconds))
        self.ledger.accept(attempt, rows)
        for row in rows:
            self.backlog.told(row)
            self.done.append(row.trial)
        self.tally.done += len(rows)

    def work(self, n: int, most: int = 10_000, backwards: bool = False) -> None:
        """Takes n at a time until there is nothing more, or at most so many."""
        while len(self.done) < most and (points := self.backlog.take(n)):
            for point in reversed(points) if backwards else points:
                self.finish([point])

    def numbers(self) -> list[int]:
        return [int(row["trial"]) for row in self.ledger.rows(sa.select(self.ledger.tables.trials.c.trial).order_by(sa.text("trial")))]

    def close(self) -> None:
        self.ledger.end_session("stopped")
        self.ledger.close()


@pytest.mark.ray
def test_a_target_ends_a_study_early_for_a_reason_on_record_and_a_larger_one_goes_on(tmp_path: Path, one_ray: int) -> None:
    whole = run(Study.parse({**SELECTOR, "name": "whole"}), tmp_path / "elsewhere", here=60.0)
    best = float(whole.leaderboard(1, judged=False)["sortino"].iloc[0])
    within = [float(v) for v in whole.frame().sort_values("trial")["sortino"]]
    easy = float(np.nanmax(within[:16]))
    first = run(Study.parse({**SELECTOR, "stop": {"target": easy}}), tmp_path, here=60.0)
    home = tmp_path / "small"
    assert 16 <= first.tally.done < 480 and not first.stopped and first.rule == "target"
    assert first.budget.startswith("target reached, sortino") and f"after {within.index(easy) + 1} trials" in first.budget
    assert state(home) == ("stopped", first.budget)
    [event] = events(home)
    assert (event["rule"], event["value"], event["limit"], event["words"]) == ("target", easy, easy, first.budget)
    assert unfinished(home) == f"{first.tally.done} of 480 have a result (stopped: {first.budget})"
    assert first.leaderboard(1)["dsr"].notna().all()  # the daily returns of the best are kept

    again = run(Study.parse({**SELECTOR, "stop": {"target": easy}}), tmp_path, slots=1)
    assert again.tally.done == 0 and again.budget == first.budget and state(home) == ("stopped", first.budget)

    on = run(Study.parse({**SELECTOR, "stop": {"target": best + 1.0}}), tmp_path, slots=1)
    assert on.tally.done + first.tally.done == 480 and on.budget == "" and state(home) == ("finished", "")
    assert on.verify().ok and float(on.leaderboard(1, judged=False)["sortino"].iloc[0]) == best
    assert run(Study.parse({**SELECTOR, "stop": {"target": easy}}), tmp_path, slots=1).budget == ""  # nothing is left for it to end


@pytest.mark.ray
@pytest.mark.slow
def test_a_budget_of_trials_is_exact_also_with_many_in_flight_and_over_sessions(tmp_path: Path, one_ray: int) -> None:
    study = {**TOY, "search": {"sampler": "random", "trials": 3000}}
    first = run(Study.parse({**study, "stop": {"trials": 777}}), tmp_path, slots=2)
    assert first.tally.done == 777 and first.budget == "trials used up, 777 of 777"
    second = run(Study.parse({**study, "stop": {"trials": 1000}}), tmp_path, slots=2)
    assert second.tally.done == 223 and second.rule == "trials"
    assert run(Study.parse(study), tmp_path, slots=2).tally.done == 2000


@pytest.mark.ray
@pytest.mark.slow
def test_results_taken_over_from_another_study_are_no_new_ones_but_can_reach_a_target(tmp_path: Path, one_ray: int) -> None:
    run(Study.parse({**TOY, "name": "other", "space": {"x": list(range(30))}}), tmp_path, here=60.0)
    wide = {**TOY, "space": {"x": list(range(60))}}
    made = run(Study.parse({**wide, "stop": {"trials": 5}}), tmp_path, here=60.0)
    assert made.tally.known == 30 and made.tally.done == 5
    target = float(made.frame()["score"].max())
    third = run(Study.parse({**wide, "name": "third", "stop": {"target": target}}), tmp_path, slots=2)
    assert third.tally.done == 0 and third.tally.known == 35 and third.rule == "target"


@pytest.mark.ray
@pytest.mark.slow
def test_a_tiny_wall_clock_ends_a_study_and_counts_over_sessions(tmp_path: Path, one_ray: int) -> None:
    slow = {**TOY, "search": {"sampler": "random", "trials": 2000}, "settings": {"seconds_each": 0.01}}
    first = run(Study.parse({**slow, "stop": {"hours": "3s"}}), tmp_path, slots=2)
    assert 0 < first.tally.done < 1500 and first.budget.startswith("wall clock used up, ") and first.rule == "hours"
    assert first.seconds < 60
    again = run(Study.parse({**slow, "stop": {"hours": "3s"}}), tmp_path, slots=2)
    assert again.tally.done == 0 and again.rule == "hours"
    with Ledger.open(tmp_path / "toy" / LEDGER) as ledger:
        ledger.begin_session({})
        used = spent_before(ledger, stepping=False)
        ledger.end_session("finished")
        frame = ledger.frame()
    assert used.hours * 3600 >= 3 and used.accelerator_hours == 0
    assert used.worker_hours == used.paid_hours == pytest.approx(float(frame["seconds"].sum()) / 3600)
    worked = run(Study.parse({**slow, "stop": {"worker_hours": used.worker_hours / 2}}), tmp_path, slots=2)
    assert worked.tally.done == 0 and worked.rule == "worker_hours"
    paid = run(Study.parse({**slow, "stop": {"cost": 1, "price": 1 / (used.paid_hours * 1.05)}}), tmp_path, slots=2)
    assert paid.rule == "cost" and 0 < paid.tally.done < 1000


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("deterministic", [False, True])
def test_a_plateau_ends_a_search_that_learns(tmp_path: Path, one_ray: int, deterministic: bool) -> None:
    search = {"sampler": "tpe", "trials": 400, "batch": 8, "deterministic": deterministic}
    study = {**TOY, "space": {"y": {"uniform": [0, 3]}}, "search": search, "stop": {"plateau": {"trials": 30, "gain": 0.5}}}
    made = run(Study.parse(study), tmp_path, slots=2)
    assert made.rule == "plateau" and "in 30 trials" in made.budget and 31 <= made.tally.done < 400
    again = run(Study.parse(study), tmp_path, slots=1)
    assert again.tally.done == 0 and again.budget == made.budget
    if deterministic:
        alone = run(Study.parse(study), tmp_path / "alone", here=60.0)
        assert alone.budget == made.budget and alone.tally.done == made.tally.done
        one, two = (each.frame().sort_values("trial")["y"].tolist() for each in (made, alone))
        assert one == two


@pytest.mark.ray
@pytest.mark.slow
def test_trials_that_report_are_let_go_at_a_checkpoint_and_go_on_with_a_larger_budget(tmp_path: Path, one_ray: int) -> None:
    study = {
        "name": "walks",
        "trainable": "tests.sweeps.toy_steps:Walk",
        "fixed": {"paces": 12},
        "space": {"goal": [0.5, 1.5, 0.6, 0.7, 0.8, 0.9]},
        "scheduler": {"kind": "none"},
        "seed": 3,
    }
    first = run(Study.parse({**study, "stop": {"target": 1.2}}), tmp_path, slots=2)
    assert first.rule == "target" and 1 <= first.tally.done <= 3
    rest = run(Study.parse(study), tmp_path, slots=2)
    assert first.tally.done + rest.tally.done == 6 and rest.budget == "" and rest.verify().ok
    whole = run(Study.parse(study), tmp_path / "whole", slots=2)
    columns = ["trial", "goal", "level", "drawn"]
    one, two = (each.frame().sort_values("trial")[columns].reset_index(drop=True) for each in (rest, whole))
    pd.testing.assert_frame_equal(one, two)


@pytest.mark.parametrize(
    ("sampler", "stop"),
    [
        ("random", {"target": 499.5}),
        ("random", {"trials": 90}),
        ("random", {"target": 499.99, "plateau": {"trials": 40, "gain": 2}}),
        ("tpe", {"target": 450}),
        ("tpe", {"plateau": 12}),
    ],
)
def test_cut_at_any_point_a_study_ends_where_it_would_have_ended(tmp_path: Path, sampler: str, stop: dict[str, Any]) -> None:
    search = {"sampler": sampler, "trials": 300, **({"deterministic": True, "batch": 8} if sampler == "tpe" else {})}
    (tmp_path / "whole").mkdir()
    whole = Desk(tmp_path / "whole", search=search, stop=stop)
    whole.work(1)
    met, numbers = whole.backlog.met, whole.numbers()
    assert met is not None and len(numbers) < 300
    whole.close()
    for cut in (1, len(numbers) // 2, len(numbers) - 1, len(numbers)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        before = Desk(folder, search=search, stop=stop)
        before.work(1, most=cut)
        before.ledger.close()  # as a kill would
        after = Desk(folder, search=search, stop=stop)
        after.work(1)
        assert (after.backlog.met, after.numbers()) == (met, numbers)
        after.close()


def test_in_a_search_that_must_repeat_the_order_in_which_workers_end_changes_nothing(tmp_path: Path) -> None:
    search = {"sampler": "tpe", "trials": 200, "batch": 8, "deterministic": True}
    found = []
    for name, n, backwards in (("a", 1, False), ("b", 8, True), ("c", 5, True)):
        (tmp_path / name).mkdir()
        desk = Desk(tmp_path / name, search=search, stop={"plateau": {"trials": 25, "gain": 1.0}})
        desk.work(n, backwards=backwards)
        found.append((desk.backlog.met, desk.numbers()))
        desk.close()
    assert found[0] == found[1] == found[2] and found[0][0] is not None and len(found[0][1]) % 8 == 0


def test_only_trials_within_the_constraints_count(tmp_path: Path) -> None:
    (tmp_path / "free").mkdir()
    stop, search = {"target": 450}, {"sampler": "random", "trials": 500}
    desk = Desk(tmp_path, search=search, stop=stop, constraints=["cost < 20000"])
    desk.work(1)
    frame = desk.ledger.frame().sort_values("trial")
    reached = frame["score"] >= 450
    assert desk.backlog.met is not None and desk.backlog.met.after == len(frame)
    assert reached.sum() > 1 and (frame["cost"][reached] >= 20000).sum() == reached.sum() - 1
    desk.close()


def test_a_bound_of_the_regret_is_made_once_and_ends_a_search(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    space = {"y": {"uniform": [0, 2]}}
    desk = Desk(tmp_path, space=space, fixed={"x": 0}, search={"sampler": "tpe", "trials": 200}, stop={"regret": 1.0})
    desk.work(4)
    met, kept = desk.backlog.met, [event["detail"] for event in desk.ledger.events("regret_bound")]
    assert met is not None and met.kind == "regret" and met.value < 1.0 and met.after < 200
    assert 500.0 - met.best < 1.0  # the maximum of sin is inside
    assert [each["count"] for each in kept] == [20 + 8 * i for i in range(len(kept))] and kept[-1]["bound"] == met.value
    assert "left to gain" in desk.tally.note
    desk.close()
    again = Desk(tmp_path, space=space, fixed={"x": 0}, search={"sampler": "tpe", "trials": 200}, stop={"regret": 1.0})
    assert again.backlog.met == met and again.backlog.take(1) == []
    assert len(again.ledger.events("regret_bound")) == len(kept)
    again.close()


def test_a_session_that_was_killed_lasted_until_the_last_that_is_heard_of_it(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, time\nfrom pathlib import Path\nfrom tests.sweeps.test_budgets import Desk\n"
        "desk = Desk(Path(sys.argv[1]), search={'sampler': 'random', 'trials': 50})\n"
        "time.sleep(1.0)\ndesk.finish(desk.backlog.take(3), 36.0)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    desk = Desk(tmp_path, search={"sampler": "random", "trials": 50})
    used = spent_before(desk.ledger, stepping=False)
    assert 1.0 <= used.hours * 3600 < 20 and used.worker_hours == pytest.approx(0.03)
    desk.close()


def test_sessions_whose_trials_took_cards_are_paid_by_card(tmp_path: Path) -> None:
    for cards in (0.0, 2.0):
        desk = Desk(tmp_path, search={"sampler": "random", "trials": 50})
        desk.backlog.attach(type("Feed", (), {"stopping": False})(), cards)
        desk.finish(desk.backlog.take(1), 3600.0)
        desk.close()
    desk = Desk(tmp_path, search={"sampler": "random", "trials": 50})
    used = spent_before(desk.ledger, stepping=False)
    assert (used.worker_hours, used.accelerator_hours, used.paid_hours) == pytest.approx((2.0, 2.0, 3.0))
    desk.close()


def test_what_a_failure_took_stays_spent_when_it_is_tried_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path, search={"sampler": "random", "trials": 50})
    [good, bad] = desk.backlog.take(2)
    desk.finish([good], 3600.0)
    failure = ResultRow(bad.index, bad.config_id, bad.config, "failed", None, 3600.0, "it broke")
    desk.ledger.accept(desk.ledger.open_attempt(desk.plan.plan_id, 1), [failure])
    desk.close()
    with Ledger.open(tmp_path / LEDGER) as ledger:
        ledger.begin_session({})
        before = spent_before(ledger, stepping=False)
        assert ledger.reopen_failed() == [bad.index]
        assert spent_before(ledger, stepping=False) == before
        assert before.worker_hours == pytest.approx(2.0)


def test_a_budget_is_no_part_of_an_identity(tmp_path: Path) -> None:
    searches = [Search(Study.parse({**TOY, **more})) for more in ({}, {"stop": {"trials": 5}})]
    plain, bounded = (header_of(search, search.prepare()) for search in searches)
    assert plain.context_id == bounded.context_id
    assert config_ids(plain.context_id, [{"x": 1}], plain.defaults) == config_ids(bounded.context_id, [{"x": 1}], bounded.defaults)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("stop:\n  trails: 5\n", "line 7: stop.trails: there is no such rule; known: trials, hours"),
        ("stop:\n  target: high\n", "line 7: stop.target: 'high' is not allowed"),
        ("stop: {hours: -2}\n", "line 6: stop.hours: -2 is not allowed"),
        ("stop: {cost: 2}\n", "line 6: stop.cost: it needs the price of an hour"),
        ("stop: {plateau: {gain: 2}}\n", "line 6: stop.plateau: say in how many results"),
        ("stop: {accelerator_hours: 2}\n", "line 6: stop.accelerator_hours: tests.sweeps.toy:Toy evaluates packs, which take no cards"),
        ("stop: {regret: 0.1}\n", "line 6: stop.regret: the values of x have no order"),
        ("stop: 5\n", "line 6: stop: give a mapping"),
    ],
)
def test_nonsense_in_a_study_file_is_told_with_its_place(tmp_path: Path, lines: str, told: str) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(f"name: my\ntrainable: tests.sweeps.toy:Toy\nspace:\n  x: [3, 1, 2]\nseed: 3\n{lines}")
    with pytest.raises((StudyError, SpaceError)) as error:
        study = Study.load(file)
        with study.located():
            Search(study).check()
    assert f"{file}, {told}" in str(error.value)


def test_cards_that_a_study_does_without_cannot_be_a_budget() -> None:
    study = {"name": "w", "trainable": "tests.sweeps.toy_steps:Walk", "space": {"goal": [1.0, 2.0]}, "resources": {"gpu": 0}}
    with pytest.raises(StudyError, match=r"stop\.accelerator_hours: resources\.gpu is 0"):
        Search(Study.parse({**study, "stop": {"accelerator_hours": 1}})).check()


def test_words_name_the_rule_its_numbers_and_when() -> None:
    metric = Toy.metrics[0]
    budget = Budget.parse({"target": 2, "plateau": {"trials": 100, "gain": 0.01}, "cost": 25, "price": 2.5, "hours": 2, "trials": 500})
    assert words(Met("target", 2.1, 2.0, 212, 2.1), budget, metric) == "target reached, score 2.100 ≥ 2 after 212 trials"
    plateau = words(Met("plateau", 0.0, 0.01, 312, 2.1, 100), budget, metric)
    assert plateau == "plateau, score 2.100 has not improved by more than 0.010 in 100 trials, after 312 trials"
    assert words(Met("cost", 25.2, 25.0, 9), budget, metric) == "cost used up, 25.2 of 25 at 2.5 an hour, after 9 trials"
    assert words(Met("hours", 2.0, 2.0, 1), budget, metric) == "wall clock used up, 2 h of 2 h, after 1 trial"
    assert in_words(budget, metric) == (
        "score ≥ 2, or 100 trials without a better one by 0.010, or 500 new trials, or 2 h of wall clock, "
        "or a cost of 25 at 2.5 an hour, whichever comes first"
    )


@pytest.mark.slow
@pytest.mark.ray
def test_the_command_says_what_ended_a_study_what_to_change_and_runs_nothing_again(tmp_path: Path, one_ray: int, command: Any) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("name: my\ntrainable: tests.sweeps.toy:Toy\nspace:\n  x: {int: [0, 100000]}\nsearch: {sampler: random, trials: 900}\n")
    runs = tmp_path / "runs"
    first = command("run", file, "--dir", runs, "--slots", 1, "--target", 100)
    told = " ".join(first.out.split())
    assert first.code == 0 and "Stopped: target reached, score" in told and "--set stop.target=…" in told
    again = command("run", file, "--dir", runs, "--slots", 1, "--target", 100)
    assert again.code == 0 and "Nothing was run, as the study's budget is used up" in " ".join(again.out.split())
    assert "my stopped: target reached, score" in command("status", "--dir", runs).out
    assert "a larger budget goes on" in " ".join(command("leaderboard", "my", "--dir", runs).out.split())
    more = command("run", file, "--dir", runs, "--slots", 1, "--target", 100, "--set", "stop.target=501")
    assert more.code == 0 and "Stopped" not in more.out
    assert "my stopped" not in command("status", "--dir", runs).out
    assert "score ≥ 100" in command("validate", file, "--set", "stop.target=100").out

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.packs import PackResult, isolate
from results import Ledger
from sweeps import Study, run
from sweeps.asked import asked, searches, unfinished
from sweeps.evaluator import Evaluator
from sweeps.feed import StudyFeed, Tally
from sweeps.home import header_of
from sweeps.learning import LearningBacklog
from sweeps.planning.recorded import count_known, siblings
from sweeps.runner import LEDGER, verify
from sweeps.search import Search
from sweeps.study import StudyError
from sweeps.suggestions import LEARNT, SUGGESTED, distinct

SPACE = {
    "x": {"uniform": [-5, 5]},
    "y": {"uniform": [-5, 5]},
    "rate": {"loguniform": [1e-4, 1]},
    "mode": {"choice": ["plain", "tilted"]},
    "tilt": {"uniform": [0, 1], "when": "mode == 'tilted'"},
}
HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))


def study(**changes: Any) -> Study:
    search = {"sampler": "tpe", "trials": 60, "batch": 8, "deterministic": True} | changes.pop("search", {})
    return Study.parse({"name": "valley", "trainable": "toy_search:Valley", "space": SPACE, "search": search, "seed": 4} | changes)


class KilledError(Exception):
    pass


@dataclass
class Driver:
    """The study's side over a real ledger, and workers in this process that deliver in any order."""

    folder: Path
    study: Study
    slots: int = 2
    order: int = 0
    calls: Counter[str] = field(default_factory=Counter)

    def work(self, dies: Callable[[int], bool] = lambda delivered: False) -> Tally:
        search = Search(self.study)
        search.check()
        prepared = search.prepare()
        home = self.folder / self.study.name
        home.mkdir(parents=True, exist_ok=True)
        path = home / LEDGER
        ledger = Ledger.open(path) if path.exists() else Ledger.create(path, header_of(search, prepared))
        evaluator, rng, delivered = Evaluator(self.study, prepared.defaults), np.random.default_rng(self.order), 0
        try:
            ledger.begin_session({})
            plan = ledger.add_plan(search.space.to_dict(), search.plan_spec, search.sampler.size)
            tally = Tally(search.sampler.size)
            backlog = LearningBacklog(search, ledger, plan, lambda points: set(), tally, self.folder)
            feed = StudyFeed(backlog, ledger, plan, tally, search.objective, self.slots, lambda t: None, home)
            flying: list[Any] = []
            while not feed.exhausted:
                while len(flying) < self.slots and (task := feed.next()) is not None:
                    flying.append(task)
                if dies(delivered):
                    raise KilledError
                if not flying:
                    assert feed.exhausted, "the feed has neither work nor an end"
                    break
                task = flying.pop(int(rng.integers(len(flying))))
                self.calls.update(str(sorted(point.items())) for point in task.points)
                metrics, errors = isolate(lambda points: evaluator(points, None), task.points, len(ledger.header.metrics))
                feed.deliver(PackResult(task.attempt, metrics, errors, 0.01))
                delivered += 1
            ledger.end_session("finished")
            return tally
        finally:
            ledger.close()

    def points(self) -> list[dict[str, Any]]:
        with Ledger.open(self.folder / self.study.name / LEDGER, readonly=True) as ledger:
            return [dict(entry.config) for entry in distinct(ledger, ledger.plans()[-1])]

    def certificate(self) -> str:
        found = verify(self.folder / self.study.name)
        assert found.ok, found
        return found.certificate


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsga2"])
def test_a_search_killed_anywhere_suggests_and_finds_what_an_undisturbed_one_does(sampler: str, tmp_path: Path):
    made = study(search={"sampler": sampler})
    whole = Driver(tmp_path / "whole", made, slots=1)
    whole.work()
    for order, cuts in enumerate([(1,), (0, 3), (2, 2, 1)], 1):
        killed = Driver(tmp_path / f"killed{order}", made, slots=3, order=order)
        for cut in cuts:
            with pytest.raises(KilledError):
                killed.work(lambda delivered, cut=cut: delivered >= cut)
        killed.work()
        assert killed.points() == whole.points()
        assert killed.certificate() == whole.certificate()
        with Ledger.open(tmp_path / f"killed{order}" / "valley" / LEDGER, readonly=True) as ledger:
            assert ledger.counts()["trials"] == 60
    assert max(whole.calls.values()) == 1


def test_without_waiting_for_each_other_batches_still_run_every_point_once_through_kills(tmp_path: Path):
    driver = Driver(tmp_path, study(search={"deterministic": False}), slots=3, order=7)
    for cut in (1, 4, 2):
        with pytest.raises(KilledError):
            driver.work(lambda delivered, cut=cut: delivered >= cut)
    tally = driver.work()
    assert tally.known + tally.done == 60
    assert len({str(p) for p in driver.points()}) == 60
    driver.certificate()


def test_more_trials_go_on_where_fewer_ended_and_are_what_asking_for_all_had_been(tmp_path: Path):
    grown = Driver(tmp_path / "grown", study(search={"trials": 22}))  # not a whole number of batches
    grown.work()
    first = grown.points()
    grown.study = study(search={"trials": 60})
    with siblings(tmp_path / "grown", header_of(Search(grown.study), Search(grown.study).prepare())) as found:
        assert count_known(Search(grown.study), found[0].ledger.header, found).here == 22  # a longer search has what the shorter one has
    tally = grown.work()
    assert (tally.known, tally.done) == (22, 38)
    assert grown.points()[:22] == first
    whole = Driver(tmp_path / "whole", study())
    whole.work()
    assert grown.points() == whole.points()
    grown.certificate()
    assert max(grown.calls.values()) == 1


def test_an_option_that_is_left_at_its_default_is_no_part_of_what_a_search_is():
    plain, said = (
        study(search={"batch": None, "deterministic": False}),
        study(search={"batch": None, "deterministic": False, "warm_start": []}),
    )
    spec = Search(plain).plan_spec
    assert spec == Search(said).plan_spec and not {"batch", "deterministic", "startup", "enqueue", "warm_start", "replicates"} & set(spec)


def test_a_finite_space_is_worked_off_without_repeating_and_ends(tmp_path: Path):
    space = {"x": [-1, 0, 1, 2], "k": [1, 5, 9], "mode": {"choice": ["plain", "tilted"]}}
    driver = Driver(tmp_path, study(space=space, search={"trials": 1000, "sampler": "tpe"}))
    assert driver.work().done == 24
    assert max(driver.calls.values()) == 1
    for sampler in ("cmaes", "nsga2"):
        other = Driver(tmp_path / sampler, study(space=space, search={"trials": 20, "sampler": sampler}))
        assert other.work().done == 20 and max(other.calls.values()) == 1


def test_failures_count_as_trials_and_are_tried_again_only_when_asked(tmp_path: Path):
    driver = Driver(tmp_path, study(space={**SPACE, "x": {"uniform": [4, 5]}}))
    tally = driver.work()
    assert tally.done == 60 and 0 < tally.failed < 40
    with Ledger.open(tmp_path / "valley" / LEDGER) as ledger:
        ledger.begin_session({})
        again = len(ledger.reopen_failed())
        ledger.end_session("finished")
    before = driver.points()
    assert driver.work().done == again
    assert driver.points() == before


def test_points_to_be_tried_first_come_first_and_complete(tmp_path: Path):
    best = {"x": 1.0, "y": -2.0, "rate": 0.01, "mode": "tilted", "tilt": 0.5}
    driver = Driver(tmp_path, study(search={"enqueue": [best], "trials": 30}))
    driver.work()
    assert driver.points()[0] == best
    with pytest.raises(StudyError, match=r"search.enqueue\[0\].*not a point of the space; tlit: not in the space"):
        Search(study(search={"enqueue": [{**best, "tlit": 1}]})).check()
    with pytest.raises(StudyError, match=r"search.enqueue\[0\].*not a point of the space; it lacks y, rate, mode, tilt"):
        Search(study(search={"enqueue": [{"x": 1.0}]})).check()
    with pytest.raises(StudyError, match=r"search.enqueue\[0\].*not a point of the space; tilt: not there with the others' values"):
        Search(study(search={"enqueue": [{**best, "mode": "plain"}]})).check()
    with pytest.raises(StudyError, match=r"search.enqueue\[0\].*not a point of the space; x is -5"):
        Search(study(search={"enqueue": [{**best, "x": 7}]})).check()
    with pytest.raises(StudyError, match=r"search.enqueue: random does not learn from results"):
        Search(study(search={"sampler": "random", "enqueue": [best], "batch": None, "deterministic": False})).check()


def test_another_studys_results_are_learnt_from_once_and_kept(tmp_path: Path):
    earlier = Driver(tmp_path, study(name="before"))
    failed = earlier.work().failed
    cold = Driver(tmp_path / "cold", study(search={"trials": 16}))
    cold.work()
    warm = Driver(tmp_path, study(search={"trials": 16, "warm_start": ["before"]}))
    warm.work()

    def median(driver: Driver) -> float:
        with Ledger.open(driver.folder / "valley" / LEDGER, readonly=True) as ledger:
            return float(ledger.frame()["score"].median())

    assert median(warm) > median(cold)
    (tmp_path / "before").rename(tmp_path / "gone")
    warm.study = study(search={"trials": 24, "warm_start": ["before"]})
    assert warm.work().done == 8  # what it learnt is its own by now
    with Ledger.open(tmp_path / "valley" / LEDGER, readonly=True) as ledger:
        [learnt] = ledger.events(LEARNT)
        assert len(learnt["detail"]["points"]) == 60 - failed
    with pytest.raises(StudyError, match=r"search.warm_start: before: "):
        Driver(tmp_path / "cold", study(name="other", search={"warm_start": ["before"]})).work()


def test_a_study_learns_from_what_it_found_by_another_sampler(tmp_path: Path):
    coarse = {"x": [-4, -2, 0, 2, 4], "y": [-4, -2, 0, 2, 4], "rate": [0.01], "mode": "plain"}
    made = study(space=coarse, search={"sampler": "tpe", "trials": 20})
    Driver(tmp_path, made).work()
    driver = Driver(tmp_path, study())
    driver.work()
    with Ledger.open(tmp_path / "valley" / LEDGER, readonly=True) as ledger:
        assert len(ledger.events(LEARNT)[0]["detail"]["points"]) == 20
        assert ledger.counts()["trials"] == 80
    driver.certificate()


def test_two_objectives_are_searched_for_together(tmp_path: Path):
    driver = Driver(
        tmp_path, study(objective=["score", "cost"], constraints=["size <= 4"], search={"sampler": "nsga2", "trials": 200, "batch": 25})
    )
    driver.work()
    with Ledger.open(tmp_path / "valley" / LEDGER, readonly=True) as ledger:
        assert ledger.header.objective == "score"
        frame = ledger.frame().sort_values("trial").dropna(subset=["score"])
    early, late = frame.iloc[:50], frame.iloc[-50:]
    assert late["cost"].median() < early["cost"].median() and late["score"].median() > early["score"].median()
    assert (late["size"] <= 4).mean() > (early["size"] <= 4).mean()
    with pytest.raises(StudyError, match="give a metric's name, or a list of different ones"):
        study(objective=["score", "score"])
    with pytest.raises(StudyError, match="'size': more of it is neither better nor worse"):
        Search(study(objective=["score", "size"])).check()


def test_how_far_a_search_is_and_what_it_was_can_be_read_without_running_it(tmp_path: Path):
    driver = Driver(tmp_path, study())
    with pytest.raises(KilledError):
        driver.work(lambda delivered: delivered >= 5)
    [then] = asked(tmp_path / "valley")
    assert 0 < then.known < then.points == 60
    assert then.words().startswith("plan 1: tpe, 60 trials")
    assert unfinished(tmp_path / "valley").startswith(f"{then.known} of 60 have a result")
    left = verify(tmp_path / "valley")
    assert left.incomplete and left.points == 60 and left.missing == 60 - then.known
    driver.work()
    assert unfinished(tmp_path / "valley") == "" and verify(tmp_path / "valley").ok
    [then] = asked(tmp_path / "valley")
    assert then.known == then.points == 60


def test_each_search_of_a_study_is_read_back_with_its_own_options(tmp_path: Path):
    grid = study(space={"x": [-1, 0, 1]}, search={"sampler": "grid", "trials": None, "batch": None, "deterministic": False})
    learns = study(search={"trials": 8, "batch": 4, "startup": 3})
    replicated = study(space={"x": {"uniform": [-5, 4]}}, search={"trials": 8, "batch": 4, "replicates": {"k": [1, 2]}})
    for i, first in enumerate((grid, learns)):
        for each in (first, replicated, learns, grid):
            search, home = Search(each), tmp_path / str(i)
            home.mkdir(exist_ok=True)
            path = home / LEDGER
            with Ledger.open(path) if path.exists() else Ledger.create(path, header_of(search, search.prepare())) as ledger:
                ledger.add_plan(search.space.to_dict(), search.plan_spec, search.sampler.size)
                found = {then.search.sampler + str(len(then.search.replicates)): then.search for _, then in searches(ledger)}
        assert found == {"grid0": grid.search, "tpe0": learns.search, "tpe1": replicated.search}


def test_nothing_is_handed_out_that_is_not_in_the_ledger(tmp_path: Path):
    driver = Driver(tmp_path, study())
    with pytest.raises(KilledError):
        driver.work(lambda delivered: delivered >= 0)
    with Ledger.open(tmp_path / "valley" / LEDGER, readonly=True) as ledger:
        [event] = ledger.events(SUGGESTED)
        assert len(event["detail"]["points"]) == 8 and ledger.counts()["trials"] == 0


@pytest.mark.slow
@pytest.mark.ray
def test_on_ray_a_killed_search_ends_with_the_suggestions_of_an_undisturbed_one(tmp_path: Path):
    file = tmp_path / "valley.yaml"
    file.write_text(
        "name: valley\ntrainable: toy_search:Valley\nseed: 4\nspace:\n  x: {uniform: [-5, 5]}\n  y: {uniform: [-5, 5]}\n"
        "search: {sampler: tpe, trials: 48, batch: 8, deterministic: true}\n"
    )
    whole = run(Study.load(file), tmp_path / "whole", here=60.0)
    assert whole.tally.done == 48
    command = [sys.executable, "-m", "sweeps.cli", "run", str(file), "--dir", str(tmp_path / "killed")]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    place = tmp_path / "killed" / "valley" / LEDGER
    while driver.poll() is None:
        time.sleep(0.05)
        if place.exists():
            with Ledger.open(place, readonly=True) as ledger:
                if ledger.counts()["trials"] >= 8:
                    break
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    again = run(Study.load(file), tmp_path / "killed", slots=2)
    assert again.tally.known >= 8 and again.tally.known + again.tally.done == 48
    assert verify(place.parent).certificate == verify(tmp_path / "whole" / "valley").certificate


@pytest.mark.slow
@pytest.mark.ray
def test_trials_that_report_are_suggested_stopped_early_and_learnt_from(tmp_path: Path):
    walk = Study.parse(
        {
            "name": "walks",
            "trainable": "toy_steps:Walk",
            "space": {"goal": {"uniform": [-1, 1]}, "paces": [8], "trouble": "none"},
            "search": {"sampler": "tpe", "trials": 24, "startup": 6},
            "scheduler": {"kind": "asha", "grace": 2, "factor": 2},
        }
    )
    result = run(walk, tmp_path)
    assert result.tally.done == 24 and result.tally.stopped > 4
    assert verify(tmp_path / "walks").ok
    with Ledger.open(tmp_path / "walks" / LEDGER, readonly=True) as ledger:
        goals = [entry.config["goal"] for entry in distinct(ledger, ledger.plans()[-1])]
        assert len(ledger.events(SUGGESTED)) >= 12  # one at a time as slots fall free
    assert np.mean(goals[12:]) > np.mean(goals[:12])
    again = run(walk, tmp_path)
    assert again.tally.done == 0 and again.tally.known == 24


def test_replicates_are_run_for_each_suggestion_and_judged_together(tmp_path: Path):
    # k changes nothing here but by a tenth of its distance from 5, alike for all points: it stands for a seed.
    made = study(search={"replicates": {"k": [4, 5, 6]}, "trials": 60, "batch": 4})
    driver = Driver(tmp_path, made)
    with pytest.raises(KilledError):
        driver.work(lambda delivered: delivered >= 3)
    assert driver.work().known < 60
    points = driver.points()
    assert len(points) == 60 and max(driver.calls.values()) == 1
    for i in range(0, 60, 3):
        assert [p["k"] for p in points[i : i + 3]] == [4, 5, 6]
        assert len({str({k: v for k, v in p.items() if k != "k"}) for p in points[i : i + 3]}) == 1
    driver.certificate()
    whole = Driver(tmp_path / "whole", made, slots=1)
    whole.work()
    assert whole.points() == points
    for wrong, told in (
        ({"x": [1, 2]}, "search.replicates.x: given in `space` too"),
        ({"k": [1]}, "search.replicates.k: give two different values"),
        ({"k": [1, 1000]}, "1000 is not allowed"),
        ({"kk": [1, 2]}, "kk: valley has no such parameter|no such parameter"),
    ):
        with pytest.raises(ValueError, match=told):
            Search(study(search={"replicates": wrong})).check()
    with pytest.raises(StudyError, match=r"search\.replicates: random does not learn"):
        Search(study(search={"sampler": "random", "batch": None, "deterministic": False, "replicates": {"k": [1, 2]}})).check()


def test_a_finite_space_worked_off_by_chance_is_resumed_to_the_same_points(tmp_path: Path):
    space = {"x": [-2, -1, 0, 1, 2, 3], "k": [1, 5, 9, 20, 50], "mode": {"choice": ["plain", "tilted"]}}
    made = study(space=space, search={"trials": 54, "batch": 4})
    whole = Driver(tmp_path / "whole", made, slots=1)
    whole.work()
    killed = Driver(tmp_path / "killed", made, slots=1)
    for _ in range(6):
        with pytest.raises(KilledError):
            killed.work(lambda delivered: delivered >= 2)
    killed.work()
    assert killed.points() == whole.points()

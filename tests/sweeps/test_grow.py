"""Studies that grow: what is new runs, what is known does not, and neither is taken on trust."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cluster.session import ray_session
from results import Ledger
from sweeps import Study, run
from sweeps.growing import extended, forked, outlook, write_study
from sweeps.runner import LEDGER, verify
from sweeps.study import StudyError

pytestmark = pytest.mark.ray
Command = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def one_ray_for_all(toys: Path) -> Iterator[None]:
    with ray_session(None, 2):
        yield


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """A folder with the study `grid` that has run: x from 0 to 9."""
    keys = {"name": "grid", "trainable": "tests.sweeps.toy:Toy", "data": {"size": 100}, "space": {"x": list(range(10))}, "seed": 3}
    assert run(Study.parse(keys), tmp_path, here=60.0).tally.done == 10
    return tmp_path


def evaluated(home: Path) -> tuple[int, int, int]:
    """Results, results delivered by all attempts but those that took them over, and searches."""
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        attempts = ledger.tables.attempts
        own = sa.select(sa.func.sum(attempts.c.delivered).label("n")).where(sa.not_(attempts.c.worker.startswith("reused")))
        return ledger.counts()["trials"], int(ledger.rows(own)[0]["n"] or 0), len(ledger.plans())


def values(*numbers: int) -> str:
    return f"[{', '.join(map(str, range(*numbers)))}]"


@pytest.mark.slow
def test_a_grid_extended_three_times_in_ways_that_overlap_evaluates_each_point_once(command: Command, grid: Path) -> None:
    steps = [
        (("--set", f"space.x={values(15)}"), 15, 10, 15),
        # y = 0 is the default, so ten of these are points of the search before.
        (("--set", f"x={values(5, 20)}", "--set", "space.y=[0.0, 1.0]"), 30, 10, 35),
        (("--set", f"space.x={values(0, 22)}", "--set", "space.y=[1.0]"), 22, 15, 42),
    ]
    for n, (options, points, known, total) in enumerate(steps):
        before = evaluated(grid / "grid")
        told = f"grid: {points} points: {known} have a result, {points - known} will run.\n"
        dry = command("extend", "grid", *options, "--dry-run", "--dir", grid)
        assert (dry.code, dry.out, evaluated(grid / "grid")) == (0, told, before)
        done = command("extend", "grid", *options, "--slots", 2, "--dir", grid)
        assert done.code == 0 and done.out.startswith(told), done.out + done.err
        assert f"\n{points - known} configurations (" in done.out and f"({known} had a result already)" in done.out
        assert evaluated(grid / "grid") == (total, total, n + 2)
        found = verify(grid / "grid")
        assert found.ok and found.points == total and found.duplicated == 0, found
    again = command("extend", "grid", "--dir", grid)
    assert "grid: 22 points: 22 have a result, 0 will run.\n" in again.out and "Nothing to do: all 22 points" in again.out


def test_a_search_cut_short_goes_on_without_a_study_file_or_a_change(command: Command, runs: Path) -> None:
    assert command("extend", "toy", "--trials", 4, "--dir", runs).code == 0
    done = command("extend", "toy", "--set", "search.trials=null", "--set", "space.x=[0, 6]", "--dir", runs)
    assert done.out.startswith("toy: 4 points: 2 have a result, 2 will run.\n") and evaluated(runs / "toy") == (14, 14, 3)
    assert verify(runs / "toy").ok, "also where the trainable is somebody else's"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("seed=4", "seed: it was 3, it would be 4, and results made under both cannot stand in one table"),
        ("data.bars=9", 'data: it was {}, it would be {"bars": 9}'),
        ("settings.profile=x", "settings: it was {}"),
        ("protocol.folds=2", "protocol: it was {}"),
        ("trainable=selector", 'trainable: it was "alphasweep_toys:Parabola", it would be "selector"'),
        ("objective=cost", 'objective: it was null, it would be "cost", and a study keeps what it began with'),
        ("name=other", 'name: it was "toy", it would be "other"'),
    ],
)
def test_what_would_alter_the_context_is_refused_with_the_way_to_a_fork(command: Command, runs: Path, setting: str, told: str) -> None:
    before = evaluated(runs / "toy")
    done = command("extend", "toy", "--set", setting, "--dir", runs)
    assert done.code == 2 and told in done.err
    assert f"alphasweep fork toy NEW --set {setting.partition('=')[0].partition('.')[0]}=" in done.err
    assert evaluated(runs / "toy") == before


def test_a_setting_or_study_that_is_not_there_is_a_user_error(command: Command, runs: Path) -> None:
    done = command("extend", "toyy", "--dir", runs)
    assert (done.code, "Did you mean 'toy'?" in done.err) == (2, True)
    done = command("extend", "toy", "--set", "space.z=[1]", "--dir", runs)
    assert done.code == 2 and "z" in done.err and evaluated(runs / "toy")[2] == 1
    done = command("fork", "toy", "toy", "--dir", runs)
    assert done.code == 2 and "alphasweep extend toy adds to the study itself" in done.err


def test_a_fork_takes_over_what_still_holds_and_says_how_much(command: Command, grid: Path) -> None:
    options = ("--set", f"space.x={values(7, 13)}", "--set", "objective=cost", "--set", "constraints=['score > 0']")
    dry = command("fork", "grid", "cheap", *options, "--dry-run", "--dir", grid)
    assert dry.out == "cheap: 6 points: 3 have a result that is taken over, 3 will run.\n" and not (grid / "cheap").exists()
    done = command("fork", "grid", "cheap", *options, "--slots", 2, "--dir", grid)
    assert done.code == 0 and "\n  taken over   3 results: 3 from grid\n" in done.out and "by cost" in done.out, done.out + done.err
    assert evaluated(grid / "cheap") == (6, 3, 1) and verify(grid / "cheap").ok
    with Ledger.open(grid / "cheap" / LEDGER, readonly=True) as ledger:
        assert ledger.frame().set_index("x")["source"].notna().to_dict() == {x: x < 10 for x in range(7, 13)}
        assert [event["detail"] for event in ledger.events("forked_from")] == [{"source": "grid"}]
    assert "Nothing to do: all 6 points" in command("fork", "grid", "cheap", *options, "--dir", grid).out
    other = command("fork", "grid", "cheap", "--dir", grid)
    assert other.code == 2 and "(a fork of grid). Choose another name; alphasweep extend cheap adds to the one there is" in other.err


def test_a_fork_with_other_data_takes_over_nothing(command: Command, grid: Path) -> None:
    done = command("fork", "grid", "larger", "--set", "data.size=200", "--slots", 2, "--dir", grid)
    assert done.code == 0 and done.out.startswith("larger: its data differ from grid's, so no result of that one can be taken over.\n")
    assert "\n  taken over   no result of grid\n" in done.out
    assert evaluated(grid / "larger") == (10, 10, 1)
    with Ledger.open(grid / "larger" / LEDGER, readonly=True) as ledger:
        assert ledger.frame()["source"].isna().all()


def test_the_file_of_a_fork_is_the_study_it_would_be(command: Command, grid: Path, tmp_path: Path) -> None:
    file = tmp_path / "wide.yaml"
    done = command("fork", "grid", "wide", "--set", "space.x=[1, 30]", "--to", file, "--dir", grid)
    assert (done.code, not (grid / "wide").exists()) == (0, True)
    made = Study.load(file)
    assert made == forked(grid / "grid", "wide", ["space.x=[1, 30]"]) and made.data == {"size": 100} and made.seed == 3
    again = command("fork", "grid", "wide", "--to", file, "--dir", grid)
    assert again.code == 2 and "there is such a file" in again.err
    tricky = made.model_copy(update={"space": {"y": {"loguniform": [1e-05, 1.0]}, "mode": {"choice": ["1e-4", "12:30", "on", "no", "é"]}}})
    write_study(tricky, tmp_path / "tricky.yaml")
    assert Study.load(tmp_path / "tricky.yaml") == tricky


def test_single_failures_are_tried_again_and_others_left_alone(command: Command, runs: Path) -> None:
    with Ledger.open(runs / "toy" / LEDGER, readonly=True) as ledger:
        first, second = (row["trial"] for row in ledger.failures())
        attempt = ledger.trial(second)["attempt"]
    dry = command("retry", "toy", first, "--dry-run", "--dir", runs)
    assert dry.out == f"toy: 1 failed trial to be evaluated again ({first}).\n"
    done = command("retry", "toy", first, "--slots", 2, "--dir", runs)
    assert done.code == 0 and re.search(r"^1 configuration \(1 pack\)", done.out, re.M), done.out + done.err
    assert f"alphasweep retry toy --dir {runs} --failed tries them again" in done.out
    with Ledger.open(runs / "toy" / LEDGER, readonly=True) as ledger:
        assert [event["trial"] for event in ledger.events("reopened")] == [first]
        assert ledger.trial(second)["attempt"] == attempt
    assert command("retry", "toy", "--failed", "--slots", 2, "--dir", runs).code == 0
    with Ledger.open(runs / "toy" / LEDGER, readonly=True) as ledger:
        assert [event["trial"] for event in ledger.events("reopened")] == [first, first, second]
    assert verify(runs / "toy").ok


def test_only_failures_can_be_tried_again(command: Command, runs: Path) -> None:
    assert "trial 0 of toy: it was completed; only what failed is evaluated again" in command("retry", "toy", 0, "--dir", runs).err
    assert "no trial 99" in command("retry", "toy", 99, "--dir", runs).err
    assert command("retry", "toy", "--dir", runs).code == command("retry", "toy", 6, "--failed", "--dir", runs).code == 2


def test_a_failure_of_an_earlier_search_is_tried_again_in_that_search(command: Command, runs: Path) -> None:
    assert command("extend", "toy", "--set", "space.x=[7]", "--slots", 1, "--dir", runs).code == 0
    done = command("retry", "toy", "--failed", "--slots", 1, "--dir", runs)
    assert "2 failed trials to be evaluated again" in done.out and evaluated(runs / "toy") == (14, 16, 2)
    assert verify(runs / "toy").ok


def test_an_extension_that_learns_goes_on_with_its_search(command: Command, tmp_path: Path) -> None:
    keys = {"name": "learn", "trainable": "tests.sweeps.toy:Toy", "space": {"x": {"int": [0, 1000]}}, "seed": 3}
    run(Study.parse(keys | {"search": {"sampler": "tpe", "trials": 6}}), tmp_path, here=60.0)
    with Ledger.open(tmp_path / "learn" / LEDGER, readonly=True) as ledger:
        before = set(ledger.frame()["x"])
    made = extended(tmp_path / "learn", ["search.trials=9"])
    found = outlook(tmp_path / "learn", made)
    assert (found.points, found.known, found.left, found.learns) == (9, 6, 3, True)
    done = command("extend", "learn", "--trials", 9, "--slots", 1, "--dir", tmp_path)
    assert done.code == 0 and done.out.startswith("learn: 9 points to suggest in all: 6 have a result, 3 will run.\n"), done.out + done.err
    with Ledger.open(tmp_path / "learn" / LEDGER, readonly=True) as ledger:
        assert before < set(ledger.frame()["x"]) and ledger.counts()["trials"] == 9
    assert verify(tmp_path / "learn").ok
    with pytest.raises(StudyError, match="scheduler: it was"):
        extended(tmp_path / "learn", ["scheduler.kind=median"])

"""Joint searches of all stages' parameters: each distinct prefix runs once, whoever asks, whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cluster.cache.outputs import DiskOutputs
from results import Ledger, ResultRow
from sweeps import Study, run
from sweeps.commands.cache import output_lines
from sweeps.feed import Point
from sweeps.prefixes import ByPrefix
from sweeps.promote import promote
from sweeps.runner import LEDGER, verify
from sweeps.walk.forward import Walk, walk_forward
from tests.cluster.cache.built import wait_for
from tests.sweeps.toy_pipeline import PREFIXES, Toy, runs, spec


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALPHASWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(folder: Path, name: str = "joint", **settings: object) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(spec(folder / "count", name, **settings)))
    return file


def start(file: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sweeps.cli", "run", str(file), "--dir", str(folder), "--slots", "2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def errors(home: Path) -> dict[int, str]:
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        return {row["trial"]: row["error"] for row in ledger.failures(1000)}


def at_work(count: Path) -> set[str]:
    return {name for name, n in runs(count, "begun").items() if n > runs(count)[name]}


@pytest.mark.parametrize("here", [60.0, pytest.param(0.0, marks=[pytest.mark.slow, pytest.mark.ray])])
def test_64_configurations_of_four_stages_run_86_prefixes_and_not_256_stages(tmp_path: Path, here: float) -> None:
    study = Study.parse(spec(tmp_path / "count", seconds=0.0 if here else 0.02))
    made = run(study, tmp_path / "runs", slots=2, here=here)
    assert made.tally.done == 64 and not made.tally.failed and verify(made.folder).ok
    assert runs(tmp_path / "count") == dict.fromkeys(PREFIXES, 1) and len(PREFIXES) == 2 + 4 + 16 + 64
    assert made.outputs.used == made.outputs.built == {"toy_pipeline.a": 2, "toy_pipeline.b": 4, "toy_pipeline.c": 16}
    assert len(DiskOutputs().builds()) == 22
    best = made.leaderboard(1)
    assert [best[name].iloc[0] for name in ("a_x", "b_x", "c_x", "d_x")] == [1, 1, 3, 3]
    assert best["score"].iloc[0] == pytest.approx(1 + 0.1 + 0.03 + 0.003)


@pytest.mark.slow
@pytest.mark.ray
def test_a_driver_killed_in_the_middle_of_a_stage_resumes_and_only_what_was_cut_short_runs_again(tmp_path: Path) -> None:
    count, file = tmp_path / "count", written(tmp_path, seconds=0.3)
    driver = start(file, tmp_path / "runs")
    wait_for(lambda: driver.poll() is not None or (sum(runs(count).values()) > 4 and at_work(count)), 120)
    os.kill(driver.pid, signal.SIGKILL)
    assert driver.wait(60) == -signal.SIGKILL, "it ended before it was killed: give it more to do"
    cut, seen = at_work(count), None
    # Workers live on for a moment, in which one may end a stage and begin another.
    while seen != (seen := (runs(count, "begun"), runs(count))):
        time.sleep(2.0)
    cut |= at_work(count)
    made = run(Study.load(file), tmp_path / "runs", slots=2)
    assert verify(made.folder).ok and not made.tally.failed
    begun, done = runs(count, "begun"), runs(count)
    stages = {name for name in PREFIXES if not name.startswith("d")}
    assert {name: done[name] for name in stages} == dict.fromkeys(stages, 1)
    again = {name for name in stages if begun[name] > 1}
    assert cut and again <= cut and all(begun[name] == 2 for name in again)
    # The last stage has no output: a pack in flight is evaluated again, as of any trainable.
    assert set(done) == PREFIXES and max(done.values()) <= 2
    assert sorted(one.stage for one in DiskOutputs().builds()) == sorted(f"toy_pipeline.{name[0]}" for name in stages)


@pytest.mark.slow
@pytest.mark.ray
def test_two_studies_at_once_share_every_stage_but_the_last(tmp_path: Path) -> None:
    drivers = [start(written(tmp_path, name, seconds=0.2), tmp_path / name) for name in ("one", "two")]
    assert [driver.wait(300) for driver in drivers] == [0, 0]
    done = runs(tmp_path / "count")
    assert set(done) == PREFIXES
    assert all(n == (2 if name.startswith("d") else 1) for name, n in done.items()), done
    assert all(verify(tmp_path / name / name).ok for name in ("one", "two"))


@pytest.mark.slow
@pytest.mark.ray
def test_a_stage_that_kills_its_worker_is_tried_twice_and_fails_those_that_share_it(tmp_path: Path) -> None:
    study = Study.parse(spec(tmp_path / "count", die_at=["b", 1]))
    made = run(study, tmp_path / "runs", slots=2)
    assert (made.tally.done, made.tally.failed) == (64, 32)
    begun = runs(tmp_path / "count", "begun")
    assert begun["b_0_1"] == begun["b_1_1"] == 2 and begun["b_0_0"] == begun["b_1_0"] == 1
    assert any("killed its worker twice" in text for text in errors(made.folder).values())


@pytest.mark.slow
@pytest.mark.ray
def test_workers_remember_what_failed_elsewhere(tmp_path: Path) -> None:
    made = run(Study.parse(spec(tmp_path / "count", raise_at=["a", 1], seconds=0.05)), tmp_path / "runs", slots=2)
    assert (made.tally.done, made.tally.failed) == (64, 32)
    assert runs(tmp_path / "count", "begun")["a_1"] == 1
    assert set(errors(made.folder).values()) == {"StageError: stage a: ZeroDivisionError: the thirteenth floor"}


def test_a_stage_that_raises_fails_those_that_share_its_prefix_and_runs_once(tmp_path: Path) -> None:
    count = tmp_path / "count"
    study = Study.parse(spec(count, raise_at=["b", 1]))
    made = run(study, tmp_path / "runs", here=60.0)
    assert (made.tally.done, made.tally.failed) == (64, 32)
    assert set(errors(made.folder).values()) == {"StageError: stage b: ZeroDivisionError: the thirteenth floor"}
    begun = runs(count, "begun")
    assert begun["b_0_1"] == begun["b_1_1"] == 1 and not any(name.startswith(("c_0_1", "c_1_1")) for name in begun)
    assert not list((tmp_path / "cache" / ".sessions").iterdir())
    # What failed is remembered within a session only; what was built, for good.
    mended = Study.parse(spec(count))
    again = run(mended, tmp_path / "runs", here=60.0, fresh=True)
    assert (again.tally.done, again.tally.failed) == (64, 0)
    assert {name: n for name, n in runs(count).items() if name[0] != "d"} == {name: 1 for name in PREFIXES if name[0] != "d"}


def test_a_search_that_learns_takes_a_pipeline_as_any_trainable(tmp_path: Path) -> None:
    study = Study.parse(spec(tmp_path / "count") | {"search": {"sampler": "tpe", "trials": 24}})
    made = run(study, tmp_path / "runs", here=60.0)
    assert made.tally.done == 24 and verify(made.folder).ok
    assert all(n == 1 for name, n in runs(tmp_path / "count").items())


def test_another_study_of_the_same_data_finds_the_stages_and_one_of_other_data_does_not(tmp_path: Path) -> None:
    count = tmp_path / "count"
    run(Study.parse(spec(count, "one")), tmp_path / "runs", here=60.0)
    made = run(Study.parse(spec(count, "two", rule=0) | {"space": {"d_x": [7]}}), tmp_path / "runs", here=60.0)
    assert made.outputs.used == {"toy_pipeline.a": 1, "toy_pipeline.b": 1, "toy_pipeline.c": 1} and not made.outputs.built
    for changed in ({"data": {"rows": 2}}, {"seed": 5}, {"settings": {"folder": str(count), "rule": 1}}):
        other = run(Study.parse(spec(count, "three") | {"space": {"d_x": [7]}} | changed), tmp_path / "runs", here=60.0, fresh=True)
        assert sum(other.outputs.built.values()) == 3, changed


def test_outputs_are_made_beforehand_listed_shown_and_removed(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps.cli import main

    monkeypatch.setenv("COLUMNS", "160")
    file = written(tmp_path)

    def said(*args: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main([str(arg) for arg in args])
        return " ".join(capsys.readouterr().out.split())

    line = "Stages: 22 outputs (a 2, b 4, c 16) for 64 configurations, 192 without sharing; 0 found (0 ms saved), 22 built in"
    assert line in said("cache", "warm", file)
    assert "22 found" in said("cache", "warm", file) and set(runs(tmp_path / "count").values()) == {1}
    listed = said("cache", "ls")
    assert "0 tables and 22 outputs" in listed and "toy_pipeline.c, 16 of it" in listed
    key = next(path for path in (cache / "outputs").iterdir() if path.is_dir()).name
    assert key[:8] in said("cache", "ls", "--each") and "every file is as it was written" in said("cache", "show", key[:12])
    assert "Removed 0 tables, 0 B; 22 left" in said("cache", "gc", "--older", "1h")
    assert "Removed 0 tables and 22 outputs" in said("cache", "gc", "--all")


def test_stages_for_the_holdout_and_for_the_windows_of_a_walk_are_kept_and_found(tmp_path: Path) -> None:
    def study(name: str) -> Study:
        wanted = {"trainable": "tests.sweeps.toy_pipeline:Dated", "space": {"a_x": [0, 1]}, "protocol": {"folds": 1, "holdout": "20%"}}
        return Study.parse(spec(tmp_path / "count", name) | wanted)

    def kept() -> int:
        return len(DiskOutputs().builds())

    made = run(study("one"), tmp_path / "runs", here=60.0)
    before = kept()
    promote(made.folder)
    assert kept() == before + 3, "a, b and c of the winner, with what is before the holdout in sight"
    promote(made.folder, again=True)
    assert kept() == before + 3
    before, walk = kept(), Walk(windows=2, train="30d", test="20d")
    done = walk_forward(study("two"), walk, tmp_path / "runs")
    assert len(done.windows) == 2
    stages = kept() - before
    assert stages > 2 * 6, "those of two searches, and those of the windows tested"
    walk_forward(study("three"), walk, tmp_path / "runs")
    assert kept() == before + stages
    made_by = runs(tmp_path / "count")
    assert sum(n for name, n in made_by.items() if name[0] != "d") == kept(), "nothing was built that was not kept"


@pytest.mark.parametrize("name", ["file", "x" * 300])
def test_a_cache_of_no_use_ends_no_study_and_a_pipeline_says_that_its_outputs_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ALPHASWEEP_CACHE", str(tmp_path / name))
    made = run(Study.parse(spec(tmp_path / "count")), tmp_path / "runs", here=60.0)
    assert (made.tally.done, made.tally.failed) == (64, 0)
    assert [line.plain for line in output_lines(made.outputs, 64) if "outputs are not kept" in line.plain]
    data = {"source": "sample", "bars": 480, "symbols": ["BTCUSD"]}
    plain = Study.parse({"name": "plain", "trainable": "selector", "data": data, "space": {"min_edge": [0.0, 0.001]}})
    alone = run(plain, tmp_path / "runs", here=60.0)
    assert (alone.tally.done, alone.tally.failed) == (2, 0) and not alone.outputs.notes


def test_a_probe_takes_outputs_that_are_there_and_keeps_none(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps.cli import main

    def planned(file: Path) -> str:
        with pytest.raises(SystemExit):
            main(["plan", str(file), "--probe", "--dir", str(tmp_path / "runs")])
        return capsys.readouterr().out

    def stages() -> dict[str, int]:
        return {name: n for name, n in runs(tmp_path / "count").items() if name[0] != "d"}

    monkeypatch.setenv("COLUMNS", "160")
    assert "probe of" in planned(written(tmp_path)) and stages()["a_0"] == 1 and not (cache / "outputs").exists()
    ran = written(tmp_path, "ran", rule=7)  # whose outputs are others
    run(Study.load(ran), tmp_path / "elsewhere", here=60.0)
    before = stages()
    assert "probe of" in planned(ran) and stages() == before


class Points:
    """Points known beforehand."""

    settled = True

    def __init__(self, points: list[Point]):
        self.points, self.heard = list(points), 0

    @property
    def drained(self) -> bool:
        return not self.points

    def take(self, n: int) -> list[Point]:
        taken, self.points = self.points[:n], self.points[n:]
        return taken

    def put_back(self, points: list[Point]) -> None:
        raise AssertionError

    def task(self, point: Point) -> int:
        return point.index

    def told(self, row: ResultRow, step: int | None = None) -> None:
        self.heard += 1


def test_packs_are_of_one_prefix_and_side_by_side_of_different_ones() -> None:
    # The stage that comes first varies fastest: in this order each pack would need every output.
    configs = [{"a_x": a, "b_x": 0, "c_x": c, "d_x": d} for d in range(4) for c in range(2) for a in range(3)]
    inner = Points([Point(i, config, bytes([i])) for i, config in enumerate(configs)])
    backlog = ByPrefix(inner, Toy().prefixes)

    def take(n: int) -> list[Point]:
        return backlog.take(n)

    def tell(points: list[Point]) -> None:
        for p in points:
            backlog.told(ResultRow(p.index, p.config_id, p.config, "completed", [0.0], 0.0, None))

    def of(points: list[Point]) -> set[tuple[int, int]]:
        return {(p.config["a_x"], p.config["c_x"]) for p in points}

    first = take(1)
    backlog.put_back(first)
    one, two = take(4), take(2)
    assert of(one) == {(0, 0)} and of(two) == {(1, 0)}
    three = take(1)
    assert of(three) == {(2, 0)}, "nobody is at it"
    tell(one)
    assert of(take(2)) == {(0, 1)}, "its a and b are there, its c nobody makes; a pack of another prefix would wait"
    tell(two)
    rest = []
    while not backlog.drained:
        rest.append(take(3))
        assert rest[-1]
    assert inner.heard == 6 and len({p.index for pack in rest for p in pack}) == sum(map(len, rest))

"""Two studies at once, each in its lane: the same results as alone, and what kills one does not reach the other."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.lanes import Lane, LaneError, enter, folder, held, holders, visible_cards, visible_cores
from results import Ledger
from sweeps.commands.lanes import lanes_of
from sweeps.home import LEDGER
from sweeps.lanes.driver import CHANNEL, Channel, channel
from sweeps.lanes.several import Driver, Job, run_several
from sweeps.study import Study

TWO = pytest.mark.skipif(len(visible_cores()) < 2, reason="lanes with cores of their own need two cores")
MODULE = """
import os, time
import pandas as pd
from results.metrics import Metric
from trainables.contract import Evaluation, Parameter, Prepared


class Where:
    name, version, objective = "where", "1", "x"
    parameters = (Parameter("x", 0.0, "float", 0, 1e9),)
    metrics = tuple(Metric(name, "max") for name in ("x", "core", "cores", "card", "cards"))

    def prepare(self, data, settings, protocol=None, part="search"):
        self.pause = data.get("pause", 0.0)
        return Prepared(self.pause, "f00d", {}, {"x": 0.0}, ())

    def evaluate_pack(self, configs, ctx):
        time.sleep(ctx.inputs * len(configs))
        cores, cards = sorted(os.sched_getaffinity(0)), [int(c) for c in os.environ.get("CUDA_VISIBLE_DEVICES", "-9").split(",") if c]
        row = {"core": cores[0], "cores": len(cores), "card": max(cards, default=-1), "cards": len(cards)}
        return Evaluation(pd.DataFrame([{"x": c["x"], **row} for c in configs]))
"""


def study(folder: Path, name: str, points: int, pause: float = 0.0) -> None:
    (folder / "alphasweep_where.py").write_text(MODULE)
    values = ", ".join(map(str, range(points)))
    text = f"name: {name}\ntrainable: alphasweep_where:Where\ndata: {{pause: {pause}}}\nspace: {{x: [{values}]}}\n"
    (folder / f"{name}.yaml").write_text(text)


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    call = [sys.executable, "-m", "sweeps.cli", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), str(folder)]), "COLUMNS": "120"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    return subprocess.Popen(call, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def rows(folder: Path, name: str) -> list[dict[str, object]]:
    with Ledger.open(folder / "runs" / name / LEDGER, readonly=True) as ledger:
        return ledger.frame().drop(columns=["attempt", "seconds", "error", "source"]).to_dict("records")


@pytest.mark.slow
@TWO
@pytest.mark.ray
def test_workers_see_the_cores_and_cards_of_their_lane_only_and_results_are_those_of_a_run_alone(tmp_path: Path) -> None:
    study(tmp_path, "left", 6)
    study(tmp_path, "right", 5)
    a, b = visible_cores()[:2]
    (tmp_path / "host.yaml").write_text(
        f"logical_cards: 4\nlanes:\n  one: {{cores: {a}, cards: [1, 3]}}\n  two: {{cores: {b}}}\nstudies: {{left: one}}\n"
    )
    both = command(tmp_path, "run", "left.yaml", "right.yaml@two")
    said, _ = both.communicate(timeout=120)
    assert both.returncode == 0, said
    assert f"left  in lane one: core {a}, cards 1,3" in said and "── right (finished) ──" in said
    seen = {name: {(r["core"], r["cores"], r["card"], r["cards"]) for r in rows(tmp_path, name)} for name in ("left", "right")}
    assert seen == {"left": {(a, 1, 3, 2)}, "right": {(b, 1, -1, 0)}}

    verified = command(tmp_path, "verify", "left").communicate()[0]
    alone = command(tmp_path, "run", "left.yaml@one", "--dir", "alone")
    assert alone.communicate(timeout=120) and alone.returncode == 0
    again = command(tmp_path, "verify", "left", "--dir", "alone").communicate()[0]
    certificate = [line for line in verified.splitlines() if "certificate" in line]
    assert certificate and certificate == [line for line in again.splitlines() if "certificate" in line]


@TWO
@pytest.mark.ray
@pytest.mark.slow
def test_killing_one_driver_leaves_the_other_untouched_and_the_same_command_goes_on(tmp_path: Path) -> None:
    study(tmp_path, "left", 40, pause=0.25)
    study(tmp_path, "right", 12, pause=0.25)
    both = command(tmp_path, "run", "left.yaml", "right.yaml")
    ledger = tmp_path / "runs" / "left" / LEDGER
    end = time.monotonic() + 90
    while time.monotonic() < end and not (ledger.exists() and done(ledger) > 2):
        time.sleep(0.2)
    pid = json.loads(ledger.with_name(f"{LEDGER}.lock").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    said, _ = both.communicate(timeout=120)
    assert both.returncode == 1 and "left (killed by signal 9)" in said and "right (finished)" in said, said
    assert [row["x"] for row in rows(tmp_path, "right")] == list(range(12))

    again = command(tmp_path, "run", "left.yaml", "right.yaml")
    said, _ = again.communicate(timeout=120)
    assert again.returncode == 0 and "Nothing to do: all 12 points have a result." in said, said
    assert [row["x"] for row in rows(tmp_path, "left")] == list(range(40))


@TWO
@pytest.mark.ray
@pytest.mark.slow
def test_one_interruption_stops_all_after_the_packs_in_flight(tmp_path: Path) -> None:
    study(tmp_path, "left", 400, pause=0.1)
    study(tmp_path, "right", 400, pause=0.1)
    both = command(tmp_path, "run", "left.yaml", "right.yaml")
    ledgers = [tmp_path / "runs" / name / LEDGER for name in ("left", "right")]
    end = time.monotonic() + 90
    while time.monotonic() < end and not all(path.exists() and done(path) > 2 for path in ledgers):
        time.sleep(0.2)
    both.send_signal(signal.SIGINT)
    said, _ = both.communicate(timeout=60)
    assert both.returncode == 130 and said.count("Stopped. Nothing is lost; the same command goes on:") == 2, said
    assert all(2 < done(path) < 400 for path in ledgers)


def done(ledger: Path) -> int:
    try:
        with Ledger.open(ledger, readonly=True) as opened:
            return opened.counts()["completed"]
    except ValueError:
        return 0


def test_the_same_study_twice_is_refused_before_anything_runs(tmp_path: Path) -> None:
    study(tmp_path, "left", 2)
    both = command(tmp_path, "run", "left.yaml", "left.yaml")
    said, _ = both.communicate(timeout=60)
    assert both.returncode == 2 and "left is given twice" in said
    assert not (tmp_path / "runs").exists()


def test_a_lane_is_for_one_study_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lane = Lane("card0", visible_cores()[:1], (1, 3))
    with held(lane, "first"):
        with pytest.raises(LaneError, match=rf"lane card0 is taken by first \(process {os.getpid()}\)"), held(lane, "second"):
            pass
        found = holders(0.1)
        assert [(h.lane, h.study, h.pid, h.cards) for h in found] == [("card0", "first", os.getpid(), "1,3")]
    assert holders(0.0) == []
    with held(lane, "second"):
        pass


def test_a_lane_is_the_same_whatever_the_login_and_whoever_only_looks_takes_it_from_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lane = Lane("card0", visible_cores()[:1])
    with held(lane, "first"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "another"))
        with pytest.raises(LaneError, match="taken by first"), held(lane, "second"):
            pass
    looking = os.open(folder() / "card0.json", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.1, os.close, [looking]).start()
    with held(lane, "second"):
        pass


def test_nobody_else_can_have_a_lane_written_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    theirs, precious = tmp_path / "theirs", tmp_path / "precious"
    theirs.mkdir()
    precious.write_text("keep")
    (tmp_path / f"alphasweep-{os.getuid()}").symlink_to(theirs)
    with pytest.raises(LaneError, match="belongs to somebody else"), held(Lane("card0", (0,)), "mine"):
        pass
    (tmp_path / f"alphasweep-{os.getuid()}").unlink()
    (folder() / "card0.json").symlink_to(precious)
    with pytest.raises(OSError, match=r"card0\.json"), held(Lane("card0", (0,)), "mine"):
        pass
    assert precious.read_text() == "keep"


def test_a_lane_keeps_how_cards_and_memory_were_spoken_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    assert visible_cards() == (0, 1)
    made = Lane("half", (0,), (1,), 0.5).environment()
    assert made["CUDA_VISIBLE_DEVICES"] == "GPU-b" and "CUDA_DEVICE_ORDER" not in made
    assert made["PYTORCH_ALLOC_CONF"] == "expandable_segments:True,per_process_memory_fraction:0.5"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert visible_cards() == (2, 5) and Lane("one", (0,), (5,)).environment()["CUDA_VISIBLE_DEVICES"] == "5"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert Lane("one", (0,), (5,)).environment()["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_a_driver_that_waits_for_its_lane_ends_in_words_when_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lane = Lane("card0", visible_cores()[:1])
    seen: list[Driver] = []

    def interrupt(drivers: Sequence[Driver]) -> None:
        seen[:] = drivers
        if drivers[0].state == "waiting for lane card0":
            raise BrokenPipeError  # as where output goes to a pipe nobody reads any more

    with held(lane, "other"), pytest.raises(BrokenPipeError):
        run_several(lambda begun: [] if begun else [Job("left", lane, ("ls",))], interrupt)
    process = seen[0]._process
    assert process is not None and process.wait(30) == 130
    assert "Traceback" not in seen[0].output() and "Stopped before it began." in seen[0].output()


def test_a_signal_that_comes_while_drivers_are_started_reaches_them_and_starts_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lane = Lane("card0", visible_cores()[:1])
    start = Driver.start

    def interrupted(self: Driver, width: int, colour: bool) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return start(self, width, colour)

    monkeypatch.setattr(Driver, "start", interrupted)
    with held(lane, "other"):
        ended = run_several(lambda begun: [Job("left", lane, ("ls",)), Job("right", lane, ("ls",))])
    assert [driver.job.study for driver in ended] == ["left"] and ended[0].code != 0


def test_progress_is_for_the_driver_only_and_a_listener_that_sleeps_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    listening, telling = os.pipe()
    os.set_inheritable(telling, True)
    monkeypatch.setenv(CHANNEL, str(telling))
    assert channel() == telling and CHANNEL not in os.environ and not os.get_inheritable(telling)
    assert channel() is None
    told = Channel(telling, "sortino")
    for _ in range(3000):  # more than a pipe holds
        told.tell("running", line="x" * 100)
    assert os.read(listening, 1 << 20).count(b"\n") < 3000
    told.tell("ending")
    assert b'"ending"' in os.read(listening, 1 << 20)
    os.close(listening)
    told.tell("ending")
    os.close(telling)


def test_several_studies_started_inside_a_lane_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHASWEEP_LANE", "outer")
    studies = [Study.load("selector_grid", [f"name={name}"]) for name in ("left", "right")]
    made = lanes_of(["selector_grid", "selector_grid"], studies, None)
    assert all(lane is not None and set(lane.cores) <= set(visible_cores()) for lane in made)
    assert lanes_of(["selector_grid"], studies[:1], None) == [None]


def test_a_lane_of_cores_that_are_not_there_is_refused() -> None:
    with pytest.raises(LaneError, match="lane far: this process may not use core 5000"):
        enter(Lane("far", (5000,)))

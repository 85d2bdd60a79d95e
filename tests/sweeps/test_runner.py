from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cluster.packs import WorkerError
from cluster.session import ray_session
from results import Ledger, LedgerError
from sweeps import Study, run
from sweeps.runner import LEDGER
from sweeps.study import StudyError

pytestmark = pytest.mark.ray
HERE = 60.0  # seconds: where the point is not who evaluates, no workers are started


@pytest.fixture(scope="module", autouse=True)
def one_ray_for_all():
    with ray_session(None, 2) as cpus:
        yield cpus


def toy(**changes: Any) -> Study:
    keys = {"name": "toy", "trainable": "tests.sweeps.toy:Toy", "space": {"x": list(range(40))}, "seed": 3}
    return Study.parse(keys | changes)


def scores(folder: Path, name: str = "toy") -> pd.DataFrame:
    with Ledger.open(folder / name / LEDGER, readonly=True) as ledger:
        return ledger.frame().sort_values("trial").reset_index(drop=True)


def test_a_study_runs_to_its_end_and_is_verified(tmp_path: Path) -> None:
    seen = []
    result = run(toy(), tmp_path, slots=2, on_progress=lambda t: seen.append(t.done))
    assert result.tally.done == 40 and not result.stopped and (seen[0], seen[-1]) == (0, 40)
    frame = scores(tmp_path)
    np.testing.assert_allclose(frame["score"], np.sin(np.arange(40) * 12.9898) * np.linspace(0, 1, 1000).sum(), rtol=1e-12)
    assert result.verify().ok
    best = result.leaderboard(3)
    assert best["score"].is_monotonic_decreasing and best["score"].iloc[0] == frame["score"].max()
    assert not (tmp_path / "toy" / "tune").exists()


def test_a_second_run_evaluates_nothing_and_an_extended_one_only_what_is_new(tmp_path: Path) -> None:
    run(toy(), tmp_path, here=HERE)
    again = run(toy(), tmp_path, slots=2)
    assert again.tally.done == 0 and again.tally.known == 40
    wider = run(toy(space={"x": list(range(50)), "y": [0.0, 1.0]}), tmp_path, slots=2)
    assert wider.tally.known == 40 and wider.tally.done == 60  # y = 0 is the default, so half of the old points are in it
    assert wider.verify().ok


def test_another_study_of_the_same_conditions_shares_results(tmp_path: Path) -> None:
    run(toy(), tmp_path, here=HERE)
    other = run(toy(name="other", space={"x": list(range(30, 60))}), tmp_path, here=HERE)
    assert other.tally.known == 10 and other.tally.done == 20
    assert other.verify().ok
    reseeded = run(toy(name="reseeded", seed=4), tmp_path, here=HERE)
    assert reseeded.tally.done == 40


def test_fresh_sets_results_aside_and_evaluates_all_again(tmp_path: Path) -> None:
    run(toy(), tmp_path, here=HERE)
    again = run(toy(), tmp_path, here=HERE, fresh=True)
    assert again.tally.done == 40
    assert (tmp_path / ".aside" / "toy.1" / LEDGER).exists()


def test_other_data_or_rules_are_refused_in_the_same_ledger(tmp_path: Path) -> None:
    run(toy(), tmp_path, here=HERE)
    with pytest.raises(LedgerError, match=r"data_fingerprint was toy-1000, is toy-9.*--set name=toy_2.*--fresh"):
        run(toy(data={"size": 9}), tmp_path, here=HERE)
    assert len(scores(tmp_path)) == 40


def test_a_configuration_that_raises_costs_only_itself(tmp_path: Path) -> None:
    result = run(toy(settings={"raise_at": 13}), tmp_path, slots=2)
    assert result.tally.done == 40 and result.tally.failed == 1
    frame = scores(tmp_path)
    assert frame.loc[frame["status"] == "failed", "x"].tolist() == [13]
    assert "ZeroDivisionError: the thirteenth floor" in frame.loc[13, "error"]
    again = run(toy(settings={"raise_at": 13}), tmp_path, slots=2)
    assert again.tally.done == 0 and again.failed == 1  # a failure is a result, not a hole, and is not forgotten
    assert run(toy(settings={"raise_at": 13}), tmp_path, slots=2, retry_failed=True).tally.done == 1


@pytest.mark.slow
def test_a_configuration_that_kills_its_worker_costs_only_itself(tmp_path: Path) -> None:
    result = run(toy(settings={"die_at": 17}), tmp_path, slots=2)
    frame = scores(tmp_path)
    assert frame.loc[frame["status"] == "failed", "x"].tolist() == [17]
    assert (frame["status"] == "completed").sum() == 39 and result.tally.failed == 1


def test_pack_sizes_do_not_change_results(tmp_path: Path) -> None:
    run(toy(), tmp_path / "a", here=HERE)
    run(toy(settings={"seconds_each": 0.02}), tmp_path / "b", slots=2)
    a, b = scores(tmp_path / "a"), scores(tmp_path / "b")
    np.testing.assert_array_equal(a[["score", "cost"]], b[["score", "cost"]])


@pytest.mark.slow
def test_ctrl_c_stops_after_the_packs_in_flight_and_the_next_run_goes_on(tmp_path: Path) -> None:
    study = toy(space={"x": list(range(2000))}, settings={"seconds_each": 0.002})
    assert threading.current_thread() is threading.main_thread()

    def interrupt(tally: Any) -> None:
        if tally.packs == 2:
            os.kill(os.getpid(), signal.SIGINT)

    first = run(study, tmp_path, slots=2, on_progress=interrupt)
    assert first.stopped and 0 < first.tally.done < 2000
    with Ledger.open(tmp_path / "toy" / LEDGER, readonly=True) as ledger:
        assert ledger.sessions()[-1]["reason"] == "stopped"
    second = run(study, tmp_path, slots=2)
    assert second.tally.known == first.tally.done and second.tally.known + second.tally.done == 2000
    assert second.verify().ok


@pytest.mark.slow
def test_samplers_run_and_resume(tmp_path: Path) -> None:
    space = {"x": {"int": [0, 10**6]}, "y": {"uniform": [0.0, 1.0]}}
    for sampler in ("random", "qmc"):
        half = toy(name=sampler, space=space, search={"sampler": sampler, "trials": 64})
        full = toy(name=sampler, space=space, search={"sampler": sampler, "trials": 128})
        assert run(half, tmp_path, slots=2).tally.done == 64
        more = run(full, tmp_path, slots=2)
        assert more.tally.known == 64 and more.tally.done == 64  # more of the same sequence, not another one
        assert more.verify().ok


def test_wrong_studies_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    for changes, message in (
        ({"space": {"z": [1]}}, "z"),
        ({"space": {"y": {"uniform": [0, 1e10]}}, "search": {"sampler": "random", "trials": 5}}, "1e\\+09|1e9"),
        ({"trainable": "selector", "space": {"lag": [1, 0]}}, "lag"),
        ({"space": {"x": [1], "y": {"derived": "x * 1e10"}}}, r"1e\+10|10000000000"),
        ({"space": {"x": {"int": [0, 10**9]}, "y": {"uniform": [0, 1], "points": 10**4}, "z": [1]}}, "z"),
        ({"trainable": "os:abort"}, "lacks"),
        ({"fixed": {"x": 1}}, "given in both"),
        ({"objective": "scroe"}, "Did you mean 'score'"),
        ({"search": {"sampler": "gird"}}, "grid"),
    ):
        with pytest.raises(ValueError, match=message):
            run(toy(**changes), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fresh_never_takes_a_ledger_from_under_its_writer(tmp_path: Path) -> None:
    run(toy(), tmp_path, here=HERE)
    with Ledger.open(tmp_path / "toy" / LEDGER), pytest.raises(LedgerError, match="is being written by"):
        run(toy(), tmp_path, fresh=True)
    with pytest.raises(ValueError):
        run(toy(data={"size": "many"}), tmp_path, fresh=True)  # what cannot run sets nothing aside
    assert len(scores(tmp_path)) == 40 and not (tmp_path / ".aside").exists()


def test_workers_that_cannot_start_end_the_run_with_the_cause(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"workers cannot start: .*only here"):
        run(toy(settings={"unpicklable": True}), tmp_path, slots=2)
    with Ledger.open(tmp_path / "toy" / LEDGER, readonly=True) as ledger:
        assert ledger.counts()["completed"] == ledger.counts()["failed"] == 0
        assert ledger.sessions()[-1]["reason"] == "failed"


def test_another_objective_ranks_by_it(tmp_path: Path) -> None:
    run(toy(), tmp_path, here=HERE)
    other = run(toy(objective="cost"), tmp_path, here=HERE)
    assert other.tally.best == 0.0 and other.leaderboard(1)["cost"].item() == 0.0
    assert other.prepared.warnings[0].startswith("objective: score when the study was created, cost now; this run ranks by cost")


@pytest.mark.slow
def test_a_study_whose_results_were_reused_can_go_away(tmp_path: Path) -> None:
    run(toy(name="source", space={"x": list(range(5000))}), tmp_path, slots=2)

    def gone(prepared: Any, tally: Any) -> None:
        shutil.move(tmp_path / "source", tmp_path / "elsewhere")

    other = run(toy(space={"x": list(range(5000))}), tmp_path, slots=2, on_prepared=gone)
    assert other.tally.known + other.tally.done == 5000 and other.tally.done > 0 and other.verify().ok


@pytest.mark.slow
def test_the_driver_keeps_a_flat_memory(tmp_path: Path) -> None:
    import gc
    import tracemalloc

    peaks = []

    def watch(tally: Any) -> None:
        if tally.done > 10_000:
            peaks.append(tracemalloc.get_traced_memory()[0])

    gc.collect()
    tracemalloc.start()
    try:
        run(toy(space={"x": {"int": [0, 59_999]}}), tmp_path, slots=2, on_progress=watch)
    finally:
        tracemalloc.stop()
    assert peaks[-1] < peaks[0] + 20e6  # a result held back would cost kilobytes each


def test_an_unreadable_study_folder_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(StudyError):
        Study.load(tmp_path / "missing.yaml")

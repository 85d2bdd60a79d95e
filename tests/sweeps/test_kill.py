"""kill -9 of the driver at random moments: nothing lost, nothing twice, and the same results as without."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from results import Ledger
from sweeps import Study, run
from sweeps.runner import LEDGER, verify

STUDY = ("selector_wide", "--set", "data.bars=26280")  # three years, so that work lasts


def start(folder: Path, points: int, *study: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sweeps.cli", "run", *(study or STUDY), "--trials", str(points), "--dir", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def done(folder: Path, name: str = "selector_wide") -> int:
    path = folder / name / LEDGER
    if not path.exists():
        return 0
    try:
        with Ledger.open(path, readonly=True) as ledger:
            return ledger.counts()["completed"]
    except ValueError:
        return 0  # killed while the file was being made


def results(folder: Path, points: int, name: str = "selector_wide") -> tuple[str, pd.DataFrame]:
    home = folder / name
    found = verify(home)
    assert found.ok and found.points == points and found.missing == found.duplicated == found.corrupt == 0, found
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        frame = ledger.frame().sort_values("trial").reset_index(drop=True)
    return found.certificate, frame.drop(columns=["attempt", "seconds", "error", "source"], errors="ignore")


def same(killed: tuple[str, pd.DataFrame], whole: tuple[str, pd.DataFrame]) -> None:
    assert killed[0] == whole[0]
    pd.testing.assert_frame_equal(killed[1], whole[1])


@pytest.mark.ray
def test_a_study_killed_at_work_resumes_to_the_results_of_an_undisturbed_one(tmp_path: Path) -> None:
    keys = {"name": "toy", "trainable": "tests.sweeps.toy:Toy", "settings": {"seconds_each": 0.005}, "space": {"x": {"int": [0, 599]}}}
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(keys))
    driver = start(tmp_path / "killed", 600, str(file))
    while not done(tmp_path / "killed", "toy") and driver.poll() is None:
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL, "it ended before it was killed: give it more to do"
    before = done(tmp_path / "killed", "toy")
    assert 0 < before < 600
    study = Study.load(file, ["search.trials=600"])
    rest = run(study, tmp_path / "killed", slots=2)
    assert (rest.tally.known, rest.tally.done) == (before, 600 - before)
    run(study, tmp_path / "whole", here=60.0)
    same(results(tmp_path / "killed", 600, "toy"), results(tmp_path / "whole", 600, "toy"))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(("kills", "points"), [(2, 4_000), (20, 20_000)])
def test_the_selector_killed_again_and_again_has_the_results_of_an_undisturbed_run(kills: int, points: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(kills)
    progress = []
    for i in range(kills):
        driver = start(tmp_path / "killed", points)
        if i % 4:  # most die at work
            before = progress[-1] if progress else 0
            while done(tmp_path / "killed") == before and driver.poll() is None:
                time.sleep(0.1)
            time.sleep(rng.uniform(0.0, 2.0))
        else:  # some while they start
            time.sleep(rng.uniform(0.5, 10.0))
        os.kill(driver.pid, signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL, "it ended before it was killed: give it more to do"
        progress.append(done(tmp_path / "killed"))
    assert start(tmp_path / "killed", points).wait() == 0
    assert progress == sorted(progress) and 0 < progress[-1] < points, progress
    assert start(tmp_path / "whole", points).wait() == 0
    same(results(tmp_path / "killed", points), results(tmp_path / "whole", points))

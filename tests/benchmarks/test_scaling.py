"""The measurements of scaling: what they are made of, and that each runs at a tiny size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.clocks import OTHER, Clocks, between
from benchmarks.simulated import REPORTS, curve, rows, study
from benchmarks.throughput import Packs, spread
from sweeps import Study
from sweeps.search import Search

ROOT = Path(__file__).parents[2]


def measured(tmp_path: Path, script: str, *arguments: str) -> Any:
    place = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments, "--dir", str(tmp_path), "--json", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(place.read_text())


@pytest.mark.parametrize("script", ["lanes.py", "scaling.py"])
def test_each_script_explains_itself(script: str) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "benchmarks" / script), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--" in done.stdout


def test_speed_counts_from_when_every_worker_has_delivered_and_ends_with_the_last_pack() -> None:
    packs = Packs((10.0, 11.0, 13.0, 15.0), (16, 16, 300, 100))
    assert packs.rate() == 416 / 5.0
    assert packs.rate(at_once=2) == 400 / 4.0


def test_the_overlap_is_the_share_of_a_studys_time_in_which_the_other_was_busy() -> None:
    early, late = Packs((0.0, 10.0), (1, 1)), Packs((5.0, 9.0), (1, 1))
    assert (early.overlap(late), late.overlap(early)) == (0.4, 1.0)
    assert early.overlap(Packs((20.0, 30.0), (1, 1))) == 0.0


def test_several_ratios_are_told_with_their_spread() -> None:
    assert spread([0.9, 1.1, 1.0]) == "median 1.000 of 3 (from 0.900 to 1.100)"


def test_time_of_a_nested_part_is_not_counted_for_the_part_around_it() -> None:
    clocks = Clocks()
    inner = clocks.around("inner", lambda: time.sleep(0.5))
    before = clocks.reading()
    clocks.around("outer", lambda: (time.sleep(0.05), inner()))()
    found = between(before, clocks.reading())
    assert list(found) == ["inner", "outer", OTHER]
    assert found["inner"][0] >= 0.5 and 0.05 <= found["outer"][0] < 0.5
    assert found["inner"][1] < 0.25  # asleep, not computing


@pytest.mark.parametrize("kind", ["grid", "random", "asha"])
def test_simulated_studies_are_valid_and_larger_than_any_run(kind: str) -> None:
    search = Search(Study.model_validate(study(kind, 0.001)))
    search.check()
    assert search.sampler.size >= 1_000_000
    assert rows(range(5), None).shape == (5, len(Search(Study.model_validate(study("grid", 0.001))).trainable.metrics))
    assert [report.step for report in curve(3, reached=2)] == list(range(3, REPORTS + 1))


@pytest.mark.ray
@pytest.mark.slow
def test_simulated_workers_give_what_as_many_real_ones_would(tmp_path: Path) -> None:
    # 20 ms a configuration and 200 ms a report are far from the limit of the driver.
    packs = measured(
        tmp_path, "scaling.py", "workers", "--kinds", "random", "--workers", "3", "--real", "2", "--seconds", "3", "--ms", "20"
    )
    three, real, two = packs
    assert (three["workers"], real["real"], two["real"]) == (3, True, False)
    assert 0.5 < real["rate"] / two["rate"] < 1.5
    trials = measured(tmp_path, "scaling.py", "workers", "--kinds", "asha", "--workers", "3", "--real", "0", "--seconds", "3")
    for found in [*packs, *trials]:
        assert 0.3 < found["offered"] <= 1.2 and found["cpu_per_event"] > 0
        assert 0.95 < sum(found["shares"].values()) < 1.05


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two cores are needed")
def test_lanes_and_cores_are_measured_at_a_tiny_size(tmp_path: Path) -> None:
    small = ["--pairs", "1", "--trials", "400", "--bars", "480"]
    [pair] = measured(tmp_path, "lanes.py", *small)
    assert set(pair["rate"]) == {"a", "b"} and all(ratio > 0 for ratio in pair["rate"].values()) and 0.0 <= pair["overlap"] <= 1.0
    [pair] = measured(tmp_path, "scaling.py", "cores", *small)
    assert pair["rate"] > 0 and set(pair["runs"]) == {"1", "2"}

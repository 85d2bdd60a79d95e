"""What a process may use of the processors beside a run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import quotas
from sweeps.tracking.budget import Budget, used

CORES = len(os.sched_getaffinity(0))
BURN = "import time\nwhile time.process_time() < {}: pass\nprint(flush=True)\ninput()"


def burn(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_what_is_saved_up_grows_with_time_and_what_is_used_has_to_be_saved_up_again() -> None:
    budget = Budget(0.05 / CORES)  # a twentieth of a second a second
    budget.restart()
    assert not budget.allows(0.05)
    until = time.monotonic() + 30
    while not budget.allows(0.05):
        assert time.monotonic() < until
        time.sleep(0.05)
    burn(0.5)
    time.sleep(0.2)  # what it looked at may be a moment old
    assert not budget.allows()
    budget.restart()
    while not budget.allows(0.05):  # what was used before is forgotten
        assert time.monotonic() < until
        time.sleep(0.05)


def test_nothing_is_allowed_before_it_is_saved_up_and_a_share_of_nothing_is_no_bound() -> None:
    assert not Budget(1e-6).allows(0.1)
    assert Budget(0.0).allows(1e9)


def test_what_is_allowed_to_one_is_not_allowed_to_another_as_well() -> None:
    budget = Budget(0.1 / CORES)
    budget.restart()
    until = time.monotonic() + 60
    while not budget.allows(0.05):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not budget.allows(0.05)


def test_a_containers_quota_bounds_what_the_share_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "cpus", lambda: CORES / 1000)
    budget = Budget(1.0)
    budget.restart()
    time.sleep(0.1)
    assert not budget.allows(0.1)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not say who started whom")
def test_what_was_started_counts_while_it_runs_and_after_it_has_ended() -> None:
    before = used()
    with subprocess.Popen([sys.executable, "-c", BURN.format(0.5)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline()
        running = used() - before
        assert running >= 0.4
        child.communicate(b"\n")
    assert used() - before >= 0.4

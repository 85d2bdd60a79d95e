"""Limits of control groups, read from folders that look like /proc and /sys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster import lanes, quotas
from cluster.doctor import examine
from cluster.lanes import Lane, allowed_cores, visible_cores
from cluster.quotas import Memory

GIB = 1 << 30


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")
    return root


def first(root: Path, cpu: str = "150000 100000") -> Path:
    """Version 2, seen from inside a container."""
    return machine(
        root,
        "0::/",
        {
            "sys/fs/cgroup/cpu.max": cpu,
            "sys/fs/cgroup/memory.max": str(3 * GIB),
            "sys/fs/cgroup/memory.current": str(2 * GIB),
            "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {GIB}",
        },
    )


def test_the_limits_of_version_2_inside_a_container(tmp_path: Path) -> None:
    root = first(tmp_path)
    assert quotas.cpus(root) == 1.5 and quotas.workers(64, root) == 2 and quotas.workers(1, root) == 1
    assert quotas.memory(root) == Memory(3 * GIB, GIB)


def test_the_limits_of_version_1_where_the_path_is_that_of_the_machine_outside(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc",
        {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(GIB),
            "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB // 2),
            "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {GIB // 4}",
        },
    )
    assert quotas.cpus(root) == 0.5 and quotas.workers(8, root) == 1
    assert quotas.memory(root) == Memory(GIB, GIB // 4)


def test_the_tightest_limit_of_all_groups_a_process_is_in_counts(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        "0::/user.slice/job.scope",
        {
            "sys/fs/cgroup/user.slice/job.scope/cpu.max": "max 100000",
            "sys/fs/cgroup/user.slice/cpu.max": "400000 100000",
            "sys/fs/cgroup/user.slice/job.scope/memory.max": str(8 * GIB),
            "sys/fs/cgroup/user.slice/memory.max": str(4 * GIB),
            "sys/fs/cgroup/other.slice/cpu.max": "100000 100000",
        },
    )
    assert quotas.cpus(root) == 4.0 and quotas.memory(root) == Memory(4 * GIB, 0)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/memory.max": "max"},
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"},
        {"sys/fs/cgroup/cpu.max": "nonsense"},
    ],
)
def test_without_a_limit_there_is_none(files: dict[str, str], tmp_path: Path) -> None:
    root = machine(tmp_path, "4:cpu:/\n3:memory:/\n0::/", files)
    assert quotas.cpus(root) is None and quotas.memory(root) is None and quotas.workers(64, root) == 64
    assert quotas.workers(64, tmp_path / "nothing") == 64


def test_a_quota_makes_fewer_workers_and_leaves_lanes_their_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 6, 7})
    monkeypatch.setattr(quotas, "cpus", lambda root=quotas.ROOT: 1.5)
    assert allowed_cores() == (2, 3, 6, 7) and len(visible_cores()) == 2
    assert Lane("far", (6, 7)).environment()["OMP_NUM_THREADS"] == "2"
    assert Lane("wide", (2, 3, 6, 7)).environment()["OMP_NUM_THREADS"] == "2", "threads beyond the quota only wait"
    entered: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, cores: entered.append(cores))
    monkeypatch.setenv(lanes.NAME, "far")
    lanes.enter(Lane("far", (6, 7)))
    assert set(entered) == {(6, 7)}, "cores beyond the number of workers are as allowed as the first"


def test_the_doctor_says_what_a_container_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    found = {each.what: each for each in examine(tmp_path, root=first(tmp_path / "two"))}
    assert found["cores"].state == "ok" and found["cores"].found.endswith("a quota of the time of 1.5 (cgroup): 2 workers at once")
    assert found["memory"].found.endswith("of 3.0 GiB free, the limit of a cgroup") and found["memory"].state == "warning"
    little = {each.what: each for each in examine(tmp_path, root=first(tmp_path / "half", "50000 100000"))}
    assert little["cores"].state == "warning" and "1 worker at once" in little["cores"].found and "--cpus" in little["cores"].todo
    plain = {each.what: each for each in examine(tmp_path, root=tmp_path / "nothing")}
    assert "quota" not in plain["cores"].found and "cgroup" not in plain["memory"].found

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from contextlib import nullcontext

import numpy as np
import pytest

from cluster.packs import PackError, PackResult, PackTask, isolate, run_packs
from cluster.session import ClusterError, ray_session


def test_one_bad_point_costs_only_itself_and_few_calls() -> None:
    calls = []

    def evaluate(points):
        calls.append(len(points))
        if 700 in points:
            raise ValueError("bad point")
        return np.array([[float(p), 2.0 * p] for p in points])

    metrics, errors = isolate(evaluate, list(range(1000)), 2)
    assert errors == {700: "ValueError: bad point"}
    good = np.delete(np.arange(1000), 700)
    np.testing.assert_array_equal(metrics[good], np.c_[good, 2 * good])
    assert np.isnan(metrics[700]).all()
    assert len(calls) <= 2 * np.log2(1000) + 2


def test_every_point_may_fail() -> None:
    def evaluate(points):
        raise RuntimeError("no")

    metrics, errors = isolate(evaluate, [5, 6, 7], 1)
    assert np.isnan(metrics).all()
    assert sorted(errors) == [0, 1, 2]


def test_a_pack_whose_rows_belong_to_nobody_fails_as_a_whole_at_once() -> None:
    calls = []

    def evaluate(points):
        calls.append(len(points))
        raise PackError("one row for all")

    metrics, errors = isolate(evaluate, [5, 6, 7], 2)
    assert np.isnan(metrics).all() and metrics.shape == (3, 2)
    assert errors == dict.fromkeys(range(3), "PackError: one row for all") and calls == [3]


class ListFeed:
    """Hands out fixed packs and keeps what comes back."""

    def __init__(self, packs, ahead=False):
        self.ahead = ahead
        self.todo = [PackTask(i, tuple(points)) for i, points in enumerate(packs)]
        self.flying: set[int] = set()
        self.results: dict[int, PackResult] = {}
        self.lost: list[int] = []

    def next(self):
        if not self.todo:
            return None
        task = self.todo.pop(0)
        self.flying.add(task.attempt)
        return task

    @property
    def exhausted(self):
        return not self.todo and not self.flying

    def deliver(self, result):
        self.flying.remove(result.attempt)
        self.results[result.attempt] = result

    def crashed(self, attempt, error):
        self.flying.remove(attempt)
        self.lost.append(attempt)


def evaluate(points, inputs):
    if 66 in points:
        os._exit(1)
    inputs["table"].flags.writeable and exit("shared arrays are read-only")
    return np.array([[inputs["table"][p], os.getpid()] for p in points], dtype=float)


class Diary(ListFeed):
    """Notes in which order packs are handed out and come back."""

    def __init__(self, packs, ahead):
        super().__init__(packs, ahead)
        self.noted: list[tuple[str, int]] = []

    def next(self):
        task = super().next()
        if task is not None:
            self.noted.append(("out", task.attempt))
        return task

    def deliver(self, result):
        self.noted.append(("in", result.attempt))
        super().deliver(result)


def each(points, inputs):
    if 66 in points:
        os._exit(1)
    return np.array([[p] for p in points], dtype=float)


class Ending(Diary):
    """Is asked to stop, or fails, when so many packs have been delivered."""

    def __init__(self, packs, end, fails):
        super().__init__(packs, True)
        self.end, self.fails = end, fails

    @property
    def stopping(self):
        return len(self.results) >= self.end

    def next(self):
        return None if self.stopping else super().next()

    @property
    def exhausted(self):
        return self.stopping or super().exhausted

    def deliver(self, result):
        super().deliver(result)
        if self.fails and len(self.results) == self.end:
            raise OSError("the disk is full")


@pytest.mark.ray
@pytest.mark.parametrize("fails", [False, True])
def test_whatever_ends_a_run_every_pack_that_was_handed_out_is_delivered(ray_cpus, tmp_path, fails: bool) -> None:
    feed = Ending([[i, i + 100] for i in range(12)], 5, fails)
    with pytest.raises(OSError, match="full") if fails else nullcontext():
        run_packs(feed, each, None, 1, slots=2, scratch=tmp_path, name=f"ending-{fails}")
    out = {attempt for what, attempt in feed.noted if what == "out"}
    assert 5 <= len(out) <= 9 and set(feed.results) == out and not feed.flying
    assert all(result.metrics[:, 0].tolist() == [i, i + 100] for i, result in feed.results.items())


@pytest.mark.parametrize("numbers", [(), (7,), (3, 1, 2), tuple(range(5, 70_000)), (0, 2**40)])
def test_numbers_travel_in_few_bytes_that_hold_no_message_in_the_object_store(numbers: tuple[int, ...]) -> None:
    from cluster._tune import _compact, _expand

    beside: list[pickle.PickleBuffer] = []
    sent = pickle.dumps(_compact(numbers), protocol=5, buffer_callback=beside.append)
    assert _expand(pickle.loads(sent)) == list(numbers) and not beside
    assert len(sent) < 300 + 4 * len(numbers) and len(repr(_compact(numbers))) < 60


@pytest.mark.ray
@pytest.mark.parametrize("ahead", [True, False])
def test_where_the_feed_allows_it_a_worker_has_its_next_pack_before_the_last_is_written(ray_cpus, tmp_path, ahead: bool) -> None:
    feed = Diary([[1, 2], [3], [66], [4, 7, 5], [6]], ahead)
    run_packs(feed, each, None, 1, slots=1, scratch=tmp_path, name=f"diary-{ahead}")
    assert {i: result.metrics[:, 0].tolist() for i, result in feed.results.items()} == {0: [1, 2], 1: [3], 3: [4, 7, 5], 4: [6]}
    assert feed.lost == [2] and feed.exhausted
    if ahead:
        assert feed.noted[:5] == [("out", 0), ("out", 1), ("in", 0), ("out", 2), ("in", 1)] and feed.noted[-2:] == [("in", 3), ("in", 4)]
    else:
        assert feed.noted[:4] == [("out", 0), ("in", 0), ("out", 1), ("in", 1)] and feed.noted[-2:] == [("out", 4), ("in", 4)]


@pytest.mark.ray
def test_packs_share_inputs_reuse_actors_and_survive_a_dead_worker(ray_cpus, tmp_path) -> None:
    feed = ListFeed([range(0, 5), [7, 9, 11], [66], [20], [21], [22], [23], [24]])
    run_packs(feed, evaluate, {"table": np.arange(100.0) ** 2}, 2, slots=ray_cpus, scratch=tmp_path, name="packs")
    assert feed.lost == [2]
    assert sorted(feed.results) == [0, 1, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(feed.results[1].metrics[:, 0], [49.0, 81.0, 121.0])
    assert feed.results[1].seconds > 0
    processes = {r.metrics[0, 1] for r in feed.results.values()}
    assert len(processes) <= ray_cpus + 1  # actors are kept between packs; one more stands in for the dead one


@pytest.mark.ray
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "first", [pytest.param("", id="fresh", marks=pytest.mark.slow), pytest.param("import ray", id="ray imported first")]
)
def test_a_local_session_listens_on_loopback_only(first: str) -> None:
    # A process of its own: where a server listens is decided when Ray is imported.
    script = """
    import re, os, subprocess
    FIRST
    from pathlib import Path
    from cluster.session import ray_session

    def children(pid):
        found = [int(c) for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]
        return found + [g for c in found for g in children(c)]

    def listening():
        rows = [l.split() for f in ("tcp", "tcp6") for l in Path(f"/proc/net/{f}").read_text().splitlines()[1:]]
        return {r[9]: r[1].rsplit(":")[0] for r in rows if r[3] == "0A"}

    with ray_session(None, 1):
        import ray
        ray.get(ray.remote(lambda: 1).remote())
        sockets = listening()
        mine = set()
        for pid in [os.getpid(), *children(os.getpid())]:
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    inode = re.fullmatch(r"socket:\\[(\\d+)\\]", os.readlink(fd))
                except OSError:
                    continue
                if inode and inode[1] in sockets:
                    mine.add(sockets[inode[1]])
    print(sorted(mine))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script).replace("FIRST", first)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    addresses = eval_list(done.stdout.strip().splitlines()[-1])
    assert addresses, "Ray listens somewhere"
    assert set(addresses) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_a_cluster_that_does_not_answer_is_a_message_in_seconds() -> None:
    for address, message in (("127.0.0.1:1", "no Ray cluster answers there"), ("somewhere", "give HOST:PORT")):
        with pytest.raises(ClusterError, match=message), ray_session(address):
            pass


def eval_list(text):
    return [part.strip(" '[]") for part in text.split(",")]

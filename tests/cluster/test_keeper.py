"""Shared tables on a real local Ray: processes that ask, build, die and fail."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cluster.cache.keeper import Keeper, keeping
from cluster.cache.shared import SharedTables
from cluster.cache.store import Store
from cluster.packs import run_packs
from cluster.steps import run_trials
from tests.cluster.test_packs import ListFeed
from trainables.contract import TrainableError
from trainables.tables import Table, offered, read

pytestmark = pytest.mark.ray
N, WIDTH = 20_000, 4


def make(n: int = N, **spec) -> Table:
    times = np.datetime64("2024-01-01", "ns") + np.arange(n) * np.timedelta64(1, "h")
    return Table("forecasts", {"of": "tests", **spec}, tuple("abcd"), ("BTCUSD",), times, np.arange(1.0 * n)[None], 8, "naive, BTCUSD")


def truth(first: int, stop: int) -> np.ndarray:
    return np.arange(first, stop) * np.arange(1.0, WIDTH + 1)[:, None]


def build(log: Path, seconds: float, first: int, stop: int, done) -> np.ndarray:
    """Builds slowly, all rows in so many seconds, and writes down that it did."""
    with open(log, "a") as out:
        out.write(f"{os.getpid()} {first} {stop}\n")
    until = time.monotonic() + seconds * (stop - first) / N
    while time.monotonic() < until:
        time.sleep(0.005)
        done((stop - first) // 2)
    if (log.parent / "fail").exists():
        raise TrainableError("BTCUSD: no weights")
    return truth(first, stop)


def built(log: Path) -> list[tuple[int, int, int]]:
    """Who built which rows, pieces taken together, also where two built at once."""
    found: list[tuple[int, int, int]] = []
    for line in log.read_text().splitlines() if log.exists() else []:
        pid, first, stop = map(int, line.split())
        before = next((i for i, piece in enumerate(found) if piece[::2] == (pid, first)), None)
        if before is None:
            found.append((pid, first, stop))
        else:
            found[before] = (pid, found[before][1], stop)
    return found


class Worker:
    """A process that reads tables."""

    def pid(self) -> int:
        return os.getpid()

    def read(self, tables, table: Table, first: int, stop: int, log: Path, seconds: float = 0.0) -> dict:
        mine = self.__dict__.setdefault("tables", {}).setdefault(str(log), tables)
        with offered(mine):
            values = read(table, first, stop, partial(build, log, seconds))
        return {
            "pid": os.getpid(),
            "right": bool(np.array_equal(values, truth(first, stop))),
            "writeable": values.flags.writeable,
            "owned": values.flags.owndata,
            "notes": mine.notes,
        }


@pytest.fixture(scope="module")
def workers(ray_cpus):
    import ray

    hired = [ray.remote(Worker).options(num_cpus=0, max_restarts=-1).remote() for _ in range(8)]
    ray.get([w.pid.remote() for w in hired])
    return hired


@pytest.mark.slow
def test_eight_workers_that_ask_at_once_build_once_and_see_the_same_memory(workers, tmp_path) -> None:
    import ray

    log, table = tmp_path / "log", make()
    with keeping(Store(tmp_path / "tables")) as cache:
        asked = [w.read.remote(cache.tables, table, 0, N, log, 2.0) for w in workers]
        seen = []
        while not ray.wait(asked, num_returns=8, timeout=0.5)[0]:
            seen += cache.building()
        answers = ray.get(asked)
        again = ray.get([w.read.remote(cache.tables, table, 100, 200, log) for w in workers])
    assert len(built(log)) == 1 and len({a["pid"] for a in answers}) == 8
    assert all(a["right"] and not a["writeable"] and not a["owned"] and not a["notes"] for a in answers + again)
    assert {(b.where, b.total) for b in seen} == {("naive, BTCUSD", N)}
    usage = cache.usage()
    assert (usage.readers, usage.use.rows_built, usage.use.rows_found) == (8, N, 0) and usage.use.seconds_built > 2.0
    assert usage.shared_bytes == N * WIDTH * 8 and usage.apart_bytes == 8 * usage.shared_bytes

    with keeping(Store(tmp_path / "tables")) as cache:  # another run on the same folder
        assert ray.get(workers[0].read.remote(cache.tables, make(), 0, N, tmp_path / "log2"))["right"]
    assert not built(tmp_path / "log2") and cache.usage().use.rows_found == N and cache.usage().use.seconds_saved > 2.0


def test_a_longer_series_builds_its_new_rows(workers, tmp_path) -> None:
    import ray

    log = tmp_path / "log"
    with keeping(Store(tmp_path / "tables")) as cache:
        assert ray.get(workers[0].read.remote(cache.tables, make(N - 24), 0, N - 24, log))["right"]
        assert ray.get(workers[1].read.remote(cache.tables, make(N), 0, N, log))["right"]
        assert ray.get(workers[0].read.remote(cache.tables, make(N), 50, N, log))["right"]
    assert [b[1:] for b in built(log)] == [(0, N - 24), (N - 24, N)]
    assert cache.usage().use.rows_built == N


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_builds_is_replaced_by_the_next(workers, tmp_path) -> None:
    import ray

    log = tmp_path / "log"
    with keeping(Store(tmp_path / "tables"), patience=4.0) as cache:
        first = workers[0].read.remote(cache.tables, make(), 0, N, log, 60.0)
        while not built(log):
            time.sleep(0.05)
        others = [w.read.remote(cache.tables, make(), 0, N, log, 0.2) for w in workers[1:4]]
        time.sleep(5.0)  # signs of life keep the build
        assert len(built(log)) == 1 and not ray.wait(others, timeout=0)[0]
        began = time.monotonic()
        os.kill(built(log)[0][0], signal.SIGKILL)
        assert all(a["right"] and not a["notes"] for a in ray.get(others))
        assert 1.0 < time.monotonic() - began < 30.0
        with pytest.raises(ray.exceptions.RayError):
            ray.get(first)
    assert len(built(log)) == 2 and len({b[0] for b in built(log)}) == 2
    usage = cache.usage()
    assert usage.lost == 1 and "stopped building it without a word" in usage.use.notes[0]


def test_a_build_that_raises_is_raised_once_for_everyone_who_waits_and_kept_by_nobody(workers, tmp_path) -> None:
    import ray

    log = tmp_path / "log"
    (tmp_path / "fail").touch()
    with keeping(Store(tmp_path / "tables")) as cache:
        asked = [w.read.remote(cache.tables, make(), 0, N, log, 2.0) for w in workers]
        for answer in asked:
            with pytest.raises(TrainableError, match="BTCUSD: no weights"):
                ray.get(answer)
        assert len(built(log)) == 1 and cache.usage().failed == 1
        (tmp_path / "fail").unlink()
        time.sleep(2.5)
        assert all(a["right"] for a in ray.get([w.read.remote(cache.tables, make(), 0, N, log) for w in workers]))
    assert len(built(log)) == 2


def test_a_keeper_that_dies_comes_back_and_without_one_workers_build_for_themselves(workers, tmp_path) -> None:
    import ray

    log = tmp_path / "log"
    with keeping(Store(tmp_path / "tables")) as cache:
        ask = partial(ray.get, timeout=60)
        assert ask(workers[0].read.remote(cache.tables, make(), 0, N, log))["right"]
        ray.kill(cache._keeper, no_restart=False)
        answers = ask([w.read.remote(cache.tables, make(), 0, N, log) for w in workers[:3]])
        assert all(a["right"] and not a["notes"] for a in answers) and len(built(log)) == 1
        building = workers[3].read.remote(cache.tables, make(other=1), 0, N, log, 2.0)
        while len(built(log)) < 2:
            time.sleep(0.05)
        ray.kill(cache._keeper)
        answers = [*ask([w.read.remote(cache.tables, make(other=1), 0, N, log) for w in workers[4:6]]), ask(building)]
        assert all(a["right"] and "process that shares tables died" in a["notes"][0] for a in answers)
        assert ask(workers[0].read.remote(cache.tables, make(), 0, N, log))["right"]  # what it has been given stays
        assert len(built(log)) == 4
        assert ask(workers[4].read.remote(cache.tables, make(other=1), 5, 9, log))["right"]
        assert len(built(log)) == 4  # each for itself, but once
    assert "does not answer" in cache.usage().use.notes[0]


class Owner:
    """Puts an object into the store that will be lost with it."""

    def put(self):
        import ray

        return [ray.put(np.zeros((WIDTH, N)))]


class Unlucky(Keeper):
    """A keeper whose first object is lost."""

    def __init__(self, root, lost):
        super().__init__(root, 10**9, 20.0, 1e12)
        put, gone = self._put, list(lost)
        self._put = lambda values: gone.pop() if gone else put(values)


def test_an_object_that_was_lost_is_made_again(workers, tmp_path) -> None:
    import ray

    owner = ray.remote(Owner).options(num_cpus=0).remote()
    lost = ray.get(owner.put.remote())
    ray.kill(owner)
    with pytest.raises(ray.exceptions.ObjectLostError):
        while True:
            ray.get(lost[0])
            time.sleep(0.1)
    keeper = ray.remote(Unlucky).options(num_cpus=0).remote(tmp_path / "tables", lost)
    log = tmp_path / "log"
    answers = ray.get([w.read.remote(SharedTables(keeper), make(), 0, N, log) for w in workers[:2]], timeout=60)
    assert all(a["right"] and not a["owned"] and not a["notes"] for a in answers) and len(built(log)) == 1
    ray.kill(keeper)


def evaluate(points, inputs):
    values = read(inputs["table"], 0, N, partial(build, inputs["log"], 0.5))
    return np.array([[values[0, p], os.getpid()] for p in points])


def run(point, folder, reached, device, inputs):
    value = read(inputs["table"], 0, N, partial(build, inputs["log"], 0.5))[0, point]
    yield SimpleNamespace(step=1, metrics={"value": value})


class TrialList:
    """Hands out trials and keeps what they report."""

    def __init__(self, points):
        self.todo, self.running, self.values = list(points), {}, {}

    def next(self):
        from cluster.steps import TrialTask

        if not self.todo:
            return None
        point = self.todo.pop(0)
        self.running[point + 1] = point
        return TrialTask(point + 1, point, "unused")

    @property
    def exhausted(self):
        return not self.todo and not self.running

    def report(self, report):
        self.values[self.running[report.attempt]] = report.metrics["value"]
        return False

    def finished(self, attempt):
        del self.running[attempt]

    def failed(self, attempt, error):
        raise AssertionError(error)

    crashed = failed


def test_packs_and_trials_read_from_the_cache_that_their_workers_are_offered(workers, tmp_path, ray_cpus) -> None:
    inputs = {"table": make(), "log": tmp_path / "log"}
    feed, trials = ListFeed([[1], [2], [3], [4], [5, 6]]), TrialList([7, 8, 9])
    with keeping(Store(tmp_path / "tables")) as cache:
        host = partial(offered, cache.tables)
        run_packs(feed, evaluate, inputs, 2, slots=ray_cpus, scratch=tmp_path / "a", name="hosted", host=host)
        place = {"scratch": tmp_path / "b", "name": "hosted_steps"}
        run_trials(trials, run, inputs, slots=ray_cpus, resources={"cpu": 1}, host=host, **place)
    assert [feed.results[i].metrics[0, 0] for i in range(5)] == [1.0, 2.0, 3.0, 4.0, 5.0] and trials.values == {7: 7.0, 8: 8.0, 9: 9.0}
    assert len(built(tmp_path / "log")) == 1
    # Every process asked once, however many packs and trials it ran.
    assert cache.usage().readers >= 2 and cache.usage().apart_bytes == cache.usage().readers * N * WIDTH * 8

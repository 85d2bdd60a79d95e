"""Two nodes on one machine: a table is fetched once by the node that lacks it, and shared there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# A process of its own: a cluster beside the session of the other tests.
SCRIPT = """
import json, os, re, sys, time
import numpy as np

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.cache.keeper import keeping
from cluster.cache.store import Store
from trainables.tables import Table, offered, read

N, WIDTH = 160_000, 49
SIZE = N * WIDTH * 8


def make():
    times = np.datetime64("2000-01-01", "ns") + np.arange(N) * np.timedelta64(1, "h")
    return Table("forecasts", {}, tuple(f"c{i}" for i in range(WIDTH)), ("BTCUSD",), times, np.zeros((1, N)), 1)


def rows(first, stop, done):
    if first == 0:  # of several pieces
        with open(sys.argv[2], "a") as log:
            log.write("built")
    return np.add.outer(np.arange(WIDTH), np.arange(first, stop)).astype(float)


def memory(pid, what, of=""):
    # Bytes: Pss of all, or Rss of the mappings whose name has `of`.
    name = "smaps" if of else "smaps_rollup"
    total, inside = 0, not of
    for line in open(f"/proc/{pid}/{name}"):
        if of and re.match("[0-9a-f]+-", line):
            inside = of in line
        elif inside and line.startswith(what + ":"):
            total += int(line.split()[1]) * 1024
    return total


class Worker:
    def about(self):
        return ray.get_runtime_context().get_node_id(), memory(os.getpid(), "Pss")

    def read(self, tables, table):
        with offered(tables):
            self.values = read(table, 0, N, rows)
        return float(self.values.sum()), self.values.flags.owndata


cluster = Cluster(
    initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 300_000_000, "include_dashboard": False}
)
second = cluster.add_node(num_cpus=2, object_store_memory=300_000_000)
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
raylet = second.all_processes["raylet"][0].process.pid
there = NodeAffinitySchedulingStrategy(second.node_id, soft=False)
with keeping(Store(sys.argv[1])) as cache:
    with offered(cache.tables):
        read(make(), 0, N, rows)  # here, in the driver
    hired = [ray.remote(Worker).options(num_cpus=0.5, scheduling_strategy=there).remote() for _ in range(2)]
    before = ray.get([w.about.remote() for w in hired])
    empty = memory(raylet, "Rss", "plasma")
    ref = ray.get(cache._keeper.claim.remote(make(), 0, N, "test")).ref
    places = [len(ray.experimental.get_object_locations([ref])[ref]["node_ids"])]
    answers = ray.get([w.read.remote(cache.tables, make()) for w in hired])
    after = ray.get([w.about.remote() for w in hired])
    places.append(len(ray.experimental.get_object_locations([ref])[ref]["node_ids"]))
    store = memory(raylet, "Rss", "plasma") - empty
usage = cache.usage()
print(json.dumps({
    "nodes": [n for n, _ in after], "second": second.node_id, "size": SIZE, "answers": answers, "places": places, "store": store,
    "pss": [b[1] - a[1] for a, b in zip(before, after)], "raylet": memory(raylet, "Pss", "plasma"),
    "readers": usage.readers, "shared": usage.shared_bytes,
}))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_another_node_fetches_a_table_once_and_its_workers_share_it(tmp_path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path / "tables"), str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(re.findall(r"^\{.*\}$", done.stdout, re.MULTILINE)[-1])
    size = said["size"]
    assert said["nodes"] == [said["second"]] * 2 and (tmp_path / "log").read_text() == "built"
    assert said["answers"] == [[sum(i * 160_000 + 160_000 * 159_999 / 2 for i in range(49)), False]] * 2
    assert said["places"] == [1, 2]  # the driver's node, and then the other one too
    assert size <= said["store"] < 1.2 * size  # one copy lies there, not one for each worker
    assert max(said["pss"]) < 0.6 * size and sum(said["pss"]) < 1.15 * size, said
    assert said["readers"] == 4 and said["shared"] == size

"""Several nodes with addresses of their own on one machine, joined by a virtual cable: nodes die, the driver dies, the cable is pulled."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from results import Ledger
from sweeps.home import LEDGER

# A network and process numbers of its own: nothing is reached from outside, and everything ends with it.
ALONE = ("unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")


def cables() -> bool:
    """Whether this process may make networks and lay a cable between them."""
    if not sys.platform.startswith("linux") or not all(shutil.which(name) for name in ("unshare", "nsenter", "ip")):
        return False
    lay = ("ip", "link", "add", "name", "near", "type", "veth", "peer", "name", "far")
    return subprocess.run([*ALONE, *lay], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(not cables(), reason="needs Linux, root, unshare, nsenter and ip with veth (iproute2, util-linux)"),
]

MODULE = """
import os, time
import pandas as pd
import ray
from results.metrics import Metric
from trainables.contract import Evaluation, Parameter, Prepared


class Where:
    name, version, objective = "where", "1", "x"
    parameters = (Parameter("x", 0.0, "float", 0, 1e9),)
    metrics = (Metric("x", "max"),)

    def prepare(self, data, settings, protocol=None, part="search"):
        return Prepared(data["pause"], "f00d", {}, {"x": 0.0}, ())

    def evaluate_pack(self, configs, ctx):
        node = ray.util.get_node_ip_address()
        for c in configs:
            time.sleep(ctx.inputs)
            with open(os.environ["SEEN"], "a") as file:
                file.write(f"{node} {c['x']:g}\\n")
        return Evaluation(pd.DataFrame([{"x": c["x"]} for c in configs]))
"""

SCENARIO = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

from results import Ledger
from sweeps.home import LEDGER

what, points, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
HEAD, OTHER, PORT = "10.99.0.1", "10.99.0.2", 6379
ray = str(Path(sys.executable).with_name("ray"))
seen = Path(os.environ["SEEN"])
# A node that does not answer is given up after seconds rather than half a minute.
os.environ.update({f"RAY_health_check_{k}": v for k, v in {
    "initial_delay_ms": "1000", "period_ms": "1000", "timeout_ms": "3000", "failure_threshold": "4"}.items()})


def sh(line):
    subprocess.run(line.split(), check=True)


sh("ip link set lo up")
far = subprocess.Popen(["unshare", "--net", "sleep", "1000"])  # the other machine's network
mine = os.readlink("/proc/self/ns/net")
while os.readlink(f"/proc/{far.pid}/ns/net") == mine:
    time.sleep(0.05)
inside = f"nsenter --net --target {far.pid} "
sh("ip link add name near type veth peer name far")
sh(f"ip link set far netns {far.pid}")
sh(f"ip addr add {HEAD}/24 dev near"), sh("ip link set near up")
sh(inside + f"ip addr add {OTHER}/24 dev far"), sh(inside + "ip link set far up"), sh(inside + "ip link set lo up")

common = "--num-cpus=1 --num-gpus=0 --object-store-memory=80000000 --disable-usage-stats"
def start(words, log):
    return subprocess.Popen(words.split(), stdout=open(log, "w"), stderr=subprocess.STDOUT)

def until(true, seconds, what):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"waited {seconds} s for {what}")
        time.sleep(0.1)

head = f"--head --node-ip-address={HEAD} --port={PORT} --include-dashboard=false --temp-dir={os.environ['RAYS']}"
start(f"{ray} start {head} {common} --block", "head.log")
until(lambda: "runtime started" in Path("head.log").read_text(), 90, "the head")
start(f"{inside}{ray} start --address={HEAD}:{PORT} --node-ip-address={OTHER} {common} --block", "far.log")
until(lambda: "runtime started" in Path("far.log").read_text(), 90, "the other node")

def there():
    # Processes of the other node.
    found, net = [], os.readlink(f"/proc/{far.pid}/ns/net")
    for each in Path("/proc").iterdir():
        if each.name.isdigit() and int(each.name) != far.pid:
            try:
                if os.readlink(each / "ns/net") == net:
                    found.append(int(each.name))
            except OSError:
                pass
    return found

def nodes():
    # Which node evaluated what, in order.
    return [line.split() for line in seen.read_text().splitlines()] if seen.exists() else []

def drive():
    words = [sys.executable, "-m", "sweeps.cli", "run", "cable.yaml", "--cluster", f"{HEAD}:{PORT}"]
    return subprocess.Popen(words, stdout=open("driver.log", "a"), stderr=subprocess.STDOUT)

def both(least):
    return lambda: all(sum(n == node for n, _ in nodes()) >= least for node in (HEAD, OTHER))

def kept():
    # Points with an accepted result.
    home = Path("runs/cable") / LEDGER
    if not home.exists():
        return []
    with Ledger.open(home, readonly=True) as ledger:
        return ledger.frame()["x"].tolist()

driver = drive()
until(both(3), 120, "both nodes to evaluate")
until(lambda: len(kept()) >= 8, 120, "results")
said = {"before": len(nodes())}
began = time.monotonic()
if what == "node":
    for pid in there():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
elif what == "driver":
    driver.kill()
    driver.wait()
    said["kept"], said["before"] = kept(), len(nodes())
    driver = drive()
elif what == "cable":
    sh("ip link set near down")
    time.sleep(float(sys.argv[4]))
    said["during"] = sum(n == HEAD for n, _ in nodes()[said["before"]:])
    sh("ip link set near up")
said["code"] = driver.wait(timeout=200)
said["seconds"] = round(time.monotonic() - began, 1)
after = nodes()[said["before"]:]
said["after"] = {node: sum(n == node for n, _ in after) for node in (HEAD, OTHER)}
said["evaluated"], said["again"] = len(nodes()), [float(x) for _, x in after]
verified = subprocess.run([sys.executable, "-m", "sweeps.cli", "verify", "cable"], capture_output=True, text=True)
said["verified"], said["words"] = verified.returncode, verified.stdout
print(json.dumps(said))
"""


def scene(folder: Path, what: str, points: int, pause: float, *more: float) -> dict[str, Any]:
    """Plays a scenario of a study of `points` points that take `pause` seconds each, on a head and another node of one core each."""
    (folder / "alphasweep_cable.py").write_text(MODULE)
    values = ", ".join(map(str, range(points)))
    study = f"name: cable\ntrainable: alphasweep_cable:Where\ndata: {{pause: {pause}}}\nspace: {{x: [{values}]}}\n"
    (folder / "cable.yaml").write_text(study)
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(folder)])
    rays = folder.parents[1] / f"r{os.getpid()}-{what}"  # sockets have short names
    environment = {**os.environ, "PYTHONPATH": path, "SEEN": str(folder / "seen"), "RAYS": str(rays), "COLUMNS": "120"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "HOME": str(folder)}
    arguments = [what, str(points), str(pause), *map(str, more)]
    try:
        done = subprocess.run(
            [*ALONE, sys.executable, "-c", textwrap.dedent(SCENARIO), *arguments],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=420,
        )  # fmt: skip
    finally:
        shutil.rmtree(rays, ignore_errors=True)
    log = (folder / "driver.log").read_text() if (folder / "driver.log").exists() else ""
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:] + log[-3000:]
    said = json.loads(re.findall(r"^\{.*\}$", done.stdout, re.MULTILINE)[-1])
    said["log"] = log[-3000:]
    return said


def accepted(folder: Path) -> list[float]:
    with Ledger.open(folder / "runs" / "cable" / LEDGER, readonly=True) as ledger:
        frame = ledger.frame()
        assert set(frame["status"]) == {"completed"}
        return sorted(frame["x"])


def test_when_a_node_is_killed_the_other_does_its_work_and_every_point_has_one_result(tmp_path: Path) -> None:
    said = scene(tmp_path, "node", 60, 0.3)
    assert said["code"] == 0 and said["verified"] == 0, said
    assert accepted(tmp_path) == list(range(60))
    assert said["after"]["10.99.0.2"] == 0 and said["after"]["10.99.0.1"] > 0, said


def test_when_the_driver_is_killed_the_same_command_goes_on_and_every_point_has_one_result(tmp_path: Path) -> None:
    said = scene(tmp_path, "driver", 60, 0.3)
    assert said["code"] == 0 and said["verified"] == 0, said
    assert accepted(tmp_path) == list(range(60))
    assert len(said["kept"]) >= 8 and not set(said["kept"]) & set(said["again"]), said  # what has a result is not evaluated again


@pytest.mark.parametrize("seconds", [3.0, 20.0], ids=["briefly", "until the node is given up"])
def test_when_the_cable_between_nodes_is_pulled_the_work_goes_on_and_every_point_has_one_result(tmp_path: Path, seconds: float) -> None:
    said = scene(tmp_path, "cable", 120, 0.4, seconds)
    assert said["code"] == 0 and said["verified"] == 0, said
    assert accepted(tmp_path) == list(range(120))
    assert said["during"] > 0 or seconds < 5, said  # the node that was left worked on

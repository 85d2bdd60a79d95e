"""The files that start a cluster: what Ray, KubeRay and a shell make of them; the plain ones are really run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest
import yaml

from cluster.files import KINDS, ClusterSpec, SpecError, parse
from cluster.files.calls import EXCLUDES, down, ensure_token, status, submit, texts, token_path, tunnel, up

ROOT = Path(__file__).parents[2]
KUBERAY = Path(__file__).parent / "data" / "kuberay.schema.json"
SECTION = """\
cluster:
  name: desk
  head: {cpu: 4, memory: 16Gi}
  workers: {cpu: 8, gpu: 1, memory: 32Gi, min: 1, max: 3}
  hosts: {head: 10.0.0.1, workers: [10.0.0.2, 10.0.0.3], user: quant}
  image: registry.example/alphasweep:0.1
  setup: ["python3 -m pip install -e ."]
  slurm: {partition: gpu, time: "12:00:00", nodes: 3, account: desk}
  kubernetes: {namespace: research, volume: runs}
"""


def spec(**changes: object) -> ClusterSpec:
    return parse({**yaml.safe_load(SECTION)["cluster"], **changes})


def every_file(**changes: object) -> dict[str, str]:
    return {name: text for kind in KINDS for name, text in texts(kind, spec(**changes), ["selector_grid"]).items()}


def test_one_description_makes_the_files_of_all_four_kinds_and_each_pins_ray() -> None:
    made = every_file()
    assert list(made) == ["desk-node.sh", "desk.yaml", "desk-raycluster.yaml", "desk-rayjob.yaml", "desk.slurm"]
    assert all(metadata.version("ray") in text for text in made.values())


def test_every_kind_turns_the_token_on_and_no_file_holds_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ensure_token(spec())
    token = token_path(spec()).read_text()
    assert len(token) == 64 and token_path(spec()).stat().st_mode & 0o777 == 0o600
    for name, text in every_file().items():
        assert token not in text, name
        assert "RAY_AUTH_MODE" in text or "authOptions" in text, name
    assert not ensure_token(spec()) and token_path(spec()).read_text() == token
    token_path(spec()).chmod(0o644)
    with pytest.raises(SpecError, match="others can read the token"):
        ensure_token(spec())


def test_the_dashboard_is_on_loopback_wherever_kuberay_does_not_have_to_ask_it() -> None:
    made = every_file()
    for name in ("desk-node.sh", "desk.yaml", "desk.slurm"):
        assert "--dashboard-host=127.0.0.1" in made[name] and "0.0.0.0" not in made[name]
    params = yaml.safe_load(made["desk-raycluster.yaml"])["spec"]["headGroupSpec"]["rayStartParams"]
    assert params["dashboard-host"] == "127.0.0.1"
    job = yaml.safe_load(made["desk-rayjob.yaml"])["spec"]["rayClusterSpec"]
    assert job["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "0.0.0.0"
    assert job["authOptions"] == {"mode": "token", "secretName": "desk-token"} and job["headGroupSpec"]["serviceType"] == "ClusterIP"


@pytest.mark.parametrize("changes", [{}, {"image": ""}, {"hosts": {"head": "h"}}, {"setup": []}, {"workers": {"cpu": 8, "count": 2}}])
def test_ray_itself_accepts_the_file_of_ray_up(changes: dict[str, object]) -> None:
    import ray.autoscaler
    from ray.autoscaler._private.util import prepare_config, validate_config

    (text,) = texts("ray-up", spec(**changes)).values()
    config = yaml.safe_load(text)
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    # Ray moves min_workers of this provider into its node type before it looks at its own schema.
    jsonschema.validate({key: value for key, value in config.items() if key != "min_workers"}, schema)
    prepared = prepare_config(config)
    validate_config(prepared)
    (node,) = prepared["available_node_types"].values()
    wanted = len(config["provider"]["worker_ips"])
    assert node["max_workers"] == prepared["max_workers"] == wanted and node["min_workers"] == min(wanted, config["min_workers"])


@pytest.mark.parametrize("changes", [{}, {"kubernetes": {}}, {"workers": {"cpu": 2, "memory": "4Gi", "count": 2}}, {"port": 7000}])
def test_kuberay_knows_every_field_of_its_manifests(changes: dict[str, object]) -> None:
    schema = json.loads(KUBERAY.read_text())
    made = [yaml.safe_load(text) for text in texts("kuberay", spec(**changes), ["a", "b"]).values()]
    assert [each["kind"] for each in made] == ["RayCluster", "RayJob"]
    for manifest in made:
        jsonschema.validate(manifest, schema)
    broken = made[0] | {"spec": made[0]["spec"] | {"workerGroups": []}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_the_token_of_a_raycluster_comes_from_a_secret_for_head_workers_and_autoscaler() -> None:
    made = yaml.safe_load(texts("kuberay", spec())["desk-raycluster.yaml"])["spec"]
    pods = [made["headGroupSpec"], *made["workerGroupSpecs"]]
    environments = [pod["template"]["spec"]["containers"][0]["env"] for pod in pods] + [made["autoscalerOptions"]["env"]]
    reference = {"secretKeyRef": {"name": "desk-token", "key": "auth_token"}}
    assert environments == [[{"name": "RAY_AUTH_MODE", "value": "token"}, {"name": "RAY_AUTH_TOKEN", "valueFrom": reference}]] * 3


def scripts(folder: Path) -> list[Path]:
    found = []
    for changes in ({}, {"setup": [], "workers": {"cpu": 2, "memory": "4Gi", "count": 1}, "slurm": {}}):
        for name, text in every_file(**changes).items():
            if name.endswith((".sh", ".slurm")):
                found.append(folder / f"{len(found)}-{name}")
                found[-1].write_text(text)
    return found


def test_bash_can_read_the_scripts(tmp_path: Path) -> None:
    for path in scripts(tmp_path):
        subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck (apt-get install shellcheck)")
def test_shellcheck_has_nothing_to_say_about_the_scripts(tmp_path: Path) -> None:
    done = subprocess.run(["shellcheck", "--shell=bash", *scripts(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


SLURM = {
    "scontrol": "echo one; echo two",
    "hostname": "echo 10.1.1.1 fe80::1",
    "ray": 'echo "ray $*" >> "$LOG"',
    "alphasweep": 'echo "alphasweep $*" >> "$LOG"',
    # What follows srun's own options is run as it is, on a node that is not there.
    "srun": 'while [[ "$1" == -* ]]; do [ "$1" = -w ] && { echo "on $2" >> "$LOG"; shift; }; shift; done; exec "$@"',
}


def test_the_slurm_script_starts_a_head_and_workers_on_their_nodes_and_then_the_studies(tmp_path: Path) -> None:
    # Slurm's programs are stood in for, since there is none here; the script is the generated one.
    for name, body in SLURM.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".alphasweep").mkdir()
    (tmp_path / ".alphasweep" / "desk.token").write_text("x")
    (text,) = texts("slurm", spec(setup=["true"], workers={"cpu": 8}), ["selector_grid"]).values()
    (tmp_path / "job").write_text(text)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    extra = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "LOG": str(tmp_path / "log"), "HOME": str(tmp_path), "PATH": path}
    for given, asked in ((), "selector_grid"), (("a.yaml", "--trials", "3"), "a.yaml --trials 3"):
        (tmp_path / "log").unlink(missing_ok=True)
        subprocess.run(["bash", tmp_path / "job", *given], env={**os.environ, **extra}, check=True, timeout=60)
        end = time.monotonic() + 30
        starts: list[str] = []
        while len(starts) < 2 and time.monotonic() < end:  # they are started side by side
            said = (tmp_path / "log").read_text().splitlines()
            starts = sorted(line for line in said if line.startswith("ray start"))
        assert [line.split()[2] for line in starts] == ["--address=10.1.1.1:20007", "--head"]
        assert all("--num-cpus=8" in line and "--block" in line for line in starts)
        assert f"alphasweep run {asked} --cluster 10.1.1.1:20007 --dir {tmp_path}/alphasweep-runs" in said and "on two" in said


@pytest.mark.parametrize(
    ("line", "number", "words"),
    [
        ("  name: Desk", 2, "small letters"),
        ("  workers: {cpu: 8, min: 3, max: 1}", 2, "less than workers.min"),
        ("  workers: {cpu: 8, count: 3, max: 1}", 2, "not both"),
        ("  head: {memory: 16GB}", 2, "a size such as 16Gi"),
        ("  hosts: {head: a; rm -rf /}", 2, "a name or an address"),
        ("  hosts: {head: -oProxyCommand=x}", 2, "a name or an address"),
        ("  hosts: {head: a, workers: [b, b]}", 2, "b is given twice"),
        ("  setup: pip install x", 2, "a list of shell commands"),
        ("  slurm: {time: 12}", 2, "in quotes"),
        ("  kind: cloud", 2, "plain, ray-up, kuberay, slurm"),
        ("  gpus: 2", 2, "is not a key here"),
        ("  port: 80", 2, "from 1024"),
    ],
)
def test_a_section_that_is_wrong_is_refused_with_its_line_and_what_to_do(tmp_path: Path, line: str, number: int, words: str) -> None:
    from sweeps.lanes.cluster_section import load
    from sweeps.study_yaml import StudyError

    path = tmp_path / "host.yaml"
    path.write_text(f"cluster:\n{line}\n")
    with pytest.raises(StudyError) as caught:
        load(path)
    assert f"{path}, line {number}: cluster." in str(caught.value) and words in str(caught.value)


def test_what_a_kind_needs_and_is_not_there_is_said() -> None:
    for kind, changes, words in (
        ("ray-up", {"hosts": {}}, "needs the machines"),
        ("kuberay", {"image": ""}, "needs an image"),
        ("kuberay", {"head": {}}, "cpu and memory"),
        ("slurm", {"workers": {}}, "cores of a node"),
    ):
        with pytest.raises(SpecError, match=words):
            texts(kind, spec(**changes))
    with pytest.raises(SpecError, match="needs the machines"):
        up("plain", spec(hosts={}), Path("f"))


def test_a_job_takes_the_code_along_but_no_results_keys_or_tokens() -> None:
    (call,) = submit("ray-up", spec(), Path("f"), ["selector_grid", "--trials", "5"])
    carried = json.loads(call.words[call.words.index("--runtime-env-json") + 1])
    assert carried == {"working_dir": ".", "excludes": list(EXCLUDES)}
    assert {"/runs/", "/.venv/", "/shared/", "/.git/", "*.token", "*.key"} <= set(EXCLUDES)
    run = 'exec python3 -m sweeps.cli run selector_grid --trials 5 --cluster auto --dir "$HOME/alphasweep-runs"'
    assert call.words[call.words.index("--") + 1 :] == ("bash", "-c", run)
    assert call.environment["RAY_AUTH_TOKEN_PATH"] == str(token_path(spec()))


def test_every_dry_run_prints_commands_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "host.yaml").write_text(SECTION)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "COLUMNS": "120"}
    for kind, verb, expected in (
        ("plain", ["up"], "ssh -o BatchMode=yes quant@10.0.0.2 'bash -s worker 10.0.0.2 10.0.0.1' < cluster-files/desk-node.sh"),
        ("kuberay", ["up"], "kubectl create secret generic desk-token --from-file=auth_token="),
        ("ray-up", ["down"], "ray down cluster-files/desk.yaml --yes"),
        ("slurm", ["submit", "selector_grid", "--trials", "3"], "sbatch cluster-files/desk.slurm selector_grid --trials 3"),
    ):
        call = [sys.executable, "-m", "sweeps.cli", "cluster", *verb, "--kind", kind, "--dry-run"]
        done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and expected in done.stdout, done.stdout + done.stderr
    assert os.listdir(tmp_path) == ["host.yaml"]


def test_what_is_stopped_and_looked_at_is_this_cluster_and_no_other() -> None:
    for kind in KINDS:
        calls = [*down(kind, spec(), Path("f")), *status(kind, spec(), Path("f"))]
        assert all("desk" in call.shown() for call in calls)
    assert "8265:127.0.0.1:8265 quant@10.0.0.1" in tunnel("plain", spec()) and "node-type=head" in tunnel("kuberay", spec())


# A network and process numbers of its own: nothing it starts is reached from outside, and everything of it ends with it.
ALONE = ("unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
LIVE = """\
set -eu
ip link set lo up
sweep() { "$PYTHON" -m sweeps.cli "$@"; }
sweep cluster up
stat -c 'token %a' "$HOME/.alphasweep/small.token"
echo "links $(ip -o link | awk '{print $2}' | tr -d '\n')"
for _ in $(seq 30); do sweep cluster status > status; [ "$(grep -c ' 1 node_' status)" = 2 ] && break; sleep 1; done
cat status
for mode in "token RAY_AUTH_TOKEN=wrong" disabled; do
  env RAY_AUTH_MODE=$mode timeout 60 "$(dirname "$PYTHON")/ray" status --address 127.0.0.2:6379 > refused 2>&1 && echo "let in"
  grep -o InvalidAuthToken refused | head -n 1
done
ss -ltn | awk '$4 ~ /:8265$/ {print "dashboard on " $4}'
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/.alphasweep/small.token"
sweep run selector_grid --trials 24 --cluster 127.0.0.2:6379
sweep verify selector_grid
sweep cluster up || echo "second start refused"
sweep cluster down
sleep 2
echo "left: $(ps -eo comm | grep -cE 'raylet|gcs_server' || true)"
"""


CLEAN = """\
for node in 127.0.0.2 127.0.0.3; do
  rm -rf "/tmp/ray-$(id -u)-$(printf %s "$HOME/.alphasweep/nodes/small-$node" | cksum | cut -d ' ' -f 1)"
done
"""

SUBMIT = """\
set -eu
ip link set lo up
sweep() { "$PYTHON" -m sweeps.cli "$@"; }
sweep cluster up
ss -ltn | awk '$4 ~ /:8265$/ {print "dashboard on " $4}'
curl -s -o /dev/null -w 'asked without the token: %{http_code}\n' http://127.0.0.1:8265/api/jobs/
PATH="$(dirname "$PYTHON"):$PATH" sweep cluster submit selector_grid --trials 24
sweep verify selector_grid --dir "$HOME/alphasweep-runs"
sweep cluster down
"""


def live(folder: Path, script: str) -> str:
    """Runs a script in a network of its own, with a cluster of two nodes in its host file; returns what it said."""
    (folder / "host.yaml").write_text(
        "cluster:\n  name: small\n  kind: plain\n  head: {cpu: 1}\n  workers: {cpu: 1}\n  setup: ['true']\n"
        "  hosts: {head: 127.0.0.2, workers: [127.0.0.3]}\n"
    )
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "HOME": str(folder), "PYTHON": sys.executable, "PYTHONPATH": paths, "COLUMNS": "120"}
    done = subprocess.run([*ALONE, "bash", "-c", script + CLEAN], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-5000:]
    return said


def alone() -> bool:
    """Whether this process may make networks of its own."""
    if not sys.platform.startswith("linux") or not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return subprocess.run([*ALONE, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(not alone(), reason="needs Linux, root, unshare and ip (iproute2)")
def test_the_plain_files_start_two_nodes_with_a_token_run_a_study_and_stop_what_they_started(tmp_path: Path) -> None:
    said = live(tmp_path, LIVE)
    assert "dashboard on" not in said or "dashboard on 127.0.0.1:8265" in said
    assert "token 600" in said and "links lo:" in said  # there is nothing but loopback to listen on
    assert said.count(" 1 node_") == 2 and "2.0 CPU" in said, said[-5000:]
    assert said.count("InvalidAuthToken") == 2 and "let in" not in said, said[-5000:]
    assert "selector_grid: verified" in said and re.search(r"completed +24\b", said), said[-5000:]
    assert "runs already" in said and "second start refused" in said
    assert "left: 0" in said, said[-3000:]


def test_what_the_extra_cluster_installs_is_pinned_though_nobody_has_it_by_default() -> None:
    pinned = {
        re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    needed = {
        re.sub(r"[-_.]+", "-", re.split(r"[ ;<>=!~(\[]", each)[0]).lower()
        for each in metadata.requires("ray") or ()
        if re.search(r"""extra == ['"]default['"]""", each)
    }
    assert {"aiohttp", "aiohttp-cors", "opencensus", "virtualenv"} <= needed <= pinned
    assert not re.search(r"install .*cluster", (ROOT / "Makefile").read_text())


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(not alone() or not shutil.which("curl"), reason="needs Linux, root, unshare, ip and curl")
@pytest.mark.skipif(
    not find_spec("aiohttp_cors"),
    reason="needs ray[default], whose dashboard takes jobs and slows the start of every local Ray: "
    "pip install -c constraints.txt -e '.[cluster]' (docs/cluster.md)",
)
def test_a_submitted_job_takes_the_code_along_and_leaves_its_results_in_the_home_of_the_head(tmp_path: Path) -> None:
    for room in ("sweeps", "cluster", "trainables", "search_spaces", "results"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    said = live(tmp_path, SUBMIT)
    assert "dashboard on 127.0.0.1:8265" in said and said.count("dashboard on") == 1, said[-5000:]
    assert "asked without the token: 401" in said
    assert "selector_grid: verified" in said and re.search(r"completed +24\b", said), said[-5000:]
    assert not (tmp_path / "runs").exists()


def test_the_page_shows_a_section_that_makes_the_files_of_all_four_kinds(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    (tmp_path / "host.yaml").write_text(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    done = [
        subprocess.run(
            [sys.executable, "-m", "sweeps.cli", "cluster", "files", "--kind", kind],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for kind in KINDS
    ]
    assert [each.returncode for each in done] == [0] * 4
    assert sorted(os.listdir(tmp_path / "cluster-files")) == ["desk-node.sh", "desk-raycluster.yaml", "desk.slurm", "desk.yaml"]

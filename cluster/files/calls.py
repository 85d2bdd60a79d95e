"""What `alphasweep cluster up`, `down`, `status` and `submit` call, as lists of commands that can be shown before they are run."""

from __future__ import annotations

import json
import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from cluster.files import kuberay, plain, ray_up, slurm
from cluster.files.spec import DASHBOARD, RUNS, TOKENS, ClusterSpec, SpecError
from cluster.files.start import run_line

# Of the folder that travels to the workers; patterns as .gitignore has them. A study's results and whatever is secret stay here.
EXCLUDES: Final = ("/runs/", "/.venv/", "/shared/", "/.git/", "*.token", ".env", "*.pem", "*.key", "__pycache__/", "*.egg-info/")


@dataclass(frozen=True)
class Call:
    """A command.

    Attributes:
        words: The program and its arguments.
        stdin: File it reads; None for nothing.
        environment: Variables it needs besides the ones that are there.
    """

    words: tuple[str, ...]
    stdin: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def shown(self) -> str:
        """Returns it as one would type it."""
        before = "".join(f"{name}={shlex.quote(value)} " for name, value in self.environment.items())
        return f"{before}{shlex.join(self.words)}{f' < {shlex.quote(str(self.stdin))}' if self.stdin else ''}"


def texts(kind: str, spec: ClusterSpec, studies: Sequence[str] = ()) -> dict[str, str]:
    """Returns the files of a kind, by name.

    Args:
        kind: One of `KINDS`.
        spec: Of the cluster.
        studies: For Slurm and a RayJob, which run them; without, Slurm's script takes them as arguments, and there is no RayJob.

    Raises:
        SpecError: This kind needs what is not given.
    """
    note = f"# Cluster {spec.name}, Ray {spec.ray}; made by `alphasweep cluster files --kind {kind}`.\n"
    if kind == "plain":
        return {f"{spec.name}-node.sh": plain.script(spec)}
    if kind == "ray-up":
        return {f"{spec.name}.yaml": note + _yaml(ray_up.config(spec))}
    if kind == "slurm":
        return {f"{spec.name}.slurm": slurm.script(spec, studies)}
    made = {f"{spec.name}-raycluster.yaml": note + _yaml(kuberay.cluster(spec))}
    if studies:
        made[f"{spec.name}-rayjob.yaml"] = note + _yaml(kuberay.job(spec, studies))
    return made


def up(kind: str, spec: ClusterSpec, folder: Path) -> list[Call]:
    """Returns what starts a cluster whose files are in a folder."""
    file = folder / next(iter(texts(kind, spec)))
    if kind == "ray-up":
        return [Call(("ray", "up", str(file), "--yes", "--no-config-cache"), environment=_auth(spec))]
    if kind == "slurm":
        raise SpecError("kind", "of slurm no cluster stays up: alphasweep cluster submit STUDY starts one that ends with its studies")
    if kind == "kuberay":
        source = f"--from-file={kuberay.SECRET_KEY}={token_path(spec)}"
        secret = Call(("kubectl", "create", "secret", "generic", kuberay.secret_name(spec), source, "--namespace", spec.namespace))
        return [secret, Call(("kubectl", "apply", "--filename", str(file)))]
    head = _head(spec)
    calls = []
    for host in (head, *spec.worker_hosts):
        if not _is_here(host):
            calls.append(_on(host, spec, f'umask 077; mkdir -p "$HOME/{TOKENS}"; cat > "$HOME/{spec.token}"', token_path(spec)))
        calls.append(_on(host, spec, "bash -s install", file))
    calls.append(_on(head, spec, f"bash -s head {head}", file))
    return calls + [_on(host, spec, f"bash -s worker {host} {head}", file) for host in spec.worker_hosts]


def down(kind: str, spec: ClusterSpec, folder: Path) -> list[Call]:
    """Returns what stops a cluster."""
    file = folder / next(iter(texts(kind, spec)))
    if kind == "ray-up":
        return [Call(("ray", "down", str(file), "--yes"), environment=_auth(spec))]
    if kind == "slurm":
        return [Call(("scancel", "--name", spec.name))]
    if kind == "kuberay":
        secret = ("kubectl", "delete", "secret", kuberay.secret_name(spec), "--namespace", spec.namespace)
        return [Call(("kubectl", "delete", "--filename", str(file))), Call(secret)]
    return [_on(host, spec, f"bash -s stop {host}", file) for host in (*spec.worker_hosts, _head(spec))]


def status(kind: str, spec: ClusterSpec, folder: Path) -> list[Call]:
    """Returns what says how a cluster is."""
    file = folder / next(iter(texts(kind, spec)))
    if kind == "ray-up":
        inside = f'RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/{spec.token}" ray status'
        return [Call(("ray", "exec", str(file), inside), environment=_auth(spec))]
    if kind == "slurm":
        return [Call(("squeue", "--name", spec.name))]
    if kind == "kuberay":
        pods = ("kubectl", "get", "raycluster,pod", "--namespace", spec.namespace, "--selector", f"ray.io/cluster={spec.name}")
        return [Call(("kubectl", "get", "raycluster", spec.name, "--namespace", spec.namespace)), Call(pods)]
    return [_on(_head(spec), spec, f"bash -s status {_head(spec)}", file)]


def submit(kind: str, spec: ClusterSpec, folder: Path, words: Sequence[str]) -> list[Call]:
    """Returns what runs studies on a cluster that is up.

    Args:
        kind: One of `KINDS`.
        spec: Of the cluster.
        folder: Where its files are.
        words: What follows `alphasweep run`: studies and options.
    """
    if kind == "slurm":
        return [Call(("sbatch", str(folder / next(iter(texts(kind, spec)))), *words))]
    runs = "/runs" if kind == "kuberay" and spec.volume else f'"$HOME/{RUNS}"'
    carried = json.dumps({"working_dir": ".", "excludes": list(EXCLUDES)})
    # The home is the head's: a shell there says where it is. The folder the job runs in is deleted after it.
    run = ("bash", "-c", f"exec {run_line(words, runs)}")
    address = f"http://127.0.0.1:{DASHBOARD}"
    return [Call(("ray", "job", "submit", "--address", address, "--runtime-env-json", carried, "--", *run), environment=_auth(spec))]


def tunnel(kind: str, spec: ClusterSpec) -> str:
    """Returns the command that brings the head's dashboard from its loopback to the one here; empty where none is needed."""
    if kind == "kuberay":
        pod = f'"$(kubectl get pod --namespace {spec.namespace} --selector ray.io/cluster={spec.name},ray.io/node-type=head --output name)"'
        return f"kubectl port-forward --namespace {spec.namespace} {pod} {DASHBOARD}"
    if kind == "slurm" or _is_here(_head(spec)):
        return ""
    return f"ssh -N -L {DASHBOARD}:127.0.0.1:{DASHBOARD} {_login(_head(spec), spec)}"


def token_path(spec: ClusterSpec) -> Path:
    """Returns where the token of a cluster is on this machine."""
    return Path.home() / spec.token


def ensure_token(spec: ClusterSpec) -> bool:
    """Makes the token's file if there is none, readable by its owner only.

    Returns:
        Whether it was made.

    Raises:
        SpecError: There is one that others can read.
    """
    path = token_path(spec)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            raise SpecError("name", f"others can read the token in {path}: remove it and start the cluster anew") from None
        return False
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32))
    return True


def _auth(spec: ClusterSpec) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_path(spec))}


def _head(spec: ClusterSpec) -> str:
    if not spec.head_host:
        raise SpecError("hosts", "plain needs the machines: hosts: {head: ADDRESS, workers: [ADDRESS, …]}")
    return spec.head_host


def _on(host: str, spec: ClusterSpec, command: str, stdin: Path) -> Call:
    """Returns a command on a machine of the cluster; this one, by a loopback address, is not logged into."""
    if _is_here(host):
        return Call(tuple(shlex.split(command)), stdin)
    return Call(("ssh", "-o", "BatchMode=yes", _login(host, spec), command), stdin)


def _login(host: str, spec: ClusterSpec) -> str:
    return f"{spec.user}@{host}" if spec.user else host


def _is_here(host: str) -> bool:
    return host == "localhost" or host.startswith("127.")


def _yaml(content: Mapping[str, Any]) -> str:
    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(content, Dumper=Plain, sort_keys=False, width=1000, allow_unicode=True)

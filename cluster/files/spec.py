"""A Ray cluster as the host file's section `cluster` describes it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Final

KINDS: Final = ("plain", "ray-up", "kuberay", "slurm")
TOKENS: Final = ".alphasweep"  # folder in the home of who runs the cluster; holds one file per cluster, mode 0600
RUNS: Final = "alphasweep-runs"  # folder in that home where a cluster's studies live
DASHBOARD: Final = 8265  # on loopback, whatever the kind
_NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_MEMORY: Final = re.compile(r"([1-9][0-9]{0,5})(Mi|Gi|Ti)")
_TIME: Final = re.compile(r"(\d+-)?\d{1,2}:\d{2}:\d{2}")
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,-]{0,62}")
_IMAGE: Final = re.compile(r"[a-z0-9][A-Za-z0-9./:@_-]{0,254}")
_MEBIBYTES: Final = {"Mi": 1, "Gi": 1 << 10, "Ti": 1 << 20}


class SpecError(ValueError):
    """The description of a cluster is not usable.

    Attributes:
        key: Dotted key below `cluster` that is wrong; empty for all of it.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"cluster{'.' if key else ''}{key}: {message}")
        self.key = key


@dataclass(frozen=True)
class Node:
    """What a machine of the cluster has, or is asked for.

    Attributes:
        cpu: Cores; 0 leaves it to Ray to count them (KubeRay and Slurm need a number).
        gpu: Cards.
        memory: Such as "16Gi"; empty for what there is.
    """

    cpu: int = 0
    gpu: int = 0
    memory: str = ""

    @property
    def mebibytes(self) -> int:
        """Memory in MiB; 0 where it is not given."""
        found = _MEMORY.fullmatch(self.memory)
        return int(found[1]) * _MEBIBYTES[found[2]] if found else 0


@dataclass(frozen=True)
class ClusterSpec:
    """A Ray cluster.

    Attributes:
        name: What it is called; also the name of its token's file.
        head: Its head node.
        worker: Each of its worker nodes.
        least: Worker nodes at least; for kinds that cannot grow, all there are.
        most: Worker nodes at most.
        head_host: Address of the head, for plain and ray-up; empty where there is none.
        worker_hosts: Addresses of the workers.
        user: Who logs in there; empty for the same as here.
        port: Where the head answers.
        image: Container image; empty for none.
        setup: Commands that install what a node needs; empty for the pinned packages of `requirements`.
        partition, time, nodes, account: Slurm's; nodes counts the head.
        namespace, volume: Kubernetes'; volume is a claim that keeps the studies.
        kind: Of files that is meant where none is named; empty for none.
    """

    name: str
    head: Node = Node()
    worker: Node = Node()
    least: int = 0
    most: int = 0
    head_host: str = ""
    worker_hosts: tuple[str, ...] = ()
    user: str = ""
    port: int = 6379
    image: str = ""
    setup: tuple[str, ...] = ()
    partition: str = ""
    time: str = ""
    nodes: int = 0
    account: str = ""
    namespace: str = "default"
    volume: str = ""
    kind: str = ""
    ray: str = field(default_factory=lambda: metadata.version("ray"))

    @property
    def token(self) -> str:
        """Path of the token's file below the home folder, here and on the nodes."""
        return f"{TOKENS}/{self.name}.token"

    def installs(self) -> tuple[str, ...]:
        """Returns the commands that install what a node needs, and one that refuses another Ray than the pinned one."""
        wanted = " ".join(f"'{each}'" for each in requirements())
        return (*(self.setup or (f"python3 -m pip install {wanted}",)), self.same_ray())

    def same_ray(self) -> str:
        """Returns a command that fails unless the pinned version of Ray is there."""
        other = f'sys.exit("needs Ray {self.ray}, has " + ray.__version__)'
        return f"python3 -c 'import ray, sys; ray.__version__ == \"{self.ray}\" or {other}'"


def requirements() -> tuple[str, ...]:
    """Returns the packages a node needs, each at the version that is installed here; `ray[default]` has the dashboard and its jobs."""
    found = []
    for line in metadata.requires("alphasweep") or ():
        if "extra ==" in line or not (match := re.match(r"([A-Za-z0-9_.-]+)(\[[^\]]*\])?", line)):
            continue
        name, extras = match[1], match[2] or ""
        extras = "[default,tune]" if name == "ray" else extras
        found.append(f"{name}{extras}=={metadata.version(name).split('+')[0]}")
    return tuple(found)


def parse(given: Mapping[str, Any]) -> ClusterSpec:
    """Reads the section.

    Args:
        given: As YAML has it.

    Raises:
        SpecError: What is wrong, and which key it is.
    """
    _known("", given, ("name", "kind", "head", "workers", "hosts", "port", "image", "setup", "slurm", "kubernetes"))
    hosts, slurm, kubernetes, workers = (_mapping(key, given) for key in ("hosts", "slurm", "kubernetes", "workers"))
    _known("hosts", hosts, ("head", "workers", "user"))
    _known("slurm", slurm, ("partition", "time", "nodes", "account"))
    _known("kubernetes", kubernetes, ("namespace", "volume"))
    _known("workers", workers, ("cpu", "gpu", "memory", "count", "min", "max"))
    _known("head", _mapping("head", given), ("cpu", "memory"))
    kind = given.get("kind", "")
    if kind and kind not in KINDS:
        raise SpecError("kind", f"{kind!r}: give one of {', '.join(KINDS)}")
    others = _hosts(hosts.get("workers"))
    least, most = _counts(workers, len(others))
    setup = given.get("setup") or []
    if not isinstance(setup, list) or not all(isinstance(line, str) and line.strip() and "\n" not in line for line in setup):
        raise SpecError("setup", "give a list of shell commands, one line each")
    nodes = _number("slurm.nodes", slurm.get("nodes"), 1 + least, 1)
    return ClusterSpec(
        name=_text("name", given.get("name", "alphasweep"), _NAME, "small letters, digits and -, at most 40, as Kubernetes wants names"),
        head=_node("head", _mapping("head", given)),
        worker=_node("workers", workers),
        least=least,
        most=most,
        head_host=_text("hosts.head", hosts.get("head", ""), _HOST, "a name or an address"),
        worker_hosts=others,
        user=_text("hosts.user", hosts.get("user", ""), _USER, "a user's name"),
        port=_number("port", given.get("port"), 6379, 1024, 65535),
        image=_text("image", given.get("image", ""), _IMAGE, "a container image, such as registry/name:tag"),
        setup=tuple(setup),
        partition=_text("slurm.partition", slurm.get("partition", ""), _WORD, "the name of a partition"),
        time=_text("slurm.time", slurm.get("time", ""), _TIME, "hours:minutes:seconds, in quotes"),
        nodes=nodes,
        account=_text("slurm.account", slurm.get("account", ""), _WORD, "the name of an account"),
        namespace=_text("kubernetes.namespace", kubernetes.get("namespace", "default"), _NAME, "a namespace"),
        volume=_text("kubernetes.volume", kubernetes.get("volume", ""), _NAME, "the name of a volume claim"),
        kind=str(kind),
    )


def _counts(workers: Mapping[str, Any], there: int) -> tuple[int, int]:
    if "count" in workers and ("min" in workers or "max" in workers):
        raise SpecError("workers.count", "give count, or min and max, not both")
    if "count" in workers:
        count = _number("workers.count", workers["count"], 0, 0)
        return count, count
    least = _number("workers.min", workers.get("min"), there or (0 if "max" in workers else 1), 0)
    most = _number("workers.max", workers.get("max"), max(least, there), 0)
    if most < least:
        raise SpecError("workers.max", f"{most} is less than workers.min, {least}")
    return least, most


def _hosts(given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        raise SpecError("hosts.workers", f"give a list of names or addresses (it is {given!r})")
    found = tuple(_text("hosts.workers", each, _HOST, "names or addresses") for each in given)
    if twice := [each for each in found if found.count(each) > 1]:
        raise SpecError("hosts.workers", f"{twice[0]} is given twice; a host is one node")
    return found


def _node(key: str, given: Mapping[str, Any]) -> Node:
    memory = _text(f"{key}.memory", given.get("memory", ""), _MEMORY, "a size such as 16Gi")
    return Node(_number(f"{key}.cpu", given.get("cpu"), 0, 1), _number(f"{key}.gpu", given.get("gpu"), 0, 0), memory)


def _number(key: str, given: Any, default: int, least: int, most: int = 100_000) -> int:
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
        raise SpecError(key, f"give a whole number from {least} to {most} (it is {given!r})")
    return given


def _text(key: str, given: Any, allowed: re.Pattern[str], words: str) -> str:
    """Reads a word of a narrow alphabet: these end up in scripts, so nothing that a shell or YAML reads otherwise gets in."""
    if given in ("", None):
        return ""
    if not isinstance(given, str) or not allowed.fullmatch(given):
        raise SpecError(key, f"give {words} (it is {given!r})")
    return given


def _mapping(key: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    value = given.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise SpecError(key, f"give a mapping of keys (it is {value!r})")
    return value or {}


def _known(key: str, given: Mapping[str, Any], allowed: Sequence[str]) -> None:
    for name in given:
        if name not in allowed:
            raise SpecError(f"{key}.{name}".strip("."), f"is not a key here; known: {', '.join(allowed)}")

"""The Ray session of a driver: a private local one, or an existing cluster by address."""

from __future__ import annotations

import math
import os
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from cluster.lanes import cards_here, visible_cores

CONNECT_SECONDS = 5.0
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # whether Ray may have nodes on other machines
MACHINE = "machine_cpu"  # resource of a local node: what the machine has, where Ray was told of more CPUs so that more trials run at once


class ClusterError(ValueError):
    """The Ray cluster cannot be used; the message says what to do."""


@contextmanager
def ray_session(address: str | None = None, cpus: int | None = None) -> Iterator[int]:
    """Connects to Ray and disconnects at the end.

    Args:
        address: Cluster address; None starts a local Ray that listens on loopback only.
        cpus: CPUs of the local Ray; default all.

    Yields:
        Number of CPUs the cluster has.

    Raises:
        ClusterError: Nobody answers at the address.
    """
    check_address(address)
    # A hundred short-lived drivers must not fill the terminal or send usage data.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    warnings.filterwarnings("ignore", module="ray")
    with nullcontext() if address else _loopback_only():
        yield from _connected(address, cpus)


def _connected(address: str | None, cpus: int | None) -> Iterator[int]:
    import ray

    started = not ray.is_initialized()
    if started:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address:
            ray.init(address=address, **quiet)
        else:
            there, cards = len(visible_cores()), cards_here()
            if cards is not None:
                quiet["num_gpus"] = cards
            ray.init(address="local", num_cpus=cpus or there, resources={MACHINE: there}, include_dashboard=False, **quiet)
    try:
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        if started:
            ray.shutdown()


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Has a local Ray bind to loopback, for as long as it is used.

    Ray binds every server to the node's address and replaces a loopback address by the outside one, except on Windows and macOS,
    for the sake of their firewall prompts. This asks for that treatment, which forbids clusters: so it must not outlast the session,
    in this process or in the environment of those it starts.
    """
    from ray._private import ray_constants

    kept = os.environ.get(_CLUSTERS), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[_CLUSTERS], ray_constants.ENABLE_RAY_CLUSTER = "0", False  # workers read the one, this process has read it
    try:
        yield
    finally:
        os.environ.pop(_CLUSTERS)
        if kept[0] is not None:
            os.environ[_CLUSTERS] = kept[0]
        ray_constants.ENABLE_RAY_CLUSTER = kept[1]


def share(cpu: float, gpu: float | None) -> tuple[dict[str, float], int]:
    """Says what a trial takes of the connected cluster, and how many fit at once.

    Args:
        cpu: CPUs of a trial.
        gpu: Cards of a trial, or a share of one; None is a whole card where there are any.

    Raises:
        ClusterError: Not even one trial fits, on any node.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cards = sum(node.get("GPU", 0.0) for node in nodes)
    needs = {"cpu": cpu, "gpu": (1.0 if cards else 0.0) if gpu is None else gpu}
    _check_largest(needs, nodes)
    fits = sum(_fits(needs, node) for node in nodes)
    if fits < 1:
        raise ClusterError(
            f"resources: a trial needs {cpu:g} CPUs and {needs['gpu']:g} GPUs on one node, no node of the cluster has both: ask for less"
        )
    return needs, fits


def _check_largest(needs: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> None:
    """Refuses what not even the largest node has: Ray would wait for such a node for ever, or run on CPUs that are not there."""
    local = any(MACHINE in node for node in nodes)
    where = "this machine" if local else "the largest node of the cluster"
    cpus = max((min(node.get("CPU", 0.0), node.get(MACHINE, math.inf)) for node in nodes), default=0.0)
    cards = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
    for name, has, unit in (("cpu", cpus, "CPUs"), ("gpu", cards, "GPUs")):
        if needs[name] > has:
            less = f"give resources.{name}: {has:g} or less" if has or name == "gpu" else "start a node that has some"
            more = ", or --cluster with the address of a larger one" if local else ""
            raise ClusterError(f"resources.{name}: a trial needs {needs[name]:g} {unit}, and {where} has {has:g}; {less}{more}")


def _fits(needs: Mapping[str, float], node: Mapping[str, float]) -> int:
    """Returns how many trials fit on a node at once."""
    fits = int(node.get("CPU", 0.0) / needs["cpu"] + 1e-9)
    if not (share := needs["gpu"]):
        return fits
    cards = node.get("GPU", 0.0)
    # A trial's share lies on one card: of 0.4 each, two fit on a card, not two and a half.
    return min(fits, int(cards) * int(1.0 / share + 1e-9) if share < 1.0 else int(cards / share + 1e-9))


def check_address(address: str | None) -> None:
    """Finds out in seconds whether a cluster answers, which Ray's own attempts take minutes to give up on.

    Raises:
        ClusterError: Nobody answers there.
    """
    if not address or address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except ValueError:
        raise ClusterError(f"--cluster {address}: give HOST:PORT, as `ray start --head` prints it, or auto") from None
    except OSError as error:
        raise ClusterError(f"--cluster {address}: no Ray cluster answers there ({error}); start one with `ray start --head`") from None

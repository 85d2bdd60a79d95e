"""The commands that start Ray on a node, the same for every kind of cluster."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from cluster.files.spec import DASHBOARD, ClusterSpec, Node

QUIET: Final = ("--disable-usage-stats",)


def head_options(spec: ClusterSpec) -> list[str]:
    """Returns the options of `ray start` on the head, without its address."""
    return ["--head", f"--port={spec.port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={DASHBOARD}", *shares(spec.head), *QUIET]


def worker_options(spec: ClusterSpec) -> list[str]:
    """Returns the options of `ray start` on a worker, without addresses."""
    return [*shares(spec.worker), *QUIET]


def shares(node: Node) -> list[str]:
    """Returns what Ray is told a node has; what is not given it counts itself."""
    return [f"--num-cpus={node.cpu}"] * bool(node.cpu) + [f"--num-gpus={node.gpu}"] * bool(node.gpu)


def run_line(words: Sequence[str], folder: str) -> str:
    """Returns the command that runs studies on the cluster whose node it is called on.

    Args:
        words: What follows `alphasweep run`.
        folder: Where the studies live, as a shell reads it.
    """
    return f"python3 -m sweeps.cli run {shlex.join(words)} --cluster auto --dir {folder}"

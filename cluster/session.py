"""The Ray session of a driver: a private local one, or an existing cluster by address."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ray_session(address: str | None = None, cpus: int | None = None) -> Iterator[int]:
    """Connects to Ray and disconnects at the end.

    Args:
        address: Cluster address; None starts a local Ray that listens on loopback only.
        cpus: CPUs of the local Ray; default all.

    Yields:
        Number of CPUs the cluster has.
    """
    # A hundred short-lived drivers must not fill the terminal or send usage data.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    warnings.filterwarnings("ignore", module="ray")
    if not address:
        # Ray binds every server to the node's address and replaces a loopback address by the outside one, except on
        # Windows and macOS, for the sake of their firewall prompts. This asks for that treatment; read at import.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    started = not ray.is_initialized()
    if started:
        local = {"num_cpus": cpus or os.cpu_count(), "include_dashboard": False}
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **({} if address else local))
    try:
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        if started:
            ray.shutdown()

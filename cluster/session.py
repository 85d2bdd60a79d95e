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
    import ray

    started = not ray.is_initialized()
    if started:
        local = {"num_cpus": cpus or os.cpu_count(), "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **({} if address else local))
    try:
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        if started:
            ray.shutdown()

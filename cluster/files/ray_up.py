"""The file that `ray up` reads, for machines that are there already and answer to ssh (Ray's provider `local`)."""

from __future__ import annotations

from typing import Any

from cluster.files.spec import ClusterSpec, SpecError
from cluster.files.start import head_options, worker_options


def config(spec: ClusterSpec) -> dict[str, Any]:
    """Returns the content of the file.

    Args:
        spec: Needs hosts.

    Raises:
        SpecError: It names no hosts.
    """
    if not spec.head_host:
        raise SpecError("hosts", "ray-up needs the machines: hosts: {head: ADDRESS, workers: [ADDRESS, …]}")
    token = f"~/{spec.token}"
    with_token = f'export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/{spec.token}" RAY_USAGE_STATS_ENABLED=0;'
    made: dict[str, Any] = {
        "cluster_name": spec.name,
        "provider": {"type": "local", "head_ip": spec.head_host, "worker_ips": list(spec.worker_hosts)},
        "auth": {"ssh_user": spec.user} if spec.user else {},
        "min_workers": min(spec.least, len(spec.worker_hosts)),
        "max_workers": min(spec.most, len(spec.worker_hosts)),
        # The file travels by rsync, with its mode; what is in it is never part of this one.
        "file_mounts": {token: token},
        "initialization_commands": [],
        "setup_commands": [f'chmod 600 "$HOME/{spec.token}"', *spec.installs()],
        "head_start_ray_commands": [
            "ray stop",
            f"{with_token} ray start {' '.join(head_options(spec))} --autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": [
            "ray stop",
            f"{with_token} ray start --address=$RAY_HEAD_IP:{spec.port} {' '.join(worker_options(spec))}",
        ],
    }
    if spec.image:
        made["docker"] = {"image": spec.image, "container_name": spec.name, "run_options": ["--shm-size=4g"]}
    return made

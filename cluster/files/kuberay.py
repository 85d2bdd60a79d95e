"""Manifests for KubeRay: a RayCluster that stays, and a RayJob that starts one, runs a study and takes it down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cluster.files.spec import DASHBOARD, ClusterSpec, Node, SpecError
from cluster.files.start import run_line

SECRET_KEY: Final = "auth_token"  # the one KubeRay looks for
_RUNS: Final = "/runs"
_API: Final = "ray.io/v1"


def secret_name(spec: ClusterSpec) -> str:
    """Returns the name of the Secret that holds the token; it is made by kubectl from the token's file, and is in no manifest."""
    return f"{spec.name}-token"


def cluster(spec: ClusterSpec) -> dict[str, Any]:
    """Returns the manifest of a RayCluster; works with KubeRay 1.1 and later.

    The dashboard listens on the head's loopback, which `kubectl port-forward` to the pod reaches and the cluster's network does not.

    Raises:
        SpecError: What Kubernetes needs to know is missing.
    """
    token: list[dict[str, Any]] = [{"name": "RAY_AUTH_MODE", "value": "token"}, {"name": "RAY_AUTH_TOKEN", "valueFrom": _token(spec)}]
    body = _cluster_spec(spec, token, "127.0.0.1")
    if spec.most > spec.least:
        body["enableInTreeAutoscaling"] = True
        body["autoscalerOptions"] = {"env": token}
    return {"apiVersion": _API, "kind": "RayCluster", "metadata": _metadata(spec, spec.name), "spec": body}


def job(spec: ClusterSpec, studies: Sequence[str]) -> dict[str, Any]:
    """Returns the manifest of a RayJob; needs KubeRay 1.6 or later.

    KubeRay asks the dashboard for the job's state over the cluster's network, so there it listens on the pod's address, behind the token.

    Args:
        spec: Of the cluster.
        studies: To run, as `alphasweep run` takes them; they are in the image.

    Raises:
        SpecError: What Kubernetes needs to know is missing.
    """
    body = _cluster_spec(spec, [], "0.0.0.0") | {"authOptions": {"mode": "token", "secretName": secret_name(spec)}}
    if spec.most > spec.least:
        body["enableInTreeAutoscaling"] = True
    runs = _RUNS if spec.volume else "runs"
    wanted: dict[str, Any] = {"entrypoint": run_line(studies, runs), "shutdownAfterJobFinishes": True, "backoffLimit": 0}
    wanted["rayClusterSpec"] = body
    return {"apiVersion": _API, "kind": "RayJob", "metadata": _metadata(spec, f"{spec.name}-job"), "spec": wanted}


def _cluster_spec(spec: ClusterSpec, token: Sequence[dict[str, Any]], dashboard: str) -> dict[str, Any]:
    if not spec.image:
        raise SpecError("image", "kuberay needs an image that has Ray and alphasweep in it (docs/cluster.md says how to make one)")
    for key, node in (("head", spec.head), ("workers", spec.worker)):
        if not node.cpu or not node.memory:
            raise SpecError(key, "kuberay needs cpu and memory of its pods, such as {cpu: 4, memory: 16Gi}")
    head = {"dashboard-host": dashboard, "dashboard-port": str(DASHBOARD), "disable-usage-stats": "true"}
    ports = [{"containerPort": spec.port, "name": "gcs-server"}, {"containerPort": DASHBOARD, "name": "dashboard"}]
    return {
        "rayVersion": spec.ray,
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            "rayStartParams": head | ({"port": str(spec.port)} if spec.port != 6379 else {}),
            "template": _pod(spec, "ray-head", spec.head, token, ports),
        },
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "replicas": spec.least,
                "minReplicas": spec.least,
                "maxReplicas": spec.most,
                "rayStartParams": {"disable-usage-stats": "true"},
                "template": _pod(spec, "ray-worker", spec.worker, token, []),
            }
        ],
    }


def _pod(spec: ClusterSpec, name: str, node: Node, token: Sequence[dict[str, Any]], ports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    amounts: dict[str, str] = {"cpu": str(node.cpu), "memory": node.memory}
    if node.gpu:
        amounts["nvidia.com/gpu"] = str(node.gpu)
    container: dict[str, Any] = {"name": name, "image": spec.image, "resources": {"limits": dict(amounts), "requests": dict(amounts)}}
    if token:
        container["env"] = [*token]
    if ports:
        container["ports"] = list(ports)
    pod: dict[str, Any] = {"containers": [container], "automountServiceAccountToken": False}
    if name == "ray-head" and spec.most > spec.least:
        del pod["automountServiceAccountToken"]  # the autoscaler beside the head asks Kubernetes for pods
    if name == "ray-head" and spec.volume:  # only the driver writes a study; it runs on the head
        container["volumeMounts"] = [{"name": "runs", "mountPath": _RUNS}]
        pod["volumes"] = [{"name": "runs", "persistentVolumeClaim": {"claimName": spec.volume}}]
    return {"spec": pod}


def _token(spec: ClusterSpec) -> dict[str, Any]:
    return {"secretKeyRef": {"name": secret_name(spec), "key": SECRET_KEY}}


def _metadata(spec: ClusterSpec, name: str) -> dict[str, str]:
    return {"name": name, "namespace": spec.namespace}

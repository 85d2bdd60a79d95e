"""What a trial takes of a cluster: what no node has is refused before anything runs."""

from __future__ import annotations

import os

import pytest

from cluster.session import MACHINE, ClusterError, _check_largest, _fits, ray_session, share


@pytest.mark.ray
def test_more_than_the_machine_has_is_refused_though_ray_was_told_of_more_cpus() -> None:
    there = os.cpu_count() or 1
    with ray_session(None, 4 * there) as cpus:
        assert cpus == 4 * there  # --slots asks for this many trials at once
        assert share(there, 0.0) == ({"cpu": there, "gpu": 0.0}, 4)
        with pytest.raises(
            ClusterError, match=rf"^resources\.cpu: a trial needs {there + 1} CPUs, and this machine has {there}; give reso"
        ):
            share(there + 1, 0.0)
        with pytest.raises(
            ClusterError, match=r"^resources\.gpu: a trial needs 1000 GPUs, and this machine has \d+; give resources\.gpu: \d+ or"
        ):
            share(1.0, 1000.0)


def test_the_largest_node_of_a_cluster_is_what_counts_not_their_sum() -> None:
    nodes = [{"CPU": 4.0}, {"CPU": 16.0, "GPU": 2.0}, {"GPU": 0.0}]
    _check_largest({"cpu": 16.0, "gpu": 2.0}, nodes)
    with pytest.raises(ClusterError, match=r"^resources\.cpu: a trial needs 18 CPUs, and the largest node of the cluster has 16; give"):
        _check_largest({"cpu": 18.0, "gpu": 0.0}, nodes)
    with pytest.raises(ClusterError, match=r"^resources\.gpu: a trial needs 3 GPUs, and the largest node of the cluster has 2; give"):
        _check_largest({"cpu": 1.0, "gpu": 3.0}, nodes)
    with pytest.raises(ClusterError, match=r"^resources\.cpu: a trial needs 3 CPUs, and this machine has 2; .* or --cluster with"):
        _check_largest({"cpu": 3.0, "gpu": 0.0}, [{"CPU": 64.0, MACHINE: 2.0}])


def test_a_trial_lies_on_one_node_and_its_share_on_one_card() -> None:
    node = {"CPU": 8.0, "GPU": 2.0}
    assert _fits({"cpu": 3.0, "gpu": 0.0}, node) == 2 and _fits({"cpu": 0.1, "gpu": 0.0}, {"CPU": 1.0}) == 10
    assert (
        _fits({"cpu": 1.0, "gpu": 0.4}, node) == 4
        and _fits({"cpu": 1.0, "gpu": 0.1}, node) == 8
        and _fits({"cpu": 1.0, "gpu": 2.0}, node) == 1
    )
    assert _fits({"cpu": 1.0, "gpu": 1.0}, {"CPU": 8.0}) == 0 and _fits({"cpu": 1.0, "gpu": 0.5}, {"GPU": 1.0}) == 0


@pytest.mark.ray
def test_a_local_session_is_on_loopback_and_leaves_no_setting_behind_that_forbids_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray  # which reads what is in the environment now
    from ray._private import ray_constants

    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    before = ray_constants.ENABLE_RAY_CLUSTER
    with ray_session(cpus=1):
        assert {node["NodeManagerAddress"] for node in ray.nodes()} == {"127.0.0.1"}, "nothing is reached from outside"
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ
    assert before == ray_constants.ENABLE_RAY_CLUSTER

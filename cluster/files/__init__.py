"""Files that start a Ray cluster, all from one description: plain scripts, `ray up`, KubeRay, Slurm."""

from cluster.files.spec import KINDS, ClusterSpec, SpecError, parse

__all__ = ["KINDS", "ClusterSpec", "SpecError", "parse"]

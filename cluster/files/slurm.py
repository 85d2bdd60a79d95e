"""A batch script for Slurm: starts Ray on the nodes it was given, runs studies, ends with the allocation."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from cluster.files.spec import RUNS, ClusterSpec, SpecError
from cluster.files.start import QUIET

_SCRIPT = """\
#!/usr/bin/env bash
{directives}
# Ray {ray}: the first node is the head and runs the studies, the others are workers. Give studies to sbatch, or take those below:
#   sbatch {name}.slurm STUDY…
set -euo pipefail
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="${{RAY_AUTH_TOKEN_PATH:-$HOME/{token}}}" RAY_USAGE_STATS_ENABLED=0
[ -s "$RAY_AUTH_TOKEN_PATH" ] || {{ echo "no token in $RAY_AUTH_TOKEN_PATH: alphasweep cluster submit makes one" >&2; exit 1; }}
chmod 600 "$RAY_AUTH_TOKEN_PATH"  # the home folder is the same on all nodes
{setup}
{same_ray}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address="$(srun --nodes=1 --ntasks=1 -w "${{nodes[0]}}" hostname --ip-address | awk '{{print $1}}')"
# Several allocations may share a node: each has ports and folders of its own.
port=$((20000 + SLURM_JOB_ID % 5000))
dashboard=$((25000 + SLURM_JOB_ID % 5000))
temporary="/tmp/ray-$SLURM_JOB_ID"
cores="${{SLURM_CPUS_PER_TASK:-{cpu}}}"

srun --overlap --nodes=1 --ntasks=1 -w "${{nodes[0]}}" ray start --head --node-ip-address="$address" --port="$port" \\
  --dashboard-host=127.0.0.1 --dashboard-port="$dashboard" --temp-dir="$temporary" --num-cpus="$cores" {gpus}{quiet} --block &
for _ in $(seq 120); do
  ray status --address="$address:$port" >/dev/null 2>&1 && break
  sleep 1
done
for node in "${{nodes[@]:1}}"; do
  srun --overlap --nodes=1 --ntasks=1 -w "$node" ray start --address="$address:$port" \\
    --temp-dir="$temporary" --num-cpus="$cores" {gpus}{quiet} --block &
done

[ "$#" -gt 0 ] || set -- {studies}
[ "$#" -gt 0 ] || {{ echo "no study given: sbatch {name}.slurm STUDY…" >&2; exit 2; }}
# The studies go on where they were when the allocation is given again: submit the same script.
srun --overlap --nodes=1 --ntasks=1 -w "${{nodes[0]}}" \\
  alphasweep run "$@" --cluster "$address:$port" --dir "${{ALPHASWEEP_RUNS:-$HOME/{runs}}}"
"""


def script(spec: ClusterSpec, studies: Sequence[str] = ()) -> str:
    """Returns the script.

    Args:
        spec: Needs the cores of a node (`workers.cpu`).
        studies: To run where sbatch is given none.

    Raises:
        SpecError: The cores are missing.
    """
    if not spec.worker.cpu:
        raise SpecError("workers.cpu", "slurm needs the cores of a node")
    directives = [f"--job-name={spec.name}", f"--nodes={spec.nodes}", "--ntasks-per-node=1", f"--cpus-per-task={spec.worker.cpu}"]
    directives += [f"--gpus-per-node={spec.worker.gpu}"] * bool(spec.worker.gpu)
    directives += [f"--mem={spec.worker.mebibytes}M"] * bool(spec.worker.memory)
    directives += [f"--{key}={value}" for key in ("partition", "time", "account") if (value := getattr(spec, key))]
    directives += [f"--output={spec.name}-%j.log"]
    return _SCRIPT.format(
        directives="\n".join(f"#SBATCH {each}" for each in directives),
        ray=spec.ray,
        name=spec.name,
        token=spec.token,
        setup="\n".join(spec.setup) or "# setup: none; packages are taken from the environment sbatch is called in",
        same_ray=spec.same_ray(),
        cpu=spec.worker.cpu,
        gpus=f"--num-gpus={spec.worker.gpu} " if spec.worker.gpu else "",
        quiet=" ".join(QUIET),
        studies=" ".join(shlex.quote(each) for each in studies),
        runs=RUNS,
    )

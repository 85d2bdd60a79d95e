"""A script that starts, shows and stops Ray on one machine of a cluster; to be read, and run by hand or over ssh."""

from __future__ import annotations

from cluster.files.spec import ClusterSpec
from cluster.files.start import head_options, worker_options

_SCRIPT = """\
#!/usr/bin/env bash
# Ray {ray} for the cluster {name}. On each machine, with the same token file (mode 0600) on all of them:
#   node.sh install                  packages a node needs, at pinned versions
#   node.sh head ADDRESS             start the head; ADDRESS is its own, in the network of the cluster
#   node.sh worker ADDRESS HEAD      start a worker; HEAD is the head's address
#   node.sh status HEAD              nodes and what is in use
#   node.sh stop ADDRESS             end this node, and no other Ray of the machine
# Ray listens on all addresses of a machine, whichever is given: let a firewall keep port {port} and Ray's others inside the cluster.
set -euo pipefail
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="${{RAY_AUTH_TOKEN_PATH:-$HOME/{token}}}" RAY_USAGE_STATS_ENABLED=0
place="$HOME/{folder}/{name}-${{2:-}}"  # of this node's log and process number
# Nodes that share a machine must not share Ray's folder: each deletes a job's code when it is done with it. Sockets want a short name.
temporary="/tmp/ray-$(id -u)-$(printf %s "$place" | cksum | cut -d ' ' -f 1)"

check() {{
  [ -s "$RAY_AUTH_TOKEN_PATH" ] || {{ echo "no token in $RAY_AUTH_TOKEN_PATH: alphasweep cluster up makes one" >&2; exit 1; }}
  case "$(stat -c %a "$RAY_AUTH_TOKEN_PATH")" in
    600 | 400) ;;
    *) echo "others can read $RAY_AUTH_TOKEN_PATH: chmod 600 it" >&2; exit 1 ;;
  esac
  {same_ray}
}}

start() {{
  check
  mkdir -p "$place"
  if [ -s "$place/pid" ] && kill -0 "$(cat "$place/pid")" 2>/dev/null; then
    echo "this node runs already (process $(cat "$place/pid")); node.sh stop ends it" >&2
    exit 1
  fi
  nohup ray start "$@" --temp-dir="$temporary" --block >"$place/log" 2>&1 </dev/null &
  echo "$!" >"$place/pid"
  for _ in $(seq 120); do
    if grep -q 'Ray runtime started' "$place/log"; then
      echo "started (process $(cat "$place/pid"), log $place/log)"
      return
    fi
    kill -0 "$(cat "$place/pid")" 2>/dev/null || break
    sleep 0.5
  done
  tail -n 20 "$place/log" >&2
  exit 1
}}

case "${{1:-}}" in
  install)
{install}
    ;;
  head)
    start --node-ip-address="${{2:?give the address of this machine}}" {head}
    ;;
  worker)
    start --node-ip-address="${{2:?give the address of this machine}}" --address="${{3:?give the address of the head}}:{port}" {worker}
    ;;
  status)
    check
    ray status --address="${{2:?give the address of the head}}:{port}"
    ;;
  stop)
    : "${{2:?give the address of this machine}}"
    if [ -s "$place/pid" ]; then
      pid="$(cat "$place/pid")"
      kill -TERM "$pid" 2>/dev/null || true
      for _ in $(seq 60); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.5
      done
      rm -f "$place/pid"
    fi
    echo "stopped"
    ;;
  *)
    echo 'usage: node.sh install | head ADDRESS | worker ADDRESS HEAD | status HEAD | stop ADDRESS' >&2
    exit 2
    ;;
esac
"""


def script(spec: ClusterSpec) -> str:
    """Returns `node.sh`, for every machine of the cluster.

    The options of the head and the workers are in it; addresses and the token's path are not, so that one file does for all.
    """
    return _SCRIPT.format(
        ray=spec.ray,
        name=spec.name,
        port=spec.port,
        token=spec.token,
        folder=".alphasweep/nodes",
        same_ray=spec.same_ray(),
        install="\n".join(f"    {line}" for line in spec.installs()),
        head=" ".join(head_options(spec)),
        worker=" ".join(worker_options(spec)),
    )

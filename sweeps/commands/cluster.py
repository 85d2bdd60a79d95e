"""`alphasweep cluster`: lanes of this machine, and Ray clusters of several machines."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.commands.console import HostOpt, say

if TYPE_CHECKING:
    from cluster.files.calls import Call
    from cluster.files.spec import ClusterSpec

app = typer.Typer(help="Lanes of this machine, and clusters of several.", no_args_is_help=True)

FOLDER = Path("cluster-files")
KindOpt = Annotated[
    str, typer.Option("--kind", metavar="KIND", help="plain, ray-up, kuberay or slurm; default `kind` of the host file's section.")
]
OutOpt = Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the cluster's files are written.", file_okay=False)]
DryOpt = Annotated[bool, typer.Option("--dry-run", help="Print the commands and do nothing.")]


@app.command()
def lanes(host: HostOpt = None) -> None:
    """Show the lanes of this machine and who is in which."""
    from sweeps.commands.lanes import show_lanes

    show_lanes(host)


@app.command()
def files(
    kind: KindOpt = "",
    host: HostOpt = None,
    out: OutOpt = FOLDER,
    study: Annotated[
        list[str] | None, typer.Option("--study", metavar="STUDY", help="For slurm and kuberay: the job runs it. Repeatable.")
    ] = None,
) -> None:
    """Write the files that start a cluster; nothing is started, and no secret is in them."""
    spec, chosen = _spec(kind, host)
    for path in _write(chosen, spec, out, study or ()):
        say(str(path))


@app.command()
def up(kind: KindOpt = "", host: HostOpt = None, out: OutOpt = FOLDER, dry_run: DryOpt = False) -> None:
    """Start the cluster of the host file: makes its token, writes its files, calls what starts it."""
    from cluster.files import calls

    spec, chosen = _spec(kind, host)
    wanted = calls.up(chosen, spec, out)
    if dry_run:
        say(f"# makes {calls.token_path(spec)} (mode 0600) if it is not there, and writes {', '.join(map(str, _paths(chosen, spec, out)))}")
    else:
        if calls.ensure_token(spec):
            say(f"Made the cluster's token: {calls.token_path(spec)}")
        _write(chosen, spec, out)
    _call(wanted, dry_run)
    if way := calls.tunnel(chosen, spec):
        say(f"{'# then, for' if dry_run else 'For'} the dashboard and `cluster submit`, in another terminal: {way}")


@app.command()
def down(kind: KindOpt = "", host: HostOpt = None, out: OutOpt = FOLDER, dry_run: DryOpt = False) -> None:
    """Stop the cluster; studies and the token stay."""
    from cluster.files import calls

    spec, chosen = _spec(kind, host)
    if not dry_run:
        _write(chosen, spec, out)
    _call(calls.down(chosen, spec, out), dry_run, last=False)


@app.command()
def status(kind: KindOpt = "", host: HostOpt = None, out: OutOpt = FOLDER, dry_run: DryOpt = False) -> None:
    """Show the nodes of the cluster."""
    from cluster.files import calls

    spec, chosen = _spec(kind, host)
    if not dry_run:
        _write(chosen, spec, out)
    _call(calls.status(chosen, spec, out), dry_run)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def submit(
    context: typer.Context,
    study: Annotated[str, typer.Argument(metavar="STUDY...", help="Studies and options, as for `alphasweep run`.", show_default=False)],
    kind: KindOpt = "",
    host: HostOpt = None,
    out: OutOpt = FOLDER,
    dry_run: DryOpt = False,
) -> None:
    """Run studies on the cluster: code and studies of this folder go there with the job, results stay on its head."""
    from cluster.files import calls
    from cluster.files.spec import DASHBOARD
    from cluster.session import ClusterError

    spec, chosen = _spec(kind, host)
    wanted = calls.submit(chosen, spec, out, [study, *context.args])
    if chosen == "slurm":
        if not dry_run:
            calls.ensure_token(spec)
            _write(chosen, spec, out)
    elif not dry_run:
        try:
            socket.create_connection(("127.0.0.1", DASHBOARD), timeout=3.0).close()
        except OSError:
            way = calls.tunnel(chosen, spec)
            todo = f"in another terminal: {way}" if way else "is the cluster up, and is ray[default] installed on its head?"
            raise ClusterError(f"nothing answers at 127.0.0.1:{DASHBOARD}, where the head's dashboard takes jobs; {todo}") from None
    _call(wanted, dry_run)


def _spec(kind: str, host: Path | None) -> tuple[ClusterSpec, str]:
    from cluster.files.spec import KINDS
    from sweeps.lanes.cluster_section import load

    spec = load(host)
    chosen = kind or spec.kind
    if chosen not in KINDS:
        said = f"{chosen!r} is no kind of cluster" if chosen else "which kind of cluster?"
        raise typer.BadParameter(f"{said} Give one of {', '.join(KINDS)}, here or as `kind` of the section.", param_hint="--kind")
    return spec, chosen


def _paths(kind: str, spec: ClusterSpec, folder: Path, studies: Sequence[str] = ()) -> list[Path]:
    from cluster.files import calls

    return [folder / name for name in calls.texts(kind, spec, studies)]


def _write(kind: str, spec: ClusterSpec, folder: Path, studies: Sequence[str] = ()) -> list[Path]:
    from cluster.files import calls

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, text in calls.texts(kind, spec, studies).items():
        made.append(folder / name)
        made[-1].write_text(text)
        if name.endswith((".sh", ".slurm")):
            made[-1].chmod(0o755)
    return made


def _call(wanted: Sequence[Call], dry_run: bool, last: bool = True) -> None:
    """Runs commands one after the other.

    Args:
        wanted: To run.
        dry_run: Print them instead.
        last: Whether one that fails is the last; otherwise the rest is tried too.
    """
    # The Ray of this environment comes first: another one's may be of another version.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    failed = 0
    for call in wanted:
        say(call.shown() if dry_run else f"$ {call.shown()}")
        if dry_run:
            continue
        source = call.stdin.open() if call.stdin else subprocess.DEVNULL
        try:
            code = subprocess.run(call.words, stdin=source, env={**os.environ, "PATH": path, **call.environment}).returncode
        except FileNotFoundError:
            say(f"There is no program {call.words[0]} here.")
            code = 127
        finally:
            if not isinstance(source, int):
                source.close()
        failed = failed or code
        if code and last:
            break
    if failed:
        raise typer.Exit(failed if failed > 0 else 128 - failed)

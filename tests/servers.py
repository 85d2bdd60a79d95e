"""A PostgreSQL server of the tests' own: Debian's package, a folder that goes away, a port of its own on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
PROGRAMS = next((place for place in PLACES if (place / "initdb").exists()), None)
WITHOUT = "needs PostgreSQL's programs (Debian: apt-get install postgresql)"


class Server:
    """A server that tests may stop and start.

    Attributes:
        url: Of an empty database.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self.url = f"postgresql+psycopg://alphasweep@127.0.0.1:{port}/team"

    def start(self) -> None:
        options = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "-D", str(self._folder / "data"), "-o", options, "-l", str(self._folder / "log"), "-w", "start")

    def stop(self) -> None:
        run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "stop")


def run(program: str, *arguments: str) -> None:
    assert PROGRAMS is not None
    # It refuses to run as root; the package made a user for it.
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    command = [str(PROGRAMS / program), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", timeout=60, **user)  # type: ignore[call-overload]


@contextmanager
def server() -> Iterator[Server]:
    """Starts one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="alphasweep-pg-"))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "alphasweep", "-E", "UTF8", "--no-sync")
        made = Server(folder, port)
        made.start()
        try:
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "alphasweep", "team")
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)

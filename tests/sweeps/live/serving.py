"""A real server in a process of its own, and a client that has its cookie."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2 as httpx

ROOT = Path(__file__).parents[3]


class Server:
    """`alphasweep serve`, until it is left.

    Attributes:
        base: Its address.
        link: The address with the token.
        http: A client with the cookie.
    """

    def __init__(self, folder: Path, *args: str):
        command = [sys.executable, "-m", "sweeps.cli", "serve", *args, "--dir", str(folder)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, cwd=ROOT, **pipes)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found is not None, (line, self.process.communicate(timeout=20))
        self.link = found[0]
        self.base = self.link.split("/?")[0].split("/studies")[0]
        self.port = int(self.base.rpartition(":")[2])
        self.http = self.bare()
        assert self.http.get(self.link).status_code == 200

    def bare(self, **options: Any) -> httpx.Client:
        """A client without the cookie."""
        transport = httpx.HTTPTransport(retries=20)  # the socket is there before the server answers
        return httpx.Client(base_url=self.base, timeout=120.0, transport=transport, trust_env=False, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.http.get(path, **options)

    def rows(self, study: str, **parameters: Any) -> Any:
        answer = self.get(f"/studies/{study}/rows", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def parts(self, path: str) -> dict[str, str]:
        return dict(self.get(f"{path}/parts").json()["parts"])

    def open_ledgers(self) -> list[str]:
        """Which ledger files the server holds open."""
        folder = Path(f"/proc/{self.process.pid}/fd")
        held = []
        for each in folder.iterdir():
            try:
                held.append(os.readlink(each))
            except FileNotFoundError:
                continue
        return [name for name in held if "ledger.sqlite" in name]

    def cpu(self) -> float:
        """Seconds of work the server has done."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> tuple[int, str, str]:
        """Ends it as Ctrl-C does; returns its exit code and what it printed."""
        self.http.close()
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.stop()

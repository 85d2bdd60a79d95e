"""What the doctor finds, where something is wrong and where nothing is."""

from __future__ import annotations

import json
import resource
import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster import doctor
from cluster.doctor import Finding, examine
from sweeps.cli import app

Usage = namedtuple("Usage", "total used free")


def finding(what: str, **given: object) -> Finding:
    found = {each.what: each for each in examine(Path("runs"), **given)}  # type: ignore[arg-type]
    return found[what]


def test_everything_is_looked_at_and_a_machine_that_runs_these_tests_can_run_studies(tmp_path: Path) -> None:
    found = list(examine(tmp_path / "not" / "there" / "yet"))
    assert [each.what for each in found] == [
        *("Python", "packages", "cores", "memory", "shared memory", "disk", "disk speed", "open files", "cards", "Ray", "ledger", "W&B")
    ]
    assert not [each for each in found if each.state == "failed"]
    assert not (tmp_path / "not").exists(), "it looks and makes nothing"


def test_what_is_short_is_a_warning_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10 << 30, 0, 100 << 20))
    assert finding("shared memory").state == "warning" and "--shm-size" in finding("shared memory").todo
    assert finding("disk").found.startswith("0.1 GiB free")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 1024))
    assert finding("open files") == Finding("open files", "warning", "at most 256", "ulimit -n 1024 before a large run")


def test_packages_that_are_not_the_tested_ones_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "constraints.txt"
    other.write_text("# of another day\nnumpy==1.0.0\nnot-installed==3.0\n")
    monkeypatch.setattr(doctor, "CONSTRAINTS", other)
    found = finding("packages")
    assert found.state == "warning" and "(tested: 1.0.0)" in found.found and "not-installed" not in found.found


def test_servers_that_do_not_answer_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:  # a port nobody listens on
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ray = finding("Ray", address=f"127.0.0.1:{port}")
    assert ray.state == "failed" and "no Ray cluster answers there" in ray.found
    ledger = finding("ledger", ledger=f"postgresql://me@127.0.0.1:{port}/db")
    assert ledger.state == "failed" and "cannot be used" in ledger.found
    secret = finding("ledger", ledger=f"postgresql://me:hunter22@127.0.0.1:{port}/db")
    assert secret.state == "failed" and "leave the password out" in secret.found and "hunter22" not in str(secret)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    assert finding("W&B").state == "ok" and "runs are kept offline" in finding("W&B").found


def test_the_command_ends_with_one_if_studies_cannot_run() -> None:
    good = CliRunner().invoke(app, ["doctor", "--json"])
    assert good.exit_code == 0 and {each["what"] for each in json.loads(good.stdout)} >= {"Ray", "memory"}
    bad = CliRunner().invoke(app, ["doctor", "--json", "--ledger", "mysql://nowhere/db"])
    assert bad.exit_code == 1 and "'mysql' is neither" in bad.stdout

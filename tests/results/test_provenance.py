from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from results.provenance import collect


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_versions_machine_and_command_are_recorded_as_json() -> None:
    found = collect(None)
    assert found["packages"]["numpy"] == np.__version__
    assert found["pid"] == os.getpid() and found["host"] and found["python"].count(".") == 2
    assert found["git"] is None
    assert json.loads(json.dumps(found)) == found


def test_no_environment_variable_gets_into_the_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "sekrit-value-123")
    assert "sekrit-value-123" not in json.dumps(collect(tmp_path))


def test_a_folder_without_git_is_tolerated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert collect(tmp_path)["git"] is None
    assert collect(tmp_path / "missing")["git"] is None
    monkeypatch.setenv("PATH", "")
    assert collect(tmp_path)["git"] is None


def test_commit_and_every_uncommitted_change_are_recorded(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert collect(tmp_path)["git"] == {"commit": None, "dirty": False, "dirty_sha256": None}
    (tmp_path / "a.py").write_text("one\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "first")
    clean = collect(tmp_path)["git"]
    assert len(clean["commit"]) == 40 and clean["dirty"] is False and clean["dirty_sha256"] is None
    seen = set()
    for name, text in (("a.py", "two\n"), ("a.py", "three\n"), ("b.py", "new\n"), ("b.py", "newer\n")):
        (tmp_path / name).write_text(text)
        state = collect(tmp_path)["git"]
        assert state["dirty"] is True and state["commit"] == clean["commit"]
        seen.add(state["dirty_sha256"])
    assert len(seen) == 4
    (tmp_path / "sub").mkdir()
    assert collect(tmp_path / "sub")["git"] == collect(tmp_path)["git"]

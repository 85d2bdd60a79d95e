"""The page on walk-forward shows what the command prints, and its Python runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "walkforward.md").read_text(encoding="utf-8")


def call(command: str, folder: Path) -> str:
    words = [sys.executable, "-m", "sweeps.cli", *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"})
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.ray
@pytest.mark.slow
def test_the_walk_of_the_page_is_what_the_command_prints_and_its_windows_are_studies(tmp_path: Path) -> None:
    [shown] = re.findall(r"^```\n\$ (.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    command, *lines = shown.splitlines()
    printed = [line.rstrip() for line in call(command, tmp_path).splitlines()]
    missing = [line for line in lines if line not in printed and line != "…"]
    assert not missing
    [commands] = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in commands.splitlines():
        call(re.split(r" {2,}", line)[0], tmp_path)


@pytest.mark.ray
@pytest.mark.slow
def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert len(scope["made"].table()) == 7 and len(scope["made"].daily()) == 98

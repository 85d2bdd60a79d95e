"""Every command of docs/import.md is run, on the log that is on the page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import Ledger
from sweeps.commands.history import import_log
from sweeps.home import LEDGER

PAGE = (Path(__file__).parents[3] / "docs" / "import.md").read_text(encoding="utf-8")


def test_every_command_of_the_page_works(tmp_path: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [log] = re.findall(r"^```markdown\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    [listing] = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    Path("progress.md").write_text(log, encoding="utf-8")
    Path("sweep.csv").write_text("min_edge,total_return\n0.1,0.5\n")
    for line in listing.splitlines():
        done = command(*shlex.split(line)[1:])
        assert done.code == 0, done.err
    with Ledger.open(Path("runs/before") / LEDGER, readonly=True) as ledger:
        assert ledger.counts()["trials"] == 3
        assert ledger.trial(0)["metrics"] == {"total_return": 0.871, "max_drawdown": -0.12}


def test_every_option_of_the_page_exists() -> None:
    options = set(re.findall(r"`(--[a-z-]+)", PAGE)) - {"--optuna"}
    known = {str(part) for hint in import_log.__annotations__.values() for part in re.findall(r"--[a-z-]+", str(hint))}
    assert options <= known

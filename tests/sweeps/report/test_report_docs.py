"""Every command of docs/report.md runs, and what the page claims is so."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.pages.grid import PRINTED_ROWS
from sweeps.report.board import MOST, WIDE
from sweeps.report.origin import VERIFIED
from sweeps.report.words import MEANINGS
from tests.sweeps.report.studies import write_grid

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "report.md").read_text(encoding="utf-8")


def test_every_command_of_the_page_runs(tmp_path: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for k, name in enumerate(("selector_grid", "selector_slow")):
        write_grid(tmp_path / "runs", name, seed=k)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda url: True)
    lines = [re.split(r"\s{2,}", line)[0] for line in re.findall(r"^alphasweep .*$", PAGE, re.MULTILINE)]
    assert len(lines) == 5
    for line in lines:
        done = command(*shlex.split(line)[1:])
        assert done.code == 0, (line, done.err)
    assert (
        (tmp_path / "runs/selector_grid/report.html").exists() and (tmp_path / "grid.html").exists() and (tmp_path / "both.html").exists()
    )
    assert "Comparable: the same data, the same cuts of time, the same objective." in done.out


def test_the_page_has_the_numbers_of_the_code() -> None:
    for words in (f"up to {MOST:,} rows", f"{WIDE:,} rows the table", f"above {VERIFIED:,} trials", f"first {PRINTED_ROWS} rows"):
        assert words in " ".join(PAGE.split()), words


def test_every_piece_of_evidence_has_its_meaning() -> None:
    explained = re.findall(r"^## (\w+)$", (DOCS / "verdict.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(MEANINGS) == set(explained)

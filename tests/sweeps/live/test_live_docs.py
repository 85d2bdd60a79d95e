"""docs/live.md: its commands run, and what it says of pages is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sweeps.home import LEDGER
from sweeps.live.gathering import LEAST, WINDOW
from sweeps.live.memory import PATIENCE
from sweeps.live.pages import EVERY
from sweeps.live.watch import LINES
from tests.sweeps.live.ledgers import Writer
from tests.sweeps.live.serving import Server

TEXT = (Path(__file__).parents[3] / "docs" / "live.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line.partition("   ")[0])[1:] for line in re.findall(r"^alphasweep .*", TEXT, re.MULTILINE)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    made = Writer(tmp_path / "runs", name="selector_grid")
    made.add(range(30))
    made.finish()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_the_commands_that_are_shown_run(folder, command):
    shown = [words for words in COMMANDS if words[0] == "watch"]
    assert len(shown) == 2
    for words in shown:
        done = command(*words)
        assert done.code == 0 and "selector_grid  finished" in done.out
    served = [words[1:] for words in COMMANDS if words[0] == "serve"]
    assert len(served) == 2
    for words in served:
        with Server(folder, *(word for word in words if word not in ("--port", "8765"))) as server:  # the port may be taken
            assert "selector_grid" in server.get("/").text


def test_the_pages_that_are_listed_are_there(folder):
    pages = re.findall(r"^\| `(/[^`]*)` \|", TEXT, re.MULTILINE)
    assert len(pages) == 3
    with Server(folder) as server:
        for path in pages:
            assert server.get(path.replace("NAME", "selector_grid").replace("N", "7")).status_code == 200, path
    assert (folder / "selector_grid" / LEDGER).exists()


def test_numbers_on_the_page_are_those_of_the_code():
    assert (WINDOW, LEAST, LINES, EVERY, PATIENCE) == (60.0, 5, 10.0, 2.0, 10.0)
    for words in (
        "every 2 s (`--every`)",
        "of the last minute, or of the last five packs",
        "every ten seconds",
        "every two seconds",
        "ten times",
    ):
        assert words in TEXT.replace("\n", " "), words

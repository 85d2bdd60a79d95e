"""What all tests share: none of them writes into, or reads from, the tables kept for the user; all print as wide as they ask for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# The consoles of the command take their width from these when they are made, at the first import, and keep it whatever a test sets
# later. A worker of pytest-xdist has them from the readline of its parent.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)


@pytest.fixture(scope="session", autouse=True)
def _own_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    own = {"ALPHASWEEP_CACHE": "tables", "XDG_CONFIG_HOME": "config"}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update({name: str(tmp_path_factory.mktemp(place)) for name, place in own.items()})
    yield
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The one headless Chromium of a test process: Playwright's synchronous API cannot be entered twice."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()

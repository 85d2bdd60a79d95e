"""What all tests share: none of them writes into, or reads from, the tables kept for the user; all print as wide as they ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# The consoles of the command take their width from these when they are made, at the first import, and keep it whatever a test sets
# later. A worker of pytest-xdist has them from the readline of its parent.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)


@pytest.fixture(scope="session", autouse=True)
def _own_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("ALPHASWEEP_CACHE")
    os.environ["ALPHASWEEP_CACHE"] = str(tmp_path_factory.mktemp("tables"))
    yield
    os.environ.pop("ALPHASWEEP_CACHE") if before is None else os.environ.update(ALPHASWEEP_CACHE=before)

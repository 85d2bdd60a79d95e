"""What all tests share: none of them writes into, or reads from, the tables kept for the user."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("ALPHASWEEP_CACHE")
    os.environ["ALPHASWEEP_CACHE"] = str(tmp_path_factory.mktemp("tables"))
    yield
    os.environ.pop("ALPHASWEEP_CACHE") if before is None else os.environ.update(ALPHASWEEP_CACHE=before)

"""Two studies to report on, the command in this process, and a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.sweeps.report.studies import write_grid, write_steps


@pytest.fixture(scope="session")
def grid_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grid(tmp_path_factory.mktemp("grid"), failed=[5])


@pytest.fixture
def grid(grid_once: Path, tmp_path: Path) -> Path:
    """A folder of one's own, with a study of 24 trials, of which trial 5 failed and 0 and 1 behave identically."""
    return shutil.copytree(grid_once, tmp_path / "runs" / "made")


@pytest.fixture(scope="session")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of 24 trials that report."""
    return write_steps(tmp_path_factory.mktemp("steps"))

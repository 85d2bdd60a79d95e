"""What tests of the MLflow tracker and of its registry share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from results.tracking.mlflow_store import connect, place_of


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and nothing in them: making them takes seconds."""
    home = tmp_path_factory.mktemp("mlflow")
    connect(place_of({}, home)).search_experiments()
    return home / "tracking" / "mlflow.db"


@pytest.fixture
def pointed() -> Iterator[Callable[[Path], None]]:
    """A function that makes a study's records those that `mlflow` itself looks at, until the test ends."""
    mlflow = pytest.importorskip("mlflow")
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()

    def point(home: Path) -> None:
        mlflow.set_tracking_uri(place_of({}, home).uri)
        mlflow.set_registry_uri(place_of({}, home).uri)

    yield point
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])

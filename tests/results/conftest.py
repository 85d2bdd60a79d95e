"""Every ledger test runs on SQLite, and on PostgreSQL too where it is installed, with the slow tests."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from results import Header, Ledger, Metric, ResultRow, config_ids
from tests import servers

METRICS = (
    Metric("sharpe", "max", "ratio", "annualised"),
    Metric("total_return", "max", "fraction"),
    Metric("max_drawdown", "max", "fraction"),
    Metric("loss", "min"),
)
PLACES = [
    "sqlite",
    pytest.param("postgresql", marks=[pytest.mark.slow, pytest.mark.skipif(servers.PROGRAMS is None, reason=servers.WITHOUT)]),
]


def header_with(name: str = "grid", objective: str = "sharpe", **context: Any) -> Header:
    base = {"trainable": "toy", "version": "1", "data_fingerprint": "abc", "protocol": {"profile": "realistic"}, "seed": 7}
    return Header(name=name, spec={"space": {"x": [1, 2]}}, context=base | context, metrics=METRICS, objective=objective)


def rows_for(context: str, numbers: Sequence[int], metrics: Callable[[int], list[float] | None] | None = None) -> list[ResultRow]:
    configs = [{"x": number, "edge": 0.5 + number, "mode": "high_low"} for number in numbers]
    ids = config_ids(context, configs)
    values = metrics or (lambda number: [number / 7.0, number / 100.0, -0.1, 1.0 / (1 + number)])
    return [ResultRow(number, ids[i], configs[i], "completed", values(number), 0.25, None) for i, number in enumerate(numbers)]


def failed_row(context: str, number: int, error: str = "ValueError: no") -> ResultRow:
    return rows_for(context, [number])[0]._replace(status="failed", metrics=None, error=error)


@pytest.fixture
def header() -> Header:
    return header_with()


@pytest.fixture
def make_header() -> Callable[..., Header]:
    return header_with


@pytest.fixture
def make_rows() -> Callable[..., list[ResultRow]]:
    return rows_for


@pytest.fixture
def make_failed() -> Callable[..., ResultRow]:
    return failed_row


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    with servers.server() as made:
        yield made.url


@pytest.fixture(params=PLACES)
def new_location(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Callable[[], str]]:
    """A function that names a place where no ledger is yet."""
    if request.param == "sqlite":
        yield lambda: str(tmp_path / uuid.uuid4().hex / "ledger.db")
        return
    url: str = request.getfixturevalue("database")
    made: list[str] = []

    def schema() -> str:
        made.append("t" + uuid.uuid4().hex)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {made[-1]}")
        return f"{url}?options=-csearch_path%3D{made[-1]}"

    engine = sa.create_engine(url)
    yield schema
    with engine.begin() as connection:
        for name in made:
            connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
    engine.dispose()


@pytest.fixture
def location(new_location: Callable[[], str]) -> str:
    return new_location()


@pytest.fixture
def ledger(location: str, header: Header) -> Iterator[Ledger]:
    """An open ledger with a session and a plan (plan_id 1, 1,000 trials)."""
    with Ledger.create(location, header) as opened:
        opened.begin_session({"host": "here"})
        opened.add_plan({"x": [1, 2]}, {"kind": "grid"}, 1000)
        yield opened

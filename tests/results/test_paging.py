"""Pages of a table of trials, held against pandas on the same data."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results import Header, Ledger, Metric, ResultRow, config_ids
from results.pages.query import Query, parse_query
from results.paging import Pages, grid_of
from tests.sweeps.live.ledgers import Writer

COUNT = 240
FAILED, STOPPED = {3, 17, 18, 200}, {5, 50, 51}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Writer(tmp_path_factory.mktemp("runs"), total=COUNT)
    for start in range(0, COUNT, 60):
        numbers = range(start, start + 60)
        made.add(numbers, failed=FAILED & set(numbers), stopped=STOPPED & set(numbers))
    made.finish()
    return made.home / "ledger.sqlite"


@pytest.fixture(scope="module")
def pages(place: Path) -> Iterator[Pages]:
    with Ledger.open(place, readonly=True) as ledger:
        yield Pages(ledger, grid_of(ledger, ["edge", "mode", "n"]))


@pytest.fixture(scope="module")
def frame(place: Path) -> pd.DataFrame:
    """The same trials as the ledger gives them to people, in the types of the columns."""
    with Ledger.open(place, readonly=True) as ledger:
        made = ledger.frame()
    made["flag"] = made["flag"].map({True: "true", False: "false"})
    for name in ("mode", "rare", "error", "source", "status"):
        made[name] = pd.Series(plain(made[name]), dtype=object)
    return made.sort_values("trial").reset_index(drop=True)


def plain(column: pd.Series) -> list[object]:
    return [None if pd.isna(value) else value for value in column]


def expected(frame: pd.DataFrame, pages: Pages, query: Query) -> list[int]:
    passing = frame[query.mask(frame, pages.grid.columns)]
    if query.sort is None:
        ordered = passing
    elif query.sort == "trial":
        ordered = passing.sort_values("trial", ascending=not query.descending)
    else:
        ordered = passing.sort_values([query.sort, "trial"], ascending=[not query.descending, True], na_position="last")
    return ordered["trial"].iloc[query.start : query.start + query.count].tolist()


def asked(pages: Pages, query: Query) -> list[int]:
    where = query.to_sql(pages.grid.expressions, pages.grid.columns)
    return pages.numbers(query.sort, query.descending, query.start, query.count, where)


def test_a_study_has_its_objective_first_then_metrics_and_parameters_of_their_kinds(pages):
    kinds = {column.name: column.kind for column in pages.grid.columns}
    assert list(kinds)[:6] == ["trial", "status", "sortino", "total_return", "max_drawdown", "trades"]
    assert (kinds["total_return"], kinds["trades"], kinds["loss"], kinds["seconds"]) == ("percent", "integer", "number", "seconds")
    assert (kinds["edge"], kinds["n"], kinds["net.depth"]) == ("number", "number", "number")
    assert (kinds["mode"], kinds["flag"], kinds["rare"]) == ("text", "text", "text")
    hidden = {column.name for column in pages.grid.columns if column.hidden}
    assert {"net.depth", "error", "source"} <= hidden and not hidden & {"edge", "mode", "n", "sortino"}


def test_rows_are_those_of_the_ledger_with_defaults_where_a_configuration_has_none(pages, frame):
    names = [column.name for column in pages.grid.columns]
    got = pd.DataFrame(pages.rows(list(range(COUNT))), columns=names)
    for name in names:
        if pages.grid.columns[names.index(name)].numeric:
            np.testing.assert_array_equal(got[name].to_numpy(float), frame[name].to_numpy(float), err_msg=name)
        else:
            assert plain(got[name]) == plain(frame[name]), name
    assert got["mode"].iloc[0] == "high_low"  # trial 0 has no mode of its own


def test_rows_come_in_the_order_asked_for_and_without_those_that_are_gone(pages):
    assert [row[0] for row in pages.rows([7, 3, 10**9, 5])] == [7, 3, 5]


SORTS = ("trial", "status", "sortino", "trades", "loss", "edge", "mode", "flag", "rare", "net.depth", "seconds", "error")
FILTERS = {
    "sortino": ("> 0", "<= 0.5", "-1..1", "n/a", "!n/a", "= 0.12"),
    "total_return": (">= 50%", "!..0"),
    "trades": ("= 3", "5..9", "!= 3", "n/a"),
    "edge": ("0.005", ">= 0.02", "< 0"),
    "mode": ("high", "= close", "!open", "5%", "_", "n/a"),
    "flag": ("true", "= false"),
    "rare": ("n/a", "y", "!x", "= x"),
    "net.depth": ("2..", "..1"),
    "status": ("failed", "!completed", "= stopped"),
    "error": ("[red]1", "n/a"),
    "seconds": ("> 1s", "200ms"),
    "trial": ("..50", "= 77"),
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sort=st.none() | st.sampled_from(SORTS),
    descending=st.booleans(),
    start=st.integers(0, COUNT + 20),
    count=st.integers(0, 90),
    filters=st.dictionaries(st.sampled_from(sorted(FILTERS)), st.integers(0, 5), max_size=3),
    search=st.sampled_from(["", "high", "CLOSE fail", "5%", "77", "no_such"]),
)
def test_sorting_filtering_and_paging_give_what_pandas_gives(pages, frame, sort, descending, start, count, filters, search):
    texts = {name: FILTERS[name][which % len(FILTERS[name])] for name, which in filters.items()}
    parameters = {"from": str(start), "n": str(count), "dir": "desc" if descending else "asc"}
    parameters |= {"filter": json.dumps({"columns": texts, "search": search})} | ({"sort": sort} if sort else {})
    query = parse_query(parameters, pages.grid.columns)
    assert asked(pages, query) == expected(frame, pages, query)
    where = query.to_sql(pages.grid.expressions, pages.grid.columns)
    assert pages.count(where) == int(query.mask(frame, pages.grid.columns).sum())


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("descending", [False, True])
def test_a_whole_order_is_its_pages_one_after_another(pages, sort, descending):
    whole = pages.order(sort, descending).tolist()
    assert whole == [number for start in range(0, COUNT, 77) for number in pages.numbers(sort, descending, start, 77)]
    assert sorted(whole) == list(range(COUNT))


def test_a_grid_is_of_use_with_a_ledger_that_was_opened_later(place, pages):
    with Ledger.open(place, readonly=True) as later, warnings.catch_warnings():
        warnings.simplefilter("error")
        again = Pages(later, pages.grid)
        query = parse_query({"filter": '{"columns": {"mode": "close", "loss": "> 0"}}', "sort": "loss"}, pages.grid.columns)
        where = query.to_sql(pages.grid.expressions, pages.grid.columns)
        assert again.numbers("loss", False, 0, 50, where) == pages.numbers("loss", False, 0, 50, where) != []
        assert len(again.rows([1, 2])) == 2 and again.order("edge", True, where).size == again.count(where)


def test_the_objective_is_sorted_by_its_index(pages):
    import sqlalchemy as sa

    trials = pages.ledger.tables.trials
    value = pages.grid.expressions["sortino"]
    query = sa.select(trials.c.trial).where(value.is_not(None)).order_by(value.desc(), trials.c.trial).limit(5)
    with pages.ledger.connect() as connection:
        text = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
        plan = " ".join(str(row) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))
    assert "trials_objective" in plan


def test_odd_names_and_large_seeds_keep_apart(tmp_path):
    metrics = (Metric("loss", "min"), Metric("seconds", None, "s"))
    context = {"trainable": "t", "version": "1", "data_fingerprint": "d", "protocol": {}, "seed": 0}
    header = Header("odd", {}, context, metrics, "loss")
    configs = [{"loss": 1.5 + i, "a b": i, "it's": f"v{i}", "seed": 2**63 + i, "status": i, "list": [1, i]} for i in range(3)]
    ids = config_ids(header.context_id, configs, header.defaults)
    with Ledger.create(tmp_path / "l.db", header) as ledger:
        ledger.begin_session({})
        plan = ledger.add_plan({}, {}, 3)
        rows = [ResultRow(i, ids[i], configs[i], "completed", [-float(i), 9.0], 0.5) for i in range(3)]
        ledger.accept(ledger.open_attempt(plan.plan_id, 3), rows)
        pages = Pages(ledger, grid_of(ledger, ["loss", "a b"]))
        names = [column.name for column in pages.grid.columns]
        assert len(set(names)) == len(names) and {"loss", "config.loss", "metric.seconds", "seconds", "config.status", "a b"} <= set(names)
        row = dict(zip(names, pages.rows([2])[0], strict=True))
        assert (row["loss"], row["config.loss"], row["metric.seconds"], row["seconds"]) == (-2.0, 3.5, 9.0, 0.5)
        assert row["seed"] == str(2**63 + 2) and row["it's"] == "v2" and row["list"] == "[1,2]" and row["a b"] == 2
        assert pages.numbers("config.loss", True, 0, 5) == [2, 1, 0] and pages.numbers("loss", False, 0, 5) == [2, 1, 0]
        assert pages.numbers("it's", True, 0, 2) == [2, 1]


def test_a_study_without_trials_has_columns_and_no_rows(tmp_path):
    made = Writer(tmp_path)
    pages = Pages(made.ledger, grid_of(made.ledger, ["edge", "mode"]))
    assert {"edge", "mode", "sortino"} <= {column.name for column in pages.grid.columns}
    assert pages.numbers("sortino", True, 0, 10) == [] and pages.count() == 0 and pages.order("edge", False).size == 0
    made.finish()

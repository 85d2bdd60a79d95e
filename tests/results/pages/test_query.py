"""What a grid asks its server for."""

import json

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from results.pages.columns import Column
from results.pages.filters import FilterError
from results.pages.query import MOST_ROWS, order, parse_query

COLUMNS = (Column("trial", kind="integer"), Column("sharpe", kind="number", digits=2), Column("mode"), Column("note"))
FRAME = pd.DataFrame(
    {
        "trial": [1, 2, 3, 12, 13],
        "sharpe": [1.0, np.nan, 2.0, -1.0, 2.0],
        "mode": ["long", "short", None, "long", "12 long"],
        "note": ["fast run", "slow run", "fast", None, "100%"],
    }
)


def asked(**filter):
    return parse_query({"filter": json.dumps(filter)}, COLUMNS)


QUERIES = [
    ({"columns": {"sharpe": ">= 1"}}, [1, 3, 13]),
    ({"columns": {"sharpe": "!>= 1", "mode": "long"}}, [12]),
    ({"columns": {"sharpe": "", "mode": "  "}}, [1, 2, 3, 12, 13]),
    ({"search": "RUN"}, [1, 2]),
    ({"search": "long fast"}, [1]),
    ({"search": "12"}, [12, 13]),
    ({"search": "%"}, [13]),
    ({"search": "nothing"}, []),
    ({"columns": {"mode": "n/a"}, "search": "fast"}, [3]),
]


@pytest.mark.parametrize(("filter", "trials"), QUERIES)
def test_a_frame_and_a_database_give_the_same_rows(filter, trials):
    query = asked(**filter)
    assert FRAME["trial"][query.mask(FRAME, COLUMNS)].tolist() == trials
    engine = sa.create_engine("sqlite://")
    FRAME.to_sql("t", engine, index=False)
    table = sa.table("t", *(sa.column(column.name) for column in COLUMNS))
    with engine.connect() as connection:
        condition = query.to_sql({column.name: table.c[column.name] for column in COLUMNS}, COLUMNS)
        assert list(connection.execute(sa.select(table.c.trial).where(condition)).scalars()) == trials


def test_sort_place_and_number_of_rows_are_taken_from_the_address():
    query = parse_query({"sort": "sharpe", "dir": "desc", "from": "400", "n": "100000"}, COLUMNS)
    assert (query.sort, query.descending, query.start, query.count) == ("sharpe", True, 400, MOST_ROWS)
    assert parse_query({}, COLUMNS).sort is None


@pytest.mark.parametrize(
    ("parameters", "said", "column"),
    [
        ({"sort": "drop table"}, "no such column", None),
        ({"sort": "sharpe", "dir": "down"}, "asc or desc", None),
        ({"from": "-1"}, "from", None),
        ({"n": "all"}, "whole number", None),
        ({"filter": "{"}, "must be JSON", None),
        ({"filter": "[1]"}, "must be JSON", None),
        ({"filter": '{"columns": {"sharpe": 1}}'}, "must be JSON", None),
        ({"filter": '{"columns": {"password": "x"}}'}, "no such column", None),
        ({"filter": '{"columns": {"sharpe": "x"}}'}, "no number", "sharpe"),
        ({"filter": json.dumps({"search": "x" * 500})}, "200", None),
        ({"filter": "[" * 100_000}, "must be JSON", None),
    ],
)
def test_a_request_that_is_not_understood_is_refused_with_the_column_where_there_is_one(parameters, said, column):
    with pytest.raises(FilterError, match=said) as refused:
        parse_query(parameters, COLUMNS)
    assert refused.value.column == column


@pytest.mark.parametrize("descending", [False, True])
def test_rows_without_a_value_come_last_both_ways_and_equal_ones_keep_their_order(descending):
    numbers = order(FRAME["sharpe"], descending).tolist()
    assert numbers == ([2, 4, 0, 3, 1] if descending else [3, 0, 2, 4, 1])
    texts = order(FRAME["mode"], descending).tolist()
    assert texts == ([1, 0, 3, 4, 2] if descending else [4, 0, 3, 1, 2])

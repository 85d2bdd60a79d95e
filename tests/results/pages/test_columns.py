"""How values are written: the same in print, which Python makes, and on the screen, which the page's script makes."""

import dataclasses
import random

import numpy as np
import pytest

from results.pages.columns import Column, written
from results.pages.escaping import PageError

NUMBER = Column("x", kind="number")
TWO = Column("x", kind="number", digits=2)
GOLDEN = [
    (TWO, 1.005, "1.00"),
    (TWO, 0.125, "0.13"),
    (TWO, -0.001, "0.00"),
    (TWO, -1.5, "−1.50"),
    (TWO, 12345.678, "12,345.68"),
    (TWO, 9999.0, "9999.00"),
    (TWO, None, "n/a"),
    (TWO, float("nan"), "n/a"),
    (TWO, float("inf"), "∞"),
    (TWO, float("-inf"), "−∞"),
    (NUMBER, 0.0, "0"),
    (NUMBER, 2.5, "2.5"),
    (NUMBER, 0.0001, "0.0001"),
    (NUMBER, 0.00003, "3e-5"),
    (NUMBER, -1.23456789e-7, "−1.2346e-7"),
    (NUMBER, 1000000.0, "1,000,000"),
    (NUMBER, 3.14159265, "3.1416"),
    (NUMBER, 1e20, "1e20"),
    (Column("x", kind="percent"), 0.1234, "12.34%"),
    (Column("x", kind="percent", digits=0), -0.126, "−13%"),
    (Column("x", kind="integer"), 42.0, "42"),
    (Column("x", kind="integer"), 1234567.0, "1,234,567"),
    (Column("x", kind="seconds"), 0.0, "0 s"),
    (Column("x", kind="seconds"), 0.0123, "12.3 ms"),
    (Column("x", kind="seconds"), 9.5, "9.50 s"),
    (Column("x", kind="seconds"), 42.04, "42.0 s"),
    (Column("x", kind="seconds"), 59.97, "1 min 00 s"),
    (Column("x", kind="seconds"), 3725.0, "1 h 02 min"),
    (Column("x", kind="seconds"), 200000.0, "2 d 07 h"),
    (Column("x"), "as it is", "as it is"),
    (Column("x"), None, "n/a"),
    # 0.9499 must not read as the 0.95 it missed, and what is 0.29 stays 0.29.
    (Column("x", kind="number", digits=2, rounding="down"), 0.9499, "0.94"),
    (Column("x", kind="number", digits=2, rounding="down"), 0.29, "0.29"),
    (Column("x", kind="number", digits=2, rounding="up"), 0.0501, "0.06"),
]


@pytest.mark.parametrize(("column", "value", "text"), GOLDEN)
def test_a_value_is_written_as_its_column_says(column, value, text):
    assert written(value, column) == text


def test_the_script_writes_what_python_writes(script):
    random.seed(3)
    columns = [*{case[0].name + str(case[0]): case[0] for case in GOLDEN}.values()]
    drawn = [random.choice([1, -1]) * random.uniform(0.5, 9.5) * 10.0 ** random.randint(-9, 16) for _ in range(300)]
    near = [0.5, 1.5, 2.5, 0.25, 0.375, 1000.125, 999999.5, 99999.95, 59.95, 9.995, 3599.5, 0.0995, 172799.6]
    values = [float("nan"), 0.0, *near, *(-value for value in near), *drawn]
    numeric = [column for column in columns if column.numeric]
    expected = [[written(value, column) for value in values] for column in numeric]
    found = script(
        "columns.map((column) => values.map((value) => written(value, column)))",
        columns=[column.spec() for column in numeric],
        values=values,
    )
    wrong = [
        (column.kind, column.digits, value, python, browser)
        for column, many, others in zip(numeric, expected, found, strict=True)
        for value, python, browser in zip(values, many, others, strict=True)
        if python != browser
    ]
    assert wrong == []


def test_numpy_values_and_pandas_missing_ones_are_written_like_plain_ones():
    import pandas as pd

    assert written(np.float64(1.5), TWO) == "1.50"
    assert written(np.int64(7), Column("x", kind="integer")) == "7"
    assert written(pd.NA, TWO) == written(pd.NaT, Column("x")) == "n/a"


@pytest.mark.parametrize(
    ("change", "said"),
    [({"kind": "money"}, "kind"), ({"digits": -1}, "digits"), ({"direction": "best"}, "direction"), ({"rounding": "away"}, "rounding")],
)
def test_a_column_that_cannot_be_is_refused_with_its_name(change, said):
    with pytest.raises(PageError, match=rf"'x'.*{said}"):
        dataclasses.replace(TWO, **change)

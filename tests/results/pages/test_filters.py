"""The language of filters: one table of cases for Python, SQL and the page's script."""

import random

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from results.pages.filters import Filter, FilterError, parse

NUMBERS = [1.0, 1.5, 1.529, 1.53, 2.0, 3.0, -0.5, 0.0, 0.05, 0.123, 90.0, 120.0, 5400.0, 12345.0, None]
TEXTS = ["adamw", "AdamW-8bit", "sgd", "failed", "100% done", "a_b", "!odd", "n/a", "", None]
# kind, digits, what is typed, what passes (of NUMBERS or TEXTS)
CASES = [
    ("number", None, ">= 1.5", [1.5, 1.529, 1.53, 2.0, 3.0, 90.0, 120.0, 5400.0, 12345.0]),
    ("number", None, ">1.5", [1.529, 1.53, 2.0, 3.0, 90.0, 120.0, 5400.0, 12345.0]),
    ("number", None, "< 0", [-0.5]),
    ("number", None, "<=0", [-0.5, 0.0]),
    ("number", None, "≤ 0", [-0.5, 0.0]),
    ("number", None, "< −0.1", [-0.5]),
    ("number", None, "1..2", [1.0, 1.5, 1.529, 1.53, 2.0]),
    ("number", None, " 1 .. 1.5 ", [1.0, 1.5]),
    ("number", None, "-1..0", [-0.5, 0.0]),
    ("number", None, "100..", [120.0, 5400.0, 12345.0]),
    ("number", None, "..0", [-0.5, 0.0]),
    ("number", None, "= 3", [3.0]),
    ("number", None, "3", [3.0]),
    ("number", None, "12,345", [12345.0]),
    ("number", None, "1.2345e4", [12345.0]),
    ("number", None, "= .05", [0.05]),
    ("number", 2, "= 1.53", [1.529, 1.53]),
    ("number", 2, "= 1.529", [1.529]),
    ("number", 1, "1.5", [1.5, 1.529, 1.53]),
    ("number", None, "!= 3", [value for value in NUMBERS if value != 3.0]),
    ("number", None, "!3", [value for value in NUMBERS if value != 3.0]),
    ("number", None, "!>= 0", [-0.5, None]),
    ("number", None, "n/a", [None]),
    ("number", None, "= N/A", [None]),
    ("number", None, "!n/a", [value for value in NUMBERS if value is not None]),
    ("number", None, "!= n/a", [value for value in NUMBERS if value is not None]),
    ("number", None, ">= -inf", [value for value in NUMBERS if value is not None]),
    ("number", None, "  ", NUMBERS),
    ("integer", 0, "3", [3.0]),
    ("integer", 0, "1..3", [1.0, 1.5, 1.529, 1.53, 2.0, 3.0]),
    ("percent", 1, ">= 12.3%", [value for value in NUMBERS if value is not None and value >= 0.123]),
    ("percent", 1, "= 12.3", [0.123]),
    ("percent", 0, "5", [0.05]),
    ("percent", 1, "0..5", [0.0, 0.05]),
    ("seconds", None, "= 2m", [120.0]),
    ("seconds", None, ">= 1.5h", [5400.0, 12345.0]),
    ("seconds", None, "90s..2min", [90.0, 120.0]),
    ("seconds", None, "< 100ms", [-0.5, 0.0, 0.05]),
    ("text", None, "adam", ["adamw", "AdamW-8bit"]),
    ("text", None, "ADAMW", ["adamw", "AdamW-8bit"]),
    ("text", None, "= adamw", ["adamw"]),
    ("text", None, "!= adamw", [text for text in TEXTS if text != "adamw"]),
    ("text", None, "!adam", ["sgd", "failed", "100% done", "a_b", "!odd", "n/a", "", None]),
    ("text", None, "0% d", ["100% done"]),
    ("text", None, "a_", ["a_b"]),
    ("text", None, '"!odd"', ["!odd"]),
    ("text", None, '!"!odd"', [text for text in TEXTS if text != "!odd"]),
    ("text", None, "n/a", [None]),
    ("text", None, '"n/a"', ["n/a"]),
    ("text", None, "!n/a", [text for text in TEXTS if text is not None]),
    ("text", None, "", TEXTS),
]
INVALID = [
    ("number", "abc", "no number"),
    ("number", ">=", "comes a number"),
    ("number", ">= 1.5x", "no number"),
    ("number", "1..2..3", "no number"),
    ("number", "2..1", "empty"),
    ("number", "..", "needs an end"),
    ("number", "1 2", "no number"),
    ("number", "5%", "not in %"),
    ("number", "1e999", "too large"),
    ("number", "!", "after !"),
    ("percent", "2m", "not in m"),
    ("seconds", "5%", "not in %"),
    ("integer", ".", "no number"),
    ("text", "> 3", "is text"),
    ("text", "=", "comes a text"),
    ("text", "x" * 201, "200"),
]


def values_of(kind):
    return TEXTS if kind == "text" else NUMBERS


def packed_like_the_page(kind):
    if kind != "text":
        return {"numbers": [float("nan") if value is None else value for value in NUMBERS]}
    texts = [text for text in TEXTS if text is not None]
    return {"texts": texts, "codes": [0 if text is None else texts.index(text) + 1 for text in TEXTS]}


@pytest.mark.parametrize(("kind", "digits", "typed", "passing"), CASES)
def test_python_lets_through_what_the_table_says(kind, digits, typed, passing):
    values = pd.Series(values_of(kind), dtype=object if kind == "text" else float)
    mask = parse(typed, kind, digits).mask(values)
    assert mask.dtype == bool
    assert [value for value, passed in zip(values_of(kind), mask, strict=True) if passed] == passing


@pytest.mark.parametrize(("kind", "digits", "typed", "passing"), CASES)
def test_a_database_lets_through_what_the_table_says(kind, digits, typed, passing):
    engine = sa.create_engine("sqlite://")
    table = sa.Table("t", sa.MetaData(), sa.Column("place", sa.Integer), sa.Column("x", sa.String if kind == "text" else sa.Float))
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), [{"place": place, "x": value} for place, value in enumerate(values_of(kind))])
        chosen = connection.execute(
            sa.select(table.c.x).where(parse(typed, kind, digits).to_sql(table.c.x)).order_by(table.c.place)
        ).scalars()
        assert list(chosen) == passing


def test_the_page_lets_through_what_the_table_says(script):
    masks = script(
        """cases.map(([kind, digits, typed]) => {
            const held = columns[kind === "text" ? "text" : "number"];
            const column = held.numbers ? held : { texts: held.texts, codes: held.codes };
            return [...filterMask(parseFilter(typed, kind, digits), column, (held.numbers ?? held.codes).length)];
        })""",
        cases=[case[:3] for case in CASES],
        columns={kind: packed_like_the_page(kind) for kind in ("number", "text")},
    )
    for (kind, digits, typed, passing), mask in zip(CASES, masks, strict=True):
        found = [value for value, passed in zip(values_of(kind), mask, strict=True) if passed]
        assert found == passing, (kind, digits, typed)


@pytest.mark.parametrize(("kind", "typed", "said"), INVALID)
def test_what_is_no_filter_is_refused_with_what_to_write_instead(kind, typed, said):
    with pytest.raises(FilterError, match=said):
        parse(typed, kind)


def outcomes(typed, kind, digits):
    try:
        found = parse(typed, kind, digits)
    except FilterError as error:
        return str(error)
    return [found.test, found.negated, repr(found.low), repr(found.high), found.low_open, found.high_open, found.text]


def test_python_and_the_page_understand_the_same_by_anything_typed(script):
    random.seed(11)
    pieces = [
        ">=",
        "<",
        "=",
        "!",
        "!=",
        "..",
        "1",
        "2.5",
        "-",
        "0.1",
        ",",
        "000",
        "%",
        "m",
        "h",
        "e3",
        "n/a",
        " ",
        "a",
        '"',
        "inf",
        "≥",
        "−",
        "…",
    ]
    typed = [kase[2] for kase in CASES] + [kase[1] for kase in INVALID]
    typed += ["".join(random.choices(pieces, k=random.randint(1, 5))) for _ in range(1500)]
    asked = [
        (text, kind, digits)
        for text in typed
        for kind, digits in (("number", 2), ("percent", 1), ("integer", 0), ("seconds", None), ("text", None))
    ]
    found = script(
        """asked.map(([typed, kind, digits]) => {
            try {
                const filter = parseFilter(typed, kind, digits);
                return [filter.test, filter.negated, filter.low, filter.high, filter.lowOpen, filter.highOpen, filter.text];
            } catch (error) {
                if (!(error instanceof FilterError)) throw error;
                return error.message;
            }
        })""",
        asked=[list(one) for one in asked],
    )
    for one, browser in zip(asked, found, strict=True):
        python = outcomes(*one)
        if isinstance(python, str):
            # Both refuse; how a text is quoted may differ.
            assert isinstance(browser, str), one
            assert python.replace('"', "'") == browser.replace('"', "'"), one
        else:
            assert not isinstance(browser, str), (one, browser)
            assert [repr(float(value)) if place in (2, 3) else value for place, value in enumerate(browser)] == python, one


def test_a_mask_takes_arrays_lists_and_series_with_any_kind_of_missing_value():
    above = parse("> 1", "number")
    assert above.mask(np.array([0.5, np.nan, 2.0])).tolist() == [False, False, True]
    assert above.mask([0, 1, 2]).tolist() == [False, False, True]
    assert above.mask(pd.Series([0, None, 2], dtype="Int64")).tolist() == [False, False, True]
    part = parse("a", "text")
    assert part.mask(pd.Series(["abc", pd.NA, "x"], dtype="string")).tolist() == [True, False, False]
    assert part.mask(pd.Series([], dtype=object)).tolist() == []
    assert Filter().mask([None, 1]).tolist() == [True, True]

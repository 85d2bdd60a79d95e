"""A table packed by Python is what the page's script unpacks."""

import numpy as np
import pandas as pd
import pytest

from results.pages.columns import Column, written
from results.pages.escaping import PageError
from results.pages.packing import MOST_EXACT, packed
from tests.results.pages.conftest import COLUMNS, trials

UNPACKED = """unpack(text).then((table) => table.columns.map((column) =>
    column.numbers ? [...column.numbers].map((value) => (Number.isNaN(value) ? null : value))
                   : [...column.codes].map((code) => (code ? column.texts[code - 1] : null))))"""


def back(script, column, values):
    (found,) = script(UNPACKED, text=packed([column], pd.DataFrame({column.name: values})))
    return found


def many(seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(0.0, 3.0, 3 * MOST_EXACT)
    values[::50] = np.nan
    return values


def test_few_numbers_are_exact_to_the_last_bit(script):
    values = [0.1 + 0.2, 1e-300, -5e22, 0.0, None, 123456789012345.0, 1 / 3]
    assert back(script, Column("x", kind="number", digits=2), values) == values


def test_many_numbers_keep_two_decimals_more_than_are_shown(script):
    values = many()
    found = np.array(back(script, Column("x", kind="number", digits=2), values), dtype=float)
    assert np.array_equal(np.isnan(found), np.isnan(values))
    assert np.nanmax(np.abs(found - values)) <= 1.5e-4
    # The nearest double to the decimal number, so that what is typed as a filter equals it.
    assert found[1] == float(f"{values[1]:.4f}")


@pytest.mark.parametrize(
    "column",
    [
        Column("x", kind="number", digits=2),
        Column("x", kind="percent", digits=1),
        Column("x", kind="number"),
        Column("x", kind="seconds"),
        Column("x", kind="number", digits=2, rounding="down"),
    ],
)
def test_what_is_stored_is_written_as_the_exact_number_is(script, column):
    values = np.concatenate(
        [many() / 30.0, np.round(many(1), 3) + 1e-9, np.round(many(2), 3) - 1e-7, [1.0050000001, 0.1464999, -0.1464999]]
    )
    if column.kind == "seconds":
        values = np.abs(values) * 100
    found = script(
        "unpack(text).then((table) => [...table.columns[0].numbers].map((value) => written(value, column)))",
        text=packed([column], pd.DataFrame({"x": values})),
        column=column.spec(),
    )
    wrong = [(value, text) for value, text in zip(values, found, strict=True) if text != written(value, column)]
    assert wrong == []


def test_what_is_rounded_down_is_stored_rounded_down(script):
    values = np.concatenate([many(), [0.949999999, 0.29, -0.949999999]])
    column = Column("x", kind="number", digits=2, rounding="down")
    found = np.array(back(script, column, values), dtype=float)
    assert found[-3:].tolist() == [0.9499, 0.29, -0.95]
    assert np.nanmax(found - values) < 1e-9


def test_numbers_of_any_size_keep_their_significant_digits(script):
    rng = np.random.default_rng(1)
    values = np.concatenate([10.0 ** rng.uniform(-12, 12, 3 * MOST_EXACT) * rng.choice([-1, 1], 3 * MOST_EXACT), [0.0, 12345678.0]])
    found = np.array(back(script, Column("x", kind="number"), values), dtype=float)
    assert np.max(np.abs(found / np.where(values == 0, 1, values) - (values != 0))) < 1e-7
    assert found[-1] == 12345678.0
    seconds = np.array(back(script, Column("x", kind="seconds"), np.abs(values)), dtype=float)
    assert np.max(np.abs(seconds[:-2] / np.abs(values[:-2]) - 1)) < 1e-4


def test_numbers_that_fit_no_shorter_form_are_stored_as_they_are(script):
    values = many()
    values[7] = np.inf
    found = script(
        "unpack(text).then((table) => [...table.columns[0].numbers].map(String))",
        text=packed([Column("x", kind="number", digits=2)], pd.DataFrame({"x": values})),
    )
    assert found[7] == "Infinity"
    assert [float(text) for text in found[1:7]] == values[1:7].tolist()
    large = np.arange(3.0 * MOST_EXACT) * 1e12
    assert back(script, Column("x", kind="integer"), large) == large.tolist()
    tiny = 10.0 ** np.random.default_rng(2).uniform(-40, -30, 3 * MOST_EXACT)
    assert back(script, Column("x", kind="number"), tiny) == tiny.tolist()


def test_whole_numbers_and_texts_come_back_as_they_were(script):
    whole = np.random.default_rng(3).integers(-(2**30), 2**30, 3 * MOST_EXACT)
    assert back(script, Column("x", kind="integer"), whole) == whole.tolist()
    ordered = np.arange(3 * MOST_EXACT) + 5
    assert back(script, Column("x", kind="integer"), ordered) == ordered.tolist()
    texts = ["</script>", "ünï 漢字 🙂", 'quo"te', "", None, "a\nb", "\x00", "</script>"]
    assert back(script, Column("x"), texts) == texts
    assert back(script, Column("x"), [True, None, False]) == ["True", None, "False"]
    assert back(script, Column("x", kind="number"), [None, None]) == [None, None]
    assert back(script, Column("x", kind="number"), []) == []


def test_half_a_surrogate_pair_does_not_stop_a_table():
    assert packed([Column("x")], pd.DataFrame({"x": pd.Series(["\ud800"], dtype=object)}))


def test_a_hundred_thousand_rows_of_twenty_columns_take_less_than_six_million_bytes():
    text = packed(COLUMNS, trials(100_000))
    print(f"100,000 rows x {len(COLUMNS)} columns: {len(text) / 1e6:.2f} MB")
    assert len(text) < 6_000_000


def test_the_same_table_gives_the_same_bytes():
    assert packed(COLUMNS, trials(500)) == packed(COLUMNS, trials(500))


def test_text_in_a_column_of_numbers_and_a_missing_column_are_named():
    with pytest.raises(PageError, match=r"'x'.*'many'"):
        packed([Column("x", kind="number")], pd.DataFrame({"x": [1, "many"]}))
    with pytest.raises(PageError, match=r"no column 'y'.*x"):
        packed([Column("y")], pd.DataFrame({"x": [1]}))
    with pytest.raises(PageError, match="twice: x"):
        packed([Column("x"), Column("x")], pd.DataFrame({"x": [1]}))


@pytest.mark.parametrize("descending", [False, True])
def test_the_page_sorts_like_python_missing_last_equal_ones_in_their_order(script, descending):
    from results.pages.query import order

    rng = np.random.default_rng(5)
    numbers = rng.choice([np.nan, -np.inf, -1e300, -1.5, -0.0, 0.0, 1e-300, 2.0, 1e300, np.inf], 500)
    texts = pd.Series(rng.choice(["b", "a", "B", "10", "9", None], 500), dtype=object)
    codes, found = pd.factorize(texts)
    by_number, by_text = script(
        """[{ numbers: Float64Array.from(numbers) }, { texts, codes: Uint32Array.from(codes) }]
            .map((column) => [...sortedRows(counting(500), column, descending)])""",
        numbers=numbers.tolist(),
        texts=list(found),
        codes=(codes + 1).tolist(),
        descending=descending,
    )
    assert by_number == order(pd.Series(numbers), descending).tolist()
    assert by_text == order(texts, descending).tolist()

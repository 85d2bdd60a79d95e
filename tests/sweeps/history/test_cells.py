"""Cells: figures, values, and what is neither."""

from __future__ import annotations

import time

import pytest

from sweeps.history.cells import CellError, clean, figure, parameter, plain


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("0.5629", 0.5629),
        ("+871 %", 8.71),
        ("0.7%", 0.007),  # exactly: 0.7 / 100 is another number
        ("−3.2 %", -0.032),
        ("–3.2%", -0.032),
        ("2.669e+15", 2.669e15),
        ("1e‑5", 1e-5),  # a hyphen that does not break, as editors put it
        ("**1.1952**", 1.1952),
        ("`0.25`", 0.25),
        ("~~0.5~~ 0.3", 0.3),
        ("0.56 ✅ (best)", 0.56),
        ("12.3 ± 0.4", 12.3),
        ("1,234.5", 1234.5),
        ("$1,234", 1234.0),
        ("-$12", -12.0),
        ("1.2k", 1200.0),
        ("12 bps", 0.0012),
        ("<b>3</b>", 3.0),
    ],
)
def test_a_figure_is_read_however_it_is_written(cell: str, value: float) -> None:
    found = figure(plain(cell))
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize("cell", ["", "-", "—", "n/a", "(n/a)", "(running)", "TBD", "…", "pending", "nan", "⏳", "OOM"])
def test_a_cell_that_says_there_is_nothing_has_no_figure(cell: str) -> None:
    assert figure(plain(cell)) is None


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        (">1.5", "a bound"),
        ("~0.7", "an estimate"),
        ("1.5-1.8", "a range"),
        ("50–70%", "a range"),
        ("0,5", "a decimal comma"),
        ("3/4", "not one number"),
        ("=SUM(A1:A9)", "a formula"),
        ("good", "not a number"),
        ("1e999", "too large"),
    ],
)
def test_what_is_no_figure_is_refused_with_what_it_is(cell: str, why: str) -> None:
    with pytest.raises(CellError, match=why):
        figure(cell)


def test_a_decimal_comma_is_one_where_columns_are_parted_by_semicolons() -> None:
    found = figure("1.234,5", decimal_comma=True)
    assert found is not None and found.value == 1234.5


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("200", 200),
        ("1e-5", 1e-5),
        ("2.5%", 0.025),
        ("✓", True),
        ("False", False),
        ("-", None),
        ("none", "none"),  # a transform's name
        ("007", "007"),
        ("1,4,12,24", "1,4,12,24"),
        ("20260205012017123456", "20260205012017123456"),
        ("=cmd|' /C calc'!A0", "=cmd|' /C calc'!A0"),
        ("@SUM(1)", "@SUM(1)"),
        ("__import__('os').system('x')", "__import__('os').system('x')"),
    ],
)
def test_a_parameter_is_a_number_a_truth_or_its_text_and_never_evaluated(cell: str, value: object) -> None:
    found = parameter(cell)
    assert found == value and type(found) is type(value)


def test_text_loses_markup_and_what_cannot_be_seen() -> None:
    assert plain("[**run 1**](http://x)<br>a&gt;b \\ `c`[^1]") == "run 1 a>b \\ c"
    assert clean("a\x1b[31m\u202eb\u200bc\n d") == "a[31mbc d"
    assert plain("selector_seq128_best") == "selector_seq128_best"


@pytest.mark.parametrize("unit", ["<a", "~~", "[", "](", "1,", "**", "(", "<!--", "± 1", "| -"])
def test_no_text_takes_long(unit: str) -> None:
    text = unit * 5_000 + "!"
    began = time.process_time()
    parameter(plain(text))
    try:
        figure(plain(text))
        figure(plain(f"1 {text}"))
    except CellError:
        pass
    assert time.process_time() - began < 1.0

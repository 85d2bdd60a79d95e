"""A study as a file of JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from results import Header
from results.tracking.jsonl import JsonLines
from results.tracking.tracker import About, Board, Place, Point, Rows, TrackerError, TrialRun


@pytest.fixture
def about(tmp_path: Path, make_header: Any) -> About:
    header: Header = make_header()
    return About(header, "0123456789abcdef", 10, False, ("x",), tmp_path)


def tell(made: JsonLines) -> None:
    made.point(Point(0, 1, {"best/sharpe": 1.0}))
    made.rows(Rows(0, pd.DataFrame({"trial": [3, 4], "sharpe": [1.5, float("nan")]})))
    made.board(Board(1, pd.DataFrame({"rank": [1], "trial": [3]})))
    made.trial(TrialRun(3, "ab", {"x": 1}, "completed", {"sharpe": 1.5}, 0.5, ((1, {"sharpe": 1.0}),), 1))
    made.close("finished", {"best": 1.5}, [Path("results.parquet")])


def test_each_call_is_a_line_and_n_a_is_null(about: About, tmp_path: Path) -> None:
    made = JsonLines(about, {})
    assert made.open() == Place() and made.check(0, 0, ()) == []
    tell(made)
    lines = [json.loads(line) for line in (tmp_path / "tracking" / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["study", "point", "rows", "board", "trial", "closed"]
    assert lines[0]["run_id"] == "0123456789abcdef"
    assert lines[2]["columns"] == ["trial", "sharpe"] and lines[2]["rows"] == [[3, 1.5], [4, None]]
    assert lines[4]["reports"] == [[1, {"sharpe": 1.0}]]
    assert made.check(1, 2, {3}) == []
    assert len(made.check(2, 3, {3, 4})) == 3


def test_opened_again_it_says_what_it_has_and_takes_away_a_line_that_was_cut(about: About, tmp_path: Path) -> None:
    made = JsonLines(about, {"file": str(tmp_path / "here.jsonl")})
    made.open()
    tell(made)
    with made.path.open("a") as file:
        file.write('{"event": "point", "ind')
    again = JsonLines(about, {"file": str(tmp_path / "here.jsonl")})
    assert again.open() == Place(1, 2, frozenset({3}))
    again.point(Point(1, 2, {}))
    assert again.check(2, 2, {3}) == []


def test_the_file_of_another_study_is_left_alone(about: About, tmp_path: Path) -> None:
    made = JsonLines(about, {})
    made.open()
    tell(made)
    other = About(about.header, "f" * 16, None, False, (), tmp_path)
    with pytest.raises(TrackerError, match="is of study 'grid'"):
        JsonLines(other, {}).open()


def test_an_option_it_does_not_have_is_refused(about: About) -> None:
    with pytest.raises(TrackerError, match="no option 'path'; there are file and trials"):
        JsonLines(about, {"path": "x"})

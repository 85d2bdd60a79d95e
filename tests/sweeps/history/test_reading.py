"""Files: the shapes tables have in progress logs, and CSV files that are long, odd or hostile."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.history import HistoryError
from sweeps.history.columns import Choices
from sweeps.history.markdown import read_markdown
from sweeps.history.reading import Found, look
from sweeps.history.records import Record
from sweeps.history.sheets import read_csv
from sweeps.history.tables import Problem, Table

LOG = """\
# Cross-learning progress

Text with | a bar.

## Latest summary (10d)

| Date (UTC) | Run | Symbols | total_return | max dd | Notes |
| --- | :-- | --- | --: | --- | --- |
| 2026-02-05 | sel_1 | SOL,LINK | **+164.6 %** | 12% | best so far, intensity=2.0, dip=0.005. |
| 2026-02-05 | sel_2 | SOL | 0.25 | -8% | a \\| b |
| 2026-02-05 | sel_3 | SOL | (running) | n/a | |
| 2026-02-05 | sel_4 | SOL | 0.5 | 9% | one row that an editor
  broke into two lines |

## Files

| File | What |
|------|------|
| `a.py` | the code |

## Sweep (36 configs)

Best total_return (10d):
```
intensity=1.2 offset=0.0 edge_mode=high_low
total_return=0.207267 sortino=43.719822
```

```markdown
| Run | Sharpe |
|-----|--------|
| example | 1 |
```

### Without bars

Run | eval_loss
--- | ---
x | 0.0157
y | ~0.02
"""


def tables(path: Path) -> tuple[list[Table], list[Problem]]:
    told: list[Problem] = []
    return list(read_markdown(path, told.append)), told


def read(found: Found) -> tuple[list[Record | None], list[Problem]]:
    told: list[Problem] = []
    return list(found.records(told.append)), told


def write(folder: Path, text: str, name: str = "log.md") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_every_table_is_found_with_its_headings_and_line(tmp_path: Path) -> None:
    found, told = tables(write(tmp_path, LOG))
    assert [(each.line, each.section, each.count) for each in found] == [
        (7, "Latest summary (10d)", 4),
        (17, "Files", 1),
        (25, "Sweep (36 configs)", 1),
        (30, "Sweep (36 configs)", 0),
        (37, "Sweep (36 configs) > Without bars", 2),
    ]
    assert found[3].useless == "in a code block, so an example"
    assert told == []


def test_rows_become_trials_with_parameters_metrics_and_notes(tmp_path: Path) -> None:
    found = look([write(tmp_path, LOG)], Choices())
    rows, told = read(found)
    first, second, running, wrapped, best, x, y = rows
    assert first is not None and first.line == 9
    assert first.config == {"section": "Latest summary (10d)", "date_utc": "2026-02-05", "run": "sel_1", "symbols": "SOL,LINK"}
    assert first.metrics == {"total_return": 1.646, "max_drawdown": -0.12}  # a drawdown is a fall, however it is written
    assert first.note == "best so far, intensity=2.0, dip=0.005."
    assert second is not None and second.note == "a | b" and second.metrics["max_drawdown"] == -0.08
    assert running is None
    assert wrapped is not None and wrapped.note == "one row that an editor broke into two lines"
    assert best is not None and best.note == "Best total_return (10d)"
    assert best.config == {"section": "Sweep (36 configs)", "intensity": 1.2, "offset": 0.0, "edge_mode": "high_low"}
    assert x is not None and x.metrics == {"eval_loss": 0.0157}
    assert y is None  # an estimate is no result
    assert [(problem.line, "an estimate" in problem.words) for problem in told] == [(40, True)]
    assert [part.why[:9] for part in found.parts] == ["", "no metric", "", "in a code", ""]
    assert found.objective == "total_return"


def test_pairs_in_notes_become_columns_when_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, LOG)
    assert look([path], Choices()).parts[0].pairs == ("intensity", "dip")
    first = read(look([path], Choices(), from_notes=True))[0][0]
    assert first is not None and first.config["intensity"] == 2.0 and first.config["dip"] == 0.005


def test_a_table_of_metrics_by_line_is_turned_and_goals_are_no_results(tmp_path: Path) -> None:
    text = (
        "## Tracking\n\n| Metric | Target | Current | Status |\n|---|---|---|---|\n"
        "| Sharpe Ratio | >1.5 | 0.7 | ok |\n| Win Rate | >55% | 50% | - |\n"
    )
    found = look([write(tmp_path, text)], Choices())
    [row], _ = read(found)
    assert row is not None
    assert row.config == {"section": "Tracking", "column": "Current"}
    assert row.metrics == {"sharpe": 0.7, "win_rate": 0.5}


def test_a_row_that_was_cut_off_is_told_and_is_no_result(tmp_path: Path) -> None:
    text = "| Run | Note | Sharpe |\n|---|---|---|\n| a | x | 1 |\n| b | y\n\n| Run | Sharpe |\n|---|---|\n| c |\n"
    found, told = tables(write(tmp_path, text))
    assert [[line for line, _ in each.sample] for each in found] == [[3], [8]]
    assert [(each.line, "2 of 3 cells and no bar at its end" in each.words) for each in told] == [(4, True)]


def test_a_row_with_too_many_cells_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    text = "| Run | Sharpe |\n|---|---|\n| a | 1 |\n| b | c | 2 |\n| d |\n| e | 3 |\n"
    path = write(tmp_path, text)
    [found], told = tables(path)
    assert [line for line, _ in found.sample] == [3, 5, 6]
    assert [str(problem) for problem in told] == [
        f"{path}, line 4: 3 cells under 2 headings; write a bar inside a cell as \\|. The row is left out"
    ]


def test_html_is_no_table_and_comments_are_not_read(tmp_path: Path) -> None:
    text = (
        "<table><tr><td>Sharpe</td></tr></table>\n<!--\n| Run | Sharpe |\n|---|---|\n| a | 1 |\n-->\n"
        "| Run | Sharpe |\n|---|---|\n| <script>x</script> | 1 <!-- 2 --> |\n"
    )
    [found], _ = tables(write(tmp_path, text))
    assert found.line == 7
    rows, told = read(look([tmp_path / "log.md"], Choices()))
    assert rows[0] is not None and rows[0].config == {"run": "x"} and told == []


def test_a_rule_of_another_width_says_so(tmp_path: Path) -> None:
    [found], _ = tables(write(tmp_path, "| Run | Sharpe | x |\n|---|---|\n| a | 1 | 2 |\n"))
    assert found.useless == "3 headings over 2 columns"


def test_a_table_of_metrics_only_tells_its_rows_apart_by_their_number(tmp_path: Path) -> None:
    rows, _ = read(look([write(tmp_path, "| Sharpe |\n|---|\n| 1 |\n| 2 |\n")], Choices()))
    assert [row.config for row in rows if row] == [{"row": 1}, {"row": 2}]


@pytest.mark.parametrize("line", ["|" + " " * 200_000 + "x", "# " + "#" * 200_000, "-|" * 100_000 + "x", "a=1," * 50_000, "<!--" * 50_000])
def test_no_line_takes_long(tmp_path: Path, line: str) -> None:
    import time

    path = write(tmp_path, f"| a | Sharpe |\n{line}\n{line}\n```\n{line} =\n```\n")
    began = time.process_time()
    tables(path)
    assert time.process_time() - began < 2.0


def test_a_csv_file_is_read_with_its_bad_rows_told(tmp_path: Path) -> None:
    text = (
        "min_edge,edge_mode,total_return,max_dd_pct,win_rate\n0.1,high_low,0.5,12,0.5\n"
        '0.2,"a\nb",0.25,3%,55\n0.3,x\n=1+1,-,nan,,\n0.4,y,7%,8,0.1,\n'
    )
    path = write(tmp_path, text, "sweep.csv")
    found = look([path], Choices())
    rows, told = read(found)
    assert found.rows == 4
    one, two, blank, last = rows
    assert one is not None and one.config == {"section": "sweep", "min_edge": 0.1, "edge_mode": "high_low"}
    assert one.metrics == {"total_return": 0.5, "max_drawdown": -0.12, "win_rate": 0.5}
    assert two is not None and two.config["edge_mode"] == "a b" and two.metrics["win_rate"] is None and two.metrics["max_drawdown"] == -0.03
    assert blank is None
    assert last is not None and last.line == 7 and last.metrics["total_return"] == 0.07
    assert [(problem.line, problem.words[:30]) for problem in told] == [
        (3, "win_rate is '55': more than al"),
        (5, "2 fields under 5 headings; the"),
    ]


def test_semicolons_tabs_and_utf16_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x;sharpe\n1;0,5\n")
    (tmp_path / "b.tsv").write_text("x\tsharpe\n1\t0.5\n")
    (tmp_path / "c.csv").write_text("x,sharpe\n1,0.5\n", encoding="utf-16")
    for name in ("a.csv", "b.tsv", "c.csv"):
        rows, told = read(look([tmp_path / name], Choices()))
        assert [row.metrics for row in rows if row] == [{"sharpe": 0.5}] and told == []


def test_an_unclosed_quote_loses_its_rows_with_a_message_and_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "sweep.csv"
    with path.open("w") as file:
        file.write('x,sharpe\n0,1\n1,"2\n')
        file.writelines(f"{i},{i}\n" for i in range(2, 60_000))
    rows, told = read(look([path], Choices()))
    assert any("quotation mark" in problem.words and problem.line == 3 for problem in told)
    assert rows[0] is not None and len(rows) > 10_000  # it goes on after what it could not part


def test_what_is_no_utf8_is_shown_and_told_once(tmp_path: Path) -> None:
    (tmp_path / "log.md").write_bytes(b"| Run | Sharpe |\n|---|---|\n| \xff\xfe | 1 |\n| \xff | 2 |\n")
    found = look([tmp_path / "log.md"], Choices())
    assert [problem.line for problem in found.problems] == [3]
    assert len([row for row in read(found)[0] if row]) == 2


def test_files_that_are_none_and_csv_files_without_headings_are_messages(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="no such file"):
        look([tmp_path / "gone.md"], Choices())
    with pytest.raises(HistoryError, match="not a file"):
        look([tmp_path], Choices())
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(HistoryError, match="should name the columns"):
        read_csv(tmp_path / "empty.csv")


def test_a_metric_in_another_unit_than_elsewhere_is_left_out_with_the_reason(tmp_path: Path) -> None:
    text = "| Run | Edge |\n|---|---|\n| a | 1 |\n\ntext\n\n| Run | Edge % |\n|---|---|\n| b | 1 |\n"
    found = look([write(tmp_path, text)], Choices.parse(["edge:max"]))
    assert [part.why for part in found.parts] == ["", "its metrics have other units than elsewhere"]

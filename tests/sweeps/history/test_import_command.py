"""The command, and the other commands on what it made."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

LOG = """\
## Policies

| # | Run | total_return | max dd | Notes |
|---|---|---|---|---|
| 1 | a | +20 % | 12% | first [bold]words[/bold] |
| 2 | b | 10% | 8% | |
| 3 | c | (running) | | |
| 4 | =cmd() | 1 % | 3% | |

## Files

| File | What |
|---|---|
| a.py | code |
"""


@pytest.fixture
def imported(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    Path("log.md").write_text(LOG)
    return command("track", "import-log", "log.md", "--name", "old")


def test_it_says_what_was_imported_and_how_to_look_at_it(imported: Any) -> None:
    assert imported.code == 0, imported.err
    assert "old: 3 rows imported; 1 without a result. 3 trials in all, UNVERIFIED: not evaluated here." in imported.out
    assert "alphasweep leaderboard old" in imported.out


def test_a_dry_run_shows_each_column_and_writes_nothing(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.md").write_text(LOG)
    done = command("track", "import-log", "log.md", "--name", "old", "--dry-run")
    assert done.code == 0
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "log.md:3: Policies (4 rows)" in lines
    assert "Run parameter run 4" in lines
    assert "total_return metric total_return, higher is better, fraction" in lines
    assert "max dd metric max_drawdown, higher is better, fraction, kept as a fall" in " ".join(lines)
    assert "Notes note" in lines
    assert "# left out numbers the rows" in lines
    assert any(line.startswith("log.md:12 Files 1 left out: no metric among its") for line in lines)
    assert "3 rows would be imported" in done.out and "Nothing was written" in done.out
    assert not Path("runs").exists()
    assert max(map(len, done.out.splitlines())) <= 120


def test_bad_rows_are_told_by_file_and_line_the_rest_is_imported_and_the_code_says_so(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "sweep.csv"
    path.write_text("x,sharpe\n1,0.5\n2\n3,~0.7\n4,0.9\n")
    done = command("track", "import-log", path, "--name", "old", "--dir", tmp_path / "runs")
    assert done.code == 1
    assert f"unreadable   {path}, line 3: 1 fields under 2 headings; the row is left out" in done.out
    assert f"{path}, line 4: sharpe is '~0.7': an estimate, not a figure; taken as n/a" in done.out
    assert "2 rows imported; 1 without a result" in done.out


def test_a_changed_row_is_told_and_the_code_says_so(imported: Any, command: Command) -> None:
    Path("log.md").write_text(LOG.replace("+20 %", "+21 %"))
    done = command("track", "import-log", "log.md", "--name", "old")
    assert done.code == 1
    assert "changed      log.md, line 5: total_return is 21 % here and 20 % in trial 0 (log.md:5); kept as it was" in done.out
    assert "0 rows imported; 2 there already; 1 changed, and left as it was; 1 without a result" in done.out


def test_a_mistake_is_a_message(tmp_path: Path, command: Command) -> None:
    done = command("track", "import-log", tmp_path / "gone.md", "--name", "old", "--dir", tmp_path)
    assert (done.code, "no such file" in done.err) == (2, True)
    (tmp_path / "log.md").write_text(LOG)
    done = command("track", "import-log", tmp_path / "log.md", "--name", "../old", "--dir", tmp_path / "runs")
    assert (done.code, "use letters, digits" in done.err, (tmp_path / "old").exists()) == (2, True, False)


def test_commands_that_look_work_and_say_that_nothing_was_verified(imported: Any, command: Command) -> None:
    board = command("leaderboard", "old", "--csv", "all.csv", "--json", "all.json", "--parquet", "all.parquet")
    assert board.code == 0, board.err
    assert "UNVERIFIED: imported from records, not evaluated here" in " ".join(board.out.split())
    assert [line.split()[:2] for line in board.out.splitlines() if " ? " in line] == [["1", "?"], ["2", "?"], ["3", "?"]]
    assert "holdout      none: these results were imported, not evaluated here" in board.out
    with open("all.csv", newline="") as file:
        kept = list(csv.DictReader(file))
    assert [row["source"] for row in kept] == ["unverified log.md:5", "unverified log.md:6", "unverified log.md:8"]
    assert kept[2]["run"] == "=cmd()"
    status = command("status")
    assert status.code == 0 and status.out.split("─")[-1].split()[:3] == ["old", "imported", "3"]
    shown = command("show", "old", "0")
    assert shown.code == 0
    assert "unverified log.md:5" in shown.out and "first [bold]words[/bold]" in shown.out
    assert command("leaderboard", "old", "--pareto", "total_return,max_drawdown").code == 0
    assert command("export", "old", "--optuna", "old.db").code == 0
    drawn = command("plot", "old", "history", "--to", "history.html")
    assert drawn.code == 0 and "UNVERIFIED" in drawn.out


@pytest.mark.parametrize(
    "args",
    [
        ("run", "old"),
        ("verify", "old"),
        ("promote", "old"),
        ("audit", "old"),
        ("plan", "old"),
        ("validate", "old"),
        ("extend", "old", "--trials", "9"),
        ("fork", "old", "new"),
        ("enqueue", "old", "--set", "run=x"),
        ("retry", "old", "--failed"),
        ("why", "old", "0"),
        ("export", "old", "0", "--to", "folder"),
        ("walkforward", "old"),
    ],
)
def test_commands_that_would_evaluate_say_why_they_cannot(imported: Any, command: Command, args: tuple[str, ...]) -> None:
    done = command(*args)
    assert done.code == 2
    assert "imported" in done.err and "not evaluated here" in done.err
    assert "Traceback" not in done.err

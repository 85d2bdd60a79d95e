"""docs/tracking.md names the curves, the options and the numbers there are, and its own tracker works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from results.tracking import projection, select
from sweeps import Study, run
from sweeps.tracking.settings import as_mapping, check

PAGE = (Path(__file__).parents[2] / "docs" / "tracking.md").read_text(encoding="utf-8")


def test_every_curve_is_explained() -> None:
    names = [projection.COMPLETED, projection.STOPPED, projection.FAILED, projection.REUSED, projection.SECONDS, projection.RATE]
    names += [projection.BUSY, f"{projection.BEST}METRIC", f"{projection.LANES}NAME", f"{projection.CACHE}…"]
    table = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    assert set(names) <= {name for cell in table for name in re.findall(r"`([^`]+)`", cell)}


def test_the_studies_of_the_page_are_studies_and_its_numbers_those_of_the_code() -> None:
    for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        check(as_mapping(yaml.safe_load(text)["tracking"]))
    for words in (
        f"Where a study has {select.SMALL} trials at most, or {select.SMALL_STEPPING:,} that report",
        f"Up to {select.LARGE:,} trials, the {select.BEST} best",
        f"A study of more than {projection.LARGEST_TABLE:,} trials has no such table",
        f"20 rows at least and {projection.MOST_ROWS:,} at most",
        f"{projection.points_of(1_000_000):,} for a million trials",
        f"**The leaderboard**, {select.BOARD:,} rows",
    ):
        assert " ".join(words.split()) in " ".join(PAGE.split()), words


def test_the_commands_of_the_page_are_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    run(Study.load("selector_grid", ["data.bars=1200"]), "runs", here=600.0)
    from sweeps.cli import main

    said: Callable[[str], str] = lambda command: _call(main, command.split("#")[0].split()[1:], capsys)  # noqa: E731
    commands = [line for line in PAGE.splitlines() if line.startswith("alphasweep track")]
    assert len(commands) == 4
    assert "written, checked" in said(commands[3])
    assert "selector_grid" in said(commands[0])
    assert "nothing to write, checked" in said("alphasweep track sync selector_grid --tracker jsonl")
    if "tensorboard" in commands[2]:
        pytest.importorskip("tensorboardX")
        assert "written, checked" in said(commands[2])


def _call(main: Any, args: list[str], capsys: Any) -> str:
    with pytest.raises(SystemExit) as end:
        main(args)
    text = capsys.readouterr()
    assert end.value.code == 0, text
    return " ".join(text.out.split())


def test_the_tracker_of_the_page_is_told_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from sweeps.cli import main

    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "page_tracker.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run(Study.load("selector_grid", ["data.bars=1200", "search.trials=3"]), "runs", here=600.0)
    told = _call(main, ["track", "sync", "selector_grid", "--tracker", "page_tracker:Print"], capsys)
    assert "'trials/completed': 3.0" in told and re.search(r"finished (?!None)\w", told)

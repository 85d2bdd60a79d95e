"""Every command of docs/plots.md is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.cli import main
from sweeps.commands.plots import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "plots.md").read_text(encoding="utf-8")


def commands() -> Iterator[list[str]]:
    [listing] = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in listing.splitlines():
        yield shlex.split(re.split(r" {2,}", line)[0])[1:]


def test_every_figure_is_on_the_page() -> None:
    table = PAGE[PAGE.index("| kind |") : PAGE.index("- **Files.**")]
    assert set(re.findall(r"`(\w+)`", "\n".join(row.split("|")[1] for row in table.splitlines() if row.startswith("|")))) == set(KINDS)


@pytest.mark.ray
@pytest.mark.slow
def test_every_command_of_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in [["run", "selector_grid"], *commands()]:
        with pytest.raises(SystemExit) as end:
            main(words)
        assert not end.value.code, words
    for name in ("runs/selector_grid/plots/slice.html", "contour.png", "pareto.svg", "importance.csv", "selector_grid.db"):
        assert (tmp_path / name).stat().st_size > 100

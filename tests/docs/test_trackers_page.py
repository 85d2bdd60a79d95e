"""The commands and settings of docs/trackers.md."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from results.tracking.mlflow_store import KEYS, place_of
from results.tracking.registry import ARCHIVED, STAGES

PAGE = (Path(__file__).parents[2] / "docs" / "trackers.md").read_text(encoding="utf-8")


def test_settings_of_the_page_are_those_there_are(tmp_path: Path) -> None:
    blocks = [yaml.safe_load(block)["tracking"] for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    assert blocks[0] == ["mlflow"] and blocks[2] == ["tensorboard"]
    options = blocks[1]["mlflow"]
    assert set(options) <= {*KEYS, "trials"} and place_of(options, tmp_path).uri == options["uri"]


def test_stages_of_the_page_are_those_there_are() -> None:
    said = re.findall(r"^alphasweep register selector_grid 26(?: --stage (\w+))?", PAGE, re.MULTILINE)
    assert [stage or "candidate" for stage in said] == [*STAGES, ARCHIVED]
    assert [line.split("|")[1].strip() for line in PAGE.splitlines() if re.match(r"\| (candidate|staging|production) \|", line)] == list(
        STAGES
    )

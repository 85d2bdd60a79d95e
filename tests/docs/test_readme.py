"""What the documentation shows is run: commands, study files, Python."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.runner import Search
from sweeps.study import Study
from trainables.forecast import empirical
from trainables.market import sample_panel
from trainables.policy import decode

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [body for name, body in found if name == language]


@pytest.mark.ray
@pytest.mark.slow
def test_every_command_of_the_readme_works(tmp_path: Path) -> None:
    _, listing = blocks(README, "")
    commands = [re.split(r" {2,}", line)[0] for line in listing.splitlines()]
    assert len(commands) == 15 and all(c.startswith("alphasweep ") for c in commands)
    study = blocks(README, "yaml")[0].replace("trials: 5000", "trials: 20")
    (tmp_path / "my.yaml").write_text(study, encoding="utf-8")
    panel = sample_panel(["BTCUSD"], bars=50)
    folder = tmp_path / "FOLDER"
    folder.mkdir()
    panel.frame().drop(columns="symbol").to_csv(folder / "BTCUSD.csv", index=False)
    for command in commands:
        words = shlex.split(command)[1:]
        words = ["300" if word == "100000" else word for word in words]  # the same command, fewer points
        done = subprocess.run(
            [sys.executable, "-m", "sweeps.cli", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
    assert (tmp_path / "trials.csv").read_text().count("\n") == 55


def test_the_study_of_the_readme_and_the_space_of_the_reference_are_valid(tmp_path: Path) -> None:
    study, reference = tmp_path / "my.yaml", tmp_path / "reference.yaml"
    study.write_text(blocks(README, "yaml")[0], encoding="utf-8")
    Search(Study.load(study)).check()
    parts = {text.partition(":")[0]: text for text in blocks((ROOT / "docs" / "studies.md").read_text(encoding="utf-8"), "yaml")}
    sections = parts["space"] + parts["stop"]
    reference.write_text(f"trainable: selector\n{sections}search: {{sampler: random, trials: 9}}\n", encoding="utf-8")
    search = Search(Study.load(reference))
    search.check()
    assert search.budget.hours == 1.5 and search.budget.plateau == 100
    assert tuple(search.space.names) == ("max_positions", "edge_mode", "min_edge", "max_hold", "risk_weight", "steal_margin")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.ray
@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study, notebook = blocks(README, "python")
    scope: dict[str, Any] = {}
    exec(study, scope)
    assert len(scope["result"].leaderboard()) == 20
    panel = sample_panel(["BTCUSD", "ETHUSD"], bars=600)
    forecasts = empirical(panel, window=48)
    actions = decode(panel, forecasts, (3.0, 4.0, 2.0, 2.0))
    bars = panel.frame()
    row = np.searchsorted(panel.times, bars["timestamp"].dt.tz_localize(None).to_numpy())
    column = np.array([panel.symbols.index(symbol) for symbol in bars["symbol"]])
    for field in ("high", "low", "close"):
        bars[f"predicted_{field}_p50_h1"] = forecasts.p50(field)[row, column]
    decided = bars[["timestamp", "symbol"]].copy()
    for name in ("buy_price", "sell_price", "buy_amount", "sell_amount"):
        decided[name] = getattr(actions, name)[row, column]
    scope = {"bars": bars, "actions": decided}
    exec(notebook, scope)
    assert scope["result"].metrics["trades"].sum() > 0 and scope["result"].equity.shape == (600, 2)

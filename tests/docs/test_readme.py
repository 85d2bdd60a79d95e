"""What the documentation shows is run: commands, study files, Python."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.runner import Search
from sweeps.study import Study
from trainables.market import sample_panel

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [body for name, body in found if name == language]


@pytest.mark.ray
@pytest.mark.slow
def test_every_command_of_the_readme_works(tmp_path: Path) -> None:
    [listing] = blocks(README, "")
    commands = [re.split(r" {2,}", line)[0] for line in listing.splitlines()]
    assert len(commands) == 10 and all(c.startswith("alphasweep ") for c in commands)
    study = blocks(README, "yaml")[0].replace("source: ../data/crypto_1h ", "source: sample ").replace("trials: 5000", "trials: 20")
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
    [space] = blocks((ROOT / "docs" / "studies.md").read_text(encoding="utf-8"), "yaml")
    reference.write_text(f"trainable: selector\n{space}search: {{sampler: random, trials: 9}}\n", encoding="utf-8")
    search = Search(Study.load(reference))
    search.check()
    assert tuple(search.space.names) == ("max_positions", "edge_mode", "min_edge", "max_hold", "risk_weight", "steal_margin")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_python_of_the_readme_is_the_library_s() -> None:
    from inspect import signature

    from sweeps import run
    from trainables.selector import simulate

    assert "equity" in signature(simulate).parameters and "study" in signature(run).parameters
    assert all(compile(code, "README", "exec") for code in blocks(README, "python"))

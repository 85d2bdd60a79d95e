"""A small trainable of a third party, one study of it that really ran on Ray, and the command in this process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

MODULE = """
import pandas as pd
from results.metrics import Metric
from trainables.contract import Evaluation, Parameter, Prepared, TrainableError


class Parabola:
    name, version, objective = "parabola", "1", "score"
    parameters = (
        Parameter("x", 0.0, "float", -10, 10),
        Parameter("shape", "round", "choice", choices=("round", "flat")),
    )
    metrics = (Metric("score", "max"), Metric("cost", "min"), Metric("share", "max", "fraction"))

    def prepare(self, data, settings, protocol=None, part="search"):
        if data.get("interrupt"):
            raise KeyboardInterrupt
        if unknown := set(settings) - {"profile"}:
            raise TrainableError(f"settings.{unknown.pop()}: no such setting; known: profile")
        return Prepared(None, "f00d", {}, {p.name: p.default for p in self.parameters}, (("market", "[none] at all"),))

    def evaluate_pack(self, configs, ctx):
        for config in configs:
            if config["x"] == 3:
                raise ValueError("no value [red] at\\n 3")
        return Evaluation(pd.DataFrame([{"score": -((c["x"] - 1) ** 2), "cost": c["x"], "share": c["x"] / 10} for c in configs]))
"""

STUDY = """\
name: toy
description: Twelve points, [two] of which fail.
trainable: alphasweep_toys:Parabola
space:
  x: [0, 1, 2, 3, 4, 5]
  shape: [round, flat]
seed: 3
"""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a module with a trainable, importable here and in Ray's workers."""
    folder = tmp_path_factory.mktemp("toys")
    (folder / "alphasweep_toys.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return folder


@pytest.fixture(scope="session")
def toy_file(toys: Path) -> Path:
    file = toys / "toy.yaml"
    file.write_text(STUDY)
    return file


@pytest.fixture(scope="session")
def ran_once(toy_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sweeps import Study, run

    folder = tmp_path_factory.mktemp("runs")
    result = run(Study.load(toy_file), folder, here=60.0)
    assert (result.tally.done, result.tally.failed) == (12, 2)
    return folder


@pytest.fixture
def runs(ran_once: Path, tmp_path: Path) -> Path:
    """A folder of one's own, with the study `toy` that has run: 12 points, 2 of them failed."""
    return shutil.copytree(ran_once, tmp_path / "runs")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs `alphasweep` with arguments, in this process."""
    from sweeps.cli import main

    def call(*args: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(arg) for arg in args])
        code = end.value.code
        return Outcome(code if isinstance(code, int) else int(code is not None), *capsys.readouterr())

    return call

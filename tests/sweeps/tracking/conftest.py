"""A small study that ran without workers, and trackers that misbehave."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Each does what JSON lines do, and something else.
TRACKERS = """
import os, time
from results.tracking.jsonl import JsonLines


class Flaky(JsonLines):
    def point(self, point):
        if point.index >= 3 and os.path.exists(os.environ["TRACKER_DOWN"]):
            raise ConnectionError("no route to host, key " + os.environ.get("TRACKER_API_KEY", ""))
        super().point(point)


class Twice(JsonLines):
    tries = 0

    def open(self):
        type(self).tries += 1
        if self.tries < 3:
            raise TimeoutError(f"try {self.tries}")
        return super().open()


class Sleeps(JsonLines):
    def point(self, point):
        time.sleep(1e6)


class Slow(JsonLines):
    def point(self, point):
        time.sleep(0.3)
        super().point(point)


class Burns(JsonLines):
    def point(self, point):
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass
        super().point(point)


class Refuses(JsonLines):
    tries = 0

    def open(self):
        type(self).tries += 1
        raise ConnectionError("no route to host")


class Mute:
    name = "mute"

    def __init__(self, about, settings):
        pass

    def open(self):
        from results.tracking.tracker import Place

        return Place()

    def point(self, point): pass
    def rows(self, rows): pass
    def board(self, board): pass
    def trial(self, run): pass
    def close(self, state, summary, files=()): pass
"""


@pytest.fixture(scope="session")
def tracker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trackers")
    (folder / "bad_trackers.py").write_text(TRACKERS)
    return folder


@pytest.fixture
def trackers(tracker_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the module `bad_trackers` importable, here and in processes; returns the file whose existence makes `Flaky` fail."""
    monkeypatch.syspath_prepend(str(tracker_folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tracker_folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TRACKER_DOWN", str(tmp_path / "down"))
    return tmp_path / "down"


@pytest.fixture(scope="session")
def ran_here(toy_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sweeps import Study, run

    folder = tmp_path_factory.mktemp("here")
    assert run(Study.load(toy_file), folder, here=600.0).tally.done == 12
    return folder


@pytest.fixture
def here(ran_here: Path, tmp_path: Path) -> Path:
    """A folder of one's own with the study `toy`, that ran without trackers: 12 points, 2 of them failed."""
    return shutil.copytree(ran_here, tmp_path / "runs")

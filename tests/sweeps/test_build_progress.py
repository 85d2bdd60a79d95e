from __future__ import annotations

import io
import threading

import numpy as np
from rich.console import Console

from cluster.cache import Store
from sweeps import build_progress
from sweeps.build_progress import BuildProgress
from trainables.tables import Table


def make(rows: int = 2000) -> Table:
    times = np.datetime64("2025-01-01", "ns") + np.arange(rows) * np.timedelta64(1, "h")
    return Table("features", {}, ("a",), ("BTCUSD",), times, np.zeros((1, rows)), 1, "features, BTCUSD")


def test_pieces_are_shown_as_one_build_of_the_rows_that_are_read(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(build_progress, "_EVERY", 0.0)
    said = io.StringIO()

    def build(first, stop, done):
        done(stop - first)
        return np.zeros((1, stop - first))

    with BuildProgress(Console(file=said, width=120)) as progress:
        progress.watching(Store(tmp_path)).read(make(), 0, 2000, build)
    lines = said.getvalue().split("\n")
    assert lines[0] == "features, BTCUSD: 256 of 2,000 rows" and "features, BTCUSD: 2,000 of 2,000 rows" in lines


def test_waiting_for_another_process_is_said_once_and_every_minute(tmp_path) -> None:
    said, table, other = io.StringIO(), make(10), Store(tmp_path)
    with BuildProgress(Console(file=said, width=120)) as progress:
        tables = progress.watching(Store(tmp_path))
        with other.building(table.key):
            reader = threading.Thread(target=tables.read, args=(table, 0, 10, lambda a, b, done: np.zeros((1, b - a))))
            reader.start()
            reader.join(1.5)
        reader.join(10)
        for seconds in (6.0, 11.0, 59.0, 62.0, 67.0):
            progress.waiting(table, seconds)
        progress.waiting(table, 1.0)  # another time
    lines = said.getvalue().splitlines()
    assert [line[-6:] for line in lines] == ["(1 s).", "62 s).", "(1 s)."]
    assert lines[0] == "features, BTCUSD: waiting for another process that builds it (1 s)."

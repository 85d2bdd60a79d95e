"""A study extended by a parameter shows older trials with the default they were evaluated with."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from results import Header, Ledger, Metric, ResultRow
from results import export as exporting
from results.identity import config_ids
from results.leaderboard import leaderboard


def extended(path: Path, many: int = 1) -> Ledger:
    """A ledger whose first trials lack `y`, of which 0.5 is the default, and whose last has it."""
    context = {"trainable": "toy", "version": "1", "data_fingerprint": "d", "protocol": {"defaults": {"x": 0, "y": 0.5}}, "seed": 0}
    ledger = Ledger.create(path, Header(name="s", spec={}, context=context, metrics=(Metric("score", "max"),), objective="score"))
    ledger.begin_session({})
    configs = [*({"x": i} for i in range(many)), {"x": 0, "y": 1.5}]
    plan = ledger.add_plan({"x": []}, {"sampler": "grid"}, len(configs))
    ids = config_ids(ledger.header.context_id, configs, ledger.header.defaults)
    rows = [ResultRow(i, k, c, "completed", [float(i)]) for i, (k, c) in enumerate(zip(ids, configs, strict=True))]
    ledger.accept(ledger.open_attempt(plan.plan_id, len(rows)), rows)
    return ledger


def test_a_parameter_that_older_trials_lack_is_their_default_in_frames_boards_and_files(tmp_path: Path) -> None:
    with extended(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.frame()["y"].tolist() == [0.5, 1.5]
        assert leaderboard(ledger)["y"].tolist() == [1.5, 0.5]
        for name, read in (("a.csv", pd.read_csv), ("a.parquet", pd.read_parquet)):
            ledger.export(tmp_path / name)
            assert read(tmp_path / name)["y"].tolist() == [0.5, 1.5], name
        ledger.export(tmp_path / "a.json")
        assert "y" not in json.loads((tmp_path / "a.json").read_text())[0]["config"]  # as it was asked


def test_so_it_is_where_a_whole_chunk_lacks_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(exporting, "CHUNK", 4)
    monkeypatch.setattr(Ledger.stream, "__defaults__", (None, 4, ()))
    with extended(tmp_path / "ledger.sqlite", 9) as ledger:
        assert ledger.frame()["y"].tolist() == [0.5] * 9 + [1.5]
        for name, read in (("a.csv", pd.read_csv), ("a.parquet", pd.read_parquet)):
            ledger.export(tmp_path / name)
            assert read(tmp_path / name)["y"].tolist() == [0.5] * 9 + [1.5], name

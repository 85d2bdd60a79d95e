from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results import Ledger, LedgerError, series
from sweeps import Study, run
from sweeps.evidence import count_looks, judge
from sweeps.promote import promote
from sweeps.runner import LEDGER
from sweeps.study import StudyError

HERE = 60.0  # seconds: nothing here depends on who evaluates, so no workers are started


def study(**changes: Any) -> Study:
    keys: dict[str, Any] = {
        "name": "edge",
        "trainable": "selector",
        "data": {"source": "sample", "bars": 4320, "signal": 0.25, "seed": 7, "symbols": ["BTCUSD", "ETHUSD", "SOLUSD"]},
        "settings": {"forecast_window": 48, "logits": [3, 4, 2, 2]},
        # An intensity of 5 caps all amounts at 1, as one of 4 does: two names for one behaviour.
        "space": {"intensity": [1.0, 4.0, 5.0], "min_edge": [0.0, 0.0005, 0.001], "risk_weight": [0.25, 0.75]},
        "objective": "sortino",
    }
    return Study.parse(keys | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("runs")
    run(study(), made, here=HERE)
    null = {"source": "sample", "bars": 4320, "signal": 0.0, "seed": 7, "symbols": ["BTCUSD", "ETHUSD", "SOLUSD"]}
    run(study(name="null", data=null), made, here=HERE)
    return made


def test_a_judgement_has_its_evidence_and_folds_identical_behaviour_into_one_row(folder: Path) -> None:
    found = judge(folder / "edge", top=18)
    board = found.board
    assert found.kept == 18 and found.looks.trials == 18 and found.looks.openings == 0
    assert found.assessment is not None and found.assessment.verdict.code != "n/a"
    assert found.stability is not None and found.position is not None and found.position.edges
    assert (board["sortino"].diff().dropna() <= 0).all() and board["rank"].tolist() == list(range(1, len(board) + 1))
    assert board["alike"].sum() == 18 and 2 in board["alike"].tolist()
    assert (board["sharpe_low"] < board["sharpe_high"]).all() and board["dsr"].between(0, 1).all()
    assert (board["psr"] >= board["dsr"] - 1e-12).all()  # deflation never flatters


def test_on_a_market_without_an_edge_nothing_survives(folder: Path) -> None:
    found = judge(folder / "null")
    assert found.assessment is not None
    assert "survives" not in {found.assessment.verdict.code, *found.board["verdict"]}


def test_returns_of_a_trial_are_those_of_its_metrics(folder: Path) -> None:
    with Ledger.open(folder / "edge" / LEDGER, readonly=True) as ledger:
        ids, matrix = series.read(ledger, folder / "edge")
        total = ledger.frame().set_index("config_id")["total_return"]
    days, folds, benchmarks = series.read_days(folder / "edge")
    assert (
        matrix.shape == (18, len(days)) and set(folds) == {0, 1, 2, 3} and set(benchmarks) == {"flat", "buy and hold", "yesterday's risers"}
    )
    for key, row in zip(ids, matrix, strict=True):
        np.testing.assert_allclose(np.prod(1.0 + row.astype(float)) - 1.0, total[key.hex()], rtol=1e-4, atol=1e-5)


def test_every_look_at_the_same_data_counts_whatever_became_of_it(folder: Path, tmp_path: Path) -> None:
    run(study(), tmp_path, here=HERE)
    run(study(name="more", space={"min_edge": [0.002, 0.003], "intensity": [1.0]}), tmp_path, here=HERE)
    run(study(name="more", space={"min_edge": [0.002, 0.004], "intensity": [1.0]}), tmp_path, here=HERE, fresh=True)
    run(study(name="other", data=study().data | {"seed": 8}), tmp_path, here=HERE)
    with Ledger.open(tmp_path / "edge" / LEDGER, readonly=True) as ledger:
        fingerprint = str(ledger.header.context["data_fingerprint"])
    looks = count_looks(tmp_path, fingerprint)
    assert (looks.trials, looks.studies, looks.openings) == (18 + 2 + 2, 3, 0)
    alone, crowded = judge(folder / "edge").assessment, judge(tmp_path / "edge").assessment
    assert alone is not None and crowded is not None and alone.deflation is not None and crowded.deflation is not None
    assert crowded.deflation.independent > alone.deflation.independent


def test_the_holdout_opens_once_on_the_record_and_later_openings_count_against_it(folder: Path, tmp_path: Path) -> None:
    run(study(), tmp_path, here=HERE)
    home = tmp_path / "edge"
    first = promote(home)
    assert first.opening == 1 and first.search["bars"] > first.holdout["bars"] > 0
    assert first.window[0] > str(series.read_days(home)[0][-1])
    with pytest.raises(StudyError, match=r"has been opened \(1×, last for trial \d+ by .*--again"):
        promote(home, 3)
    second = promote(home, 3, again=True)
    assert second.trial == 3 and second.opening == 2
    assert second.assessment is not None and second.assessment.evidence.openings == 2
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        events = ledger.events("holdout_opened")
    assert [e["trial"] for e in events] == [first.trial, 3] and all(e["detail"]["by"] for e in events)
    judged = judge(home)
    assert judged.looks.openings == 2
    # The same holdout belongs to every study of the same data.
    run(study(name="sister", space={"min_edge": [0.002]}), tmp_path, here=HERE)
    with pytest.raises(StudyError, match="has been opened"):
        promote(tmp_path / "sister")


def test_legacy_results_cannot_be_promoted_and_no_holdout_is_a_message(tmp_path: Path) -> None:
    run(study(name="legacy", settings=study().settings | {"profile": "legacy"}, space={"min_edge": [0.0]}), tmp_path, here=HERE)
    with pytest.raises(StudyError, match="LEGACY PROFILE"):
        promote(tmp_path / "legacy")
    run(study(name="open", protocol={"holdout": "0%"}, space={"min_edge": [0.0]}), tmp_path, here=HERE)
    with pytest.raises(StudyError, match="open: no holdout: its protocol leaves none, so there is nothing to open"):
        promote(tmp_path / "open")
    assert judge(tmp_path / "open").no_holdout == "its protocol leaves none" and not judge(tmp_path / "legacy").no_holdout
    with pytest.raises(LedgerError):
        judge(tmp_path / "nothing")


def test_of_a_large_study_the_best_are_kept_beside_the_subset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "KEPT", 40)
    space = {"min_edge": {"uniform": [0.0, 0.004], "points": 40}, "intensity": [0.8, 1.0, 1.2]}
    result = run(study(space=space), tmp_path, here=HERE)
    with Ledger.open(tmp_path / "edge" / LEDGER, readonly=True) as ledger:
        ids, matrix = series.read(ledger, tmp_path / "edge")
        best = ledger.top("sortino", n=50)["config_id"]
    assert result.tally.done == 120 and 50 <= len(ids) < 120
    assert {bytes.fromhex(key) for key in best} <= set(ids) and np.isfinite(matrix).all()
    assert result.verify().ok

"""The ablation command: on studies that ran, and on what a study of policies leaves behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results import Header, Ledger, Metric, ResultRow, config_ids
from search_spaces import Space
from sweeps import Study, run
from sweeps.runner import LEDGER
from trainables.policy.options import PARAMETERS

Command = Callable[..., Any]
METRICS = (Metric("sortino", "max", "ratio"), Metric("trades", None, "count"))
POLICY_DEFAULTS = {p.name: p.default for p in PARAMETERS}


def leave(
    home: Path,
    study: Study,
    score: Callable[[Mapping[str, Any]], float],
    configs: Iterable[Mapping[str, Any]] | None = None,
    stopped: int = 0,
) -> None:
    """Writes what a run of a study would leave behind, with scores of a function of the configuration."""
    context = {"trainable": study.trainable, "version": "1", "data_fingerprint": "f", "protocol": {"defaults": POLICY_DEFAULTS}, "seed": 1}
    space = Space.parse(study.space)
    points = [{**study.fixed, **point} for point in (space.points() if configs is None else configs)]
    with Ledger.create(home / study.name / LEDGER, Header(study.name, study.model_dump(), context, METRICS, "sortino")) as ledger:
        ledger.begin_session({})
        sampler = {"sampler": study.search.sampler, "trials": study.search.trials, "seed": study.seed, "fixed": study.fixed}
        plan = ledger.add_plan(space.to_dict(), sampler, len(points))
        ids = config_ids(ledger.header.context_id, points, POLICY_DEFAULTS)
        rows = [ResultRow(i, ids[i], point, "completed", [score(point), float(i)]) for i, point in enumerate(points)]
        rows[len(rows) - stopped :] = [row._replace(status="stopped") for row in rows[len(rows) - stopped :]]
        ledger.accept(ledger.open_attempt(plan.plan_id, len(rows)), rows)
        ledger.end_session("finished")


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study policy_features, where leaving out the trend block costs 4 and nothing else matters."""
    folder, rng = tmp_path_factory.mktemp("policies"), np.random.default_rng(1)
    leave(folder, Study.load("policy_features"), lambda c: 25.0 - 4.0 * (c.get("without") == "trend") + 0.1 * rng.normal())
    return folder


def rows_of(text: str) -> dict[str, list[str]]:
    """Returns the cells of a table by the value of its first column."""
    cells = [re.split(r" {2,}", line.strip()) for line in text.splitlines() if line.startswith(" ")]
    return {row[0]: row[1:] for row in cells}


def test_a_block_left_out_costs_what_was_planted_with_an_interval_over_replicates(command: Command, policies: Path) -> None:
    done = command("ablation", "policy_features", "without", "--dir", policies)
    assert (done.code, done.err) == (0, "")
    rows = rows_of(done.out)
    assert rows["value"] == ["pairs", "replicates", "difference", "95 % interval", "wins", "verdict"]
    assert set(rows) >= {"volume", "calendar", "trend", "volatility"} and "nothing" not in rows
    pairs, replicates, difference, interval, wins, verdict = rows["trend"]
    assert "without against nothing, difference in sortino" in done.out
    assert (pairs, replicates, wins, verdict) == ("3", "3", "0%", "worse")
    low, high = map(float, interval.split(" to "))
    assert -4.5 < low < float(difference) < high < -3.5
    assert rows["volume"][-1] == "not shown"
    assert "Student's t over replicates (repeat)" in done.out
    assert "5 % for 4 comparisons of this call together (Holm)" in done.out
    assert max(map(len, done.out.split("  pairs ")[0].splitlines())) <= 80


def test_several_parameters_are_corrected_together_and_conditional_ones_have_their_defaults(command: Command, policies: Path) -> None:
    done = command("ablation", "policy_features", "without", "horizons", "--dir", policies)
    assert "5 % for 7 comparisons of this call together (Holm)" in done.out
    assert "where it does not exist, without was nothing, its default" in done.out
    rows = rows_of(done.out)
    assert rows["none"][:2] == ["3", "3"] and rows["1,4,12,24"][-1] == "not shown"


def test_another_reference_and_another_metric_can_be_asked_for(command: Command, policies: Path) -> None:
    done = command("ablation", "policy_features", "without", "--against", "trend", "--metric", "trades", "--dir", policies)
    assert "policy_features: without against trend, difference in trades" in done.out
    assert rows_of(done.out)["nothing"][4] == "n/a"


def test_files_hold_every_comparison_with_all_digits(command: Command, policies: Path, tmp_path: Path) -> None:
    csv, file = tmp_path / "a.csv", tmp_path / "a.json"
    done = command("ablation", "policy_features", "without", "--csv", csv, "--json", file, "--dir", policies)
    assert done.out.count("4 comparisons written to ") == 2
    records, frame = json.loads(file.read_text()), pd.read_csv(csv)
    assert [r["value"] for r in records] == frame["value"].tolist() == ["volume", "calendar", "trend", "volatility"]
    assert frame["difference"].tolist() == [r["difference"] for r in records]
    assert {r["unit"] for r in records} == {"repeat"} and records[2]["verdict"] == "worse" and records[2]["p_holm"] > records[2]["p"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.json"]


def test_trials_that_were_stopped_early_are_left_out_and_counted(command: Command, tmp_path: Path) -> None:
    leave(tmp_path, Study.load("policy_features"), lambda c: float(c["repeat"]), stopped=2)
    done = command("ablation", "policy_features", "horizons", "--dir", tmp_path)
    assert "2 stopped early" in done.out
    assert rows_of(done.out)["1,4,12,24"][:2] == ["1", "1"] and rows_of(done.out)["1,4,12,24"][3] == "n/a"


def test_sampled_points_that_never_pair_are_an_error_that_says_what_to_do(command: Command, tmp_path: Path) -> None:
    space = {"dropout": {"uniform": [0.0, 0.5]}, "weight_decay": {"uniform": [0.0, 1.0]}}
    study = Study.parse({"name": "drawn", "trainable": "policy", "space": space, "search": {"sampler": "random", "trials": 9}})
    draws = np.random.default_rng(2).random((9, 2)).tolist()
    leave(tmp_path, study, sum_of, [{"dropout": a / 2, "weight_decay": b} for a, b in draws])
    done = command("ablation", "drawn", "dropout", "--dir", tmp_path)
    assert done.code == 2 and done.out == ""
    assert "dropout: no trial with another value agrees with one at " in done.err
    assert "The sampler random draws every parameter anew" in done.err and "search.sampler: grid" in done.err


def sum_of(config: Mapping[str, Any]) -> float:
    return float(sum(config.values()))


def test_a_parameter_derived_from_the_swept_one_moves_with_it(command: Command, tmp_path: Path) -> None:
    space = {"temperature_end": [0.0001, 0.0002], "temperature_start": {"derived": "10 * temperature_end"}, "dim": [8, 16, 32]}
    study = Study.parse({"name": "derived", "trainable": "policy", "space": space})
    leave(tmp_path, study, lambda c: 1e4 * c["temperature_end"] + 0.01 * c["dim"] * c["temperature_end"] / 0.0001)
    done = command("ablation", "derived", "temperature_end", "--dir", tmp_path)
    assert done.code == 0, done.err
    assert "what is derived from it follows: temperature_start" in done.out
    assert rows_of(done.out)["0.0001"][0] == "3" and rows_of(done.out)["0.0001"][-1] == "worse"
    assert "over pairs; they share one market" in done.out


def test_what_cannot_be_compared_is_a_user_error_even_beside_what_can(command: Command, policies: Path) -> None:
    for words, told in (
        (["horizon"], "policy_features has no such parameter; varied are horizons, repeat, without. Did you mean 'horizons'?"),
        (["without", "arch"], 'arch: every completed trial of policy_features has the value "gru"'),
        (["without", "--against", "price"], "--against price: without has no such value"),
        (["without", "--metric", "sharp"], "has no metric 'sharp'; it has sortino, trades"),
    ):
        done = command("ablation", "policy_features", *words, "--dir", policies)
        assert done.code == 2 and told in done.err, done.err


@pytest.mark.ray
def test_a_study_that_ran_leaves_out_what_failed_and_calls_copies_no_evidence(command: Command, runs: Path) -> None:
    done = command("ablation", "toy", "x", "shape", "--dir", runs)
    assert done.code == 0, done.err
    rows = rows_of(done.out)
    assert "3" not in rows, "all of its trials failed"
    assert rows["1"][:3] == ["2", "+1", "n/a"]  # round and flat score alike, so two pairs are one
    assert rows["flat"] == ["5", "0", "0 to 0", "0%", "not shown"]
    assert "  left out     2 failed" in done.out
    assert "n/a          all replicates, or all pairs, of a value differ by exactly the same" in done.out


@pytest.mark.ray
def test_a_leaderboard_over_a_parameter_shows_the_mean_of_each_configuration(command: Command, runs: Path) -> None:
    done = command("leaderboard", "toy", "--over", "shape", "--dir", runs)
    assert done.code == 0, done.err
    assert "by the mean of score over shape" in done.out and "left out: 2 failed" in done.out
    assert [line.split()[:4] for line in done.out.splitlines() if re.match(r" +1 ", line)] == [
        ["1", "1", "2", "0"]
    ]  # x = 1, twice, exactly 0
    refused = command("leaderboard", "toy", "--over", "shape", "--pareto", "score,cost", "--dir", runs)
    assert refused.code == 2 and "--over shows means" in refused.err


def test_a_study_of_the_selector_has_the_differences_its_trials_have(command: Command, tmp_path: Path) -> None:
    study = Study.load("selector_grid", ["data.bars=700", "space.dip_threshold=[0.0, 0.01]", "space.intensity=[1.0]"])
    run(study, tmp_path, here=60.0)
    done = command("ablation", "selector_grid", "risk_weight", "min_edge", "--dir", tmp_path, "--json", tmp_path / "a.json")
    assert done.code == 0, done.err
    with Ledger.open(tmp_path / "selector_grid" / LEDGER, readonly=True) as ledger:
        wide = ledger.frame().pivot(index=["min_edge", "dip_threshold"], columns="risk_weight", values="sortino")
    found = {(r["parameter"], r["value"]): r for r in json.loads((tmp_path / "a.json").read_text())}
    assert len(found) == 4
    reference = found["risk_weight", 0.25]["reference"]
    expected = (wide[0.25] - wide[reference]).dropna()
    assert found["risk_weight", 0.25]["pairs"] == len(expected) > 1
    assert found["risk_weight", 0.25]["difference"] == pytest.approx(expected.mean())

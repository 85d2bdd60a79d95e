"""Daily returns of trials that report: kept with the result, and what a leaderboard judges by."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.session import ray_session
from results import Ledger, series
from sweeps import Study, open_study, run
from sweeps.promote import promote
from sweeps.runner import LEDGER
from sweeps.steps import StepFeed


def study(**changes):
    base = {
        "name": "daily",
        "trainable": "tests.sweeps.toy_daily:Daily",
        "space": {"skill": [0.0, 0.5, 1.0, -1.0]},
        "scheduler": {"kind": "none"},
        "protocol": {"folds": 2},
        "seed": 3,
    }
    return Study.parse({**base, **changes})


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with ray_session(None, 2):
        yield run(study(), folder, slots=2), folder


def test_the_last_reports_returns_are_kept(ran):
    result, folder = ran
    with Ledger.open(folder / "daily" / LEDGER, readonly=True) as ledger:
        ids, returns = series.read(ledger, folder / "daily")
        board = ledger.top("earned", n=10)
    assert len(ids) == 4 and returns.shape[1] == len(result.prepared.days)
    earned = dict(zip(ids, returns.sum(axis=1), strict=True))
    for key, value in zip(board["config_id"], board["earned"], strict=True):
        assert earned[bytes.fromhex(key)] == pytest.approx(value, rel=1e-4)


def test_a_leaderboard_judges_by_them(ran):
    opened = open_study("daily", ran[1])
    board = opened.leaderboard()
    assert {"dsr", "verdict"} <= set(board.columns) and board["dsr"].notna().any()


def test_a_report_without_the_days_fails_its_trial_alone(ran):
    _, folder = ran
    with ray_session(None, 2):
        result = run(study(name="short", space={"short": [0, 5]}), folder, slots=2)
    with Ledger.open(folder / "short" / LEDGER, readonly=True) as ledger:
        assert ledger.counts()["completed"] == 1 and ledger.counts()["failed"] == 1
        days = len(result.prepared.days)
        assert f"daily returns of {days - 5} days; the study has {days} days" in ledger.failures(1)[0]["error"]


def test_a_kill_between_the_last_report_and_the_result_loses_no_returns(tmp_path, monkeypatch):
    with monkeypatch.context() as dying, ray_session(None, 1):

        def killed(feed, attempt):
            raise KeyboardInterrupt("as if the driver were killed here")

        dying.setattr(StepFeed, "finished", killed)
        with pytest.raises(BaseException, match="as if the driver"):
            run(study(space={"skill": [1.0]}), tmp_path, slots=1)
    with Ledger.open(tmp_path / "daily" / LEDGER, readonly=True) as ledger:
        assert not ledger.counts()["completed"] and series.read(ledger, tmp_path / "daily")[0] == []
    with ray_session(None, 1):
        run(study(space={"skill": [1.0]}), tmp_path, slots=1)
        run(study(space={"skill": [1.0]}), tmp_path / "whole", slots=1)
    found = []
    for home in (tmp_path / "daily", tmp_path / "whole" / "daily"):
        with Ledger.open(home / LEDGER, readonly=True) as ledger:
            assert ledger.counts()["completed"] == 1
            found.append(series.read(ledger, home))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_the_holdout_is_judged_by_daily_returns_too(ran):
    made = promote(ran[1] / "daily")
    assert made.assessment is not None and np.isfinite(made.holdout["earned"])

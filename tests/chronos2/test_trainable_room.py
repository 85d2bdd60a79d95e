"""A history too short for what a study asks of it is said before anything is trained, for every value it lists."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import yaml

from sweeps import Study
from sweeps.cli import main
from sweeps.search import Search
from tests.chronos2.tiny import holey
from trainables.chronos2.room import bars_needed, check_room, longest_horizon
from trainables.chronos2.tasks import make_tasks, sample
from trainables.chronos2.trainable import ChronosLora
from trainables.contract import ChecksData, TrainableError
from trainables.timeline import Fold, Protocol, Window

STUDY = {
    "name": "own",
    "trainable": "chronos_lora",
    "data": {"source": "sample", "bars": 1000, "symbols": ["BTCUSD", "ETHUSD"]},
    "protocol": {"folds": 2, "train": "100h"},
    "space": {"rank": [4, 8]},
}


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def ask(**changes):
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(STUDY | changes))
        with pytest.raises(SystemExit) as ended:
            main(["run", "own.yaml", "--dir", str(tmp_path / "runs")])
        assert ended.value.code == 2 and not (tmp_path / "runs").exists(), "something was begun"
        return " ".join(capsys.readouterr().err.split())

    return ask


def test_one_horizon_of_a_list_that_is_too_far_for_the_data_is_refused_with_the_farthest_that_is_not(refused):
    said = refused(space={"horizon": [24, 40, 60]})
    assert "own.yaml, line" in said and "space.horizon: a symbol needs 120 bars in the train window of fold 1 to be trained 60 bars" in said
    assert "the most there is 100. Give a horizon of at most 50, more data, or a longer protocol.train" in said
    assert "needs 102 bars" in refused(space={"horizon": {"int": [24, 51]}}, search={"sampler": "random", "trials": 300})
    Search(Study.parse(STUDY | {"space": {"horizon": [24, 40, 50]}})).prepare()


def test_a_default_that_does_not_fit_is_refused_like_a_value_that_was_given(refused, tmp_path):
    assert "space.horizon: 24 does not reach the 30 bars that are scored" in refused(settings={"score": [1, 30]})
    import json
    import shutil

    from trainables.chronos2.model import SMALL

    shutil.copytree(SMALL, tmp_path / "model")
    place = tmp_path / "model" / "config.json"
    config = json.loads(place.read_text())
    config["chronos_config"]["context_length"] = 256
    place.write_text(json.dumps(config))
    said = refused(settings={"model": str(tmp_path / "model")})
    assert "space.context: 512 is more than the 256 bars of the model" in said
    Search(Study.parse(STUDY | {"settings": {"model": str(tmp_path / "model")}, "fixed": {"context": 256}})).prepare()


def test_a_holdout_in_which_nothing_could_be_scored_is_warned_of():
    asked = STUDY | {"protocol": {"folds": 2, "holdout": "48h"}, "fixed": {"horizon": 60}}
    told = Search(Study.parse(asked | {"settings": {"score": [1, 60]}})).prepare().warnings
    assert any("the most bars a symbol has in the holdout are 48, and forecasts are scored 60 bars ahead: no trial can" in w for w in told)
    assert not Search(Study.parse(asked | {"settings": {"score": [1, 48]}})).prepare().warnings


def test_the_longest_horizon_is_the_last_that_the_bars_are_enough_for():
    for bars in range(300):
        most = longest_horizon(bars)
        assert (most == 0 or bars_needed(most) <= bars) and bars_needed(most + 1) > bars


def test_what_is_refused_is_what_a_trial_could_not_do():
    """Against what trials do: drawing a batch of every fold, and placing issue times."""
    pytest.importorskip("torch")
    from trainables.chronos2.forecast import spread_origins

    data = {"source": "sample", "bars": 1000, "signal": 0.25, "seed": 3, "symbols": ["BTCUSD", "ETHUSD", "SOLUSD", "LINKUSD"]}
    prepared = ChronosLora().prepare(data, {"score": [1, 4]}, Protocol(folds=2))
    assert isinstance(ChronosLora(), ChecksData)
    rng, found = np.random.default_rng(4), {True: 0, False: 0}
    for _ in range(150):
        start, cut = int(rng.integers(0, 300)), int(rng.integers(8, 400))
        folds = (Fold(Window(start, start + cut), Window(start + cut + 24, start + cut + 24 + int(rng.integers(2, 60)))),)
        panel = prepared.inputs.panel
        for symbol in panel.symbols:
            gone = rng.random(panel.n_bars) < rng.choice([0.0, 0.3, 0.9])
            panel = holey(panel, symbol, np.flatnonzero(gone))
        inputs = replace(prepared.inputs, panel=panel, folds=folds, score=(1, int(rng.integers(1, 30))))
        grouping, horizon = str(rng.choice(["none", "majors", "correlation"])), int(rng.integers(max(inputs.score), 150))
        config = {**prepared.defaults, "horizon": horizon, "grouping": grouping, "clusters": 2}
        possible = True
        for fold in folds:
            tasks = make_tasks(panel, Window(fold.train.start, fold.tune.stop), fold.train, "none", grouping, 2)
            try:
                sample(tasks, np.random.default_rng(0), 8, 64, horizon)
                spread_origins(tasks, fold.tune, max(inputs.score), 5)
            except TrainableError:
                possible = False
        found[possible] += 1
        if possible:
            check_room(config, inputs)
        else:
            with pytest.raises(TrainableError, match=r"space\.horizon|protocol\.tune"):
                check_room(config, inputs)
    assert min(found.values()) > 20

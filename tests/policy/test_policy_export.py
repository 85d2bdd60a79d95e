"""An exported policy decides as in its trial, and refuses what it was not made for."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from trainables.contract import TrainableError
from trainables.exported import ExportError
from trainables.features import FeatureError
from trainables.market import load_market
from trainables.policy.export import ABOUT, WEIGHTS, load_policy
from trainables.policy.options import read
from trainables.policy.trainable import PolicyTrainable
from trainables.policy.trial import fold_folder, make_runs, orders_of
from trainables.stepping import StepContext
from trainables.timeline import Protocol

DATA = {"source": "sample", "bars": 1400, "signal": 0.25, "seed": 3, "symbols": ["BTCUSD", "ETHUSD"]}
SMALL = {"epochs": 2, "steps_per_epoch": 3, "batch": 4, "seq_len": 12, "dim": 8, "heads": 2, "layers": 1, "horizons": "1,4"}
SMALL |= {"ensemble": 2, "contexts": "8,12", "least_amount": 0.0}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    policy = PolicyTrainable()
    prepared = policy.prepare(DATA, {}, Protocol(folds=2))
    folder = tmp_path_factory.mktemp("trial")
    config = {**prepared.defaults, **SMALL}
    ctx = StepContext(prepared.inputs, folder, 0, 1)
    reports = list(policy.evaluate(config, ctx))
    curve = [{"step": r.step, **r.metrics} for r in reports]
    made = policy.export(config, replace(ctx, reached=2), folder / "out", name="study/3", curve=curve)
    return prepared, config, ctx, made


def test_there_is_a_folder_for_each_fold_with_weights_and_one_page_of_json(exported):
    prepared, _, _, made = exported
    assert [path.name for path in made] == ["fold-1", "fold-2"]
    for path, fold in zip(made, prepared.inputs.folds, strict=True):
        assert {file.name for file in path.iterdir()} == {WEIGHTS, ABOUT}
        about = json.loads((path / ABOUT).read_text())
        assert about["train_end"] == str(prepared.inputs.panel.times[fold.train.stop - 1].astype("datetime64[s]")) + "Z"
        assert about["networks"] == 2 and len(about["curve"]) == 2 and about["name"] == f"study/3/{path.name}"


def test_it_decides_bit_for_bit_as_in_its_trial(exported):
    prepared, config, ctx, made = exported
    inputs = prepared.inputs
    chosen = read(config)
    runs = make_runs(chosen, inputs, 1, "cpu")
    for k, run in enumerate(runs):
        run.load(fold_folder(ctx.folder, k))
    parts, _ = orders_of(runs, chosen, inputs)
    for k, path in enumerate(made):
        actions = load_policy(path).actions(inputs.panel, inputs.folds[k].tune)
        orders = np.stack([actions.buy_price, actions.sell_price, actions.buy_amount, actions.sell_amount])
        assert np.isfinite(orders).all() and np.array_equal(orders, parts[k].orders[:4])


def test_what_it_decides_does_not_depend_on_later_rows(exported):
    prepared, _, _, made = exported
    panel, window = prepared.inputs.panel, prepared.inputs.folds[0].tune
    policy = load_policy(made[0])
    whole = policy.actions(panel, window)
    early = policy.actions(panel.rows((0, window.start + 20)), (window.start, window.start + 20))
    assert np.array_equal(whole.buy_price[:20], early.buy_price)


def test_it_refuses_bars_it_was_trained_on(exported):
    prepared, _, _, made = exported
    policy, fold = load_policy(made[1]), prepared.inputs.folds[1]
    assert policy.actions(prepared.inputs.panel).times[0] == prepared.inputs.panel.times[fold.train.stop]
    with pytest.raises(ExportError, match="may decide only on later ones"):
        policy.actions(prepared.inputs.panel, (fold.train.stop - 1, fold.tune.stop))


def test_it_refuses_a_symbol_it_does_not_know(exported):
    *_, made = exported
    other, _ = load_market({**DATA, "symbols": ["BTCUSD", "SOLUSD"]})
    with pytest.raises(FeatureError, match="not fitted on SOLUSD"):
        load_policy(made[0]).actions(other)


def test_another_feature_spec_is_refused(exported, tmp_path):
    *_, made = exported
    about = json.loads((made[0] / ABOUT).read_text())
    about["config"]["volume"] = False
    (tmp_path / ABOUT).write_text(json.dumps(about))
    (tmp_path / WEIGHTS).write_bytes((made[0] / WEIGHTS).read_bytes())
    with pytest.raises(FeatureError, match="made with another spec"):
        load_policy(tmp_path)


def test_a_forecaster_of_other_rules_than_in_training_is_refused(exported, tmp_path):
    prepared, *_, made = exported
    about = json.loads((made[0] / ABOUT).read_text())
    assert about["forecaster"] == prepared.inputs.identity["empirical"]
    about["forecaster"] = {"version": -1}
    (tmp_path / ABOUT).write_text(json.dumps(about))
    (tmp_path / WEIGHTS).write_bytes((made[0] / WEIGHTS).read_bytes())
    with pytest.raises(TrainableError, match="are not those the"):
        load_policy(tmp_path).actions(prepared.inputs.panel)


def test_a_damaged_folder_is_named_and_a_foreign_one_is_never_replaced(exported, tmp_path):
    _, config, ctx, made = exported
    (tmp_path / ABOUT).write_bytes((made[0] / ABOUT).read_bytes()[:-40])
    with pytest.raises(ExportError, match="is no policy that can be read"):
        load_policy(tmp_path)
    foreign = tmp_path / "out" / "fold-2"
    foreign.mkdir(parents=True)
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"thesis\.txt"):
        PolicyTrainable().export(config, replace(ctx, reached=2), tmp_path / "out")
    assert not (tmp_path / "out" / "fold-1").exists() and (foreign / "thesis.txt").read_text() == "mine"

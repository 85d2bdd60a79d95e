"""The fine-tune as a trainable: keeps the contract, on folds, with real (small) weights."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from trainables import checkpoint
from trainables.chronos2.trainable import ChronosLora
from trainables.contract import TrainableError
from trainables.stepping import StepContext
from trainables.testing import check_stepping
from trainables.timeline import Protocol

DATA = {"source": "sample", "bars": 1000, "signal": 0.25, "seed": 3, "symbols": ["BTCUSD", "ETHUSD"]}
SETTINGS = {"eval_every": 2, "origins": 12, "score": [1, 4]}
SMALL = {"steps": 5, "context": 64, "horizon": 4, "batch_rows": 8, "rank": 4}


@pytest.mark.slow
def test_it_keeps_the_contract_of_stepping_trainables(tmp_path):
    configs = [SMALL | {"learning_rate": 1e-3, "preaug": "log_diff", "covariates": "returns", "grouping": "correlation"}]
    check_stepping(ChronosLora(), DATA, SETTINGS, configs, tmp_path, Protocol(folds=2))


@pytest.fixture(scope="module")
def prepared():
    return ChronosLora().prepare(DATA, SETTINGS, Protocol(folds=2))


def reports(prepared, folder, **changes):
    folder.mkdir(exist_ok=True)
    config = {**prepared.defaults, **SMALL, **changes}
    return list(ChronosLora().evaluate(config, StepContext(prepared.inputs, folder, seed=1)))


def test_reports_have_scores_of_raw_prices_against_forecasters_without_a_model(prepared, tmp_path):
    made = reports(prepared, tmp_path / "one")
    assert [r.step for r in made] == [2, 4, 5]
    last = made[-1].metrics
    assert set(last) == {m.name for m in ChronosLora.metrics}
    assert last["scored"] == 2 * 2 * 12 * 4 * 2  # folds, symbols, origins, prices, horizons 1 and 4
    assert last["skill"] < 0.5 and 0.0 <= last["coverage_80"] <= 1.0 and last["steps"] == 5
    assert all(math.isfinite(value) for value in last.values())


def test_nothing_learnt_is_nothing_gained(prepared, tmp_path):
    made = reports(prepared, tmp_path / "still", learning_rate=0.0)
    assert all(r.metrics["skill_gain"] == 0.0 for r in made)


def test_a_diverged_fine_tune_ends_and_says_so(prepared, tmp_path):
    made = reports(prepared, tmp_path / "wild", learning_rate=1.0, weight_decay=10.0, steps=80)
    assert made[-1].step < 80 and np.isnan(made[-1].metrics["skill"]) and "diverged at step" in made[-1].note
    config = {**prepared.defaults, **SMALL, "learning_rate": 1.0, "weight_decay": 10.0, "steps": 80}
    again = StepContext(prepared.inputs, tmp_path / "wild", made[-1].step, 1)
    assert not list(ChronosLora().evaluate(config, again))  # heard already
    unheard = StepContext(prepared.inputs, tmp_path / "wild", made[-2].step if len(made) > 1 else 0, 1)
    assert [r.step for r in ChronosLora().evaluate(config, unheard)] == [made[-1].step]


def test_the_future_of_the_tune_window_does_not_reach_what_is_learnt_or_the_holdout_what_is_scored(prepared, tmp_path):
    from trainables.chronos2.trial import make_runs

    def weights(inputs):
        config = {**prepared.defaults, **SMALL, "preaug": "diff_norm", "covariates": "all", "learning_rate": 1e-2}
        [run] = make_runs(config, inputs, 1, "cpu")[:1]
        run.advance(4)
        return {name: p.detach().numpy().copy() for name, p in run.model.named_parameters() if p.requires_grad}

    from dataclasses import replace

    fold = prepared.inputs.folds[0]
    panel = prepared.inputs.panel
    shifted = {name: getattr(panel, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for values in shifted.values():
        values[fold.train.stop :] *= 1.7
    other = replace(prepared.inputs, panel=replace(panel, **shifted))
    one, two = weights(prepared.inputs), weights(other)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert panel.n_bars == prepared.timeline.visible.stop  # the sealed rows are not even there


def test_the_holdout_is_scored_by_a_model_trained_like_the_last_fold_up_to_the_embargo():
    trainable, protocol = ChronosLora(), Protocol(folds=2)
    searched, opened = (trainable.prepare(DATA, SETTINGS, protocol, part) for part in ("search", "holdout"))
    assert searched.fingerprint == opened.fingerprint
    [fold] = opened.inputs.folds
    last = searched.inputs.folds[-1].train
    assert fold.tune == searched.timeline.holdout and fold.train.stop == searched.timeline.visible.stop
    assert fold.train.stop - fold.train.start == last.stop - last.start
    anchored = trainable.prepare(DATA, SETTINGS, Protocol(folds=2, kind="anchored"), "holdout")
    assert anchored.inputs.folds[0].train.start == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "smal"}, "model: 'smal' is neither small"),
        ({"model": "/nowhere/at/all"}, "there is no directory /nowhere/at/all"),
        ({"modle": "small"}, "settings.modle: .*did you mean 'model'"),
        ({"eval_every": 0}, "settings.eval_every: 0 is not allowed"),
    ],
)
def test_settings_that_cannot_work_are_said_before_data_are_read(settings, words):
    with pytest.raises(TrainableError, match=words):
        ChronosLora().prepare({"source": "/no/such/data"}, settings)


def test_what_the_model_cannot_take_is_said_before_any_work():
    with pytest.raises(TrainableError, match=r"space\.context: 8192 is more than the 512 bars of the model small"):
        ChronosLora().check({"context": 8192}, {})
    with pytest.raises(TrainableError, match=r"space\.horizon: 100 is more than the 64"):
        ChronosLora().check({"horizon": 100}, {})
    with pytest.raises(TrainableError, match=r"space\.horizon: 4 does not reach the 24 bars.*set settings.score, for example \[4\]"):
        ChronosLora().check({"horizon": 4}, {})


def test_what_is_compared_with_does_not_depend_on_what_is_swept(prepared):
    from trainables.chronos2.trial import Scorer, make_runs

    def naive(**changes):
        config = {**prepared.defaults, **SMALL, **changes}
        tasks = tuple(run.tasks for run in make_runs(config, prepared.inputs, 1, "cpu"))
        return Scorer(prepared.inputs, tasks, config)._naive["naive"]

    assert np.array_equal(naive(context=32), naive(context=128, horizon=24, preaug="log_diff"), equal_nan=True)


def test_one_fold_that_diverged_ends_the_trial_at_one_report_wherever_it_is_killed(prepared, tmp_path):
    config, place = {**prepared.defaults, **SMALL}, tmp_path / "half"
    place.mkdir()
    generator = ChronosLora().evaluate(config, StepContext(prepared.inputs, place, seed=1))
    assert next(generator).step == 2
    generator.close()
    # As if the first fold had met no number in its fourth step, and the kill had come before the second fold's checkpoint.
    manifest = place / "fold-1" / checkpoint.MANIFEST
    body = {key: value for key, value in json.loads(manifest.read_text()).items() if key != "digest"}
    body |= {"step": 3, "diverged": True, "notes": ["diverged at step 3"]}
    manifest.write_text(json.dumps({**body, "digest": checkpoint._digest(checkpoint._canonical(body))}))
    for reached, left in ((2, [4]), (2, [4]), (4, [])):  # killed; killed before its report was heard; heard
        found = list(ChronosLora().evaluate(config, StepContext(prepared.inputs, place, reached, 1)))
        assert [r.step for r in found] == left
        assert all(np.isnan(r.metrics["skill"]) and "diverged at step 3" in r.note for r in found)


def test_a_damaged_checkpoint_is_trained_again_to_the_same_reports(prepared, tmp_path):
    config = {**prepared.defaults, **SMALL}
    whole = reports(prepared, tmp_path / "whole")
    place = tmp_path / "torn"
    place.mkdir()
    generator = ChronosLora().evaluate(config, StepContext(prepared.inputs, place, seed=1))
    next(generator)
    generator.close()
    [weights] = (place / "fold-2").glob("weights-*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-7])
    rest = list(ChronosLora().evaluate(config, StepContext(prepared.inputs, place, whole[0].step, 1)))
    assert [r.metrics for r in rest] == [r.metrics for r in whole[1:]] and "trained again from the first step" in rest[0].note

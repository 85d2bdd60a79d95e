"""The policy as a trainable: keeps the contract, on folds, and knows nothing of the future."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from trainables.contract import Registry, TrainableError, check_config
from trainables.policy.trainable import PolicyTrainable
from trainables.stepping import StepContext
from trainables.testing import check_stepping
from trainables.timeline import Protocol

DATA = {"source": "sample", "bars": 1400, "signal": 0.25, "seed": 3, "symbols": ["BTCUSD", "ETHUSD"]}
SMALL = {"epochs": 3, "steps_per_epoch": 3, "batch": 4, "seq_len": 12, "dim": 8, "heads": 2, "layers": 1, "horizons": "1,4"}


def test_it_keeps_the_contract_of_stepping_trainables(tmp_path):
    configs = [
        SMALL,
        SMALL | {"arch": "gru", "ensemble": 2, "average": 0.9, "contexts": "8,12", "train_lags": "1,2", "loss_windows": "0.5,1"},
    ]
    check_stepping(PolicyTrainable(), DATA, {}, configs, tmp_path, Protocol(folds=2))


@pytest.fixture(scope="module")
def prepared():
    return PolicyTrainable().prepare(DATA, {}, Protocol(folds=2))


def reports(prepared, folder, reached=0, **changes):
    folder.mkdir(exist_ok=True)
    config = {**prepared.defaults, **SMALL, **changes}
    return list(PolicyTrainable().evaluate(config, StepContext(prepared.inputs, folder, reached, seed=1)))


def test_reports_have_the_selectors_metrics_and_a_return_for_every_day_of_the_tune_windows(prepared, tmp_path):
    made = reports(prepared, tmp_path / "one", least_amount=0.0)
    assert [r.step for r in made] == [1, 2, 3]
    last = made[-1].metrics
    assert set(last) == {m.name for m in PolicyTrainable.metrics}
    assert last["bars"] == sum(fold.tune.stop - fold.tune.start for fold in prepared.inputs.folds)
    assert last["orders"] > 0 and math.isfinite(last["val_return"]) and math.isfinite(last["train_loss"])
    assert made[-1].returns.shape == prepared.days.shape == prepared.day_folds.shape and made[-1].returns.dtype == np.float32
    growth = [np.prod(1.0 + made[-1].returns[prepared.day_folds == k].astype(float)) for k in range(2)]
    assert np.prod(growth) - 1.0 == pytest.approx(last["total_return"], abs=1e-5)


def test_a_policy_that_does_not_trade_has_an_objective_and_is_not_taken_for_one_that_diverged(prepared, tmp_path):
    made = reports(prepared, tmp_path, least_amount=1.0)
    assert len(made) == 3 and all(r.metrics["sortino"] == 0.0 and r.metrics["orders"] == 0.0 for r in made)
    assert not made[-1].returns.any()


def test_it_is_found_by_its_name():
    assert isinstance(Registry().load("policy"), PolicyTrainable)


def test_a_replicate_differs_by_its_seed_alone(prepared, tmp_path):
    config = {**prepared.defaults, **SMALL, "repeat": 1}
    other = list(PolicyTrainable().evaluate(config, StepContext(prepared.inputs, tmp_path, 0, seed=2)))
    same = reports(prepared, tmp_path / "same", repeat=1)
    assert same[-1].metrics["train_loss"] == reports(prepared, tmp_path / "zero")[-1].metrics["train_loss"]
    assert same[-1].metrics["train_loss"] != other[-1].metrics["train_loss"]


def test_a_diverged_policy_ends_and_says_so(prepared, tmp_path):
    made = reports(prepared, tmp_path, learning_rate=1.0, grad_clip=1e6, weight_decay=10.0, warmup=0, loss="sortino", softcap=0, epochs=30)
    if made[-1].step == 30:
        pytest.skip("this machine's rounding kept it finite")
    assert np.isnan(list(made[-1].metrics.values())).all() and "diverged at step" in made[-1].note


def altered(panel, start):
    """The panel with every bar from row `start` on changed."""
    rng = np.random.default_rng(5)
    shape = panel.close[start:].shape
    by = np.exp(np.cumsum(rng.normal(0.0, 0.02, shape), axis=0))
    bars = {name: getattr(panel, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for name in bars:
        bars[name][start:] *= by
    return replace(panel, **bars)


def orders(inputs, **changes):
    from trainables.policy.options import read
    from trainables.policy.trial import make_runs, orders_of

    chosen = read({**{p.name: p.default for p in PolicyTrainable.parameters}, **SMALL, "least_amount": 0.0, **changes})
    runs = make_runs(chosen, inputs, 1, "cpu")
    for run in runs:
        run.advance()
    parts, _ = orders_of(runs, chosen, inputs)
    return [part.orders for part in parts], [run.deciders()[0].state_dict() for run in runs]


@pytest.mark.parametrize("arch", ["nano", "classic", "gru", "mlp"])
def test_no_action_at_a_bar_changes_when_later_bars_do(prepared, arch):
    inputs = prepared.inputs
    tune = inputs.folds[1].tune
    cut = tune.start + 60  # the bar after row 59 of the tune window is the first that differs
    future = replace(inputs, panel=altered(inputs.panel, cut))
    changes = {"arch": arch, "interactions": True, "btc": True, "basket": True}
    (_, before), (_, after) = orders(inputs, **changes)[0], orders(future, **changes)[0]
    assert np.isfinite(before[:4, :60]).all()
    assert np.array_equal(before[:4, :60], after[:4, :60])
    assert not np.array_equal(before[:4, 60], after[:4, 60])


def test_nothing_is_learnt_from_bars_after_the_train_window(prepared):
    inputs = prepared.inputs
    future = replace(inputs, panel=altered(inputs.panel, inputs.folds[0].train.stop))
    _, (first, *_) = orders(inputs)
    _, (other, *_) = orders(future)
    assert all(bool((first[name] == other[name]).all()) for name in first)


def test_the_holdout_is_trained_for_anew_on_all_that_lies_before_it(tmp_path):
    held = PolicyTrainable().prepare(DATA, {}, Protocol(folds=2), "holdout")
    [fold] = held.inputs.folds
    assert fold.tune == held.timeline.holdout and fold.train.stop == held.timeline.visible.stop
    [*_, last] = reports(held, tmp_path / "held")
    assert last.metrics["bars"] == fold.tune.stop - fold.tune.start and len(last.returns) == len(held.days)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dim": 30, "heads": 4}, "space.dim: 30 is not a multiple of heads"),
        ({"horizons": "none", "interactions": True}, "space.interactions: true is not allowed with horizons none"),
        ({"decode_horizon": 3}, "space.decode_horizon: 3 is not allowed; give one of 1, 4, 12, 24"),
        ({"temperature_start": 1e-4}, "space.temperature_end: 0.0002 is above temperature_start"),
        ({"lag": 0}, "space.lag: 0 is not allowed"),
        ({"contexts": "8,512"}, "contexts: 512 is not allowed; give a whole number from 1 to 48"),
        ({"loss_windows": "0.5,two"}, "loss_windows: '0.5,two' is not allowed"),
        ({"arch": "gru", "attention_window": 5}, "space.attention_window: 5 is not allowed for gru"),
        ({"arch": "gru", "memory": 5}, "space.memory: 5 is not allowed for gru"),
    ],
)
def test_what_cannot_be_is_refused_with_the_key_and_what_is_allowed(changes, words):
    with pytest.raises(TrainableError) as caught:
        PolicyTrainable().check(changes, {})
    assert words in str(caught.value)


def test_a_learning_rate_of_zero_learns_nothing_and_is_refused():
    with pytest.raises(TrainableError, match="learning_rate: 0 is not allowed"):
        check_config(PolicyTrainable(), {"learning_rate": 0})


def test_a_window_that_does_not_fit_the_folds_is_refused_before_any_work(prepared):
    config = {**prepared.defaults, **SMALL, "seq_len": 400}
    with pytest.raises(TrainableError, match=r"seq_len: fold 1 has no room for a window of 400 bars"):
        PolicyTrainable().check_data(config, prepared.inputs)
    PolicyTrainable().check_data({**prepared.defaults, **SMALL}, prepared.inputs)


def test_features_the_symbols_cannot_have_are_refused_before_any_work():
    held = PolicyTrainable().prepare({**DATA, "symbols": ["ETHUSD", "SOLUSD"]}, {}, Protocol(folds=2))
    with pytest.raises(TrainableError, match="BTC"):
        PolicyTrainable().check_data({**held.defaults, **SMALL, "btc": True}, held.inputs)


def test_a_study_without_train_windows_is_refused():
    with pytest.raises(TrainableError, match="every fold needs a train window"):
        PolicyTrainable().prepare(DATA, {}, None)


def test_a_misspelt_setting_is_refused_with_the_right_spelling():
    with pytest.raises(TrainableError, match="did you mean 'initial_cash'"):
        PolicyTrainable().prepare(DATA, {"initial_cahs": 5}, Protocol(folds=2))

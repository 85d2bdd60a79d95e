"""A training can be killed anywhere, sees no later bar, and cools as it goes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from trainables.checkpoint import CheckpointError, drop_moments
from trainables.policy.causality import future_leak, woken
from trainables.policy.decide import decide, logits_at, selector_orders, validate
from trainables.policy.options import read, selector_config
from trainables.policy.train import TrainRun
from trainables.policy.trainable import PolicyTrainable
from trainables.selector.inputs import SelectorInputs
from trainables.selector.options import encode
from trainables.selector.simulate import simulate_sums
from trainables.timeline import Protocol

DATA = {"source": "sample", "bars": 1400, "signal": 0.25, "seed": 3, "symbols": ["BTCUSD", "ETHUSD"]}
DEFAULTS = {p.name: p.default for p in PolicyTrainable.parameters}
SMALL = {**DEFAULTS, "epochs": 4, "steps_per_epoch": 4, "batch": 4, "seq_len": 12, "dim": 8, "heads": 2, "layers": 1, "horizons": "1,4"}


@pytest.fixture(scope="module")
def inputs():
    return PolicyTrainable().prepare(DATA, {}, Protocol(folds=2)).inputs


def made(inputs, seed=1, fold=0, **changes) -> TrainRun:
    chosen = read({**SMALL, **changes})
    return TrainRun(inputs.series(chosen, fold), chosen, seed, fold)


def weights(run):
    return {name: p.detach().clone() for name, p in run.net.named_parameters()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("changes", [{}, {"arch": "gru", "average": 0.9, "ensemble": 3, "schedule": "linear"}])
def test_a_training_goes_on_from_a_checkpoint_bit_for_bit(inputs, tmp_path, changes):
    whole, first = made(inputs, **changes), made(inputs, **changes)
    for _ in range(4):
        whole.advance()
    for _ in range(2):
        first.advance()
    first.save(tmp_path)
    torch.manual_seed(99)  # nothing may hang on the global generator
    second = made(inputs, **changes)
    second.load(tmp_path)
    assert second.loss == first.loss and second.step == 8
    for _ in range(2):
        second.advance()
    assert equal(weights(whole), weights(second)) and whole.loss == second.loss
    pairs = zip(whole.deciders(), second.deciders(), strict=True)
    assert all(equal(dict(a.named_parameters()), dict(b.named_parameters())) for a, b in pairs)


def test_a_checkpoint_of_another_training_is_refused_with_what_differs(inputs, tmp_path):
    run = made(inputs)
    run.advance()
    run.save(tmp_path)
    for changes, word in (({"learning_rate": 5e-4}, "training is"), ({"dim": 16}, "network is"), ({"volume": False}, "data is")):
        with pytest.raises(CheckpointError, match=word):
            made(inputs, **changes).load(tmp_path)
    with pytest.raises(CheckpointError, match="seed is"):
        made(inputs, seed=2).load(tmp_path)
    made(inputs, max_positions=3, repeat=5).load(tmp_path)  # of scoring, or of the seed already


def test_a_checkpoint_without_moments_decides_as_before_and_cannot_be_gone_on_from(inputs, tmp_path):
    run = made(inputs)
    run.advance()
    run.save(tmp_path)
    drop_moments(tmp_path)
    with pytest.raises(CheckpointError, match="moments were dropped"):
        made(inputs).load(tmp_path)
    kept = made(inputs)
    kept.load(tmp_path, weights_only=True)
    assert equal(weights(run), weights(kept))
    with pytest.raises(CheckpointError, match="without the optimiser's moments"):
        kept.advance()


def test_checkpoints_have_no_pickle(inputs, tmp_path):
    run = made(inputs)
    run.advance()
    run.save(tmp_path)
    for path in tmp_path.iterdir():
        assert path.suffix in (".json", ".safetensors") and b"\x80\x04" not in path.read_bytes()[:2]


def test_the_temperature_cools_to_its_end_in_the_last_epoch_and_the_learning_rate_warms_and_falls(inputs):
    run = made(inputs, warmup=4, learning_rate=1e-2)
    temperatures = [run.temperature_at(step) for step in range(16)]
    assert temperatures[0] == 0.002 and temperatures == sorted(temperatures, reverse=True)
    assert temperatures[12:] == [0.0002] * 4
    rates = [run.learning_rate_at(step) for step in range(16)]
    assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01]) and rates[-1] < rates[8] < rates[4]
    assert made(inputs, schedule="constant", warmup=0).learning_rate_at(15) == 1e-3


def test_training_lowers_the_loss_of_what_it_is_trained_on(inputs):
    run = made(inputs, steps_per_epoch=60, epochs=3, batch=16, learning_rate=3e-3, temperature_start=0.002, dropout=0.0)
    losses = []
    for _ in range(3):
        run.advance()
        losses.append(run.loss)
    assert losses[-1] < losses[0] - 0.5


def test_numbers_that_are_not_finite_end_it_with_where_and_why(inputs):
    run = made(inputs)
    with torch.no_grad():
        next(iter(run.net.parameters())).fill_(torch.inf)
    run.advance()
    assert run.diverged and math.isnan(run.loss) and run.notes[0].startswith("diverged at step 0: a logit is not finite")


@pytest.mark.parametrize("arch", ["nano", "classic", "gru", "mlp"])
def test_no_network_of_a_training_sees_a_later_bar(inputs, arch):
    run = made(inputs, arch=arch, memory=2 if arch in ("nano", "classic") else 0)
    run.advance()
    assert future_leak(run.net, run.net.spec.n_features, length=10) is None


@pytest.mark.parametrize("arch", ["nano", "mlp"])
def test_a_decision_is_the_last_step_of_the_window_that_ends_there(inputs, arch):
    run = made(inputs, arch=arch)
    run.advance()
    places = run.series.tune_places()
    found = logits_at(run.deciders(), run.series.features, run.series.depth, places, (12,))
    with torch.inference_mode():
        for i in (0, 7, len(places) - 1):
            window = torch.from_numpy(run.series.features[places[i] - 11 : places[i] + 1])[None]
            assert np.allclose(found[i], run.net(window)[0, -1, :4].numpy(), atol=1e-6)
    assert np.isfinite(found).all()
    depth = run.series.depth.copy()
    depth[places[3]] = 5
    assert np.isnan(logits_at(run.deciders(), run.series.features, depth, places[:5], (12,))[3]).all()


@pytest.mark.parametrize("arch", ["nano", "classic", "gru", "mlp"])
def test_an_answer_has_the_same_bits_however_many_bars_are_asked_about(inputs, arch):
    run = made(inputs, arch=arch)
    nets, places = [woken(run.net)], run.series.tune_places()[:300]
    whole = logits_at(nets, run.series.features, run.series.depth, places, (12,))
    for some in (places[:1], places[128:130], places[7:10], places[:131]):
        found = logits_at(nets, run.series.features, run.series.depth, some, (12,))
        assert np.array_equal(found, whole[np.searchsorted(places, some)])


def test_several_networks_and_window_lengths_decide_by_their_trimmed_mean(inputs):
    run = made(inputs, ensemble=3, contexts="6,12")
    for _ in range(3):
        run.advance()
    nets, places = run.deciders(), run.series.tune_places()[:9]
    assert len(nets) == 3
    each = [logits_at([net], run.series.features, run.series.depth, places, (length,)) for net in nets for length in (6, 12)]
    expected = np.sort(np.stack(each), axis=0)[1:-1].mean(axis=0)
    assert np.allclose(logits_at(nets, run.series.features, run.series.depth, places, (6, 12)), expected, atol=1e-6)


def test_the_selector_ranks_by_the_amount_the_policy_would_buy(inputs):
    run = made(inputs, least_amount=0.0, cost_multiplier=2.0, offset=0.001)
    run.advance()
    decisions = decide(run.deciders(), run.series, run.chosen, run.series.tune_places())
    shape, window = inputs.panel.close.shape, run.series.fold.tune
    orders = selector_orders(decisions, run.series, shape, run.chosen.config, np.empty((3, *shape)))
    part = SelectorInputs(inputs.panel.rows(window), np.ascontiguousarray(orders[:, window.start : window.stop]))
    b, fee = part.orders[0] * 0.999, 2.0 * 0.0015
    score = ((part.orders[4] - b) / b - 2.0 * fee) * part.orders[2]
    assert np.allclose(score, part.orders[2], rtol=1e-9)
    config = selector_config(run.chosen.config)
    assert config["edge_mode"] == "high" and config["cost_multiplier"] == 2.0
    median = float(np.nanmedian(part.orders[2]))
    all_orders, half = (simulate_sums(part, encode([config | {"min_edge": x}], "realistic"), "realistic", 1e4)[0] for x in (0.0, median))
    from trainables.selector import tally

    assert half[0, tally.ORDERS] < all_orders[0, tally.ORDERS]


def test_small_amounts_are_no_orders_in_validation_and_selector(inputs):
    run = made(inputs, least_amount=1.0)
    run.advance()
    decisions = decide(run.deciders(), run.series, run.chosen, run.series.tune_places())
    assert (decisions.orders[2:] == 0.0).all()
    assert validate(decisions, run.series, run.chosen) == [(0.0, 0.0)] * 2


def test_validation_trades_each_symbol_alone_with_whole_fills(inputs):
    run = made(inputs, least_amount=0.0)
    run.advance()
    decisions = decide(run.deciders(), run.series, run.chosen, run.series.tune_places())
    forced = decisions.orders.copy()
    forced[0], forced[1] = 1e9, 1e10  # bought at once, never sold
    forced[2:] = 1.0
    bought = replace(decisions, orders=forced)
    close = run.series.market[0]
    found = validate(bought, run.series, run.chosen)
    for a, (_, total) in enumerate(found):
        mine = decisions.places[run.series.symbol[decisions.places] == a]
        # A limit fills at its price: this buys at 1e9 what is worth the close.
        assert total == pytest.approx(close[mine[-1]] / 1e9 / (1.0 + 0.0015) - 1.0, rel=1e-3)

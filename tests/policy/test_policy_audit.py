"""A policy is trained again on a market with another future and decides as before; one that knows the future does not."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch

from results.metrics import Metric
from trainables.audit import AuditError, audit_steps
from trainables.contract import Parameter, Prepared
from trainables.features import Normaliser
from trainables.market import load_market
from trainables.policy import decide
from trainables.policy.trainable import PolicyTrainable
from trainables.stepping import Report
from trainables.timeline import Protocol, cut

DATA = {"source": "sample", "bars": 1200, "signal": 0.25, "seed": 3, "symbols": ["BTCUSD", "ETHUSD"]}
SMALL = {"epochs": 2, "steps_per_epoch": 6, "batch": 4, "seq_len": 12, "dim": 8, "heads": 2, "layers": 1, "horizons": "1,4"}
SMALL |= {"least_amount": 0.0, "learning_rate": 0.01, "warmup": 0}
FOLDS = Protocol(folds=2)
ALL = ("determinism", "future", "next bar", "other symbol")


def test_no_decision_of_a_policy_moves_when_the_future_does():
    configs = [SMALL, SMALL | {"arch": "gru", "rank": "forecast", "btc": True, "basket": True, "ensemble": 2}]
    report = audit_steps(PolicyTrainable(), DATA, {}, configs, FOLDS, cuts=1, checks=ALL)
    assert report.ok and [finding.passed for finding in report.findings] == [True] * 4, str(report)


def every_step(nets, features, depth, places, contexts):
    """Lets a window's steps decide that have seen the bars after them, as a network that is not causal would (J4)."""
    out, length = np.full((len(places), 4), np.nan, np.float32), max(contexts)
    with torch.inference_mode():
        for start in range(0, len(places) - length + 1, length):
            rows = slice(start, start + length)
            if depth[places[start]] and depth[places[rows][-1]] >= length:
                window = torch.from_numpy(features[places[rows]])[None]
                out[rows] = (nets[0](window) + nets[0](window.flip(1)).flip(1))[0].numpy()
    return out


FIT = Normaliser.fit
LEAKS = {
    "bidirectional": (decide, "logits_at", every_step),
    "normaliser of all rows": (Normaliser, "fit", lambda frame, window: FIT(frame, (0, len(frame.times)))),
}


class Leaking(PolicyTrainable):
    name = "leaking"

    def __init__(self, leak, traced=True):
        super().__init__()
        self.leak, self.traced = leak, traced

    def evaluate(self, config, ctx):
        with patch.object(*self.leak):
            yield from super().evaluate(config, ctx)

    def trace(self, config, ctx):
        if not self.traced:
            raise KeyError("net.other.weight")
        with patch.object(*self.leak):
            return super().trace(config, ctx)


@pytest.mark.parametrize("leak", LEAKS)
def test_a_policy_that_knows_later_bars_is_caught_where_it_decides(leak):
    report = audit_steps(Leaking(LEAKS[leak]), DATA, {}, [SMALL], FOLDS, cuts=2)
    found = report.finding("future")
    assert not report.ok and found.passed is False and found.stage == "actions", str(report)


def test_a_trace_that_fails_leaves_the_daily_returns_to_look_at():
    report = audit_steps(Leaking(LEAKS["bidirectional"], traced=False), DATA, {}, [SMALL], FOLDS, cuts=3)
    assert report.finding("future").passed is False and report.finding("future").stage == "daily returns", str(report)
    assert any("its `trace` failed" in note and "net.other.weight" in note for note in report.notes)


class Walker:
    """A third party's: knows `prepare` alone, holds the first symbol on days whose return so far, or to come, is positive."""

    name, version, fidelity, objective = "walker", "1", "days", "score"
    parameters = (Parameter("peek", False, "bool"), Parameter("shown", True, "bool"))
    metrics = (Metric("score", "max", "fraction", ""),)

    def prepare(self, data, settings, protocol=None, part="search"):
        panel = load_market(data)[0]
        timeline = cut(protocol, panel.times, panel.bar_seconds / 3600)
        window = timeline.folds[0].tune
        days, first = np.unique(panel.times[window.start : window.stop].astype("datetime64[D]"), return_index=True)
        close = np.append(panel.close[window.start : window.stop, 0][first], panel.close[window.stop - 1, 0])
        defaults = {p.name: p.default for p in self.parameters}
        return Prepared(np.diff(np.log(close)), panel.fingerprint, {}, defaults, timeline=timeline, days=days)

    def last_step(self, config):
        return 2

    def evaluate(self, config, ctx):
        moves = ctx.inputs
        known = np.roll(moves, -1) if config["peek"] else np.concatenate([[0.0], moves[:-1]])
        returns = (moves * (known > 0)).astype(np.float32)
        for step in (1, 2):
            yield Report(step, {"score": float(returns.sum())}, returns=returns if config["shown"] else None)


def test_a_third_partys_trainable_is_audited_by_its_daily_returns_through_files():
    honest, peeking, blind = ([{}], [{"peek": True}], [{"shown": False}])
    report = audit_steps(Walker(), DATA, {}, honest, FOLDS, cuts=4)
    assert report.finding("future").passed is True and any("cannot see inside" in note for note in report.notes), str(report)
    report = audit_steps(Walker(), DATA, {}, peeking, FOLDS, cuts=4)
    assert report.finding("future").passed is False and report.finding("future").stage == "daily returns", str(report)
    report = audit_steps(Walker(), DATA, {}, blind, FOLDS)
    assert report.finding("future").passed is None and "no daily returns, and it has no `trace`" in report.finding("future").detail


def test_an_audit_of_nothing_is_refused():
    with pytest.raises(AuditError, match="needs a configuration"):
        audit_steps(PolicyTrainable(), DATA, {}, [], FOLDS)
    with pytest.raises(AuditError, match="'batch' is unknown"):
        audit_steps(PolicyTrainable(), DATA, {}, [SMALL], FOLDS, checks=("batch",))

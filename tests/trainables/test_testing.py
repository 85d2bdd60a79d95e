"""The conformance checks pass what keeps the contract and say what does not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sweeps.toy import Toy
from tests.sweeps.toy_steps import Thrifty, Walk
from trainables.contract import Context, Evaluation
from trainables.selector import SelectorTrainable
from trainables.stepping import Report, StepContext
from trainables.testing import check_packed, check_stepping

GOALS = [{"goal": 1.0}, {"goal": 2.0, "paces": 7}]


def test_ours_and_a_strangers_trainable_pass(tmp_path):
    check_packed(Toy(), {}, {}, [{"x": 1}, {"x": 2, "y": 0.5}])
    check_packed(SelectorTrainable(), {"source": "sample", "bars": 600}, {"forecast_window": 24}, [{}, {"min_edge": 0.001, "lag": 2}])
    check_stepping(Walk(), {}, {"every": 2}, [*GOALS, {"trouble": "diverges"}], tmp_path)
    check_stepping(Thrifty(), {}, {"every": 2}, [*GOALS, {"trouble": "diverges"}], tmp_path)
    assert not list(tmp_path.iterdir())


class PackMatters(Toy):
    def evaluate_pack(self, configs, ctx: Context) -> Evaluation:
        made = super().evaluate_pack(configs, ctx)
        made.metrics["score"] -= made.metrics["score"].mean()
        return made


class Undeclared(Toy):
    def evaluate_pack(self, configs, ctx: Context) -> Evaluation:
        return Evaluation(super().evaluate_pack(configs, ctx).metrics.drop(columns="cost"))


class Dice(Toy):
    def evaluate_pack(self, configs, ctx: Context) -> Evaluation:
        made = super().evaluate_pack(configs, ctx)
        made.metrics["cost"] = np.random.default_rng().normal(size=len(configs))
        return made


class Aimless(Toy):
    objective = "profit"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (PackMatters, "other metrics alone than in a pack"),
        (Undeclared, "declared and not given: cost"),
        (Dice, "other metrics again"),
        (Aimless, "'profit' is not a declared metric"),
    ],
)
def test_a_packed_trainable_that_breaks_the_contract_is_told_how(broken, words):
    with pytest.raises(AssertionError, match=words):
        check_packed(broken(), {}, {}, [{"x": 1}, {"x": 2}])


class Forgetful(Walk):
    """Starts over where it should go on."""

    def evaluate(self, config, ctx: StepContext):
        for place in ctx.folder.glob("state*"):
            place.unlink()
        yield from super().evaluate(config, ctx)


class Reseeded(Walk):
    """Goes on with other random numbers than it would have drawn."""

    def evaluate(self, config, ctx: StepContext):
        yield from super().evaluate(config, ctx if not (ctx.folder / "state.json").exists() else self._other(ctx))

    @staticmethod
    def _other(ctx):
        import json

        place = ctx.folder / "state.json"
        state = json.loads(place.read_text())
        state["rng"] = np.random.default_rng(ctx.seed).bit_generator.state
        place.write_text(json.dumps(state))
        return ctx


class Backwards(Walk):
    def evaluate(self, config, ctx: StepContext):
        for report in super().evaluate(config, ctx):
            yield Report(100 - report.step, report.metrics)


class Short(Walk):
    def last_step(self, config):
        return 1000


class Chatty(Walk):
    def evaluate(self, config, ctx: StepContext):
        for report in super().evaluate(config, ctx):
            yield Report(report.step, {**report.metrics, "mood": 1.0})


class Mute(Walk):
    def evaluate(self, config, ctx: StepContext):
        for report in super().evaluate(config, ctx):
            yield Report(report.step, {"paces_done": report.step} if report.step == 3 else report.metrics)


class Elsewhere(Walk):
    def reports_at(self, config, settings):
        return [6, 12]


class Greedy(Thrifty):
    """Prunes what its export is made of."""

    def prune(self, folder):
        for path in folder.iterdir():
            path.write_bytes(b"")


class Bare(Thrifty):
    def prune(self, folder):
        for path in folder.iterdir():
            path.unlink()


class Once(Thrifty):
    def prune(self, folder):
        (folder / "moments.bin").unlink()


class Blind(Thrifty):
    """Goes on from what pruning has left, with random numbers it would not have drawn."""

    export = None  # leaves nothing that could be seen to change

    def evaluate(self, config, ctx: StepContext):
        yield from Walk.evaluate(self, config, ctx)

    def prune(self, folder):
        if (folder / "state.json").exists():
            Reseeded._other(StepContext(None, folder))


class Relapsing(Thrifty):
    """Starts over though it is done, and so loses what it had."""

    def evaluate(self, config, ctx: StepContext):
        if (ctx.folder / "state.json").exists() and not (ctx.folder / "moments.bin").exists():
            (ctx.folder / "state.json").unlink()
        if ctx.reached < self.last_step(config):
            yield from super().evaluate(config, ctx)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Greedy, "pruned after report 1, exports other than before: level.json"),
        (Bare, "pruned after report 1: export raises FileNotFoundError"),
        (Once, "pruned a second time it raises FileNotFoundError"),
        (Blind, "pruned after report 1 and called once more, takes what is left for a whole checkpoint"),
        (Relapsing, "pruned after report 12, its last, and called once more: export raises FileNotFoundError"),
        (Forgetful, "does not go on as if it had not been"),
        (Reseeded, "does not go on as if it had not been"),
        (Backwards, "steps must ascend"),
        (Short, "said its last would be 1000"),
        (Chatty, "reported and not declared: mood"),
        (Mute, r"no level in the reports at steps \[3\]; NaN says that a trial diverged"),
        (Elsewhere, r"reports at \[1, 2, .*, 12\] and said it would at \[6, 12\]"),
    ],
)
def test_a_stepping_trainable_that_breaks_the_contract_is_told_how(broken, words, tmp_path):
    with pytest.raises(AssertionError, match=words):
        check_stepping(broken(), {}, {}, GOALS, tmp_path)

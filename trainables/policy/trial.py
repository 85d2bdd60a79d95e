"""One trial: a policy trained for each fold, advanced epoch by epoch and scored together. Imports torch, so only workers import it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainables.checkpoint import fold_folder, resume, write_json
from trainables.policy.data import PolicyInputs
from trainables.policy.decide import decide, selector_orders, validate
from trainables.policy.options import METRICS, Chosen, read, selector_config
from trainables.policy.train import TrainRun
from trainables.selector.inputs import SelectorInputs
from trainables.selector.options import encode
from trainables.selector.trainable import score
from trainables.stepping import Report, StepContext

if TYPE_CHECKING:
    from trainables.audit.stages import Stage


def train_policy(config: Mapping[str, Any], ctx: StepContext, inputs: PolicyInputs) -> Iterator[Report]:
    """Runs a trial, see `PolicyTrainable.evaluate`."""
    last, epoch = int(config["epochs"]), ctx.reached
    heard = ctx.folder / "diverged.json"  # the report that said so
    if epoch >= last or (heard.exists() and json.loads(heard.read_text()) <= epoch):
        return  # it is over, and its checkpoint may be one that cannot be gone on from
    if ctx.device == "cpu":
        torch.set_num_threads(1)  # two threads on a busy machine take up to sixty times longer
    chosen = read(config)
    runs = make_runs(chosen, inputs, ctx.seed, ctx.device)
    try:
        notes = [note for k, run in enumerate(runs) if (note := resume(run, fold_folder(ctx.folder, k)))]
        while epoch < last:
            # A kill leaves checkpoints ahead of the last report, or of each other: whatever is behind catches up.
            epoch = max(epoch + 1, min((run.epoch for run in runs if not run.diverged), default=0))
            for k, run in enumerate(runs):
                while run.epoch < epoch and not run.diverged:
                    run.advance()
                    run.save(fold_folder(ctx.folder, k))
            ended = any(run.diverged for run in runs)
            if ended:
                write_json(heard, epoch)
            yield _report(runs, chosen, inputs, epoch, notes)
            if ended:
                return
    finally:
        runs.clear()
        if ctx.device != "cpu":
            torch.cuda.empty_cache()


def trace_policy(config: Mapping[str, Any], ctx: StepContext, inputs: PolicyInputs) -> list[Stage]:
    """Shows what the first fold's policy saw, decided and earned in its tune window, from the checkpoint in the trial's folder."""
    from trainables.audit.selector import selector_stages

    chosen = read(config)
    run = make_runs(chosen, inputs, ctx.seed, ctx.device)[0]
    run.load(fold_folder(ctx.folder, 0), weights_only=True)
    [part], _ = orders_of([run], chosen, inputs)
    stages = selector_stages(part, selector_config(chosen.config), inputs.settings["profile"], inputs.settings["initial_cash"])
    # With `rank: amount` what stands where forecasts do is made of the orders.
    return [stage for stage in stages if stage.name != "forecasts" or chosen.config["rank"] == "forecast"]


def make_runs(chosen: Chosen, inputs: PolicyInputs, seed: int, device: str) -> list[TrainRun]:
    """Makes the trainings of a configuration, one for each fold, before their first step."""
    return [TrainRun(inputs.series(chosen, k), chosen, seed % 2**63, k, device) for k in range(len(inputs.folds))]


def orders_of(runs: Sequence[TrainRun], chosen: Chosen, inputs: PolicyInputs) -> tuple[list[SelectorInputs], list[tuple[float, float]]]:
    """Lets each fold's policy decide in its tune window.

    Returns:
        What the selector simulates, one for each fold, and `validate` of all folds.
    """
    _, forecasts = inputs.frame(chosen)
    p50 = np.stack([forecasts.p50(name, chosen.config["decode_horizon"]) for name in ("high", "low", "close")])
    parts, alone = [], []
    for run in runs:
        decisions = decide(run.deciders(), run.series, chosen, run.series.tune_places())
        alone += validate(decisions, run.series, chosen)
        window = run.series.fold.tune
        orders = selector_orders(decisions, run.series, inputs.panel.close.shape, chosen.config, p50)
        parts.append(SelectorInputs(inputs.panel.rows(window), np.ascontiguousarray(orders[:, window.start : window.stop])))
    return parts, alone


def _report(runs: Sequence[TrainRun], chosen: Chosen, inputs: PolicyInputs, epoch: int, notes: Sequence[str]) -> Report:
    """Scores the policies as they stand; one that diverged has no scores."""
    said = "; ".join(dict.fromkeys([*notes, *(note for run in runs for note in run.notes)]))
    if any(run.diverged for run in runs):
        days = sum(int(column[-1]) + 1 for column in inputs.columns)
        return Report(epoch, dict.fromkeys((metric.name for metric in METRICS), math.nan), said, np.zeros(days, np.float32))
    parts, alone = orders_of(runs, chosen, inputs)
    table = encode([selector_config(chosen.config)], inputs.settings["profile"])
    metrics, returns = score(parts, inputs.columns, table, inputs.settings["profile"], inputs.settings["initial_cash"])
    found = {str(name): float(value) for name, value in metrics.iloc[0].items()}
    found["sortino"] = 0.0 if math.isnan(found["sortino"]) else found["sortino"]
    found["val_sortino"], found["val_return"] = (float(np.mean(x)) for x in zip(*alone, strict=True)) if alone else (math.nan, math.nan)
    found["train_loss"] = float(np.mean([run.loss for run in runs]))
    return Report(epoch, found, said, returns[0])

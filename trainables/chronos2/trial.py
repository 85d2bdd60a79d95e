"""One trial: a fine-tune for each fold, advanced in step and scored together. Imports torch, so only workers import it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.checkpoint import fold_folder, resume, write_json
from trainables.chronos2.forecast import actuals, forecast, history, spread_origins
from trainables.chronos2.lora import LoraRun, LoraSettings, preaug_named
from trainables.chronos2.model import load_base
from trainables.chronos2.tasks import Tasks, make_tasks
from trainables.chronos2.trainable import TuneInputs
from trainables.forecast.scores import QUANTILES, SCORES, references, score_symbols
from trainables.stepping import Report, StepContext
from trainables.timeline import Fold, Window

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SCORES_FILE = "scores.json"
HISTORY = 512  # bars up to an issue time from which the forecasters without a model take their quantiles


class Scorer:
    """Scores forecasts of one configuration's inputs over the tune windows of all folds.

    Arrays have an entry for every issue time of any symbol, NaN where a symbol has none: what errs together stands together. What is
    compared with sees the same history whatever the configuration: else a context could be chosen that makes it worse.
    """

    def __init__(self, inputs: TuneInputs, tasks: tuple[Tasks, ...], config: Mapping[str, Any]):
        self._symbols, self._tasks, self._steps = inputs.panel.symbols, tasks, list(inputs.score)
        self._context, self._batch_rows = int(config["context"]), int(config["batch_rows"])
        self._preaug = preaug_named(str(config["preaug"]))
        furthest = max(self._steps)
        self._origins = [spread_origins(own, fold.tune, furthest, inputs.origins) for fold, own in zip(inputs.folds, tasks, strict=True)]
        self._rows = np.concatenate([origins.rows for origins in self._origins])
        self._times = np.unique(self._rows[self._rows >= 0])
        pairs = list(zip(tasks, self._origins, strict=True))
        past = self._placed([history(own, origins, HISTORY) for own, origins in pairs])
        self._actual = self._placed([self._at(actuals(own, origins, furthest)) for own, origins in pairs])
        self._last, self._naive = past[:, :, 3, -1], references(past, self._steps, QUANTILES)
        apart = np.diff(inputs.panel.times[self._times]) / np.timedelta64(1, "s") / inputs.panel.bar_seconds
        self._stride = max(1, int(np.median(apart))) if len(apart) else 1
        self.notes = tuple(note for origins in self._origins for note in origins.notes)

    def _at(self, values: np.ndarray) -> np.ndarray:
        return values[..., [h - 1 for h in self._steps]]

    def _placed(self, each: list[np.ndarray]) -> np.ndarray:
        """Puts values of all folds, (O, A, …) each, where their issue times are: (A, times, …)."""
        values = np.concatenate(each)
        placed = np.full((values.shape[1], len(self._times), *values.shape[2:]), np.nan)
        for a in range(values.shape[1]):
            have = self._rows[:, a] >= 0
            placed[a, np.searchsorted(self._times, self._rows[have, a])] = values[have, a]
        return placed

    def score(self, models: list[Any]) -> dict[str, dict[str, float]]:
        """Scores a model per fold: of each symbol, and "pooled"."""
        quantiles = self._placed(
            [
                self._at(
                    forecast(model, own, origins, max(self._steps), LEVELS, self._batch_rows, context=self._context, preaug=self._preaug)
                )
                for model, own, origins in zip(models, self._tasks, self._origins, strict=True)
            ]
        )
        return score_symbols(self._symbols, quantiles, self._actual, self._last, LEVELS, self._steps, self._naive, self._stride)


def make_runs(config: Mapping[str, Any], inputs: TuneInputs, seed: int, device: str) -> list[LoraRun]:
    """Makes the fine-tunes of a configuration, one for each fold, before their first step."""
    base = _base(inputs.model, device)
    settings = LoraSettings(
        rank=int(config["rank"]),
        alpha=float(config["alpha_ratio"]) * int(config["rank"]),
        seed=seed % 2**31,
        **{
            key: config[key]
            for key in (
                "dropout",
                "targets",
                "learning_rate",
                "weight_decay",
                "schedule",
                "warmup",
                "steps",
                "context",
                "horizon",
                "batch_rows",
                "preaug",
            )
        },
    )
    return [LoraRun(base, _tasks(inputs, fold, config), settings, base_id=inputs.model, base_digest=inputs.digest) for fold in inputs.folds]


def _tasks(inputs: TuneInputs, fold: Fold, config: Mapping[str, Any]) -> Tasks:
    seen = Window(fold.train.start, fold.tune.stop)
    return make_tasks(inputs.panel, seen, fold.train, str(config["covariates"]), str(config["grouping"]), int(config["clusters"]))


@lru_cache(maxsize=2)
def _base(model: str, device: str) -> Any:
    """Loads a base model once for all trials of a process; they share its frozen weights."""
    return load_base(model, device=device, dtype="float32").model


def tune(config: Mapping[str, Any], ctx: StepContext, inputs: TuneInputs) -> Iterator[Report]:
    """Runs a trial, see `ChronosLora.evaluate`."""
    last, step = int(config["steps"]), ctx.reached
    heard = ctx.folder / "diverged.json"  # the report that said so
    if step >= last or (heard.exists() and json.loads(heard.read_text()) <= step):
        return  # it is over, and its checkpoint may be one that cannot be gone on from
    if ctx.device == "cpu":
        torch.set_num_threads(1)  # two threads on a busy machine take up to sixty times longer
    runs = make_runs(config, inputs, ctx.seed, ctx.device)
    scorer = Scorer(inputs, tuple(run.tasks for run in runs), config)
    try:
        notes = [note for k, run in enumerate(runs) if (note := resume(run, fold_folder(ctx.folder, k)))]
        before = _zero_shot(ctx.folder, scorer, runs)
        while step < last:
            # A kill leaves checkpoints ahead of the last report, or of each other: whatever is behind catches up.
            step = max(_next(step, last, inputs), min((run.step for run in runs if not run.diverged), default=0))
            for k, run in enumerate(runs):
                _advance(run, step, fold_folder(ctx.folder, k), inputs)
            ended = any(run.diverged for run in runs)
            if ended:
                write_json(heard, step)
            yield _report(runs, scorer, before, ctx.folder, step, notes)
            if ended:
                return
    finally:
        runs.clear()
        if ctx.device != "cpu":
            torch.cuda.empty_cache()


def _advance(run: LoraRun, step: int, folder: Path, inputs: TuneInputs) -> None:
    """Trains a fold up to a step, with a checkpoint wherever a report is due, so that its losses do not depend on where it began."""
    while run.step < step and not run.diverged:
        loss = run.advance(min(step, _next(run.step, step, inputs)) - run.step)
        folder.mkdir(exist_ok=True)
        write_json(folder / "loss.json", loss)  # before the checkpoint: one that is there has its loss
        run.save(folder)


def _next(step: int, last: int, inputs: TuneInputs) -> int:
    """Returns the step of the report after this one."""
    return min(last, (step // inputs.eval_every + 1) * inputs.eval_every)


def _report(runs: list[LoraRun], scorer: Scorer, before: float, folder: Path, step: int, notes: Sequence[str]) -> Report:
    """Scores the fine-tunes as they stand; one that diverged has no scores."""
    ended = any(run.diverged for run in runs)
    found = {} if ended else scorer.score([run.model for run in runs])
    if found:
        write_json(folder / SCORES_FILE, {"step": step, "scores": found})
    losses = [] if ended else [json.loads((fold_folder(folder, k) / "loss.json").read_text()) for k in range(len(runs))]
    pooled = found.get("pooled") or dict.fromkeys((metric.name for metric in SCORES), math.nan)
    metrics = {
        **pooled,
        "skill_gain": pooled["skill"] - before,
        "train_loss": math.nan if ended else float(np.mean(losses)),
        "steps": float(step),
    }
    notes = [*notes, *runs[0].tasks.notes, *scorer.notes, *(note for run in runs for note in run.notes)]
    return Report(step, metrics, "; ".join(dict.fromkeys(notes)))


def _zero_shot(folder: Path, scorer: Scorer, runs: list[LoraRun]) -> float:
    """Returns the skill of the base model with these inputs; worked out once, kept beside the checkpoints."""
    place = folder / "base.json"
    if place.exists():
        return float(json.loads(place.read_text())["skill"])
    skill = math.nan
    if not any(run.step for run in runs):  # fresh adapters change nothing: their second matrix is zero
        skill = scorer.score([run.model for run in runs])["pooled"]["skill"]
        write_json(place, {"skill": skill})
    return skill

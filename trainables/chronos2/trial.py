"""One trial: a fine-tune for each fold, advanced in step and scored together. Imports torch, so only workers import it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.chronos2.forecast import Origins, actuals, forecast, history, spread_origins
from trainables.chronos2.lora import MANIFEST, LoraRun, LoraSettings, preaug_named
from trainables.chronos2.model import load_base
from trainables.chronos2.tasks import Tasks, make_tasks
from trainables.chronos2.trainable import HORIZONS, TuneInputs
from trainables.forecast.scores import QUANTILES, references, score_symbols
from trainables.stepping import Report, StepContext
from trainables.timeline import Fold, Window

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SCORES_FILE = "scores.json"


class Scorer:
    """Scores forecasts of one configuration's inputs over the tune windows of all folds."""

    def __init__(self, inputs: TuneInputs, tasks: tuple[Tasks, ...], config: Mapping[str, Any]):
        self._symbols, self._tasks = inputs.panel.symbols, tasks
        self._horizon, self._context, self._rows = int(config["horizon"]), int(config["context"]), int(config["batch_rows"])
        self._preaug = preaug_named(str(config["preaug"]))
        self._steps = [h for h in HORIZONS if h <= self._horizon] or [self._horizon]
        self._origins: list[Origins] = []
        actual, last, naive = [], [], []
        for fold, own in zip(inputs.folds, tasks, strict=True):
            origins = spread_origins(own, fold.tune, max(self._steps), inputs.origins)
            self._origins.append(origins)
            past = history(own, origins, self._context)
            actual.append(self._at(actuals(own, origins, max(self._steps))))
            last.append(past[..., 3, -1])
            naive.append(references(past.transpose(1, 0, 2, 3), self._steps, QUANTILES))
        self._actual, self._last = np.concatenate(actual).transpose(1, 0, 2, 3), np.concatenate(last).T
        self._naive = {name: np.concatenate([each[name] for each in naive], axis=1) for name in naive[0]}
        strides = np.concatenate([origins.strides for origins in self._origins])
        self._stride = max(1, int(np.nanmin(strides))) if np.isfinite(strides).any() else 1
        self.notes = tuple(note for origins in self._origins for note in origins.notes)

    def _at(self, values: np.ndarray) -> np.ndarray:
        return values[..., [h - 1 for h in self._steps]]

    def score(self, models: list[Any]) -> dict[str, dict[str, float]]:
        """Scores a model per fold: of each symbol, and "pooled"."""
        made = [
            forecast(model, own, origins, max(self._steps), LEVELS, self._rows, context=self._context, preaug=self._preaug)
            for model, own, origins in zip(models, self._tasks, self._origins, strict=True)
        ]
        quantiles = np.concatenate([self._at(values) for values in made]).transpose(1, 0, 2, 3, 4)
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
    if ctx.device == "cpu":
        torch.set_num_threads(1)  # two threads on a busy machine take up to sixty times longer
    runs = make_runs(config, inputs, ctx.seed, ctx.device)
    scorer = Scorer(inputs, tuple(run.tasks for run in runs), config)
    try:
        for k, run in enumerate(runs):
            if (_fold(ctx.folder, k) / MANIFEST).exists():
                run.load(_fold(ctx.folder, k))
        before = _zero_shot(ctx.folder, scorer, runs)
        last = runs[0].settings.steps
        # A kill between two folds' checkpoints leaves them apart: the slower ones catch up to the report that was being made.
        reached, ended = min(run.step for run in runs), any(run.diverged for run in runs)
        heard = ctx.reached > max(run.step for run in runs) if ended else ctx.reached >= reached
        if not heard and (ended or len({run.step for run in runs}) == 1):  # killed between the checkpoints and their report
            yield _report(runs, scorer, before, ctx.folder, _next(ctx.reached, last, inputs) if ended else reached)
        while reached < last and not ended:
            reached = _next(reached, last, inputs)
            for k, run in enumerate(runs):
                if run.step < reached and not run.diverged:
                    loss = run.advance(reached - run.step)
                    _fold(ctx.folder, k).mkdir(exist_ok=True)
                    _write(_fold(ctx.folder, k) / "loss.json", loss)  # before the checkpoint: one that is there has its loss
                    run.save(_fold(ctx.folder, k))
            ended = any(run.diverged for run in runs)
            yield _report(runs, scorer, before, ctx.folder, reached)
    finally:
        runs.clear()
        if ctx.device != "cpu":
            torch.cuda.empty_cache()


def _next(step: int, last: int, inputs: TuneInputs) -> int:
    """Returns the step of the report after this one."""
    return min(last, (step // inputs.eval_every + 1) * inputs.eval_every)


def _report(runs: list[LoraRun], scorer: Scorer, before: float, folder: Path, step: int) -> Report:
    """Scores the fine-tunes as they stand; one that diverged has no scores."""
    ended = any(run.diverged for run in runs)
    found = {} if ended else scorer.score([run.model for run in runs])
    if found:
        _write(folder / SCORES_FILE, {"step": step, "scores": found})
    losses = [json.loads((_fold(folder, k) / "loss.json").read_text()) for k in range(len(runs))]
    pooled = found.get("pooled", {})
    metrics = {
        **pooled,
        "skill_gain": pooled.get("skill", math.nan) - before,
        "train_loss": math.nan if ended else float(np.mean(losses)),
        "steps": float(step),
    }
    notes = [*runs[0].tasks.notes, *scorer.notes, *(note for run in runs for note in run.notes)]
    return Report(step, metrics, "; ".join(dict.fromkeys(notes)))


def _zero_shot(folder: Path, scorer: Scorer, runs: list[LoraRun]) -> float:
    """Returns the skill of the base model with these inputs; worked out once, kept beside the checkpoints."""
    place = folder / "base.json"
    if place.exists():
        return float(json.loads(place.read_text())["skill"])
    skill = math.nan
    if not any(run.step for run in runs):  # fresh adapters change nothing: their second matrix is zero
        skill = scorer.score([run.model for run in runs])["pooled"]["skill"]
        _write(place, {"skill": skill})
    return skill


def _fold(folder: Path, k: int) -> Path:
    return folder / f"fold-{k + 1}"


def _write(path: Path, body: Any) -> None:
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(json.dumps(body))
    os.replace(draft, path)

"""Makes the embedded small model, and measures what it can and cannot forecast.

    python -m trainables.chronos2.pretrain --out DIR        # about eight minutes of one core
    python -m trainables.chronos2.pretrain --evaluate       # the table of docs/small_model.md

A fixed number of steps on one thread: the same command gives the same bits on the same machine and libraries. The embedded model
exists so that everything runs, and is tested, without a download or a GPU; it was trained on synthetic series only.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainables.chronos2 import synthetic
from trainables.chronos2.model import load_base, quiet, small_config

CONTEXTS = (48, 96, 128, 192, 256, 256, 384, 512)
HORIZONS = (16, 24, 24, 32)
LEVELS = np.arange(1, 10) / 10  # of the evaluation
CONTEXT, HORIZON, SEASON = 256, 24, 24  # of the evaluation
STRUCTURED = ("mixtures", "daily season", "Gaussian processes")  # sets with something to forecast
BASELINES = ("naive", "naive + empirical", "seasonal naive", "seasonal + empirical")


@dataclass(frozen=True)
class Recipe:
    """Everything the weights depend on besides the code and the libraries.

    Attributes:
        steps: Optimiser steps.
        seed: Of the first weights and of the data.
        rows: Series in a batch.
        learning_rate: Peak; a cosine takes it down to a fiftieth.
        warm_up: Steps of linear rise to the peak.
        markets: Sample markets that windows are taken from.
        market_bars: Hours of each.
    """

    steps: int = 8_000
    seed: int = 0
    rows: int = 64
    learning_rate: float = 3e-3
    warm_up: int = 50
    markets: int = 24
    market_bars: int = 4_380

    def rate(self, step: int) -> float:
        """Learning rate of a step (from 0)."""
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up) * (0.02 + 0.98 * cosine)


def pretrain(recipe: Recipe, on_step: Callable[[int, float], None] | None = None) -> Any:
    """Trains a small Chronos-2 from nothing on synthetic series, on the CPU and one thread.

    Args:
        recipe: Steps, seed and the rest.
        on_step: Called with the steps done and the mean quantile loss of the step.

    Returns:
        The `Chronos2Pipeline`, in evaluation mode.
    """
    import torch
    from chronos import Chronos2Pipeline
    from chronos.chronos2.model import Chronos2Model

    quiet()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # another number adds in another order, and the last bits differ
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            model = Chronos2Model(small_config())
        first = synthetic.TRAINING_MARKETS + recipe.seed * recipe.markets
        market = synthetic.market_windows(synthetic.markets(first, recipe.markets, recipe.market_bars))
        rng = np.random.default_rng(np.random.SeedSequence([recipe.seed, 0]))
        optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
        patch = model.chronos_config.output_patch_size
        model.train()
        for step in range(recipe.steps):
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(step)
            context, horizon = int(rng.choice(CONTEXTS)), int(rng.choice(HORIZONS))
            batch = synthetic.draw(rng, market, recipe.rows, context + horizon)
            values = torch.from_numpy(batch.values)
            patches = math.ceil(horizon / patch)
            out = model(
                context=values[:, :context],
                future_target=values[:, context:],
                group_ids=torch.from_numpy(batch.groups),
                num_output_patches=patches,
            )
            # Chronos sums over quantiles and averages over the padded horizon; this is the mean over quantiles and steps.
            loss = out.loss * (patches * patch / horizon) / model.num_quantiles
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            if on_step:
                on_step(step + 1, loss.item())
    finally:
        torch.set_num_threads(threads)
    return Chronos2Pipeline(model.eval())


def save(pipeline: Any, directory: Path) -> None:
    """Writes config.json and model.safetensors, readable by everyone, each one whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".saving-") as temporary:
        pipeline.save_pretrained(temporary)
        for name in ("model.safetensors", "config.json"):
            made = Path(temporary, name)
            made.chmod(0o644)
            os.replace(made, directory / name)


def held_out(seed: int = 0, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Makes the series to be judged by, none of which training saw.

    Args:
        seed: Of the series; training's are other streams and other markets whatever the seed.
        scale: Multiple of the number of series.

    Returns:
        Set → float64 (groups, variates, CONTEXT + HORIZON). Mixtures are of a training family; the daily season and the Gaussian
        processes come from generators that training did not use; markets are windows of open, high, low and close of the sample
        market, without and with its planted drift.
    """
    length = CONTEXT + HORIZON
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence([seed, 1]).spawn(5)]
    sets = {
        "mixtures": synthetic.mixtures(streams[0], np.ones(round(400 * scale), int), length)[:, None],
        "daily season": synthetic.daily_seasons(streams[1], round(400 * scale), length)[:, None],
        "Gaussian processes": synthetic.gaussian_processes(streams[2], round(200 * scale), length)[:, None],
    }
    for k, (name, signal) in enumerate((("random-walk market", 0.0), ("market with drift", 0.25))):
        count = max(1, round(8 * scale))
        first = synthetic.HELD_OUT_MARKETS + (2 * seed + k) * 1_000
        market = synthetic.market_windows(synthetic.markets(first, count, 2_160, (signal,)))
        sets[name] = market(streams[3 + k], np.full(round(300 * scale), 4), length).reshape(-1, 4, length)
    return sets


def baselines(context: np.ndarray) -> dict[str, np.ndarray]:
    """Quantile forecasts that need no model.

    Args:
        context: (..., CONTEXT).

    Returns:
        Name → (..., Q, HORIZON). *Naive* is the last value, *seasonal naive* the value a day before; *empirical* adds the quantiles that
        the differences over the same span had in the context. Without it all quantiles are the same.
    """
    last, before = context[..., -1:, None], context[..., None, -SEASON:]
    shape = (*context.shape[:-1], len(LEVELS), HORIZON)
    spread = np.stack([_quantiles(context[..., h:] - context[..., :-h]) for h in range(1, HORIZON + 1)], axis=-1)
    seasonal = _quantiles(context[..., SEASON:] - context[..., :-SEASON])[..., None]
    forecasts = (np.broadcast_to(last, shape), last + spread, np.broadcast_to(before, shape), before + seasonal)
    return dict(zip(BASELINES, forecasts, strict=True))


def evaluate(pipeline: Any, sets: dict[str, np.ndarray]) -> pd.DataFrame:
    """Scores the model and the baselines.

    Args:
        pipeline: A loaded Chronos-2.
        sets: From `held_out`.

    Returns:
        One row per set and forecast ("model" and `BASELINES`), columns wql and mase. Each series is divided by the standard deviation of
        its context first, so that none outweighs the others. WQL is the mean over the levels 0.1 … 0.9 of 2·Σ pinball / Σ|y|; MASE the
        mean over series of the median forecast's mean absolute error in units of the context's mean absolute one-step change.
    """
    rows = []
    for name, raw in sets.items():
        series = raw / np.maximum(raw[..., :CONTEXT].std(axis=-1, keepdims=True), 1e-12)
        context, future = series[..., :CONTEXT], series[..., CONTEXT:]
        made = pipeline.predict_quantiles(context.astype(np.float32), HORIZON, quantile_levels=LEVELS.tolist(), batch_size=128)[0]
        model = np.sort(np.stack([q.float().numpy() for q in made]).swapaxes(-1, -2), axis=-2)
        for forecast, quantiles in {"model": model, **baselines(context)}.items():
            error = future[..., None, :] - quantiles
            pinball = np.maximum(LEVELS[:, None] * error, (LEVELS[:, None] - 1) * error)
            step = np.abs(np.diff(context)).mean(axis=-1)
            mase = np.abs(error[..., len(LEVELS) // 2, :]).mean(axis=-1) / np.maximum(step, 1e-12)
            wql = 2 * pinball.sum() / len(LEVELS) / np.abs(future).sum()
            rows.append({"set": name, "forecast": forecast, "wql": wql, "mase": mase.mean()})
    return pd.DataFrame(rows).set_index(["set", "forecast"])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: train and save, or print the table."""
    parser = argparse.ArgumentParser(prog="python -m trainables.chronos2.pretrain", description="Makes or measures the embedded model.")
    parser.add_argument("--out", type=Path, help="train, and save config.json and model.safetensors in this folder")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help=f"optimiser steps (default {Recipe.steps})")
    parser.add_argument("--seed", type=int, default=0, help="of weights and data; with --evaluate, of the held-out series (default 0)")
    parser.add_argument("--evaluate", action="store_true", help="print the table of scores on held-out series")
    parser.add_argument("--model", help="model to evaluate: small (default), a directory, a hub id; after --out, the one just made")
    given = parser.parse_args(arguments)
    if not given.out and not given.evaluate:
        parser.error("nothing to do; give --out DIR to train, --evaluate to measure, or both")
    if given.steps < 1 or given.seed < 0:
        parser.error("--steps: at least 1; --seed: at least 0")
    if given.out:
        _train(Recipe(steps=given.steps, seed=given.seed), given.out)
    if given.evaluate:
        pipeline = load_base(given.model or str(given.out or "small"))
        _print(evaluate(pipeline, held_out(given.seed)))


def _quantiles(sample: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.quantile(sample, LEVELS, axis=-1), 0, -1)


def _train(recipe: Recipe, out: Path) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    shown = ("{task.description}", "loss {task.fields[loss]:.4f}")
    columns = (TextColumn(shown[0]), BarColumn(), MofNCompleteColumn(), TextColumn(shown[1]), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("pretraining", total=recipe.steps, loss=math.nan)
        smooth = math.nan

        def on_step(done: int, loss: float) -> None:
            nonlocal smooth
            smooth = loss if math.isnan(smooth) else 0.99 * smooth + 0.01 * loss
            progress.update(task, completed=done, loss=smooth)

        pipeline = pretrain(recipe, on_step)
    save(pipeline, out)
    size = sum(path.stat().st_size for path in (out / "config.json", out / "model.safetensors"))
    print(f"{recipe.steps:,} steps, seed {recipe.seed}: {out}, {size / 1e6:.2f} MB")


def _print(scores: pd.DataFrame) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("held-out set", "naive: WQL (MASE)", *BASELINES[1:], "model", title="Divided by naive's: WQL (MASE); lower is better")
    for name, rows in scores.groupby(level="set", sort=False):
        rows = rows.droplevel("set")
        naive = rows.loc["naive"]
        ratios = rows / naive
        cells = [f"{ratios.wql[k]:.3f} ({ratios.mase[k]:.2f})" for k in (*BASELINES[1:], "model")]
        table.add_row(str(name), f"{naive.wql:.4f} ({naive.mase:.2f})", *cells)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()

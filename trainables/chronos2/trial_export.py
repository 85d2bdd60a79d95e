"""A trial's adapters as artefacts: one fold's or all, from the checkpoints it left. Imports torch, so only an export imports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.checkpoint import fold_folder
from trainables.chronos2.export import METADATA, NAMES, export
from trainables.chronos2.model import find_base
from trainables.chronos2.trainable import TuneInputs
from trainables.chronos2.trial import make_runs
from trainables.exported import ExportError, check_target
from trainables.stepping import StepContext


def export_trial(
    config: Mapping[str, Any],
    ctx: StepContext,
    inputs: TuneInputs,
    folder: Path,
    merged: bool,
    name: str,
    curve: Sequence[Mapping[str, Any]],
) -> list[Path]:
    """Exports the adapter of every fold: into `folder` if there is one fold, else into its folders fold-1, fold-2 and so on.

    Every fold has an adapter of its own, trained on its own window; the last fold's was trained on the latest bars. Nothing is
    written unless all of them can be.

    Raises:
        CheckpointError: Missing, damaged, or of another configuration, base model or data.
        ExportError: The fine-tune diverged, or a folder holds something else.
    """
    runs = make_runs(config, inputs, ctx.seed, ctx.device)
    places = [folder if len(runs) == 1 else fold_folder(folder, k) for k in range(len(runs))]
    for k, (run, place) in enumerate(zip(runs, places, strict=True)):
        run.load(fold_folder(ctx.folder, k), weights_only=True)
        if run.diverged:
            raise ExportError(f"{name}: diverged at step {run.step}, so its weights are of no use")
        check_target(place, NAMES, METADATA)
        _name_base(run.model.peft_config["default"], inputs.model)
    return [
        export(run, place, f"{name}/fold-{k}", eval_curve=curve, parent_run=name, merged=merged)
        for k, (run, place) in enumerate(zip(runs, places, strict=True), 1)
    ]


def _name_base(adapter: Any, model: str) -> None:
    """Says in an adapter's configuration where its base is, so that peft and Chronos2Pipeline find it from anywhere on this machine."""
    directory = find_base(model).directory
    if model == "small" or Path(model).expanduser().is_dir():
        adapter.base_model_name_or_path = str(directory.absolute())
    else:
        repository, _, revision = model.partition("@")
        adapter.base_model_name_or_path, adapter.revision = repository, revision or None

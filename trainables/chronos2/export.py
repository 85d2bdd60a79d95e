"""What is kept of a fine-tune: the adapter as peft writes it, merged weights on request, and where all of it came from (SPEC C.8).

A run's folder has `lora-adapter/` (adapter_config.json, adapter_model.safetensors), `finetuned/` on request (merged weights, a
Chronos-2 pipeline of its own), and `run_metadata.json` (data, windows, settings, versions, evaluations).
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trainables.exported import ExportError, check_target, published
from trainables.market.panel import utc

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from trainables.chronos2.lora import LoraRun

ADAPTER: Final = "lora-adapter"
MERGED: Final = "finetuned"
METADATA: Final = "run_metadata.json"
NAMES: Final = frozenset({ADAPTER, MERGED, METADATA})
_PACKAGES: Final = ("alphasweep", "torch", "chronos-forecasting", "peft", "transformers", "numpy")


def run_metadata(
    run: LoraRun, run_name: str, *, eval_curve: Sequence[Mapping[str, Any]] = (), parent_run: str | None = None, merged: bool = False
) -> dict[str, Any]:
    """Describes a fine-tune (SPEC C.8, with the items [C] adds).

    Args:
        run: The fine-tune as it stands.
        run_name: Name of the run.
        eval_curve: Evaluations in order, for example `{"step": 100, "wql": 0.8}`.
        parent_run: What it came from: the trial it is a fold of, as study/trial, or the run whose weights it started from.
        merged: Whether merged weights lie beside the adapter.
    """
    from trainables.chronos2.lora import TARGETS

    tasks, settings = run.tasks, run.settings
    span = lambda window: [_iso(tasks.times[window.start]), _iso(tasks.times[window.stop - 1])] if window.stop > window.start else None  # noqa: E731
    return {
        "run_name": run_name,
        "parent_run": parent_run,
        "mode": "lora",
        "base_model": run.base_id,
        "base_digest": run.base_digest,
        "symbols": list(tasks.symbols),
        "grouping": tasks.grouping,
        "symbol_groups": [list(group) for group in tasks.groups],
        "covariates": tasks.covariates,
        "data_hash": tasks.data_hash,
        "tasks_digest": tasks.digest,
        "train_window": span(tasks.train),
        "train_end": _iso(tasks.train_end),
        "preaug": settings.preaug,
        "lora": {
            "r": settings.rank,
            "alpha": settings.alpha or 2 * settings.rank,
            "dropout": settings.dropout,
            "targets": list(TARGETS[settings.targets]),
            "merge": merged,
        },
        "settings": asdict(settings),
        "step": run.step,
        "batch_rows": run.batch_rows,
        "diverged": run.diverged,
        "notes": [*tasks.notes, *run.notes],
        "eval_curve": [dict(point) for point in eval_curve],
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def export(
    run: LoraRun,
    folder: str | Path,
    run_name: str,
    *,
    eval_curve: Sequence[Mapping[str, Any]] = (),
    parent_run: str | None = None,
    merged: bool = False,
) -> Path:
    """Writes a run's artefacts; the folder appears when it is complete, and replaces one of the same name.

    Args:
        run: The fine-tune; it is not changed and can go on.
        folder: Of this run.
        run_name: As in `run_metadata`.
        eval_curve: As in `run_metadata`.
        parent_run: As in `run_metadata`.
        merged: Also write merged weights, as large as the base model.

    Returns:
        The folder.

    Raises:
        ExportError: The run diverged, or the folder holds something else.
    """
    from chronos import Chronos2Pipeline
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    if run.diverged:
        raise ExportError(f"export {folder}: the run diverged at step {run.step}; its weights are of no use")
    place = Path(folder)
    check_target(place, NAMES, METADATA)
    with published(place) as draft:
        # Not `run.model.save_pretrained`: it asks the hub about the base model, and adds a page about nothing.
        adapter = draft / ADAPTER
        adapter.mkdir()
        state = get_peft_model_state_dict(run.model, save_embedding_layers=False)
        state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        save_file(state, adapter / "adapter_model.safetensors", {"format": "pt"})
        config = copy.deepcopy(run.model.peft_config["default"])
        config.inference_mode = True
        config.save_pretrained(str(adapter))
        if merged:
            Chronos2Pipeline(merged_model(run.model)).save_pretrained(draft / MERGED)
        data = run_metadata(run, run_name, eval_curve=eval_curve, parent_run=parent_run, merged=merged)
        # Merged weights are used without what lies beside them, and must still say until when they were trained.
        for where in (draft, draft / MERGED) if merged else (draft,):
            (where / METADATA).write_text(json.dumps(_plain(data), indent=1, allow_nan=False) + "\n")
    return place


def merged_model(model: PeftModel) -> Any:
    """Returns the plain model with the adapter in its weights, which are its own: the given model and its base stay as they are."""
    return copy.deepcopy(model).merge_and_unload().eval()  # type: ignore[operator]


def read_metadata(folder: str | Path) -> dict[str, Any]:
    """Reads `run_metadata.json` of an exported folder.

    Raises:
        ExportError: Missing or damaged.
    """
    path = Path(folder) / METADATA
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: cannot be read ({type(error).__name__}); export the run again") from error
    if not isinstance(found, dict) or "train_end" not in found:
        raise ExportError(f"{path}: holds no train_end; export the run again")
    return found


def load_adapter(base: torch.nn.Module, folder: str | Path, base_digest: str = "") -> PeftModel:
    """Puts an exported adapter on its base model, whose weights are shared and stay as they are.

    Args:
        base: Chronos2Model the adapter was trained on.
        folder: That `export` wrote.
        base_digest: `weights_digest(base)` where the caller has it already.

    Raises:
        ExportError: No such artefact, or trained on other weights.
    """
    from peft import PeftModel

    from trainables.chronos2.lora import seeded, shared_copy, weights_digest

    place = Path(folder)
    metadata = read_metadata(place)
    if metadata.get("base_digest") != (base_digest or weights_digest(base)):
        raise ExportError(f"{place}: this adapter belongs to other weights, those of {metadata.get('base_model') or 'an unnamed model'}")
    if not (place / ADAPTER / "adapter_model.safetensors").is_file():
        raise ExportError(f"{place}: {ADAPTER}/adapter_model.safetensors is missing; export the run again")
    with seeded(next(base.parameters()).device, (0,)):  # peft draws weights before it reads the stored ones
        model = PeftModel.from_pretrained(shared_copy(base), str(place / ADAPTER))  # type: ignore[arg-type]
    return model.eval()  # type: ignore[return-value]


def check_train_end(metadata: Mapping[str, Any], first_issue_time: Any) -> None:
    """Call before a fine-tuned model is used: no forecast may be issued in the time it was trained on (SPEC C.7, J5).

    Args:
        metadata: Of `read_metadata`.
        first_issue_time: Start of the last bar that the earliest forecast sees; UTC.

    Raises:
        ExportError: At or before `train_end`, or that is unknown.
    """
    name = metadata.get("run_name") or "this adapter"
    if not metadata.get("train_end"):
        raise ExportError(f"{name}: it is not known until when it was trained (no train_end); train it again")
    end, first = utc(metadata["train_end"], "train_end"), utc(first_issue_time, "first_issue_time")
    if first <= end:
        raise ExportError(
            f"{name}: was trained on bars until {_iso(end)} and would forecast from {_iso(first)}, which it has seen; "
            "give issue times after train_end, or train it on an earlier window"
        )


def _iso(stamp: Any) -> str:
    return str(np.datetime64(stamp).astype("datetime64[s]")) + "Z"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's, and None for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value

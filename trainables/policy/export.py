"""A trained policy as a folder that needs no study: weights, and one JSON file with all that decides what it may be fed with.

`policy.safetensors` has the networks that decide together; `policy.json` their shape, feature spec, normaliser, forecaster, decoding,
and `train_end`, the start of the last bar that training saw. No pickle, and nothing is imported by a name in a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes

from trainables.checkpoint import fold_folder
from trainables.exported import ExportError, check_target, published
from trainables.features import Normaliser, features
from trainables.forecast import issue
from trainables.forecast.identity import as_prepared
from trainables.market import Panel
from trainables.policy.data import PolicyInputs, make_series
from trainables.policy.decide import decide
from trainables.policy.decoding import Actions
from trainables.policy.net_spec import NetSpec
from trainables.policy.nets import PolicyNet, make_net
from trainables.policy.options import Chosen, forecaster_of, read
from trainables.policy.train import TrainRun
from trainables.policy.trial import make_runs
from trainables.stepping import StepContext
from trainables.timeline import Fold, Window

WEIGHTS: Final = "policy.safetensors"
ABOUT: Final = "policy.json"
NAMES: Final = frozenset({WEIGHTS, ABOUT})
FORMAT: Final = 2


@dataclass(frozen=True, eq=False)
class Policy:
    """A policy that decides.

    Attributes:
        nets: That decide together.
        chosen: Its configuration.
        normaliser: Fitted on its train window; refuses features of another spec and symbols it does not know.
        settings: Of the study.
        train_end: datetime64[ns], start of the last bar that training saw.
        about: All of `policy.json`.
    """

    nets: tuple[PolicyNet, ...]
    chosen: Chosen
    normaliser: Normaliser
    settings: Mapping[str, Any]
    train_end: np.datetime64
    about: Mapping[str, Any]

    def actions(self, panel: Panel, window: tuple[int, int] | None = None) -> Actions:
        """Decides at the end of every bar of some rows, from bars up to it.

        Args:
            panel: Bars; those before the window are history: seq_len of each symbol, and what features and forecaster need.
            window: Rows to decide at; by default those after `train_end`.

        Raises:
            ExportError: No rows, or some that training saw.
            FeatureError: A symbol the policy was not trained on, or features that cannot be computed.
            TrainableError: The forecaster has other weights than in training, or follows other rules.
        """
        first = int(np.searchsorted(panel.times, self.train_end, side="right"))
        rows = Window(first, panel.n_bars) if window is None else Window(*window)
        if rows.start < first or not rows.start < rows.stop <= panel.n_bars:
            seen = f"from row {first} on ({panel.n_bars} rows)" if first < panel.n_bars else "there is none in this panel"
            raise ExportError(
                f"policy: was trained on bars until {np.datetime_as_string(self.train_end, unit='s')}Z and may decide only on later ones; "
                f"asked for rows {rows.start} to {rows.stop}, later ones: {seen}"
            )
        longest = int(self.chosen.config["seq_len"])
        own = [np.flatnonzero(panel.exists[: rows.start, a])[-longest:] for a in range(len(panel.symbols))]
        back = min((int(r[0]) for r in own if len(r)), default=rows.start)
        seen_rows = panel.rows((0, rows.stop))
        forecaster = forecaster_of(self.chosen.config, self.settings)
        forecasts = issue(seen_rows, as_prepared(forecaster, {forecaster.name: self.about["forecaster"]}), Window(back, rows.stop))
        frame = features(seen_rows, self.chosen.features, forecasts if "forecast" in self.chosen.features.blocks else None)
        fold = Fold(Window(0, 0), rows)
        series = make_series(seen_rows, frame, forecasts, fold, self.chosen.config["decode_horizon"], self.normaliser)
        made = decide(self.nets, series, self.chosen, series.tune_places())
        out = np.full((4, *panel.close.shape), np.nan)
        out[:, series.rows[made.places], series.symbol[made.places]] = made.orders
        return Actions(panel.times[rows.start : rows.stop], panel.symbols, *out[:, rows.start : rows.stop])


def export_trial(
    config: Mapping[str, Any], ctx: StepContext, inputs: PolicyInputs, folder: Path, name: str, curve: Sequence[Mapping[str, Any]]
) -> list[Path]:
    """Exports the policy of every fold: into `folder` if there is one fold, else into its folders fold-1, fold-2 and so on.

    Raises:
        CheckpointError: Missing, damaged, or of another configuration or data.
        ExportError: The training diverged, or a folder holds something else.
    """
    chosen = read(config)
    runs = make_runs(chosen, inputs, ctx.seed, "cpu")
    places = [folder if len(runs) == 1 else fold_folder(folder, k) for k in range(len(runs))]
    for k, (run, place) in enumerate(zip(runs, places, strict=True)):
        run.load(fold_folder(ctx.folder, k), weights_only=True)
        if run.diverged:
            raise ExportError(f"{name}: diverged at step {run.step}, so its weights are of no use")
        check_target(place, NAMES, ABOUT)
    return [_write(run, place, f"{name}/fold-{k}", inputs, curve) for k, (run, place) in enumerate(zip(runs, places, strict=True), 1)]


def load_policy(folder: str | Path) -> Policy:
    """Reads an exported policy.

    Raises:
        ExportError: Missing, damaged, or of another version.
    """
    place = Path(folder)
    try:
        about = json.loads((place / ABOUT).read_bytes())
        if about["format"] != FORMAT:
            raise ExportError(f"{place}: format {about['format']}, this version reads {FORMAT}; export it again")
        tensors = read_tensors((place / WEIGHTS).read_bytes())
        normaliser, spec = Normaliser.from_dict(about["normaliser"]), NetSpec.from_dict(about["network"])
        chosen = read(about["config"])
        nets = []
        for i in range(about["networks"]):
            net = make_net(spec, 0)
            net.load_state_dict({key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{i}.")})
            nets.append(net)
        train_end = np.datetime64(about["train_end"].removesuffix("Z"), "ns")
        if not isinstance(about["forecaster"], dict):
            raise TypeError("forecaster is no object")
    except ExportError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ExportError(f"{place}: is no policy that can be read ({type(error).__name__}: {str(error).splitlines()[0]})") from error
    # The configuration says which features are computed; the normaliser, which were learnt from.
    normaliser.spec.require(chosen.features, f"{place}: the policy")
    return Policy(tuple(nets), chosen, normaliser, about["settings"], train_end, about)


def _write(run: TrainRun, place: Path, name: str, inputs: PolicyInputs, curve: Sequence[Mapping[str, Any]]) -> Path:
    nets = run.deciders()
    identity = run.identity()
    about = {
        "format": FORMAT,
        "name": name,
        "config": dict(run.chosen.config),
        "settings": dict(inputs.settings),
        "forecaster": inputs.identity[run.chosen.config["forecaster"]],
        "network": identity["network"],
        "networks": len(nets),
        "features": run.chosen.features.to_dict(),
        "normaliser": run.series.normaliser.to_dict(),
        "train_end": identity["train_end"],
        "data": identity["data"],
        "step": run.step,
        "curve": [{key: None if isinstance(x, float) and not np.isfinite(x) else x for key, x in point.items()} for point in curve],
    }
    tensors = {f"{i}.{key}": value.detach().cpu().contiguous() for i, net in enumerate(nets) for key, value in net.named_parameters()}
    with published(place) as draft:
        (draft / WEIGHTS).write_bytes(tensor_bytes(tensors))
        (draft / ABOUT).write_text(json.dumps(about, indent=1, allow_nan=False) + "\n")
    return place


__all__ = ["Policy", "export_trial", "load_policy"]

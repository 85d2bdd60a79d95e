"""The trading policy as a stepping trainable: trained on a fold's train window, scored by the selector in its tune window (SPEC F, N).

The objective is what the selector makes of the policy's orders with realistic fills, never the training loss: losses of different
names, weights or temperatures are not comparable, and soft fills flatter (SPEC J12).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.metrics import Metric
from trainables.checkpoint import drop_moments
from trainables.contract import Parameter, Prepared, TrainableError
from trainables.features.inputs import check as check_features
from trainables.forecast.identity import identity_of
from trainables.market import Panel, load_market, warnings_of
from trainables.policy.data import PolicyInputs
from trainables.policy.options import METRICS, PARAMETERS, forecaster_of, parse_settings, read
from trainables.selector.options import FILL_RULES_VERSION
from trainables.selector.trainable import traded, windows_of
from trainables.stepping import Report, StepContext
from trainables.timeline import Fold, Protocol, Timeline, Window, cut

if TYPE_CHECKING:
    from trainables.audit.stages import Stage


class PolicyTrainable:
    """Trains networks to trade with a differentiable simulator (SPEC F), and lets the selector trade their orders.

    Settings: `profile` (realistic), `initial_cash`, `model` and `adapter` (of forecaster chronos2).
    """

    name = "policy"
    version = f"1.fills{FILL_RULES_VERSION}"
    fidelity = "epochs"
    parameters: tuple[Parameter, ...] = PARAMETERS
    metrics: tuple[Metric, ...] = METRICS
    objective = "sortino"

    def __init__(self) -> None:
        """Asks for the libraries before anything else does.

        Raises:
            TrainableError: They are not installed.
        """
        if any(find_spec(module) is None for module in ("torch", "safetensors")):
            raise TrainableError("policy needs torch and safetensors: pip install 'alphasweep[chronos]'")

    def prepare(
        self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Protocol | None = None, part: str = "search"
    ) -> Prepared:
        """Loads the market and cuts it; forecasts and features are made, or read, when the first trial asks.

        Raises:
            TrainableError: Unknown or unusable settings, no train windows, or too little data for the protocol.
            MarketError: Bad data.
        """
        parse_settings(settings)  # what is wrong there is said before a large market is read
        panel, problems = load_market(data)
        return replace(self.prepare_panel(panel, settings, protocol, part), warnings=warnings_of(problems))

    def prepare_panel(self, whole: Panel, settings: Mapping[str, Any], protocol: Protocol | None = None, part: str = "search") -> Prepared:
        """Prepares a market that is already in memory; otherwise as `prepare`."""
        chosen = parse_settings(settings)
        whole = whole.select(sorted(whole.symbols))
        timeline = cut(protocol, whole.times, whole.bar_seconds / 3600.0)
        panel, folds = _folds(whole, timeline, part)
        defaults = {p.name: p.default for p in self.parameters}
        identity = identity_of(chosen["model"], "" if chosen["adapter"] == "none" else chosen["adapter"])
        # Weights and rules identify a result, not where they lie.
        rest = {key: value for key, value in chosen.items() if key not in ("model", "adapter")}
        return traded(
            whole,
            panel,
            timeline,
            [fold.tune for fold in folds],
            lambda columns: PolicyInputs(panel, folds, columns, chosen, identity),
            {**rest, "forecasters": identity},
            defaults,
        )

    def check(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Refuses networks, features and windows that cannot be.

        Raises:
            TrainableError: Which key, and why.
        """
        complete = {**{p.name: p.default for p in self.parameters}, **config}
        read(complete)
        forecaster_of(complete, parse_settings(settings))

    def check_data(self, config: Mapping[str, Any], inputs: PolicyInputs) -> None:
        """Refuses features these symbols cannot have, and folds without room for a window to train on, before any work."""
        chosen = read(config)
        if "btc" in chosen.features.blocks or "basket" in chosen.features.blocks:
            check_features(inputs.panel, replace(chosen.features, blocks=("price", *set(chosen.features.blocks) & {"btc", "basket"})), None)
        for k, fold in enumerate(inputs.folds):
            before = inputs.panel.exists[fold.train.start : fold.tune.start].sum(axis=0)
            inside = inputs.panel.exists[fold.train.start : fold.train.stop].sum(axis=0)
            need = int(config["seq_len"])
            if not ((before >= need + chosen.embargo) & (inside >= need)).any():
                raise TrainableError(
                    f"space.seq_len: fold {k + 1} has no room for a window of {need} bars and the {chosen.embargo} kept out before the "
                    "tune window (seq_len and the furthest horizon); give more data, a longer protocol.train, or a smaller seq_len"
                )

    def warm(self, config: Mapping[str, Any], inputs: Any) -> None:
        """Reads every table a trial of a complete configuration needs."""
        inputs.frame(read(config))

    def last_step(self, config: Mapping[str, Any]) -> int:
        """Returns the number of epochs."""
        return int(config["epochs"])

    def evaluate(self, config: Mapping[str, Any], ctx: StepContext) -> Iterator[Report]:
        """Trains on every fold in step, and reports what the selector makes of all of them."""
        from trainables.policy.trial import train_policy

        yield from train_policy(config, ctx, ctx.inputs)

    def trace(self, config: Mapping[str, Any], ctx: StepContext) -> Sequence[Stage]:
        """Shows what the first fold's policy, as the folder's checkpoint has it, decided and earned; see `audit.audit_steps`."""
        from trainables.policy.trial import trace_policy

        return trace_policy(config, ctx, ctx.inputs)

    def export(
        self,
        config: Mapping[str, Any],
        ctx: StepContext,
        folder: Path,
        merged: bool = False,
        name: str = "",
        curve: Sequence[Mapping[str, Any]] = (),
    ) -> list[Path]:
        """Writes the policy of each fold, see `export.load_policy`; `merged` changes nothing, there is no base model."""
        from trainables.policy.export import export_trial

        return export_trial(config, ctx, ctx.inputs, folder, name, curve)

    def prune(self, folder: Path) -> None:
        """Drops the optimiser's moments of every fold, two thirds of what a trial leaves; the networks stay."""
        for place in sorted(folder.glob("fold-*")):
            drop_moments(place)


def _folds(panel: Panel, timeline: Timeline, part: str) -> tuple[Panel, tuple[Fold, ...]]:
    """Returns what may be seen, and the folds in it; for the holdout, one trained like the last fold up to the embargo."""
    if any(fold.train.stop <= fold.train.start for fold in timeline.folds):
        raise TrainableError("protocol: policy trains, so every fold needs a train window")
    seen, windows = windows_of(panel, timeline, part)
    if part == "search":
        return seen, timeline.folds
    last, end = timeline.folds[-1].train, timeline.visible.stop
    start = 0 if last.start == 0 else max(0, end - (last.stop - last.start))
    return seen, (Fold(Window(start, end), windows[0]),)

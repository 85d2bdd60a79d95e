"""The selector tried in many scenarios, and ranked by how it fares in the bad ones (SPEC H.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from results.metrics import periods_per_year
from trainables.contract import Context, Evaluation, Parameter, Prepared, TrainableError, nearest
from trainables.market import Panel
from trainables.selector import scenarios
from trainables.selector.inputs import SelectorInputs
from trainables.selector.options import COLUMN, PARAMETERS, encode
from trainables.selector.robust import ROBUST_METRICS, Outcomes, outcomes, robust_metrics
from trainables.selector.scenarios import ScenarioSettings, Starts
from trainables.selector.simulate import simulate_sums
from trainables.selector.summary import METRICS
from trainables.selector.trainable import SETTING_NAMES, SelectorTrainable
from trainables.timeline import Protocol

if TYPE_CHECKING:
    from trainables.audit.stages import Stage

SCENARIO_RULES_VERSION = 1


@dataclass(frozen=True, eq=False)
class _Inputs:
    """The selector's inputs, and where in each of its parts the scenarios begin."""

    selector: Any
    starts: tuple[Starts, ...]
    settings: ScenarioSettings


class RobustSelector:
    """All that `selector` measures, and the same configuration in every scenario: fold × window × start × extra lag × cost.

    Settings: the selector's, and those of `scenarios.ScenarioSettings`. Windows end where the folds' tune windows end, so no scenario
    sees more than a search may see. Scenarios share the folds' arrays, and at one lag and cost the candidates.
    """

    name = "selector_robust"
    version = f"{SelectorTrainable.version}.scenarios{SCENARIO_RULES_VERSION}"
    parameters: tuple[Parameter, ...] = PARAMETERS
    metrics = (*ROBUST_METRICS, *METRICS)
    objective = "selection_score"

    def __init__(self) -> None:
        self._selector = SelectorTrainable()

    def prepare(
        self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Protocol | None = None, part: str = "search"
    ) -> Prepared:
        """Prepares the selector, and places the scenarios.

        Raises:
            TrainableError: Unknown or unusable settings, too little data for the protocol, or a window longer than a tune window.
            MarketError: Bad data.
        """
        chosen, rest = _split(settings)
        return _with_scenarios(self._selector.prepare(data, rest, protocol, part), chosen, protocol, part)

    def prepare_panel(self, whole: Panel, settings: Mapping[str, Any], protocol: Protocol | None = None, part: str = "search") -> Prepared:
        """Prepares a market that is already in memory; otherwise as `prepare`."""
        chosen, rest = _split(settings)
        return _with_scenarios(self._selector.prepare_panel(whole, rest, protocol, part), chosen, protocol, part)

    def check(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Refuses what cannot be simulated under these settings.

        Raises:
            TrainableError: Which key, and why.
        """
        self._selector.check(config, _split(settings)[1])

    def trace(self, config: Mapping[str, Any], ctx: Context) -> Sequence[Stage]:
        """Shows what the selector saw, decided and earned; every scenario runs the same kernel over the same arrays."""
        return self._selector.trace(config, replace(ctx, inputs=ctx.inputs.selector))

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], ctx: Context) -> Evaluation:
        """Simulates complete configurations over the folds, and in every scenario."""
        inputs: _Inputs = ctx.inputs
        made = self._selector.evaluate_pack(configs, replace(ctx, inputs=inputs.selector))
        table = encode(configs, inputs.selector.profile)
        by_lag = [
            Outcomes.concatenate([_outcomes(inputs, table, lag, cost) for cost in inputs.settings.cost_multipliers])
            for lag in inputs.settings.extra_lags
        ]
        robust = robust_metrics(by_lag, len(table), inputs.settings.require_all_positive)
        columns = robust | {str(name): made.metrics[name].to_numpy() for name in made.metrics}
        return Evaluation(pd.DataFrame(columns, columns=[metric.name for metric in self.metrics]), made.returns)


def _outcomes(inputs: _Inputs, table: np.ndarray, extra_lag: int, cost_multiplier: float) -> Outcomes:
    """Runs the scenarios of every fold at one lag and cost."""
    changed = table.copy()
    changed[:, COLUMN["lag"]] += extra_lag
    changed[:, COLUMN["cost_multiplier"]] *= cost_multiplier
    selector = inputs.selector
    return Outcomes.concatenate(
        [
            outcomes(
                simulate_sums(part, changed, selector.profile, selector.initial_cash, starts=there.starts)[0],
                there.bars,
                periods_per_year(part.panel.bar_seconds),
                selector.initial_cash,
            )
            for part, there in zip(selector.parts, inputs.starts, strict=True)
        ]
    )


def _with_scenarios(prepared: Prepared, settings: ScenarioSettings, protocol: Protocol | None, part: str) -> Prepared:
    """Adds the scenarios to what the selector prepared."""
    parts: tuple[SelectorInputs, ...] = prepared.inputs.parts
    if part == "search" and protocol is not None:
        _check_windows(parts, settings.windows)
    starts = tuple(scenarios.starts_of(one, settings.windows, settings.starts) for one in parts)
    count = sum(len(there.starts) for there in starts) * len(settings.extra_lags) * len(settings.cost_multipliers)
    used = [f"{length:g}h" for length in settings.windows if any(scenarios.fits(one, length) for one in parts)]
    axes = [f"the last {', '.join(used)} of {len(parts)} window{'s' if len(parts) > 1 else ''}"]
    axes.append("flat and each symbol" if settings.starts == "each" else "flat")
    axes += [f"{values} {what}" for values, what in _axes(settings)]
    text = f"{count:,}: {' × '.join(axes)}" if used else "none: every window is longer than the time there is"
    return replace(
        prepared,
        inputs=_Inputs(prepared.inputs, starts, settings),
        protocol={**prepared.protocol, "scenarios": settings.describe()},
        summary=(*prepared.summary, ("scenarios", text)),
    )


def _axes(settings: ScenarioSettings) -> list[tuple[str, str]]:
    """Returns the axes of lag and cost that have more than one value or another than the configuration's own."""
    axes = [(settings.extra_lags, "extra bars of lag", (0,)), (settings.cost_multipliers, "times the costs", (1.0,))]
    return [(", ".join(f"{value:g}" for value in values), what) for values, what, plain in axes if values != plain]


def _check_windows(parts: Sequence[SelectorInputs], windows: Sequence[float]) -> None:
    shortest = min(parts, key=scenarios.covered)
    for length in windows:
        if length < 2.0 * shortest.bar_hours:
            raise TrainableError(f"settings.windows: {length:g}h is shorter than two bars of {shortest.bar_hours:g}h; give longer windows")
        if not scenarios.fits(shortest, length):
            room = scenarios.covered(shortest)
            raise TrainableError(
                f"settings.windows: {length:g}h is longer than a tune window, which covers {room:g}h here ({len(parts)} fold"
                f"{'s' if len(parts) > 1 else ''}). Give fewer folds, more bars (data.bars), a shorter holdout, or shorter windows."
            )


def _split(settings: Mapping[str, Any]) -> tuple[ScenarioSettings, dict[str, Any]]:
    """Returns the settings of the scenarios and those of the selector.

    Raises:
        TrainableError: A key of neither, a value that is not allowed, or a profile that has no start states.
    """
    known = (*SETTING_NAMES, *scenarios.NAMES)
    for key in settings:
        if key not in known:
            hint = nearest(key, known) or "known: " + ", ".join(sorted(known))
            raise TrainableError(f"settings.{key}: selector_robust has no such setting; {hint}")
    if settings.get("profile") == "legacy":
        raise TrainableError("settings.profile: selector_robust needs realistic; legacy has no start states (trainable selector runs it)")
    return ScenarioSettings.parse(settings), {key: value for key, value in settings.items() if key in SETTING_NAMES}

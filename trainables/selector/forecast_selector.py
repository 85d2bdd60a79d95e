"""The selector over forecasts that are swept with it: which forecaster, what it sees, how far ahead it looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from results.metrics import Metric
from trainables.chronos2.model import located
from trainables.chronos2.preaug import PREAUGS
from trainables.chronos2.tasks import COVARIATES, LEAST_CONTEXT, NAMED
from trainables.contract import Context, Evaluation, Parameter, Prepared, TrainableError
from trainables.forecast import HORIZONS, MINIMUM, Forecaster, Forecasts, issue, make_forecaster
from trainables.forecast.forecaster import FORECASTERS
from trainables.forecast.identity import as_prepared, identity_of
from trainables.market import Panel, load_market, warnings_of
from trainables.selector.inputs import SelectorInputs
from trainables.selector.options import FILL_RULES_VERSION, PARAMETERS, encode, profile_defaults
from trainables.selector.summary import METRICS
from trainables.selector.trainable import LOGITS, decided, parse_settings, score, traded, windows_of
from trainables.timeline import Protocol, Window, cut

if TYPE_CHECKING:
    from trainables.audit.stages import Stage

# What of a configuration is the forecaster's; the rest is the selector's.
FORECAST_PARAMETERS: tuple[Parameter, ...] = (
    Parameter("forecaster", "chronos2", "choice", choices=FORECASTERS, doc="who forecasts"),
    Parameter("window", 168, "int", MINIMUM, 1_000_000, unit="bars", doc="past behaviour it knows (forecaster empirical)"),
    Parameter("context", 256, "int", LEAST_CONTEXT, 65_536, unit="bars", doc="bars the model sees (forecaster chronos2)"),
    Parameter("preaug", "baseline", "choice", choices=tuple(PREAUGS), doc="what is done to prices first (forecaster chronos2)"),
    Parameter("covariates", "none", "choice", choices=tuple(COVARIATES), doc="past covariates (forecaster chronos2)"),
    Parameter("grouping", "none", "choice", choices=NAMED, doc="symbols forecast together (forecaster chronos2)"),
    Parameter("horizon", 1, "int", min(HORIZONS), max(HORIZONS), unit="bars", doc="how far ahead the forecast behind an order looks"),
)
_OWN = tuple(p.name for p in FORECAST_PARAMETERS)
_FORECASTERS_OWN = tuple(name for name in _OWN if name != "horizon")
_SETTINGS = (
    Parameter("profile", "realistic", "choice", choices=("realistic",)),
    Parameter("initial_cash", 10_000.0, "float", 0.01, 1e15),
    Parameter("model", "small", "text"),
    Parameter("adapter", "none", "text"),
)
HEURISTIC_SHARE = Metric("heuristic_share", None, "fraction", "Share of the forecasts behind orders that the plausibility guard replaced")
KEPT_FORECASTS, KEPT_PARTS = 32, 8  # a worker keeps at hand; forecasts are views of shared memory, parts hold 300 bytes a bar


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What workers get: bars, and how to get forecasts of them."""

    panel: Panel
    windows: tuple[Window, ...]
    columns: tuple[np.ndarray, ...]
    settings: Mapping[str, Any]
    identity: Mapping[str, Any]
    # Not passed on by `replace`: they are of this panel.
    _forecasts: dict[tuple[Any, ...], Forecasts] = field(default_factory=dict, init=False)
    _parts: dict[tuple[Any, ...], tuple[SelectorInputs, ...]] = field(default_factory=dict, init=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what can be read again."""
        return {**self.__dict__, "_forecasts": {}, "_parts": {}}

    def forecasts(self, config: Mapping[str, Any], device: str) -> Forecasts:
        """Returns a configuration's forecasts, of all horizons."""
        key = tuple(config[name] for name in _FORECASTERS_OWN)
        if key not in self._forecasts:
            forecaster = as_prepared(forecaster_of(config, self.settings, device), self.identity)
            _remember(self._forecasts, key, issue(self.panel, forecaster, self.windows), KEPT_FORECASTS)
        return self._forecasts[key]

    def parts(self, config: Mapping[str, Any], device: str = "cpu") -> tuple[SelectorInputs, ...]:
        """Returns the selector's arrays for a configuration's forecasts, one for each window."""
        key = tuple(config[name] for name in _OWN)
        if key not in self._parts:
            orders = decided(self.panel, self.forecasts(config, device), self.settings["logits"], horizon=config["horizon"])
            made = [SelectorInputs(self.panel.rows(w), np.ascontiguousarray(orders[:, w.start : w.stop])) for w in self.windows]
            _remember(self._parts, key, tuple(made), KEPT_PARTS)
        return self._parts[key]

    def heuristic_share(self, config: Mapping[str, Any], device: str) -> float:
        """Returns the share of the forecasts behind orders that the plausibility guard replaced; NaN without any."""
        forecasts, horizon = self.forecasts(config, device), config["horizon"]
        there, replaced = np.isfinite(forecasts.p50("close", horizon)), forecasts.heuristic(horizon)
        return float(replaced[there].mean()) if there.any() else math.nan


def _remember(kept: dict[tuple[Any, ...], Any], key: tuple[Any, ...], value: Any, most: int) -> None:
    if len(kept) >= most:
        del kept[next(iter(kept))]
    kept[key] = value


class ForecastSelector:
    """Back-tests selector configurations on forecasts that many of them share, by the rules of docs/fills.md.

    Forecasts are derived tables (`trainables.tables`): issued for the tune windows, or the holdout, from all bars before.

    Settings: `profile` (realistic), `initial_cash`, `logits` (four numbers, SPEC F.4), `model` and `adapter` (of chronos2).
    """

    name = "selector_forecast"
    version = f"1.fills{FILL_RULES_VERSION}"
    parameters: tuple[Parameter, ...] = (*FORECAST_PARAMETERS, *PARAMETERS)
    metrics = (*METRICS, HEURISTIC_SHARE)
    objective = "sortino"

    def prepare(
        self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Protocol | None = None, part: str = "search"
    ) -> Prepared:
        """Loads the market and cuts it; forecasts are made, or read, when the first configuration asks.

        Raises:
            TrainableError: Unknown or unusable settings, or too little data for the protocol.
            MarketError: Bad data.
        """
        _settings(settings)  # what is wrong there is said before a large market is read
        panel, problems = load_market(data)
        return replace(self.prepare_panel(panel, settings, protocol, part), warnings=warnings_of(problems))

    def prepare_panel(self, whole: Panel, settings: Mapping[str, Any], protocol: Protocol | None = None, part: str = "search") -> Prepared:
        """Prepares a market that is already in memory; otherwise as `prepare`."""
        chosen = _settings(settings)
        whole = whole.select(sorted(whole.symbols))
        timeline = cut(protocol, whole.times, whole.bar_seconds / 3600.0)
        panel, windows = windows_of(whole, timeline, part)
        defaults = {**profile_defaults(chosen["profile"]), **{p.name: p.default for p in FORECAST_PARAMETERS}}
        identity = identity_of(chosen["model"], "" if chosen["adapter"] == "none" else chosen["adapter"])
        # Weights and rules identify a result, not where they lie.
        rest = {key: value for key, value in chosen.items() if key not in ("model", "adapter")}
        return traded(
            whole,
            panel,
            timeline,
            windows,
            lambda columns: _Inputs(panel, windows, columns, chosen, identity),
            {**rest, "logits": list(chosen["logits"]), "forecasters": identity},
            defaults,
        )

    def check(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Refuses what the forecaster or the simulator cannot do.

        Raises:
            TrainableError: Which key, and why.
        """
        chosen = _settings(settings)
        complete = {**profile_defaults(chosen["profile"]), **{p.name: p.default for p in FORECAST_PARAMETERS}, **config}
        if complete["horizon"] not in HORIZONS:
            raise TrainableError(f"horizon: {complete['horizon']} is not allowed; give one of {', '.join(map(str, HORIZONS))}")
        forecaster_of(complete, chosen)
        encode([_selector_part(complete)], chosen["profile"])

    def trace(self, config: Mapping[str, Any], ctx: Context) -> Sequence[Stage]:
        """Shows what a complete configuration saw, decided and earned in its first window; see `trainables.audit`."""
        from trainables.audit.selector import selector_stages

        inputs: _Inputs = ctx.inputs
        chosen = inputs.settings
        return selector_stages(inputs.parts(config)[0], _selector_part(config), chosen["profile"], chosen["initial_cash"])

    def warm(self, config: Mapping[str, Any], inputs: Any) -> None:
        """Reads every table an evaluation of a complete configuration needs."""
        inputs.parts(config, "auto")

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], ctx: Context) -> Evaluation:
        """Simulates complete configurations, those of the same forecasts together; every fold starts flat with the initial cash."""
        inputs: _Inputs = ctx.inputs
        together: dict[tuple[Any, ...], list[int]] = {}
        for i, config in enumerate(configs):
            together.setdefault(tuple(config[name] for name in _OWN), []).append(i)
        made = []
        for rows in together.values():
            table = encode([_selector_part(configs[i]) for i in rows], inputs.settings["profile"])
            config = configs[rows[0]]
            metrics, returns = score(
                inputs.parts(config, ctx.device), inputs.columns, table, inputs.settings["profile"], inputs.settings["initial_cash"]
            )
            made.append((metrics.assign(heuristic_share=inputs.heuristic_share(config, ctx.device)), returns))
        back = np.argsort(np.concatenate(list(together.values())))
        metrics = pd.concat([metrics for metrics, _ in made], ignore_index=True)
        return Evaluation(metrics.iloc[back].reset_index(drop=True), np.concatenate([returns for _, returns in made])[back])


def forecaster_of(config: Mapping[str, Any], settings: Mapping[str, Any], device: str = "cpu") -> Forecaster:
    """Returns the forecaster of a complete configuration."""
    name = config["forecaster"]
    spec: dict[str, Any] = {"forecaster": name}
    if name == "empirical":
        spec["window"] = config["window"]
    elif name == "chronos2":
        spec |= {key: config[key] for key in ("context", "preaug", "covariates", "grouping")} | {
            "model": settings["model"],
            "device": device,
        }
        if settings["adapter"] != "none":
            spec["adapter"] = settings["adapter"]
    return make_forecaster(spec)


def _selector_part(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _OWN}


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    chosen = parse_settings(given, _SETTINGS, LOGITS)
    # Workers have folders of their own.
    return {**chosen, "model": located(chosen["model"]), "adapter": located(chosen["adapter"])}

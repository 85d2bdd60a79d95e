"""Chronos-2 from fine-tune to trades in one search: tune (LoRA) → forecasts (derived tables) → trade (the selector).

Each fold trades on the forecasts of its own fine-tune, trained on its own train window. What makes a good fine-tune is then what
makes money, not what predicts well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from trainables.checkpoint import fold_folder
from trainables.chronos2.export import read_metadata
from trainables.chronos2.trainable import ChronosLora, TuneInputs
from trainables.contract import Context, Evaluation, Parameter, Prepared, TrainableError, nearest
from trainables.forecast import HORIZONS, Forecasts, issue, make_forecaster
from trainables.market import Panel, load_market
from trainables.pipeline.pipeline import Pipeline
from trainables.selector.forecast_selector import FORECAST_PARAMETERS, HEURISTIC_SHARE, ForecastSelector
from trainables.selector.inputs import SelectorInputs
from trainables.selector.options import PARAMETERS, encode, profile_defaults
from trainables.selector.summary import METRICS
from trainables.selector.trainable import decided, score
from trainables.stepping import StepContext
from trainables.timeline import Protocol, Window

if TYPE_CHECKING:
    from trainables.audit.stages import Stage as Seen

ADAPTERS: Final = "adapters"  # in the output of tune: what `alphasweep export` would write
KEPT: Final = 16  # sets of forecasts, and of the selector's arrays, that a worker keeps at hand
_TUNE_SETTINGS: Final = ("model", "origins", "score")
_TRADE_SETTINGS: Final = ("model", "profile", "initial_cash", "logits")
_FORECASTS: Final = ("context", "grouping")
_OWN: Final = (*_FORECASTS, "horizon")
_AT_THE_END: Final = 1_000_000  # steps between reports: nobody stops a stage early, so only the last one is scored


@dataclass(frozen=True, eq=False)
class ChronosInputs:
    """What the stages see.

    Attributes:
        tune: What fine-tunes are given.
        panel: Every bar that may be seen.
        windows: Rows that are traded in, one window for each fold.
        columns: The day each row's equity counts for, a line for each window.
        settings: Of the study.
    """

    tune: TuneInputs
    panel: Panel
    windows: tuple[Window, ...]
    columns: tuple[np.ndarray, ...]
    settings: Mapping[str, Any]
    kept: dict[tuple[Any, ...], Any] = field(default_factory=dict, init=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what can be read again."""
        return {**self.__dict__, "kept": {}}


class Tune:
    """Fine-tunes Chronos-2 on the train window of every fold, as `chronos_lora` does; its output is the adapters."""

    name = "tune"
    version = ChronosLora.version
    parameters: tuple[Parameter, ...] = ChronosLora.parameters
    concerns = ("tune",)  # an adapter does not follow from what trades with it

    def check(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Refuses what the model cannot take."""
        ChronosLora().check(config, _tune_settings(_settings(settings)))

    def check_data(self, config: Mapping[str, Any], inputs: ChronosInputs) -> None:
        """Refuses what the bars do not suffice for."""
        ChronosLora().check_data(config, inputs.tune)

    def run(self, config: Mapping[str, Any], upstream: Path | None, out: Path, ctx: Context) -> None:
        """Trains to the last step and exports."""
        lora = ChronosLora()
        with TemporaryDirectory(prefix="alphasweep-tune-") as work:
            step = StepContext(ctx.inputs.tune, Path(work), 0, ctx.seed, ctx.device)
            reports = list(lora.evaluate(config, step))
            curve = [{"step": report.step, **report.metrics} for report in reports]
            lora.export(config, replace(step, reached=reports[-1].step), out / ADAPTERS, name="tune", curve=curve)


class Trade:
    """Back-tests selector configurations on the forecasts of fine-tunes, which see what they were trained with."""

    name = "trade"
    version = ForecastSelector.version
    # Preaug and covariates are those of the fine-tune: an adapter is of no use with others.
    parameters: tuple[Parameter, ...] = (*(p for p in FORECAST_PARAMETERS if p.name in _OWN), *PARAMETERS)
    metrics = (*METRICS, HEURISTIC_SHARE)
    objective = ForecastSelector.objective
    together = _FORECASTS

    def check(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Refuses what the forecaster or the simulator cannot do."""
        chosen = _settings(settings)
        own = {p.name: p.default for p in self.parameters if p.name in _OWN} | {k: v for k, v in config.items() if k in _OWN}
        if own["horizon"] not in HORIZONS:
            raise TrainableError(f"horizon: {own['horizon']} is not allowed; give one of {', '.join(map(str, HORIZONS))}")
        make_forecaster({"forecaster": "chronos2", "model": chosen["model"], **{key: own[key] for key in _FORECASTS}})
        encode([{**profile_defaults(chosen["profile"]), **_selector(config)}], chosen["profile"])

    def warm(self, config: Mapping[str, Any], upstream: Path, ctx: Context) -> None:
        """Reads every table an evaluation needs."""
        _forecasts(config, upstream, ctx)

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], upstream: Path | None, ctx: Context) -> Evaluation:
        """Simulates configurations, those of the same forecasts together; every fold starts flat with the initial cash."""
        inputs: ChronosInputs = ctx.inputs
        assert upstream is not None
        together: dict[tuple[Any, ...], list[int]] = {}
        for i, config in enumerate(configs):
            together.setdefault(tuple(config[name] for name in _OWN), []).append(i)
        made = []
        for rows in together.values():
            first, profile = configs[rows[0]], inputs.settings["profile"]
            table = encode([_selector(configs[i]) for i in rows], profile)
            metrics, returns = score(_parts(first, upstream, ctx), inputs.columns, table, profile, inputs.settings["initial_cash"])
            made.append((metrics.assign(**{HEURISTIC_SHARE.name: _replaced(first, upstream, ctx)}), returns))
        back = np.argsort(np.concatenate(list(together.values())))
        metrics = pd.concat([metrics for metrics, _ in made], ignore_index=True)
        return Evaluation(metrics.iloc[back].reset_index(drop=True), np.concatenate([returns for _, returns in made])[back])


class ChronosPipeline(Pipeline):
    """Searches fine-tunes of Chronos-2 and the trading of their forecasts together.

    Settings: `model` (small, a directory or a hub id), `logits` (four numbers, SPEC F.4), `initial_cash`, `profile` (realistic); `origins`
    and `score`, by which a finished fine-tune is scored for the record.
    """

    name = "chronos_pipeline"
    version = f"{Tune.version}.{Trade.version}"
    stages = (Tune(),)
    last = Trade()

    def load(self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Protocol | None, part: str) -> Prepared:
        """Checks the model, loads the market, cuts it."""
        chosen = _settings(settings)
        tuned = ChronosLora().prepare(data, _tune_settings(chosen), protocol, part)
        traded = ForecastSelector().prepare_panel(
            load_market(data)[0], {key: chosen[key] for key in _TRADE_SETTINGS if key in chosen}, protocol, part
        )
        seen = traded.inputs
        tune = replace(tuned.inputs, panel=seen.panel)  # equal, and one of them less
        defaults = {f"{Trade.name}_{key}": value for key, value in traded.defaults.items()}
        names = {f"{Trade.name}_{p.name}" for p in Trade.parameters}
        return replace(
            traded,
            inputs=ChronosInputs(tune, seen.panel, seen.windows, seen.columns, seen.settings),
            protocol={**{k: v for k, v in traded.protocol.items() if k != "forecasters"}, "tune": tuned.protocol},
            defaults={name: value for name, value in defaults.items() if name in names},
            summary=(*traded.summary, *(line for line in tuned.summary if line[0] == "model")),
            warnings=tuned.warnings,
        )

    def trace(self, config: Mapping[str, Any], ctx: Context) -> Sequence[Seen]:
        """Shows what a complete configuration saw, decided and earned in its first window; see `trainables.audit`."""
        from trainables.audit.selector import selector_stages

        upstream, inner = self.upstream(config, ctx), replace(ctx, inputs=ctx.inputs.own)
        own = {p.name: config[f"{Trade.name}_{p.name}"] for p in Trade.parameters}
        settings = inner.inputs.settings
        assert upstream is not None
        return selector_stages(_parts(own, upstream, inner)[0], _selector(own), settings["profile"], settings["initial_cash"])


def _forecasts(config: Mapping[str, Any], upstream: Path, ctx: Context) -> tuple[Forecasts, ...]:
    """Returns the forecasts of each window by the fine-tune of its fold, of all horizons."""
    inputs: ChronosInputs = ctx.inputs

    def make() -> tuple[Forecasts, ...]:
        made = []
        for k, window in enumerate(inputs.windows):
            adapter = upstream / ADAPTERS if len(inputs.windows) == 1 else fold_folder(upstream / ADAPTERS, k)
            trained = read_metadata(adapter)
            spec = {key: config[key] for key in _FORECASTS} | {key: trained[key] for key in ("preaug", "covariates")}
            spec |= {"forecaster": "chronos2", "model": inputs.settings["model"], "adapter": str(adapter), "device": ctx.device}
            made.append(issue(inputs.panel, make_forecaster(spec), (window,)))
        return tuple(made)

    return _kept(inputs, (upstream, *(config[name] for name in _FORECASTS)), make)


def _parts(config: Mapping[str, Any], upstream: Path, ctx: Context) -> tuple[SelectorInputs, ...]:
    """Returns the selector's arrays, for each window."""
    inputs: ChronosInputs = ctx.inputs

    def make() -> tuple[SelectorInputs, ...]:
        made = []
        for window, forecasts in zip(inputs.windows, _forecasts(config, upstream, ctx), strict=True):
            orders = decided(inputs.panel, forecasts, inputs.settings["logits"], horizon=config["horizon"])
            made.append(SelectorInputs(inputs.panel.rows(window), np.ascontiguousarray(orders[:, window.start : window.stop])))
        return tuple(made)

    return _kept(inputs, (upstream, *(config[name] for name in _OWN)), make)


def _replaced(config: Mapping[str, Any], upstream: Path, ctx: Context) -> float:
    """Returns the share of the forecasts behind orders that the plausibility guard replaced; NaN without any."""
    every = _forecasts(config, upstream, ctx)
    there = [np.isfinite(one.p50("close", config["horizon"])) for one in every]
    replaced = [one.heuristic(config["horizon"])[has] for one, has in zip(every, there, strict=True)]
    found = np.concatenate(replaced)
    return float(found.mean()) if len(found) else math.nan


def _kept(inputs: ChronosInputs, key: tuple[Any, ...], make: Any) -> Any:
    if key not in inputs.kept:
        value = make()
        if len(inputs.kept) >= 2 * KEPT:
            del inputs.kept[next(iter(inputs.kept))]
        inputs.kept[key] = value
    return inputs.kept[key]


def _selector(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _OWN}


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    known = dict.fromkeys([*_TUNE_SETTINGS, *_TRADE_SETTINGS])
    for key in given:
        if key not in known:
            hint = nearest(key, known) or "known: " + ", ".join(known)
            raise TrainableError(f"settings.{key}: chronos_pipeline has no such setting; {hint}")
    return {"model": "small", "profile": "realistic", **given}


def _tune_settings(chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {key: chosen[key] for key in _TUNE_SETTINGS if key in chosen} | {"eval_every": _AT_THE_END}


__all__ = ["ChronosPipeline"]

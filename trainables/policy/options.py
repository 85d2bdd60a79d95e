"""The policy trainable's parameters, settings and metrics, and what they make: networks, losses, features, forecasters (SPEC F, N)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from results.metrics import Metric
from trainables.chronos2.model import located
from trainables.contract import Parameter, TrainableError, nearest
from trainables.features import FeatureSpec
from trainables.forecast import HORIZONS, MINIMUM, Forecaster, make_forecaster
from trainables.forecast.forecaster import FORECASTERS
from trainables.policy.net_spec import ACTIVATIONS, ARCHITECTURES, NetSpec
from trainables.selector.options import PARAMETERS as SELECTOR_PARAMETERS
from trainables.selector.options import profile_defaults
from trainables.selector.summary import METRICS as SELECTOR_METRICS

MODES: Final = ("midpoint", "offset")
SCHEDULES: Final = ("constant", "linear", "cosine")
RANKS: Final = ("amount", "forecast")
LOSS_NAMES: Final = ("sortino", "sharpe", "calmar", "sortino_drawdown", "return", "log_wealth")
BLOCKS: Final = ("volume", "calendar", "trend", "volatility", "interactions", "btc", "basket")  # those a study switches
HORIZON_SETS: Final = ("none", *(",".join(map(str, s)) for n in range(1, len(HORIZONS) + 1) for s in combinations(HORIZONS, n)))
# Of the selector's parameters, those that mean something for a policy; the others keep the values of the realistic profile.
SELECTOR_NAMES: Final = (
    *("intensity", "offset", "min_edge", "risk_weight", "edge_mode", "max_hold", "max_positions", "lag", "fill_buffer", "fill"),
    *("touch_fraction", "max_volume_fraction", "allow_short", "leverage", "margin_rate", "borrow_rate", "close_at_eod", "market_hours"),
    *("slippage", "cost_multiplier", "cash_buffer"),
)

NETWORK: Final = (
    Parameter("arch", "nano", "choice", choices=ARCHITECTURES, doc="kind of network"),
    Parameter("dim", 32, "int", 4, 4096, doc="width"),
    Parameter("layers", 2, "int", 1, 64, doc="blocks"),
    Parameter("heads", 4, "int", 1, 64, doc="query heads (arch nano, classic)"),
    Parameter("kv_heads", 0, "int", 0, 64, doc="key and value heads; 0 is half of heads for nano, all for classic"),
    Parameter("attention_window", 0, "int", 0, 100_000, unit="bars", doc="bars a step sees; 0 is all (mlp: 8)"),
    Parameter("memory", 0, "int", 0, 1024, doc="learnable tokens before the first bar (arch nano, classic)"),
    Parameter("activation", "relu2", "choice", choices=ACTIVATIONS, doc="of the feed-forward layers"),
    Parameter("dropout", 0.1, "float", 0.0, 0.9, unit="fraction", doc="share of activations dropped in training"),
)
INPUT: Final = (
    Parameter("seq_len", 48, "int", 4, 4096, unit="bars", doc="length of a window, in a symbol's own bars"),
    Parameter("horizons", "1,24", "choice", choices=HORIZON_SETS, doc="forecasts among the features, bars ahead"),
    Parameter("feature_windows", "short", "choice", choices=("short", "hourly"), doc="windows of the features, see docs/features.md"),
    *(Parameter(name, name in ("volume", "calendar", "trend", "volatility"), "bool", doc=f"feature block {name}") for name in BLOCKS),
    Parameter(
        "without", "nothing", "choice", choices=("nothing", *BLOCKS), doc="a block left out all the same: one axis for one at a time"
    ),
    Parameter("forecaster", "empirical", "choice", choices=FORECASTERS, doc="who forecasts"),
    Parameter("context", 168, "int", MINIMUM, 8192, unit="bars", doc="past bars the forecaster sees"),
    Parameter("decode", "midpoint", "choice", choices=MODES, doc="limits between close and forecast extreme, or up to decode_offset off"),
    Parameter("decode_offset", 3e-4, "float", 1e-6, 0.5, unit="fraction", doc="furthest limit from the close (decode offset)"),
    Parameter("decode_horizon", 1, "int", min(HORIZONS), max(HORIZONS), unit="bars", doc="whose forecast low and high bound the limits"),
)
LOSS: Final = (
    Parameter("loss", "log_wealth", "choice", choices=LOSS_NAMES, doc="what training makes large"),
    Parameter("return_weight", 0.08, "float", 0.0, 100.0, doc="weight of the annual return beside the ratio"),
    Parameter("drawdown_weight", 1.0, "float", 0.0, 1000.0, doc="weight of the drawdown (loss sortino_drawdown)"),
    Parameter("smoothness", 0.0, "float", 0.0, 1e6, doc="weight of the mean change of returns between bars"),
    Parameter("loss_windows", "1", "text", doc="trailing shares of the window that are scored, such as 0.25,0.5,1"),
    Parameter("loss_reduce", "mean", "choice", choices=("mean", "min", "softmin"), doc="how the shares' scores become one"),
    Parameter("train_lags", "own", "text", doc="lags the loss is averaged over, such as 1,2; own is the selector's lag alone"),
)
TRAINING: Final = (
    Parameter("epochs", 4, "int", 1, 10_000, doc="epochs; each ends with a checkpoint and a report"),
    Parameter("steps_per_epoch", 150, "int", 1, 1_000_000, unit="steps", doc="optimiser steps"),
    Parameter("batch", 16, "int", 1, 65_536, unit="windows", doc="windows of a step, of all symbols"),
    Parameter("learning_rate", 1e-3, "float", 1e-9, 1.0, doc="peak, of AdamW"),
    Parameter("schedule", "cosine", "choice", choices=SCHEDULES, doc="of the learning rate after the warm-up; to zero at the end"),
    Parameter("warmup", 50, "int", 0, 1_000_000, unit="steps", doc="steps in which the learning rate rises"),
    Parameter("weight_decay", 1e-4, "float", 0.0, 10.0, doc="of AdamW"),
    Parameter("grad_clip", 1.0, "float", 1e-6, 1e6, doc="largest norm of the gradient"),
    Parameter("temperature_start", 0.002, "float", 1e-6, 1.0, unit="fraction", doc="softness of fills in the first epoch"),
    Parameter("temperature_end", 0.0002, "float", 1e-6, 0.005, unit="fraction", doc="and in the last"),
    Parameter("average", 0.0, "float", 0.0, 0.99999, doc="decay of the moving average of weights that decides; 0 is none"),
    Parameter("ensemble", 1, "int", 1, 32, unit="epochs", doc="last epochs whose networks decide together"),
    Parameter("contexts", "own", "text", doc="window lengths that decide together, such as 32,48; own is seq_len alone"),
    Parameter("least_amount", 0.5, "float", 0.0, 1.0, unit="fraction", doc="smaller amounts are no order, in validation and selector"),
    Parameter("rank", "amount", "choice", choices=RANKS, doc="the selector takes the largest buy amount, or the best forecast edge"),
    Parameter("repeat", 0, "int", 0, 1_000_000, doc="replicate: changes nothing but the trial's random numbers"),
)
_SWEPT: Final = tuple(p for p in SELECTOR_PARAMETERS if p.name in SELECTOR_NAMES)
PARAMETERS: Final[tuple[Parameter, ...]] = (*NETWORK, *INPUT, *LOSS, *TRAINING, *_SWEPT)
SETTINGS: Final = {
    p.name: p
    for p in (
        Parameter("profile", "realistic", "choice", choices=("realistic",)),
        Parameter("initial_cash", 10_000.0, "float", 0.01, 1e15),
        Parameter("model", "small", "text", doc="of forecaster chronos2"),
        Parameter("adapter", "none", "text", doc="of forecaster chronos2"),
    )
}
# A policy that has not begun to trade has not diverged, and n/a as an objective would say so.
_SORTINO = Metric("sortino", "max", "ratio", "annualised mean over downside deviation; 0 below 30 losing bars, as where nothing is traded")
METRICS: Final[tuple[Metric, ...]] = (
    *(_SORTINO if metric.name == "sortino" else metric for metric in SELECTOR_METRICS),
    Metric("val_sortino", "max", "ratio", "mean over symbols and folds, each symbol alone with all the money, whole fills"),
    Metric("val_return", "max", "fraction", "mean return of these"),
    Metric("train_loss", None, "ratio", "mean loss of the epoch's steps; not comparable between losses or temperatures"),
)
_PARAMETER_OF: Final = {"window": "attention_window", "memory_tokens": "memory"}  # of a network's fields that a study calls otherwise


@dataclass(frozen=True)
class Chosen:
    """A complete configuration, read once.

    Attributes:
        config: As given.
        features: What the network sees.
        horizons: Every horizon that features or orders need.
        contexts: Window lengths that decide together.
        lags: Lags the loss is averaged over.
        fractions: Trailing shares of a window that are scored.
    """

    config: Mapping[str, Any]
    features: FeatureSpec
    horizons: tuple[int, ...]
    contexts: tuple[int, ...]
    lags: tuple[int, ...]
    fractions: tuple[float, ...]

    @property
    def embargo(self) -> int:
        """Own bars that lie between the last bar trained on and the first that is scored (SPEC F.6)."""
        return int(self.config["seq_len"]) + max(self.horizons)

    def net(self) -> NetSpec:
        """Returns the shape of the network."""
        c = self.config
        return NetSpec(
            arch=c["arch"],
            n_features=len(self.features.columns),
            dim=c["dim"],
            layers=c["layers"],
            heads=c["heads"] if c["arch"] in ("nano", "classic") else 1,
            kv_heads=c["kv_heads"],
            window=c["attention_window"],
            memory_tokens=c["memory"],
            activation=c["activation"],
            dropout=c["dropout"],
            context=c["seq_len"],
        )


def read(config: Mapping[str, Any]) -> Chosen:
    """Reads a complete configuration.

    Raises:
        TrainableError: Names the key, and what is allowed.
    """
    try:
        made = _read(config)
        made.net()
    except TrainableError as error:
        key, colon, rest = str(error).partition(":")
        raise TrainableError(f"space.{_PARAMETER_OF.get(key, key)}{colon}{rest}") from None
    return made


def _read(c: Mapping[str, Any]) -> Chosen:
    if c["horizons"] == "none" and c["interactions"] and c["without"] != "interactions":
        raise TrainableError("interactions: true is not allowed with horizons none; they are made of forecasts")
    if c["decode_horizon"] not in HORIZONS:
        raise TrainableError(f"decode_horizon: {c['decode_horizon']} is not allowed; give one of {', '.join(map(str, HORIZONS))}")
    if c["temperature_end"] > c["temperature_start"]:
        raise TrainableError(f"temperature_end: {c['temperature_end']:g} is above temperature_start ({c['temperature_start']:g})")
    seen = () if c["horizons"] == "none" else tuple(int(h) for h in c["horizons"].split(","))
    contexts = (c["seq_len"],) if c["contexts"] == "own" else _numbers(c, "contexts", 1, c["seq_len"])
    lags = (c["lag"],) if c["train_lags"] == "own" else _numbers(c, "train_lags", 1, c["seq_len"] - 1)
    if c["lag"] < 1 or c["lag"] >= c["seq_len"]:
        raise TrainableError(f"lag: {c['lag']} is not allowed; give 1 to {c['seq_len'] - 1}: a decision at the end of a bar fills later")
    fractions = tuple(_share(c["loss_windows"], text) for text in str(c["loss_windows"]).split(","))
    spec = _features(c, seen)
    return Chosen(c, spec, tuple(sorted({*seen, c["decode_horizon"]})), tuple(sorted(set(contexts))), tuple(sorted(set(lags))), fractions)


def _features(c: Mapping[str, Any], horizons: tuple[int, ...]) -> FeatureSpec:
    on = ["price", *(name for name in BLOCKS if c[name] and name != c["without"]), *(["forecast"] if horizons else [])]
    given: dict[str, Any] = {"preset": c["feature_windows"], "blocks": on}
    if horizons:
        given["horizons"] = list(horizons)
    return FeatureSpec.from_dict(given)


def _numbers(c: Mapping[str, Any], key: str, low: int, high: int) -> tuple[int, ...]:
    whole = Parameter(key, low, "int", low, high)
    try:
        return tuple(int(whole.check(int(text), key)) for text in str(c[key]).split(","))
    except ValueError as error:
        if isinstance(error, TrainableError):
            raise
        raise TrainableError(f"{key}: {c[key]!r} is not allowed; give own, or numbers like {low},{high}") from None


def _share(whole: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value <= 1.0:
        raise TrainableError(f"loss_windows: {whole!r} is not allowed; give shares above 0 and up to 1, such as 0.25,0.5,1")
    return value


def forecaster_of(config: Mapping[str, Any], settings: Mapping[str, Any]) -> Forecaster:
    """Returns the forecaster of a complete configuration; all horizons, so that configurations share its tables."""
    name = config["forecaster"]
    spec: dict[str, Any] = {"forecaster": name}
    if name == "empirical":
        spec["window"] = config["context"]
    elif name == "chronos2":
        spec |= {"context": config["context"], "model": settings["model"]}
        if settings["adapter"] != "none":
            spec["adapter"] = settings["adapter"]
    return make_forecaster(spec)


def selector_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the complete selector configuration that scores a policy."""
    made = {**profile_defaults("realistic"), **{name: config[name] for name in SELECTOR_NAMES}}
    return made | {"edge_mode": "high"} if config["rank"] == "amount" else made


def parse_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns every setting in its canonical type.

    Raises:
        TrainableError: Unknown or unusable, with the nearest spelling.
    """
    for key in given:
        if key not in SETTINGS:
            hint = nearest(key, SETTINGS) or "known: " + ", ".join(sorted(SETTINGS))
            raise TrainableError(f"settings.{key}: policy has no such setting; {hint}")
    chosen = {name: p.check(given.get(name, p.default), f"settings.{name}") for name, p in sorted(SETTINGS.items())}
    # Workers have folders of their own.
    return {**chosen, "model": located(str(chosen["model"])), "adapter": located(str(chosen["adapter"]))}

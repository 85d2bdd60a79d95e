"""LoRA fine-tunes of Chronos-2 as a stepping trainable: trained on a fold's train window, scored on rolling origins of its tune window.

The objective is skill, never the training loss: losses of different pre-augmentations, covariates or horizons are in different
units, while skill compares forecasts in raw prices with a forecaster that needs no model (SPEC C.5, C.7).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from results.metrics import Metric
from trainables.checkpoint import drop_moments
from trainables.chronos2.model import Base, find_base, fingerprint, located
from trainables.chronos2.preaug import PREAUGS
from trainables.chronos2.room import check_reach, check_room, check_windows, most_bars
from trainables.chronos2.tasks import COVARIATES, GROUPINGS
from trainables.contract import Parameter, Prepared, TrainableError, nearest
from trainables.forecast.scores import SCORES
from trainables.market import Panel, load_market, warnings_of
from trainables.stepping import Report, StepContext
from trainables.timeline import Fold, Protocol, Timeline, Window, cut

HORIZONS: Final = (1, 4, 12, 24)  # bars ahead that are scored unless settings.score says otherwise (SPEC C.7)
_SETTINGS: Final = {
    p.name: p
    for p in (
        Parameter("model", "small", "text", doc="small (embedded), a directory, or a hub id such as amazon/chronos-2"),
        Parameter("eval_every", 20, "int", 1, 1_000_000, unit="steps", doc="steps between reports"),
        Parameter("origins", 200, "int", 1, 100_000, doc="issue times per symbol and fold that are scored"),
    )
}


@dataclass(frozen=True, eq=False)
class TuneInputs:
    """What workers get.

    Attributes:
        panel: Every bar that may be seen.
        folds: Train and tune windows.
        model: As in `model.find_base`.
        digest: Fingerprint of the base model.
        eval_every: Steps between reports.
        origins: Issue times per symbol and fold.
        score: Bars ahead that are scored, ascending.
        most: Longest context and farthest horizon of the model, in bars.
    """

    panel: Panel
    folds: tuple[Fold, ...]
    model: str
    digest: str
    eval_every: int
    origins: int
    score: tuple[int, ...]
    most: tuple[int, int]


class ChronosLora:
    """Fine-tunes Chronos-2 with LoRA (SPEC C).

    Settings: `model` (small, a directory or a hub id), `eval_every` (optimiser steps), `origins` (per symbol and fold), `score` (bars
    ahead).
    """

    name = "chronos_lora"
    version = "1"
    fidelity = "optimiser steps"
    parameters: tuple[Parameter, ...] = (
        Parameter("rank", 16, "int", 1, 1024, doc="rank r of the adapters"),
        Parameter("alpha_ratio", 2.0, "float", 0.01, 100.0, unit="×", doc="alpha over rank: how strongly the adapters act"),
        Parameter("dropout", 0.05, "float", 0.0, 0.9, unit="fraction", doc="dropout of the adapters"),
        Parameter("targets", "qkvo", "choice", choices=("qv", "qkvo", "wide"), doc="adapted layers; wide adds MLP and output layer"),
        Parameter("learning_rate", 1e-4, "float", 0.0, 1.0, doc="peak, of AdamW"),
        Parameter("weight_decay", 0.0, "float", 0.0, 10.0, doc="of AdamW"),
        Parameter("schedule", "linear", "choice", choices=("linear", "cosine"), doc="of the learning rate, to zero at the last step"),
        Parameter("warmup", 0.0, "float", 0.0, 0.9, unit="fraction", doc="share of the steps in which the learning rate rises"),
        Parameter("steps", 200, "int", 1, 1_000_000, doc="optimiser steps"),
        Parameter("context", 512, "int", 16, 8192, unit="bars", doc="longest context"),
        Parameter("horizon", 24, "int", 1, 1024, unit="bars", doc="bars predicted, at least as far as settings.score asks"),
        Parameter("batch_rows", 64, "int", 1, 65536, unit="rows", doc="series of a batch, targets and covariates"),
        Parameter("preaug", "baseline", "choice", choices=tuple(PREAUGS), doc="what is done to prices before the model sees them"),
        Parameter("covariates", "none", "choice", choices=tuple(COVARIATES), doc="past covariates from raw prices"),
        Parameter("grouping", "none", "choice", choices=tuple(GROUPINGS), doc="symbols that attend to each other"),
        Parameter("clusters", 3, "int", 1, 1000, doc="most clusters of grouping correlation, per asset class"),
    )
    metrics: tuple[Metric, ...] = (
        SCORES[0],
        Metric("skill_gain", "max", "fraction", "skill minus that of the base model before the first step, with the same inputs"),
        *SCORES[1:],
        Metric("train_loss", None, "ratio", "quantile loss of the last steps, normalised; not comparable between configurations"),
        Metric("steps", None, "count", "optimiser steps done, of each fold"),
    )
    objective = "skill"

    def __init__(self) -> None:
        """Asks for the libraries before anything else does.

        Raises:
            TrainableError: They are not installed.
        """
        if any(find_spec(module) is None for module in ("torch", "chronos", "peft")):
            raise TrainableError("chronos_lora needs torch, chronos-forecasting and peft: pip install 'alphasweep[chronos]'")

    def prepare(
        self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Protocol | None = None, part: str = "search"
    ) -> Prepared:
        """Checks the model, loads the market, cuts it.

        Raises:
            TrainableError: A setting, the model (before any data are read), or too little data for the horizons that are scored.
            MarketError: Bad data.
        """
        chosen = _settings(settings)
        base = find_base(chosen["model"])
        panel, problems = load_market(data)
        panel = panel.select(sorted(panel.symbols))
        timeline = cut(protocol, panel.times, panel.bar_seconds / 3600.0)
        seen, folds = _windows(panel, timeline, part)
        check_windows(seen, folds, max(chosen["score"]))
        digest = fingerprint(chosen["model"])
        most = _most(base)
        size = sum(_count(shape) for _, shape in base.tensors.values())
        day = lambda row: str(timeline.times[row].astype("datetime64[D]"))  # noqa: E731
        span = f"{len(folds)} fold{'s' if len(folds) > 1 else ''}, tuned on {day(folds[0].tune.start)} to {day(folds[-1].tune.stop - 1)}"
        return Prepared(
            inputs=TuneInputs(
                seen, folds, located(chosen["model"]), digest, chosen["eval_every"], chosen["origins"], tuple(chosen["score"]), most
            ),
            fingerprint=panel.fingerprint,
            protocol={**{k: v for k, v in chosen.items() if k != "model"}, "model": digest, "timeline": timeline.describe()},
            defaults={p.name: p.default for p in self.parameters},
            summary=(
                ("market", f"{len(panel.symbols)} symbols × {len(timeline.times):,} bars from {day(0)} ({panel.source})"),
                ("model", f"{chosen['model']}: {size / 1e6:.3g} million parameters, context up to {most[0]:,}"),
                ("protocol", span),
                ("fingerprint", panel.fingerprint),
            ),
            warnings=(*warnings_of(problems), *_holdout_words(panel, timeline.holdout, max(chosen["score"]))),
            timeline=timeline,
        )

    def check(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Refuses what the model cannot take, before any work."""
        chosen = _settings(settings)
        _limited(config, _most(find_base(chosen["model"])), chosen["model"])
        scored = max(chosen["score"])
        check_reach(config.get("horizon", scored), scored)

    def check_data(self, config: Mapping[str, Any], inputs: TuneInputs) -> None:
        """Refuses a horizon that the bars there are do not suffice for, and defaults that the model cannot take, before any work."""
        _limited(config, inputs.most, inputs.model)
        check_room(config, inputs)

    def last_step(self, config: Mapping[str, Any]) -> int:
        """Returns the number of optimiser steps."""
        return int(config["steps"])

    def reports_at(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> Sequence[int]:
        """Returns the multiples of `eval_every`, and the last step."""
        last, every = self.last_step(config), _settings(settings)["eval_every"]
        return [*range(every, last, every), last]

    def evaluate(self, config: Mapping[str, Any], ctx: StepContext) -> Iterator[Report]:
        """Fine-tunes on every fold in step, and reports the pooled scores of all of them."""
        from trainables.chronos2.trial import tune

        yield from tune(config, ctx, ctx.inputs)

    def prune(self, folder: Path) -> None:
        """Drops the optimiser's moments of every fold, two thirds of what a trial leaves; the adapters stay."""
        for place in sorted(folder.glob("fold-*")):
            drop_moments(place)

    def export(
        self,
        config: Mapping[str, Any],
        ctx: StepContext,
        folder: Path,
        merged: bool = False,
        name: str = "",
        curve: Sequence[Mapping[str, Any]] = (),
    ) -> list[Path]:
        """Writes the adapter of each fold, see `trial_export.export_trial`."""
        from trainables.chronos2.trial_export import export_trial

        return export_trial(config, ctx, ctx.inputs, folder, merged, name, curve)


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    for key in given:
        if key not in (*_SETTINGS, "score"):
            hint = nearest(key, [*_SETTINGS, "score"]) or "known: " + ", ".join(sorted([*_SETTINGS, "score"]))
            raise TrainableError(f"settings.{key}: chronos_lora has no such setting; {hint}")
    chosen: dict[str, Any] = {name: p.check(given.get(name, p.default), f"settings.{name}") for name, p in _SETTINGS.items()}
    score = given.get("score", HORIZONS)
    if not isinstance(score, (list, tuple)) or not score:
        raise TrainableError(f"settings.score: {score!r} is not allowed; give a list of bars ahead, for example [1, 4, 12, 24]")
    bars = Parameter("score", 1, "int", 1, 1024)
    chosen["score"] = sorted({int(bars.check(h, f"settings.score[{i}]")) for i, h in enumerate(score)})
    return dict(sorted(chosen.items()))


def _most(base: Base) -> tuple[int, int]:
    """Returns a model's longest context and farthest horizon, bars."""
    limits = base.config["chronos_config"]
    return int(limits["context_length"]), int(limits["max_output_patches"] * limits["output_patch_size"])


def _limited(config: Mapping[str, Any], most: tuple[int, int], model: str) -> None:
    for key, limit in zip(("context", "horizon"), most, strict=True):
        if config.get(key, 0) > limit:
            raise TrainableError(f"space.{key}: {config[key]} is more than the {limit:,} bars of the model {model}")


def _windows(panel: Panel, timeline: Timeline, part: str) -> tuple[Panel, tuple[Fold, ...]]:
    """Returns what may be seen, and the folds in it; for the holdout, one trained like the last fold up to the embargo."""
    if part == "search":
        if any(fold.train.stop <= fold.train.start for fold in timeline.folds):
            raise TrainableError("protocol: chronos_lora trains, so every fold needs a train window")
        return panel.rows(timeline.visible), timeline.folds
    sealed = timeline.holdout
    if sealed.stop <= sealed.start:
        raise TrainableError("protocol.holdout: this study has none, so there is nothing to open")
    last, end = timeline.folds[-1].train, timeline.visible.stop
    start = 0 if last.start == 0 else end - (last.stop - last.start)
    return panel, (Fold(Window(start, end), sealed),)


def _holdout_words(panel: Panel, holdout: Window, scored: int) -> tuple[str, ...]:
    """Returns what to say of a holdout in which nothing could be scored: better now than when a winner is to be promoted."""
    if holdout.stop <= holdout.start or (most := most_bars(panel, holdout)) >= scored:
        return ()
    return (
        f"protocol.holdout: the most bars a symbol has in the holdout are {most}, and forecasts are scored {scored} bars ahead: no "
        "trial can be promoted. Give a longer holdout, or nearer horizons in settings.score.",
    )


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total

"""A pipeline: stages one after another as one packed trainable, each output built once per key however many configurations share it.

The key of an output is the hash of everything it follows from: pipeline and version, stage, version, what the stage's instance holds,
own parameters, the key of the stage before, the data's fingerprint, the protocol, how time was cut, the part of it that may be seen, and
the seed. So a sweep over the last stage never runs the first again, in this study or in another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from results.metrics import Metric
from trainables import outputs
from trainables.contract import Context, Evaluation, Parameter, Prepared, TrainableError
from trainables.pipeline.stage import LastStage, Stage, StageError, held
from trainables.timeline import Protocol


@dataclass(frozen=True, eq=False)
class PipelineInputs:
    """What workers get.

    Attributes:
        own: What `load` gave; stages see it as `ctx.inputs`.
        fingerprint: Of the data.
        protocol: As `load` gave it.
        rest: What else every output follows from: how time was cut, and the part that may be seen.
    """

    own: Any
    fingerprint: str
    protocol: Mapping[str, Any]
    rest: Mapping[str, Any]


@dataclass(frozen=True)
class _Link:
    """A stage with parameters: an output that is there or is to be made."""

    key: str
    stage: Stage
    config: Mapping[str, Any]


class Pipeline:
    """Base of trainables made of stages. Give `name`, `version`, `stages`, `last`, and `load`.

    Parameters are the stages' with the stage's name in front, `tune_rank`; metrics and objective are the last stage's.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    stages: ClassVar[tuple[Stage, ...]] = ()
    last: ClassVar[LastStage]
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    metrics: ClassVar[tuple[Metric, ...]] = ()
    objective: ClassVar[str] = ""
    _held: ClassVar[tuple[Mapping[str, Any], ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not hasattr(cls, "last"):
            return  # a base of somebody's own
        every: tuple[Stage | LastStage, ...] = (*cls.stages, cls.last)
        # Taken once: what a stage puts into itself while it runs is not what its output follows from.
        cls._held = tuple(held(stage, cls.__name__) for stage in cls.stages)
        cls.parameters = tuple(replace(p, name=f"{stage.name}_{p.name}") for stage in every for p in stage.parameters)
        cls.metrics, cls.objective = cls.last.metrics, cls.last.objective
        names = [p.name for p in cls.parameters]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise TrainableError(f"{cls.__name__}: {', '.join(twice)}: two stages have a parameter of this name; rename a stage")

    def load(self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Protocol | None, part: str) -> Prepared:
        """Loads the data, as `Trainable.prepare` does; `defaults` need only what differs from the parameters' own."""
        raise NotImplementedError

    def prepare(
        self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Protocol | None = None, part: str = "search"
    ) -> Prepared:
        """Loads the data and notes what outputs follow from; see `Trainable.prepare`."""
        made = self.load(data, settings, protocol, part)
        cuts = made.timeline.describe() if made.timeline is not None else None
        # A stage of the search must not be given what was made with the holdout in sight: the part is in every key.
        inputs = PipelineInputs(made.inputs, made.fingerprint, made.protocol, {"timeline": cuts, "part": part})
        return replace(made, inputs=inputs, defaults={p.name: p.default for p in self.parameters} | dict(made.defaults))

    def check(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Asks each stage about its own parameters, before any work."""
        for stage in self._all:
            if (ask := getattr(stage, "check", None)) is not None:
                _asked(stage, ask, _own(stage, config), settings)

    def check_data(self, config: Mapping[str, Any], inputs: PipelineInputs) -> None:
        """Asks each stage about its own parameters and the data, before any work."""
        for stage in self._all:
            if (ask := getattr(stage, "check_data", None)) is not None:
                _asked(stage, ask, _own(stage, config), inputs.own)

    def prefixes(self, config: Mapping[str, Any]) -> tuple[Hashable, ...]:
        """Names what a complete configuration shares with others; see `Shares`."""
        shared = [tuple(_own(stage, config).values()) for stage in self.stages]
        if together := getattr(self.last, "together", ()):
            shared.append(tuple(config[f"{self.last.name}_{name}"] for name in together))
        return tuple(shared)

    def keys(self, config: Mapping[str, Any], ctx: Context) -> tuple[str, ...]:
        """Returns the keys of the outputs a complete configuration needs, the first stage's first."""
        return tuple(link.key for link in self._chain(config, ctx))

    def upstream(self, config: Mapping[str, Any], ctx: Context) -> Path | None:
        """Returns the output the last stage begins with, built if need be.

        Raises:
            StageError: A stage failed, here or earlier in the session.
        """
        return self._made(self._chain(config, ctx), ctx)

    def warm(self, config: Mapping[str, Any], inputs: PipelineInputs, seed: int = 0) -> None:
        """Makes every output and reads every table an evaluation of a complete configuration needs; see `contract.Warms`.

        On the CPU, as in a run: what is trained on a card has other weights, and no key tells them apart.
        """
        ctx = Context(inputs, seed)
        above = self.upstream(config, ctx)
        if (ask := getattr(self.last, "warm", None)) is not None:
            ask(_own(self.last, config), above, replace(ctx, inputs=inputs.own))

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], ctx: Context) -> Evaluation:
        """Evaluates complete configurations: first every output that is missing, then those that share one together.

        Raises:
            StageError: A stage failed for one of them at least; nothing is evaluated then.
        """
        together: dict[tuple[str, ...], list[int]] = {}
        chains: dict[tuple[str, ...], tuple[_Link, ...]] = {}
        for i, config in enumerate(configs):
            chain = self._chain(config, ctx)
            keys = tuple(link.key for link in chain)
            chains[keys] = chain
            together.setdefault(keys, []).append(i)
        above, waiting = {}, list(chains)
        while waiting:
            # What somebody else is building comes last: it will be there by then.
            keys = next((keys for keys in waiting if not any(map(outputs.is_building, keys))), waiting[0])
            waiting.remove(keys)
            above[keys] = self._made(chains[keys], ctx)
        inner = replace(ctx, inputs=ctx.inputs.own)
        made = [self.last.evaluate_pack([_own(self.last, configs[i]) for i in rows], above[keys], inner) for keys, rows in together.items()]
        if len(made) == 1:
            return made[0]
        return _in_order(made, np.argsort(np.concatenate(list(together.values()))))

    @property
    def _all(self) -> tuple[Stage | LastStage, ...]:
        return (*self.stages, self.last)

    def _chain(self, config: Mapping[str, Any], ctx: Context) -> tuple[_Link, ...]:
        inputs: PipelineInputs = ctx.inputs
        links: list[_Link] = []
        for stage, state in zip(self.stages, self._held, strict=True):
            concerns = getattr(stage, "concerns", None)
            rules = inputs.protocol if concerns is None else {name: inputs.protocol[name] for name in concerns}
            own, kind = _own(stage, config), type(stage)
            follows = {
                "pipeline": [self.name, self.version],
                "held": state,
                "stage": [f"{kind.__module__}:{kind.__qualname__}", stage.name, stage.version],
                "config": own,
                "above": links[-1].key if links else "",
                "data": inputs.fingerprint,
                "protocol": rules,
                **inputs.rest,
                "seed": ctx.seed,
            }
            text = json.dumps(follows, sort_keys=True, separators=(",", ":"))
            links.append(_Link(blake2b(text.encode(), digest_size=16).hexdigest(), stage, own))
        return tuple(links)

    def _made(self, chain: Sequence[_Link], ctx: Context) -> Path | None:
        """Returns the last output of a chain, asking for each before it in turn."""
        inner, above = replace(ctx, inputs=ctx.inputs.own), None
        for before, link in zip((None, *chain), chain, strict=False):
            about = {**link.config, "above": before.key if before else ""}
            above = self._output(link, above, inner, about)
        return above

    def _output(self, link: _Link, above: Path | None, ctx: Context, about: Mapping[str, Any]) -> Path:
        stage = link.stage

        def build(out: Path) -> None:
            try:
                stage.run(link.config, above, out, ctx)
            except StageError:
                raise
            except Exception as error:
                raise StageError(f"stage {stage.name}: {type(error).__name__}: {error}") from error

        try:
            return outputs.folder(link.key, build, f"{self.name}.{stage.name}", about)
        except StageError:
            raise
        except ValueError as error:  # what the host remembers: the same words for everybody
            raise StageError(str(error) if str(error).startswith("stage ") else f"stage {stage.name}: {error}") from error


def _own(stage: Stage | LastStage, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a stage's part of a configuration, complete or not, by its own names."""
    return {p.name: config[f"{stage.name}_{p.name}"] for p in stage.parameters if f"{stage.name}_{p.name}" in config}


def _asked(stage: Stage | LastStage, ask: Any, config: Mapping[str, Any], about: Any) -> None:
    try:
        ask(config, about)
    except TrainableError as error:
        # The stage names its parameter, the study file the pipeline's: the message must lead to the line.
        found = re.match(r"((?:space|fixed)\.)?(\w+)", str(error))
        if found and found[2] in {p.name for p in stage.parameters}:
            raise TrainableError(f"{found[1] or ''}{stage.name}_{str(error)[found.start(2) :]}") from error
        raise TrainableError(f"{stage.name}: {error}") from error


def _in_order(made: Sequence[Evaluation], order: np.ndarray) -> Evaluation:
    metrics = pd.concat([one.metrics for one in made], ignore_index=True).iloc[order].reset_index(drop=True)
    given = [one.returns for one in made if one.returns is not None]
    return Evaluation(metrics, np.concatenate(given)[order] if len(given) == len(made) else None)

"""What a stage of a pipeline is: a piece of work with parameters of its own, whose output the next stage begins with."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, runtime_checkable
from typing import Protocol as Contract

from results.metrics import Metric
from trainables.contract import Context, Evaluation, Parameter, TrainableError

_DECLARED: Final = ("name", "version", "parameters", "concerns")  # in keys by themselves, or by their values


class StageError(TrainableError):
    """A stage failed, for all configurations that share what comes before it; the message names the stage and says why."""


class Stage(Contract):
    """A stage whose output is a folder.

    What an instance holds, such as what `__init__` was given, is part of its outputs' keys: text, numbers, truth values, None, and lists
    and mappings of them.

    Optional besides:
        concerns: Keys of the `Prepared.protocol` that the output follows from; without it all of them. What is not among them may change
            without the stage being run again.
        check(config, settings), check_data(config, inputs): As of a trainable, of the stage's own parameters.

    Attributes:
        name: In front of its parameters' names in study files, `tune` of `tune_rank`.
        version: Changes when the same parameters would give another output.
        parameters: Its own, by their own names.
    """

    name: str
    version: str
    parameters: tuple[Parameter, ...]

    def run(self, config: Mapping[str, Any], upstream: Path | None, out: Path, ctx: Context) -> None:
        """Makes the output.

        Args:
            config: A value for each of its own parameters.
            upstream: Output of the stage before, not to be changed; None of the first.
            out: Empty folder to fill with files; it is kept if this returns, and thrown away if it raises.
            ctx: Inputs as the pipeline's `load` gave them, for the part that is evaluated (never the holdout in a search), and the
                study's seed. The output may depend on nothing else.
        """
        ...


class LastStage(Contract):
    """The stage that evaluates: many configurations at once, on the same output of the stage before.

    Optional besides:
        together: Names of its own parameters by which packs should be kept together, since equal ones share derived tables.
        check(config, settings), check_data(config, inputs): As of a trainable.
        warm(config, upstream, ctx): Reads the tables an evaluation needs.
    """

    name: str
    version: str
    parameters: tuple[Parameter, ...]
    metrics: tuple[Metric, ...]
    objective: str

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], upstream: Path | None, ctx: Context) -> Evaluation:
        """Evaluates configurations, complete in its own parameters, as `Trainable.evaluate_pack` does."""
        ...


@runtime_checkable
class Shares(Contract):
    """A trainable some of whose configurations share work."""

    def prefixes(self, config: Mapping[str, Any]) -> tuple[Hashable, ...]:
        """Names what a complete configuration shares with others, from the first piece of work to the last.

        Two configurations share a piece of work if they are equal in its name and in those of all pieces before it. Called in the
        driver for every configuration, so that packs are of those that share; be quick.
        """
        ...


def held(stage: Stage, pipeline: str) -> Mapping[str, Any]:
    """Returns what a stage's instance holds besides what it declares, as JSON takes it.

    Args:
        stage: Which.
        pipeline: Whose, for messages.

    Raises:
        TrainableError: It holds something that cannot be part of a key.
    """
    if isinstance(stage, type):
        raise TrainableError(f"{pipeline}: stages has the class {stage.__name__}; give an instance, {stage.__name__}()")
    slots = [name for kind in type(stage).__mro__ for name in _slots(kind) if hasattr(stage, name)]
    state = {**{name: getattr(stage, name) for name in slots}, **getattr(stage, "__dict__", {})}
    found = {}
    for name, value in sorted(state.items()):
        if name in _DECLARED:
            continue
        try:
            found[name] = json.loads(json.dumps(value, sort_keys=True))
        except (TypeError, ValueError) as error:
            what = f"{pipeline}: stage {stage.name} holds {name}, a {type(value).__name__}"
            hint = "Hold text, numbers, lists and mappings of them, and make the rest in run"
            raise TrainableError(f"{what}, which cannot be part of its outputs' key ({error}). {hint}") from None
    return found


def _slots(kind: type) -> tuple[str, ...]:
    names = kind.__dict__.get("__slots__", ())
    return tuple(name for name in ((names,) if isinstance(names, str) else names) if name not in ("__dict__", "__weakref__"))

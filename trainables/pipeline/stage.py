"""What a stage of a pipeline is: a piece of work with parameters of its own, whose output the next stage begins with."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, runtime_checkable
from typing import Protocol as Contract

from results.metrics import Metric
from trainables.contract import Context, Evaluation, Parameter, TrainableError


class StageError(TrainableError):
    """A stage failed, for all configurations that share what comes before it; the message names the stage and says why."""


class Stage(Contract):
    """A stage whose output is a folder.

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

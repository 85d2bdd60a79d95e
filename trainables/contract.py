"""What a trainable is: the contract between a study and the work it sweeps.

A trainable is a plain object: no Ray, no tracker. It declares its parameters and metrics, prepares its inputs once in the
driver, and evaluates configurations anywhere those inputs are. Everything a study needs to validate a file, to identify
a configuration and to label a column comes from the declaration, so a third party's trainable works like ours.
"""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, runtime_checkable
from typing import Protocol as Contract

import numpy as np
import pandas as pd

from results.metrics import Metric

if TYPE_CHECKING:
    from trainables.stepping import Stepping
    from trainables.timeline import Protocol, Timeline


class TrainableError(ValueError):
    """A configuration or setting a trainable cannot accept; the message says which key and what is allowed."""


def nearest(word: object, known: Iterable[str]) -> str:
    """Returns "did you mean 'x'?" with the nearest of the known spellings, or "" if none is near."""
    near = difflib.get_close_matches(str(word), list(known), 1)
    return f"did you mean {near[0]!r}?" if near else ""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a trainable's configuration.

    Attributes:
        name: Key in the study file.
        default: Value when the study does not give one (part of the configuration's identity).
        kind: "float", "int", "bool", "choice" or "text".
        low: Smallest allowed value (float, int).
        high: Largest allowed value (float, int).
        choices: Allowed values of a choice.
        unit: Unit for display, for example "hours" or "fraction".
        doc: One line of help.
    """

    name: str
    default: float | int | bool | str
    kind: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    unit: str = ""
    doc: str = ""

    def check(self, value: Any, where: str) -> float | int | bool | str:
        """Returns the value in its canonical type.

        Args:
            value: What the user gave.
            where: Path of the key, for the message.

        Raises:
            TrainableError: Not of the kind, or outside the allowed values.
        """
        if self.kind == "bool":
            if isinstance(value, (bool, np.bool_)):
                return bool(value)
        elif self.kind == "choice":
            if isinstance(value, str) and value in self.choices:
                return str(value)
        elif self.kind == "text":
            if isinstance(value, str) and value.strip():
                return str(value)
        elif isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                number = math.nan
            if math.isfinite(number) and self.low <= number <= self.high and (self.kind == "float" or number == int(number)):
                return number if self.kind == "float" else int(number)
        hint = f" ({nearest(value, self.choices)})" if isinstance(value, str) and nearest(value, self.choices) else ""
        raise TrainableError(f"{where}: {value!r} is not allowed; {self.allowed()}{hint}")

    def allowed(self) -> str:
        """Says what values are allowed, in words."""
        if self.kind == "bool":
            return "give true or false"
        if self.kind == "choice":
            return "give one of " + ", ".join(self.choices)
        if self.kind == "text":
            return "give text"
        number = "a whole number" if self.kind == "int" else "a number"
        if math.isinf(self.low) and math.isinf(self.high):
            return f"give {number}"
        if math.isinf(self.high):
            return f"give {number} of at least {self.low:g}"
        if math.isinf(self.low):
            return f"give {number} of at most {self.high:g}"
        return f"give {number} from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Prepared:
    """What a trainable made of a study's `data` and `settings`, once, in the driver.

    Attributes:
        inputs: Whatever `evaluate_pack` needs; arrays in it reach workers through shared memory without copying.
        fingerprint: Hash of the data; part of every configuration's identity.
        protocol: How results are produced (profile, rules, windows); part of every configuration's identity.
        defaults: Value of every parameter a configuration leaves out; part of every configuration's identity.
        summary: Lines for the user: (name, value).
        warnings: What the user should know about the data.
        timeline: How time was cut, if the trainable works in time.
        days: Labels of the daily returns that `Evaluation.returns` has, datetime64[D] (D,); empty without.
        day_folds: Fold of each day, int (D,).
        benchmarks: Daily returns (D,) of what needs no search, by name: what a winner has to beat.
        cautions: Warnings that hold only where a configuration has a certain value, by (parameter, value).
    """

    inputs: Any
    fingerprint: str
    protocol: Mapping[str, Any]
    defaults: Mapping[str, Any]
    summary: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    timeline: Timeline | None = None
    days: np.ndarray = field(default_factory=lambda: np.empty(0, "datetime64[D]"))
    day_folds: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    benchmarks: Mapping[str, np.ndarray] = field(default_factory=dict)
    cautions: Mapping[tuple[str, Any], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What came of a pack.

    Attributes:
        metrics: One row per configuration in order, one float column per declared metric.
        returns: Daily simple returns, float32 (n, D) for the days of `Prepared.days`: what significance is judged by.
    """

    metrics: pd.DataFrame
    returns: np.ndarray | None = None


@dataclass(frozen=True)
class Context:
    """Where and with what an evaluation runs.

    Attributes:
        inputs: `Prepared.inputs`.
        seed: Seed of the study; derive per-configuration seeds from it, never use a global generator.
        device: "cpu" or a torch device string.
    """

    inputs: Any
    seed: int = 0
    device: str = "cpu"


class Declares(Contract):
    """What every kind of trainable says of itself."""

    name: str
    version: str
    parameters: tuple[Parameter, ...]
    metrics: tuple[Metric, ...]
    objective: str


@runtime_checkable
class Trainable(Contract):
    """A packed trainable: many configurations in one vectorised call."""

    name: str
    version: str
    parameters: tuple[Parameter, ...]
    metrics: tuple[Metric, ...]
    objective: str

    def prepare(
        self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Protocol | None = None, part: str = "search"
    ) -> Prepared:
        """Loads and checks data, returns the inputs of every evaluation.

        Args:
            data: The study's `data`.
            settings: The study's `settings`.
            protocol: How to cut time, `protocol.cut(times, bar_hours)`; None is one window of all time, without a holdout. A
                trainable without a time axis leaves it alone.
            part: "search": inputs end before the holdout, which nothing computed here may have seen. "holdout": evaluations are
                of the holdout alone; earlier data may warm up.
        """
        ...

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], ctx: Context) -> Evaluation:
        """Evaluates complete configurations. A pack must give bit-identical rows to packs of one."""
        ...


@runtime_checkable
class Checks(Contract):
    """A trainable some of whose parameters are limited by its settings, too."""

    def check(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Raises for a configuration, complete or not, that could not be evaluated under these settings."""
        ...


@runtime_checkable
class ChecksData(Contract):
    """A trainable some of whose parameters are limited by its data, too."""

    def check_data(self, config: Mapping[str, Any], inputs: Any) -> None:
        """Raises for a complete configuration that could not be evaluated on these inputs (`Prepared.inputs`).

        Asked in the driver before anything runs, of up to a thousand points of the space; so be quick.
        """
        ...


@runtime_checkable
class Warms(Contract):
    """A trainable that reads derived tables when it evaluates."""

    def warm(self, config: Mapping[str, Any], inputs: Any) -> None:
        """Reads every table (`trainables.tables`) an evaluation of a complete configuration needs, and evaluates nothing."""
        ...


HISTORICAL = "historical"  # in place of a trainable, where results were imported: nothing evaluates them

_PARTS = (*Declares.__annotations__, "prepare")
_KINDS = {"evaluate_pack": ("evaluate_pack",), "evaluate": ("fidelity", "last_step", "evaluate")}  # packed, stepping


@dataclass(frozen=True)
class Registry:
    """The trainables shipped here, by name; anything else is `package.module:Class`."""

    entries: Mapping[str, str] = field(
        default_factory=lambda: {
            "selector": "trainables.selector.trainable:SelectorTrainable",
            "selector_robust": "trainables.selector.robust_selector:RobustSelector",
            "selector_forecast": "trainables.selector.forecast_selector:ForecastSelector",
            "chronos_lora": "trainables.chronos2.trainable:ChronosLora",
            "policy": "trainables.policy.trainable:PolicyTrainable",
            "chronos_pipeline": "trainables.pipeline.chronos:ChronosPipeline",
        },
    )

    def load(self, name: str) -> Trainable | Stepping:
        """Instantiates a trainable by registered name or `package.module:Class`.

        Raises:
            TrainableError: Unknown name, module that does not import, or a class that does not keep the contract; or results that
                were imported, which nothing can make again.
        """
        if name == HISTORICAL:
            raise TrainableError(
                "trainable: these results were imported from records (alphasweep track import-log), not evaluated here, so there is "
                "nothing to run, extend, verify, replay, audit or promote; a study file with another trainable evaluates the same"
            )
        target = self.entries.get(name, name)
        if ":" not in target:
            hint = nearest(name, self.entries)
            raise TrainableError(
                f"trainable: {name!r} is unknown{'; ' + hint if hint else '.'} "
                f"Known: {', '.join(sorted(self.entries))}; your own as package.module:Class"
            )
        module, _, attribute = target.partition(":")
        if not module or module.startswith(".") or not attribute:
            raise TrainableError(f"trainable: {target!r} is incomplete; give package.module:Class")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # somebody else's module may fail in any way
            top = module.partition(".")[0]
            absent = isinstance(error, ModuleNotFoundError) and error.name == top
            hint = f"; run from the folder that holds {top if '.' in module else f'{top}.py'}" if absent else ""
            raise TrainableError(f"trainable: cannot load {target!r}: {type(error).__name__}: {error}{hint}") from error
        # Asked before anything is called: a study file may name any function of any module.
        stepping = hasattr(found, "evaluate") and not hasattr(found, "evaluate_pack")
        kind = "evaluate" if stepping else "evaluate_pack"
        missing = [part for part in (*_PARTS, *_KINDS[kind]) if not hasattr(found, part)]
        if not isinstance(found, type) or missing:
            whose = "trainables.stepping.Stepping" if stepping else "trainables.contract.Trainable"
            what = f"lacks {', '.join(missing)} of {whose}" if missing else "is not a class"
            raise TrainableError(f"trainable: {target!r} {what}")
        try:
            made: Trainable | Stepping = found()
        except TrainableError as error:  # it says itself what it lacks
            raise TrainableError(f"trainable: {error}") from error
        except Exception as error:
            raise TrainableError(f"trainable: cannot load {target!r}: {type(error).__name__}: {error}") from error
        return made


def check_config(trainable: Declares, config: Mapping[str, Any], where: str = "space") -> dict[str, Any]:
    """Checks the parameters a configuration gives and puts them in their canonical types.

    Args:
        trainable: Declares the parameters.
        config: Some or all parameters.
        where: Path for messages.

    Raises:
        TrainableError: Unknown key (with the nearest spelling) or a value outside the allowed ones.
    """
    known = {p.name: p for p in trainable.parameters}
    for key in config:
        if key not in known:
            hint = nearest(key, known) or "known: " + ", ".join(sorted(known))
            raise TrainableError(f"{where}.{key}: {trainable.name} has no such parameter; {hint}")
    return {name: known[name].check(value, f"{where}.{name}") for name, value in config.items()}

"""What a trainable is: the contract between a study and the work it sweeps.

A trainable is a plain object: no Ray, no tracker. It declares its parameters and metrics, prepares its inputs once in the
driver, and evaluates configurations anywhere those inputs are. Everything a study needs to validate a file, to identify
a configuration and to label a column comes from the declaration, so a third party's trainable works like ours.
"""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from results.metrics import Metric


class TrainableError(ValueError):
    """A configuration or setting a trainable cannot accept; the message says which key and what is allowed."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a trainable's configuration.

    Attributes:
        name: Key in the study file.
        default: Value when the study does not give one (part of the configuration's identity).
        kind: "float", "int", "bool" or "choice".
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
            if isinstance(value, bool):
                return value
        elif self.kind == "choice":
            if value in self.choices:
                return str(value)
        elif not isinstance(value, (bool, str)) and value is not None:
            number = float(value)
            if self.low <= number <= self.high and (self.kind == "float" or number == int(number)):
                return number if self.kind == "float" else int(number)
        raise TrainableError(f"{where}: {value!r} is not allowed; {self.allowed()}")

    def allowed(self) -> str:
        """Says what values are allowed, in words."""
        if self.kind == "bool":
            return "give true or false"
        if self.kind == "choice":
            return "give one of " + ", ".join(self.choices)
        number = "a whole number" if self.kind == "int" else "a number"
        if math.isinf(self.low) and math.isinf(self.high):
            return f"give {number}"
        if math.isinf(self.high):
            return f"give {number} of at least {self.low:g}"
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
    """

    inputs: Any
    fingerprint: str
    protocol: Mapping[str, Any]
    defaults: Mapping[str, Any]
    summary: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()


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


@runtime_checkable
class Trainable(Protocol):
    """A packed trainable: many configurations in one vectorised call."""

    name: str
    version: str
    parameters: tuple[Parameter, ...]
    metrics: tuple[Metric, ...]
    objective: str

    def prepare(self, data: Mapping[str, Any], settings: Mapping[str, Any]) -> Prepared:
        """Loads and checks data, returns the inputs of every evaluation."""
        ...

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], ctx: Context) -> pd.DataFrame:
        """Evaluates complete configurations.

        Returns:
            One row per configuration in order, one float column per declared metric. A pack must give bit-identical
            rows to packs of one.
        """
        ...


@dataclass(frozen=True)
class Registry:
    """The trainables shipped here, by name; anything else is `package.module:Class`."""

    entries: Mapping[str, str] = field(
        default_factory=lambda: {"selector": "trainables.selector.trainable:SelectorTrainable"},
    )

    def load(self, name: str) -> Trainable:
        """Instantiates a trainable by registered name or `package.module:Class`.

        Raises:
            TrainableError: Unknown name, module that does not import, or a class that does not keep the contract.
        """
        target = self.entries.get(name, name)
        if ":" not in target:
            near = difflib.get_close_matches(name, self.entries, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TrainableError(
                f"trainable: {name!r} is unknown{hint} Known: {', '.join(sorted(self.entries))}; your own as package.module:Class"
            )
        module, _, attribute = target.partition(":")
        try:
            made = getattr(importlib.import_module(module), attribute)()
        except (ImportError, AttributeError) as error:
            raise TrainableError(f"trainable: cannot load {target!r}: {error}") from error
        if not isinstance(made, Trainable):
            raise TrainableError(f"trainable: {target!r} lacks part of trainables.contract.Trainable")
        return made


def check_config(trainable: Trainable, config: Mapping[str, Any], where: str = "space") -> dict[str, Any]:
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
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(sorted(known))
            raise TrainableError(f"{where}.{key}: {trainable.name} has no such parameter; {hint}")
    return {name: known[name].check(value, f"{where}.{name}") for name, value in config.items()}

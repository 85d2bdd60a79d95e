"""What a trainable may show of its inside, so that an audit can say where a leak is and not only that there is one.

All of it is optional. A trainable that keeps the contract and nothing else is audited from outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import pandas as pd

from trainables.contract import Context, Prepared
from trainables.market import Panel

Known = Literal["start", "own", "end"]


class AuditError(ValueError):
    """An audit that cannot be run as asked; the message says what to change."""


@dataclass(frozen=True, eq=False)
class Stage:
    """One step from bars to equity, over time.

    Attributes:
        name: For example "forecasts".
        times: datetime64[ns] (T,) UTC bar starts, ascending.
        columns: Arrays by name, float or bool, (T,), or (T, A) with one column per symbol.
        symbols: The A symbols; empty if every column is (T,).
        known: When a row's values are settled. "end": when the row's bars have ended (forecasts, decisions, equity).
            "start": before they begin (orders that are live in the row), so nothing of the row's own bars may be in them.
            "own": a symbol's values may also contain its own bar of the row, but no other symbol's (fills: whether one order
            fills must not decide about another in the same bar).
    """

    name: str
    times: np.ndarray
    columns: Mapping[str, np.ndarray]
    symbols: tuple[str, ...] = ()
    known: Known = "end"

    def __post_init__(self) -> None:
        if self.known not in get_args(Known):
            raise AuditError(f"stage {self.name}: known is {self.known!r}; give one of {', '.join(get_args(Known))}")
        object.__setattr__(self, "times", np.asarray(self.times, dtype="datetime64[ns]"))
        object.__setattr__(self, "symbols", tuple(self.symbols))
        shapes = ((len(self.times),), (len(self.times), len(self.symbols)))
        for name, values in self.columns.items():
            if np.shape(values) not in shapes:
                raise AuditError(
                    f"stage {self.name}: column {name} has shape {np.shape(values)}; give (rows,) or (rows, symbols) = {shapes[1]}"
                )


@runtime_checkable
class Traceable(Protocol):
    """A trainable that shows its stages."""

    def trace(self, config: Mapping[str, Any], ctx: Context) -> Sequence[Stage]:
        """Returns what one complete configuration knew, decided and earned, in causal order."""
        ...


@runtime_checkable
class WithEquity(Protocol):
    """A trainable that shows its equity and nothing before it."""

    def equity(self, config: Mapping[str, Any], ctx: Context) -> pd.Series:
        """Returns one configuration's equity at the end of each bar, indexed by bar start (UTC)."""
        ...


@runtime_checkable
class FromPanel(Protocol):
    """A trainable that can prepare a market which is already in memory."""

    def prepare_panel(self, panel: Panel, settings: Mapping[str, Any]) -> Prepared:
        """Returns what `prepare` returns for data that loads as this panel."""
        ...


@dataclass(frozen=True)
class Trace:
    """What could be seen of one evaluation.

    Attributes:
        stages: In causal order; empty if nothing was shown.
        blind: What could not be seen, in words; "" if the trainable shows its stages.
    """

    stages: tuple[Stage, ...] = field(default=())
    blind: str = ""


def trace(trainable: Any, config: Mapping[str, Any], ctx: Context) -> Trace:
    """Returns as much of the inside as the trainable shows.

    Raises:
        AuditError: `trace` or `equity` returned something else than promised.
    """
    if isinstance(trainable, Traceable):
        stages = tuple(trainable.trace(config, ctx))
        if not stages or not all(isinstance(x, Stage) for x in stages):
            raise AuditError(f"{_name(trainable)}.trace must return trainables.audit.Stage objects, at least one")
        return Trace(stages)
    if isinstance(trainable, WithEquity):
        curve = trainable.equity(config, ctx)
        if not isinstance(curve, pd.Series) or not isinstance(curve.index, pd.DatetimeIndex):
            raise AuditError(f"{_name(trainable)}.equity must return a pandas Series indexed by time")
        index = curve.index.tz_convert("UTC").tz_localize(None) if curve.index.tz is not None else curve.index
        stage = Stage("equity", index.to_numpy(), {"equity": curve.to_numpy(np.float64)})
        return Trace((stage,), "cannot see inside: only its equity (a `trace` method would name the stage that leaks)")
    return Trace((), "cannot see inside: it has neither `trace` nor `equity`")


def _name(trainable: Any) -> str:
    return type(trainable).__name__

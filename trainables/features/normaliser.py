"""Mean and standard deviation of each symbol's features, from train rows only (SPEC E)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from trainables.contract import nearest
from trainables.features.frame import FeatureFrame
from trainables.features.spec import FeatureError, FeatureSpec

LEAST_SD: Final = 1e-6  # a feature that moves less is only centred


@dataclass(frozen=True, eq=False)
class Normaliser:
    """How features become numbers of mean 0 and standard deviation 1, for each symbol on its own.

    Attributes:
        spec: Of the frame it was fitted on; a frame of another spec is refused.
        symbols: (S,).
        mean: float64 (S, F).
        sd: float64 (S, F); 1 where a feature did not move.
        rows: int64 (S,), rows it was fitted on.
    """

    spec: FeatureSpec
    symbols: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    rows: np.ndarray

    def __post_init__(self) -> None:
        shape = (len(self.symbols), len(self.spec.columns))
        for name, dtype, wanted in (("mean", np.float64, shape), ("sd", np.float64, shape), ("rows", np.int64, shape[:1])):
            array = np.array(getattr(self, name), dtype)
            if array.shape != wanted:
                raise FeatureError(f"normaliser: {name} has shape {array.shape}; {wanted} is needed (symbols, features)")
            if not np.isfinite(array).all() or (name == "sd" and (array <= 0.0).any()):
                raise FeatureError(f"normaliser: {name} must be finite{' and above 0' if name == 'sd' else ''}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def fit(cls, frame: FeatureFrame, window: tuple[int, int]) -> Normaliser:
        """Fits on the valid rows of a train window.

        Args:
            frame: Features.
            window: Rows [start, stop) of the frame.

        Raises:
            FeatureError: No such rows, or fewer than two valid ones of a symbol.
        """
        start, stop = int(window[0]), int(window[1])
        if not 0 <= start < stop <= len(frame.times):
            raise FeatureError(f"normaliser: rows {start} to {stop} of {len(frame.times)}")
        shape = (len(frame.symbols), len(frame.columns))
        mean, sd, rows = np.zeros(shape), np.ones(shape), np.zeros(shape[0], np.int64)
        for a, symbol in enumerate(frame.symbols):
            train = frame.values[a, start:stop][frame.valid[start:stop, a]]
            rows[a] = len(train)
            if len(train) < 2:
                why = frame.why_not(symbol)
                raise FeatureError(
                    f"normaliser: {len(train)} valid rows to train on from row {start} to {stop}. {why}. Give more history, shorten the "
                    f"windows of the spec, or leave {symbol} out"
                )
            mean[a], spread = train.mean(axis=0), train.std(axis=0)
            sd[a] = np.where(spread < LEAST_SD, 1.0, spread)
        return cls(frame.spec, frame.symbols, mean, sd, rows)

    def apply(self, frame: FeatureFrame) -> np.ndarray:
        """Returns (value − mean)/sd, float32 (A, T, F); NaN where the frame has it, so read `valid` rows only.

        Raises:
            FeatureError: A frame of another spec, or a symbol it was not fitted on.
        """
        self.spec.require(frame.spec, "the normaliser")
        out = np.empty(frame.values.shape, np.float32)
        for a, symbol in enumerate(frame.symbols):
            if symbol not in self.symbols:
                near = nearest(symbol, self.symbols)
                raise FeatureError(f"normaliser: not fitted on {symbol}; {near + ' ' if near else ''}it knows {', '.join(self.symbols)}")
            s = self.symbols.index(symbol)
            np.divide(frame.values[a] - self.mean[s], self.sd[s], out=out[a], casting="same_kind")
        return out

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as JSON takes it; numbers come back bit for bit."""
        numbers = {"mean": self.mean.tolist(), "sd": self.sd.tolist(), "rows": self.rows.tolist()}
        return {"spec": self.spec.to_dict(), "symbols": list(self.symbols), **numbers}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Normaliser:
        """Reads `to_dict`.

        Raises:
            FeatureError: A key is missing or not known, or the numbers do not fit the spec.
        """
        keys = ("spec", "symbols", "mean", "sd", "rows")
        for key in (*keys, *data):
            if key not in keys or key not in data:
                what = "missing" if key in keys else f"no such key; {nearest(key, keys)}"
                raise FeatureError(f"normaliser.{key}: {what}; it has {', '.join(keys)}")
        spec = FeatureSpec.from_dict(data["spec"], "normaliser.spec")
        return cls(spec, tuple(data["symbols"]), *(np.asarray(data[key]) for key in keys[2:]))

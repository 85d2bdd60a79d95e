"""Features of a panel: every symbol's from its own bars, kept as tables, on the panel's axes (SPEC E)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainables.contract import nearest
from trainables.features.compute import compute
from trainables.features.inputs import Inputs, Market, check, gather, quoted
from trainables.features.spec import FeatureError, FeatureSpec
from trainables.forecast import Forecasts
from trainables.market import Panel
from trainables.tables import Table, read


@dataclass(frozen=True, eq=False)
class FeatureFrame:
    """Features known at the end of each row's bar.

    Attributes:
        times: datetime64[ns] (T,) UTC bar starts.
        symbols: (A,).
        spec: Which features; `columns` names them.
        values: float64 (A, T, F), one matrix per symbol, so that consecutive rows are a policy's window as they lie in memory. NaN
            where a value is not defined or the symbol has no bar, never filled. Double precision because a normaliser subtracts
            the mean from them; what it returns is single.
        exists: bool (T, A), the symbol has a bar.
        valid: bool (T, A), and all its features are there.
        source: Bars and forecaster, for people.
    """

    times: np.ndarray
    symbols: tuple[str, ...]
    spec: FeatureSpec
    values: np.ndarray
    exists: np.ndarray
    valid: np.ndarray
    source: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the F features."""
        return self.spec.columns

    @cached_property
    def digest(self) -> str:
        """Names the content (times, symbols, spec, values): 32 hexadecimal digits."""
        made = hashlib.blake2b(digest_size=16)
        made.update("\n".join([self.spec.digest, *self.symbols]).encode())
        for array in (self.times, self.exists, self.values):
            made.update(np.array(array.shape, np.int64).tobytes())
            made.update(np.ascontiguousarray(array).view(np.uint8).data)
        return made.hexdigest()

    def whole(self, length: int) -> np.ndarray:
        """Says where a sequence may end: bool (T, A), the symbol's last `length` own bars, the row's included, are all valid.

        With `rows = np.flatnonzero(frame.exists[:, a])`, those sequences are `frame.values[a, rows[i - length + 1 : i + 1]]`.

        Raises:
            FeatureError: A length below 1.
        """
        if length < 1:
            raise FeatureError(f"length: {length}; give at least 1 bar")
        out = np.zeros_like(self.valid)
        for a in range(len(self.symbols)):
            rows = np.flatnonzero(self.exists[:, a])
            good = np.concatenate([[0], np.cumsum(self.valid[rows, a])])
            out[rows[length - 1 :], a] = good[length:] - good[:-length] == length
        return out

    def column(self, name: str) -> np.ndarray:
        """Returns one feature, float64 (T, A).

        Raises:
            FeatureError: No such feature.
        """
        if name not in self.columns:
            near = nearest(name, self.columns)
            raise FeatureError(f"features: no column {name!r}; {near + ' ' if near else ''}it has {', '.join(self.columns)}")
        return self.values[:, :, self.columns.index(name)].T

    def why_not(self, symbol: str) -> str:
        """Says in words how many of a symbol's bars are valid, and of each block which feature is missing most."""
        a = self.symbols.index(symbol)
        gone = np.isnan(self.values[a, self.exists[:, a]]).sum(axis=0)
        count = dict(zip(self.columns, gone.tolist(), strict=True))
        worst = [max(names, key=count.__getitem__) for names in self.spec.by_block.values()]
        named = ", ".join(f"{name} in {count[name]}" for name in sorted(worst, key=count.__getitem__, reverse=True) if count[name])
        said = f"{symbol}: {int(self.valid[:, a].sum())} of {int(self.exists[:, a].sum())} bars are valid"
        return said + (f"; missing: {named}" if named else "")


def features(panel: Panel, spec: FeatureSpec, forecasts: Forecasts | None = None, window: tuple[int, int] | None = None) -> FeatureFrame:
    """Computes the features of every symbol, or reads what was kept of them (`tables.offered`).

    Row t of a symbol holds what is known at the end of its bar t: own bars up to t, the forecasts issued at its end, other
    symbols' bars that have ended by then.

    Args:
        panel: Bars (T, A).
        spec: Which features.
        forecasts: Must hold the spec's horizons and the panel's symbols; rows it does not have are not valid.
        window: Rows [start, stop) of the panel to return; those before are history, those after are not looked at.

    Returns:
        The window's rows, read-only.

    Raises:
        FeatureError: Something the spec asks for is not there, or no such rows.
    """
    start, stop = (0, panel.n_bars) if window is None else (int(window[0]), int(window[1]))
    if not 0 <= start < stop <= panel.n_bars:
        raise FeatureError(f"features: rows {start} to {stop} of {panel.n_bars}; give a window with at least one row of the panel")
    check(panel, spec, forecasts)
    market = Market.of(panel.rows((0, stop)) if stop < panel.n_bars else panel)
    issued = quoted(market.panel, spec, forecasts)
    values = np.full((len(panel.symbols), stop - start, len(spec.columns)), np.nan)
    for a in range(len(panel.symbols)):
        inputs = gather(market, spec, a, issued)
        first = int(np.searchsorted(inputs.rows, start))
        if first < len(inputs.rows):
            table, build = _table(spec, inputs, forecasts.source if issued and forecasts else "")
            values[a, inputs.rows[first:] - start] = read(table, first, len(inputs.rows), build).T
    exists = market.panel.exists[start:stop]
    valid = exists & np.isfinite(values).all(axis=2).T
    for array in (values, valid):
        array.flags.writeable = False
    source = "; ".join(x for x in (panel.source, forecasts.source if issued and forecasts else "") if x)
    return FeatureFrame(market.panel.times[start:stop], panel.symbols, spec, values, exists, valid, source)


def _table(spec: FeatureSpec, inputs: Inputs, source: str) -> tuple[Table, Callable[[int, int, Callable[[int], None]], np.ndarray]]:
    """Returns a symbol's features as a table, and what builds its rows."""
    names = tuple(inputs.series)
    bars = np.stack([inputs.series[name] for name in names])
    about = {"features": spec.to_dict(), "forecasts": source, "others": list(inputs.others)}
    table = Table("features", about, spec.columns, (inputs.symbol,), inputs.times, bars, spec.reach, f"features, {inputs.symbol}")

    def build(first: int, stop: int, done: Callable[[int], None]) -> np.ndarray:
        begin = max(0, first - spec.reach + 1) if spec.reach else 0
        rows = {name: bars[k, begin:stop] for k, name in enumerate(names)}
        made = compute(spec, inputs.times[begin:stop], rows)[:, first - begin :]
        done(stop - first)
        return made

    return table, build

"""What enters one symbol's features: its own bars, the forecasts issued at their ends, and other symbols as known by then.

Bars of two clocks overlap (rule R11 in docs/fills.md): of another symbol only bars that have ended by the end of bar t are read at row
t. All bars are equally long, so those are the bars that started no later than bar t.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trainables.features.spec import FeatureError, FeatureSpec
from trainables.forecast import Forecasts
from trainables.market import Panel
from trainables.market.assets import QUOTES
from trainables.market.panel import BAR

ENDED = np.timedelta64(168, "h")  # a last bar this old is no price any more (rule R12)
_QUOTED = (("close", 0.5), ("high", 0.5), ("low", 0.5), ("close", 0.1), ("close", 0.9))


@dataclass(frozen=True, eq=False)
class Inputs:
    """One symbol's side of a panel.

    Attributes:
        symbol: Name.
        rows: int64 (n,), panel rows of its bars.
        times: datetime64[ns] (n,), their starts.
        series: float64 (n,) by name: open … volume; `close_p50_h1` …; `btc_close`, `btc_before` and `btc_live`: the last BTC close,
            the one before, and 1 where that bar is of the same hour; `anchor_close`, `anchor_live`; `member SYMBOL`: its last close.
        others: Symbols of the panel that enter besides, in the order they do.
    """

    symbol: str
    rows: np.ndarray
    times: np.ndarray
    series: Mapping[str, np.ndarray]
    others: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Market:
    """A panel's rows up to some end, and what is asked of other symbols in all of them.

    Attributes:
        panel: Bars.
        latest: int64 (T, A), row of each symbol's last bar up to a row; −1 before its first.
    """

    panel: Panel
    latest: np.ndarray

    @classmethod
    def of(cls, panel: Panel) -> Market:
        """Looks through a panel once."""
        rows = np.where(panel.exists, np.arange(panel.n_bars)[:, None], -1)
        return cls(panel, np.maximum.accumulate(rows, axis=0))

    def closes(self, other: int, rows: np.ndarray, back: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Returns another symbol's close as of the end of given rows, and where it is of a bar that overlaps theirs.

        Args:
            other: Column.
            rows: int64 (n,).
            back: Its own bars before that one.

        Returns:
            float64 (n,), NaN where it has no such bar or its last is a week old; float64 (n,) of 0 and 1.
        """
        last = self.latest[rows, other]
        place = last
        for _ in range(back):
            place = np.where(place > 0, self.latest[place - 1, other], -1)
        age = self.panel.times[rows] - self.panel.times[last]
        price = np.where((last >= 0) & (place >= 0) & (age < ENDED), self.panel.close[place, other], np.nan)
        return price, ((last >= 0) & (age < np.timedelta64(round(self.panel.bar_seconds * 1e9), "ns"))).astype(float)


def find_base(symbols: tuple[str, ...], base: str) -> int | None:
    """Returns the column of a base's pair (BTC: BTCUSD, BTC/USD, BTC-USDT, …, in the order of the market's quotes), or of its own name."""
    plain = [symbol.upper().replace("/", "").replace("-", "") for symbol in symbols]
    wanted = base.upper().replace("/", "").replace("-", "")
    return next((plain.index(name) for name in (*(wanted + quote for quote in QUOTES), wanted) if name in plain), None)


def check(panel: Panel, spec: FeatureSpec, forecasts: Forecasts | None) -> None:
    """Raises unless everything a spec asks for is there.

    Raises:
        FeatureError: No forecasts, or not of this panel's symbols, bars or the spec's horizons; no BTC or anchor; a basket of one.
    """
    shown = ", ".join(panel.symbols[:10]) + (", …" if len(panel.symbols) > 10 else "")
    for block, base in (("btc", "BTC"), ("basket", spec.basket_anchor)):
        if block in spec.blocks and find_base(panel.symbols, base) is None:
            hint = "add it" if block == "btc" else "add it, name another basket_anchor"
            raise FeatureError(f"features: the block {block} needs {base}, the panel has {shown}; {hint}, or take {block} out of blocks")
    if "basket" in spec.blocks and len(panel.symbols) < 2:
        raise FeatureError(f"features: the panel has only {shown}, which is no basket; add symbols, or take basket out of blocks")
    if "forecast" not in spec.blocks:
        return
    if forecasts is None:
        raise FeatureError("features: the block forecast is on and no forecasts are given; give them, or take forecast out of blocks")
    for h in spec.horizons:
        if h not in forecasts.horizons:
            has = ", ".join(map(str, forecasts.horizons))
            raise FeatureError(f"features: no forecasts at horizon {h}, only at {has}; forecast it, or change the spec's horizons")
    for symbol in panel.symbols:
        if symbol not in forecasts.symbols:
            raise FeatureError(f"features: no forecasts of {symbol}, only of {', '.join(forecasts.symbols)}")
    if forecasts.bar_seconds != panel.bar_seconds:
        raise FeatureError(f"features: forecasts of bars of {forecasts.bar_seconds:g} s, the panel's have {panel.bar_seconds:g} s")


def quoted(panel: Panel, spec: FeatureSpec, forecasts: Forecasts | None) -> dict[str, np.ndarray]:
    """Returns the forecasts a spec uses on the panel's rows and symbols, float64 (T, A) by name; NaN where none was issued."""
    if forecasts is None or "forecast" not in spec.blocks:
        return {}
    columns = np.array([forecasts.symbols.index(symbol) for symbol in panel.symbols])
    at = np.searchsorted(forecasts.times, panel.times)
    found = at < len(forecasts.times)
    found[found] = forecasts.times[at[found]] == panel.times[found]
    whole = forecasts.symbols == panel.symbols and np.array_equal(forecasts.times, panel.times)
    out = {}
    for h in spec.horizons:
        for field, q in _QUOTED:
            values = forecasts.quantile(field, q, h)
            if not whole:
                placed = np.full(panel.close.shape, np.nan)
                placed[found] = values[np.ix_(at[found], columns)]
                values = placed
            out[f"{field}_p{round(q * 100)}_h{h}"] = values
    return out


def gather(market: Market, spec: FeatureSpec, column: int, forecasts: Mapping[str, np.ndarray]) -> Inputs:
    """Collects what one symbol's features are made of.

    Args:
        market: Bars.
        spec: Which features.
        column: The symbol's.
        forecasts: As `quoted` returns them.
    """
    panel = market.panel
    rows = np.flatnonzero(panel.exists[:, column])
    series = {name: np.ascontiguousarray(getattr(panel, name)[rows, column]) for name in BAR}
    for name, values in forecasts.items():
        series[name] = np.ascontiguousarray(values[rows, column])
    others: list[str] = []
    if "btc" in spec.blocks:
        btc = _anchor(panel, "BTC")
        others.append(panel.symbols[btc])
        series["btc_close"], series["btc_live"] = market.closes(btc, rows)
        series["btc_before"] = market.closes(btc, rows, back=1)[0]
    if "basket" in spec.blocks:
        anchor = _anchor(panel, spec.basket_anchor)
        series["anchor_close"], series["anchor_live"] = market.closes(anchor, rows)
        others.append(panel.symbols[anchor])
        for symbol in sorted(panel.symbols):  # a mean must not depend on the order of the panel
            series[f"member {symbol}"] = market.closes(panel.symbols.index(symbol), rows)[0]
            others.append(symbol)
    return Inputs(panel.symbols[column], rows, panel.times[rows], series, tuple(others))


def _anchor(panel: Panel, base: str) -> int:
    found = find_base(panel.symbols, base)
    assert found is not None, base  # `check` said so
    return found

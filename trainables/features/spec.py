"""Which features a model sees: one frozen description, stored with whatever was trained on it (SPEC E).

Repeating a dozen window flags by hand in training, evaluation and live trading, and padding what did not match, is how published
models came to read other numbers than they had learned from. Here a spec is an object, and another spec is an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import combinations
from typing import Any, Final

from trainables.contract import TrainableError, nearest

VERSION: Final = 1  # of the formulas: raise it when a value changes
BLOCKS: Final = ("price", "volume", "calendar", "trend", "volatility", "forecast", "interactions", "btc", "basket")
RETURNS: Final = (1, 4, 24)  # bars
BTC_WINDOW: Final = 72  # pairs of returns in the correlation with BTC; half of them must be there
STRENGTH_WINDOW: Final = 24  # bars
BASKET_WINDOW: Final = 24  # bars
MOST: Final = 100_000  # bars in a window, steps in a horizon

# Field of windows: (its block, the least bars it can count).
_WINDOWS: Final[dict[str, tuple[str, int]]] = {
    "volume_shock": ("volume", 2),
    "trend": ("trend", 1),
    "drawdown": ("trend", 2),
    "ma": ("trend", 2),
    "ema": ("trend", 2),
    "rsi": ("trend", 1),
    "volatility": ("volatility", 2),
    "atr": ("volatility", 1),
}
_BLOCK_OF: Final = {name: block for name, (block, _) in _WINDOWS.items()} | {
    "volume_z": "volume",
    "vol_regime": "volatility",
    "horizons": "forecast",
    "basket_anchor": "basket",
}


class FeatureError(TrainableError):
    """A feature spec, normaliser or input that cannot be used; the message says which key, column or symbol and what to do."""


@dataclass(frozen=True, eq=False)
class FeatureSpec:
    """What a row of features holds.

    Specs of equal features are equal: windows ascend, blocks have one order, and the windows of a block that is off do not count.

    Attributes:
        blocks: Which of `BLOCKS` are on.
        volume_shock, trend, drawdown, ma, ema, rsi, volatility, atr: Windows in the symbol's own bars.
        vol_regime: Pairs (short, long) of windows.
        volume_z: Window of `volume_z` and `volume_spike`.
        horizons: Forecast horizons in the symbol's own bars.
        basket_anchor: Base or full symbol the `basket` block measures correlation and beta to; the `btc` block always takes BTC.
    """

    blocks: tuple[str, ...] = ("price", "volume", "calendar", "trend", "volatility", "forecast")
    volume_shock: tuple[int, ...] = (24,)
    trend: tuple[int, ...] = (168,)
    drawdown: tuple[int, ...] = (168,)
    ma: tuple[int, ...] = (168, 600, 2376)
    ema: tuple[int, ...] = (24, 168)
    rsi: tuple[int, ...] = (14,)
    volatility: tuple[int, ...] = (24, 168)
    atr: tuple[int, ...] = (24, 168)
    vol_regime: tuple[tuple[int, int], ...] = ((24, 168),)
    volume_z: int = 168
    horizons: tuple[int, ...] = (1, 24)
    basket_anchor: str = "BTC"

    def __post_init__(self) -> None:
        blocks = _sequence("blocks", self.blocks)
        for name in blocks:
            if name not in BLOCKS:
                raise FeatureError(f"blocks: no block {name!r}; {_known(name, BLOCKS)}")
        if not blocks or len(set(blocks)) != len(blocks):
            raise FeatureError(f"blocks: {list(blocks)}; give at least one of {', '.join(BLOCKS)}, each once")
        if "interactions" in blocks and "forecast" not in blocks:
            raise FeatureError("blocks: interactions are made of forecasts; switch the block forecast on too")
        set_ = object.__setattr__
        set_(self, "blocks", tuple(name for name in BLOCKS if name in blocks))
        for name, (_, least) in _WINDOWS.items():
            set_(self, name, _windows(name, getattr(self, name), least))
        set_(self, "horizons", _windows("horizons", self.horizons, 1))
        set_(self, "vol_regime", _pairs(self.vol_regime))
        set_(self, "volume_z", _whole("volume_z", self.volume_z, 2))
        if not isinstance(self.basket_anchor, str) or not self.basket_anchor.strip():
            raise FeatureError(f"basket_anchor: {self.basket_anchor!r}; give a symbol or its base, for example BTC or SPY")
        set_(self, "basket_anchor", self.basket_anchor.strip().upper())
        for block in self.blocks:
            if not self.by_block[block]:
                needs = ", ".join(name for name, owner in _BLOCK_OF.items() if owner == block)
                raise FeatureError(f"{block}: the block is on but has no feature; give {needs}, or take it out of blocks")

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, FeatureSpec) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def by_block(self) -> Mapping[str, list[str]]:
        """Columns of every block that is on."""
        h = self.horizons
        volatility = [f"volatility_{w}h" for w in self.volatility] + [f"vol_regime_{s}_{l}" for s, l in self.vol_regime]
        trend = [f"{name}_{w}h" for name in ("trend", "drawdown") for w in getattr(self, name)]
        trend += [f"{name}_delta_{w}h" for name in ("ma", "ema") for w in getattr(self, name)]
        forecast = [f"chronos_{field}_delta_h{x}" for x in h for field in ("close", "high", "low")]
        forecast += [f"forecast_confidence_h{x}" for x in h] + ["forecast_agreement"] * (len(h) > 1)
        mixed = [f"forecast_range_pct_h{x}" for x in h]
        if len(h) > 1:
            mixed += [f"forecast_{what}_spread_h{a}_h{b}" for a, b in combinations(h, 2) for what in ("delta", "confidence", "range")]
            mixed += ["forecast_delta_mean", "forecast_delta_abs_mean", "forecast_confidence_mean", "forecast_range_mean"]
            mixed += ["forecast_delta_weighted", "forecast_sign_weighted", "forecast_delta_slope"]
            mixed += ["forecast_delta_residual"] * (len(h) > 2)
        named = {
            "price": [f"return_{k}h" for k in RETURNS]
            + ["log_return_1h", "range_pct", "close_open_pct", "high_close_pct", "low_close_pct"],
            "volume": ["volume_z", "volume_change_1h", *(f"volume_shock_{w}h" for w in self.volume_shock), "volume_spike"],
            "calendar": ["hour_sin", "hour_cos", "dow_sin", "dow_cos"],
            "trend": trend + [f"rsi_{w}h" for w in self.rsi],
            "volatility": volatility + [f"atr_pct_{w}h" for w in self.atr],
            "forecast": forecast,
            "interactions": mixed,
            "btc": ["btc_return_1h", f"btc_correlation_{BTC_WINDOW}h", f"relative_strength_btc_{STRENGTH_WINDOW}h"],
            "basket": [f"basket_{what}_{BASKET_WINDOW}h" for what in ("corr", "beta", "excess", "rank")],
        }
        return {block: named[block] for block in self.blocks}

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the F features, in the order of a row."""
        return tuple(name for names in self.by_block.values() for name in names)

    @cached_property
    def reach(self) -> int:
        """Bars of the symbol a row depends on, its own included; 0 is all before it, because an EMA never forgets."""
        if "trend" in self.blocks and self.ema:
            return 0
        steps = (*self.volatility, *self.atr, *(l for _, l in self.vol_regime))  # a step needs the bar before, a window its own
        bars = {
            "price": [max(RETURNS) + 1],
            "volume": [2, self.volume_z, *self.volume_shock],
            "trend": [*self.ma, *self.drawdown, *(w + 1 for w in (*self.trend, *self.rsi))],
            "volatility": [w + 1 for w in steps],
            "btc": [BTC_WINDOW + 1],
            "basket": [BASKET_WINDOW + 1],
        }
        return max(w for block in self.blocks for w in bars.get(block, [1]))

    @cached_property
    def digest(self) -> str:
        """Names the spec: 32 hexadecimal digits."""
        return hashlib.blake2b(json.dumps(self.to_dict(), sort_keys=True).encode(), digest_size=16).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Returns what counts as JSON takes it: the version of the formulas, the blocks, and the keys of those that are on."""
        names = [f.name for f in fields(self) if f.name == "blocks" or _BLOCK_OF[f.name] in self.blocks]
        return {"version": VERSION, **{name: _listed(getattr(self, name)) for name in names}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "features") -> FeatureSpec:
        """Reads `to_dict`, or what a user wrote: `preset` names where to begin (default `hourly`), other keys replace its fields.

        Args:
            data: The keys.
            where: Path of the section, for messages.

        Raises:
            FeatureError: Unknown key, block or preset (with the nearest spelling), a window that cannot be, windows of a block
                that is off, or formulas of another version.
        """
        if not isinstance(data, Mapping):
            raise FeatureError(f"{where}: {data!r}; give keys, for example {{preset: hourly}}")
        given = dict(data)
        version = given.pop("version", VERSION)
        if version != VERSION:
            raise FeatureError(f"{where}.version: formulas of version {version!r}, these are {VERSION}; train again, or use that release")
        start = given.pop("preset", "hourly")
        known = [field.name for field in fields(cls)]
        for key in given:
            if key not in known:
                raise FeatureError(f"{where}.{key}: no such key; {_known(key, ['preset', *known])}")
        base = preset(start, f"{where}.preset")
        try:
            spec = replace(base, **given)
        except FeatureError as error:
            raise FeatureError(f"{where}.{error}") from None
        for key in given:
            block = _BLOCK_OF.get(key, spec.blocks[0])
            if block not in spec.blocks:
                raise FeatureError(f"{where}.{key}: belongs to the block {block}, which is off; add it to blocks, or leave {key} out")
        return spec

    def require(self, given: FeatureSpec, where: str = "the model") -> None:
        """Raises unless another spec is this one: nothing is padded, cut off or reordered.

        Args:
            given: What somebody is about to feed.
            where: Whose spec this one is, for the message.

        Raises:
            FeatureError: Names the first columns, or else the keys, that differ.
        """
        if given == self:
            return
        pairs = list(zip(self.columns, given.columns, strict=False))
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
        if at < max(len(self.columns), len(given.columns)):
            lost = [name for name in self.columns if name not in given.columns]
            added = [name for name in given.columns if name not in self.columns]
            a, b = ((*c, "nothing")[at] for c in (self.columns, given.columns))
            what = f"column {at} is {a} there and {b} here"
            what += f"; missing here: {_some(lost)}" if lost else ""
            what += f"; only here: {_some(added)}" if added else ""
        else:  # names do not tell everything: volume_z is called so whatever its window
            there, here = self.to_dict(), given.to_dict()
            what = "; ".join(f"{key} is {there[key]!r} there and {here[key]!r} here" for key in there if there[key] != here[key])
        raise FeatureError(f"features: {where} was made with another spec: {what}. Use the spec that is stored with it")


def _presets() -> dict[str, FeatureSpec]:
    bars = ("price", "volume", "calendar", "trend", "volatility")
    windows: dict[str, Any] = {"ma": (24, 72), "ema": (24, 72), "atr": (24, 72), "trend": (72,), "drawdown": (72,)}
    windows |= {"volume_z": 72, "volume_shock": (24,), "vol_regime": ((24, 72),)}
    return {
        "hourly": FeatureSpec(),
        "short": FeatureSpec(**windows),
        "bars": FeatureSpec(bars),
        "everything": FeatureSpec(BLOCKS),
    }


def preset(name: str, where: str = "preset") -> FeatureSpec:
    """Returns a named spec.

    `hourly` has the windows of SPEC E, `short` those it used where stocks and crypto are mixed; `bars` is `hourly` without forecasts
    and `everything` is `hourly` with all blocks.

    Raises:
        FeatureError: No such preset.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise FeatureError(f"{where}: no preset {name!r}; {_known(name, PRESETS)}")
    return PRESETS[name]


def _known(word: object, names: Iterable[str]) -> str:
    near = nearest(word, names := list(names))
    return f"{near + ' ' if near else ''}known: {', '.join(names)}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _listed(value: Any) -> Any:
    return [_listed(x) for x in value] if isinstance(value, tuple) else value


def _sequence(key: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        raise FeatureError(f"{key}: {value!r}; give a list")
    return tuple(value)


def _whole(key: str, value: Any, least: int) -> int:
    ok = isinstance(value, (int, float)) or hasattr(value, "__index__")
    if isinstance(value, bool) or not ok or value != value or not least <= value <= MOST or int(value) != value:
        raise FeatureError(f"{key}: {value!r} is not allowed; give a whole number of bars from {least} to {MOST:,}")
    return int(value)


def _windows(key: str, value: Any, least: int) -> tuple[int, ...]:
    numbers = sorted(_whole(key, x, least) for x in _sequence(key, value))
    if len(set(numbers)) != len(numbers):
        raise FeatureError(f"{key}: {numbers} names one twice")
    return tuple(numbers)


def _pairs(value: Any) -> tuple[tuple[int, int], ...]:
    found = []
    for given in _sequence("vol_regime", value):
        pair = tuple(_whole("vol_regime", x, 2) for x in _sequence("vol_regime", given))
        if len(pair) != 2 or pair[0] >= pair[1]:
            raise FeatureError(f"vol_regime: {list(pair)}; give pairs of a short and a longer window, for example [24, 168]")
        found.append((pair[0], pair[1]))
    if len(set(found)) != len(found):
        raise FeatureError("vol_regime: a pair is given twice")
    return tuple(sorted(found))


PRESETS: Final = _presets()

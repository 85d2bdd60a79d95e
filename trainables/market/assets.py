"""What a symbol is and what it costs to trade it (SPEC A.2, A.5).

A cost that nobody stated is the dearest bug of the published results: two coins were charged a stock's fee because their
record was missing (SPEC J8). So nothing here falls back silently: a symbol that cannot be classified and a fee that is
missing are errors.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from trainables.market.errors import MarketError, UnclassifiedError, unknown

AssetClass = Literal["crypto", "stock"]

COINS = frozenset(
    {
        "AAVE",
        "ADA",
        "ALGO",
        "APT",
        "ATOM",
        "AVAX",
        "BNB",
        "BCH",
        "BTC",
        "DOGE",
        "DOT",
        "ETH",
        "LINK",
        "LTC",
        "MATIC",
        "POL",
        "SHIB",
        "SKY",
        "SOL",
        "TRX",
        "UNI",
        "VET",
        "XLM",
        "XRP",
    }
)
QUOTES = ("USD", "USDT", "USDC", "FDUSD", "BUSD", "TUSD", "DAI", "U")
# Directions of SPEC A.5, used for `can_short: groups`.
LONG_ONLY = frozenset({"AAPL", "AMD", "AMZN", "GOOG", "GOOGL", "META", "MSFT", "NET", "NVDA", "PLTR", "TSLA"})
SHORT_ONLY = frozenset({"DBX", "ANGI", "BKNG", "EBAY", "EXPE", "KIND", "MTCH", "NWSA", "NYT", "TRIP", "YELP", "Z"})

_TICKER = re.compile(r"[A-Z]{1,5}([.-][A-Z])?")

# Crypto venues quote the taker fee with the spread in it; a stock pays no commission, 0.3 bps to the regulator, and the spread.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "crypto": {"maker_fee_bps": 15.0, "taker_fee_bps": 25.0, "half_spread_bps": 0.0, "min_notional": 10.0},
    "stock": {"maker_fee_bps": 0.3, "taker_fee_bps": 0.3, "half_spread_bps": 2.0, "min_notional": 1.0},
}


@dataclass(frozen=True)
class Asset:
    """A symbol with its costs.

    Attributes:
        symbol: Name in the panel.
        asset_class: "crypto" (always open) or "stock" (NYSE sessions).
        maker_fee_bps: Fee of a limit fill, basis points of notional; negative is a rebate.
        taker_fee_bps: Fee of a forced close, basis points of notional.
        half_spread_bps: Half the bid-ask spread, paid besides the taker fee.
        can_long: May be bought.
        can_short: May be sold short.
        min_notional: Smallest order, quote currency.
        tick: Smallest price step, quote currency; None if unknown.
    """

    symbol: str
    asset_class: AssetClass
    maker_fee_bps: float
    taker_fee_bps: float
    half_spread_bps: float
    can_long: bool = True
    can_short: bool = False
    min_notional: float = 0.0
    tick: float | None = None

    def __post_init__(self) -> None:
        where = f"assets.{self.symbol}"
        if self.asset_class not in tuple(_DEFAULTS):  # a list has no hash
            raise MarketError(f"{where}: asset_class {self.asset_class!r} is not allowed; give crypto or stock")
        for name in ("maker_fee_bps", "taker_fee_bps", "half_spread_bps", "min_notional"):
            value = getattr(self, name)
            if value is None and name.endswith("fee_bps"):
                raise MarketError(f"{where}: missing fee {name}; give it in basis points (0 if it is free)")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise MarketError(f"{where}: {name} is {value!r}; give a number")
            if value < 0 and name != "maker_fee_bps":
                raise MarketError(f"{where}: {name} is {value}; it cannot be negative")
            object.__setattr__(self, name, float(value))
        if self.tick is not None:
            if isinstance(self.tick, bool) or not isinstance(self.tick, (int, float)) or not 0 < self.tick < math.inf:
                raise MarketError(f"{where}: tick is {self.tick!r}; give a positive price step, or leave it out")
            object.__setattr__(self, "tick", float(self.tick))
        for name in ("can_long", "can_short"):
            if not isinstance(getattr(self, name), bool):
                raise MarketError(f"{where}: {name} is {getattr(self, name)!r}; give true or false")


FIELDS = frozenset(field.name for field in fields(Asset)) - {"symbol"}


def classify(symbol: str) -> AssetClass:
    """Returns "crypto" or "stock" (SPEC A.2), never a guess.

    Args:
        symbol: For example "SOLUSD", "SOL/USD", "BTC-USD", "ETHUSDT", "NVDA", "BRK.B".

    Raises:
        UnclassifiedError: Could be either, or neither; declare it in `data.assets`.
    """
    found = _class_of(symbol)
    if found is None:
        raise _unclassified([symbol])
    return found


def _class_of(symbol: str) -> AssetClass | None:
    name = symbol.upper()
    pair = _pair(symbol)
    if any(pair.endswith(quote) and pair[: -len(quote)] in COINS for quote in QUOTES):
        return "crypto"
    looks_paired = "/" in name or pair.endswith(("USD", "USDT", "USDC"))
    return "stock" if _TICKER.fullmatch(name) and name not in COINS and not looks_paired else None


def _pair(symbol: str) -> str:
    return symbol.upper().replace("/", "").replace("-", "")


def _unclassified(symbols: Sequence[str]) -> UnclassifiedError:
    """Says of each symbol what it could not be told to be, and what was probably meant."""
    said = []
    for symbol in symbols:
        known = sorted({coin + "USD" for coin in COINS} | LONG_ONLY | SHORT_ONLY)
        why = "is neither a known coin with its quote currency nor a plain ticker"
        near = difflib.get_close_matches(_pair(symbol), known, n=1, cutoff=0.75)
        if symbol.upper() in COINS:
            why, near = "could be a coin without its quote currency, or a ticker", [f"{symbol.upper()}USD"]
        said.append(f"{symbol!r} {why}{f'; did you mean {near[0]!r}?' if near else '.'}")
    declared = ", ".join(f"{symbol}: {{asset_class: crypto}}" for symbol in symbols)
    return UnclassifiedError(
        f"symbols: {' '.join(said)} What is meant as it stands is declared in the study's data section: "
        f"`assets: {{{declared}}}` (or stock), with its fees if they differ from the class"
    )


def make_assets(symbols: Sequence[str], overrides: Mapping[str, Any] | None = None) -> tuple[Asset, ...]:
    """Builds the assets of a universe: class defaults (SPEC A.5), then overrides of the class, then of the symbol.

    Args:
        symbols: Names, in panel order.
        overrides: `{"crypto" | "stock" | SYMBOL: {field: value}}`, fields as in `Asset`. `can_short: groups` takes the
            long-only and short-only lists of SPEC A.5; without it nothing can be sold short.

    Raises:
        MarketError: Unknown key, ambiguous symbol, or a fee that is missing.
    """
    if overrides is not None and not isinstance(overrides, Mapping):
        raise MarketError(f"assets: {overrides!r}; give fields by symbol or class, for example {{crypto: {{maker_fee_bps: 15}}}}")
    given = dict(overrides or {})
    allowed = set(symbols) | set(_DEFAULTS)
    for key, value in given.items():
        if key not in allowed:
            raise MarketError(f"assets.{key}: no such symbol or asset class; {unknown(key, allowed)}")
        if not isinstance(value, Mapping):
            raise MarketError(f"assets.{key}: give fields, for example {{maker_fee_bps: 15, taker_fee_bps: 25}}, not {value!r}")
        for name in value:
            if name not in FIELDS or (name == "asset_class" and key in _DEFAULTS):
                raise MarketError(f"assets.{key}.{name}: no such field; {unknown(name, FIELDS)}")
            if value[name] is None and name.endswith("fee_bps"):
                raise MarketError(f"assets.{key}.{name}: missing fee; give basis points (0 if free), or leave the key out for the default")
    if len(set(symbols)) != len(symbols):
        raise MarketError(f"symbols: listed twice: {', '.join(sorted({s for s in symbols if list(symbols).count(s) > 1}))}")
    if unclear := [symbol for symbol in symbols if not given.get(symbol, {}).get("asset_class") and _class_of(symbol) is None]:
        raise _unclassified(unclear)
    return tuple(_make(symbol, given) for symbol in symbols)


def _make(symbol: str, overrides: Mapping[str, Mapping[str, Any]]) -> Asset:
    own = dict(overrides.get(symbol, {}))
    asset_class: Any = own.pop("asset_class", None) or classify(symbol)
    if asset_class not in tuple(_DEFAULTS):
        raise MarketError(f"assets.{symbol}.asset_class: {asset_class!r} is not allowed; give crypto or stock")
    values = {**_DEFAULTS[asset_class], **overrides.get(asset_class, {}), **own}
    if values.get("can_short") == "groups":
        values["can_short"] = asset_class == "stock" and symbol not in LONG_ONLY
        # A symbol in both lists would be untradable; the lists do not overlap.
        values.setdefault("can_long", symbol not in SHORT_ONLY)
    return Asset(symbol=symbol, asset_class=asset_class, **values)

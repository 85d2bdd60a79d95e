"""A catalogue of look-ahead bugs, each planted in a trainable that is otherwise the selector, or somebody's own.

The numbers are those of the leak register (SPEC J) and the names those of the bug as one meets it in the wild.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from results.metrics import Metric
from trainables.contract import Context, Evaluation, Parameter, Prepared
from trainables.forecast import Forecasts, empirical
from trainables.market import Panel, load_market
from trainables.market.panel import BAR
from trainables.policy import decode
from trainables.selector import SelectorTrainable
from trainables.selector.candidates import BUY, FLAGS, KNOWN_MARK, LOW, ORDER_CLOSE, ORDER_LOW, PRESENT
from trainables.selector.inputs import SelectorInputs

DATA = {
    "source": "sample",
    "symbols": ["ETHUSD", "BTCUSD", "NVDA", "AAPL"],
    "bars": 300,
    "assets": {"stock": {"can_short": True}, "crypto": {"can_short": True}},
}
SETTINGS: dict[str, Any] = {"forecast_window": 36, "logits": [3, 3, 2, 2]}
CONFIGS: tuple[dict[str, Any], ...] = (
    {"min_edge": -0.05},
    {"min_edge": -0.05, "max_positions": 2, "dip_threshold": 0.003, "allow_short": True, "leverage": 2.0},
    {"min_edge": -0.05, "max_positions": 2, "lag": 2, "max_hold": 5, "work_steal": True},
)
LEGACY = {"min_edge": -0.05, "lag": 1}


@dataclass(frozen=True)
class Leak:
    """A planted bug, and what the audit must say about it.

    Attributes:
        name: The bug in words. register: Its number in SPEC J, "" if it has none.
        make: The trainable with the bug.
        check: The check that must fail. stage: The stage it must name.
        settings, configs: Where the bug shows.
        options: Further arguments of `audit`.
    """

    name: str
    register: str
    make: Callable[[], Any]
    check: str
    stage: str
    settings: Mapping[str, Any] = field(default_factory=lambda: SETTINGS)
    configs: Sequence[Mapping[str, Any]] = CONFIGS
    options: Mapping[str, Any] = field(default_factory=dict)


# --- bars ---------------------------------------------------------------------------------------------------------------------


class LeakyBars(SelectorTrainable):
    def __init__(self, spoil: Callable[[Panel], Panel]) -> None:
        self.spoil = spoil

    def prepare_panel(self, panel: Panel, settings: Mapping[str, Any], *cut: Any) -> Prepared:
        return super().prepare_panel(self.spoil(panel), settings)


def filled_backwards(panel: Panel) -> Panel:
    return replace(panel, **{name: pd.DataFrame(getattr(panel, name)).bfill().ffill().to_numpy() for name in BAR})


def survivors(panel: Panel) -> Panel:
    close = pd.DataFrame(panel.close)
    grown = close.ffill().iloc[-1] / close.bfill().iloc[0]
    return panel.select([panel.symbols[i] for i in np.argsort(grown)[1:]])


def shifted_label(panel: Panel) -> Panel:
    early = {name: np.vstack([getattr(panel, name)[1:], np.full((1, len(panel.symbols)), np.nan)]) for name in BAR}
    exists = ~np.isnan(early["close"])
    return replace(panel, tradable=exists, session_last=np.zeros_like(exists), **early)


def back_adjusted(panel: Panel) -> Panel:
    last = pd.DataFrame(panel.close).ffill().to_numpy()[-1]
    return replace(panel, **{name: getattr(panel, name) / last * 100.0 for name in ("open", "high", "low", "close")})


def last_row_of_the_frame(panel: Panel) -> Panel:
    day = pd.DatetimeIndex(panel.times).normalize().to_numpy()
    last = np.zeros_like(panel.session_last)
    for a, asset in enumerate(panel.assets):
        rows = np.flatnonzero(panel.exists[:, a])
        if asset.asset_class == "stock" and len(rows):
            last[rows[np.append(day[rows][1:] != day[rows][:-1], True)], a] = True
    return replace(panel, session_last=last)


class LeakyLoading(SelectorTrainable):
    """Only `prepare` leaks: the loader fills gaps."""

    def prepare(self, data: Mapping[str, Any], settings: Mapping[str, Any], *cut: Any) -> Prepared:
        return self.prepare_panel(filled_backwards(load_market(data)[0]), settings, *cut)


# --- forecasts ----------------------------------------------------------------------------------------------------------------


class LeakyForecasts(SelectorTrainable):
    """`spoil(panel, values)` makes the forecaster's values, float64 (H, 4, 3, T, A), from the honest ones."""

    def __init__(self, spoil: Callable[[Panel, np.ndarray], np.ndarray]) -> None:
        self.spoil = spoil

    def prepare_panel(self, panel: Panel, settings: Mapping[str, Any], *cut: Any) -> Prepared:
        prepared = super().prepare_panel(panel, settings, *cut)
        market = prepared.inputs.parts[0].panel
        honest = empirical(market, window=settings["forecast_window"])
        return with_forecasts(prepared, replace(honest, pieces=self.spoil(market, honest.values)), settings["logits"])


def with_orders(prepared: Prepared, orders: np.ndarray, kind: type[SelectorInputs] = SelectorInputs) -> Prepared:
    made = kind(prepared.inputs.parts[0].panel, np.ascontiguousarray(orders))
    return replace(prepared, inputs=replace(prepared.inputs, parts=(made,)))


def with_forecasts(prepared: Prepared, forecasts: Forecasts, logits: Sequence[float]) -> Prepared:
    actions = decode(prepared.inputs.parts[0].panel, forecasts, tuple(logits))
    prices = (actions.buy_price, actions.sell_price, actions.buy_amount, actions.sell_amount)
    return with_orders(prepared, np.stack([*prices, *(forecasts.p50(name) for name in ("high", "low", "close"))]))


def grouped_windows(panel: Panel, values: np.ndarray) -> np.ndarray:
    relative = values / panel.close
    for begin in range(0, panel.n_bars, 8):  # a batch of consecutive windows attends to all of itself
        block = relative[..., begin : begin + 8, :]
        relative[..., begin : begin + 8, :] = 0.5 * block + 0.5 * np.nan_to_num(block).mean(axis=-2, keepdims=True)
    return relative * panel.close


def later_step(panel: Panel, values: np.ndarray) -> np.ndarray:
    out = np.full_like(values, np.nan)
    out[..., :-1, :] = values[..., 1:, :]
    return out


def missing_from_later(panel: Panel, values: np.ndarray) -> np.ndarray:
    table = values.transpose(3, 0, 1, 2, 4).reshape(panel.n_bars, -1)
    filled = pd.DataFrame(table).bfill().to_numpy()
    return filled.reshape(values.transpose(3, 0, 1, 2, 4).shape).transpose(1, 2, 3, 0, 4)


def quantiles_of_the_sample(panel: Panel, values: np.ndarray) -> np.ndarray:
    middle = np.nan_to_num(values / panel.close, nan=1.0).mean(axis=3, keepdims=True)
    return np.where(np.isnan(values), np.nan, middle * panel.close)


def target_as_feature(panel: Panel, values: np.ndarray) -> np.ndarray:
    moved = pd.DataFrame(panel.close).pct_change(fill_method=None).shift(-1).fillna(0.0).to_numpy()  # .shift(-1) of the label
    return values * (1.0 + 0.5 * moved)


def four_hours_at_their_start(panel: Panel, values: np.ndarray) -> np.ndarray:
    frame = pd.DataFrame(panel.close, index=pd.DatetimeIndex(panel.times))
    coarse = frame.resample("4h", label="left").last()  # joined on the label: known up to three bars early
    joined = coarse.reindex(frame.index, method="ffill").to_numpy()
    return values * np.where(np.isnan(joined / panel.close), 1.0, joined / panel.close)


# --- actions ------------------------------------------------------------------------------------------------------------------


class LeakyActions(SelectorTrainable):
    """`spoil(panel)` gives a share, float64 (T, A), by which buy amounts are multiplied."""

    def __init__(self, spoil: Callable[[Panel], np.ndarray]) -> None:
        self.spoil = spoil

    def prepare_panel(self, panel: Panel, settings: Mapping[str, Any], *cut: Any) -> Prepared:
        prepared = super().prepare_panel(panel, settings, *cut)
        orders = prepared.inputs.parts[0].orders.copy()
        orders[2] *= np.clip(np.nan_to_num(self.spoil(prepared.inputs.parts[0].panel), nan=0.5), 0.0, 1.0)
        return with_orders(prepared, orders)


def returns(panel: Panel) -> pd.DataFrame:
    return pd.DataFrame(panel.close).pct_change(fill_method=None)


def both_directions(panel: Panel) -> np.ndarray:
    smooth = returns(panel).fillna(0.0).rolling(9, center=True, min_periods=1).mean()
    return 1.0 / (1.0 + np.exp(-500.0 * smooth.to_numpy()))


def centred_volatility(panel: Panel) -> np.ndarray:
    return np.asarray(1.0 - 20.0 * returns(panel).rolling(13, center=True, min_periods=3).std())


def standardised_by_the_sample(panel: Panel) -> np.ndarray:
    size = np.log(pd.DataFrame(panel.high / panel.low))
    return np.asarray(0.5 + 0.1 * (size - size.mean()) / size.std())


def fitted_in_sample(panel: Panel) -> np.ndarray:
    x = returns(panel).fillna(0.0)
    slope = (x * x.shift(-1)).sum() / (x * x).sum()
    return np.asarray(0.5 + 50.0 * slope * x)


def rank_by_the_final_price(panel: Panel) -> np.ndarray:
    last = pd.DataFrame(panel.close).ffill().to_numpy()[-1]
    return np.clip(0.5 + (last / panel.close - 1.0), 0.1, 1.0)


# --- orders and fills -----------------------------------------------------------------------------------------------------------


class LeakyInputs(SelectorTrainable):
    def __init__(self, kind: type[SelectorInputs]) -> None:
        self.kind = kind

    def prepare_panel(self, panel: Panel, settings: Mapping[str, Any], *cut: Any) -> Prepared:
        prepared = super().prepare_panel(panel, settings, *cut)
        return with_orders(prepared, prepared.inputs.parts[0].orders, self.kind)


class NoLag(SelectorInputs):
    def _align(self, lag: int, market_hours: bool, legacy: bool) -> Any:
        return super()._align(lag - 1, market_hours, legacy)


class SameBarDip(SelectorInputs):
    def _align(self, *key: Any) -> Any:
        aligned = super()._align(*key)
        cells, orders = aligned.cells.copy(), aligned.orders.copy()
        cells[:, :, ORDER_LOW], cells[:, :, ORDER_CLOSE] = self.panel.low.T, self.panel.close.T
        orders[4], orders[5] = self.panel.low, self.panel.close
        return replace(aligned, cells=frozen(cells), orders=frozen(orders))


class RankedAfterTheFill(SelectorInputs):
    def _align(self, *key: Any) -> Any:
        aligned = super()._align(*key)
        fills = aligned.cells[:, :, LOW].T <= aligned.cells[:, :, BUY].T
        return replace(aligned, competes=frozen(aligned.competes & fills))


class SizedWithTheBarsClose(SelectorInputs):
    def _align(self, *key: Any) -> Any:
        aligned = super()._align(*key)
        cells = aligned.cells.copy()
        cells[:, :, KNOWN_MARK] = self.held_mark.T
        return replace(aligned, cells=frozen(cells))


class HaltsKnownEarly(SelectorInputs):
    """Does not trade a symbol whose next bar will be missing or thin."""

    def _align(self, *key: Any) -> Any:
        aligned = super()._align(*key)
        cells = aligned.cells.copy()
        thin = np.vstack([self.panel.volume[1:] < np.nanmedian(self.panel.volume, axis=0), np.zeros((1, len(self.panel.symbols)), bool)])
        cells[:, :, FLAGS] = np.where(thin.T & (cells[:, :, FLAGS] > 0), PRESENT, cells[:, :, FLAGS])
        return replace(aligned, cells=frozen(cells), competes=frozen(aligned.competes & ~thin))


class MarkedAtTheNextOpen(SelectorInputs):
    @property
    def marks(self) -> np.ndarray:  # type: ignore[override]
        later = pd.DataFrame(self.panel.open).shift(-1).ffill().fillna(pd.DataFrame(self.held_mark))
        return frozen(np.where(np.isnan(self.held_mark), np.nan, later).T)


class CostsOfToday(SelectorInputs):
    @property
    def costs(self) -> np.ndarray:  # type: ignore[override]
        made = super().costs.copy()
        made[:, 0] += 1e-3 / np.log(np.nanmean(self.panel.volume, axis=0) + 3.0)
        return frozen(made)


def frozen(array: np.ndarray) -> np.ndarray:
    view = np.ascontiguousarray(array)
    view.flags.writeable = False
    return view


# --- packs, seeds, somebody's own -------------------------------------------------------------------------------------------------


class UnseededNoise(SelectorTrainable):
    def prepare_panel(self, panel: Panel, settings: Mapping[str, Any], *cut: Any) -> Prepared:
        prepared = super().prepare_panel(panel, settings, *cut)
        orders = prepared.inputs.parts[0].orders.copy()
        orders[4] *= 1.0 + 1e-4 * np.random.standard_normal(orders[4].shape)
        return with_orders(prepared, orders)


class PackStatistics(SelectorTrainable):
    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], ctx: Context) -> Evaluation:
        frame = super().evaluate_pack(configs, ctx).metrics
        return Evaluation(frame.assign(sortino=frame["total_return"] - frame["total_return"].mean()))


class BestSoFar(SelectorTrainable):
    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], ctx: Context) -> Evaluation:
        frame = super().evaluate_pack(configs, ctx).metrics
        return Evaluation(frame.assign(total_return=frame["total_return"].cummax()))


class Momentum:
    """Somebody's own: holds what rose over the last bars. Only metrics can be seen, and equity in a subclass."""

    name = "momentum"
    version = "1"
    parameters = (Parameter("bars", 3, "int", 1, 100),)
    metrics = (Metric("total_return", "max", "fraction", "final equity over initial cash, minus 1"),)
    objective = "total_return"

    def prepare(self, data: Mapping[str, Any], settings: Mapping[str, Any], *cut: Any) -> Prepared:
        panel = load_market(data)[0]
        if "end" in settings:
            panel = panel.between(end=settings["end"])
        return Prepared(self.features(panel), panel.fingerprint, {}, {"bars": 3})

    def features(self, panel: Panel) -> dict[str, Any]:
        close = pd.DataFrame(panel.close, index=pd.DatetimeIndex(panel.times)).ffill()
        return {"moves": close.pct_change().fillna(0.0)}

    def position(self, moves: pd.DataFrame, bars: int) -> pd.DataFrame:
        return (moves.rolling(bars).sum() > 0.0).astype(float).shift(1).fillna(0.0)

    def curve(self, config: Mapping[str, Any], ctx: Context) -> pd.Series:
        moves = ctx.inputs["moves"]
        held = self.position(moves, config["bars"])
        paid = 0.0015 * held.diff().abs().fillna(0.0)
        return (1.0 + (held * moves - paid).mean(axis=1)).cumprod()

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], ctx: Context) -> Evaluation:
        return Evaluation(pd.DataFrame({"total_return": [self.curve(config, ctx).iloc[-1] - 1.0 for config in configs]}))


class MomentumCurve(Momentum):
    def equity(self, config: Mapping[str, Any], ctx: Context) -> pd.Series:
        return self.curve(config, ctx)


class SameBarEntry(MomentumCurve):
    """Enters at the close the signal used, and earns that bar."""

    def position(self, moves: pd.DataFrame, bars: int) -> pd.DataFrame:
        return (moves.rolling(bars).sum() > 0.0).astype(float)


class Peeking(MomentumCurve):
    """Knows the direction of the very bar it trades in, in a small share of the bars; pays the assets' fees, or one that stays.

    Its equity up to any time says nothing of bars after it.
    """

    def __init__(self, share: float, fee: float | None = None) -> None:
        self.share, self.fee = share, fee

    def features(self, panel: Panel) -> dict[str, Any]:
        fees = pd.Series([asset.maker_fee_bps / 1e4 for asset in panel.assets])
        return {**super().features(panel), "fees": fees if self.fee is None else self.fee}

    def curve(self, config: Mapping[str, Any], ctx: Context) -> pd.Series:
        moves = ctx.inputs["moves"]
        held = self.position(moves, config["bars"])
        peeks = np.random.default_rng(5).random(moves.shape) < self.share
        held = held.mask(peeks, (moves > 0.0).astype(float))
        return (1.0 + (held * moves - held.diff().abs().fillna(0.0) * ctx.inputs["fees"]).mean(axis=1)).cumprod()


class Oracle(MomentumCurve):
    """Holds what is about to rise."""

    def position(self, moves: pd.DataFrame, bars: int) -> pd.DataFrame:
        return (moves > 0.003).astype(float)


class ScaledByTheSample(MomentumCurve):
    def position(self, moves: pd.DataFrame, bars: int) -> pd.DataFrame:
        return super().position(moves, bars) * 0.01 / moves.std()


class ScaledBeforeItIsCut(Momentum):
    """The evaluation ends at `end`, but the scaler has seen everything."""

    def prepare(self, data: Mapping[str, Any], settings: Mapping[str, Any], *cut: Any) -> Prepared:
        prepared = super().prepare(data, settings)
        everything = super().features(load_market(data)[0])["moves"]
        return replace(prepared, inputs={"moves": prepared.inputs["moves"] * 0.01 / everything.std()})


_OWN: dict[str, Any] = {"settings": {}, "configs": ({"bars": 2}, {"bars": 5})}


def _legacy(**config: Any) -> dict[str, Any]:
    return {"settings": SETTINGS | {"profile": "legacy"}, "configs": (LEGACY | config, LEGACY | config | {"max_positions": 2})}


LEAKS: tuple[Leak, ...] = (
    Leak("gaps filled from later bars", "J19", lambda: LeakyBars(filled_backwards), "future", "bars"),
    Leak("symbols chosen because they rose", "J19", lambda: LeakyBars(survivors), "future", "bars"),
    Leak("bars labelled one bar early", "J23", lambda: LeakyBars(shifted_label), "future", "bars"),
    Leak("prices adjusted to the last one", "J19", lambda: LeakyBars(back_adjusted), "future", "bars"),
    Leak("gaps filled while loading only", "J19", LeakyLoading, "future", "bars"),
    Leak("close of day from the frame's last row", "J14", lambda: LeakyBars(last_row_of_the_frame), "future", "calendar"),
    Leak("costs as they are today", "J24", lambda: LeakyInputs(CostsOfToday), "future", "costs"),
    Leak("joint forecasts of consecutive windows", "J3", lambda: LeakyForecasts(grouped_windows), "future", "forecasts"),
    Leak("forecast read one step later", "J16", lambda: LeakyForecasts(later_step), "future", "forecasts"),
    Leak("missing forecasts filled from later ones", "J17", lambda: LeakyForecasts(missing_from_later), "future", "forecasts"),
    Leak("quantiles of the whole sample", "J18", lambda: LeakyForecasts(quantiles_of_the_sample), "future", "forecasts"),
    Leak("label shifted into the features", "J23", lambda: LeakyForecasts(target_as_feature), "future", "forecasts"),
    Leak("four-hour bars joined at their start", "J23", lambda: LeakyForecasts(four_hours_at_their_start), "future", "forecasts"),
    Leak("encoder that looks both ways", "J4", lambda: LeakyActions(both_directions), "future", "actions"),
    Leak("centred rolling window", "J18", lambda: LeakyActions(centred_volatility), "future", "actions"),
    Leak("normalised by the whole sample", "J18", lambda: LeakyActions(standardised_by_the_sample), "future", "actions"),
    Leak("fitted on what it is tested on", "J5", lambda: LeakyActions(fitted_in_sample), "future", "actions"),
    Leak("sized by the final price", "J7", lambda: LeakyActions(rank_by_the_final_price), "future", "actions"),
    Leak("thin bars known a bar early", "J19", lambda: LeakyInputs(HaltsKnownEarly), "future", "calendar"),
    Leak("filled in the bar that was decided on", "J1", lambda: LeakyInputs(NoLag), "future", "candidates"),
    Leak("dip of the bar the order is live in", "J6", lambda: LeakyInputs(SameBarDip), "next bar", "candidates"),
    Leak("ranked after the fill is known", "J2", lambda: LeakyInputs(RankedAfterTheFill), "next bar", "candidates"),
    Leak("sized with the closes of the bar", "J21", lambda: LeakyInputs(SizedWithTheBarsClose), "other symbol", "fills"),
    Leak("only what fills is ranked", "J2", SelectorTrainable, "other symbol", "fills", **_legacy(fillable_only=True)),
    Leak("proceeds reused within the bar", "J13", SelectorTrainable, "other symbol", "fills", **_legacy(fillable_only=False, reentry=True)),
    Leak("marked at the next open", "J20", lambda: LeakyInputs(MarkedAtTheNextOpen), "future", "equity"),
    Leak("noise from the global generator", "", UnseededNoise, "determinism", "forecasts"),
    Leak("statistics over the pack", "J3", PackStatistics, "batch", "metrics"),
    Leak("best result so far", "J7", BestSoFar, "batch", "metrics"),
    Leak("own: entry at the signal's own bar", "J23", SameBarEntry, "null market", "metrics", **_OWN),
    Leak("own: knows 6 % of its bars", "J23", lambda: Peeking(0.06), "null market", "metrics", **_OWN, options={"null_seeds": 8}),
    Leak("own: knows the bar it buys", "", Oracle, "alarm", "metrics", **_OWN),
    Leak("own: scaled by the whole sample", "J18", ScaledByTheSample, "future", "equity", **_OWN),
    Leak("own: scaled before it is cut", "J18", ScaledBeforeItIsCut, "future", "metrics", **_OWN, options={"until": "end"}),
)

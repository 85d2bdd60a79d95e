"""Logits to limit prices and amounts (SPEC F.4, midpoint mode)."""

import dataclasses

import numpy as np
import pytest

from trainables.contract import TrainableError
from trainables.forecast import Forecasts, empirical
from trainables.market import Panel, make_assets, sample_panel
from trainables.policy import decode


def one_bar(close: float, high: float, low: float) -> tuple[Panel, Forecasts]:
    """A bar that closed at `close`, and median forecasts of the next one's high and low."""
    times = np.array(["2024-01-01"], "datetime64[ns]")
    flat = np.full((1, 1), float(close))
    yes = np.ones((1, 1), bool)
    panel = Panel(times, ("BTCUSD",), flat, flat, flat, flat, flat, yes, ~yes, make_assets(["BTCUSD"]))
    values = np.full((1, 4, 3, 1, 1), float(close))
    values[0, 1], values[0, 2] = high, low
    return panel, Forecasts(times, ("BTCUSD",), (1,), values, 3600.0, "by hand")


def numbers(actions) -> list[float]:
    return [x.item() for x in (actions.buy_price, actions.sell_price, actions.buy_amount, actions.sell_amount)]


LN3 = float(np.log(3.0))  # σ(ln 3) = ¾, σ(−ln 3) = ¼


@pytest.mark.parametrize(
    ("bar", "logits", "want"),
    [
        # Lo 96, Hi 108: buy 96 + ¾·4, sell 100 + ¼·8.
        ((100, 108, 96), (LN3, -LN3, 0.0, LN3), [99, 102, 0.5, 0.75]),
        ((100, 108, 96), (0, 0, 0, 0), [98, 104, 0.5, 0.5]),
        # Forecasts on the wrong side of the close do not move a limit through it; 3 bps of 100 keep the limits apart.
        ((100, 99, 103), (0, 0, 0, 0), [100, 100.03, 0.5, 0.5]),
        ((100, 100.01, 96), (1000, 0, 0, 0), [100, 100.03, 0.5, 0.5]),
        ((100, 108, 96), (-1000, 1000, -1000, 1000), [96, 108, 0, 1]),
        # Below a close of 3.3e-5 the gap is 1e-8.
        ((1e-5, 1e-5, 1e-5), (0, 0, 0, 0), [1e-5, 1e-5 + 1e-8, 0.5, 0.5]),
    ],
)
def test_midpoint_decoding_worked_by_hand(bar, logits, want):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert numbers(decode(*one_bar(*bar), logits)) == pytest.approx(want, rel=1e-14)


def test_sell_is_never_below_buy_and_amounts_are_fractions():
    panel = sample_panel(bars=24 * 20)
    logits = np.random.default_rng(0).normal(0, 4, (4, *panel.close.shape))
    actions = decode(panel, empirical(panel), logits)
    known = np.isfinite(actions.buy_price)
    assert known.sum() > 500
    buy, sell, ref = actions.buy_price[known], actions.sell_price[known], panel.close[known]
    assert (sell >= buy + 3e-4 * ref * (1 - 1e-9)).all()
    assert (buy <= ref).all() and (sell >= ref).all()
    for amount in (actions.buy_amount[known], actions.sell_amount[known]):
        assert ((amount >= 0) & (amount <= 1)).all()


def test_each_row_takes_its_own_logits():
    panel = sample_panel(["BTCUSD", "ETHUSD"], bars=60)
    forecasts = empirical(panel)
    logits = np.random.default_rng(1).normal(0, 1, (4, *panel.close.shape))
    every = decode(panel, forecasts, logits)
    alone = decode(panel, forecasts, tuple(logits[:, 50, 1]))
    for name in ("buy_price", "sell_price", "buy_amount", "sell_amount"):
        assert getattr(every, name)[50, 1] == getattr(alone, name)[50, 1]
        assert np.isfinite(getattr(every, name)[50, 1])


@pytest.mark.parametrize("broken", ["close", "high", "low", *range(4)])
def test_a_missing_number_gives_no_decision(broken):
    panel, forecasts = one_bar(100, 108, 96)
    logits = np.zeros((4, 1, 1))
    if broken == "close":
        nothing = {name: np.full((1, 1), np.nan) for name in ("open", "high", "low", "close", "volume")}
        panel = dataclasses.replace(panel, **nothing, tradable=np.zeros((1, 1), bool))
    elif broken in ("high", "low"):
        values = forecasts.values
        values[0, 1 if broken == "high" else 2, 1] = np.nan
        forecasts = dataclasses.replace(forecasts, pieces=values)
    else:
        logits[broken] = np.nan
    actions = decode(panel, forecasts, logits)
    assert np.isnan(numbers(actions)).all()
    assert actions.table().empty


def test_bars_after_t_never_change_actions_up_to_t():
    panel = sample_panel(bars=24 * 8, seed=2)
    before = decode(panel, empirical(panel))
    for t in (30, 80, 150):
        after = np.arange(panel.n_bars)[:, None] > t
        changed = {name: np.where(after, getattr(panel, name) * 1.3, getattr(panel, name)) for name in ("open", "high", "low", "close")}
        future = dataclasses.replace(panel, **changed)
        moved = decode(future, empirical(future))
        for name in ("buy_price", "sell_price", "buy_amount", "sell_amount"):
            np.testing.assert_array_equal(getattr(before, name)[: t + 1], getattr(moved, name)[: t + 1])
        assert not np.array_equal(before.buy_price, moved.buy_price, equal_nan=True)


def test_the_table_has_a_row_per_decision():
    panel = sample_panel(["BTCUSD", "NVDA"], bars=24 * 7)
    actions = decode(panel, empirical(panel))
    table = actions.table()
    assert list(table.columns) == ["timestamp", "symbol", "buy_price", "sell_price", "buy_amount", "sell_amount"]
    assert len(table) == np.isfinite(actions.buy_price).sum() > 100
    assert not table.isna().any().any()
    last = table[table["symbol"] == "NVDA"].iloc[-1]
    row = np.flatnonzero(actions.times == last["timestamp"].tz_localize(None).to_datetime64()).item()
    assert last["sell_price"] == actions.sell_price[row, 1]


def test_logits_and_forecasts_of_another_market_are_refused():
    panel = sample_panel(["BTCUSD", "ETHUSD"], bars=60)
    forecasts = empirical(panel)
    with pytest.raises(TrainableError, match="four numbers"):
        decode(panel, forecasts, (0.0, 0.0, 2.0))
    with pytest.raises(TrainableError, match="four numbers"):
        decode(panel, forecasts, np.zeros((4, 60)))
    for other in (panel.select(["ETHUSD", "BTCUSD"]), panel.tail(59)):
        with pytest.raises(TrainableError, match="not on the panel's rows and symbols"):
            decode(other, forecasts)

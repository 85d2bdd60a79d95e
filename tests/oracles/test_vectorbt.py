"""Several assets on one cash account against vectorbt 1.2.0.

Two comparisons, both at 1e-12 relative on equity, cash and total fees (ratios that need a standard deviation at 1e-9):

1. `Portfolio.from_orders` (cash_sharing, group_by, an explicit call_seq) keeps the account for the orders our rules decided.
   Compared: cash and equity at every bar, fees, number of orders, closed positions, win rate, total return, final value,
   maximum drawdown, Sharpe. What pays the taker reaches vectorbt as the open, a slippage and a taker fee, so it works out
   the price itself: forced closes, and limits the open has passed (R3), unless the limit caps their price. Stocks with
   sessions, shorts, work stealing, partial fills, volume caps and a delisting take part.
2. `Portfolio.from_order_func` with an order function that decides for itself (benchmarks/peer_vectorbt.py: rules A1–A5,
   R3–R5, R7, no code shared with ours) on vectorbt's own account: K positions, buffers, forced closes. Compared: every order
   and equity at every bar. It is also the peer our speed is measured against, so the benchmark compares equal work.

Different by design, hence left out: vectorbt has no interest on cash or borrowed stock and refuses a negative cash balance
(`leverage` 1, rates 0), has no limit orders, volume or calendars of its own, one order per bar and column in `from_orders`
(so no partial exit followed by the session's close in the same bar), and
takes cash and positions within a relative 1e-9 of zero for zero. It counts open positions as trades; closed ones are compared.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

vbt = pytest.importorskip("vectorbt", reason="needs vectorbt: pip install -c constraints.txt -r tests/oracles/requirements.txt")
from benchmarks import peer_vectorbt  # noqa: E402
from tests.oracles.markets import CASH, random_market  # noqa: E402
from trainables.selector.inputs import SelectorInputs  # noqa: E402
from trainables.selector.options import encode, profile_defaults  # noqa: E402
from trainables.selector.simulate import evaluate  # noqa: E402
from trainables.selector.trainable import SelectorTrainable  # noqa: E402

pytestmark = pytest.mark.oracle

COINS = ("AAVEUSD", "BTCUSD", "ETHUSD", "LINKUSD", "SOLUSD", "XRPUSD")
FREE_MONEY = {"margin_rate": 0.0, "borrow_rate": 0.0, "maintenance_margin": 0.0}
FORCED = ("max_hold", "eod", "work_steal", "liquidation", "delisted")


def through_the_open(fill, opened, spread, buffer):
    """Whether a limit was through the open (R3), and if so whether it paid the whole spread or only up to its limit."""
    sign = 1.0 if fill.side == "buy" else -1.0
    if np.isclose(fill.price, opened * (1.0 + sign * spread), rtol=1e-12, atol=0.0):
        return "whole spread"
    return "limit" if sign * opened <= sign * fill.price * (1.0 - sign * buffer) else ""


def replay(panel, config, fills):
    """Hands our fills to vectorbt as orders, in the order of our log within a row."""
    shape = panel.close.shape
    size, price, fees, slippage = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape), np.zeros(shape)
    rank = np.tile(np.arange(shape[1]) + shape[1], (shape[0], 1))
    rows = pd.DatetimeIndex(panel.times, tz="UTC").get_indexer(fills["timestamp"])
    close = pd.DataFrame(panel.close, index=pd.DatetimeIndex(panel.times)).ffill().bfill()
    last = close.to_numpy()
    for k, (row, fill) in enumerate(zip(rows, fills.itertuples(), strict=True)):
        a = panel.symbols.index(fill.symbol)
        assert np.isnan(size[row, a]), "one order per row and symbol"
        asset, forced = panel.assets[a], fill.reason in FORCED
        spread = asset.half_spread_bps / 1e4 * config["cost_multiplier"]
        crossing = not forced and through_the_open(fill, panel.open[row, a], spread, config["fill_buffer"])
        size[row, a] = fill.quantity if fill.side == "buy" else -fill.quantity
        price[row, a] = fill.price
        if forced:
            price[row, a] = (last if fill.reason in ("eod", "delisted") else panel.open)[row, a]
            slippage[row, a] = spread + config["slippage"] * config["cost_multiplier"]
        elif crossing == "whole spread":
            price[row, a], slippage[row, a] = panel.open[row, a], spread
        fees[row, a] = (asset.taker_fee_bps if forced or crossing else asset.maker_fee_bps) / 1e4 * config["cost_multiplier"]
        rank[row, a] = -len(fills) + k
    return vbt.Portfolio.from_orders(
        close,
        size=size,
        price=price,
        fees=fees,
        slippage=slippage,
        direction="both",
        init_cash=CASH,
        cash_sharing=True,
        group_by=True,
        call_seq=np.argsort(rank, axis=1),
        allow_partial=False,
        raise_reject=True,
        freq="1h",
    )


def compare_account(inputs, config):
    config = profile_defaults("realistic") | FREE_MONEY | config
    got = evaluate(inputs, encode([config], "realistic"), profile="realistic", initial_cash=CASH, equity=True, fills=True)
    portfolio = replay(inputs.panel, config, got.fills)
    curve, metrics = got.equity.to_numpy()[:, 0], got.metrics.iloc[0]
    np.testing.assert_allclose(curve, portfolio.value().to_numpy(), rtol=1e-12)
    signs = np.where(got.fills["side"] == "buy", 1.0, -1.0)
    flows = -signs * got.fills["price"] * got.fills["quantity"] - got.fills["fee"]
    stamps = got.fills["timestamp"].dt.tz_localize(None)
    cash = CASH + flows.groupby(stamps.to_numpy()).sum().reindex(inputs.panel.times, fill_value=0.0).cumsum().to_numpy()
    # Cash can be near zero after a purchase: the tolerance is relative to the account.
    np.testing.assert_allclose(cash, portfolio.cash().to_numpy(), rtol=1e-12, atol=1e-12 * CASH)
    assert len(got.fills) == portfolio.orders.count()
    np.testing.assert_allclose(got.fills["fee"], portfolio.orders.records.sort_values("id")["fees"], rtol=1e-12)
    np.testing.assert_allclose(metrics["fees"] * CASH, portfolio.orders.fees.sum(), rtol=1e-12)
    np.testing.assert_allclose(curve[-1], portfolio.final_value(), rtol=1e-12)
    np.testing.assert_allclose(1 + metrics["total_return"], 1 + portfolio.total_return(), rtol=1e-12)
    np.testing.assert_allclose(metrics["max_drawdown"], portfolio.max_drawdown(), rtol=1e-12)
    closed = portfolio.positions.closed
    assert metrics["trades"] == closed.count()
    np.testing.assert_allclose(metrics["win_rate"], closed.win_rate(), rtol=1e-12)
    if inputs.calendar_bars == inputs.panel.n_bars:
        np.testing.assert_allclose(metrics["sharpe"], portfolio.sharpe_ratio(year_freq="365 days"), rtol=1e-9)
    return got.fills


MIXED = {
    "one position": {},
    "three positions, by time": {"max_positions": 3, "max_hold": 5},
    "both sides": {"max_positions": 4, "allow_short": True, "min_edge": -0.002},
    "work stealing": {"max_positions": 2, "work_steal": True, "steal_min_profit": -0.01, "steal_min_edge": 0.0, "steal_margin": -0.05},
    "stocks overnight, cash kept": {"max_positions": 5, "close_at_eod": False, "cash_buffer": 0.05, "min_edge": -0.002},
    "volume cap, double cost": {
        "max_positions": 3,
        "max_volume_fraction": 1e-5,
        "cost_multiplier": 2.0,
        "close_at_eod": False,
        "min_edge": -0.01,
    },
    "limits through the open": {"max_positions": 3, "offset": -0.004, "min_edge": -0.01},
    "partial fills": {"max_positions": 3, "fill": "penetration", "touch_fraction": 0.1, "close_at_eod": False, "min_edge": -0.002},
}


@pytest.mark.parametrize("name", MIXED)
def test_the_account_of_crypto_and_stocks_equals_vectorbt(name):
    data = {
        "source": "sample",
        "bars": 1500,
        "signal": 0.1,
        "seed": 11,
        "assets": {"stock": {"can_short": True}, "crypto": {"can_short": True}},
    }
    fills = compare_account(SelectorTrainable().prepare(data, {}).inputs.parts[0], MIXED[name])
    assert len(fills) > 100
    stocks = fills["symbol"].isin(["NVDA", "MSFT"])
    assert stocks.any() and (~stocks).any()
    for option in ("max_hold", "work_steal"):
        assert (option in set(fills["reason"])) == bool(MIXED[name].get(option))
    assert ("eod" in set(fills["reason"])) == MIXED[name].get("close_at_eod", True)
    assert ("sell" in set(fills["side"][fills["reason"] == "entry"])) == MIXED[name].get("allow_short", False)
    # Whole positions go in as many exits as entries; partial fills and volume caps take several.
    partial = "fill" in MIXED[name] or "max_volume_fraction" in MIXED[name]
    exits, entries = (fills["reason"] != "entry").sum(), (fills["reason"] == "entry").sum()
    assert (exits > entries) if partial else (exits <= entries)


def test_a_limit_through_the_open_pays_the_taker_in_both_accounts():
    dear = {"maker_fee_bps": 1.0, "taker_fee_bps": 4.0, "half_spread_bps": 20.0}  # some limits cap what the spread may cost
    data = {"source": "sample", "bars": 1500, "signal": 0.1, "seed": 11, "assets": {"stock": dear, "crypto": dear}}
    inputs = SelectorTrainable().prepare(data, {}).inputs.parts[0]
    fills = compare_account(inputs, {"max_positions": 3, "offset": -0.004, "min_edge": -0.01})
    bps = (fills["fee"] / (fills["price"] * fills["quantity"]) * 1e4).round(6)
    rows = pd.DatetimeIndex(inputs.panel.times, tz="UTC").get_indexer(fills["timestamp"])
    opened = inputs.panel.open[rows, [inputs.panel.symbols.index(symbol) for symbol in fills["symbol"]]]
    crossed = (fills["reason"] == "entry") & (bps == 4.0)
    paid = (fills["price"] / opened - 1)[crossed].round(9)
    assert (paid == 0.002).sum() > 100 and paid.between(0.0005, 0.0019).sum() > 20
    assert set(bps) == {1.0, 4.0}


def test_a_delisted_position_is_closed_in_both_accounts():
    data = {"source": "sample", "bars": 1500, "signal": 0.1, "seed": 11}
    inputs = SelectorTrainable().prepare(data, {}).inputs.parts[0]
    panel, a, config = inputs.panel, inputs.panel.symbols.index("SOLUSD"), {"max_positions": 3}
    before = compare_account(inputs, config)
    bought = before[(before["symbol"] == "SOLUSD") & (before["reason"] == "entry")]["timestamp"].iloc[10]
    last = int(np.searchsorted(panel.times, bought.tz_localize(None).to_datetime64()))  # an exit needs a bar after the entry's
    gone = np.zeros(panel.close.shape, bool)
    gone[last + 1 :, a] = True
    cut = {name: np.where(gone, np.nan, getattr(panel, name)) for name in ("open", "high", "low", "close", "volume")}
    ended = replace(panel, **cut, tradable=panel.tradable & ~gone, session_last=panel.session_last & ~gone)
    fills = compare_account(SelectorInputs(ended, inputs.orders), config)
    [close] = fills[fills["reason"] == "delisted"].itertuples()
    assert close.symbol == "SOLUSD" and close.timestamp >= bought + pd.Timedelta(hours=168)
    np.testing.assert_allclose(close.price, panel.close[last, a] * (1 - profile_defaults("realistic")["slippage"]), rtol=1e-12)
    assert fills["timestamp"].iloc[-1] > close.timestamp  # the slot was free again


def peer_market(market):
    names = ("buy_price", "sell_price", "buy_amount", "sell_amount", "predicted_high_p50_h1", "predicted_low_p50_h1")
    costs = market.costs["crypto"]
    per_asset = [np.full(len(market.symbols), costs[k] / 1e4) for k in ("maker_fee_bps", "taker_fee_bps", "half_spread_bps")]
    hours = market.times.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64) / 3600.0
    bars = [market.bars[k] for k in ("open", "high", "low", "close")]
    minimum = np.full(len(market.symbols), costs["min_notional"])
    return peer_vectorbt.Market(hours, *bars, np.stack([market.orders[k] for k in names]), *per_asset, minimum)


DECIDED = [
    {"max_positions": k, "max_hold": hold, "offset": offset, "intensity": intensity, "min_edge": edge, "lag": lag, "fill_buffer": buffer}
    for k, hold, offset, intensity, edge, lag, buffer in (
        (1, 0, 0.0, 1.0, 0.0, 1, 0.0),
        (2, 6, 0.0005, 0.8, 0.001, 1, 0.0005),
        (3, 12, -0.002, 2.0, 0.0, 2, 0.0005),
        (4, 0, 0.001, 0.6, -0.002, 1, 0.001),
        (5, 3, -0.001, 1.0, 0.002, 3, 0.0),
        (6, 4, 0.0, 1.0, -0.01, 1, 0.0005),
    )
]
DECIDED[2] |= {"dip_threshold": 0.004, "risk_weight": 1.0}
DECIDED[3] |= {"cash_buffer": 0.1, "cost_multiplier": 2.0, "slippage": 0.002}


def test_vectorbt_deciding_for_itself_trades_the_same_k_positions():
    market = random_market(3, 1500, COINS, missing_hours=0.05, min_notional=500.0)
    configs = [profile_defaults("realistic") | FREE_MONEY | c for c in DECIDED]
    got = market.simulate(*configs)
    portfolio = peer_vectorbt.simulate(peer_market(market), configs, CASH)
    np.testing.assert_allclose(got.equity.to_numpy(), portfolio.value().to_numpy(), rtol=1e-12)
    np.testing.assert_allclose(1 + got.metrics["total_return"], 1 + portfolio.total_return(), rtol=1e-12)
    records = portfolio.orders.records
    records = records.assign(config=records["col"] // len(COINS), asset=records["col"] % len(COINS))
    at_once = 0
    for i, config in enumerate(configs):
        mine, theirs = got.fills[got.fills["config"] == i], records[records["config"] == i]
        rows = market.times.get_indexer(mine["timestamp"])
        ours = mine.assign(idx=rows, asset=[COINS.index(s) for s in mine["symbol"]], side=(mine["side"] == "sell").astype(int))
        ours, theirs = (x.sort_values(["idx", "asset"]) for x in (ours, theirs))
        columns = ["idx", "asset", "side"]
        assert ours[columns].to_numpy().tolist() == theirs[columns].to_numpy().tolist()
        for a, b in (("price", "price"), ("quantity", "size"), ("fee", "fees")):
            np.testing.assert_allclose(ours[a], theirs[b], rtol=1e-12)
        assert len(ours) > 100 and set(ours["reason"]) == {"entry", "limit"} | ({"max_hold"} if config["max_hold"] else set())
        open_now = np.cumsum(np.where(ours["side"] == 0, 1, -1))
        at_once = max(at_once, int(open_now.max()))
        assert open_now.max() <= config["max_positions"]
    assert at_once >= 4  # several positions did share the cash

"""The notebook function, and what must hold for any market, order and configuration."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.selector import scenarios
from tests.selector.test_reference import AAA, BBB, O1_VECTORS
from trainables.contract import TrainableError
from trainables.forecast import empirical
from trainables.market import MarketError, Panel, sample_panel
from trainables.policy import decode
from trainables.selector import simulate
from trainables.selector.inputs import ACTION_COLUMNS, FORECAST_COLUMNS, SelectorInputs
from trainables.selector.options import encode, profile_defaults
from trainables.selector.simulate import evaluate

CONFIGS = [{"min_edge": -0.01}, {"min_edge": -0.01, "lag": 2, "max_positions": 2, "max_hold": 6}, {"edge_mode": "close", "intensity": 0.5}]
ROOT = Path(__file__).parents[2]
PRICES = ("open", "high", "low", "close")


def tables(panel: Panel, orders: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bars with forecasts, and actions, as a notebook would hold them."""
    frame = panel.frame()
    row = np.searchsorted(panel.times, frame["timestamp"].dt.tz_localize(None).to_numpy())
    column = frame["symbol"].map(list(panel.symbols).index).to_numpy()
    named = dict(zip((*ACTION_COLUMNS, *FORECAST_COLUMNS), orders[:, row, column], strict=True))
    actions = frame[["timestamp", "symbol"]].assign(**{name: named[name] for name in ACTION_COLUMNS})
    return frame.assign(**{name: named[name] for name in FORECAST_COLUMNS}), actions


@pytest.fixture(scope="module")
def sample():
    panel = sample_panel(["BTCUSD", "ETHUSD", "NVDA"], bars=24 * 14)
    forecasts = empirical(panel, window=48)
    actions = decode(panel, forecasts, (3.0, 3.0, 2.0, 2.0))
    orders = [actions.buy_price, actions.sell_price, actions.buy_amount, actions.sell_amount]
    return tables(panel, np.stack(orders + [forecasts.p50(f) for f in ("high", "low", "close")]))


def test_it_returns_metrics_equity_and_fills(sample):
    bars, actions = sample
    result = simulate(bars, actions, CONFIGS, equity=True, fills=True)
    assert result.profile == "realistic"
    assert len(result.metrics) == len(CONFIGS) and (result.metrics["entries"] > 0).all()
    assert result.equity.shape == (bars["timestamp"].nunique(), len(CONFIGS))
    assert result.equity.index.name == "timestamp" and str(result.equity.index.tz) == "UTC" and result.equity.index.is_monotonic_increasing
    assert (result.equity.iloc[0] == 10_000.0).all()
    np.testing.assert_allclose(result.equity.iloc[-1] / 10_000.0 - 1.0, result.metrics["total_return"], rtol=1e-12)
    assert list(result.fills.columns) == ["config", "timestamp", "symbol", "side", "price", "quantity", "fee", "reason"]
    assert result.fills.groupby("config").size().ge(result.metrics["entries"]).all()
    lean = simulate(bars, actions, CONFIGS)
    assert lean.equity is None and lean.fills is None
    pd.testing.assert_frame_equal(lean.metrics, result.metrics)


def test_an_order_fills_in_a_bar_after_the_one_that_decided_it(sample):
    bars, actions = sample
    fills = simulate(bars, actions, [{"min_edge": -0.01}], fills=True).fills
    first = actions.dropna()["timestamp"].min()
    assert fills["timestamp"].min() > first
    entry = fills[(fills["reason"] == "entry") & (fills["symbol"] == "BTCUSD")].iloc[0]
    known = actions[(actions["symbol"] == "BTCUSD") & (actions["timestamp"] < entry["timestamp"])].iloc[-1]
    assert entry["price"] <= known["buy_price"]


def test_the_order_of_rows_and_columns_and_the_time_zone_change_nothing(sample):
    bars, actions = sample
    want = simulate(bars, actions, CONFIGS, equity=True, fills=True)
    mixed = bars.sample(frac=1.0, random_state=1).iloc[:, ::-1]
    local = actions.sample(frac=1.0, random_state=2).assign(timestamp=lambda x: x["timestamp"].dt.tz_convert("America/New_York"))
    for other in (simulate(mixed, actions, CONFIGS, equity=True, fills=True), simulate(bars, local, CONFIGS, equity=True, fills=True)):
        pd.testing.assert_frame_equal(other.metrics, want.metrics, check_exact=True)
        pd.testing.assert_frame_equal(other.equity, want.equity, check_exact=True)
        pd.testing.assert_frame_equal(other.fills, want.fills, check_exact=True)


def test_the_given_tables_stay_as_they_are(sample):
    bars, actions = sample
    before = bars.copy(deep=True), actions.copy(deep=True)
    simulate(bars, actions, CONFIGS)
    pd.testing.assert_frame_equal(bars, before[0])
    pd.testing.assert_frame_equal(actions, before[1])


def test_configurations_come_as_mappings_or_as_a_table(sample):
    configs = [{"min_edge": -0.01, "max_positions": k, "work_steal": k == 2, "edge_mode": "high"} for k in (1, 2, 3)]
    want = simulate(*sample, configs).metrics
    pd.testing.assert_frame_equal(simulate(*sample, pd.DataFrame(configs)).metrics, want)
    assert simulate(*sample, []).metrics.empty


@pytest.mark.parametrize("profile", ["realistic", "legacy"])
def test_tables_give_what_the_arrays_give(profile):
    fills = 0
    for seed in range(40):
        inputs = scenarios.random_inputs(seed)
        panel = inputs.panel
        costs = {x.symbol: {k: v for k, v in dataclasses.asdict(x).items() if k != "symbol"} for x in panel.assets}
        orders = inputs.orders.copy()
        orders[2:4] *= 100.0 if profile == "legacy" else 1.0
        inputs = SelectorInputs(panel, orders)
        configs = [scenarios.random_config(100 * seed + i, profile) for i in range(3)]
        want = evaluate(inputs, encode(configs, profile), profile=profile, equity=True, fills=True)
        got = simulate(*tables(panel, orders), configs, profile=profile, costs=costs, equity=True, fills=True)
        both = got.equity.index.intersection(want.equity.index)
        assert len(both) == len(got.equity)
        np.testing.assert_array_equal(got.equity.to_numpy(), want.equity.loc[both].to_numpy())
        pd.testing.assert_frame_equal(got.fills, want.fills, check_exact=True)
        fills += len(got.fills)
    assert fills > 300


def o1_tables():
    stamps = pd.Timestamp("2025-12-02", tz="UTC") + pd.to_timedelta(np.arange(6), unit="h")
    names = ["high", "low", "close", *FORECAST_COLUMNS, *ACTION_COLUMNS]
    frame = pd.concat(
        [pd.DataFrame(rows, columns=names).assign(symbol=symbol, timestamp=stamps) for symbol, rows in (("AAA", AAA), ("BBB", BBB))]
    )
    keys = ["timestamp", "symbol"]
    return frame[[*keys, "high", "low", "close", *FORECAST_COLUMNS]], frame[[*keys, *ACTION_COLUMNS]]


@pytest.mark.parametrize("name", O1_VECTORS)
def test_the_published_numbers_come_out_under_legacy_which_says_so(name):
    overrides, equity, fills = O1_VECTORS[name]
    costs = {s: {"asset_class": "crypto", "maker_fee_bps": 10.0} for s in ("AAA", "BBB")}
    result = simulate(*o1_tables(), [overrides], profile="legacy", costs=costs, equity=True, fills=True)
    assert result.equity[0].to_numpy()[-len(equity) :] == pytest.approx(equity, abs=1e-4)
    assert len(result.fills) == fills
    assert result.profile == "legacy"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"costs": {"BTCUSD": {"maker_fee_bps": None}}}, MarketError, "assets.BTCUSD.maker_fee_bps: missing fee"),
        ({"costs": {"crypto": {"taker_fee_bps": None}}}, MarketError, "assets.crypto.taker_fee_bps: missing fee"),
        (
            {"costs": {"BTCUSDD": {"maker_fee_bps": 1}}},
            MarketError,
            "assets.BTCUSDD: no such symbol or asset class; did you mean 'BTCUSD'?",
        ),
        ({"costs": {"BTCUSD": {"maker_fee": 1}}}, MarketError, "assets.BTCUSD.maker_fee: no such field; did you mean 'maker_fee_bps'?"),
        (
            {"profile": "realstic"},
            TrainableError,
            "profile: 'realstic' is unknown; give one of realistic, legacy. Did you mean 'realistic'?",
        ),
        (
            {"configs": [{}, {"min_egde": 0.1}]},
            TrainableError,
            "configs[1].min_egde: selector has no such parameter; did you mean 'min_edge'?",
        ),
        ({"configs": [{"lag": 0}]}, TrainableError, "the realistic profile needs lag of at least 1"),
        ({"configs": [{"edge_mode": "hihg"}]}, TrainableError, "give one of high_low, high, close (did you mean 'high'?)"),
        (
            {"configs": [{"max_positions": 17}]},
            TrainableError,
            "configs[0].max_positions: 17 is not allowed; give a whole number from 1 to 16",
        ),
    ],
)
def test_what_cannot_be_used_is_answered_with_where_and_what_instead(sample, change, error, words):
    bars, actions = sample
    with pytest.raises(error) as caught:
        simulate(bars, actions, **({"configs": CONFIGS} | change))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (
            lambda b, a: (b.drop(columns=["open", "close"]), a),
            TrainableError,
            "bars: columns open, close missing; it has timestamp, symbol",
        ),
        (lambda b, a: (b, a.drop(columns="buy_amount")), TrainableError, "actions: column buy_amount missing"),
        (lambda b, a: (b.drop(columns=FORECAST_COLUMNS[2]), a), TrainableError, "predicted_close_p50_h1"),
        (lambda b, a: (b, a.assign(buy_amount=a["buy_amount"] * 100)), TrainableError, "fractions in [0, 1]; divide percentages by 100"),
        (lambda b, a: (naive(b), naive(a)), TrainableError, "bars: timestamps have no time zone; if they are UTC"),
        (lambda b, a: (naive(b), a), TrainableError, "bars: timestamps have no time zone"),
        (lambda b, a: (b, naive(a)), TrainableError, "actions: timestamps have no time zone"),
        (lambda b, a: (b, a.assign(timestamp=a["timestamp"].astype(str))), TrainableError, "actions: timestamps are str, not times"),
        (lambda b, a: (b, put(a, "timestamp", pd.NaT)), TrainableError, "actions: row 400 has no timestamp"),
        (lambda b, a: (put(b, "symbol", None), a), TrainableError, "bars: symbol nan is not a name"),
        (lambda b, a: (pd.concat([b, b.tail(1)]), a), TrainableError, "bars: NVDA has two bars at 2024-01-12 20:00:00+00:00"),
        (lambda b, a: (b, pd.concat([a, a.tail(1)])), TrainableError, "actions: NVDA has two actions at 2024-01-12 20:00:00+00:00"),
        (lambda b, a: (b.head(0), a), TrainableError, "bars: the table has no rows"),
        (lambda b, a: (b.replace({"symbol": {"BTCUSD": "FOOBAR"}}), a), TrainableError, "actions: no bars for symbol 'BTCUSD'"),
        (lambda b, a: (renamed(b, "FOOBAR"), renamed(a, "FOOBAR")), MarketError, "'FOOBAR' is neither a known coin"),
        (lambda b, a: (b, renamed(a, "BTCUSDD")), TrainableError, "actions: no bars for symbol 'BTCUSDD'; did you mean 'BTCUSD'?"),
        (
            lambda b, a: (b, a.assign(timestamp=a["timestamp"] + pd.Timedelta(minutes=30))),
            TrainableError,
            "actions: none is at the time of a bar of its symbol; bars start from 2024-01-01 00:00:00+00:00 to",
        ),
        (lambda b, a: (b, a.assign(buy_price="much")), TrainableError, "actions: column buy_price holds something that is not a number"),
    ],
)
def test_tables_that_cannot_be_used_say_why(sample, spoil, error, words):
    with pytest.raises(error) as caught:
        simulate(*spoil(*sample), CONFIGS)
    assert words in str(caught.value)


IMPOSSIBLE = [
    ("bars", "high", 1.0, MarketError, "high is 1.0, below its low"),
    ("bars", "close", 0.0, MarketError, "close is 0.0; a price is above 0 and finite"),
    ("bars", "low", -5.0, MarketError, "low is -5.0; a price is above 0 and finite"),
    ("bars", "high", np.inf, MarketError, "high is inf; a price is above 0 and finite"),
    ("bars", "volume", -1.0, MarketError, "volume is -1.0; a volume is at least 0"),
    ("bars", "low", np.nan, MarketError, "low is nan although close is"),
    ("bars", FORECAST_COLUMNS[0], np.inf, TrainableError, "predicted_high_p50_h1 is inf; a price is above 0 and finite"),
    ("actions", "buy_amount", -0.25, TrainableError, "buy_amount is -0.25; amounts are"),
    ("actions", "sell_amount", np.inf, TrainableError, "sell_amount is inf; amounts are"),
    ("actions", "buy_price", 0.0, TrainableError, "buy_price is 0; a price is above 0 and finite"),
]


@pytest.mark.parametrize("profile", ["realistic", "legacy"])
@pytest.mark.parametrize(("table", "column", "value", "error", "words"), IMPOSSIBLE)
def test_a_cell_that_cannot_be_is_named_with_symbol_time_and_column(sample, profile, table, column, value, error, words):
    bars, actions = (put(x, column, value) if name == table else x for name, x in zip(("bars", "actions"), sample, strict=True))
    with pytest.raises(error) as caught:
        simulate(bars, actions, CONFIGS, profile=profile)
    assert re.match(rf"{table}: ETHUSD at 2024-01-03[ T]16:00(:00\+00:00|Z): ", str(caught.value)) and words in str(caught.value)


@pytest.mark.parametrize("cash", [0.0, -1.0, np.nan, np.inf, "10000", None, True])
def test_the_account_starts_with_some_money(sample, cash):
    with pytest.raises(TrainableError, match=r"^initial_cash: .* is not allowed; give a number from 0.01"):
        simulate(*sample, CONFIGS, initial_cash=cash)


def test_actions_at_times_without_a_bar_are_ignored(sample):
    bars, actions = sample
    closed = actions[actions["symbol"] == "NVDA"].tail(5)
    more = pd.concat([actions, closed.assign(timestamp=closed["timestamp"] + pd.Timedelta(days=365))])
    for profile in ("realistic", "legacy"):
        want, got = (simulate(bars, x, CONFIGS, profile=profile).metrics for x in (actions, more))
        pd.testing.assert_frame_equal(got, want, check_exact=True)


def test_one_table_may_hold_bars_and_actions(sample):
    bars, actions = sample
    both = bars.merge(actions, on=["timestamp", "symbol"])
    pd.testing.assert_frame_equal(simulate(both, both, CONFIGS).metrics, simulate(bars, actions, CONFIGS).metrics, check_exact=True)


def test_an_empty_cell_of_a_table_of_configurations_means_the_default(sample):
    configs = [{"min_edge": -0.01}, {"max_positions": 2}, {"min_edge": -0.02, "work_steal": True, "edge_mode": "high"}]
    want = simulate(*sample, configs).metrics
    for table in (pd.DataFrame(configs), pd.DataFrame(configs).convert_dtypes()):
        assert table.isna().any(axis=None)
        pd.testing.assert_frame_equal(simulate(*sample, table).metrics, want, check_exact=True)
    with pytest.raises(TrainableError, match=r"configs\[0\]\.min_edge: nan is not allowed"):
        simulate(*sample, [{"min_edge": np.nan}])


def test_a_single_mapping_is_one_configuration_and_anything_else_is_none(sample):
    pd.testing.assert_frame_equal(simulate(*sample, CONFIGS[1]).metrics, simulate(*sample, [CONFIGS[1]]).metrics)
    for wrong in ("min_edge", 5, None, ["min_edge"]):
        with pytest.raises(TrainableError, match=r"configs\[0\]: .* is not a configuration"):
            simulate(*sample, wrong)


def test_fills_come_by_configuration_and_then_by_time(sample):
    # Alternating lags: the kernel runs the first, third and fifth before the second.
    configs = [{"min_edge": -0.01, "lag": 1 + i % 2, "max_positions": 2, "offset": 0.001 * (i // 3)} for i in range(6)]
    fills = simulate(*sample, configs, fills=True).fills
    assert fills["config"].unique().tolist() == list(range(6))
    assert all(group["timestamp"].is_monotonic_increasing for _, group in fills.groupby("config"))
    for i, config in enumerate(configs):
        alone = simulate(*sample, [config], fills=True).fills
        pd.testing.assert_frame_equal(fills[fills["config"] == i].reset_index(drop=True), alone.assign(config=i), check_exact=True)


def test_fills_asked_for_are_a_table_even_if_there_are_none(sample):
    columns = ["config", "timestamp", "symbol", "side", "price", "quantity", "fee", "reason"]
    for configs in ([], [{"min_edge": 9.0}]):
        fills = simulate(*sample, configs, fills=True).fills
        assert list(fills.columns) == columns and fills.empty and str(fills["timestamp"].dt.tz) == "UTC"


def put(frame, column, value):
    """The table with one cell changed, in its row 400: ETHUSD at 2024-01-03 16:00."""
    out = frame.copy()
    out.loc[400, column] = value
    return out


def renamed(frame, name):
    return frame.replace({"symbol": {"BTCUSD": name}})


def naive(frame):
    return frame.assign(timestamp=frame["timestamp"].dt.tz_localize(None))


def test_a_bar_without_an_action_is_no_order_but_still_marks(sample):
    bars, actions = sample
    few = actions[actions["timestamp"] < actions["timestamp"].min() + pd.Timedelta(hours=100)]
    blank = actions.assign(buy_price=actions["buy_price"].where(actions["timestamp"].isin(few["timestamp"])))
    config = [{"min_edge": -0.01, "close_at_eod": False}]
    got = simulate(bars, few.assign(sell_price=1e9), config, equity=True)
    assert got.metrics["entries"].item() == 1
    assert got.equity[0].nunique() > 100
    pd.testing.assert_frame_equal(got.equity, simulate(bars, blank.assign(sell_price=1e9), config, equity=True).equity)


def test_it_works_where_ray_is_never_imported():
    code = """
import sys
from trainables.selector import SelectorTrainable, simulate
from trainables.contract import Context
made = SelectorTrainable()
prepared = made.prepare({"source": "sample", "symbols": ["BTCUSD"], "bars": 60}, {"forecast_window": 24})
assert len(made.evaluate_pack([prepared.defaults], Context(prepared.inputs)).metrics) == 1
assert callable(simulate)
print(sorted({"ray", "wandb", "torch", "sqlalchemy", "optuna"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


# What must hold for every market: the kernel on markets that are the same, but written differently.


def without(inputs: SelectorInputs, **asset) -> SelectorInputs:
    panel = inputs.panel
    return SelectorInputs(dataclasses.replace(panel, assets=tuple(dataclasses.replace(x, **asset) for x in panel.assets)), inputs.orders)


def curves(inputs, configs, cash=10_000.0):
    return evaluate(inputs, encode(configs, "realistic"), profile="realistic", initial_cash=cash, equity=True)


def test_prices_in_another_currency_give_the_same_metrics():
    entries = 0
    for seed in range(60):
        inputs = without(scenarios.random_inputs(seed, overlap=seed % 3 == 0), min_notional=0.0)
        configs = [scenarios.random_config(10 * seed + i, "realistic") for i in range(5)]
        panel = dataclasses.replace(inputs.panel, **{name: 16.0 * getattr(inputs.panel, name) for name in PRICES})
        # A power of two, so that a price that just touches a limit still does.
        orders = inputs.orders * np.array([16, 16, 1, 1, 16, 16, 16.0])[:, None, None]
        here, there = curves(inputs, configs), curves(SelectorInputs(panel, orders), configs, 160_000.0)
        np.testing.assert_allclose(there.metrics.to_numpy(), here.metrics.to_numpy(), rtol=1e-9, atol=1e-9)
        entries += here.metrics["entries"].sum()
    assert entries > 500


def test_twice_the_cash_is_twice_the_equity_where_no_size_limit_binds():
    entries = 0
    for seed in range(60):
        inputs = without(scenarios.random_inputs(seed, overlap=seed % 3 == 0), min_notional=0.0)
        configs = [scenarios.random_config(20 * seed + i, "realistic") | {"max_volume_fraction": 0.0} for i in range(5)]
        once, twice = curves(inputs, configs), curves(inputs, configs, 20_000.0)
        np.testing.assert_allclose(twice.equity.to_numpy(), 2.0 * once.equity.to_numpy(), rtol=1e-9, atol=1e-9)
        entries += once.metrics["entries"].sum()
    assert entries > 500


def test_names_of_symbols_matter_only_for_ties():
    entries = 0
    for seed in range(60):
        inputs = scenarios.random_inputs(seed, overlap=seed % 3 == 0)
        panel = inputs.panel
        jitter = np.random.default_rng(seed).normal(1.0, 1e-5, inputs.orders.shape)
        orders = inputs.orders * np.where(np.isin(np.arange(7), (2, 3))[:, None, None], 1.0, jitter)  # no two scores are equal
        names = panel.symbols[::-1]
        assets = tuple(dataclasses.replace(x, symbol=name) for x, name in zip(panel.assets, names, strict=True))
        renamed = dataclasses.replace(panel, symbols=names, assets=assets).select(panel.symbols)
        configs = [scenarios.random_config(30 * seed + i, "realistic") for i in range(5)]
        want, got = curves(SelectorInputs(panel, orders), configs), curves(SelectorInputs(renamed, orders[:, :, ::-1].copy()), configs)
        np.testing.assert_allclose(got.equity.to_numpy(), want.equity.to_numpy(), rtol=1e-9, atol=1e-9)
        entries += want.metrics["entries"].sum()
    assert entries > 500


def test_a_symbol_without_orders_changes_nothing():
    for seed in range(30):
        inputs = scenarios.random_inputs(seed)
        panel = inputs.panel
        spectator = dataclasses.replace(panel.assets[0], symbol="ABC")
        arrays = {
            name: np.insert(
                getattr(panel, name), 1, getattr(panel, name)[:, 0] * (1 if name in ("tradable", "session_last") else 2), axis=1
            )
            for name in (*PRICES, "volume", "tradable", "session_last")
        }
        symbols, assets = [list(x) for x in (panel.symbols, panel.assets)]
        symbols.insert(1, "ABC")
        assets.insert(1, spectator)
        wide = dataclasses.replace(panel, symbols=tuple(symbols), assets=tuple(assets), **arrays)
        configs = [scenarios.random_config(40 * seed + i, "realistic") for i in range(5)]
        want = curves(inputs, configs)
        got = curves(SelectorInputs(wide, np.insert(inputs.orders, 1, np.nan, axis=2)), configs)
        np.testing.assert_array_equal(got.equity.to_numpy(), want.equity.to_numpy())


def test_dearer_trading_of_the_same_fills_never_ends_with_more():
    # One symbol, long, unlevered, every forecast good enough: costs decide neither what is traded nor when, only how much is left.
    compared = 0
    for seed in range(120):
        inputs = without(scenarios.random_inputs(seed), min_notional=0.0)
        if len(inputs.panel.symbols) > 1:
            continue
        free = {
            "min_edge": -1.0,
            "max_positions": 1,
            "leverage": 1.0,
            "allow_short": False,
            "max_volume_fraction": 0.0,
            "work_steal": False,
        }
        config = scenarios.random_config(seed, "realistic") | free
        configs = [config | {"cost_multiplier": x} for x in (0.0, 0.5, 1.0, 2.0, 5.0)]
        result = evaluate(inputs, encode(configs, "realistic"), profile="realistic", equity=True, fills=True)
        times = [frame["timestamp"].tolist() for _, frame in result.fills.groupby("config")]
        assert all(x == times[0] for x in times)
        final = result.equity.iloc[-1].to_numpy()
        assert (np.diff(final) <= 1e-9).all(), f"seed {seed}"
        compared += len(times) > 0 and final[0] > final[-1]
    assert compared > 15


def test_profile_defaults_are_what_an_empty_configuration_means(sample):
    for profile in ("realistic", "legacy"):
        bars, actions = sample
        percent = actions.assign(buy_amount=100 * actions["buy_amount"], sell_amount=100 * actions["sell_amount"])
        used = percent if profile == "legacy" else actions
        got = simulate(bars, used, [{}, profile_defaults(profile)], profile=profile).metrics
        np.testing.assert_array_equal(got.iloc[0], got.iloc[1])

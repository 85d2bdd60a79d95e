"""The selector as a trainable: settings, identity, warm-up, and that nothing of the future reaches the past."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from results.metrics import returns_from_equity, sharpe
from tests.selector import scenarios
from trainables.contract import Context, TrainableError, check_config
from trainables.forecast import empirical
from trainables.market import MarketError, load_market, sample_panel
from trainables.policy import decode
from trainables.selector import SelectorTrainable
from trainables.selector.inputs import SelectorInputs
from trainables.selector.options import NAMES, PARAMETERS, PROFILES, encode
from trainables.selector.simulate import evaluate
from trainables.timeline import Protocol

SELECTOR = SelectorTrainable()
DATA = {"source": "sample", "symbols": ["ETHUSD", "BTCUSD", "NVDA"], "bars": 400}
FAST = {"forecast_window": 48, "logits": [3, 3, 2, 2]}
BARS = ("open", "high", "low", "close", "volume")


def equity(prepared, configs):
    inputs = prepared.inputs
    table = encode([dict(prepared.defaults) | dict(c) for c in configs], inputs.profile)
    [part] = inputs.parts
    return evaluate(part, table, profile=inputs.profile, initial_cash=inputs.initial_cash, equity=True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"profil": "legacy"}, "settings.profil: the selector has no such setting; did you mean 'profile'?"),
        ({"qqq": 1}, "settings.qqq: the selector has no such setting; known: forecast_window, initial_cash, logits, profile"),
        ({True: 1}, "settings.True: the selector has no such setting"),
        ({"profile": "realstic"}, "settings.profile: 'realstic' is not allowed; give one of realistic, legacy (did you mean 'realistic'?)"),
        ({"profile": ["legacy"]}, "settings.profile: ['legacy'] is not allowed"),
        ({"initial_cash": 0}, "settings.initial_cash: 0 is not allowed; give a number from 0.01"),
        ({"initial_cash": "10k"}, "settings.initial_cash: '10k' is not allowed"),
        ({"forecast_window": 23}, "settings.forecast_window: 23 is not allowed; give a whole number from 24"),
        ({"forecast_window": 48.5}, "settings.forecast_window: 48.5 is not allowed"),
        ({"logits": [0, 0, 2]}, "settings.logits: [0, 0, 2] is not allowed; give four numbers"),
        ({"logits": [0, 0, 2, "2"]}, "settings.logits[3]: '2' is not allowed; give a number"),
        ({"logits": 3}, "settings.logits: 3 is not allowed; give four numbers"),
    ],
)
def test_settings_that_cannot_be_used_are_explained(settings, words):
    with pytest.raises(TrainableError) as error:
        SELECTOR.prepare(DATA, settings)
    assert str(error.value).startswith(words)


def test_data_that_cannot_be_used_is_the_markets_error():
    with pytest.raises(MarketError, match=r"data\.symbls: .*did you mean 'symbols'"):
        SELECTOR.prepare({"source": "sample", "symbls": ["BTCUSD"]}, {})


@pytest.mark.parametrize("profile", PROFILES)
def test_the_defaults_of_a_profile_are_a_complete_configuration(profile):
    prepared = SELECTOR.prepare(DATA, FAST | {"profile": profile})
    assert tuple(prepared.defaults) == NAMES == tuple(p.name for p in SELECTOR.parameters)
    assert check_config(SELECTOR, prepared.defaults) == prepared.defaults
    frame = SELECTOR.evaluate_pack([prepared.defaults], Context(prepared.inputs)).metrics
    assert list(frame.columns) == [m.name for m in SELECTOR.metrics]
    assert SELECTOR.objective in frame and frame["bars"].item() > 300
    assert prepared.protocol["profile"] == profile


def test_the_realistic_default_decides_before_it_trades_and_legacy_does_not():
    lag = {profile: SELECTOR.prepare(DATA, FAST | {"profile": profile}).defaults["lag"] for profile in PROFILES}
    assert lag == {"realistic": 1, "legacy": 0}
    with pytest.raises(TrainableError, match="lag of at least 1"):
        prepared = SELECTOR.prepare(DATA, FAST)
        SELECTOR.evaluate_pack([dict(prepared.defaults) | {"lag": 0}], Context(prepared.inputs))


def test_the_protocol_tells_settings_apart_and_spellings_of_one_setting_not():
    def protocol(**settings):
        return json.dumps(SELECTOR.prepare(DATA, FAST | settings).protocol, sort_keys=True)

    spellings = [
        {},
        {"initial_cash": 10_000},
        {"initial_cash": 1e4},
        {"forecast_window": 48.0},
        {"logits": (3.0, 3, 2, 2)},
    ]
    same = {protocol(**x) for x in spellings}
    assert len(same) == 1
    others = [{"initial_cash": 9_000}, {"forecast_window": 49}, {"logits": [3, 3, 2, 1]}, {"profile": "legacy"}]
    assert len(same | {protocol(**x) for x in others}) == 5


def test_a_pack_gives_the_rows_of_packs_of_one():
    prepared = SELECTOR.prepare(DATA, FAST)
    configs = [scenarios.random_config(seed, "realistic") for seed in range(40)]
    together = SELECTOR.evaluate_pack(configs, Context(prepared.inputs)).metrics
    assert (together["entries"] > 0).sum() > 10
    for i, config in enumerate(configs):
        np.testing.assert_array_equal(SELECTOR.evaluate_pack([config], Context(prepared.inputs)).metrics.iloc[0], together.iloc[i])


def test_the_order_of_symbols_in_the_study_does_not_matter():
    configs = [scenarios.random_config(seed, "realistic") for seed in range(20)]
    frames = []
    for symbols in (["ETHUSD", "BTCUSD", "NVDA"], ["NVDA", "BTCUSD", "ETHUSD"]):
        prepared = SELECTOR.prepare(DATA | {"symbols": symbols}, FAST)
        frames.append((prepared.fingerprint, SELECTOR.evaluate_pack(configs, Context(prepared.inputs)).metrics))
    assert frames[0][0] == frames[1][0]
    pd.testing.assert_frame_equal(frames[0][1], frames[1][1], check_exact=True)


LAST_DAYS = Protocol.parse({"folds": 1, "tune": "5d", "embargo": "0h", "train": "24h", "holdout": "0%"})


def test_a_tune_window_trades_its_rows_with_forecasts_warmed_up_by_earlier_ones():
    prepared = SELECTOR.prepare(DATA, FAST, LAST_DAYS)
    panel, _ = load_market(DATA)
    panel = panel.select(sorted(panel.symbols))
    forecasts = empirical(panel, window=48)
    actions = decode(panel, forecasts, (3, 3, 2, 2))
    orders = np.stack(
        [actions.buy_price, actions.sell_price, actions.buy_amount, actions.sell_amount, *map(forecasts.p50, ("high", "low", "close"))]
    )
    configs = [{"min_edge": -0.01}, {"min_edge": -0.01, "max_positions": 2, "lag": 3}]
    tail = SelectorInputs(panel.tail(120), np.ascontiguousarray(orders[:, -120:]))
    want = evaluate(tail, encode([dict(prepared.defaults) | c for c in configs], "realistic"), profile="realistic", equity=True)
    got = equity(prepared, configs)
    pd.testing.assert_frame_equal(got.metrics, want.metrics, check_exact=True)
    pd.testing.assert_frame_equal(got.equity, want.equity, check_exact=True)
    assert (got.metrics["bars"] == 120).all() and (got.metrics["entries"] > 0).all()
    # The first row already has an order: with 120 rows alone it would wait for 24 returns.
    assert np.isfinite(prepared.inputs.parts[0].orders[:, 0, :2]).all()
    cold = SELECTOR.prepare(DATA | {"bars": 24}, FAST)
    assert np.isnan(cold.inputs.parts[0].orders).all()


def test_folds_start_flat_and_their_metrics_are_those_of_the_joined_daily_returns():
    data = DATA | {"bars": 2400, "symbols": ["BTCUSD", "ETHUSD", "SOLUSD"]}
    prepared = SELECTOR.prepare(data, FAST, Protocol(folds=3, holdout="20%"))
    configs = [dict(prepared.defaults) | {"min_edge": edge} for edge in (-0.01, 0.0, 0.002)]
    made = SELECTOR.evaluate_pack(configs, Context(prepared.inputs))
    assert made.returns.shape == (3, len(prepared.days)) and made.returns.dtype == np.float32
    alone = [
        evaluate(part, encode(configs, "realistic"), profile="realistic", equity=True, initial_cash=10_000.0)
        for part in prepared.inputs.parts
    ]
    growth = np.array([1.0 + run.metrics["total_return"] for run in alone])
    np.testing.assert_allclose(1.0 + made.metrics["total_return"], growth.prod(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(made.metrics["folds_won"], (growth > 1).sum(axis=0))
    np.testing.assert_allclose(made.metrics["worst_fold"], growth.min(axis=0) - 1, rtol=1e-12)
    np.testing.assert_allclose(made.metrics["trades"], sum(run.metrics["trades"] for run in alone))
    deepest = np.min([run.metrics["max_drawdown"] for run in alone], axis=0)
    chained = [
        pd.concat([run.equity[i] / 1e4 * scale for run, scale in zip(alone, [1, *growth[:-1, i].cumprod()], strict=True)]) for i in range(3)
    ]
    exact = [(curve / curve.cummax().clip(lower=1.0) - 1.0).min() for curve in chained]
    assert (made.metrics["max_drawdown"] <= deepest).all() and (made.metrics["max_drawdown"] >= np.array(exact) - 1e-12).all()
    assert (made.metrics["max_drawdown"] <= np.minimum(made.metrics["total_return"], 0.0) + 1e-12).all()
    np.testing.assert_allclose(np.prod(1.0 + made.returns.astype(float), axis=1), growth.prod(axis=0), rtol=1e-5)
    bars = np.concatenate([returns_from_equity(run.equity[0], 10_000.0) for run in alone])
    np.testing.assert_allclose(made.metrics["sharpe"][0], sharpe(bars, 8760.0, len(bars)), rtol=1e-9)


def test_nothing_computed_for_a_search_has_seen_the_holdout(tmp_path):
    frame = sample_panel(["BTCUSD", "ETHUSD"], bars=1200, seed=3).frame()
    protocol = Protocol(folds=2)
    for name in "abc":
        (tmp_path / name).mkdir()
    first = SELECTOR.prepare(write(frame, tmp_path / "a"), FAST, protocol)
    sealed = first.timeline.times[first.timeline.visible.stop]
    other = frame.copy()
    after = other["timestamp"].dt.tz_localize(None).to_numpy() >= sealed
    for name in ("open", "high", "low", "close", "volume"):
        other.loc[after, name] *= 3.0
    second = SELECTOR.prepare(write(other, tmp_path / "b"), FAST, protocol)
    assert first.fingerprint != second.fingerprint
    for a, b in zip(first.inputs.parts, second.inputs.parts, strict=True):
        assert a.panel.times[-1] < sealed
        np.testing.assert_array_equal(a.orders, b.orders)
        np.testing.assert_array_equal(a.panel.close, b.panel.close)
    for name in first.benchmarks:
        np.testing.assert_array_equal(first.benchmarks[name], second.benchmarks[name])
    opened = SELECTOR.prepare(write(frame, tmp_path / "c"), FAST, protocol, "holdout")
    assert opened.inputs.parts[0].panel.times[0] >= sealed + np.timedelta64(24, "h")


def test_rows_that_only_warm_up_are_part_of_the_fingerprint(tmp_path):
    frame = sample_panel(["BTCUSD", "ETHUSD"], bars=200).frame()
    prints = {}
    for name in ("same", "again", "early", "late", "volume"):
        changed = frame.copy()
        row = {"early": 5, "late": 390, "volume": 300}.get(name)
        if row is not None:
            column = "volume" if name == "volume" else "close"
            changed.loc[row, column] = np.nextafter(changed.loc[row, column], changed.loc[row, "open"])
        (tmp_path / name).mkdir()
        prints[name] = SELECTOR.prepare(write(changed, tmp_path / name), FAST, LAST_DAYS).fingerprint
    assert prints["same"] == prints["again"]
    assert len(set(prints.values())) == 4


def write(frame, folder):
    """Files of a folder, one per symbol; returns the study's data section."""
    for symbol, rows in frame.groupby("symbol"):
        rows.drop(columns="symbol").reset_index(drop=True).to_parquet(folder / f"{symbol}.parquet")
    return {"source": str(folder)}


def with_another_future(frame, last, rng):
    """The table with every bar that starts after `last` at other prices and volumes, and some of them gone."""
    after = (frame["timestamp"] > last).to_numpy()
    n = int(after.sum())
    other = frame.copy()
    prices = other.loc[after, ["open", "high", "low", "close"]].to_numpy() * rng.lognormal(0.0, 0.3, (n, 1))
    middle = prices[:, [0, 3]] * rng.lognormal(0.0, 0.02, (n, 2))
    other.loc[after, "open"], other.loc[after, "close"] = middle.T
    other.loc[after, "high"] = middle.max(axis=1) * (1 + rng.exponential(0.01, n))
    other.loc[after, "low"] = middle.min(axis=1) * (1 - rng.exponential(0.01, n).clip(0, 0.5))
    other.loc[after, "volume"] = np.round(rng.lognormal(8.0, 2.0, n))
    return other[~after | (rng.random(len(other)) > 0.1)]


@pytest.mark.parametrize("half_hour", [False, True], ids=["one clock", "two clocks"])
def test_no_bar_after_a_row_moves_equity_up_to_that_row(tmp_path, half_hour):
    moved = entered = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        frame = sample_panel(["AAPL", "BTCUSD", "ETHUSD", "NVDA"], bars=240, seed=seed).frame()
        if half_hour:  # stocks from the bell on, coins on the hour: bars overlap (rule R11)
            stock = frame["symbol"].isin(["AAPL", "NVDA"])
            frame["timestamp"] = frame["timestamp"] + pd.to_timedelta(np.where(stock, 30, 0), unit="m")
        assets = {"stock": {"can_short": True}, "crypto": {"can_short": True}}
        configs = [scenarios.random_config(100 * seed + i, "realistic") for i in range(40)]
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        settings = FAST | {"forecast_window": 24}
        prepared = SELECTOR.prepare(write(frame, folder) | {"assets": assets}, settings)
        assert prepared.inputs.parts[0].overlap == half_hour
        true = equity(prepared, configs)
        rows = true.equity.index
        for last in rows[[60, 100, int(rng.integers(101, len(rows) - 20))]]:
            place = folder / f"{last:%d%H%M}"
            place.mkdir()
            data = write(with_another_future(frame, last, rng), place) | {"assets": assets}
            other = equity(SELECTOR.prepare(data, settings), configs)
            past = true.equity.loc[:last]
            pd.testing.assert_frame_equal(other.equity.loc[:last], past, check_exact=True)
            moved += (other.equity.iloc[-1] != true.equity.iloc[-1]).sum()
            entered += (past.nunique() > 1).sum()
    assert moved > 300 and entered > 300  # otherwise nothing was at stake


def test_no_bar_or_order_after_a_row_moves_the_kernel_up_to_that_row():
    moved = 0
    for seed in range(80):
        inputs = scenarios.random_inputs(seed, overlap=seed % 2 == 0)
        panel = inputs.panel
        rng = np.random.default_rng(seed)
        t = int(rng.integers(panel.n_bars // 2, panel.n_bars - 1))
        configs = [scenarios.random_config(50 * seed + i, "realistic") for i in range(10)]
        scale = np.where(np.arange(panel.n_bars)[:, None] > t, rng.lognormal(0.0, 0.5, panel.close.shape), 1.0)
        orders = inputs.orders * np.where(np.arange(panel.n_bars) > t, rng.lognormal(0.0, 0.5, (7, panel.n_bars)), 1.0)[:, :, None]
        other = SelectorInputs(dataclasses.replace(panel, **{name: getattr(panel, name) * scale for name in BARS}), orders)
        table = encode(configs, "realistic")
        here, there = (evaluate(x, table, profile="realistic", equity=True).equity.to_numpy() for x in (inputs, other))
        np.testing.assert_array_equal(here[: t + 1], there[: t + 1])
        moved += (here[-1] != there[-1]).sum()
    assert moved > 200


def test_the_close_of_a_bar_changes_nothing_that_filled_in_it():
    # A decision at the start of a row knows neither its close nor its volume; only the close of the day trades at it.
    compared = 0
    for seed in range(80):
        inputs = scenarios.random_inputs(seed, overlap=seed % 2 == 0)
        panel = inputs.panel
        rng = np.random.default_rng(seed)
        configs = [
            scenarios.random_config(70 * seed + i, "realistic") | {"max_volume_fraction": 0.0, "cost_multiplier": 1.0} for i in range(10)
        ]
        for t in rng.integers(panel.n_bars // 2, panel.n_bars, 3):
            now = (np.arange(panel.n_bars) == t)[:, None]
            close = np.where(now, panel.low + (panel.high - panel.low) * rng.random(panel.close.shape), panel.close)
            volume = np.where(now, panel.volume * 3.0, panel.volume)
            other = SelectorInputs(dataclasses.replace(panel, close=close, volume=volume), inputs.orders)
            table = encode(configs, "realistic")
            stamp = pd.Timestamp(panel.times[t], tz="UTC")
            logs = []
            for market in (inputs, other):
                fills = evaluate(market, table, profile="realistic", fills=True).fills
                logs.append(fills[(fills["timestamp"] <= stamp) & (fills["reason"] != "eod")].reset_index(drop=True))
            pd.testing.assert_frame_equal(*logs, check_exact=True)
            compared += (logs[0]["timestamp"] == stamp).sum()
    assert compared > 100


def test_decisions_carry_no_information_of_the_bar_they_can_fill_in():
    # Orders that know the next bar's extremes make a fortune at lag 1 and must be worthless a bar later.
    panel = sample_panel(["BTCUSD", "ETHUSD"], bars=600)
    panel = dataclasses.replace(
        panel, assets=tuple(dataclasses.replace(x, maker_fee_bps=0.0, taker_fee_bps=0.0, min_notional=0.0) for x in panel.assets)
    )
    peek = [np.vstack((getattr(panel, name)[1:], np.full((1, 2), np.nan))) for name in ("high", "low", "close")]
    high, low, close = peek
    orders = np.stack([low * 1.0006, high / 1.0006, np.ones_like(low), np.ones_like(low), high, low, close])
    configs = [{p.name: p.default for p in PARAMETERS} | {"lag": lag} for lag in (1, 2)]
    got = evaluate(SelectorInputs(panel, orders), encode(configs, "realistic"), profile="realistic").metrics["total_return"]
    assert got[0] > 1.0 and abs(got[1]) < 0.5

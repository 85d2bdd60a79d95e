import time

import numpy as np
import pytest

from trainables.market import MarketError, sample_drift, sample_panel
from trainables.market.sample import SYMBOLS

# The same on every machine; a change here means that every published result on the sample market changes its identity.
GOLDEN = "fa9fa13b9a63cd3a756922b9028f5313"


@pytest.fixture(scope="module")
def market():
    return sample_panel(bars=20_000)


def returns(panel, column):
    there = panel.exists[:, column]
    return (panel.close[:, column] / panel.open[:, column] - 1)[there]


def test_the_default_market_has_its_known_fingerprint():
    panel = sample_panel()
    assert panel.fingerprint == GOLDEN
    assert panel.symbols == SYMBOLS == ("BTCUSD", "ETHUSD", "SOLUSD", "LINKUSD", "UNIUSD", "NVDA", "MSFT")
    assert panel.n_bars == 2160


def test_seed_signal_and_costs_change_the_market_and_repetition_does_not():
    options = [{}, {}, {"seed": 8}, {"signal": 0.1}, {"costs": {"crypto": {"maker_fee_bps": 1}}}]
    prints = [sample_panel(bars=200, **each).fingerprint for each in options]
    assert prints[0] == prints[1] and len(set(prints)) == 4


def test_neither_other_symbols_nor_later_bars_change_a_symbols_bars(market):
    part = sample_panel(["MSFT", "SOLUSD"], bars=500)
    for column, symbol in enumerate(part.symbols):
        for name in ("open", "high", "low", "close", "volume"):
            np.testing.assert_array_equal(getattr(part, name)[:, column], getattr(market, name)[:500, market.symbols.index(symbol)])


def test_bars_are_consistent_and_prices_lie_on_the_tick(market):
    there = market.exists
    o, h, l, c, v = (getattr(market, name)[there] for name in ("open", "high", "low", "close", "volume"))
    assert (h >= np.maximum(o, c)).all() and (l <= np.minimum(o, c)).all() and (l > 0).all() and (v >= 1).all()
    for column, asset in enumerate(market.assets):
        ticks = market.close[there[:, column], column] / asset.tick
        np.testing.assert_allclose(ticks, np.round(ticks), atol=1e-4)


def test_crypto_never_closes_and_stocks_trade_in_sessions_with_gaps_overnight(market):
    assert market.exists[:, :5].all() and not market.session_last[:, :5].any()
    assert (market.tradable == market.exists).all()
    days = market.times.astype("datetime64[D]")[market.session_last[:, 5]]
    assert len(np.unique(days)) == len(days) == 570  # sessions from 2024-01-02 to 2026-04-10
    o, c, first = market.open[:, 5], market.close[:, 5], np.append(False, market.session_last[:-1, 5])
    there = np.flatnonzero(market.exists[:, 5])
    jump = np.abs(o[there[1:]] / c[there[:-1]] - 1)
    new_day = np.diff(there) > 1
    assert jump[~new_day].max() < 1e-3 < np.median(jump[new_day])  # a tick apart inside a session
    assert not (first & market.exists[:, 5]).any()


def test_returns_look_like_returns(market):
    for column in range(7):
        r = returns(market, column)
        z = (r - r.mean()) / r.std()
        assert (z**4).mean() > 4 + 1
        size = np.abs(r)
        assert np.corrcoef(size[1:], size[:-1])[0, 1] > 0.1
        assert np.corrcoef(size[20:], size[:-20])[0, 1] > 0.05
        assert abs(np.corrcoef(r[1:], r[:-1])[0, 1]) < 4 / np.sqrt(len(r))
        o, h, l, volume = (getattr(market, name)[market.exists[:, column], column] for name in ("open", "high", "low", "volume"))
        assert 1.8 < (h - l).mean() / (size * o).mean() < 2.2  # of a continuous price: 2
        assert np.corrcoef(np.log(volume), size)[0, 1] > 0.2


def test_returns_of_a_class_move_together_more_than_classes_do(market):
    there = market.exists.all(axis=1)
    together = np.corrcoef((market.close / market.open - 1)[there].T)
    assert together[:5, :5].min() > 0.3 and together[5, 6] > 0.3
    assert 0.02 < together[:5, 5:].mean() < 0.2


def test_without_a_signal_simple_returns_have_mean_zero():
    scores = []
    for seed in range(40):
        panel = sample_panel(bars=1000, seed=seed)
        for column in (0, 4, 5):
            r = returns(panel, column)
            scores.append(r.mean() / r.std() * np.sqrt(len(r)))
    assert abs(np.mean(scores)) < 3 / np.sqrt(len(scores))
    assert 0.8 < np.std(scores) < 1.2


def test_a_touched_limit_earns_nothing_in_the_null_market(market):
    # The bridge between steps matters here: without it a touched buy loses a sixth of a bar's volatility.
    for column in range(5):
        o, low, c = market.open[:, column], market.low[:, column], market.close[:, column]
        limit = o * (1 - 0.004)
        gain = (c / limit - 1)[low <= limit]
        assert len(gain) > 1000
        assert abs(gain.mean()) < 4 * gain.std() / np.sqrt(len(gain))


def test_the_planted_drift_is_what_knowing_it_would_earn():
    options = {"bars": 20_000, "signal": 0.1}
    panel, drift = sample_panel(**options), sample_drift(**options)
    assert (np.isnan(drift) == ~panel.exists).all()
    for column in range(7):
        there = panel.exists[:, column]
        d, r = drift[there, column], returns(panel, column)
        assert 0.05 < np.corrcoef(d, r)[0, 1] < 0.16
        assert abs(np.polyfit(d, r, 1)[0] - 1) < 0.35  # a unit of drift is a unit of return
        past = np.convolve(r, np.ones(48), "full")[: len(r)]
        assert np.corrcoef(past[:-1], d[1:])[0, 1] > 0.2  # past returns reveal it
    sign = np.sign(drift[:, :5])
    agreement = (sign[48:] * sign[:-48]).mean()
    assert 0.23 < agreement < 0.43  # correlation 1/2 at the half-life: 2/π·asin(1/2) = 1/3 of the signs


def test_the_null_market_has_no_drift():
    assert not np.nansum(np.abs(sample_drift(bars=100)))


def test_other_symbols_and_declared_ones_can_be_asked_for():
    panel = sample_panel(["AVAXUSD", "JPM", "FOOUSD"], bars=200, costs={"FOOUSD": {"asset_class": "crypto"}})
    assert [asset.asset_class for asset in panel.assets] == ["crypto", "stock", "crypto"]
    assert panel.exists.any(axis=0).all()


def test_twenty_thousand_bars_take_about_a_second():
    began = time.perf_counter()
    sample_panel(bars=20_000, seed=3)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    "options",
    [
        {"bars": 0},
        {"bars": 2.5},
        {"seed": -1},
        {"signal": -0.1},
        {"signal": float("nan")},
        {"symbols": []},
        {"symbols": "NVDA"},
        {"symbols": ["FOOUSD"]},
        {"start": "soon"},
    ],
)
def test_arguments_out_of_range_are_errors(options):
    with pytest.raises(MarketError):
        sample_panel(**options)

"""The benchmark's plain pandas loop against the kernel: the third implementation of the same rules, and proof that the two do equal work.

Compared: equity at every bar, 1e-12 relative, over the options the loop has (benchmarks/peer_pandas.py). Needs no further package.
"""

import numpy as np
import pandas as pd
import pytest

from benchmarks import peer_pandas
from tests.oracles.markets import CASH, random_market
from trainables.selector.options import profile_defaults

pytestmark = pytest.mark.oracle

SYMBOLS = ("AAVEUSD", "BTCUSD", "ETHUSD", "SOLUSD")
CONFIGS = (
    {"max_positions": 1},
    {"max_positions": 3, "max_hold": 4, "offset": 0.0005, "intensity": 0.7, "min_edge": 0.001, "lag": 2},
    {
        "max_positions": 4,
        "max_hold": 9,
        "offset": -0.002,
        "dip_threshold": 0.004,
        "fill_buffer": 0.0,
        "cost_multiplier": 2.0,
        "cash_buffer": 0.1,
    },
)


def test_a_plain_pandas_loop_gives_the_same_equity():
    market = random_market(5, 300, SYMBOLS, missing_hours=0.05, min_notional=400.0)
    configs = [profile_defaults("realistic") | c for c in CONFIGS]
    got = market.simulate(*configs)
    assert (got.metrics["trades"] > 20).all()
    wide = {name: pd.DataFrame(values, market.times, list(SYMBOLS)) for name, values in (market.bars | market.orders).items()}
    costs = market.costs["crypto"]
    rates = {"maker": "maker_fee_bps", "taker": "taker_fee_bps", "half_spread": "half_spread_bps"}
    table = pd.DataFrame({k: costs[v] / 1e4 for k, v in rates.items()} | {"min_notional": costs["min_notional"]}, index=list(SYMBOLS))
    names = ("open", "high", "low", "close", "buy_price", "sell_price", "buy_amount", "sell_amount")
    frames = peer_pandas.Frames(
        *[wide[k] for k in names], forecast_high=wide["predicted_high_p50_h1"], forecast_low=wide["predicted_low_p50_h1"], costs=table
    )
    for i, config in enumerate(configs):
        equity = peer_pandas.simulate(frames, config, CASH)
        np.testing.assert_allclose(got.equity.to_numpy()[:, i], equity.to_numpy(), rtol=1e-12)

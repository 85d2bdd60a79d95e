"""What a decision cannot know moves it by no bit: unfinished bars of another clock (R11), bars that do not come (R7)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.selector import scenarios
from trainables.market import Asset, Panel
from trainables.selector.inputs import SelectorInputs
from trainables.selector.options import encode
from trainables.selector.simulate import evaluate

BAR = ("open", "high", "low", "close", "volume")


def fills_of(inputs: SelectorInputs, config: dict) -> pd.DataFrame:
    fills = evaluate(inputs, encode([config], "realistic"), profile="realistic", fills=True).fills
    assert fills is not None
    return fills.assign(row=np.searchsorted(inputs.panel.times, fills["timestamp"].dt.tz_localize(None).to_numpy()))


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Equal to the last bit; the slots a row's fills are logged in may differ."""
    here, there = (x.sort_values(["row", "symbol", "reason"], kind="stable").reset_index(drop=True) for x in (one, other))
    pd.testing.assert_frame_equal(here, there, check_exact=True)


def test_what_an_unfinished_bar_brings_moves_no_decision():
    compared = moved = 0
    for seed in range(250):
        inputs = scenarios.random_inputs(seed, overlap=True)
        if not inputs.overlap:
            continue
        config = scenarios.random_config(seed, "realistic") | {"leverage": [1.0, 2.0][seed % 2], "max_positions": 3, "min_edge": -0.02}
        base = fills_of(inputs, config)
        rng = np.random.default_rng(seed)
        rows = base["row"].unique()
        for row in rng.choice(rows, min(4, len(rows)), replace=False):
            factor = rng.choice([0.97, 0.999, 1.001, 1.03])
            bars = {name: np.array(getattr(inputs.panel, name)) for name in BAR}
            for name in BAR:
                bars[name][row] *= factor
            other = fills_of(SelectorInputs(replace(inputs.panel, **bars), inputs.orders), config)
            until = inputs.settle[row]
            before = [x[(x["row"] < until) & (x["row"] != row)] for x in (base, other)]
            same(*before)
            compared += int((before[0]["row"] > row).sum())
            moved += not base.equals(other)
    assert compared > 60 and moved > 100


def test_whether_a_symbol_prints_a_bar_moves_no_order_of_the_row():
    compared = 0
    for seed in range(250):
        inputs = scenarios.random_inputs(seed)
        panel = inputs.panel
        config = scenarios.random_config(seed, "realistic") | {"max_positions": 1 + seed % 3, "min_edge": -0.02}
        base = fills_of(inputs, config)
        rng = np.random.default_rng(seed)
        classes = np.array([x.asset_class for x in panel.assets])
        trades = panel.tradable if config["market_hours"] else panel.exists
        for row in rng.choice(panel.n_bars, 8, replace=False):
            a = int(rng.integers(len(panel.symbols)))
            others = trades[row] & (classes == classes[a])
            others[a] = False
            if not others.any() or not panel.exists[row, a]:
                continue
            arrays = {name: np.array(getattr(panel, name)) for name in (*BAR, "tradable", "session_last")}
            for name, array in arrays.items():
                array[row, a] = np.nan if name in BAR else False
            there = SelectorInputs(replace(panel, **arrays, bar_seconds=panel.bar_seconds), inputs.orders)
            here, gone = (x[(x["row"] == row) & (x["symbol"] != panel.symbols[a])] for x in (base, fills_of(there, config)))
            same(here, gone)
            compared += len(here)
    assert compared > 40


def market(times: np.ndarray, exists: np.ndarray, classes: list[str]) -> SelectorInputs:
    names = tuple("ABCD"[: exists.shape[1]])
    assets = tuple(Asset(name, kind, 0.0, 0.0, 0.0) for name, kind in zip(names, classes, strict=True))
    prices = [np.where(exists, x, np.nan) for x in (100.0, 101.0, 99.0, 100.0, 1000.0)]
    panel = Panel(times, names, *prices, exists, np.zeros_like(exists), assets)
    return SelectorInputs(panel, np.full((7, *exists.shape), np.nan))


def expected_of(inputs: SelectorInputs) -> np.ndarray:
    return inputs.aligned(1, True, False).competes


def test_two_clocks_of_one_class_are_two_groups():
    times = np.datetime64("2024-01-01", "ns") + np.arange(8) * np.timedelta64(30, "m")
    half = np.arange(8) % 2 == 1
    inputs = market(times, np.stack([~half, half, half & (np.arange(8) != 5)], axis=1), ["crypto"] * 3)
    want = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 0, 0], [0, 1, 1], [1, 0, 0], [0, 1, 0]], bool)
    np.testing.assert_array_equal(expected_of(inputs), want)


@pytest.mark.parametrize(("silent", "first"), [(167, None), (168, 168), (200, 168)])
def test_a_feed_has_ended_a_week_after_its_last_bar_began(silent, first):
    n = silent + 1
    times = np.datetime64("2024-01-01", "ns") + np.arange(n) * np.timedelta64(1, "h")
    exists = np.ones((n, 2), bool)
    exists[1:, 1] = False
    ended = market(times, exists, ["crypto"] * 2).ended
    assert not ended[:, 0].any()
    assert (np.flatnonzero(ended[:, 1])[0] if ended[:, 1].any() else None) == first

from __future__ import annotations

import math

import pytest

from tests.selector.golden import BASE_CONFIG
from tests.selector.reference import RefAsset, RefInputs, metrics_from, run_reference

# high, low, close, predicted high, low, close, buy, sell, buy amount, sell amount (SPEC O.1)
AAA = [
    [101, 98.8, 100, 104, 99.5, 101, 99.0, 101, 50, 80],
    [101.5, 99.4, 101, 102.5, 100, 101.5, 100, 101.5, 60, 90],
    [103, 100.5, 102.5, 103.5, 101.5, 103, 101.8, 103.2, 40, 100],
    [103, 101, 101.5, 103, 100.5, 102, 100.8, 102.6, 70, 60],
    [102, 99, 99.5, 101, 98.5, 100, 98.9, 100.4, 30, 100],
    [101, 98.5, 100.5, 101.5, 99, 100.5, 99.6, 101.2, 55, 75],
]
BBB = [
    [50.5, 49.5, 50, 50.6, 49.6, 50.2, 49.7, 50.5, 80, 60],
    [50.4, 49.2, 49.5, 50.3, 49.2, 49.9, 49.3, 50.1, 90, 70],
    [50.2, 49.3, 50.1, 50.8, 49.5, 50.4, 49.6, 50.6, 20, 100],
    [51, 49.9, 50.8, 51.5, 50.4, 51.2, 50.4, 51.3, 85, 50],
    [51.4, 50.3, 50.5, 51.3, 50, 50.9, 50.1, 51.0, 60, 80],
    [51.2, 50.1, 51, 51.6, 50.6, 51.2, 50.4, 51.5, 35, 95],
]
O1_VECTORS = {
    "lag 0 fillable only": ({"lag": 0, "fillable_only": True}, [10045.4596, 10114.0097, 10121.5779, 10119.5519, 10117.1292, 10161.8011], 5),
    "lag 0 edge first": ({"lag": 0, "fillable_only": False}, [10045.4596, 10114.0097, 10121.5779, 10119.5519, 10117.1292, 10161.8011], 5),
    "lag 1 fillable only": ({"lag": 1, "fillable_only": True}, [9959.8470, 10050.6906, 10072.3703, 10080.7875, 10158.7145], 5),
    "lag 1 edge first": ({"lag": 1, "fillable_only": False}, [10000, 10136.9077, 10218.8663, 10227.4059, 10306.4663], 4),
    "lag 1 edge first, intensity 2": (
        {"lag": 1, "fillable_only": False, "intensity": 2.0, "offset": 0.0005, "risk_weight": 0.25, "min_edge": 0.002},
        [10000, 10000, 9972.4421, 9815.3497, 9882.0943],
        2,
    ),
}


def o1_inputs() -> RefInputs:
    def grid(column: int) -> list[list[float]]:
        return [[float(a[column]), float(b[column])] for a, b in zip(AAA, BBB, strict=True)]

    flags = [[True, True] for _ in AAA]
    never = [[False, False] for _ in AAA]
    close = grid(2)
    return RefInputs(
        times=[float(t) for t in range(6)],
        bar_hours=1.0,
        assets=[RefAsset(symbol, False, 0.001, 0.001, 0.0) for symbol in ("AAA", "BBB")],
        open=close,
        high=grid(0),
        low=grid(1),
        close=close,
        volume=[[math.nan, math.nan] for _ in AAA],
        buy=grid(6),
        sell=grid(7),
        buy_amount=grid(8),
        sell_amount=grid(9),
        pred_high=grid(3),
        pred_low=grid(4),
        pred_close=grid(5),
        tradable=flags,
        session_last=never,
        legacy_tradable=flags,
        legacy_last=never,
    )


@pytest.mark.parametrize("name", O1_VECTORS)
def test_the_reference_reproduces_the_published_legacy_vectors(name: str) -> None:
    overrides, equity, fills = O1_VECTORS[name]
    result = run_reference(o1_inputs(), {**BASE_CONFIG, **overrides}, "legacy")
    assert result.equity == pytest.approx(equity, abs=1e-4)
    assert result.rows == list(range(6 - len(equity), 6))
    assert len(result.fills) == fills


@pytest.mark.parametrize(("profile", "repeats", "sortino"), [("legacy", 1, 33.09), ("realistic", 15, 20.93)])
def test_the_reference_metrics_give_the_golden_sortino(profile: str, repeats: int, sortino: float) -> None:
    # SPEC O.3; repeated under `realistic`, which gives no ratio below thirty losing bars.
    equity = [10_000.0]
    for move in [0.01, -0.02, 0.03, -0.01] * repeats:
        equity.append(equity[-1] * (1 + move))
    curve = equity if profile == "legacy" else equity[1:]  # `realistic` starts from the initial cash
    metrics = metrics_from(curve, 10_000.0, [float(t) for t in range(len(curve))], 1.0, profile)
    assert metrics["sortino"] == pytest.approx(sortino, abs=0.005)

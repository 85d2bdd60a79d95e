"""Start states (SPEC H.3): from a later row, flat or with everything in one symbol."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest

from tests.selector import reference, scenarios
from tests.selector.reference_metrics import max_drawdown, returns_of
from trainables.contract import TrainableError
from trainables.selector import tally
from trainables.selector.inputs import SelectorInputs, Start
from trainables.selector.options import encode
from trainables.selector.simulate import simulate_sums

CASH = 10_000.0


def possible_starts(inputs: SelectorInputs, seed: int) -> list[Start]:
    """Some starts of each kind, in no order."""
    rng = np.random.default_rng(seed)
    drawn = [Start(int(rng.integers(inputs.panel.n_bars)), int(rng.integers(-1, len(inputs.panel.symbols)))) for _ in range(6)]
    starts = []
    for start in [Start(), *drawn]:
        try:
            inputs.first_row(start)
        except TrainableError:
            continue
        starts.append(start)
    return starts


def reference_sums(inputs: SelectorInputs, config: dict, start: Start) -> dict[int, float]:
    """What the reference simulator's curve and fills say the running sums are."""
    given = scenarios.reference_inputs(inputs, reference, bool(config["market_hours"]), int(config["lag"]))
    held = None if start.held < 0 else start.held
    got = reference.run_reference(given, config, "realistic", CASH, start.row, held)
    returns = returns_of([CASH, *got.equity])
    flows: dict[str, float] = defaultdict(float)
    open_: dict[str, float] = defaultdict(float)
    if held is not None:
        bought = inputs.first_close(start.row, held)
        symbol = inputs.panel.symbols[held]
        flows[symbol], open_[symbol] = -CASH, CASH / float(inputs.panel.close[bought, held])
    closed = []
    for fill in got.fills:
        sign = 1.0 if fill.side == "buy" else -1.0
        flows[fill.symbol] -= sign * fill.price * fill.quantity + fill.fee
        open_[fill.symbol] += sign * fill.quantity
        if abs(open_[fill.symbol]) <= 1e-12:
            closed.append(flows.pop(fill.symbol))
            open_[fill.symbol] = 0.0
    return {
        tally.FIRST: CASH,
        tally.FINAL: got.equity[-1],
        tally.ROWS: len(got.equity),
        tally.SUM_R: sum(returns),
        tally.SUM_R2: sum(r * r for r in returns),
        tally.SUM_DR2: sum((b - a) ** 2 for a, b in pairwise(returns)),
        tally.FIRST_R: returns[0],
        tally.DRAWDOWN: max_drawdown([CASH, *got.equity]),
        tally.ENTRIES: sum(f.reason == "entry" for f in got.fills),
        tally.FORCED: sum(f.reason not in ("entry", "limit") for f in got.fills),
        tally.FEES: sum(f.fee for f in got.fills),
        tally.TURNOVER: sum(f.price * f.quantity for f in got.fills),
        tally.FINANCING: got.financing_paid,
        tally.TRADES: len(closed),
        tally.GROSS_PROFIT: sum(x for x in closed if x > 0),
    }


@pytest.mark.slow
def test_every_start_equals_the_reference_started_there():
    held = later = 0
    for seed in range(150):
        inputs = scenarios.random_inputs(seed, overlap=seed % 3 == 0)
        configs = [scenarios.random_config(7 * seed + i, "realistic") for i in range(3)]
        starts = possible_starts(inputs, seed)
        sums = simulate_sums(inputs, encode(configs, "realistic"), "realistic", CASH, starts=starts)[0]
        assert sums.shape == (len(starts), len(configs), tally.WIDTH)
        for k, start in enumerate(starts):
            for i, config in enumerate(configs):
                want = reference_sums(inputs, config, start)
                got = sums[k, i, list(want)]
                np.testing.assert_allclose(got, list(want.values()), rtol=1e-7, atol=1e-7, err_msg=f"seed {seed}, {start}, {config}")
            held += start.held >= 0
            later += start.row > 0
    assert held > 200 and later > 200


def test_a_flat_start_at_the_first_row_is_the_usual_simulation():
    inputs = scenarios.random_inputs(5)
    table = encode([scenarios.random_config(seed, "realistic") for seed in range(50)], "realistic")
    usual = simulate_sums(inputs, table, "realistic", CASH)[0]
    assert usual.shape == (50, tally.WIDTH)
    np.testing.assert_array_equal(simulate_sums(inputs, table, "realistic", CASH, starts=[Start()])[0][0], usual)
    assert simulate_sums(inputs, table, "realistic", CASH, starts=[])[0].shape == (0, 50, tally.WIDTH)


def test_impossible_starts_are_refused_with_symbol_and_time():
    inputs = scenarios.random_inputs(11)
    last = int(np.flatnonzero(inputs.exists[:, 0])[-1])
    table = encode([scenarios.random_config(0, "realistic")], "realistic")
    with pytest.raises(TrainableError, match=r"^start: AAA has no second bar from 2024-.*Z \(row \d+\) on"):
        inputs.first_close(last, 0)
    with pytest.raises(TrainableError, match="so nothing can start in it"):
        simulate_sums(inputs, table, "realistic", CASH, starts=[Start(last, 0)])
    with pytest.raises(TrainableError, match="start: held 9 is not there; give a number from -1 to"):
        inputs.first_row(Start(0, 9))
    with pytest.raises(TrainableError, match="start: row -1 is not there; give a number from 0 to"):
        inputs.first_row(Start(-1))
    with pytest.raises(TrainableError, match="start states are for the realistic profile"):
        simulate_sums(inputs, table, "legacy", CASH, starts=[Start()])

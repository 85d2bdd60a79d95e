"""The numba kernels against the slow reference simulator, on random markets with every option."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
DUST = 1e-12


def load(name):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


scenarios, reference = load("scenarios"), load("reference")
from trainables.selector import realistic, tally  # noqa: E402
from trainables.selector.options import encode  # noqa: E402
from trainables.selector.simulate import evaluate  # noqa: E402


def compare(inputs, config, profile):
    got = evaluate(inputs, encode([config], profile), profile=profile, equity=True, fills=True)
    want = reference.run_reference(reference_for(inputs, config), config, profile)
    curve = got.equity.to_numpy()[:, 0]
    np.testing.assert_allclose(curve, want.equity, rtol=1e-9, atol=1e-7)
    symbols = list(inputs.panel.symbols)
    rows = np.searchsorted(inputs.panel.times, got.fills["timestamp"].dt.tz_localize(None).to_numpy())
    # Cash that is zero but for rounding buys dust in one of the two; so small a fill is no difference.
    mine = sorted(
        (int(r), f.symbol, f.side, f.reason, f.price, f.quantity)
        for r, f in zip(rows, got.fills.itertuples(), strict=True)
        if f.quantity > DUST
    )
    theirs = sorted((f.row, f.symbol, f.side, f.reason, f.price, f.quantity) for f in want.fills if f.quantity > DUST)
    assert [m[:4] for m in mine] == [t[:4] for t in theirs]
    np.testing.assert_allclose([m[4:] for m in mine], [t[4:] for t in theirs], rtol=1e-9)
    assert set(m[1] for m in mine) <= set(symbols)
    if profile == "realistic":
        assert got.metrics["orders"][0] == want.orders_sent
    return got, want


def reference_for(inputs, config):
    return scenarios.reference_inputs(inputs, reference, bool(config["market_hours"]), int(config["lag"]))


@pytest.mark.parametrize("profile", ["realistic", "legacy"])
def test_kernel_equals_the_reference_on_random_markets_with_every_option(profile):
    fills, reasons = 0, set()
    for seed in range(300):
        inputs = scenarios.random_inputs(seed)
        config = scenarios.random_config(seed, profile)
        try:
            got, _ = compare(inputs, config, profile)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, config {config}: {error}") from error
        fills += len(got.fills)
        reasons |= set(got.fills["reason"])
    assert fills > 1000  # a comparison of markets in which nothing trades proves nothing
    if profile == "realistic":
        assert reasons == set(tally.REASONS)


def test_kernel_equals_the_reference_where_bars_overlap():
    fills, reasons = 0, set()
    for seed in range(200):
        inputs = scenarios.random_inputs(seed, overlap=True)
        config = scenarios.random_config(seed, "realistic")
        try:
            got, _ = compare(inputs, config, "realistic")
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, config {config}: {error}") from error
        fills += len(got.fills)
        reasons |= set(got.fills["reason"])
    assert fills > 300
    assert reasons == set(tally.REASONS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_kernel_equals_the_reference_across_its_blocks_of_rows(seed):
    inputs = scenarios.random_inputs(seed, overlap=seed % 2 == 1, bars=1500)
    assert inputs.panel.n_bars > 2 * realistic.BLOCK_CELLS // len(inputs.panel.symbols)
    config = scenarios.random_config(seed, "realistic") | {"leverage": 1.0, "max_hold": float(20 * (seed % 3))}
    got, _ = compare(inputs, config, "realistic")
    assert got.metrics["entries"][0] > 10


@pytest.mark.parametrize("profile", ["realistic", "legacy"])
def test_many_configurations_in_one_call_equal_one_at_a_time(profile):
    inputs = scenarios.random_inputs(5)
    configs = [scenarios.random_config(seed, profile) for seed in range(200)]
    together = evaluate(inputs, encode(configs, profile), profile=profile).metrics
    alone = [evaluate(inputs, encode([c], profile), profile=profile).metrics for c in configs]
    for i, one in enumerate(alone):
        np.testing.assert_array_equal(together.iloc[[i]].to_numpy(), one.to_numpy())

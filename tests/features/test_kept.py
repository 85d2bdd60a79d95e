"""Features as kept tables: only new rows are built, and they are the rows of a full rebuild."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from tests.features.markets import forecasts, market
from trainables.features import FeatureSpec, features
from trainables.features.spec import BLOCKS
from trainables.market import Panel
from trainables.tables import Table, checked, offered, runs

SPECS = {
    "bounded": FeatureSpec(BLOCKS, ma=(24,), ema=(), volume_z=72, volatility=(24,), atr=(24,), vol_regime=(), trend=(48,), drawdown=(48,)),
    "all history": FeatureSpec(BLOCKS, ma=(24, 300)),
}


class Keeper:
    """Keeps rows by key and the bars they depend on; writes down what was built."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], np.ndarray] = {}
        self.built: dict[str, list[np.datetime64]] = defaultdict(list)
        self.tables: dict[str, Table] = {}

    def read(self, table, first, stop, build):
        self.tables[table.symbols[0]] = table
        names = [(table.key, table.depends(row, row + 1)) for row in range(first, stop)]
        for a, b in runs([name not in self.rows for name in names]):
            made = checked(table, first + a, first + b, build(first + a, first + b, lambda _: None))
            self.rows |= {names[row]: made[:, row - a] for row in range(a, b)}
            self.built[table.symbols[0]] += list(table.times[first + a : first + b])
        return np.stack([self.rows[name] for name in names], axis=1)


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.int64)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_appended_bars_build_their_own_rows_only(spec: FeatureSpec):
    panel = market(21, hours=700)
    issued = forecasts(panel, (1, 24))
    keeper = Keeper()
    with offered(keeper):
        features(panel.rows((0, panel.n_bars - 30)), spec, issued)
        keeper.built.clear()
        grown = features(panel, spec, issued)
        for a, symbol in enumerate(panel.symbols):
            new = np.flatnonzero(panel.exists[:, a])
            assert keeper.built[symbol] == list(panel.times[new[new >= panel.n_bars - 30]])
        keeper.built.clear()
        features(panel, spec, issued)
        assert not keeper.built
    np.testing.assert_array_equal(bits(grown.values), bits(features(panel, spec, issued).values))


def test_an_altered_price_builds_what_could_see_it():
    panel = market(22, hours=900, missing=0.0)
    issued = forecasts(panel, (1, 24), missing=0.0)
    spec = SPECS["bounded"]
    eth, nvda = panel.symbols.index("ETHUSD"), panel.symbols.index("NVDA")
    row = int(np.flatnonzero(panel.exists[:-1, eth] & panel.exists[1:, nvda])[40])  # a coin's bar just before a stock's
    close = panel.close.copy()
    close[row, eth] = panel.high[row, eth]
    other = replace(panel, close=close)
    keeper = Keeper()
    with offered(keeper):
        features(panel, spec, issued)
        keeper.built.clear()
        changed = features(other, spec, issued)
    own = np.flatnonzero(panel.exists[:, eth])
    first = int(np.searchsorted(own, row))
    assert keeper.built["ETHUSD"] == list(panel.times[own[first : first + spec.reach]])
    # Others have it in their basket, from the end of that bar on; it is not BTC.
    assert all(time >= panel.times[row] for times in keeper.built.values() for time in times)
    assert 0 < len(keeper.built["SOLUSD"]) <= spec.reach and 0 < len(keeper.built["NVDA"]) <= spec.reach
    np.testing.assert_array_equal(bits(changed.values), bits(features(other, spec, issued).values))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_rows_of_one_name_have_the_same_bits_wherever_history_begins(spec: FeatureSpec):
    panel = market(23, hours=900)
    issued = forecasts(panel, (1, 24))
    whole, later = Keeper(), Keeper()
    with offered(whole):
        features(panel, spec, issued)
    with offered(later):
        features(panel.rows((200, panel.n_bars)), spec, issued)
    shared = whole.rows.keys() & later.rows.keys()
    assert (len(shared) > 1000) == (spec.reach > 0)
    for name in shared:
        np.testing.assert_array_equal(bits(whole.rows[name]), bits(later.rows[name]))


def test_bits_do_not_depend_on_the_rows_built_together():
    panel = market(24, hours=600)
    issued = forecasts(panel, (1, 24))

    class Piecemeal:
        def __init__(self, size: int) -> None:
            self.size = size

        def read(self, table, first, stop, build):
            parts = [build(a, min(a + self.size, stop), lambda _: None) for a in range(first, stop, self.size)]
            return np.concatenate(parts, axis=1)

    for spec in SPECS.values():
        whole = features(panel, spec, issued)
        for size in (1, 37):
            with offered(Piecemeal(size)):
                np.testing.assert_array_equal(bits(features(panel, spec, issued).values), bits(whole.values))


def test_a_table_says_what_its_values_are_made_of():
    panel = market(25, hours=400)
    issued = forecasts(panel, (1, 24))

    def tables_of(given: Panel, spec: FeatureSpec, told) -> dict[str, Table]:
        keeper = Keeper()
        with offered(keeper):
            features(given, spec, told)
        return keeper.tables

    spec = FeatureSpec(("price", "forecast"))
    table = tables_of(panel, spec, issued)["ETHUSD"]
    assert table.kind == "features" and table.columns == spec.columns and table.symbols == ("ETHUSD",) and table.reach == 25
    assert table.spec["forecasts"] == "random" and table.spec["features"]["version"] == 1 and table.spec["others"] == []
    assert table.bars.shape[0] == 5 + 2 * 5
    assert tables_of(panel, spec, replace(issued, source="another"))["ETHUSD"].key != table.key
    assert tables_of(panel, replace(spec, horizons=(1,)), issued)["ETHUSD"].key != table.key
    no_forecast = FeatureSpec(("price",))
    assert tables_of(panel, no_forecast, issued)["ETHUSD"].key == tables_of(panel, no_forecast, None)["ETHUSD"].key
    both = tables_of(panel, FeatureSpec(("btc", "basket")), None)["ETHUSD"]
    assert both.spec["others"] == ["BTCUSD", "BTCUSD", *sorted(panel.symbols)]
    three = tables_of(panel.select(panel.symbols[:3]), FeatureSpec(("btc", "basket")), None)["ETHUSD"]
    assert three.key != both.key


def test_nothing_is_marked_where_nobody_keeps():
    seen = []

    class Host:
        def read(self, table, first, stop, build):
            values = build(first, stop, lambda _: None)
            seen.append("marks" in table.__dict__)
            return values

    with offered(Host()):
        features(market(26, hours=100), FeatureSpec(("price",)))
    assert seen and not any(seen)

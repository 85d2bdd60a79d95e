"""What every forecaster owes: rows that do not depend on what is built with them, and nothing from after the issue time."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tests.chronos2.tiny import disturbed, holey
from tests.forecast.kept import Kept
from trainables.contract import TrainableError
from trainables.forecast import FIELDS, HORIZONS, QUANTILES, Empirical, Forecaster, Naive, empirical, issue, make_forecaster
from trainables.forecast.guard import rule_of_thumb
from trainables.forecast.table import column_names
from trainables.market import sample_panel
from trainables.tables import offered
from trainables.timeline import Window

BARS = 24 * 20
FORECASTERS = [Naive(), Empirical(window=48), Empirical(window=30, minimum=3, horizons=(2,))]


@pytest.fixture(scope="module")
def panel():
    return holey(sample_panel(["BTCUSD", "ETHUSD", "NVDA"], bars=BARS), "ETHUSD", [100, 300, 301, 302])


class Fixed(Forecaster):
    """A model that says what it is told to, in units of the last close."""

    name = source = "fixed"
    guarded = True
    least = 20
    reach = 20
    horizons = (1, 4)

    def __init__(self, said):
        self.said = said

    @property
    def spec(self):
        return {"said": np.asarray(self.said).tolist()}

    def build(self, panel, columns, rows, first, stop, done):
        return np.vstack([np.outer(np.ravel(self.said), panel.close[rows[first:stop], a]) for a in columns])


def plausible():
    """float64 (2, 4, 3) of a good forecast: open, high, low, close around the last close."""
    return np.tile([[0.99, 1.0, 1.01], [1.0, 1.02, 1.03], [0.97, 0.98, 1.0], [0.98, 1.0, 1.02]], (2, 1, 1))


def test_the_empirical_forecaster_is_the_function(panel):
    for windows in (None, Window(0, BARS)):
        issued = issue(panel, Empirical(window=48), windows)
        known = empirical(panel, HORIZONS, 48)
        np.testing.assert_array_equal(issued.values, known.values)
        assert issued.source == known.source and not issued.heuristic().any()


@pytest.mark.parametrize("forecaster", FORECASTERS, ids=lambda f: f.source)
def test_a_row_has_the_same_bits_whichever_are_built_with_it(panel, forecaster):
    whole = issue(panel, forecaster).values
    for windows in (
        Window(37, 41),
        [Window(90, 140), Window(300, 301), Window(120, 180)],
        [Window(k, k + 7) for k in range(0, BARS - 7, 50)],
    ):
        part = issue(panel, forecaster, windows).values
        asked = np.zeros(BARS, bool)
        for start, stop in [windows] if isinstance(windows, Window) else windows:
            asked[start:stop] = True
        np.testing.assert_array_equal(part[..., asked, :], whole[..., asked, :])
        assert np.isnan(part[..., ~asked, :]).all()


@pytest.mark.parametrize("forecaster", FORECASTERS, ids=lambda f: f.source)
def test_bars_after_t_never_change_forecasts_up_to_t(panel, forecaster):
    before = issue(panel, forecaster).values
    for t in (60, 301, 400):
        after = issue(disturbed(panel, slice(t + 1, BARS)), forecaster).values
        np.testing.assert_array_equal(after[..., : t + 1, :], before[..., : t + 1, :])
        assert not np.array_equal(after, before, equal_nan=True)


@pytest.mark.parametrize("forecaster", FORECASTERS, ids=lambda f: f.source)
def test_bars_beyond_reach_never_change_a_forecast(panel, forecaster):
    before = issue(panel, forecaster, Window(300, BARS)).values
    for a in range(len(panel.symbols)):
        rows = np.flatnonzero(panel.exists[:, a])
        t = rows[-5]
        first = rows[len(rows) - 5 - forecaster.reach + 1]
        far = issue(disturbed(panel, slice(0, first)), forecaster, Window(300, BARS)).values
        np.testing.assert_array_equal(far[..., t, a], before[..., t, a])


@pytest.mark.parametrize("forecaster", FORECASTERS, ids=lambda f: f.source)
def test_a_day_of_bars_builds_a_day_of_rows(panel, forecaster):
    kept = Kept()
    with offered(kept):
        issue(panel.rows((0, BARS - 24)), forecaster)
        assert kept.count() == panel.exists[: BARS - 24].sum()
        longer = issue(panel, forecaster).values
        assert kept.count() == panel.exists[BARS - 24 :].sum()
        np.testing.assert_array_equal(issue(panel, forecaster).values, longer)
        assert kept.count() == 0
    np.testing.assert_array_equal(longer, issue(panel, forecaster).values)


def test_what_is_read_is_not_copied(panel):
    class Holding:
        def read(self, table, first, stop, build):
            self.held = build(first, stop, lambda n: None)
            return self.held

    host = Holding()
    with offered(host):
        found = issue(panel.select(["BTCUSD"]), Naive())
    assert np.shares_memory(found.pieces[0].values, host.held)
    np.testing.assert_array_equal(found.quantile("high", 0.9, 12)[:, 0], panel.high[:, 0])


def test_quantile_p50_and_values_say_the_same(panel):
    found = issue(panel, Empirical(window=48))
    for i, h in enumerate(HORIZONS):
        for f, field in enumerate(FIELDS):
            np.testing.assert_array_equal(found.p50(field, h), found.values[i, f, 1])
            for q, level in enumerate(QUANTILES):
                np.testing.assert_array_equal(found.quantile(field, level, h), found.values[i, f, q])
    with pytest.raises(TrainableError, match=r"no quantile 0\.25; it has open"):
        found.quantile("close", 0.25)


def test_columns_of_a_table_are_named(panel):
    asked = []

    class Naming:
        def read(self, table, first, stop, build):
            asked.append(table)
            return build(first, stop, lambda n: None)

    class Pairs(Fixed):
        def groups(self, panel):
            return [(0, 1), (2,)]

    with offered(Naming()):
        found = issue(panel, Pairs(plausible()))
    together, alone = sorted(asked, key=lambda table: -len(table.symbols))
    assert together.symbols == ("BTCUSD", "ETHUSD") and alone.columns == column_names((1, 4))
    assert together.columns[:4] == ("BTCUSD.open_p10_h1", "BTCUSD.open_p50_h1", "BTCUSD.open_p90_h1", "BTCUSD.high_p10_h1")
    assert together.columns[-2:] == ("ETHUSD.heuristic_h1", "ETHUSD.heuristic_h4")
    assert alone.columns[-3:] == ("close_p90_h4", "heuristic_h1", "heuristic_h4")
    common = panel.exists[:, :2].all(axis=1)
    assert np.isnan(found.p50("close")[~common, 0]).all() and np.isfinite(found.p50("close")[common, 0][20:]).all()
    np.testing.assert_array_equal(found.p50("high")[50:60, 1], 1.02 * panel.close[50:60, 1])


def test_a_group_without_a_common_bar_is_a_message(panel):
    class Pairs(Fixed):
        def groups(self, panel):
            return [(0, 1, 2)]

    apart = holey(panel, "NVDA", np.flatnonzero(panel.exists[:, 2]))
    with pytest.raises(TrainableError, match="BTCUSD, ETHUSD, NVDA are forecast together and have no bar in common"):
        issue(apart, Pairs(plausible()))


def test_a_symbol_without_bars_is_missing(panel):
    gone = holey(panel, "NVDA", np.flatnonzero(panel.exists[:, 2]))
    found = issue(gone, Empirical(window=48))
    assert np.isnan(found.values[..., 2]).all() and "NVDA" not in set(found.table()["symbol"])


def test_progress_reaches_what_was_asked_for(panel):
    heard = []
    issue(panel, Naive(), [Window(10, 20), Window(30, 40)], lambda done, total: heard.append((done, total)))
    total = int(panel.exists[10:20].sum() + panel.exists[30:40].sum())
    assert heard[-1] == (total, total) and {t for _, t in heard} == {total}
    assert [d for d, _ in heard] == sorted(d for d, _ in heard)


def test_windows_outside_the_panel_and_wrong_shapes_are_messages(panel):
    with pytest.raises(TrainableError, match="rows 400 to 481 lie outside the panel's 480"):
        issue(panel, Naive(), Window(400, 481))
    with pytest.raises(TrainableError, match=r"fixed: built values of shape \(3, .*\); \(24, "):
        issue(panel, Fixed(np.ones(3)))


def test_a_good_forecast_passes_the_guard(panel):
    found = issue(panel, Fixed(plausible()))
    assert not found.heuristic(1).any() and not found.heuristic(4).any()
    btc = found.values[..., 30, 0] / panel.close[30, 0]
    np.testing.assert_allclose(btc, plausible(), rtol=1e-12)
    assert set(found.table()["source"]) == {"model"}
    assert np.isnan(found.p50("close")[:19]).all() and np.isfinite(found.p50("close")[19, 0])  # fewer bars than it needs


@pytest.mark.parametrize(
    ("where", "value"),
    [((1, 3, 1), np.nan), ((1, 0, 2), np.inf), ((1, 2, 0), 0.0), ((1, 1, 2), 101.0), ((1, 3, 0), 0.009), ((1, 2, 1), 1.021)],
)
def test_an_implausible_forecast_is_replaced_at_its_horizon_and_says_so(panel, where, value):
    said = plausible()
    said[where] = value
    if where == (1, 2, 1):
        said[1, 2, 2] = 1.05  # a low above the high, by its medians
    found = issue(panel, Fixed(said))
    have = np.isfinite(found.p50("close"))
    assert not found.heuristic(1).any() and (found.heuristic(4) == have).all() and have.sum() > 500
    table = found.table()
    assert set(table["source"][table["horizon_hours"] == 1]) == {"model"} and set(table["source"][table["horizon_hours"] == 4]) == {
        "heuristic"
    }
    replaced = found.values[1][..., have]
    assert np.isfinite(replaced).all() and (np.diff(replaced, axis=1) >= 0).all()
    assert (replaced[1] >= replaced.max(axis=0)).all() and (replaced[2] <= replaced.min(axis=0)).all()


def test_the_rule_of_thumb_worked_by_hand():
    close = 100 * 1.01 ** np.arange(12)
    bars = np.stack([close, close + 1, close - 1, close])
    out = rule_of_thumb(bars, 2, (1, 4))
    middle = close[-1] * 1.01**4
    np.testing.assert_allclose(out[1, 3, :, -1], [close[-1] - 1, middle, middle])
    np.testing.assert_allclose(out[1, 1, :, -1], [middle, middle, middle])
    np.testing.assert_allclose(out[1, 2, :, -1], [close[-1] - 1, close[-1] - 1, middle])
    # Of fewer than 9 bars the returns there are; of one bar none.
    np.testing.assert_allclose(rule_of_thumb(bars[:, :3], 1, (1,))[0, 3, 1], close[2] * 1.01)
    np.testing.assert_allclose(rule_of_thumb(bars[:, :1], 1, (24,))[0, 3], [[99.0], [100.0], [101.0]])


def test_a_replaced_forecast_has_the_same_bits_whichever_are_built_with_it(panel):
    said = plausible()
    said[0] = np.nan
    whole = issue(panel, Fixed(said)).values
    for start in (100, 101, 297, 304):
        np.testing.assert_array_equal(
            issue(panel, Fixed(said), Window(start, start + 3)).values[..., start : start + 3, :], whole[..., start : start + 3, :]
        )


def test_what_a_model_leaves_in_disorder_is_put_in_order(panel):
    said = plausible()
    said[0, 3] = said[0, 3, ::-1]
    said[0, 1] = [0.9, 0.99, 1.0]  # high below the close
    found = issue(panel, Fixed(said))
    values = found.values[0][..., np.isfinite(found.p50("close"))]
    assert not found.heuristic().any() and (np.diff(values, axis=1) >= 0).all()
    assert (values[1, 1] >= values[3, 1]).all() and (values[1] >= values.max(axis=0)).all() and (values[2] <= values.min(axis=0)).all()


def test_naive_is_the_last_bar_again(panel):
    found = issue(panel, Naive())
    for field, expected in {"open": panel.close, "high": panel.high, "low": panel.low, "close": panel.close}.items():
        for level in QUANTILES:
            np.testing.assert_array_equal(found.quantile(field, level, 24), expected)
    stamps = found.table()
    assert (stamps["target_timestamp"] - stamps["issued_at"]).max() == pd.Timedelta(hours=24)


def test_forecasters_are_made_from_plain_json():
    made = make_forecaster({"forecaster": "empirical", "window": 72, "horizons": [1, 4]})
    assert made.source == "empirical(window=72)" and made.horizons == (1, 4) and made.reach == 76
    assert make_forecaster({"forecaster": "naive"}).horizons == HORIZONS
    assert make_forecaster({"forecaster": "empirical"}).spec != made.spec


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "forecaster.forecaster: None is not allowed; give one of naive, empirical, chronos2"),
        ({"forecaster": "chronos"}, "did you mean 'chronos2'"),
        ({"forecaster": "empirical", "windw": 3}, r"forecaster\.windw: empirical has no such parameter; did you mean 'window'"),
        ({"forecaster": "naive", "window": 3}, "forecaster.window: naive has no such parameter; known: horizons"),
        ({"forecaster": "empirical", "window": "long"}, "forecaster.window: 'long' is not allowed; give a whole number"),
        ({"forecaster": "empirical", "window": 12}, "12 bars never hold the 24"),
        ({"forecaster": "naive", "horizons": [1, 0]}, r"forecaster.horizons: \[1, 0\]; give distinct"),
        ({"forecaster": "naive", "horizons": 4}, "forecaster.horizons: 4"),
        ({"forecaster": "naive", "horizons": "24"}, "forecaster.horizons: '24'"),
    ],
)
def test_what_cannot_be_made_is_a_message(spec, message):
    with pytest.raises(TrainableError, match=message):
        make_forecaster(spec)


def test_forecasters_without_a_model_import_no_torch():
    code = """
import sys
from trainables.forecast import issue, make_forecaster
from trainables.market import sample_panel
issue(sample_panel(bars=80), make_forecaster({"forecaster": "empirical"}))
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

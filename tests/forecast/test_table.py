"""The forecast table: its columns, and that nothing is lost or made up in it."""

import numpy as np
import pandas as pd
import pytest

from trainables.contract import TrainableError
from trainables.forecast import FIELDS, QUANTILES, empirical
from trainables.market import sample_panel


@pytest.fixture(scope="module")
def panel():
    return sample_panel(["BTCUSD", "NVDA"], bars=24 * 14)


@pytest.fixture(scope="module")
def forecasts(panel):
    return empirical(panel, (1, 4), window=30)


def test_the_table_has_the_columns_of_the_schema(forecasts):
    table = forecasts.table()
    predicted = [f"predicted_{field}_p{level}" for field in FIELDS for level in (10, 50, 90)]
    about = ["timestamp", "symbol", "issued_at", "target_timestamp", "horizon_hours", "source", "forecaster"]
    assert list(table.columns) == [*about, *predicted]
    assert str(table["issued_at"].dt.tz) == "UTC"
    assert set(table["source"]) == {"model"} and set(table["forecaster"]) == {"empirical(window=30)"}
    assert set(table["horizon_hours"]) == {1.0, 4.0}
    assert ((table["timestamp"] - table["issued_at"]) == pd.Timedelta(hours=1)).all()
    assert ((table["target_timestamp"] - table["issued_at"]) == pd.to_timedelta(table["horizon_hours"], unit="h")).all()


def test_the_arrays_can_be_rebuilt_from_the_table(forecasts):
    table = forecasts.table()
    again = np.full_like(forecasts.values, np.nan)
    row = np.searchsorted(forecasts.times, table["issued_at"].dt.tz_localize(None).to_numpy())
    column = table["symbol"].map(list(forecasts.symbols).index).to_numpy()
    step = table["horizon_hours"].map({1.0: 0, 4.0: 1}).to_numpy()
    for f, field in enumerate(FIELDS):
        for q, level in enumerate(QUANTILES):
            again[step, f, q, row, column] = table[f"predicted_{field}_p{round(level * 100)}"]
    np.testing.assert_array_equal(again, forecasts.values)
    assert not table.duplicated(["issued_at", "symbol", "horizon_hours"]).any()


def test_what_has_no_forecast_has_no_row(panel, forecasts):
    table = forecasts.table()
    assert not table.isna().any().any()
    issued = table[(table["symbol"] == "NVDA") & (table["horizon_hours"] == 1.0)]["issued_at"].dt.tz_localize(None)
    own = panel.times[panel.exists[:, 1]]
    assert list(issued.to_numpy()) == list(own[24:])  # 24 returns need 25 bars


def test_the_source_tells_forecasters_apart(panel):
    sources = {empirical(panel, window=30, minimum=m).source for m in (5, 24)} | {empirical(panel, window=31).source}
    assert len(sources) == 3


def test_p50_is_the_median_of_the_field_at_the_horizon(forecasts):
    np.testing.assert_array_equal(forecasts.p50("low", 4), forecasts.values[1, 2, 1])
    np.testing.assert_array_equal(forecasts.p50("high"), forecasts.values[0, 1, 1])


@pytest.mark.parametrize(("field", "horizon"), [("close", 2), ("vwap", 1)])
def test_a_field_or_horizon_that_is_not_there_is_named(forecasts, field, horizon):
    with pytest.raises(TrainableError, match=f"no '{field}' at horizon {horizon}; .*open, high, low, close at 1, 4"):
        forecasts.p50(field, horizon)

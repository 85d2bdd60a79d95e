"""The `empirical` forecaster against a naive loop over numpy quantiles, and against the future."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.contract import TrainableError
from trainables.forecast import FIELDS, QUANTILES, empirical
from trainables.market import Panel, make_assets

SYMBOLS = ("BTCUSD", "ETHUSD")


def market(seed: int, rows: int = 120, missing: float = 0.15) -> Panel:
    """Random bars with gaps; prices on a coarse grid, so that a window holds equal values."""
    rng = np.random.default_rng(seed)
    close = np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.01, (rows, 2)), axis=0)), 0)
    open_ = np.round(close * (1 + rng.normal(0, 0.005, close.shape)), 0)
    bars = [
        open_,
        np.maximum(open_, close) + rng.integers(0, 3, close.shape),
        np.minimum(open_, close) - 1.0,
        close,
        np.full(close.shape, 5.0),
    ]
    gone = rng.random(close.shape) < missing
    bars = [np.where(gone, np.nan, x) for x in bars]
    times = np.datetime64("2024-01-01", "ns") + np.arange(rows) * np.timedelta64(1, "h")
    return Panel(times, SYMBOLS, *bars, ~gone, np.zeros_like(gone), make_assets(SYMBOLS), "random")


def naive(panel: Panel, horizon: int, window: int, minimum: int) -> np.ndarray:
    """float64 (4, 3, T, A) of one horizon: the definition, bar by bar."""
    out = np.full((4, 3, *panel.close.shape), np.nan)
    for a in range(len(panel.symbols)):
        rows = [t for t in range(panel.n_bars) if not np.isnan(panel.close[t, a])]
        for k, t in enumerate(rows):
            for f, field in enumerate(FIELDS):
                x = getattr(panel, field)[:, a]
                past = [np.log(x[rows[i]] / panel.close[rows[i - horizon], a]) for i in range(horizon, k + 1)][-window:]
                if len(past) >= minimum:
                    out[f, :, t, a] = panel.close[t, a] * np.exp(np.quantile(past, QUANTILES))
    return out


@pytest.mark.parametrize(("window", "minimum"), [(24, 24), (31, 5), (1, 1), (200, 24)])
def test_it_equals_a_naive_loop_of_quantiles(window, minimum):
    panel = market(window)
    got = empirical(panel, (1, 3, 24), window, minimum)
    assert got.values.shape == (3, 4, 3, *panel.close.shape)
    for i, horizon in enumerate(got.horizons):
        want = naive(panel, horizon, window, minimum)
        assert np.isfinite(want).sum() > 500  # nothing would be compared otherwise
        np.testing.assert_allclose(got.values[i], want, rtol=1e-12)


def test_a_forecast_worked_by_hand():
    panel = market(1, rows=4, missing=0.0)
    close = np.array([100.0, 110.0, 99.0, 108.9])
    bars = {name: np.repeat(close[:, None], 2, axis=1) for name in ("open", "high", "low", "close")}
    forecast = empirical(dataclasses.replace(panel, **bars), window=3, minimum=3)
    # Past returns ×1.1, ×0.9, ×1.1: the median is ×1.1 of 108.9, the lowest tenth lies 0.2 of the way from ×0.9 to ×1.1.
    assert forecast.p50("close")[3, 0] == pytest.approx(108.9 * 1.1)
    assert forecast.values[0, 3, 0, 3, 0] == pytest.approx(108.9 * 0.9**0.8 * 1.1**0.2)
    assert np.isnan(forecast.p50("close")[:3]).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), t=st.integers(0, 118), horizon=st.integers(1, 5), data=st.data())
def test_bars_after_t_never_change_forecasts_up_to_t(seed, t, horizon, data):
    panel = market(seed)
    factor = data.draw(st.sampled_from([0.01, 0.5, 1.7, 100.0, np.nan]))  # NaN takes the bars away
    after = np.arange(panel.n_bars)[:, None] > t
    changed = {name: np.where(after, getattr(panel, name) * factor, getattr(panel, name)) for name in (*FIELDS, "volume")}
    masks = {"tradable": panel.tradable & ~np.isnan(changed["close"])}
    before = empirical(panel, (horizon,), 40, 10).values
    future = empirical(dataclasses.replace(panel, **changed, **masks), (horizon,), 40, 10).values
    np.testing.assert_array_equal(before[..., : t + 1, :], future[..., : t + 1, :])


def test_the_first_rows_do_not_depend_on_how_many_follow():
    panel = market(3)
    short = dataclasses.replace(
        panel, **{name: getattr(panel, name)[:70] for name in ("times", *FIELDS, "volume", "tradable", "session_last")}
    )
    np.testing.assert_array_equal(empirical(panel, (1, 4)).values[..., :70, :], empirical(short, (1, 4)).values)


def test_a_gap_gets_no_forecast_and_is_not_filled():
    panel = market(4, missing=0.3)
    values = empirical(panel, window=40).values
    assert np.isnan(values[:, :, :, np.isnan(panel.close)]).all()
    # A horizon counts the symbol's own bars: taking the holes out of the table changes nothing.
    rows = np.flatnonzero(panel.exists[:, 0])
    own = Panel(
        panel.times[: len(rows)],
        SYMBOLS[:1],
        *(getattr(panel, name)[rows][:, :1] for name in (*FIELDS, "volume", "tradable", "session_last")),
        panel.assets[:1],
    )
    np.testing.assert_array_equal(empirical(own, window=40).values[..., 0], values[..., rows, 0])


def test_too_short_a_history_gives_no_forecast():
    panel = market(5, missing=0.0)
    median = empirical(panel, (1, 6), window=50, minimum=24)
    for horizon in (1, 6):
        first = horizon + 24 - 1  # the first return ends at row `horizon`
        assert np.isnan(median.p50("close", horizon)[:first]).all()
        assert np.isfinite(median.p50("close", horizon)[first:]).all()
    assert np.isnan(empirical(market(5, rows=20), (1, 30)).values).all()


def test_quantiles_are_in_order():
    values = empirical(market(6), (1, 2)).values
    low, middle, high = (values[:, :, q][np.isfinite(values[:, :, q])] for q in range(3))
    assert (low <= middle).all() and (middle <= high).all() and (low < high).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"horizons": ()}, "horizons: []"),
        ({"horizons": (0,)}, "at least 1"),
        ({"horizons": (1, 1)}, "distinct"),
        ({"window": 23}, "window: 23 bars never hold the 24 past values"),
        ({"minimum": 0}, "window"),
    ],
)
def test_what_could_never_forecast_is_refused(arguments, words):
    with pytest.raises(TrainableError) as error:
        empirical(market(0), **arguments)
    assert words in str(error.value)

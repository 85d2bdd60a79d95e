from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results import metrics as m

HOURLY = 8760.0
GOLDEN = [0.01, -0.02, 0.03, -0.01]  # SPEC O.3
returns_of = st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=40)


def test_golden_annualisation_of_the_progress_logs() -> None:  # SPEC O.2
    assert m.annualise_nominal(1.6463, 10, 365) == pytest.approx(2.669e15, rel=1e-3)
    assert m.annualise_nominal(0.0379, 10, 365) == pytest.approx(2.888, rel=1e-3)


def test_golden_sortino_of_both_definitions() -> None:  # SPEC O.3
    assert m.sortino(GOLDEN, HOURLY, 4, min_negative=2) == pytest.approx(20.93, abs=0.005)
    assert m.sortino_legacy(GOLDEN, HOURLY) == pytest.approx(33.09, abs=0.005)


def test_sortino_needs_thirty_negative_bars_unless_told() -> None:  # J9
    returns = np.array([0.01, -0.01] * 29)
    assert math.isnan(m.sortino(returns, HOURLY, 58))
    assert math.isfinite(m.sortino(np.append(returns, -0.01), HOURLY, 59, min_negative=30))


def test_no_losses_gives_the_sharpe_ratio_and_never_a_hundredfold_constant() -> None:  # J9
    returns = [0.01, 0.02, 0.03]
    assert m.sortino(returns, HOURLY, 3, min_negative=0) == m.sharpe(returns, HOURLY, 3)
    assert m.sortino_legacy(returns, HOURLY) == pytest.approx(0.02 * HOURLY * 100)
    assert math.isnan(m.sortino_legacy([0.01, -0.01], HOURLY))


@given(returns_of, st.integers(0, 30), st.randoms())
def test_hours_without_a_row_count_as_zero_returns(returns: list[float], gaps: int, random: object) -> None:  # J10
    padded = [*returns, *[0.0] * gaps]
    random.shuffle(padded)  # type: ignore[attr-defined]
    n = len(padded)
    for metric in (m.sharpe, m.volatility, m.annualised_return, lambda r, p, k: m.sortino(r, p, k, min_negative=1)):
        assert metric(returns, HOURLY, n) == pytest.approx(metric(padded, HOURLY, n), rel=1e-7, abs=1e-7, nan_ok=True)


@given(returns_of)
def test_sharpe_and_volatility_agree_with_the_textbook(returns: list[float]) -> None:
    values = np.array(returns)
    sd = values.std(ddof=1)
    assert m.volatility(returns, 1.0, len(returns)) == pytest.approx(sd, rel=1e-9, abs=1e-12)
    if sd > 1e-9:
        assert m.sharpe(returns, HOURLY, len(returns)) == pytest.approx(values.mean() / sd * math.sqrt(HOURLY), rel=1e-6, abs=1e-9)


def test_constant_returns_have_sharpe_zero() -> None:
    assert m.sharpe([0.001] * 1000, HOURLY, 1000) == 0.0
    assert m.sharpe([0.0] * 5, HOURLY, 5) == 0.0
    assert math.isnan(m.sharpe([0.1], HOURLY, 1))


def test_drawdown_is_measured_from_the_running_peak() -> None:
    assert m.max_drawdown([100, 120, 90, 130, 104]) == pytest.approx(-0.25)
    assert m.max_drawdown([1, 2, 3]) == 0.0
    assert math.isnan(m.max_drawdown([]))
    assert math.isnan(m.max_drawdown([0.0, 1.0]))
    assert math.isnan(m.max_drawdown([1.0, math.nan]))


def test_short_windows_are_not_annualised() -> None:  # J10
    hours = 24 * 60
    returns = np.full(hours, 1e-5)
    assert m.annualised_return(returns, HOURLY, hours) == pytest.approx((1 + 1e-5) ** 8760 - 1)
    assert math.isnan(m.annualised_return(returns[:-1], HOURLY, hours - 1))
    assert math.isnan(m.calmar(returns[:-1], HOURLY, hours - 1))
    assert math.isfinite(m.annualised_return(returns[:100], HOURLY, 100, min_days=0))


def test_annualisation_uses_elapsed_time_not_the_rows_present() -> None:  # J10
    rows, window = np.full(59, 0.001), 24 * 90
    assert m.annualised_return(rows, HOURLY, window) == pytest.approx(1.001 ** (59 * 8760 / window) - 1)


def test_annualised_return_survives_ruin_and_explosion() -> None:  # SPEC G.7: floor 1e-8, clamp ±50
    assert m.annualised_return([-1.5] * 10, HOURLY, 2000) == pytest.approx(-1.0)
    assert m.annualised_return([10.0] * 2000, HOURLY, 2000) == pytest.approx(math.expm1(50))


def test_calmar_is_annual_return_over_drawdown_from_the_initial_cash() -> None:
    returns = np.zeros(2000)
    returns[0], returns[1] = -0.10, 0.25
    annual = m.annualised_return(returns, HOURLY, 2000)
    assert m.calmar(returns, HOURLY, 2000) == pytest.approx(annual / 0.10)
    assert math.isnan(m.calmar(np.full(2000, 1e-4), HOURLY, 2000))


def test_the_first_bar_counts_from_the_initial_cash() -> None:  # J20
    returns = m.returns_from_equity([90.0, 99.0], 100.0)
    assert returns == pytest.approx([-0.1, 0.1])
    assert m.total_return(returns) == pytest.approx(-0.01)
    assert m.total_return([]) == 0.0


def test_profit_factor_volatility_and_smoothness() -> None:
    assert m.profit_factor(GOLDEN) == pytest.approx(0.04 / 0.03)
    assert math.isnan(m.profit_factor([0.1, 0.2]))
    assert m.pnl_smoothness(GOLDEN) == pytest.approx(np.std([-0.03, 0.05, -0.04]))
    assert math.isnan(m.pnl_smoothness([0.1]))


def test_a_missing_or_infinite_return_is_never_silently_a_number() -> None:
    for bad in (math.nan, math.inf):
        returns = [0.01, bad, -0.02] * 40
        for metric in (m.sharpe, m.sortino, m.volatility, m.annualised_return, m.calmar):
            assert math.isnan(metric(returns, HOURLY, 24 * 90)), metric.__name__
        assert math.isnan(m.profit_factor(returns))
        assert math.isnan(m.total_return(returns))


def test_more_returns_than_calendar_periods_is_an_error() -> None:
    with pytest.raises(ValueError, match="calendar periods"):
        m.sharpe(GOLDEN, HOURLY, 3)


def test_periods_per_year_follow_the_bar_length() -> None:
    assert m.periods_per_year(3600) == HOURLY
    assert m.periods_per_year(86400) == 365
    with pytest.raises(ValueError, match="positive"):
        m.periods_per_year(0)


def test_a_metric_declaration_holds_no_nonsense() -> None:
    assert m.Metric("sharpe", "max").unit == ""
    for name in ("", "1x", "a b", 'x"; DROP TABLE trials', "é"):
        with pytest.raises(ValueError, match="metric name"):
            m.Metric(name)
    with pytest.raises(ValueError, match="direction"):
        m.Metric("a", "up")  # type: ignore[arg-type]

"""The golden tables of docs/fills.md, through the slow reference simulator and through the numba kernels."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.selector.golden import BASE_CONFIG, FILLS, Case, case_inputs, golden_cases
from tests.selector.reference import run_reference
from trainables.market import Asset, Panel
from trainables.selector.candidates import FLAGS, LAST, TRADABLE
from trainables.selector.inputs import SelectorInputs
from trainables.selector.options import FILL_RULES_VERSION, NAMES, encode
from trainables.selector.simulate import SelectorResult, evaluate

CASES = golden_cases()
START = np.datetime64("2024-01-02T14:30", "ns")  # 09:30 in New York, a session's open
RULES = {*(f"A{i}" for i in range(1, 6)), *(f"R{i}" for i in range(1, 13)), *(f"L{i}" for i in range(1, 8)), "K2"}


def kernel_inputs(case: Case) -> SelectorInputs:
    """The market of a case as the kernels take it; time 0 is `START`."""
    given = case_inputs(case)
    times = START + (np.array(given.times) * 3600e9).astype("timedelta64[ns]")
    assets = tuple(
        Asset(
            symbol=x.symbol,
            asset_class="stock" if x.is_stock else "crypto",
            maker_fee_bps=x.maker * 1e4,
            taker_fee_bps=x.taker * 1e4,
            half_spread_bps=x.half_spread * 1e4,
            can_long=x.can_long,
            can_short=x.can_short,
            min_notional=x.min_notional,
        )
        for x in given.assets
    )
    bars = [np.array(grid) for grid in (given.open, given.high, given.low, given.close, given.volume)]
    panel = Panel(times, tuple(x.symbol for x in assets), *bars, np.array(given.tradable), np.array(given.session_last), assets, "golden")
    grids = (given.buy, given.sell, given.buy_amount, given.sell_amount, given.pred_high, given.pred_low, given.pred_close)
    return SelectorInputs(panel, np.stack([np.array(grid) for grid in grids]))


def run_kernel(case: Case) -> SelectorResult:
    table = encode([case.config], case.profile)
    return evaluate(kernel_inputs(case), table, profile=case.profile, initial_cash=case.initial_cash, equity=True, fills=True)


def assert_as_derived(case: Case, equity: list[float], fills: list[tuple[int, str, str, float, float, str]]) -> None:
    def order(fill: tuple[int, str, str, float, float, str]) -> tuple:
        row, symbol, side, price, quantity, reason = fill
        return row, symbol, side, reason, round(price, 6), round(quantity, 6)

    np.testing.assert_allclose(equity, case.equity, rtol=1e-9, err_msg=case.why)
    got, want = sorted(fills, key=order), sorted(case.fills, key=order)
    assert [(*f[:3], f[5]) for f in got] == [(*f[:3], f[5]) for f in want], case.why
    np.testing.assert_allclose([f[3:5] for f in got], [f[3:5] for f in want], rtol=1e-9, err_msg=case.why)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_reference_gives_the_golden_table(case: Case) -> None:
    result = run_reference(case_inputs(case), case.config, case.profile, case.initial_cash)
    assert_as_derived(case, result.equity, [(f.row, f.symbol, f.side, f.price, f.quantity, f.reason) for f in result.fills])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_kernel_gives_the_golden_table(case: Case) -> None:
    inputs = kernel_inputs(case)
    assert inputs.bar_hours == case.bar_hours  # otherwise the two simulators would not see the same market
    result = run_kernel(case)
    assert result.equity is not None
    frame = result.fills
    fills = [] if frame is None else list(zip(*(frame[c] for c in ("symbol", "side", "price", "quantity", "reason")), strict=True))
    rows = [] if frame is None else np.searchsorted(inputs.panel.times, frame["timestamp"].dt.tz_localize(None).to_numpy()).tolist()
    assert_as_derived(case, result.equity.to_numpy()[:, 0].tolist(), [(row, *fill) for row, fill in zip(rows, fills, strict=True)])


@pytest.mark.parametrize("case", [c for c in CASES if c.profile == "legacy"], ids=lambda case: case.name)
def test_legacy_tables_declare_the_sessions_that_their_labels_imply(case: Case) -> None:
    given, inputs = case_inputs(case), kernel_inputs(case)
    aligned = inputs.aligned(case.config["lag"], case.config["market_hours"], legacy=True)
    flags = aligned.cells[:, :, FLAGS].T.astype(int)
    last = (flags & LAST) > 0
    np.testing.assert_array_equal(last, np.array(given.legacy_last))
    present = np.isfinite(inputs.orders).all(axis=0)
    np.testing.assert_array_equal((flags & TRADABLE) > 0, np.array(given.legacy_tradable) & present)


def test_every_rule_has_a_golden_table_and_every_table_a_rule() -> None:
    text = FILLS.read_text()
    rules = set(re.findall(r"\*\*([ARL]\d+)\b", text)) | {"K2"}
    assert rules == RULES
    assert {case.rule for case in CASES} == rules
    assert text.count("```yaml golden") == len(CASES)  # none is skipped for its indentation


def test_golden_tables_have_distinct_names_and_say_why() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(re.search(r"\d|same market", case.why) for case in CASES)


def test_the_document_states_the_version_of_the_code() -> None:
    title = re.match(r"# Fill specification, version (\d+)\n", FILLS.read_text())
    assert title is not None
    assert int(title[1]) == FILL_RULES_VERSION


def test_golden_tables_leave_no_option_to_its_default() -> None:
    assert set(BASE_CONFIG) == set(NAMES)


def flat_then_held(moves: list[float], profile: str) -> Case:
    """A market whose whole account is in one symbol, so that equity moves by `moves`."""
    prices = 100 * np.cumprod([1.0, *(1 + np.array(moves))])
    first = [[0, "AAA", 101, 102, 99, 100, 1000, 100, 1e9, 1.0, 0.0, 105, 100, 102]]
    later = [[t, "AAA", p, p, p, p, 1000, 1e-9, 1e9, 0.0, 0.0, 105, 100, 102] for t, p in enumerate(prices[1:], 1)]
    if profile == "realistic":  # the order of row 0 fills in row 1, at 100, whatever that bar's close
        later[0][2:6] = [101, 102, 99, later[0][5]]
    lag = 0 if profile == "legacy" else 1
    return replace(CASES[0], profile=profile, config=BASE_CONFIG | {"lag": lag}, initial_cash=10_000.0, assets={"AAA": {}},
                   rows=first + later, hours=[float(t) for t in range(len(prices))])  # fmt: skip


def test_the_legacy_kernel_gives_the_published_sortino() -> None:  # SPEC O.3 [S]
    got = run_kernel(flat_then_held([0.01, -0.02, 0.03, -0.01], "legacy"))
    assert got.metrics.loc[0, "sortino"] == pytest.approx(33.09, abs=0.005)


def test_the_realistic_kernel_gives_the_golden_sortino() -> None:  # SPEC O.3 [C], repeated to have thirty losing bars
    got = run_kernel(flat_then_held([0.01, -0.02, 0.03, -0.01] * 15, "realistic"))
    # Row 0 adds one zero return to the sixty: mean and mean square both fall by 60/61.
    assert got.metrics.loc[0, "sortino"] == pytest.approx(20.93 * np.sqrt(60 / 61), abs=0.005)


@pytest.mark.parametrize("cash", [10_000.0, 9_999.99, 1_234.567, 77_777.7])
def test_a_fully_spent_account_borrows_nothing(cash: float) -> None:  # R7
    for price in np.linspace(99.0, 100.0, 40):
        case = flat_then_held([0.01, -0.02, 0.03], "realistic")
        case = replace(case, initial_cash=cash, config=case.config | {"margin_rate": 5.0}, assets={"AAA": {"maker_bps": 15}})
        case.rows[0][7] = price
        assert run_kernel(case).metrics.loc[0, "financing"] == 0.0

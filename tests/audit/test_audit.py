"""The parts of the audit: other futures, what they may change, messages."""

import warnings

import numpy as np
import pandas as pd
import pytest

from tests.audit.leaks import CONFIGS, DATA, SETTINGS, LeakyForecasts, Momentum, MomentumCurve, Peeking, later_step
from trainables.audit import AuditError, Finding, Stage, audit, implausible
from trainables.audit.entrance import write_market
from trainables.audit.moves import compare
from trainables.audit.null import p_positive
from trainables.audit.perturb import FIELDS, FUTURE, NEVER, ONE_BAR, perturb, reach
from trainables.audit.selector import _fills
from trainables.contract import Parameter
from trainables.market import load_market, sample_panel
from trainables.selector import SelectorTrainable

DAY_ONE = load_market(DATA)[0]
PANEL = sample_panel(DATA["symbols"], 200)


@pytest.mark.parametrize("kind", FUTURE + ONE_BAR)
def test_another_future_leaves_the_past_and_changes_the_rest(kind):
    row = 120
    other = perturb(PANEL, kind, row, np.random.default_rng(1))
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(other, name)[:row], getattr(PANEL, name)[:row])
        if kind in ONE_BAR:
            np.testing.assert_array_equal(getattr(other, name)[row + 1 :], getattr(PANEL, name)[row + 1 :])
    limit = reach(PANEL, other)
    # A permutation may leave one bar where it was, and a removed bar may be a later one.
    assert limit.first.min() >= PANEL.times[row] and (limit.first.min() == PANEL.times[row] or kind in ("permuted", "missing"))
    assert (limit.existence == NEVER) == (kind not in ("removed", "missing"))
    crypto = PANEL.symbols.index("BTCUSD")
    if kind == "permuted":
        np.testing.assert_array_equal(np.sort(other.close[row:, crypto]), np.sort(PANEL.close[row:, crypto]))
    assert (other.high[other.exists] >= np.maximum(other.open, other.close)[other.exists]).all()
    assert (other.low[other.exists] <= np.minimum(other.open, other.close)[other.exists]).all()


def test_a_single_symbol_and_a_single_column_can_be_changed():
    other = perturb(PANEL, "wide", 60, np.random.default_rng(1), symbol=1)
    changed = [(other.high != PANEL.high) & PANEL.exists][0]
    assert np.argwhere(changed).tolist() == [[60, 1]]
    for name in FIELDS:
        one = perturb(PANEL, "scaled", 60, np.random.default_rng(1), fields=(name,))
        assert [x for x in FIELDS if not np.array_equal(getattr(one, x), getattr(PANEL, x), equal_nan=True)] == [name]


def test_written_markets_load_as_they_were(tmp_path):
    back = load_market(write_market(PANEL, tmp_path))[0]
    assert back.fingerprint == PANEL.select(back.symbols).fingerprint


def stage(known, values, symbols=PANEL.symbols):
    return Stage("stage", PANEL.times, {"x": values}, symbols, known)


@pytest.mark.parametrize(
    ("known", "allowed"),
    [("end", [(60, 0), (60, 1), (61, 0)]), ("own", [(60, 1), (61, 0)]), ("start", [(61, 0), (61, 1)])],
)
def test_a_stage_may_move_from_where_it_says_and_no_earlier(known, allowed):
    # Symbol 1's bar of row 60 changes. "end" may move from that row on, "own" there for that symbol only, "start" a row later.
    limit = reach(PANEL, perturb(PANEL, "wide", 60, np.random.default_rng(1), symbol=1))
    before = np.zeros(PANEL.close.shape)
    for cell in [(59, 0), (59, 1), (60, 0), (60, 1), (61, 0), (61, 1)]:
        after = before.copy()
        after[cell] = 1e-300
        found = compare([stage(known, before)], [stage(known, after)], limit)
        if cell in allowed or (cell[0] == 61):
            assert not found.moves and found.reacted
        else:
            (move,) = found.moves
            assert (move.symbol, move.time, move.rows) == (PANEL.symbols[cell[1]], PANEL.times[cell[0]], 1)
            assert move.ahead == 60 - cell[0]


def test_a_symbol_that_vanishes_has_moved():
    limit = reach(PANEL, perturb(PANEL, "scaled", 100, np.random.default_rng(1)))
    fewer = stage("end", PANEL.close[:, 1:], PANEL.symbols[1:])
    found = compare([stage("end", PANEL.close)], [fewer], limit)
    assert [move.symbol for move in found.moves] == [PANEL.symbols[0]]


@pytest.mark.slow
def test_a_finding_says_which_raw_column_of_the_future_was_read():
    report = audit(LeakyForecasts(later_step), DATA, SETTINGS, CONFIGS[:1], cuts=2, checks=("future",))
    found = report.finding("future")
    assert (found.stage, found.passed) == ("forecasts", False) and found.column.startswith("predicted_")
    assert found.symbol in DATA["symbols"] and found.time is not None and found.bars >= 1
    assert "then actions" in found.detail and "it reads the future's" in found.detail and "close" in found.detail
    with pytest.raises(KeyError):
        report.finding("batch")


def test_nothing_at_stake_is_not_a_pass():
    # Asks for more than any forecast promises: it never trades, so neither fills nor returns say anything.
    report = audit(SelectorTrainable(), DATA, SETTINGS, [{"min_edge": 5.0}], cuts=2, null_seeds=3, checks=("batch", "null market"))
    assert [x.passed for x in report.findings] == [None, None] and report.ok and not report.complete

    class Deaf(MomentumCurve):
        def prepare(self, data, settings, *cut):
            return super().prepare(DATA, settings)

    found = audit(Deaf(), DATA, {}, [{"bars": 2}], cuts=2, checks=("future",)).finding("future")
    assert found.passed is None and "does it read the bars it is given" in found.detail


def test_a_trainable_that_cannot_take_another_market_is_unknown_and_not_clean():
    class Fragile(MomentumCurve):
        def prepare(self, data, settings, *cut):
            if data is not DATA:
                raise ZeroDivisionError("no such file")
            return super().prepare(data, settings)

    report = audit(Fragile(), DATA, {}, [{"bars": 2}, {"bars": 3}])  # not even its own bars
    assert report.ok and [x.check for x in report.findings if x.passed] == ["batch"]
    why = "could not run on a changed copy of the data: ZeroDivisionError: no such file; the copy is a folder of Parquet files"
    assert report.finding("entrance").detail.startswith(why)

    class Picky(MomentumCurve):
        def features(self, panel):
            if panel.n_bars < 300 or panel.close[-1, 0] != DAY_ONE.close[-1, 0]:
                raise ZeroDivisionError("another market")
            return super().features(panel)

    report = audit(Picky(), DATA, {}, [{"bars": 2}], cuts=1, null_seeds=3, checks=("future", "null market"))
    assert report.ok and [x.passed for x in report.findings] == [None, None]
    for check in ("future", "null market"):
        assert "could not run on a changed copy of the data: ZeroDivisionError: another market" in report.finding(check).detail


def test_a_kind_of_change_that_was_never_made_is_not_called_passed():
    class KnowsTheEnd(MomentumCurve):
        def prepare(self, data, settings, *cut):
            panel, _ = load_market(data)
            if panel.n_bars < 300 or not panel.exists[:, :2].all():
                raise ValueError("give whole data")
            return super().prepare(data, settings, *cut)

    data = DATA | {"symbols": ["BTCUSD", "ETHUSD"]}
    found = audit(KnowsTheEnd(), data, {}, [{"bars": 2}], cuts=2, checks=("future",)).finding("future")
    assert found.passed is None and "cut off, partly removed could be evaluated" in found.detail
    whole = audit(MomentumCurve(), data, {}, [{"bars": 2}], cuts=2, checks=("future",)).finding("future")
    assert whole.passed


def test_what_equity_alone_cannot_show_is_not_called_passed():
    report = audit(Peeking(0.2, fee=0.0015), DATA, {}, [{"bars": 2}, {"bars": 5}], cuts=2)
    assert report.ok and report.finding("future").passed and "see null market" in report.finding("future").detail
    for check in ("next bar", "other symbol"):
        assert report.finding(check).passed is None and "no orders or fills are shown" in report.finding(check).detail
    found = report.finding("null market")  # its fee is its own affair, and hides the leak
    assert found.passed is None and "costs could not be turned off" in found.detail
    honest = audit(Peeking(0.0), DATA, {}, [{"bars": 2}, {"bars": 5}], checks=("null market",)).finding("null market")
    assert honest.passed and "fees of the assets" in honest.detail and "a day would have shown" in honest.detail


def test_a_setting_or_parameter_named_like_a_cost_is_turned_off():
    class Charging(Peeking):
        parameters = (*Peeking.parameters, Parameter("slippage_bps", 5.0, "float", 0.0, 100.0))

        def prepare(self, data, settings, *cut):
            self.fee = settings["fee"]
            return super().prepare(data, settings)

        def curve(self, config, ctx):
            ctx.inputs["fees"] = self.fee + config["slippage_bps"] / 1e4
            return super().curve(config, ctx)

    configs = [{"bars": 2, "slippage_bps": 9.0}]
    found = audit(Charging(0.1), DATA, {"fee": 0.002}, configs, checks=("null market",)).finding("null market")
    assert found.passed is False and "slippage_bps, settings.fee" in found.detail


def test_a_strategy_that_never_trades_is_not_called_passed_because_the_end_is_cut_off():
    class Idle(MomentumCurve):
        def position(self, moves, bars):
            return moves * 0.0

    found = audit(Idle(), DATA, {}, [{"bars": 2}], cuts=2, checks=("future",)).finding("future")
    assert found.passed is None and "do these configurations trade" in found.detail


def test_who_wins_often_and_loses_rarely_but_much_is_not_accused():
    rng = np.random.default_rng(0)
    accused = 0
    for _ in range(2000):
        accused += p_positive(np.where(rng.random(720) < 0.01, -99.0, 1.0)) < 0.01
    assert accused <= 40


def test_changed_markets_print_no_warnings():
    class Explodes(MomentumCurve):
        def curve(self, config, ctx):
            curve = super().curve(config, ctx)
            moved = np.abs(ctx.inputs["moves"].to_numpy()).max(axis=1) > 0.1  # on changed bars only
            return curve * np.exp(5000.0 * moved)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audit(Explodes(), DATA, {}, [{"bars": 2}], cuts=2, checks=("future",))
        inputs = SelectorTrainable().prepare(DATA, SETTINGS).inputs.parts[0]
        fill = {"timestamp": [pd.Timestamp(inputs.panel.times[5], tz="UTC")], "symbol": [inputs.panel.symbols[0]], "side": ["buy"]}
        rich = pd.DataFrame({**fill, "price": [1e10], "quantity": [np.inf], "fee": [np.inf], "reason": ["entry"]})
        made = _fills(inputs, rich)
    assert made["bought"][5, 0] == np.inf and made["sold"][5, 0] == 0.0


def test_data_that_is_no_market_leaves_the_checks_of_packs():
    class Constant(Momentum):
        def prepare(self, data, settings, *cut):
            return super().prepare(DATA, settings)

    report = audit(Constant(), {"source": "ticks", "exchange": 3}, {}, [{"bars": 2}, {"bars": 3}])
    assert report.finding("batch").passed and report.finding("future").passed is None
    assert "no market that can be changed" in report.notes[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"checks": ("futur",)}, "checks: 'futur' is unknown"), ({"cuts": 0}, "audit needs"), ({"null_seeds": 1}, "audit needs")],
)
def test_arguments_that_cannot_be_used_are_explained(options, words):
    with pytest.raises(AuditError, match=words):
        audit(SelectorTrainable(), DATA, SETTINGS, CONFIGS, **options)


def test_stages_that_cannot_be_read_are_explained():
    with pytest.raises(AuditError, match=r"column x has shape \(3,\)"):
        stage("end", np.zeros(3))
    with pytest.raises(AuditError, match="known is 'later'"):
        stage("later", PANEL.close)

    class Untrue(MomentumCurve):
        def equity(self, config, ctx):
            return self.curve(config, ctx).reset_index(drop=True)

    with pytest.raises(AuditError, match="indexed by time"):
        audit(Untrue(), DATA, {}, [{"bars": 2}])


def test_results_too_good_to_be_true_are_named():
    assert implausible({"sortino": 10.5, "total_return": 0.01}, 30) == "sortino 10.5 (above 10)"
    assert implausible({"sortino": np.nan, "total_return": 1.02**30 - 1}, 30) == "+2.0% a day (above 1%)"
    assert implausible({"sortino": 9.9, "total_return": 1.009**30 - 1}, 30) == "" == implausible({}, 30)


def test_a_finding_reads_as_a_line():
    time = pd.Timestamp("2024-01-05 10:00", tz="UTC")
    line = str(Finding("future", False, "forecasts", "predicted_high_p50_h1", "NVDA", time, 3, "3 bars moved"))
    assert line == "FAILED  future        forecasts predicted_high_p50_h1 NVDA at 2024-01-05 10:00: 3 bars moved"

"""What is clean passes, with every option drawn and over many seeds; the `legacy` profile does not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.audit.leaks import DATA, SETTINGS, Momentum, MomentumCurve
from tests.selector import scenarios
from trainables.audit import CHECKS, audit
from trainables.audit.causality import CAUSALITY
from trainables.audit.entrance import write_market
from trainables.market import Panel, sample_panel
from trainables.selector import SelectorTrainable
from trainables.selector.inputs import SelectorInputs
from trainables.selector.options import NAMES


def test_the_realistic_selector_passes_every_check():
    configs = [scenarios.random_config(seed, "realistic") for seed in range(4)]
    report = audit(SelectorTrainable(), DATA, SETTINGS, configs, cuts=4)
    assert report.ok and report.complete, str(report)
    assert [x.check for x in report.findings] == list(CHECKS) and not report.notes
    assert str(report).startswith("selector: no look-ahead found\nok")


@pytest.mark.parametrize("seed", range(6))
def test_no_option_of_the_realistic_selector_raises_a_false_alarm(seed):
    configs = [scenarios.random_config(100 * seed + i, "realistic") for i in range(8)]
    assert len({name for config in configs for name in config}) == len(NAMES)
    data = DATA | {"seed": seed, "bars": 200}
    report = audit(SelectorTrainable(), data, SETTINGS, configs, cuts=2, seed=seed, null_seeds=3)
    assert report.ok and report.complete, str(report)


class LastRows(SelectorTrainable):
    """Trades the last 200 rows; earlier ones warm up the forecasts."""

    def prepare_panel(self, panel, settings, *cut):
        made = super().prepare_panel(panel, settings, *cut)
        [part] = made.inputs.parts
        last = SelectorInputs(part.panel.tail(200), np.ascontiguousarray(part.orders[:, -200:]))
        columns = (made.inputs.columns[0][-200:] - made.inputs.columns[0][-200],)
        return replace(made, inputs=replace(made.inputs, parts=(last,), columns=columns))


def test_a_part_of_the_rows_to_trade_on_raises_no_false_alarm():
    report = audit(LastRows(), DATA, SETTINGS, [{"min_edge": -0.05}], cuts=3, checks=("future", "next bar"))
    assert report.ok and report.complete, str(report)
    assert any("began at another time" in note for note in report.notes)  # 200 rows before a cut are others than 200 before the end


@pytest.mark.parametrize("seed", range(2))
def test_the_legacy_selector_fails_whatever_its_options(seed):
    for i in range(3):
        config = scenarios.random_config(10 * seed + i, "legacy") | {"min_edge": -0.05, "lag": i}
        report = audit(SelectorTrainable(), DATA, SETTINGS | {"profile": "legacy"}, [config], checks=CAUSALITY)
        assert not report.ok, f"{config} {report}"
        assert {x.stage for x in report.failed} <= {"calendar", "candidates", "fills"}, str(report)


def test_somebody_elses_clean_trainable_passes_and_the_report_says_what_was_not_seen():
    configs = [{"bars": 2}, {"bars": 5}]
    options = {"cuts": 2, "null_seeds": 3, "null_bars": 300}
    curve = audit(MomentumCurve(), DATA, {}, configs, **options)
    assert curve.ok and curve.finding("future").passed and "only its equity" in " ".join(curve.notes)
    blind = audit(Momentum(), DATA, {}, configs, **options)
    assert blind.ok and not blind.complete and blind.finding("future").passed is None
    assert "cannot see inside" in " ".join(blind.notes) and "where it could be looked for" in str(blind)
    until = audit(Momentum(), DATA, {}, configs, cuts=2, until="end", checks=("future",))
    assert until.finding("future").passed, str(until)


def test_markets_on_two_clocks_raise_no_alarm(tmp_path):
    frame = sample_panel(["AAPL", "BTCUSD", "ETHUSD", "NVDA"], bars=240, seed=1).frame()
    stock = frame["symbol"].isin(["AAPL", "NVDA"])
    frame["timestamp"] += pd.to_timedelta(np.where(stock, 30, 0), unit="m")
    data = write_market(Panel.from_frame(frame), tmp_path)
    report = audit(SelectorTrainable(), data, SETTINGS, [{"min_edge": -0.05, "max_positions": 3}], checks=CAUSALITY)
    assert report.ok, str(report)

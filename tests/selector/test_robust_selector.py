"""The robust selector: its scenarios, settings, identity, and the library's study."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sweeps.search import Search
from sweeps.study import Study, StudyError
from tests.selector import scenarios as random_market
from trainables.audit import audit
from trainables.contract import Context, Registry, Trainable, TrainableError
from trainables.market import MarketError, sample_panel
from trainables.market.panel import BAR
from trainables.selector.inputs import SelectorInputs, Start
from trainables.selector.options import encode, profile_defaults
from trainables.selector.robust_selector import RobustSelector
from trainables.selector.scenarios import starts_of
from trainables.selector.simulate import evaluate, simulate_sums
from trainables.selector.trainable import SelectorTrainable
from trainables.timeline import Protocol, Window

ROBUST = RobustSelector()
DATA = {"source": "sample", "symbols": ["BTCUSD", "ETHUSD", "SOLUSD"], "bars": 1200, "signal": 0.25}
SHORT = {"forecast_window": 48, "logits": [3, 4, 2, 2], "windows": ["2d", "5d"]}
TWO_FOLDS = Protocol(folds=2)
TRADING = [{"min_edge": -0.01}, {"min_edge": 0.0, "max_positions": 2}, {"min_edge": 0.001, "max_hold": 6.0, "lag": 2}, {"min_edge": 9.0}]


def run(configs, settings=SHORT, protocol=TWO_FOLDS, part="search"):
    prepared = ROBUST.prepare(DATA, settings, protocol, part)
    return prepared, ROBUST.evaluate_pack([dict(prepared.defaults) | c for c in configs], Context(prepared.inputs))


def test_it_is_registered_and_keeps_the_contract():
    made = Registry().load("selector_robust")
    assert isinstance(made, Trainable) and made.objective == "selection_score"
    names = [metric.name for metric in made.metrics]
    assert len(set(names)) == len(names) and made.objective in names


def test_it_measures_all_the_selector_does_bit_for_bit():
    prepared, got = run(TRADING)
    rest = {key: value for key, value in SHORT.items() if key != "windows"}
    plain = SelectorTrainable()
    base = plain.prepare(DATA, rest, TWO_FOLDS)
    want = plain.evaluate_pack([dict(base.defaults) | c for c in TRADING], Context(base.inputs))
    pd.testing.assert_frame_equal(got.metrics[list(want.metrics)], want.metrics, check_exact=True)
    np.testing.assert_array_equal(got.returns, want.returns)
    np.testing.assert_array_equal(prepared.days, base.days)
    assert (got.metrics["trades"] > 0).tolist() == [True, True, True, False]


def test_every_fold_has_every_window_from_every_start():
    prepared, got = run(TRADING)
    assert (got.metrics["scenarios"] == 2 * 2 * 4).all()  # folds × windows × (flat, three symbols)
    for part, there in zip(prepared.inputs.selector.parts, prepared.inputs.starts, strict=True):
        assert [x.held for x in there.starts] == [-1, 0, 1, 2] * 2
        assert {part.panel.n_bars - x.row for x in there.starts} == {48, 120}
        assert there.bars.tolist() == [48.0] * 4 + [120.0] * 4
    line = dict(prepared.summary)["scenarios"]
    assert line == "16: the last 48h, 120h of 2 windows × flat and each symbol"
    flat = run(TRADING, SHORT | {"starts": "flat"})[1]
    assert (flat.metrics["scenarios"] == 4).all()


def test_a_configuration_that_never_trades_is_scored_as_one_that_lost_everywhere():
    _, got = run(TRADING, SHORT | {"starts": "flat"})
    idle = got.metrics.iloc[-1]
    assert idle["losing_share"] == 1.0 and idle["return_worst"] == idle["sortino_worst"] == 0.0
    assert idle["robust_score"] == -50.0 and idle["selection_score"] == -50.0 - 0.75 * 6


def test_a_scenario_is_what_a_simulation_of_its_rows_alone_gives():
    moved = 0
    for seed in range(10):
        whole = random_market.random_inputs(seed)
        hours = float(whole.hours[-1] + whole.bar_hours - whole.hours[0])
        window = max(2.0 * whole.bar_hours, hours / 2)
        [start] = starts_of(whole, [window], "flat").starts
        # Rows alone know no bar and no order of the rows before, so neither may the whole here.
        before = (np.arange(whole.panel.n_bars) < start.row)[:, None]
        there = whole.exists & ~before
        bars = {name: np.where(before, np.nan, getattr(whole.panel, name)) for name in BAR}
        flags = {"tradable": whole.panel.tradable & there, "session_last": whole.panel.session_last & there}
        orders = np.where(before, np.nan, whole.orders)
        whole = SelectorInputs(replace(whole.panel, **bars, **flags), orders)
        alone = SelectorInputs(whole.panel.rows(Window(start.row, whole.panel.n_bars)), np.ascontiguousarray(orders[:, start.row :]))
        table = encode([random_market.random_config(30 * seed + i, "realistic") for i in range(8)], "realistic")
        within, _, _ = simulate_sums(whole, table, "realistic", 10_000.0, starts=[start])
        here, _, _ = simulate_sums(alone, table, "realistic", 10_000.0)
        np.testing.assert_array_equal(within[0], here)
        moved += (evaluate(alone, table, profile="realistic").metrics["entries"] > 0).sum()
    assert moved > 10


def test_scenarios_together_are_what_each_gives_alone():
    prepared = ROBUST.prepare(DATA, SHORT, TWO_FOLDS)
    configs = [dict(prepared.defaults) | c for c in TRADING]
    got = ROBUST.evaluate_pack(configs, Context(prepared.inputs)).metrics
    table = encode(configs, "realistic")
    growth, trades = [], []
    for part, there in zip(prepared.inputs.selector.parts, prepared.inputs.starts, strict=True):
        for start in there.starts:
            sums, _, _ = simulate_sums(part, table, "realistic", 10_000.0, starts=[start])
            growth.append(sums[0, :, 0] / 10_000.0 - 1.0)
            trades.append(sums[0, :, 15])
    np.testing.assert_array_equal(got["return_worst"], np.min(growth, axis=0))
    np.testing.assert_allclose(got["return_mean"], np.mean(growth, axis=0), rtol=1e-12)
    np.testing.assert_allclose(got["return_p25"], np.percentile(growth, 25, axis=0), rtol=1e-12)
    np.testing.assert_allclose(got["trades_mean"], np.mean(trades, axis=0))
    np.testing.assert_allclose(got["losing_share"], (np.array(growth) <= 0).mean(axis=0))


def test_extra_lag_and_cost_multiply_and_add_to_the_configurations_own():
    _, late = run([{"min_edge": -0.01, "lag": 1, "cost_multiplier": 2.0}], SHORT | {"extra_lags": [2], "cost_multipliers": [1.5]})
    _, own = run([{"min_edge": -0.01, "lag": 3, "cost_multiplier": 3.0}], SHORT)
    robust = [metric.name for metric in ROBUST.metrics[:15]]
    pd.testing.assert_frame_equal(late.metrics[robust], own.metrics[robust], check_exact=True)
    assert late.metrics["total_return"].item() != own.metrics["total_return"].item()  # the folds keep the configuration's own


def test_the_lag_score_needs_two_lags():
    one = run(TRADING, SHORT | {"extra_lags": [1]})[1].metrics
    assert one["lag_score"].isna().all()
    prepared, two = run(TRADING, SHORT | {"extra_lags": [2, 0], "cost_multipliers": [1, 2.5]})
    assert np.isfinite(two.metrics["lag_score"]).all() and (two.metrics["scenarios"] == 16 * 4).all()
    assert dict(prepared.summary)["scenarios"].endswith("× 0, 2 extra bars of lag × 1, 2.5 times the costs")


def test_a_pack_gives_the_rows_of_packs_of_one():
    settings = SHORT | {"extra_lags": [0, 1], "cost_multipliers": [1.0, 2.0], "require_all_positive": True}
    prepared = ROBUST.prepare(DATA, settings, TWO_FOLDS)
    configs = [dict(prepared.defaults) | c for c in TRADING]
    configs += [random_market.random_config(seed, "realistic") for seed in range(12)]
    together = ROBUST.evaluate_pack(configs, Context(prepared.inputs))
    assert np.isfinite(together.metrics.iloc[:, :15]).all().all()
    for i, config in enumerate(configs):
        alone = ROBUST.evaluate_pack([config], Context(prepared.inputs))
        np.testing.assert_array_equal(alone.metrics.iloc[0], together.metrics.iloc[i])
        np.testing.assert_array_equal(alone.returns[0], together.returns[i])


def test_a_symbol_that_cannot_be_held_or_has_no_bars_is_not_seeded():
    frame = sample_panel(["BTCUSD", "ETHUSD", "NVDA"], bars=300).frame()
    gone = (frame["symbol"] == "ETHUSD") & (frame["timestamp"] >= frame["timestamp"].max() - pd.Timedelta(hours=30))
    panel = type(sample_panel(["BTCUSD"], bars=48)).from_frame(frame[~gone], assets={"NVDA": {"can_long": False}}, source="test")
    inputs = SelectorInputs(panel, np.full((7, panel.n_bars, 3), np.nan))
    eth, nvda = panel.symbols.index("ETHUSD"), panel.symbols.index("NVDA")
    there = starts_of(inputs, [24.0, 96.0], "each")
    assert [x.held for x in there.starts if x.row == inputs.panel.n_bars - 24] == [-1, panel.symbols.index("BTCUSD")]
    assert eth in [x.held for x in there.starts] and nvda not in [x.held for x in there.starts]
    assert there.starts[0] == Start(panel.n_bars - 24, -1)


def test_windows_are_part_of_the_identity_and_their_spelling_is_not():
    def protocol(**settings):
        return json.dumps(ROBUST.prepare(DATA, SHORT | settings, TWO_FOLDS).protocol, sort_keys=True)

    same = {protocol(), protocol(windows=["48h", "120h"]), protocol(windows=("5d", "2d")), protocol(extra_lags=[0.0], cost_multipliers=[1])}
    assert len(same) == 1
    others = [
        {"windows": ["2d"]},
        {"starts": "flat"},
        {"extra_lags": [0, 1]},
        {"cost_multipliers": [1.0, 2.0]},
        {"require_all_positive": True},
        {"initial_cash": 9_000},
    ]
    assert len(same | {protocol(**x) for x in others}) == 7


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"window": ["2d"]}, "settings.window: selector_robust has no such setting; did you mean 'windows'?"),
        ({"qqq": 1}, "settings.qqq: selector_robust has no such setting; known: cost_multipliers, extra_lags, forecast_window"),
        ({"windows": "168h"}, "settings.windows: '168h' is not allowed; give a list of at least one entry"),
        ({"windows": []}, "settings.windows: [] is not allowed; give a list"),
        ({"windows": ["2d", "20%"]}, "settings.windows[1]: '20%' is not allowed; write a duration of at least 24h like 168h"),
        ({"windows": ["12h"]}, "settings.windows[0]: '12h' is not allowed; write a duration of at least 24h"),
        ({"windows": ["2d", "48h"]}, "settings.windows[1]: '48h' is there already"),
        ({"windows": [48]}, "settings.windows[0]: 48 is not allowed"),
        ({"starts": "eech"}, "settings.starts: 'eech' is not allowed; give one of each, flat (did you mean 'each'?)"),
        ({"extra_lags": [-1]}, "settings.extra_lags[0]: -1 is not allowed; give a whole number from 0"),
        ({"extra_lags": [0, 1.5]}, "settings.extra_lags[1]: 1.5 is not allowed"),
        ({"extra_lags": 1}, "settings.extra_lags: 1 is not allowed; give a list"),
        ({"cost_multipliers": [-0.5]}, "settings.cost_multipliers[0]: -0.5 is not allowed; give a number from 0"),
        ({"cost_multipliers": ["2x"]}, "settings.cost_multipliers[0]: '2x' is not allowed"),
        ({"require_all_positive": "yes"}, "settings.require_all_positive: 'yes' is not allowed; give true or false"),
        ({"profile": "legacy"}, "settings.profile: selector_robust needs realistic"),
        ({"profile": "realstic"}, "settings.profile: 'realstic' is not allowed"),
        ({"initial_cash": 0}, "settings.initial_cash: 0 is not allowed"),
    ],
)
def test_settings_that_cannot_be_used_are_explained(settings, words):
    for call in (lambda: ROBUST.prepare(DATA, settings, TWO_FOLDS), lambda: ROBUST.check({}, settings)):
        with pytest.raises(TrainableError) as error:
            call()
        assert str(error.value).startswith(words)


def test_a_window_longer_than_a_tune_window_is_an_error_that_says_how_long_that_is():
    with pytest.raises(TrainableError) as error:
        ROBUST.prepare(DATA, SHORT | {"windows": ["2d", "60d"]}, TWO_FOLDS)
    assert str(error.value).startswith("settings.windows: 1440h is longer than a tune window, which covers ")
    assert "(2 folds). Give fewer folds, more bars (data.bars), a shorter holdout, or shorter windows." in str(error.value)
    covered = float(str(error.value).split("covers ")[1].split("h")[0])
    ROBUST.prepare(DATA, SHORT | {"windows": ["2d", f"{covered:g}h"]}, TWO_FOLDS)


def test_bad_data_is_the_markets_error():
    with pytest.raises(MarketError, match=r"data\.brs"):
        ROBUST.prepare(DATA | {"brs": 5}, SHORT)


def test_the_holdout_has_its_own_windows_and_leaves_out_those_too_long():
    prepared, got = run(TRADING, SHORT | {"windows": ["2d", "12d"]}, part="holdout")
    assert (got.metrics["scenarios"] == 4).all()  # 240 hours hold two days, not twelve
    [part] = prepared.inputs.selector.parts
    assert part.panel.times[0] == prepared.timeline.times[prepared.timeline.holdout.start]
    none, empty = run(TRADING, SHORT | {"windows": ["12d"]}, part="holdout")
    assert (empty.metrics["scenarios"] == 0).all() and empty.metrics["selection_score"].isna().all()
    assert dict(none.summary)["scenarios"].startswith("none")


def test_no_scenario_of_a_search_reaches_the_holdout():
    prepared = ROBUST.prepare(DATA, SHORT, TWO_FOLDS)
    sealed = prepared.timeline.times[prepared.timeline.visible.stop]
    assert all(part.panel.times[-1] < sealed for part in prepared.inputs.selector.parts)


def test_the_audit_finds_no_look_ahead():
    data = DATA | {"bars": 500, "symbols": ["BTCUSD", "ETHUSD"]}
    report = audit(ROBUST, data, SHORT, TRADING[:2], cuts=2, null_seeds=3, null_bars=400)
    assert report.ok and report.complete, str(report)
    assert not any("TrainableError" in note for note in report.notes)


def test_the_study_of_the_library_is_the_published_grid():
    search = Search(Study.load("selector_robust"))
    search.check()
    assert search.sampler.size == 1944
    assert search.study.objective == search.trainable.objective == "selection_score"
    defaults = profile_defaults("realistic")
    first, last = (search.config(search.sampler.configs(i, i + 1)[0]) for i in (0, 1943))
    assert set(first) <= set(defaults) and (first["lag"], last["lag"]) == (1, 3)
    folds = search.prepare().timeline.folds
    assert all(fold.tune.stop - fold.tune.start >= 720 for fold in folds)


def test_a_mistake_in_the_study_is_located():
    study = Study.load("selector_robust", ["protocol.folds=8"])
    with (
        pytest.raises(StudyError, match=r"selector_robust.yaml, line 13: settings.windows: 720h is longer than a tune window"),
        study.located(),
    ):
        Search(study).prepare()

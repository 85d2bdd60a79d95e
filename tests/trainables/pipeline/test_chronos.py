"""Chronos-2 from fine-tune to trades: the fine-tune is chronos_lora's, the trades are selector_forecast's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sweeps import Study
from sweeps.search import Search
from trainables.chronos2.export import read_metadata
from trainables.contract import Context, TrainableError
from trainables.market import sample_panel
from trainables.pipeline.chronos import ADAPTERS, ChronosPipeline
from trainables.selector.forecast_selector import ForecastSelector
from trainables.timeline import Protocol

DATA = {"source": "sample", "bars": 900, "signal": 0.25, "seed": 7, "symbols": ["BTCUSD", "ETHUSD"]}
SETTINGS = {"logits": [3, 4, 2, 2], "origins": 2, "score": [1]}
SMALL = {"tune_rank": 2, "tune_steps": 2, "tune_context": 32, "tune_horizon": 4, "tune_batch_rows": 8, "tune_learning_rate": 1e-2}


def prepared(folds: int, part: str = "search", **settings):
    return ChronosPipeline().prepare(DATA, {**SETTINGS, **settings}, Protocol.parse({"folds": folds, "holdout": "10%"}), part)


def test_the_study_of_the_library_has_64_points_that_share_4_fine_tunes() -> None:
    search = Search(Study.load("joint_chronos"))
    pipeline = ChronosPipeline()
    defaults = {p.name: p.default for p in pipeline.parameters}
    prefixes = [pipeline.prefixes({**defaults, **search.config(c)}) for c in search.sampler.configs(0, search.sampler.size)]
    assert (len(prefixes), len({p[:1] for p in prefixes}), len(set(prefixes))) == (64, 4, 8)


@pytest.mark.slow
def test_a_fold_trades_as_selector_forecast_does_with_the_adapter_of_its_own_fine_tune() -> None:
    made = prepared(1)
    config = {**made.defaults, **SMALL, "trade_context": 64, "trade_horizon": 4}
    ctx = Context(made.inputs, seed=3)
    mine = ChronosPipeline().evaluate_pack([config], ctx)
    upstream = ChronosPipeline().upstream(config, ctx)
    assert upstream is not None
    adapter = upstream / ADAPTERS
    theirs = ForecastSelector().prepare(
        DATA, {"logits": SETTINGS["logits"], "adapter": str(adapter)}, Protocol.parse({"folds": 1, "holdout": "10%"})
    )
    own = {**theirs.defaults, "forecaster": "chronos2", "context": 64, "horizon": 4}
    other = ForecastSelector().evaluate_pack([own], Context(theirs.inputs))
    pd.testing.assert_frame_equal(mine.metrics, other.metrics, check_exact=True)
    np.testing.assert_array_equal(mine.returns, other.returns)
    assert mine.returns is not None and mine.returns.any(), "it trades"


@pytest.mark.slow
def test_each_fold_is_traded_on_a_fine_tune_that_ended_before_it_and_the_holdout_on_one_of_its_own() -> None:
    search, sealed = prepared(2), prepared(2, "holdout")
    config = {**search.defaults, **SMALL}
    pipeline = ChronosPipeline()
    for made, folds in ((search, 2), (sealed, 1)):
        ctx = Context(made.inputs, seed=3)
        pipeline.evaluate_pack([config], ctx)
        upstream = pipeline.upstream(config, ctx)
        assert upstream is not None
        places = [upstream / ADAPTERS] if folds == 1 else [upstream / ADAPTERS / f"fold-{k + 1}" for k in range(folds)]
        own = made.inputs.own
        for place, window in zip(places, own.windows, strict=True):
            assert np.datetime64(read_metadata(place)["train_end"].rstrip("Z")) < own.panel.times[window.start]
    assert pipeline.keys(config, Context(search.inputs, 3)) != pipeline.keys(config, Context(sealed.inputs, 3))
    # Nothing of the holdout is even there when the search trains.
    assert search.inputs.own.tune.panel.times[-1] < sealed.inputs.own.panel.times[sealed.inputs.own.windows[0].start]


def test_what_trades_is_no_part_of_what_was_trained_and_what_trains_is() -> None:
    def keys(folds: int = 1, seed: int = 3, config: dict | None = None, **settings) -> tuple[str, ...]:
        made = prepared(folds, **settings)
        return ChronosPipeline().keys({**made.defaults, **SMALL, **(config or {})}, Context(made.inputs, seed))

    before = keys()
    assert keys(logits=[1, 1, 1, 1], initial_cash=5.0, config={"trade_horizon": 24, "trade_context": 128}) == before
    for other in (keys(folds=2), keys(seed=4), keys(config={"tune_rank": 3}), keys(score=[4])):
        assert other != before


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"settings.adapter": "x"}, "settings.adapter: chronos_pipeline has no such setting; known: model, origins"),
        ({"space.tune_context": "[64, 9000]"}, r"space\.tune_context: 9000 is not allowed"),
        ({"space.tune_horizon": "[4]"}, "tune_horizon"),
        ({"space.trade_horizon": "[2]"}, "trade_horizon: 2 is not allowed; give one of 1, 4, 12, 24"),
        ({"space.trade_lag": "[0]"}, "lag"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_trained(keys: dict[str, str], told: str) -> None:
    study = Study.load("joint_chronos", [f"{key}={value}" for key, value in keys.items()])
    with pytest.raises((TrainableError, ValueError), match=told), study.located():
        Search(study).check()


@pytest.mark.slow
def test_what_was_trained_and_decided_before_a_moment_does_not_move_when_prices_after_it_do(tmp_path: Path) -> None:
    frame = sample_panel(["BTCUSD", "ETHUSD"], bars=900).frame()
    changed = frame.copy()
    moment = frame["timestamp"].sort_values().unique()[600]  # in the tune window
    changed.loc[changed["timestamp"] >= moment, ["open", "high", "low", "close"]] *= 1.5
    equity = []
    for name, bars in (("before", frame), ("after", changed)):
        (tmp_path / name).mkdir()
        for symbol, own in bars.groupby("symbol"):
            own.drop(columns="symbol").to_csv(tmp_path / name / f"{symbol}.csv", index=False)
        made = ChronosPipeline().prepare({"source": str(tmp_path / name)}, SETTINGS, Protocol.parse({"folds": 1, "holdout": "10%"}))
        seen = ChronosPipeline().trace({**made.defaults, **SMALL, "trade_context": 64}, Context(made.inputs, seed=3))
        stage = next(stage for stage in seen if stage.name == "equity")
        equity.append(pd.Series(stage.columns["equity"], stage.times))
    at = pd.Timestamp(moment).tz_localize(None)
    one, other = ((curve[curve.index < at], curve[curve.index >= at]) for curve in equity)
    np.testing.assert_array_equal(one[0], other[0])
    assert len(one[0]) > 100 and one[0].nunique() > 10 and not np.array_equal(one[1], other[1], equal_nan=True)

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from cluster.cache import Store
from trainables.chronos2.model import SMALL
from trainables.contract import Context, TrainableError
from trainables.selector.forecast_selector import FORECAST_PARAMETERS, ForecastSelector
from trainables.selector.trainable import SelectorTrainable
from trainables.tables import offered
from trainables.testing import check_packed
from trainables.timeline import Protocol

DATA = {"source": "sample", "bars": 1200, "signal": 0.25, "seed": 7, "symbols": ["BTCUSD", "ETHUSD", "NVDA"]}
LOGITS = [3, 4, 2, 2]
CUT = Protocol(folds=2, holdout="15%")


@pytest.fixture(scope="module")
def prepared():
    return ForecastSelector().prepare(DATA, {"logits": LOGITS}, CUT)


def complete(prepared, **given):
    return {**prepared.defaults, **given}


def test_on_the_baseline_forecasts_it_is_the_selector(prepared):
    plain = SelectorTrainable()
    other = plain.prepare(DATA, {"logits": LOGITS, "forecast_window": 48}, CUT)
    settings = [{"min_edge": edge, "risk_weight": weight} for edge in (0.0, 0.001) for weight in (0.25, 0.75)]
    ours = ForecastSelector().evaluate_pack(
        [complete(prepared, forecaster="empirical", window=48, **s) for s in settings], Context(prepared.inputs)
    )
    theirs = plain.evaluate_pack([{**other.defaults, **s} for s in settings], Context(other.inputs))
    pd.testing.assert_frame_equal(ours.metrics.drop(columns="heuristic_share"), theirs.metrics, check_exact=True)
    np.testing.assert_array_equal(ours.returns, theirs.returns)
    assert (ours.metrics["trades"] > 0).all()


def test_a_pack_of_mixed_forecasts_gives_each_configuration_its_own(prepared):
    configs = [
        complete(prepared, forecaster=name, horizon=horizon, min_edge=edge)
        for edge in (0.0, 0.0005)
        for name in ("naive", "empirical")
        for horizon in (1, 24)
    ]
    check_packed(ForecastSelector(), DATA, {"logits": LOGITS}, configs, CUT)
    made = ForecastSelector().evaluate_pack(configs, Context(prepared.inputs)).metrics
    assert made["total_return"].nunique() > 3


def test_the_embedded_model_forecasts_once_for_all_who_ask(prepared, tmp_path):
    some = [complete(prepared, context=64, min_edge=edge) for edge in (0.0, 0.001, 0.002)]
    first, second = Store(tmp_path), Store(tmp_path)
    with offered(first):
        fresh = pickle.loads(pickle.dumps(prepared.inputs))
        made = ForecastSelector().evaluate_pack(some, Context(fresh))
    windows = sum(w.stop - w.start for w in prepared.inputs.windows)
    assert first.use.tables == 3 and windows < first.use.rows_built < 3 * windows  # the stock has fewer bars
    with offered(second):
        again = ForecastSelector().evaluate_pack(some, Context(pickle.loads(pickle.dumps(prepared.inputs))))
    assert second.use.rows_built == 0 and second.use.rows_found == first.use.rows_built
    pd.testing.assert_frame_equal(made.metrics, again.metrics, check_exact=True)


def test_warming_reads_what_evaluating_reads(prepared, tmp_path):
    config = complete(prepared, forecaster="empirical", window=30)
    store, later = Store(tmp_path), Store(tmp_path)
    with offered(store):
        ForecastSelector().warm(config, pickle.loads(pickle.dumps(prepared.inputs)))
    with offered(later):
        ForecastSelector().evaluate_pack([config], Context(pickle.loads(pickle.dumps(prepared.inputs))))
    assert store.use.rows_built > 0 and later.use.rows_built == 0


def test_the_holdout_extends_the_tables_of_the_search(prepared, tmp_path):
    config = complete(prepared, forecaster="empirical", window=30)
    searched, held = Store(tmp_path), Store(tmp_path)
    with offered(searched):
        ForecastSelector().evaluate_pack([config], Context(pickle.loads(pickle.dumps(prepared.inputs))))
    opened = ForecastSelector().prepare(DATA, {"logits": LOGITS}, CUT, "holdout")
    with offered(held):
        ForecastSelector().evaluate_pack([config], Context(opened.inputs))
    window = opened.inputs.windows[0]
    bars = int(opened.inputs.panel.exists[window.start : window.stop].sum())
    assert held.use.rows_built == bars
    # The same tables, now with rows of both.
    assert [entry.rows for entry in held.entries()] and len(held.entries()) == 3
    assert sum(entry.rows for entry in held.entries()) == searched.use.rows_built + bars


def test_forecasts_are_issued_for_the_windows_alone(prepared):
    parts = prepared.inputs.parts(complete(prepared, forecaster="naive"))
    assert [part.panel.n_bars for part in parts] == [w.stop - w.start for w in prepared.inputs.windows]
    assert all(np.isfinite(part.orders[:, part.panel.exists]).all() for part in parts)


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        ({"horizon": 2}, {}, "horizon: 2 is not allowed; give one of 1, 4, 12, 24"),
        ({}, {"model": "nowhere/at-all"}, "nowhere/at-all"),
        ({}, {"profile": "legacy"}, "settings.profile: 'legacy' is not allowed"),
        ({}, {"modell": "small"}, "did you mean 'model'"),
        ({"lag": 0}, {}, "lag"),
        ({"context": 100_000}, {}, "context"),
    ],
)
def test_what_cannot_be_forecast_or_simulated_is_refused(config, settings, message):
    with pytest.raises(TrainableError, match=message):
        ForecastSelector().check(config, settings)


def test_every_parameter_has_a_default(prepared):
    assert set(prepared.defaults) > {p.name for p in FORECAST_PARAMETERS}


def test_a_model_whose_weights_change_after_the_study_was_prepared_is_refused(tmp_path):
    place = tmp_path / "model"
    shutil.copytree(SMALL, place)
    made = ForecastSelector().prepare(DATA, {"logits": LOGITS, "model": str(place)}, CUT)
    config = complete(made, context=64)
    weights = place / "model.safetensors"
    tensors = load_file(weights)
    save_file({name: value * (1.5 if "quantile" in name or "output" in name else 1.0) for name, value in tensors.items()}, weights)
    with pytest.raises(TrainableError, match="not those the study was prepared with"):
        ForecastSelector().evaluate_pack([config], Context(pickle.loads(pickle.dumps(made.inputs))))


def test_where_a_model_lies_is_not_part_of_who_a_result_is(tmp_path, monkeypatch, prepared):
    place = tmp_path / "elsewhere"
    shutil.copytree(SMALL, place)
    monkeypatch.chdir(tmp_path)
    made = ForecastSelector().prepare(DATA, {"logits": LOGITS, "model": "elsewhere"}, CUT)
    assert made.protocol == prepared.protocol and made.inputs.settings["model"] == str(place)
    monkeypatch.chdir("/")  # as a worker's folder is
    ForecastSelector().warm(complete(made, context=64), pickle.loads(pickle.dumps(made.inputs)))


def test_new_rules_of_a_forecaster_make_other_results(prepared, monkeypatch):
    for module in ("trainables.forecast.guard.VERSION", "trainables.chronos2.forecaster.VERSION"):
        with monkeypatch.context() as changed:
            changed.setattr(module, 99)
            assert ForecastSelector().prepare(DATA, {"logits": LOGITS}, CUT).protocol != prepared.protocol


def test_the_share_of_replaced_forecasts_is_told(prepared):
    configs = [complete(prepared, forecaster="naive"), complete(prepared, context=64, preaug="log_diff", horizon=24)]
    share = ForecastSelector().evaluate_pack(configs, Context(prepared.inputs)).metrics["heuristic_share"]
    assert share[0] == 0.0 and 0.01 < share[1] < 0.9

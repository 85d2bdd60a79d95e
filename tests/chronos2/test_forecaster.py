"""Chronos-2 as a forecaster: the same bits in any batch, nothing from other issue times, and no torch where nothing is built."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("chronos")

from tests.chronos2.tiny import disturbed, holey, tiny_model  # noqa: E402
from tests.forecast.kept import Kept  # noqa: E402
from trainables.chronos2.export import export  # noqa: E402
from trainables.chronos2.forecast import Origins, forecast  # noqa: E402
from trainables.chronos2.forecaster import Chronos2  # noqa: E402
from trainables.chronos2.lora import LoraRun, LoraSettings  # noqa: E402
from trainables.chronos2.model import ModelError, fingerprint, load_base  # noqa: E402
from trainables.chronos2.preaug import PREAUGS  # noqa: E402
from trainables.chronos2.tasks import make_tasks  # noqa: E402
from trainables.contract import TrainableError  # noqa: E402
from trainables.exported import ExportError  # noqa: E402
from trainables.forecast import QUANTILES, issue, make_forecaster  # noqa: E402
from trainables.market import sample_panel  # noqa: E402
from trainables.tables import offered  # noqa: E402
from trainables.timeline import Window  # noqa: E402

BARS = 400
# Rows a window has: 4, 7, 9, 8, 18; the second takes a return from the bar before its context.
KINDS = (
    {},
    {"covariates": "returns", "preaug": "log_returns"},
    {"covariates": "all", "preaug": "rolling_norm"},
    {"grouping": "majors", "preaug": "differencing"},
    {"grouping": "majors", "covariates": "all"},
)


@pytest.fixture(scope="module")
def panel():
    return holey(sample_panel(["BTCUSD", "ETHUSD", "SOLUSD", "NVDA"], bars=BARS), "ETHUSD", [90, 200, 201])


def small(**given):
    return make_forecaster({"forecaster": "chronos2", "context": 64, **given})


def same(a, b):
    np.testing.assert_array_equal(a, b)
    return np.isfinite(a).any()


@pytest.mark.parametrize("given", KINDS, ids=str)
def test_a_row_has_the_same_bits_whichever_are_built_with_it(panel, given):
    forecaster = small(**given)
    whole = issue(panel, forecaster, Window(0, 160)).values  # from where contexts are still short
    for start, stop in ((0, 25), (25, 26), (26, 89), (89, 160), (77, 113)):
        assert same(issue(panel, forecaster, Window(start, stop)).values[..., start:stop, :], whole[..., start:stop, :])


@pytest.mark.parametrize("name", PREAUGS)
def test_every_transform_keeps_bits_alike(panel, name):
    forecaster, window = small(preaug=name), Window(60, 100)
    coins = panel.select(["ETHUSD"])
    whole = issue(coins, forecaster, window).values
    for start, stop in ((60, 64), (64, 71), (83, 100)):
        assert same(issue(coins, forecaster, Window(start, stop)).values[..., start:stop, :], whole[..., start:stop, :])


@pytest.mark.parametrize("given", KINDS, ids=str)
def test_batches_of_another_shape_give_the_same_but_for_rounding(panel, given):
    one, many = (issue(panel, small(batch_rows=rows, **given), Window(100, 130)).values for rows in (1, 128))
    np.testing.assert_allclose(one, many, rtol=2e-5)
    assert np.isfinite(one).any()


@pytest.mark.parametrize("given", KINDS, ids=str)
def test_bars_after_t_never_change_forecasts_up_to_t(panel, given):
    forecaster, window = small(**given), Window(100, 160)
    before = issue(panel, forecaster, window).values
    for t in (110, 140):
        after = issue(disturbed(panel, slice(t + 1, BARS)), forecaster, window).values
        assert same(after[..., : t + 1, :], before[..., : t + 1, :])
        assert not np.array_equal(after[..., t + 1 : 160, :], before[..., t + 1 : 160, :], equal_nan=True)


@pytest.mark.parametrize("given", KINDS, ids=str)
def test_bars_of_other_issue_times_never_change_a_row(panel, given):
    """What one window of a batch holds does not reach another: batches are full of windows of the same symbols (SPEC J3)."""
    forecaster, window = small(**given), Window(200, 290)
    before = issue(panel, forecaster, window).values
    after = issue(disturbed(panel, slice(0, 210)), forecaster, window).values
    apart = 210 + forecaster.reach + 1  # BTC and ETH lack a common bar or two
    assert same(after[..., apart:290, :2], before[..., apart:290, :2])
    assert not np.array_equal(after[..., 200:210, :], before[..., 200:210, :], equal_nan=True)


def test_rows_say_how_far_back_they_depend(panel):
    btc = panel.select(["BTCUSD"])
    for given, reach in (({}, 64), ({"covariates": "returns"}, 65), ({"covariates": "all", "preaug": "detrending"}, 65)):
        forecaster, t = small(**given), 200
        assert forecaster.reach == reach
        before, far, near = (
            issue(p, forecaster, Window(t, t + 1)).values[..., t, 0]
            for p in (btc, disturbed(btc, slice(0, t - reach + 1)), disturbed(btc, slice(0, t - reach + 2)))
        )
        assert same(far, before) and not np.array_equal(near, before)


@pytest.mark.parametrize("given", KINDS[:1] + KINDS[-1:], ids=str)
def test_a_day_of_bars_builds_a_day_of_rows(panel, given):
    forecaster, kept = small(**given), Kept()
    with offered(kept):
        issue(panel.rows((0, 150)), forecaster)
        kept.count()
        longer = issue(panel.rows((0, 174)), forecaster).values
        groups = forecaster.groups(panel)
        assert kept.count() == sum(int(panel.exists[150:174, list(group)].all(axis=1).sum()) for group in groups)
    assert same(longer, issue(panel.rows((0, 174)), forecaster).values)


def test_one_pass_gives_what_a_trial_scores(panel):
    ours = issue(panel, small(covariates="returns", preaug="log_returns"), Window(120, 124))
    tasks = make_tasks(panel.select(["BTCUSD"]), Window(0, BARS), Window(0, BARS), "returns")
    origins = Origins(np.arange(120, 124)[:, None], np.ones(1))
    model = load_base("small", device="cpu", dtype="float32").model
    theirs = forecast(model, tasks, origins, 24, QUANTILES, context=64, preaug=PREAUGS["log_returns"])[:, 0]
    assert not any(ours.heuristic(h).any() for h in ours.horizons)
    for h in ours.horizons:
        for f, field in ((0, "open"), (3, "close")):
            for q, level in enumerate(QUANTILES):
                np.testing.assert_allclose(ours.quantile(field, level, h)[120:124, 0], theirs[:, f, q, h - 1], rtol=1e-5)


def test_what_steps_added_up_tear_apart_is_marked(panel):
    """Medians of highs and lows that are summed on their own can cross; such a forecast is no forecast (SPEC D, J17)."""
    found = issue(panel, small(preaug="log_diff"), Window(100, 160))
    low, high = found.p50("low", 24)[100:160], found.p50("high", 24)[100:160]
    marked = found.heuristic(24)[100:160]
    assert marked.any() and not marked.all() and (low[np.isfinite(low)] <= high[np.isfinite(high)]).all()
    assert found.heuristic(1).sum() < marked.sum()
    kinds = found.table().groupby(["horizon_hours", "source"]).size()
    assert kinds[24.0, "heuristic"] == marked.sum()


def test_majors_are_forecast_together_at_their_common_bars(panel):
    alone, together = (issue(panel, small(grouping=g), Window(198, 206)) for g in ("none", "majors"))
    a, b = alone.p50("close")[198:206], together.p50("close")[198:206]
    assert np.isfinite(a[:, 0]).all() and list(np.flatnonzero(np.isnan(b[:, 0]))) == [2, 3]  # where ETH has no bar
    assert (a[[0, 1, 4], :2] != b[[0, 1, 4], :2]).all()
    np.testing.assert_array_equal(a[:, 2:], b[:, 2:])  # alone in their groups
    assert small(grouping="majors").groups(panel) == [(0, 1), (2,), (3,)]
    assert small(grouping="all").groups(panel) == [(0, 1, 2), (3,)]  # coins together, and not with the stock


def test_reading_what_is_kept_imports_no_torch():
    code = """
import sys, numpy as np
from trainables.forecast import issue, make_forecaster
from trainables.market import sample_panel
from trainables.tables import offered

class All:
    def read(self, table, first, stop, build):
        return np.ones((len(table.columns), stop - first))

with offered(All()):
    found = issue(sample_panel(bars=300), make_forecaster({"forecaster": "chronos2"}))
assert np.nanmax(found.p50("close", 24)) == 1.0
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_threads_come_back(panel):
    torch.set_num_threads(2)
    try:
        issue(panel, small(), Window(100, 101))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_the_specification_has_all_that_values_depend_on():
    plain = small()
    assert plain.spec["weights"] == fingerprint("small") and json.loads(json.dumps(plain.spec)) == plain.spec
    others = [small(context=65), small(preaug="diff_norm(10)"), small(preaug="diff_norm(11)"), small(covariates="all")]
    others += [small(grouping="majors"), small(grouping="all"), small(batch_rows=32), small(horizons=[1])]
    specs = [json.dumps(f.spec, sort_keys=True) for f in (plain, *others)]
    assert len(set(specs)) == len(specs)
    assert small(device="cpu").spec == plain.spec
    assert plain.source == f"chronos2(small {fingerprint('small')[:8]}, context=64)"
    assert small(preaug="diff_norm(10)").least == 16 and make_forecaster({"forecaster": "chronos2"}).least == 64


@pytest.fixture(scope="module")
def tuned(panel, tmp_path_factory):
    """A fine-tune of the small model on the first 150 rows, as a study exports it."""
    tasks = make_tasks(panel, Window(0, 200), Window(0, 150))
    settings = LoraSettings(rank=4, learning_rate=1e-2, steps=4, context=64, horizon=24, batch_rows=16)
    base = load_base("small", device="cpu", dtype="float32").model
    run = LoraRun(base, tasks, settings, base_id="small", base_digest=fingerprint("small"))
    run.advance(4)
    return export(run, tmp_path_factory.mktemp("runs") / "tuned", "lora_ranks/7", merged=True)


def test_an_adapter_forecasts_like_its_merged_weights_and_has_a_table_of_its_own(panel, tuned):
    window = Window(160, 168)
    plain, adapted, merged = small(), small(adapter=str(tuned)), small(model=str(tuned / "finetuned"))
    a, b, c = (issue(panel, f, window).values for f in (plain, adapted, merged))
    np.testing.assert_allclose(b, c, rtol=1e-5)
    assert not np.allclose(a, b, rtol=1e-4, equal_nan=True)
    assert plain.spec["adapter"] == "" and len({f.source for f in (plain, adapted, merged)}) == 3
    assert adapted.spec["weights"] == plain.spec["weights"] != merged.spec["weights"]
    assert same(issue(panel, adapted, Window(163, 165)).values[..., 163:165, :], b[..., 163:165, :])


def test_a_fine_tune_does_not_forecast_the_time_it_was_trained_on(panel, tuned):
    for forecaster in (small(adapter=str(tuned)), small(model=str(tuned / "finetuned"))):
        for windows in (None, Window(149, 160), [Window(200, 210), Window(100, 110)]):
            with pytest.raises(ExportError, match="lora_ranks/7: was trained on bars until"):
                issue(panel, forecaster, windows)
        assert np.isfinite(issue(panel, forecaster, Window(150, 151)).p50("close")[150, 0])


def test_a_fine_tune_is_not_shown_what_it_was_not_trained_on(tuned, tmp_path):
    shutil.copytree(tuned / "finetuned", tmp_path / "moved")  # merged weights are known wherever they go
    for given in ({"adapter": str(tuned)}, {"model": str(tmp_path / "moved")}):
        with pytest.raises(TrainableError, match=r"chronos2\.preaug: .* was trained with baseline, not log_returns; give preaug: baseline"):
            small(**given, preaug="log_returns")
        with pytest.raises(TrainableError, match=r"chronos2\.covariates: .* was trained with none, not all"):
            small(**given, covariates="all")
        with pytest.raises(TrainableError, match="train"):
            small(**given).admit(np.datetime64("2000-01-01", "ns"))


def test_an_adapter_of_another_base_is_refused_before_anything_is_built(tuned, tmp_path, panel):
    from chronos import Chronos2Pipeline

    Chronos2Pipeline(tiny_model()).save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="is of another base than"):
        small(model=str(tmp_path / "other"), adapter=str(tuned))
    altered = load_base("small", device="cpu", dtype="float32")
    with torch.no_grad():
        next(altered.model.parameters()).add_(1.0)
    altered.save_pretrained(tmp_path / "altered")
    with pytest.raises(ExportError, match="belongs to other weights"):
        small(model=str(tmp_path / "altered"), adapter=str(tuned))
    with pytest.raises(ExportError, match=r"run_metadata\.json: cannot be read"):
        small(adapter=str(tmp_path))


def test_weights_that_change_under_a_forecaster_are_not_used(panel, tuned, tmp_path):
    shutil.copytree(tuned, tmp_path / "copy")
    forecaster = small(adapter=str(tmp_path / "copy"))
    assert forecaster.spec == small(adapter=str(tuned)).spec  # wherever it lies
    config = tmp_path / "copy" / "lora-adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 8', '"lora_alpha": 16'))
    with pytest.raises(TrainableError, match="have changed since; make the forecaster again"):
        issue(panel, forecaster, Window(160, 161))
    assert small(adapter=str(tmp_path / "copy")).spec != forecaster.spec


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"context": 513}, "chronos2.context: 513 is more than the 512 bars of the model small"),
        ({"context": 8}, "forecaster.context: 8 is not allowed"),
        ({"horizons": [65]}, "chronos2.horizons: 65 is more than the 64"),
        ({"preaug": "log_dif"}, "chronos2.preaug: 'log_dif' is not known; did you mean 'log_diff'"),
        ({"covariates": "some"}, "forecaster.covariates: 'some'"),
        ({"grouping": "majrs"}, r"forecaster.grouping: 'majrs' is not allowed; give one of none, majors, all \(did you mean 'majors'"),
        ({"model": "smal"}, "model: 'smal' is neither small"),
        ({"modl": "small"}, "did you mean 'model'"),
    ],
)
def test_what_cannot_be_made_is_a_message(given, message):
    with pytest.raises(TrainableError, match=message):
        small(**given)


def test_correlation_groups_are_refused_with_the_reason():
    with pytest.raises(TrainableError, match="correlation groups are chosen on a train window"):
        Chronos2(grouping="correlation")


def test_a_device_that_is_not_there_is_a_message_when_rows_are_built(panel):
    with pytest.raises(TrainableError, match="cuda:9 is not there"):
        issue(panel, small(device="cuda:9"), Window(100, 101))

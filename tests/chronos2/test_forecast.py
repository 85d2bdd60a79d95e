import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("chronos")

from tests.chronos2.tiny import disturbed, holey, tiny_model  # noqa: E402
from trainables.chronos2.forecast import Origins, actuals, forecast, history, spread_origins  # noqa: E402
from trainables.chronos2.preaug import PREAUGS  # noqa: E402
from trainables.chronos2.tasks import make_tasks  # noqa: E402
from trainables.contract import TrainableError  # noqa: E402
from trainables.market.sample import sample_panel  # noqa: E402
from trainables.timeline import Window  # noqa: E402

ALL, TRAIN, TUNE = Window(0, 600), Window(0, 400), Window(424, 600)
LEVELS = (0.1, 0.5, 0.9)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def panel():
    return holey(sample_panel(symbols=("BTCUSD", "ETHUSD", "NVDA"), bars=600), "ETHUSD", [430, 500, 501])


def test_targets_lie_in_the_window_and_contexts_reach_back(panel):
    tasks = make_tasks(panel, ALL, TRAIN)
    origins = spread_origins(tasks, TUNE, 24, 50)
    btc = origins.rows[:, 0]
    assert len(btc) == 50 and btc[0] == 423 and btc[-1] == 600 - 24 - 1
    assert np.ptp(np.diff(btc)) <= 1 and origins.strides[0] == 3.0
    after = panel.close[424 : 424 + 24, 0]
    np.testing.assert_array_equal(actuals(tasks, origins, 24)[0, 0, 3], after)
    assert np.isfinite(actuals(tasks, origins, 24)[origins.rows >= 0]).all()
    np.testing.assert_array_equal(history(tasks, origins, 30)[0, 0, 0], panel.open[394:424, 0])


def test_every_symbol_counts_its_own_bars(panel):
    tasks = make_tasks(panel, ALL, TRAIN)
    origins = spread_origins(tasks, TUNE, 24, 1000)
    eth = origins.rows[origins.rows[:, 1] >= 0, 1]
    assert not {430, 500, 501} & set(eth)
    assert len(eth) == (600 - 423 - 3) - 24
    own = np.flatnonzero(panel.exists[:, 1])
    i = int(np.searchsorted(eth, 490))
    follow = own[np.searchsorted(own, 490) + 1 :][:24]
    np.testing.assert_array_equal(actuals(tasks, origins, 24)[i, 1, 3], panel.close[follow, 1])
    nvda = origins.rows[:, 2]
    assert panel.exists[nvda[nvda >= 0], 2].all() and (nvda >= 0).sum() < 30
    assert any(note.startswith("NVDA: ") and "1000 were asked for" in note for note in origins.notes)


def test_a_cache_issues_at_the_last_bar_too(panel):
    tasks = make_tasks(panel, ALL, TRAIN)
    origins = spread_origins(tasks, TUNE, 0, 1000)
    assert origins.rows[:, 0].min() == 424 and origins.rows[:, 0].max() == 599 and not origins.notes
    assert np.isnan(actuals(tasks, origins, 2)[-1, 0]).all()


@pytest.mark.parametrize("grouping", ["none", "majors"])
def test_results_do_not_depend_on_the_batch(model, panel, grouping):
    tasks = make_tasks(panel, ALL, TRAIN, "returns", grouping)
    origins = spread_origins(tasks, TUNE, 20, 12)
    one, many = (forecast(model, tasks, origins, 20, LEVELS, rows, context=100) for rows in (1, 150))
    assert one.shape == (12, 3, 4, 3, 20) and np.isfinite(one).all()
    np.testing.assert_allclose(one, many, rtol=1e-5)
    assert (np.diff(one, axis=3) >= 0).all()


def test_a_forecast_reads_no_bar_after_its_issue_time(model, panel):
    for kw in ({"covariates": "all"}, {"grouping": "majors"}):
        first, second = (make_tasks(p, ALL, TRAIN, **kw) for p in (panel, disturbed(panel, slice(501, 600))))
        origins = spread_origins(first, TUNE, 20, 30)
        a, b = (forecast(model, tasks, origins, 20, LEVELS, 64, context=64, preaug=PREAUGS["log_returns"]) for tasks in (first, second))
        past = (origins.rows >= 0) & (origins.rows < 501)
        np.testing.assert_allclose(a[past], b[past], rtol=1e-6)
        assert not np.allclose(a[~past], b[~past], rtol=1e-3)


def test_grouped_symbols_are_forecast_together(model, panel):
    alone, grouped = (make_tasks(panel, ALL, TRAIN, grouping=g) for g in ("none", "majors"))
    origins = spread_origins(grouped, TUNE, 4, 5)
    a, b = (forecast(model, tasks, origins, 4, LEVELS, context=64) for tasks in (alone, grouped))
    np.testing.assert_allclose(a[:, 2], b[:, 2], rtol=1e-6)
    assert (np.abs(a[:, :2] / b[:, :2] - 1).max(axis=(2, 3, 4)) > 1e-6).all()


def test_it_forecasts_as_the_pipeline_of_chronos_does(model, panel):
    from chronos import Chronos2Pipeline

    tasks = make_tasks(panel, ALL, TRAIN, "returns")
    origins = spread_origins(tasks, TUNE, 20, 3)
    ours = forecast(model, tasks, origins, 20, [0.1, 0.33, 0.5, 0.9], context=200)
    task = tasks.tasks[0]
    for i, row in enumerate(origins.rows[:, 0]):
        part = slice(row + 1 - 200, row + 1)
        given = {"target": task.targets[:, part], "past_covariates": {str(k): c[part] for k, c in enumerate(task.covariates)}}
        theirs = Chronos2Pipeline(model).predict_quantiles([given], 20, [0.1, 0.33, 0.5, 0.9], context_length=200)[0][0]
        # Ours are put in order before they are interpolated.
        np.testing.assert_allclose(ours[i, 0].transpose(0, 2, 1), np.sort(theirs.numpy(), axis=-1), rtol=2e-3)


def test_preaug_is_undone(model, panel):
    tasks = make_tasks(panel, ALL, TRAIN)
    origins = spread_origins(tasks, TUNE, 12, 4)
    plain = forecast(model, tasks, origins, 12, LEVELS, context=64)
    # The model standardises every window itself, so an affine transform changes nothing (SPEC B).
    np.testing.assert_allclose(forecast(model, tasks, origins, 12, LEVELS, context=64, preaug=PREAUGS["robust_scaling"]), plain, rtol=1e-4)
    last = history(tasks, origins, 1)[..., None, :]
    for name in ("differencing", "log_diff", "rolling_norm", "detrending"):
        found = forecast(model, tasks, origins, 12, LEVELS, context=64, preaug=PREAUGS[name])
        assert not np.allclose(found, plain, rtol=1e-5) and (np.abs(found / last - 1) < 0.5).all(), name


def test_modes_and_generators_come_back(model, panel):
    tasks = make_tasks(panel, ALL, TRAIN)
    origins = spread_origins(tasks, TUNE, 4, 2)
    own = tiny_model().train()
    own.encoder.block[0].eval()
    modes, before = [m.training for m in own.modules()], torch.get_rng_state()
    np.testing.assert_array_equal(forecast(own, tasks, origins, 4, LEVELS), forecast(model, tasks, origins, 4, LEVELS))
    assert [m.training for m in own.modules()] == modes and torch.equal(torch.get_rng_state(), before)


def test_out_of_memory_shrinks_the_batch_until_one_window_is_left(panel):
    own, most = tiny_model(), [30]
    tasks = make_tasks(panel, ALL, TRAIN)
    origins = spread_origins(tasks, TUNE, 4, 20)
    expected = forecast(own, tasks, origins, 4, LEVELS, 8, context=64)

    def full_above(module, args, kwargs):
        if len(kwargs["context"]) >= most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    own.register_forward_pre_hook(full_above, with_kwargs=True)
    np.testing.assert_allclose(forecast(own, tasks, origins, 4, LEVELS, 64, context=64), expected, rtol=1e-5)
    most[0] = 1
    with pytest.raises(TrainableError, match="out of memory with one window"):
        forecast(own, tasks, origins, 4, LEVELS, 64, context=64)


def test_what_the_model_does_not_have_is_a_message(model, panel):
    tasks = make_tasks(panel, ALL, TRAIN)
    origins = spread_origins(tasks, TUNE, 4, 2)
    for wrong, message in (({"horizon": 65}, "horizon: 65"), ({"levels": (0.5, 0.995)}, "level 0.995"), ({"levels": ()}, "level none")):
        with pytest.raises(TrainableError, match=message):
            forecast(model, tasks, origins, **{"horizon": 4, "levels": LEVELS} | wrong)
    with pytest.raises(TrainableError, match="context: 600"):
        forecast(model, tasks, origins, 4, LEVELS, context=600)
    with pytest.raises(TrainableError, match="ETHUSD is no bar"):
        forecast(model, tasks, Origins(np.full((1, 3), 500), np.ones(3)), 4, LEVELS)
    with pytest.raises(TrainableError, match="outside the tasks' window"):
        spread_origins(make_tasks(panel, Window(0, 500), TRAIN), TUNE, 4)
    with pytest.raises(TrainableError, match="no symbol has 16 bars"):
        spread_origins(tasks, Window(590, 600), 24)

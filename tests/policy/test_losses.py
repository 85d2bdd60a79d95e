import numpy as np
import pytest

torch = pytest.importorskip("torch")

from results import metrics  # noqa: E402
from trainables.contract import TrainableError  # noqa: E402
from trainables.policy.losses import LOSSES, LossSpec, make_loss, max_drawdown, over_lags  # noqa: E402
from trainables.policy.soft import simulate  # noqa: E402

torch.set_num_threads(1)


def returns(n=4, bars=60, seed=0, scale=0.01, drift=0.001):
    return torch.from_numpy(np.random.default_rng(seed).normal(drift, scale, (n, bars)))


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)


PERIODS = torch.tensor([8760.0, 8760.0, 1764.0, 252.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        # R = 1, −2, 4 percent: μ = 1 %, mean min(R, 0)² = 4e-4/3, sum of squares about μ = 18e-4, D = 2 %; P = 100.
        ("sortino", 0.01 / np.sqrt(4e-4 / 3 + 1e-8) * 10 + 0.08),
        ("sharpe", 0.01 / np.sqrt(9e-4 + 1e-8) * 10 + 0.08),
        ("calmar", 1 / 0.021 + 0.08),
        ("sortino_drawdown", 0.01 / np.sqrt(4e-4 / 3 + 1e-8) * 10 + 0.08 - 0.02),
        ("return", 1.0),
        ("log_wealth", np.log(1.01 * 0.98 * 1.04) / 3 * 100),
    ],
)
def test_every_score_worked_by_hand_and_the_loss_is_its_negative(name, want):
    loss = make_loss(name)
    r = tensor([0.01, -0.02, 0.04])
    assert float(loss.scores(r, 100.0)) == pytest.approx(want, rel=1e-12)
    assert float(loss(r, 100.0)) == pytest.approx(-want, rel=1e-12)


def test_scores_are_the_metrics_of_results_where_both_are_defined():
    r = returns(scale=0.02)
    for w in range(4):
        row, p = r[w].numpy(), float(PERIODS[w])
        for name, want in (
            ("sortino", metrics.sortino(row, p, 60, min_negative=1)),
            ("sharpe", metrics.sharpe(row, p, 60)),
        ):
            assert float(make_loss({"name": name, "return_weight": 0.0}).scores(r, PERIODS)[w]) == pytest.approx(want, rel=1e-4)
        growth = float(make_loss("log_wealth").scores(r, PERIODS)[w])
        clamped = np.clip(growth, -50, 50)
        assert np.expm1(clamped) == pytest.approx(metrics.annualised_return(row, p, 60, min_days=0.0), rel=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_a_missing_bar_has_no_say(name):
    r = returns()
    keep = torch.ones(60, dtype=torch.bool)
    keep[[3, 4, 20, 59]] = False
    dirty = r.clone()
    dirty[:, ~keep] = torch.nan
    loss = make_loss(name)
    found = loss.scores(dirty, PERIODS, keep.expand(4, 60))
    np.testing.assert_allclose(found, loss.scores(r[:, keep], PERIODS), rtol=1e-12)


def test_a_stocks_own_hours_and_the_calendar_give_one_sortino():
    own = returns(n=1, bars=70, scale=0.05)
    calendar = torch.zeros(1, 240, dtype=torch.float64)
    calendar[:, :70] = own
    loss = make_loss()
    a, b = loss.scores(own, 70 * 36.5), loss.scores(calendar, 240 * 36.5)
    np.testing.assert_allclose(a, b, rtol=1e-4)  # the ε is of a bar


def test_a_window_without_a_bar_scores_nothing_and_is_not_averaged_in():
    r = returns(n=2)
    mask = torch.ones(2, 60, dtype=torch.bool)
    mask[1] = False
    loss = make_loss()
    assert float(loss.scores(r, 8760.0, mask)[1]) == 0.0
    assert float(loss(r, 8760.0, mask)) == pytest.approx(float(loss(r[:1], 8760.0)), rel=1e-12)
    assert float(loss(r, 8760.0, torch.zeros_like(mask))) == 0.0


@pytest.mark.parametrize("reduce", ["mean", "min", "softmin"])
@pytest.mark.parametrize("name", LOSSES)
def test_trailing_fractions_are_scored_apart_and_joined(name, reduce):
    r = returns(bars=50)
    shares = (0.25, 0.5, 1.0)
    parts = np.stack([make_loss(name).scores(r[:, -n:], PERIODS) for n in (13, 25, 50)])
    found = make_loss({"name": name, "fractions": shares, "reduce": reduce, "softmin_temperature": 2.0}).scores(r, PERIODS).numpy()
    if reduce == "softmin":
        want = -2 * np.log(np.exp(-(parts - parts.min(0)) / 2).mean(0)) + parts.min(0)
        assert (found >= parts.min(0)).all() and (found <= parts.mean(0) + 1e-9).all()
    else:
        want = getattr(parts, reduce)(0)
    np.testing.assert_allclose(found, want, rtol=1e-10)


def test_smoothness_charges_the_mean_change_between_neighbouring_bars():
    r = tensor([0.01, 0.03, 0.02, 0.05])
    plain, smooth = make_loss("return"), make_loss({"name": "return", "smoothness": 3.0})
    assert float(smooth(r, 1.0) - plain(r, 1.0)) == pytest.approx(3 * 0.06 / 3)
    mask = torch.tensor([[True, True, False, True]])  # the change across the gap is no neighbours'
    assert float(smooth(r, 1.0, mask) - plain(r, 1.0, mask)) == pytest.approx(3 * 0.02)


def test_drawdown_is_of_the_summed_returns_and_counts_from_the_start():
    r = tensor([-0.02, 0.05, -0.03, -0.01, 0.1], [0.01, 0.01, 0.0, 0.0, 0.02], [-0.01, -0.01, 0.005, 0.0, 0.0])
    np.testing.assert_allclose(max_drawdown(r), [0.04, 0.0, 0.02], atol=1e-15)


@pytest.mark.parametrize("reduce", ["mean", "min", "softmin"])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name, reduce):
    mask = torch.from_numpy(np.random.default_rng(5).random((3, 20)) > 0.1)
    loss = make_loss({"name": name, "fractions": (0.4, 1.0), "reduce": reduce, "smoothness": 0.3, "return_weight": 0.3})
    r = returns(n=3, bars=20, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, PERIODS[:3], mask), (r,), eps=1e-7, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_stay_finite_without_a_loss_without_any_return_and_in_ruin(name):
    for r in (torch.full((1, 10), 0.01), torch.zeros(1, 10), torch.tensor([[0.01, -1.5, 0.0, 0.0]])):
        r = r.requires_grad_()
        make_loss({"name": name, "smoothness": 0.1})(r, 8760.0).backward()
        assert torch.isfinite(r.grad).all()
    assert r.grad[0, 1] < 0  # less of a loss is better, even when everything is gone


def test_more_return_weight_prefers_the_bolder_of_two_windows():
    calm, bold = returns(n=1, scale=0.001, drift=0.0005), returns(n=1, scale=0.02, drift=0.003, seed=1)
    scores = [make_loss(LossSpec(return_weight=w)).scores(torch.cat([calm, bold]), 8760.0) for w in (0.0, 20.0)]
    assert scores[0][0] > scores[0][1] and scores[1][0] < scores[1][1]


def test_over_lags_averages_or_takes_the_worst_of_simulated_lags():
    rng = np.random.default_rng(0)
    close = torch.from_numpy(100 * np.exp(np.cumsum(rng.normal(0, 0.01, (3, 30)), axis=1)))
    ask = (close * 1.002).requires_grad_()
    share = torch.full_like(close, 0.5)
    loss = make_loss()

    def loss_at(lag):
        done = simulate(close, close * 1.01, close * 0.99, close * 0.998, ask, share, share, fee=0.001, temperature=0.003, lag=lag)
        return loss(done.returns, 8760.0, done.present)

    each = [loss_at(lag).item() for lag in (1, 2)]
    assert over_lags(loss_at).item() == pytest.approx(np.mean(each))
    assert over_lags(loss_at, worst=True).item() == pytest.approx(max(each))
    over_lags(loss_at).backward()
    assert (ask.grad != 0).any()
    with pytest.raises(TrainableError, match="at least 1"):
        over_lags(loss_at, (0, 1))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sortno", "loss.name: 'sortno' is unknown; did you mean 'sortino'"),
        ({"name": "return", "smoothnes": 1}, "loss.smoothnes: no such field; did you mean 'smoothness'"),
        ({"fractions": [0.5, 1.5]}, "loss.fractions"),
        ({"fractions": []}, "loss.fractions"),
        ({"reduce": "max"}, "loss.reduce: 'max' is unknown"),
        ({"return_weight": -1}, "loss.return_weight"),
        ({"smoothness": float("nan")}, "loss.smoothness"),
        ({"softmin_temperature": 0.0}, "loss.softmin_temperature"),
    ],
)
def test_a_wrong_spec_is_said(spec, message):
    with pytest.raises(TrainableError, match=message):
        make_loss(spec)


def test_shapes_that_do_not_fit_are_said():
    with pytest.raises(TrainableError, match="windows × bars"):
        make_loss()(torch.zeros(5), 1.0)
    with pytest.raises(TrainableError, match="mask"):
        make_loss()(torch.zeros(5, 2), 1.0, torch.ones(5, 3, dtype=torch.bool))
    with pytest.raises(TrainableError, match="periods"):
        make_loss()(torch.zeros(5, 2), torch.ones(4))

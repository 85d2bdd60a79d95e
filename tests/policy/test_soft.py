import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tests.policy import reference_soft  # noqa: E402
from trainables.contract import TrainableError  # noqa: E402
from trainables.market import Panel, make_assets  # noqa: E402
from trainables.policy.soft import simulate, temperature_at  # noqa: E402
from trainables.selector.inputs import SelectorInputs  # noqa: E402
from trainables.selector.options import encode, profile_defaults  # noqa: E402
from trainables.selector.simulate import evaluate  # noqa: E402

torch.set_num_threads(1)
BACKENDS = ("kernel", "torch")
SETTINGS = {
    "long only": {},
    "per-window fees": {"fee": torch.tensor([0.0, 0.001, 0.002, 0.003, -0.0001])},
    "both ways": {"can_short": True},
    "half the equity short": {"can_short": True, "leverage": 0.5},
    "short only": {"can_long": False, "can_short": True},
    "leverage and financing": {"leverage": 2.5, "margin_rate": 0.5, "hours": 3.0},
    "everything": {"leverage": 3.0, "margin_rate": 1.0, "can_short": True, "lag": 2},
    "levered shorts": {"leverage": 2.0, "margin_rate": 1.0, "can_long": False, "can_short": True},
    "mixed": {
        "leverage": torch.tensor([1.0, 2.0, 1.0, 0.5, 3.0]),
        "can_long": torch.tensor([True, True, False, True, False]),
        "can_short": torch.tensor([False, True, True, True, True]),
        "margin_rate": 0.2,
    },
    "no buffer, long lag": {"fill_buffer": 0.0, "lag": 5},
    "binary": {"temperature": 0.0, "can_short": True},
}


def windows(n=5, bars=40, seed=0, dtype=torch.float64, holes=True):
    """Close, high, low, buy, sell, buy amount, sell amount of random windows; with holes, some bars and orders are missing."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, (n, bars)), axis=1))
    before = np.concatenate([close[:, :1], close[:, :-1]], axis=1)
    high = np.maximum(before, close) * (1 + np.abs(rng.normal(0, 0.002, (n, bars))))
    low = np.minimum(before, close) * (1 - np.abs(rng.normal(0, 0.002, (n, bars))))
    buy, sell = close * (1 - rng.uniform(0, 0.006, (n, bars))), close * (1 + rng.uniform(0.0005, 0.006, (n, bars)))
    amounts = rng.uniform(0, 1, (2, n, bars))
    arrays = [torch.tensor(x, dtype=dtype) for x in (close, high, low, buy, sell, *amounts)]
    if holes:
        for which, window, bar in ((0, 1, 10), (1, 1, 11), (2, 3, 1), (3, 2, 5), (4, 0, 6), (5, 3, 7), (6, 4, 8)):
            arrays[which][window % n, bar] = torch.nan
    return arrays


def returns_and_gradients(run, arrays, **terms):
    orders = [x.clone().requires_grad_() for x in arrays[3:]]
    returns = run(*arrays[:3], *orders, **terms)
    weights = torch.cos(torch.arange(returns.numel(), dtype=returns.dtype)).view_as(returns)
    loss = (returns * weights).sum() + 10 * (returns**2).sum()
    return [returns.detach(), *torch.autograd.grad(loss, orders)]


def by(backend):
    return lambda *arrays, **terms: simulate(*arrays, backend=backend, **terms).returns


def assert_close(found, wanted, relative):
    for x, y in zip(found, wanted, strict=True):
        assert torch.isfinite(y).all() and y.abs().max() > 0
        assert (x - y).abs().max() <= relative * y.abs().max()


def flat_market(rows, orders):
    """One window: (close, high, low) and (buy, sell, buy amount, sell amount) per bar."""
    columns = [*np.array(rows, float).T, *np.array(orders, float).T]
    return [torch.tensor(x, dtype=torch.float64)[None] for x in columns]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SETTINGS)
def test_returns_and_gradients_are_those_of_the_slow_reference(name, backend):
    terms = {"fee": 0.001, "temperature": 0.002} | SETTINGS[name]
    arrays = windows()
    wanted = returns_and_gradients(reference_soft.simulate, arrays, **terms)
    assert_close(returns_and_gradients(by(backend), arrays, **terms), wanted, 1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mask_hides_bars_as_a_missing_bar_does(backend):
    arrays = windows(holes=False)
    mask = torch.from_numpy(np.random.default_rng(1).random((5, 40)) > 0.2)
    terms = {"fee": 0.001, "temperature": 0.002, "leverage": 2.0, "can_short": True, "margin_rate": 0.5}
    wanted = returns_and_gradients(reference_soft.simulate, arrays, mask=mask, **terms)
    assert_close(returns_and_gradients(by(backend), arrays, mask=mask, **terms), wanted, 1e-12)
    done = simulate(*arrays, mask=mask, backend=backend, **terms)
    assert torch.equal(done.present, mask[:, 1:])
    missing = [torch.where(mask, x, torch.nan) for x in arrays[:3]]
    assert torch.equal(simulate(*missing, *arrays[3:], backend=backend, **terms).returns, done.returns)
    assert (done.returns[~done.present] == 0).all()


@pytest.mark.parametrize("name", SETTINGS)
def test_both_backends_give_the_same_float32_numbers(name):
    terms = {"fee": 0.001, "temperature": 0.002} | SETTINGS[name]
    arrays = windows(bars=96, dtype=torch.float32)
    found, wanted = (returns_and_gradients(by(backend), arrays, **terms) for backend in BACKENDS)
    assert all(x.dtype == torch.float32 for x in found)
    assert_close(found, wanted, 1e-6)
    one, two = (simulate(*arrays, backend=backend, **terms) for backend in BACKENDS)
    for field in ("held", "bought", "sold", "inventory"):
        np.testing.assert_allclose(getattr(one, field), getattr(two, field), rtol=0, atol=1e-12)
    assert torch.equal(one.present, two.present)


@pytest.mark.parametrize("backend", BACKENDS)
def test_orders_may_come_in_half_precision(backend):
    arrays = windows()
    coarse = [*arrays[:3], *(x.bfloat16() for x in arrays[3:])]
    found = returns_and_gradients(by(backend), coarse, fee=0.001, temperature=0.01)
    assert all(x.dtype == torch.bfloat16 for x in found)
    wanted = by("kernel")(*arrays[:3], *(x.double() for x in coarse[3:]), fee=0.001, temperature=0.01)
    assert torch.equal(found[0], wanted.bfloat16())


@pytest.mark.parametrize("name", SETTINGS)
def test_hand_derived_gradients_are_those_of_finite_differences(name):
    terms = {"fee": 0.001, "temperature": 0.01} | SETTINGS[name]
    if name == "binary":
        terms["fill_buffer"] = 0.0
    arrays = windows(bars=9, seed=3, holes=False)
    arrays[0][2, 4] = torch.nan
    arrays[3][1, 3] = torch.nan
    known = ~torch.isnan(arrays[3])

    def run(buy, *others):  # a missing order has no finite difference
        return by("kernel")(*arrays[:3], torch.where(known, buy, torch.nan), *others, **terms)

    orders = [torch.nan_to_num(x, nan=100.0).requires_grad_() for x in arrays[3:]]
    assert torch.autograd.gradcheck(run, orders, eps=1e-6, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_soft_fills_become_binary_as_they_cool(backend):
    arrays = windows(seed=4)
    terms = {"fee": 0.001, "can_short": True, "backend": backend}
    binary = simulate(*arrays, temperature=0.0, **terms)
    assert ((binary.bought == 0) & (binary.sold == 0) & binary.present).any() and (binary.bought > 0).any() and (binary.sold > 0).any()
    gaps = [float((simulate(*arrays, temperature=t, **terms).returns - binary.returns).abs().max()) for t in (1e-2, 1e-4, 1e-9)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
def test_binary_fills_worked_by_hand(backend):
    # Bar 1 buys all: 1/(100·1.01) units. Bar 2 sells half of them at 110 and, cash being 0 before it, buys nothing though 100 is touched.
    # Bar 3 touches neither. In bar 4 both fill: ½ of what is held at 120, and all the cash there was before.
    rows = [(100, 100, 100), (104, 105, 99), (108, 111, 99), (105, 109, 101), (100, 121, 89), (100, 100, 100)]
    orders = [(100, 110, 1, 1), (100, 110, 1, 0.5), (100, 110, 1, 1), (90, 120, 1, 0.5), (90, 120, 0, 0), (90, 120, 1, 1)]
    done = simulate(*flat_market(rows, orders), fee=0.01, temperature=0.0, fill_buffer=0.005, backend=backend)
    units = 1 / 101
    cash = units / 2 * 110 * 0.99
    last = cash / (90 * 1.01)
    after = units / 2 * 120 * 0.99 / 2
    held = units / 4 + last
    value = [units * 104, cash + units / 2 * 108, cash + units / 2 * 105, after + held * 100, after + held * 100]
    np.testing.assert_allclose(done.equity[0], value, rtol=1e-14)
    np.testing.assert_allclose(done.bought[0], [units, 0, 0, last, 0], rtol=1e-14)
    np.testing.assert_allclose(done.sold[0], [0, units / 2, 0, units / 4, 0], rtol=1e-14)
    np.testing.assert_allclose(done.inventory[0], [units, units / 2, units / 2, held, held], rtol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fill_needs_the_price_to_go_through_the_limit_by_the_buffer(backend):
    for low, fills in ((99.51, False), (99.5, True)):
        rows = [(100, 100, 100), (100, 100.4, low)]
        done = simulate(*flat_market(rows, [(100, 110, 1, 1)] * 2), fee=0.0, temperature=0.0, fill_buffer=0.005, backend=backend)
        assert bool(done.bought[0, 0] > 0) == fills


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_missing_bar_earns_nothing_and_the_next_earns_the_whole_move(backend):
    nan = np.nan
    rows = [(100, 100, 100), (100, 100, 99), (nan, nan, nan), (90, 90, 90), (99, 99, 99)]
    orders = [(99.5, 200, 1, 0), (50, 60, 1, 1), (nan, nan, nan, nan), (50, 200, 0, 0), (50, 200, 0, 0)]
    done = simulate(*flat_market(rows, orders), fee=0.0, temperature=0.0, backend=backend)
    np.testing.assert_allclose(done.returns[0], [100 / 99.5 - 1, 0, -0.1, 0.1], rtol=1e-13)
    assert done.present[0].tolist() == [True, False, True, True]


@pytest.mark.parametrize("backend", BACKENDS)
def test_financing_is_charged_on_exposure_beyond_equity_for_the_hours_passed(backend):
    nan = np.nan
    rows = [(100, 100, 100), (100, 100, 99), (nan, nan, nan), (100, 100, 100)]
    orders = [(100, 200, 1, 0), (50, 200, 0, 0), (50, 200, 0, 0), (50, 200, 0, 0)]
    hours = torch.tensor([[1.0, 1.0, 24.0, 2.0]])
    terms = {"leverage": 3.0, "margin_rate": 0.0876, "hours": hours, "temperature": 0.0, "backend": backend}
    done = simulate(*flat_market(rows, orders), fee=0.0, **terms)
    # 3 units of money in a position of equity 1: 2 borrowed, 1e-5 an hour, 26 hours.
    np.testing.assert_allclose(done.returns[0], [0, 0, -2 * 26e-5], atol=1e-15)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_ruined_account_stops_and_its_last_return_says_how_far_it_fell(backend):
    rows = [(100, 100, 100), (100, 101, 100), (300, 300, 290), (50, 50, 50), (60, 60, 60)]
    orders = [(50, 100, 0, 1)] + [(1000, 50, 1, 1)] * 4
    arrays = flat_market(rows, orders)
    done = simulate(*arrays, fee=0.0, fill_buffer=0.0, can_short=True, temperature=0.0, backend=backend)
    # 1/100 short at 100; in the bar that ends at 300 the buy limit is touched, but 2 of cash buy 2/1000 at 1000.
    assert done.returns[0, 1] < -1
    assert done.returns[0, 2:].tolist() == [0, 0] and done.bought[0, 2:].tolist() == [0, 0]
    arrays[6].requires_grad_()
    (slope,) = torch.autograd.grad(
        simulate(*arrays, fee=0.0, fill_buffer=0.0, can_short=True, temperature=0.0, backend=backend).returns.sum(), arrays[6]
    )
    assert slope[0, 0] < 0 and (slope[0, 2:] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lag", [1, 2, 3])
@pytest.mark.parametrize("name", ["long only", "everything"])
def test_nothing_depends_on_a_later_bar_and_no_size_on_its_own_bars_close(name, backend, lag):
    arrays = windows(n=20, seed=6, holes=False)
    terms = {"fee": 0.001} | SETTINGS[name] | {"lag": lag, "backend": backend}
    t = 20
    for temperature in (0.0, 0.003):
        base = simulate(*arrays, temperature=temperature, **terms)
        later = [x.clone() for x in arrays]
        for x in later[:3]:
            x[:, t + 1 :] *= 1.07
        for x in later[3:]:
            x[:, t + 1 - lag :] *= 0.9
        moved = simulate(*later, temperature=temperature, **terms)
        assert torch.equal(moved.returns[:, : t - lag + 1], base.returns[:, : t - lag + 1])
        assert not torch.equal(moved.returns, base.returns)
    base = simulate(*arrays, temperature=0.0, **terms)
    closes = arrays[0].clone()
    closes[:, t] *= 1.05
    moved = simulate(closes, *arrays[1:], temperature=0.0, **terms)
    k = t - lag
    assert (base.bought[:, k] + base.sold[:, k]).sum() > 0
    assert torch.equal(moved.bought[:, : k + 1], base.bought[:, : k + 1]) and torch.equal(moved.sold[:, : k + 1], base.sold[:, : k + 1])
    valued = name != "long only"  # without leverage or shorts, size is a share of cash and units, whatever they are worth
    assert torch.equal(moved.bought[:, k + 1 :], base.bought[:, k + 1 :]) != valued


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_last_orders_meet_no_bar_and_get_no_gradient(backend):
    for gradient in returns_and_gradients(by(backend), windows(holes=False), fee=0.001, temperature=0.005, lag=3)[1:]:
        assert (gradient[:, -3:] == 0).all() and (gradient[:, 1:-4] != 0).any(dim=0).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), temperature=st.sampled_from([0.0, 1e-3, 0.05]), full=st.booleans())
def test_without_leverage_no_cash_is_borrowed_and_positions_keep_to_the_allowed_sides(seed, temperature, full):
    arrays = windows(n=6, bars=30, seed=seed)
    if full:
        arrays[5:] = [torch.ones_like(x) for x in arrays[5:]]
    can_short = torch.tensor([False, True] * 3)
    can_long = torch.tensor([True, True, True, False, True, False])
    terms = {"fee": 0.001, "can_short": can_short, "can_long": can_long, "temperature": temperature}
    done = simulate(*arrays, **terms)
    here = ~torch.isnan(torch.stack(arrays[:3])).any(dim=0)
    known = pd.DataFrame(torch.where(here, arrays[0], torch.nan).numpy().T).ffill().to_numpy().T[:, 1:]
    cash = done.equity - done.inventory * torch.tensor(known)
    assert (cash >= -1e-12).all()
    assert (done.inventory[~can_short] >= 0).all()
    assert (done.inventory[~can_long] <= 1e-15).all()
    assert torch.isfinite(done.returns).all()


def selector_market(bars, seed):
    """A market whose open passes no limit, with orders around the close before it."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, bars)))
    open_ = np.concatenate([close[:1], close[:-1]])
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0, 0.004, bars)))
    low = np.minimum(open_, close) * (1 - np.abs(rng.normal(0, 0.004, bars)))
    return open_, high, low, close, close * (1 - rng.uniform(0.02, 0.03, bars)), close * (1 + rng.uniform(0.02, 0.03, bars))


@pytest.mark.parametrize("lag", [1, 2])
@pytest.mark.parametrize("fee", [0.0, 0.0015])
@pytest.mark.parametrize("seed", range(3))
def test_binary_equity_is_the_selectors_bar_by_bar(seed, fee, lag):
    """One coin, one slot, no spread, taker = maker, no smallest order: docs/fills.md then says what F.5 says, if three things hold.

    The open passes no limit (R3 would fill there, better). Exits are whole (R5 sells all of a position, F.5 γ of it), so γ is 0 or 1.
    Nothing is bought while a position is held (R7 has no free slot, F.5 spends what cash is left), so β is 0 then; while flat it is
    anything. The forecast is so high that every order qualifies, since F.5 ranks nothing.
    """
    bars = 300
    rng = np.random.default_rng(seed + 100)
    open_, high, low, close, buy, sell = selector_market(bars, seed)
    width = 0.012 if lag == 1 else 0.0  # limits of the bar before, or so wide that no open of two bars later reaches them
    buy, sell = buy * (1 + width), sell * (1 - width)
    reach = 0.0 if lag == 1 else 0.03
    buy, sell = buy * (1 - reach), sell * (1 + reach)
    high, low = high * (1 + rng.uniform(0, 2 * reach, bars)), low * (1 - rng.uniform(0, 2 * reach, bars))
    passed = (open_[lag:] <= buy[:-lag] * 0.9995) | (open_[lag:] >= sell[:-lag] * 1.0005)
    assert not passed.any()
    beta, gamma = rng.uniform(0.1, 1.0, bars), (rng.random(bars) < 0.7).astype(float)

    times = np.datetime64("2024-01-01", "ns") + np.arange(bars) * np.timedelta64(1, "h")
    bps = {"maker_fee_bps": fee * 1e4, "taker_fee_bps": fee * 1e4, "half_spread_bps": 0.0, "min_notional": 0.0}
    columns = [x[:, None] for x in (open_, high, low, close, np.ones(bars))]
    yes = np.ones((bars, 1), bool)
    panel = Panel(times, ("BTCUSD",), *columns, yes, ~yes, make_assets(["BTCUSD"], {"BTCUSD": bps}))
    forecast = (close * 1.5, close * 0.9, close * 1.2)
    table = encode([profile_defaults("realistic") | {"min_edge": -1.0, "lag": lag, "slippage": 0.0}], "realistic")

    def select():
        orders = np.stack([x[:, None] for x in (buy, sell, beta, gamma, *forecast)])
        return evaluate(SelectorInputs(panel, orders), table, profile="realistic", equity=True, fills=True)

    done = select()
    hold = np.zeros(bars, bool)
    for time, side in zip(done.fills["timestamp"].dt.tz_localize(None), done.fills["side"], strict=True):
        hold[int(np.searchsorted(times, time.to_datetime64())) + 1 :] = side == "buy"
    beta[:-lag] = np.where(hold[lag:], 0.0, beta[:-lag])
    again = select()
    assert len(again.fills) > 20
    np.testing.assert_array_equal(again.equity[0], done.equity[0])
    for backend in BACKENDS:
        arrays = [torch.from_numpy(x)[None] for x in (close, high, low, buy, sell, beta, gamma)]
        ours = simulate(*arrays, fee=fee, temperature=0.0, fill_buffer=0.0005, lag=lag, backend=backend)
        np.testing.assert_allclose(ours.equity[0], again.equity[0].to_numpy()[lag:] / 10_000.0, rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lag": 0}, "lag: 0; give a whole number of at least 1"),
        ({"lag": 1.5}, "lag: 1.5"),
        ({"lag": 40}, "no bar to trade at lag 40"),
        ({"fee": float("nan")}, "fee: nan in window 0; give every symbol's own fee"),
        ({"fee": torch.tensor([0.1, 0.1])}, r"fee: shape \(2,\)"),
        ({"temperature": -1.0}, "temperature: -1"),
        ({"fill_buffer": 5.0}, "fill_buffer: 5"),
        ({"leverage": -1.0}, "leverage: give"),
        ({"backend": "gpu"}, "backend: 'gpu' is unknown"),
        ({"mask": torch.ones(5, 39, dtype=torch.bool)}, r"mask: shape \(5, 39\)"),
    ],
)
def test_what_cannot_be_simulated_is_said(backend, change, message):
    terms = {"fee": 0.001, "temperature": 0.01, "backend": backend} | change
    with pytest.raises(TrainableError, match=message):
        simulate(*windows(), **terms)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_amount_in_percent_is_an_error_and_says_where(backend):
    arrays = windows()
    arrays[5][2, 7] = 50.0
    with pytest.raises(TrainableError, match=r"amounts: window 2, bar 7: buy_amount 50, .* divide percentages by 100"):
        simulate(*arrays, fee=0.001, temperature=0.01, backend=backend)


def test_a_fee_has_no_default():
    with pytest.raises(TypeError, match="fee"):
        simulate(*windows(), temperature=0.01)


def test_temperature_cools_geometrically_to_one_that_fills_only_what_is_touched():
    found = [temperature_at(e, 5, 0.05, 0.0005) for e in range(5)]
    np.testing.assert_allclose(found, 0.05 * 0.1 ** (np.arange(5) / 2), rtol=1e-12)
    assert temperature_at(1.5, 5, 0.05, 0.0005) == pytest.approx(np.sqrt(found[1] * found[2]))
    assert temperature_at(9, 5, 0.05, 0.0005) == temperature_at(0, 1, 0.05, 0.0005) == 0.0005
    for start, end in ((0.05, 0.006), (0.001, 0.002), (0.05, 0.0)):
        with pytest.raises(TrainableError, match="prices the market never touched"):
            temperature_at(0, 5, start, end)

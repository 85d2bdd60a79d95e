"""Decoding in torch, against the numpy decode (SPEC F.4)."""

import numpy as np
import pytest
import torch

from trainables.contract import TrainableError
from trainables.forecast import empirical
from trainables.market import sample_panel
from trainables.policy import decode
from trainables.policy.decode_torch import decode_logits

torch.set_num_threads(1)


def tensors(*values):
    return [torch.tensor([[value]], dtype=torch.float64) for value in values]


def four(*values):
    return torch.tensor([[values]], dtype=torch.float64)


def both_decodes(logits, dtype):
    """The same random market decoded by numpy (4, T, A) and by torch, one window per symbol."""
    panel = sample_panel(bars=24 * 12)
    forecasts = empirical(panel)
    given = logits * np.ones((1, *panel.close.shape))
    want = decode(panel, forecasts, given)
    on = lambda x: torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 0))).to(dtype)  # noqa: E731
    got = decode_logits(on(np.moveaxis(given, 0, 1)), on(panel.close), on(forecasts.p50("low")), on(forecasts.p50("high")))
    return [x.numpy().T for x in got], [want.buy_price, want.sell_price, want.buy_amount, want.sell_amount]


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_torch_and_numpy_decode_random_logits_alike_and_miss_the_same_cells(dtype, rtol):
    shape = sample_panel(bars=24 * 12).close.shape
    logits = np.random.default_rng(0).normal(0, 4, (4, *shape))
    logits[0, 100] = np.nan
    logits[1, 101], logits[2, 102] = np.inf, -np.inf
    got, want = both_decodes(logits, dtype)
    assert np.isfinite(want[0]).sum() > 500 and np.isnan(want[0][100]).all()
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol)


def test_offset_mode_puts_limits_at_most_kappa_from_the_close_and_needs_no_forecast():
    (close,) = tensors(100.0)
    ln3 = float(np.log(3.0))
    buy, sell, buying, selling = decode_logits(four(ln3, -ln3, 0.0, ln3), close, mode="offset", offset=0.01)
    assert [x.item() for x in (buy, sell, buying, selling)] == pytest.approx([99.25, 100.25, 0.5, 0.75], rel=1e-14)
    buy, sell, _, _ = decode_logits(four(-50.0, -50.0, 0.0, 0.0), close, mode="offset")
    assert (buy.item(), sell.item()) == pytest.approx((100.0, 100.03), rel=1e-12), "3 bps of the close keep the limits apart"
    buy, sell, _, _ = decode_logits(four(50.0, 50.0, 0.0, 0.0), close, mode="offset")
    assert (buy.item(), sell.item()) == pytest.approx((99.97, 100.03), rel=1e-12), "κ is 3 bps by default"


@pytest.mark.parametrize("mode", ["midpoint", "offset"])
def test_gradients_of_every_order_are_those_of_the_formula(mode):
    close, low, high = tensors(100.0, 97.0, 104.0)
    for logits in ((0.3, -0.4, 1.0, -2.0), (4.0, -40.0, 0.0, 0.0)):  # in the second the sell price is pushed up by the buy price
        given = four(*logits).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: decode_logits(x, close, low, high, mode=mode, offset=0.02), given)


def test_a_missing_cell_is_nan_in_all_four_and_sends_back_no_gradient():
    close, low, high = (torch.full((1, 4), x) for x in (100.0, 96.0, 108.0))
    logits = torch.zeros(1, 4, 4)
    close[0, 0], low[0, 1], logits[0, 2, 3] = torch.nan, torch.nan, torch.nan
    logits.requires_grad_()
    orders = decode_logits(logits, close, low, high)
    for order in orders:
        assert order.isnan().tolist() == [[True, True, True, False]]
    torch.stack([x.nan_to_num() for x in orders]).sum().backward()
    assert (logits.grad[0, :3] == 0).all() and (logits.grad[0, 3] != 0).all()


def test_further_outputs_are_left_alone_and_half_precision_logits_give_prices_in_full():
    close, low, high = (torch.full((2, 3), x) for x in (60_000.0, 59_000.0, 61_000.0))
    logits = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    orders = decode_logits(logits, close, low, high)
    assert orders.buy_price.dtype == torch.float32
    for ours, theirs in zip(orders, decode_logits(logits[..., :4].float(), close, low, high), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mode": "midpiont"}, "decode: mode 'midpiont' is unknown; did you mean 'midpoint'?"),
        ({"mode": "offset", "offset": 1.0}, "decode: offset 1.0 is not allowed"),
        ({"low": None}, "decode: the predicted low is missing; midpoint mode needs it"),
        ({"high": torch.ones(2, 4)}, r"decode: the predicted high is of shape \(2, 4\)"),
        ({"logits": torch.zeros(2, 3, 3)}, r"decode: logits \(2, 3, 3\) for closes \(2, 3\)"),
        ({"logits": torch.zeros(2, 4, 4)}, r"decode: logits \(2, 4, 4\) for closes \(2, 3\)"),
    ],
)
def test_what_cannot_be_decoded_is_named(change, says):
    given = {"logits": torch.zeros(2, 3, 4), "close": torch.ones(2, 3), "low": torch.ones(2, 3), "high": torch.ones(2, 3)}
    with pytest.raises(TrainableError, match=says):
        decode_logits(**{**given, **change})


def test_forecasts_on_the_wrong_side_do_not_move_a_limit_through_the_close():
    close, low, high = tensors(100.0, 103.0, 99.0)
    buy, sell, _, _ = decode_logits(four(0.0, 0.0, 0.0, 0.0), close, low, high)
    assert (buy.item(), sell.item()) == pytest.approx((100.0, 100.03), rel=1e-14)

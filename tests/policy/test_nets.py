"""The policy's networks: what they see, what they start from, and that nothing about them is left to chance (SPEC F.1-F.3)."""

import json
import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables.contract import TrainableError
from trainables.policy.attention import Attention, rms, rotate, rotations, sight, sinusoids
from trainables.policy.causality import future_leak, woken
from trainables.policy.dropout import Dropout, generator
from trainables.policy.net_spec import ARCHITECTURES, MLP_BARS, NetSpec
from trainables.policy.nets import make_net

torch.set_num_threads(1)

F = 5
SMALL = {"n_features": F, "dim": 32, "layers": 2, "heads": 4, "context": 40}
VARIANTS = [
    {"arch": "nano"},
    {"arch": "nano", "window": 4},
    {"arch": "nano", "memory_tokens": 3},
    {"arch": "nano", "memory_tokens": 3, "window": 4, "kv_heads": 1, "activation": "gelu"},
    {"arch": "classic"},
    {"arch": "classic", "memory_tokens": 2, "window": 5},
    {"arch": "gru"},
    {"arch": "mlp"},
]
NAMES = ["-".join(str(v) for v in variant.values()) for variant in VARIANTS]


def spec(arch="nano", **changes):
    return NetSpec(**{**SMALL, "arch": arch, **changes})


def awake(arch="nano", **changes):
    """A small net whose outputs depend on all its weights, as after some training."""
    return woken(make_net(spec(arch, **changes), 0))


def features(batch=2, length=24, seed=0):
    return torch.randn(batch, length, F, generator=generator((seed,)))


def reached(net, t, length=24):
    """The bars that the answer at bar t has a gradient from."""
    x = features(length=length).requires_grad_()
    (slope,) = torch.autograd.grad(net(x)[:, t].sum(), x)
    return (slope != 0).any(2).any(0).nonzero().flatten().tolist()


# --- no output sees a later bar -------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_no_answer_depends_on_a_later_bar(variant):
    assert future_leak(make_net(spec(**variant), 0), F) is None


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_answers_up_to_a_bar_are_the_same_bit_for_bit_whatever_follows(variant):
    net, x = awake(**variant), features(length=40)
    with torch.no_grad():
        before = net(x)
        for t in (0, 7, 31, 38):
            other = x.clone()
            other[:, t + 1 :] = 30.0 * features(length=40, seed=t + 1)[:, t + 1 :]
            after = net(other)
            assert torch.equal(after[:, : t + 1], before[:, : t + 1])
            assert not torch.equal(after[:, t + 1 :], before[:, t + 1 :])


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_no_answer_depends_on_a_later_bar_in_training_with_dropout(variant):
    net = awake(**variant, dropout=0.2).train()
    assert future_leak(lambda x: net(x, (3, 4)), F, length=12) is None


class Bidirectional(nn.Module):
    """What the published results were trained with: torch's encoder without a mask."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed = nn.Linear(F, 16)
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
            self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.embed(x)))


def test_a_bidirectional_encoder_is_caught_at_its_first_bar():
    assert future_leak(Bidirectional().eval(), F, length=10) == (0, 1)


def test_a_leak_behind_a_fresh_nets_zero_weights_is_caught():
    net = make_net(spec("nano", window=24), 0)
    net.body.seen.fill_(True)
    assert torch.equal(net(features()), torch.zeros(2, 24, 4))
    assert future_leak(net, F) == (0, 1)
    memory = make_net(spec("nano", memory_tokens=2, window=24), 0)
    memory.body.seen[:2] = True  # memory reads the bars, and the second layer's bars read the memory
    assert future_leak(memory, F) == (0, 1)


def test_a_leak_of_one_late_pair_is_named_exactly():
    def peeks(x):
        out = x.cumsum(1)
        return torch.cat((out[:, :5], out[:, 5:6] + 1e-3 * x[:, 8:9], out[:, 6:]), 1)

    assert future_leak(peeks, F, length=10) == (5, 8)


def test_a_leak_that_has_no_gradient_and_one_too_small_to_round_are_both_caught():
    assert future_leak(lambda x: x + x.argsort(1).float().detach(), F, length=8) == (0, 1)
    assert future_leak(lambda x: x.cumsum(1) + 1e-12 * x.sum(1, keepdim=True), F, length=8) == (0, 1)


def test_normalising_by_the_whole_window_is_caught():
    assert future_leak(lambda x: (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True), F, length=8) == (0, 1)


def test_nothing_is_called_causal_that_cannot_be_judged():
    with pytest.raises(TrainableError, match="no output depends on its own bar"):
        future_leak(lambda x: torch.zeros(*x.shape[:2], 4), F)
    with pytest.raises(TrainableError, match="same features got two answers"):
        future_leak(lambda x: x + torch.rand(x.shape, generator=draw), F)
    with pytest.raises(TrainableError, match="not finite"):
        future_leak(lambda x: x / 0, F)
    with pytest.raises(TrainableError, match=r"answers of shape \(2, 4\)"):
        future_leak(lambda x: x[:, -1, :4], F)
    with pytest.raises(TrainableError, match="length 1 has no future"):
        future_leak(lambda x: x, F, length=1)


draw = generator((9,))


def test_examining_a_net_leaves_it_and_the_global_generator_alone():
    net = make_net(spec(), 0)
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    future_leak(net, F, length=6)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state) and not net.training and all(p.grad is None for p in net.parameters())


# --- what each bar does see -----------------------------------------------------------------------------------------


def test_without_a_window_the_last_answer_sees_every_bar():
    for arch in ("nano", "classic", "gru"):
        assert reached(awake(arch), 20) == list(range(21)), arch


@pytest.mark.parametrize("arch", ["nano", "classic"])
@pytest.mark.parametrize("memory", [0, 3])
def test_a_sliding_window_limits_what_is_seen_layer_by_layer(arch, memory):
    assert reached(awake(arch, layers=1, window=4, memory_tokens=memory), 20) == [17, 18, 19, 20]
    assert reached(awake(arch, layers=2, window=4, memory_tokens=memory), 20) == list(range(14, 21))
    assert reached(awake(arch, layers=1, window=1, memory_tokens=memory), 20) == [20]


def test_a_window_as_long_as_the_context_is_no_window():
    x = features()
    assert torch.allclose(awake(window=24)(x), awake()(x), rtol=1e-5, atol=1e-6)


def test_an_mlp_sees_the_last_bars_only_and_zeros_before_the_first():
    assert reached(awake("mlp"), 20) == list(range(21 - MLP_BARS, 21))
    assert reached(awake("mlp", window=3), 20) == [18, 19, 20]
    net, x = awake("mlp", window=3), features()
    x[:, :2] = 0.0
    assert torch.allclose(net(x)[:, 2:], net(x[:, 2:]), rtol=1e-5, atol=1e-6)


def test_sight_of_memory_and_window_drawn_by_hand():
    picture = ["x....", "xx...", "xxx..", "xxxx.", "xx.xx"]  # two of memory, three bars, window 2
    assert sight(3, 2, 2).tolist() == [[c == "x" for c in row] for row in picture]
    assert torch.equal(sight(4, 3, 0), torch.ones(7, 7, dtype=torch.bool).tril())


@pytest.mark.parametrize("arch", ["nano", "classic"])
def test_every_bar_reads_the_memory_and_answers_are_of_bars_only(arch):
    for window in (0, 2):
        net, x = awake(arch, memory_tokens=3, window=window), features()
        out = net(x)
        assert out.shape == (2, 24, 4)
        for t in (0, 10, 23):
            (slope,) = torch.autograd.grad(out[:, t].sum(), net.body.memory, retain_graph=True)
            assert (slope != 0).any(1).all(), f"bar {t} does not read all tokens"
    with_memory = make_net(spec(arch, memory_tokens=3), 0)
    plain = make_net(spec(arch), 0)
    assert sum(p.numel() for p in with_memory.parameters()) - sum(p.numel() for p in plain.parameters()) == 3 * 32


# --- the parts ------------------------------------------------------------------------------------------------------


def test_rotary_products_depend_on_the_distance_alone():
    turns = rotations(40, 16)
    q, k = (torch.randn(16, generator=generator((i,))).expand(1, 40, 1, 16) for i in range(2))
    dots = rotate(q, turns)[0, :, 0] @ rotate(k, turns)[0, :, 0].T
    for distance in (0, 1, 7):
        along = dots.diagonal(-distance)
        assert torch.allclose(along, along[0].expand_as(along), atol=1e-4)
    assert not torch.allclose(dots.diagonal(-1)[0], dots.diagonal(-7)[0], atol=1e-2)


def test_rotary_turns_interleaved_pairs_by_the_published_angles():
    x = torch.tensor([1.0, 5.0, 0.0, 2.0]).expand(1, 4, 1, 4)
    fast, slow = 3.0, 3.0 / 100.0  # at position 3; 10,000^(−2/4) = 1/100
    want = [math.cos(fast) - 5 * math.sin(fast), math.sin(fast) + 5 * math.cos(fast), -2 * math.sin(slow), 2 * math.cos(slow)]
    assert rotate(x.contiguous(), rotations(4, 4))[0, 3, 0].tolist() == pytest.approx(want, rel=1e-5)


def test_nano_answers_do_not_depend_on_where_in_the_context_a_window_of_history_lies():
    net = awake(layers=1, window=4)
    x = features(length=30)
    assert torch.allclose(net(x)[:, 13:], net(x[:, 10:])[:, 3:], rtol=1e-4, atol=1e-5)


def test_sinusoidal_positions_are_the_published_ones():
    table = sinusoids(10, 6)
    assert table[7, 0].item() == pytest.approx(math.sin(7.0), abs=1e-6)
    assert table[7, 3].item() == pytest.approx(math.cos(7.0 / 10_000 ** (2 / 6)), abs=1e-6)
    assert sinusoids(10, 5).shape == (10, 5)


def by_hand(attention, x, turns, kv_heads, seen):
    """Attention head by head with repeated keys and values."""
    B, L, _ = x.shape
    width = attention.width
    q, k, v = (p(x).reshape(B, L, -1, width) for p in (attention.q, attention.k, attention.v))
    if turns is not None:
        q, k = rms(rotate(q, turns)), rms(rotate(k, turns))
    heads = q.shape[2]
    k, v = (y.repeat_interleave(heads // kv_heads, 2) for y in (k, v))
    mixed = []
    for h in range(heads):
        scores = (q[:, :, h] @ k[:, :, h].transpose(1, 2) / math.sqrt(width)).masked_fill(~seen, -torch.inf)
        mixed.append(scores.softmax(-1) @ v[:, :, h])
    return attention.out(torch.cat(mixed, -1))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("window", [0, 3])
def test_grouped_attention_is_that_of_repeated_keys_and_values(kv_heads, window):
    net = awake(kv_heads=kv_heads, layers=1)
    attention = net.body.blocks[0].attention
    x, turns = torch.randn(2, 12, 32, generator=generator((1,))), rotations(12, 8)
    seen = sight(12, 0, window)
    for given in (turns, None):
        got = attention(x, seen if window else None, given)
        assert torch.allclose(got, by_hand(attention, x, given, kv_heads, seen), rtol=1e-4, atol=1e-5)


def test_queries_and_keys_are_of_unit_size_after_the_turn():
    attention = awake(layers=1).body.blocks[0].attention
    x, turns = torch.randn(1, 6, 32, generator=generator((1,))), rotations(6, 8)
    with torch.no_grad():
        plain = attention(x, None, turns)
        attention.q.weight.mul_(1000.0)
        attention.k.weight.mul_(1000.0)
        assert torch.allclose(attention(x, None, turns), plain, rtol=1e-2, atol=1e-3)


def test_rms_norm_is_unweighted():
    x = torch.tensor([3.0, 4.0])
    assert rms(x).tolist() == pytest.approx([3 / math.sqrt(12.5 + 1e-5), 4 / math.sqrt(12.5 + 1e-5)], rel=1e-6)


def test_logits_stay_within_the_softcap():
    for arch in ("nano", "gru", "mlp"):
        net = awake(arch, softcap=2.5)
        with torch.no_grad():
            net.head.weight.mul_(50.0)
            out, raw = net(features()), net.head(net.body(features(), Dropout(0.0, None)))
        assert raw.abs().max() > 10.0 and out.abs().max() <= 2.5
        assert torch.allclose(out, 2.5 * torch.tanh(raw / 2.5))
    uncapped = awake("nano", softcap=0.0)
    with torch.no_grad():
        uncapped.head.weight.mul_(50.0)
        assert uncapped(features()).abs().max() > 12.0


@pytest.mark.parametrize("memory", [0, 3])
def test_the_nano_net_is_the_published_formula_written_out(memory):
    net, x = awake(memory_tokens=memory, window=6), features()
    body, seen = net.body, sight(24, memory, 6)
    norm = lambda z: z / (z.square().mean(-1, keepdim=True) + 1e-5).sqrt()  # noqa: E731
    y = x @ body.embed.weight.T
    if memory:
        y = torch.cat((body.memory.expand(2, -1, -1), y), 1)
    y = norm(y)
    for block in body.blocks:
        y = y + by_hand(block.attention, norm(y), rotations(memory + 24, 8), 2, seen)
        y = y + norm(y).matmul(block.feed.up.weight.T).clamp_min(0) ** 2 @ block.feed.down.weight.T
    want = 12.0 * torch.tanh(norm(y)[:, memory:] @ net.head.weight.T / 12.0)
    assert torch.allclose(net(x), want, rtol=1e-4, atol=1e-5)


def test_the_classic_net_is_torchs_own_encoder_under_a_causal_mask():
    net = awake("classic")
    x = features()
    with torch.random.fork_rng(), torch.no_grad():
        y = net.body.embed(x) + sinusoids(24, 32)
        for block in net.body.blocks:
            layer = nn.TransformerEncoderLayer(32, 4, 128, dropout=0.0, activation="gelu", batch_first=True)
            a = block.attention
            layer.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in (a.q, a.k, a.v)]))
            layer.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in (a.q, a.k, a.v)]))
            pairs = {layer.self_attn.out_proj: a.out, layer.linear1: block.up, layer.linear2: block.down}
            pairs |= {layer.norm1: block.norm_1, layer.norm2: block.norm_2}
            for theirs, ours in pairs.items():
                theirs.weight.copy_(ours.weight)
                theirs.bias.copy_(ours.bias)
            y = layer(y, src_mask=nn.Transformer.generate_square_subsequent_mask(24), is_causal=True)
        want = net.head(functional.layer_norm(y, (32,), net.body.norm.weight, net.body.norm.bias))
        assert torch.allclose(net(x), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_a_window_is_answered_alike_in_any_batch(variant):
    net, x = awake(**variant), features(batch=33)
    with torch.no_grad():
        together = net(x)
        for rows in ([0], [32], [5, 31, 2]):
            assert torch.allclose(net(x[rows]), together[rows], rtol=1e-5, atol=1e-6)


# --- what they start from -------------------------------------------------------------------------------------------


def n_parameters(arch, **changes):
    return sum(p.numel() for p in make_net(NetSpec(arch, **{"n_features": 20, **changes}), 0).parameters())


def test_default_sizes_have_the_parameters_one_counts_by_hand():
    d, feed = 256, 2 * 256 * 1024
    assert n_parameters("nano") == 20 * d + 4 * (2 * d * d + 2 * d * d // 2 + feed) + 4 * d == 2_889_728
    assert n_parameters("nano", kv_heads=1) == 20 * d + 4 * (2 * d * d + 2 * d * 32 + feed) + 4 * d
    encoder_layer = 4 * (d * d + d) + feed + 1024 + d + 4 * d
    assert n_parameters("classic") == 20 * d + d + 4 * encoder_layer + 2 * d + 4 * d + 4 == 3_165_956
    assert n_parameters("gru") == 3 * d * (20 + d + 2) + 3 * 3 * d * (2 * d + 2) + 4 * d == 1_398_784
    assert n_parameters("mlp") == MLP_BARS * 20 * d + 4 * feed + 4 * d == 2_139_136


def test_nano_starts_from_the_published_variances_and_zeros():
    net = make_net(NetSpec("nano", 64), 0)
    for name, p in net.named_parameters():
        outputs, inputs = p.shape
        if name.endswith(("out.weight", "down.weight")) or name == "head.weight":
            assert (p == 0).all(), name
        else:
            sd = min(1.0, math.sqrt(outputs / inputs)) / math.sqrt(inputs)
            assert p.std().item() == pytest.approx(sd, rel=0.03), name
            assert p.mean().item() == pytest.approx(0.0, abs=5 * sd / math.sqrt(p.numel())), name
            assert p.abs().max() > 3 * sd, f"{name} is not normal"


def test_a_fresh_nets_first_gradient_is_the_heads_alone_and_all_learn_from_the_third_step():
    for arch in ("nano", "mlp"):
        net = make_net(spec(arch, dropout=0.0), 0)
        optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
        goal = features(seed=1)[..., :4]
        learning = []
        for _ in range(3):
            optimiser.zero_grad()
            (net(features()) - goal).square().mean().backward()
            learning.append({name for name, p in net.named_parameters() if bool((p.grad != 0).any())})
            optimiser.step()
        assert learning[0] == {"head.weight"}
        blocks_write = {name for name, _ in net.named_parameters() if name.endswith(("out.weight", "down.weight"))}
        assert learning[1] == {"head.weight", "body.embed.weight"} | blocks_write
        assert learning[2] == {name for name, _ in net.named_parameters()}


def test_classic_and_gru_start_from_torchs_own_bounds():
    net = make_net(NetSpec("classic", 20), 0)
    block = net.body.blocks[0]
    assert block.attention.q.weight.abs().max().item() == pytest.approx(math.sqrt(6 / (4 * 256)), rel=1e-3)
    assert block.up.weight.abs().max().item() == pytest.approx(1 / 16, rel=1e-3)
    assert block.up.bias.abs().max() > 0.05 and (block.attention.q.bias == 0).all() and (block.attention.out.bias == 0).all()
    assert net.head.weight.abs().max().item() == pytest.approx(1 / 16, rel=0.02)
    assert (block.norm_1.weight == 1).all() and (block.norm_1.bias == 0).all()
    gru = make_net(NetSpec("gru", 20), 0)
    assert gru.body.cells[1].weight_hh_l0.abs().max().item() == pytest.approx(1 / 16, rel=1e-3)
    assert torch.equal(gru(torch.randn(1, 8, 20, generator=generator((1,)))), torch.zeros(1, 8, 4))


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_weights_follow_from_the_seed_and_touch_no_global_generator(variant):
    state = torch.get_rng_state()
    first, again, other = (make_net(spec(**variant), seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[k], again[k]) for k in first)
    constant = ("norm", "out.weight", "down.weight", "head.weight", "q.bias", "k.bias", "v.bias", "out.bias")
    for name in first:
        assert first[name].isfinite().all()
        if not any(part in name for part in constant):
            assert not torch.equal(first[name], other[name]), name


# --- dropout --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_dropout_follows_from_seed_and_step_alone(variant):
    net, x = awake(**variant, dropout=0.3).train(), features()
    state = torch.get_rng_state()
    at_5 = net(x, (7, 5))
    net(x, (7, 6))
    torch.rand(3, generator=generator((0,)))
    assert torch.equal(net(x, (7, 5)), at_5)
    assert not torch.equal(net(x, (7, 6)), at_5) and not torch.equal(net(x, (8, 5)), at_5)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(net.eval()(x), at_5)
    assert torch.equal(net(x, (7, 5)), net(x)), "eval mode drops nothing, key or not"


def trained(net, start, steps, optimiser):
    for step in range(start, start + steps):
        optimiser.zero_grad()
        (net(features(seed=step), (7, step)) - 1.0).square().mean().backward()
        optimiser.step()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(arch):
    def fresh():
        net = make_net(spec(arch, dropout=0.2), 3).train()
        return net, torch.optim.AdamW(net.parameters(), lr=1e-2)

    whole, optimiser = fresh()
    trained(whole, 0, 6, optimiser)
    part, first = fresh()
    trained(part, 0, 3, first)
    saved = {k: v.clone() for k, v in part.state_dict().items()}
    resumed, second = fresh()
    resumed.load_state_dict(saved)
    second.load_state_dict(first.state_dict())
    trained(resumed, 3, 3, second)
    for name, p in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], p), name


def test_dropout_keeps_the_mean_drops_its_share_and_independently():
    x = torch.ones(200, 501)
    for rate in (0.1, 0.5):
        drop = Dropout(rate, (1, 2))
        y, z = drop(x), drop(x)
        n = x.numel()
        assert (y == 0).float().mean().item() == pytest.approx(rate, abs=5 * math.sqrt(rate / n))
        assert y.max().item() == pytest.approx(1 / (1 - rate), rel=1e-4)
        both = ((y == 0) & (z == 0)).float().mean().item()
        assert both == pytest.approx(rate * rate, abs=5 * rate / math.sqrt(n))
        pairs = ((y[:, 1:] == 0) & (y[:, :-1] == 0)).float().mean().item()
        assert pairs == pytest.approx(rate * rate, abs=5 * rate / math.sqrt(n))
    assert torch.equal(Dropout(0.0, (1,))(x), x) and torch.equal(Dropout(0.5, None)(x), x)


def test_training_with_dropout_and_no_key_is_refused():
    net = awake(dropout=0.1).train()
    with pytest.raises(TrainableError, match="training with dropout needs a key"):
        net(features())
    awake(dropout=0.0).train()(features())


# --- specs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_a_spec_survives_json(variant):
    whole = spec(**variant)
    assert NetSpec.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole


def test_defaults_are_resolved_so_that_equal_nets_have_equal_specs():
    assert NetSpec("nano", 20) == NetSpec("nano", 20, kv_heads=4, activation="relu2")
    assert NetSpec("classic", 20) == NetSpec("classic", 20, kv_heads=8, activation="gelu")
    assert NetSpec("mlp", 20) == NetSpec("mlp", 20, window=MLP_BARS)
    assert [NetSpec("nano", 20, dim=240, heads=n).kv_heads for n in (1, 2, 3, 4, 5, 6)] == [1, 1, 1, 2, 1, 3]
    assert NetSpec("mlp", 20, dim=30).dim == 30, "heads do not limit what has none"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arch": "nanno"}, "arch: 'nanno' is not allowed; did you mean 'nano'?"),
        ({"arch": "mamba"}, "arch: 'mamba' is not allowed; "),
        ({"dim": 30}, r"dim: 30 is not a multiple of heads \(4\)"),
        ({"dim": 12}, "dim: 12 over 4 heads is 3 each; give an even number"),
        ({"kv_heads": 3}, r"kv_heads: 3 does not divide heads \(4\)"),
        ({"kv_heads": 8}, r"kv_heads: 8 does not divide heads \(4\)"),
        ({"layers": 0}, "layers: 0 is not allowed; give a whole number of at least 1"),
        ({"layers": 2.0}, "layers: 2.0 is not allowed"),
        ({"layers": True}, "layers: True is not allowed"),
        ({"window": -1}, "window: -1 is not allowed; give a whole number of at least 0"),
        ({"dropout": 1.0}, "dropout: 1.0 is not allowed; give a number from 0 to below 1"),
        ({"dropout": math.nan}, "dropout: nan is not allowed"),
        ({"softcap": -1}, "softcap: -1 is not allowed; give a number of at least 0"),
        ({"activation": "relu"}, "activation: 'relu' is not allowed; did you mean 'relu2'?"),
        ({"arch": "gru", "window": 3}, "window: 3 is not allowed for gru"),
        ({"arch": "gru", "memory_tokens": 3}, "memory_tokens: 3 is not allowed for gru"),
        ({"arch": "mlp", "memory_tokens": 3}, "memory_tokens: 3 is not allowed for mlp"),
        ({"memory": 3}, "network: 'memory' is unknown; did you mean 'memory_tokens'?"),
    ],
)
def test_a_spec_that_cannot_be_built_says_why(change, says):
    with pytest.raises(TrainableError, match=says):
        NetSpec.from_dict({**SMALL, "arch": "nano", **change})


def test_a_spec_without_features_and_features_of_another_width_are_refused():
    with pytest.raises(TrainableError, match="network: 'n_features' is missing"):
        NetSpec.from_dict({"arch": "nano"})
    net = make_net(spec(), 0)
    for shape in ((2, 24, F + 1), (2, 41, F), (24, F), (2, 0, F)):
        with pytest.raises(TrainableError, match=r"give \(windows, 1 to 40 bars, 5 features\)"):
            net(torch.zeros(shape))


def test_neither_the_room_nor_a_spec_imports_torch():
    code = "import sys, trainables.policy, trainables.policy.net_spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_attention_draws_no_weights_of_its_own():
    state = torch.get_rng_state()
    Attention(32, 4, 2)
    assert torch.equal(torch.get_rng_state(), state)

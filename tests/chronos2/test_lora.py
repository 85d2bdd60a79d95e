import json
import os

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("chronos")

from tests.chronos2.tiny import tiny_model  # noqa: E402
from trainables.checkpoint import CheckpointError, drop_moments  # noqa: E402
from trainables.chronos2.forecast import forecast, spread_origins  # noqa: E402
from trainables.chronos2.lora import LoraRun, LoraSettings, shared_copy, weights_digest  # noqa: E402
from trainables.chronos2.tasks import make_tasks  # noqa: E402
from trainables.contract import TrainableError  # noqa: E402
from trainables.market.sample import sample_panel  # noqa: E402
from trainables.timeline import Window  # noqa: E402

QUICK = {"rank": 4, "dropout": 0.1, "learning_rate": 3e-3, "steps": 8, "context": 64, "horizon": 12, "batch_rows": 12, "weight_decay": 0.01}


@pytest.fixture(scope="module")
def tasks():
    return make_tasks(sample_panel(symbols=("BTCUSD", "ETHUSD"), bars=600), Window(0, 600), Window(0, 450), "returns")


@pytest.fixture(scope="module")
def base():
    return tiny_model()


def state(run):
    weights = {name: p.detach().numpy().copy() for name, p in run._weights.items()}
    moments = {
        f"{key} {name}": run._optimiser.state[p][key].numpy().copy() for name, p in run._weights.items() for key in run._optimiser.state[p]
    }
    return weights | moments


def equal(a, b):
    assert a.keys() == b.keys()
    return all(np.array_equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def uninterrupted(base, tasks):
    run = LoraRun(base, tasks, LoraSettings(**QUICK))
    return [run.advance(1) for _ in range(8)], state(run)


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_a_run_killed_at_any_step_ends_as_if_it_had_not_been(base, tasks, uninterrupted, tmp_path, cut):
    losses, final = uninterrupted
    run = LoraRun(base, tasks, LoraSettings(**QUICK))
    before = [run.advance(1) for _ in range(cut)]
    run.save(tmp_path)
    run.advance(1)  # lost
    resumed = LoraRun(tiny_model(), tasks, LoraSettings(**QUICK))
    resumed.load(tmp_path)
    assert resumed.step == cut
    after = [resumed.advance(1) for _ in range(8 - cut)]
    assert before + after == losses
    assert equal(state(resumed), final)
    assert np.isnan(resumed.advance(1)) and resumed.step == 8


@pytest.mark.parametrize("every", [2, 3])
def test_evaluations_and_other_runs_in_between_do_not_perturb_a_run(base, tasks, uninterrupted, tmp_path, every):
    _, final = uninterrupted
    run, other = LoraRun(base, tasks, LoraSettings(**QUICK)), LoraRun(base, tasks, LoraSettings(**QUICK | {"seed": 5}))
    origins = spread_origins(tasks, Window(450, 600), 12, 3)
    while run.step < 8:
        run.advance(every)
        forecast(run.model, tasks, origins, 12, (0.1, 0.5, 0.9), context=64)
        torch.rand(3)
        np.random.rand(3)
        other.advance(1)
        run.save(tmp_path)
    assert equal(state(run), final)
    assert not equal(state(other), final)


def test_runs_share_the_base_weights_and_leave_them_as_they_are(base, tasks):
    before = weights_digest(base)
    flags = [p.requires_grad for p in base.parameters()]
    runs = [LoraRun(base, tasks, LoraSettings(**QUICK | {"seed": seed, "targets": "wide"})) for seed in range(2)]
    for run in runs:
        run.advance(2)
    own = {p.data_ptr() for p in base.parameters()}
    for run in runs:
        shared = {p.data_ptr() for name, p in run.model.named_parameters() if "lora_" not in name}
        assert shared == own
    assert weights_digest(base) == before and [p.requires_grad for p in base.parameters()] == flags
    assert not any("lora" in name for name, _ in base.named_modules())
    assert {p.data_ptr() for p in shared_copy(base).parameters()} == own


def test_global_generators_are_left_alone(base, tasks):
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    run = LoraRun(base, tasks, LoraSettings(**QUICK))
    run.advance(1)
    forecast(run.model, tasks, spread_origins(tasks, Window(450, 600), 12, 2), 12, (0.5,), context=64)
    assert torch.equal(torch.get_rng_state(), torch_before) and np.array_equal(np.random.get_state()[1], numpy_before)


def test_training_learns(base, tasks):
    # The output layer too: attention alone has little to say in a random model.
    run = LoraRun(
        base, tasks, LoraSettings(**QUICK | {"targets": "wide", "rank": 16, "steps": 60, "learning_rate": 2e-2, "batch_rows": 64})
    )
    first = run.advance(10)
    run.advance(40)
    assert run.advance(10) < 0.85 * first


def test_targets_are_the_modules_they_name(base, tasks):
    adapted = {}
    for targets in ("qv", "qkvo", "wide"):
        run = LoraRun(base, tasks, LoraSettings(**QUICK | {"targets": targets, "rank": 8}))
        adapted[targets] = sum(p.numel() for p in run._weights.values())
        kinds = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in run._weights}
        assert kinds == set(targets.replace("wide", "qkvo")) | ({"wi", "wo", "output_layer"} if targets == "wide" else set())
    per_layer = 8 * (32 + 32)  # two attentions in each of two layers
    assert adapted == {"qv": 8 * per_layer, "qkvo": 16 * per_layer, "wide": 16 * per_layer + 4 * 8 * 96 + 8 * (64 + 336)}


def test_the_loss_does_not_depend_on_padding_of_the_horizon(base, tasks):
    alone = make_tasks(sample_panel(symbols=("BTCUSD",), bars=600), Window(0, 600), Window(0, 450))
    losses = {h: LoraRun(base, alone, LoraSettings(**QUICK | {"horizon": h, "batch_rows": 400})).advance(1) for h in (12, 16)}
    assert losses[12] == pytest.approx(losses[16], rel=0.15)  # the model's own would differ by a quarter


def test_learning_rates_follow_the_schedule():
    linear = LoraSettings(learning_rate=1.0, steps=10, warmup=0.2)
    assert [linear.learning_rate_at(s) for s in (0, 1, 2, 6, 9)] == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.125])
    cosine = LoraSettings(learning_rate=1.0, steps=10, schedule="cosine")
    assert [cosine.learning_rate_at(s) for s in (0, 5)] == pytest.approx([1.0, 0.5]) and 0 < cosine.learning_rate_at(9) < 0.03


def test_divergence_is_reported_and_not_raised(base, tasks, tmp_path):
    run = LoraRun(base, tasks, LoraSettings(**QUICK | {"learning_rate": 1e30}))
    assert np.isnan(run.advance(8)) and run.diverged
    assert 1 <= run.step < 8 and "diverged at step" in run.notes[-1]
    step = run.step
    assert np.isnan(run.advance(1)) and run.step == step
    run.save(tmp_path)
    again = LoraRun(base, tasks, run.settings)
    again.load(tmp_path)
    assert again.diverged and again.notes == run.notes


def test_out_of_memory_halves_the_batch_once_and_says_so(base, tasks, tmp_path):
    run = LoraRun(base, tasks, LoraSettings(**QUICK | {"batch_rows": 32}))
    most = [40]

    def full_above(module, args, kwargs):
        if len(kwargs["context"]) >= most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    run.model.base_model.model.register_forward_pre_hook(full_above, with_kwargs=True)
    run.advance(1)
    assert run.batch_rows == 32 and not run.notes
    most[0] = 32
    run.advance(1)
    assert run.batch_rows == 16 and run.step == 2 and "halved to 16" in run.notes[0]
    run.save(tmp_path)
    again = LoraRun(base, tasks, run.settings)
    again.load(tmp_path)
    assert again.batch_rows == 16
    most[0] = 1
    with pytest.raises(TrainableError, match="out of memory"):
        run.advance(1)


def test_a_damaged_checkpoint_is_an_error_that_names_it(base, tasks, tmp_path):
    run = LoraRun(base, tasks, LoraSettings(**QUICK))
    with pytest.raises(CheckpointError, match="there is none"):
        run.load(tmp_path)
    run.advance(1)
    run.save(tmp_path)
    [weights], [moments] = (list(tmp_path.glob(f"{part}-*.safetensors")) for part in ("weights", "moments"))
    manifest = tmp_path / "checkpoint.json"
    whole = {path: path.read_bytes() for path in (weights, moments, manifest)}

    def flipped(data):
        return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]

    for path, change, what in (
        (weights, lambda data: data[:-40], "weights-.* is damaged"),
        (weights, flipped, "weights-.* is damaged"),
        (weights, None, "weights-.* cannot be read"),
        (moments, flipped, "moments-.* is damaged"),
        (moments, None, "moments-.* cannot be read"),
        (manifest, lambda data: data[:-30], "cut off"),
        (manifest, lambda data: data.replace(b'"step": 1', b'"step": 2'), "checksum"),
        (manifest, lambda data: b"[]", "cut off"),
    ):
        path.unlink() if change is None else path.write_bytes(change(whole[path]))
        with pytest.raises(CheckpointError, match=f"(?s){tmp_path.name}.*{what}"):
            run.load(tmp_path)
        if path is manifest:
            with pytest.raises(CheckpointError, match=what):
                drop_moments(tmp_path)
            assert moments.exists()
        path.write_bytes(whole[path])
    run.load(tmp_path)


def test_without_its_moments_a_checkpoint_gives_its_weights_and_is_not_gone_on_from(base, tasks, uninterrupted, tmp_path):
    drop_moments(tmp_path)  # where there is no checkpoint it does nothing
    run = LoraRun(base, tasks, LoraSettings(**QUICK))
    run.advance(3)
    run.save(tmp_path)
    [weights] = tmp_path.glob("weights-*")
    before, stamp = weights.read_bytes(), weights.stat().st_mtime_ns
    for _ in range(2):
        drop_moments(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.json", weights.name}
    assert weights.read_bytes() == before and weights.stat().st_mtime_ns == stamp
    again = LoraRun(base, tasks, run.settings)
    with pytest.raises(CheckpointError, match="its moments were dropped when its trial had ended"):
        again.load(tmp_path)
    assert again.step == 0
    again.load(tmp_path, weights_only=True)
    assert again.step == 3 and all(np.array_equal(state(run)[name], values) for name, values in state(again).items())
    with pytest.raises(CheckpointError, match="without the optimiser's moments"):
        again.advance(1)


def test_moments_a_crash_left_behind_are_dropped_the_next_time(base, tasks, tmp_path, monkeypatch):
    run = LoraRun(base, tasks, LoraSettings(**QUICK))
    run.advance(1)
    run.save(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "unlink", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            drop_moments(tmp_path)
    assert len(list(tmp_path.glob("moments-*"))) == 1
    drop_moments(tmp_path)
    assert not list(tmp_path.glob("moments-*"))


def test_a_checkpoint_of_another_run_is_refused(base, tasks, tmp_path):
    run = LoraRun(base, tasks, LoraSettings(**QUICK))
    run.save(tmp_path)
    with pytest.raises(CheckpointError, match="settings"):
        LoraRun(base, tasks, LoraSettings(**QUICK | {"rank": 8})).load(tmp_path)
    with pytest.raises(CheckpointError, match="base"):
        LoraRun(tiny_model(seed=1), tasks, LoraSettings(**QUICK)).load(tmp_path)
    with pytest.raises(CheckpointError, match="tasks"):
        other = make_tasks(sample_panel(symbols=("BTCUSD", "ETHUSD"), bars=600), Window(0, 600), Window(0, 451), "returns")
        LoraRun(base, other, LoraSettings(**QUICK)).load(tmp_path)


@pytest.mark.parametrize("survived", [0, 1, 2])
def test_a_crash_while_saving_leaves_the_former_checkpoint(base, tasks, uninterrupted, tmp_path, monkeypatch, survived):
    run = LoraRun(base, tasks, LoraSettings(**QUICK))
    run.advance(2)
    run.save(tmp_path)
    run.advance(1)
    replaced, calls = os.replace, []

    def crash(*paths):
        if len(calls) == survived:
            raise KeyboardInterrupt
        calls.append(paths)
        replaced(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            run.save(tmp_path)
    again = LoraRun(base, tasks, LoraSettings(**QUICK))
    again.load(tmp_path)
    assert again.step == 2
    again.advance(6)
    assert equal(state(again), uninterrupted[1])
    again.save(tmp_path)
    body = json.loads((tmp_path / "checkpoint.json").read_text())
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.json", body["weights"]["file"], body["moments"]["file"]}


def test_settings_that_cannot_be_are_messages(base, tasks):
    for wrong, message in (
        ({"targets": "qkov"}, "targets: 'qkov' .*qkvo"),
        ({"schedule": "constant"}, "schedule"),
        ({"rank": 0}, "rank: 0"),
        ({"warmup": 1.0}, "warmup"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"preaug": "log_dif"}, "preaug: 'log_dif' .*log_diff"),
    ):
        with pytest.raises(TrainableError, match=message):
            LoraSettings(**wrong)
    with pytest.raises(TrainableError, match="context: 513 is more than the 512 bars"):
        LoraRun(base, tasks, LoraSettings(**QUICK | {"context": 513}))
    with pytest.raises(TrainableError, match="horizon: 65"):
        LoraRun(base, tasks, LoraSettings(**QUICK | {"horizon": 65}))

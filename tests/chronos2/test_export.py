import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("chronos")

from tests.chronos2.tiny import tiny_model  # noqa: E402
from trainables.chronos2.export import check_train_end, export, load_adapter, read_metadata  # noqa: E402
from trainables.chronos2.forecast import forecast, spread_origins  # noqa: E402
from trainables.chronos2.lora import LoraRun, LoraSettings, weights_digest  # noqa: E402
from trainables.chronos2.tasks import make_tasks  # noqa: E402
from trainables.exported import ExportError  # noqa: E402
from trainables.market.sample import sample_panel  # noqa: E402
from trainables.timeline import Window  # noqa: E402

SETTINGS = LoraSettings(rank=4, learning_rate=1e-2, steps=8, context=64, horizon=12, batch_rows=16, targets="wide")


@pytest.fixture(scope="module")
def tasks():
    return make_tasks(sample_panel(symbols=("BTCUSD", "ETHUSD"), bars=600), Window(0, 600), Window(0, 400), grouping="majors")


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    from chronos import Chronos2Pipeline

    folder = tmp_path_factory.mktemp("base")
    Chronos2Pipeline(tiny_model()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(tasks, base_folder):
    run = LoraRun(tiny_model(), tasks, SETTINGS, base_id=str(base_folder))
    run.advance(4)
    return run


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tuned"
    return export(
        run, folder, "tuned", eval_curve=[{"step": 4, "wql": np.float64(0.5), "mase": float("nan")}], parent_run="older", merged=True
    )


def ask(model, tasks):
    return forecast(model, tasks, spread_origins(tasks, Window(424, 600), 12, 3), 12, (0.1, 0.5, 0.9), context=64)


def test_plain_peft_loads_the_adapter(run, exported, tasks):
    from peft import PeftModel

    loaded = PeftModel.from_pretrained(tiny_model(), str(exported / "lora-adapter"))
    np.testing.assert_array_equal(ask(loaded, tasks), ask(run.model, tasks))
    assert not np.allclose(ask(tiny_model(), tasks), ask(run.model, tasks), rtol=1e-4)
    assert {path.name for path in (exported / "lora-adapter").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_the_pipeline_of_chronos_loads_the_adapter_and_the_merged_weights(run, exported, tasks, base_folder):
    from chronos import Chronos2Pipeline

    assert json.loads((exported / "lora-adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base_folder)
    for folder in ("lora-adapter", "finetuned"):
        pipeline = Chronos2Pipeline.from_pretrained(str(exported / folder))
        np.testing.assert_allclose(ask(pipeline.model, tasks), ask(run.model, tasks), rtol=1e-5)


def test_exporting_does_not_touch_the_run(tasks, tmp_path):
    base = tiny_model()
    run, other = (LoraRun(base, tasks, SETTINGS) for _ in range(2))
    before = weights_digest(base)
    run.advance(2)
    export(run, tmp_path / "a", "a", merged=True)
    run.advance(2)
    other.advance(4)
    np.testing.assert_array_equal(ask(run.model, tasks), ask(other.model, tasks))
    assert weights_digest(base) == before
    assert not (tmp_path / "b").exists() and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_adapter_is_put_on_the_base_it_belongs_to_and_shares_its_weights(run, exported, tasks):
    base = tiny_model()
    state = torch.get_rng_state()
    loaded = load_adapter(base, exported)
    np.testing.assert_array_equal(ask(loaded, tasks), ask(run.model, tasks))
    shared = {p.data_ptr() for name, p in loaded.named_parameters() if "lora_" not in name}
    assert shared == {p.data_ptr() for p in base.parameters()} and torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ExportError, match="belongs to other weights"):
        load_adapter(tiny_model(seed=1), exported)


def test_metadata_say_where_the_adapter_came_from(run, exported, tasks):
    data = read_metadata(exported)
    assert data["run_name"] == "tuned" and data["parent_run"] == "older" and data["step"] == 4 and data["mode"] == "lora"
    assert data["symbols"] == ["BTCUSD", "ETHUSD"] and data["symbol_groups"] == [["BTCUSD", "ETHUSD"]]
    assert data["data_hash"] == tasks.data_hash and data["train_end"] == "2024-01-17T15:00:00Z"  # row 399
    assert data["lora"]["alpha"] == 8 and data["lora"]["merge"] is True and "mlp.wi" in data["lora"]["targets"]
    assert data["settings"]["learning_rate"] == 1e-2 and data["preaug"] == "baseline"
    assert data["eval_curve"] == [{"step": 4, "wql": 0.5, "mase": None}]
    assert {"alphasweep", "torch", "chronos-forecasting", "peft"} <= set(data["versions"])
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in exported.rglob("*"))


def test_a_model_is_not_used_on_what_it_was_trained_on(exported):
    data = read_metadata(exported)
    check_train_end(data, "2024-01-17T16:00Z")
    check_train_end(data, np.datetime64("2024-01-18", "ns"))
    for time in ("2024-01-17T15:00Z", np.datetime64("2024-01-01")):
        with pytest.raises(ExportError, match=r"tuned: was trained on bars until 2024-01-17T15:00:00Z"):
            check_train_end(data, time)
    with pytest.raises(ExportError, match="no train_end"):
        check_train_end({"run_name": "x"}, "2024-01-17T16:00Z")


def test_a_failed_export_leaves_the_former_one(run, tasks, tmp_path, monkeypatch):
    export(run, tmp_path / "a", "first")
    monkeypatch.setattr("trainables.chronos2.export.run_metadata", lambda *args, **kw: {"bad": object()})
    with pytest.raises(TypeError):
        export(run, tmp_path / "a", "second")
    assert read_metadata(tmp_path / "a")["run_name"] == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    monkeypatch.undo()
    export(run, tmp_path / "a", "third")
    assert read_metadata(tmp_path / "a")["run_name"] == "third" and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_cannot_be_read_or_used_is_a_message(tasks, tmp_path):
    with pytest.raises(ExportError, match=r"run_metadata\.json: cannot be read"):
        load_adapter(tiny_model(), tmp_path)
    (tmp_path / "run_metadata.json").write_text("{}")
    with pytest.raises(ExportError, match="holds no train_end"):
        read_metadata(tmp_path)
    run = LoraRun(tiny_model(), tasks, SETTINGS)
    run.diverged = True
    with pytest.raises(ExportError, match="diverged"):
        export(run, tmp_path / "x", "x")

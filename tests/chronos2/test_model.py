import json
import shutil
import socket
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from trainables.chronos2 import model as base_models
from trainables.chronos2.model import SMALL, ModelError, check_adapter, find_base, fingerprint, load_base, small_config


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(SMALL, folder)
    return folder


@pytest.fixture(scope="module")
def small():
    return load_base("small")


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def make_adapter(small, folder, rank=4):
    from copy import deepcopy

    from peft import LoraConfig, get_peft_model

    targets = ["self_attention.q", "output_patch_embedding.output_layer"]
    get_peft_model(deepcopy(small.model), LoraConfig(r=rank, target_modules=targets)).save_pretrained(folder)
    return folder


def test_the_embedded_model_is_small_readable_by_all_and_of_the_documented_shape(small):
    names = {path.name for path in SMALL.iterdir()}
    assert names == {"config.json", "model.safetensors"}
    assert sum(path.stat().st_size for path in SMALL.iterdir()) < 3_000_000
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in SMALL.iterdir())
    assert sum(p.numel() for p in small.model.parameters()) == 354_336
    assert small.model_context_length == 512
    assert small.model_prediction_length == 64
    assert not small.model.training


def test_the_embedded_model_has_the_configuration_the_code_gives():
    made, shipped = small_config().to_dict(), json.loads((SMALL / "config.json").read_text())
    assert {key: made[key] for key in base_models._ARCHITECTURE if key in shipped} == {
        key: shipped[key] for key in base_models._ARCHITECTURE if key in shipped
    }


def test_it_forecasts_as_chronos_own_loader_would_on_the_cpu_in_single_precision(small):
    import torch
    from chronos import Chronos2Pipeline

    theirs = Chronos2Pipeline.from_pretrained(SMALL)
    series = np.random.default_rng(0).normal(size=(3, 4, 200)).astype(np.float32)
    ours = small if not torch.cuda.is_available() else load_base("small", device="cpu")
    assert {p.dtype for p in ours.model.parameters()} == {torch.float32}
    for a, b in zip(ours.predict(series, 24), theirs.predict(series, 24), strict=True):
        assert torch.equal(a, b)


def test_half_precision_keeps_the_rotary_frequencies_and_forecasts_nearly_the_same(small):
    import torch

    half = load_base("small", device="cpu", dtype="bfloat16")
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in half.model.buffers()} == {torch.float32}
    series = np.random.default_rng(0).normal(size=(8, 1, 256)).astype(np.float32)
    exact, near = torch.stack(load_base("small", device="cpu").predict(series, 24)), torch.stack(half.predict(series, 24))
    assert (exact - near).abs().max() < 0.3
    assert (exact - near).abs().mean() < 0.03


def test_loading_moves_no_random_stream(small):
    import torch

    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_base("small")
    assert torch.equal(torch.rand(4), expected)


def test_loading_says_nothing(small, capfd, recwarn):
    load_base("small")
    out = capfd.readouterr()
    assert out.out == out.err == ""
    assert not recwarn.list


def test_a_directory_is_loaded_wherever_it_lies(copy, small):
    import torch

    loaded = load_base(str(copy), device="cpu")
    assert all(torch.equal(a.cpu().float(), b) for a, b in zip(small.model.parameters(), loaded.model.parameters(), strict=True))
    assert loaded.model.name_or_path == str(copy)


def test_weights_in_several_files_are_one_model(copy, small):
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    names = sorted(weights)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({key: weights[key] for key in keys}, copy / file)
    (copy / "model.safetensors").unlink()
    index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = load_base(str(copy), device="cpu")
    assert all(torch.equal(loaded.model.state_dict()[key], weights[key]) for key in names)
    (copy / "two.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no two\.safetensors"):
        load_base(str(copy))


def test_an_adapter_beside_a_model_is_not_put_on_top_of_it(copy, small):
    import torch

    adapter = make_adapter(small, copy.parent / "adapter")
    for path in adapter.iterdir():
        shutil.copy(path, copy / path.name)
    loaded = load_base(str(copy), device="cpu")
    assert type(loaded.model).__name__ == "Chronos2Model"
    assert not any("lora" in name for name, _ in loaded.model.named_parameters())
    assert torch.equal(loaded.model.shared.weight, small.model.shared.weight.cpu().float())


def test_the_fingerprint_is_of_architecture_and_weights_not_of_place_or_library(copy):
    first = fingerprint("small")
    assert len(first) == 32
    assert fingerprint(str(copy)) == first
    change_config(copy, transformers_version="99.0", _name_or_path="elsewhere")
    assert fingerprint(str(copy)) == first
    change_config(copy, rope_theta=20_000.0)
    assert fingerprint(str(copy)) != first


def test_the_fingerprint_changes_with_a_single_bit_of_the_weights(copy):
    before = fingerprint(str(copy))
    raw = bytearray((copy / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (copy / "model.safetensors").write_bytes(raw)
    assert fingerprint(str(copy)) != before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "give small, a directory, or a hub id"),
        (None, "give small, a directory, or a hub id"),
        ("smal", "did you mean 'small'"),
        ("/no/such/folder", "there is no directory /no/such/folder"),
        ("./nowhere", "there is no directory .*nowhere"),
        ("chronos", "neither small, a directory nor a hub id such as amazon/chronos-2"),
        ("s3://bucket/model", "neither small, a directory nor a hub id"),
        ("some--body/chronos", "neither a directory nor a hub id"),
    ],
)
def test_what_is_no_model_is_said_to_be_none(given, message):
    with pytest.raises(ModelError, match=message):
        load_base(given)


def test_a_file_is_not_a_model(copy):
    with pytest.raises(ModelError, match="is a file; give the directory"):
        find_base(str(copy / "model.safetensors"))


def test_a_directory_without_configuration_is_described(copy, tmp_path):
    (copy / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json; the directory holds model\.safetensors"):
        find_base(str(copy))
    (tmp_path / "bare").mkdir()
    with pytest.raises(ModelError, match="the directory is empty"):
        find_base(str(tmp_path / "bare"))


def test_a_configuration_that_is_not_json_or_not_chronos2_is_named(copy):
    change_config(copy, architectures=["ChronosBoltModelForForecasting"])
    with pytest.raises(ModelError, match="is not a Chronos-2 but ChronosBoltModelForForecasting"):
        find_base(str(copy))
    (copy / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be read as JSON"):
        find_base(str(copy))
    (copy / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="should hold a JSON object and holds a list"):
        find_base(str(copy))


def test_missing_weights_are_said_to_be_missing(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no model\.safetensors; the directory holds config\.json$"):
        find_base(str(copy))


def test_pickled_weights_are_never_opened(copy):
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(ModelError, match=r"Pickled weights \(pytorch_model\.bin\) are not opened"):
        load_base(str(copy))


@pytest.mark.parametrize("damage", ["short", "empty", "header", "pointer", "other"])
def test_damaged_weights_are_found_before_any_work(copy, damage):
    path = copy / "model.safetensors"
    raw = path.read_bytes()
    made = {
        "short": raw[:-100],
        "empty": b"",
        "header": struct.pack("<Q", 1 << 60) + raw[8:],
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "other": b"PK\x03\x04" + raw[4:],
    }
    path.write_bytes(made[damage])
    with pytest.raises(ModelError, match="git lfs pull" if damage == "pointer" else "damaged or not a safetensors file"):
        find_base(str(copy))


def test_weights_of_another_configuration_are_refused(copy):
    change_config(copy, d_ff=128)
    with pytest.raises(ModelError, match=r"do not fit its config\.json: .*mlp\.wi.* has shape \(256, 64\), asked for is \(128, 64\)"):
        load_base(str(copy))
    change_config(copy, d_ff=256, num_layers=4)
    with pytest.raises(ModelError, match=r"encoder\.block\.3\..* is missing"):
        load_base(str(copy))


def test_an_adapter_given_as_base_names_the_base_it_needs(small, tmp_path):
    adapter = make_adapter(small, tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "amazon/chronos-2"}))
    with pytest.raises(ModelError, match="is a LoRA adapter, not a base model: it needs the base amazon/chronos-2; give that as model"):
        load_base(str(adapter))
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="does not name its base"):
        load_base(str(adapter))


def test_an_adapter_fits_its_own_base_and_no_other(small, tmp_path):
    import torch
    from chronos import Chronos2Pipeline
    from chronos.chronos2.model import Chronos2Model

    adapter = make_adapter(small, tmp_path / "adapter")
    check_adapter(adapter, "small")
    check_adapter(adapter, "small", fingerprint("small"))
    with pytest.raises(ModelError, match="of another base than small: same shapes, other weights"):
        check_adapter(adapter, "small", "0" * 32)
    wider = small_config()
    wider.d_model = 96
    torch.manual_seed(0)
    Chronos2Pipeline(Chronos2Model(wider)).save_pretrained(tmp_path / "wider")
    with pytest.raises(ModelError, match=r"of another base than .*wider: its .* is 64 wide, there it is 96"):
        check_adapter(adapter, str(tmp_path / "wider"))
    shallow = small_config()
    shallow.num_layers = 1
    Chronos2Pipeline(Chronos2Model(shallow)).save_pretrained(tmp_path / "shallow")
    with pytest.raises(ModelError, match=r"encoder\.block\.[12]\..* is 64 wide, it has no such layer"):
        check_adapter(adapter, str(tmp_path / "shallow"))


def test_an_adapter_without_its_files_is_described(small, tmp_path):
    with pytest.raises(ModelError, match=r"has no adapter_config\.json, so it is not a LoRA adapter"):
        check_adapter(SMALL, "small")
    adapter = make_adapter(small, tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors.*Pickled weights"):
        check_adapter(adapter, "small")


def test_a_hub_id_offline_fails_at_once(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"not in the Hugging Face cache .*HF_HUB_OFFLINE forbids asking the hub"):
        find_base("nobody/chronos-2-of-nobody")
    assert time.monotonic() - start < 5


def test_a_hub_id_without_a_network_fails_within_seconds(monkeypatch):
    from huggingface_hub import constants

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(ModelError, match="does not answer; download it where there is a network"):
            find_base("nobody/chronos-2-of-nobody")
        assert time.monotonic() - start < base_models.CONNECT_SECONDS + 5


def test_a_hub_id_in_the_cache_needs_no_network(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repository = tmp_path / "models--somebody--tiny"
    snapshot = repository / "snapshots" / ("a" * 40)
    shutil.copytree(SMALL, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    found = find_base("somebody/tiny")
    assert found.directory == snapshot
    assert fingerprint("somebody/tiny") == fingerprint("small")
    assert load_base("somebody/tiny", device="cpu").model.name_or_path == "somebody/tiny"


def test_a_device_that_is_not_there_is_named():
    import torch

    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ModelError, match=f"device: {absent} is not there, this machine has"):
        load_base("small", device=absent)
    with pytest.raises(ModelError, match="device: 'gpu' is unknown; give cpu, cuda"):
        load_base("small", device="gpu")
    with pytest.raises(ModelError, match="dtype: 'int8'; give float32 or bfloat16"):
        load_base("small", dtype="int8")


def test_finding_and_fingerprinting_need_no_torch():
    import subprocess
    import sys

    code = (
        "import sys; from trainables.chronos2.model import find_base, fingerprint; fingerprint('small');"
        "assert not {'torch', 'chronos', 'transformers'} & set(sys.modules), 'slow import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])

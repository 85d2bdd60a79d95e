"""The base models: the embedded one, a local directory, a Hugging Face hub id; found, checked and loaded, with errors before any work.

Weights are read from safetensors files here and nowhere else: pickled ones (`.bin`, `.pt`) run code when opened, and the loaders of
transformers would put an adapter that lies beside a model on top of it without a word. Finding, checking and fingerprinting a model
read headers and bytes only and need no torch.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import urllib.request
import warnings
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainables.contract import TrainableError, nearest

SMALL = Path(__file__).with_name("small")
QUANTILES = (0.01, *(round(0.05 * k, 2) for k in range(1, 20)), 0.99)
CONNECT_SECONDS = 3.0  # without a network a hub id fails after this, not after minutes of retries
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?", re.ASCII)
_WANTED = ("config.json", "adapter_config.json", "*.safetensors", "*.safetensors.index.json")  # of a hub repository
Tensor = tuple[str, tuple[int, ...]]
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
# What the forecasts follow from, besides the weights; other keys of a config.json change with the library that wrote it.
_ARCHITECTURE = (
    *("d_model", "d_kv", "d_ff", "num_layers", "num_heads", "dropout_rate", "layer_norm_epsilon"),
    *("feed_forward_proj", "rope_theta", "rope_parameters", "rope_scaling", "chronos_config"),
)


class ModelError(TrainableError):
    """A base model or adapter that cannot be found or used; the message says which and what to give instead."""


@dataclass(frozen=True)
class Base:
    """A base model found and checked, not yet loaded.

    Attributes:
        name: As the user gave it.
        directory: Where its files are.
        config: Its config.json.
        files: Its weights.
        tensors: Type ("F32", …) and shape of each tensor in them.
    """

    name: str
    directory: Path
    config: dict[str, Any]
    files: tuple[Path, ...]
    tensors: dict[str, Tensor]


def small_config() -> Any:
    """Returns the embedded model's `Chronos2CoreConfig`: 354,336 parameters, context 512, up to 64 steps ahead, no dropout."""
    from chronos.chronos2.config import Chronos2CoreConfig

    return Chronos2CoreConfig(
        d_model=64,
        d_kv=16,
        d_ff=256,
        num_layers=3,
        num_heads=4,
        dropout_rate=0.0,
        layer_norm_epsilon=1e-6,
        initializer_factor=0.2,  # starts a little faster at this size than the 0.05 of the published model
        feed_forward_proj="relu",
        vocab_size=2,
        pad_token_id=0,
        rope_theta=10_000.0,
        chronos_config={
            "context_length": 512,
            "input_patch_size": 16,
            "input_patch_stride": 16,
            "output_patch_size": 16,
            "max_output_patches": 4,
            "quantiles": list(QUANTILES),
            "use_reg_token": True,
            "use_arcsinh": True,
            "time_encoding_scale": 512,
        },
        chronos_pipeline_class="Chronos2Pipeline",
        architectures=["Chronos2Model"],
        reg_token_id=1,
    )


def find_base(model: str) -> Base:
    """Finds a base model and checks its files; a hub id is downloaded if it is not in the local Hugging Face cache.

    Args:
        model: "small" (embedded), a directory with config.json and model.safetensors, or a hub id such as amazon/chronos-2, with
            `@revision` if wanted. A directory wins over a hub id of the same spelling, a cached copy over the hub.

    Raises:
        ModelError: Not found, not a Chronos-2, an adapter, or weights missing, damaged or pickled.
    """
    if not isinstance(model, str) or not model.strip():
        raise ModelError(f"model: {model!r}; give small, a directory, or a hub id such as amazon/chronos-2")
    if model == "small":
        return _checked(model, SMALL)
    path = Path(model).expanduser()
    if path.is_dir():
        return _checked(model, path)
    if path.exists():
        raise ModelError(f"model: {model} is a file; give the directory that holds config.json and model.safetensors")
    if Path(model).is_absolute() or model.startswith((".", "~")):
        raise ModelError(f"model: there is no directory {path.absolute()}; give one with config.json and model.safetensors, or small")
    if not _HUB_ID.fullmatch(model):
        hint = nearest(model, ["small"]) or "is it a directory? there is none of this name here"
        raise ModelError(f"model: {model!r} is neither small, a directory nor a hub id such as amazon/chronos-2; {hint}")
    return _checked(model, _from_hub(model))


def located(place: str) -> str:
    """Returns a directory as any process finds it, by its absolute path; what is none stays as it is."""
    return str(Path(place).expanduser().resolve()) if place != "small" and Path(place).expanduser().is_dir() else place


def load_base(model: str, *, device: str | None = None, dtype: str | None = None) -> Any:
    """Loads a base model.

    Args:
        model: As in `find_base`.
        device: "cpu", "cuda", "cuda:1", …; default cuda if there is a card, else cpu.
        dtype: Of the weights, "float32" or "bfloat16"; default bfloat16 on a card that computes in it, else float32.

    Returns:
        The `Chronos2Pipeline`, in evaluation mode.

    Raises:
        ModelError: As in `find_base`, the weights do not fit the configuration, or the device is not there.
    """
    base = find_base(model)
    import torch
    from chronos import Chronos2Pipeline
    from chronos.chronos2.config import Chronos2CoreConfig
    from chronos.chronos2.model import Chronos2Model
    from safetensors.torch import load_file

    quiet()
    where, kind = _placement(device, dtype)
    config = Chronos2CoreConfig.from_dict(base.config)
    config.name_or_path = str(base.directory) if Path(model).expanduser().is_dir() or model == "small" else model
    with torch.random.fork_rng(devices=[]):  # the first weights are overwritten; their draws should not move anyone's stream
        network = Chronos2Model(config)
    for name, value in network.state_dict().items():
        _, shape = base.tensors.get(name, ("", None))
        if shape != tuple(value.shape):
            has = "is missing" if shape is None else f"has shape {shape}"
            raise ModelError(f"model: the weights of {model} do not fit its config.json: {name} {has}, asked for is {tuple(value.shape)}")
    for parameter in network.parameters():  # buffers, the rotary frequencies among them, keep their precision
        parameter.data = parameter.data.to(kind)
    for file in base.files:
        network.load_state_dict(load_file(file), strict=False)
    return Chronos2Pipeline(network.to(where).eval())


def fingerprint(model: str) -> str:
    """Returns a hash of what a base model computes: architecture and weights, wherever they lie.

    Args:
        model: As in `find_base`.

    Returns:
        32 hexadecimal digits.

    Raises:
        ModelError: As in `find_base`.
    """
    base = find_base(model)
    stats = [path.stat() for path in (base.directory / "config.json", *base.files)]
    stamps = tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)
    return _fingerprint(str(base.directory), stamps)


def check_adapter(directory: str | Path, model: str, trained_on: str | None = None) -> None:
    """Checks that a LoRA adapter belongs to a base model, from the headers of the files.

    Args:
        directory: Holds adapter_config.json and adapter_model.safetensors.
        model: The base, as in `find_base`.
        trained_on: Fingerprint of the base it was trained on, if that was recorded; without it only the shapes can tell.

    Raises:
        ModelError: Not an adapter, weights missing, damaged or pickled, or of another base.
    """
    base, folder = find_base(model), Path(directory).expanduser()
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"adapter: {folder} has no adapter_config.json, so it is not a LoRA adapter; {_contents(folder)}")
    made_for = _json(folder / "adapter_config.json", "adapter").get("base_model_name_or_path") or "a base it does not name"
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise ModelError(f"adapter: {folder} has no adapter_model.safetensors; {_contents(folder)}{_pickled(folder)}")
    for name, (_, shape) in _tensors(weights, "adapter").items():
        match = re.fullmatch(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.\w+)?\.weight", name)
        if not match or len(shape) != 2:
            continue
        side = 1 if match[2] == "A" else 0  # A is (rank, in), B (out, rank), the layer (out, in)
        _, target = base.tensors.get(f"{match[1]}.weight", ("", None))
        if target is None or target[side] != shape[side]:
            has = "it has no such layer" if target is None else f"there it is {target[side]}"
            raise ModelError(
                f"adapter: {folder} is of another base than {model}: its {match[1]} is {shape[side]} wide, {has}; "
                f"it was trained on {made_for}"
            )
    if trained_on is not None and trained_on != fingerprint(model):
        raise ModelError(
            f"adapter: {folder} is of another base than {model}: same shapes, other weights (fingerprint {trained_on}, here "
            f"{fingerprint(model)}); it was trained on {made_for}"
        )


def quiet() -> None:
    """Silences transformers' progress bars and its notes about things that are as intended here."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
    warnings.filterwarnings("ignore", message=".*torch_dtype.*is deprecated.*")
    warnings.filterwarnings("ignore", message=".*mtime may not be reliable.*")


def _checked(model: str, folder: Path) -> Base:
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            needs = _json(folder / "adapter_config.json", f"model {model}").get("base_model_name_or_path")
            needed = f"needs the base {needs}; give that as model" if needs else "does not name its base; give the base as model"
            raise ModelError(f"model: {model} is a LoRA adapter, not a base model: it {needed}, or a directory with the merged weights")
        raise ModelError(f"model: {model} has no config.json; {_contents(folder)}")
    config = _json(folder / "config.json", f"model {model}")
    if config.get("architectures") != ["Chronos2Model"] or "chronos_config" not in config:
        kind = (config.get("architectures") or [config.get("model_type", "unknown")])[0]
        raise ModelError(f"model: {model} is not a Chronos-2 but {kind}; give small, amazon/chronos-2 or a fine-tuned copy of one")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = sorted({folder / Path(str(name)).name for name in _json(index, f"model {model}").get("weight_map", {}).values()})
    else:
        files = [folder / "model.safetensors"]
    for path in files:
        if not path.is_file():
            raise ModelError(f"model: {model} has no {path.name}; {_contents(folder)}{_pickled(folder)}")
    tensors = {name: stored for path in files for name, stored in _tensors(path, f"model {model}").items()}
    _check_sizes(model, config, tensors)
    return Base(model, folder, config, tuple(files), tensors)


def _check_sizes(model: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Compares width, heads and layers with the headers, so that a wrong pair is told before workers start; loading compares all."""
    sizes: list[Any] = [config.get(key) for key in ("d_model", "d_kv", "num_heads", "d_ff", "num_layers")]
    if not all(isinstance(n, int) and n > 0 for n in sizes):
        return
    width, inner, heads, ff, layers = sizes
    block = f"encoder.block.{layers - 1}.layer"
    asked = {f"{block}.0.self_attention.q.weight": (inner * heads, width), f"{block}.2.mlp.wi.weight": (ff, width)}
    for name, shape in asked.items():
        _, found = tensors.get(name, ("", None))
        if found != shape:
            has = "is missing" if found is None else f"has shape {found}"
            raise ModelError(f"model: the weights of {model} do not fit its config.json: {name} {has}, asked for is {shape}")


def _from_hub(model: str) -> Path:
    from huggingface_hub import constants, errors, snapshot_download

    repository, _, revision = model.partition("@")
    wanted: dict[str, Any] = {"revision": revision or None, "allow_patterns": list(_WANTED)}
    try:
        folder = Path(snapshot_download(repository, local_files_only=True, **wanted))
        if any(folder.glob("*config.json")) and any(folder.glob("*.safetensors")):
            return folder
    except errors.HFValidationError as error:
        raise ModelError(f"model: {model!r} is neither a directory nor a hub id such as amazon/chronos-2") from error
    except errors.LocalEntryNotFoundError:
        pass
    absent = f"model: {model} is no directory here and not in the Hugging Face cache ({constants.HF_HUB_CACHE})"
    remedy = "download it where there is a network and copy the directory, or give small"
    switches = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    off = [name for name in switches if os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}]
    if off or constants.HF_HUB_OFFLINE:
        raise ModelError(f"{absent}, and {(off or switches)[0]} forbids asking the hub; {remedy}")
    if not _reachable(constants.ENDPOINT):
        raise ModelError(f"{absent}, and {constants.ENDPOINT} does not answer; {remedy}")
    try:
        return Path(snapshot_download(repository, **wanted))
    except errors.GatedRepoError as error:
        raise ModelError(f"model: {model} is gated; accept its terms on the hub and log in (`hf auth login`)") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise ModelError(f"{absent}, and the hub has no such repository or revision, or it is private") from error
    except Exception as error:  # whatever the connection or the disk does; the reason is in the message
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{absent}, and the download failed ({reason}); {remedy}") from error


def _reachable(endpoint: str) -> bool:
    """Whether the hub takes a connection soon; with a proxy, which alone can tell, it is assumed."""
    if {"http", "https", "all"} & set(urllib.request.getproxies()):
        return True
    address = urlsplit(endpoint)
    answered = threading.Event()

    def connect() -> None:
        try:
            port = address.port or (80 if address.scheme == "http" else 443)
            socket.create_connection((address.hostname or "", port), CONNECT_SECONDS).close()
        except OSError:
            return
        answered.set()

    # A thread, because looking up a name takes no timeout.
    asking = threading.Thread(target=connect, daemon=True)
    asking.start()
    asking.join(CONNECT_SECONDS)
    return answered.is_set()


def _placement(device: str | None, dtype: str | None) -> tuple[Any, Any]:
    import torch

    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        where = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device: {name!r} is unknown; give cpu, cuda or cuda:0") from error
    if where.type == "cuda" and (where.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"device: {name} is not there, this machine has {torch.cuda.device_count()} cards; leave it out to use what is")
    if where.type not in ("cpu", "cuda"):
        raise ModelError(f"device: {name!r} is not supported; give cpu, cuda or cuda:0")
    if dtype not in (None, "float32", "bfloat16"):
        raise ModelError(f"dtype: {dtype!r}; give float32 or bfloat16, or leave it out")
    if dtype is None:
        with_tensor_cores = where.type == "cuda" and torch.cuda.get_device_capability(where) >= (8, 0)
        dtype = "bfloat16" if with_tensor_cores else "float32"
    return where, getattr(torch, dtype)


def _tensors(path: Path, what: str) -> dict[str, Tensor]:
    """Reads the header of a safetensors file; one that was cut short or is something else is an error here."""
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        if file.read(7) == b"version":
            raise ModelError(f"{what}: {path} is a Git LFS pointer, not the weights; run `git lfs pull` in its directory")
    try:
        with safe_open(path, framework="np") as stored:
            names = stored.keys()
            slices = {name: stored.get_slice(name) for name in names}
            return {name: (str(part.get_dtype()), tuple(part.get_shape())) for name, part in slices.items()}
    except SafetensorError as error:
        raise ModelError(f"{what}: {path} is damaged or not a safetensors file ({error}); copy or download it again") from error


@lru_cache(maxsize=64)
def _fingerprint(directory: str, stamps: tuple[tuple[int, int, int], ...]) -> str:
    base = _checked(directory, Path(directory))
    digest = blake2b(digest_size=16)
    architecture = {key: base.config[key] for key in _ARCHITECTURE if base.config.get(key) is not None}
    digest.update(json.dumps(architecture, sort_keys=True).encode())
    digest.update(json.dumps(sorted(base.tensors.items())).encode())
    for path in base.files:
        with path.open("rb") as file:
            file.seek(8 + int.from_bytes(file.read(8), "little"))  # past the header, which may hold notes of its writer
            while part := file.read(1 << 24):
                digest.update(part)
    return digest.hexdigest()


def _json(path: Path, what: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{what}: {path} cannot be read as JSON ({error})") from error
    if not isinstance(found, dict):
        raise ModelError(f"{what}: {path} should hold a JSON object and holds a {type(found).__name__}")
    return found


def _contents(folder: Path) -> str:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return f"{folder} cannot be listed"
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"the directory holds {shown}" if names else "the directory is empty"


def _pickled(folder: Path) -> str:
    found = [path.name for path in sorted(folder.iterdir()) if path.suffix in _PICKLED and not path.name.startswith("training_args")]
    return f". Pickled weights ({found[0]}) are not opened, since opening them runs code: save them as safetensors" if found else ""

"""One LoRA fine-tune of Chronos-2 that can be killed at any step and goes on as if nothing had happened.

Chronos-2's own `fit` cannot resume, and the trainer below it only nearly. Here the batch, the dropout masks and the learning
rate of a step follow from (seed, step) alone, so there is no generator whose state could be lost: a checkpoint is the adapter,
the optimiser's moments and the number of the step. Torch's global generators are put back after every call, and what happens
between calls (forecasts, other fine-tunes) cannot reach this one.
"""

from __future__ import annotations

import copy
import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes

from trainables import checkpoint
from trainables.checkpoint import CheckpointError
from trainables.chronos2.tasks import Preaug, Tasks, sample
from trainables.contract import TrainableError, nearest

if TYPE_CHECKING:
    from peft import PeftModel

_ATTENTION: Final = tuple(f"self_attention.{part}" for part in "qkvo")
# By name, always: left alone, peft takes q and v of T5, whose name the configuration bears.
TARGETS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "qv": ("self_attention.q", "self_attention.v"),
        "qkvo": _ATTENTION,
        "wide": (*_ATTENTION, "mlp.wi", "mlp.wo", "output_patch_embedding.output_layer"),
    }
)
SCHEDULES: Final = ("linear", "cosine")
_MOMENTS: Final = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class LoraSettings:
    """What defines a fine-tune besides base model and tasks (SPEC C.4).

    Attributes:
        rank: r of the adapters.
        alpha: Their scale is alpha / rank; 0 is 2 × rank.
        dropout: Of the adapters; the base model's own is in its configuration.
        targets: Key of `TARGETS`: `qv`, `qkvo`, or `wide` (attention, MLP and the output layer).
        learning_rate: Peak, of AdamW.
        weight_decay: Of AdamW, on the adapters.
        schedule: `linear` or `cosine`, to zero at `steps`.
        warmup: Share of the steps in which the learning rate rises to its peak.
        steps: Optimiser steps of the whole run.
        context: Longest context in bars.
        horizon: Bars to predict.
        batch_rows: Rows of a batch, targets and covariates; whole windows, so it may be exceeded by less than one.
        preaug: As `trainables.chronos2.preaug.parse` reads it; `baseline` is raw prices.
        seed: Of everything random.
    """

    rank: int = 16
    alpha: float = 0.0
    dropout: float = 0.05
    targets: str = "qkvo"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: str = "linear"
    warmup: float = 0.0
    steps: int = 200
    context: int = 512
    horizon: int = 24
    batch_rows: int = 64
    preaug: str = "baseline"
    seed: int = 0

    def __post_init__(self) -> None:
        for key, allowed in (("targets", tuple(TARGETS)), ("schedule", SCHEDULES)):
            value = getattr(self, key)
            if value not in allowed:
                raise TrainableError(f"{key}: {value!r} is not allowed; {nearest(value, allowed) or 'give one of ' + ', '.join(allowed)}")
        for key, least in (("rank", 1), ("steps", 0), ("context", 1), ("horizon", 1), ("batch_rows", 1), ("seed", 0)):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise TrainableError(f"{key}: {value!r} is not allowed; give a whole number of at least {least}")
        for key, most in (("alpha", math.inf), ("dropout", 1.0), ("learning_rate", math.inf), ("weight_decay", math.inf), ("warmup", 1.0)):
            if not 0.0 <= getattr(self, key) < most:
                raise TrainableError(f"{key}: {getattr(self, key)!r} is not allowed; give a number from 0 to below {most:g}")
        preaug_named(self.preaug)

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of the step after `step` steps."""
        warm = round(self.warmup * self.steps)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        gone = (step - warm) / max(1, self.steps - warm)
        return self.learning_rate * (1.0 - gone if self.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * gone)))


def preaug_named(name: str) -> Preaug | None:
    """Returns the pre-augmentation of that name; None, nothing to do, for `baseline`.

    Raises:
        TrainableError: Unknown name.
    """
    if name == "baseline":
        return None
    from trainables.chronos2.preaug import parse

    return parse(name)


class LoraRun:
    """A fine-tune.

    Attributes:
        model: The peft model, in eval mode between calls; its base weights are shared with the given model and frozen.
        step: Optimiser steps done.
        diverged: The loss or its gradient was not finite at this step; the run does not go on.
        notes: What happened that the user should know.
        base_id: What the adapter's `base_model_name_or_path` will say.
        base_digest: Names the base weights.
    """

    def __init__(self, base: torch.nn.Module, tasks: Tasks, settings: LoraSettings, *, base_id: str = "", base_digest: str = "") -> None:
        """Puts fresh adapters on a base model.

        Args:
            base: A Chronos2Model, left as it is; many runs may share it. It stays on its device.
            tasks: To learn from.
            settings: Of this run.
            base_id: Model id or folder of the base.
            base_digest: `weights_digest(base)` where the caller has it already.

        Raises:
            TrainableError: Context or horizon are more than the model can take.
        """
        limits: Any = base.chronos_config
        reach = limits.max_output_patches * limits.output_patch_size
        for key, most in (("context", limits.context_length), ("horizon", reach)):
            if getattr(settings, key) > most:
                raise TrainableError(f"{key}: {getattr(settings, key)} is more than the {most} bars of {base_id or 'this model'}")
        self.tasks, self.settings, self.base_id = tasks, settings, base_id
        self.base_digest = base_digest or weights_digest(base)
        self.device = next(base.parameters()).device
        self.step, self.batch_rows = 0, settings.batch_rows
        self.diverged = False
        self.notes: list[str] = []
        self._preaug = preaug_named(settings.preaug)
        self._patch = int(limits.output_patch_size)
        self._bf16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        with seeded(self.device, (settings.seed, 0)):
            self.model = _adapted(base, settings, base_id)
        self._weights = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self._optimiser = torch.optim.AdamW(self._weights.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def advance(self, n: int) -> float:
        """Does n optimiser steps, fewer where the run ends.

        Returns:
            Mean loss of these steps: quantile loss of SPEC C.5 summed over quantiles, in the model's normalised space, as a mean
            over the target cells that exist (so neither covariates nor padding dilute it). NaN if diverged, or no step was left.

        Raises:
            TrainableError: Out of memory, with half the batch too.
        """
        losses: list[float] = []
        self.model.train()
        try:
            while len(losses) < n and self.step < self.settings.steps and not self.diverged:
                losses.append(self._one())
        finally:
            self.model.eval()
        return float(np.mean(losses)) if losses and not self.diverged else math.nan

    def save(self, folder: str | Path) -> None:
        """Writes a checkpoint; until it is complete, one that is in the folder already stays the valid one."""
        state = self._optimiser.state
        moments = {f"{key}.{name}": state[p][key] for name, p in self._weights.items() for key in _MOMENTS if key in state.get(p, {})}
        body = {"run": self._identity(), "step": self.step, "batch_rows": self.batch_rows, "diverged": self.diverged, "notes": self.notes}
        checkpoint.write(folder, body, _bytes(self._weights), _bytes(moments))

    def load(self, folder: str | Path, weights_only: bool = False) -> None:
        """Takes up a checkpoint of the same run: base, tasks and settings must be equal.

        Args:
            folder: Of the checkpoint.
            weights_only: To export or to forecast, and not to go on; then the optimiser's moments may have been dropped.

        Raises:
            CheckpointError: Missing, damaged, or of another run.
        """
        place = Path(folder)
        body = checkpoint.read_manifest(place)
        here, there = self._identity(), body["run"]
        for key in here:
            if there.get(key) != here[key]:
                raise CheckpointError(f"checkpoint {place}: {key} is {there.get(key)!r} there and {here[key]!r} in this run")
        weights = read_tensors(checkpoint.read_part(place, body, "weights"))
        moments = {} if weights_only else read_tensors(checkpoint.read_part(place, body, "moments"))
        with torch.no_grad():
            for name, p in self._weights.items():
                p.copy_(weights[name])
                self._optimiser.state.pop(p, None)
                if f"{_MOMENTS[0]}.{name}" in moments:
                    own = {key: moments[f"{key}.{name}"].to(p.device) for key in _MOMENTS}
                    self._optimiser.state[p] = {"step": torch.tensor(float(body["step"])), **own}
        self.step, self.batch_rows = body["step"], body["batch_rows"]
        self.diverged, self.notes = body["diverged"], list(body["notes"])

    def _one(self) -> float:
        if self.step and not any(self._optimiser.state.values()):
            raise CheckpointError(f"chronos2: at step {self.step} without the optimiser's moments; load the whole checkpoint to go on")
        try:
            loss = self._gradient()
        except torch.OutOfMemoryError:
            loss = None
        if loss is None:  # outside the handler, which would keep the failed step's tensors alive
            self._halve()
            try:
                loss = self._gradient()
            except torch.OutOfMemoryError as error:
                what = f"batch_rows {self.batch_rows}; give less of them, or a shorter context"
                raise TrainableError(f"chronos2: out of memory on {self.device} even with {what}") from error
        norm = float(torch.nn.utils.clip_grad_norm_(self._weights.values(), 1.0))
        if not math.isfinite(loss) or not math.isfinite(norm):
            self.diverged = True
            self.notes.append(f"diverged at step {self.step}: loss {loss:g}, gradient {norm:g}")
            return math.nan
        for group in self._optimiser.param_groups:
            group["lr"] = self.settings.learning_rate_at(self.step)
        self._optimiser.step()
        self.step += 1
        return loss

    def _gradient(self) -> float:
        """Leaves the gradient of this step's batch in the weights and returns its loss."""
        settings = self.settings
        self._optimiser.zero_grad()
        draw = np.random.default_rng((settings.seed, 1, self.step))
        batch = sample(self.tasks, draw, self.batch_rows, settings.context, settings.horizon, self._preaug)
        patches = math.ceil(settings.horizon / self._patch)
        on = lambda array: torch.from_numpy(array).to(self.device)  # noqa: E731
        with seeded(self.device, (settings.seed, 2, self.step)):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
                out = self.model(
                    context=on(batch.context), future_target=on(batch.future), group_ids=on(batch.group_ids), num_output_patches=patches
                )
            # The model's mean is over padding and covariates too (SPEC C.5).
            cells = max(1, int(np.isfinite(batch.future).sum()))
            loss = out.loss * (len(batch.future) * patches * self._patch / cells)
            loss.backward()
        return float(loss.detach())

    def _halve(self) -> None:
        smallest = min(task.n_rows for task in self.tasks.tasks)
        if self.batch_rows < self.settings.batch_rows or self.batch_rows <= smallest:
            again = " after it was halved" if self.batch_rows < self.settings.batch_rows else ""
            raise TrainableError(
                f"chronos2: out of memory on {self.device} with batch_rows {self.batch_rows}{again}; give a shorter context"
            )
        self.batch_rows = max(smallest, self.batch_rows // 2)
        self.notes.append(f"out of memory at step {self.step}: batch_rows halved to {self.batch_rows}")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _identity(self) -> dict[str, Any]:
        return {"base": self.base_digest, "tasks": self.tasks.digest, "settings": asdict(self.settings)}


def shared_copy(base: torch.nn.Module) -> torch.nn.Module:
    """Copies a model's structure; its weights stay where they are, frozen in the copy and untouched in the original."""
    memo: dict[int, Any] = {id(b): b for b in base.buffers()}
    memo |= {id(p): torch.nn.Parameter(p.detach(), requires_grad=False) for p in base.parameters()}
    return copy.deepcopy(base, memo)


def weights_digest(model: torch.nn.Module) -> str:
    """Names a model's weights: blake2b-16 over names, types and bytes of its state."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _adapted(base: torch.nn.Module, settings: LoraSettings, base_id: str) -> PeftModel:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha or 2 * settings.rank,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=list(TARGETS[settings.targets]),
        bias="none",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers' notice of `is_gradient_checkpointing`, for every run
        model = get_peft_model(shared_copy(base), config)  # type: ignore[arg-type]
    model.peft_config["default"].base_model_name_or_path = base_id or None
    # Lets peft and Chronos2Pipeline find the class of the base from the adapter's folder alone.
    model.peft_config["default"].auto_mapping = {"base_model_class": type(base).__name__, "parent_library": type(base).__module__}
    return model.eval()  # type: ignore[return-value]


@contextmanager
def seeded(device: torch.device, key: tuple[int, ...]) -> Iterator[None]:
    """Seeds torch's global generators of the CPU and the device, for what can draw from no other, and puts them back afterwards."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
    index = [] if device.type != "cuda" else [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(devices=index):
        torch.default_generator.manual_seed(seed)
        for i in index:
            torch.cuda.default_generators[i].manual_seed(seed)
        yield


def _bytes(tensors: Mapping[str, torch.Tensor]) -> bytes:
    return tensor_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})

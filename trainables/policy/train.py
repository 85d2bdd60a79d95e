"""One training of a policy network on one fold, which can be killed at any step and goes on as if nothing had happened (SPEC F.5, F.6).

Windows, dropout, learning rate and temperature of a step follow from (seed, fold, step) alone, so there is no generator whose state
could be lost: a checkpoint is weights, the optimiser's moments and the number of the step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes

from trainables import checkpoint
from trainables.checkpoint import CheckpointError
from trainables.policy.data import Series, draw, ends_or_raise
from trainables.policy.decode_torch import decode_logits
from trainables.policy.losses import LossSpec, make_loss, over_lags
from trainables.policy.nets import PolicyNet, make_net
from trainables.policy.options import Chosen
from trainables.policy.soft import simulate, temperature_at

_MOMENTS: Final = ("exp_avg", "exp_avg_sq")
_WINDOWS, _DROPOUT, _INIT = 0, 1, 2  # first number of the keys
# What shapes a training; the rest of a configuration is about how its decisions are scored.
_SHAPES: Final = (
    *("batch", "learning_rate", "schedule", "warmup", "weight_decay", "grad_clip", "temperature_start", "temperature_end", "average"),
    *("epochs", "steps_per_epoch", "seq_len", "decode", "decode_offset", "decode_horizon", "loss", "return_weight", "drawdown_weight"),
    *("smoothness", "loss_reduce", "fill_buffer", "leverage", "allow_short", "margin_rate", "cost_multiplier", "ensemble"),
)


class TrainRun:
    """A training: a network, its optimiser, and how far they are.

    Attributes:
        step: Optimiser steps done.
        loss: Mean loss of the last epoch's steps, NaN before.
        diverged: Whether it ended because numbers were no longer finite; `notes` says where.
        past: Weights of earlier epochs' networks that decide with the present one, oldest first.
    """

    def __init__(self, series: Series, chosen: Chosen, seed: int, fold: int, device: str = "cpu") -> None:
        """Builds the network before its first step.

        Args:
            series: The fold.
            chosen: The configuration.
            seed: Of the trial, at least 0.
            fold: Number of the fold, for keys and messages.
            device: Where the network is.

        Raises:
            TrainableError: No window to train on.
        """
        self.series, self.chosen, self.seed, self.fold = series, chosen, seed, fold
        self.device = torch.device(device)
        self.step, self.loss, self.diverged = 0, math.nan, False
        self.notes: list[str] = []
        self.past: list[dict[str, torch.Tensor]] = []
        self._ends = ends_or_raise(series, chosen, fold)
        init = int(np.random.SeedSequence([seed, fold, _INIT]).generate_state(1)[0])
        self.net = make_net(chosen.net(), init).to(self.device)
        self._weights = dict(self.net.named_parameters())
        self._mean = {name: p.detach().clone() for name, p in self._weights.items()} if chosen.config["average"] else {}
        c = chosen.config
        self._optimiser = torch.optim.AdamW(self._weights.values(), lr=c["learning_rate"], weight_decay=c["weight_decay"], fused=True)
        self._loss = make_loss(
            LossSpec(c["loss"], c["return_weight"], c["drawdown_weight"], chosen.fractions, c["loss_reduce"], smoothness=c["smoothness"])
        )
        self._features = torch.from_numpy(series.features)
        self._market = torch.from_numpy(series.market)

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return self.step // int(self.chosen.config["steps_per_epoch"])

    @property
    def last_step(self) -> int:
        """Step at which the training is done."""
        return int(self.chosen.config["steps_per_epoch"] * self.chosen.config["epochs"])

    def advance(self) -> None:
        """Trains for an epoch."""
        if self.step and not self._optimiser.state:
            raise CheckpointError(f"policy: at step {self.step} without the optimiser's moments; load the whole checkpoint to go on")
        c = self.chosen.config
        if c["ensemble"] > 1 and self.step:
            self.past = [*self.past, self._deciding()][-(c["ensemble"] - 1) :]
        losses: list[float] = []
        self.net.train()
        try:
            while len(losses) < c["steps_per_epoch"] and not self.diverged:
                losses.append(self._one())
        finally:
            self.net.eval()
        self.loss = math.nan if self.diverged else float(np.mean(losses))

    def deciders(self) -> list[PolicyNet]:
        """Returns the networks that decide together, in eval mode: this epoch's, and those of earlier ones that are kept."""
        made = []
        for weights in [*self.past, self._deciding()]:
            net = make_net(self.chosen.net(), 0)
            net.load_state_dict(weights)
            made.append(net.to(self.device).eval())
        return made

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of the step after `step` steps."""
        c = self.chosen.config
        rate, warm = float(c["learning_rate"]), min(int(c["warmup"]), self.last_step)
        if step < warm:
            return rate * (step + 1) / warm
        gone = (step - warm) / max(1, self.last_step - warm)
        return {"constant": rate, "linear": rate * (1.0 - gone), "cosine": rate * 0.5 * (1.0 + math.cos(math.pi * gone))}[c["schedule"]]

    def temperature_at(self, step: int) -> float:
        """Softness of the fills of the step after `step` steps: cools through the epochs, and stays in the last as it is."""
        c = self.chosen.config
        epoch = step / c["steps_per_epoch"]
        return temperature_at(min(epoch, c["epochs"] - 1), c["epochs"], c["temperature_start"], c["temperature_end"])

    def save(self, folder: str | Path) -> None:
        """Writes a checkpoint; until it is complete, one that is in the folder already stays the valid one."""
        state = self._optimiser.state
        moments = {f"{key}.{name}": state[p][key] for name, p in self._weights.items() for key in _MOMENTS if key in state.get(p, {})}
        tensors: dict[str, torch.Tensor] = {f"net.{name}": p for name, p in self._weights.items()}
        tensors |= {f"mean.{name}": p for name, p in self._mean.items()}
        tensors |= {f"past{i}.{name}": p for i, weights in enumerate(self.past) for name, p in weights.items()}
        progress = {"step": self.step, "loss": self.loss, "diverged": self.diverged, "notes": self.notes, "past": len(self.past)}
        checkpoint.write(folder, {"run": self.identity(), **progress}, _bytes(tensors), _bytes(moments))

    def load(self, folder: str | Path, weights_only: bool = False) -> None:
        """Takes up a checkpoint of the same training.

        Args:
            folder: Of the checkpoint.
            weights_only: To export or decide, and not to go on; then the optimiser's moments may have been dropped.

        Raises:
            CheckpointError: Missing, damaged, or of another training.
        """
        place = Path(folder)
        body = checkpoint.read_manifest(place)
        here = self.identity()
        there = body.get("run", {})
        for key in here:
            if there.get(key) != here[key]:
                raise CheckpointError(f"checkpoint {place}: {key} is {there.get(key)!r:.200} there and {here[key]!r:.200} in this run")
        tensors = read_tensors(checkpoint.read_part(place, body, "weights"))
        moments = {} if weights_only else read_tensors(checkpoint.read_part(place, body, "moments"))
        with torch.no_grad():
            for name, p in self._weights.items():
                p.copy_(tensors[f"net.{name}"])
                if name in self._mean:
                    self._mean[name].copy_(tensors[f"mean.{name}"])
                self._optimiser.state.pop(p, None)
                if f"{_MOMENTS[0]}.{name}" in moments:
                    own = {key: moments[f"{key}.{name}"].to(p.device) for key in _MOMENTS}
                    self._optimiser.state[p] = {"step": torch.tensor(float(body["step"]), device=p.device), **own}
        kept = range(body["past"])
        self.past = [{name: tensors[f"past{i}.{name}"].to(self.device) for name in self._weights} for i in kept]
        self.step, self.loss = body["step"], body["loss"]
        self.diverged, self.notes = body["diverged"], list(body["notes"])

    def identity(self) -> dict[str, Any]:
        """Says what the training is of, as JSON takes it."""
        c, chosen = self.chosen.config, self.chosen
        return {
            "data": self.series.digest,
            "network": chosen.net().to_dict(),
            "training": {name: c[name] for name in _SHAPES} | {"lags": list(chosen.lags), "fractions": list(chosen.fractions)},
            "features": chosen.features.to_dict(),
            "normaliser": blake2b(json.dumps(self.series.normaliser.to_dict(), sort_keys=True).encode(), digest_size=16).hexdigest(),
            "train_end": np.datetime_as_string(self.series.train_end, unit="s") + "Z",
            "seed": [self.seed, self.fold],
        }

    def _one(self) -> float:
        series, c = self.series, self.chosen.config
        length = int(c["seq_len"])
        ends = draw(self._ends, (self.seed, self.fold, _WINDOWS, self.step), int(c["batch"]))
        at = torch.from_numpy(ends[:, None] + np.arange(1 - length, 1))
        symbol = series.symbol[ends]
        close, high, low, below, above = self._market[:, at].to(self.device).unbind(0)
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate_at(self.step)
        self._optimiser.zero_grad()
        logits = self.net(self._features[at].to(self.device), (_DROPOUT, self.seed, self.fold, self.step))
        if not bool(torch.isfinite(logits).all()):
            return self._diverge("a logit is not finite")
        orders = decode_logits(logits, close, below, above, mode=c["decode"], offset=c["decode_offset"])
        fee = series.fee[symbol] * c["cost_multiplier"]
        periods = torch.from_numpy(series.periods[symbol]).to(self.device, logits.dtype)
        hours = torch.from_numpy(series.hours[at.numpy()]).to(self.device) if c["leverage"] > 1.0 else 1.0

        def loss_at(lag: int) -> torch.Tensor:
            made = simulate(
                close,
                high,
                low,
                *orders,
                fee=fee,
                temperature=self.temperature_at(self.step),
                fill_buffer=c["fill_buffer"],
                lag=lag,
                leverage=c["leverage"],
                can_long=series.can_long[symbol],
                can_short=series.can_short[symbol] & c["allow_short"],
                margin_rate=c["margin_rate"] if c["leverage"] > 1.0 else 0.0,
                hours=hours,
            )
            return self._loss(made.returns, periods, made.present)

        loss = over_lags(loss_at, self.chosen.lags)
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self._weights.values(), c["grad_clip"]))
        value = float(loss.detach())
        if not math.isfinite(value) or not math.isfinite(norm):
            return self._diverge(f"loss {value:g}, gradient {norm:g}")
        self._optimiser.step()
        self.step += 1
        for name, mean in self._mean.items():
            mean.lerp_(self._weights[name].detach(), 1.0 - min(float(c["average"]), self.step / (self.step + 10.0)))
        return value

    def _diverge(self, what: str) -> float:
        self.diverged = True
        self.notes.append(f"diverged at step {self.step}: {what}; a lower learning_rate or grad_clip may help")
        return math.nan

    def _deciding(self) -> dict[str, torch.Tensor]:
        """Weights that decide now, a copy."""
        return {name: (self._mean.get(name, p)).detach().clone() for name, p in self._weights.items()}


def _bytes(tensors: Mapping[str, torch.Tensor]) -> bytes:
    return tensor_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})

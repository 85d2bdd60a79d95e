"""Chronos-2 behind the interface of forecasters: a base model, with an exported adapter or without, issuing at every bar.

What the values depend on is known from files alone; torch is imported, and the model loaded, when rows have to be built.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from hashlib import blake2b
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from trainables.chronos2.export import ADAPTER, MERGED, METADATA, check_train_end, read_metadata
from trainables.chronos2.model import check_adapter, find_base, fingerprint
from trainables.chronos2.preaug import parse
from trainables.chronos2.tasks import COVARIATES, LEAST_CONTEXT, NAMED, make_task, named_groups
from trainables.contract import Parameter, TrainableError
from trainables.exported import ExportError
from trainables.forecast import guard
from trainables.forecast.forecaster import HORIZONS, Done, Forecaster, checked_horizons
from trainables.forecast.table import QUANTILES
from trainables.market import Panel

VERSION: Final = 1
PARAMETERS: Final = (
    Parameter("model", "small", "text", doc="small (embedded), a directory, or a hub id such as amazon/chronos-2"),
    Parameter("adapter", "", "text", doc="a folder that `alphasweep export` wrote"),
    Parameter("context", 512, "int", LEAST_CONTEXT, 8192, unit="bars", doc="longest context"),
    Parameter("preaug", "baseline", "text", doc="what is done to prices before the model sees them"),
    Parameter("covariates", "none", "choice", choices=tuple(COVARIATES), doc="past covariates from raw prices"),
    Parameter("grouping", "none", "choice", choices=NAMED, doc="symbols that attend to each other"),
    Parameter("batch_rows", 64, "int", 1, 65536, unit="rows", doc="rows of the model's batches; another number is another rounding"),
    Parameter("device", "auto", "text", doc="cpu, cuda, cuda:1; auto is a card if there is one"),
)
_ADAPTER_KEYS: Final = (
    *("r", "lora_alpha", "target_modules", "modules_to_save", "bias", "fan_in_fan_out", "use_rslora", "use_dora"),
    *("rank_pattern", "alpha_pattern", "layers_to_transform", "layers_pattern"),
)


class Chronos2(Forecaster):
    """Zero-shot or fine-tuned Chronos-2, in float32.

    Symbols of a group are forecast together on their common bars, at the same issue time, and never with another issue time (SPEC J3).
    Groups follow from names and asset classes: what a symbol's later bars are must not decide how it was forecast before.
    """

    name = "chronos2"
    guarded = True

    def __init__(
        self,
        model: str = "small",
        adapter: str = "",
        context: int = 512,
        preaug: str = "baseline",
        covariates: str = "none",
        grouping: str = "none",
        batch_rows: int = 64,
        device: str = "auto",
        horizons: Sequence[int] = HORIZONS,
    ) -> None:
        """Checks all of it; files are read, weights are not loaded.

        Args:
            model: As in `model.find_base`.
            adapter: Folder of an exported fine-tune of that model; "" is none.
            context: Longest context in bars; symbols with fewer are forecast from an eighth of it, 16 bars at least.
            preaug: As `preaug.parse` reads it.
            covariates: Key of `tasks.COVARIATES`.
            grouping: Of `tasks.NAMED`.
            batch_rows: As in `forecast.forecast_alike`.
            device: Where the model runs; not part of what identifies a table: rows of a card and of a CPU differ by rounding (1e-6).
            horizons: Bars ahead.

        Raises:
            TrainableError: Which of them, and what is allowed; libraries that are not installed.
        """
        if any(find_spec(module) is None for module in ("torch", "chronos", "peft")):
            raise TrainableError("forecaster chronos2 needs torch, chronos-forecasting and peft: pip install 'alphasweep[chronos]'")
        given = {"context": context, "covariates": covariates, "batch_rows": batch_rows}
        for parameter in PARAMETERS:
            if parameter.name in given:
                parameter.check(given[parameter.name], f"chronos2.{parameter.name}")
        if grouping not in NAMED:
            why = "; correlation groups are chosen on a train window, which a forecaster has not" if grouping == "correlation" else ""
            raise TrainableError(f"chronos2.grouping: {grouping!r} is not allowed; give one of {', '.join(NAMED)}{why}")
        self.model, self.adapter, self.context = model, adapter, int(context)
        self.covariates, self.grouping, self.batch_rows, self.device = covariates, grouping, int(batch_rows), device
        self.horizons = checked_horizons(horizons, "chronos2.horizons")
        self.preaug = parse(preaug, where="chronos2.preaug")
        limits = find_base(model).config["chronos_config"]
        for key, value, most in (
            ("context", self.context, limits["context_length"]),
            ("horizons", max(self.horizons), limits["max_output_patches"] * limits["output_patch_size"]),
        ):
            if value > most:
                raise TrainableError(f"chronos2.{key}: {value} is more than the {most:,} bars of the model {model}")
        self.least = max(LEAST_CONTEXT, self.context // 8, self.preaug.order)
        # A return of a context's first bar is from the bar before.
        self.reach = self.context + ("return_1h" in COVARIATES[covariates])
        self._metadata = self._trained()

    def _trained(self) -> Mapping[str, Any] | None:
        """Checks the adapter and returns what is known of its training; also of merged weights that lie where they were exported."""
        if self.adapter:
            folder = Path(self.adapter).expanduser()
            metadata = read_metadata(folder)
            check_adapter(folder / ADAPTER, self.model)
            if metadata.get("base_digest") != fingerprint(self.model):
                self._network()  # exported outside a study: the digest is of the loaded weights
            self._as_trained(metadata, f"adapter {folder}")
            return metadata
        place = Path(self.model).expanduser().resolve()
        if not place.is_dir():
            return None
        # Merged weights have their metadata with them, and beside them.
        for folder in (place, place.parent) if place.name == MERGED else (place,):
            if (folder / METADATA).is_file():
                metadata = read_metadata(folder)
                self._as_trained(metadata, f"model {place}")
                return metadata
        return None

    def _as_trained(self, metadata: Mapping[str, Any], which: str) -> None:
        """Refuses a fine-tune that would be shown other things than in its training (docs/chronos.md#export)."""
        for key, value in (("preaug", self.preaug.label), ("covariates", self.covariates)):
            if key in metadata and metadata[key] != value:
                raise TrainableError(f"chronos2.{key}: {which} was trained with {metadata[key]}, not {value}; give {key}: {metadata[key]}")

    @property
    def made_with(self) -> Mapping[str, str]:
        """Versions of the libraries that run the model: another one may round, or read a configuration, otherwise."""
        return {name: version(name) for name in ("torch", "chronos-forecasting", "transformers", "peft")}

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """Weights by their digests, wherever they lie, and everything that is done with them."""
        return {
            "forecaster": self.name,
            "version": VERSION,
            "guard": guard.VERSION,
            "weights": fingerprint(self.model),
            "adapter": _adapter_digest(self.adapter) if self.adapter else "",
            "context": self.context,
            "least": self.least,
            "preaug": self.preaug.label,
            "covariates": self.covariates,
            "grouping": self.grouping,
            "quantiles": list(QUANTILES),
            "horizons": list(self.horizons),
            "batch_rows": self.batch_rows,
        }

    @property
    def source(self) -> str:
        """Model, digests and what differs from the defaults."""
        spec = self.spec
        tuned = f" + adapter {spec['adapter'][:8]}" if self.adapter else ""
        plain = {p.name: p.default for p in PARAMETERS}
        options = [f"{key}={spec[key]}" for key in ("context", "preaug", "covariates", "grouping", "batch_rows") if spec[key] != plain[key]]
        called = f"{Path(self.model).name} {spec['weights'][:8]}{tuned}"
        return f"chronos2({', '.join([called, *options])})"

    def groups(self, panel: Panel) -> list[tuple[int, ...]]:
        """Each symbol alone, or the majors by base symbol (SPEC C.2)."""
        return [tuple(group) for group in named_groups(panel, self.grouping)]

    def bars(self, panel: Panel, columns: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Adds volumes where a covariate is made of them."""
        rows, prices = super().bars(panel, columns)
        if not {"volume", "log_volume"} & set(COVARIATES[self.covariates]):
            return rows, prices
        return rows, np.vstack([prices, panel.volume[rows][:, list(columns)].T])

    def admit(self, issued: np.datetime64) -> None:
        """Refuses the time a fine-tune was trained on (SPEC J5)."""
        if self._metadata is not None:
            check_train_end(self._metadata, issued)

    def build(self, panel: Panel, columns: tuple[int, ...], rows: np.ndarray, first: int, stop: int, done: Done) -> np.ndarray:
        """Runs the model, in batches of one shape."""
        from trainables.chronos2.forecast import forecast_alike

        start = max(0, first + 1 - self.reach)
        task = make_task(panel, columns, rows[start:stop], self.covariates)
        found = forecast_alike(
            self._network(),
            task,
            np.arange(first - start, stop - start),
            self.horizons,
            QUANTILES,
            self.batch_rows,
            context=self.context,
            preaug=None if self.preaug.label == "baseline" else self.preaug,
            done=done,
        )
        each = found.reshape(len(found), len(columns), -1, *found.shape[2:])  # (n, k, 4, Q, H)
        return each.transpose(1, 4, 2, 3, 0).reshape(-1, len(found))

    def _network(self) -> Any:
        here = fingerprint(self.model), _adapter_digest(self.adapter) if self.adapter else ""
        if here != (self.spec["weights"], self.spec["adapter"]):
            raise TrainableError(
                f"{self.source}: the weights at {self.adapter or self.model} have changed since; make the forecaster again"
            )
        return _network(self.model, here[0], self.adapter, here[1], self.device)


@lru_cache(maxsize=2)
def _network(model: str, digest: str, adapter: str, adapter_digest: str, device: str) -> Any:
    """Loads a model once for all builds of a process; an adapter is merged into its weights."""
    from trainables.chronos2.model import load_base

    base = load_base(model, device=None if device == "auto" else device, dtype="float32").model
    if not adapter:
        return base
    from trainables.chronos2.export import load_adapter, merged_model

    folder = Path(adapter).expanduser()
    known = digest if read_metadata(folder).get("base_digest") == digest else ""
    return merged_model(load_adapter(base, folder, known))


def weights_of(model: str, adapter: str = "") -> dict[str, Any]:
    """Returns what results with forecasts of a model depend on, whatever its parameters: versions of our rules, digests of weights.

    Raises:
        TrainableError: They cannot be found.
    """
    digest = _adapter_digest(adapter) if adapter else ""
    return {"version": VERSION, "guard": guard.VERSION, "weights": fingerprint(model), "adapter": digest}


def _adapter_digest(adapter: str) -> str:
    """Names what an adapter does to its base: its weights, and the settings by which they are applied."""
    folder = Path(adapter).expanduser() / ADAPTER
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        weights = (folder / "adapter_model.safetensors").read_bytes()
    except (OSError, ValueError) as error:
        raise ExportError(f"{folder}: cannot be read ({type(error).__name__}); export the run again") from error
    chosen = {key: config.get(key) for key in _ADAPTER_KEYS}
    chosen = {key: sorted(value) if isinstance(value, list) else value for key, value in chosen.items()}
    return blake2b(json.dumps(chosen, sort_keys=True).encode() + weights, digest_size=16).hexdigest()

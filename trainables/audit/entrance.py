"""How a perturbed market gets into a trainable: in memory if it can take a panel, through files if it cannot."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from trainables.audit.stages import FromPanel
from trainables.contract import Context, Prepared, Trainable, check_config
from trainables.market import Asset, Panel, load_market


@dataclass(frozen=True)
class Entrance:
    """A trainable with everything of a study but its market.

    Attributes:
        trainable: Under audit.
        settings: The study's.
        configs: Its configurations, as given.
        seed: Of every evaluation.
        in_memory: Give panels to `prepare_panel`; else write them to files for `prepare`.
    """

    trainable: Trainable
    settings: Mapping[str, Any]
    configs: tuple[Mapping[str, Any], ...]
    seed: int
    in_memory: bool

    @contextmanager
    def open(self, panel: Panel, settings: Mapping[str, Any] | None = None) -> Iterator[Prepared]:
        """Prepares a panel; files it needs live until the block ends."""
        chosen = self.settings if settings is None else settings
        if self.in_memory and isinstance(self.trainable, FromPanel):
            yield self.trainable.prepare_panel(panel, chosen)
            return
        with tempfile.TemporaryDirectory(prefix="audit-") as folder:
            yield self.trainable.prepare(write_market(panel, Path(folder)), chosen)

    def context(self, prepared: Prepared) -> Context:
        """The context of every evaluation of prepared inputs."""
        return Context(prepared.inputs, seed=self.seed)

    def complete(self, prepared: Prepared) -> list[dict[str, Any]]:
        """Returns the configurations with every parameter."""
        return [{**prepared.defaults, **check_config(self.trainable, config, f"configs[{i}]")} for i, config in enumerate(self.configs)]

    def metrics(self, prepared: Prepared, configs: Sequence[Mapping[str, Any]] | None = None) -> pd.DataFrame:
        """Evaluates configurations, all if not given."""
        chosen = self.complete(prepared) if configs is None else configs
        return self.trainable.evaluate_pack(chosen, self.context(prepared)).metrics.reset_index(drop=True)


def study_panel(data: Mapping[str, Any]) -> Panel:
    """Loads the market of a study's data section."""
    return load_market(data)[0]


def write_market(panel: Panel, folder: Path) -> dict[str, Any]:
    """Writes a panel's bars, one file per symbol, and returns the data section that loads them with the same costs."""
    frame = panel.frame()
    for symbol, rows in frame.groupby("symbol"):
        rows.drop(columns="symbol").reset_index(drop=True).to_parquet(folder / f"{str(symbol).replace('/', '')}.parquet")
    present = set(frame["symbol"])
    assets = [asset for asset in panel.assets if asset.symbol in present]
    return {"source": str(folder), "symbols": [asset.symbol for asset in assets], "assets": asset_section(assets)}


def asset_section(assets: Sequence[Asset]) -> dict[str, dict[str, Any]]:
    """Returns the `data.assets` that `make_assets` turns into these assets."""
    return {x.symbol: {f.name: getattr(x, f.name) for f in fields(x) if f.name != "symbol"} for x in assets}

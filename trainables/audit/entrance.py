"""How a perturbed market gets into a trainable: in memory if it can take a panel, through files if it cannot."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from trainables.audit.copies import Source, asset_section
from trainables.audit.stages import FromPanel
from trainables.contract import Context, Evaluation, Prepared, Trainable, check_config
from trainables.market import MarketError, Panel, classify, load_market, read_directory
from trainables.market.load import FILE_KEYS, _paths


@dataclass(frozen=True)
class Entrance:
    """A trainable with everything of a study but its market.

    Attributes:
        trainable: Under audit.
        settings: The study's.
        configs: Its configurations, as given.
        seed: Of every evaluation.
        in_memory: Give panels to `prepare_panel`; else write them to files for `prepare`.
        source: The study's files, which copies resemble; None: a folder of Parquet files will do.
    """

    trainable: Trainable
    settings: Mapping[str, Any]
    configs: tuple[Mapping[str, Any], ...]
    seed: int
    in_memory: bool
    source: Source | None = None

    @contextmanager
    def open(self, panel: Panel, settings: Mapping[str, Any] | None = None) -> Iterator[Prepared]:
        """Prepares a panel; files it needs live until the block ends."""
        chosen = self.settings if settings is None else settings
        if self.in_memory and isinstance(self.trainable, FromPanel):
            yield self.trainable.prepare_panel(panel, chosen)
            return
        with tempfile.TemporaryDirectory(prefix="audit-") as folder:
            write = write_market if self.source is None else self.source.write
            yield self.trainable.prepare(write(panel, Path(folder)), chosen)

    def describe(self) -> str:
        """How a market is given to the trainable, in words."""
        if self.in_memory:
            return "given to `prepare_panel`"
        if self.source is None:
            return "a folder of Parquet files, one per symbol; data keys passed: source, symbols, assets"
        return f"{self.source.describe()}; data keys passed: {', '.join(self.source.data)}"

    def failure(self, error: Exception) -> str:
        """Says that a trainable could not use a market, and what that market looked like."""
        what = f"{type(error).__name__}: {error}"
        if self.in_memory:
            return f"could not run on a changed market given to `prepare_panel`: {what}"
        return f"could not run on a changed copy of the data: {what}; the copy is {self.describe()}"

    def context(self, prepared: Prepared) -> Context:
        """The context of every evaluation of prepared inputs."""
        return Context(prepared.inputs, seed=self.seed)

    def complete(self, prepared: Prepared) -> list[dict[str, Any]]:
        """Returns the configurations with every parameter."""
        return [{**prepared.defaults, **check_config(self.trainable, config, f"configs[{i}]")} for i, config in enumerate(self.configs)]

    def evaluate(self, prepared: Prepared, configs: Sequence[Mapping[str, Any]] | None = None) -> Evaluation:
        """Evaluates configurations, all if not given."""
        return self.trainable.evaluate_pack(self.complete(prepared) if configs is None else configs, self.context(prepared))

    def metrics(self, prepared: Prepared, configs: Sequence[Mapping[str, Any]] | None = None) -> pd.DataFrame:
        """Returns the metrics of configurations, of all if not given."""
        return self.evaluate(prepared, configs).metrics.reset_index(drop=True)


def study_panel(data: Mapping[str, Any], own_loading: bool = False) -> Panel:
    """Loads the market of a study's data section.

    Args:
        data: The section.
        own_loading: The trainable reads its data itself: keys, stamps without a zone (taken for UTC) and symbols whose class is
            unknown (taken for coins, which have no sessions) are none of our business.

    Raises:
        MarketError: It is no market.
    """
    try:
        return load_market(data)[0]
    except MarketError:
        if not own_loading or data.get("source", "sample") == "sample":
            raise
        known = {key: value for key, value in data.items() if key in FILE_KEYS}
        known["assume_tz"] = known.get("assume_tz") or "UTC"
        names = {name for path in _paths(data["source"], None) for name in read_directory(path, None, known["assume_tz"])}
        known["assets"] = {**{name: {"asset_class": "crypto"} for name in names if _unclear(name)}, **(known.get("assets") or {})}
        return load_market(known)[0]


def _unclear(symbol: str) -> bool:
    try:
        classify(symbol)
    except MarketError:
        return True
    return False


def write_market(panel: Panel, folder: Path) -> dict[str, Any]:
    """Writes a panel's bars, one file per symbol, and returns the data section that loads them with the same costs."""
    frame = panel.frame()
    for symbol, rows in frame.groupby("symbol"):
        rows.drop(columns="symbol").reset_index(drop=True).to_parquet(folder / f"{str(symbol).replace('/', '')}.parquet")
    present = set(frame["symbol"])
    assets = [asset for asset in panel.assets if asset.symbol in present]
    return {"source": str(folder), "symbols": [asset.symbol for asset in assets], "assets": asset_section(assets)}

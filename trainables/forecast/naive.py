"""The `naive` forecaster: the last bar again. No spread and no opinion; what anything else has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainables.forecast.forecaster import HORIZONS, Done, Forecaster, checked_horizons
from trainables.forecast.table import QUANTILES
from trainables.market import Panel

VERSION = 1


class Naive(Forecaster):
    """Forecasts open and close at the last close, high and low at the last bar's, at every horizon and quantile."""

    name = "naive"
    reach = 1

    def __init__(self, horizons: Sequence[int] = HORIZONS) -> None:
        self.horizons = checked_horizons(horizons)

    @property
    def spec(self) -> Mapping[str, Any]:
        """Its version."""
        return {"forecaster": self.name, "version": VERSION, "horizons": list(self.horizons)}

    @property
    def source(self) -> str:
        """Its name."""
        return self.name

    def build(self, panel: Panel, columns: tuple[int, ...], rows: np.ndarray, first: int, stop: int, done: Done) -> np.ndarray:
        """Carries bars forward."""
        at, a = rows[first:stop], columns[0]
        close = panel.close[at, a]
        bar = np.stack([close, panel.high[at, a], panel.low[at, a], close])
        return np.tile(np.repeat(bar, len(QUANTILES), axis=0), (len(self.horizons), 1))

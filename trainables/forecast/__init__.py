"""Forecast tables: who predicts, and the one schema every forecaster fills (SPEC D)."""

from trainables.forecast.empirical import MINIMUM, Empirical, empirical
from trainables.forecast.forecaster import HORIZONS, Forecaster, issue, make_forecaster
from trainables.forecast.naive import Naive
from trainables.forecast.table import FIELDS, QUANTILES, Forecasts

__all__ = [
    "FIELDS",
    "HORIZONS",
    "MINIMUM",
    "QUANTILES",
    "Empirical",
    "Forecaster",
    "Forecasts",
    "Naive",
    "empirical",
    "issue",
    "make_forecaster",
]

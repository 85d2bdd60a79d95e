"""Forecast tables: who predicts, and the one schema every forecaster fills (SPEC D)."""

from trainables.forecast.empirical import MINIMUM, empirical
from trainables.forecast.table import FIELDS, QUANTILES, Forecasts

__all__ = ["FIELDS", "MINIMUM", "QUANTILES", "Forecasts", "empirical"]

"""Bars of any symbol on one UTC axis: what they are, when they trade, what they cost, and a market to try things on."""

from __future__ import annotations

from trainables.market.assets import Asset, classify, make_assets
from trainables.market.check import Problem, check_frame, raise_on_errors, summarise
from trainables.market.errors import MarketError
from trainables.market.files import read_directory
from trainables.market.load import check_directory, load_market
from trainables.market.panel import Panel
from trainables.market.problems import warnings_of
from trainables.market.sample import sample_drift, sample_panel
from trainables.market.sessions import session_masks

__all__ = [
    "Asset",
    "MarketError",
    "Panel",
    "Problem",
    "check_directory",
    "check_frame",
    "classify",
    "load_market",
    "make_assets",
    "raise_on_errors",
    "read_directory",
    "sample_drift",
    "sample_panel",
    "session_masks",
    "summarise",
    "warnings_of",
]

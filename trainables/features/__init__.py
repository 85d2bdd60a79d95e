"""Features: what a policy sees of a market at the end of each bar (docs/features.md)."""

from pathlib import Path

from trainables.kernel_cache import kernels_of

with kernels_of(Path(__file__).parent):
    from trainables.features import kernels  # noqa: F401

from trainables.features.frame import FeatureFrame, features
from trainables.features.normaliser import Normaliser
from trainables.features.spec import PRESETS, FeatureError, FeatureSpec, preset

__all__ = ["PRESETS", "FeatureError", "FeatureFrame", "FeatureSpec", "Normaliser", "features", "preset"]

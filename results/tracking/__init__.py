"""Trackers: projections of a ledger into W&B, MLflow or TensorBoard, written beside the run by a process of their own (DESIGN 3.1)."""

from typing import Final

CACHE_USE: Final = "cache_use"  # kind of the event that keeps what a session had of its cache

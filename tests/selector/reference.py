"""The selector simulator, slow and obvious: one small function per rule of docs/fills.md, to be read beside it.

It shares no code with the fast kernel on purpose; the two must agree to the last cent on anything a test can think of.
The rules are in `reference_rules` (both profiles), `reference_realistic` and `reference_legacy`.
"""

from __future__ import annotations

from tests.selector.reference_legacy import run_legacy
from tests.selector.reference_metrics import metrics_from
from tests.selector.reference_realistic import run_realistic
from tests.selector.reference_rules import Config, Fill, RefAsset, RefInputs, RefResult

__all__ = ["Fill", "RefAsset", "RefInputs", "RefResult", "metrics_from", "run_reference"]


def run_reference(
    inputs: RefInputs, config: Config, profile: str, initial_cash: float = 10_000.0, start_row: int = 0, held: int | None = None
) -> RefResult:
    """Simulate one configuration under `profile`, 'realistic' or 'legacy'; `start_row` and `held` are for `realistic`."""
    if profile not in ("realistic", "legacy"):
        raise ValueError(f"profile is 'realistic' or 'legacy', not {profile!r}")
    symbols = [asset.symbol for asset in inputs.assets]
    if symbols != sorted(symbols):
        raise ValueError(f"assets must be alphabetical, not {symbols}")
    if profile == "legacy":
        return run_legacy(inputs, config, initial_cash)
    return run_realistic(inputs, config, initial_cash, start_row, held)

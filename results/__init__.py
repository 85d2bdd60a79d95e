"""What came out: identities, metrics, the ledger, the leaderboard.

Metrics and identities cost numpy only; the ledger (SQLAlchemy, pandas) is loaded when first asked for. The
leaderboard is `results.leaderboard.leaderboard`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from results.identity import IdentityError, canonical_json, config_id, config_ids, context_id, trial_seed
from results.metrics import Metric
from results.records import Accepted, Header, LedgerError, LedgerLocked, Plan, ResultRow, Verification

if TYPE_CHECKING:
    from results.ledger import Ledger

_LAZY = {"Ledger": "results.ledger"}

__all__ = [
    "Accepted",
    "Header",
    "IdentityError",
    "Ledger",
    "LedgerError",
    "LedgerLocked",
    "Metric",
    "Plan",
    "ResultRow",
    "Verification",
    "canonical_json",
    "config_id",
    "config_ids",
    "context_id",
    "trial_seed",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'results' has no attribute {name!r}")

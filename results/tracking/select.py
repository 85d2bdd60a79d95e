"""Which trials have a run of their own, and what is in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from results import reports
from results.reader import LedgerReader
from results.tracking.tracker import TrialRun

SMALL: Final = 100  # trials up to which each has a run
SMALL_STEPPING: Final = 1_000  # the same, of trials that report
LARGE: Final = 100_000  # trials beyond which none has
BEST: Final = 50  # of those between, the best, when a session ends
BOARD: Final = 1_000  # rows of the leaderboard


@dataclass(frozen=True)
class Chosen:
    """Which trials have a run of their own; of failed ones the table tells.

    Attributes:
        each: All, as they end.
        best: So many of the best, when a session ends.
    """

    each: bool = False
    best: int = 0


def chosen(setting: Any, total: int | None, stepping: bool) -> Chosen:
    """Return which trials have a run.

    Args:
        setting: The option `trials` of a tracker: "auto", "none" or a number; that many of the best.
        total: Trials asked for; None where open-ended.
        stepping: Whether they report as they go.
    """
    if setting == "none" or setting == 0:
        return Chosen()
    if isinstance(setting, int):
        return Chosen(best=setting)
    size = math.inf if total is None else total
    if size <= (SMALL_STEPPING if stepping else SMALL):
        return Chosen(each=True)
    return Chosen(best=BEST if size <= LARGE else 0)


def runs(ledger: LedgerReader, numbers: Sequence[int], ranked: bool = False) -> Iterator[TrialRun]:
    """Yield the runs of trials, in this order.

    Args:
        ledger: The study's.
        numbers: Of trials that have a result.
        ranked: Whether they are the best ones, best first.
    """
    names = ledger.header.metric_names
    for rank, number in enumerate(numbers, 1):
        row = ledger.trial(int(number))
        config_id = bytes.fromhex(row["config_id"])
        told = [(report.step, _known(dict(zip(names, report.metrics, strict=True)))) for report in reports.read(ledger, config_id)]
        yield TrialRun(
            trial=row["trial"],
            config_id=row["config_id"],
            config={**ledger.header.defaults, **row["config"]},
            status=row["status"],
            metrics=_known(row["metrics"]),
            seconds=row["seconds"],
            reports=told,
            rank=rank if ranked else None,
        )


def ended(ledger: LedgerReader) -> list[int]:
    """Return the numbers of all trials that may have a run: completed or stopped early."""
    trials = ledger.tables.trials
    found = ledger.rows(sa.select(trials.c.trial).where(trials.c.status != "failed").order_by(trials.c.trial))
    return [row["trial"] for row in found]


def _known(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if value is not None and math.isfinite(value)}

"""Opening the sealed holdout: once, for one configuration, and on the record."""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from results import Ledger
from results.constraints import constraints_of
from results.leaderboard import LEGACY_LABEL, profile
from results.metrics import DAYS_PER_YEAR, Metric
from results.validity import Assessment, assess
from sweeps.evidence import OPENED, count_looks
from sweeps.runner import LEDGER
from sweeps.search import Evaluator, Search
from sweeps.study import Study, StudyError


@dataclass(frozen=True)
class Promotion:
    """What the holdout says about one configuration.

    Attributes:
        trial: Number of the configuration.
        metrics: What the study measures.
        search: Its metrics in the search, by name.
        holdout: Its metrics on the holdout, by name.
        assessment: Of the holdout's daily returns; every opening so far counts against it.
        opening: 1 for the first opening of these data's holdout, 2 for the second, …
        window: First and last day of the holdout.
    """

    trial: int
    metrics: tuple[Metric, ...]
    search: dict[str, Any]
    holdout: dict[str, float]
    assessment: Assessment | None
    opening: int
    window: tuple[str, str]


def promote(home: Path, trial: int | str | None = None, *, again: bool = False) -> Promotion:
    """Opens a study's holdout for one configuration.

    Args:
        home: The study's folder.
        trial: Which; the leaderboard's first by default.
        again: Open a holdout that has been opened before; this too is recorded, and counts against every later p-value.

    Raises:
        StudyError: Opened before, a legacy study, other data than the search's, or a failed trial.
    """
    with Ledger.open(home / LEDGER) as ledger:
        header = ledger.header
        if profile(header) == "legacy":
            raise StudyError(f"{home.name}: {LEGACY_LABEL}; legacy results contain look-ahead and cannot be promoted")
        fingerprint = str(header.context["data_fingerprint"])
        before = ledger.events(OPENED)
        looks = count_looks(home.parent, fingerprint)
        if looks.openings and not again:
            last = (
                f"trial {before[-1]['trial']} by {before[-1]['detail']['by']} at {before[-1]['time'][:16]}" if before else "another study"
            )
            raise StudyError(
                f"{home.name}: the holdout of these data has been opened ({looks.openings}×, last for {last}). What was learnt is no "
                "secret any more. --again opens it once more; that is recorded, and counts against every later p-value."
            )
        if trial is None and constraints_of(header) and not ledger.count_meeting(constraints_of(header)):
            raise StudyError(f"{home.name}: no trial meets the study's constraints, so there is no winner to promote; name a trial")
        row = ledger.trial(int(ledger.top(header.objective, n=1)["trial"].iloc[0]) if trial is None else trial)
        if row["status"] != "completed":
            raise StudyError(f"trial {row['trial']} failed; there is nothing to promote")
        search = Search(Study.parse(header.spec))
        prepared = search.prepare("holdout")
        if prepared.fingerprint != fingerprint:
            raise StudyError(
                f"{home.name}: the data are not those of the search (fingerprint {prepared.fingerprint}, then {fingerprint}). "
                "If the files are unchanged, the trainable's fingerprint depends on the part; it must name all the data."
            )
        # On the record before anybody sees a number, whatever happens next.
        by = f"{getpass.getuser()}@{socket.gethostname()}"
        ledger.record(OPENED, trial=row["trial"], by=by, config_id=row["config_id"], opening=looks.openings + 1)
        values = Evaluator(search.study, prepared.defaults, len(prepared.days)).evaluate([row["config"]], prepared.inputs)[0]
        names = [m.name for m in header.metrics]
        held = dict(zip(names, values[: len(names)].tolist(), strict=True))
        ledger.record("holdout_result", trial=row["trial"], metrics={k: v for k, v in held.items() if np.isfinite(v)})
        returns = values[len(names) :]
        found = None
        if len(returns):
            trades = held.get("trades", float("nan"))
            opening = looks.openings + 1
            found = assess(
                returns[:, None],
                periods_per_year=DAYS_PER_YEAR,
                trades=trades,
                looks=opening,
                openings=opening,
                benchmarks={k: v for k, v in prepared.benchmarks.items() if k != "flat"},
            )
        window = (str(prepared.days[0]), str(prepared.days[-1])) if len(prepared.days) else ("", "")
        return Promotion(row["trial"], header.metrics, row["metrics"], held, found, looks.openings + 1, window)

"""What the kept daily returns of a study say of every trial that has some: the columns beside a trial's metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results import pointer, series
from results.metrics import DAYS_PER_YEAR
from results.reader import LedgerReader
from results.validity import FLAT, Assessment, Evidence, assess, confidence_intervals, folds_won, verdict
from sweeps.home import LEDGER

ELSEWHERE: Final = "daily returns lie in the folder of whoever ran it, and this one is attached to its shared ledger (docs/cluster.md)"
LEVEL: Final = 0.95
COLUMNS: Final = ("verdict", "verdict_words", "dsr", "psr", "sharpe_low", "sharpe_high", "alike", "folds_won")
UNITS: Final[Mapping[str, str]] = {
    "dsr": "probability",
    "psr": "probability",
    "sharpe_low": "ratio",
    "sharpe_high": "ratio",
    "alike": "count",
    "folds_won": "count",
}
_WORDS: Final = ("verdict", "verdict_words")
_COUNTS: Final = ("alike", "folds_won")


def elsewhere(ledger: LedgerReader, home: Path) -> str:
    """Says so where a study's daily returns were kept, but not in this folder, which only reads its shared ledger; empty where not so."""
    attached = pointer.read(home / LEDGER) is not None and not (home / series.FOLDER).is_dir()
    return ELSEWHERE if attached and ledger.events(series.EVENT, limit=1) else ""


@dataclass(frozen=True, eq=False)
class Kept:
    """The trials whose daily returns were kept.

    Attributes:
        numbers: int64 (n,), −1 for returns whose trial is not in the ledger.
        trades: float64 (n,), NaN where n/a.
        daily: float32 (days, n).
        folds: int64 (days,), the fold of each day.
        benchmarks: Returns of each benchmark by name, (days,) each.
        metrics: Names the study has of its own.
    """

    numbers: NDArray[np.int64]
    trades: NDArray[np.float64]
    daily: NDArray[np.float32]
    folds: NDArray[np.int64]
    benchmarks: Mapping[str, NDArray[np.float64]]
    metrics: tuple[str, ...]

    @classmethod
    def load(cls, ledger: LedgerReader, home: Path) -> Kept | None:
        """Reads what a study kept; None if that is nothing, or not of the days it should be of."""
        _, folds, benchmarks = series.read_days(home)
        ids, matrix = series.read(ledger, home) if len(folds) else ([], np.empty((0, 0), np.float32))
        if not ids or matrix.shape[1] != len(folds):
            return None
        names = ledger.header.metric_names
        numbers, trades = ledger.found(ids, "trades" if "trades" in names else None)
        return cls(numbers, trades, matrix.T, folds, benchmarks, names)

    def columns(self, trials: Iterable[int]) -> list[int | None]:
        """Returns the column of each trial, None for those without returns."""
        place = {number: i for i, number in enumerate(self.numbers.tolist())}
        return [place.get(int(trial)) for trial in trials]

    def assess(self, looks: int, winner: int | None = None) -> Assessment:
        """Judges them together.

        Args:
            looks: At the same data.
            winner: Column of the trial chosen; default the largest Sharpe ratio.
        """
        return assess(
            self.daily,
            periods_per_year=DAYS_PER_YEAR,
            winner=winner,
            trades=None if winner is None else float(self.trades[winner]),
            looks=max(looks, len(self.numbers)),
            benchmarks={name: values for name, values in self.benchmarks.items() if name != FLAT},
        )


def by_trial(kept: Kept, found: Assessment, trials: Iterable[int] | None = None) -> pd.DataFrame:
    """Returns what is known about each trial that has returns.

    Args:
        kept: The returns.
        found: Their assessment.
        trials: Which; default all.

    Returns:
        Columns `COLUMNS`, trial numbers as index: the verdict's code and words, deflated and probabilistic Sharpe ratio, the limits
        of the Sharpe ratio's 95 % interval (annualised, of daily returns), how many trials behave identically (itself included),
        and folds with a gain, unless the study has a metric of that name. NaN where there are too few days.
    """
    wanted = range(len(kept.numbers)) if trials is None else [j for j in kept.columns(trials) if j is not None]
    columns = np.array([j for j in wanted if kept.numbers[j] >= 0], np.int64)
    daily = kept.daily[:, columns]
    nothing = np.full(len(columns), np.nan)
    low = high = psr = dsr = nothing
    if found.deflation is not None and len(columns):
        limits = confidence_intervals(daily, periods_per_year=DAYS_PER_YEAR, level=LEVEL, block=found.block)["sharpe"]
        low, high, psr, dsr = limits.low, limits.high, found.deflation.psr[columns], found.deflation.dsr[columns]
    growth = np.array([np.prod(1.0 + daily[kept.folds == fold].astype(float), axis=0) for fold in np.unique(kept.folds)])
    gains = np.prod(growth, axis=0) - 1.0
    p_values = {name: result.trial_p_values[columns] for name, result in found.superiority.items()}
    judged = [
        verdict(
            Evidence(
                trades=float(kept.trades[j]),
                periods=found.evidence.periods,
                days=found.evidence.days,
                total_return=float(gains[i]) if found.deflation is not None else None,
                dsr=float(dsr[i]),
                sharpe_low=float(low[i]),
                spa_p={name: float(values[i]) for name, values in p_values.items()},
                pbo=found.evidence.pbo,
                looks=found.evidence.looks,
                openings=found.evidence.openings,
            )
        )
        for i, j in enumerate(columns.tolist())
    ]
    table = pd.DataFrame(
        {
            "verdict": [item.code for item in judged],
            "verdict_words": [str(item) for item in judged],
            "dsr": dsr,
            "psr": psr,
            "sharpe_low": low,
            "sharpe_high": high,
            "alike": np.bincount(found.groups)[found.groups[columns]],
            "folds_won": folds_won(growth - 1.0),
        },
        index=pd.Index(kept.numbers[columns], name="trial"),
    )
    return table.drop(columns="folds_won") if "folds_won" in kept.metrics else table


def joined(board: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Returns a leaderboard with what is known about its trials; None, NaN or NA where nothing is.

    Verdict and DSR stand before everything but the ranking metric, the rest at the end. A name the board has already becomes
    `judged.<name>`.
    """
    rows = known.reindex(board["trial"].to_numpy()).reset_index(drop=True).set_index(board.index)
    for name in rows:
        if name in _WORDS:
            rows[name] = rows[name].astype(object).where(rows[name].notna(), None)
        elif name in _COUNTS:
            rows[name] = rows[name].astype("Int64")
    names = {name: _free(str(name), board.columns) for name in rows}
    first = [names[name] for name in ("verdict", "dsr")]
    last = [shown for shown in names.values() if shown not in first]
    made = pd.concat([board, rows.rename(columns=names)], axis=1)
    own = [name for name in board.columns if name != "meets"]
    order = [*own[:3], *first, *own[3:], *last, *(["meets"] if "meets" in board else [])]
    attrs: dict[Any, Any] = dict(board.attrs)
    made = made[order]
    made.attrs = attrs | {"units": attrs["units"] | {names[name]: unit for name, unit in UNITS.items() if name in names}}
    return made


def _free(name: str, taken: Collection[str]) -> str:
    return f"judged.{name}" if name in taken else name

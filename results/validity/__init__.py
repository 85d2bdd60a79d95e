"""Whether to believe the best of many trials: statistics of selection for anyone's returns matrix.

Every function takes simple returns as a matrix of T periods × N trials (see `panel`), says its units, and cites its
source. Sharpe ratios are per period unless a function asks for `periods_per_year`. Nothing here knows of studies, ledgers
or trainables. Where evidence is short the answer is NaN, None or "n/a"; input that makes no sense raises `ValidityError`.

- one trial: `sharpe_statistics`, `probabilistic_sharpe`, `min_track_record_length`, `confidence_intervals`
- the best of many: `deflate`, `superior_predictive_ability`, `step_m`, `probability_of_overfitting`
- how many looks those were: `effective_trials`, `participation_ratio`, `trial_families`, `duplicate_groups`
- a forecast beside one that needs no model, without daily returns: `reference_test`
- whether it holds elsewhere: `rank_stability`, `folds_won`, `grid_position`
- in words: `verdict`; all of it in one call: `assess`
"""

from __future__ import annotations

from results.validity.assessment import Assessment, assess
from results.validity.deflation import Deflation, deflate, deflated_sharpe, expected_max_sharpe
from results.validity.duplicates import duplicate_groups
from results.validity.folds import RankStability, folds_won, rank_stability
from results.validity.independence import Families, effective_trials, participation_ratio, trial_families
from results.validity.neighbourhood import GridPosition, grid_position
from results.validity.overfitting import Overfitting, probability_of_overfitting
from results.validity.panel import ValidityError, compound
from results.validity.reference import ReferenceTest, has_reference_p, reference_test
from results.validity.resampling import Interval, confidence_intervals, optimal_block, resample_counts
from results.validity.sharpe import (
    SharpeStatistics,
    annualised,
    min_track_record_length,
    probabilistic_sharpe,
    sharpe_standard_error,
    sharpe_statistics,
)
from results.validity.superiority import SpaResult, step_m, superior_predictive_ability
from results.validity.verdict import FLAT, Evidence, Verdict, verdict

__all__ = [
    "FLAT",
    "Assessment",
    "Deflation",
    "Evidence",
    "Families",
    "GridPosition",
    "Interval",
    "Overfitting",
    "RankStability",
    "ReferenceTest",
    "SharpeStatistics",
    "SpaResult",
    "ValidityError",
    "Verdict",
    "annualised",
    "assess",
    "compound",
    "confidence_intervals",
    "deflate",
    "deflated_sharpe",
    "duplicate_groups",
    "effective_trials",
    "expected_max_sharpe",
    "folds_won",
    "grid_position",
    "has_reference_p",
    "min_track_record_length",
    "optimal_block",
    "participation_ratio",
    "probabilistic_sharpe",
    "probability_of_overfitting",
    "rank_stability",
    "reference_test",
    "resample_counts",
    "sharpe_standard_error",
    "sharpe_statistics",
    "step_m",
    "superior_predictive_ability",
    "trial_families",
    "verdict",
]

"""From evidence to words. The thresholds are the constants below; nothing else decides.

How often it errs, measured on simulated studies of 100 trials × 365 daily returns (Student t, 4 degrees of freedom):
without skill 0.4 % (independent trials), 1.4 % (correlation 0.5) and 0.6 % (ten families) of 500 studies "survive"; with one
trial of true annual Sharpe ratio 2, 3, 4, 5 among 99 without skill, 5, 37, 69, 94 % do. A year of daily returns cannot
tell a Sharpe ratio of 2 from the best of a hundred lucky ones; "indistinguishable from luck" does not mean "is luck".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from results.digits import p_value, probability, share
from results.metrics import MIN_DAYS

MIN_TRADES: Final = 30
"""Fewer trades: their mean is a story, not a statistic (the usual least n of the central limit theorem)."""

MIN_PERIODS: Final = 60
"""Fewer returns: skewness and kurtosis, and with them every standard error here, are not known."""

SIGNIFICANCE: Final = 0.05
"""Accepted chance of calling luck skill; a DSR survives from 0.95. Divided by the openings of the holdout (Bonferroni)."""

MAX_PBO: Final = 0.5
"""From here on the in-sample best does no better out of sample than a coin's toss would have picked (BBLZ 2015)."""

MIN_BEHAVIOURS: Final = 3
"""Fewer different behaviours among the trials: there is no choice to overfit and no order to be stable, so neither is given."""

FLAT: Final = "flat"
"""Name of the benchmark that never trades. It decides; a trial that does not beat another one survives with a "but"."""

Code = Literal["n/a", "too little evidence", "loses money", "luck", "overfit", "survives, but", "survives"]


@dataclass(frozen=True)
class Evidence:
    """What is known about one trial; None or NaN where it is not.

    Attributes:
        trades: Round trips or fills.
        periods: Returns the statistics were computed from.
        days: Elapsed days.
        total_return: Fraction.
        dsr: Deflated Sharpe ratio, 0..1.
        sharpe_low: Lower 95 % confidence limit of the Sharpe ratio; only its sign counts.
        spa_p: p-value of the SPA test against each benchmark, by name; `FLAT` is the one that decides.
        pbo: Probability of backtest overfitting of the study.
        looks: All looks at the data, for the words.
        openings: How often the holdout these figures come from was opened; 0 for figures from no holdout.
    """

    trades: float | None = None
    periods: int | None = None
    days: float | None = None
    total_return: float | None = None
    dsr: float | None = None
    sharpe_low: float | None = None
    spa_p: Mapping[str, float] = field(default_factory=dict)
    pbo: float | None = None
    looks: int | None = None
    openings: int = 0


@dataclass(frozen=True)
class Verdict:
    """Attributes: `code` for programs, `words` for people, `remarks` that qualify them (may be empty)."""

    code: Code
    words: str
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join((self.words, *self.remarks))


def verdict(evidence: Evidence) -> Verdict:
    """Return the verdict on one trial; the first rule that holds decides.

    1. too little evidence: fewer than `MIN_TRADES` trades, `MIN_PERIODS` returns or `MIN_DAYS` days;
    2. loses money: total return ≤ 0;
    3. n/a: no deflated Sharpe ratio;
    4. indistinguishable from luck: DSR < 1 − α, the Sharpe ratio's interval reaches 0, or SPA p > α against `FLAT`, with
       α = `SIGNIFICANCE` / max(openings, 1);
    5. likely overfit: PBO ≥ `MAX_PBO`;
    6. survives deflation, but: SPA p > α against a benchmark other than `FLAT`;
    7. survives deflation.

    Pieces of evidence that are not given are not held against a trial, except the deflated Sharpe ratio.
    """
    unbeaten, opened = _unbeaten(evidence), _opened(evidence)
    remarks = (*((f"not shown to beat {unbeaten}",) if unbeaten else ()), *opened)
    short = _short(evidence)
    if short:
        return Verdict("too little evidence", f"too little evidence: {short}", remarks)
    gain = _known(evidence.total_return)
    if gain is not None and gain <= 0.0:
        return Verdict("loses money", f"loses money: {100 * gain:.1f} %", remarks)
    deflated = _known(evidence.dsr)
    if deflated is None:
        return Verdict("n/a", "n/a: no deflated Sharpe ratio", remarks)
    alpha = SIGNIFICANCE / max(evidence.openings, 1)
    counted = f" over {evidence.looks:,} looks" if evidence.looks is not None else ""
    if deflated < 1.0 - alpha:
        return Verdict("luck", f"indistinguishable from luck: DSR {probability(deflated)}{counted}", remarks)
    low = _known(evidence.sharpe_low)
    if low is not None and low <= 0.0:
        return Verdict("luck", "indistinguishable from luck: the Sharpe ratio's confidence interval reaches 0", remarks)
    against_flat = _known(evidence.spa_p.get(FLAT))
    if against_flat is not None and against_flat > alpha:
        return Verdict("luck", f"indistinguishable from luck: SPA p {p_value(against_flat)} against {FLAT}", remarks)
    overfit = _known(evidence.pbo)
    if overfit is not None and overfit >= MAX_PBO:
        return Verdict("overfit", f"likely overfit: PBO {share(overfit)}", remarks)
    found = f"DSR {probability(deflated)}{counted}"
    if unbeaten:
        return Verdict("survives, but", f"survives deflation, but not shown to beat {unbeaten}; {found}", opened)
    return Verdict("survives", f"survives deflation: {found}", opened)


def _short(evidence: Evidence) -> str:
    """What there is too little of, such as "12 trades"; empty if nothing."""
    for amount, least, unit in (
        (evidence.trades, MIN_TRADES, "trade"),
        (evidence.days, MIN_DAYS, "day"),
        (evidence.periods, MIN_PERIODS, "return"),
    ):
        known = _known(amount)
        if known is not None and known < least:
            return f"{known:.4g} {unit}{'' if known == 1 else 's'}"
    return ""


def _unbeaten(evidence: Evidence) -> str:
    """The benchmarks not shown to be beaten, with their p-values; empty if there are none."""
    alpha = SIGNIFICANCE / max(evidence.openings, 1)
    names = [f"{name} (SPA p {p_value(p)})" for name, p in evidence.spa_p.items() if name != FLAT and np.isfinite(p) and p > alpha]
    return " or ".join(names)


def _opened(evidence: Evidence) -> tuple[str, ...]:
    return (f"holdout opened {evidence.openings} times",) if evidence.openings > 1 else ()


def _known(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)

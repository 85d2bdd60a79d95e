"""What early stopping would save and miss, by playing its rules on learning curves that are on record (`search_spaces.rehearsal`).

Only curves of trials that could not have been stopped for their values are of use: of a study with stopped trials the survivors are
the good ones, and rules that are tried on these alone look harmless.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from results import reports
from search_spaces.rehearsal import rehearse
from search_spaces.stopping import Rules

if TYPE_CHECKING:
    from results.reader import LedgerReader
    from sweeps.planning.recorded import Sibling

LEAST = 8  # curves without which nothing is said
MOST_LOST = 0.1  # chance of stopping the best that a suggestion may have …
MOST_REGRET = 0.05  # … or mean regret, as a share of the distance from the best trial to the median one
GRACES = (0.05, 0.1, 0.2, 0.4)  # of the last step
FACTORS = (2.0, 3.0, 4.0)
WORK = 150_000  # reports judged for one set of rules: a second
MOST_TRIALS, MOST_REPORTS = 100, 24  # in a set, and of a trial
SUBSAMPLE = 0.5  # of the curves, in a set
SETS = (50, 400)  # of trials that are drawn, at least and at most


@dataclass(frozen=True, eq=False)
class Curves:
    """Learning curves of trials that ran to their end whatever they were worth.

    Attributes:
        values: Of the objective, float64 (n, len(steps)); NaN from where a trial diverged.
        steps: Of the reports, ascending.
        paces: Seconds of a step of each trial, float64 (n,).
        studies: Whose they are.
        other: Complete curves left out, because they report at other steps.
    """

    values: NDArray[np.float64]
    steps: tuple[int, ...]
    paces: NDArray[np.float64]
    studies: tuple[str, ...] = ()
    other: int = 0


@dataclass(frozen=True)
class Savings:
    """What came of rules on many sets of trials.

    Attributes:
        rules: Which.
        steps: Mean share of all steps that were made.
        low, high: 90 % range of that share.
        lost: Share of the sets whose best trial was stopped.
        lost_low, lost_high: 90 % range of that chance, by how many different curves were the best of a set.
        regret: Mean of what the winner's last value fell short of the best, in the objective's unit.
        relative: The same as a share of the distance from the best trial to the median one, 1 at most.
        sets: How many were drawn.
        trials: In a set.
    """

    rules: Rules
    steps: float
    low: float
    high: float
    lost: float
    lost_low: float
    lost_high: float
    regret: float
    relative: float
    sets: int
    trials: int

    @property
    def harmless(self) -> bool:
        """Whether it seldom stops the best trial, or loses little by it."""
        return self.lost <= MOST_LOST or self.relative <= MOST_REGRET


def recorded_curves(found: Sequence[Sibling], objective: str, last: int) -> Curves | str:
    """Returns the complete curves of a folder that are fit for rehearsals, or why there are too few.

    Args:
        found: The ledgers of the folder.
        objective: Whose values.
        last: Step at which a trial of the study is complete.
    """
    said = "no trial of this trainable on these data has run to its end"
    for close in (True, False):
        groups: dict[tuple[int, ...], list[tuple[str, list[float], float]]] = {}
        for each in found:
            if not (each.same if close else each.related) or objective not in each.ledger.header.metric_names:
                continue
            whole, stopped, made = _complete(each.ledger, objective)
            if stopped:
                # Survivors of a search that stopped others for their values.
                said = f"{stopped:,} trials of {each.name} were stopped for their values, and those that are left say nothing of such"
                continue
            for steps, values, pace in made:
                groups.setdefault(steps, []).append((each.name, values, pace))
            if whole:
                said = f"{whole:,} complete curve{'' if whole == 1 else 's'} on record, {LEAST} are needed"
        fit = {steps: curves for steps, curves in groups.items() if steps[-1] == last and len(steps) > 1}
        if fit:
            axis, curves = max(fit.items(), key=lambda item: len(item[1]))
            studies, drawn, paces = zip(*curves, strict=True)
            if len(curves) >= LEAST:
                other = sum(map(len, groups.values())) - len(curves)
                return Curves(np.array(drawn), axis, np.array(paces), tuple(dict.fromkeys(studies)), other)
            said = f"{len(curves):,} complete curve{'' if len(curves) == 1 else 's'} on record, {LEAST} are needed"
        elif groups:
            ends = sorted({steps[-1] for steps in groups})
            said = f"the curves on record end at step {', '.join(f'{end:,}' for end in ends)}, this study's at {last:,}"
            if last in ends:
                said = "trials on record report once, at their end: no rule can stop them before"
    return said


def _complete(ledger: LedgerReader, objective: str) -> tuple[int, int, list[tuple[tuple[int, ...], list[float], float]]]:
    """Returns how many trials ran to their end, how many were stopped for their values, and (steps, values, pace) of each curve.

    A trial that diverged has a curve too, as far as it came; it is NaN after that.
    """
    place, trials = ledger.header.metric_names.index(objective), ledger.tables.trials
    status = {bytes(row["config_id"]): row["status"] for row in ledger.rows(sa.select(trials.c.config_id, trials.c.status))}
    rows: dict[bytes, list[reports.ReportRow]] = {}
    for row in reports.read(ledger):
        if status.get(row.config_id) in ("completed", "stopped"):
            rows.setdefault(row.config_id, []).append(row)
    made, short, stopped = [], [], 0
    for key, said in rows.items():
        values = [float(row.metrics[place]) for row in said]
        pace = sum(row.seconds or 0.0 for row in said) / said[-1].step or 1.0
        if not math.isfinite(values[-1]):
            short.append((tuple(row.step for row in said), values, pace))
        elif status[key] == "completed":
            made.append((tuple(row.step for row in said), values, pace))
        else:
            stopped += 1
    whole = len(made)
    for came, values, pace in short:
        longer = next((axis for axis, _, _ in made if axis[: len(came)] == came), None)
        if longer is not None:
            made.append((longer, values + [math.nan] * (len(longer) - len(came)), pace))
    return whole, stopped, made


def simulate(
    rules: Rules,
    curves: Curves,
    *,
    trials: int,
    slots: int,
    seed: int = 0,
    sets: int | None = None,
    told: Callable[[], None] = lambda: None,
) -> Savings:
    """Plays rules on sets of trials drawn from recorded curves, in the order drawn.

    Sets are drawn without replacement, half of the curves at most (subsampling, Politis & Romano 1994): in a bootstrap sample copies
    compete at the rungs with the trial they are copies of, and it is stopped up to three times as often as it should be.

    Args:
        rules: Which.
        curves: Of at least one trial that did not diverge.
        trials: Of the study; a set has as many, if there are curves enough, and 100 at most.
        slots: Trials at once.
        seed: Of the draws; equal for rules that are compared, which then see the same sets.
        sets: How many; default as many as take some seconds.
        told: Called after each set.
    """
    n, total = min(trials, math.ceil(SUBSAMPLE * len(curves.values)), MOST_TRIALS), curves.steps[-1]
    count = sets or int(np.clip(WORK // (n * len(curves.steps)), *SETS))
    rng, sign = np.random.default_rng(seed), 1.0 if rules.direction == "max" else -1.0
    spent, lost, regrets, relative = np.empty(count), np.zeros(count, bool), np.zeros(count), np.zeros(count)
    bests = np.zeros(len(curves.values))
    for k in range(count):
        drawn = rng.permutation(len(curves.values))[:n]
        values = curves.values[drawn]
        scheduler, paces = replace(rules, seed=int(rng.integers(2**31))).make(), curves.paces[drawn]
        made = rehearse(scheduler, values, curves.steps, slots=slots, seconds=paces, direction=rules.direction)
        spent[k] = made.reached.sum() / (n * total)
        last = sign * values[:, -1]
        if np.isfinite(last).any():
            best = int(np.nanargmax(last))
            bests[drawn[best]] += 1
            lost[k], regrets[k] = made.reached[best] < total, made.regret
            span = float(np.nanmax(last) - np.nanmedian(last))
            relative[k] = min(1.0, regrets[k] / span) if span > 0.0 else 0.0
        told()
    low, high = np.quantile(spent, (0.05, 0.95))
    chance, regret, share = float(lost.mean()), float(regrets.mean()), float(relative.mean())
    lost_low, lost_high = _wilson(chance, float(bests.sum() ** 2 / max((bests**2).sum(), 1.0)))
    return Savings(rules, float(spent.mean()), float(low), float(high), chance, lost_low, lost_high, regret, share, count, n)


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Returns the 90 % range of a chance that was found to be `share` in n independent cases (Wilson 1927)."""
    if n <= 0.0:
        return 0.0, 1.0
    z = 1.645
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def thinned(curves: Curves, rules: Rules) -> Curves:
    """Returns curves with two dozen reports at most, evenly spread, and those at which the rules judge."""
    n = len(curves.steps)
    if n <= MOST_REPORTS:
        return curves
    even = {round(i * (n - 1) / (MOST_REPORTS - 1)) for i in range(MOST_REPORTS)}
    heard = {next((i for i, step in enumerate(curves.steps) if step >= rung), n - 1) for rung in rules.judged}
    kept = sorted(even | heard)
    return replace(curves, values=curves.values[:, kept], steps=tuple(curves.steps[i] for i in kept))


def alternatives(own: Rules, steps: Sequence[int]) -> list[Rules]:
    """Returns a study's own rules, and others: grace × factor of asha and grace of the median rule, at reports that come."""
    graces = list(dict.fromkeys(next(step for step in steps if step >= share * steps[-1]) for share in GRACES))
    graces = [grace for grace in graces if grace < steps[-1]]
    made = [replace(own, kind="asha", grace=grace, factor=factor, brackets=1) for grace in graces for factor in FACTORS]
    made += [replace(own, kind="median", grace=grace, least=3) for grace in graces[::2]]
    return list(dict.fromkeys([own, *(rules for rules in made if not _alike(rules, own, steps))]))


def _alike(left: Rules, right: Rules, steps: Sequence[int]) -> bool:
    """Whether two sets of rules judge at the same reports by the same measure."""
    if left.kind != right.kind or (left.brackets, left.least) != (right.brackets, right.least):
        return False
    heard = [[next((s for s in steps if s >= rung), steps[-1]) for rung in rules.judged] for rules in (left, right)]
    return heard[0] == heard[1] and (left.kind != "asha" or left.factor == right.factor)


def suggested(tried: Sequence[Savings]) -> Savings | None:
    """Returns what takes the fewest steps of those that seldom lose the best or lose little by it; None if all do harm."""
    return min((each for each in tried if each.harmless and each.rules.kind != "none"), key=lambda each: each.steps, default=None)


def as_section(rules: Rules) -> str:
    """Returns rules as a study file has them."""
    if rules.kind == "asha":
        more = f", brackets: {rules.brackets}" if rules.brackets > 1 else ""
        return f"{{kind: asha, grace: {rules.grace}, factor: {rules.factor:g}{more}}}"
    if rules.kind == "median":
        return f"{{kind: median, grace: {rules.grace}{'' if rules.least == 3 else f', least: {rules.least}'}}}"
    return "{kind: none}"

"""Ablations: what one value of a swept parameter does against another, all else equal, as paired differences with intervals.

Two completed trials are a pair if they agree in every other parameter that varies in the study. What a configuration lacks
is the default it was evaluated with, as in its identity (`identity.config_ids`); without a default it is matched as absent.

Pairs of one grid resemble each other; replicates, which differ in nothing but random numbers, are independent. So where a study
has replicates, differences are averaged within each and Student's t is over replicates; only without any it is over pairs.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results.identity import canonical_json
from results.metrics import Metric
from results.validity.paired import holm, student
from results.varied import Axis, Sweep, cells_of

ALPHA: Final = 0.05  # of all verdicts of a call together
_ROUNDING: Final = 1e-12  # relative to the values compared: a spread below this is none
_SHOWN: Final = 8


class AblationError(ValueError):
    """Nothing can be compared; the message says why and what to do."""


class NoPairs(AblationError):  # noqa: N818 - it says what is the case
    """No two trials differ in the parameter alone."""


@dataclass(frozen=True)
class Difference:
    """One value of a parameter against the reference.

    Attributes:
        value: The value.
        pairs: Pairs of trials that agree elsewhere.
        units: Independent units: replicates, without any the pairs.
        mean: Mean over units of (metric at the value − metric at the reference).
        low: Lower end of its interval, NaN with fewer than two units, or units that are copies of each other.
        high: Upper end.
        wins: Share of pairs in which the value is better, NaN for a metric without a direction.
        p_value: Two-sided, that the mean is 0; NaN where there is no interval.
        adjusted: By Holm, over all comparisons of a call (`judge`).
        verdict: "better", "worse", for a metric without a direction "more", "less"; or "not shown".
    """

    value: Any
    pairs: int
    units: int
    mean: float
    low: float
    high: float
    wins: float
    p_value: float
    adjusted: float = float("nan")
    verdict: str = "not shown"


@dataclass(frozen=True)
class Ablation:
    """A parameter's values against one of them.

    Attributes:
        parameter: Its name.
        reference: The value the others are compared with.
        metric: What is compared.
        differences: One for each value that pairs, in order.
        replicates: Parameters whose values are the independent units; none if pairs are.
        unpaired: Values no trial of which agrees elsewhere with one at the reference.
    """

    parameter: str
    reference: Any
    metric: Metric
    differences: tuple[Difference, ...]
    replicates: tuple[str, ...]
    unpaired: tuple[Any, ...]


def ablate(
    sweep: Sweep,
    parameter: str,
    against: str | None = None,
    order: Sequence[Any] = (),
    replicates: Collection[str] = (),
    follows: Collection[str] = (),
) -> Ablation:
    """Compares each value of a parameter with one of them.

    Args:
        sweep: The trials.
        parameter: One that varies.
        against: The reference, as text; default the parameter's default if it occurs, else the first in order.
        order: Its values in the order of the space; those not listed follow, sorted.
        replicates: Parameters that change nothing but random numbers.
        follows: Parameters computed from this one, which need not agree.

    Raises:
        AblationError: It does not vary, or there is no such reference; `NoPairs` where nothing pairs with it.
    """
    axis = sweep.axes.get(parameter)
    if axis is None:
        raise AblationError(_not_swept(sweep, parameter))
    codes = _ordered(axis.values, order)
    reference = _reference(sweep, parameter, codes, against)
    others = [name for name in sweep.axes if name != parameter and name not in follows]
    units = tuple(name for name in others if name in replicates)
    pairs = _matched(sweep, parameter, reference, others, units)
    if not len(pairs.codes):
        raise NoPairs(_nothing_pairs(sweep, parameter, reference, others))
    found = _differences(pairs, axis, sweep.metric)
    unpaired = tuple(axis.values[code] for code in codes if code != reference and code not in found)
    paired = tuple(found[code] for code in codes if code in found)
    return Ablation(parameter, axis.values[reference], sweep.metric, paired, units, unpaired)


def judge(ablations: Iterable[Ablation]) -> tuple[Ablation, ...]:
    """Gives every difference its verdict, at 5 % for all of them together (Holm 1979)."""
    found = tuple(ablations)
    adjusted = iter(holm([d.p_value for a in found for d in a.differences]).tolist())
    return tuple(replace(a, differences=tuple(_judged(d, next(adjusted), a.metric) for d in a.differences)) for a in found)


def table(ablations: Iterable[Ablation], study: str) -> pd.DataFrame:
    """Returns one row for each comparison, with everything that is known about it."""
    rows = [
        {
            "study": study,
            "parameter": a.parameter,
            "value": d.value,
            "reference": a.reference,
            "metric": a.metric.name,
            "pairs": d.pairs,
            "units": d.units,
            "unit": "+".join(a.replicates) or "pair",
            "difference": d.mean,
            "low": d.low,
            "high": d.high,
            "wins": d.wins,
            "p": d.p_value,
            "p_holm": d.adjusted,
            "verdict": d.verdict,
        }
        for a in ablations
        for d in a.differences
    ]
    return pd.DataFrame(rows).astype({"value": object, "reference": object})


def _ordered(values: Sequence[Any], order: Sequence[Any]) -> list[int]:
    """Returns the codes of the values there are: as listed, then by size, or as text; the absent value is none."""
    place = {canonical_json(value): i for i, value in reversed(list(enumerate(order)))}
    kept = [code for code, value in enumerate(values) if value is not None]
    rank = {code: place.get(canonical_json(values[code]), len(place)) for code in kept} if place else dict.fromkeys(kept, 0)
    numbers = all(isinstance(values[code], (int, float)) for code in kept)
    return sorted(kept, key=lambda code: (rank[code], values[code] if numbers else canonical_json(values[code])))


def _reference(sweep: Sweep, parameter: str, codes: Sequence[int], against: str | None) -> int:
    """Returns the code of the value the others are compared with."""
    values = sweep.axes[parameter].values
    if against is None:
        default = sweep.defaults.get(parameter)
        same = canonical_json(default)
        return next((code for code in codes if default is not None and canonical_json(values[code]) == same), codes[0])
    try:
        meant = canonical_json(json.loads(against))
    except ValueError:
        meant = None
    texts = {code: (canonical_json(values[code]), str(values[code])) for code in codes}
    # Text before what it would be as a number: "1" among texts is the text.
    found = next((code for code in codes if texts[code][1] == against), None)
    found = next((code for code in codes if texts[code][0] == meant), None) if found is None else found
    if found is None:
        raise AblationError(
            f"--against {against}: {parameter} has no such value in {sweep.study}; it has {_listed([values[c] for c in codes])}"
        )
    return found


class _Pairs(NamedTuple):
    """Pairs as columns (m,): code of the value, number of the unit, score at the value, score at the reference."""

    codes: NDArray[np.int64]
    units: NDArray[np.int64]
    scores: NDArray[np.float64]
    bases: NDArray[np.float64]


def _matched(sweep: Sweep, parameter: str, reference: int, others: Sequence[str], units: Sequence[str]) -> _Pairs:
    """Returns the pairs; without parameters that are units each is one of its own."""
    axis, n = sweep.axes[parameter], len(sweep.scores)
    cells = cells_of((sweep.axes[name] for name in others), n)
    # More than one trial where what follows from the parameter was written otherwise in an earlier search.
    keys, first, groups = np.unique(cells * len(axis.values) + axis.codes, return_index=True, return_inverse=True)
    scores = _means(groups, sweep.scores, len(keys))
    cells, codes = np.divmod(keys, len(axis.values))
    bases = np.full(int(cells.max(initial=-1)) + 1, np.nan)
    bases[cells[codes == reference]] = scores[codes == reference]
    kept = (codes != reference) & np.isfinite(bases[cells]) & np.array([value is not None for value in axis.values])[codes]
    unit = cells_of((sweep.axes[name] for name in units), n)[first] if units else cells
    return _Pairs(codes[kept], unit[kept], scores[kept], bases[cells[kept]])


def _means(groups: NDArray[np.int64], values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    return np.bincount(groups, values, n) / np.bincount(groups, minlength=n)


def _differences(pairs: _Pairs, axis: Axis, metric: Metric) -> dict[int, Difference]:
    """Returns the comparison of each code that has pairs."""
    sign = {"max": 1.0, "min": -1.0, None: np.nan}[metric.direction]
    codes, groups = np.unique(pairs.codes, return_inverse=True)
    differences, k = pairs.scores - pairs.bases, len(codes)
    wins = _means(groups, (sign * differences > 0.0).astype(float), k) if metric.direction else np.full(k, np.nan)
    size = np.zeros(k)
    np.maximum.at(size, groups, np.maximum(np.abs(pairs.scores), np.abs(pairs.bases)))
    keys, inverse = np.unique(groups * (pairs.units.max() + 1) + pairs.units, return_inverse=True)
    each, owner = _means(inverse, differences, len(keys)), keys // (pairs.units.max() + 1)
    n = np.bincount(owner, minlength=k)
    mean = _means(owner, each, k)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.sqrt(np.bincount(owner, (each - mean[owner]) ** 2, k) / (n - 1))
    level = _ROUNDING * size
    still = (n >= 2) & (deviation <= level)
    half, p = student(mean, np.where(still, np.nan, deviation), n)
    same = still & (np.abs(mean) <= level)  # nothing differs at all, which is not a lack of evidence
    mean, half, p = np.where(same, 0.0, mean), np.where(same, 0.0, half), np.where(same, 1.0, p)
    count = np.bincount(groups, minlength=k)
    return {
        int(code): Difference(
            value=axis.values[code],
            pairs=int(count[i]),
            units=int(n[i]),
            mean=float(mean[i]),
            low=float(mean[i] - half[i]),
            high=float(mean[i] + half[i]),
            wins=float(wins[i]),
            p_value=float(p[i]),
        )
        for i, code in enumerate(codes)
    }


def _judged(found: Difference, adjusted: float, metric: Metric) -> Difference:
    if not adjusted <= ALPHA:
        return replace(found, adjusted=adjusted)
    words = {"max": ("worse", "better"), "min": ("better", "worse"), None: ("less", "more")}[metric.direction]
    return replace(found, adjusted=adjusted, verdict=words[found.mean > 0.0])


def _not_swept(sweep: Sweep, parameter: str) -> str:
    swept = ", ".join(sweep.axes) or "nothing"
    if not len(sweep.scores):
        out = ", ".join(f"{n:,} {reason}" for reason, n in sweep.left_out.items())
        return (
            f"{sweep.study}: no completed trial has a value of {sweep.metric.name}{f' ({out})' if out else ''}; there is nothing to compare"
        )
    if parameter in sweep.constants:
        value = canonical_json(sweep.constants[parameter])
        return (
            f"{parameter}: every completed trial of {sweep.study} has the value {value}, so there is nothing to compare; varied are {swept}"
        )
    near = difflib.get_close_matches(parameter, [*sweep.axes, *sweep.constants], 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{parameter}: {sweep.study} has no such parameter; varied are {swept}.{hint}"


def _nothing_pairs(sweep: Sweep, parameter: str, reference: int, others: Sequence[str]) -> str:
    """Says that no pair was found, in what trials differ besides, and whether another reference would have pairs."""
    axis = sweep.axes[parameter]
    value = _text(axis.values[reference])
    said = f"{parameter}: no trial with another value agrees with one at {value} in all else that varies ({', '.join(others)})"
    cells = cells_of((sweep.axes[name] for name in others), len(sweep.scores))
    pairs = pd.DataFrame({"cell": cells, "code": axis.codes}).drop_duplicates()
    if None in axis.values:
        pairs = pairs[pairs["code"] != axis.values.index(None)]
    met = pairs[pairs.duplicated("cell", keep=False)]
    if len(met):
        return f"{said}; other values do agree: try --against {_text(axis.values[int(met['code'].mode().iloc[0])])}"
    if len(others) < 2:
        return said
    blocking = [name for name in others if len(_matched(sweep, parameter, reference, [o for o in others if o != name], ()).codes)]
    return f"{said}; they always differ in {' or '.join(blocking[:_SHOWN])} too" if blocking else said


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(map(_text, values[:_SHOWN]))
    return shown if len(values) <= _SHOWN else f"{shown}, … ({len(values):,} values)"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)

"""How much each parameter has to do with a metric, in the trials there are: Optuna's evaluators, held against chance.

Shares always add up to 1, so of pure noise some parameter is always the most important. Each is therefore measured again with the metric
dealt out to the trials anew, and shown beside the share that this reaches in one deal of twenty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from results.metrics import Metric
from search_spaces.adaptive.bayesian import quiet
from sweeps.plots.projection import Projection, ProjectionError, project

if TYPE_CHECKING:
    from optuna.importance import BaseImportanceEvaluator

    from results.reader import LedgerReader

Evaluator = Literal["ped-anova", "fanova", "mdi"]
EVALUATORS: Final[Mapping[str, str]] = {
    "ped-anova": "how far its values among the best trials differ from those of all",
    "fanova": "share of the metric's variance it explains in a random forest",
    "mdi": "how much splits at it tell apart in a random forest",
}
LEAST: Final = 20  # trials
DEALS: Final = 19  # of which the best is reached once in twenty
# Trials to take, and whether to deal: more would take minutes.
COSTS: Final[Mapping[str, tuple[int, int]]] = {"ped-anova": (10_000, DEALS), "fanova": (1_000, 0), "mdi": (1_000, DEALS)}
FEW: Final = 16  # numbers that are categories for PED-ANOVA, whose densities see gaps between listed values otherwise
_TOP: Final = 0.1
_TOP_LEAST: Final = 5  # below that PED-ANOVA's densities are of next to nothing


@dataclass(frozen=True)
class Importance:
    """What one parameter has to do with the metric.

    Attributes:
        parameter: Its name.
        share: Of all importance, 0 to 1; None where it was not ranked.
        chance: Share that shuffled values reach in one deal of twenty.
        distinct: Values it has in these trials.
        trials: Trials that have it.
        conditional: Whether others do not.
    """

    parameter: str
    share: float | None
    chance: float | None
    distinct: int
    trials: int
    conditional: bool

    @property
    def beyond_chance(self) -> bool:
        """Whether its share is more than shuffled values reach."""
        return self.share is not None and self.chance is not None and self.share > self.chance


@dataclass(frozen=True)
class Ranking:
    """Parameters by importance.

    Attributes:
        metric: For which metric.
        evaluator: By which measure.
        rows: Most important first.
        top: For PED-ANOVA, how many trials are the best ones; else 0.
        deals: How often values were dealt out to learn what chance does.
        same: Parameters with one value only, which no importance can be told of.
        apart: Conditional parameters that were ranked among the trials that have them, so that their share is of another whole.
        learnt: Samplers that gathered trials where results are good.
    """

    metric: Metric
    evaluator: str
    rows: tuple[Importance, ...]
    top: int
    deals: int
    same: tuple[str, ...]
    apart: tuple[str, ...]
    learnt: tuple[str, ...] = ()


def sample_of(ledger: LedgerReader, metric: str | None, evaluator: str = "ped-anova") -> Projection:
    """Returns the trials an evaluator is to see: those of a large study by lot, because the best would pass for all."""
    if evaluator not in EVALUATORS:
        raise ProjectionError(f"--evaluator {evaluator}: no such measure; there are {', '.join(EVALUATORS)}")
    few = FEW if evaluator == "ped-anova" else 0
    return project(ledger, None if metric is None else [metric], most=COSTS[evaluator][0], best=0, few=few)


def importances(projection: Projection, evaluator: str = "ped-anova", deals: int | None = None) -> Ranking:
    """Ranks the parameters of a study by what they have to do with its first metric.

    PED-ANOVA (Watanabe et al., IJCAI 2023) ranks conditional parameters with the others. A forest takes only what all its trials have:
    each conditional parameter is then ranked among the trials that have it.

    Args:
        projection: The trials, from `sample_of`.
        evaluator: One of `EVALUATORS`.
        deals: How often to shuffle; default what the evaluator can afford.

    Raises:
        ProjectionError: Too few trials, nothing varies, the metric has no direction, or scikit-learn is missing.
    """
    metric, name = projection.metrics[0], projection.header.name
    deals = COSTS[evaluator][1] if deals is None else deals
    values = {t.number: t.values[0] for t in _complete(projection)}
    if len(values) < LEAST:
        raise ProjectionError(f"{name}: importance needs {LEAST} completed trials or more, there are {len(values)}")
    if len(set(values.values())) < 2:
        raise ProjectionError(f"{name}: all {len(values):,} trials have the same {metric.name}, so nothing can be important for it")
    if evaluator == "ped-anova" and metric.direction is None:
        raise ProjectionError(
            f"{metric.name}: more is neither better nor worse, so it has no best trials; name another metric, or --evaluator fanova"
        )
    seen = _seen(projection)
    same = tuple(parameter for parameter, found in seen.items() if len(set(found)) < 2)
    varied = [parameter for parameter in seen if parameter not in same]
    if not varied:
        raise ProjectionError(f"{name}: no parameter has two values or more in these trials")
    sign = 1.0 if metric.direction == "min" else -1.0
    towards = {number: sign * value for number, value in values.items()}  # less is better
    measure, top = _measure(evaluator, np.array(list(towards.values())))
    if top >= len(values):
        raise ProjectionError(f"{name}: too many trials share the best {metric.name} to say what the best have in common")
    apart = () if evaluator == "ped-anova" else tuple(p for p in varied if len(seen[p]) < len(values))
    common = [parameter for parameter in varied if parameter not in apart]
    groups = [(common, common)] if common else []
    groups += [([parameter], [*common, parameter]) for parameter in apart if len(seen[parameter]) >= LEAST]
    found: dict[str, tuple[float, float | None]] = {}
    for told, parameters in groups:
        shares = _against_chance(projection, measure, parameters, towards, deals)
        found |= {parameter: shares[parameter] for parameter in told}
    rows = []
    for p in varied:
        share, chance = found.get(p, (None, None))
        rows.append(Importance(p, share, chance, len(set(seen[p])), len(seen[p]), len(seen[p]) < len(values)))
    rows.sort(key=lambda row: -1.0 if row.share is None else row.share, reverse=True)
    return Ranking(metric, evaluator, tuple(rows), top, deals, same, apart, projection.learnt)


def _complete(projection: Projection) -> list[Any]:
    from optuna.trial import TrialState

    return projection.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _seen(projection: Projection) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {parameter: [] for parameter in projection.axes.distributions}
    for trial in _complete(projection):
        for parameter, value in trial.params.items():
            found[parameter].append(value)
    return {parameter: values for parameter, values in found.items() if values}


def _measure(evaluator: str, towards: np.ndarray[Any, Any]) -> tuple[BaseImportanceEvaluator, int]:
    """Returns Optuna's evaluator, and how many trials it takes to be the best."""
    from optuna.importance import FanovaImportanceEvaluator, MeanDecreaseImpurityImportanceEvaluator, PedAnovaImportanceEvaluator

    if evaluator == "ped-anova":
        part = min(0.5, max(_TOP, _TOP_LEAST / len(towards)))
        cut = np.partition(towards, math.ceil(part * len(towards)) - 1)[math.ceil(part * len(towards)) - 1]
        with quiet():
            return PedAnovaImportanceEvaluator(target_quantile=part), int((towards <= cut).sum())
    try:
        with quiet():
            return FanovaImportanceEvaluator(seed=0) if evaluator == "fanova" else MeanDecreaseImpurityImportanceEvaluator(seed=0), 0
    except ImportError:
        raise ProjectionError(
            f"--evaluator {evaluator} fits a random forest, for which scikit-learn is missing: pip install 'alphasweep[importance]'. "
            "ped-anova, the default, does without."
        ) from None


def _against_chance(
    projection: Projection, measure: BaseImportanceEvaluator, parameters: Sequence[str], values: Mapping[int, float], deals: int
) -> dict[str, tuple[float, float | None]]:
    """Returns the share of each parameter, and the largest that shuffled values reach."""
    from optuna.importance import get_param_importances

    rng = np.random.default_rng(0)
    names = sorted(parameters)  # Optuna 5.0.0's MDI gives importances to the wrong parameters where they are not
    numbers, kept = list(values), np.array(list(values.values()))

    def raw(dealt: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        by_number = dict(zip(numbers, dealt.tolist(), strict=True))
        with quiet():
            found = get_param_importances(
                projection.study, evaluator=measure, params=names, target=lambda t: by_number[t.number], normalize=False
            )
        return np.array([found[name] for name in names])

    own = raw(kept)
    total = float(own.sum()) or 1.0
    chance = np.max([raw(rng.permutation(kept)) for _ in range(deals)], axis=0) / total if deals else [None] * len(names)
    return {name: (float(a) / total, None if b is None else float(b)) for name, a, b in zip(names, own, chance, strict=True)}

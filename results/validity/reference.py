"""Whether a forecast is better than one that needs no model, where a study has a p-value of that and no daily returns.

The p-value is the trainable's own: of a test that the loss is no lower than the reference's, such as Diebold & Mariano (1995). It knows
nothing of the other trials; the best of many has a small one by luck alone, so it is multiplied by the looks (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from results.digits import p_value
from results.metrics import Metric
from results.validity.panel import ValidityError
from results.validity.verdict import SIGNIFICANCE

REFERENCE_P: Final = "dm_p"
"""Name by which a metric is such a p-value; its unit is "probability" and less is better."""


@dataclass(frozen=True)
class ReferenceTest:
    """What a p-value against the reference is worth among many looks.

    Attributes:
        p: Of one trial, as if it were the only one; NaN is n/a.
        looks: At the same data; on a holdout its openings.
        adjusted: min(1, p · looks), NaN where p is.
    """

    p: float
    looks: int
    adjusted: float

    @property
    def better(self) -> bool:
        """Whether the trial is shown to be better than no model; what is n/a shows nothing."""
        return self.adjusted <= SIGNIFICANCE

    def words(self, skill: float = math.nan) -> str:
        """Returns the p-value, what it is times the looks, and what follows; of a negative skill, that it is worse."""
        times = f", times {self.looks:,} looks {p_value(self.adjusted)}" if self.looks > 1 and not math.isnan(self.p) else ""
        found = "better than" if self.better else "worse than" if skill < 0.0 else "not shown to be better than"
        return f"DM p {p_value(self.p)}{times}: {found} no model"

    def __str__(self) -> str:
        return self.words()


def has_reference_p(metrics: Iterable[Metric]) -> bool:
    """Return whether a study measures a p-value against a reference that needs no model."""
    return any((metric.name, metric.unit, metric.direction) == (REFERENCE_P, "probability", "min") for metric in metrics)


def reference_test(p: float | None, looks: int) -> ReferenceTest:
    """Return what a p-value is worth among `looks`.

    Args:
        p: In [0, 1]; None or NaN is n/a.
        looks: All looks at the same data, 1 or more.

    Raises:
        ValidityError: A p-value or a count that cannot be one.
    """
    value = math.nan if p is None else float(p)
    if looks < 1:
        raise ValidityError(f"looks is {looks}; the trial itself is one")
    if not math.isnan(value) and not 0.0 <= value <= 1.0:
        raise ValidityError(f"p is {value}; a p-value lies between 0 and 1")
    return ReferenceTest(value, looks, min(1.0, value * looks) if not math.isnan(value) else math.nan)

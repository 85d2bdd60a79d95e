"""What results made with forecasts depend on besides parameters: versions of rules, and digests of weights wherever they lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.contract import TrainableError
from trainables.forecast.empirical import VERSION as EMPIRICAL
from trainables.forecast.forecaster import Forecaster
from trainables.forecast.naive import VERSION as NAIVE


def identity_of(model: str, adapter: str = "") -> dict[str, Any]:
    """Returns the identity of every forecaster a study may use, by name; for a study's protocol.

    Args:
        model: Of chronos2.
        adapter: Of chronos2; "" is none.

    Raises:
        TrainableError: Weights that cannot be found.
    """
    from trainables.chronos2.forecaster import weights_of

    return {"naive": {"version": NAIVE}, "empirical": {"version": EMPIRICAL}, "chronos2": weights_of(model, adapter)}


def as_prepared(forecaster: Forecaster, identity: Mapping[str, Any]) -> Forecaster:
    """Returns the forecaster if it is the one a study was prepared with: results must not stand under other weights' name.

    Raises:
        TrainableError: It has other weights, or follows other rules.
    """
    expected = identity[forecaster.name]
    if any(forecaster.spec.get(key) != value for key, value in expected.items()):
        raise TrainableError(
            f"{forecaster.source}: its weights or adapter are not those the study was prepared with; "
            "if they were changed on purpose, give the study another name"
        )
    return forecaster

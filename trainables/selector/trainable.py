"""The selector as a trainable: thousands of configurations per call over one prepared market."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trainables.contract import Context, Parameter, Prepared, TrainableError, nearest
from trainables.forecast import MINIMUM, empirical
from trainables.market import Panel, load_market
from trainables.policy import decode
from trainables.selector.inputs import SelectorInputs
from trainables.selector.options import FILL_RULES_VERSION, PARAMETERS, PROFILES, encode, profile_defaults
from trainables.selector.simulate import evaluate
from trainables.selector.summary import METRICS

if TYPE_CHECKING:
    from trainables.audit.stages import Stage

_SETTINGS = {
    p.name: p
    for p in (
        Parameter("profile", "realistic", "choice", choices=tuple(PROFILES)),
        Parameter("initial_cash", 10_000.0, "float", 0.01, 1e15),
        Parameter("forecast_window", 168, "int", MINIMUM, 1_000_000),
        Parameter("eval_bars", 0, "int", 1, 1_000_000_000),
    )
}
_LOGITS = (0.0, 0.0, 2.0, 2.0)


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What workers get: arrays plus the settings that are not swept."""

    selector: SelectorInputs
    profile: str
    initial_cash: float


class SelectorTrainable:
    """Back-tests selector configurations on baseline forecasts (`empirical`) and fixed-logit actions.

    Settings: `profile` (realistic, legacy), `initial_cash`, `forecast_window` (bars), `logits` (four numbers, SPEC F.4),
    `eval_bars` (trade only the last N rows; earlier ones warm up the forecasts).
    """

    name = "selector"
    version = f"1.fills{FILL_RULES_VERSION}"
    parameters: tuple[Parameter, ...] = PARAMETERS
    metrics = METRICS
    objective = "sortino"

    def prepare(self, data: Mapping[str, Any], settings: Mapping[str, Any]) -> Prepared:
        """Loads the market, forecasts, decodes actions.

        Raises:
            TrainableError: Unknown or unusable settings.
            MarketError: Bad data.
        """
        _settings(settings)  # what is wrong there is said before a large market is read
        panel, problems = load_market(data)
        counts: dict[str, int] = {}
        for problem in problems:
            counts[problem.reason] = counts.get(problem.reason, 0) + 1
        warnings = tuple(f"data: {n} × {reason} (alphasweep data check lists them)" for reason, n in counts.items())
        return replace(self.prepare_panel(panel, settings), warnings=warnings)

    def prepare_panel(self, panel: Panel, settings: Mapping[str, Any]) -> Prepared:
        """Prepares a market that is already in memory; otherwise as `prepare`."""
        chosen = _settings(settings)
        panel = panel.select(sorted(panel.symbols))
        forecasts = empirical(panel, window=chosen["forecast_window"])
        actions = decode(panel, forecasts, chosen["logits"])
        scale = 100.0 if chosen["profile"] == "legacy" else 1.0  # legacy reads amounts in percent
        orders = np.stack(
            [
                actions.buy_price,
                actions.sell_price,
                actions.buy_amount * scale,
                actions.sell_amount * scale,
                forecasts.p50("high"),
                forecasts.p50("low"),
                forecasts.p50("close"),
            ]
        )
        fingerprint = panel.fingerprint
        keep = chosen["eval_bars"]
        if keep is not None:
            if keep > panel.n_bars:
                raise TrainableError(f"settings.eval_bars: {keep} asked, the data has {panel.n_bars} rows")
            panel, orders = panel.tail(keep), np.ascontiguousarray(orders[:, -keep:])
        inputs = SelectorInputs(panel, orders)
        start, end = (pd.Timestamp(x).strftime("%Y-%m-%d %H:%M") for x in (panel.times[0], panel.times[-1]))
        protocol = {**chosen, "logits": list(chosen["logits"]), "forecast": forecasts.source, "fill_rules": FILL_RULES_VERSION}
        return Prepared(
            inputs=_Inputs(inputs, chosen["profile"], chosen["initial_cash"]),
            fingerprint=fingerprint,
            protocol=protocol,
            defaults=profile_defaults(chosen["profile"]),
            summary=(
                ("market", f"{len(panel.symbols)} symbols × {panel.n_bars:,} bars, {start} to {end} UTC ({panel.source})"),
                ("profile", chosen["profile"]),
                ("fingerprint", fingerprint),
            ),
        )

    def trace(self, config: Mapping[str, Any], ctx: Context) -> Sequence[Stage]:
        """Shows what a complete configuration saw, decided and earned; see `trainables.audit`."""
        from trainables.audit.selector import selector_stages

        inputs: _Inputs = ctx.inputs
        return selector_stages(inputs.selector, config, inputs.profile, inputs.initial_cash)

    def check(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Refuses what the settings' profile cannot simulate: `realistic` needs a lag.

        Raises:
            TrainableError: Which key, and why.
        """
        profile = _settings(settings)["profile"]
        encode([{**profile_defaults(profile), **config}], profile)

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], ctx: Context) -> pd.DataFrame:
        """Simulates complete configurations; one row of metrics each."""
        inputs: _Inputs = ctx.inputs
        return evaluate(inputs.selector, encode(configs, inputs.profile), profile=inputs.profile, initial_cash=inputs.initial_cash).metrics


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns every setting in its canonical type, so that two spellings of a study have one identity."""
    known = (*_SETTINGS, "logits")
    for key in given:
        if key not in known:
            hint = nearest(key, known) or "known: " + ", ".join(sorted(known))
            raise TrainableError(f"settings.{key}: the selector has no such setting; {hint}")
    chosen: dict[str, Any] = {
        name: p.check(given.get(name, p.default), f"settings.{name}") for name, p in _SETTINGS.items() if name != "eval_bars"
    }
    # None is all rows: its own value, not a number.
    keep = given.get("eval_bars")
    chosen["eval_bars"] = None if keep is None else _SETTINGS["eval_bars"].check(keep, "settings.eval_bars")
    logits = given.get("logits", _LOGITS)
    if not isinstance(logits, (list, tuple)) or len(logits) != len(_LOGITS):
        raise TrainableError(
            f"settings.logits: {logits!r} is not allowed; give four numbers (buy price, sell price, buy amount, sell amount)"
        )
    number = Parameter("logits", 0.0, "float")
    chosen["logits"] = tuple(number.check(x, f"settings.logits[{i}]") for i, x in enumerate(logits))
    return dict(sorted(chosen.items()))

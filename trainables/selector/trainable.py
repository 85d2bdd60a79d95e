"""The selector as a trainable: thousands of configurations per call over one prepared market."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trainables.contract import Context, Evaluation, Parameter, Prepared, TrainableError, nearest
from trainables.forecast import MINIMUM, Forecasts, issue, make_forecaster
from trainables.market import Panel, load_market, warnings_of
from trainables.policy import decode
from trainables.selector import daily
from trainables.selector.inputs import SelectorInputs
from trainables.selector.options import FILL_RULES_VERSION, PARAMETERS, PROFILES, encode, profile_defaults
from trainables.selector.simulate import simulate_sums
from trainables.selector.summary import METRIC_NAMES, METRICS, metric_table
from trainables.timeline import Protocol, Timeline, Window, cut

if TYPE_CHECKING:
    from trainables.audit.stages import Stage

_SETTINGS = (
    Parameter("profile", "realistic", "choice", choices=tuple(PROFILES)),
    Parameter("initial_cash", 10_000.0, "float", 0.01, 1e15),
    Parameter("forecast_window", 168, "int", MINIMUM, 1_000_000),
)
LOGITS = (0.0, 0.0, 2.0, 2.0)
SETTING_NAMES: tuple[str, ...] = (*(p.name for p in _SETTINGS), "logits")


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What workers get: arrays plus the settings that are not swept."""

    parts: tuple[SelectorInputs, ...]
    columns: tuple[np.ndarray, ...]  # where each row's equity goes among the part's days
    profile: str
    initial_cash: float


class SelectorTrainable:
    """Back-tests selector configurations on baseline forecasts (`empirical`) and fixed-logit actions, by the rules of docs/fills.md.

    Settings: `profile` (realistic, legacy), `initial_cash`, `forecast_window` (bars), `logits` (four numbers, SPEC F.4).
    """

    name = "selector"
    version = f"1.fills{FILL_RULES_VERSION}"
    parameters: tuple[Parameter, ...] = PARAMETERS
    metrics = METRICS
    objective = "sortino"

    def prepare(
        self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Protocol | None = None, part: str = "search"
    ) -> Prepared:
        """Loads the market, cuts it, forecasts, decodes actions.

        Raises:
            TrainableError: Unknown or unusable settings, or too little data for the protocol.
            MarketError: Bad data.
        """
        _settings(settings)  # what is wrong there is said before a large market is read
        panel, problems = load_market(data)
        return replace(self.prepare_panel(panel, settings, protocol, part), warnings=warnings_of(problems))

    def prepare_panel(self, whole: Panel, settings: Mapping[str, Any], protocol: Protocol | None = None, part: str = "search") -> Prepared:
        """Prepares a market that is already in memory; otherwise as `prepare`."""
        chosen = _settings(settings)
        whole = whole.select(sorted(whole.symbols))
        timeline = cut(protocol, whole.times, whole.bar_seconds / 3600.0)
        panel, windows = windows_of(whole, timeline, part)
        orders, source = _orders(panel, chosen)
        parts = [SelectorInputs(panel.rows(w), np.ascontiguousarray(orders[:, w.start : w.stop])) for w in windows]
        return traded(
            whole,
            panel,
            timeline,
            windows,
            lambda columns: _Inputs(tuple(parts), columns, chosen["profile"], chosen["initial_cash"]),
            {**chosen, "logits": list(chosen["logits"]), "forecast": source},
            profile_defaults(chosen["profile"]),
        )

    def trace(self, config: Mapping[str, Any], ctx: Context) -> Sequence[Stage]:
        """Shows what a complete configuration saw, decided and earned in its first window; see `trainables.audit`."""
        from trainables.audit.selector import selector_stages

        inputs: _Inputs = ctx.inputs
        return selector_stages(inputs.parts[0], config, inputs.profile, inputs.initial_cash)

    def check(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Refuses what the settings' profile cannot simulate: `realistic` needs a lag.

        Raises:
            TrainableError: Which key, and why.
        """
        profile = _settings(settings)["profile"]
        encode([{**profile_defaults(profile), **config}], profile)

    def evaluate_pack(self, configs: Sequence[Mapping[str, Any]], ctx: Context) -> Evaluation:
        """Simulates complete configurations; every fold starts flat with the initial cash."""
        inputs: _Inputs = ctx.inputs
        table = encode(configs, inputs.profile)
        return Evaluation(*score(inputs.parts, inputs.columns, table, inputs.profile, inputs.initial_cash))


def windows_of(whole: Panel, timeline: Timeline, part: str) -> tuple[Panel, tuple[Window, ...]]:
    """Returns what a part may see of a market, and the windows it is scored in.

    Raises:
        TrainableError: The holdout of a study that has none.
    """
    if part == "search":
        # What lies behind the last tune window does not exist for anything computed from here on.
        return whole.rows(timeline.visible), tuple(fold.tune for fold in timeline.folds)
    if timeline.holdout.stop <= timeline.holdout.start:
        raise TrainableError("protocol.holdout: this study has none, so there is nothing to open")
    return whole, (timeline.holdout,)


def traded(
    whole: Panel,
    panel: Panel,
    timeline: Timeline,
    windows: Sequence[Window],
    make_inputs: Callable[[tuple[np.ndarray, ...]], Any],
    protocol: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> Prepared:
    """Returns what a trainable prepares whose results are trades in windows of a market.

    Args:
        whole: All the data; naming them in the fingerprint is not looking at them.
        panel: What may be seen.
        timeline: The cuts.
        windows: Rows of `panel` that are traded in.
        make_inputs: Makes `Prepared.inputs` of the day each row's equity counts for, a line of columns for each window.
        protocol: What identifies results besides fill rules and cuts, `profile` among it.
        defaults: Of the parameters.
    """
    parts = [panel.rows(w) for w in windows]
    days, columns = daily.columns([part.times for part in parts])
    return Prepared(
        inputs=make_inputs(tuple(columns)),
        fingerprint=whole.fingerprint,
        protocol={**protocol, "fill_rules": FILL_RULES_VERSION, "timeline": timeline.describe()},
        defaults=defaults,
        summary=summary(panel, timeline, protocol["profile"], whole.fingerprint),
        timeline=timeline,
        days=days,
        day_folds=np.repeat(np.arange(len(parts)), [int(column[-1]) + 1 for column in columns]),
        benchmarks=daily.benchmarks(parts),
    )


def score(
    parts: Sequence[SelectorInputs], columns: Sequence[np.ndarray], table: np.ndarray, profile: str, initial_cash: float
) -> tuple[pd.DataFrame, np.ndarray]:
    """Simulates encoded configurations over windows, flat at the start of each.

    Args:
        parts: A window's arrays each.
        columns: Where each row's equity goes among its window's days.
        table: Encoded configurations, float64 (n, parameters).
        profile: "realistic" or "legacy".
        initial_cash: Cash at the start of each window.

    Returns:
        Metrics, a row for each configuration, and daily returns, float32 (n, D).
    """
    runs = [simulate_sums(part, table, profile, initial_cash, column=column) for part, column in zip(parts, columns, strict=True)]
    metrics = metric_table([sums for sums, _, _ in runs], parts, profile, initial_cash)
    return pd.DataFrame(metrics, columns=list(METRIC_NAMES)), np.concatenate(
        [daily.returns(curves, initial_cash) for _, curves, _ in runs], axis=1
    )


def decided(panel: Panel, forecasts: Forecasts, logits: Sequence[float], scale: float = 1.0, horizon: int = 1) -> np.ndarray:
    """Returns the order arrays (7, T, A) of `SelectorInputs` that fixed logits make of forecasts; amounts times `scale`."""
    actions = decode(panel, forecasts, logits, horizon)
    orders = (actions.buy_price, actions.sell_price, actions.buy_amount * scale, actions.sell_amount * scale)
    return np.stack([*orders, *(forecasts.p50(field, horizon) for field in ("high", "low", "close"))])


def _orders(panel: Panel, chosen: Mapping[str, Any]) -> tuple[np.ndarray, str]:
    """Returns the order arrays of the baseline forecasts, and their name."""
    forecasts = issue(panel, make_forecaster({"forecaster": "empirical", "window": chosen["forecast_window"], "horizons": [1]}))
    scale = 100.0 if chosen["profile"] == "legacy" else 1.0  # legacy reads amounts in percent
    return decided(panel, forecasts, chosen["logits"], scale), forecasts.source


def summary(panel: Panel, timeline: Timeline, profile: str, fingerprint: str) -> tuple[tuple[str, str], ...]:
    """Returns what was loaded and how time was cut, as lines for the user."""
    day = lambda row: str(timeline.times[row].astype("datetime64[D]"))  # noqa: E731
    folds, sealed = timeline.folds, timeline.holdout
    tuned = f"{len(folds)} fold{'s' if len(folds) > 1 else ''}, tuned on {day(folds[0].tune.start)} to {day(folds[-1].tune.stop - 1)}"
    holdout = f"{day(sealed.start)} to {day(sealed.stop - 1)}, sealed" if sealed.stop > sealed.start else "none"
    return (
        ("market", f"{len(panel.symbols)} symbols × {len(timeline.times):,} bars from {day(0)} ({panel.source})"),
        ("protocol", tuned),
        ("holdout", holdout),
        ("profile", profile),
        ("fingerprint", fingerprint),
    )


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    return parse_settings(given, _SETTINGS, LOGITS)


def parse_settings(given: Mapping[str, Any], known: Sequence[Parameter], default_logits: tuple[float, ...]) -> dict[str, Any]:
    """Returns every setting in its canonical type, so that two spellings of a study have one identity.

    Raises:
        TrainableError: Unknown or unusable, with the nearest spelling.
    """
    names = [*(p.name for p in known), "logits"]
    for key in given:
        if key not in names:
            hint = nearest(key, names) or "known: " + ", ".join(sorted(names))
            raise TrainableError(f"settings.{key}: the selector has no such setting; {hint}")
    chosen: dict[str, Any] = {p.name: p.check(given.get(p.name, p.default), f"settings.{p.name}") for p in known}
    logits = given.get("logits", default_logits)
    if not isinstance(logits, (list, tuple)) or len(logits) != len(default_logits):
        raise TrainableError(
            f"settings.logits: {logits!r} is not allowed; give four numbers (buy price, sell price, buy amount, sell amount)"
        )
    number = Parameter("logits", 0.0, "float")
    chosen["logits"] = tuple(number.check(x, f"settings.logits[{i}]") for i, x in enumerate(logits))
    return dict(sorted(chosen.items()))

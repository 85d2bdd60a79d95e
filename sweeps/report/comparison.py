"""Studies side by side: what differs, whether they may be compared, and how their winners do on the same days."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pandas as pd

from results import Ledger
from results.leaderboard import format_value
from results.metrics import Metric
from results.records import Header
from results.secrets import redacted
from sweeps.home import LEDGER
from sweeps.kept import COLUMNS
from sweeps.report.pairs import Overlap, Paired, overlap, paired
from sweeps.report.part import Missing
from sweeps.report.sides import Side, configurations, side_of

PAIRS: Final = 4  # studies up to which each is held against each, of more against the first
_UNTOLD: Final = ("name", "description", "tracking")  # of a study file: they change no result


@dataclass(frozen=True, eq=False)
class Comparison:
    """Studies side by side.

    Attributes:
        sides: In the order asked for.
        differences: Keys that are not the same everywhere, with each study's value as text; "–" where it has none.
        obstacles: Why they may not be compared; empty where they may.
        remarks: What to bear in mind.
        paired: Winners on the same days.
        overlaps: Shared configurations.
        union: Their best trials in one table: rank, study, mark, trial, metrics, parameters; a metric one study lacks is NaN.
        metrics: Columns of it that are metrics.
        parameters: Columns of it that are parameters.
    """

    sides: tuple[Side, ...]
    differences: tuple[tuple[str, tuple[str, ...]], ...]
    obstacles: tuple[str, ...]
    remarks: tuple[str, ...]
    paired: tuple[Paired, ...]
    overlaps: tuple[Overlap, ...]
    union: pd.DataFrame | Missing
    metrics: Mapping[str, Metric]
    parameters: tuple[str, ...]


def compare(homes: Sequence[Path]) -> Comparison:
    """Puts studies side by side.

    Args:
        homes: Their folders, two or more.

    Raises:
        LedgerError: A ledger that cannot be read.
    """
    sides, keys = [], []
    for home in homes:
        with Ledger.open(home / LEDGER, readonly=True) as ledger:
            sides.append(side_of(ledger, home))
            keys.append(configurations(ledger, sides[0].header.objective))
    pairs = list(combinations(range(len(sides)), 2)) if len(sides) <= PAIRS else [(0, k) for k in range(1, len(sides))]
    union, metrics, parameters = _union(sides)
    return Comparison(
        tuple(sides),
        tuple(_differences([side.header for side in sides])),
        tuple(_obstacles(sides)),
        tuple(_remarks(sides)),
        tuple(paired(sides[i], sides[j]) for i, j in pairs),
        tuple(overlap(sides[i], keys[i], sides[j], keys[j]) for i, j in pairs),
        union,
        metrics,
        parameters,
    )


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, below in value.items():
            yield from _flat(below, f"{prefix}{key}.")
    elif value not in (None, {}, [], ""):
        yield prefix.rstrip("."), redacted(format_value(value) if not isinstance(value, list) else json.dumps(value))


def _differences(headers: Sequence[Header]) -> Iterator[tuple[str, tuple[str, ...]]]:
    told = []
    for header in headers:
        protocol = {key: value for key, value in header.context["protocol"].items() if key != "defaults"}
        spec = {key: value for key, value in header.spec.items() if key not in (*_UNTOLD, "protocol", "settings", "seed", "trainable")}
        context = {"trainable": header.context["trainable"], "version": header.context["version"], "seed": header.context["seed"]}
        told.append(dict(_flat({**context, **spec, "data fingerprint": header.context["data_fingerprint"], "protocol": protocol})))
    for key in dict.fromkeys(key for each in told for key in each):
        values = tuple(each.get(key, "–") for each in told)
        if len(set(values)) > 1:
            yield key, values


def _obstacles(sides: Sequence[Side]) -> Iterator[str]:
    """Yields why figures of these studies may not be held against each other."""
    for side in sides:
        if side.label == "legacy":
            yield f"{side.name} was made under legacy rules, which look ahead"
        elif side.label:
            yield f"{side.name} was imported, not evaluated here"
    if len({side.header.context["data_fingerprint"] for side in sides}) > 1:
        yield "their data differ"
    if len({json.dumps(side.header.context["protocol"].get("timeline"), sort_keys=True) for side in sides}) > 1:
        yield "time is cut differently"
    if len({(side.objective.name, side.objective.direction, side.objective.unit) for side in sides}) > 1:
        yield f"they rank by different metrics: {', '.join(f'{side.name} by {side.objective.name}' for side in sides)}"


def _remarks(sides: Sequence[Side]) -> Iterator[str]:
    trainables = {(side.header.context["trainable"], side.header.context["version"]) for side in sides}
    if len(trainables) > 1:
        yield "Trainables or their versions differ: a metric of one name may be worked out in two ways."
    rest = [{k: v for k, v in side.header.context["protocol"].items() if k not in ("timeline", "defaults")} for side in sides]
    if any(each != rest[0] for each in rest):
        yield "They were evaluated by different settings; whatever differs between winners may come from these."
    yield "Winners were chosen on these very days, so their difference flatters whichever study searched more."


def _union(sides: Sequence[Side]) -> tuple[pd.DataFrame | Missing, Mapping[str, Metric], tuple[str, ...]]:
    ranked = sides[0].objective
    boards = [(side, side.board) for side in sides if not isinstance(side.board, Missing)]
    if not boards:
        return Missing("no trial was completed in any of them"), {}, ()
    lacking = [side.name for side in sides if ranked.name not in side.header.metric_names]
    if lacking:
        return Missing(f"{', '.join(lacking)} {'does' if len(lacking) == 1 else 'do'} not measure {ranked.name}"), {}, ()
    metrics: dict[str, Metric] = {}
    parameters: dict[str, None] = {}
    parts = []
    for side, board in boards:
        part = board.frame.drop(columns=["rank", "meets", "seconds"], errors="ignore").copy()
        for name, value in board.constants.items():
            part[name] = [value] * len(part)
        if side.label:
            part = part.drop(columns=[name for name in part if str(name).removeprefix("judged.") in COLUMNS])
        part.insert(0, "mark", {"legacy": "LEGACY", "imported": "unverified"}.get(side.label, ""))
        part.insert(0, "study", side.name)
        metrics |= {name: metric for name, metric in board.metrics.items() if name not in metrics}
        parameters |= dict.fromkeys([*board.parameters, *board.constants])
        parts.append(part)
    union = pd.concat(parts, ignore_index=True)
    column = next(name for name, metric in metrics.items() if metric.name == ranked.name)
    order = union[column].sort_values(ascending=ranked.direction == "min", kind="stable", na_position="last").index
    union = union.loc[order].reset_index(drop=True)
    union.insert(0, "rank", range(1, len(union) + 1))
    varied = tuple(name for name in parameters if len({json.dumps(v, default=str) for v in union[name].tolist()}) > 1)
    last = [name for name in union if name in parameters and name not in varied]
    return union.drop(columns=last), metrics, varied

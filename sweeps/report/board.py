"""The best trials of a study as one table: the leaderboard's order and ranks, however many there are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from results.constraints import Constraint, constraints_of
from results.export import BASE
from results.leaderboard import parameter_label, shown_unit
from results.metrics import Metric
from results.reader import LedgerReader
from sweeps.evidence import Judgement
from sweeps.kept import joined

MOST: Final = 100_000  # rows of a table
WIDE: Final = 5_000  # rows up to which a table has all metrics; of more it has the first ones
METRICS: Final = 8
_CHUNK: Final = 10_000
_OWN: Final = ("rank", "meets")


@dataclass(frozen=True, eq=False)
class Board:
    """Completed trials, best first.

    Attributes:
        frame: Columns rank, trial, the ranking metric, verdict and dsr where known, metrics, parameters, seconds, what else is known.
        metric: That ranks.
        metrics: Names of the columns that are metrics, with what they are.
        parameters: Names of the columns that are parameters, those that differ between rows.
        constants: Parameters that are equal in all rows.
        completed: Completed trials in the ledger.
        left_out: Metrics that are not in the table, which is too long for all.
    """

    frame: pd.DataFrame
    metric: Metric
    metrics: Mapping[str, Metric]
    parameters: tuple[str, ...]
    constants: Mapping[str, Any]
    completed: int
    left_out: tuple[str, ...]


def board_of(ledger: LedgerReader, judged: Judgement | None, completed: int, most: int = MOST) -> Board:
    """Returns the best trials; those that behave identically share a rank, as they share a row of the leaderboard.

    Args:
        ledger: The study.
        judged: What is known about its trials, if anything is.
        completed: Completed trials there are.
        most: Rows.
    """
    header, limits = ledger.header, constraints_of(ledger.header)
    metric = header.metric(header.objective)
    numbers = best_numbers(ledger, metric, limits, most)
    columns = {f"metric.{m.name}" if m.name in BASE else m.name: m for m in header.metrics}
    ranked = next(name for name, m in columns.items() if m == metric)
    limiting = {item.metric for item in limits}
    few = dict(sorted(columns.items(), key=lambda pair: (pair[1] != metric, pair[1].name not in limiting)))
    shown = columns if len(numbers) <= WIDE else dict(list(few.items())[: METRICS + len(limiting)])
    frame = _frame(ledger, numbers, [*BASE, *shown])
    parameters = [str(name) for name in frame if name not in {*BASE, *columns}]
    constants = {name: frame[name].iloc[0] for name in parameters if len(frame) > 1 and _same(frame[name])}
    frame = frame.rename(columns={name: f"config.{name}" for name in parameters if name in _OWN})
    varied = [f"config.{name}" if name in _OWN else name for name in parameters if name not in constants]
    rest = [name for name in shown if name != ranked]
    made = frame[["trial", ranked, *rest, *varied, "seconds"]].copy()
    made.insert(0, "rank", range(1, len(made) + 1))
    if limits:
        values = {item.metric: frame[next(n for n, m in columns.items() if m.name == item.metric)].to_numpy() for item in limits}
        made["meets"] = np.logical_and.reduce([item.compare(values[item.metric]) for item in limits])
    made.attrs = {"units": {name: shown_unit(m) for name, m in shown.items()}}
    known = None if judged is None else judged.by_trial()
    if judged is not None and known is not None and judged.returns is not None and judged.study is not None:
        made = joined(made, known)
        made["rank"] = _shared_ranks(judged.returns.columns(made["trial"]), judged.study.groups.tolist())
    left_out = tuple(m.name for name, m in columns.items() if name not in shown)
    return Board(made, metric, shown, tuple(varied), constants, completed, left_out)


def best_numbers(ledger: LedgerReader, metric: Metric, limits: Sequence[Constraint], most: int) -> list[int]:
    """Returns the numbers of the best completed trials in the order of `LedgerReader.top`, holding three numbers of each trial."""
    trials, value = ledger.tables.trials, ledger.tables.metric(metric.name)
    if not limits:
        order = value.asc() if metric.direction == "min" else value.desc()
        done = sa.select(trials.c.trial).where(trials.c.status == "completed")
        ranked = done.where(value.is_not(None)).order_by(order, trials.c.trial)
        found = [row["trial"] for row in ledger.rows(ranked.limit(most))]
        if len(found) < most:
            found += [row["trial"] for row in ledger.rows(done.where(value.is_(None)).order_by(trials.c.trial).limit(most - len(found)))]
        return found
    sign = 1.0 if metric.direction == "min" else -1.0
    parts = []
    names = [metric.name, *(item.metric for item in limits)]
    for batch in ledger.stream(["trial", "status", *dict.fromkeys(f"m_{name}" for name in names)]):
        done = np.array(batch["status"]) == "completed"
        values = {name: np.array(batch[f"m_{name}"], np.float64)[done] for name in names}
        met = np.logical_and.reduce([item.compare(values[item.metric]) for item in limits])
        short = [item.shortfall(values[item.metric]) for item in limits]
        lack = np.sum([np.where(s > 0.0, s, np.where(np.isnan(s), np.nan, 0.0)) for s in short], axis=0)
        numbers = np.array(batch["trial"], np.float64)[done]
        parts.append(np.column_stack([numbers, ~met, np.where(met, 0.0, lack), sign * values[metric.name]]))
    table = np.concatenate(parts) if parts else np.empty((0, 4))
    number, unmet, lack, score = table.T
    # NaN sorts last, which is where n/a belongs.
    return [int(n) for n in number[np.lexsort((number, score, lack, unmet))][:most]]


def _frame(ledger: LedgerReader, numbers: Sequence[int], keep: Sequence[str]) -> pd.DataFrame:
    """Returns trials with these columns and their parameters; what a configuration lacks is its default, as in every export."""
    metrics, parts = set(ledger.header.metric_names), list[pd.DataFrame]()
    blank = {parameter_label(name, ledger.header.metric_names): value for name, value in _flat(ledger.header.defaults)}
    drop = {*(f"metric.{name}" for name in metrics if name in BASE), *metrics} - set(keep)
    for at in range(0, max(len(numbers), 1), _CHUNK):
        parts.append(ledger.pick(list(numbers[at : at + _CHUNK])).drop(columns=list(drop), errors="ignore"))
    names = dict.fromkeys(str(name) for part in parts for name in part)
    for part in parts:
        for name in names:
            if name not in part:
                part[name] = [blank.get(name)] * len(part)
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _same(column: pd.Series[Any]) -> bool:
    texts = {json.dumps(value, default=str) for value in column.iloc[:1_000].tolist()}
    return len(texts) == 1 and len({json.dumps(value, default=str) for value in column.tolist()}) == 1


def _shared_ranks(places: Sequence[int | None], groups: Sequence[int]) -> list[int]:
    """Returns ranks in which trials of one behaviour share the first one's, and the next behaviour's follows it."""
    ranks, of_group = list[int](), dict[int, int]()
    last = 0
    for place in places:
        group = None if place is None else groups[place]
        if group is not None and group in of_group:
            ranks.append(of_group[group])
            continue
        last += 1
        ranks.append(last)
        if group is not None:
            of_group[group] = last
    return ranks

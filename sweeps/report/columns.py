"""Columns of tables of trials: the leaderboard's names, and its way of writing numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from results import digits
from results.leaderboard import format_parameter, format_value, shown_unit
from results.metrics import Metric
from results.pages.grid import Column
from results.secrets import redacted
from sweeps.report.board import Board
from sweeps.report.words import VERDICT_TONES

MARK_TONES: Final = {"LEGACY": "bad", "unverified": "warn"}
SHOWN: Final = 5  # metrics shown at first; the others the reader can choose
# What is known about a trial beside its metrics: kind, digits, rounding, meaning.
KNOWN: Final[Mapping[str, tuple[Any, int | None, Any, str]]] = {
    "dsr": ("number", 3, "down", "Deflated Sharpe ratio: probability that the true one exceeds what the best of so many lucky trials has"),
    "psr": ("number", 3, "down", "Probability that the true Sharpe ratio is above 0, the choice not considered"),
    "sharpe_low": ("number", 2, "nearest", "Lower limit of the Sharpe ratio's 95 % interval, annualised, of daily returns"),
    "sharpe_high": ("number", 2, "nearest", "Upper limit of the Sharpe ratio's 95 % interval"),
    "alike": ("integer", None, "nearest", "Trials that behave identically, this one included"),
    "folds_won": ("integer", None, "nearest", "Folds with a gain"),
}


def columns_of(board: Board) -> list[Column]:
    """Returns the columns of a board's table, in order; the trial's number first, which stays in sight."""
    lead = [name for name in ("study", "trial", "rank") if name in board.frame]
    names = [str(name) for name in board.frame if name not in lead]
    late = [name for name in names if name in board.metrics][SHOWN:]
    last = [name for name in names if name.removeprefix("judged.") in (*KNOWN, "verdict_words", "seconds") and name not in board.metrics]
    last = [name for name in last if name.removeprefix("judged.") != "dsr"]
    first = [name for name in names if name not in {*late, *last}]
    return [_column(name, board, name in late) for name in (*lead, *first, *late, *last)]


def _column(name: str, board: Board, late: bool) -> Column:
    plain = name.removeprefix("judged.")
    if name in ("study", "mark"):
        return Column(name, help="Where the trial is from" if name == "study" else "Why it is not to be believed", tones=MARK_TONES)
    if name in ("trial", "rank"):
        said = "1 is the best; trials that behave identically share a rank" if name == "rank" else "Number in the study"
        return Column(name, kind="integer", help=said, direction="min" if name == "rank" else None)
    if name in board.metrics:
        return metric_column(name, board.metrics[name], hidden=late)
    if name in board.parameters:
        kind = "number" if _numeric(board.frame[name]) else "text"
        return Column(name, kind=kind, help="Parameter")  # type: ignore[arg-type]
    if plain == "verdict":
        return Column(name, help="Whether to believe the trial, by its daily returns", tones=VERDICT_TONES)
    if plain == "verdict_words":
        return Column(name, label="in words", help="The verdict with its reasons", hidden=True)
    if name == "seconds":
        return Column(name, kind="seconds", help="It took", hidden=True)
    if name == "meets":
        return Column(name, help="Whether it meets the study's constraints", tones={"no": "warn"})
    kind, places, rounding, words = KNOWN[plain]
    return Column(name, kind=kind, digits=places, rounding=rounding, help=words, hidden=plain not in ("dsr",))


def metric_column(name: str, metric: Metric, *, hidden: bool = False) -> Column:
    """Returns the column of a metric, written as the leaderboard writes it."""
    unit = shown_unit(metric)
    given: dict[str, Any] = {"help": metric.doc, "direction": metric.direction, "hidden": hidden}
    if unit == "fraction":
        return Column(name, kind="percent", **given)
    if unit == "count":
        return Column(name, kind="integer", **given)
    if unit == "s":
        return Column(name, kind="seconds", **given)
    if unit == "probability":
        return Column(name, kind="number", digits=3, rounding="down", **given)
    if unit == "p":
        return Column(name, kind="number", **given)
    return Column(name, kind="number", unit="" if unit == "ratio" else unit, digits=3 if unit == "ratio" else None, **given)


def rows_of(board: Board) -> pd.DataFrame:
    """Returns a board's rows as its table takes them: statistics rounded to the side that does not flatter, lists as text."""
    frame = board.frame.copy(deep=False)
    for name in frame:
        plain = str(name).removeprefix("judged.")
        metric = board.metrics.get(str(name))
        if metric is not None and shown_unit(metric) == "p":
            frame[name] = [p if p != p else float(digits.p_value(p)) for p in frame[name].tolist()]
        elif plain in ("dsr", "psr") or (metric is not None and metric.unit == "probability"):
            frame[name] = frame[name].clip(upper=0.9999)  # which no sample makes certain
        elif metric is not None and metric.unit == "count" and not _whole(frame[name]):
            frame[name] = frame[name].round()
        elif plain == "meets":
            frame[name] = np.where(frame[name], "yes", "no")
        elif name in board.parameters and not _numeric(frame[name]):
            frame[name] = _texts(frame[name].tolist())
    return frame


def _texts(values: Sequence[Any]) -> list[str | None]:
    """Returns values as text. Rows are packed before the page is looked over for secrets, so these go here; each different text once."""
    texts = [None if value is None or value != value else format_value(value) for value in values]
    shown = {text: redacted(text) for text in set(texts) if text is not None}
    return [None if text is None else shown[text] for text in texts]


def _numeric(values: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _whole(values: pd.Series[Any]) -> bool:
    known = values.dropna().to_numpy(np.float64)
    return bool((known == np.rint(known)).all())


def parameters_text(names: Sequence[str], row: Mapping[str, Any]) -> str:
    """Returns a row's parameters on a line."""
    return ", ".join(f"{name}={format_parameter(row[name])}" for name in names)

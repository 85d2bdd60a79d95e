"""What can be wrong with bars, as a list that can be counted, shown, or raised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trainables.market.errors import MarketError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        symbol: Whose bars.
        row: Data row of the file, from 0; None if it concerns the whole file.
        timestamp: The bar's time, UTC; of a gap, its first missing bar.
        severity: "error" or "warning".
        reason: Kind, one of a few short names ("duplicate", "gap", …).
        detail: What was found.
    """

    symbol: str
    row: int | None
    timestamp: pd.Timestamp | None
    severity: str
    reason: str
    detail: str

    def __str__(self) -> str:
        row = "file" if self.row is None else f"row {self.row}"
        stamp = "" if self.timestamp is None else f" ({self.timestamp:%Y-%m-%d %H:%M})"
        return f"{self.symbol} {row}{stamp}: {self.reason}: {self.detail}"


def summarise(problems: Iterable[Problem]) -> pd.DataFrame:
    """Counts problems per symbol and reason.

    Returns:
        Columns symbol, severity, reason, count, first_row, first_time; errors first within a symbol.
    """
    columns = ["symbol", "severity", "reason", "count", "first_row", "first_time"]
    groups: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.symbol, problem.severity, problem.reason), []).append(problem)
    table = [(*key, len(group), group[0].row, group[0].timestamp) for key, group in sorted(groups.items())]
    return pd.DataFrame(table, columns=columns).astype({"first_row": "Int64", "count": "int64"})


def raise_on_errors(problems: Sequence[Problem], source: str = "PATH") -> None:
    """Raises a MarketError that lists the first ten errors, if there are any.

    Args:
        problems: From `check_frame`; warnings are ignored.
        source: Path for the command in the message.
    """
    errors = [problem for problem in problems if problem.severity == "error"]
    if not errors:
        return
    lines = [f"  {problem}" for problem in errors[:10]]
    if len(errors) > 10:
        lines.append(f"  … and {len(errors) - 10} more")
    raise MarketError(
        f"{len(errors)} bad row{'s' if len(errors) > 1 else ''} in the data:\n"
        + "\n".join(lines)
        + f"\nRun `alphasweep data check {source}` for all of them; correct the files, "
        "or set `drop_bad_rows: true` to leave out exactly these rows."
    )


class Rows:
    """Collects problems of one symbol; flags come as boolean arrays over the file's rows."""

    def __init__(self, symbol: str, labels: np.ndarray, times: np.ndarray) -> None:
        self.symbol = symbol
        self.labels = labels
        self.times = times
        self.problems: list[Problem] = []

    def whole(self, severity: str, reason: str, detail: str) -> None:
        """Adds a problem of the whole file."""
        self.problems.append(Problem(self.symbol, None, None, severity, reason, detail))

    def add(self, flags: np.ndarray, severity: str, reason: str, detail: str) -> None:
        """Adds one problem for each flagged row."""
        for i in np.flatnonzero(flags):
            self.at(int(i), severity, reason, detail)

    def at(self, i: int, severity: str, reason: str, detail: str, time: np.datetime64 | None = None) -> None:
        """Adds a problem at position `i`; `time` if it is not the row's own."""
        stamp = self.times[i] if time is None else time
        when = None if np.isnat(stamp) else pd.Timestamp(stamp).tz_localize("UTC")
        self.problems.append(Problem(self.symbol, int(self.labels[i]), when, severity, reason, detail))


def warnings_of(problems: Iterable[Problem]) -> tuple[str, ...]:
    """Returns what a study says of the problems of its data: a line for each reason, with how often."""
    counts = Counter(problem.reason for problem in problems)
    return tuple(f"data: {n} × {reason} (alphasweep data check lists them)" for reason, n in counts.items())

"""Everything a report is made of, from a study's folder; nothing of it is worked out twice, and nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from results import Ledger
from results.leaderboard import imported, profile
from results.reader import LedgerReader
from results.records import Header
from sweeps.asked import state_of, unfinished
from sweeps.budget_words import ended_by
from sweeps.evidence import Judgement, judge
from sweeps.home import LEDGER
from sweeps.report.board import MOST, Board, board_of
from sweeps.report.origin import Origin, origin_of
from sweeps.report.parameters import Parameters, parameters_of
from sweeps.report.part import Missing, tried
from sweeps.report.returns import Curves, curves_of
from sweeps.report.rungs import Steps, steps_of
from sweeps.report.workload import Cost, Timeline, workload_of

PARTS: Final = ("verdict", "leaderboard", "returns", "parameters", "reports", "work", "provenance")
FAILURES: Final = 10


@dataclass(frozen=True, eq=False)
class Gathered:
    """What is known of a study; a part that cannot be said has its reason in its place.

    Attributes:
        name: Of the study.
        folder: Of studies, as the user names it.
        header: Of the ledger.
        counts: As `LedgerReader.counts`.
        state: "finished", "stopped", "failed", "killed" or "running".
        unfinished: How far the latest search is; empty if it is through.
        ended_by: What of its budget ended it; empty if nothing did.
        label: "legacy" or "imported", which no figure of the study may be seen without; empty otherwise.
        judged: Whether to believe the winner.
        board: The best trials.
        curves: What they earned.
        parameters: What the objective has to do with parameters.
        steps: What trials reported.
        fidelity: What they count their steps by.
        timeline: Who worked when.
        cost: What it took.
        origin: Where it comes from.
        failures: The first failed trials: trial, error.
        top: Rows that were to be drawn.
    """

    name: str
    folder: Path
    header: Header
    counts: Mapping[str, int]
    state: str
    unfinished: str
    ended_by: str
    label: str
    judged: Judgement | Missing
    board: Board | Missing
    curves: Curves | Missing
    parameters: Parameters | Missing
    steps: Steps | Missing
    fidelity: str
    timeline: Timeline | Missing
    cost: Cost | Missing
    origin: Origin | Missing
    failures: tuple[Mapping[str, Any], ...]
    top: int


def gather(
    home: Path, top: int = 10, *, folder: Path | None = None, most: int = MOST, on_part: Callable[[str], None] = lambda _: None
) -> Gathered:
    """Gathers what a report says.

    Args:
        home: The study's folder.
        top: Rows of the leaderboard to draw.
        folder: Of studies, as it is to stand in commands; default the one `home` lies in.
        most: Rows of the table.
        on_part: Told of each part of `PARTS` before it is gathered.

    Raises:
        LedgerError: No ledger, or one that cannot be read.
    """
    folder = home.parent if folder is None else folder
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        on_part("verdict")
        counts = ledger.counts()
        judged = tried(lambda: judge(home, top=max(top, 20)))
        on_part("leaderboard")
        board = tried(lambda: _board(ledger, judged, counts["completed"], most))
        on_part("returns")
        curves = judged if isinstance(judged, Missing) else tried(lambda: curves_of(ledger, home, judged, top))
        on_part("parameters")
        parameters = tried(lambda: parameters_of(ledger))
        on_part("reports")
        steps = tried(lambda: steps_of(ledger))
        on_part("work")
        work = tried(lambda: workload_of(ledger, counts))
        on_part("provenance")
        origin = tried(lambda: origin_of(ledger, home, folder, counts["trials"]))
        return Gathered(
            home.name,
            folder,
            ledger.header,
            counts,
            state_of(home, ledger),
            _or_nothing(lambda: unfinished(home)),
            ended_by(ledger),
            label_of(ledger.header),
            judged,
            board,
            curves,
            parameters,
            steps,
            fidelity_of(ledger.header),
            work if isinstance(work, Missing) else work[0],
            work if isinstance(work, Missing) else work[1],
            origin,
            tuple(ledger.failures(FAILURES)),
            top,
        )


def _board(ledger: LedgerReader, judged: Judgement | Missing, completed: int, most: int) -> Board | Missing:
    if not completed:
        return Missing("no trial was completed")
    # No statistic makes evidence of what looked ahead, or was evaluated elsewhere.
    return board_of(ledger, None if isinstance(judged, Missing) or label_of(ledger.header) else judged, completed, most)


def _or_nothing(words: Callable[[], str]) -> str:
    found = tried(words)
    return "" if isinstance(found, Missing) else found


def label_of(header: Header) -> str:
    """Returns what no figure of a study may be seen without: "legacy", "imported", or "" where there is nothing of that kind."""
    if imported(header):
        return "imported"
    return "legacy" if profile(header) == "legacy" else ""


def fidelity_of(header: Header) -> str:
    """Returns what trials of a study count their steps by, "step" where that is not known here."""
    from trainables.contract import Registry, TrainableError

    try:
        return str(getattr(Registry().load(header.spec["trainable"]), "fidelity", "step"))
    except (TrainableError, KeyError):
        return "step"

"""The best trials, to sort and to filter."""

from __future__ import annotations

from typing import Final

from results.pages.grid import Column, grid
from results.pages.page import Html, details, escape, join, notice, section, table
from results.secrets import redacted
from sweeps.report.alternatives import sentence
from sweeps.report.board import Board
from sweeps.report.columns import columns_of, parameters_text, rows_of
from sweeps.report.drawings import Drawings, missing
from sweeps.report.gather import Gathered
from sweeps.report.part import Missing
from sweeps.report.words import BANNERS

IN_SAMPLE: Final = "In-sample figures: they say what won, not what will."
_LONGEST: Final = 400  # characters of an error


def leaderboard(g: Gathered, drawings: Drawings) -> Html:
    """Returns the table, what it leaves out, and what failed."""
    if isinstance(g.board, Missing):
        return section("leaderboard", "Leaderboard", join([missing(g.board.why), _failures(g)]))
    board = g.board
    shown = len(board.frame)
    which = "all" if shown == board.completed else f"the best {shown:,} of"
    label = f"{which} {board.completed:,} completed {'trial' if board.completed == 1 else 'trials'} by {board.metric.name}"
    rows = grid("board", columns_of(board), rows_of(board), label=f"{g.name}: {label}")
    said = Html("".join(f'<p class="remark">{escape(each)}</p>' for each in [*_remarks(g, board), IN_SAMPLE]))
    note = f"{sentence(label)}. Select a heading to sort."
    return section("leaderboard", "Leaderboard", join([label_notice(g.label), rows, said, _failures(g)]), note=note)


def label_notice(label: str) -> Html:
    """Returns what figures of results that cannot be believed stand under; nothing for others."""
    return notice(BANNERS[label][0], "bad") if label else Html("")


def _remarks(g: Gathered, board: Board) -> list[str]:
    remarks = []
    if (more := board.completed - len(board.frame)) > 0:
        remarks.append(f"{more:,} more trials rank below these; alphasweep leaderboard --csv writes all.")
    if board.left_out:
        remarks.append(f"Of so many rows only the first metrics are here; left out: {', '.join(board.left_out)}.")
    if board.constants:
        remarks.append(f"The same in every row: {redacted(parameters_text(list(board.constants), board.constants))}.")
    if g.counts["stopped"]:
        remarks.append(f"{g.counts['stopped']:,} trials were stopped early and are not ranked.")
    if not isinstance(g.judged, Missing) and 0 < g.judged.kept < board.completed and not g.label:
        remarks.append(f"Verdict and DSR are known of the {g.judged.kept:,} trials whose daily returns are kept.")
    return remarks


def _failures(g: Gathered) -> Html:
    if not g.failures:
        return Html("")
    rows = [(row["trial"], redacted(" ".join(str(row["error"]).split()))[:_LONGEST]) for row in g.failures]
    more = g.counts["failed"] - len(rows)
    made = table((Column("trial", kind="integer"), "error"), rows, caption=f"The first failures{f', {more:,} more' if more else ''}")
    return details(f"{g.counts['failed']:,} failed", Html(f'<div class="wrapped">{made}</div>'))
